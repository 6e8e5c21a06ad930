//! The desktop image for the tests: made once by the recipe that everybody uses, then kept.

use crate::docker_engine::Engine;
use crate::images::RECIPE_LABEL;
use crate::paths::Paths;
use crate::{command, debian, progress};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its name in the engine.
pub const NAME: &str = "ss-test/desktop:1";

/// What it is made of, beside Debian's packages.
const SOURCES: [&[u8]; 2] =
    [include_bytes!("../../images/desktop/build.sh"), include_bytes!("../../images/desktop/session-entry")];
/// What makes a Debian system, and what it believes the archive by.
const PACKAGES: [&str; 2] = ["debootstrap", "debian-archive-keyring"];

/// Makes sure that the engine has the image: it has it already, or gets the copy in the cache, or a new one is made.
pub fn ensure(paths: &Paths, engine: &Engine, may_install: bool) -> Result<()> {
    let recipe = recipe();
    let kept = Kept { folder: paths.testbed().join("desktop-image") };
    let copy = kept.copy(&recipe);
    let is_there = engine.image_label(NAME, RECIPE_LABEL)?.as_deref() == Some(&recipe);
    match (is_there, copy.is_file()) {
        (true, true) => Ok(()),
        (true, false) => kept.keep(engine, &recipe),
        (false, true) => {
            progress(format_args!("importing the desktop image from {}", copy.display()));
            command::output(docker(engine)?.arg("load").arg("-i").arg(&copy))
                .map(drop)
                .with_context(|| format!("the desktop image cannot be imported; delete {}", copy.display()))
        }
        (false, false) => {
            build(paths, engine, may_install, &recipe, &kept)?;
            kept.keep(engine, &recipe)
        }
    }
}

/// The copies in the cache.
struct Kept {
    folder: PathBuf,
}

impl Kept {
    fn copy(&self, recipe: &str) -> PathBuf {
        self.folder.join(format!("{recipe}.tar.gz"))
    }

    /// Downloaded packages, for the next recipe.
    fn debs(&self) -> PathBuf {
        self.folder.join("debs")
    }

    /// Copies the image out of the engine, and drops the copies of earlier recipes.
    fn keep(&self, engine: &Engine, recipe: &str) -> Result<()> {
        progress("keeping a copy of the desktop image in the cache");
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.folder.join("unfinished.tar");
        command::output(docker(engine)?.arg("save").arg("-o").arg(&unfinished).arg(NAME))?;
        // The engine unpacks it by itself, and the time it takes matters more here than its size.
        command::output(Command::new("gzip").args(["-1", "-f"]).arg(&unfinished))?;
        self.forget_copies()?;
        let copy = self.copy(recipe);
        fs::rename(self.folder.join("unfinished.tar.gz"), &copy)
            .with_context(|| format!("cannot write {}", copy.display()))
    }

    fn forget_copies(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_copy = path.to_string_lossy().ends_with(".tar.gz");
            if is_copy && path.file_name().is_some_and(|name| name != "unfinished.tar.gz") {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn build(paths: &Paths, engine: &Engine, may_install: bool, recipe: &str, kept: &Kept) -> Result<()> {
    if !command::is_root() {
        bail!("the desktop image is made by debootstrap, which only root may use");
    }
    if command::find("debootstrap").is_none() {
        if !may_install {
            bail!("debootstrap is not installed, and --no-install forbids to install it");
        }
        if !debian::is_here() {
            bail!("debootstrap is not installed, and this program installs it only on Debian and Ubuntu");
        }
        progress(format_args!("installing Debian packages: {}", PACKAGES.join(", ")));
        debian::install(&PACKAGES).context("cannot install debootstrap")?;
    }
    let debs = kept.debs();
    fs::create_dir_all(&debs)?;
    let mirror = debian::mirror();
    progress(format_args!("making the desktop image of packages from {mirror}: some minutes, once"));
    let mut script = Command::new("sh");
    script
        .arg(paths.root.join("images/desktop/build.sh"))
        .args(["--name", NAME, "--mirror", &mirror, "--label", &format!("{RECIPE_LABEL}={recipe}")])
        .arg("--debs")
        .arg(&debs)
        .env("DOCKER_HOST", host(engine));
    command::output(&mut script).map(drop)
}

fn docker(engine: &Engine) -> Result<Command> {
    let program = command::find("docker")
        .context("there is no docker command (on Debian: the package docker.io or docker-cli)")?;
    let mut docker = Command::new(program);
    docker.env("DOCKER_HOST", host(engine));
    Ok(docker)
}

fn host(engine: &Engine) -> String {
    format!("unix://{}", Path::display(&engine.socket))
}

fn recipe() -> String {
    let mut hash = Sha256::new();
    for source in SOURCES {
        hash.update((source.len() as u64).to_le_bytes());
        hash.update(source);
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_earlier_recipes_go() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept { folder: folder.path().into() };
        fs::create_dir(kept.debs()).unwrap();
        for name in ["1234.tar.gz", "unfinished.tar.gz", "debs/a.deb"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        kept.forget_copies().unwrap();
        assert!(!kept.copy("1234").exists());
        assert!(kept.debs().join("a.deb").exists() && folder.path().join("unfinished.tar.gz").exists());
    }

    #[test]
    fn the_recipe_names_a_file() {
        assert_eq!(recipe().len(), 16);
        assert!(recipe().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
