//! `POST /api/v1/controllers/register`: a process of a controller is there to be called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::API_VERSION;
use super::credential::Presented;
use super::heartbeat::check_instance;
use super::keys::KeySetView;
use super::refusals::{self, Refused as TurnedAway};
use crate::control::Shared;
use crate::domain::{
    ByteQuantity, Capabilities, Capacity, ControllerId, CpuQuantity, Endpoint, Epoch, GoDuration,
    InsecureEndpoint, InstanceRole, MAX_ID_BYTES, Registration, sha256_hex, shortened,
};
use crate::remote;
use crate::rest::extract::{Body, Json, NoParameters, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;
use crate::rest::validate::Faults;
use crate::store::{Enrolled, Enrollment, EnrollmentRefusal, Registered};

/// What a controller's token begins with.
const PREFIX: &str = "ssc_";
/// How long it is taken.
const TOKEN_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long it is taken once another one was used.
pub(super) const TOKEN_OVERLAP: Duration = Duration::from_secs(600);
/// Bytes of certificates.
const LARGEST_CA: usize = 64 * 1024;

/// A controller as it registers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControllerRegistration {
    /// The kind of backend.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 512, example = "docker")]
    kind: String,
    /// Unique within its type: with the type it says which controller it is.
    #[schema(min_length = 1, max_length = 512, example = "docker-controller-1")]
    name: String,
    /// Where it serves: `grpc://host:port` or `grpcs://host:port`. Empty = it connects by itself.
    #[schema(max_length = 512, example = "grpc://docker-controller.local:50051")]
    endpoint: String,
    /// What it can do. Its own answers to the same question win as soon as it is asked.
    #[serde(default)]
    capabilities: Option<RegisteredCapabilities>,
    /// What placement may choose by.
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// The process, of several for one controller; absent = the one and only.
    #[serde(default)]
    #[schema(max_length = 64)]
    instance: Option<String>,
    /// For `grpcs://`: certificates of authorities in PEM that its own comes from. Without them it has to come from one that
    /// the server's system trusts.
    #[serde(default)]
    #[schema(max_length = 65536)]
    ca: Option<String>,
}

/// What a controller can do.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegisteredCapabilities {
    /// Its own version.
    version: String,
    supports_hibernation: bool,
    supports_gpu: bool,
    supports_persistent_storage: bool,
    supports_networking: bool,
    supports_watch: bool,
    capacity: RegisteredCapacity,
}

/// How much a controller has.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegisteredCapacity {
    /// How many sessions it takes; 0 = no limit of its own.
    max_sessions: u32,
    /// Like `128Gi`.
    memory: Option<String>,
    /// Like `32`.
    cpu: Option<String>,
    /// Like `2Ti`.
    storage: Option<String>,
}

impl Body for ControllerRegistration {
    const OBJECTS: &'static [&'static str] = &["/capabilities", "/capabilities/capacity"];
}

/// The answer to a registration.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredController)]
struct Answer<'a> {
    controller_id: &'a ControllerId,
    /// What it comes with from now on. It is shown this once; the one before it is taken until this one is used with a sign of
    /// life, and ten more minutes.
    auth_token: &'a str,
    /// Until when that is taken. With it the process registers again before then, and gets another one.
    token_expires_at: DateTime<Utc>,
    /// Always `v1alpha1`.
    api_version: &'static str,
    /// No call under a lower epoch may change anything at the backend.
    epoch: Epoch,
    /// How long to wait before the next sign of life, at most.
    #[schema(value_type = String, example = "5s")]
    heartbeat_interval: GoDuration,
    /// How long the active process may be silent before another one is called. It changes nothing any more once this time is
    /// over, counted from when it sent what was answered last.
    #[schema(value_type = String, example = "15s")]
    lease: GoDuration,
    role: InstanceRole,
    keys: KeySetView,
}

