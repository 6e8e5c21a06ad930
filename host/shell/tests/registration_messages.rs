//! The texts of registration and heartbeat: controllers and API servers of different versions count on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use streamspace_runtime::contract::plugin::{Capabilities, Capacity, Health, Report};
use streamspace_shell::registration::{
    Heartbeat, HeartbeatAnswer, InstanceStatus, Registered, Registration, Role, WantedState,
};

fn report() -> Report {
    Report {
        health: Health::Healthy,
        message: String::new(),
        backend_version: "28.0\n(linux)".to_owned(),
        current_sessions: 15,
        capabilities: Capabilities {
            hibernation: true,
            gpu: false,
            persistent_storage: true,
            networking: true,
            metrics: true,
            logs: true,
            watch: true,
            ext: Vec::new(),
        },
        capacity: Capacity {
            max_sessions: Some(50),
            total_memory_bytes: Some(137_438_953_472),
            available_memory_bytes: Some(103_079_215_104),
            total_cpu_millis: Some(32_000),
            available_cpu_millis: Some(24_000),
            total_storage_bytes: Some(2_199_023_255_552),
            available_storage_bytes: None,
        },
        labels: vec![("arch".to_owned(), "amd64".to_owned())],
        ext: Vec::new(),
    }
}

fn registration() -> Registration {
    Registration {
        controller_type: "docker".to_owned(),
        name: "docker-controller-1".to_owned(),
        endpoint: "grpcs://docker-controller.local:50051".to_owned(),
        capabilities: (&report()).into(),
        labels: [("region", "us-west-2"), ("environment", "production")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        instance: "67e5504410b1426f9247bb680e5fe0c8".to_owned(),
        ca: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
    }
}

fn written(message: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(message).unwrap()
}

#[test]
fn a_registration_is_what_it_was() {
    assert_eq!(written(&registration()), include_str!("golden/registration.json").trim_end());
    // The original design's fields, under their names.
    let body = serde_json::to_value(registration()).unwrap();
    for path in [
        "/type",
        "/name",
        "/endpoint",
        "/capabilities/supports_hibernation",
        "/capabilities/supports_gpu",
        "/capabilities/capacity/max_sessions",
        "/capabilities/capacity/memory",
        "/capabilities/capacity/cpu",
        "/labels/region",
    ] {
        assert!(body.pointer(path).is_some(), "{path}");
    }
}

#[test]
fn what_is_not_known_is_not_said() {
    let bare = Registration { capabilities: Default::default(), ca: None, ..registration() };
    let body = serde_json::to_value(bare).unwrap();
    assert_eq!(body["capabilities"]["capacity"], json!({}));
    assert!(body.get("ca").is_none());
    let nothing_left = Capacity { total_memory_bytes: Some(0), total_cpu_millis: None, ..report().capacity };
    let body = serde_json::to_value(Registration {
        capabilities: (&Report { capacity: nothing_left, ..report() }).into(),
        ..registration()
    });
    // Nothing is no quantity.
    let capacity = json!({"max_sessions": 50, "storage": "2199023255552"});
    assert_eq!(body.unwrap()["capabilities"]["capacity"], capacity);
}

#[test]
fn a_heartbeat_is_what_it_was() {
    let heartbeat = Heartbeat::of("67e5504410b1426f9247bb680e5fe0c8", Some(&report()));
    assert_eq!(written(&heartbeat), include_str!("golden/heartbeat.json").trim_end());
    let blind = serde_json::to_value(Heartbeat::of("i", None)).unwrap();
    assert_eq!(
        blind,
        json!({"status": "unhealthy", "current_sessions": 0, "resource_usage": {}, "instance": "i"})
    );
    let idle = Capacity {
        available_memory_bytes: Some(137_438_953_472),
        available_cpu_millis: None,
        ..report().capacity
    };
    let unhealthy = Report { health: Health::Unhealthy, capacity: idle, ..report() };
    let unhealthy = serde_json::to_value(Heartbeat::of("i", Some(&unhealthy))).unwrap();
    assert_eq!(
        unhealthy,
        json!({"status": "unhealthy", "current_sessions": 15, "resource_usage": {}, "instance": "i"})
    );
    assert_eq!(serde_json::to_value(InstanceStatus::Draining).unwrap(), "draining");
}

#[test]
fn the_answer_to_a_registration_is_read() {
    let golden: Value = serde_json::from_str(include_str!("golden/registered.json")).unwrap();
    let answer: Registered = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!((answer.controller_id.as_str(), answer.auth_token.as_str()), ("ctrl-abc123", "ssc_1"));
    assert_eq!((answer.api_version.as_str(), answer.epoch), ("v1alpha1", 7));
    assert_eq!((answer.interval(), answer.role), (Duration::from_secs(30), Role::Active));
    assert_eq!(serde_json::to_value(&answer.keys).unwrap(), golden["keys"]);
    // The original design's answer has less; without keys nobody's calls could be taken.
    let mut less = golden;
    for key in ["epoch", "heartbeat_interval", "role"] {
        less.as_object_mut().unwrap().remove(key);
    }
    let answer: Registered = serde_json::from_value(less.clone()).unwrap();
    assert_eq!((answer.epoch, answer.interval(), answer.role), (0, Duration::from_secs(30), Role::Active));
    less.as_object_mut().unwrap().remove("keys");
    assert!(serde_json::from_value::<Registered>(less).is_err());
}

#[test]
fn the_answer_to_a_heartbeat_is_read() {
    let golden: Value = serde_json::from_str(include_str!("golden/heartbeat_answer.json")).unwrap();
    let answer: HeartbeatAnswer = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!((answer.state, answer.role, answer.epoch), (WantedState::Drain, Role::Standby, 8));
    assert_eq!(answer.interval(), Duration::from_millis(1500));
    assert_eq!(serde_json::to_value(&answer.keys).unwrap(), golden["keys"]);
}
