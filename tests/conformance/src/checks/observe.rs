//! C: what is seen of sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use streamspace_proto::controller::v1::{
    GetSessionAccessRequest, GetSessionLogsRequest, GetSessionMetricsRequest, GetSessionRequest,
    GetSessionStatusRequest, HibernateSessionRequest, ListSessionsRequest, Ownership, SessionEvent,
    WakeSessionRequest,
};
use tonic::{Code, Status};

use crate::check::{Stop, checks, show};
use crate::context::Context;
use crate::fixture::{Ability, Foreign};

checks! {
    "C17-unknown-is-not-found" "what does not exist is NOT_FOUND, for every verb that is offered" [] Shared = unknown_is_not_found;
    "C19-lists-all-and-only-owned" "the listing has every session once, with its user and phase, and none that is gone" [Listing] Shared = lists_all_and_only_owned;
    "C19-pages-stable-under-churn" "pages show every session that was there all the time exactly once" [Listing] Shared = pages_stable_under_churn;
    "C20-foreign-unmarked-untouched" "an object that only has the name of one of ours is never shown as owned and never touched" [Fixture(Foreigners)] Shared = foreign_unmarked_untouched;
    "C20-foreign-controller-untouched" "an object with the name of one of ours and the marks of another controller is never shown as owned and never touched" [Fixture(Foreigners)] Shared = foreign_controller_untouched;
    "C23-failure-explained" "a session whose process ends with an error is not Running, and a condition says why" [FailingRecipe] Shared = failure_explained;
    "C24-stop-by-hand-seen" "a session that was stopped by hand is not seen running" [Fixture(StopByHand)] Shared = stop_by_hand_seen;
    "C24-removal-by-hand-seen" "a session that was removed by hand is NOT_FOUND" [Fixture(RemoveByHand)] Shared = removal_by_hand_seen;
    "C24-pause-by-hand-seen" "a session that was paused by hand is not seen running, and goes on afterwards" [Fixture(PauseByHand)] Shared = pause_by_hand_seen;
    "C24-rename-by-hand-harmless" "a session whose object was renamed by hand stays that session: not lost, not doubled, and deleted whole" [Fixture(RenameByHand)] Shared = rename_by_hand_harmless;
    "C25-watch-sees-changes" "the watch tells of a removal by hand, or that it lost events" [Watch, Fixture(RemoveByHand)] Shared = watch_sees_changes;
    "C25-lost-events-told" "a watch whose events the backend has lost says resync" [Watch, Fixture(LoseEvents)] Alone = lost_events_told;
    "C25-watch-goes-on-without-gap" "a watch from its last cursor tells what happened meanwhile, or says resync" [Watch, Fixture(RemoveByHand)] Shared = watch_goes_on_without_gap;
    "C25-watch-resumes-or-says-so" "a watch from an old or unknown cursor goes on without a gap, or says resync" [Watch] Shared = watch_resumes_or_says_so;
}

async fn unknown_is_not_found(cx: Context) -> Result<(), Stop> {
    let session_id = cx.new_id();
    let offered = cx.offer.capabilities.clone();
    let of = |session_id: &String| session_id.clone();
    let mut answers: Vec<(&str, Result<(), Status>)> = vec![
        ("GetSession", {
            let request = GetSessionRequest { session_id: of(&session_id), ..Default::default() };
            cx.controller.get(request).await.map(drop)
        }),
        ("GetSessionStatus", {
            let request = GetSessionStatusRequest { session_id: of(&session_id), ..Default::default() };
            cx.controller.status(request).await.map(drop)
        }),
    ];
    if offered.supports_metrics {
        let request = GetSessionMetricsRequest { session_id: of(&session_id), ..Default::default() };
        answers.push(("GetSessionMetrics", cx.controller.metrics(request).await.map(drop)));
    }
    if offered.supports_logs {
        let request = GetSessionLogsRequest { session_id: of(&session_id), ..Default::default() };
        let answer = match cx.controller.logs(request).await {
            Ok(mut stream) => stream.next().await.transpose().map(drop),
            Err(status) => Err(status),
        };
        answers.push(("GetSessionLogs", answer));
    }
    if cx.offer.access {
        let request = GetSessionAccessRequest { session_id: of(&session_id), ..Default::default() };
        answers.push(("GetSessionAccess", cx.controller.access(request).await.map(drop)));
    }
    if offered.supports_hibernation {
        let request = HibernateSessionRequest { session_id: of(&session_id), ..Default::default() };
        answers.push(("HibernateSession", cx.controller.hibernate(request).await.map(drop)));
        let request = WakeSessionRequest { session_id: of(&session_id), ..Default::default() };
        answers.push(("WakeSession", cx.controller.wake(request).await.map(drop)));
    }
    for (rpc, answer) in answers {
        if !matches!(&answer, Err(status) if status.code() == Code::NotFound) {
            return Err(Stop::expected_of(format!("NOT_FOUND from {rpc} for an unknown session"), &answer));
        }
    }
    Ok(())
}

