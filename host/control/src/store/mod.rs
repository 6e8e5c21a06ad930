//! What the API server remembers: one trait, in the words of the domain.

mod account;
mod audit;
mod census;
mod drift;
mod error;
mod events;
mod metrics;
mod migrations;
mod outage;
mod postgres;
mod quota;
mod registry;
#[cfg(test)]
mod schema;
mod servers;
mod sqlite;
mod template;
mod transition;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{ControlConfig, DatabasePlace, DatabaseUrl};
use crate::domain::{
    Actor, AuditEntry, Capabilities, Condition, Controller, ControllerId, ControllerStatus, Deed, Drift,
    DriftId, Epoch, EventCursor, Generation, Instance, JoinToken, Lane, Limits, Operation, Overcommit, Phase,
    QuotaExcess, QuotaOverride, Registration, Role, Room, ServerKey, Session, SessionId, Step, Template,
    Token, User, Wish, WishedState,
};

pub use account::{TokenCreated, UserChange, UserChanged, UserDeletion};
pub use audit::AuditFilter;
pub use census::Census;
pub use drift::{
    Adopted, Adoption, DriftFilter, DriftOrder, DriftOrdered, DriftReport, DriftSighting, RaisedAlarm,
};
pub use error::StoreError;
pub use events::{EventPage, EventQuery, EventScope};
pub use metrics::WriterMetrics;
pub use migrations::Migrated;
pub use outage::Outage;
pub use quota::QuotaState;
pub use registry::{
    Credential, Enrolled, Enrollment, EnrollmentRefusal, Heard, Heartbeat, JoinTokenCreated, OwnToken,
    Registered, RemoteController,
};
pub use servers::{Outlook, Succession};
pub use template::{Expected, TemplateDeletion, TemplateWrite, TemplateWritten};
pub(crate) use transition::Applied;

/// The name of a new place among the servers, which is that of its owner in claims; its instance is the data directory
/// that one process holds at a time.
pub(crate) fn lease_owner(instance: &str) -> String {
    format!("{instance}/{}", Uuid::new_v4())
}

/// Opens the database that is named, once it is there and up to date, and makes void what earlier processes of this
/// instance have claimed. `config` says what users may have for whom nothing else
/// was set, and how many times what controllers have is given away.
pub(crate) async fn open(
    database: &DatabaseUrl,
    patience: Duration,
    instance: &str,
    config: &ControlConfig,
) -> Result<(Arc<dyn Store>, WriterMetrics), StoreError> {
    let (limits, overcommit) = (config.quota.limits(), config.overcommit);
    match database.place() {
        DatabasePlace::Sqlite(path) => {
            let store = sqlite::SqliteStore::open(path).await?.with_limits(limits);
            let store = store.with_overcommit(overcommit).await?;
            let metrics = store.writer_metrics().clone();
            Ok((Arc::new(store), metrics))
        }
        DatabasePlace::Postgres(options) => {
            let store = postgres::PostgresStore::open(options.as_ref().clone(), patience, instance).await?;
            let store = store.with_limits(limits).with_overcommit(overcommit).await?;
            let metrics = store.writer_metrics().clone();
            Ok((Arc::new(store), metrics))
        }
    }
}

/// Brings the schema of a database up to date, or makes the database if it is a file, and does nothing else.
pub(crate) async fn migrate(database: &DatabaseUrl, patience: Duration) -> Result<Migrated, StoreError> {
    match database.place() {
        DatabasePlace::Sqlite(path) => sqlite::migrate(path).await,
        DatabasePlace::Postgres(options) => postgres::migrate(options.as_ref().clone(), patience).await,
    }
}

/// A session with its operation: they live and die together.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// The session.
    pub session: Session,
    /// Its operation.
    pub operation: Operation,
}

/// Who calls, as a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user_id: String,
    /// What the token and its user both may do.
    pub role: Role,
    /// The token.
    pub token: Token,
}

/// Chooses a controller. Called inside the transaction that stores the choice, so that the counts it sees are
/// the counts there are.
pub trait Placer: Send + Sync {
    /// The choice for one session.
    fn place(&self, controllers: &[Controller]) -> PlacementDecision;
}

