//! The standard library for `wasm32-wasip2`, which plugins are built with. Rustup has it; where rustup is
//! not in use or offline, it is built from the sources that Debian publishes.

use crate::cargo::{WASM, forget_outer_cargo, rustc};
use crate::debian::{self, Suite};
use crate::paths::Paths;
use crate::{command, progress};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// Names a directory with the sources.
const SOURCES_VARIABLE: &str = "STREAMSPACE_WASI_SYSROOT_SRC";
/// Where Debian keeps the sources of Rust, the likeliest place first.
const SUITES: [&str; 5] = ["trixie-backports", "trixie", "forky", "testing", "sid"];
/// Left beside what we built ourselves, with the compiler it was built for: a later compiler in the same
/// place cannot use it.
const STAMP: &str = "built-by-streamspace";
/// Left beside what cargo built, with the standard library it was built with.
const LIBRARY_STAMP: &str = ".standard-library";
/// What the C library contributes to the installed target.
const SELF_CONTAINED: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];

/// The Rust compiler in use.
struct Compiler {
    release: String,
    description: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn ask() -> Result<Self> {
        let description = command::text(rustc().arg("-vV"))?;
        let release = release_of(&description).context("rustc does not say its version")?;
        let sysroot = command::text(rustc().args(["--print", "sysroot"]))?.into();
        Ok(Self { release, description, sysroot })
    }

    /// Where the target belongs.
    fn destination(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(WASM)
    }

    fn is_from_rustup(&self) -> bool {
        self.sysroot.parent().and_then(Path::file_name).is_some_and(|name| name == "toolchains")
    }
}

fn release_of(description: &str) -> Option<String> {
    description.lines().find_map(|line| line.strip_prefix("release: ")).map(str::to_owned)
}

/// Makes sure that the target can be built for, and that nothing is left that was built with another standard
/// library.
pub fn ensure(paths: &Paths) -> Result<()> {
    let compiler = Compiler::ask()?;
    provide(paths, &compiler)?;
    forget_stale_artifacts(&paths.target.join(WASM), &compiler.destination())
}

/// Cargo takes the standard library for a part of the compiler: it does not notice when the library of the same
/// compiler is replaced, and what was built with the old one cannot be linked with it.
fn forget_stale_artifacts(built: &Path, library: &Path) -> Result<()> {
    let mut identity = Vec::new();
    for entry in fs::read_dir(library.join("lib"))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let made = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let name = entry.file_name();
            identity.push(format!("{} {} {}\n", name.to_string_lossy(), metadata.len(), made.as_nanos()));
        }
    }
    identity.sort();
    let identity = identity.concat();
    let stamp = built.join(LIBRARY_STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|known| known == identity) {
        return Ok(());
    }
    if built.exists() {
        progress(format_args!("removing what was built for {WASM} with another standard library"));
        fs::remove_dir_all(built).with_context(|| format!("cannot remove {}", built.display()))?;
    }
    fs::create_dir_all(built)?;
    fs::write(&stamp, identity).with_context(|| format!("cannot write {}", stamp.display()))
}

fn provide(paths: &Paths, compiler: &Compiler) -> Result<()> {
    let destination = compiler.destination();
    if is_installed(&destination, &compiler.description) {
        return Ok(());
    }
    if destination.join(STAMP).is_file() {
        progress(format_args!("the compiler has changed: replacing its library for {WASM}"));
        fs::remove_dir_all(&destination)
            .with_context(|| format!("cannot remove {}", destination.display()))?;
    }
    let given = env::var_os(SOURCES_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut obstacles = Vec::new();
    if given.is_none() {
        match add_with_rustup(compiler) {
            Ok(()) if is_installed(&destination, &compiler.description) => return Ok(()),
            Ok(()) => obstacles.push("rustup added it to another toolchain than rustc's".to_owned()),
            Err(error) => obstacles.push(format!("{error:#}")),
        }
    }
    build_from_source(paths, compiler, given.as_deref()).map_err(|error| {
        obstacles.push(format!("{error:#}"));
        anyhow::anyhow!(
            "the Rust target {WASM} is missing and could not be had:\n  - {}\n\
             What you can do: run `rustup target add {WASM}` where rustup has a network, or set \
             {SOURCES_VARIABLE} to a directory with rust-library-{}.tar.xz (or library/) and \
             wasi-libc-{WASM}.tar.xz (or {WASM}/).",
            obstacles.join("\n  - ").replace('\n', "\n    ").replace("\n      - ", "\n  - "),
            compiler.release,
        )
    })
}

fn is_installed(destination: &Path, compiler: &str) -> bool {
    let has_library = fs::read_dir(destination.join("lib")).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    });
    // Without a stamp it is the work of rustup or a distribution, which keep it in step themselves.
    let stamp = fs::read_to_string(destination.join(STAMP));
    has_library && stamp.map_or(true, |built_for| built_for.trim() == compiler)
}