async fn lists_all_and_only_owned(cx: Context) -> Result<(), Stop> {
    let sessions = [cx.running().await?, cx.running().await?, cx.running().await?];
    for session in &sessions {
        let entries = cx.entries_of(session).await?;
        match entries.as_slice() {
            [entry]
                if entry.ownership() == Ownership::Owned
                    && entry.user_id == session.user()
                    && entry.status.as_ref().is_some_and(|status| status.phase == "Running") => {}
            _ => {
                let what = format!("one owned, running entry of {} for {}", session.id(), session.user());
                return Err(Stop::expected(what, format!("{entries:?}")));
            }
        }
    }
    cx.delete_whole(&sessions[1]).await?;
    let entries = cx.entries_of(&sessions[1]).await?;
    if !entries.is_empty() {
        return Err(Stop::expected("no entry of a deleted session", format!("{entries:?}")));
    }
    for session in [&sessions[0], &sessions[2]] {
        if cx.entries_of(session).await?.len() != 1 {
            return Err(Stop::expected("the other sessions to be listed still", session.id()));
        }
    }
    Ok(())
}

async fn pages_stable_under_churn(cx: Context) -> Result<(), Stop> {
    let (mut passing, mut steady) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        passing.push(cx.running().await?);
        steady.push(cx.running().await?);
    }
    let mut seen = BTreeMap::<String, usize>::new();
    let mut cursor = String::new();
    loop {
        let request = ListSessionsRequest { cursor: cursor.clone(), limit: 2 };
        let page = cx.controller.list(request).await;
        let page = match page {
            Ok(page) if page.entries.len() <= 2 => page,
            other => return Err(Stop::expected_of("a page of at most two entries", &other)),
        };
        let on_page: Vec<String> = page
            .entries
            .into_iter()
            .filter_map(|entry| entry.status)
            .map(|status| status.session_id)
            .collect();
        // What was on this page goes before the next one is asked for.
        for session in passing.extract_if(.., |session| on_page.contains(&session.id())) {
            cx.delete_whole(&session).await?;
        }
        for id in on_page {
            *seen.entry(id).or_default() += 1;
        }
        if page.next_cursor.is_empty() {
            break;
        }
        if page.next_cursor == cursor {
            return Err(Stop::expected("the cursor to move on", cursor));
        }
        cursor = page.next_cursor;
    }
    for session in &steady {
        let times = seen.get(&session.id()).copied().unwrap_or_default();
        if times != 1 {
            let what = format!("session {}, which was there all the time, once", session.id());
            return Err(Stop::expected(what, format!("{times} times")));
        }
    }
    Ok(())
}

async fn foreign_unmarked_untouched(cx: Context) -> Result<(), Stop> {
    foreign_untouched(&cx, Foreign::Unmarked).await
}

async fn foreign_controller_untouched(cx: Context) -> Result<(), Stop> {
    foreign_untouched(&cx, Foreign::OfAnotherController).await
}

