//! Cargo as a child of this program.

use crate::paths::Paths;
use std::env;
use std::process::Command;

/// The target of the plugins.
pub const WASM: &str = "wasm32-wasip2";

/// `cargo`, in the clone, building into the shared target directory.
pub fn cargo(paths: &Paths) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target);
    forget_outer_cargo(&mut command);
    command
}

/// `cargo run` tells this program about the package `xtask`; a child that inherited that would see a build
/// differ from the same build started by hand.
pub fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// The compiler that cargo would use.
pub fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}
