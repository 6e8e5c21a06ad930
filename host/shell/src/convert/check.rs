//! What a spec may say, whoever asks for it: a controller can be called by others than our own API server, and plugins
//! count on what the contract says of their input.

use std::collections::HashSet;
use std::hash::Hash;

use streamspace_proto::controller::v1 as proto;
use tonic::Status;

use crate::status::invalid;

/// Protocols of remote desktops.
const DESKTOPS: &[&str] = &["", "rfb", "websocket", "kasmvnc"];

type Result = std::result::Result<(), Status>;

/// Checks what has to be unique or of a certain form in a spec.
pub(super) fn spec(spec: &proto::SessionSpec) -> Result {
    ports(&spec.ports)?;
    env(&spec.env)?;
    mounts(&spec.volume_mounts)?;
    if let Some(vnc) = spec.vnc.as_ref().filter(|vnc| vnc.enabled)
        && !DESKTOPS.contains(&vnc.protocol.as_str())
    {
        return Err(invalid("spec.vnc.protocol", "must be rfb, websocket or kasmvnc"));
    }
    if let Some(app) = spec.webapp.as_ref().filter(|app| app.enabled) {
        for (field, path) in
            [("spec.webapp.path", &app.path), ("spec.webapp.health_check", &app.health_check)]
        {
            if !path.is_empty() && !path.starts_with('/') {
                return Err(invalid(field, "must begin with a slash"));
            }
        }
    }
    Ok(())
}

/// That a text is not longer than what anybody has a use for.
pub(super) fn length(field: &str, text: &str, longest: usize) -> Result {
    match text.len() {
        bytes if bytes > longest => {
            Err(invalid(field, &format!("has {bytes} bytes; {longest} are the most")))
        }
        _ => Ok(()),
    }
}

fn ports(ports: &[proto::Port]) -> Result {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        if !port.name.is_empty() {
            unique(&mut names, port.name.as_str(), || format!("spec.ports[{index}].name"))?;
        }
        // No protocol is TCP.
        let is_udp = port.protocol.eq_ignore_ascii_case("UDP");
        let field = || format!("spec.ports[{index}].container_port");
        unique(&mut numbers, (port.container_port, is_udp), field)?;
    }
    Ok(())
}

fn env(env: &[proto::EnvVar]) -> Result {
    let mut names = HashSet::new();
    for (index, variable) in env.iter().enumerate() {
        let field = || format!("spec.env[{index}].name");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            return Err(invalid(&field(), "must not be empty, nor have `=` or a zero byte in it"));
        }
        if variable.value.contains('\0') {
            return Err(invalid(&format!("spec.env[{index}].value"), "must not have a zero byte in it"));
        }
        unique(&mut names, variable.name.as_str(), field)?;
    }
    Ok(())
}

fn mounts(mounts: &[proto::VolumeMount]) -> Result {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (index, mount) in mounts.iter().enumerate() {
        let field = || format!("spec.volume_mounts[{index}].mount_path");
        let path = mount.mount_path.as_str();
        if !path.starts_with('/')
            || path.trim_end_matches('/').is_empty()
            || path.split('/').any(|part| part == "..")
        {
            return Err(invalid(&field(), "must be an absolute path other than `/`, without `..`"));
        }
        unique(&mut paths, path.trim_end_matches('/'), field)?;
        unique(&mut names, mount.name.as_str(), || format!("spec.volume_mounts[{index}].name"))?;
    }
    Ok(())
}

fn unique<T: Eq + Hash>(seen: &mut HashSet<T>, value: T, field: impl Fn() -> String) -> Result {
    match seen.insert(value) {
        true => Ok(()),
        false => Err(invalid(&field(), "stands there twice")),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn field(spec: &proto::SessionSpec) -> String {
        let status = super::spec(spec).unwrap_err();
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    }

    fn port(name: &str, container_port: i32, protocol: &str) -> proto::Port {
        proto::Port { name: name.into(), container_port, protocol: protocol.into() }
    }

    fn variable(name: &str, value: &str) -> proto::EnvVar {
        proto::EnvVar { name: name.into(), value: value.into(), secret: false }
    }

    fn mount(name: &str, path: &str) -> proto::VolumeMount {
        proto::VolumeMount { name: name.into(), mount_path: path.into(), ..Default::default() }
    }

    #[test]
    fn what_the_contract_promises_to_plugins_is_kept() {
        let right = proto::SessionSpec {
            ports: vec![port("", 80, ""), port("", 81, "tcp"), port("dns", 80, "udp")],
            env: vec![variable("A", "b=c"), variable("B", "")],
            volume_mounts: vec![mount("a", "/a"), mount("b", "/a/b/")],
            vnc: Some(proto::VncConfig { enabled: true, protocol: "kasmvnc".into(), ..Default::default() }),
            webapp: Some(proto::WebAppConfig { enabled: true, path: "/x".into(), ..Default::default() }),
            ..Default::default()
        };
        spec(&right).unwrap();
        let ports = |ports: Vec<_>| proto::SessionSpec { ports, ..right.clone() };
        let env = |env: Vec<_>| proto::SessionSpec { env, ..right.clone() };
        let mounts = |volume_mounts: Vec<_>| proto::SessionSpec { volume_mounts, ..right.clone() };
        for (spec, at) in [
            (ports(vec![port("a", 1, ""), port("a", 2, "")]), "spec.ports[1].name"),
            (ports(vec![port("", 1, ""), port("", 1, "TCP")]), "spec.ports[1].container_port"),
            (env(vec![variable("", "x")]), "spec.env[0].name"),
            (env(vec![variable("A=B", "x")]), "spec.env[0].name"),
            (env(vec![variable("A", "x"), variable("A", "y")]), "spec.env[1].name"),
            (env(vec![variable("A", "x\0")]), "spec.env[0].value"),
            (mounts(vec![mount("a", "a")]), "spec.volume_mounts[0].mount_path"),
            (mounts(vec![mount("a", "/")]), "spec.volume_mounts[0].mount_path"),
            (mounts(vec![mount("a", "/a/../b")]), "spec.volume_mounts[0].mount_path"),
            (mounts(vec![mount("a", "/a"), mount("b", "/a/")]), "spec.volume_mounts[1].mount_path"),
            (mounts(vec![mount("a", "/a"), mount("a", "/b")]), "spec.volume_mounts[1].name"),
        ] {
            assert_eq!(field(&spec), at);
        }
        let vnc = proto::VncConfig { enabled: true, protocol: "rdp".into(), ..Default::default() };
        assert_eq!(field(&proto::SessionSpec { vnc: Some(vnc), ..right.clone() }), "spec.vnc.protocol");
        let webapp = proto::WebAppConfig { enabled: true, path: "x".into(), ..Default::default() };
        assert_eq!(field(&proto::SessionSpec { webapp: Some(webapp), ..right }), "spec.webapp.path");
    }
}
