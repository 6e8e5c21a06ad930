//! Looks at what the backends really have, and lets the reconciler see to what is amiss.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use streamspace_proto::controller::v1 as proto;
use tokio::sync::Notify;
use tonic::Code;

use crate::changes::Changes;
use crate::domain::{
    Condition, ConditionStatus, ControllerId, ControllerStatus, Operation, Phase, Session, Step, Wish,
    WishedState, condition_type, decide, now, shortened,
};
use crate::fleet::{CallError, ControllerClient, Fleet, HealthEvent, Observation, Readiness};
use crate::store::{ObservedChange, SessionRecord, Store, StoreError};

/// Entries asked for at once.
const PAGE: i32 = 500;
/// A listing that does not end is no listing.
const MOST_PAGES: usize = 10_000;
/// Calls at once to a controller that cannot list.
const SINGLE_CALLS: usize = 8;
/// Changes written in one transaction.
const CHUNK: usize = 256;

/// Observes controllers.
pub(crate) struct Observer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) call_timeout: Duration,
    /// How long one controller may take to show all its sessions.
    pub(crate) limit: Duration,
    /// Asks for an observation before the interval is over.
    pub(crate) now: Notify,
}

/// Why an observation came to nothing. Then nothing is changed.
#[derive(Debug, thiserror::Error)]
enum Unobserved {
    #[error("{}: {}", shortened(&.0.reason), shortened(&.0.message))]
    Call(CallError),
    #[error("the listing was not complete in time")]
    TimeUp,
    #[error("the listing does not end")]
    Endless,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Observer {
    /// The controllers that are worth a look.
    async fn healthy(&self) -> Vec<ControllerId> {
        match self.store.controllers().await {
            Ok(controllers) => controllers
                .into_iter()
                .filter(|one| one.status == ControllerStatus::Healthy)
                .map(|one| one.id)
                .collect(),
            Err(error) => {
                tracing::error!(%error, "controllers cannot be read");
                Vec::new()
            }
        }
    }

    /// Acts on a change of health.
    pub(crate) async fn health_changed(&self, event: HealthEvent) {
        let healthy = event.status == ControllerStatus::Healthy;
        let condition = Condition {
            kind: condition_type::CONTROLLER_REACHABLE.to_owned(),
            status: if healthy { ConditionStatus::True } else { ConditionStatus::False },
            reason: match event.status {
                ControllerStatus::Healthy => "Answers",
                ControllerStatus::Unhealthy => "ControllerUnhealthy",
                ControllerStatus::Offline => "ControllerOffline",
            }
            .to_owned(),
            message: if healthy { String::new() } else { event.message },
            since: now(),
        };
        match self.store.set_controller_condition(&event.id, condition).await {
            Ok(changed) => changed.iter().for_each(|id| self.changes.changed(id)),
            Err(error) => tracing::error!(%error, "the health of a controller was not noted at its sessions"),
        }
        if healthy {
            let woken = async {
                self.store.retry_failing(&event.id).await?;
                self.store.retry_unplaced(u32::MAX).await
            };
            if let Err(error) = woken.await {
                tracing::error!(%error, "waiting sessions were not woken");
            }
            self.wake.notify_one();
            self.now.notify_one();
        }
    }

    /// Looks at all controllers at intervals, and whenever one became healthy. One that is still being looked at
    /// is left out and holds up nobody.
    pub(crate) async fn run(&self, interval: Duration) {
        let mut under_way = FuturesUnordered::new();
        let mut busy = HashSet::new();
        loop {
            for id in self.healthy().await {
                if busy.insert(id.clone()) {
                    under_way.push(self.observe(id));
                }
            }
            let pause = tokio::time::sleep(interval);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    Some(id) = under_way.next() => {
                        busy.remove(&id);
                    }
                    () = &mut pause => break,
                    () = self.now.notified() => break,
                }
            }
        }
    }

    /// Looks at one controller, and gives its id back.
    #[tracing::instrument(name = "observe", skip_all, fields(controller = %id))]
    async fn observe(&self, id: ControllerId) -> ControllerId {
        let Some(client) = self.fleet.client(&id) else { return id };
        match self.observe_inner(&id, &client).await {
            Ok(0) => {}
            Ok(changed) => tracing::info!(changed, "sessions were not as they were known"),
            Err(error) => tracing::warn!(%error, "not observed; nothing is changed"),
        }
        id
    }

    async fn observe_inner(&self, id: &ControllerId, client: &ControllerClient) -> Result<usize, Unobserved> {
        // What settled after this moment may be missing from the listing.
        let begun = now();
        let known = self.store.settled_sessions(id, begun).await?;
        if known.is_empty() {
            return Ok(0);
        }
        let listed = tokio::time::timeout(self.limit, self.list(client)).await;
        let seen = match listed.unwrap_or(Err(Unobserved::TimeUp)) {
            Ok(listed) => Seen::All(listed),
            Err(Unobserved::Call(error)) if error.code == Code::Unimplemented => {
                Seen::Some(self.ask_each(client, &known).await)
            }
            Err(error) => return Err(error),
        };
        let changes: Vec<_> =
            known.iter().filter_map(|record| change(record, seen.of(&record.session), begun)).collect();
        let mut changed = 0;
        for chunk in changes.chunks(CHUNK) {
            for id in self.store.record_observed(chunk.to_vec()).await? {
                self.changes.changed(&id);
                changed += 1;
            }
        }
        self.wake.notify_one();
        Ok(changed)
    }

    /// Everything the controller owns, all pages or nothing.
    async fn list(&self, client: &ControllerClient) -> Result<Listing, Unobserved> {
        let mut all = Listing::default();
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let request = proto::ListSessionsRequest { cursor: cursor.clone(), limit: PAGE };
            let page = client.list(request, self.call_timeout).await.map_err(Unobserved::Call)?;
            page.entries.into_iter().for_each(|entry| all.add(entry));
            if page.next_cursor.is_empty() {
                return Ok(all);
            }
            if page.next_cursor == cursor {
                return Err(Unobserved::Endless);
            }
            cursor = page.next_cursor;
        }
        Err(Unobserved::Endless)
    }

    /// For a controller that cannot list. A session whose answer is an error, or does not come in time, is left
    /// out.
    async fn ask_each(
        &self,
        client: &ControllerClient,
        known: &[SessionRecord],
    ) -> HashMap<String, Option<Observation>> {
        // Owned questions: a stream of borrowing futures cannot move between threads.
        let questions: Vec<_> = known
            .iter()
            .map(|record| ask(client.clone(), record.session.clone(), self.call_timeout))
            .collect();
        let answers: Vec<_> = stream::iter(questions)
            .buffer_unordered(SINGLE_CALLS)
            .take_until(tokio::time::sleep(self.limit))
            .collect()
            .await;
        answers.into_iter().flatten().collect()
    }
}

