//! Endpoints and secrets as they are given on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use streamspace_runtime::{EndpointConfig, EndpointKind, Manifest, SecretSource};

/// `name=target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// What it is for.
    pub(crate) name: String,
    /// What stands for it.
    pub(crate) target: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, target)) if !name.is_empty() && !target.is_empty() => {
                Ok(Self { name: name.to_owned(), target: target.to_owned() })
            }
            _ => Err(format!("`{text}` is not of the form name=target")),
        }
    }
}

/// The endpoints that are named, and those that are not at their usual places.
pub(crate) fn endpoints(
    manifest: &Manifest,
    given: &[Named],
) -> anyhow::Result<BTreeMap<String, EndpointConfig>> {
    let mut endpoints = BTreeMap::new();
    for one in given {
        let asked = manifest.endpoints.iter().find(|asked| asked.name == one.name).ok_or_else(|| {
            let names: Vec<&str> = manifest.endpoints.iter().map(|asked| asked.name.as_str()).collect();
            anyhow!(
                "--endpoint {}: the plugin asks for no such endpoint (it asks for: {})",
                one.name,
                names.join(", ")
            )
        })?;
        let target = EndpointConfig::of_kind(asked.kind, &one.target).with_context(|| {
            format!("--endpoint {}: endpoints of this kind need a configuration file", one.name)
        })?;
        endpoints.insert(one.name.clone(), target);
    }
    for asked in &manifest.endpoints {
        if !endpoints.contains_key(&asked.name)
            && let Some(target) = usual_place(asked.kind, asked.default.as_deref())
                .and_then(|target| EndpointConfig::of_kind(asked.kind, &target))
        {
            endpoints.insert(asked.name.clone(), target);
        }
    }
    Ok(endpoints)
}

/// Where an endpoint is when nobody says so.
pub(crate) fn usual_place(kind: EndpointKind, default: Option<&str>) -> Option<String> {
    let from_environment = match kind {
        EndpointKind::Docker => std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()),
        EndpointKind::Http | EndpointKind::Socket => None,
    };
    from_environment.or_else(|| default.map(str::to_owned))
}

/// Secrets from files.
pub(crate) fn secrets(given: &[Named]) -> BTreeMap<String, SecretSource> {
    given.iter().map(|one| (one.name.clone(), SecretSource::File(PathBuf::from(&one.target)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_contain_anything_behind_the_first_sign() {
        let named: Named = "engine=unix:///a=b".parse().unwrap();
        assert_eq!((named.name.as_str(), named.target.as_str()), ("engine", "unix:///a=b"));
        for text in ["engine", "=x", "engine="] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }
}
