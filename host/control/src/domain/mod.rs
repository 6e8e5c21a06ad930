//! The words of the API server as types, and the one decision what to do next with a session.

mod account;
mod audit;
mod canonical;
mod capacity;
mod condition;
mod controller;
mod draft;
mod drift;
mod endpoint;
mod event;
mod ids;
mod lane;
mod lifecycle;
mod operation;
mod overcommit;
mod policy;
mod quota;
mod registry;
mod session;
mod spec;
mod template;
mod text;

pub use account::{Role, Token, User};
pub use audit::{Action, Actor, AuditEntry, Deed, Rule};
pub use canonical::{canonical_json, sha256_hex};
pub use capacity::{Amounts, Ledger, Share};
pub use condition::{Condition, ConditionStatus, Conditions, condition_type};
pub use controller::{Capabilities, Capacity, Controller, ControllerStatus, HOME_STORAGE, Registration};
pub use draft::{EnvDraft, MountDraft, PortDraft, ResourcesDraft, SpecDraft, VncDraft, WebAppDraft};
pub use drift::{
    Drift, DriftAlarm, DriftAlarmKind, DriftId, DriftObject, DriftOwnership, DriftReason, DriftState,
};
pub use endpoint::{Endpoint, InsecureEndpoint, InvalidEndpoint, never_called};
pub use event::{Event, EventCursor, Happening};
pub use ids::{ControllerId, Epoch, Generation, InvalidId, MAX_ID_BYTES, OperationId, SessionId};
pub use lane::{Lane, Room};
pub use lifecycle::{Step, decide};
pub use operation::{Operation, OperationKind};
pub use overcommit::{Factor, Overcommit};
pub use policy::{Limit, Verdict, due, verdict};
pub use quota::{Limits, Quota, QuotaExcess, QuotaKind, QuotaOverride, UNLIMITED, Usage};
pub use registry::{Instance, InstanceRole, InstanceStatus, JoinToken, LONGEST_INSTANCE, Place, ServerKey};
pub use session::{Phase, PlacementRequest, Requirement, Session, Wish, WishedState};
pub use spec::{EnvVar, Port, PortProtocol, Resources, SessionSpec, Vnc, VncProtocol, VolumeMount, WebApp};
pub use streamspace_proto::quantity::{ByteQuantity, CpuQuantity};
pub use streamspace_proto::span::{GoDuration, InvalidDuration};
pub use template::{AppType, Template, TemplateBody, TemplateOffer, merge_objects};
pub(crate) use text::shortened;

use chrono::{DateTime, SubsecRound, Utc};

#[cfg(test)]
pub(crate) use lifecycle::tests::session as test_session;
#[cfg(test)]
pub(crate) fn test_spec() -> SessionSpec {
    test_session(Wish::State(WishedState::Running), false, Phase::Pending).spec
}

/// The present, in the microseconds that every database can keep.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
