//! F: nothing has to be remembered.

use std::future::Future;

use streamspace_proto::controller::v1::{
    CreateSessionRequest, DeleteSessionRequest, HibernateSessionRequest, WakeSessionRequest,
};
use tonic::{Code, Status};

use crate::check::{Stop, checks};
use crate::context::{Context, Session, Step, is_retryable};
use crate::recorded::{RecordedHandle, Verb};

use super::hostile::fields;

checks! {
    "F39-fresh-shell-sees-all" "a controller that was started anew sees every session, and goes on with it" [Process] Shared = fresh_shell_sees_all;
    "F39-state-wiped-between-calls" "a session's whole life goes well with the cache emptied before every call" [Process] Shared = state_wiped_between_calls;
    "F40-strange-handles-harmless" "a handle that is none is as good as no handle, and one of more than 64 KiB is INVALID_ARGUMENT" [] Shared = strange_handles_harmless;
    "F40-altered-handles-harmless" "work goes on to its end although every handle that it gives comes back altered: cut short, of another version, with more behind it" [] Shared = altered_handles_harmless;
    "F40-recorded-handles-go-on" "work goes on to its end from a handle that another version of the plugin gave" [RecordedHandles] Shared = recorded_handles_go_on;
    "F42-stale-epoch-refused" "a call with a lower epoch than one already seen is ABORTED and changes nothing" [] Last = stale_epoch_refused;
}

async fn fresh_shell_sees_all(cx: Context) -> Result<(), Stop> {
    let sessions = [cx.running().await?, cx.running().await?];
    let fresh = cx.process()?.fresh().await.map_err(|error| Stop::expected("a second controller", error))?;
    let fresh = cx.through(fresh);
    for session in &sessions {
        let (before, after) = (cx.status(session).await, fresh.status(session).await);
        let same = match (&before, &after) {
            (Ok(before), Ok(after)) => (&before.phase, &before.node_id) == (&after.phase, &after.node_id),
            _ => false,
        };
        if !same {
            return Err(Stop::expected(format!("what the first one sees: {before:?}"), format!("{after:?}")));
        }
        fresh.expect_one(session).await?;
        // The same create is the same object, for whoever makes it.
        let again = fresh.create(session).await;
        if again.is_err() {
            return Err(Stop::expected_of("the fresh controller to find the session", &again));
        }
        fresh.expect_one(session).await?;
    }
    fresh.delete_whole(&sessions[0]).await?;
    cx.expect_gone(&sessions[0]).await
}

