//! What the database says, past all servers.

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};

use crate::stage::MAIN;

/// What a server had claimed, or would have next.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) session: String,
    epoch: i64,
}

/// A connection of the judge's own.
pub(super) struct Database(PgConnection);

impl Database {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(PgConnection::connect(url).await?))
    }

    /// The place of the server that drives the controller of the load.
    pub(super) async fn driving(&mut self) -> Result<Option<String>> {
        let place = sqlx::query_scalar("SELECT active_server FROM controllers WHERE name = $1");
        Ok(place.bind(MAIN).fetch_optional(&mut self.0).await?.flatten())
    }

    /// What is claimed from a place, or due at a controller that is driven from there.
    pub(super) async fn claims_of(&mut self, place: &str) -> Result<Vec<Claim>> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT session_id, epoch FROM operations WHERE lease_owner = $1 OR (lease_owner IS NULL \
                 AND next_attempt_at <= clock_timestamp() \
                 AND queue IN (SELECT id FROM controllers WHERE active_server = $1))",
        )
        .bind(place)
        .fetch_all(&mut self.0)
        .await?;
        Ok(rows.into_iter().map(|(session, epoch)| Claim { session, epoch }).collect())
    }

    /// The first of the claims that somebody else has taken over and recorded a step of.
    pub(super) async fn first_taken_over(&mut self, claims: &[Claim]) -> Result<Option<String>> {
        let sessions: Vec<_> = claims.iter().map(|claim| claim.session.as_str()).collect();
        let rows: Vec<(String, i64, bool)> = sqlx::query_as(
            "SELECT session_id, epoch, lease_owner IS NOT NULL FROM operations WHERE session_id = ANY($1)",
        )
        .bind(&sessions)
        .fetch_all(&mut self.0)
        .await?;
        let taken = claims.iter().find(|claim| {
            match rows.iter().find(|(session, ..)| *session == claim.session) {
                // One more claim that is not held any more, or another one after it.
                Some((_, epoch, held)) => *epoch > claim.epoch + i64::from(*held),
                // Its session is gone.
                None => true,
            }
        });
        Ok(taken.map(|claim| claim.session.clone()))
    }

    /// All events behind a place that are still kept, in order.
    pub(super) async fn events_after(&mut self, after: i64) -> Result<Vec<i64>> {
        let ids = sqlx::query_scalar("SELECT id FROM events WHERE id > $1 ORDER BY id");
        Ok(ids.bind(after).fetch_all(&mut self.0).await?)
    }
}