/// Asks for one session.
async fn ask(
    client: ControllerClient,
    session: Session,
    timeout: Duration,
) -> Option<(String, Option<Observation>)> {
    let id = session.id.to_string();
    let request = proto::GetSessionStatusRequest {
        session_id: id.clone(),
        node_id: session.node_id.clone(),
        handle: Vec::new(),
    };
    match client.status(request, timeout).await.and_then(Observation::read) {
        Ok(observation) => Some((id, Some(observation))),
        Err(error) if error.code == Code::NotFound => Some((id, None)),
        Err(error) => {
            let (reason, message) = (session.spec.scrub(&error.reason), session.spec.scrub(&error.message));
            tracing::warn!(session = id, reason, message, "status not known");
            None
        }
    }
}

/// All pages of a listing.
#[derive(Debug, Default)]
struct Listing {
    /// By session; `None` = listed, but not in words that can be read.
    entries: HashMap<String, Option<Observation>>,
    /// There are entries that do not say whose they are: any session may be among them.
    nameless: bool,
}

impl Listing {
    fn add(&mut self, entry: proto::SessionEntry) {
        if entry.ownership == i32::from(proto::Ownership::Adoptable) {
            return;
        }
        let Some(status) = entry.status.filter(|status| !status.session_id.is_empty()) else {
            tracing::warn!("an entry without a session in the listing");
            self.nameless = true;
            return;
        };
        let id = status.session_id.clone();
        let read = Observation::read(status).ok();
        if read.is_none() {
            tracing::warn!(session = id, "an unreadable entry in the listing");
        }
        self.entries.insert(id, read);
    }

