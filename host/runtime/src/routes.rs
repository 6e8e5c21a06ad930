//! Which requests a plugin may make: methods and path patterns.

use std::fmt;
use std::str::FromStr;

/// A method and a pattern of paths below an endpoint's base, written like `GET /api2/json/*`.
///
/// The method `*` is any. In the path `*` is exactly one segment, and `**` at the end is any number of them, none
/// included. Segments are compared as they are written: what is encoded otherwise does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// None = any.
    method: Option<String>,
    segments: Vec<Segment>,
    /// Whether it ends in `**`.
    open_ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Literal(String),
}

impl Route {
    /// Whether a request fits. The path begins with a slash and has no query.
    pub(crate) fn allows(&self, method: &str, path: &str) -> bool {
        if self.method.as_deref().is_some_and(|allowed| allowed != method) {
            return false;
        }
        let mut rest = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            let fits = match (segment, rest.next()) {
                (_, None) => false,
                (Segment::Any, Some(given)) => !given.is_empty(),
                (Segment::Literal(literal), Some(given)) => literal == given,
            };
            if !fits {
                return false;
            }
        }
        self.open_ended || rest.next().is_none()
    }
}

/// Whether a request fits at least one of the routes.
pub(crate) fn any_allows(routes: &[Route], method: &str, path: &str) -> bool {
    routes.iter().any(|route| route.allows(method, path))
}

/// Parses a list of routes. The error names the one at fault.
pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Route>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| format!("`{text}` {why}; a route is written like `GET /api/*` or `* /api/**`");
        let (method, path) = text.split_once(' ').ok_or_else(|| wrong("has no method and path"))?;
        let method = match method {
            "*" => None,
            method if !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                Some(method.to_owned())
            }
            _ => return Err(wrong("does not begin with a method in upper case or `*`")),
        };
        let path = path.strip_prefix('/').ok_or_else(|| wrong("has a path without a leading slash"))?;
        if !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\')) {
            return Err(wrong("has a character that no path has"));
        }
        let mut parts: Vec<&str> = path.split('/').collect();
        let open_ended = parts.last() == Some(&"**");
        if open_ended {
            parts.pop();
        }
        let segments = parts
            .into_iter()
            .map(|part| match part {
                "*" => Ok(Segment::Any),
                part if part.contains('*') => {
                    Err(wrong("has a `*` that is not a segment of its own, or a `**` that is not the last"))
                }
                literal => Ok(Segment::Literal(literal.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { method, segments, open_ended })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method.as_deref().unwrap_or("*"))?;
        for segment in &self.segments {
            match segment {
                Segment::Any => f.write_str("/*")?,
                Segment::Literal(literal) => write!(f, "/{literal}")?,
            }
        }
        f.write_str(if self.open_ended { "/**" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        for (route, method, path, allowed) in [
            ("GET /a/b", "GET", "/a/b", true),
            ("GET /a/b", "POST", "/a/b", false),
            ("GET /a/b", "GET", "/a/b/", false),
            ("GET /a/b", "GET", "/a", false),
            ("GET /a/*", "GET", "/a/b", true),
            ("GET /a/*", "GET", "/a/", false),
            ("GET /a/*", "GET", "/a/b/c", false),
            ("GET /a/*/c", "GET", "/a/b/c", true),
            ("GET /a/**", "GET", "/a", true),
            ("GET /a/**", "GET", "/a/", true),
            ("GET /a/**", "GET", "/a/b/c/", true),
            ("GET /a/**", "GET", "/ab", false),
            ("GET /a/**", "GET", "/%61/b", false),
            ("* /**", "DELETE", "/", true),
            ("* /**", "GET", "/x/y", true),
            ("GET /", "GET", "/", true),
            ("GET /", "GET", "/x", false),
        ] {
            let parsed: Route = route.parse().unwrap();
            assert_eq!(parsed.allows(method, path), allowed, "{route}: {method} {path}");
            assert_eq!(parsed.to_string(), route);
        }
    }

    #[test]
    fn what_could_be_misread_is_no_route() {
        for text in ["/a", "GET", "get /a", "GET a", "GET /a*", "GET /**/a", "GET /a?b", "GET /a b", "GET  /a", " /a"] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }
}
