//! Containers: making them within the rules, and touching only our own.

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, DeviceRequest, HealthConfig, HostConfig,
    HostConfigIsolationEnum, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use streamspace_bindings::imports::docker::{
    Container, ContainerSpec, ContainerState, HealthCheck, RestartPolicy as Restart, TmpfsMount,
};
use streamspace_bindings::types::{Error, ErrorKind};

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{Labels, convert, error, policy};

/// Log bytes kept by the engine for each container: 3 files of 10 MB.
const LOG_OPTIONS: &[(&str, &str)] = &[("max-size", "10m"), ("max-file", "3")];

impl DockerEndpoint {
    pub(super) async fn create_container(&self, spec: ContainerSpec) -> Result<String, Error> {
        policy::check_name(&spec.name)?;
        self.check_network(&spec.network).await?;
        for mount in &spec.mounts {
            // The engine would make a missing volume by itself, without our mark.
            self.check_volume(&mount.volume).await?;
        }
        let options = CreateContainerOptions { name: Some(spec.name.clone()), platform: String::new() };
        let image = spec.image.clone();
        let body = create_body(spec, &self.controller, self.is_windows().await?)?;
        self.check_image(&image).await?;
        let made = self.client().await?.create_container(Some(options), body).await.map_err(translate)?;
        for warning in &made.warnings {
            tracing::warn!(container = made.id, "the engine warns: {warning}");
        }
        Ok(made.id)
    }

    pub(super) async fn start_container(&self, name: &str) -> Result<(), Error> {
        let id = self.own_container(name).await?.id;
        // Started already is a success of its own (304).
        self.client().await?.start_container(&id, None).await.map_err(translate)
    }

    pub(super) async fn stop_container(&self, name: &str, timeout_s: u32) -> Result<(), Error> {
        let id = self.own_container(name).await?.id;
        let grace = i32::try_from(timeout_s).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(grace), ..Default::default() };
        self.client().await?.stop_container(&id, Some(options)).await.map_err(translate)
    }

    pub(super) async fn unpause_container(&self, name: &str) -> Result<(), Error> {
        let container = self.own_container(name).await?;
        if container.state != ContainerState::Paused {
            // The engine would answer with an internal error.
            return Err(error(ErrorKind::Conflict, format!("the container `{name}` is not paused")));
        }
        self.client().await?.unpause_container(&container.id).await.map_err(translate)
    }

    pub(super) async fn remove_container(&self, name: &str) -> Result<(), Error> {
        let id = self.own_container(name).await?.id;
        // `v` takes the unnamed volumes that an image asks for; nobody would ever find them again. Named ones stay.
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        self.client().await?.remove_container(&id, Some(options)).await.map_err(translate)
    }

    pub(super) async fn inspect_container(&self, name: &str) -> Result<Container, Error> {
        self.own_container(name).await
    }

    pub(super) async fn list_containers(&self, wanted: &Labels) -> Result<Vec<Container>, Error> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(policy::filters(wanted, &self.controller)),
            ..Default::default()
        };
        let found = self.client().await?.list_containers(Some(options)).await.map_err(translate)?;
        self.under_their_names(found).await
    }

    /// The container that was made under this name, if it is ours. A foreign one is a conflict: its name is taken, and
    /// nothing of it is told.
    pub(super) async fn own_container(&self, name: &str) -> Result<Container, Error> {
        let found = self.inspect_own(name).await?;
        Ok(Container { name: name.to_owned(), ..convert::inspected(found) })
    }

    /// The same in the engine's own words.
    pub(super) async fn inspect_own(&self, name: &str) -> Result<ContainerInspectResponse, Error> {
        policy::check_name(name)?;
        let absence = match self.client().await?.inspect_container(name, None).await.map_err(translate) {
            Ok(found) if is_meant(&found, name, &self.controller) => return Ok(found),
            Ok(found) => in_the_way(&found, name, &self.controller),
            Err(failure) if failure.kind == ErrorKind::NotFound => failure,
            Err(failure) => return Err(failure),
        };
        self.renamed(name).await?.ok_or(absence)
    }
}

/// What stands under a name and is not meant by it.
fn in_the_way(found: &ContainerInspectResponse, name: &str, controller: &str) -> Error {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let message = if policy::is_ours(labels, controller) {
        format!("another container of this controller bears the name `{name}`: somebody renamed it")
    } else {
        format!("the container `{name}` does not belong to this controller")
    };
    error(ErrorKind::Conflict, message)
}