    fn of(&self, id: &str) -> Sight<'_> {
        match self.entries.get(id) {
            Some(Some(observation)) => Sight::There(observation),
            Some(None) => Sight::NotSeen,
            None if self.nameless => Sight::NotSeen,
            None => Sight::Missing,
        }
    }
}

/// What was seen of all sessions.
enum Seen {
    /// Everything there is.
    All(Listing),
    /// Answers for single sessions; `None` = the backend says that it is not there.
    Some(HashMap<String, Option<Observation>>),
}

/// What was seen of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sight<'a> {
    There(&'a Observation),
    Missing,
    NotSeen,
}

impl Seen {
    fn of(&self, session: &Session) -> Sight<'_> {
        match self {
            Self::All(all) => all.of(session.id.as_str()),
            Self::Some(some) => match some.get(session.id.as_str()) {
                Some(Some(observation)) => Sight::There(observation),
                Some(None) => Sight::Missing,
                None => Sight::NotSeen,
            },
        }
    }
}

/// What a sight of a settled session changes, if anything.
fn change(record: &SessionRecord, sight: Sight<'_>, at: DateTime<Utc>) -> Option<ObservedChange> {
    let SessionRecord { session, operation } = record;
    let mut after = session.clone();
    match sight {
        Sight::NotSeen => return None,
        Sight::Missing => missing(&mut after, at),
        Sight::There(observation) => there(&mut after, operation, observation, at),
    }
    reachable(&mut after, at);
    let act = decide(&after, &settled_anew(operation), at) != Step::Rest;
    if after == *session && !act {
        return None;
    }
    Some(ObservedChange {
        session_id: after.id,
        operation_seen: operation.updated_at,
        session_seen: session.updated_at,
        phase: after.phase,
        node_id: (after.node_id != session.node_id).then_some(after.node_id),
        conditions: after.conditions,
        act,
    })
}

/// The operation as it would be if it began now: an old deadline says nothing about new work.
fn settled_anew(operation: &Operation) -> Operation {
    Operation { deadline: None, accepted: false, handle: Vec::new(), ..operation.clone() }
}

/// Who answers can be reached.
fn reachable(session: &mut Session, at: DateTime<Utc>) {
    let known = session.conditions.get(condition_type::CONTROLLER_REACHABLE);
    if known.is_some_and(|known| known.status != ConditionStatus::True) {
        session.conditions.set(Condition {
            kind: condition_type::CONTROLLER_REACHABLE.to_owned(),
            status: ConditionStatus::True,
            reason: "Answers".to_owned(),
            message: String::new(),
            since: at,
        });
    }
}

/// The backend has nothing under this id.
fn missing(session: &mut Session, at: DateTime<Utc>) {
    if matches!(session.wish, Wish::Gone { .. }) || matches!(session.phase, Phase::Failed | Phase::Terminated)
    {
        // That is as it should be, or as it is known.
        return;
    }
    session.phase = Phase::Pending;
    for (kind, reason, message) in [
        (condition_type::OBJECT_PRESENT, "Missing", "the backend does not have the session any more"),
        (condition_type::READY, "ObjectMissing", "the session is made again"),
    ] {
        session.conditions.set(Condition {
            kind: kind.to_owned(),
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: at,
        });
    }
}

