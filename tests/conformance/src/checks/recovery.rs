//! F: nothing has to be remembered.

use streamspace_proto::controller::v1::{
    CreateSessionRequest, DeleteSessionRequest, HibernateSessionRequest,
};
use tonic::Code;

use crate::check::{Stop, checks};
use crate::context::Context;

checks! {
    "F39-fresh-shell-sees-all" "a controller that was started anew sees every session, and goes on with it" [Process] Shared = fresh_shell_sees_all;
    "F39-state-wiped-between-calls" "a session's whole life goes well with the cache emptied before every call" [Process] Shared = state_wiped_between_calls;
    "F40-strange-handles-harmless" "a handle that is none does no harm, and one of more than 64 KiB is INVALID_ARGUMENT" [] Shared = strange_handles_harmless;
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
            let harmless = match &answer {
                Err(status) => status.code() == Code::InvalidArgument,
                Ok(()) => length <= MAX_HANDLE,
            };
            if !harmless {
                let what = format!("{rpc} to ignore or refuse a strange handle of {length} bytes");
                return Err(Stop::expected_of(what, &answer));
            }
        }
    }
    cx.run(&session).await?;
    cx.expect_one(&session).await?;
    cx.delete_whole(&session).await
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
