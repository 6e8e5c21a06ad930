//! From a request to what the plugin gets. What the contract says of a plugin's input is checked here once more: a
//! controller can be called by others than our own API server.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use streamspace_proto::controller::v1 as proto;
use streamspace_proto::quantity::{ByteQuantity, CpuQuantity, InvalidQuantity};
use streamspace_runtime::MAX_HANDLE;
use streamspace_runtime::contract::types::{
    EnvVar, Home, Port, Resources, SessionRef, SessionRequest, SessionSpec, Transport, Vnc, Volume, WebApp,
};
use tonic::Status;

use super::check;
use crate::status::invalid;

/// Longest session id, in bytes; names on backends derive from it.
const MAX_SESSION_ID: usize = 64;

/// Longest user id, in bytes.
const MAX_USER_ID: usize = 512;

/// Longest id of a template, hash of a spec and name that a backend gave to a session, in bytes.
const MAX_NAME: usize = 1024;

/// Longest cursor, in bytes.
const MAX_CURSOR: usize = 64 << 10;

/// Where homes are mounted.
const HOME_PATH: &str = "/config";

/// Bytes of the hash that names a home: enough to never meet another user's.
const HOME_KEY_BYTES: usize = 16;

type Result<T> = std::result::Result<T, Status>;

/// The key of a user's home: safe in every backend's names, whatever the user id contains.
pub(crate) fn home_key(user_id: &str) -> String {
    hex::encode(&Sha256::digest(user_id)[..HOME_KEY_BYTES])
}

/// A session to be found again.
pub(crate) fn session_ref(session_id: String, node_id: String) -> Result<SessionRef> {
    check_session_id(&session_id)?;
    check::length("node_id", &node_id, MAX_NAME)?;
    Ok(SessionRef { session_id, node_id: some_unless_empty(node_id), external_ref: None })
}

/// A session to be made.
pub(crate) fn session_request(request: proto::CreateSessionRequest) -> Result<SessionRequest> {
    check_session_id(&request.session_id)?;
    if request.user_id.is_empty() || request.user_id.len() > MAX_USER_ID {
        return Err(invalid("user_id", &format!("must have 1 to {MAX_USER_ID} bytes")));
    }
    check::length("template_id", &request.template_id, MAX_NAME)?;
    check::length("spec_hash", &request.spec_hash, MAX_NAME)?;
    let spec = request.spec.ok_or_else(|| invalid("spec", "is required"))?;
    check::spec(&spec)?;
    Ok(SessionRequest {
        session_id: request.session_id,
        template_id: request.template_id,
        spec_hash: request.spec_hash,
        spec: session_spec(spec, &request.user_id, &request.controller_config)?,
        user_id: request.user_id,
    })
}

fn check_session_id(id: &str) -> Result<()> {
    let fits = !id.is_empty()
        && id.len() <= MAX_SESSION_ID
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits {
        return Ok(());
    }
    let rule = format!("must have 1 to {MAX_SESSION_ID} of: letters, digits, - _ .");
    Err(invalid("session_id", &rule))
}

fn session_spec(spec: proto::SessionSpec, user_id: &str, options: &str) -> Result<SessionSpec> {
    if spec.base_image.is_empty() {
        return Err(invalid("spec.base_image", "is required"));
    }
    let resources = spec.resources.unwrap_or_default();
    let home = match spec.persistent_home {
        true => Some(Home {
            key: home_key(user_id),
            mount_path: HOME_PATH.to_owned(),
            size_bytes: bytes("spec.home_size", &spec.home_size)?,
        }),
        false => None,
    };
    Ok(SessionSpec {
        image: spec.base_image,
        resources: Resources {
            memory_bytes: bytes("spec.resources.memory", &resources.memory)?,
            cpu_millis: cpu_millis("spec.resources.cpu", &resources.cpu)?,
            storage_bytes: bytes("spec.resources.storage", &resources.storage)?,
            gpus: 0,
            ext: Vec::new(),
        },
        ports: spec
            .ports
            .into_iter()
            .enumerate()
            .map(|(i, port)| session_port(i, port))
            .collect::<Result<_>>()?,
        env: spec
            .env
            .into_iter()
            .map(|variable| EnvVar { name: variable.name, value: variable.value, secret: variable.secret })
            .collect(),
        volumes: spec
            .volume_mounts
            .into_iter()
            .enumerate()
            .map(|(i, mount)| {
                Ok(Volume {
                    size_bytes: bytes(&format!("spec.volume_mounts[{i}].size"), &mount.size)?,
                    name: mount.name,
                    mount_path: mount.mount_path,
                    read_only: mount.read_only,
                })
            })
            .collect::<Result<_>>()?,
        home,
        vnc: match spec.vnc {
            Some(vnc) if vnc.enabled => Some(Vnc {
                port: port_number("spec.vnc.port", vnc.port)?,
                protocol: some_unless_empty(vnc.protocol).unwrap_or_else(|| "rfb".to_owned()),
            }),
            _ => None,
        },
        web_app: match spec.webapp {
            Some(app) if app.enabled => Some(WebApp {
                port: port_number("spec.webapp.port", app.port)?,
                path: some_unless_empty(app.path).unwrap_or_else(|| "/".to_owned()),
                health_check: app.health_check,
            }),
            _ => None,
        },
        labels: spec.labels.into_iter().collect(),
        options: json_object("controller_config", options)?,
        ext: Vec::new(),
    })
}

