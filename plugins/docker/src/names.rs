//! Names of objects, derived from ids.

use streamspace_sdk::{Error, ErrorExt as _, Result};

/// The one network of all sessions, in which containers cannot talk to each other.
pub(crate) const NETWORK: &str = "ss-sessions";

/// The container of a session.
pub(crate) fn container(session: &str) -> Result<String> {
    Ok(format!("ss-{}", checked("session_id", session)?))
}

/// A volume of a session's own.
pub(crate) fn volume(session: &str, name: &str) -> Result<String> {
    Ok(format!("ss-vol-{}-{}", checked("session_id", session)?, checked("spec.volume_mounts.name", name)?))
}

/// The home of a user.
pub(crate) fn home(key: &str) -> Result<String> {
    Ok(format!("ss-home-{}", checked("home.key", key)?))
}

/// What can stand in an object's name, and keeps names of different things apart.
fn checked<'a>(field: &str, part: &'a str) -> Result<&'a str> {
    let fits = !part.is_empty()
        && part.len() <= 64
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits {
        Ok(part)
    } else {
        Err(Error::invalid(
            field,
            format!("`{part}` cannot be part of a name (letters, digits, - _ ., at most 64)"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_derive_from_ids_and_refuse_what_does_not_fit() {
        assert_eq!(container("0192-a").unwrap(), "ss-0192-a");
        assert_eq!(volume("a", "cache").unwrap(), "ss-vol-a-cache");
        assert_eq!(home("ab12").unwrap(), "ss-home-ab12");
        for bad in ["", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(container(bad).unwrap_err().field.as_deref(), Some("session_id"), "{bad}");
        }
    }
}
