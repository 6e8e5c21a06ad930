//! What the path of a request below `/s/` says.

use crate::domain::SessionId;

/// Marks the name of a service in a path: `/s/<session>/~<service>/…`. Without it the session's main one is meant.
const SERVICE_MARK: char = '~';

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The session.
    pub(super) session: SessionId,
    /// The service, if the path names one.
    pub(super) service: Option<String>,
    /// The path at the service, as it came, with a leading slash. Empty where the slash after a service's name is
    /// missing: relative links would lead elsewhere.
    pub(super) path: String,
}

impl Address {
    /// Reads a path. Nothing is decoded: the session gets its path as the browser sent it.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/s/")?;
        let (session, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let session = SessionId::parse(session).ok()?;
        let Some(marked) = path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_MARK)) else {
            return Some(Self { session, service: None, path: path.to_owned() });
        };
        let (service, path) = marked.split_at(marked.find('/').unwrap_or(marked.len()));
        let service = percent_encoding::percent_decode_str(service).decode_utf8().ok()?;
        if service.is_empty() {
            return None;
        }
        Some(Self { session, service: Some(service.into_owned()), path: path.to_owned() })
    }

    /// What stands before the service's own paths in the browser.
    pub(super) fn prefix(&self) -> String {
        prefix(&self.session, self.service.as_deref())
    }
}

/// What stands before the paths of a service, the main one if none is named.
pub(super) fn prefix(session: &SessionId, service: Option<&str>) -> String {
    match service {
        None => format!("/s/{session}"),
        Some(service) => {
            let service = percent_encoding::utf8_percent_encode(service, percent_encoding::NON_ALPHANUMERIC);
            format!("/s/{session}/{SERVICE_MARK}{service}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_not_decoded() {
        let id = SessionId::generate();
        let read = |rest: &str| Address::parse(&format!("/s/{id}{rest}"));
        let main = read("/a%2Fb/../c").unwrap();
        assert_eq!((main.service.as_deref(), main.path.as_str()), (None, "/a%2Fb/../c"));
        assert_eq!(main.prefix(), format!("/s/{id}"));
        let named = read("/~my%20port/x").unwrap();
        assert_eq!((named.service.as_deref(), named.path.as_str()), (Some("my port"), "/x"));
        assert_eq!(named.prefix(), format!("/s/{id}/~my%20port"));
        assert_eq!(read("/~vnc").unwrap().path, "");
        assert_eq!(read("").unwrap().path, "");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for path in ["/s/", "/s/nobody/", "/x/", "/s/../api"] {
            assert_eq!(Address::parse(path), None, "{path}");
        }
        let id = SessionId::generate();
        assert_eq!(Address::parse(&format!("/s/{id}/~/x")), None);
        assert_eq!(Address::parse(&format!("/s/{id}/~%ff/x")), None);
    }
}
