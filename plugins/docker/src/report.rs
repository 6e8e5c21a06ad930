//! What the engine can do and whether it can be used.

use streamspace_sdk::host::docker::{self, EngineInfo};
use streamspace_sdk::{Capabilities, Capacity, ErrorKind, Health, Report, Result};

use crate::settings::Settings;
use crate::{ENGINE, labels};

/// Looks at the engine.
pub(crate) fn check() -> Result<Report> {
    let settings = Settings::load()?;
    match look() {
        Ok((engine, sessions)) => Ok(healthy(&engine, sessions, &settings)),
        // The engine's condition is what was asked for; a grant that is missing is not a condition.
        Err(error) if error.kind == ErrorKind::Denied => Err(error),
        Err(error) => Ok(Report { health: Health::Unhealthy, message: error.message, ..report(&settings) }),
    }
}

fn look() -> Result<(EngineInfo, usize)> {
    let engine = docker::engine_inspect(ENGINE)?;
    let sessions = docker::container_list(ENGINE, &[(labels::SESSION.to_owned(), String::new())])?;
    Ok((engine, sessions.len()))
}

fn healthy(engine: &EngineInfo, sessions: usize, settings: &Settings) -> Report {
    let report = report(settings);
    Report {
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

fn report(settings: &Settings) -> Report {
    Report {
        health: Health::Healthy,
        message: String::new(),
        backend_version: String::new(),
        current_sessions: 0,
        capabilities: Capabilities {
            hibernation: false,
            gpu: false,
            persistent_storage: true,
            networking: true,
            metrics: false,
            logs: false,
            watch: false,
            ext: Vec::new(),
        },
        capacity: Capacity {
            max_sessions: (settings.max_sessions > 0).then_some(settings.max_sessions),
            total_memory_bytes: None,
            available_memory_bytes: None,
            total_cpu_millis: None,
            available_cpu_millis: None,
            total_storage_bytes: None,
            available_storage_bytes: None,
        },
        labels: Vec::new(),
        ext: Vec::new(),
    }
}