/// What a [`Placer`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementDecision {
    /// This controller.
    On(ControllerId, String),
    /// There will be room some time; why not now.
    Later(String),
    /// The request names something that does not exist.
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Nobody could ever take it as things stand; why.
    Nobody(String),
}

/// Binds the answer to a request, so that asking again changes nothing.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// Whose key it is.
    pub caller: String,
    /// The key.
    pub key: String,
    /// Hash of the request's body.
    pub body_hash: String,
    /// How long the answer is kept.
    pub keep: Duration,
}

/// A session to be stored. Its placement and conditions are set by the store's transaction.
pub struct NewSession {
    /// Who asks for it.
    pub by: Actor,
    /// The session, not placed.
    pub session: Session,
    /// Chooses the controller.
    pub placer: Arc<dyn Placer>,
    /// Binds the answer.
    pub idempotency: Option<IdempotencyKey>,
    /// Makes the answer that is kept for the key.
    pub render: fn(&SessionRecord) -> String,
}

/// What became of a [`NewSession`].
#[derive(Debug)]
pub enum Created {
    /// It is stored.
    Stored(Box<SessionRecord>),
    /// An earlier request with this key made it; this was the answer.
    Replayed {
        /// The session that was made.
        session_id: SessionId,
        /// The answer of that time.
        response: String,
    },
    /// The key belongs to another request.
    KeyMismatch,
    /// The user would have more than they may; nothing was stored.
    OverQuota(Vec<QuotaExcess>),
    /// There is no place; nothing was stored.
    Refused(PlacementDecision),
}

/// The wish that a session be gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewDeletion {
    /// The user's home goes too.
    pub purge_home: bool,
    /// It goes without its controller's word if that is not to be had for so long.
    pub force_after: Option<Duration>,
}

/// What became of the wish that a session be gone.
#[derive(Debug)]
pub enum Deletion {
    /// It is stored; this is how the session stands.
    Wished(Box<SessionRecord>),
    /// It is stored; how the session stands cannot be read.
    WishedUnreadable,
    /// There is no such session.
    NoSuchSession,
}

/// A wish for a session that is there.
#[derive(Debug, Clone)]
pub struct NewWish {
    /// Who wishes.
    pub by: Actor,
    /// Whose.
    pub session_id: SessionId,
    /// What is wanted from now on.
    pub state: WishedState,
    /// Binds the answer.
    pub idempotency: Option<IdempotencyKey>,
    /// Makes the answer that is kept for the key.
    pub render: fn(&SessionRecord) -> String,
}

/// What became of a [`NewWish`].
#[derive(Debug)]
pub enum Wished {
    /// It is stored, under a new generation.
    Stored(Box<SessionRecord>),
    /// It was the wish already; nothing was changed.
    Unchanged(Box<SessionRecord>),
    /// An earlier request with this key wished it; this was the answer.
    Replayed {
        /// The answer of that time.
        response: String,
    },
    /// The key belongs to another request.
    KeyMismatch,
    /// The session is being deleted; nothing was stored.
    Deleting,
    /// The user would have more than they may; nothing was stored.
    OverQuota(Vec<QuotaExcess>),
    /// The session's controller cannot do that; nothing was stored.
    Unsupported,
    /// The session's controller has no room for it now; nothing was stored.
    NoRoom,
    /// There is no such session.
    NoSuchSession,
}

/// The wish that a session go on on another controller.
pub struct NewMove {
    /// Who wishes.
    pub by: Actor,
    /// Whose.
    pub session_id: SessionId,
    /// Where to.
    pub target: ControllerId,
    /// Says whether that controller can take it.
    pub placer: Arc<dyn Placer>,
    /// Binds the answer.
    pub idempotency: Option<IdempotencyKey>,
    /// Makes the answer that is kept for the key.
    pub render: fn(&SessionRecord) -> String,
}

