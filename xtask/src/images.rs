//! Small images made without a registry: busybox from Debian, an entrypoint, and nothing else.

use crate::docker_engine::Engine;
use crate::{command, debian, progress};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, EntryType, Header};

/// What an image is made of.
pub struct Image {
    /// Its name with tag.
    pub name: &'static str,
    entrypoint: &'static str,
}

/// For a first session: a page that names it.
pub const SAMPLE: Image =
    Image { name: "streamspace/sample:latest", entrypoint: include_str!("images/sample-entry.sh") };

/// For the tests: counts its starts, ticks into the log, serves.
pub const TEST: Image = Image { name: "ss-test/busybox:1", entrypoint: include_str!("images/test-entry.sh") };

/// Says which recipe an image was made by, so that a changed recipe replaces it.
pub const RECIPE_LABEL: &str = "streamspace.recipe";
/// Where the image's program stands.
const ENTRY: &str = "bin/session-entry";

impl Image {
    fn recipe(&self) -> String {
        let mut hash = Sha256::new();
        // The layout of the root is this source.
        hash.update(include_bytes!("images.rs"));
        hash.update(self.entrypoint);
        hex::encode(&hash.finalize()[..8])
    }

    fn changes(&self) -> [String; 3] {
        [
            format!("CMD [\"/{ENTRY}\"]"),
            "EXPOSE 3000".to_owned(),
            format!("LABEL {RECIPE_LABEL}={}", self.recipe()),
        ]
    }
}

/// Makes sure that the engine has the image.
pub fn ensure(engine: &Engine, cache: &Path, image: &Image) -> Result<()> {
    if engine.image_label(image.name, RECIPE_LABEL)? == Some(image.recipe()) {
        return Ok(());
    }
    import(engine, cache, image, image.name, "")
}

/// Makes the image anew under any name. The text goes into a file: layers with different texts differ, so
/// that an engine that has one must still fetch the other.
pub fn import(engine: &Engine, cache: &Path, image: &Image, name: &str, text: &str) -> Result<()> {
    let busybox = busybox(cache).context("no static busybox to make an image of")?;
    progress(format_args!("making the image {name}"));
    let root = root(&busybox, image.entrypoint, text)?;
    engine.import_image(name, &image.changes(), &root)
}

/// An installed busybox, or one fetched from Debian.
fn busybox(cache: &Path) -> Result<PathBuf> {
    let fetched = cache.join("busybox");
    let installed = command::find("busybox").filter(|program| is_static_file(program));
    if let Some(program) = installed.or_else(|| static_busybox_in(&fetched)) {
        return Ok(program);
    }
    progress("downloading Debian's busybox-static (nothing is installed)");
    debian::unpack_own("busybox-static", &fetched)?;
    static_busybox_in(&fetched).with_context(|| {
        format!("there is no static busybox in the package, unpacked to {}", fetched.display())
    })
}

/// Where the package has it: since Debian 13 everything is below `usr`.
fn static_busybox_in(unpacked: &Path) -> Option<PathBuf> {
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| unpacked.join(place));
    places.into_iter().find(|program| is_static_file(program))
}

fn is_static_file(program: &Path) -> bool {
    fs::read(program).is_ok_and(|program| is_static(&program))
}

/// Whether a 64-bit little-endian ELF program runs without a loader and shared libraries.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u64 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let slice = program.get(at..at.checked_add(bytes)?)?;
        Some(slice.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    let interpreted = || -> Option<bool> {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for index in 0..count {
            let header = usize::try_from(table.checked_add(index * size)?).ok()?;
            if number(header, 4)? == INTERPRETER {
                return Some(true);
            }
        }
        Some(false)
    };
    program.starts_with(b"\x7fELF\x02\x01") && interpreted() == Some(false)
}

/// The root file system as a tar archive; the same inputs give the same bytes.
fn root(busybox: &Path, entrypoint: &str, text: &str) -> Result<Vec<u8>> {
    let applets = command::text(Command::new(busybox).arg("--list"))?;
    if applets.is_empty() {
        bail!("{} has no applets", busybox.display());
    }
    let mut tar = Builder::new(Vec::new());
    for (directory, mode) in
        [("bin", 0o755), ("etc", 0o755), ("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("root", 0o700)]
    {
        entry(&mut tar, EntryType::Directory, directory, mode, &[])?;
    }
    // Written to by whatever user a session runs as.
    for directory in ["tmp", "config"] {
        entry(&mut tar, EntryType::Directory, directory, 0o1777, &[])?;
    }
    entry(&mut tar, EntryType::Regular, "bin/busybox", 0o755, &fs::read(busybox)?)?;
    for applet in applets.lines().filter(|&applet| applet != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    entry(&mut tar, EntryType::Regular, ENTRY, 0o755, entrypoint.as_bytes())?;
    entry(&mut tar, EntryType::Regular, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    entry(&mut tar, EntryType::Regular, "etc/group", 0o644, b"root:x:0:\n")?;
    if !text.is_empty() {
        entry(&mut tar, EntryType::Regular, "etc/about", 0o644, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, mode: u32, data: &[u8]) -> Result<()> {
    let mut header = header(kind, mode);
    header.set_size(data.len() as u64);
    Ok(tar.append_data(&mut header, path, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with the given segment types.
    fn program(segments: &[u32]) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = segments.len().try_into().unwrap();
        for kind in segments {
            let mut header = kind.to_le_bytes().to_vec();
            header.resize(56, 0);
            elf.extend(header);
        }
        elf
    }

    #[test]
    fn a_loader_makes_a_program_dynamic() {
        assert!(is_static(&program(&[1, 1])));
        assert!(!is_static(&program(&[1, 3, 1])));
        assert!(!is_static(&program(&[1, 1])[..70]), "cut off");
        assert!(!is_static(b"#!/bin/sh"));
    }

    #[test]
    fn busybox_is_found_where_old_and_new_packages_have_it() {
        for place in ["bin", "usr/bin"] {
            let unpacked = tempfile::tempdir().unwrap();
            let folder = unpacked.path().join(place);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("busybox"), program(&[1, 3])).unwrap();
            assert_eq!(static_busybox_in(unpacked.path()), None, "it needs a loader");
            fs::write(folder.join("busybox"), program(&[1])).unwrap();
            assert_eq!(static_busybox_in(unpacked.path()), Some(folder.join("busybox")));
        }
    }

    #[test]
    fn a_changed_entrypoint_is_another_recipe() {
        assert_ne!(SAMPLE.recipe(), TEST.recipe());
        assert_eq!(SAMPLE.recipe(), SAMPLE.recipe());
    }

    #[test]
    fn the_root_holds_links_and_the_entrypoint() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let busybox = folder.path().join("busybox");
        fs::write(&busybox, "#!/bin/sh\nprintf 'busybox\\nsh\\nhttpd\\n'\n").unwrap();
        fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).unwrap();
        let bytes = root(&busybox, "entry", "text").unwrap();
        assert_eq!(bytes, root(&busybox, "entry", "text").unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut links = 0;
        let mut names = Vec::new();
        for file in archive.entries().unwrap() {
            let file = file.unwrap();
            links += usize::from(file.header().entry_type().is_symlink());
            names.push(file.path().unwrap().to_string_lossy().into_owned());
        }
        assert_eq!(links, 2);
        for name in ["bin/sh", "bin/httpd", ENTRY, "etc/about", "tmp", "config"] {
            assert!(names.iter().any(|known| known.trim_end_matches('/') == name), "{name}");
        }
    }
}
