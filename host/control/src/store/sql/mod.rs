//! The store in SQL, written once: tables, statements and transactions are the same on every database. This module is
//! compiled once for each of them, against the types and the few functions of the `dialect` beside it.

mod access;
pub(super) mod audit;
mod census;
mod controllers;
mod create;
mod drift;
mod enrollment;
mod event_tickets;
pub(super) mod events;
mod instances;
mod join_tokens;
mod moves;
mod observed;
pub(super) mod operations;
pub(super) mod policies;
mod quotas;
mod reservations;
mod roster;
mod rows;
mod servers;
pub(super) mod sessions;
mod templates;
mod tokens;
mod users;
mod verbs;
mod wishes;
pub(super) mod writer;

#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::task::AbortOnDropHandle;

use super::dialect::{self, Connection, Database, Options, Pool, Row};
use crate::store::*;
use roster::Roster;
use writer::Writer;

/// Sessions that one transaction forgets: the whole server waits for it.
const FORGOTTEN_AT_ONCE: u32 = 256;

/// The store on this database: many readers, one writer.
pub struct SqlStore {
    pub(super) readers: Pool,
    pub(super) writer: Writer,
    /// For the leases of places alone, which nothing else may hold up.
    places: Pool,
    /// Ends with the store.
    background: Option<AbortOnDropHandle<()>>,
    /// For users for whom nothing else was set.
    limits: Limits,
    /// What the writer remembers of all controllers.
    roster: Arc<Roster>,
}

impl SqlStore {
    pub(super) fn new(
        readers: Pool,
        writer: Writer,
        places: Pool,
        background: Option<AbortOnDropHandle<()>>,
    ) -> Self {
        let roster = Arc::new(Roster::new(writer.rollbacks()));
        Self { readers, writer, places, background, limits: Limits::default(), roster }
    }

    /// The same with limits for users for whom nothing else was set.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Notes what sessions hold of their controllers where an earlier version did not.
    pub(super) async fn make_up(&self) -> Result<(), StoreError> {
        while self.writer.run("make_up", |db| Box::pin(reservations::make_up(db))).await? {}
        Ok(())
    }

    /// The same, with what controllers have given away so many times. All servers of a database go by the last word.
    pub async fn with_overcommit(self, overcommit: Overcommit) -> Result<Self, StoreError> {
        self.writer.run("overcommit", move |db| Box::pin(reservations::overcommit(db, overcommit))).await?;
        Ok(self)
    }

    /// What the writer measures about itself.
    pub fn writer_metrics(&self) -> &WriterMetrics {
        self.writer.metrics()
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        // The writer as well: a full disk or a dead writer means that nothing can be promised.
        self.writer.run("ping", |_| Box::pin(async { Ok(()) })).await
    }

    async fn present(&self) -> Result<DateTime<Utc>, StoreError> {
        dialect::present(&mut *self.readers.acquire().await?).await
    }

    fn is_shared(&self) -> bool {
        dialect::SHARED
    }