/// Whether a container is ours, and was made under this name.
fn is_meant(found: &ContainerInspectResponse, name: &str, controller: &str) -> bool {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    policy::is_ours(labels, controller) && policy::given_name(labels).is_none_or(|given| given == name)
}

fn create_body(
    spec: ContainerSpec,
    controller: &str,
    is_windows: bool,
) -> Result<ContainerCreateBody, Error> {
    if let Some((key, _)) = spec.ext.first() {
        return Err(error(ErrorKind::Invalid, format!("`{key}` is no wish that this host knows")));
    }
    if let Some(profile) = &spec.profile {
        return Err(error(ErrorKind::Denied, format!("no profile `{profile}` is defined for this endpoint")));
    }
    let port_bindings = convert::port_bindings(&spec.ports);
    let exposed_ports = spec.ports.iter().map(convert::port_text).collect();
    let host_config = HostConfig {
        memory: spec.limits.memory_bytes.map(signed),
        // Equal to the memory: no swap on top of it.
        memory_swap: spec.limits.memory_bytes.filter(|_| !is_windows).map(signed),
        nano_cpus: spec.limits.nano_cpus.map(signed),
        pids_limit: spec.limits.pids.map(i64::from),
        shm_size: spec.limits.shm_bytes.map(signed),
        port_bindings: Some(port_bindings),
        network_mode: Some(spec.network),
        mounts: Some(
            spec.mounts
                .into_iter()
                .map(|mount| Mount {
                    target: Some(mount.path),
                    source: Some(mount.volume),
                    typ: Some(MountType::VOLUME),
                    read_only: Some(mount.read_only),
                    // Should the volume be removed before the container is made, the engine makes another: ours, too.
                    volume_options: Some(MountVolumeOptions {
                        labels: Some(policy::mark(controller)),
                        ..Default::default()
                    }),
                    ..Default::default()
                })
                .collect(),
        ),
        tmpfs: (!spec.tmpfs.is_empty()).then(|| spec.tmpfs.iter().map(tmpfs).collect()),
        device_requests: (spec.gpus > 0).then(|| {
            vec![DeviceRequest {
                driver: Some("nvidia".to_owned()),
                count: Some(i64::from(spec.gpus)),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..Default::default()
            }]
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(match spec.restart {
                Restart::No => RestartPolicyNameEnum::NO,
                Restart::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
            }),
            maximum_retry_count: None,
        }),
        init: spec.init.then_some(true),
        // Sessions share a bridge: with raw sockets one could pose as another's gateway.
        cap_drop: (!is_windows).then(|| vec!["NET_RAW".to_owned()]),
        isolation: spec.isolation.as_deref().map(isolation).transpose()?,
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                LOG_OPTIONS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ),
        }),
        ..Default::default()
    };
    Ok(ContainerCreateBody {
        image: Some(policy::normal_reference(&spec.image)?),
        cmd: spec.command,
        env: Some(spec.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(policy::marked_container(spec.labels, controller, &spec.name)?),
        exposed_ports: Some(exposed_ports),
        user: spec.user,
        stop_timeout: spec.stop_timeout_s.map(i64::from),
        healthcheck: spec.health_check.map(health_check),
        host_config: Some(host_config),
        ..Default::default()
    })
}

/// A limit beyond the engine's signed numbers is as good as its largest.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn tmpfs(mount: &TmpfsMount) -> (String, String) {
    let exec = if mount.exec { "exec" } else { "noexec" };
    let size = mount.size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    (mount.path.clone(), format!("rw,nosuid,nodev,mode=1777,{exec}{size}"))
}

fn isolation(name: &str) -> Result<HostConfigIsolationEnum, Error> {
    match name {
        "process" => Ok(HostConfigIsolationEnum::PROCESS),
        "hyperv" => Ok(HostConfigIsolationEnum::HYPERV),
        other => Err(error(ErrorKind::Invalid, format!("`{other}` is no isolation: process or hyperv"))),
    }
}

fn health_check(check: HealthCheck) -> HealthConfig {
    let nanoseconds = |ms: u32| Some(i64::from(ms) * 1_000_000);
    HealthConfig {
        test: Some(std::iter::once("CMD".to_owned()).chain(check.command).collect()),
        interval: nanoseconds(check.interval_ms),
        timeout: nanoseconds(check.timeout_ms),
        retries: Some(i64::from(check.retries)),
        start_period: nanoseconds(check.start_period_ms),
        start_interval: None,
    }
}