/// What became of a [`NewMove`].
#[derive(Debug)]
pub enum Moved {
    /// It is stored, under a new generation.
    Stored(Box<SessionRecord>),
    /// It is there already, or on its way there; nothing was changed.
    Unchanged(Box<SessionRecord>),
    /// An earlier request with this key wished it; this was the answer.
    Replayed {
        /// The answer of that time.
        response: String,
    },
    /// The key belongs to another request.
    KeyMismatch,
    /// The session is being deleted; nothing was stored.
    Deleting,
    /// The session is on no controller yet; nothing was stored.
    NotPlaced,
    /// It is on its way to another controller; nothing was stored.
    UnderWay(ControllerId),
    /// Its controller does not answer, and so cannot remove it; how it does. Nothing was stored.
    Unreachable(ControllerStatus),
    /// That cannot be done between these controllers; why. Nothing was stored.
    Unsupported(String),
    /// The other controller does not take it; nothing was stored.
    Refused(PlacementDecision),
    /// There is no such session.
    NoSuchSession,
}

/// The wish that what waits or failed be tried at once.
#[derive(Debug, Clone)]
pub struct NewRetry {
    /// Who asks.
    pub by: Actor,
    /// Whose.
    pub session_id: SessionId,
    /// Binds the answer.
    pub idempotency: Option<IdempotencyKey>,
    /// Makes the answer that is kept for the key.
    pub render: fn(&SessionRecord) -> String,
}

/// What became of a [`NewRetry`].
#[derive(Debug)]
pub enum Retried {
    /// It is due now.
    Stored(Box<SessionRecord>),
    /// Nothing waits, and nothing has failed.
    NothingToDo(Box<SessionRecord>),
    /// An earlier request with this key asked for it; this was the answer.
    Replayed {
        /// The answer of that time.
        response: String,
    },
    /// The key belongs to another request.
    KeyMismatch,
    /// How the session stands cannot be read: nothing can be done for it.
    Unreadable,
    /// There is no such session.
    NoSuchSession,
}

/// A session whose row went without its controller's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Whose it was.
    pub user_id: String,
    /// Where it was placed.
    pub controller_id: Option<String>,
}

/// A sign that somebody uses a session.
#[derive(Debug, Clone)]
pub struct ActivitySign {
    /// Which.
    pub session_id: SessionId,
    /// When.
    pub at: DateTime<Utc>,
}

/// An object of a backend that belongs to no session on its controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The id it bears.
    pub id: String,
    /// When a session of that id was deleted; absent = there is no memory of one.
    pub deleted_at: Option<DateTime<Utc>>,
    /// There is a session of that id, and it is not placed on the controller.
    pub elsewhere: bool,
}

/// What an operator says about a controller; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ControllerChange {
    /// It gets no new sessions.
    pub draining: Option<bool>,
    /// Labels to set; `None` inside = the operator's label goes.
    pub labels: BTreeMap<String, Option<String>>,
}

/// What became of the wish that a controller be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerDeletion {
    /// It is gone.
    Deleted,
    /// There is no such controller.
    NoSuchController,
    /// So many sessions are placed on it.
    HasSessions(u64),
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this user.
    pub user_id: Option<String>,
    /// With this wish.
    pub state: Option<WishedState>,
    /// In this phase.
    pub phase: Option<Phase>,
    /// Made from this template.
    pub template_id: Option<String>,
    /// Placed here.
    pub controller_id: Option<String>,
    /// Placed on this type.
    pub controller_type: Option<String>,
}

/// A place in the list of sessions, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// When the last session seen was made.
    pub created_at: DateTime<Utc>,
    /// The last session seen.
    pub id: String,
}

/// What there is to do, and from when on, by this process's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Whatever waits and is not claimed.
    pub lanes: Vec<DueLane>,
    /// When the next claim runs out: it has to be seen to.
    pub claim_ends: Option<DateTime<Utc>>,
}

/// Steps of one controller and one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLane {
    /// Whose; `None` = of sessions without a controller.
    pub controller: Option<ControllerId>,
    /// Which.
    pub lane: Lane,
    /// When the first of them is due.
    pub at: DateTime<Utc>,
}

/// Where a claim looks for work.
#[derive(Debug, Clone)]
pub struct Queue {
    /// A controller; `None` = sessions without one.
    pub controller: Option<ControllerId>,
    /// The lanes that have something.
    pub lanes: Vec<Lane>,
    /// How much may begin.
    pub room: Room,
}

