//! `streamspace plugin new`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::print;

/// What a new plugin consists of. `{{name}}`, `{{crate}}`, `{{type}}` and `{{sdk}}` are filled in.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../plugin_new/Cargo.toml.txt")),
    ("plugin.toml", include_str!("../../plugin_new/plugin.toml.txt")),
    ("src/lib.rs", include_str!("../../plugin_new/lib.rs.txt")),
    ("README.md", include_str!("../../plugin_new/README.md.txt")),
    (".gitignore", "/target\n"),
];

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Its name, and the type of its controllers: a-z, 0-9 and -, at most 40
    #[arg(value_parser = name)]
    name: String,

    /// Where to make it [default: a folder of its name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Folder of the crate streamspace-sdk [default: that of the StreamSpace sources around the new folder]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let first = text.starts_with(|c: char| c.is_ascii_lowercase());
    if first && text.len() <= 40 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must begin with a letter and have only a-z, 0-9 and -, at most 40".to_owned())
    }
}

/// Writes the files.
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} exists and is not empty: --dir names another folder", dir.display());
    }
    let sdk = match &args.sdk {
        Some(sdk) => sdk.clone(),
        None => find_sdk(&dir)?,
    };
    if !is_sdk(&sdk) {
        bail!("--sdk: {} is not the folder of the crate streamspace-sdk", sdk.display());
    }
    let sdk = sdk.canonicalize().with_context(|| format!("--sdk: {}", sdk.display()))?;
    for (path, template) in FILES {
        write(&dir.join(path), &filled_in(template, &args.name, &sdk))?;
    }
    print::text(&format!(
        "{} is begun. It compiles; {} says how to build and to check it.\n",
        dir.display(),
        dir.join("README.md").display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The SDK of the sources in which the new folder is.
fn find_sdk(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    let found = dir.ancestors().map(|ancestor| ancestor.join("sdk")).find(|sdk| is_sdk(sdk));
    found
        .context("the SDK was not found around here: --sdk names the folder `sdk` of the StreamSpace sources")
}

fn is_sdk(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join("Cargo.toml"));
    manifest.is_ok_and(|manifest| manifest.contains("name = \"streamspace-sdk\""))
}

fn filled_in(template: &str, name: &str, sdk: &Path) -> String {
    // As a TOML string. Its rules for these characters are those of Rust's.
    let sdk = format!("{:?}", sdk.display().to_string());
    let fields =
        [("name", name), ("crate", &name.replace('-', "_")), ("type", &type_name(name)), ("sdk", &sdk)];
    fields
        .into_iter()
        .fold(template.to_owned(), |text, (field, value)| text.replace(&format!("{{{{{field}}}}}"), value))
}

/// `my-cloud` → `MyCloud`.
fn type_name(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    };
    words.map(capital).collect()
}

/// Never over a file that is there.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes())));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn made(name: &str) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("plugin");
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        run(&NewArgs { name: name.to_owned(), dir: Some(dir.clone()), sdk: Some(sdk) }).unwrap();
        (parent, dir)
    }

    fn toml(path: PathBuf) -> figment::Figment {
        use figment::providers::Format as _;
        figment::Figment::new().merge(figment::providers::Toml::file_exact(path))
    }

    #[test]
    fn the_files_of_a_new_plugin_can_be_read() {
        let (_parent, dir) = made("my-cloud");
        let cargo = toml(dir.join("Cargo.toml"));
        assert_eq!(cargo.extract_inner::<String>("package.name").unwrap(), "streamspace-plugin-my-cloud");
        let sdk: PathBuf = cargo.extract_inner("dependencies.streamspace-sdk.path").unwrap();
        assert!(sdk.join("src/backend.rs").is_file(), "{sdk:?}");
        let manifest = toml(dir.join("plugin.toml"));
        assert_eq!(manifest.extract_inner::<String>("plugin.name").unwrap(), "my-cloud");
        assert_eq!(manifest.extract_inner::<String>("plugin.api").unwrap(), "streamspace:backend@1.0");
        for (path, _) in FILES {
            let text = fs::read_to_string(dir.join(path)).unwrap();
            assert!(!text.contains("{{"), "{path}: {text}");
        }
        let lib = fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        assert!(lib.contains("impl Backend for MyCloud") && lib.contains("export_backend!(MyCloud"), "{lib}");
        assert_eq!(lib.matches('{').count(), lib.matches('}').count(), "{lib}");
    }

    #[test]
    fn every_function_of_the_contract_is_there() {
        let contract = include_str!("../../../../sdk/src/backend.rs");
        let contract = &contract
            [contract.find("pub trait Backend").unwrap()..contract.find("pub struct Adapter").unwrap()];
        let functions = |text: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("fn "));
            lines.filter_map(|line| Some(line.split_once('(')?.0.to_owned())).collect()
        };
        let skeleton = functions(include_str!("../../plugin_new/lib.rs.txt"));
        let missing: Vec<_> = functions(contract).difference(&skeleton).cloned().collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn nothing_is_written_over() {
        let (_parent, dir) = made("a");
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let error = run(&NewArgs { name: "b".to_owned(), dir: Some(dir), sdk: Some(sdk) }).unwrap_err();
        assert!(error.to_string().contains("--dir"), "{error}");
    }

    #[test]
    fn names_are_those_that_a_manifest_takes() {
        for good in ["docker", "my-cloud2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "My", "2x", "-x", "a_b", "a/b", "ä", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