async fn state_wiped_between_calls(cx: Context) -> Result<(), Stop> {
    let process = cx.process()?;
    let session = cx.session();
    let mut handle = Vec::new();
    loop {
        process.wipe_state();
        let step = cx.controller.create(CreateSessionRequest { handle, ..session.create_request() }).await;
        match step {
            Ok(step) if step.in_progress => handle = step.handle,
            Ok(_) => break,
            Err(_) => return Err(Stop::expected_of("each step of the create to succeed", &step)),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    process.wipe_state();
    cx.wait_for_phase(&session, "Running").await?;
    process.wipe_state();
    cx.expect_one(&session).await?;
    if cx.offer.capabilities.supports_hibernation {
        process.wipe_state();
        cx.put_to_sleep(&session).await?;
        process.wipe_state();
        cx.wake_up(&session).await?;
    }
    process.wipe_state();
    cx.run(&session).await?;
    process.wipe_state();
    cx.delete_whole(&session).await
}

/// Largest handle, in bytes.
const MAX_HANDLE: usize = 64 << 10;

async fn strange_handles_harmless(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    let noise: Vec<u8> = (0..48).map(|_| cx.dice(256) as u8).collect();
    for length in [noise.len(), MAX_HANDLE, MAX_HANDLE + 1] {
        let handle: Vec<u8> = noise.iter().copied().cycle().take(length).collect();
        let create = CreateSessionRequest { handle: handle.clone(), ..session.create_request() };
        let delete = DeleteSessionRequest { handle, ..session.delete_request() };
        for (rpc, answer) in [
            ("CreateSession", cx.controller.create(create).await.map(drop)),
            ("DeleteSession", cx.controller.delete(delete).await.map(drop)),
        ] {
            let right = match &answer {
                Err(status) if length > MAX_HANDLE => status.code() == Code::InvalidArgument,
                Err(status) => is_retryable(status),
                Ok(()) => length <= MAX_HANDLE,
            };
            if !right {
                let verb = if length > MAX_HANDLE { "refuse" } else { "ignore" };
                let what = format!("{rpc} to {verb} a strange handle of {length} bytes");
                return Err(Stop::expected_of(what, &answer));
            }
        }
    }
    cx.run(&session).await?;
    cx.expect_one(&session).await?;
    cx.delete_whole(&session).await
}

/// What may become of a handle between two steps.
type Alteration = fn(&[u8]) -> Vec<u8>;

const ALTERATIONS: &[Alteration] = &[
    |handle| handle[..handle.len() / 2].to_vec(),
    // Where a version stands in front, it is another one now.
    |handle| handle.iter().enumerate().map(|(at, byte)| byte.wrapping_add(u8::from(at == 0))).collect(),
    |handle| [handle, b"more"].concat(),
];

/// Makes a call again and again, each time with the handle that it gave last, altered. Counts the handles.
async fn through_alterations<A: Step + std::fmt::Debug, F: Future<Output = Result<A, Status>>>(
    cx: &Context,
    rpc: &str,
    alter: Alteration,
    call: impl Fn(Vec<u8>) -> F,
) -> Result<(usize, Result<A, Status>), Stop> {
    let deadline = tokio::time::Instant::now() + cx.patience();
    let (mut given, mut handle) = (0, Vec::new());
    loop {
        let answer = call(handle.clone()).await;
        let wait = match &answer {
            Ok(step) => match step.next_step() {
                None => return Ok((given, answer)),
                Some((next, after)) => {
                    given += 1;
                    handle = alter(&next);
                    after
                }
            },
            Err(status) if is_retryable(status) => std::time::Duration::from_millis(200),
            Err(status) if fields(status).iter().any(|field| field == "handle") => {
                return Err(Stop::expected_of(
                    format!("{rpc} to do without a handle that it does not know"),
                    &answer,
                ));
            }
            Err(_) => return Ok((given, answer)),
        };
        if tokio::time::Instant::now() + wait > deadline {
            return Err(Stop::expected_of(format!("an end of {rpc} with altered handles"), &answer));
        }
        tokio::time::sleep(wait).await;
    }
}

async fn altered_handles_harmless(cx: Context) -> Result<(), Stop> {
    let mut handles = 0;
    for alter in ALTERATIONS {
        let session = cx.session();
        let create =
            |handle| cx.controller.create(CreateSessionRequest { handle, ..session.create_request() });
        let (given, created) = through_alterations(&cx, "CreateSession", *alter, create).await?;
        handles += given;
        if created.is_err() {
            return Err(Stop::expected_of("CreateSession to succeed with altered handles", &created));
        }
        cx.wait_for_phase(&session, "Running").await?;
        cx.expect_one(&session).await?;
        if cx.offer.capabilities.supports_hibernation {
            let hibernate = |handle| cx.controller.hibernate(hibernate_request(&session, handle));
            let (given, hibernated) = through_alterations(&cx, "HibernateSession", *alter, hibernate).await?;
            handles += given;
            if hibernated.is_err() {
                return Err(Stop::expected_of(
                    "HibernateSession to succeed with altered handles",
                    &hibernated,
                ));
            }
            cx.wait_for_phase(&session, "Hibernated").await?;
            let wake = |handle| cx.controller.wake(wake_request(&session, handle));
            let (given, woken) = through_alterations(&cx, "WakeSession", *alter, wake).await?;
            handles += given;
            if woken.is_err() {
                return Err(Stop::expected_of("WakeSession to succeed with altered handles", &woken));
            }
            cx.wait_for_phase(&session, "Running").await?;
        }
        let delete =
            |handle| cx.controller.delete(DeleteSessionRequest { handle, ..session.delete_request() });
        let (given, deleted) = through_alterations(&cx, "DeleteSession", *alter, delete).await?;
        handles += given;
        if !matches!(&deleted, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("DeleteSession to succeed with altered handles", &deleted));
        }
        cx.expect_gone(&session).await?;
        // An image that has to be looked for takes more than one step where nothing else does.
        if let Some(image) = &cx.recipe().missing_image {
            let mut session = cx.session();
            session.spec().base_image.clone_from(image);
            let create =
                |handle| cx.controller.create(CreateSessionRequest { handle, ..session.create_request() });
            let (given, created) = through_alterations(&cx, "CreateSession", *alter, create).await?;
            handles += given;
            if created.is_ok() {
                return Err(Stop::expected_of("an error for an image that does not exist", &created));
            }
            cx.expect_gone(&session).await?;
        }
    }
    if handles == 0 {
        return Err(Stop::NotApplicable("every call was done in one step, without a handle".to_owned()));
    }
    Ok(())
}

fn hibernate_request(session: &Session, handle: Vec<u8>) -> HibernateSessionRequest {
    HibernateSessionRequest { session_id: session.id(), handle, generation: 2, ..Default::default() }
}

fn wake_request(session: &Session, handle: Vec<u8>) -> WakeSessionRequest {
    WakeSessionRequest { session_id: session.id(), handle, generation: 3, ..Default::default() }
}

async fn recorded_handles_go_on(cx: Context) -> Result<(), Stop> {
    for RecordedHandle { name, verb, bytes } in cx.recipe().handles.clone() {
        if matches!(verb, Verb::Hibernate | Verb::Wake) && !cx.offer.capabilities.supports_hibernation {
            continue;
        }
        let session = match verb {
            Verb::Create => cx.session(),
            Verb::Delete | Verb::Hibernate => cx.running().await?,
            Verb::Wake => cx.hibernated().await?,
        };
        let handle = bytes;
        let answer = match verb {
            Verb::Create => {
                let request = CreateSessionRequest { handle, ..session.create_request() };
                cx.controller.create(request).await.map(drop)
            }
            Verb::Delete => {
                let request = DeleteSessionRequest { handle, ..session.delete_request() };
                cx.controller.delete(request).await.map(drop)
            }
            Verb::Hibernate => cx.controller.hibernate(hibernate_request(&session, handle)).await.map(drop),
            Verb::Wake => cx.controller.wake(wake_request(&session, handle)).await.map(drop),
        };
        if !answer.as_ref().err().is_none_or(is_retryable) {
            return Err(Stop::expected_of(format!("work to go on from the handle {name}"), &answer));
        }
        match verb {
            Verb::Create => drop(cx.run(&session).await?),
            Verb::Delete => {}
            Verb::Hibernate => cx.put_to_sleep(&session).await?,
            Verb::Wake => cx.wake_up(&session).await?,
        }
        if verb != Verb::Delete {
            cx.expect_one(&session).await?;
        }
        cx.delete_whole(&session).await?;
    }
    Ok(())
}

async fn stale_epoch_refused(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    // Epochs of real leases are small: no run of a suite reaches this.
    let (new, old) = (1 << 40 | cx.dice(1 << 20) << 1 | 1, 1 << 39);
    let created = cx.controller.create(CreateSessionRequest { epoch: new, ..session.create_request() }).await;
    if created.is_err() {
        return Err(Stop::expected_of("a create with the highest epoch so far to begin", &created));
    }
    cx.run(&session).await?;
    let before = cx.status(&session).await;
    let create = CreateSessionRequest { epoch: old, ..cx.session().create_request() };
    let delete = DeleteSessionRequest { epoch: old, ..session.delete_request() };
    let hibernate = HibernateSessionRequest { session_id: session.id(), epoch: old, ..Default::default() };
    let mut answers = vec![
        ("CreateSession", cx.controller.create(create).await.map(drop)),
        ("DeleteSession", cx.controller.delete(delete).await.map(drop)),
    ];
    if cx.offer.capabilities.supports_hibernation {
        answers.push(("HibernateSession", cx.controller.hibernate(hibernate).await.map(drop)));
    }
    for (rpc, answer) in answers {
        if !matches!(&answer, Err(status) if status.code() == Code::Aborted) {
            return Err(Stop::expected_of(format!("ABORTED from {rpc} with a stale epoch"), &answer));
        }
    }
    let after = cx.status(&session).await;
    let same = match (&before, &after) {
        (Ok(before), Ok(after)) => (&before.phase, &before.node_id) == (&after.phase, &after.node_id),
        _ => false,
    };
    if !same {
        return Err(Stop::expected(format!("nothing to change: {before:?}"), format!("{after:?}")));
    }
    let delete = DeleteSessionRequest { epoch: new, ..session.delete_request() };
    let deleted = cx.delete_with(delete).await;
    if deleted.is_err() {
        return Err(Stop::expected_of("the holder of the highest epoch to be served still", &deleted));
    }
    Ok(())
}