/// Register a controller
///
/// For controllers that run elsewhere, once they serve: with a join token, or with the token of an earlier registration. The
/// same type and name are always the same controller. It is asked how it does at once.
#[utoipa::path(
    post,
    path = "/api/v1/controllers/register",
    operation_id = "register_controller",
    tag = "Remote controllers",
    security(("join_token" = []), ("controller_token" = [])),
    responses(
        (
            status = 200,
            body = Answer<'_>,
            description = "It is registered.",
            headers(("Cache-Control" = String, description = "`no-store`: the token must stay nowhere.")),
        ),
        Refused<400>,
        Refused<401>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    presented: Presented,
    _: Query<NoParameters>,
    Json(body): Json<ControllerRegistration>,
) -> Result<Response, Problem> {
    let valid = validate(body, shared.config.allow_insecure_endpoints)?;
    let token = format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let target = format!("{}/{}", valid.registration.controller_type, valid.registration.name);
    let enrollment = Enrollment {
        credential_hash: presented.hash.clone(),
        registration: valid.registration,
        capabilities: valid.capabilities,
        instance: valid.instance,
        ca: valid.ca,
        token_hash: sha256_hex(&token),
        token_life: TOKEN_LIFE,
        lease: shared.config.instance_lease,
        request_id: presented.request_id.clone(),
    };
    let Registered { id, epoch, role, token_expires_at } = match shared.store.enroll(enrollment).await? {
        Enrolled::Registered(registered) => registered,
        Enrolled::Refused(why) => {
            let (reason, problem) = refusal(why);
            let target = shortened(&target);
            let turned = TurnedAway { by: presented.actor(), target: &target, request: "register", reason };
            refusals::note(&shared, turned).await;
            return Err(problem);
        }
    };
    tracing::info!(controller = %id, name = target, role = ?role, "a controller has registered");
    shared.remotes.look_now().await;
    // It may have been known, and away: it is asked at once, and not only when its turn comes.
    shared.fleet.probe_now(&id);
    let keys = KeySetView::new(shared.store.server_keys().await?);
    let answer = Answer {
        controller_id: &id,
        auth_token: &token,
        token_expires_at,
        api_version: API_VERSION,
        epoch,
        heartbeat_interval: GoDuration::of(shared.config.heartbeat_interval()),
        lease: GoDuration::of(shared.config.instance_lease),
        role,
        keys,
    };
    // It must stay nowhere on its way.
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((uncached, Json(answer)).into_response())
}

/// Why, for the log, and what the caller hears.
fn refusal(why: EnrollmentRefusal) -> (&'static str, Problem) {
    match why {
        EnrollmentRefusal::Token => ("no valid token", Problem::unauthorized("the token is not valid")),
        EnrollmentRefusal::NotLetIn => (
            "the join token is for another type or name",
            Problem::forbidden("the join token does not let in a controller of this type and name"),
        ),
        EnrollmentRefusal::Known => (
            "the join token does not name the controller",
            Problem::forbidden(
                "a controller of this type and name is known already: it comes with its own token, or with a join token that \
                 names its type and its name",
            ),
        ),
        EnrollmentRefusal::Another => (
            "the token is another controller's",
            Problem::forbidden("the token is that of a controller of another type or name"),
        ),
        EnrollmentRefusal::Embedded => (
            "the controller is part of a server",
            Problem::conflict(
                "embedded-controller",
                "a controller of this type and name is part of a server, by its configuration; take it out of there, and \
                 let it in with a join token that names its type and its name",
            ),
        ),
        EnrollmentRefusal::TooMany => (
            "too many processes",
            Problem::conflict("too-many", "too many processes of this controller are registered"),
        ),
        EnrollmentRefusal::Elsewhere => (
            "the active process is elsewhere",
            Problem::conflict(
                "active-elsewhere",
                "the active process of this controller has the same name, is at another address and is still heard of; come \
                 again when its lease is over, or with its token, or under another name (instance)",
            ),
        ),
    }
}

/// A registration that makes sense.
struct Valid {
    registration: Registration,
    capabilities: Capabilities,
    instance: String,
    ca: String,
}

