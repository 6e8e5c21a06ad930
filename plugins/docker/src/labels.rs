//! Labels on containers and volumes: what a listing has to tell without asking anybody else.

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
/// Limits that were asked for and that the engine cannot enforce, by field, separated by commas.
pub(crate) const UNENFORCED: &str = "streamspace.unenforced";
/// The ways into the session, as JSON.
pub(crate) const SERVICES: &str = "streamspace.services";
/// Marks a home; the value is its key.
pub(crate) const HOME: &str = "streamspace.home";

/// The value of a label.
pub(crate) fn value<'a>(labels: &'a [(String, String)], key: &str) -> Option<&'a str> {
    labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}
