//! Registration of remote controllers: who may, and under which token they come from then on.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, audit, dialect, instances, join_tokens};
use crate::domain::{Action, Actor, ControllerId, Deed, Epoch, InstanceRole, Place};
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
         WHERE (token_hash = $1 AND expires_at > $2) OR (previous_token_hash = $1 AND previous_expires_at > $2) \
         ORDER BY CASE WHEN token_hash = $1 THEN 0 ELSE 1 END LIMIT 1",
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
    let Some(known) = known else { return Ok(()) };
    let meant = match credential {
        Credential::Join(token) => token.is_for_one(),
        Credential::Own(_) => known.remote,
    };
    match known.remote {
        // Whoever is to let new ones in must not be able to become one that is there.
        true if !meant => Err(EnrollmentRefusal::Known),
        // What was part of a server and is not any more may go on elsewhere, if an administrator meant this very one.
        false if known.driven || !meant => Err(EnrollmentRefusal::Embedded),
        _ => Ok(()),
    }
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
    let place = Place {
        instance: new.instance.clone(),
        endpoint: new.registration.endpoint.clone(),
        ca: new.ca.clone(),
    };
    let id = match known {
        Some(Known { id, .. }) => {
            // With its own token it is the active one itself that has moved. Anybody else waits until that one is silent.
            let itself = matches!(&credential, Credential::Own(own) if own.instance == new.instance);
            if !itself && instances::is_elsewhere(db, &id, &place, at).await? {
                return refused(EnrollmentRefusal::Elsewhere);
            }
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
    let lease_until = instances::until(at, new.lease);
    let role = instances::settle(db, &by, &id, &place, &new.registration.labels, (at, lease_until)).await?;
    if role == InstanceRole::Active {
        describe(db, &id, &new, at).await?;
    }
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM controllers WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(db)
        .await?;
    Ok(Enrolled::Registered(Registered { id, epoch: Epoch::from_db(epoch), role, token_expires_at }))
}

/// Sees to it that there is a controller. One that is there stays what it is, whoever comes: see [`describe`].
async fn store_controller(
    db: &mut Connection,
    id: &ControllerId,
    new: &Enrollment,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO controllers (id, type, name, labels, capabilities, remote, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, TRUE, $6, $6) \
         ON CONFLICT (type, name) DO UPDATE SET remote = TRUE",
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

/// A controller is what its active process says. Its address is that of this process, and what it can do is asked of it: here
/// are only the first words.
async fn describe(
    db: &mut Connection,
    id: &ControllerId,
    new: &Enrollment,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE controllers SET labels = $2, capabilities = coalesce(capabilities, $3), updated_at = $4 WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(Json(&new.registration.labels))
    .bind(Json(&new.capabilities))
    .bind(at)
    .execute(db)
    .await?;
    Ok(())
}

/// Stores a process's new token. The one that it has is good until the new one is used ([`token_used`]), and a while longer: an
/// answer may be lost on its way, and who never got the new one must not be shut out.
async fn renew_token(
    db: &mut Connection,
    id: &ControllerId,
    new: &Enrollment,
    credential: &Credential,
    at: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let mut previous = match credential {
        Credential::Own(own) if own.instance == new.instance => {
            Some((new.credential_hash.clone(), own.expires_at))
        }
        Credential::Own(_) | Credential::Join(_) => None,
    };
    if previous.is_none() {
        previous = sqlx::query_as::<_, (String, DateTime<Utc>)>(
            "SELECT token_hash, expires_at FROM controller_tokens \
             WHERE controller_id = $1 AND instance = $2 AND expires_at > $3",
        )
        .bind(id.as_str())
        .bind(&new.instance)
        .bind(at)
        .fetch_optional(&mut *db)
        .await?;
    }
    if let (None, Credential::Own(own)) = (&previous, credential) {
        // It has been handed on.
        previous = Some((new.credential_hash.clone(), own.expires_at));
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

/// A token is used: whoever has it needs the one before it for so much longer at most.
pub(super) async fn token_used(
    db: &mut Connection,
    token_hash: &str,
    previous_until: DateTime<Utc>,
) -> Result<(), StoreError> {
    let first = sqlx::query(
        "UPDATE controller_tokens SET previous_expires_at = $2 WHERE token_hash = $1 AND previous_expires_at > $2",
    )
    .bind(token_hash)
    .bind(previous_until)
    .execute(&mut *db)
    .await?;
    if first.rows_affected() > 0 {
        // It may have been handed on, and be the one of another process as well.
        sqlx::query(
            "UPDATE controller_tokens SET expires_at = $2 WHERE expires_at > $2 AND token_hash IN \
             (SELECT previous_token_hash FROM controller_tokens WHERE token_hash = $1)",
        )
        .bind(token_hash)
        .bind(previous_until)
        .execute(db)
        .await?;
    }
    Ok(())
}
