//! An API server and its controller on machines of their own: the link between them is cut and comes back, a process dies
//! and another one goes on. Calls are encrypted, under an authority of the operator's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::certificates::Certificates;
use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::network::Network;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};

/// The two machines, and what runs on them.
struct Stage {
    server: Server,
    simulated: Simulated,
    plugin: String,
    join_token: String,
    /// Of the controller.
    certificates: Certificates,
    /// What the others are on goes last.
    _installation: Installation,
    network: Network,
}

impl Stage {
    async fn new() -> Option<Self> {
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Simulated::start()?;
        let installation = Installation::new()?.config("[health]\nlease = \"10s\"\ninterval = \"1s\"\n");
        let network = Network::new()?;
        let installation = installation.on(&network);
        let server = installation.start();
        let token = server
            .api()
            .post(
                "/api/v1/admin/join-tokens",
                &json!({"name": "far", "controller_type": "simulated", "controller_name": "far"}),
            )
            .await;
        assert_eq!(token.status, 201, "{:?}", token.body);
        let join_token = token.body["secret"].as_str().unwrap().to_owned();
        let certificates = Certificates::of(&network.far().address().to_string());
        Some(Self {
            server,
            simulated,
            plugin,
            join_token,
            certificates,
            _installation: installation,
            network,
        })
    }

    /// One more process of the controller, on its machine, and where it serves.
    fn start(&self) -> (ControllerProcess, String) {
        let endpoint = format!("api=unix://{}", self.simulated.socket().display());
        let (certificate, key, ca) =
            (self.certificates.certificate(), self.certificates.key(), self.certificates.ca());
        let listen = format!("{}:0", self.network.far().address());
        let arguments = [
            ["--plugin", &self.plugin],
            ["--name", "far"],
            ["--listen", &listen],
            ["--tls-cert", &certificate],
            ["--tls-key", &key],
            ["--tls-ca", &ca],
            ["--endpoint", &endpoint],
        ];
        // Nobody else is on the link, so that the way to the API server need not be encrypted.
        let mut arguments = arguments.concat();
        arguments.push("--insecure");
        let url = format!("http://{}:{}", self.network.api().address(), self.server.port());
        let variables = [
            ("API_SERVER_URL", url.as_str()),
            ("STREAMSPACE_JOIN_TOKEN", &self.join_token),
            ("NO_PROXY", "*"),
        ];
        let process = ControllerProcess::start_on(self.network.far(), &arguments, &variables).unwrap();
        process.says("registered as", 1);
        let address = process.says("serving on", 1)["address"].as_str().unwrap().to_owned();
        (process, format!("grpcs://{address}"))
    }

    /// The controller, once it is as it should be.
    async fn controller(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = self.server.api();
        until(what, async || {
            let all = api.get("/api/v1/admin/controllers").await.body;
            let all = all.as_array().unwrap();
            assert!(all.len() <= 1, "one controller, whatever happens to it: {all:?}");
            all.first().filter(|one| wanted(one)).cloned()
        })
        .await
    }

    async fn well_at(&self, endpoint: &str) {
        let is_so = |one: &Value| one["status"] == "healthy" && one["endpoint"] == endpoint;
        self.controller(&format!("it is well at {endpoint}"), is_so).await;
    }

    /// How often the backend made a session's box.
    async fn made(&self, session: &str) -> usize {
        let effects = self.simulated.effects_on(&format!("ss-{session}")).await;
        effects.iter().filter(|effect| *effect == "box.made").count()
    }
}

fn body() -> Value {
    json!({"user_id": "alice", "spec": {"base_image": "any"}})
}

async fn running(api: &Api) -> String {
    let made = api.create_running(&body()).await;
    made["id"].as_str().unwrap().to_owned()
}

/// A session, once its controller is, or is not, reachable.
async fn reachable(api: &Api, session: &str, wanted: bool) -> Value {
    until(&format!("its controller being reachable: {wanted}"), async || {
        let session = api.get(&format!("/api/v1/sessions/{session}")).await.body;
        let conditions = session["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == "ControllerReachable");
        let is_so = found.is_none_or(|one| one["status"] == "True");
        (is_so == wanted).then_some(session)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_cut_comes_back_and_another_process_goes_on() {
    let Some(stage) = Stage::new().await else { return };
    let api = stage.server.api();
    let (first, at_first) = stage.start();
    stage.well_at(&at_first).await;
    let (steady, changed) = (running(&api).await, running(&api).await);

    stage.network.cut();
    stage.controller("it is known to be away", |one| one["status"] == "offline").await;
    for session in [&steady, &changed] {
        let away = reachable(&api, session, false).await;
        assert_eq!((&away["phase"], &away["state"]), (&json!("Running"), &json!("running")), "{away}");
    }
    let refused = api.post("/api/v1/sessions", &body()).await;
    assert_eq!(refused.status, 503, "there is nobody to run it: {}", refused.body);
    // What is wished meanwhile is not lost.
    let wished = api.post(&format!("/api/v1/sessions/{changed}/hibernate"), &json!({})).await;
    assert!(wished.status.is_success(), "{}", wished.body);
    assert_eq!(stage.simulated.boxes().await.len(), 2, "nobody does anything to them");

    stage.network.join();
    stage.well_at(&at_first).await;
    reachable(&api, &steady, true).await;
    api.wait_for_phase(&changed, "Hibernated").await;
    assert_eq!(api.get(&format!("/api/v1/sessions/{steady}")).await.body["phase"], "Running");

    let (_second, at_second) = stage.start();
    let both = |one: &Value| one["instances"].as_array().unwrap().len() == 2;
    stage.controller("both are heard of", both).await;
    stage.well_at(&at_first).await;
    // SIGKILL.
    drop(first);
    stage.well_at(&at_second).await;
    api.post(&format!("/api/v1/sessions/{changed}/wake"), &json!({})).await;
    api.wait_for_phase(&changed, "Running").await;
    let third = running(&api).await;
    assert_eq!(stage.simulated.boxes().await.len(), 3);
    for session in [steady, changed, third] {
        assert_eq!(stage.made(&session).await, 1, "nothing is doubled");
        api.delete(&format!("/api/v1/sessions/{session}")).await;
        api.wait_for_gone(&session).await;
    }
    assert!(stage.simulated.boxes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_called_is_not_taken_for_well() {
    let Some(stage) = Stage::new().await else { return };
    stage.network.only_outbound();
    let (_controller, endpoint) = stage.start();
    // It gives signs of life, and tells a place where nobody gets a connection.
    let found = stage.controller("it is known not to answer", |one| one["status"] == "unhealthy").await;
    assert_eq!(found["endpoint"], endpoint);
    let api = stage.server.api();
    let refused = api.post("/api/v1/sessions", &body()).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(stage.simulated.boxes().await.is_empty());
}
