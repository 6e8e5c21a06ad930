//! Points in time, for people.

use chrono::{DateTime, SecondsFormat, Utc};

/// How long ago something was: `45s`, `12m`, `5h`, `3d`.
pub(super) fn age(at: DateTime<Utc>) -> String {
    let seconds = (Utc::now() - at).num_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The same, or nothing.
pub(super) fn age_of(at: Option<DateTime<Utc>>) -> String {
    at.map(age).unwrap_or_default()
}

/// A point in time to the second.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same, or nothing.
pub(super) fn moment_of(at: Option<DateTime<Utc>>) -> String {
    at.map(moment).unwrap_or_default()
}
