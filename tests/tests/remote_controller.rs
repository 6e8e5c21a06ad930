//! Controllers in processes of their own, registered with a real server: what is asked of the server happens through them,
//! and another process goes on when one dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};

/// A server without a controller of its own, and what processes of one need.
struct Stage {
    server: Server,
    simulated: Simulated,
    plugin: String,
    join_token: String,
    /// The server's data goes with it.
    _installation: Installation,
}

impl Stage {
    async fn new() -> Option<Self> {
        Self::with(Installation::new()?).await
    }

    async fn with(installation: Installation) -> Option<Self> {
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Simulated::start()?;
        let installation = installation.config("[health]\nlease = \"10s\"\ninterval = \"1s\"\n");
        let server = installation.start();
        let body = json!({"name": "lab", "controller_type": "simulated", "controller_name": "lab"});
        let token = server.api().post("/api/v1/admin/join-tokens", &body).await;
        assert_eq!(token.status, 201, "{:?}", token.body);
        let join_token = token.body["secret"].as_str().unwrap().to_owned();
        Some(Self { server, simulated, plugin, join_token, _installation: installation })
    }

    /// One more process of the controller.
    fn start(&self) -> ControllerProcess {
        self.start_with(&[])
    }

    fn start_with(&self, more: &[&str]) -> ControllerProcess {
        let endpoint = format!("api=unix://{}", self.simulated.socket().display());
        let arguments = [
            "--plugin",
            &self.plugin,
            "--name",
            "lab",
            "--listen",
            "127.0.0.1:0",
            "--endpoint",
            &endpoint,
            "--label",
            "region=b",
        ];
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        let url = self.server.url();
        let variables =
            [("API_SERVER_URL", url.as_str()), ("STREAMSPACE_JOIN_TOKEN", self.join_token.as_str())];
        let process = ControllerProcess::start(&arguments, &variables).unwrap();
        process.says("registered as", 1);
        process
    }

    /// The controller, once it is as it should be.
    async fn controller(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = self.server.api();
        until(what, async || {
            let all = api.get("/api/v1/admin/controllers").await.body;
            assert!(
                all.as_array().unwrap().len() <= 1,
                "one controller, however many processes it has: {all}"
            );
            let found = all.as_array().unwrap().first()?.clone();
            (found["status"] == "healthy" && wanted(&found)).then_some(found)
        })
        .await
    }
}

/// A session that runs, as soon as somebody can be asked for it.
async fn running(api: &Api) -> String {
    let body =
        json!({"user_id": "alice", "spec": {"base_image": "any"}, "controller_labels": {"region": "b"}});
    let made = until("a session is taken", async || {
        let answer = api.post("/api/v1/sessions", &body).await;
        (answer.status == 201).then_some(answer.body)
    })
    .await;
    let id = made["id"].as_str().unwrap().to_owned();
    api.wait_for_phase(&id, "Running").await;
    id
}

fn endpoint(controller: &Value) -> String {
    controller["endpoint"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_goes_on_when_one_dies_and_nothing_is_doubled() {
    let Some(stage) = Stage::new().await else { return };
    let api = stage.server.api();
    let first = stage.start();
    let at_first = endpoint(&stage.controller("the first process is called", |_| true).await);
    let session = running(&api).await;

    let second = stage.start();
    stage.controller("both are heard of", |one| one["instances"].as_array().unwrap().len() == 2).await;
    assert_eq!(endpoint(&stage.controller("it is well", |_| true).await), at_first, "one of them is called");
    // SIGKILL.
    drop(first);
    stage.controller("the second process is called", |one| endpoint(one) != at_first).await;

    // Its session is where it was, and what is wished of it happens.
    assert_eq!(stage.simulated.boxes().await.len(), 1);
    api.post(&format!("/api/v1/sessions/{session}/hibernate"), &json!({})).await;
    api.wait_for_phase(&session, "Hibernated").await;
    let another = running(&api).await;

    // The first one comes back, and waits.
    let third = stage.start();
    api.post(&format!("/api/v1/sessions/{session}/wake"), &json!({})).await;
    api.wait_for_phase(&session, "Running").await;
    assert_eq!(stage.simulated.boxes().await.len(), 2);
    for id in [&session, &another] {
        let effects = stage.simulated.effects_on(&format!("ss-{id}")).await;
        assert_eq!(effects.iter().filter(|effect| *effect == "box.made").count(), 1, "{effects:?}");
    }
    for id in [session, another] {
        api.delete(&format!("/api/v1/sessions/{id}")).await;
        api.wait_for_gone(&id).await;
    }
    assert!(stage.simulated.boxes().await.is_empty());
    drop((second, third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_controller_that_is_away_stay_as_they_are() {
    let Some(stage) = Stage::new().await else { return };
    let api = stage.server.api();
    let first = stage.start();
    stage.controller("it is called", |_| true).await;
    let session = running(&api).await;
    drop(first);
    let away = until("it is known to be away", async || {
        let session = api.get(&format!("/api/v1/sessions/{session}")).await.body;
        let conditions = session["status"]["conditions"].as_array().unwrap().clone();
        let reachable = conditions.iter().find(|one| one["type"] == "ControllerReachable")?;
        (reachable["status"] == "False").then_some(session)
    })
    .await;
    assert_eq!((&away["phase"], &away["state"]), (&json!("Running"), &json!("running")), "{away}");
    let _second = stage.start();
    until("it is known to be back", async || {
        let session = api.get(&format!("/api/v1/sessions/{session}")).await.body;
        let conditions = session["status"]["conditions"].as_array().unwrap().clone();
        conditions
            .iter()
            .all(|one| one["type"] != "ControllerReachable" || one["status"] == "True")
            .then_some(())
    })
    .await;
    assert_eq!(stage.simulated.effects_on(&format!("ss-{session}")).await, ["box.made", "box.started"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_not_found_is_looked_for_again() {
    let Some(installation) = Installation::new() else { return };
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (trusted, certificate, key) = (path("trusted.pem"), path("own.pem"), path("own.key"));
    // The server's system trusts nobody, and the controller names nobody.
    std::fs::write(&trusted, "").unwrap();
    let nobody = path("nobody");
    std::fs::create_dir(&nobody).unwrap();
    let installation =
        installation.environment("SSL_CERT_FILE", &trusted).environment("SSL_CERT_DIR", &nobody);
    let Some(stage) = Stage::with(installation).await else { return };
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let _controller = stage.start_with(&["--tls-cert", &certificate, "--tls-key", &key]);
    let api = stage.server.api();
    let known = api.get("/api/v1/admin/controllers").await.body;
    assert_ne!(known[0]["status"], "healthy", "{known}");
    // Nobody says so to the server.
    std::fs::write(&trusted, own.cert.pem()).unwrap();
    stage.controller("it is called", |_| true).await;
}
