//! What the infrastructure can do and whether it can be used.

use streamspace_sdk::{Capabilities, Capacity, ErrorKind, Health, Report, Result};

use crate::api::{Api, Info};
use crate::settings::Settings;

/// Looks at the infrastructure.
pub(crate) fn check(api: &Api<'_>) -> Result<Report> {
    let settings = Settings::load()?;
    match api.info() {
        Ok(info) => Ok(healthy(&info, &settings)),
        // Its condition is what was asked for; a grant that is missing is not a condition.
        Err(error) if error.kind == ErrorKind::Denied => Err(error),
        Err(error) => Ok(Report { health: Health::Unhealthy, message: error.message, ..report() }),
    }
}

fn healthy(info: &Info, settings: &Settings) -> Report {
    let report = report();
    Report {
        backend_version: info.version.clone(),
        current_sessions: info.own_boxes,
        capacity: Capacity { max_sessions: room(info, settings.max_sessions), ..report.capacity },
        ..report
    }
}

/// Sessions of this controller that fit: what the operator allows, and what others leave.
fn room(info: &Info, max_sessions: u32) -> Option<u32> {
    let others = info.boxes.saturating_sub(info.own_boxes);
    let left = info.max_boxes.map(|max| max.saturating_sub(others));
    let allowed = (max_sessions > 0).then_some(max_sessions);
    left.into_iter().chain(allowed).min()
}

fn report() -> Report {
    Report {
        health: Health::Healthy,
        message: String::new(),
        backend_version: String::new(),
        current_sessions: 0,
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
            max_sessions: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_is_allowed_and_what_others_leave() {
        let info = |max_boxes| Info { version: String::new(), boxes: 10, own_boxes: 4, max_boxes };
        assert_eq!(room(&info(None), 0), None);
        assert_eq!(room(&info(None), 5), Some(5));
        assert_eq!(room(&info(Some(20)), 0), Some(14));
        assert_eq!(room(&info(Some(20)), 5), Some(5));
        assert_eq!(room(&info(Some(3)), 5), Some(0));
    }
}
