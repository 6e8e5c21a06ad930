//! Sessions over gRPC: the same as over REST, to the last field, for the same callers.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::calls::{Clients, faults, next, refusal, seconds};
use common::live::running;
use common::{Act, Backend, Server, config, eventually, simple};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::api::v1 as api;
use streamspace_proto::controller::v1::{
    AccessPoint, ResourceUsage, SessionMetricsResponse, TcpTarget, access_point,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn simplest() -> api::CreateSessionRequest {
    let spec = api::SessionSpec { base_image: Some("alpine:3".into()), ..Default::default() };
    api::CreateSessionRequest { spec: Some(spec), ..Default::default() }
}

fn get(id: &str) -> api::GetSessionRequest {
    api::GetSessionRequest { id: id.into() }
}

/// A time of a message as the REST API writes it.
fn text(time: &Option<prost_types::Timestamp>) -> Value {
    time.as_ref().map_or(Value::Null, |time| {
        let micros = time.seconds * 1_000_000 + i64::from(time.nanos) / 1000;
        json!(micros)
    })
}

/// The same of what the REST API writes.
fn micros(time: &Value) -> Value {
    time.as_str().map_or(Value::Null, |text| {
        json!(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    })
}

/// What REST shows of a session is what a message says.
fn assert_same(shown: &Value, message: &api::Session) {
    for (field, value) in [
        ("id", json!(message.id)),
        ("user_id", json!(message.user_id)),
        ("template_id", json!(message.template_id)),
        ("controller_id", json!(message.controller_id)),
        ("controller_type", json!(message.controller_type)),
        ("node_id", json!(message.node_id)),
        ("url", json!(message.url)),
        ("generation", json!(message.generation)),
        ("deleting", json!(message.deleting)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let word = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap().to_lowercase();
    assert_eq!(shown["state"], word(message.state().as_str_name(), "SESSION_STATE_"));
    let phase = shown["phase"].as_str().unwrap().to_lowercase();
    assert_eq!(phase, word(message.phase().as_str_name(), "SESSION_PHASE_"));
    assert_eq!(micros(&shown["created_at"]), text(&message.created_at));
    assert_eq!(micros(&shown["updated_at"]), text(&message.updated_at));
    let (spec, wanted) = (message.spec.as_ref().unwrap(), &shown["spec"]);
    assert_eq!(wanted["base_image"], json!(spec.base_image));
    assert_eq!(wanted["persistent_home"], json!(spec.persistent_home));
    assert_eq!(wanted["home_size"], json!(spec.home_size));
    assert_eq!(wanted["labels"], json!(spec.labels));
    let env = spec.env.iter().map(|one| json!([one.name, one.value])).collect::<Vec<_>>();
    let shown_env = wanted["env"].as_array().unwrap().iter().map(|one| json!([one["name"], one["value"]]));
    assert_eq!(shown_env.collect::<Vec<_>>(), env);
    let ports = spec.ports.iter().map(|port| json!(port.container_port)).collect::<Vec<_>>();
    let shown_ports = wanted["ports"].as_array().unwrap().iter().map(|port| port["container_port"].clone());
    assert_eq!(shown_ports.collect::<Vec<_>>(), ports);
    let (status, seen) = (message.status.as_ref().unwrap(), &shown["status"]);
    assert_eq!(seen["observed_generation"], json!(status.observed_generation));
    assert_eq!(micros(&seen["last_activity"]), text(&status.last_activity));
    assert_eq!(seen["operation"].is_null(), status.operation.is_none());
    let conditions = seen["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), status.conditions.len());
    for (shown, condition) in conditions.iter().zip(&status.conditions) {
        assert_eq!(shown["type"], condition.r#type);
        let status = word(condition.status().as_str_name(), "CONDITION_STATUS_");
        assert_eq!(shown["status"].as_str().unwrap().to_lowercase(), status);
        assert_eq!(
            (&shown["reason"], &shown["message"]),
            (&json!(condition.reason), &json!(condition.message))
        );
        assert_eq!(micros(&shown["since"]), text(&condition.since));
    }
}

#[tokio::test]
async fn a_session_is_the_same_over_both() {
    let (_folder, backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let spec = api::SessionSpec {
        env: vec![
            api::EnvVar { name: "LANG".into(), value: Some("C".into()), secret: None },
            api::EnvVar { name: "PIN".into(), value: Some("hunter22".into()), secret: Some(true) },
        ],
        ports: vec![api::Port { name: "web".into(), container_port: 80, protocol: 0 }],
        idle_timeout: seconds(5400),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..simplest().spec.unwrap()
    };
    let request = api::CreateSessionRequest {
        user_id: Some("alice".into()),
        spec: Some(spec),
        wait: seconds(60),
        controller_config: Some(prost_types::Struct {
            fields: [("slots".to_owned(), prost_types::value::Kind::NumberValue(3.0).into())].into(),
        }),
        ..Default::default()
    };
    let made = clients.sessions.create(request).await.unwrap();
    assert!(made.metadata().contains_key("x-request-id"));
    let made = made.into_inner();
    assert_eq!((made.phase(), made.user_id.as_str()), (api::SessionPhase::Running, "alice"));
    assert_eq!(made.spec.as_ref().unwrap().env[1].value.as_deref(), Some("[redacted]"));
    assert_eq!(backend.calls("create").len(), 1);
    let sent = backend.with(|state| state.last_create.clone()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&sent.controller_config).unwrap(), json!({"slots": 3}));
    server.settled(&made.id).await;

    let shown = server.session(&made.id).await;
    assert_eq!(shown["spec"]["idle_timeout"], "1h30m");
    assert_eq!(shown["spec"]["ports"][0]["protocol"], "TCP");
    assert_eq!(shown["controller_config"], json!({"slots": 3}));
    let read = clients.sessions.get(get(&made.id)).await.unwrap().into_inner();
    assert_same(&shown, &read);
    assert_eq!(read.spec.as_ref().unwrap().idle_timeout, seconds(5400));

    // Whoever did it stands in the audit log, with the request.
    let audit = server.get("/api/v1/admin/audit?limit=500").await.json();
    let entries = audit["items"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry.to_string().contains(&made.id)).expect("an entry");
    assert!(entry.to_string().contains("admin"), "{entry}");
    server.stop().await;
}

#[tokio::test]
async fn pages_and_filters_are_those_of_rest() {
    let (_folder, _backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let mut all = Vec::new();
    for user in ["alice", "bob", "alice"] {
        all.push(running(&server, user).await);
    }
    all.reverse();
    let list = async |clients: &mut Clients, request: api::ListSessionsRequest| {
        let page = clients.sessions.list(request).await.unwrap().into_inner();
        (page.items.into_iter().map(|one| one.id).collect::<Vec<_>>(), page.next_cursor)
    };
    let (first, cursor) =
        list(&mut clients, api::ListSessionsRequest { limit: Some(2), ..Default::default() }).await;
    let (second, end) =
        list(&mut clients, api::ListSessionsRequest { limit: Some(2), cursor, ..Default::default() }).await;
    assert_eq!(([first, second].concat(), end), (all.clone(), None));

    let bobs = api::ListSessionsRequest { user_id: Some("bob".into()), ..Default::default() };
    assert_eq!(list(&mut clients, bobs).await.0, [all[1].clone()]);
    let running = api::ListSessionsRequest {
        state: api::SessionState::Running.into(),
        phase: api::SessionPhase::Running.into(),
        controller_type: Some("docker".into()),
        ..Default::default()
    };
    assert_eq!(list(&mut clients, running).await.0, all);
    let failed = api::ListSessionsRequest { phase: api::SessionPhase::Failed.into(), ..Default::default() };
    assert_eq!(list(&mut clients, failed).await.0, [""; 0]);

    for (request, field) in [
        (api::ListSessionsRequest { limit: Some(501), ..Default::default() }, "limit"),
        (api::ListSessionsRequest { cursor: Some("x".into()), ..Default::default() }, "cursor"),
        (api::ListSessionsRequest { phase: 99, ..Default::default() }, "phase"),
    ] {
        assert_eq!(faults(clients.sessions.list(request).await), [field]);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_every_field() {
    let (_folder, backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let spec = api::SessionSpec {
        ports: vec![api::Port { container_port: 70_000, protocol: 99, ..Default::default() }],
        idle_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..Default::default()
    };
    let mut told = faults(
        clients.sessions.create(api::CreateSessionRequest { spec: Some(spec), ..Default::default() }).await,
    );
    told.sort_unstable();
    let expected =
        ["spec.base_image", "spec.idle_timeout", "spec.ports[0].container_port", "spec.ports[0].protocol"];
    assert_eq!(told, expected);
    let unsaid = api::CreateSessionRequest { require: vec![api::Requirement::Gpu.into(), 0], ..simplest() };
    assert_eq!(faults(clients.sessions.create(unsaid).await), ["require[1]"]);
    let wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let impatient = api::CreateSessionRequest { wait, ..simplest() };
    assert_eq!(faults(clients.sessions.create(impatient).await), ["wait"]);
    let key = Some(String::new());
    let unnamed = api::CreateSessionRequest { idempotency_key: key, ..simplest() };
    assert_eq!(faults(clients.sessions.create(unnamed).await), ["idempotency_key"]);
    let nowhere = api::CreateSessionRequest { controller_type: "kvm".into(), ..simplest() };
    let refused = clients.sessions.create(nowhere).await;
    assert!(refused.as_ref().unwrap_err().get_details_retry_info().is_some());
    assert_eq!(refusal(refused), (Code::Unavailable, "NO_CONTROLLER".into()));
    assert!(backend.calls("create").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_key_makes_a_call_repeatable() {
    let (_folder, backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let keyed = |key: &str| api::CreateSessionRequest { idempotency_key: Some(key.into()), ..simplest() };
    let first = clients.sessions.create(keyed("k")).await.unwrap().into_inner();
    server.phase(&first.id, "Running").await;
    let again = clients.sessions.create(keyed("k")).await.unwrap().into_inner();
    assert_eq!(again, first, "the first answer, whatever became of it since");
    let waiting = api::CreateSessionRequest { wait: seconds(60), ..keyed("k") };
    let now = clients.sessions.create(waiting).await.unwrap().into_inner();
    assert_eq!((now.id, now.phase), (first.id.clone(), api::SessionPhase::Running.into()));
    let other = api::CreateSessionRequest { user_id: Some("bob".into()), ..keyed("k") };
    assert_eq!(
        refusal(clients.sessions.create(other).await),
        (Code::AlreadyExists, "IDEMPOTENCY_KEY".into())
    );
    // What REST did under a key is another request.
    let rest = server.post_with("/api/v1/sessions", &[("idempotency-key", "r")], simple().to_string()).await;
    assert_eq!(rest.status, StatusCode::CREATED);
    assert_eq!(refusal(clients.sessions.create(keyed("r")).await).1, "IDEMPOTENCY_KEY");
    server.phase(&rest.id(), "Running").await;
    assert_eq!(backend.with(|state| state.made), 2);

    let hibernate = || api::HibernateSessionRequest {
        id: first.id.clone(),
        idempotency_key: Some("h".into()),
        wait: seconds(60),
    };
    let hibernated = clients.sessions.hibernate(hibernate()).await.unwrap().into_inner();
    assert_eq!(
        (hibernated.settled, hibernated.session.unwrap().phase()),
        (true, api::SessionPhase::Hibernated)
    );
    let wake = api::WakeSessionRequest { id: first.id.clone(), wait: seconds(60), ..Default::default() };
    clients.sessions.wake(wake).await.unwrap();
    let repeated = clients.sessions.hibernate(hibernate()).await.unwrap().into_inner();
    assert_eq!(repeated.session.unwrap().phase(), api::SessionPhase::Running, "it was done already");
    // The same key for the same thing over REST: the request is the same.
    let path = format!("/api/v1/sessions/{}/hibernate", first.id);
    let rest = server.post_with(&path, &[("idempotency-key", "h")], String::new()).await;
    assert_eq!(rest.status, StatusCode::ACCEPTED, "{}", rest.text);
    assert_eq!(server.session(&first.id).await["phase"], "Running");
    server.stop().await;
}

#[tokio::test]
async fn from_its_creation_to_its_end() {
    let (_folder, backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let id = clients.sessions.create(api::CreateSessionRequest { wait: seconds(60), ..simplest() }).await;
    let id = id.unwrap().into_inner().id;
    let set = async |clients: &mut Clients, state: api::SessionState| {
        let request = api::SetSessionStateRequest {
            id: id.clone(),
            state: state.into(),
            wait: seconds(60),
            ..Default::default()
        };
        clients.sessions.set_state(request).await.unwrap().into_inner()
    };
    for (state, phase) in [
        (api::SessionState::Hibernated, api::SessionPhase::Hibernated),
        (api::SessionState::Running, api::SessionPhase::Running),
        (api::SessionState::Terminated, api::SessionPhase::Terminated),
    ] {
        let wished = set(&mut clients, state).await;
        let session = wished.session.unwrap();
        assert_eq!((wished.settled, session.state(), session.phase()), (true, state, phase));
        assert_same(&server.session(&id).await, &session);
    }
    let before = server.session(&id).await;
    let nothing = set(&mut clients, api::SessionState::Unspecified).await;
    assert_same(&before, &nothing.session.unwrap());
    let retried =
        clients.sessions.retry(api::RetrySessionRequest { id: id.clone(), ..Default::default() }).await;
    assert!(retried.unwrap().into_inner().settled, "there is nothing to do");

    let beat = api::SessionHeartbeatRequest { id: id.clone() };
    clients.sessions.heartbeat(beat).await.unwrap();
    assert!(server.session(&id).await["status"]["last_activity"].is_string());

    let delete = api::DeleteSessionRequest { id: id.clone(), wait: seconds(60), ..Default::default() };
    let deleted = clients.sessions.delete(delete.clone()).await.unwrap().into_inner();
    assert_eq!((deleted.gone, deleted.session), (true, None));
    assert_eq!(refusal(clients.sessions.get(get(&id)).await), (Code::NotFound, "NOT_FOUND".into()));
    assert_eq!(refusal(clients.sessions.delete(delete).await).0, Code::NotFound);
    assert!(backend.phase_of(&id).is_none());

    // What happened outlives it, page by page.
    let told = server.get(&format!("/api/v1/sessions/{id}/events?limit=1000")).await.json();
    let told: Vec<_> =
        told["items"].as_array().unwrap().iter().map(|event| event["cursor"].clone()).collect();
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let request = api::ListSessionEventsRequest { id: id.clone(), after, limit: Some(3) };
        let page = clients.sessions.list_events(request).await.unwrap().into_inner();
        events.extend(page.items);
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(events.iter().map(|event| json!(event.cursor)).collect::<Vec<_>>(), told);
    assert_eq!((events[0].r#type.as_str(), events[0].user_id.as_deref()), ("session.created", Some("admin")));
    assert_eq!(events.last().unwrap().r#type, "session.deleted");
    server.stop().await;
}

#[tokio::test]
async fn callers_are_told_apart_as_over_rest() {
    let (_folder, _backend, server) = start().await;
    let alice = server.user("alice", "user").await;
    let (mut alice, mut nobody) = (Clients::with(&server, Some(&alice)), Clients::with(&server, None));
    let mut stranger = Clients::with(&server, Some("no-such-token"));
    let bobs = running(&server, "bob").await;

    let unknown = (Code::Unauthenticated, "UNAUTHORIZED".to_owned());
    assert_eq!(refusal(nobody.sessions.get(get(&bobs)).await), unknown);
    assert_eq!(refusal(stranger.sessions.list(api::ListSessionsRequest::default()).await), unknown);
    assert_eq!(refusal(nobody.watch.watch(api::WatchRequest::default()).await.map(|_| ())), unknown);
    assert_eq!(refusal(nobody.templates.list(api::ListTemplatesRequest::default()).await), unknown);
    assert_eq!(refusal(nobody.admin.list_controllers(api::ListControllersRequest {}).await), unknown);

    // What is not hers does not exist for her.
    let id = || bobs.clone();
    let missing = (Code::NotFound, "NOT_FOUND".to_owned());
    let sessions = &mut alice.sessions;
    assert_eq!(refusal(sessions.get(get(&bobs)).await), missing);
    let state = api::SessionState::Hibernated.into();
    assert_eq!(
        refusal(
            sessions.set_state(api::SetSessionStateRequest { id: id(), state, ..Default::default() }).await
        ),
        missing
    );
    assert_eq!(
        refusal(sessions.hibernate(api::HibernateSessionRequest { id: id(), ..Default::default() }).await),
        missing
    );
    assert_eq!(
        refusal(sessions.wake(api::WakeSessionRequest { id: id(), ..Default::default() }).await),
        missing
    );
    assert_eq!(
        refusal(sessions.retry(api::RetrySessionRequest { id: id(), ..Default::default() }).await),
        missing
    );
    assert_eq!(
        refusal(sessions.delete(api::DeleteSessionRequest { id: id(), ..Default::default() }).await),
        missing
    );
    assert_eq!(refusal(sessions.get_metrics(api::GetSessionMetricsRequest { id: id() }).await), missing);
    let logs = sessions.logs(api::SessionLogsRequest { id: id(), ..Default::default() }).await;
    assert_eq!(refusal(logs.map(|_| ())), missing);
    assert_eq!(
        refusal(sessions.list_events(api::ListSessionEventsRequest { id: id(), ..Default::default() }).await),
        missing
    );
    assert_eq!(refusal(sessions.explain(api::ExplainSessionRequest { id: id() }).await), missing);
    assert_eq!(refusal(sessions.heartbeat(api::SessionHeartbeatRequest { id: id() }).await), missing);
    assert_eq!(refusal(sessions.get_access(api::GetSessionAccessRequest { id: id() }).await), missing);

    // Nor may she say what operators say.
    let forbidden = (Code::PermissionDenied, "FORBIDDEN".to_owned());
    let for_bob = api::CreateSessionRequest { user_id: Some("bob".into()), ..simplest() };
    assert_eq!(refusal(sessions.create(for_bob).await), forbidden);
    let bobs_list = api::ListSessionsRequest { user_id: Some("bob".into()), ..Default::default() };
    assert_eq!(refusal(sessions.list(bobs_list).await), forbidden);
    let own = sessions.create(simplest()).await.unwrap().into_inner();
    assert_eq!(own.user_id, "alice");
    assert_eq!(refusal(sessions.forget(api::ForgetSessionRequest { id: own.id.clone() }).await), forbidden);
    let by_force = api::DeleteSessionRequest { id: own.id.clone(), force: true, ..Default::default() };
    assert_eq!(refusal(sessions.delete(by_force).await), forbidden);
    assert_eq!(refusal(alice.admin.list_controllers(api::ListControllersRequest {}).await), forbidden);
    let template = Some(api::Template { name: "t".into(), ..Default::default() });
    assert_eq!(refusal(alice.templates.create(api::CreateTemplateRequest { template }).await), forbidden);

    // An operator may.
    let forgotten =
        Clients::of(&server).sessions.forget(api::ForgetSessionRequest { id: own.id.clone() }).await;
    forgotten.unwrap();
    server.gone(&own.id).await;
    server.stop().await;
}

#[tokio::test]
async fn output_comes_in_pages_and_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { log_followers: (1, 1), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let mut clients = Clients::of(&server);
    let id = server.running().await;
    backend.with(|state| state.output = (0..5).map(|line| format!("line {line}")).collect());
    let request = |request: api::SessionLogsRequest| api::SessionLogsRequest { id: id.clone(), ..request };
    let read = async |clients: &mut Clients, request: api::SessionLogsRequest| {
        let mut stream = clients.sessions.logs(request).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(line) = next(&mut stream).await {
            lines.push(line.unwrap());
        }
        lines
    };
    let first =
        read(&mut clients, request(api::SessionLogsRequest { limit: Some(2), ..Default::default() })).await;
    assert_eq!(first.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["line 0", "line 1"]);
    assert_eq!(first[0].stream, "stdout");
    let cursor = Some(first[1].cursor.clone());
    let rest = read(&mut clients, request(api::SessionLogsRequest { cursor, ..Default::default() })).await;
    assert_eq!(rest.len(), 3);
    let tail =
        read(&mut clients, request(api::SessionLogsRequest { tail: Some(1), ..Default::default() })).await;
    assert_eq!(tail[0].message, "line 4");

    let follow = || request(api::SessionLogsRequest { follow: true, tail: Some(1), ..Default::default() });
    let mut followed = clients.sessions.logs(follow()).await.unwrap().into_inner();
    assert_eq!(next(&mut followed).await.unwrap().unwrap().message, "line 4");
    let second = clients.sessions.logs(follow()).await.map(|_| ());
    assert_eq!(refusal(second), (Code::ResourceExhausted, "TOO_MANY".into()));
    backend.with(|state| state.output.push("line 5".into()));
    assert_eq!(next(&mut followed).await.unwrap().unwrap().message, "line 5");
    drop(followed);
    eventually("the reader is let go", async || backend.with(|state| state.readers == 0)).await;

    let both = api::SessionLogsRequest { follow: true, limit: Some(1), ..Default::default() };
    assert_eq!(faults(clients.sessions.logs(request(both)).await.map(|_| ())), ["limit"]);
    let none = api::SessionLogsRequest { tail: Some(0), ..Default::default() };
    assert_eq!(faults(clients.sessions.logs(request(none)).await.map(|_| ())), ["tail"]);
    let mut followed = clients.sessions.logs(follow()).await.unwrap().into_inner();
    next(&mut followed).await.unwrap().unwrap();
    server.stop().await;
    assert!(next(&mut followed).await.is_none(), "a server that stops ends it");
}

#[tokio::test]
async fn what_only_the_controller_knows() {
    let (_folder, backend, server) = start().await;
    let mut clients = Clients::of(&server);
    let mut body = simple();
    body["spec"]["webapp"] = json!({"port": 3000});
    let id = server.post("/api/v1/sessions?wait=30s", &body).await.id();

    backend.with(|state| {
        state.metrics = Some(SessionMetricsResponse {
            usage: Some(ResourceUsage { memory: "64Mi".into(), ..Default::default() }),
            custom_metrics: [("fps".to_owned(), "30".to_owned())].into(),
            ..Default::default()
        });
        let target = Some(access_point::Target::Tcp(TcpTarget { host: "10.0.0.9".into(), port: 3000 }));
        state.points = vec![AccessPoint { service: "web".into(), target, ..Default::default() }];
    });
    let usage = clients.sessions.get_metrics(api::GetSessionMetricsRequest { id: id.clone() }).await;
    let usage = usage.unwrap().into_inner();
    let now = usage.usage.unwrap();
    assert_eq!((now.memory_bytes, now.memory_percent, now.cpu), (Some(64 << 20), None, None));
    assert_eq!((usage.custom["fps"].as_str(), usage.rates), ("30", None));

    let access = clients.sessions.get_access(api::GetSessionAccessRequest { id: id.clone() }).await;
    let access = access.unwrap().into_inner();
    assert!(!format!("{access:?}").contains("10.0.0.9"), "{access:?}");
    assert_eq!(
        (access.services[0].kind(), access.services[0].url.as_deref()),
        (api::AccessKind::Http, Some(access.url.as_str()))
    );

    let explained = clients.sessions.explain(api::ExplainSessionRequest { id: id.clone() }).await;
    let explained = explained.unwrap().into_inner();
    let shown = server.get(&format!("/api/v1/sessions/{id}/explain")).await.json();
    let verdict = &explained.placement.as_ref().unwrap().controllers[0];
    assert_eq!(shown["placement"]["controllers"][0]["id"], json!(verdict.id));
    assert!(verdict.chosen && verdict.status() == api::ControllerStatus::Healthy);
    assert_eq!(explained.waiting_for, None);
    // A user learns no more here than there.
    let alice = server.user("alice", "user").await;
    let mut alice = Clients::with(&server, Some(&alice));
    let own = alice.sessions.create(simplest()).await.unwrap().into_inner().id;
    let explained =
        alice.sessions.explain(api::ExplainSessionRequest { id: own }).await.unwrap().into_inner();
    assert_eq!(explained.placement.unwrap().controllers[0].id, None);

    server.verb(&id, "hibernate?wait=30s").await;
    let refused = clients.sessions.get_metrics(api::GetSessionMetricsRequest { id: id.clone() }).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "FAILED_PRECONDITION".into()));
    backend.script("logs", [Act::Fail(Status::unavailable("away"))]);
    let refused =
        clients.sessions.logs(api::SessionLogsRequest { id, ..Default::default() }).await.map(|_| ());
    assert_eq!(refusal(refused), (Code::Unavailable, "CONTROLLER_UNREACHABLE".into()));
    server.stop().await;
}
