//! Registration of remote controllers: who may, and under which token they come from then on.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, audit, dialect, instances, join_tokens};
use crate::domain::{Action, Actor, ControllerId, Deed, Epoch, Place};
use crate::store::{Credential, Enrolled, Enrollment, EnrollmentRefusal, OwnToken, Registered, StoreError};

/// What a token is, if it is good.
pub(super) async fn credential(
    db: &mut Connection,
    token_hash: &str,
) -> Result<Option<Credential>, StoreError> {
    let at = dialect::present(db).await?;
    if let Some(token) = join_tokens::with_hash(db, token_hash, at).await? {
        return Ok(Some(Credential::Join(token)));
    }
    let row = sqlx::query(
        "SELECT controller_id, instance, token_hash, expires_at, previous_expires_at FROM controller_tokens \
         WHERE (token_hash = $1 AND expires_at > $2) OR (previous_token_hash = $1 AND previous_expires_at > $2)",
    )
    .bind(token_hash)
    .bind(at)
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("controller_id")?;
    // A name that cannot be read is no controller's.
    let Ok(controller_id) = ControllerId::parse(&id) else { return Ok(None) };
    let replaced = row.try_get::<String, _>("token_hash")? != token_hash;
    let expires_at = row.try_get(if replaced { "previous_expires_at" } else { "expires_at" })?;
    let instance = row.try_get("instance")?;
    Ok(Some(Credential::Own(OwnToken { controller_id, instance, expires_at, replaced })))
}

/// A controller that is known.
struct Known {
    id: ControllerId,
    remote: bool,
    /// A server drives it.
    driven: bool,
}

async fn known(db: &mut Connection, kind: &str, name: &str) -> Result<Option<Known>, StoreError> {
    let row = sqlx::query("SELECT id, remote, active_server FROM controllers WHERE type = $1 AND name = $2")
        .bind(kind)
        .bind(name)
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    let id = ControllerId::parse(&id)
        .map_err(|error| StoreError::Corrupt { table: "controllers", message: error.to_string() })?;
    let driven = row.try_get::<Option<String>, _>("active_server")?.is_some();
    Ok(Some(Known { id, remote: row.try_get("remote")?, driven }))
}

/// Whether somebody with this credential may register the controller.
fn judge(
    credential: &Credential,
    known: Option<&Known>,
    kind: &str,
    name: &str,
) -> Result<(), EnrollmentRefusal> {
    match credential {
        Credential::Join(token) if !token.lets_in(kind, name) => return Err(EnrollmentRefusal::NotLetIn),
        Credential::Own(own) if known.is_none_or(|known| known.id != own.controller_id) => {
            return Err(EnrollmentRefusal::Another);
        }
        Credential::Join(_) | Credential::Own(_) => {}
    }
    let Some(known) = known.filter(|known| !known.remote) else { return Ok(()) };
    // What was part of a server and is not any more may go on elsewhere, if an administrator meant this very one.
    let meant = matches!(credential, Credential::Join(token) if token.is_for_one());
    if known.driven || !meant { Err(EnrollmentRefusal::Embedded) } else { Ok(()) }
}