fn session_port(index: usize, port: proto::Port) -> Result<Port> {
    Ok(Port {
        number: port_number(&format!("spec.ports[{index}].container_port"), port.container_port)?,
        transport: match port.protocol.to_ascii_uppercase().as_str() {
            "" | "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            _ => return Err(invalid(&format!("spec.ports[{index}].protocol"), "must be TCP or UDP")),
        },
        name: port.name,
    })
}

fn port_number(field: &str, number: i32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid(field, "must be from 1 to 65535")),
    }
}

fn bytes(field: &str, text: &str) -> Result<Option<u64>> {
    quantity(field, text, |text| ByteQuantity::parse(text).map(|quantity| quantity.bytes()))
}

fn cpu_millis(field: &str, text: &str) -> Result<Option<u32>> {
    let millis =
        quantity(field, text, |text| CpuQuantity::parse(text).map(|quantity| quantity.millicores()))?;
    millis.map(|millis| u32::try_from(millis).map_err(|_| invalid(field, "too large"))).transpose()
}

fn quantity(
    field: &str,
    text: &str,
    parse: impl Fn(&str) -> std::result::Result<u64, InvalidQuantity>,
) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|error| invalid(field, &error.to_string()))
}

fn json_object(field: &str, text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok("{}".to_owned());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(_)) => Ok(text.to_owned()),
        Ok(_) => Err(invalid(field, "must be a JSON object")),
        Err(error) => Err(invalid(field, &format!("is no JSON: {error}"))),
    }
}

/// Where long work goes on. What is longer than any handle that a shell gives was never given by one.
pub(crate) fn handle(bytes: Vec<u8>) -> Result<Option<Vec<u8>>> {
    if bytes.len() > MAX_HANDLE {
        let rule = format!("is {} bytes long; no handle has more than {MAX_HANDLE}", bytes.len());
        return Err(invalid("handle", &rule));
    }
    Ok(some_unless_empty(bytes))
}

/// Where a listing, a log or a watch goes on.
pub(crate) fn cursor(text: String) -> Result<Option<String>> {
    check::length("cursor", &text, MAX_CURSOR)?;
    Ok(some_unless_empty(text))
}

/// The wire has no absence for texts and bytes.
pub(crate) fn some_unless_empty<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn request(spec: proto::SessionSpec) -> proto::CreateSessionRequest {
        proto::CreateSessionRequest {
            session_id: "s1".into(),
            user_id: "alice".into(),
            spec: Some(proto::SessionSpec { base_image: "busybox".into(), ..spec }),
            ..Default::default()
        }
    }

    fn field(status: &Status) -> String {
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    }

    #[test]
    fn a_handle_longer_than_any_is_refused_by_name() {
        assert_eq!(handle(Vec::new()).unwrap(), None);
        assert_eq!(handle(vec![1; MAX_HANDLE]).unwrap().unwrap().len(), MAX_HANDLE);
        assert_eq!(field(&handle(vec![1; MAX_HANDLE + 1]).unwrap_err()), "handle");
    }

    #[test]
    fn quantities_and_defaults_are_resolved() {
        let spec = session_request(request(proto::SessionSpec {
            resources: Some(proto::ResourceRequirements {
                memory: "64Mi".into(),
                cpu: "0.5".into(),
                storage: String::new(),
            }),
            persistent_home: true,
            webapp: Some(proto::WebAppConfig { enabled: true, port: 3000, ..Default::default() }),
            ..Default::default()
        }))
        .unwrap()
        .spec;
        assert_eq!((spec.resources.memory_bytes, spec.resources.cpu_millis), (Some(64 << 20), Some(500)));
        assert_eq!(spec.resources.storage_bytes, None);
        assert_eq!(spec.web_app.unwrap().path, "/");
        assert_eq!(spec.options, "{}");
        let home = spec.home.unwrap();
        assert_eq!((home.key.len(), home.mount_path.as_str()), (32, "/config"));
        assert!(spec.vnc.is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let port = |container_port, protocol: &str| proto::SessionSpec {
            ports: vec![proto::Port { name: "a".into(), container_port, protocol: protocol.into() }],
            ..Default::default()
        };
        for (spec, at) in [
            (port(0, ""), "spec.ports[0].container_port"),
            (port(70000, ""), "spec.ports[0].container_port"),
            (port(1, "SCTP"), "spec.ports[0].protocol"),
            (
                proto::SessionSpec {
                    resources: Some(proto::ResourceRequirements {
                        memory: "lots".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                "spec.resources.memory",
            ),
        ] {
            assert_eq!(field(&session_request(request(spec)).unwrap_err()), at);
        }
        let config =
            proto::CreateSessionRequest { controller_config: "[]".into(), ..request(Default::default()) };
        assert_eq!(field(&session_request(config).unwrap_err()), "controller_config");
        assert_eq!(field(&session_ref("a/../b".into(), String::new()).unwrap_err()), "session_id");
        assert_eq!(field(&session_ref("a".into(), "x".repeat(MAX_NAME + 1)).unwrap_err()), "node_id");
        assert_eq!(field(&cursor("x".repeat(MAX_CURSOR + 1)).unwrap_err()), "cursor");
        let template = proto::CreateSessionRequest {
            template_id: "x".repeat(MAX_NAME + 1),
            ..request(Default::default())
        };
        assert_eq!(field(&session_request(template).unwrap_err()), "template_id");
        let env = vec![proto::EnvVar { name: "A=B".into(), ..Default::default() }];
        let spec = proto::SessionSpec { env, ..Default::default() };
        assert_eq!(field(&session_request(request(spec)).unwrap_err()), "spec.env[0].name");
    }
}
