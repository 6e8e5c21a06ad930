//! A Python for programs that are not ours: with gRPC for a controller and a client, with what the controller verifies signatures
//! by, and with Schemathesis, which tests the API by its description.

use crate::paths::Paths;
use crate::{command, progress};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What is installed into it, from the Python Package Index. The tools generate messages and clients from the .proto files.
const PACKAGES: [&str; 5] = [
    "grpcio==1.74.0",
    "grpcio-tools==1.74.0",
    "googleapis-common-protos==1.76.0",
    "pyjwt[crypto]==2.15.1",
    "schemathesis==4.32.5",
];

/// Makes the environment, or finds it, and says where its interpreter is.
pub fn ensure(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.testbed().join("python");
    let python = folder.join("bin/python");
    let system = command::find("python3").context("there is no python3")?;
    // An environment is bound to the Python that made it.
    let version = command::text(Command::new(&system).arg("--version"))?;
    let (marker, recipe) = (folder.join("recipe"), format!("{version} {}", PACKAGES.join(" ")));
    if fs::read_to_string(&marker).is_ok_and(|made_by| made_by == recipe) {
        return Ok(python);
    }
    progress("making a Python environment for the tests (in the cache; nothing is installed on this system)");
    // Without `--clear` what an interrupted run left would stay.
    command::output(Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3 cannot make an environment (on Debian: the package python3-venv)")?;
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        // An index may be slow to answer.
        "--retries",
        "10",
        "--timeout",
        "60",
    ]);
    command::output(install.args(PACKAGES)).context("the Python packages cannot be had")?;
    fs::write(&marker, recipe)?;
    Ok(python)
}
