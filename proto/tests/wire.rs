//! The bytes that the messages of the first ten RPCs are on the wire, and the numbers of all fields. Controllers in other
//! languages and of other versions count on both: what stands in `wire.txt` never changes, there are only lines to come.
//!
//! `STREAMSPACE_UPDATE_GOLDEN=1 cargo test -p streamspace-proto --test wire` writes the file anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use prost::Message;
use prost_types::{Duration, FileDescriptorSet, Timestamp};
use streamspace_proto::controller::v1::*;

/// A message, its name, and that it reads as what was written.
fn line<M: Message + Default + PartialEq + std::fmt::Debug>(lines: &mut String, name: &str, message: &M) {
    let bytes = message.encode_to_vec();
    assert_eq!(&M::decode(bytes.as_slice()).unwrap(), message, "{name}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(lines, "{name}: {hex}").unwrap();
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn timestamp() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_763_373_600, nanos: 250_000_000 })
}

fn soon() -> Option<Duration> {
    Some(Duration { seconds: 1, nanos: 500_000_000 })
}

fn conditions() -> Vec<Condition> {
    vec![Condition {
        r#type: text("ImagePulled"),
        status: text("False"),
        reason: text("Pulling"),
        message: text("layer 3 of 7"),
        last_transition_time: timestamp(),
    }]
}

fn usage() -> Option<ResourceUsage> {
    Some(ResourceUsage { memory: text("512Mi"), cpu: text("250m"), memory_percent: 25.0, cpu_percent: 12.5 })
}

fn spec() -> SessionSpec {
    SessionSpec {
        base_image: text("lscr.io/linuxserver/firefox:latest"),
        resources: Some(ResourceRequirements {
            memory: text("2Gi"),
            cpu: text("1000m"),
            storage: text("50Gi"),
        }),
        ports: vec![Port { name: text("web"), container_port: 3000, protocol: text("TCP") }],
        env: vec![EnvVar { name: text("PUID"), value: text("1000"), secret: true }],
        volume_mounts: vec![VolumeMount {
            name: text("data"),
            mount_path: text("/data"),
            read_only: true,
            size: text("1Gi"),
        }],
        vnc: Some(VncConfig { enabled: true, port: 5900, protocol: text("rfb") }),
        webapp: Some(WebAppConfig {
            enabled: true,
            port: 3000,
            path: text("/app"),
            health_check: text("/health"),
        }),
        persistent_home: true,
        home_size: text("10Gi"),
        idle_timeout: text("30m"),
        max_session_duration: text("8h"),
        labels: [(text("team"), text("a"))].into(),
    }
}

fn status() -> SessionStatusResponse {
    SessionStatusResponse {
        session_id: text("s-1"),
        phase: text("Running"),
        url: text("http://10.0.0.7:3000"),
        node_id: text("n-1"),
        last_activity: timestamp(),
        resource_usage: usage(),
        conditions: conditions(),
    }
}