/// A request for work.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who asks.
    pub owner: String,
    /// How long the work may take.
    pub lease: Duration,
    /// What the same owner is still working on: its claims are renewed and not given away.
    pub in_flight: HashSet<SessionId>,
    /// Where to look, one after the other.
    pub queues: Vec<Queue>,
    /// Not many more than so many are claimed at once: nobody else can write meanwhile.
    pub most: usize,
    /// How long an operation with a deadline may take.
    pub operation_limit: Duration,
}

/// Work that was claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What to do.
    pub step: Step,
    /// The session as it was then.
    pub session: Session,
    /// Its operation, already prepared for the step.
    pub operation: Operation,
    /// The proof of the claim.
    pub lease: Lease,
    /// The epoch under which the claim's owner drives the session's controller; absent = it drives none.
    pub controller_epoch: Option<Epoch>,
}

/// What came of a [`ClaimRequest`].
#[derive(Debug, Default)]
pub struct Claims {
    /// To be done.
    pub work: Vec<Claimed>,
    /// Sessions that were due and rest now, because their wish holds: they changed.
    pub rested: Vec<SessionId>,
}

/// The proof that a piece of work was claimed and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The session.
    pub session_id: SessionId,
    /// Who claimed it.
    pub owner: String,
    /// The claim's number.
    pub epoch: Epoch,
}

/// The outcome of a step.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// What was observed, if anything was.
    pub phase: Option<Phase>,
    /// The backend's name of the object, if it said one.
    pub node_id: Option<String>,
    /// Conditions to set.
    pub conditions: Vec<Condition>,
    /// Everything the backend says about the session, if it said it.
    pub reported: Option<Vec<Condition>>,
    /// The wish was fulfilled or finally failed.
    pub wish_answered: bool,
    /// The wish that the step served: a newer one is not answered by it.
    pub served: Generation,
    /// The backend says that nothing of the session is left.
    pub gone: bool,
    /// Nobody says so: it was to be gone by force, and the time for that is up.
    pub forgotten: bool,
    /// The operation as it is to be from now on.
    pub operation: Operation,
    /// How long the trace of a removed session is kept.
    pub keep_tombstone: Duration,
}

/// What became of a [`StepRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is stored.
    Stored,
    /// The session's row is gone with it.
    Removed,
    /// The claim was not valid any more; nothing was stored.
    Stale,
}

/// What a probe of a controller found.
#[derive(Debug, Clone)]
pub struct ProbeRecord {
    /// How it is doing.
    pub status: ControllerStatus,
    /// Why it is not healthy.
    pub message: String,
    /// What it can do, if it said so.
    pub capabilities: Option<Capabilities>,
    /// Whether it answered at all.
    pub answered: bool,
    /// When.
    pub at: DateTime<Utc>,
}

/// What of a settled session is compared with what its backend shows: there are many, and most are as they should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// Its id.
    pub id: SessionId,
    /// What is wished.
    pub wish: Wish,
    /// What was last observed …
    pub phase: Phase,
    /// … with the backend's name of the object …
    pub node_id: String,
    /// … and everything that is said about it.
    pub conditions: crate::domain::Conditions,
    /// The last sign of a user.
    pub last_activity: Option<DateTime<Utc>>,
}

impl Glance {
    /// Of a session of which all is known.
    pub(crate) fn at(session: &Session) -> Self {
        Self {
            id: session.id.clone(),
            wish: session.wish,
            phase: session.phase,
            node_id: session.node_id.clone(),
            conditions: session.conditions.clone(),
            last_activity: session.last_activity,
        }
    }
}

/// A change of a settled session because of what was observed.
#[derive(Debug, Clone)]
pub struct ObservedChange {
    /// The session.
    pub session_id: SessionId,
    /// The operation's `updated_at` at the time of the decision: if it moved, the change is void.
    pub operation_seen: DateTime<Utc>,
    /// The session's, likewise: its conditions are replaced as a whole.
    pub session_seen: DateTime<Utc>,
    /// What was observed.
    pub phase: Phase,
    /// The backend's name of the object, if it said one.
    pub node_id: Option<String>,
    /// All conditions as they are to be from now on.
    pub conditions: crate::domain::Conditions,
    /// What has to be done about it.
    pub repair: Option<Operation>,
}

