//! Debian packages as a source of programs and sources: apt verifies them, `dpkg-deb` unpacks them, and
//! except for the Docker engine and debootstrap nothing is installed.

use crate::command::{self, find};
use crate::progress;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether this is Debian or one of its children, such as Ubuntu.
pub fn is_here() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    find("apt-get").is_some() && is_debian(&release)
}

fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .any(|(_, value)| value.trim_matches('"').split(' ').any(|id| id == "debian"))
}

/// Fails with what to do instead, where there is no apt.
pub fn require_apt() -> Result<()> {
    match (find("apt-get"), find("dpkg-deb")) {
        (Some(_), Some(_)) => Ok(()),
        _ => bail!("this system has no apt-get and dpkg-deb"),
    }
}

/// Installs packages. Fetches the list of packages only when they cannot be found without.
pub fn install(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut command = apt_get();
        command.args(["install", "-y", "--no-install-recommends"]).args(packages);
        command::output(&mut command)
    };
    if install().is_err() {
        update()?;
        install()?;
    }
    Ok(())
}

/// Fetches a package of this system's own release and unpacks it into a directory.
pub fn unpack_own(package: &str, into: &Path) -> Result<()> {
    require_apt()?;
    let scratch = tempfile::tempdir()?;
    let download = || command::output(apt_get().arg("download").arg(package).current_dir(scratch.path()));
    match download() {
        Err(_) if command::is_root() => {
            update()?;
            download()?;
        }
        outcome => {
            outcome?;
        }
    }
    unpack(&single_deb(scratch.path(), package)?, into)
}

fn update() -> Result<()> {
    progress("updating the list of Debian packages");
    command::output(apt_get().arg("update")).map(drop)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // As root apt would drop its rights for downloads, and warn when our directories refuse them.
    command
        .args(["-q", "-o", "APT::Sandbox::User=root"])
        // A mirror may be slow, and a machine that was just started installs things by itself.
        .args(["-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}

/// Unpacks a whole package.
pub fn unpack(deb: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    command::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(into)).map(drop)
}

/// Unpacks one folder of a package, named as in the package (`./usr/…`).
pub fn unpack_folder(deb: &Path, folder: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let tar = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let status = Command::new("tar")
        .args(["-x", "-f", "-", "-C"])
        .arg(into)
        .arg(folder)
        .stdin(tar)
        .status()
        .context("cannot start tar")?;
    // Tar has read to the end when it succeeded, so its word is enough.
    unpacker.wait()?;
    crate::signals::check()?;
    if !status.success() {
        bail!("cannot unpack {folder} of {} ({status})", deb.display());
    }
    Ok(())
}

fn single_deb(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
            return Ok(path);
        }
    }
    bail!("apt-get downloaded no {package}")
}

/// One suite of the Debian archive, seen by an apt with lists of its own: the system's stay as they are, and
/// no rights are needed. Signatures are verified as always.
pub struct Suite {
    folder: PathBuf,
    name: String,
}

impl Suite {
    /// Fetches the list of packages of a suite.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        for part in ["lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: {name}\nComponents: main\nSigned-By: {}\n",
            mirror(),
            keyring(&folder)?.display()
        );
        fs::write(folder.join("suite.sources"), source)?;
        let suite = Self { folder, name: name.to_owned() };
        command::output(suite.apt(apt_get()).arg("update"))
            .with_context(|| format!("cannot read the Debian archive ({name})"))?;
        Ok(suite)
    }

    /// The versions of a package that the suite has, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = command::text(self.apt(Command::new("apt-cache")).args(["madison", package]))?;
        Ok(parse_madison(&table))
    }

    /// Downloads a package in a version, or the newest, and returns the file.
    pub fn download(&self, package: &str, version: Option<&str>) -> Result<PathBuf> {
        let debs = self.folder.join("debs");
        let wanted = version.map_or_else(|| package.to_owned(), |version| format!("{package}={version}"));
        command::output(self.apt(apt_get()).arg("download").arg(wanted).current_dir(&debs))
            .with_context(|| format!("cannot download {package} of Debian {}", self.name))?;
        single_deb(&debs, package)
    }

    fn apt(&self, mut command: Command) -> Command {
        let own = |key: &str, part: &str| format!("{key}={}", self.folder.join(part).display());
        for option in [
            own("Dir::Etc::SourceList", "suite.sources"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            own("Dir::State::Lists", "lists"),
            own("Dir::Cache", "cache"),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// `apt-cache madison`: `package | version | origin` per line.
fn parse_madison(table: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .filter(|version| !version.is_empty())
        .collect()
}

/// The key of the archive; systems other than Debian carry it in a package.
fn keyring(folder: &Path) -> Result<PathBuf> {
    if Path::new(KEYRING).is_file() {
        return Ok(KEYRING.into());
    }
    unpack_own("debian-archive-keyring", folder).context("cannot get the key of the Debian archive")?;
    Ok(folder.join(KEYRING.trim_start_matches('/')))
}

/// The Debian mirror this system uses, or the one that serves everybody.
pub fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "list" => Some(uris_of_list(&text)),
                "sources" => Some(uris_of_deb822(&text)),
                _ => None,
            }
        })
        .flatten()
        .find(|uri| is_debian_mirror(uri))
        .unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