fn validate(body: ControllerRegistration, insecure: bool) -> Result<Valid, Problem> {
    let mut faults = Faults::default();
    faults.id("type", &body.kind);
    faults.id("name", &body.name);
    let endpoint = if body.endpoint.len() > MAX_ID_BYTES {
        faults.add("endpoint", format!("longer than {MAX_ID_BYTES} bytes"));
        None
    } else {
        Endpoint::parse(&body.endpoint).map_err(|error| faults.add("endpoint", error)).ok()
    };
    if endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_safe()) && !insecure {
        faults.add("endpoint", InsecureEndpoint);
    }
    let labels = body.labels.unwrap_or_default();
    faults.labels("labels", &labels);
    let instance = body.instance.unwrap_or_default();
    check_instance(&mut faults, &instance);
    let ca = body.ca.unwrap_or_default();
    if ca.len() > LARGEST_CA {
        faults.add("ca", format!("longer than {LARGEST_CA} bytes"));
    } else if !ca.is_empty() {
        if endpoint.is_some_and(|endpoint| !endpoint.is_tls()) {
            faults.add("ca", "is for grpcs:// only");
        }
        if let Err(error) = remote::trusted(&ca) {
            faults.add("ca", error);
        }
    }
    let given = body.capabilities.unwrap_or_default();
    faults.line("capabilities.version", &given.version, MAX_ID_BYTES);
    let RegisteredCapacity { max_sessions, memory, cpu, storage } = given.capacity;
    let memory = faults.parsed("capabilities.capacity.memory", memory, ByteQuantity::parse);
    let cpu = faults.parsed("capabilities.capacity.cpu", cpu, CpuQuantity::parse);
    let storage = faults.parsed("capabilities.capacity.storage", storage, ByteQuantity::parse);
    faults.finish()?;
    Ok(Valid {
        registration: Registration {
            controller_type: body.kind,
            name: body.name,
            endpoint: body.endpoint,
            labels,
        },
        capabilities: Capabilities {
            version: given.version,
            supports_hibernation: given.supports_hibernation,
            supports_gpu: given.supports_gpu,
            supports_persistent_storage: given.supports_persistent_storage,
            supports_networking: given.supports_networking,
            supports_watch: given.supports_watch,
            capacity: Capacity {
                max_sessions,
                total_memory: memory.map(|memory| memory.to_string()).unwrap_or_default(),
                total_cpu: cpu.map(|cpu| cpu.to_string()).unwrap_or_default(),
                total_storage: storage.map(|storage| storage.to_string()).unwrap_or_default(),
                ..Capacity::default()
            },
            labels: BTreeMap::new(),
        },
        instance,
        ca,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rest::extract::read_body;

    fn faults(body: &Value) -> String {
        let checked = read_body::<ControllerRegistration>(body.to_string().as_bytes())
            .and_then(|body| validate(body, false).map(drop));
        let Err(problem) = checked else { return String::new() };
        let status = problem.status().as_u16();
        let fields: Vec<_> = problem.into_errors().into_iter().map(|error| error.field).collect();
        format!("{status} {}", fields.join(" "))
    }

    #[test]
    fn the_designed_body_is_taken() {
        let body = json!({
            "type": "docker",
            "name": "docker-controller-1",
            "endpoint": "grpc://docker-controller.local:50051",
            "capabilities": {
                "supports_hibernation": true,
                "supports_gpu": false,
                "capacity": { "max_sessions": 50, "memory": "128Gi", "cpu": "32" },
            },
            "labels": { "region": "us-west-2", "environment": "production" },
        });
        assert_eq!(faults(&body), "422 endpoint", "it is not encrypted, and nobody has allowed that");
        let Ok(body) = read_body::<ControllerRegistration>(body.to_string().as_bytes()) else { panic!() };
        let Ok(valid) = validate(body, true) else { panic!() };
        assert!(valid.capabilities.supports_hibernation && valid.instance.is_empty() && valid.ca.is_empty());
        assert_eq!(valid.capabilities.capacity.max_sessions, 50);
        assert_eq!(valid.capabilities.capacity.total_memory, "128Gi");
    }

    #[test]
    fn every_fault_is_named() {
        let with = |field: &str, value: Value| {
            let mut body = json!({ "type": "docker", "name": "a", "endpoint": "" });
            body[field] = value;
            faults(&body)
        };
        assert_eq!(with("type", json!("")), "422 type");
        assert_eq!(with("name", json!("x".repeat(513))), "422 name");
        for endpoint in [
            "http://a:1",
            "grpc://a:1",
            "grpcs://169.254.169.254:1",
            "grpcs://[fe80::1]:1",
            "grpc://0.0.0.0:1",
        ] {
            assert_eq!(with("endpoint", json!(endpoint)), "422 endpoint", "{endpoint}");
        }
        for endpoint in ["grpc://127.0.0.1:1", "grpc://localhost:1", "grpcs://10.0.0.1:1", "grpcs://a:1"] {
            assert_eq!(with("endpoint", json!(endpoint)), "", "{endpoint}");
        }
        assert_eq!(with("labels", json!({ "a": "b\u{0}" })), "422 labels.a");
        assert_eq!(with("instance", json!("x".repeat(65))), "422 instance");
        assert_eq!(with("instance", json!("ä".repeat(64))), "");
        assert_eq!(with("ca", json!("none")), "422 ca ca");
        assert_eq!(
            with("capabilities", json!({ "capacity": { "memory": "lots" } })),
            "422 capabilities.capacity.memory"
        );
        assert_eq!(
            with("capabilities", json!({ "capacity": { "max_sessions": -1 } })),
            "400 capabilities.capacity.max_sessions"
        );
        assert_eq!(with("capabilities", json!(["1"])), "400 capabilities");
        assert_eq!(with("port", json!(1)), "400 port");
        assert_eq!(faults(&json!({ "type": "docker", "name": "a" })), "400 ");
    }
}