    async fn enter(&self, server: &str, lease: Duration) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.writer.run("enter", move |db| Box::pin(servers::enter(db, server, lease))).await
    }

    async fn renew_place(&self, server: &str, lease: Duration) -> Result<bool, StoreError> {
        Ok(dialect::renew(&mut *self.places.acquire().await?, server, lease).await?)
    }

    async fn leave(&self, server: &str) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.writer.run("leave", move |db| Box::pin(servers::leave(db, server))).await
    }

    async fn publish_key(&self, server: &str, key: ServerKey) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.writer.run("publish_key", move |db| Box::pin(servers::publish_key(db, server, key))).await
    }

    async fn server_keys(&self) -> Result<Vec<ServerKey>, StoreError> {
        servers::keys(&mut *self.readers.acquire().await?).await
    }

    async fn outlook(&self, server: &str, controllers: &[ControllerId]) -> Result<Outlook, StoreError> {
        let controllers: Vec<_> = controllers.iter().map(ToString::to_string).collect();
        Ok(dialect::outlook(&mut *self.places.acquire().await?, server, &controllers).await?)
    }

    async fn take_over(
        &self,
        server: &str,
        controllers: Vec<ControllerId>,
    ) -> Result<Succession, StoreError> {
        let server = server.to_owned();
        self.writer.run("take_over", move |db| Box::pin(servers::take_over(db, server, controllers))).await
    }

    async fn join_tokens(&self, after: Option<&Position>, limit: u32) -> Result<Vec<JoinToken>, StoreError> {
        join_tokens::list(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn create_join_token(
        &self,
        by: Actor,
        token: JoinToken,
        token_hash: &str,
        most: u32,
    ) -> Result<JoinTokenCreated, StoreError> {
        let token_hash = token_hash.to_owned();
        self.writer
            .run("create_join_token", move |db| {
                Box::pin(join_tokens::create(db, by, token, token_hash, most))
            })
            .await
    }

    async fn delete_join_token(&self, by: Actor, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.writer.run("delete_join_token", move |db| Box::pin(join_tokens::delete(db, by, id))).await
    }

    async fn credential(&self, token_hash: &str) -> Result<Option<Credential>, StoreError> {
        enrollment::credential(&mut *self.readers.acquire().await?, token_hash).await
    }

    async fn enroll(&self, new: Enrollment) -> Result<Enrolled, StoreError> {
        self.writer.run("enroll", move |db| Box::pin(enrollment::enroll(db, new))).await
    }

    async fn heard(&self, beat: Heartbeat) -> Result<Option<Heard>, StoreError> {
        self.writer.run("heard", move |db| Box::pin(instances::heard(db, beat))).await
    }

    async fn is_heard_of(&self, id: &ControllerId) -> Result<bool, StoreError> {
        instances::is_heard_of(&mut *self.readers.acquire().await?, id).await
    }

    async fn remote_controllers(&self) -> Result<Vec<RemoteController>, StoreError> {
        instances::remote(&mut *self.readers.acquire().await?).await
    }

    async fn instances(
        &self,
        controller: Option<&ControllerId>,
        within: Duration,
    ) -> Result<Vec<Instance>, StoreError> {
        instances::list(&mut *self.readers.acquire().await?, controller, within).await
    }

    async fn register_controller(
        &self,
        by: Actor,
        registration: Registration,
    ) -> Result<ControllerId, StoreError> {
        self.writer
            .run("register_controller", move |db| Box::pin(controllers::register(db, by, registration)))
            .await
    }

    async fn take_over_controller(
        &self,
        server: &str,
        id: &ControllerId,
    ) -> Result<Option<Epoch>, StoreError> {
        let (server, id) = (server.to_owned(), id.clone());
        self.writer
            .run("take_over_controller", move |db| Box::pin(servers::take_over_controller(db, server, id)))
            .await
    }

    async fn controllers(&self) -> Result<Vec<Controller>, StoreError> {
        controllers::all(&mut *self.readers.acquire().await?).await
    }

    async fn controller(&self, id: &ControllerId) -> Result<Option<Controller>, StoreError> {
        controllers::one(&mut *self.readers.acquire().await?, id).await
    }

    async fn change_controller(
        &self,
        by: Actor,
        id: &ControllerId,
        change: ControllerChange,
    ) -> Result<Option<Controller>, StoreError> {
        let id = id.clone();
        self.writer
            .run("change_controller", move |db| Box::pin(controllers::change(db, by, id, change)))
            .await
    }

    async fn delete_controller(
        &self,
        by: Actor,
        id: &ControllerId,
    ) -> Result<ControllerDeletion, StoreError> {
        let id = id.clone();
        self.writer.run("delete_controller", move |db| Box::pin(controllers::delete(db, by, id))).await
    }

    async fn record_probe(&self, id: &ControllerId, probe: ProbeRecord) -> Result<bool, StoreError> {
        let id = id.clone();
        self.writer.run("record_probe", move |db| Box::pin(controllers::record_probe(db, id, probe))).await
    }

    async fn create_session(&self, new: NewSession) -> Result<Created, StoreError> {
        let (limits, roster) = (self.limits.clone(), Arc::clone(&self.roster));
        self.writer.run("create_session", move |db| Box::pin(create::create(db, new, limits, roster))).await
    }

    async fn earlier_answer(&self, key: &IdempotencyKey) -> Result<Option<Created>, StoreError> {
        create::earlier_answer(&mut *self.readers.acquire().await?, key, crate::domain::now()).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        sessions::one(&mut *self.readers.acquire().await?, id).await
    }

    async fn sessions(
        &self,
        filter: &SessionFilter,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        sessions::page(&mut *self.readers.acquire().await?, filter, after, limit).await
    }

    async fn session_owner(&self, id: &SessionId) -> Result<Option<String>, StoreError> {
        sessions::owner(&mut *self.readers.acquire().await?, id).await
    }

    async fn request_deletion(
        &self,
        by: Actor,
        id: &SessionId,
        wanted: NewDeletion,
    ) -> Result<Deletion, StoreError> {
        let id = id.clone();
        self.writer
            .run("request_deletion", move |db| Box::pin(sessions::request_deletion(db, by, id, wanted)))
            .await
    }

    async fn retry(&self, retry: NewRetry) -> Result<Retried, StoreError> {
        self.writer.run("retry", move |db| Box::pin(verbs::retry(db, retry))).await
    }

    async fn forget_session(
        &self,
        by: Actor,
        id: &SessionId,
        keep_tombstone: Duration,
    ) -> Result<Option<Forgotten>, StoreError> {
        let id = id.clone();
        self.writer.run("forget_session", move |db| Box::pin(verbs::forget(db, by, id, keep_tombstone))).await
    }

    async fn forget_sessions_of(
        &self,
        by: Actor,
        id: &ControllerId,
        keep_tombstones: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let mut all = Vec::new();
        loop {
            let (by, id) = (by.clone(), id.clone());
            let forget = self.writer.run("forget_sessions_of", move |db| {
                Box::pin(verbs::forget_some_of(db, by, id, FORGOTTEN_AT_ONCE, keep_tombstones))
            });
            let some = forget.await?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    async fn wish(&self, wish: NewWish) -> Result<Wished, StoreError> {
        let limits = self.limits.clone();
        self.writer.run("wish", move |db| Box::pin(wishes::wish(db, wish, limits))).await
    }

    async fn migrate(&self, new: NewMove) -> Result<Moved, StoreError> {
        self.writer.run("migrate", move |db| Box::pin(moves::depart(db, new))).await
    }

    async fn record_activity(&self, signs: Vec<ActivitySign>) -> Result<(), StoreError> {
        self.writer.run("record_activity", move |db| Box::pin(wishes::record_activity(db, signs))).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<Claims, StoreError> {
        self.writer.run("claim_due", move |db| Box::pin(operations::claim_due(db, request))).await
    }

    async fn release_claims(&self, owner: &str, in_flight: HashSet<SessionId>) -> Result<usize, StoreError> {
        let owner = owner.to_owned();
        self.writer
            .run("release_claims", move |db| Box::pin(operations::release_claims(db, owner, in_flight)))
            .await
    }

    async fn due(&self) -> Result<Due, StoreError> {
        operations::due(&mut *self.readers.acquire().await?).await
    }

    async fn record_step(&self, lease: &Lease, record: StepRecord) -> Result<Recorded, StoreError> {
        let lease = lease.clone();
        self.writer.run("record_step", move |db| Box::pin(operations::record_step(db, lease, record))).await
    }

    async fn place_session(
        &self,
        lease: &Lease,
        served: Generation,
        placer: Arc<dyn Placer>,
        retry_at: DateTime<Utc>,
        limit: Duration,
    ) -> Result<Recorded, StoreError> {
        let (lease, roster) = (lease.clone(), Arc::clone(&self.roster));
        self.writer
            .run("place_session", move |db| {
                Box::pin(create::place(db, lease, served, placer, (retry_at, limit), roster))
            })
            .await
    }

    async fn retry_unplaced(&self, limit: u32) -> Result<u64, StoreError> {
        self.writer.run("retry_unplaced", move |db| Box::pin(operations::retry_unplaced(db, limit))).await
    }

    async fn retry_failing(&self, controller: &ControllerId) -> Result<u64, StoreError> {
        let controller = controller.clone();
        self.writer.run("retry_failing", move |db| Box::pin(operations::retry_failing(db, controller))).await
    }

    async fn hasten_look(&self, id: &SessionId) -> Result<bool, StoreError> {
        let id = id.clone();
        self.writer.run("hasten_look", move |db| Box::pin(wishes::hasten_look(db, id))).await
    }

    async fn unexplained(
        &self,
        controller: &ControllerId,
        ids: Vec<String>,
    ) -> Result<Vec<Stray>, StoreError> {
        drift::unexplained(&mut *self.readers.acquire().await?, controller, ids).await
    }

    async fn placed_sessions(&self, controller: &ControllerId) -> Result<u64, StoreError> {
        controllers::placed(&mut *self.readers.acquire().await?, controller).await
    }

    async fn drift_of(&self, controller: &ControllerId) -> Result<Vec<Drift>, StoreError> {
        drift::of_controller(&mut *self.readers.acquire().await?, controller).await
    }

    async fn record_drift(
        &self,
        controller: &ControllerId,
        report: DriftReport,
        keep_tombstones: Duration,
    ) -> Result<(), StoreError> {
        let controller = controller.clone();
        self.writer
            .run("record_drift", move |db| Box::pin(drift::record(db, controller, report, keep_tombstones)))
            .await
    }

    async fn drift_page(
        &self,
        filter: &DriftFilter,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Drift>, StoreError> {
        drift::page(&mut *self.readers.acquire().await?, filter, after, limit).await
    }

    async fn drift(&self, id: &DriftId) -> Result<Option<Drift>, StoreError> {
        drift::one(&mut *self.readers.acquire().await?, id).await
    }

    async fn drift_alarms(&self) -> Result<Vec<RaisedAlarm>, StoreError> {
        drift::alarms(&mut *self.readers.acquire().await?).await
    }

    async fn order_drift(
        &self,
        by: Actor,
        id: &DriftId,
        order: DriftOrder,
    ) -> Result<DriftOrdered, StoreError> {
        let id = id.clone();
        self.writer.run("order_drift", move |db| Box::pin(drift::order(db, by, id, order))).await
    }

    async fn drift_removed(&self, id: &DriftId, outcome: Result<(), String>) -> Result<(), StoreError> {
        let id = id.clone();
        self.writer.run("drift_removed", move |db| Box::pin(drift::removed(db, id, outcome))).await
    }

    async fn adopt(&self, by: Actor, adoption: Adoption) -> Result<Adopted, StoreError> {
        self.writer.run("adopt", move |db| Box::pin(drift::adopt(db, by, adoption))).await
    }

    async fn settled_sessions(
        &self,
        controller: &ControllerId,
        before: DateTime<Utc>,
    ) -> Result<Vec<Glance>, StoreError> {
        observed::settled(&mut *self.readers.acquire().await?, controller, before).await
    }

    async fn still_settled(
        &self,
        ids: &[SessionId],
        before: DateTime<Utc>,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        observed::still_settled(&mut *self.readers.acquire().await?, ids, before).await
    }

    async fn record_observed(&self, changes: Vec<ObservedChange>) -> Result<Vec<SessionId>, StoreError> {
        self.writer.run("record_observed", move |db| Box::pin(observed::record(db, changes))).await
    }

    async fn set_controller_condition(
        &self,
        controller: &ControllerId,
        condition: Condition,
    ) -> Result<Vec<SessionId>, StoreError> {
        let (mut changed, mut after) = (Vec::new(), None);
        loop {
            let (controller, condition) = (controller.clone(), condition.clone());
            let set = self.writer.run("set_controller_condition", move |db| {
                Box::pin(observed::set_condition(db, controller, condition, after))
            });
            let (some, last) = set.await?;
            changed.extend(some);
            if last.is_none() {
                return Ok(changed);
            }
            after = last;
        }
    }

    async fn template(&self, name: &str) -> Result<Option<Template>, StoreError> {
        templates::one(&mut *self.readers.acquire().await?, name).await
    }

    async fn templates(&self, after: Option<&str>, limit: u32) -> Result<Vec<Template>, StoreError> {
        templates::page(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn write_templates(
        &self,
        by: Actor,
        writes: Vec<TemplateWrite>,
    ) -> Result<Vec<TemplateWritten>, StoreError> {
        self.writer.run("write_templates", move |db| Box::pin(templates::write_all(db, by, writes))).await
    }

    async fn delete_template(
        &self,
        by: Actor,
        name: &str,
        expected: Expected,
    ) -> Result<TemplateDeletion, StoreError> {
        let name = name.to_owned();
        self.writer
            .run("delete_template", move |db| Box::pin(templates::delete(db, by, name, expected)))
            .await
    }

    async fn token_owner(&self, token_hash: &str) -> Result<Option<TokenOwner>, StoreError> {
        tokens::owner(&mut *self.readers.acquire().await?, token_hash).await
    }

    async fn replace_admin_token(&self, name: &str, token_hash: &str) -> Result<(), StoreError> {
        let (name, token_hash) = (name.to_owned(), token_hash.to_owned());
        self.writer
            .run("replace_admin_token", move |db| Box::pin(tokens::replace_admin(db, name, token_hash)))
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        events::page(&mut *self.readers.acquire().await?, query).await
    }

    fn latest_event(&self) -> watch::Receiver<EventCursor> {
        self.writer.latest_event()
    }

    async fn event_owner(&self, id: &SessionId) -> Result<Option<String>, StoreError> {
        events::owner(&mut *self.readers.acquire().await?, id).await
    }

    async fn sweep_events(&self, keep: Duration, most: u32) -> Result<(), StoreError> {
        while self.writer.run("sweep_events", move |db| Box::pin(events::sweep_old(db, keep))).await? {}
        // Found by a reader: the writer is not held up by a look at the whole table.
        let crowded = events::crowded(&mut *self.readers.acquire().await?, most).await?;
        for session in crowded {
            loop {
                let one = session.clone();
                if !self
                    .writer
                    .run("sweep_events", move |db| Box::pin(events::thin_out(db, one, most)))
                    .await?
                {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn census(&self) -> Result<Census, StoreError> {
        census::take(&mut *self.readers.acquire().await?).await
    }

    async fn tokens(
        &self,
        user_id: Option<&str>,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        tokens::list(&mut *self.readers.acquire().await?, user_id, after, limit).await
    }

    async fn create_token(
        &self,
        by: Actor,
        token: Token,
        token_hash: &str,
        most: u32,
    ) -> Result<TokenCreated, StoreError> {
        let token_hash = token_hash.to_owned();
        self.writer
            .run("create_token", move |db| Box::pin(tokens::create(db, by, token, token_hash, most)))
            .await
    }

    async fn delete_token(&self, by: Actor, id: &str, user_id: Option<&str>) -> Result<bool, StoreError> {
        let (id, user_id) = (id.to_owned(), user_id.map(str::to_owned));
        self.writer.run("delete_token", move |db| Box::pin(tokens::delete(db, by, id, user_id))).await
    }

    async fn token_used(&self, id: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.writer.run("token_used", move |db| Box::pin(tokens::used(db, id, at))).await
    }

    async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        users::one(&mut *self.readers.acquire().await?, id).await
    }

    async fn users(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, StoreError> {
        users::page(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn create_user(&self, by: Actor, user: User) -> Result<UserChanged, StoreError> {
        self.writer.run("create_user", move |db| Box::pin(users::create(db, by, user))).await
    }

    async fn change_user(&self, by: Actor, id: &str, change: UserChange) -> Result<UserChanged, StoreError> {
        let id = id.to_owned();
        self.writer.run("change_user", move |db| Box::pin(users::change(db, by, id, change))).await
    }

    async fn delete_user(&self, by: Actor, id: &str) -> Result<UserDeletion, StoreError> {
        let id = id.to_owned();
        self.writer.run("delete_user", move |db| Box::pin(users::delete(db, by, id))).await
    }

    async fn grant_access(
        &self,
        by: Actor,
        token_hash: &str,
        kind: GrantKind,
        grant: AccessGrant,
    ) -> Result<(), StoreError> {
        let token_hash = token_hash.to_owned();
        self.writer
            .run("grant_access", move |db| Box::pin(access::grant(db, by, token_hash, kind, grant)))
            .await
    }

    async fn access_grant(
        &self,
        token_hash: &str,
        kind: GrantKind,
    ) -> Result<Option<AccessGrant>, StoreError> {
        access::find(&mut *self.readers.acquire().await?, token_hash, kind).await
    }

    async fn redeem_ticket(
        &self,
        ticket_hash: &str,
        cookie_hash: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<Option<AccessGrant>, StoreError> {
        let (ticket, cookie) = (ticket_hash.to_owned(), cookie_hash.to_owned());
        self.writer
            .run("redeem_ticket", move |db| Box::pin(access::redeem(db, ticket, cookie, expires_at)))
            .await
    }

    async fn issue_event_ticket(
        &self,
        ticket_hash: &str,
        token_hash: &str,
        life: Duration,
        most: u32,
    ) -> Result<bool, StoreError> {
        let (ticket, token) = (ticket_hash.to_owned(), token_hash.to_owned());
        self.writer
            .run("issue_event_ticket", move |db| {
                Box::pin(event_tickets::issue(db, ticket, token, life, most))
            })
            .await
    }

    async fn redeem_event_ticket(&self, ticket_hash: &str) -> Result<Option<String>, StoreError> {
        let ticket = ticket_hash.to_owned();
        self.writer.run("redeem_event_ticket", move |db| Box::pin(event_tickets::redeem(db, ticket))).await
    }

    async fn extend_access(&self, cookie_hash: &str, expires_at: DateTime<Utc>) -> Result<(), StoreError> {
        let cookie_hash = cookie_hash.to_owned();
        self.writer
            .run("extend_access", move |db| Box::pin(access::extend(db, cookie_hash, expires_at)))
            .await
    }

    async fn quota(&self, user_id: &str) -> Result<QuotaState, StoreError> {
        quotas::state(&mut *self.readers.acquire().await?, user_id, &self.limits).await
    }

    async fn quotas(&self, after: Option<&str>, limit: u32) -> Result<Vec<QuotaState>, StoreError> {
        quotas::page(&mut *self.readers.acquire().await?, after, limit, &self.limits).await
    }

    async fn set_quota(
        &self,
        by: Actor,
        user_id: &str,
        set: QuotaOverride,
    ) -> Result<QuotaState, StoreError> {
        let (user_id, limits) = (user_id.to_owned(), self.limits.clone());
        self.writer.run("set_quota", move |db| Box::pin(quotas::set(db, by, user_id, set, limits))).await
    }

    async fn remove_quota(&self, by: Actor, user_id: &str) -> Result<bool, StoreError> {
        let user_id = user_id.to_owned();
        self.writer.run("remove_quota", move |db| Box::pin(quotas::remove(db, by, user_id))).await
    }

    async fn policy_due(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        policies::due(&mut *self.readers.acquire().await?, limit).await
    }

    async fn enforce_policies(
        &self,
        due: Vec<SessionId>,
        signs: Vec<ActivitySign>,
        grace: Duration,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.writer
            .run("enforce_policies", move |db| Box::pin(policies::enforce(db, due, signs, grace)))
            .await
    }

    async fn record_audit(&self, by: Actor, deeds: Vec<Deed>) -> Result<(), StoreError> {
        self.writer.run("record_audit", move |db| Box::pin(audit::record_all(db, by, deeds))).await
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        audit::page(&mut *self.readers.acquire().await?, filter, before, limit).await
    }

    async fn sweep_audit(&self, keep: Duration) -> Result<(), StoreError> {
        while self.writer.run("sweep_audit", move |db| Box::pin(audit::sweep(db, keep))).await? {}
        Ok(())
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.writer.run("sweep", |db| Box::pin(access::sweep(db))).await?;
        self.writer.run("sweep", |db| Box::pin(operations::sweep(db))).await?;
        while self.writer.run("sweep", |db| Box::pin(tokens::sweep(db))).await? {}
        while self.writer.run("sweep", |db| Box::pin(join_tokens::sweep(db))).await? {}
        self.make_up().await
    }

    async fn close(&self) {
        if let Some(background) = &self.background {
            background.abort();
        }
        self.writer.close().await;
        self.places.close().await;
        self.readers.close().await;
    }
}
