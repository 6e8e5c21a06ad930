//! What the infrastructure can do and whether it can be used.

use streamspace_sdk::{Capabilities, Capacity, Report, Result};

use crate::api::{Api, Info};
use crate::settings::Settings;

/// Looks at the infrastructure.
pub(crate) fn check(api: &Api<'_>) -> Result<Report> {
    let settings = Settings::load()?;
    match api.info() {
        Ok(info) => Ok(healthy(&info, &settings)),
        Err(error) => report(None).but_failing(error),
    }
}

fn healthy(info: &Info, settings: &Settings) -> Report {
    Report {
        backend_version: info.version.clone(),
        current_sessions: info.own_boxes,
        ..report(room(info, settings.max_sessions))
    }
}

/// Sessions of this controller that fit: what the operator allows, and what others leave.
fn room(info: &Info, max_sessions: u32) -> Option<u32> {
    let others = info.boxes.saturating_sub(info.own_boxes);
    let left = info.max_boxes.map(|max| max.saturating_sub(others));
    let allowed = (max_sessions > 0).then_some(max_sessions);
    left.into_iter().chain(allowed).min()
}

fn report(max_sessions: Option<u32>) -> Report {
    let capabilities = Capabilities {
        hibernation: true,
        persistent_storage: true,
        networking: true,
        metrics: true,
        logs: true,
        watch: true,
        ..Capabilities::NONE
    };
    Report::healthy(capabilities, Capacity { max_sessions, ..Capacity::UNKNOWN })
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