#[cfg(test)]
mod tests {
    use streamspace_bindings::imports::docker::Limits;

    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "ss-a".into(),
            image: "busybox".into(),
            command: None,
            env: vec![("A".into(), "b=c".into())],
            labels: vec![],
            ports: vec![],
            mounts: vec![],
            tmpfs: vec![TmpfsMount { path: "/tmp".into(), size_bytes: Some(4096), exec: true }],
            network: "ss-net".into(),
            limits: Limits { memory_bytes: Some(64 << 20), nano_cpus: None, pids: Some(10), shm_bytes: None },
            gpus: 0,
            restart: Restart::UnlessStopped,
            init: true,
            user: None,
            stop_timeout_s: None,
            health_check: None,
            isolation: None,
            profile: None,
            ext: vec![],
        }
    }

    #[test]
    fn nothing_dangerous_is_ever_set_and_memory_has_no_swap() {
        let body = create_body(spec(), "ctrl-a", false).unwrap();
        assert_eq!(body.image.as_deref(), Some("busybox:latest"));
        assert_eq!(body.env.as_deref(), Some(["A=b=c".to_owned()].as_slice()));
        let labels = body.labels.unwrap();
        assert_eq!(labels[policy::CONTROLLER_LABEL], "ctrl-a");
        assert_eq!(labels[policy::NAME_LABEL], "ss-a");
        let host = body.host_config.unwrap();
        assert_eq!(host.memory, host.memory_swap);
        assert_eq!(host.tmpfs.unwrap()["/tmp"], "rw,nosuid,nodev,mode=1777,exec,size=4096");
        assert!(host.privileged.is_none() && host.binds.is_none() && host.cap_add.is_none());
        assert!(host.pid_mode.is_none() && host.ipc_mode.is_none() && host.devices.is_none());
        assert!(host.security_opt.is_none() && host.volumes_from.is_none() && host.cap_drop.is_some());
    }

    #[test]
    fn graphics_checks_and_log_limits_reach_the_engine() {
        let check = HealthCheck {
            command: vec!["true".into()],
            interval_ms: 1000,
            timeout_ms: 500,
            retries: 2,
            start_period_ms: 0,
        };
        let spec = ContainerSpec { gpus: 2, health_check: Some(check), user: Some("1000".into()), ..spec() };
        let body = create_body(spec, "ctrl-a", false).unwrap();
        let health = body.healthcheck.unwrap();
        assert_eq!(health.test.unwrap(), ["CMD", "true"]);
        assert_eq!((health.interval, health.timeout), (Some(1_000_000_000), Some(500_000_000)));
        assert_eq!(body.user.as_deref(), Some("1000"));
        let host = body.host_config.unwrap();
        let device = &host.device_requests.unwrap()[0];
        assert_eq!((device.driver.as_deref(), device.count), (Some("nvidia"), Some(2)));
        let log = host.log_config.unwrap();
        assert_eq!(log.typ.as_deref(), Some("json-file"));
        let limits = log.config.unwrap();
        assert_eq!((limits["max-size"].as_str(), limits["max-file"].as_str()), ("10m", "3"));
    }

    #[test]
    fn a_windows_engine_is_not_asked_for_what_it_refuses() {
        let spec = ContainerSpec { tmpfs: vec![], init: false, isolation: Some("hyperv".into()), ..spec() };
        let host = create_body(spec, "ctrl-a", true).unwrap().host_config.unwrap();
        assert_eq!(host.isolation, Some(HostConfigIsolationEnum::HYPERV));
        assert!(host.memory.is_some() && host.memory_swap.is_none());
        assert!(host.cap_drop.is_none() && host.tmpfs.is_none() && host.init.is_none());
    }

    #[test]
    fn unknown_wishes_are_refused_and_not_ignored() {
        let profile = ContainerSpec { profile: Some("root".into()), ..spec() };
        assert_eq!(create_body(profile, "ctrl-a", false).unwrap_err().kind, ErrorKind::Denied);
        let ext = ContainerSpec { ext: vec![("privileged".into(), "true".into())], ..spec() };
        assert_eq!(create_body(ext, "ctrl-a", false).unwrap_err().kind, ErrorKind::Invalid);
        let isolation = ContainerSpec { isolation: Some("none".into()), ..spec() };
        assert_eq!(create_body(isolation, "ctrl-a", false).unwrap_err().kind, ErrorKind::Invalid);
    }
}
