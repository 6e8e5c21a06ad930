//! What the engine can do and whether it can be used.

use streamspace_sdk::host::docker::{self, EngineInfo};
use streamspace_sdk::{Capabilities, Capacity, Report, Result};

use crate::settings::Settings;
use crate::{ENGINE, list};

/// Looks at the engine.
pub(crate) fn check() -> Result<Report> {
    let settings = Settings::load()?;
    match look() {
        Ok((engine, sessions)) => Ok(healthy(&engine, sessions, &settings)),
        Err(error) => report(&settings).but_failing(error),
    }
}

fn look() -> Result<(EngineInfo, usize)> {
    let engine = docker::engine_inspect(ENGINE)?;
    Ok((engine, list::all()?.len()))
}

fn healthy(engine: &EngineInfo, sessions: usize, settings: &Settings) -> Report {
    let report = report(settings);
    Report {
        capabilities: Capabilities { gpu: has_gpu(engine), ..report.capabilities },
        backend_version: format!("{} (API {})", engine.version, engine.api_version),
        current_sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        capacity: Capacity {
            total_memory_bytes: Some(engine.memory_bytes),
            total_cpu_millis: Some(u64::from(engine.cpus) * 1000),
            ..report.capacity
        },
        labels: vec![
            ("arch".to_owned(), engine.architecture.clone()),
            ("os".to_owned(), engine.os_type.clone()),
        ],
        ..report
    }
}

/// Whether the engine says that it can give graphics processors to containers: by NVIDIA's runtime or by CDI.
fn has_gpu(engine: &EngineInfo) -> bool {
    engine.runtimes.iter().any(|runtime| runtime == "nvidia")
        || engine.devices.iter().any(|device| device.starts_with("nvidia.com/gpu="))
}

fn report(settings: &Settings) -> Report {
    let capabilities = Capabilities {
        hibernation: true,
        persistent_storage: true,
        networking: true,
        metrics: true,
        logs: true,
        watch: true,
        ..Capabilities::NONE
    };
    let max_sessions = (settings.max_sessions > 0).then_some(settings.max_sessions);
    Report::healthy(capabilities, Capacity { max_sessions, ..Capacity::UNKNOWN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphics_processors_are_offered_only_where_the_engine_has_them() {
        let engine = |runtimes: &[&str], devices: &[&str]| EngineInfo {
            version: "29".into(),
            api_version: "1.52".into(),
            os_type: "linux".into(),
            architecture: "x86_64".into(),
            cpus: 2,
            memory_bytes: 1 << 30,
            runtimes: runtimes.iter().map(|name| (*name).to_owned()).collect(),
            storage_driver: "overlay2".into(),
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            ext: vec![],
        };
        let gpu = |engine| healthy(&engine, 3, &Settings::default()).capabilities.gpu;
        assert!(!gpu(engine(&["runc"], &["vendor.com/net=0"])));
        assert!(gpu(engine(&["nvidia", "runc"], &[])));
        assert!(gpu(engine(&["runc"], &["nvidia.com/gpu=all"])));
        let report = healthy(&engine(&[], &[]), 3, &Settings::default());
        assert_eq!((report.current_sessions, report.capacity.total_cpu_millis), (3, Some(2000)));
        assert!(report.capabilities.hibernation && report.capabilities.watch);
    }
}