/// Registers a process of a controller, or finds out why not.
pub(super) async fn enroll(db: &mut Connection, new: Enrollment) -> Result<Enrolled, StoreError> {
    let refused = |why| Ok(Enrolled::Refused(why));
    let at = dialect::present(db).await?;
    let Some(credential) = credential(db, &new.credential_hash).await? else {
        return refused(EnrollmentRefusal::Token);
    };
    let known = known(db, &new.registration.controller_type, &new.registration.name).await?;
    let judged =
        judge(&credential, known.as_ref(), &new.registration.controller_type, &new.registration.name);
    if let Err(why) = judged {
        return refused(why);
    }
    let id = match known {
        Some(Known { id, .. }) => {
            if !instances::make_room(db, &id, &new.instance, at).await? {
                return refused(EnrollmentRefusal::TooMany);
            }
            id
        }
        None => ControllerId::generate(),
    };
    store_controller(db, &id, &new, at).await?;

    let join_token = match &credential {
        Credential::Join(token) => {
            join_tokens::used(db, &token.id, at).await?;
            Some((token.id.clone(), token.name.clone()))
        }
        Credential::Own(_) => None,
    };
    let by = Actor::Controller { id: Some(id.clone()), join_token, request_id: new.request_id.clone() };
    let token_expires_at = renew_token(db, &id, &new, &credential, at).await?;
    let details = json!({
        "type": new.registration.controller_type,
        "name": new.registration.name,
        "endpoint": new.registration.endpoint,
        "labels": new.registration.labels,
        "instance": new.instance,
    });
    audit::record(db, at, &by, Deed::to_controller(Action::ControllerRegister, &id).with(details)).await?;
    let place = Place { instance: new.instance, endpoint: new.registration.endpoint.clone(), ca: new.ca };
    let lease_until = instances::until(at, new.lease);
    let role = instances::settle(db, &by, &id, &place, at, lease_until).await?;
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM controllers WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(db)
        .await?;
    Ok(Enrolled::Registered(Registered { id, epoch: Epoch::from_db(epoch), role, token_expires_at }))
}

/// Its address is that of the process that is called, and what it can do is asked of it: here are only the first words.
async fn store_controller(
    db: &mut Connection,
    id: &ControllerId,
    new: &Enrollment,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO controllers (id, type, name, labels, capabilities, remote, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, TRUE, $6, $6) \
         ON CONFLICT (type, name) DO UPDATE SET labels = excluded.labels, remote = TRUE, \
         capabilities = coalesce(controllers.capabilities, excluded.capabilities), \
         updated_at = excluded.updated_at",
    )
    .bind(id.as_str())
    .bind(&new.registration.controller_type)
    .bind(&new.registration.name)
    .bind(Json(&new.registration.labels))
    .bind(Json(&new.capabilities))
    .bind(at)
    .execute(db)
    .await?;
    Ok(())
}

/// Stores a process's new token, and lets the one before it be good for a while: an answer may be lost on its way.
async fn renew_token(
    db: &mut Connection,
    id: &ControllerId,
    new: &Enrollment,
    credential: &Credential,
    at: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let overlap = instances::until(at, new.token_overlap);
    let mut previous = None;
    if let Credential::Own(own) = credential {
        let good_until = own.expires_at.min(overlap);
        if own.instance == new.instance {
            previous = Some((new.credential_hash.clone(), good_until));
        } else if !own.replaced {
            // It has been handed on.
            sqlx::query("UPDATE controller_tokens SET expires_at = $2 WHERE token_hash = $1")
                .bind(&new.credential_hash)
                .bind(good_until)
                .execute(&mut *db)
                .await?;
        }
    }
    if previous.is_none() {
        previous = sqlx::query_as::<_, (String, DateTime<Utc>)>(
            "SELECT token_hash, expires_at FROM controller_tokens \
             WHERE controller_id = $1 AND instance = $2 AND expires_at > $3",
        )
        .bind(id.as_str())
        .bind(&new.instance)
        .bind(at)
        .fetch_optional(&mut *db)
        .await?
        .map(|(hash, expires_at)| (hash, expires_at.min(overlap)));
    }
    let (previous_hash, previous_expires_at) = previous.unzip();
    let expires_at = instances::until(at, new.token_life);
    sqlx::query(
        "INSERT INTO controller_tokens (controller_id, instance, token_hash, expires_at, previous_token_hash, \
         previous_expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (controller_id, instance) DO UPDATE SET token_hash = excluded.token_hash, \
         expires_at = excluded.expires_at, previous_token_hash = excluded.previous_token_hash, \
         previous_expires_at = excluded.previous_expires_at, created_at = excluded.created_at",
    )
    .bind(id.as_str())
    .bind(&new.instance)
    .bind(&new.token_hash)
    .bind(expires_at)
    .bind(previous_hash)
    .bind(previous_expires_at)
    .bind(at)
    .execute(db)
    .await?;
    Ok(expires_at)
}
