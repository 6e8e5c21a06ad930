//! The simulated backend behind the client that control has: plugin, runtime and shell as they are, the
//! infrastructure as a process that misbehaves on demand. The log of effects is the judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    CreateSessionRequest, CreateSessionResponse, DeleteSessionRequest, DeleteSessionResponse,
    GetCapabilitiesRequest, GetSessionAccessRequest, GetSessionLogsRequest, GetSessionMetricsRequest,
    GetSessionStatusRequest, HealthCheckRequest, HibernateSessionRequest, ListSessionsRequest, SessionSpec,
    WakeSessionRequest, WebAppConfig, access_point,
};
use streamspace_runtime::contract::lifecycle::{Change, SessionEvent};
use streamspace_runtime::{
    Backend, BackendConfig, CallOptions, EndpointConfig, Fence, Plugin, Runtime, RuntimeConfig,
};
use streamspace_shell::{Shell, Transport};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};
use tokio::sync::OnceCell;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// For calls whose time limit is not the question.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller over the plugin, and the infrastructure below it.
struct Stage {
    simulated: Simulated,
    backend: Backend,
    client: ControllerServiceClient<Transport>,
}

impl Stage {
    /// None without the plugin or the process; a line was printed then.
    async fn new() -> Option<Self> {
        static PLUGIN: OnceCell<Plugin> = OnceCell::const_new();
        let file = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Simulated::start()?;
        let load = async || {
            let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
            runtime.load_file(file.as_ref()).await.unwrap()
        };
        let plugin = PLUGIN.get_or_init(load).await.clone();
        let backend = bind(plugin, &simulated).await;
        let client = ControllerServiceClient::new(Shell::new(backend.clone()).into_transport());
        Some(Self { simulated, backend, client })
    }

    async fn create_within(
        &self,
        request: CreateSessionRequest,
        time: Duration,
    ) -> Result<CreateSessionResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(time);
        self.client.clone().create_session(request).await.map(tonic::Response::into_inner)
    }

    async fn create(&self, id: &str) -> Result<CreateSessionResponse, Status> {
        self.create_within(session(id), PATIENCE).await
    }

    /// Repeats a create as control does: with the last handle, until it is done.
    async fn create_until_done(&self, id: &str) -> CreateSessionResponse {
        let mut request = session(id);
        for _ in 0..200 {
            let answer = self.create_within(request.clone(), PATIENCE).await.unwrap();
            if !answer.in_progress {
                return answer;
            }
            request.handle = answer.handle;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the create of {id} does not come to an end");
    }

    async fn delete(&self, id: &str, purge_home: bool) -> Result<DeleteSessionResponse, Status> {
        let request = DeleteSessionRequest {
            session_id: id.to_owned(),
            user_id: "alice".to_owned(),
            operation_id: format!("delete-{id}"),
            generation: 9,
            epoch: 7,
            purge_home,
            ..Default::default()
        };
        self.client.clone().delete_session(request).await.map(tonic::Response::into_inner)
    }

    async fn hibernate(&self, id: &str) -> Result<String, Status> {
        let request = HibernateSessionRequest { session_id: id.to_owned(), epoch: 7, ..Default::default() };
        self.client.clone().hibernate_session(request).await.map(|answer| answer.into_inner().phase)
    }

    async fn wake(&self, id: &str) -> Result<String, Status> {
        let request = WakeSessionRequest { session_id: id.to_owned(), epoch: 7, ..Default::default() };
        self.client.clone().wake_session(request).await.map(|answer| answer.into_inner().phase)
    }

    async fn phase(&self, id: &str) -> Result<String, Code> {
        let request = GetSessionStatusRequest { session_id: id.to_owned(), ..Default::default() };
        let answer = self.client.clone().get_session_status(request).await;
        answer.map(|status| status.into_inner().phase).map_err(|status| status.code())
    }

    /// All pages of the listing; the error of the page that fails.
    async fn list(&self, limit: i32) -> Result<Vec<String>, Status> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = ListSessionsRequest { cursor, limit };
            let page = self.client.clone().list_sessions(request).await?.into_inner();
            found.extend(page.entries.into_iter().map(|entry| entry.status.unwrap().session_id));
            if page.next_cursor.is_empty() {
                return Ok(found);
            }
            cursor = page.next_cursor;
        }
    }
}