fn there(session: &mut Session, operation: &Operation, seen: &Observation, at: DateTime<Utc>) {
    // A session that failed before its backend ever took it is not saved by an object of the same name. One that
    // was given up later is, if it got there after all; anything else would only be given up again, without end.
    let got_there = matches!(
        (session.wish, seen.phase),
        (Wish::State(WishedState::Running), Phase::Running)
            | (Wish::State(WishedState::Hibernated), Phase::Hibernated)
    );
    if session.phase != Phase::Failed || (operation.accepted && got_there) {
        ready(session, seen, at);
        session.phase = seen.phase;
    }
    if let Some(node_id) = &seen.node_id {
        session.node_id.clone_from(node_id);
    }
    if let Some(reported) = &seen.conditions {
        let reported = session.spec.scrub_conditions(reported.clone());
        session.conditions.replace_reported(reported);
    }
}

/// Says whether the session can be used, if that is news.
fn ready(session: &mut Session, seen: &Observation, at: DateTime<Utc>) {
    let Readiness { status, reason, message } = seen.readiness();
    let (reason, message) = (session.spec.scrub(&reason), session.spec.scrub(&message));
    // A backend that says nothing of its own takes nothing back of what was said when the session got there.
    let spoken = seen.own_ready().is_some();
    let news = match session.conditions.get(condition_type::READY) {
        Some(known) => {
            known.status != status || (spoken && (&known.reason, &known.message) != (&reason, &message))
        }
        None => spoken,
    };
    if news || session.phase != seen.phase {
        let kind = condition_type::READY.to_owned();
        session.conditions.set(Condition { kind, status, reason, message, since: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvVar, test_session};

    const RUN: Wish = Wish::State(WishedState::Running);

    fn record(wish: Wish, phase: Phase) -> SessionRecord {
        let session = test_session(wish, true, phase);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.next_attempt_at = None;
        operation.deadline = Some(now() - chrono::Duration::hours(1));
        SessionRecord { session, operation }
    }

    fn seen(phase: Phase) -> Observation {
        Observation { phase, node_id: Some("n".into()), conditions: None, message: String::new() }
    }

    #[test]
    fn nothing_new_changes_nothing() {
        let mut record = record(RUN, Phase::Running);
        record.session.node_id = "n".into();
        assert!(change(&record, Sight::There(&seen(Phase::Running)), now()).is_none());
        assert!(change(&record, Sight::NotSeen, now()).is_none());
    }

    #[test]
    fn a_missing_object_is_made_again() {
        let change = change(&record(RUN, Phase::Running), Sight::Missing, now()).unwrap();
        assert!(change.act);
        assert_eq!(change.phase, Phase::Pending);
        let present = change.conditions.get(condition_type::OBJECT_PRESENT).unwrap();
        assert_eq!(present.status, ConditionStatus::False);
    }

    #[test]
    fn a_controller_that_lists_can_be_reached() {
        let mut failed = record(RUN, Phase::Failed);
        failed.session.conditions.set(Condition {
            kind: condition_type::CONTROLLER_REACHABLE.to_owned(),
            status: ConditionStatus::False,
            reason: "Unavailable".to_owned(),
            message: String::new(),
            since: now(),
        });
        let change = change(&failed, Sight::Missing, now()).unwrap();
        assert!(!change.act);
        let reachable = change.conditions.get(condition_type::CONTROLLER_REACHABLE).unwrap();
        assert_eq!(reachable.status, ConditionStatus::True);
    }

    #[test]
    fn what_failed_or_goes_is_not_made_again() {
        assert!(change(&record(RUN, Phase::Failed), Sight::Missing, now()).is_none());
        // A deletion that came to rest on the way goes on, but nothing is made.
        let going = change(&record(Wish::Gone { purge_home: false }, Phase::Running), Sight::Missing, now());
        assert_eq!(going.map(|change| (change.phase, change.act)), Some((Phase::Running, true)));
        let ended = record(Wish::State(WishedState::Terminated), Phase::Terminated);
        assert!(change(&ended, Sight::Missing, now()).is_none());
    }

    #[test]
    fn one_that_was_stopped_by_hand_is_woken() {
        let change =
            change(&record(RUN, Phase::Running), Sight::There(&seen(Phase::Hibernated)), now()).unwrap();
        assert!(change.act);
        assert_eq!(change.phase, Phase::Hibernated);
    }

    #[test]
    fn a_refused_session_stays_failed() {
        let mut refused = record(RUN, Phase::Failed);
        refused.session.node_id = "n".into();
        assert!(change(&refused, Sight::There(&seen(Phase::Running)), now()).is_none());
        refused.operation.accepted = true;
        let change = change(&refused, Sight::There(&seen(Phase::Running)), now()).unwrap();
        assert_eq!((change.phase, change.act), (Phase::Running, false));
        // What is still on its way, or would have to be woken first, was given up for good.
        for phase in [Phase::Pending, Phase::Hibernated, Phase::Terminated, Phase::Failed] {
            assert!(super::change(&refused, Sight::There(&seen(phase)), now()).is_none(), "{phase:?}");
        }
    }

    fn says(status: ConditionStatus, reason: &str, message: &str) -> Observation {
        let condition = Condition {
            kind: condition_type::READY.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: now(),
        };
        Observation { conditions: Some(vec![condition]), ..seen(Phase::Running) }
    }

    #[test]
    fn a_health_check_shows_when_it_passes_and_when_it_fails() {
        let mut record = record(RUN, Phase::Running);
        record.session.spec.env.push(EnvVar { name: "P".into(), value: "hunter22".into(), secret: true });
        for (status, reason, message) in [
            (ConditionStatus::False, "HealthCheck", "no answer with hunter22"),
            (ConditionStatus::False, "HealthCheck", "status 500"),
            (ConditionStatus::False, "OutOfMemory", "status 500"),
            (ConditionStatus::True, "Healthy", ""),
        ] {
            let seen = says(status, reason, message);
            let change = change(&record, Sight::There(&seen), now()).unwrap();
            let ready = change.conditions.get(condition_type::READY).unwrap();
            assert_eq!((ready.status, ready.reason.as_str()), (status, reason));
            assert!(!ready.message.contains("hunter22") && !change.act);
            record.session.conditions = change.conditions;
            record.session.node_id = "n".into();
            assert!(super::change(&record, Sight::There(&seen), now()).is_none(), "no news");
        }
        // One that says nothing takes nothing back.
        assert!(change(&record, Sight::There(&seen(Phase::Running)), now()).is_none());
    }

    #[test]
    fn reported_conditions_are_scrubbed() {
        let mut record = record(RUN, Phase::Running);
        record.session.spec.env.push(EnvVar { name: "P".into(), value: "hunter22".into(), secret: true });
        let mut seen = says(ConditionStatus::True, "Healthy", "");
        seen.conditions.as_mut().unwrap().push(Condition {
            kind: "Started".to_owned(),
            status: ConditionStatus::True,
            reason: "hunter22".to_owned(),
            message: "with P=hunter22".to_owned(),
            since: now(),
        });
        let change = change(&record, Sight::There(&seen), now()).unwrap();
        assert!(change.conditions.get("Started").is_some());
        assert!(!format!("{:?}", change.conditions).contains("hunter22"));
    }

    #[test]
    fn an_unreadable_entry_makes_nobody_missing() {
        let entry = |id: &str, phase: &str| proto::SessionEntry {
            status: Some(proto::SessionStatusResponse {
                session_id: id.into(),
                phase: phase.into(),
                ..Default::default()
            }),
            ownership: proto::Ownership::Owned.into(),
            ..Default::default()
        };
        let mut listing = Listing::default();
        listing.add(entry("a", "Running"));
        listing.add(entry("b", "Melting"));
        assert!(matches!(listing.of("a"), Sight::There(_)));
        assert_eq!((listing.of("b"), listing.of("c")), (Sight::NotSeen, Sight::Missing));
        let adoptable = proto::Ownership::Adoptable.into();
        listing.add(proto::SessionEntry { ownership: adoptable, ..Default::default() });
        assert_eq!(listing.of("c"), Sight::Missing);
        listing.add(proto::SessionEntry { status: None, ..entry("", "") });
        assert!(matches!(listing.of("a"), Sight::There(_)));
        assert_eq!(listing.of("c"), Sight::NotSeen);
    }
}