fn add_with_rustup(compiler: &Compiler) -> Result<()> {
    if !compiler.is_from_rustup() {
        bail!("rustc is not from rustup");
    }
    let rustup = command::find("rustup").context("there is no rustup")?;
    progress(format_args!("adding the target {WASM} with rustup"));
    let mut add = Command::new(rustup);
    // Without a network it fails at once; a slow one gets its time.
    add.args(["target", "add", WASM]).env("RUSTUP_MAX_RETRIES", "1");
    command::run_within(&mut add, Duration::from_secs(600))
}

/// What the library is built from.
struct Sources {
    /// The folder `library/` of Rust's sources.
    library: PathBuf,
    /// The folder with the C library's archives and start objects.
    libc: PathBuf,
}

fn build_from_source(paths: &Paths, compiler: &Compiler, given: Option<&Path>) -> Result<()> {
    let destination = compiler.destination();
    let rustlib = destination.parent().context("rustc has no library directory")?;
    // Asked before anything is downloaded.
    tempfile::tempfile_in(rustlib).with_context(|| {
        format!(
            "{} is not writable: run this once as the user who owns it, or use a toolchain of rustup's",
            rustlib.display()
        )
    })?;
    let work = tempfile::Builder::new().prefix("wasm-target-").tempdir_in(&paths.cache)?;
    let sources = match given {
        Some(folder) => given_sources(folder, &compiler.release, work.path())?,
        None => debian_sources(&compiler.release, work.path())?,
    };
    progress(format_args!("building the standard library of Rust {} for {WASM}", compiler.release));
    let built = compile(&sources, &work.path().join("build"))?;
    install(&built, &sources.libc, &compiler.description, &destination)
}

fn given_sources(folder: &Path, release: &str, work: &Path) -> Result<Sources> {
    let folder = folder.canonicalize().with_context(|| format!("{SOURCES_VARIABLE}={}", folder.display()))?;
    let part = |name: &str, archive: String| {
        let unpacked = folder.join(name);
        if unpacked.is_dir() {
            return Ok(unpacked);
        }
        let archive = folder.join(archive);
        if !archive.is_file() {
            bail!("{SOURCES_VARIABLE}: {} has neither {name}/ nor {}", folder.display(), archive.display());
        }
        command::output(Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(work))?;
        Ok(work.join(name))
    };
    Ok(Sources {
        library: part("library", format!("rust-library-{release}.tar.xz"))?,
        libc: part(WASM, format!("wasi-libc-{WASM}.tar.xz"))?,
    })
}

fn debian_sources(release: &str, work: &Path) -> Result<Sources> {
    debian::require_apt()?;
    let mut failures = Vec::new();
    for name in SUITES {
        progress(format_args!("looking for the sources of Rust {release} in Debian {name}"));
        let found = Suite::open(work, name).and_then(|suite| {
            let version =
                suite.versions("rust-src")?.into_iter().find(|version| is_of_release(version, release));
            Ok((suite, version))
        });
        match found {
            Ok((_, None)) => {}
            Ok((suite, Some(version))) => {
                progress(format_args!(
                    "downloading rust-src {version} and wasi-libc (46 MB; nothing is installed)"
                ));
                let rust = suite.download("rust-src", Some(&version))?;
                let libc = suite.download("wasi-libc", None)?;
                let source = format!("usr/src/rustc-{release}/library");
                debian::unpack_folder(&rust, &format!("./{source}"), work)?;
                debian::unpack(&libc, work)?;
                return Ok(Sources { library: work.join(source), libc: work.join("usr/lib").join(WASM) });
            }
            Err(error) => {
                crate::signals::check()?;
                failures.push(format!("{error:#}"));
            }
        }
    }
    if failures.is_empty() {
        bail!("Debian has no sources of Rust {release}");
    }
    bail!("no sources of Rust {release} from Debian:\n{}", failures.join("\n"))
}

/// Debian's `1.95.0+dfsg1-2~bpo13+1` is Rust 1.95.0; `1.95.0~beta.2+dfsg1-1` is not.
fn is_of_release(version: &str, release: &str) -> bool {
    version.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-']))
}

/// Compiles the standard library and returns the directory of its `.rlib` files.
fn compile(sources: &Sources, target_dir: &Path) -> Result<PathBuf> {
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_outer_cargo(&mut build);
    let flags = [
        // The library uses its own unstable parts.
        "-Zforce-unstable-if-unmarked".to_owned(),
        "-Cdebuginfo=0".to_owned(),
        // Plugins are linked with LTO.
        "-Cembed-bitcode=yes".to_owned(),
        format!("-Lnative={}", sources.libc.display()),
    ];
    build
        .current_dir(&sources.library)
        .args(["build", "--locked", "--release", "--target", WASM, "--manifest-path", "sysroot/Cargo.toml"])
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        // A released compiler builds its own library only when told so.
        .env("RUSTC_BOOTSTRAP", "1")
        // Tells these crates apart from crates of the same name and version that a program may use.
        .env("__CARGO_DEFAULT_LIB_METADATA", "streamspace");
    command::run(&mut build)?;
    Ok(target_dir.join(WASM).join("release/deps"))
}