async fn bind(plugin: Plugin, simulated: &Simulated) -> Backend {
    bind_behind(plugin, simulated, Fence::default()).await
}

async fn bind_behind(plugin: Plugin, simulated: &Simulated, fence: Fence) -> Backend {
    let endpoint = json!({"http": format!("unix://{}", simulated.socket().display())});
    let endpoint: EndpointConfig = serde_json::from_value(endpoint).unwrap();
    let config = BackendConfig {
        controller_id: "ctrl-test".to_owned(),
        config: json!({"max_sessions": 20000}),
        endpoints: BTreeMap::from([("api".to_owned(), endpoint)]),
        secrets: BTreeMap::new(),
        limits: Default::default(),
        fence,
    };
    Backend::bind(plugin, config).await.unwrap()
}

fn session(id: &str) -> CreateSessionRequest {
    CreateSessionRequest {
        session_id: id.to_owned(),
        user_id: "alice".to_owned(),
        spec: Some(SessionSpec {
            base_image: "anything".to_owned(),
            persistent_home: true,
            webapp: Some(WebAppConfig { enabled: true, port: 3000, ..Default::default() }),
            ..Default::default()
        }),
        spec_hash: "hash-1".to_owned(),
        operation_id: format!("create-{id}"),
        generation: 1,
        epoch: 7,
        ..Default::default()
    }
}

