//! Objects at a backend that no session explains: they are recorded, and what is not wanted is removed.
//!
//! Only what the controller itself says it made is ever removed, and it is asked by name right before.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream;
use serde_json::json;
use streamspace_proto::controller::v1 as proto;
use tokio::time::Instant;
use tonic::Code;

use super::collect::{Plan, Removal, Situation, Unexplained, most_at_once};
use super::listing::Seen;
use super::{Observer, SINGLE_CALLS};
use crate::domain::{
    Action, Actor, ControllerId, Deed, DriftAlarm, DriftState, OperationId, Rule, SessionId, shortened,
};
use crate::fleet::{CallError, ControllerClient, Progress, Reply};
use crate::store::{Glance, StoreError, Stray};

/// Between two steps of a removal, if the controller does not say.
const PAUSE: Duration = Duration::from_millis(500);

/// What a pass over a controller found besides its listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// When it began.
    pub(super) begun: DateTime<Utc>,
    /// Sessions that are placed there.
    pub(super) placed: usize,
    /// Those of them that the listing misses.
    pub(super) lost: usize,
}

impl Observer {
    /// Sees to what a complete listing shows and no session explains.
    pub(super) async fn strays(
        &self,
        controller: &ControllerId,
        client: &ControllerClient,
        seen: &Seen,
        known: &[Glance],
        pass: Pass,
    ) -> Result<(), StoreError> {
        // Nearly everything belongs to a session that was just read.
        let ids: HashSet<&str> = known.iter().map(|glance| glance.id.as_str()).collect();
        let Some(others) = seen.others(&ids) else { return Ok(()) };
        let entries = self.store.drift_of(controller).await?;
        let named = others.iter().map(|object| object.session_id.clone()).filter(|id| !id.is_empty());
        let named: Vec<String> = named.collect();
        let strays =
            if named.is_empty() { Vec::new() } else { self.store.unexplained(controller, named).await? };
        let mut strays: HashMap<String, Stray> =
            strays.into_iter().map(|stray| (stray.id.clone(), stray)).collect();
        let objects = others.into_iter().filter_map(|object| {
            if object.session_id.is_empty() {
                return Some(Unexplained { object, deleted_at: None, elsewhere: false });
            }
            let Stray { deleted_at, elsewhere, .. } = strays.remove(&object.session_id)?;
            Some(Unexplained { object, deleted_at, elsewhere })
        });
        let objects: Vec<_> = objects.collect();
        let (count, example) =
            (objects.len(), objects.first().map(|found| shortened(&found.object.session_id)));
        let Pass { begun, placed, lost } = pass;
        let situation =
            Situation { objects, entries, placed, lost, begun, now: begun, grace: self.drift_grace };
        let Plan { report, removals } = situation.plan();

        let unasked = removals.iter().filter(|removal| removal.asked.is_none()).count();
        let (before, told) = {
            let mut oddities = self.oddities();
            let oddities = oddities.entry(controller.clone()).or_default();
            oddities.removed_since = unasked;
            let told = oddities.alarm.replace(report.alarm);
            (std::mem::replace(&mut oddities.strays, count), told)
        };
        if count != before {
            tracing::warn!(count, before, example, "objects that no session explains");
        }
        if let Some(DriftAlarm { kind, objects, placed }) = report.alarm {
            let kind = kind.as_str();
            tracing::error!(kind, objects, placed, "the listing is not believed; nothing is removed unasked");
        }
        let news = told != Some(report.alarm)
            || !(report.seen.is_empty() && report.gone.is_empty() && report.buried.is_empty());
        if news {
            self.store.record_drift(controller, report, self.keep_tombstones).await?;
        }
        self.remove_all(controller, client, removals).await
    }

    async fn remove_all(
        &self,
        controller: &ControllerId,
        client: &ControllerClient,
        removals: Vec<Removal>,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.limit;
        // Owned questions: a stream of borrowing futures cannot move between threads.
        let calls: Vec<_> = removals
            .into_iter()
            .map(|removal| removed(client.clone(), removal, self.call_timeout, deadline))
            .collect();
        let outcomes: Vec<_> = stream::iter(calls).buffer_unordered(SINGLE_CALLS).collect().await;
        for (Removal { session_id, asked }, outcome) in outcomes {
            if let Err(message) = &outcome {
                tracing::warn!(session = session_id, message, "an object that is not wanted was not removed");
            }
            match (asked, outcome) {
                (Some(entry), outcome) => self.store.drift_removed(&entry, outcome).await?,
                (None, Ok(())) => self.note_removal(controller, &session_id).await?,
                (None, Err(_)) => {}
            }
        }
        Ok(())
    }