async fn foreign_untouched(cx: &Context, kind: Foreign) -> Result<(), Stop> {
    let fixture = cx.fixture(Ability::Foreigners)?;
    let session = cx.session();
    cx.remember_foreign(&session.id());
    fixture.make_foreign(&session.id(), kind).await?;
    let before = fixture.look_at_foreign(&session.id()).await?;

    let created = cx.create(&session).await;
    let refusals = [Code::AlreadyExists, Code::FailedPrecondition, Code::PermissionDenied];
    if !matches!(&created, Err(status) if refusals.contains(&status.code())) {
        return Err(Stop::expected_of("create to be refused: the name is somebody else's", &created));
    }
    let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
    let got = cx.controller.get(request).await;
    if matches!(&got, Ok(answer) if answer.ownership() != Ownership::Adoptable) {
        return Err(Stop::expected_of("GetSession not to take it for ours", &got));
    }
    let owned = cx.entries_of(&session).await?;
    if owned.iter().any(|entry| entry.ownership() != Ownership::Adoptable) {
        return Err(Stop::expected("it not to be listed as owned", format!("{owned:?}")));
    }
    // Its answer is free: nothing of ours is there, and a refusal is honest too.
    drop(cx.controller.delete(session.delete_request()).await);
    if cx.offer.capabilities.supports_hibernation {
        let request = HibernateSessionRequest { session_id: session.id(), ..Default::default() };
        let hibernated = cx.controller.hibernate(request).await;
        if hibernated.is_ok() {
            return Err(Stop::expected_of(
                "hibernation of somebody else's object to be refused",
                &hibernated,
            ));
        }
    }
    let after = fixture.look_at_foreign(&session.id()).await?;
    if before.is_none() || before != after {
        return Err(Stop::expected(format!("it to be untouched: {before:?}"), format!("{after:?}")));
    }
    fixture.remove_foreign(&session.id()).await?;
    Ok(())
}

async fn failure_explained(cx: Context) -> Result<(), Stop> {
    let recipe = cx.recipe().failing.clone().unwrap_or_default();
    let session = cx.session_of(&recipe);
    let created = cx.create(&session).await;
    match &created {
        // Said at once is as good.
        Err(status) if !status.message().is_empty() && status.code() != Code::NotFound => return Ok(()),
        Err(_) => return Err(Stop::expected_of("a session, or an error that says why not", &created)),
        Ok(_) => {}
    }
    let failed = cx.wait_for("phase Failed", &session, |status| status.phase == "Failed").await?;
    let explained = failed.conditions.iter().any(|condition| {
        condition.status != "True" && !condition.reason.is_empty() && !condition.message.is_empty()
    });
    if explained {
        return Ok(());
    }
    Err(Stop::expected("a condition with a reason and a message", format!("{:?}", failed.conditions)))
}

async fn stop_by_hand_seen(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.fixture(Ability::StopByHand)?.stop_by_hand(&session.id()).await?;
    cx.wait_for("a phase other than Running", &session, |status| status.phase != "Running").await?;
    let entries = cx.entries_of(&session).await?;
    match entries.first().and_then(|entry| entry.status.as_ref()) {
        Some(status) if status.phase != "Running" => Ok(()),
        _ => Err(Stop::expected("the listing to show that it is stopped", format!("{entries:?}"))),
    }
}

async fn removal_by_hand_seen(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    cx.fixture(Ability::RemoveByHand)?.remove_by_hand(&session.id()).await?;
    cx.wait_until_gone(&session).await?;
    let entries = cx.entries_of(&session).await?;
    if !entries.is_empty() {
        return Err(Stop::expected("no entry of what was removed", format!("{entries:?}")));
    }
    // It can be made again under its name.
    cx.run(&session).await.map(drop)
}

async fn pause_by_hand_seen(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let fixture = cx.fixture(Ability::PauseByHand)?;
    fixture.pause_by_hand(&session.id(), true).await?;
    let seen = cx
        .wait_for("a phase other than Running, with a condition that says why", &session, |status| {
            status.phase != "Running"
                && status.conditions.iter().any(|condition| !condition.reason.is_empty())
        })
        .await;
    fixture.pause_by_hand(&session.id(), false).await?;
    seen?;
    cx.wait_for_phase(&session, "Running").await.map(drop)
}

async fn rename_by_hand_harmless(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let before = cx.status(&session).await;
    cx.fixture(Ability::RenameByHand)?.rename_by_hand(&session.id()).await?;
    let again = (cx.status(&session).await, cx.create(&session).await);
    let nodes = match (&before, &again) {
        (Ok(before), (Ok(seen), Ok(created))) => [&before.node_id, &seen.node_id, &created.node_id],
        _ => {
            let seen = format!("{}, and CreateSession: {}", show(&again.0), show(&again.1));
            return Err(Stop::expected("the session to be found under another name", seen));
        }
    };
    if nodes.iter().any(|node| *node != nodes[0]) {
        return Err(Stop::expected("the object that was renamed", format!("{nodes:?}")));
    }
    cx.expect_one(&session).await?;
    if cx.offer.capabilities.supports_hibernation {
        cx.put_to_sleep(&session).await?;
        cx.wake_up(&session).await?;
        cx.expect_one(&session).await?;
    }
    cx.delete_whole(&session).await
}

