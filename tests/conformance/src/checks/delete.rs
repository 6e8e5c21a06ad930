//! E: removing a session.

use std::time::Duration;

use futures::future::{join, join_all};
use streamspace_proto::controller::v1::{DeleteSessionRequest, HibernateSessionRequest, VolumeMount};

use crate::check::{Stop, checks};
use crate::context::Context;
use crate::fixture::Ability;

checks! {
    "E32-delete-running" "a running session can be deleted" [] Shared = delete_running;
    "E32-delete-at-once" "a session that was just created can be deleted" [] Shared = delete_at_once;
    "E32-delete-mid-create" "a session can be deleted while its create is under way" [] Shared = delete_mid_create;
    "E32-delete-hibernated" "a hibernated session can be deleted" [Hibernation] Shared = delete_hibernated;
    "E32-delete-mid-hibernate" "a session can be deleted while its hibernation is under way" [Hibernation] Shared = delete_mid_hibernate;
    "E32-delete-failed" "a failed session can be deleted" [FailingRecipe] Shared = delete_failed;
    "E32-delete-paused" "a session that somebody paused can be deleted" [Fixture(PauseByHand)] Shared = delete_paused;
    "E33-delete-unknown" "deleting what does not exist succeeds" [] Shared = delete_unknown;
    "E34-concurrent-deletes" "five deletes at once all succeed" [] Shared = concurrent_deletes;
    "E34-lost-answer" "a delete whose answer was lost is repeated with success" [] Shared = lost_answer;
    "E35-success-means-gone" "when a delete says success, GetSession says NOT_FOUND and the listing says nothing" [] Shared = success_means_gone;
    "E36-nothing-left" "volumes and all other objects of a session go with it" [PersistentStorage, Fixture(Inventory)] Shared = nothing_left;
    "E37-home-kept" "the user's home outlives the session" [PersistentStorage, Fixture(Homes)] Shared = home_kept;
    "E37-home-purged" "with purge_home it goes too, also when the session is gone already" [PersistentStorage, Fixture(Homes)] Shared = home_purged;
}

async fn delete_running(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.delete_whole(&session).await
}

async fn delete_at_once(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    // The first step only.
    let created = cx.controller.create(session.create_request()).await;
    if created.is_err() {
        return Err(Stop::expected_of("CreateSession to begin", &created));
    }
    cx.delete_whole(&session).await
}

async fn delete_mid_create(cx: Context) -> Result<(), Stop> {
    for _ in 0..3 {
        let session = cx.session();
        let later = async {
            tokio::time::sleep(Duration::from_millis(cx.dice(80))).await;
            cx.delete(&session).await
        };
        let (_, deleted) = join(cx.controller.create(session.create_request()), later).await;
        if !matches!(&deleted, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("the delete to succeed", &deleted));
        }
        // A create that had not begun by then is another session of the same name: this delete is its.
        cx.delete_whole(&session).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cx.expect_gone(&session).await?;
    }
    Ok(())
}

async fn delete_hibernated(cx: Context) -> Result<(), Stop> {
    let session = cx.hibernated().await?;
    cx.delete_whole(&session).await
}

async fn delete_mid_hibernate(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let request = HibernateSessionRequest { session_id: session.id(), ..Default::default() };
    let later = async {
        tokio::time::sleep(Duration::from_millis(cx.dice(80))).await;
        cx.delete(&session).await
    };
    let (_, deleted) = join(cx.controller.hibernate(request), later).await;
    if !matches!(&deleted, Ok(answer) if answer.success) {
        return Err(Stop::expected_of("the delete to succeed", &deleted));
    }
    cx.expect_gone(&session).await
}

async fn delete_failed(cx: Context) -> Result<(), Stop> {
    let recipe = cx.recipe().failing.clone().unwrap_or_default();
    let session = cx.session_of(&recipe);
    if cx.create(&session).await.is_ok() {
        cx.wait_for_phase(&session, "Failed").await?;
    }
    cx.delete_whole(&session).await
}

async fn delete_paused(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.fixture(Ability::PauseByHand)?.pause_by_hand(&session.id(), true).await?;
    cx.delete_whole(&session).await
}

async fn delete_unknown(cx: Context) -> Result<(), Stop> {
    let request = DeleteSessionRequest { session_id: cx.new_id(), ..Default::default() };
    let deleted = cx.delete_with(request).await;
    match &deleted {
        Ok(answer) if answer.success => Ok(()),
        _ => Err(Stop::expected_of("success", &deleted)),
    }
}

async fn concurrent_deletes(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let answers = join_all((0..5).map(|_| cx.delete(&session))).await;
    for answer in &answers {
        if !matches!(answer, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("each of the deletes to succeed", answer));
        }
    }
    cx.expect_gone(&session).await
}

async fn lost_answer(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.controller.lose_the_next_answer();
    // The lost answer is an error that may be retried for this client, or not: both are right.
    drop(cx.controller.delete(session.delete_request()).await);
    cx.delete_whole(&session).await
}

async fn success_means_gone(cx: Context) -> Result<(), Stop> {
    for _ in 0..3 {
        let session = cx.running().await?;
        cx.delete_whole(&session).await?;
        let entries = cx.entries_of(&session).await?;
        if !entries.is_empty() {
            return Err(Stop::expected("no entry of a deleted session", format!("{entries:?}")));
        }
    }
    Ok(())
}

async fn nothing_left(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().persistent_home = true;
    let volume = |name: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: format!("/{name}"),
        read_only,
        size: String::new(),
    };
    session.spec().volume_mounts = vec![volume("cache", false), volume("media", true)];
    cx.remember(&session);
    cx.run(&session).await?;
    let before = cx.objects(&session).await?.unwrap_or_default();
    if before.len() < 2 {
        return Err(Stop::expected("the session's volumes among its objects", format!("{before:?}")));
    }
    cx.delete_whole(&session).await
}

async fn home_kept(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().persistent_home = true;
    cx.remember(&session);
    cx.run(&session).await?;
    cx.delete_whole(&session).await?;
    if cx.fixture(Ability::Homes)?.has_home(&session.user()).await? {
        return Ok(());
    }
    Err(Stop::expected("the home of the user to be kept", "it is gone"))
}

async fn home_purged(cx: Context) -> Result<(), Stop> {
    let fixture = cx.fixture(Ability::Homes)?;
    for session_is_gone in [false, true] {
        let mut session = cx.session();
        session.spec().persistent_home = true;
        cx.remember(&session);
        cx.run(&session).await?;
        if session_is_gone {
            cx.delete_whole(&session).await?;
        }
        let request = DeleteSessionRequest { purge_home: true, ..session.delete_request() };
        let deleted = cx.delete_with(request).await;
        if !matches!(&deleted, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("the delete with purge_home to succeed", &deleted));
        }
        cx.expect_gone(&session).await?;
        if fixture.has_home(&session.user()).await? {
            return Err(Stop::expected("the home to be gone", "it is there"));
        }
    }
    Ok(())
}
