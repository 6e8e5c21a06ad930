//! The descriptors of `streamspace.api.v1`, and what follows from them: its fields are named as those of the REST API, so
//! that one form is made into the other by going through the fields of a message.

use axum::Router;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use streamspace_proto::api::v1::FILE_DESCRIPTOR_SET;
use tonic::server::NamedService;

use super::call::{go_text, json_object, struct_of};
use crate::ControlError;
use crate::control::Shared;
use crate::domain::GoDuration;
use crate::rest::problem::Problem;

/// The end of the name of every enum's zero.
const NOT_SAID: &str = "UNSPECIFIED";

/// All messages and services.
pub(crate) struct Contract {
    pool: DescriptorPool,
    reflection: Router<Arc<Shared>>,
}

/// What the REST API shows does not fit into a message: a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be shown")]
struct Misfit(String);

impl From<Misfit> for Problem {
    fn from(misfit: Misfit) -> Self {
        tracing::error!(%misfit, "an answer does not fit into its message");
        Self::internal()
    }
}

impl Contract {
    /// Reads what is built in.
    pub(crate) fn read() -> Result<Self, ControlError> {
        let broken = |error: &dyn std::error::Error| ControlError::Contract(error.to_string());
        let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| broken(&error))?;
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .map_err(|error| broken(&error))?;
        Ok(Self { reflection: reflection().map_err(|error| broken(&error))?, pool })
    }

    /// The paths of a service's methods.
    pub(super) fn methods(&self, service: &str) -> impl Iterator<Item = String> {
        let found = self.pool.get_service_by_name(service);
        let methods = found.into_iter().flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
    }

    /// The names of the services that clients of ours call.
    pub(super) fn services(&self) -> impl Iterator<Item = String> {
        self.pool.services().map(|service| service.full_name().to_owned())
    }

    /// Tells clients what there is.
    pub(super) fn reflection(&self) -> Router<Arc<Shared>> {
        self.reflection.clone()
    }

    /// What the REST API shows, as a message.
    pub(super) fn message<T>(&self, shown: &impl Serialize) -> Result<T, Problem>
    where
        T: Message + Name + Default,
    {
        let json = serde_json::to_value(shown).map_err(|error| Misfit(error.to_string()))?;
        self.fill(&json)
    }

    /// The same of its text.
    pub(super) fn message_of_text<T>(&self, shown: &str) -> Result<T, Problem>
    where
        T: Message + Name + Default,
    {
        let json = serde_json::from_str(shown).map_err(|error| Misfit(error.to_string()))?;
        self.fill(&json)
    }

    fn fill<T: Message + Name + Default>(&self, json: &Json) -> Result<T, Problem> {
        let filled = filled(&self.descriptor::<T>()?, json)?;
        Ok(filled.transcode_to().map_err(|error| Misfit(error.to_string()))?)
    }

    /// A message as the REST API would read it. What is not said in it is absent.
    pub(super) fn json<T: Message + Name>(&self, message: &T) -> Result<Map<String, Json>, Problem> {
        let mut whole = DynamicMessage::new(self.descriptor::<T>()?);
        whole.transcode_from(message).map_err(|error| Misfit(error.to_string()))?;
        Ok(said(&whole))
    }

    fn descriptor<T: Name>(&self) -> Result<MessageDescriptor, Misfit> {
        let name = T::full_name();
        self.pool.get_message_by_name(&name).ok_or(Misfit(name))
    }
}

fn reflection() -> Result<Router<Arc<Shared>>, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    fn path<S: NamedService>(_: &S) -> String {
        format!("/{}/ServerReflectionInfo", S::NAME)
    }
    // The second is what older tools ask.
    let (current, older) = (builder().build_v1()?, builder().build_v1alpha()?);
    Ok(Router::new().route_service(&path(&current), current).route_service(&path(&older), older))
}

/// A message with what an object says. A field of the object that the message does not have is left out: it belongs to
/// a later version, whose answer is given again here.
fn filled(descriptor: &MessageDescriptor, json: &Json) -> Result<DynamicMessage, Misfit> {
    let misfit = || Misfit(descriptor.full_name().to_owned());
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in json.as_object().ok_or_else(misfit)? {
        let Some(field) = descriptor.get_field_by_name(name) else {
            tracing::debug!(message = descriptor.full_name(), name, "a field has no place in its message");
            continue;
        };
        if !is_nothing(&field, value) {
            message.set_field(&field, whole(&field, value)?);
        }
    }
    Ok(message)
}

/// A length of time that is not set is an empty text.
fn is_nothing(field: &FieldDescriptor, json: &Json) -> bool {
    json.is_null() || (json == "" && field.kind().as_message().is_some())
}