/// A stream of events from now on, and where it goes on. What it says at its beginning is heard already: that it notes
/// changes from here on, and what was still on its way.
async fn subscribed(
    cx: &Context,
) -> Result<(impl Stream<Item = Result<SessionEvent, Status>> + Unpin + use<>, String), Stop> {
    const BEGINNING: Duration = Duration::from_secs(1);
    let refused = |status| Stop::expected("a stream of events", show::<()>(&Err(status)));
    let mut events = cx.controller.watch("").await.map_err(refused)?;
    let first = tokio::time::timeout(cx.patience(), events.next()).await;
    let mut cursor = match first {
        Ok(Some(Ok(event))) if event.resync && !event.cursor.is_empty() => event.cursor,
        other => {
            let what = "resync and a cursor as the first event of a stream from now on";
            return Err(Stop::expected(what, format!("{other:?}")));
        }
    };
    let began = Instant::now();
    while let Some(left) = BEGINNING.checked_sub(began.elapsed()) {
        match tokio::time::timeout(left, events.next()).await {
            Ok(Some(Ok(event))) if event.cursor.is_empty() => {}
            Ok(Some(Ok(event))) => cursor = event.cursor,
            Ok(other) => return Err(Stop::expected("the watch to go on", format!("{other:?}"))),
            Err(_) => break,
        }
    }
    Ok((events, cursor))
}

/// Waits for an event.
async fn hear(
    cx: &Context,
    what: &str,
    mut events: impl Stream<Item = Result<SessionEvent, Status>> + Unpin,
    is_it: impl Fn(&SessionEvent) -> bool,
) -> Result<(), Stop> {
    let heard = async {
        loop {
            match events.next().await {
                Some(Ok(event)) if is_it(&event) => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(status)) => {
                    return Err(Stop::expected("the watch to go on", show::<()>(&Err(status))));
                }
                None => return Err(Stop::expected("the watch to go on", "the stream ended")),
            }
        }
    };
    match tokio::time::timeout(cx.patience(), heard).await {
        Ok(heard) => heard,
        Err(_) => Err(Stop::expected(what, "nothing of the kind")),
    }
}

/// Whether an event is about a session, or says that it may be.
fn concerns(event: &SessionEvent, session: &str) -> bool {
    event.resync || event.status.as_ref().is_some_and(|status| status.session_id == session)
}

async fn watch_sees_changes(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let (events, _) = subscribed(&cx).await?;
    cx.fixture(Ability::RemoveByHand)?.remove_by_hand(&session.id()).await?;
    let id = session.id();
    hear(&cx, "an event of the session that was removed by hand", events, |event| concerns(event, &id)).await
}

async fn watch_goes_on_without_gap(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let (events, cursor) = subscribed(&cx).await?;
    drop(events);
    cx.fixture(Ability::RemoveByHand)?.remove_by_hand(&session.id()).await?;
    cx.wait_until_gone(&session).await?;
    let events = cx.controller.watch(&cursor).await;
    let events = events.map_err(|status| Stop::expected("a stream of events", show::<()>(&Err(status))))?;
    let id = session.id();
    hear(&cx, "what happened while nobody watched", events, |event| concerns(event, &id)).await
}

async fn lost_events_told(cx: Context) -> Result<(), Stop> {
    let (events, _) = subscribed(&cx).await?;
    cx.fixture(Ability::LoseEvents)?.lose_events().await?;
    hear(&cx, "resync after the backend has lost its events", events, |event| event.resync).await
}

async fn watch_resumes_or_says_so(cx: Context) -> Result<(), Stop> {
    for cursor in ["1", "no such cursor", "99999999999999999999"] {
        let first = async {
            let mut events = cx.controller.watch(cursor).await?;
            events.next().await.transpose()
        };
        let seen = tokio::time::timeout(cx.patience(), first).await;
        match &seen {
            Ok(Ok(Some(event))) if event.resync => {}
            Ok(Err(status)) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {}
            // Events since that cursor, if it means anything.
            Ok(Ok(Some(event))) if event.status.is_some() && cursor == "1" => {}
            other => {
                let what = format!("resync, or an error, for the cursor {cursor:?}");
                return Err(Stop::expected(what, format!("{other:?}")));
            }
        }
    }
    Ok(())
}
