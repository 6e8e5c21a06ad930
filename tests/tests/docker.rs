//! Sessions on a real Docker engine, through REST and the built plugin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;

use bollard::query_parameters::RemoveImageOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::docker::{self, Engine};
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::{provided, until};

/// A server over the engine of the tests.
struct Stage {
    installation: Installation,
    engine: Engine,
    image: String,
}

impl Stage {
    async fn new() -> Option<Self> {
        Some(Self {
            installation: Installation::with_docker()?,
            engine: Engine::connect().await?,
            image: provided("STREAMSPACE_TEST_IMAGE")?,
        })
    }

    fn request(&self) -> Value {
        json!({
            "user_id": "älice@example.org",
            "spec": {
                "base_image": self.image,
                "resources": {"memory": "64Mi", "cpu": "500m"},
                "ports": [{"name": "web", "container_port": 3000}],
            },
        })
    }

    /// Stops, and removes what is left: nobody makes it again then.
    async fn end(self, server: Server) {
        let me = controller(&server.api()).await;
        server.kill();
        self.engine.clean(&me).await;
    }
}

/// The id of the one controller.
async fn controller(api: &Api) -> String {
    let controllers = api.get("/api/v1/admin/controllers").await.body;
    controllers[0]["id"].as_str().unwrap().to_owned()
}

/// Before that it takes nothing.
async fn wait_for_health(api: &Api) {
    until("a healthy controller", async || {
        let controllers = api.get("/api/v1/admin/controllers").await.body;
        (controllers[0]["status"] == "healthy").then_some(())
    })
    .await;
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

fn condition<'a>(session: &'a Value, kind: &str) -> &'a Value {
    let conditions = session["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_session_runs_within_its_limits_and_leaves_only_its_home() {
    let Some(mut stage) = Stage::new().await else { return };
    // Everything that deals with sessions logs all it can: also there no secret may stand.
    stage.installation = stage.installation.config(
        "log = \"info,bollard=trace,hyper=trace,sqlx=trace,streamspace_control=trace,streamspace_runtime=trace\"",
    );
    let server = stage.installation.start();
    let api = server.api();
    let mut request = stage.request();
    request["spec"]["persistent_home"] = json!(true);
    request["spec"]["volume_mounts"] = json!([{"name": "cache", "mount_path": "/cache"}]);
    request["spec"]["env"] =
        json!([{"name": "GREETING", "value": "a=b"}, {"name": "KEY", "value": "geheim", "secret": true}]);
    let session = api.create_running(&request).await;

    // What the API says of it.
    assert_eq!(
        (session["state"].as_str(), session["controller_type"].as_str()),
        (Some("running"), Some("docker"))
    );
    assert_eq!(session["url"], format!("/s/{}/", id(&session)));
    assert_eq!(condition(&session, "Ready")["status"], "True");
    assert!(!session.to_string().contains("geheim"), "a secret value is never shown: {session}");
    let listed = api.sessions().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], session["id"]);
    assert!(!server.log().contains("geheim"), "nor logged");

    // What the engine says of it.
    let name = format!("ss-{}", id(&session));
    let container = stage.engine.inspect(&name).await;
    assert_eq!(container.id.as_deref(), session["node_id"].as_str());
    let config = container.config.unwrap();
    let labels = config.labels.unwrap();
    assert_eq!(labels["streamspace.session_id"], id(&session));
    assert_eq!(labels["streamspace.user_id"], "älice@example.org");
    assert_eq!(labels[docker::CONTROLLER], controller(&api).await);
    let env = config.env.unwrap();
    assert!(env.contains(&"GREETING=a=b".to_owned()) && env.contains(&"KEY=geheim".to_owned()), "{env:?}");
    let host = container.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)), "no swap on top");
    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert!(host.pids_limit.unwrap() > 0);
    assert_eq!((host.privileged, host.binds, host.cap_add), (Some(false), None, None));
    assert_eq!(host.network_mode.as_deref(), Some("ss-sessions"));
    let mut mounts: Vec<_> =
        container.mounts.unwrap().into_iter().map(|mount| mount.destination.unwrap()).collect();
    mounts.sort();
    assert_eq!(mounts, ["/cache", "/config"]);
    let ports = container.network_settings.unwrap().ports.unwrap();
    let binding = &ports["3000/tcp"].as_ref().unwrap()[0];
    assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"), "reachable from this machine only");

    // It works; the container runs a moment before its server does.
    let address = format!("127.0.0.1:{}", binding.host_port.as_ref().unwrap());
    let page = until("an answer of the session", async || docker::fetch(&address).await.ok()).await;
    assert!(page.contains("session"), "{page}");

    // And it goes.
    let me = controller(&api).await;
    assert_eq!(stage.engine.volumes(&me).await.len(), 2);
    let deleted = api.delete(&format!("/api/v1/sessions/{}?wait=60s", id(&session))).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.body);
    assert!(!stage.engine.exists(&name).await);
    let left = stage.engine.volumes(&me).await;
    assert!(matches!(left.as_slice(), [home] if home.starts_with("ss-home.")), "{left:?}");
    assert!(api.sessions().await.is_empty());
    assert_eq!(api.get(&format!("/api/v1/sessions/{}", id(&session))).await.status, StatusCode::NOT_FOUND);

    // The same user finds the home again, and may give it up.
    let again = api.create_running(&request).await;
    let path = format!("/api/v1/sessions/{}?wait=60s&purge_home=true", id(&again));
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert!(stage.engine.volumes(&me).await.is_empty());
    stage.end(server).await;
}

