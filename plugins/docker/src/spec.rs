//! From a session's spec to a container's.

use std::collections::BTreeSet;

use streamspace_sdk::host::docker::{
    ContainerSpec, ExposedPort, HealthCheck, Limits, RestartPolicy, TmpfsMount, VolumeMount,
};
use streamspace_sdk::{Error, ErrorExt as _, ErrorKind, Result, SessionRequest, SessionSpec, Transport};

use crate::settings::{self, OPTIONS, Options, Settings};
use crate::{labels, names, services};

/// Seconds that a session has to end by itself.
pub(crate) const STOP_TIMEOUT_S: u32 = 30;

/// The container for a session. An engine of Windows containers knows neither process limits nor memory-backed
/// storage, and has no use for an init; every other one knows no isolation.
pub(crate) fn container(
    request: &SessionRequest,
    epoch: u64,
    settings: &Settings,
    is_windows: bool,
) -> Result<ContainerSpec> {
    let spec = &request.spec;
    let options = Options::parse(&spec.options)?;
    if options.isolation.is_some() && !is_windows {
        let message = "isolation is for Windows containers, and this engine runs others";
        return Err(Error {
            field: Some(format!("{OPTIONS}.isolation")),
            ..Error::new(ErrorKind::Unsupported, message)
        });
    }
    Ok(ContainerSpec {
        name: names::container(&request.session_id)?,
        image: spec.image.clone(),
        command: options.command,
        env: env(request),
        labels: labels_of(request, epoch)?,
        ports: ports(spec),
        mounts: mounts(request)?,
        tmpfs: if is_windows { Vec::new() } else { tmpfs(spec) },
        network: names::NETWORK.to_owned(),
        limits: Limits {
            memory_bytes: spec.resources.memory_bytes,
            nano_cpus: spec.resources.cpu_millis.map(|millis| u64::from(millis) * 1_000_000),
            pids: Some(settings.pids).filter(|_| !is_windows),
            shm_bytes: Some(u64::from(settings.shm_mib) << 20).filter(|_| !is_windows),
        },
        gpus: spec.resources.gpus.max(options.gpus),
        // A session that runs comes back with the engine, one that was stopped through the API stays down.
        restart: RestartPolicy::UnlessStopped,
        init: !is_windows && options.init.unwrap_or(true),
        user: options.user,
        stop_timeout_s: Some(STOP_TIMEOUT_S),
        health_check: options.health_check.map(health_check),
        isolation: options.isolation.map(|isolation| isolation.name().to_owned()),
        profile: None,
        ext: Vec::new(),
    })
}

fn health_check(check: settings::HealthCheck) -> HealthCheck {
    HealthCheck {
        command: check.command,
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        retries: check.retries,
        start_period_ms: check.start_period_ms,
    }
}

/// What the spec says, and under which name the session is known outside.
fn env(request: &SessionRequest) -> Vec<(String, String)> {
    const SESSION_ID: &str = "SESSION_ID";
    let spec = &request.spec.env;
    let named = spec.iter().any(|variable| variable.name == SESSION_ID);
    let own = (!named).then(|| (SESSION_ID.to_owned(), request.session_id.clone()));
    own.into_iter()
        .chain(spec.iter().map(|variable| (variable.name.clone(), variable.value.clone())))
        .collect()
}

