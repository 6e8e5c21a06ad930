//! The ways into a session: noted on the container when it is made, found on its published ports when it runs.

use serde::{Deserialize, Serialize};
use streamspace_sdk::host::docker::{self, Container, ContainerState};
use streamspace_sdk::{
    AccessPoint, Error, ErrorExt as _, ErrorKind, HttpTarget, Result, SessionRef, SessionSpec, Target,
    TcpTarget, Transport,
};

use crate::{ENGINE, labels, names};

/// One way into a session, as its container's label has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Service {
    name: String,
    port: u16,
    /// Whether it is spoken to in HTTP, and not just over TCP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    http: bool,
}

/// The label's value: the desktop, the web application, and every TCP port by its name.
pub(crate) fn of_spec(spec: &SessionSpec) -> Result<String> {
    let mut services: Vec<Service> = Vec::new();
    if let Some(vnc) = &spec.vnc {
        // What is not RFB itself is a web server that carries it.
        services.push(Service { name: "vnc".to_owned(), port: vnc.port, http: vnc.protocol != "rfb" });
    }
    if let Some(app) = &spec.web_app {
        services.push(Service { name: "web".to_owned(), port: app.port, http: true });
    }
    for port in spec.ports.iter().filter(|port| port.transport == Transport::Tcp) {
        if !services.iter().any(|service| service.name == port.name) {
            services.push(Service { name: port.name.clone(), port: port.number, http: false });
        }
    }
    serde_json::to_string(&services).map_err(|error| Error::internal(error.to_string()))
}

/// How to reach a session now, or one of its services. Ports are other ones after every start: looked up each time.
pub(crate) fn access(session: &SessionRef, service: Option<&str>) -> Result<Vec<AccessPoint>> {
    points(&docker::container_inspect(ENGINE, &names::container(&session.session_id)?)?, service)
}

fn points(container: &Container, wanted: Option<&str>) -> Result<Vec<AccessPoint>> {
    let noted = labels::value(&container.labels, labels::SERVICES).unwrap_or("[]");
    let mut services: Vec<Service> = serde_json::from_str(noted)
        .map_err(|error| Error::internal(format!("the label {} is broken: {error}", labels::SERVICES)))?;
    if let Some(wanted) = wanted {
        services.retain(|service| service.name == wanted);
        if services.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("the session has no service `{wanted}`")));
        }
    }
    if container.state != ContainerState::Running {
        return Err(Error::new(ErrorKind::FailedPrecondition, "the session does not run"));
    }
    services.into_iter().map(|service| point(container, service)).collect()
}

fn point(container: &Container, service: Service) -> Result<AccessPoint> {
    let published = container
        .ports
        .iter()
        .find(|port| port.container_port == service.port && port.transport == Transport::Tcp)
        // An engine that failed to restore a network leaves the container running without it.
        .ok_or_else(|| {
            let message = format!("the engine publishes no port for `{}`", service.name);
            Error::new(ErrorKind::Unavailable, message)
        })?;
    let (host, port) = (published.host_address.clone(), published.host_port);
    let target = if service.http {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Target::Http(HttpTarget { base_url: format!("http://{host}:{port}"), headers: Vec::new() })
    } else {
        Target::Tcp(TcpTarget { host, endpoint: None, port })
    };
    Ok(AccessPoint { service: service.name, target, login: None, ext: Vec::new() })
}

#[cfg(test)]
mod tests {
    use streamspace_sdk::Port;
    use streamspace_sdk::host::docker::PublishedPort;

    use super::*;
    use crate::observed::tests::container;
    use crate::spec::tests::request;

    fn running() -> Container {
        let mut spec = request().spec;
        spec.ports.push(Port { name: "ssh".into(), number: 22, transport: Transport::Tcp });
        spec.ports.push(Port { name: "sound".into(), number: 4000, transport: Transport::Udp });
        let published = |container_port, host_port, transport| PublishedPort {
            container_port,
            transport,
            host_address: "127.0.0.1".into(),
            host_port,
        };
        Container {
            labels: vec![(labels::SERVICES.to_owned(), of_spec(&spec).unwrap())],
            ports: vec![
                published(3000, 32001, Transport::Tcp),
                published(5900, 32002, Transport::Tcp),
                published(22, 32004, Transport::Udp),
                published(22, 32003, Transport::Tcp),
            ],
            ..container(ContainerState::Running)
        }
    }

    fn text(point: &AccessPoint) -> String {
        match &point.target {
            Target::Tcp(target) => format!("{} tcp {}:{}", point.service, target.host, target.port),
            Target::Http(target) => format!("{} {}", point.service, target.base_url),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_service_has_its_published_port() {
        let all: Vec<_> = points(&running(), None).unwrap().iter().map(text).collect();
        assert_eq!(all, ["vnc tcp 127.0.0.1:32002", "web http://127.0.0.1:32001", "ssh tcp 127.0.0.1:32003"]);
        let one: Vec<_> = points(&running(), Some("ssh")).unwrap().iter().map(text).collect();
        assert_eq!(one, ["ssh tcp 127.0.0.1:32003"]);
    }

    #[test]
    fn what_is_not_there_or_does_not_run_is_an_error() {
        let kind = |container: &Container, service| points(container, service).unwrap_err().kind;
        assert_eq!(kind(&running(), Some("rdp")), ErrorKind::NotFound);
        let stopped = Container { state: ContainerState::Exited, ports: vec![], ..running() };
        assert_eq!(kind(&stopped, None), ErrorKind::FailedPrecondition);
        assert_eq!(kind(&stopped, Some("rdp")), ErrorKind::NotFound);
        let without_network = Container { ports: vec![], ..running() };
        assert_eq!(kind(&without_network, Some("web")), ErrorKind::Unavailable);
    }

    #[test]
    fn a_desktop_that_is_not_plain_rfb_is_reached_by_http() {
        let mut spec = request().spec;
        for (protocol, http) in [("rfb", false), ("websocket", true), ("kasmvnc", true)] {
            spec.vnc.as_mut().unwrap().protocol = protocol.into();
            let services: Vec<Service> = serde_json::from_str(&of_spec(&spec).unwrap()).unwrap();
            assert_eq!((services[0].name.as_str(), services[0].http), ("vnc", http), "{protocol}");
        }
    }
}
