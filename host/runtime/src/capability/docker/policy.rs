//! What a plugin may name, and the marks that tell ours from foreign.

use std::collections::HashMap;

use streamspace_bindings::types::{Error, ErrorKind};

use super::{Labels, error, labels};

/// The label that the host puts on everything it makes; its value is the controller's id.
pub(super) const CONTROLLER_LABEL: &str = "streamspace.controller";

/// The label that says under which name the host made a container. People rename containers; this stays.
pub(super) const NAME_LABEL: &str = "streamspace.name";

/// Start of every name a plugin may use.
const NAME_PREFIX: &str = "ss-";

/// Longest name; well above what any plugin needs, well below what fits into a URL.
const MAX_NAME: usize = 128;

/// Longest image reference, as the engine limits it.
const MAX_REFERENCE: usize = 255;

/// Checks the name of an object. What passes can stand in a request's path as it is.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match name.strip_prefix(NAME_PREFIX) {
        Some(rest) if !rest.is_empty() && name.len() <= MAX_NAME && rest.chars().all(allowed) => Ok(()),
        _ => Err(error(
            ErrorKind::Denied,
            format!(
                "the name `{name}` is not allowed: it must match ^ss-[a-zA-Z0-9_.-]+$, at most {MAX_NAME} long"
            ),
        )),
    }
}

/// Checks an image reference and makes the tag explicit: without one the engine would pull every tag there is. What
/// passes can stand in a request's path as it is.
pub(super) fn normal_reference(reference: &str) -> Result<String, Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '@');
    let segments_are_names =
        reference.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()));
    if reference.len() > MAX_REFERENCE
        || !reference.chars().all(allowed)
        || reference.contains("..")
        || !segments_are_names
    {
        return Err(Error {
            field: Some("spec.base_image".to_owned()),
            ..error(ErrorKind::Invalid, format!("`{reference}` is no image reference"))
        });
    }
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let explicit = last.contains(':') || last.contains('@');
    Ok(if explicit { reference.to_owned() } else { format!("{reference}:latest") })
}

/// The registry of an image, as references name it. A first part with capital letters can only be a host, since no
/// repository has them.
pub(super) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _))
            if host.contains(['.', ':']) || host == "localhost" || host.contains(char::is_uppercase) =>
        {
            host
        }
        _ => "docker.io",
    }
}

/// The labels of a new object: the plugin's and the mark, which is not the plugin's to give.
pub(super) fn marked(given: Labels, controller: &str) -> Result<HashMap<String, String>, Error> {
    let mut marked: HashMap<String, String> = given.into_iter().collect();
    if marked.insert(CONTROLLER_LABEL.to_owned(), controller.to_owned()).is_some() {
        return Err(error(ErrorKind::Denied, format!("the label `{CONTROLLER_LABEL}` is the host's to set")));
    }
    labels::check_own(&marked)?;
    Ok(marked)
}

/// The same for a container, which remembers its name.
pub(super) fn marked_container(
    labels: Labels,
    controller: &str,
    name: &str,
) -> Result<HashMap<String, String>, Error> {
    let mut marked = marked(labels, controller)?;
    if marked.insert(NAME_LABEL.to_owned(), name.to_owned()).is_some() {
        return Err(error(ErrorKind::Denied, format!("the label `{NAME_LABEL}` is the host's to set")));
    }
    Ok(marked)
}

/// The mark alone.
pub(super) fn mark(controller: &str) -> HashMap<String, String> {
    HashMap::from([(CONTROLLER_LABEL.to_owned(), controller.to_owned())])
}

/// Whether an object bears the mark of this controller.
pub(super) fn is_ours(labels: Option<&HashMap<String, String>>, controller: &str) -> bool {
    labels.and_then(|labels| labels.get(CONTROLLER_LABEL)).is_some_and(|value| value == controller)
}

/// The name under which a container was made, if its labels tell.
pub(super) fn given_name(labels: Option<&HashMap<String, String>>) -> Option<&str> {
    labels?.get(NAME_LABEL).map(String::as_str)
}

/// Label filters for a listing: the mark always, then the plugin's (an empty value: any).
pub(super) fn filters(labels: &Labels, controller: &str) -> HashMap<String, Vec<String>> {
    let mut wanted = vec![format!("{CONTROLLER_LABEL}={controller}")];
    wanted.extend(labels.iter().map(|(key, value)| match value.as_str() {
        "" => key.clone(),
        value => format!("{key}={value}"),
    }));
    HashMap::from([("label".to_owned(), wanted)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_pass() {
        for name in ["ss-a", "ss-0192f3b4-0000-7000-8000-000000000000", "ss-home-af_09.1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "ss-", "web", "ss-a/../b", "ss-a?force=1", "ss-a b", "SS-a", "ss-ä"] {
            assert_eq!(check_name(name).unwrap_err().kind, ErrorKind::Denied, "{name}");
        }
        assert!(check_name(&format!("ss-{}", "a".repeat(MAX_NAME))).is_err());
    }

    #[test]
    fn a_login_goes_to_the_registry_that_the_engine_asks() {
        for (reference, host) in [
            ("busybox", "docker.io"),
            ("library/busybox:1", "docker.io"),
            ("ghcr.io/a/b", "ghcr.io"),
            ("registry:5000/a", "registry:5000"),
            ("localhost/a", "localhost"),
            ("Registry/a", "Registry"),
        ] {
            assert_eq!(registry(reference), host, "{reference}");
        }
    }

    #[test]
    fn references_cannot_leave_their_place_in_a_path_and_name_one_tag() {
        for (reference, normal) in [
            ("busybox", "busybox:latest"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(normal_reference(reference).unwrap(), normal);
        }
        for reference in [
            "",
            "../containers/json",
            "a/../../x",
            "a//b",
            "/a",
            "a b",
            "a?x=1",
            "a#",
            "a%2e",
            ":a",
            &"a".repeat(256),
        ] {
            assert_eq!(normal_reference(reference).unwrap_err().kind, ErrorKind::Invalid, "{reference}");
        }
    }

    #[test]
    fn the_registry_is_told_from_the_path() {
        for (reference, host) in [
            ("busybox", "docker.io"),
            ("library/busybox", "docker.io"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000"),
            ("localhost/a", "localhost"),
            ("ghcr.io/a/b:1", "ghcr.io"),
        ] {
            assert_eq!(registry(reference), host);
        }
    }

    #[test]
    fn the_mark_cannot_be_forged() {
        let labels = vec![(CONTROLLER_LABEL.to_owned(), "ctrl-other".to_owned())];
        assert_eq!(marked(labels, "ctrl-a").unwrap_err().kind, ErrorKind::Denied);
        let labels = vec![(NAME_LABEL.to_owned(), "ss-other".to_owned())];
        assert_eq!(marked_container(labels, "ctrl-a", "ss-a").unwrap_err().kind, ErrorKind::Denied);
        let labels = marked(vec![("a".into(), "b".into())], "ctrl-a").unwrap();
        assert!(is_ours(Some(&labels), "ctrl-a"));
        assert!(!is_ours(Some(&labels), "ctrl-b"));
        assert!(!is_ours(None, "ctrl-a"));
    }
}