fn whole(field: &FieldDescriptor, json: &Json) -> Result<Value, Misfit> {
    let misfit = || Misfit(field.full_name().to_owned());
    let kind = field.kind();
    if let Some(entry) = kind.as_message().filter(|_| field.is_map()) {
        let kind = entry.map_entry_value_field().kind();
        let entries = json.as_object().ok_or_else(misfit)?.iter();
        let entries = entries.map(|(key, value)| Ok((MapKey::String(key.clone()), single(&kind, value)?)));
        return Ok(Value::Map(entries.collect::<Result<_, Misfit>>()?));
    }
    if field.is_list() {
        let items = json.as_array().ok_or_else(misfit)?.iter().map(|item| single(&kind, item));
        return Ok(Value::List(items.collect::<Result<_, _>>()?));
    }
    single(&kind, json).map_err(|_| misfit())
}

fn single(kind: &Kind, json: &Json) -> Result<Value, Misfit> {
    let value = match kind {
        Kind::String => json.as_str().map(|text| Value::String(text.to_owned())),
        Kind::Bool => json.as_bool().map(Value::Bool),
        Kind::Double => json.as_f64().map(Value::F64),
        Kind::Uint32 => json.as_u64().and_then(|number| number.try_into().ok()).map(Value::U32),
        Kind::Uint64 => json.as_u64().map(Value::U64),
        Kind::Enum(descriptor) => json.as_str().map(|text| Value::EnumNumber(number(descriptor, text))),
        Kind::Message(descriptor) => return inner(descriptor, json).map(Value::Message),
        _ => None,
    };
    value.ok_or_else(|| Misfit(format!("{kind:?}")))
}

fn inner(descriptor: &MessageDescriptor, json: &Json) -> Result<DynamicMessage, Misfit> {
    let misfit = || Misfit(descriptor.full_name().to_owned());
    let mut message = DynamicMessage::new(descriptor.clone());
    let set = match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let time = json.as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
            let time = time.ok_or_else(misfit)?;
            let nanos = i32::try_from(time.timestamp_subsec_nanos()).map_err(|_| misfit())?;
            message.transcode_from(&prost_types::Timestamp { seconds: time.timestamp(), nanos })
        }
        "google.protobuf.Duration" => {
            let length = json.as_str().and_then(|text| GoDuration::parse(text).ok()).ok_or_else(misfit)?;
            let length = prost_types::Duration::try_from(length.length()).map_err(|_| misfit())?;
            message.transcode_from(&length)
        }
        "google.protobuf.Struct" => message.transcode_from(&struct_of(json.as_object().ok_or_else(misfit)?)),
        _ => return filled(descriptor, json),
    };
    set.map_err(|_| misfit())?;
    Ok(message)
}

/// What the names of an enum's values begin with.
fn prefix(descriptor: &EnumDescriptor) -> String {
    let zero = descriptor.get_value(0).map(|zero| zero.name().to_owned()).unwrap_or_default();
    zero.strip_suffix(NOT_SAID).unwrap_or_default().to_owned()
}

/// The value of a text, in whatever case the REST API writes it. One of a later version is not said here.
fn number(descriptor: &EnumDescriptor, text: &str) -> i32 {
    let plain = |text: &str| text.replace('_', "").to_ascii_uppercase();
    let prefix = prefix(descriptor);
    let mut values = descriptor.values();
    let found = values
        .find(|value| value.name().strip_prefix(&prefix).is_some_and(|name| plain(name) == plain(text)));
    found.map_or(0, |value| value.number())
}

/// What a message says: fields that know whether they were given, and all others but the zeros of enums. Times are the
/// server's.
fn said(message: &DynamicMessage) -> Map<String, Json> {
    let descriptor = message.descriptor();
    let fields = descriptor.fields().filter(|field| {
        let is_time =
            field.kind().as_message().is_some_and(|kind| kind.full_name() == "google.protobuf.Timestamp");
        let is_said =
            message.has_field(field) || !(field.supports_presence() || field.is_list() || field.is_map());
        is_said && !is_time && *message.get_field(field) != Value::EnumNumber(0)
    });
    fields.map(|field| (field.name().to_owned(), shown(&field.kind(), &message.get_field(&field)))).collect()
}