/// Puts the target in place in one step: a build that runs meanwhile sees all of it or nothing.
fn install(built: &Path, libc: &Path, compiler: &str, destination: &Path) -> Result<()> {
    let rustlib = destination.parent().context("the target has no parent directory")?;
    let staged = tempfile::Builder::new().prefix(".staged-").tempdir_in(rustlib)?;
    let lib = staged.path().join("lib");
    let self_contained = lib.join("self-contained");
    fs::create_dir_all(&self_contained)?;
    for entry in fs::read_dir(built)? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|kind| kind == "rlib")) {
            fs::copy(&path, lib.join(name))?;
        }
    }
    for name in SELF_CONTAINED {
        fs::copy(libc.join(name), self_contained.join(name))
            .with_context(|| format!("{} lacks {name}", libc.display()))?;
    }
    fs::write(staged.path().join(STAMP), compiler)?;
    // A temporary directory is for its owner only; a toolchain is for everybody.
    fs::set_permissions(staged.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    if let Err(error) = fs::rename(staged.path(), destination) {
        // Somebody else was faster.
        if !is_installed(destination, compiler) {
            return Err(error).with_context(|| format!("cannot put {} in place", destination.display()));
        }
    }
    progress(format_args!("installed the target {WASM} in {}", destination.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_release_is_read() {
        let text =
            "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\nLLVM version: 22.1.2";
        assert_eq!(release_of(text).as_deref(), Some("1.95.0"));
    }

    #[test]
    fn debian_versions_match_their_release() {
        assert!(is_of_release("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_of_release("1.95.0-1", "1.95.0"));
        assert!(!is_of_release("1.95.0~beta.3+dfsg1-1", "1.95.0"));
        assert!(!is_of_release("1.95.01-1", "1.95.0"));
        assert!(!is_of_release("1.94.1+dfsg1-1", "1.95.0"));
    }

    #[test]
    fn an_installed_target_is_whole_and_of_this_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let (built, libc) = (folder.path().join("deps"), folder.path().join("libc"));
        let destination = folder.path().join("rustlib").join(WASM);
        for directory in [&built, &libc, &folder.path().join("rustlib")] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(built.join("libstd-12ab.rlib"), "std").unwrap();
        fs::write(built.join("std.d"), "").unwrap();
        for name in SELF_CONTAINED {
            fs::write(libc.join(name), name).unwrap();
        }
        assert!(!is_installed(&destination, "one"));
        install(&built, &libc, "one", &destination).unwrap();
        assert!(is_installed(&destination, "one"));
        assert!(!is_installed(&destination, "two"), "built for another compiler");
        assert!(destination.join("lib/self-contained/crt1-reactor.o").is_file());
        assert!(!destination.join("lib/std.d").exists());
        // Nothing of the staging is left, and a second installation is harmless.
        install(&built, &libc, "one", &destination).unwrap();
        assert_eq!(fs::read_dir(destination.parent().unwrap()).unwrap().count(), 1);
        fs::remove_file(destination.join(STAMP)).unwrap();
        assert!(is_installed(&destination, "two"), "rustup's own needs no stamp");
    }

    #[test]
    fn another_standard_library_makes_everything_stale() {
        let folder = tempfile::tempdir().unwrap();
        let (built, library) = (folder.path().join("target"), folder.path().join("library"));
        fs::create_dir_all(library.join("lib")).unwrap();
        fs::create_dir(&built).unwrap();
        let (standard, artifact) = (library.join("lib/libstd-12ab.rlib"), built.join("libserde.rlib"));
        fs::write(&standard, "one").unwrap();
        for replacement in ["two, larger", "six, larger"] {
            fs::write(&artifact, "").unwrap();
            forget_stale_artifacts(&built, &library).unwrap();
            assert!(!artifact.exists(), "of an unknown or another library");
            fs::write(&artifact, "").unwrap();
            forget_stale_artifacts(&built, &library).unwrap();
            assert!(artifact.exists(), "of the same library");
            fs::write(&standard, replacement).unwrap();
            let later = std::time::SystemTime::now() + Duration::from_secs(1);
            File::options().write(true).open(&standard).unwrap().set_modified(later).unwrap();
        }
    }

    #[test]
    fn missing_sources_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = given_sources(folder.path(), "1.95.0", folder.path()).err().unwrap().to_string();
        assert!(error.contains("rust-library-1.95.0.tar.xz"), "{error}");
    }
}