/// How a right to reach a session is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// Good for one use, within seconds: it stands in a URL.
    Ticket,
    /// Good for many: it stands in a cookie.
    Cookie,
}

impl GrantKind {
    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Cookie => "cookie",
        }
    }
}

/// A right to reach one session through the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessGrant {
    /// The session.
    pub session_id: SessionId,
    /// Who reaches it; the right ends when they may not see the session any more.
    pub user_id: String,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
}

/// The store. Every method that changes something returns only when the change is durable.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
    /// The present, as the store dates what it stores: servers that share a database may have clocks that differ.
    async fn present(&self) -> Result<DateTime<Utc>, StoreError>;

    /// Whether several servers may use the database at once.
    fn is_shared(&self) -> bool;
    /// Gives a server a place among those that use the database, for the time of the lease. What earlier places of its
    /// instance had claimed is void.
    async fn enter(&self, server: &str, lease: Duration) -> Result<(), StoreError>;
    /// Lets the lease of a place begin anew; false = it was over, and so is the place. Waits for no other change.
    async fn renew_place(&self, server: &str, lease: Duration) -> Result<bool, StoreError>;
    /// Gives a place up.
    async fn leave(&self, server: &str) -> Result<(), StoreError>;
    /// Says with which key the calls of a server are signed, for as long as it has its place.
    async fn publish_key(&self, server: &str, key: ServerKey) -> Result<(), StoreError>;
    /// The keys that the calls of all servers are signed with which have a place.
    async fn server_keys(&self) -> Result<Vec<ServerKey>, StoreError>;
    /// What there may be to take over, for a server that has these controllers.
    async fn outlook(&self, server: &str, controllers: &[ControllerId]) -> Result<Outlook, StoreError>;
    /// Ends the places of servers whose leases are over, and lets this one drive those of the controllers that nobody
    /// drives.
    async fn take_over(&self, server: &str, controllers: Vec<ControllerId>)
    -> Result<Succession, StoreError>;

    /// A page of join tokens, newest first.
    async fn join_tokens(&self, after: Option<&Position>, limit: u32) -> Result<Vec<JoinToken>, StoreError>;
    /// Stores a join token, unless there are `most` already.
    async fn create_join_token(
        &self,
        by: Actor,
        token: JoinToken,
        token_hash: &str,
        most: u32,
    ) -> Result<JoinTokenCreated, StoreError>;
    /// Makes a join token void; whether there was one.
    async fn delete_join_token(&self, by: Actor, id: &str) -> Result<bool, StoreError>;
    /// What the token with this hash is to controllers that run elsewhere, if it is good.
    async fn credential(&self, token_hash: &str) -> Result<Option<Credential>, StoreError>;
    /// Registers a process of a controller that runs elsewhere.
    async fn enroll(&self, new: Enrollment) -> Result<Enrolled, StoreError>;
    /// Notes that a process of a remote controller lives. `None` = there is no such process.
    async fn heard(&self, beat: Heartbeat) -> Result<Option<Heard>, StoreError>;
    /// Whether the process of a controller that is called was heard of in time.
    async fn is_heard_of(&self, id: &ControllerId) -> Result<bool, StoreError>;
    /// All remote controllers that have a process to be called.
    async fn remote_controllers(&self) -> Result<Vec<RemoteController>, StoreError>;
    /// The processes of a remote controller, or of all: the active ones, and who else was heard of within that time.
    async fn instances(
        &self,
        controller: Option<&ControllerId>,
        within: Duration,
    ) -> Result<Vec<Instance>, StoreError>;

    /// Registers a controller, or finds it by type and name and takes over what is new.
    async fn register_controller(
        &self,
        by: Actor,
        registration: Registration,
    ) -> Result<ControllerId, StoreError>;
    /// Lets a server drive a controller, unless another one does, and raises its fencing number: calls of whoever drove
    /// it before are refused from then on.
    async fn take_over_controller(
        &self,
        server: &str,
        id: &ControllerId,
    ) -> Result<Option<Epoch>, StoreError>;
    /// All controllers, oldest first.
    async fn controllers(&self) -> Result<Vec<Controller>, StoreError>;
    /// One controller.
    async fn controller(&self, id: &ControllerId) -> Result<Option<Controller>, StoreError>;
    /// Stores what an operator says about a controller. `None` = there is no such controller.
    async fn change_controller(
        &self,
        by: Actor,
        id: &ControllerId,
        change: ControllerChange,
    ) -> Result<Option<Controller>, StoreError>;
    /// Removes a controller without sessions.
    async fn delete_controller(&self, by: Actor, id: &ControllerId)
    -> Result<ControllerDeletion, StoreError>;
    /// Stores what a probe found; whether sessions are due now that waited for room.
    async fn record_probe(&self, id: &ControllerId, probe: ProbeRecord) -> Result<bool, StoreError>;

    /// Stores a session, its operation, its placement and its idempotency key, or nothing.
    async fn create_session(&self, new: NewSession) -> Result<Created, StoreError>;
    /// What a request with this key was answered, if it was; changes nothing.
    async fn earlier_answer(&self, key: &IdempotencyKey) -> Result<Option<Created>, StoreError>;
    /// One session.
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRecord>, StoreError>;
    /// A page of sessions, newest first. What cannot be read is left out, here and in all lists of sessions.
    async fn sessions(
        &self,
        filter: &SessionFilter,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError>;
    /// The user whose session it is.
    async fn session_owner(&self, id: &SessionId) -> Result<Option<String>, StoreError>;
    /// Wishes a session gone.
    async fn request_deletion(
        &self,
        by: Actor,
        id: &SessionId,
        wanted: NewDeletion,
    ) -> Result<Deletion, StoreError>;
    /// Has tried at once what waits, and anew what failed.
    async fn retry(&self, retry: NewRetry) -> Result<Retried, StoreError>;
    /// Removes a session without its controller's word and remembers its id. `None` = there is no such session.
    async fn forget_session(
        &self,
        by: Actor,
        id: &SessionId,
        keep_tombstone: Duration,
    ) -> Result<Option<Forgotten>, StoreError>;
    /// Forgets all sessions of a controller, which gets no new ones from then on; which they were.
    async fn forget_sessions_of(
        &self,
        by: Actor,
        id: &ControllerId,
        keep_tombstones: Duration,
    ) -> Result<Vec<String>, StoreError>;

    /// Stores a wish, unless it is none that was not there already.
    async fn wish(&self, wish: NewWish) -> Result<Wished, StoreError>;
    /// Stores the wish that a session go on on another controller.
    async fn migrate(&self, new: NewMove) -> Result<Moved, StoreError>;
    /// Notes signs of users. A later one that is known already stays.
    async fn record_activity(&self, signs: Vec<ActivitySign>) -> Result<(), StoreError>;

    /// Claims what is due.
    async fn claim_due(&self, request: ClaimRequest) -> Result<Claims, StoreError>;
    /// Gives back what an owner has claimed and does not work on; how many those are.
    async fn release_claims(&self, owner: &str, in_flight: HashSet<SessionId>) -> Result<usize, StoreError>;
    /// What there is to do.
    async fn due(&self) -> Result<Due, StoreError>;
    /// Stores the outcome of a step, if its claim still holds.
    async fn record_step(&self, lease: &Lease, record: StepRecord) -> Result<Recorded, StoreError>;
    /// Places a claimed session, or puts it off until `retry_at`, and gives it up when that has gone on for `limit`.
    /// `served` is the wish that the placer was made for: another one has to be decided anew.
    async fn place_session(
        &self,
        lease: &Lease,
        served: Generation,
        placer: Arc<dyn Placer>,
        retry_at: DateTime<Utc>,
        limit: Duration,
    ) -> Result<Recorded, StoreError>;
    /// Makes the oldest sessions that wait for room due now.
    async fn retry_unplaced(&self, limit: u32) -> Result<u64, StoreError>;
    /// Makes the sessions of a controller due now whose next step was put off because of failures.
    async fn retry_failing(&self, controller: &ControllerId) -> Result<u64, StoreError>;

    /// Makes the next look at a session due now, if it waits for one; whether it does.
    async fn hasten_look(&self, id: &SessionId) -> Result<bool, StoreError>;

    /// Those ids for which there is no session on this controller.
    async fn unexplained(
        &self,
        controller: &ControllerId,
        ids: Vec<String>,
    ) -> Result<Vec<Stray>, StoreError>;
    /// How many sessions are placed on a controller.
    async fn placed_sessions(&self, controller: &ControllerId) -> Result<u64, StoreError>;
    /// The drift list of a controller.
    async fn drift_of(&self, controller: &ControllerId) -> Result<Vec<Drift>, StoreError>;
    /// Stores what a complete listing says of objects that no session explains.
    async fn record_drift(
        &self,
        controller: &ControllerId,
        report: DriftReport,
        keep_tombstones: Duration,
    ) -> Result<(), StoreError>;
    /// A page of the drift list, newest first.
    async fn drift_page(
        &self,
        filter: &DriftFilter,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Drift>, StoreError>;
    /// One entry of it.
    async fn drift(&self, id: &DriftId) -> Result<Option<Drift>, StoreError>;
    /// Controllers whose last listing is not believed.
    async fn drift_alarms(&self) -> Result<Vec<RaisedAlarm>, StoreError>;
    /// Stores what an operator says about an object.
    async fn order_drift(
        &self,
        by: Actor,
        id: &DriftId,
        order: DriftOrder,
    ) -> Result<DriftOrdered, StoreError>;
    /// Stores that an object is gone that was to be removed, or why it is not.
    async fn drift_removed(&self, id: &DriftId, outcome: Result<(), String>) -> Result<(), StoreError>;
    /// Stores a session for an object that is there.
    async fn adopt(&self, by: Actor, adoption: Adoption) -> Result<Adopted, StoreError>;
    /// A glance at each session that is placed on a controller and whose operation was settled before that time and is
    /// not claimed.
    async fn settled_sessions(
        &self,
        controller: &ControllerId,
        before: DateTime<Utc>,
    ) -> Result<Vec<Glance>, StoreError>;
    /// Those of these sessions for which that still holds and at which nothing was noted since then, with all there is of
    /// them.
    async fn still_settled(
        &self,
        ids: &[SessionId],
        before: DateTime<Utc>,
    ) -> Result<Vec<SessionRecord>, StoreError>;
    /// Stores what was observed, and returns the sessions that really changed.
    async fn record_observed(&self, changes: Vec<ObservedChange>) -> Result<Vec<SessionId>, StoreError>;
    /// Sets one condition on all sessions of a controller, and returns the sessions that changed.
    async fn set_controller_condition(
        &self,
        controller: &ControllerId,
        condition: Condition,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// One template.
    async fn template(&self, name: &str) -> Result<Option<Template>, StoreError>;
    /// A page of templates, by name.
    async fn templates(&self, after: Option<&str>, limit: u32) -> Result<Vec<Template>, StoreError>;
    /// Stores templates, each as its condition says, all in one transaction.
    async fn write_templates(
        &self,
        by: Actor,
        writes: Vec<TemplateWrite>,
    ) -> Result<Vec<TemplateWritten>, StoreError>;
    /// Removes a template. Sessions made from it stay as they are.
    async fn delete_template(
        &self,
        by: Actor,
        name: &str,
        expected: Expected,
    ) -> Result<TemplateDeletion, StoreError>;

    /// Who owns the token with this hash.
    async fn token_owner(&self, token_hash: &str) -> Result<Option<TokenOwner>, StoreError>;
    /// Makes this the one token of that name, for the built-in administrator.
    async fn replace_admin_token(&self, name: &str, token_hash: &str) -> Result<(), StoreError>;

    /// A page of events, oldest first.
    async fn events(&self, query: &EventQuery) -> Result<EventPage, StoreError>;
    /// The last event that is committed, from now on. Only says that there is something new.
    fn latest_event(&self) -> watch::Receiver<EventCursor>;
    /// Whose a session is or was, as its events say.
    async fn event_owner(&self, id: &SessionId) -> Result<Option<String>, StoreError>;
    /// Removes events that are older than that, and the oldest of sessions that have more than so many.
    async fn sweep_events(&self, keep: Duration, most: u32) -> Result<(), StoreError>;
    /// How many there are of everything.
    async fn census(&self) -> Result<Census, StoreError>;
    /// The tokens of a user or of all, newest first.
    async fn tokens(
        &self,
        user_id: Option<&str>,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError>;
    /// Stores a token, unless its user has `most` already.
    async fn create_token(
        &self,
        by: Actor,
        token: Token,
        token_hash: &str,
        most: u32,
    ) -> Result<TokenCreated, StoreError>;
    /// Makes a token void, of this user if one is named; whether there was one.
    async fn delete_token(&self, by: Actor, id: &str, user_id: Option<&str>) -> Result<bool, StoreError>;
    /// Remembers that a token was used.
    async fn token_used(&self, id: &str, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// One user.
    async fn user(&self, id: &str) -> Result<Option<User>, StoreError>;
    /// A page of users, by id.
    async fn users(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, StoreError>;
    /// Stores a new user.
    async fn create_user(&self, by: Actor, user: User) -> Result<UserChanged, StoreError>;
    /// Changes a user.
    async fn change_user(&self, by: Actor, id: &str, change: UserChange) -> Result<UserChanged, StoreError>;
    /// Removes a user without sessions, and their tokens.
    async fn delete_user(&self, by: Actor, id: &str) -> Result<UserDeletion, StoreError>;

    /// Stores a right to reach a session, under the hash of its token.
    async fn grant_access(
        &self,
        by: Actor,
        token_hash: &str,
        kind: GrantKind,
        grant: AccessGrant,
    ) -> Result<(), StoreError>;
    /// The right under this hash, if it is still good.
    async fn access_grant(
        &self,
        token_hash: &str,
        kind: GrantKind,
    ) -> Result<Option<AccessGrant>, StoreError>;
    /// Exchanges a ticket, if it is still good, for a cookie.
    async fn redeem_ticket(
        &self,
        ticket_hash: &str,
        cookie_hash: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<Option<AccessGrant>, StoreError>;
    /// Stores a ticket for the events, under its hash and beside that of the token that it stands for, unless `most` are
    /// good already.
    async fn issue_event_ticket(
        &self,
        ticket_hash: &str,
        token_hash: &str,
        life: Duration,
        most: u32,
    ) -> Result<bool, StoreError>;
    /// Takes a ticket for the events; the hash of the token that it stands for, if it was good.
    async fn redeem_event_ticket(&self, ticket_hash: &str) -> Result<Option<String>, StoreError>;
    /// Lets a cookie live longer.
    async fn extend_access(&self, cookie_hash: &str, expires_at: DateTime<Utc>) -> Result<(), StoreError>;

    /// How a user stands with their quota.
    async fn quota(&self, user_id: &str) -> Result<QuotaState, StoreError>;
    /// A page of the users for whom something else applies than is configured, by id.
    async fn quotas(&self, after: Option<&str>, limit: u32) -> Result<Vec<QuotaState>, StoreError>;
    /// Sets what applies to one user alone.
    async fn set_quota(&self, by: Actor, user_id: &str, set: QuotaOverride)
    -> Result<QuotaState, StoreError>;
    /// Lets what is configured apply to a user again; whether something else did.
    async fn remove_quota(&self, by: Actor, user_id: &str) -> Result<bool, StoreError>;

    /// Some of the sessions that may have reached their idle timeout or their longest duration.
    async fn policy_due(&self, limit: u32) -> Result<Vec<SessionId>, StoreError>;
    /// Notes these signs of users, and then wishes those of the sessions hibernated or terminated that have reached a
    /// limit in time even so; they are returned. Signs may be stored later than they come by `grace`.
    async fn enforce_policies(
        &self,
        due: Vec<SessionId>,
        signs: Vec<ActivitySign>,
        grace: Duration,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// Says who did what, where there is no change in the database to say it with.
    async fn record_audit(&self, by: Actor, deeds: Vec<Deed>) -> Result<(), StoreError>;
    /// A page of the audit log, newest first, behind the entry of that id.
    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError>;
    /// Removes entries of the audit log that are older than that.
    async fn sweep_audit(&self, keep: Duration) -> Result<(), StoreError>;

    /// Removes what has expired.
    async fn sweep(&self) -> Result<(), StoreError>;
    /// Finishes what was begun and closes the database.
    async fn close(&self);
}