fn shown(kind: &Kind, value: &Value) -> Json {
    match (kind, value) {
        (_, Value::String(text)) => text.clone().into(),
        (_, Value::Bool(flag)) => (*flag).into(),
        (_, Value::F64(number)) => (*number).into(),
        (_, Value::U32(number)) => (*number).into(),
        (_, Value::U64(number)) => (*number).into(),
        (Kind::Enum(descriptor), Value::EnumNumber(number)) => {
            // A value that is none is for the reader to refuse, by the field's name.
            let name = descriptor.get_value(*number).map(|value| value.name().to_owned());
            let name = name.as_deref().and_then(|name| name.strip_prefix(&prefix(descriptor)));
            name.map_or_else(|| number.to_string(), str::to_ascii_lowercase).into()
        }
        (_, Value::Message(message)) => match message.descriptor().full_name() {
            "google.protobuf.Duration" => {
                message.transcode_to().map_or(Json::Null, |length| go_text(&length).into())
            }
            "google.protobuf.Struct" => {
                message.transcode_to().map_or(Json::Null, |object| json_object(object).into())
            }
            _ => said(message).into(),
        },
        (_, Value::List(items)) => items.iter().map(|item| shown(kind, item)).collect(),
        (Kind::Message(entry), Value::Map(entries)) => {
            let kind = entry.map_entry_value_field().kind();
            let entries =
                entries.iter().filter_map(|(key, value)| Some((key.as_str()?, shown(&kind, value))));
            entries.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
        }
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use streamspace_proto::api::v1 as proto;

    use super::*;

    #[test]
    fn what_is_shown_has_its_place() {
        let contract = Contract::read().unwrap();
        let session: proto::Session = contract
            .message(&json!({
                "id": "x", "state": "running", "phase": "Pending", "generation": 7, "deleting": true,
                "created_at": "2026-01-02T03:04:05.000006Z", "controller_config": {"a": [1, "b", null]},
                "spec": {
                    "base_image": "i", "idle_timeout": "1h30m", "max_session_duration": "", "labels": {"l": "v"},
                    "ports": [{"name": "", "container_port": 80, "protocol": "UDP"}],
                },
                "status": {"observed_generation": null, "operation": {"kind": "cleanup", "attempt": 1}},
                "of a later version": 1,
            }))
            .unwrap();
        assert_eq!(
            (session.state(), session.phase()),
            (proto::SessionState::Running, proto::SessionPhase::Pending)
        );
        assert_eq!((session.generation, session.deleting), (7, true));
        let created = session.created_at.unwrap();
        assert_eq!((created.seconds, created.nanos), (1_767_323_045, 6_000));
        let config = json_object(session.controller_config.unwrap());
        assert_eq!(Json::from(config), json!({"a": [1, "b", null]}));
        let spec = session.spec.unwrap();
        assert_eq!(spec.idle_timeout.unwrap().seconds, 5400);
        assert!(spec.max_session_duration.is_none() && spec.labels["l"] == "v");
        assert_eq!(spec.ports[0].protocol(), proto::PortProtocol::Udp);
        let status = session.status.unwrap();
        assert_eq!(status.observed_generation, None);
        assert_eq!(status.operation.unwrap().kind(), proto::OperationKind::CleanUp);

        assert!(contract.message::<proto::Session>(&json!({"id": 7})).is_err(), "a number is no id");
    }

    #[test]
    fn what_is_not_said_is_absent() {
        let contract = Contract::read().unwrap();
        let said = |request: &proto::CreateSessionRequest| Json::from(contract.json(request).unwrap());
        let nothing = json!({"template_id": "", "controller_id": "", "controller_type": ""});
        assert_eq!(said(&proto::CreateSessionRequest::default()), nothing);
        let request = proto::CreateSessionRequest {
            spec: Some(proto::SessionSpec {
                home_size: Some(String::new()),
                idle_timeout: Some(prost_types::Duration::default()),
                max_session_duration: Some(prost_types::Duration { seconds: 5400, nanos: 500_000_000 }),
                vnc: Some(proto::Vnc { protocol: 99, ..Default::default() }),
                ..Default::default()
            }),
            require: vec![proto::Requirement::PersistentStorage.into(), 0],
            ..Default::default()
        };
        let said = said(&request);
        assert_eq!(said["require"], json!(["persistent_storage", "unspecified"]));
        let spec = json!({
            "home_size": "", "idle_timeout": "", "max_session_duration": "1h30m0.5s", "vnc": {"protocol": "99"},
        });
        assert_eq!(said["spec"], spec);
    }

    #[test]
    fn every_enum_begins_with_what_is_not_said() {
        let contract = Contract::read().unwrap();
        let all = contract.pool.all_enums().filter(|one| one.package_name() == "streamspace.api.v1");
        let all: Vec<_> = all.collect();
        assert!(all.len() > 10);
        for descriptor in all {
            let prefix = prefix(&descriptor);
            assert!(prefix.ends_with('_'), "{}", descriptor.full_name());
            assert!(descriptor.values().all(|value| value.name().starts_with(&prefix)), "{prefix}");
        }
    }
}
