//! The plugins in the directory, and which of them this release knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use streamspace_runtime::{Digest, Plugin, Runtime};

/// `name=sha256` of the plugins this release was built with, separated by commas. Only they are trusted with an
/// endpoint that nobody has granted: the Docker socket is as good as root.
const KNOWN: &str = match option_env!("STREAMSPACE_PLUGIN_DIGESTS") {
    Some(digests) => digests,
    None => "",
};

/// Loads every `*.wasm` of a directory. A file that is no plugin is told and left out: it must not keep the others
/// from serving.
pub(crate) async fn load_all(runtime: &Runtime, dir: &Path) -> anyhow::Result<BTreeMap<String, Plugin>> {
    let mut plugins: BTreeMap<String, Plugin> = BTreeMap::new();
    for path in wasm_files(dir)? {
        match runtime.load_file(&path).await {
            Ok(plugin) => {
                let earlier = plugins.get(plugin.name());
                // A file that this release knows is not pushed aside by one that only bears its name.
                if earlier.is_some_and(|earlier| is_known(earlier.digest()) || !is_known(plugin.digest())) {
                    tracing::error!(file = %path.display(), plugin = plugin.name(), "left out: there is another plugin of this name");
                    continue;
                }
                plugins.insert(plugin.name().to_owned(), plugin);
            }
            Err(error) => {
                tracing::error!(file = %path.display(), "this file is no plugin to be served: {error}")
            }
        }
    }
    Ok(plugins)
}

fn wasm_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        tracing::warn!(dir = %dir.display(), "there is no directory of plugins");
        return Ok(Vec::new());
    }
    let read = || format!("the directory of plugins {} cannot be read", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(read)? {
        let path = entry.with_context(read)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether this release was built with exactly this file.
pub(crate) fn is_known(digest: Digest) -> bool {
    let digest = digest.to_string();
    KNOWN.split(',').filter_map(|known| known.split_once('=')).any(|(_, known)| known == digest)
}
