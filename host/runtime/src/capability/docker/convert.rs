//! Between the engine's types and the contract's.

use std::collections::HashMap;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryHealthStatusEnum,
    ContainerSummaryStateEnum, HealthStatusEnum, NetworkSettings, PortSummary, PortSummaryTypeEnum,
    SystemInfo,
};
use streamspace_bindings::imports::docker::{
    Container, ContainerHealth, ContainerState, EngineInfo, ExposedPort, PublishedPort,
};
use streamspace_bindings::types::Transport;

use super::labels;

pub(super) fn engine_info(info: SystemInfo, api_version: String) -> EngineInfo {
    let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
    runtimes.sort();
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        api_version,
        os_type: info.os_type.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        runtimes,
        storage_driver: info.driver.unwrap_or_default(),
        devices: info
            .discovered_devices
            .unwrap_or_default()
            .into_iter()
            .filter(|device| device.source.as_deref() == Some("cdi"))
            .filter_map(|device| device.id)
            .collect(),
        ext: Vec::new(),
    }
}

/// The engine's `3000/tcp`. Protocols other than TCP and UDP are nothing a session can use.
pub(super) fn exposed_port(text: &str) -> Option<ExposedPort> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some(ExposedPort { number: number.parse().ok()?, transport: transport(protocol)? })
}

/// The other way round.
pub(super) fn port_text(port: &ExposedPort) -> String {
    let protocol = match port.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("{}/{protocol}", port.number)
}

fn transport(protocol: &str) -> Option<Transport> {
    match protocol {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        _ => None,
    }
}

pub(super) fn inspected(found: ContainerInspectResponse) -> Container {
    let config = found.config.unwrap_or_default();
    let state = found.state.unwrap_or_default();
    let network = found.network_settings.unwrap_or_default();
    let health =
        state.health.and_then(|health| health.status).map_or(ContainerHealth::None, |status| match status {
            HealthStatusEnum::STARTING => ContainerHealth::Starting,
            HealthStatusEnum::HEALTHY => ContainerHealth::Healthy,
            HealthStatusEnum::UNHEALTHY => ContainerHealth::Unhealthy,
            HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => ContainerHealth::None,
        });
    let status = state.status.unwrap_or(ContainerStateStatusEnum::EMPTY);
    Container {
        id: found.id.unwrap_or_default(),
        name: found.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        labels: labels::told(config.labels.unwrap_or_default()),
        state: match status {
            ContainerStateStatusEnum::CREATED => ContainerState::Created,
            ContainerStateStatusEnum::EMPTY => ContainerState::Unknown,
            ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => ContainerState::Running,
            ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
            ContainerStateStatusEnum::RESTARTING => ContainerState::Restarting,
            ContainerStateStatusEnum::REMOVING => ContainerState::Removing,
            ContainerStateStatusEnum::EXITED => ContainerState::Exited,
            ContainerStateStatusEnum::DEAD => ContainerState::Dead,
        },
        exit_code: state.exit_code,
        oom_killed: state.oom_killed.unwrap_or_default(),
        restart_count: found.restart_count.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        health,
        failure: state.error.unwrap_or_default(),
        ports: published(&network),
        address: network
            .networks
            .unwrap_or_default()
            .into_values()
            .filter_map(|endpoint| endpoint.ip_address)
            .find(|address| !address.is_empty()),
        created_at_ms: found.created.and_then(|time| u64::try_from(time.timestamp_millis()).ok()),
        started_at_ms: state.started_at.as_deref().and_then(time_ms),
        finished_at_ms: state.finished_at.as_deref().and_then(time_ms),
        ext: Vec::new(),
    }
}

/// The engine's times are RFC 3339; year 1 stands for never.
fn time_ms(text: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}

fn published(network: &NetworkSettings) -> Vec<PublishedPort> {
    let mut ports: Vec<PublishedPort> = network
        .ports
        .iter()
        .flatten()
        .filter_map(|(port, bindings)| Some((exposed_port(port)?, bindings.as_ref()?)))
        .flat_map(|(port, bindings)| {
            bindings.iter().filter_map(move |binding| {
                Some(PublishedPort {
                    container_port: port.number,
                    transport: port.transport,
                    host_address: binding.host_ip.clone().unwrap_or_default(),
                    host_port: binding.host_port.as_ref()?.parse().ok()?,
                })
            })
        })
        .collect();
    ports.sort_by_key(|port| (port.container_port, port.host_port));
    ports
}