fn labels_of(request: &SessionRequest, epoch: u64) -> Result<Vec<(String, String)>> {
    let labels = [
        (labels::SESSION, request.session_id.clone()),
        (labels::USER, request.user_id.clone()),
        (labels::SPEC_HASH, request.spec_hash.clone()),
        (labels::EPOCH, epoch.to_string()),
        // Also when empty: an image could bring labels of these names.
        (labels::TEMPLATE, request.template_id.clone()),
        // No engine holds a file system to a size.
        (labels::UNENFORCED, request.spec.sizes().join(",")),
        (labels::SERVICES, services::of_spec(&request.spec)?),
    ];
    Ok(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// All ports that anything in the spec names, once each.
fn ports(spec: &SessionSpec) -> Vec<ExposedPort> {
    let named = spec.ports.iter().map(|port| (port.number, port.transport == Transport::Udp));
    let vnc = spec.vnc.iter().map(|vnc| (vnc.port, false));
    let web = spec.web_app.iter().map(|app| (app.port, false));
    named
        .chain(vnc)
        .chain(web)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|(number, udp)| ExposedPort {
            number,
            transport: if udp { Transport::Udp } else { Transport::Tcp },
        })
        .collect()
}

/// A fresh /tmp for every start: a desktop leaves lock files there that would stop it from starting a second time.
fn tmpfs(spec: &SessionSpec) -> Vec<TmpfsMount> {
    const TMP: &str = "/tmp";
    if spec.volumes.iter().any(|volume| volume.mount_path == TMP) {
        return Vec::new();
    }
    vec![TmpfsMount { path: TMP.to_owned(), size_bytes: None, exec: true }]
}

fn mounts(request: &SessionRequest) -> Result<Vec<VolumeMount>> {
    let home = request.spec.home.iter().map(|home| {
        Ok(VolumeMount { volume: names::home(&home.key)?, path: home.mount_path.clone(), read_only: false })
    });
    let volumes = request.spec.volumes.iter().map(|volume| {
        Ok(VolumeMount {
            volume: names::volume(&request.session_id, &volume.name)?,
            path: volume.mount_path.clone(),
            read_only: volume.read_only,
        })
    });
    home.chain(volumes).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use streamspace_sdk::{EnvVar, Home, Port, Resources, Vnc, Volume, WebApp};

    use super::*;

    pub(crate) fn request() -> SessionRequest {
        SessionRequest {
            session_id: "s1".into(),
            user_id: "älice@example".into(),
            template_id: String::new(),
            spec: SessionSpec {
                image: "busybox".into(),
                resources: Resources {
                    memory_bytes: Some(64 << 20),
                    cpu_millis: Some(500),
                    storage_bytes: Some(1 << 30),
                    gpus: 0,
                    ext: vec![],
                },
                ports: vec![Port { name: "web".into(), number: 3000, transport: Transport::Tcp }],
                env: vec![],
                volumes: vec![Volume {
                    name: "cache".into(),
                    mount_path: "/cache".into(),
                    read_only: true,
                    size_bytes: None,
                }],
                home: Some(Home { key: "ab".into(), mount_path: "/config".into(), size_bytes: None }),
                vnc: Some(Vnc { port: 5900, protocol: "rfb".into() }),
                web_app: Some(WebApp { port: 3000, path: "/".into(), health_check: String::new() }),
                labels: vec![],
                options: "{}".into(),
                ext: vec![],
            },
            spec_hash: "h".into(),
        }
    }

    #[test]
    fn limits_ports_and_mounts_carry_over() {
        let spec = container(&request(), 7, &Settings::default(), false).unwrap();
        assert_eq!(spec.limits.nano_cpus, Some(500_000_000));
        assert_eq!(spec.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [3000, 5900]);
        let mounts: Vec<_> =
            spec.mounts.iter().map(|mount| (mount.volume.as_str(), mount.read_only)).collect();
        assert_eq!(mounts, [("ss-home.ab", false), ("ss-vol.s1.cache", true)]);
        assert_eq!(spec.tmpfs.len(), 1);
        assert_eq!(labels::value(&spec.labels, labels::EPOCH), Some("7"));
        assert_eq!(labels::value(&spec.labels, labels::UNENFORCED), Some("spec.resources.storage"));
    }

    #[test]
    fn settings_of_the_session_carry_over() {
        let mut request = request();
        request.spec.options =
            r#"{"gpus": 2, "user": "1000:1000", "init": false, "health_check": {"command": ["true"]}}"#
                .into();
        let spec = container(&request, 1, &Settings::default(), false).unwrap();
        assert_eq!((spec.gpus, spec.user.as_deref(), spec.init), (2, Some("1000:1000"), false));
        assert_eq!(spec.health_check.unwrap().retries, 3);
        assert_eq!(spec.restart, RestartPolicy::UnlessStopped);
    }

    #[test]
    fn isolation_is_for_windows_engines_only() {
        let mut request = request();
        request.spec.options = r#"{"isolation": "process"}"#.into();
        let refused = container(&request, 1, &Settings::default(), false).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported);
        assert_eq!(refused.field.as_deref(), Some("controller_config.isolation"));
        let spec = container(&request, 1, &Settings::default(), true).unwrap();
        assert_eq!(spec.isolation.as_deref(), Some("process"));
        assert!(spec.tmpfs.is_empty() && !spec.init && spec.limits.pids.is_none());
        assert!(spec.limits.memory_bytes.is_some() && spec.limits.shm_bytes.is_none());
    }

    #[test]
    fn the_session_is_told_its_id_unless_the_spec_does() {
        let mut request = request();
        assert_eq!(env(&request), [("SESSION_ID".to_owned(), "s1".to_owned())]);
        request.spec.env = vec![EnvVar { name: "SESSION_ID".into(), value: "other".into(), secret: false }];
        assert_eq!(env(&request), [("SESSION_ID".to_owned(), "other".to_owned())]);
    }

    #[test]
    fn a_volume_at_tmp_takes_the_place_of_the_memory_backed_one() {
        let mut request = request();
        request.spec.volumes[0].mount_path = "/tmp".into();
        assert!(container(&request, 1, &Settings::default(), false).unwrap().tmpfs.is_empty());
    }
}