fn is_debian_mirror(uri: &str) -> bool {
    (uri.starts_with("http://") || uri.starts_with("https://"))
        && uri.trim_end_matches('/').ends_with("/debian")
}

/// `deb [options] URI suite component…`
fn uris_of_list(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("deb ")?.trim_start().into())
        .filter_map(|rest: &str| match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map(|(_, rest)| rest),
            None => Some(rest),
        })
        .filter_map(|rest| rest.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Stanzas of `Key: value`, where a line that starts with a space continues the one before.
fn uris_of_deb822(text: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for stanza in text.split("\n\n") {
        let (mut found, mut enabled, mut binary, mut in_uris) = (Vec::new(), true, false, false);
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            let value = if line.starts_with([' ', '\t']) {
                line
            } else {
                let Some((key, value)) = line.split_once(':') else { continue };
                let key = key.trim().to_ascii_lowercase();
                in_uris = key == "uris";
                match key.as_str() {
                    "enabled" => enabled = !value.trim().eq_ignore_ascii_case("no"),
                    "types" => binary = value.split_whitespace().any(|kind| kind == "deb"),
                    _ => {}
                }
                value
            };
            if in_uris {
                found.extend(value.split_whitespace().map(str::to_owned));
            }
        }
        if enabled && binary {
            uris.append(&mut found);
        }
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_read_from_os_release() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nNAME=\"debian\"\n"));
    }

    #[test]
    fn one_line_sources_are_read() {
        let text = "# deb http://no/debian x main\ndeb-src http://no/debian x main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://one/debian bookworm main\n\
            \tdeb   https://two/ubuntu noble main\ndeb\n";
        assert_eq!(uris_of_list(text), ["http://one/debian", "https://two/ubuntu"]);
    }

    #[test]
    fn stanza_sources_are_read() {
        let text = "Types: deb deb-src\n# http://no/debian\nURIs: http://one/debian\n  http://two/debian/\n\
            Suites: bookworm\n\nEnabled: no\nTypes: deb\nURIs: http://off/debian\n\n\
            Types: deb-src\nURIs: http://source/debian\n\nTypes: deb\nuris: https://three/debian-security\n";
        assert_eq!(
            uris_of_deb822(text),
            ["http://one/debian", "http://two/debian/", "https://three/debian-security"]
        );
    }

    #[test]
    fn a_mirror_holds_the_main_archive() {
        assert!(is_debian_mirror("http://deb.debian.org/debian"));
        assert!(is_debian_mirror("https://mirror.example/pub/debian/"));
        assert!(!is_debian_mirror("http://security.debian.org/debian-security"));
        assert!(!is_debian_mirror("http://archive.ubuntu.com/ubuntu"));
        assert!(!is_debian_mirror("mirror+file:/etc/apt/mirrors/debian"));
    }

    #[test]
    fn versions_are_read_from_madison() {
        let table = "  rust-src | 1.96.1+dfsg1-2 | http://m/debian trixie-backports/main amd64 Packages\n\
              rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(parse_madison(table), ["1.96.1+dfsg1-2", "1.95.0+dfsg1-2~bpo13+1"]);
        assert_eq!(parse_madison(""), Vec::<String>::new());
    }
}