/// Whoever has been replaced changes nothing more, also in the middle of a call; to look is no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_epoch_ends_changes_nothing_more() {
    let Some(stage) = Stage::new().await else { return };
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return };
    let plugin = Runtime::new(RuntimeConfig::default()).unwrap().load_file(Path::new(&plugin)).await.unwrap();
    // Asked when the call begins, before the home is made, and before the box is.
    let left = Arc::new(AtomicU32::new(2));
    let fence = {
        let left = Arc::clone(&left);
        Fence::new(move |epoch| {
            assert_eq!(epoch, 7);
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        })
    };
    let shell = Shell::new(bind_behind(plugin, &stage.simulated, fence).await).into_transport();
    let mut client = ControllerServiceClient::new(shell);
    let refused = client.create_session(session("s1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "STALE_EPOCH");
    let kinds: Vec<_> = stage.simulated.effects().await.iter().map(|effect| effect["kind"].clone()).collect();
    assert_eq!(kinds, ["home.made"], "what was sent before the end is done, and nothing after it");
    let refused = client.create_session(session("s2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "no further call begins: {refused:?}");
    assert_eq!(client.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner().entries, []);
    let unfenced = CreateSessionRequest { epoch: 0, ..session("s1") };
    assert_eq!(client.create_session(unfenced).await.unwrap().into_inner().phase, "Running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_through_all_its_phases() {
    let Some(stage) = Stage::new().await else { return };
    stage.simulated.knobs(json!({"settings": {"pages": true}})).await;
    let mut client = stage.client.clone();
    let health = client.health_check(HealthCheckRequest {}).await.unwrap().into_inner();
    assert_eq!(health.status, "healthy", "{}", health.message);
    let capabilities = client.get_capabilities(GetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (capabilities.controller_type.as_str(), capabilities.supports_hibernation),
        ("simulated", true)
    );

    for _ in 0..2 {
        assert_eq!(stage.create("s1").await.unwrap().phase, "Running");
    }
    let request = GetSessionAccessRequest { session_id: "s1".to_owned(), ..Default::default() };
    let access = client.get_session_access(request).await.unwrap().into_inner();
    let Some(access_point::Target::Http(target)) = &access.points[0].target else { panic!("{access:?}") };
    let page = reqwest::get(format!("{}/", target.base_url)).await.unwrap().text().await.unwrap();
    assert!(page.contains("ss-s1"), "{page}");
    let request = GetSessionMetricsRequest { session_id: "s1".to_owned(), ..Default::default() };
    let metrics = client.get_session_metrics(request).await.unwrap().into_inner();
    assert!(metrics.counters.unwrap().cpu_ns.is_some());
    let request = GetSessionLogsRequest { session_id: "s1".to_owned(), tail_lines: 1, ..Default::default() };
    let mut lines = client.get_session_logs(request).await.unwrap().into_inner();
    assert_eq!(lines.message().await.unwrap().unwrap().message, "the box is started");

    for _ in 0..2 {
        assert_eq!(stage.hibernate("s1").await.unwrap(), "Hibernated");
    }
    for _ in 0..2 {
        assert_eq!(stage.wake("s1").await.unwrap(), "Running");
    }
    let status = stage.delete("s2", true).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "the home is in use: {status:?}");
    for _ in 0..2 {
        assert!(stage.delete("s1", true).await.unwrap().success);
    }
    assert_eq!(stage.phase("s1").await, Err(Code::NotFound));
    assert_eq!(stage.hibernate("s1").await.unwrap_err().code(), Code::NotFound);

    let effects = stage.simulated.effects().await;
    let kinds: Vec<_> = effects.iter().map(|effect| effect["kind"].as_str().unwrap()).collect();
    let expected =
        ["home.made", "box.made", "box.started", "box.stopped", "box.started", "box.removed", "home.removed"];
    assert_eq!(kinds, expected);
    assert_eq!((&effects[1]["operation"], &effects[1]["session"]), (&json!("create-s1"), &json!("s1")));
    assert_eq!((&effects[5]["generation"], &effects[5]["epoch"]), (&json!(9), &json!(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_and_a_retry_make_one_object() {
    let Some(stage) = Stage::new().await else { return };
    for (verb, lost) in [("home.put", 1), ("box.create", 2), ("box.start", 1)] {
        stage.simulated.rules(json!([{"verb": verb, "count": lost, "fault": "lost_reply"}])).await;
        let id = verb.replace('.', "-");
        let status = stage.create(&id).await.expect_err(verb);
        assert_eq!(status.code(), Code::Unavailable, "{verb}: {status:?}");
        assert_eq!(stage.create_until_done(&id).await.phase, "Running");
        assert_eq!(
            stage.simulated.effects_on(&format!("ss-{id}")).await,
            ["box.made", "box.started"],
            "{verb}"
        );
    }
    stage.simulated.rules(json!([{"verb": "box.delete", "count": 1, "fault": "lost_reply"}])).await;
    assert_eq!(stage.delete("box-start", false).await.unwrap_err().code(), Code::Unavailable);
    assert!(stage.delete("box-start", false).await.unwrap().success);
    assert_eq!(stage.simulated.effects_on("ss-box-start").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_takes_time_and_gets_stuck_half_way_converges() {
    let Some(stage) = Stage::new().await else { return };
    stage
        .simulated
        .knobs(json!({
            "settings": {"create_ms": 50, "start_ms": 50, "delete_ms": 50},
            "rules": [
                {"verb": "box.create", "name": "ss-half", "count": 1, "fault": "half"},
                {"verb": "box.create", "name": "ss-home", "count": 1, "fault": {"error": {"status": 500}}},
            ],
        }))
        .await;
    for id in ["half", "home"] {
        stage.create(id).await.expect_err(id);
        assert_eq!(stage.create_until_done(id).await.phase, "Running");
    }
    let half = stage.simulated.effects_on("ss-half").await;
    assert_eq!(half, ["box.made", "box.removed", "box.made", "box.started"]);
    assert_eq!(stage.simulated.effects_on("ss-home").await, ["box.made", "box.started"]);
    stage.simulated.knobs(json!({"settings": {"delete_ms": 2000}})).await;
    assert!(stage.delete("half", false).await.unwrap().in_progress);
    // Deleted as long as it takes; a new one never stands beside the old one.
    assert_eq!(stage.create_until_done("half").await.phase, "Running");
    assert_eq!(stage.simulated.boxes().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_and_never_started_is_hibernated_all_the_same() {
    let Some(stage) = Stage::new().await else { return };
    let refused = json!([{"verb": "box.start", "count": 1, "fault": {"error": {"status": 500}}}]);
    stage.simulated.rules(refused).await;
    stage.create("half").await.expect_err("it is not started");
    assert_eq!(stage.phase("half").await.unwrap(), "Pending");
    // Only what ran once can be told from what is still being made.
    until("it is hibernated", async || {
        (stage.hibernate("half").await.unwrap() == "Hibernated").then_some(())
    })
    .await;
    assert_eq!(stage.phase("half").await.unwrap(), "Hibernated");
    assert_eq!(stage.simulated.effects_on("ss-half").await, ["box.made", "box.started", "box.stopped"]);
    assert_eq!(stage.wake("half").await.unwrap(), "Running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_infrastructure_that_hangs_does_not_keep_the_caller() {
    let Some(stage) = Stage::new().await else { return };
    stage.simulated.rules(json!([{"verb": "box.create", "count": 1, "fault": "hang_after"}])).await;
    let started = Instant::now();
    // Enough to come to the request that hangs.
    let time = Duration::from_secs(5);
    let status = stage.create_within(session("s1"), time).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(started.elapsed() < time * 3, "it took {:?}", started.elapsed());
    assert_eq!(stage.create_until_done("s1").await.phase, "Running");
    assert_eq!(stage.simulated.effects_on("ss-s1").await, ["box.made", "box.started"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_and_nonsense_are_neither_gone_nor_stopped() {
    let Some(stage) = Stage::new().await else { return };
    stage.create("s1").await.unwrap();
    for (fault, code) in [
        (json!({"error": {"status": 404, "message": "no such route"}}), Code::Internal),
        (json!({"error": {"status": 503}}), Code::Unavailable),
        (json!({"error": {"status": 401}}), Code::Unauthenticated),
        (json!("garbage"), Code::Internal),
        (json!("torn_body"), Code::Unavailable),
        (json!("refused"), Code::Unavailable),
    ] {
        stage.simulated.rules(json!([{"verb": "box.get", "fault": fault}])).await;
        assert_eq!(stage.phase("s1").await, Err(code), "{fault}");
        assert!(stage.delete("s1", false).await.is_err(), "{fault}");
    }
    stage.simulated.knobs(json!({"settings": {"unavailable": true}})).await;
    let health = stage.client.clone().health_check(HealthCheckRequest {}).await.unwrap().into_inner();
    assert_eq!(health.status, "unhealthy");
    stage.simulated.knobs(json!({"settings": {"max_boxes": 1}})).await;
    assert_eq!(stage.create("s2").await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(stage.phase("s1").await, Ok("Running".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_made_or_did_is_seen_and_left_alone() {
    let Some(stage) = Stage::new().await else { return };
    let foreign = json!({"name": "ss-s1", "labels": {"streamspace.controller": "ctrl-other"}});
    assert_eq!(stage.simulated.send(Method::POST, "/foreign", Some(&foreign)).await.0, 201);
    assert_eq!(stage.create("s1").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(stage.phase("s1").await, Err(Code::NotFound));
    assert!(stage.delete("s1", false).await.unwrap().success);
    assert_eq!(stage.list(10).await.unwrap(), [""; 0]);
    assert_eq!(stage.simulated.boxes().await.len(), 1, "the other's box is left alone");

    stage.create("s2").await.unwrap();
    let other_spec = CreateSessionRequest { spec_hash: "hash-2".to_owned(), ..session("s2") };
    assert_eq!(stage.create_within(other_spec, PATIENCE).await.unwrap_err().code(), Code::AlreadyExists);
    for (deed, phase) in [("stop", "Hibernated"), ("start", "Running"), ("crash", "Failed")] {
        stage.simulated.by_hand("ss-s2", deed).await;
        assert_eq!(stage.phase("s2").await, Ok(phase.to_owned()), "{deed}");
    }
    stage.simulated.by_hand("ss-s2", "remove").await;
    assert_eq!(stage.phase("s2").await, Err(Code::NotFound));

    // A shell that has just been started has seen no epoch yet: the box itself knows one.
    let later = CreateSessionRequest { epoch: 9, ..session("s3") };
    stage.create_within(later, PATIENCE).await.unwrap();
    let fresh = Stage {
        client: ControllerServiceClient::new(Shell::new(stage.backend.clone()).into_transport()),
        ..stage
    };
    assert_eq!(fresh.delete("s3", false).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sessions_are_listed_in_pages_or_not_at_all() {
    let Some(stage) = Stage::new().await else { return };
    let mut expected = Vec::new();
    for index in 0..10_000 {
        let id = format!("s{index:05}");
        let labels = json!({"streamspace.controller": "ctrl-test", "streamspace.session_id": &id});
        let made = json!({"name": format!("ss-{id}"), "labels": labels});
        assert_eq!(stage.simulated.send(Method::POST, "/boxes", Some(&made)).await.0, 201);
        expected.push(id);
    }
    assert_eq!(stage.list(1000).await.unwrap(), expected);
    stage
        .simulated
        .rules(
            json!([{"verb": "box.list", "later_pages": true, "skip": 3, "count": 1, "fault": "torn_body"}]),
        )
        .await;
    assert_eq!(stage.list(1000).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(stage.list(1000).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_watched_and_lost_ones_are_told() {
    let Some(mut stage) = Stage::new().await else { return };
    let watch = async |stage: &Stage, cursor: Option<String>| {
        let options = CallOptions::read(Duration::from_secs(30));
        stage.backend.watch(options, cursor, Duration::from_secs(10)).await.unwrap()
    };
    let start = watch(&stage, None).await;
    assert!(start.events.is_empty() && !start.resync);
    stage.create("s1").await.unwrap();
    let mut phases = Vec::new();
    let mut cursor = start.cursor.clone();
    while phases.len() < 2 {
        let page = watch(&stage, Some(cursor)).await;
        assert!(!page.resync);
        phases.extend(page.events.iter().map(phase_of));
        cursor = page.cursor;
    }
    assert_eq!(phases, ["Pending", "Running"]);
    assert!(stage.delete("s1", false).await.unwrap().success);
    let page = watch(&stage, Some(cursor)).await;
    assert_eq!(page.events.iter().map(phase_of).collect::<Vec<_>>(), ["gone"]);

    stage.simulated.kill_and_restart();
    // A connection to the one before may still be taken for a good one.
    until("an answer", async || (stage.phase("nobody").await == Err(Code::NotFound)).then_some(())).await;
    let after = watch(&stage, Some(page.cursor)).await;
    assert!(after.resync, "an infrastructure that was restarted has forgotten its events");
    let next = stage.create("s2").await;
    assert!(next.is_ok(), "{next:?}");
    let page = watch(&stage, Some(after.cursor)).await;
    assert!(!page.resync && !page.events.is_empty(), "the cursor is valid all the same");
}

fn phase_of(event: &SessionEvent) -> String {
    assert_eq!(event.session_id, "s1");
    match &event.change {
        Change::Seen(entry) => format!("{:?}", entry.state.phase).rsplit("::").next().unwrap().to_owned(),
        Change::Gone => "gone".to_owned(),
        Change::Touched => "touched".to_owned(),
    }
}
