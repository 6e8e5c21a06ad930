//! Compiles the protos with protox, so that no system `protoc` is needed.

use std::path::PathBuf;

use prost::Message as _;

/// Between the API server and controllers.
const CONTROLLER: [&str; 1] = ["streamspace/controller/v1/controller.proto"];
/// Between the API server and its clients.
const API: [&str; 5] = [
    "streamspace/api/v1/session.proto",
    "streamspace/api/v1/spec.proto",
    "streamspace/api/v1/template.proto",
    "streamspace/api/v1/admin.proto",
    "streamspace/api/v1/watch.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=streamspace");
    compile("descriptors.bin", &CONTROLLER)?;
    compile("api_descriptors.bin", &API)
}

/// Generates the code, and keeps the descriptors for server reflection.
fn compile(descriptors: &str, files: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let set = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join(descriptors), set.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}
