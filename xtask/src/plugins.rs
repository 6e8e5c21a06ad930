//! The plugins: every crate under `plugins/`, built into a component of the same name.

use crate::cargo::{WASM, cargo};
use crate::command;
use crate::paths::{Paths, place};
use crate::{progress, wasm_target};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A misbehaving plugin that only the tests of the sandbox load.
pub const HOSTILE_PACKAGE: &str = "streamspace-hostile-plugin";

/// A plugin that only the tests of the http capability load.
pub const HTTP_PROBE_PACKAGE: &str = "streamspace-http-probe-plugin";

/// The plugin of the simulated backend: for tests, and to look around where there is no real backend.
pub const SIMULATED_PACKAGE: &str = "streamspace-plugin-simulated";

/// A built component.
pub struct Plugin {
    /// Its short name, such as `docker`.
    pub name: String,
    /// SHA-256 of the component in hexadecimal.
    pub digest: String,
}

/// The names of all plugins, sorted.
pub fn names(paths: &Paths) -> Result<Vec<String>> {
    let folder = paths.root.join("plugins");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The package of a plugin.
pub fn package(name: &str) -> String {
    format!("streamspace-plugin-{name}")
}

/// Builds all plugins into a directory, which then holds nothing but them.
pub fn build(paths: &Paths, into: &Path) -> Result<Vec<Plugin>> {
    let names = names(paths)?;
    wasm_target::ensure(paths)?;
    progress(format_args!("building plugins: {}", names.join(", ")));
    compile(paths, names.iter().map(|name| package(name)))?;
    std::fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let mut plugins = Vec::new();
    for name in &names {
        let file = into.join(format!("{name}.wasm"));
        place(&component(paths, &package(name)), &file)?;
        let digest = hex::encode(Sha256::digest(std::fs::read(&file)?));
        plugins.push(Plugin { name: name.clone(), digest });
    }
    // A server would also load what an earlier build left here.
    for entry in std::fs::read_dir(into)? {
        let path = entry?.path();
        let known = path.file_stem().is_some_and(|stem| names.iter().any(|name| stem == name.as_str()));
        if path.extension().is_some_and(|extension| extension == "wasm") && !known {
            std::fs::remove_file(path)?;
        }
    }
    Ok(plugins)
}

/// Builds a plugin that is not released.
pub fn build_one(paths: &Paths, package: &str, file: &Path) -> Result<()> {
    wasm_target::ensure(paths)?;
    progress(format_args!("building {package}"));
    compile(paths, [package.to_owned()].into_iter())?;
    place(&component(paths, package), file)
}

fn compile(paths: &Paths, packages: impl Iterator<Item = String>) -> Result<()> {
    let mut build = cargo(paths);
    build.args(["build", "--target", WASM, "--profile", "plugin"]);
    // Flags meant for native code would not fit, and would change the digests.
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    for package in packages {
        build.args(["-p", &package]);
    }
    command::run(&mut build)
}

fn component(paths: &Paths, package: &str) -> PathBuf {
    paths.target.join(WASM).join("plugin").join(format!("{}.wasm", package.replace('-', "_")))
}

/// What the server is compiled with, so that it knows the plugins it was released with.
pub fn digests(plugins: &[Plugin]) -> String {
    plugins.iter().map(|plugin| format!("{}={}", plugin.name, plugin.digest)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_pairs_in_order() {
        let plugin = |name: &str, digest: &str| Plugin { name: name.into(), digest: digest.into() };
        assert_eq!(digests(&[plugin("docker", "ab"), plugin("kvm", "cd")]), "docker=ab,kvm=cd");
        assert_eq!(digests(&[]), "");
    }

    #[test]
    fn every_plugin_folder_is_a_plugin() {
        let paths = Paths::find().unwrap();
        assert!(names(&paths).unwrap().contains(&"docker".to_owned()));
    }
}