/// How many pulls began, and how many were under way at once.
fn pulls(log: &str) -> (usize, usize) {
    let (mut begun, mut under_way, mut most) = (0, 0_usize, 0);
    for line in log.lines() {
        if line.contains("pull started") {
            (begun, under_way) = (begun + 1, under_way + 1);
            most = most.max(under_way);
        } else if line.contains("pull done") {
            under_way = under_way.saturating_sub(1);
        }
    }
    (begun, most)
}

#[tokio::test]
async fn an_image_that_is_not_there_is_pulled_by_the_host() {
    let (Some(stage), Some(image)) = (Stage::new().await, provided("STREAMSPACE_TEST_REGISTRY_IMAGE")) else {
        return;
    };
    // Not there yet, or still there from another run.
    let _ = stage.engine.0.remove_image(&image, None::<RemoveImageOptions>, None).await;
    let server = stage.installation.start();
    let api = server.api();
    let mut request = stage.request();
    request["spec"]["base_image"] = json!(image);
    // Two at once: one pull serves both.
    let (first, second) = tokio::join!(api.create_running(&request), api.create_running(&request));
    assert_ne!(first["id"], second["id"]);
    assert_eq!(pulls(&server.log()).1, 1, "one pull for both, or one after the other");

    // Removed from the engine, it is pulled once more.
    for session in [&first, &second] {
        let deleted = api.delete(&format!("/api/v1/sessions/{}?wait=60s", id(session))).await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.body);
    }
    let (before, _) = pulls(&server.log());
    stage.engine.0.remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();
    api.create_running(&request).await;
    assert_eq!(pulls(&server.log()).0, before + 1);
    stage.end(server).await;
}

#[tokio::test]
async fn an_image_that_does_not_exist_fails_the_session_with_the_registrys_words() {
    let (Some(stage), Some(image)) = (Stage::new().await, provided("STREAMSPACE_TEST_REGISTRY_IMAGE")) else {
        return;
    };
    let server = stage.installation.start();
    let api = server.api();
    let mut request = stage.request();
    request["spec"]["base_image"] = json!(format!("{}-missing:1", image.rsplit_once(':').unwrap().0));
    let created = api.try_create("/api/v1/sessions", &request).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED);
    let failed = api.wait_for_phase(id(&created.body), "Failed").await;
    let text = failed["status"]["conditions"].to_string();
    assert!(text.contains("spec.base_image") && text.contains("cannot be pulled"), "{text}");
    assert_eq!(failed["state"], "running", "the wish stays what it was");

    let deleted = api.delete(&format!("/api/v1/sessions/{}?wait=60s", id(&failed))).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    stage.end(server).await;
}

#[tokio::test]
async fn what_the_engine_refuses_names_the_field() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let mut request = stage.request();
    request["spec"]["resources"]["memory"] = json!("1Mi");
    let created = api.try_create("/api/v1/sessions", &request).await.unwrap();
    let failed = api.wait_for_phase(id(&created.body), "Failed").await;
    assert!(failed["status"]["conditions"].to_string().contains("spec.resources.memory"), "{failed}");
    // What the engine does not have it is not even asked for.
    request["spec"]["resources"]["cpu"] = json!("4000");
    let refused = api.post("/api/v1/sessions", &request).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    assert!(refused.body["detail"].to_string().contains("has less processor time"), "{}", refused.body);
    assert!(stage.engine.containers(&controller(&api).await).await.is_empty());
    stage.end(server).await;
}

