//! All controllers, as placement needs them, without reading all of them each time.
//!
//! The database numbers every change that placement goes by (see the table `fleet`). The writer remembers the controllers
//! as they were at one of these numbers and reads those that changed since, within the transaction that stores the
//! choice: so other servers' changes count as much as one's own. What was read in a transaction that was rolled back is
//! forgotten, because its numbers are given again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Row as _;

use super::rows::controller_row;
use super::{Connection, Row, controllers};
use crate::domain::Controller;
use crate::store::{PlacementDecision, Placer, StoreError};

/// What the writer remembers of all controllers.
pub(super) struct Roster {
    known: Mutex<Known>,
    /// How often something was rolled back, as the writer counts it.
    rollbacks: Arc<AtomicU64>,
}

#[derive(Default)]
struct Known {
    /// Absent = nothing is remembered.
    revision: Option<i64>,
    /// What had been rolled back by then.
    rollbacks: u64,
    /// Oldest first.
    controllers: Vec<Controller>,
}

/// Always one row at least: the numbers, and beside them a controller that changed since, or nothing.
const CHANGED: &str = "SELECT f.revision AS fleet_revision, f.removed AS fleet_removed, f.overcommit_cpu, f.overcommit_memory, \
     f.overcommit_storage, c.* \
     FROM fleet f LEFT JOIN controllers c ON c.revision > $1";

impl Roster {
    pub(super) fn new(rollbacks: Arc<AtomicU64>) -> Self {
        Self { known: Mutex::default(), rollbacks }
    }

    /// Lets somebody choose among the controllers as they are now. Within a transaction of the writer only.
    pub(super) async fn choose(
        &self,
        db: &mut Connection,
        placer: &dyn Placer,
    ) -> Result<PlacementDecision, StoreError> {
        self.refresh(db).await?;
        Ok(placer.place(&self.lock().controllers))
    }

    async fn refresh(&self, db: &mut Connection) -> Result<(), StoreError> {
        let rollbacks = self.rollbacks.load(Ordering::Acquire);
        let since = {
            let known = self.lock();
            known.revision.filter(|_| known.rollbacks == rollbacks)
        };
        // Nothing is greater: then only the numbers are read here.
        let rows = sqlx::query(CHANGED).bind(since.unwrap_or(i64::MAX)).fetch_all(&mut *db).await?;
        let Some(first) = rows.first() else {
            return Err(StoreError::Corrupt { table: "fleet", message: "it has no row".to_owned() });
        };
        let (revision, removed): (i64, i64) =
            (first.try_get("fleet_revision")?, first.try_get("fleet_removed")?);
        let all = match since {
            Some(since) if since >= removed && since <= revision => None,
            _ => Some(controllers::all(db).await?),
        };
        let mut known = self.lock();
        match all {
            Some(all) => known.controllers = all,
            None => {
                for row in &rows {
                    known.take(row)?;
                }
            }
        }
        (known.revision, known.rollbacks) = (Some(revision), rollbacks);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A controller as it is now.
    fn take(&mut self, row: &Row) -> Result<(), StoreError> {
        let Some(id) = row.try_get::<Option<String>, _>("id")? else { return Ok(()) };
        let place = self.controllers.iter().position(|known| known.id.as_str() == id);
        match (controller_row(row), place) {
            (Ok(controller), Some(place)) => {
                if let Some(known) = self.controllers.get_mut(place) {
                    *known = controller;
                }
            }
            (Ok(controller), None) => {
                let before = |known: &Controller| {
                    (known.created_at, &known.id) < (controller.created_at, &controller.id)
                };
                let place = self.controllers.partition_point(before);
                self.controllers.insert(place, controller);
            }
            // One that cannot be read is left out: it must not take the others with it.
            (Err(error), place) => {
                tracing::error!(%error, "a controller is left out");
                if let Some(place) = place {
                    self.controllers.remove(place);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
