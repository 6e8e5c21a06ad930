//! The API keeps to its description: Schemathesis makes requests out of it, right ones and wrong ones, and compares
//! every answer with what was promised.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::server::Installation;
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};
use tokio::process::Command;

/// Far beyond what it takes: the number of requests is bounded, and so is each of them.
const LIMIT: Duration = Duration::from_secs(900);

/// Objects that no session explains.
const DRIFTING: u32 = 12;

#[tokio::test]
async fn every_answer_is_one_that_was_described() {
    let Some(python) = provided("STREAMSPACE_TEST_PYTHON") else { return };
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return };
    let Some(simulated) = Simulated::start() else { return };
    let Some(installation) = Installation::new() else { return };
    simulated.knobs(json!({"settings": {"pages": true}})).await;
    let plugins = tempfile::tempdir().unwrap();
    std::fs::copy(plugin, plugins.path().join("simulated.wasm")).unwrap();
    // Two, so that one of them can be drained and removed.
    let controllers = ["host", "spare"].map(|name| {
        format!(
            "[[controller]]\nname = \"{name}\"\nplugin = \"simulated\"\n\
             [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
            simulated.socket().display()
        )
    });
    let installation = installation.plugins(plugins.path()).config(&controllers.concat());
    let server = installation.start();
    let token = std::fs::read_to_string(server.data().join("admin.token")).unwrap();
    let host = until("the controller", async || {
        let controllers = server.api().get("/api/v1/admin/controllers").await.body;
        let host = controllers.as_array()?.iter().find(|one| one["name"] == "host")?;
        (host["status"] == "healthy").then(|| host["id"].as_str().map(str::to_owned)).flatten()
    })
    .await;
    for number in 0..DRIFTING {
        let session = format!("01900000-0000-7000-8000-{number:012}");
        let labels = json!({"streamspace.controller": host, "streamspace.session_id": session,
            "streamspace.user_id": "alice"});
        let body = json!({"name": format!("ss-{session}"), "labels": labels});
        simulated.send(Method::POST, "/foreign", Some(&body)).await;
    }

    // One that registered, and connects by itself some time.
    let join = server.api().post("/api/v1/admin/join-tokens", &json!({"name": "test"})).await.body;
    let remote = json!({"type": "simulated", "name": "remote", "endpoint": ""});
    let joining = server.api_as(join["secret"].as_str());
    let remote = joining.post("/api/v1/controllers/register", &remote).await.body;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let run = Command::new(python)
        .args(["-m", "schemathesis.cli", "--no-color", "--config-file"])
        .arg(folder.join("openapi.toml"))
        .args(["run", "--checks", "all", &format!("{}/api/openapi.json", server.url())])
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PYTHONPATH", &folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("STREAMSPACE_URL", server.url())
        .env("STREAMSPACE_TOKEN", token.trim())
        .env("STREAMSPACE_DRIFTING", DRIFTING.to_string())
        .env("STREAMSPACE_JOIN_TOKEN", join["secret"].as_str().unwrap())
        .env("STREAMSPACE_JOIN_TOKEN_ID", join["id"].as_str().unwrap())
        .env("STREAMSPACE_CONTROLLER_TOKEN", remote["auth_token"].as_str().unwrap())
        .env("STREAMSPACE_REMOTE", remote["controller_id"].as_str().unwrap())
        .env("NO_PROXY", "*")
        // Reports and the like of its own stay away from the sources.
        .current_dir(plugins.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(LIMIT, run).await.expect("it does not come to an end").unwrap();
    let (said, complained) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{complained}");
    // Refusals alone would keep every promise.
    let description = server.api().get("/api/openapi.json").await.body;
    let metrics = server.api().get("/metrics").await.body;
    let succeeded = metrics.as_str().unwrap().lines().filter_map(success).collect();
    let missing: Vec<_> = operations(&description).difference(&succeeded).cloned().collect();
    assert!(missing.is_empty(), "never answered with a success: {missing:?}\n{said}");
    server.stop().await;
}

/// Method and path of everything that is described and answers over plain HTTP.
fn operations(description: &Value) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["responses"].get("101").is_none() {
                all.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    assert!(all.len() > 40, "{all:?}");
    all
}

/// What a line of the server's metrics says was answered with a success.
fn success(line: &str) -> Option<(String, String)> {
    let labels = line.strip_prefix("streamspace_http_requests_total{")?;
    let label =
        |name: &str| labels.split_once(&format!("{name}=\""))?.1.split_once('"').map(|(value, _)| value);
    label("status")?.starts_with('2').then_some((label("method")?.to_owned(), label("route")?.to_owned()))
}
