//! Names of objects, derived from ids.

use streamspace_sdk::{Error, ErrorExt as _, Result};

/// The one network of all sessions, in which containers cannot talk to each other.
pub(crate) const NETWORK: &str = "ss-sessions";

/// The container of a session.
pub(crate) fn container(session: &str) -> Result<String> {
    Ok(format!("ss-{}", checked("session_id", session)?))
}

/// A volume of a session's own. The dot keeps the two parts apart: neither contains one.
pub(crate) fn volume(session: &str, name: &str) -> Result<String> {
    let session = without_dot("session_id", checked("session_id", session)?)?;
    let name = without_dot("spec.volume_mounts.name", checked("spec.volume_mounts.name", name)?)?;
    Ok(format!("ss-vol.{session}.{name}"))
}

/// The home of a user.
pub(crate) fn home(key: &str) -> Result<String> {
    Ok(format!("ss-home.{}", checked("home.key", key)?))
}

/// Longest part of a name. Two of them fit into the longest name that the host allows.
const MAX_PART: usize = 56;

/// What can stand in an object's name.
fn checked<'a>(field: &str, part: &'a str) -> Result<&'a str> {
    let fits = (1..=MAX_PART).contains(&part.len())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits { Ok(part) } else { Err(unfit(field, part, "letters, digits, - _ .")) }
}

fn without_dot<'a>(field: &str, part: &'a str) -> Result<&'a str> {
    if part.contains('.') { Err(unfit(field, part, "letters, digits, - _")) } else { Ok(part) }
}

fn unfit(field: &str, part: &str, allowed: &str) -> Error {
    Error::invalid(field, format!("`{part}` cannot be part of a name ({allowed}; at most {MAX_PART})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_derive_from_ids_and_refuse_what_does_not_fit() {
        assert_eq!(container("0192-a").unwrap(), "ss-0192-a");
        assert_eq!(volume("a", "cache").unwrap(), "ss-vol.a.cache");
        assert_eq!(home("ab12").unwrap(), "ss-home.ab12");
        assert_eq!(volume("a", "b.c").unwrap_err().field.as_deref(), Some("spec.volume_mounts.name"));
        assert_ne!(volume("a-b", "c").unwrap(), volume("a", "b-c").unwrap());
        for bad in ["", "a/b", "a b", "ä", &"a".repeat(57)] {
            assert_eq!(container(bad).unwrap_err().field.as_deref(), Some("session_id"), "{bad}");
        }
    }
}
