//! The audit log: who changed what.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{ControllerId, Role, SessionId, Token, WishedState};

/// Who changes something. Every change of the store is somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A caller of the API.
    User {
        /// The user.
        user_id: String,
        /// What they could do with that token.
        role: Role,
        /// The token they called with.
        token_id: String,
        /// The token's name at the time.
        token_name: String,
        /// The request, as the server's log has it.
        request_id: Option<String>,
    },
    /// A controller, or somebody who says so.
    Controller {
        /// Which; absent = nobody knows.
        id: Option<ControllerId>,
        /// Id and name of the join token that it came with, if it came with one.
        join_token: Option<(String, String)>,
        /// The request, as the server's log has it.
        request_id: Option<String>,
    },
    /// The server itself, by one of its rules.
    System(Rule),
}

impl Actor {
    /// A caller of the API with a token.
    pub fn caller(user_id: &str, role: Role, token: &Token, request_id: Option<String>) -> Self {
        Self::User {
            user_id: user_id.to_owned(),
            role,
            token_id: token.id.clone(),
            token_name: token.name.clone(),
            request_id,
        }
    }
}

/// A rule by which the server changes something that nobody asked for at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// What an operator's configuration says, carried out at the start.
    Configuration,
    /// Nobody used a session for its `idle_timeout`.
    IdleTimeout,
    /// A session reached its `max_session_duration`.
    MaxDuration,
    /// Something was good until a time that has passed.
    Expiry,
    /// A backend has what no session accounts for.
    Drift,
}

impl Rule {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::IdleTimeout => "idle-timeout",
            Self::MaxDuration => "max-duration",
            Self::Expiry => "expiry",
            Self::Drift => "drift",
        }
    }
}

/// What was done. The names are for ever: scripts look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A session was asked for.
    SessionCreate,
    /// A session is to run.
    SessionWake,
    /// A session is to be stopped, to go on later.
    SessionHibernate,
    /// A session's objects are to be removed.
    SessionTerminate,
    /// A session is to be gone.
    SessionDelete,
    /// What waits or failed is to be tried at once.
    SessionRetry,
    /// A session is to be moved to another controller.
    SessionMigrate,
    /// A session went without its controller's word.
    SessionForget,
    /// A session was made for an object that was there.
    SessionAdopt,
    /// An object that no session explains is to stay as it is.
    DriftIgnore,
    /// An object that no session explains is to be removed.
    DriftDelete,
    /// Somebody got a ticket that opens a session in a browser.
    AccessGrant,
    /// A template was made.
    TemplateCreate,
    /// A template was replaced by another version.
    TemplateChange,
    /// A template was removed.
    TemplateDelete,
    /// A token was made.
    TokenCreate,
    /// A token was revoked.
    TokenDelete,
    /// A token that had expired was removed.
    TokenExpire,
    /// A user was made.
    UserCreate,
    /// A user was changed.
    UserChange,
    /// A user was removed, with their tokens.
    UserDelete,
    /// A controller was registered, or registered otherwise than before.
    ControllerRegister,
    /// Limits were set for a user.
    QuotaSet,
    /// What was set for a user was removed.
    QuotaRemove,
    /// An operator changed a controller.
    ControllerChange,
    /// A controller was removed.
    ControllerDelete,
    /// Another process of a controller is called from now on.
    ControllerActivate,
    /// Somebody registered or gave a sign of life who may not.
    ControllerRefuse,
    /// A join token was made.
    JoinTokenCreate,
    /// A join token was revoked.
    JoinTokenDelete,
    /// A join token that had expired was removed.
    JoinTokenExpire,
}

impl Action {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionCreate => "session.create",
            Self::SessionWake => "session.wake",
            Self::SessionHibernate => "session.hibernate",
            Self::SessionTerminate => "session.terminate",
            Self::SessionDelete => "session.delete",
            Self::SessionRetry => "session.retry",
            Self::SessionMigrate => "session.migrate",
            Self::SessionForget => "session.forget",
            Self::SessionAdopt => "session.adopt",
            Self::DriftIgnore => "drift.ignore",
            Self::DriftDelete => "drift.delete",
            Self::AccessGrant => "access.grant",
            Self::TemplateCreate => "template.create",
            Self::TemplateChange => "template.change",
            Self::TemplateDelete => "template.delete",
            Self::TokenCreate => "token.create",
            Self::TokenDelete => "token.delete",
            Self::TokenExpire => "token.expire",
            Self::UserCreate => "user.create",
            Self::UserChange => "user.change",
            Self::UserDelete => "user.delete",
            Self::ControllerRegister => "controller.register",
            Self::QuotaSet => "quota.set",
            Self::QuotaRemove => "quota.remove",
            Self::ControllerChange => "controller.change",
            Self::ControllerDelete => "controller.delete",
            Self::ControllerActivate => "controller.activate",
            Self::ControllerRefuse => "controller.refuse",
            Self::JoinTokenCreate => "join-token.create",
            Self::JoinTokenDelete => "join-token.delete",
            Self::JoinTokenExpire => "join-token.expire",
        }
    }

    /// What it is to wish a session in that state.
    pub fn of_wish(state: WishedState) -> Self {
        match state {
            WishedState::Running => Self::SessionWake,
            WishedState::Hibernated => Self::SessionHibernate,
            WishedState::Terminated => Self::SessionTerminate,
        }
    }
}

/// What something was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is: `session`, `template`, `token`, `user`, `controller`, …
    pub kind: &'static str,
    /// Its name.
    pub id: String,
}

/// One change, to be stored with it. Never with a secret in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    /// What was done.
    pub action: Action,
    /// To what.
    pub target: Target,
    /// What else is to be known; an object.
    pub details: Value,
}

impl Deed {
    /// Something was done to something.
    pub fn new(action: Action, kind: &'static str, id: impl Into<String>) -> Self {
        Self { action, target: Target { kind, id: id.into() }, details: json!({}) }
    }

    /// Something was done to a session.
    pub fn to_session(action: Action, id: &SessionId) -> Self {
        Self::new(action, "session", id.as_str())
    }

    /// Something was done to a controller.
    pub fn to_controller(action: Action, id: &ControllerId) -> Self {
        Self::new(action, "controller", id.as_str())
    }

    /// The same with more to be known.
    pub fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

/// An entry of the log as the store has it. Names are texts, because another version may have written them.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its place: the order of entries is that of commits.
    pub id: i64,
    /// When, by the clock of the database.
    pub at: DateTime<Utc>,
    /// `user`, `controller` or `system`.
    pub actor_kind: String,
    /// The user, the controller, or the server's rule.
    pub actor: String,
    /// What the user could do.
    pub role: Option<String>,
    /// The token they called with.
    pub token_id: Option<String>,
    /// Its name at the time.
    pub token_name: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// See [`Action::as_str`].
    pub action: String,
    /// See [`Target`].
    pub target_kind: String,
    /// See [`Target`].
    pub target: String,
    /// What else is to be known.
    pub details: Value,
}
