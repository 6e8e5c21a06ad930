//! D: sleeping and waking.

use std::time::Duration;

use futures::future::join;

use crate::check::{Stop, checks, show};
use crate::context::Context;
use crate::fixture::Ability;

use super::create::reach;

checks! {
    "D26-hibernated-uses-nothing" "a hibernated session uses no processor and no memory" [Hibernation, Fixture(Inspect)] Shared = hibernated_uses_nothing;
    "D27-home-survives" "files in the home are the same, byte for byte, after hibernate and wake" [Hibernation, PersistentStorage, Fixture(Files)] Shared = home_survives;
    "D28-hibernate-twice" "hibernating what is hibernated is a no-op" [Hibernation] Shared = hibernate_twice;
    "D28-wake-twice" "waking what runs is a no-op" [Hibernation] Shared = wake_twice;
    "D30-hibernate-during-create" "hibernating while the create is under way is legal and converges" [Hibernation] Shared = hibernate_during_create;
    "D30-delete-during-wake" "deleting while the wake is under way is legal and converges" [Hibernation] Shared = delete_during_wake;
    "D30-lost-answers" "hibernate and wake whose answers were lost take effect once" [Hibernation] Shared = lost_answers;
    "D31-access-after-wake" "a woken session can be reached" [Hibernation, Access] Shared = access_after_wake;
    "D31-no-access-while-hibernated" "a hibernated session is listed as such and has no way in" [Hibernation, Access] Shared = no_access_while_hibernated;
}

async fn hibernated_uses_nothing(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    let seen = cx.fixture(Ability::Inspect)?.inspect(&session.id()).await?;
    match seen {
        // Some backends keep nothing but the disks.
        None => Ok(()),
        Some(applied) if !applied.runs => Ok(()),
        Some(applied) => Err(Stop::expected("a stopped object on the backend", format!("{applied:?}"))),
    }
}

async fn home_survives(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().persistent_home = true;
    cx.remember(&session);
    cx.run(&session).await?;
    let fixture = cx.fixture(Ability::Files)?;
    let path = "/config/conformance";
    let content: String = (0..4096).map(|_| char::from(b'!' + (cx.dice(90) as u8))).collect();
    fixture.write_file(&session.id(), path, &content).await?;
    cx.put_to_sleep(&session).await?;
    cx.wake_up(&session).await?;
    let found = fixture.read_file(&session.id(), path).await?;
    if found.as_deref() == Some(content.as_str()) {
        return Ok(());
    }
    let seen =
        found.map_or("no file".to_owned(), |found| format!("another content of {} bytes", found.len()));
    Err(Stop::expected("the file in the home as it was written", seen))
}

async fn hibernate_twice(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    let before = cx.status(&session).await;
    cx.put_to_sleep(&session).await?;
    same_object(&before, &cx.status(&session).await)
}

async fn wake_twice(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    cx.wake_up(&session).await?;
    let before = cx.status(&session).await;
    cx.wake_up(&session).await?;
    same_object(&before, &cx.status(&session).await)?;
    cx.expect_one(&session).await
}

type Seen = Result<streamspace_proto::controller::v1::SessionStatusResponse, tonic::Status>;

fn same_object(before: &Seen, after: &Seen) -> Result<(), Stop> {
    match (before, after) {
        (Ok(before), Ok(after)) if (&before.node_id, &before.phase) == (&after.node_id, &after.phase) => {
            Ok(())
        }
        _ => Err(Stop::expected(format!("no change of {}", show(before)), show(after))),
    }
}

async fn hibernate_during_create(cx: Context) -> Result<(), Stop> {
    for _ in 0..2 {
        let session = cx.session();
        let later = async {
            tokio::time::sleep(Duration::from_millis(cx.dice(80))).await;
            cx.hibernate(&session).await
        };
        let (_, hibernated) = join(cx.create(&session), later).await;
        // Before there is anything, there is nothing to hibernate.
        if let Err(status) = &hibernated
            && !matches!(status.code(), tonic::Code::NotFound | tonic::Code::FailedPrecondition)
        {
            return Err(Stop::expected_of("success, NOT_FOUND or FAILED_PRECONDITION", &hibernated));
        }
        // Whatever came of it: the last wish wins.
        cx.put_to_sleep(&session).await?;
        cx.expect_one(&session).await?;
    }
    Ok(())
}

async fn delete_during_wake(cx: Context) -> Result<(), Stop> {
    for _ in 0..2 {
        let session = cx.hibernated().await?;
        let later = async {
            tokio::time::sleep(Duration::from_millis(cx.dice(80))).await;
            cx.delete(&session).await
        };
        let (_, deleted) = join(cx.wake(&session), later).await;
        if !matches!(&deleted, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("the delete to succeed", &deleted));
        }
        cx.expect_gone(&session).await?;
    }
    Ok(())
}

async fn lost_answers(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.controller.lose_the_next_answer();
    drop(cx.hibernate(&session).await);
    cx.put_to_sleep(&session).await?;
    cx.controller.lose_the_next_answer();
    drop(cx.wake(&session).await);
    cx.wake_up(&session).await?;
    cx.expect_one(&session).await
}

async fn access_after_wake(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    cx.wake_up(&session).await?;
    reach(&cx, &session).await
}

async fn no_access_while_hibernated(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    let entries = cx.entries_of(&session).await?;
    match entries.as_slice() {
        [entry] if entry.status.as_ref().is_some_and(|status| status.phase == "Hibernated") => {}
        _ => return Err(Stop::expected("one entry in phase Hibernated", format!("{entries:?}"))),
    }
    let request = streamspace_proto::controller::v1::GetSessionAccessRequest {
        session_id: session.id(),
        ..Default::default()
    };
    let access = cx.controller.access(request).await;
    match &access {
        Ok(answer) if answer.points.is_empty() => Ok(()),
        Err(status)
            if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::Unavailable) =>
        {
            Ok(())
        }
        _ => Err(Stop::expected_of("no way in, or FAILED_PRECONDITION", &access)),
    }
}