/// One of each, with every field set to something.
fn lifecycle(lines: &mut String) {
    let handle = b"step 2".to_vec();
    let (session_id, node_id, operation_id) = (text("s-1"), text("n-1"), text("op-1"));
    line(
        lines,
        "CreateSessionRequest",
        &CreateSessionRequest {
            session_id: session_id.clone(),
            user_id: text("alice"),
            template_id: text("firefox"),
            spec: Some(spec()),
            controller_config: text(r#"{"a":1}"#),
            generation: 3,
            epoch: 7,
            operation_id: operation_id.clone(),
            spec_hash: text("c0ffee"),
            handle: handle.clone(),
        },
    );
    line(
        lines,
        "CreateSessionResponse",
        &CreateSessionResponse {
            session_id: session_id.clone(),
            node_id: node_id.clone(),
            phase: text("Pending"),
            url: text("http://10.0.0.7:3000"),
            message: text("pulling"),
            handle: handle.clone(),
            in_progress: true,
            poll_after: soon(),
            conditions: conditions(),
        },
    );
    line(
        lines,
        "GetSessionRequest",
        &GetSessionRequest { session_id: session_id.clone(), node_id: node_id.clone() },
    );
    line(
        lines,
        "GetSessionResponse",
        &GetSessionResponse {
            status: Some(status()),
            spec: Some(spec()),
            user_id: text("alice"),
            ownership: Ownership::Adoptable.into(),
        },
    );
    line(
        lines,
        "DeleteSessionRequest",
        &DeleteSessionRequest {
            session_id: session_id.clone(),
            node_id: node_id.clone(),
            generation: 3,
            epoch: 7,
            operation_id: operation_id.clone(),
            handle: handle.clone(),
            purge_home: true,
            user_id: text("alice"),
        },
    );
    line(
        lines,
        "DeleteSessionResponse",
        &DeleteSessionResponse {
            session_id: session_id.clone(),
            success: true,
            message: text("gone"),
            handle: handle.clone(),
            in_progress: true,
            poll_after: soon(),
            conditions: conditions(),
        },
    );
    line(
        lines,
        "HibernateSessionRequest",
        &HibernateSessionRequest {
            session_id: session_id.clone(),
            node_id: node_id.clone(),
            generation: 3,
            epoch: 7,
            operation_id: operation_id.clone(),
            handle: handle.clone(),
        },
    );
    line(
        lines,
        "HibernateSessionResponse",
        &HibernateSessionResponse {
            session_id: session_id.clone(),
            phase: text("Hibernated"),
            message: text("stopped"),
            handle: handle.clone(),
            in_progress: true,
            poll_after: soon(),
            conditions: conditions(),
        },
    );
    line(
        lines,
        "WakeSessionRequest",
        &WakeSessionRequest {
            session_id: session_id.clone(),
            node_id,
            generation: 3,
            epoch: 7,
            operation_id,
            handle: handle.clone(),
        },
    );
    line(
        lines,
        "WakeSessionResponse",
        &WakeSessionResponse {
            session_id,
            phase: text("Running"),
            url: text("http://10.0.0.7:3000"),
            message: text("started"),
            handle,
            in_progress: true,
            poll_after: soon(),
            conditions: conditions(),
        },
    );
}

fn observation(lines: &mut String) {
    let (session_id, node_id) = (text("s-1"), text("n-1"));
    line(
        lines,
        "GetSessionStatusRequest",
        &GetSessionStatusRequest {
            session_id: session_id.clone(),
            node_id: node_id.clone(),
            handle: b"step 2".to_vec(),
        },
    );
    line(lines, "SessionStatusResponse", &status());
    line(
        lines,
        "GetSessionMetricsRequest",
        &GetSessionMetricsRequest {
            session_id: session_id.clone(),
            node_id: node_id.clone(),
            handle: b"step 2".to_vec(),
        },
    );
    line(
        lines,
        "SessionMetricsResponse",
        &SessionMetricsResponse {
            session_id: session_id.clone(),
            usage: usage(),
            custom_metrics: [(text("fps"), text("30"))].into(),
            sampled_at: timestamp(),
            counters: Some(ResourceCounters {
                cpu_ns: Some(1),
                network_rx_bytes: Some(2),
                network_tx_bytes: Some(3),
                disk_read_bytes: Some(0),
                disk_write_bytes: None,
            }),
        },
    );
    line(
        lines,
        "GetSessionLogsRequest",
        &GetSessionLogsRequest { session_id, node_id, follow: true, tail_lines: 100, cursor: text("c-9") },
    );
    line(
        lines,
        "LogEntry",
        &LogEntry {
            timestamp: timestamp(),
            message: text("ready"),
            stream: text("stdout"),
            cursor: text("c-10"),
        },
    );
    line(lines, "GetCapabilitiesRequest", &GetCapabilitiesRequest {});
    line(
        lines,
        "CapabilitiesResponse",
        &CapabilitiesResponse {
            controller_type: text("docker"),
            version: text("28.0"),
            supports_hibernation: true,
            supports_gpu: true,
            supports_persistent_storage: true,
            supports_networking: true,
            capacity: Some(ResourceCapacity {
                max_sessions: 50,
                total_memory: text("128Gi"),
                total_cpu: text("32"),
                total_storage: text("2Ti"),
                available_memory: text("96Gi"),
                available_cpu: text("24"),
                available_storage: text("1Ti"),
            }),
            labels: [(text("arch"), text("amd64"))].into(),
            supports_metrics: true,
            supports_logs: true,
            supports_watch: true,
        },
    );
    line(lines, "HealthCheckRequest", &HealthCheckRequest {});
    line(
        lines,
        "HealthCheckResponse",
        &HealthCheckResponse { status: text("healthy"), message: text("well"), current_sessions: 15 },
    );
}

/// Every method with its messages, and every field with its number and its type.
fn numbers(lines: &mut String) {
    let set = FileDescriptorSet::decode(streamspace_proto::FILE_DESCRIPTOR_SET).unwrap();
    let file = set.file.iter().find(|file| file.package() == "streamspace.controller.v1").unwrap();
    for service in &file.service {
        for method in &service.method {
            let stream = |streamed: bool| if streamed { "stream " } else { "" };
            let (asked, answered) = (stream(method.client_streaming()), stream(method.server_streaming()));
            let (input, output) = (method.input_type(), method.output_type());
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            writeln!(lines, "{path}: {asked}{input} -> {answered}{output}").unwrap();
        }
    }
    for message in &file.message_type {
        for field in &message.field {
            let kind = match field.type_name() {
                "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
                name => name.to_owned(),
            };
            let many = if field.label().as_str_name() == "LABEL_REPEATED" { "repeated " } else { "" };
            writeln!(lines, "{}.{} = {}: {many}{kind}", message.name(), field.name(), field.number())
                .unwrap();
        }
    }
    for kind in &file.enum_type {
        for value in &kind.value {
            writeln!(lines, "{}.{} = {}", kind.name(), value.name(), value.number()).unwrap();
        }
    }
}

#[test]
fn the_wire_is_what_it_was() {
    let mut lines = String::new();
    lifecycle(&mut lines);
    observation(&mut lines);
    numbers(&mut lines);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire.txt");
    if std::env::var_os("STREAMSPACE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    let (now, before): (Vec<_>, Vec<_>) = (lines.lines().collect(), golden.lines().collect());
    for line in &before {
        assert!(now.contains(line), "this is on the wire no more: {line}");
    }
    for line in &now {
        assert!(before.contains(line), "this is new on the wire, and not in wire.txt: {line}");
    }
}