pub(super) fn listed(found: ContainerSummary) -> Container {
    let state = found.state.unwrap_or(ContainerSummaryStateEnum::EMPTY);
    let health = found.health.and_then(|health| health.status);
    let status = found.status.unwrap_or_default();
    Container {
        id: found.id.unwrap_or_default(),
        name: found
            .names
            .unwrap_or_default()
            .first()
            .map(|name| name.trim_start_matches('/').to_owned())
            .unwrap_or_default(),
        image: found.image.unwrap_or_default(),
        labels: labels::told(found.labels.unwrap_or_default()),
        state: match state {
            ContainerSummaryStateEnum::CREATED => ContainerState::Created,
            ContainerSummaryStateEnum::EMPTY => ContainerState::Unknown,
            ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING => {
                ContainerState::Running
            }
            ContainerSummaryStateEnum::PAUSED => ContainerState::Paused,
            ContainerSummaryStateEnum::RESTARTING => ContainerState::Restarting,
            ContainerSummaryStateEnum::REMOVING => ContainerState::Removing,
            ContainerSummaryStateEnum::EXITED => ContainerState::Exited,
            ContainerSummaryStateEnum::DEAD => ContainerState::Dead,
        },
        exit_code: exit_code_in_text(&status),
        oom_killed: false,
        restart_count: 0,
        // Engines before API 1.52 tell it only in the status text: `Up 3 seconds (health: starting)`.
        health: match health {
            Some(ContainerSummaryHealthStatusEnum::STARTING) => ContainerHealth::Starting,
            Some(ContainerSummaryHealthStatusEnum::HEALTHY) => ContainerHealth::Healthy,
            Some(ContainerSummaryHealthStatusEnum::UNHEALTHY) => ContainerHealth::Unhealthy,
            _ => health_in_text(&status),
        },
        failure: String::new(),
        ports: listed_ports(found.ports.unwrap_or_default()),
        address: found
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default()
            .into_values()
            .filter_map(|endpoint| endpoint.ip_address)
            .find(|address| !address.is_empty()),
        created_at_ms: found.created.and_then(|s| u64::try_from(s).ok()).map(|s| s.saturating_mul(1000)),
        started_at_ms: young_in_text(&status)
            .map(|seconds| now_ms().saturating_sub(seconds.saturating_mul(1000))),
        finished_at_ms: None,
        ext: Vec::new(),
    }
}

fn now_ms() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or_default()
}

/// The exit code in `Exited (137) 2 seconds ago` and `Restarting (1) …`.
fn exit_code_in_text(status: &str) -> Option<i64> {
    let rest = status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("))?;
    rest.split_once(')')?.0.parse().ok()
}

/// Seconds that a container has run for, where the text tells them: `Up 3 seconds`, `Up Less than a second`.
fn young_in_text(status: &str) -> Option<u64> {
    let rest = status.strip_prefix("Up ")?;
    if rest.starts_with("Less than a second") {
        return Some(0);
    }
    let (number, unit) = rest.split_once(' ')?;
    number.parse().ok().filter(|_| unit.starts_with("second"))
}

fn health_in_text(status: &str) -> ContainerHealth {
    let texts = [
        ("(health: starting)", ContainerHealth::Starting),
        ("(healthy)", ContainerHealth::Healthy),
        ("(unhealthy)", ContainerHealth::Unhealthy),
    ];
    texts
        .into_iter()
        .find(|(text, _)| status.ends_with(text))
        .map_or(ContainerHealth::None, |(_, health)| health)
}

fn listed_ports(ports: Vec<PortSummary>) -> Vec<PublishedPort> {
    ports
        .into_iter()
        .filter_map(|port| {
            Some(PublishedPort {
                container_port: port.private_port,
                transport: match port.typ {
                    Some(PortSummaryTypeEnum::UDP) => Transport::Udp,
                    Some(PortSummaryTypeEnum::SCTP) => return None,
                    _ => Transport::Tcp,
                },
                host_address: port.ip.unwrap_or_default(),
                host_port: port.public_port?,
            })
        })
        .collect()
}

/// Ports to publish: each on a port of the loopback address that the engine picks.
pub(super) fn port_bindings(ports: &[ExposedPort]) -> bollard::models::PortMap {
    let loopback = || bollard::models::PortBinding {
        host_ip: Some("127.0.0.1".to_owned()),
        host_port: Some(String::new()),
    };
    ports.iter().map(|port| (port_text(port), Some(vec![loopback()]))).collect::<HashMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written() {
        let port = exposed_port("3000/tcp").unwrap();
        assert_eq!((port.number, port.transport), (3000, Transport::Tcp));
        assert_eq!(port_text(&port), "3000/tcp");
        assert_eq!(exposed_port("53/udp").unwrap().transport, Transport::Udp);
        assert!(exposed_port("1/sctp").is_none());
        assert!(exposed_port("70000/tcp").is_none());
    }

    #[test]
    fn a_listing_tells_how_long_and_how_it_ended() {
        assert_eq!(exit_code_in_text("Exited (137) 2 seconds ago"), Some(137));
        assert_eq!(exit_code_in_text("Restarting (1) Less than a second ago"), Some(1));
        assert_eq!(exit_code_in_text("Up 2 seconds"), None);
        for (status, young) in [
            ("Up Less than a second", Some(0)),
            ("Up 1 second", Some(1)),
            ("Up 9 seconds (health: starting)", Some(9)),
            ("Up About a minute", None),
            ("Up 2 minutes", None),
            ("Exited (0) 1 second ago", None),
        ] {
            assert_eq!(young_in_text(status), young, "{status}");
        }
    }

    #[test]
    fn health_is_read_from_the_text_of_older_engines() {
        assert_eq!(health_in_text("Up 2 seconds (health: starting)"), ContainerHealth::Starting);
        assert_eq!(health_in_text("Up 2 seconds (healthy)"), ContainerHealth::Healthy);
        assert_eq!(health_in_text("Exited (137) 2 seconds ago"), ContainerHealth::None);
    }
}
