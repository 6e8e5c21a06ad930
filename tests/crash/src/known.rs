//! All points that there are, as the sources name them: none is forgotten because the load does not come there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Points that the load cannot come to, by the end of a name's first part or as a whole, and why.
const EXEMPTED: [(&str, &str); 5] = [
    ("docker.*", "of the Docker backend: `tests/tests/kills.rs` kills there"),
    ("http.connect", "the simulated backend keeps no connection for itself"),
    ("http.connection-*", "the simulated backend keeps no connection for itself"),
    ("http.exchange", "the simulated backend's requests and answers are sent whole"),
    (
        "store.*.take_over",
        "one server has nobody to take over from: with several they are killed at any instant",
    ),
];

/// Why a point need not be passed, if it need not.
pub(crate) fn exempted(name: &str) -> Option<&'static str> {
    let matches = |pattern: &str| match pattern.split_once('*') {
        None => name == pattern,
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
    };
    EXEMPTED.iter().find(|(pattern, _)| matches(pattern)).map(|(_, why)| *why)
}

/// Every name in the sources of the server.
pub(crate) fn all() -> Result<BTreeSet<String>> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host");
    let mut found = Found::default();
    found.read_folder(&host)?;
    let Found { names, ways } = found;
    // Where one of the ways to name a point is written otherwise, its points must not be missed silently.
    for way in Way::ALL {
        ensure!(ways.contains(way.begins()), "no point is named by `{}` in {}", way.begins(), host.display());
    }
    Ok(names)
}

/// How a point is named in the sources.
#[derive(Clone, Copy)]
enum Way {
    /// A transaction of the store.
    Transaction,
    /// A call of a controller.
    Call,
    /// An instant.
    Instant,
    /// One of four instants.
    Instants,
    /// A host call.
    HostCall,
}

impl Way {
    const ALL: [Self; 5] = [Self::Transaction, Self::Call, Self::Instant, Self::Instants, Self::HostCall];

    /// What stands before the name.
    fn begins(self) -> &'static str {
        match self {
            Self::Transaction => ".run(",
            Self::Call => "rpc!(",
            Self::Instant => "failpoint::hit(",
            Self::Instants => "\"control.",
            Self::HostCall => "(\"http.",
        }
    }
}

#[derive(Default)]
struct Found {
    names: BTreeSet<String>,
    /// Which ways were met.
    ways: BTreeSet<&'static str>,
}

impl Found {
    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "tests" && name != "target" {
                self.read_folder(&path)?;
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path)?;
                self.read_source(&path.to_string_lossy(), &text)
                    .with_context(|| format!("{}", path.display()))?;
            }
        }
        Ok(())
    }

    fn read_source(&mut self, path: &str, text: &str) -> Result<()> {
        // What stands only in the tests of a module is passed by nobody else.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for way in Way::ALL {
            let here = match way {
                Way::Transaction => path.contains("/store/"),
                Way::HostCall => path.contains("/capability/"),
                Way::Call | Way::Instant | Way::Instants => true,
            };
            for (at, begin) in text.match_indices(way.begins()).filter(|_| here) {
                let rest = text.get(at + begin.len()..).unwrap_or_default().trim_start();
                match way {
                    Way::Transaction => {
                        let Some(name) = literal(rest) else {
                            // Of something else than the writer.
                            if text.get(..at).is_some_and(|before| before.trim_end().ends_with("writer")) {
                                bail!("a transaction without a name of its own");
                            }
                            continue;
                        };
                        self.names.insert(format!("store.written.{name}"));
                        self.names.insert(format!("store.committed.{name}"));
                    }
                    Way::Call => {
                        let Some(name) = rest.split(',').nth(1).map(str::trim) else { continue };
                        self.names.insert(format!("call.begun.{name}"));
                        self.names.insert(format!("call.ended.{name}"));
                    }
                    // Named elsewhere, where it is no text.
                    Way::Instant => self.names.extend(literal(rest).map(str::to_owned)),
                    Way::Instants => {
                        self.names.extend(rest.split('"').next().map(|name| format!("control.{name}")));
                    }
                    Way::HostCall => {
                        self.names.extend(rest.split('"').next().map(|name| format!("http.{name}")));
                    }
                }
                self.ways.insert(way.begins());
            }
        }
        Ok(())
    }
}

/// The text literal at the beginning.
fn literal(rest: &str) -> Option<&str> {
    rest.strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_name_every_kind_of_point() {
        let all = all().unwrap();
        for name in [
            "store.written.create_session",
            "store.committed.place_session",
            "call.begun.create_session",
            "call.ended.get_session",
            "control.create.claimed",
            "control.session.committed",
            "http.send",
        ] {
            assert!(all.contains(name), "{name}: {all:?}");
        }
        assert!(!all.iter().any(|name| name.ends_with(".test")), "{all:?}");
    }

    #[test]
    fn exemptions_name_points_that_there_are() {
        let all = all().unwrap();
        for (pattern, why) in EXEMPTED.iter().filter(|(pattern, _)| !pattern.starts_with("docker.")) {
            let mut named = all.iter().filter(|name| exempted(name) == Some(why));
            assert!(named.next().is_some(), "{pattern}");
        }
        assert_eq!(exempted("store.written.create_session"), None);
        assert_eq!(exempted("http.send"), None);
    }
}
