//! Objects at a backend that belong to no session.
//!
//! Only what the controller itself marks as its own is looked at. What bears the id of a deleted session is removed:
//! somebody brought it back. What bears an id that nobody knows is left alone and reported.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use streamspace_proto::controller::v1 as proto;
use tokio::time::Instant;
use tonic::Code;

use super::listing::Seen;
use super::{Observer, most_at_once};
use crate::domain::{ControllerId, OperationId, SessionId, shortened};
use crate::fleet::{CallError, ControllerClient, Progress, Reply};
use crate::store::{Glance, StoreError};

/// Between two steps of a removal, if the controller does not say.
const PAUSE: Duration = Duration::from_millis(500);

impl Observer {
    /// Sees to what a complete listing shows and no session explains.
    pub(super) async fn strays(
        &self,
        controller: &ControllerId,
        client: &ControllerClient,
        seen: &Seen,
        known: &[Glance],
        begun: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        // Nearly everything belongs to a session that was just read.
        let ids: HashSet<&str> = known.iter().map(|glance| glance.id.as_str()).collect();
        let known = known.len();
        let owned: Vec<String> = seen.owned().filter(|id| !ids.contains(id)).map(str::to_owned).collect();
        let strays = if owned.is_empty() { Vec::new() } else { self.store.without_session(owned).await? };
        // A session that was deleted while the listing was made may still stand in it.
        let (buried, rest): (Vec<_>, Vec<_>) =
            strays.into_iter().partition(|stray| stray.deleted_at.is_some());
        let buried: Vec<_> =
            buried.into_iter().filter(|stray| stray.deleted_at.is_some_and(|at| at < begun)).collect();

        let before = {
            let mut oddities = self.oddities();
            std::mem::replace(&mut oddities.entry(controller.clone()).or_default().strays, rest.len())
        };
        if rest.len() != before {
            let example = rest.first().map(|stray| shortened(&stray.id));
            tracing::warn!(
                count = rest.len(),
                before,
                example,
                "objects of unknown sessions; they are left alone"
            );
        }
        if buried.len() > most_at_once(known) {
            let count = buried.len();
            tracing::error!(count, known, "unexpectedly many deleted sessions are back; nothing is removed");
            return Ok(());
        }
        let deadline = Instant::now() + self.limit;
        for stray in buried {
            self.bury(client, &stray.id, deadline).await;
        }
        Ok(())
    }

    /// Removes what is there of a deleted session, once the controller has confirmed that it is its own.
    pub(super) async fn exhume(&self, client: &ControllerClient, id: &SessionId) -> Result<(), StoreError> {
        let stray = self.store.without_session(vec![id.to_string()]).await?.pop();
        if stray.is_none_or(|stray| stray.deleted_at.is_none()) {
            return Ok(());
        }
        let request = proto::GetSessionRequest { session_id: id.to_string(), node_id: String::new() };
        match client.get(request, self.call_timeout).await {
            Ok(found) if found.ownership() == proto::Ownership::Owned => {
                self.bury(client, id.as_str(), Instant::now() + self.limit).await;
            }
            Ok(_) => {}
            Err(error) if error.code == Code::NotFound => {}
            Err(error) => {
                tracing::debug!(session = %id, reason = error.reason, "a deleted session is not known")
            }
        }
        Ok(())
    }

    /// Deletes by id, step by step. What does not come to an end now is found again by the next listing.
    async fn bury(&self, client: &ControllerClient, id: &str, deadline: Instant) {
        let operation_id = OperationId::generate().as_str().to_owned();
        let mut handle = Vec::new();
        tracing::warn!(session = id, "an object of a deleted session is removed");
        while Instant::now() < deadline {
            let request = proto::DeleteSessionRequest {
                session_id: id.to_owned(),
                epoch: client.epoch().get(),
                operation_id: operation_id.clone(),
                handle: std::mem::take(&mut handle),
                ..Default::default()
            };
            let reply = client.delete(request, self.call_timeout).await.and_then(Reply::deleted);
            match reply {
                Ok(Reply::InProgress(Progress { handle: next, poll_after, .. })) => {
                    handle = next;
                    tokio::time::sleep(poll_after.unwrap_or(PAUSE)).await;
                }
                Ok(Reply::Gone | Reply::Stands(_)) => return,
                Ok(Reply::NotGone(message)) => return not_removed(id, "NotGone", &message),
                Err(CallError { reason, message, .. }) => return not_removed(id, &reason, &message),
            }
        }
    }
}

fn not_removed(id: &str, reason: &str, message: &str) {
    let (reason, message) = (shortened(reason), shortened(message));
    tracing::warn!(session = id, reason, message, "an object of a deleted session was not removed");
}
