//! The directory of plugins of a server that runs: files come, change and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::docker::Engine;
use streamspace_tests::server::Installation;
use streamspace_tests::{provided, until};
use tempfile::TempDir;

const PLUGINS: &str = "/api/v1/admin/plugins";
const SESSIONS: &str = "/api/v1/sessions";

/// The docker plugin as it was built.
fn docker_plugin() -> Vec<u8> {
    let dir = PathBuf::from(provided("STREAMSPACE_TEST_PLUGINS").unwrap());
    fs::read(dir.join("docker.wasm")).unwrap()
}

/// The same with another digest: a custom section that means nothing.
fn version(number: u8) -> Vec<u8> {
    let mut wasm = docker_plugin();
    wasm.extend([0, 3, 1, b'v', number]);
    wasm
}

/// Puts one text in place of another of the same length.
fn replaced(mut wasm: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<_> =
        (0..=wasm.len() - old.len()).filter(|at| wasm[*at..].starts_with(old.as_bytes())).collect();
    assert!(!places.is_empty(), "`{old}` is not in the file");
    for at in places {
        wasm[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    wasm
}

/// Moves a file into its place in one step.
fn put(dir: &Path, name: &str, content: &[u8]) {
    let temporary = dir.join(format!("{name}.tmp"));
    fs::write(&temporary, content).unwrap();
    fs::rename(temporary, dir.join(name)).unwrap();
}

async fn plugin(api: &Api, name: &str) -> Value {
    let answer = api.get(&format!("{PLUGINS}/{name}")).await;
    if answer.status == StatusCode::OK { answer.body } else { Value::Null }
}

async fn wait_for_state(api: &Api, name: &str, state: &str) -> Value {
    until(&format!("state {state} of {name}"), async || {
        let plugin = plugin(api, name).await;
        (plugin["state"] == state).then_some(plugin)
    })
    .await
}

/// The one controller, once it is in this state.
async fn wait_for_controller(api: &Api, status: &str) -> Value {
    until(&format!("a controller that is {status}"), async || {
        let controllers = api.get("/api/v1/admin/controllers").await.body;
        (controllers[0]["status"] == status).then(|| controllers[0].clone())
    })
    .await
}

/// An engine with much to do is slow to answer a probe; that is no concern of these tests.
fn configuration(socket: &str) -> String {
    format!(
        "[health]\ntimeout = \"60s\"\n\
         [[controller]]\nname = \"lab\"\nplugin = \"docker\"\n[controller.endpoints.engine]\ndocker = \"unix://{socket}\"\n"
    )
}

/// A server over the engine of the tests, with a directory of plugins of its own that is empty.
struct Stage {
    installation: Installation,
    engine: Engine,
    socket: String,
    request: Value,
    dir: TempDir,
}

impl Stage {
    async fn new() -> Option<Self> {
        let socket = provided("STREAMSPACE_TEST_DOCKER")?;
        let image = provided("STREAMSPACE_TEST_IMAGE")?;
        let dir = TempDir::new().unwrap();
        Some(Self {
            installation: Installation::with_docker()?.plugins(dir.path()),
            engine: Engine::connect().await?,
            request: json!({"user_id": "alice", "spec": {"base_image": image}}),
            socket,
            dir,
        })
    }
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

/// Sessions come and go until it is over. Any answer that is not the expected one ends the test.
async fn work(api: &Api, request: &Value, over: &AtomicBool, rounds: &AtomicUsize) {
    while !over.load(Ordering::Relaxed) {
        let session = api.post(&format!("{SESSIONS}?wait=60s"), request).await;
        assert_eq!(session.status, StatusCode::CREATED, "{}", session.body);
        assert_eq!(session.body["phase"], "Running", "{}", session.body);
        let path = format!("{SESSIONS}/{}", id(&session.body));
        let read = api.get(&path).await;
        assert_eq!((read.status, &read.body["phase"]), (StatusCode::OK, &json!("Running")), "{}", read.body);
        let conditions = read.body["status"]["conditions"].to_string();
        assert!(!conditions.contains("PLUGIN_"), "a call has failed: {conditions}");
        let deleted = api.delete(&format!("{path}?wait=60s")).await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.body);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_comes_changes_under_load_goes_and_comes_back() {
    let Some(Stage { installation, engine, socket, request, dir }) = Stage::new().await else { return };
    let dir = dir.path();
    let installation = installation.config(&configuration(&socket));
    let server = installation.start();
    let api = server.api();
    assert!(server.log().contains("waits for the plugin `docker`"), "{}", server.log());
    assert_eq!(api.get(PLUGINS).await.body, json!({"items": [], "next_cursor": null}));
    assert_eq!(api.post(SESSIONS, &request).await.status, StatusCode::SERVICE_UNAVAILABLE);

    // It comes.
    put(dir, "docker.wasm", &docker_plugin());
    let controller = wait_for_controller(&api, "healthy").await;
    let serving = plugin(&api, "docker").await;
    assert_eq!(
        (&serving["state"], &serving["file"]),
        (&json!("serving"), &json!("docker.wasm")),
        "{serving}"
    );
    assert_eq!(serving["controllers"], json!([{"id": controller["id"], "name": "lab"}]));
    assert_eq!(serving["endpoints"][0]["name"], "engine");
    let kept = api.create_running(&request).await;

    // It changes, four times, while sessions come and go.
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let workers = join_all((0..4).map(|_| work(&api, &request, &over, &rounds)));
    let changes = async {
        let mut digest = serving["digest"].clone();
        for number in 1..=4 {
            match number % 2 {
                0 => put(dir, "docker.wasm", &version(number)),
                _ => fs::write(dir.join("docker.wasm"), version(number)).unwrap(),
            }
            digest = until("the next version", async || {
                let now = plugin(&api, "docker").await;
                assert_eq!(now["state"], "serving", "{now}");
                (now["digest"] != digest).then(|| now["digest"].clone())
            })
            .await;
            // Some calls on this one, too.
            let goal = rounds.load(Ordering::Relaxed) + 2;
            until("calls", async || (rounds.load(Ordering::Relaxed) >= goal).then_some(())).await;
        }
        over.store(true, Ordering::Relaxed);
        digest
    };
    let (_, digest) = tokio::join!(workers, changes);
    assert_eq!(server.log().matches("plugin replaced").count(), 4, "{}", server.log());
    until("the end of the old versions", async || {
        (plugin(&api, "docker").await["draining"] == json!([])).then_some(())
    })
    .await;

    // What is no plugin does not replace it.
    fs::write(dir.join("docker.wasm"), b"garbage").unwrap();
    let refused = until("the refusal", async || {
        let now = plugin(&api, "docker").await;
        (now["replacement"]["state"] == "refused").then_some(now)
    })
    .await;
    assert_eq!((&refused["state"], &refused["digest"]), (&json!("serving"), &digest));
    assert!(refused["reason"].as_str().unwrap().contains("not a WebAssembly component"), "{refused}");
    let beside = api.create_running(&request).await;
    assert_eq!(
        api.delete(&format!("{SESSIONS}/{}?wait=60s", id(&beside))).await.status,
        StatusCode::NO_CONTENT
    );

    // It goes: its controller is away, its sessions are as they were.
    fs::remove_file(dir.join("docker.wasm")).unwrap();
    let removed = wait_for_state(&api, "docker", "removed").await;
    assert_eq!(removed["reason"], "plugin file removed");
    let away = wait_for_controller(&api, "offline").await;
    assert!(away["message"].as_str().unwrap().contains("plugin file removed"), "{away}");
    assert_eq!(api.post(SESSIONS, &request).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let path = format!("{SESSIONS}/{}", id(&kept));
    // Its sessions are told after it.
    let session = until("the condition of its session", async || {
        let session = api.get(&path).await.body;
        session["status"]["conditions"].to_string().contains("plugin file removed").then_some(session)
    })
    .await;
    assert_eq!((&session["phase"], &session["state"]), (&json!("Running"), &json!("running")), "{session}");
    assert!(engine.exists(&format!("ss-{}", id(&kept))).await);

    // A wish of that time is kept, and fulfilled when it comes back.
    assert_eq!(api.delete(&path).await.status, StatusCode::ACCEPTED);
    put(dir, "docker.wasm", &docker_plugin());
    wait_for_controller(&api, "healthy").await;
    assert_eq!(wait_for_state(&api, "docker", "serving").await["digest"], serving["digest"]);
    api.wait_for_gone(id(&kept)).await;
    server.kill();
    engine.clean(controller["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn the_lines_of_a_plugin_that_awaits_its_grant_work() {
    let Some(Stage { installation, socket, dir, .. }) = Stage::new().await else { return };
    put(dir.path(), "docker.wasm", &version(9));
    let server = installation.start();
    let api = server.api();
    let awaiting = wait_for_state(&api, "docker", "awaiting_grant").await;
    assert_eq!(api.get("/api/v1/admin/controllers").await.body, json!([]));
    server.kill();

    let lines = awaiting["configuration"].as_str().unwrap();
    // The engine of the tests need not be where an engine usually is.
    let lines = lines.replace("/var/run/docker.sock", &socket);
    let installation = installation.config(&lines);
    let server = installation.start();
    wait_for_controller(&server.api(), "healthy").await;
    assert_eq!(plugin(&server.api(), "docker").await["digest"], awaiting["digest"]);
    server.kill();
}

#[tokio::test]
async fn an_unknown_version_does_not_inherit_what_only_a_known_one_gets() {
    let Some(Stage { installation, dir, .. }) = Stage::new().await else { return };
    put(dir.path(), "docker.wasm", &docker_plugin());
    let server = installation.start();
    let api = server.api();
    let serving = wait_for_state(&api, "docker", "serving").await;
    put(dir.path(), "docker.wasm", &version(9));
    let now = until("the decision", async || {
        let now = plugin(&api, "docker").await;
        (now["replacement"]["state"] == "awaiting_grant").then_some(now)
    })
    .await;
    assert_eq!((&now["state"], &now["digest"]), (&json!("serving"), &serving["digest"]));
    assert!(now["configuration"].as_str().unwrap().contains("[controller.endpoints.engine]"), "{now}");
    wait_for_controller(&api, "healthy").await;
    server.kill();
}

#[tokio::test]
async fn every_file_that_does_not_serve_says_why() {
    let Some(installation) = Installation::new() else { return };
    let Some(hostile) = provided("STREAMSPACE_TEST_HOSTILE") else { return };
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let installation = installation.plugins(dir);
    let server = installation.start();
    let api = server.api();
    let docker = docker_plugin();

    let (half, rest) = docker.split_at(docker.len() / 2);
    put(dir, "half.wasm", half);
    put(dir, "empty.wasm", b"");
    put(dir, "module.wasm", b"\0asm\x01\0\0\0");
    fs::File::create(dir.join("large.wasm")).unwrap().set_len((64 << 20) + 1).unwrap();
    let world = replaced(docker.clone(), "streamspace:backend/observe@", "streamspace:backend/obscure@");
    put(dir, "world.wasm", &world);
    let hostile = fs::read(hostile).unwrap();
    put(dir, "imports.wasm", &replaced(hostile.clone(), "kind = \"docker\"", "kind = \"socket\""));
    put(dir, "hostile.wasm", &hostile);
    for (file, words) in [
        ("half.wasm", "not a WebAssembly component"),
        ("empty.wasm", "not a WebAssembly component"),
        ("module.wasm", "no manifest"),
        ("large.wasm", "more than the 67108864"),
        ("world.wasm", "contract"),
        ("imports.wasm", "asks for no endpoint of kind docker"),
    ] {
        let refused = wait_for_state(&api, file, "refused").await;
        assert!(refused["reason"].as_str().unwrap().contains(words), "{file}: {refused}");
    }
    let awaiting = wait_for_state(&api, "hostile", "awaiting_grant").await;
    assert!(awaiting["configuration"].as_str().unwrap().contains("plugin = \"hostile\""), "{awaiting}");

    // The second half comes: now it is a plugin, which has nothing to do here.
    put(dir, "half.wasm", &[half, rest].concat());
    let unused = wait_for_state(&api, "docker", "unused").await;
    assert_eq!(unused["file"], "half.wasm");
    assert!(unused["reason"].as_str().unwrap().contains("nothing at /nowhere"), "{unused}");

    // What goes without ever having served leaves nothing behind.
    fs::remove_file(dir.join("empty.wasm")).unwrap();
    until("its end", async || (plugin(&api, "empty.wasm").await == Value::Null).then_some(())).await;
    assert_eq!(api.get(&format!("{PLUGINS}/nothing")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.api_as(None).get(PLUGINS).await.status, StatusCode::UNAUTHORIZED);

    // The same on the command line.
    let list = |arguments: &[&str]| -> Output {
        let program = provided("STREAMSPACE_TEST_BIN").unwrap();
        let mut command = Command::new(program);
        command.args(["plugin", "ls", "--url", &server.url()]).args(arguments);
        command.env_remove("STREAMSPACE_TOKEN").output().unwrap()
    };
    let data = server.data().to_str().unwrap();
    let table = list(&["--data", data]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("large.wasm") && table.contains("more than the 67108864"), "{table}");
    let listed = list(&["--data", data, "-o", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 6, "{listed}");
    let refused = list(&["--data", "/nowhere"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    server.kill();
}

#[tokio::test]
async fn a_file_that_cannot_be_looked_at_goes_on_serving() {
    let Some(Stage { installation, dir, .. }) = Stage::new().await else { return };
    let dir = dir.path();
    put(dir, "docker.wasm", &docker_plugin());
    let server = installation.start();
    let api = server.api();
    wait_for_state(&api, "docker", "serving").await;
    std::os::unix::fs::symlink("docker.wasm", dir.join("loop")).unwrap();
    fs::rename(dir.join("loop"), dir.join("docker.wasm")).unwrap();
    // Files that come afterwards have been looked at for as long as a file has to be away to be gone.
    for file in ["y.wasm", "z.wasm"] {
        put(dir, file, b"");
        wait_for_state(&api, file, "refused").await;
    }
    assert_eq!(plugin(&api, "docker").await["state"], "serving", "{}", server.log());
    assert!(server.log().contains("cannot be looked at"), "{}", server.log());
    // A new name of which nothing is known is told as well.
    std::os::unix::fs::symlink("x.wasm", dir.join("x.wasm")).unwrap();
    wait_for_state(&api, "x.wasm", "refused").await;
    fs::remove_file(dir.join("docker.wasm")).unwrap();
    wait_for_state(&api, "docker", "removed").await;
    // A directory that cannot be read is not an empty one.
    fs::remove_dir_all(dir).unwrap();
    until("the reason", async || {
        let listed = api.get(PLUGINS).await.body.to_string();
        (listed.contains("the directory cannot be read") && listed.contains("z.wasm")).then_some(())
    })
    .await;
    server.kill();
}

#[tokio::test]
async fn of_two_files_with_one_name_one_serves_and_the_other_takes_over() {
    let Some(Stage { installation, dir, socket, .. }) = Stage::new().await else { return };
    let dir = dir.path();
    let installation = installation.config(&configuration(&socket));
    let server = installation.start();
    let api = server.api();
    put(dir, "first.wasm", &version(1));
    assert_eq!(wait_for_state(&api, "docker", "serving").await["file"], "first.wasm");
    put(dir, "second.wasm", &version(2));
    let second = wait_for_state(&api, "second.wasm", "refused").await;
    assert!(second["reason"].as_str().unwrap().contains("first.wasm"), "{second}");

    // Another plugin in a file that serves is a mistake.
    if let Some(hostile) = provided("STREAMSPACE_TEST_HOSTILE") {
        put(dir, "first.wasm", &fs::read(hostile).unwrap());
        let now = until("the refusal", async || {
            let now = plugin(&api, "docker").await;
            (now["replacement"]["state"] == "refused").then_some(now)
        })
        .await;
        assert!(now["reason"].as_str().unwrap().contains("it is the plugin `hostile`"), "{now}");
    }

    fs::remove_file(dir.join("first.wasm")).unwrap();
    until("the second", async || {
        let now = plugin(&api, "docker").await;
        (now["state"] == "serving" && now["file"] == "second.wasm").then_some(())
    })
    .await;
    wait_for_controller(&api, "healthy").await;

    // A file that this release knows is not kept out by one that only has its name.
    put(dir, "zz.wasm", &docker_plugin());
    until("the known one", async || (plugin(&api, "docker").await["file"] == "zz.wasm").then_some(())).await;
    assert_eq!(plugin(&api, "second.wasm").await["state"], "refused");
    server.kill();
}
