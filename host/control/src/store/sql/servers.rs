//! The servers that use the database, and who of them drives which controller.
//!
//! A server is alive as long as its row is there. Whoever finds a lease over removes the row, and in the same transaction
//! makes void what that server had claimed: nothing else has to ask whether a claim's owner lives. A renewal that comes
//! at the same time waits for the row, and finds it gone.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{Connection, dialect};
use crate::domain::{ControllerId, Epoch, ServerKey};
use crate::store::{ClaimRequest, StoreError, Succession};

/// Takes a place. Places of the same instance belong to processes that are no more, or that lost them.
pub(super) async fn enter(
    db: &mut Connection,
    server: String,
    lease: std::time::Duration,
) -> Result<(), StoreError> {
    let instance = server.split('/').next().unwrap_or_default();
    let at = dialect::present(db).await?;
    let until = chrono::Duration::from_std(lease).unwrap_or(chrono::Duration::seconds(3));
    // Nobody else is where only one process can be.
    sqlx::query("DELETE FROM servers WHERE instance = $1 OR $2")
        .bind(instance)
        .bind(!dialect::SHARED)
        .execute(&mut *db)
        .await?;
    release(db).await?;
    sqlx::query(
        "INSERT INTO servers (id, instance, started_at, renewed_at, lease_until) VALUES ($1, $2, $3, $3, $4)",
    )
    .bind(&server)
    .bind(instance)
    .bind(at)
    .bind(dialect::SHARED.then_some(at + until))
    .execute(db)
    .await?;
    Ok(())
}

/// Says with which key the calls of a server are signed, for as long as it has its place.
pub(super) async fn publish_key(
    db: &mut Connection,
    server: String,
    key: ServerKey,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO server_keys (kid, server, public_key) VALUES ($1, $2, $3) \
         ON CONFLICT (kid) DO UPDATE SET server = excluded.server",
    )
    .bind(key.kid)
    .bind(server)
    .bind(key.public_key)
    .execute(db)
    .await?;
    Ok(())
}

/// The keys of all servers that have a place.
pub(super) async fn keys(db: &mut Connection) -> Result<Vec<ServerKey>, StoreError> {
    let keys: Vec<(String, String)> =
        sqlx::query_as("SELECT kid, public_key FROM server_keys ORDER BY kid").fetch_all(db).await?;
    Ok(keys.into_iter().map(|(kid, public_key)| ServerKey { kid, public_key }).collect())
}

/// Gives up a place, so that others go on at once.
pub(super) async fn leave(db: &mut Connection, server: String) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM servers WHERE id = $1").bind(server).execute(&mut *db).await?;
    release(db).await
}

/// Frees what belongs to places that are gone. It was begun before everything that waits, and is as urgent as the most
/// urgent of that; how long nobody was there to end it is made up for by the next claim.
async fn release(db: &mut Connection) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    sqlx::query(
        "UPDATE operations SET lease_owner = NULL, lease_expires_at = NULL, next_attempt_at = coalesce( \
          (SELECT min(waiting.next_attempt_at) FROM operations waiting WHERE waiting.queue = operations.queue \
           AND waiting.lane = operations.lane AND waiting.lease_owner IS NULL \
           AND waiting.next_attempt_at <= $1), next_attempt_at) \
         WHERE lease_owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = operations.lease_owner)",
    )
    .bind(at)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE controllers SET active_server = NULL WHERE active_server IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = controllers.active_server)",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether a place is still held. Where one process has the database to itself nobody takes it away.
async fn is_there(db: &mut Connection, server: &str) -> Result<bool, StoreError> {
    if !dialect::SHARED {
        return Ok(true);
    }
    let there = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM servers WHERE id = $1)");
    Ok(there.bind(server).fetch_one(db).await?)
}

/// Ends the places of servers whose leases are over, and takes over those of the controllers that nobody drives.
pub(super) async fn take_over(
    db: &mut Connection,
    server: String,
    controllers: Vec<ControllerId>,
) -> Result<Succession, StoreError> {
    let at = dialect::present(db).await?;
    let ended: Vec<String> = sqlx::query_scalar("DELETE FROM servers WHERE lease_until <= $1 RETURNING id")
        .bind(at)
        .fetch_all(&mut *db)
        .await?;
    if !ended.is_empty() {
        release(db).await?;
    }
    let mut taken = Vec::new();
    if is_there(db, &server).await? {
        for id in controllers {
            let epoch: Option<i64> = sqlx::query_scalar(
                "UPDATE controllers SET active_server = $2, epoch = epoch + 1 \
                 WHERE id = $1 AND active_server IS NULL RETURNING epoch",
            )
            .bind(id.as_str())
            .bind(&server)
            .fetch_optional(&mut *db)
            .await?;
            taken.extend(epoch.map(|epoch| (id, Epoch::from_db(epoch))));
        }
    }
    Ok(Succession { ended, taken })
}

/// Takes over a controller that nobody else drives; also one's own, so that what was begun before is refused.
pub(super) async fn take_over_controller(
    db: &mut Connection,
    server: String,
    id: ControllerId,
) -> Result<Option<Epoch>, StoreError> {
    if !is_there(db, &server).await? {
        return Ok(None);
    }
    let epoch: Option<i64> = sqlx::query_scalar(
        "UPDATE controllers SET active_server = $2, epoch = epoch + 1 \
         WHERE id = $1 AND (active_server IS NULL OR active_server = $2) RETURNING epoch",
    )
    .bind(id.as_str())
    .bind(server)
    .fetch_optional(db)
    .await?;
    Ok(epoch.map(Epoch::from_db))
}

/// The controllers that a server drives, with their epochs; none, if it has lost its place. From a request for work go the
/// queues of controllers that another server drives.
pub(super) async fn in_charge(
    db: &mut Connection,
    request: &mut ClaimRequest,
) -> Result<Option<HashMap<ControllerId, Epoch>>, StoreError> {
    if !is_there(db, &request.owner).await? {
        return Ok(None);
    }
    let rows = sqlx::query(
        "SELECT id, epoch, active_server FROM controllers WHERE active_server IS NULL OR active_server = $1",
    )
    .bind(&request.owner)
    .fetch_all(db)
    .await?;
    let (mut free, mut own) = (Vec::new(), HashMap::new());
    for row in rows {
        let id: String = row.try_get("id")?;
        let Ok(id) = ControllerId::parse(&id) else { continue };
        match row.try_get::<Option<String>, _>("active_server")? {
            Some(_) => drop(own.insert(id, Epoch::from_db(row.try_get("epoch")?))),
            None => free.push(id),
        }
    }
    request.queues.retain(|queue| match &queue.controller {
        Some(id) => own.contains_key(id) || free.contains(id),
        None => true,
    });
    Ok(Some(own))
}
