//! Names and labels of objects: what has to be known before the first request.

use streamspace_sdk::{Error, ErrorExt as _, Result};

/// The controller that an object belongs to.
pub(crate) const CONTROLLER: &str = "streamspace.controller";
/// The session's id.
pub(crate) const SESSION: &str = "streamspace.session_id";
/// Whose session it is.
pub(crate) const USER: &str = "streamspace.user_id";
/// The template it came from.
pub(crate) const TEMPLATE: &str = "streamspace.template_id";
/// Hash of the spec it was made from.
pub(crate) const SPEC_HASH: &str = "streamspace.spec_hash";
/// Epoch under which it was made.
pub(crate) const EPOCH: &str = "streamspace.epoch";
/// Sizes that were asked for and that the infrastructure cannot enforce, by field, separated by commas.
pub(crate) const UNENFORCED: &str = "streamspace.unenforced";
/// The wish that it was made for.
pub(crate) const GENERATION: &str = "streamspace.generation";

/// Longest part of a name.
const MAX_PART: usize = 64;

/// The box of a session.
pub(crate) fn of_box(session: &str) -> Result<String> {
    Ok(format!("ss-{}", checked("session_id", session)?))
}

/// The home of a user. The dot keeps it apart from boxes: no session id has one.
pub(crate) fn of_home(key: &str) -> Result<String> {
    Ok(format!("ss-home.{}", checked("home.key", key)?))
}

/// What can stand in a name, and in a path without being encoded.
fn checked<'a>(field: &str, part: &'a str) -> Result<&'a str> {
    let fits = (1..=MAX_PART).contains(&part.len())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if fits {
        return Ok(part);
    }
    let rule = format!("`{part}` cannot be part of a name (letters, digits, - _; at most {MAX_PART})");
    Err(Error::invalid(field, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_means_something_in_a_path() {
        assert_eq!(of_box("s1").unwrap(), "ss-s1");
        assert_eq!(of_home("ab12").unwrap(), "ss-home.ab12");
        for bad in ["", "a/b", "..", "a?b", "a%2fb", "ä", &"x".repeat(65)] {
            let error = of_box(bad).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("session_id"), "{bad}");
        }
    }
}