#[tokio::test]
async fn containers_of_others_are_never_touched() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let Some(other) = Installation::with_docker() else { return };
    let other_server = other.start();
    let theirs = other_server.api().create_running(&stage.request()).await;
    let mine = server.api().create_running(&stage.request()).await;
    assert_eq!(server.api().sessions().await.len(), 1, "their session is not in our list");

    server.api().delete(&format!("/api/v1/sessions/{}?wait=60s", id(&mine))).await;
    assert!(stage.engine.exists(&format!("ss-{}", id(&theirs))).await);
    let other = controller(&other_server.api()).await;
    other_server.kill();
    stage.engine.clean(&other).await;
    stage.end(server).await;
}

#[tokio::test]
async fn the_same_request_twice_makes_one_session() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    wait_for_health(&api).await;
    let first = api.post_once("/api/v1/sessions", "key-1", &stage.request()).await;
    let second = api.post_once("/api/v1/sessions", "key-1", &stage.request()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    assert_eq!(id(&first.body), id(&second.body));
    let mut other = stage.request();
    other["user_id"] = json!("bob");
    let clash = api.post_once("/api/v1/sessions", "key-1", &other).await;
    assert_eq!(clash.status, StatusCode::CONFLICT, "{}", clash.body);
    assert_eq!(api.sessions().await.len(), 1);
    api.wait_for_phase(id(&first.body), "Running").await;
    stage.end(server).await;
}

#[tokio::test]
async fn many_sessions_at_once_come_and_go() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let request = stage.request();
    let sessions: Vec<Value> = futures::future::join_all((0..8).map(|_| api.create_running(&request))).await;
    let me = controller(&api).await;
    assert_eq!(stage.engine.containers(&me).await.len(), sessions.len());
    let paths: Vec<_> =
        sessions.iter().map(|session| format!("/api/v1/sessions/{}?wait=60s", id(session))).collect();
    let deleted = futures::future::join_all(paths.iter().map(|path| api.delete(path))).await;
    assert!(deleted.iter().all(|answer| answer.status == StatusCode::NO_CONTENT), "{deleted:?}");
    assert!(stage.engine.containers(&me).await.is_empty());
    stage.end(server).await;
}

/// Kills the server at a point on the way from the request to the running session, starts it again, and counts.
async fn killed_while_creating(failpoint: &str) {
    let Some(stage) = Stage::new().await else { return };
    let doomed = stage.installation.start_to_die_at(failpoint);
    let api = doomed.api();
    let me = controller(&api).await;
    // Whether the answer comes before the kill is a race; both are fine.
    let _ = api.try_create("/api/v1/sessions", &stage.request()).await;
    doomed.died().await;

    let server = stage.installation.start();
    let api = server.api();
    assert_eq!(controller(&api).await, me, "it is the same controller");
    let sessions = api.sessions().await;
    assert_eq!(sessions.len(), 1, "what was committed is still there");
    let session = api.wait_for_phase(id(&sessions[0]), "Running").await;
    let containers = stage.engine.containers(&me).await;
    assert_eq!(containers.len(), 1, "one container for the session and none without: {containers:?}");
    assert_eq!(containers[0].id.as_deref(), session["node_id"].as_str());

    let deleted = api.delete(&format!("/api/v1/sessions/{}?wait=60s", id(&session))).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert!(stage.engine.containers(&me).await.is_empty());
    stage.end(server).await;
}

#[tokio::test]
async fn killed_right_after_the_row_is_committed() {
    killed_while_creating("control.session.committed").await;
}

#[tokio::test]
async fn killed_after_the_operation_is_claimed() {
    killed_while_creating("control.operation.claimed").await;
}

#[tokio::test]
async fn killed_after_the_container_is_made_and_not_started() {
    killed_while_creating("docker.container-create").await;
}

#[tokio::test]
async fn killed_after_the_container_is_started() {
    killed_while_creating("docker.container-start").await;
}

#[tokio::test]
async fn killed_with_the_reply_in_hand_and_not_recorded() {
    killed_while_creating("control.create.replied").await;
}

/// The same on the way from the request to delete to the end.
async fn killed_while_deleting(failpoint: &str) {
    let Some(stage) = Stage::new().await else { return };
    let doomed = stage.installation.start_to_die_at(failpoint);
    let api = doomed.api();
    let me = controller(&api).await;
    let session = api.create_running(&stage.request()).await;
    let _ = api.try_delete(&format!("/api/v1/sessions/{}", id(&session))).await;
    doomed.died().await;

    let server = stage.installation.start();
    server.api().wait_for_gone(id(&session)).await;
    assert!(stage.engine.containers(&me).await.is_empty());
    stage.end(server).await;
}

