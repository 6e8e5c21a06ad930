//! Messages of gRPC clients have the fields of the REST API, and their enums its words: what one of them shows has its
//! place in the other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{Backend, Server};
use prost_reflect::DescriptorPool;
use serde_json::Value;
use streamspace_proto::api::v1::FILE_DESCRIPTOR_SET;

/// The schemas of the REST API, their messages, and the fields that only the message has.
const MESSAGES: [(&str, &str, &[&str]); 39] = [
    ("Session", "Session", &[]),
    ("SessionStatus", "SessionStatus", &[]),
    ("Condition", "Condition", &[]),
    ("Operation", "Operation", &[]),
    ("SessionSpec", "SessionSpec", &[]),
    ("SpecDraft", "SessionSpec", &[]),
    ("Resources", "Resources", &[]),
    ("ResourcesDraft", "Resources", &[]),
    ("Port", "Port", &[]),
    ("PortDraft", "Port", &[]),
    ("EnvVar", "EnvVar", &[]),
    ("EnvDraft", "EnvVar", &[]),
    ("VolumeMount", "VolumeMount", &[]),
    ("MountDraft", "VolumeMount", &[]),
    ("Vnc", "Vnc", &[]),
    ("VncDraft", "Vnc", &[]),
    ("WebApp", "WebApp", &[]),
    ("WebAppDraft", "WebApp", &[]),
    ("CreateSession", "CreateSessionRequest", &["idempotency_key", "wait"]),
    ("SessionPage", "ListSessionsResponse", &[]),
    ("Usage", "SessionUsage", &[]),
    ("UsageNow", "UsageNow", &[]),
    ("Counters", "UsageCounters", &[]),
    ("Rates", "UsageRates", &[]),
    ("LogLine", "LogLine", &[]),
    ("Event", "Event", &[]),
    ("EventPage", "ListSessionEventsResponse", &[]),
    ("Explanation", "SessionExplanation", &[]),
    ("Placement", "Placement", &[]),
    ("PlacementRequest", "PlacementRequest", &[]),
    ("TemplateOffer", "TemplateOffer", &[]),
    ("Verdict", "PlacementVerdict", &[]),
    ("Share", "PlacementShare", &[]),
    ("Migration", "MigrateSessionRequest", &["id", "idempotency_key", "wait"]),
    ("Access", "SessionAccess", &[]),
    ("Service", "AccessService", &[]),
    ("TemplateInput", "Template", &["etag"]),
    ("ImportReport", "ImportTemplatesResponse", &[]),
    ("ImportItem", "ImportedTemplate", &[]),
];

/// The same for what stands in a file of its own.
const MORE: [(&str, &str); 5] = [
    ("FieldError", "FieldError"),
    ("Controller", "Controller"),
    ("Capabilities", "ControllerCapabilities"),
    ("Capacity", "ControllerCapacity"),
    ("Reserved", "ControllerReserved"),
];

const ENUMS: [(&str, &str); 11] = [
    ("WishedState", "SessionState"),
    ("Phase", "SessionPhase"),
    ("ConditionStatus", "ConditionStatus"),
    ("OperationKind", "OperationKind"),
    ("PortProtocol", "PortProtocol"),
    ("VncProtocol", "VncProtocol"),
    ("Requirement", "Requirement"),
    ("ControllerStatus", "ControllerStatus"),
    ("AppType", "AppType"),
    ("ImportOutcome", "ImportResult"),
    ("QuotaKind", "Resource"),
];

async fn schemas() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &Backend::default()).await;
    let document = server.get("/api/openapi.json").await.json();
    server.stop().await;
    document["components"]["schemas"].clone()
}

#[tokio::test]
async fn messages_have_the_fields_of_the_rest_api() {
    let schemas = schemas().await;
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let more = MORE.iter().map(|(schema, message)| (*schema, *message, [].as_slice()));
    for (schema, message, own) in MESSAGES.into_iter().chain(more) {
        let shown = schemas[schema]["properties"].as_object().unwrap_or_else(|| panic!("{schema}"));
        let shown: BTreeSet<_> = shown.keys().map(String::as_str).chain(own.iter().copied()).collect();
        let descriptor = pool.get_message_by_name(&format!("streamspace.api.v1.{message}")).expect(message);
        let fields: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
        assert_eq!(fields.iter().map(String::as_str).collect::<BTreeSet<_>>(), shown, "{schema}, {message}");
    }
}

#[tokio::test]
async fn enums_have_the_words_of_the_rest_api() {
    let schemas = schemas().await;
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    for (schema, name) in ENUMS {
        let words = match schemas[schema]["enum"].as_array() {
            Some(words) => words.iter().map(|word| plain(word.as_str().unwrap())).collect::<BTreeSet<_>>(),
            // Each with a description of its own.
            None => {
                let all = schemas[schema]["oneOf"].as_array().unwrap_or_else(|| panic!("{schema}"));
                all.iter().map(|one| plain(one["enum"][0].as_str().unwrap())).collect()
            }
        };
        let descriptor = pool.get_enum_by_name(&format!("streamspace.api.v1.{name}")).expect(name);
        let zero = descriptor.get_value(0).unwrap().name().to_owned();
        let prefix = zero.strip_suffix("UNSPECIFIED").expect(name).to_owned();
        let values = descriptor.values().filter(|value| value.number() != 0);
        let values: BTreeSet<_> =
            values.map(|value| plain(value.name().strip_prefix(&prefix).expect(name))).collect();
        assert_eq!(values, words, "{schema}, {name}");
    }
}