    /// What nobody asked for in person is in the log of who did what as well.
    async fn note_removal(&self, controller: &ControllerId, session_id: &str) -> Result<(), StoreError> {
        tracing::warn!(session = session_id, "an object that no session explains was removed");
        let deed = Deed::new(Action::DriftDelete, "session", session_id);
        let deed = deed.with(json!({ "controller_id": controller }));
        self.store.record_audit(Actor::System(Rule::Drift), vec![deed]).await
    }

    /// Sees to what an event told of and is no session: removes it, if it is of a deleted one, and has everything listed
    /// again, if it is of an unknown one.
    pub(super) async fn exhume(
        &self,
        controller: &ControllerId,
        client: &ControllerClient,
        id: &SessionId,
    ) -> Result<(), StoreError> {
        let Some(stray) = self.store.unexplained(controller, vec![id.to_string()]).await?.pop() else {
            return Ok(());
        };
        let entries = self.store.drift_of(controller).await?;
        let entry = entries.iter().find(|entry| entry.object.session_id == id.as_str());
        match (stray.deleted_at, entry.map(|entry| entry.state)) {
            (_, Some(DriftState::Ignored)) | (None, Some(_)) => {}
            (Some(_), _) if self.may_be_removed(controller) => {
                let removal = Removal { session_id: id.to_string(), asked: None };
                self.remove_all(controller, client, vec![removal]).await?;
            }
            // Many one by one are as many as many at once; and what is there, a listing tells.
            (Some(_), _) | (None, None) => self.asked.put(controller.clone()),
        }
        Ok(())
    }

    /// Whether one more object may be removed unasked before everything is listed again.
    fn may_be_removed(&self, id: &ControllerId) -> bool {
        let mut oddities = self.oddities();
        let oddities = oddities.entry(id.clone()).or_default();
        let believed = oddities.alarm.flatten().is_none();
        let may = believed && oddities.removed_since < most_at_once(oddities.placed);
        oddities.removed_since += usize::from(may);
        may
    }
}

/// Removes one object by its id, step by step, once the controller has confirmed that it made it. What does not come to
/// an end now is found again by the next listing.
async fn removed(
    client: ControllerClient,
    removal: Removal,
    timeout: Duration,
    deadline: Instant,
) -> (Removal, Result<(), String>) {
    let outcome = match confirmed(&client, &removal.session_id, timeout).await {
        Ok(true) => deleted(&client, &removal.session_id, timeout, deadline).await,
        Ok(false) => Ok(()),
        Err(message) => Err(message),
    };
    (removal, outcome)
}

/// Whether there is such an object and the controller made it; why it cannot be removed, if there is and it did not.
async fn confirmed(client: &ControllerClient, id: &str, timeout: Duration) -> Result<bool, String> {
    let request = proto::GetSessionRequest { session_id: id.to_owned(), node_id: String::new() };
    match client.get(request, timeout).await {
        Ok(found) if found.ownership() == proto::Ownership::Owned => Ok(true),
        Ok(_) => Err("the controller does not say that it made it".to_owned()),
        Err(error) if error.code == Code::NotFound && error.from_controller => Ok(false),
        Err(error) => Err(told(&error)),
    }
}

async fn deleted(
    client: &ControllerClient,
    id: &str,
    timeout: Duration,
    deadline: Instant,
) -> Result<(), String> {
    let operation_id = OperationId::generate().as_str().to_owned();
    let mut handle = Vec::new();
    while Instant::now() < deadline {
        let request = proto::DeleteSessionRequest {
            session_id: id.to_owned(),
            epoch: client.epoch().get(),
            operation_id: operation_id.clone(),
            handle: std::mem::take(&mut handle),
            ..Default::default()
        };
        match client.delete(request, timeout).await.and_then(Reply::deleted) {
            Ok(Reply::InProgress(Progress { handle: next, poll_after, .. })) => {
                handle = next;
                tokio::time::sleep(poll_after.unwrap_or(PAUSE)).await;
            }
            Ok(Reply::Gone | Reply::Stands(_)) => return Ok(()),
            Ok(Reply::NotGone(message)) => return Err(shortened(&message)),
            Err(error) => return Err(told(&error)),
        }
    }
    Err("it takes long and goes on".to_owned())
}

fn told(error: &CallError) -> String {
    shortened(&format!("{}: {}", error.reason, error.message))
}