#[tokio::test]
async fn killed_right_after_the_wish_to_delete_is_committed() {
    killed_while_deleting("control.delete.committed").await;
}

#[tokio::test]
async fn killed_after_the_container_is_removed() {
    killed_while_deleting("docker.container-remove").await;
}

#[tokio::test]
async fn killed_with_the_end_confirmed_and_not_recorded() {
    killed_while_deleting("control.delete.replied").await;
}

#[tokio::test]
async fn a_container_that_vanishes_is_made_again() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request()).await;
    let me = controller(&api).await;
    server.kill();
    stage.engine.clean(&me).await;

    // The first listing after a start finds out.
    let server = stage.installation.start();
    let api = server.api();
    let name = format!("ss-{}", id(&session));
    until("the new container", async || stage.engine.exists(&name).await.then_some(())).await;
    let again = api.wait_for_phase(id(&session), "Running").await;
    assert_eq!(again["id"], session["id"]);
    stage.end(server).await;
}

#[tokio::test]
async fn an_engine_that_is_away_at_the_start_keeps_its_sessions() {
    let Some(mut stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let session = server.api().create_running(&stage.request()).await;
    server.kill();

    // A way to the engine that is not there yet.
    let way = stage.installation.data().join("docker.sock");
    stage.installation = stage.installation.environment("DOCKER_HOST", &format!("unix://{}", way.display()));
    let server = stage.installation.start();
    let api = server.api();
    let path = format!("/api/v1/sessions/{}", id(&session));
    until("the condition", async || {
        let seen = api.get(&path).await.body;
        (condition(&seen, "ControllerReachable")["status"] == "False").then_some(())
    })
    .await;
    let seen = api.get(&path).await.body;
    assert_eq!(
        (seen["phase"].as_str(), seen["state"].as_str()),
        (Some("Running"), Some("running")),
        "{seen}"
    );
    let refused = api.post("/api/v1/sessions", &stage.request()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);

    std::os::unix::fs::symlink(provided("STREAMSPACE_TEST_DOCKER").unwrap(), &way).unwrap();
    until("the way back", async || {
        let seen = api.get(&path).await.body;
        (condition(&seen, "ControllerReachable")["status"] != "False").then_some(())
    })
    .await;
    assert_eq!(api.get(&path).await.body["node_id"], session["node_id"], "the same container");
    stage.end(server).await;
}

#[tokio::test]
async fn an_engine_that_is_away_stores_nothing_new() {
    let Some(installation) = Installation::new() else { return };
    let installation = installation.config(
        "[[controller]]\nname = \"away\"\nplugin = \"docker\"\n[controller.endpoints.engine]\ndocker = \"unix:///nowhere/docker.sock\"\n",
    );
    let server = installation.start();
    let api = server.api();
    let refused = api.post("/api/v1/sessions", &json!({"user_id": "a", "spec": {"base_image": "x"}})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    assert!(refused.content_type.starts_with("application/problem+json"));
    assert!(api.sessions().await.is_empty());
    let controllers = api.get("/api/v1/admin/controllers").await.body;
    assert_ne!(controllers[0]["status"], "healthy", "{controllers}");
    assert!(controllers[0]["message"].as_str().unwrap().contains("/nowhere/docker.sock"), "{controllers}");
    server.kill();
}

#[tokio::test]
async fn asked_to_stop_it_ends_well_and_the_sessions_go_on() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let session = server.api().create_running(&stage.request()).await;
    assert!(server.stop().await.success());
    assert!(stage.engine.exists(&format!("ss-{}", id(&session))).await);
    let server = stage.installation.start();
    assert_eq!(server.api().wait_for_phase(id(&session), "Running").await["node_id"], session["node_id"]);
    stage.end(server).await;
}

#[tokio::test]
async fn the_administrators_token_is_for_the_owner_of_the_data_only() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let file = stage.installation.data().join("admin.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for token in [None, Some("guess"), Some("")] {
        for path in ["/api/v1/sessions", "/api/v1/admin/controllers"] {
            let refused = server.api_as(token).get(path).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{token:?} {path}");
        }
    }
    assert_eq!(server.api_as(None).get("/healthz").await.status, StatusCode::OK);
    stage.end(server).await;
}
