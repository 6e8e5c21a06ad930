//! `streamspace plugin inspect`, `streamspace plugin check` and `streamspace controller check`, as commands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use streamspace_tests::certificates::Certificates;
use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::provided;
use streamspace_tests::simulated::Simulated;

fn plugin() -> Option<PathBuf> {
    provided("STREAMSPACE_TEST_PLUGINS").map(|plugins| Path::new(&plugins).join("docker.wasm"))
}

fn streamspace(arguments: &[&str], file: &Path) -> Option<Output> {
    let program = provided("STREAMSPACE_TEST_BIN")?;
    Some(Command::new(program).args(&arguments[..2]).arg(file).args(&arguments[2..]).output().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn inspect_tells_what_a_plugin_is_and_asks_for() {
    let Some(file) = plugin() else { return };
    let Some(json) = streamspace(&["plugin", "inspect", "-o", "json"], &file) else { return };
    let described: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(described["name"], "docker");
    assert_eq!(described["type"], "docker");
    assert_eq!(described["endpoints"][0]["name"], "engine");
    assert_eq!(described["endpoints"][0]["kind"], "docker");
    assert_eq!(described["config_schema"]["type"], "object");
    assert_eq!(described["digest"].as_str().unwrap().len(), 64);
    let imports = described["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import.as_str().unwrap().starts_with("streamspace:backend/docker@")));

    let table = streamspace(&["plugin", "inspect"], &file).unwrap();
    let table = text(&table.stdout);
    for words in ["name      docker", "engine (docker, usually unix://", "setting   pids (integer)"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn what_is_no_plugin_is_refused_with_the_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "MZ").unwrap();
    for command in [&["plugin", "inspect"][..], &["plugin", "check", "--image", "x"]] {
        let Some(refused) = streamspace(command, file.path()) else { return };
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains("not a WebAssembly component"), "{said}");
    }
}

#[test]
fn check_reports_in_the_form_that_is_asked_for() {
    let (Some(file), Some(socket), Some(image)) =
        (plugin(), provided("STREAMSPACE_TEST_DOCKER"), provided("STREAMSPACE_TEST_IMAGE"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report.xml");
    let endpoint = format!("engine=unix://{socket}");
    let arguments = [
        "plugin",
        "check",
        "--endpoint",
        &endpoint,
        "--image",
        &image,
        "--filter",
        "E3",
        "--report",
        "junit",
        "--out",
        out.to_str().unwrap(),
    ];
    let Some(run) = streamspace(&arguments, &file) else { return };
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    let xml = std::fs::read_to_string(&out).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let cases: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"))
        .map(|node| node.attribute("name"))
        .collect();
    assert!(cases.contains(&Some("E33-delete-unknown")), "{cases:?}");

    // An engine that is not there is told, not tried for ever.
    let arguments =
        ["plugin", "check", "--endpoint", "engine=unix:///nonexistent/docker.sock", "--image", &image];
    let refused = streamspace(&arguments, &file).unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("/nonexistent/docker.sock"), "{said}");

    // Where nobody says which, it is the one that the server would use.
    let mut usual = Command::new(provided("STREAMSPACE_TEST_BIN").unwrap());
    usual
        .args(["plugin", "check", "--image", &image])
        .arg(&file)
        .env("DOCKER_HOST", "unix:///elsewhere/d.sock");
    let refused = usual.output().unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("/elsewhere/d.sock"), "{said}");
}

#[tokio::test]
async fn check_knows_the_simulated_backend() {
    let Some(file) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN").map(PathBuf::from) else { return };
    let Some(simulated) = Simulated::start() else { return };
    let before = simulated.get("/knobs").await;
    let endpoint = format!("api=unix://{}", simulated.socket().display());
    // One that needs nothing but the contract, one that needs the fixture, and one that needs files.
    let handles = concat!(env!("CARGO_MANIFEST_DIR"), "/simulated/plugin/handles");
    for filter in ["B06-create", "B12-full", "F40-recorded"] {
        let arguments = [
            "plugin",
            "check",
            "--endpoint",
            &endpoint,
            "--image",
            "any/image",
            "--handles",
            handles,
            "--filter",
            filter,
        ];
        let Some(run) = streamspace(&arguments, &file) else { return };
        let said = text(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed, 0 failed, 0 not applicable"), "{said}");
    }
    assert_eq!(simulated.get("/knobs").await, before);
    assert!(simulated.boxes().await.is_empty());

    let arguments = [
        "plugin",
        "check",
        "--endpoint",
        &endpoint,
        "--image",
        "any/image",
        "--handles",
        "/nonexistent/handles",
    ];
    let refused = streamspace(&arguments, &file).unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--handles: /nonexistent/handles"), "{said}");
    assert_eq!(simulated.get("/knobs").await, before);

    let arguments = ["plugin", "check", "--endpoint", "api=unix:///nonexistent", "--image", "any/image"];
    let refused = streamspace(&arguments, &file).unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("/nonexistent"), "{said}");
}

#[tokio::test]
async fn a_controller_that_serves_is_checked_where_it_is() {
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return };
    let Some(simulated) = Simulated::start() else { return };
    let backend = format!("api=unix://{}", simulated.socket().display());
    let certificates = Certificates::of("127.0.0.1");
    let (certificate, key, ca) = (certificates.certificate(), certificates.key(), certificates.ca());
    let check = |endpoint: &str, more: &[&str]| {
        let program = provided("STREAMSPACE_TEST_BIN").unwrap();
        let mut command = Command::new(program);
        command.args(["controller", "check", endpoint, "--image", "any", "--filter", "C19-"]).args(more);
        let run = command.output().unwrap();
        (run.status.code(), format!("{}{}", text(&run.stdout), text(&run.stderr)))
    };
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    for (scheme, serving, trusting) in [("grpc", &[][..], &[][..]), ("grpcs", &tls, &["--ca", &ca])] {
        let usual = ["--plugin", &plugin, "--name", "lab", "--listen", "127.0.0.1:0", "--endpoint", &backend];
        let Some(controller) = ControllerProcess::start(&[&usual, serving].concat(), &[]) else { return };
        let served = controller.says("serving on", 1)["address"].as_str().unwrap().to_owned();
        let (code, said) = check(&format!("{scheme}://{served}"), trusting);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("2 passed, 0 failed, 0 not applicable"), "{said}");
        if scheme == "grpcs" {
            let other = Certificates::of("127.0.0.1").ca();
            let (code, said) = check(&format!("{scheme}://{served}"), &["--ca", &other]);
            assert_eq!(code, Some(1), "{said}");
        }
    }
    assert!(simulated.boxes().await.is_empty());
    for (endpoint, more, words) in [
        ("grpc://127.0.0.1:9", &[][..], "nobody serves at grpc://127.0.0.1:9"),
        ("127.0.0.1:9", &[], "is not of the form"),
        ("grpc://127.0.0.1:9", &["--ca", &ca], "for grpcs:// only"),
        ("grpc://127.0.0.1:9", &["--id", "ctrl-a", "--signing-key", &ca], "is no such key"),
    ] {
        let (code, said) = check(endpoint, more);
        assert!(code == Some(1) && said.contains(words), "{words}: {said}");
    }
    // Half a signature is none.
    assert_eq!(check("grpc://127.0.0.1:9", &["--id", "ctrl-a"]).0, Some(2));
}
