//! What a session writes and uses, why it is where it is, how it is reached, and what the server says about itself.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;

use axum::body::Body;
use common::live::{PATIENCE, get_as, listen, running, user};
use common::{Act, Answer, Backend, Server, config, eventually, register, simple};
use futures::StreamExt as _;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::controller::v1::access_point::Target;
use streamspace_proto::controller::v1::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn lines(backend: &Backend, count: usize) {
    backend.with(|state| state.output = (0..count).map(|line| format!("line {line}")).collect());
}

/// A failure that the controller itself reports.
fn said(code: Code, message: &str) -> Act {
    let details = ErrorDetails::with_error_info("REASON", "streamspace.controller", []);
    Act::Fail(Status::with_error_details(code, message, details))
}

fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    (answer.status.as_u16(), kind)
}

/// What a follower has been sent.
struct Follower {
    body: axum::body::BodyDataStream,
    kept: String,
}

impl Follower {
    async fn open(server: &Server, path: &str) -> (StatusCode, Self) {
        use tower::ServiceExt as _;
        let request = server.request("GET", path).body(Body::empty()).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, Self { body: response.into_body().into_data_stream(), kept: String::new() })
    }

    /// The next line; `None` = the end.
    async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.kept.split_once('\n') {
                let line = serde_json::from_str(line).unwrap();
                self.kept = rest.to_owned();
                return Some(line);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("nothing comes");
            self.kept.push_str(std::str::from_utf8(&piece?.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn output_comes_in_pages() {
    let (_folder, backend, server) = start().await;
    let mut body = simple();
    body["spec"]["env"] = json!([{"name": "P", "value": "line 3", "secret": true}]);
    let id = server.post("/api/v1/sessions?wait=30s", &body).await.id();
    lines(&backend, 5);
    let path = format!("/api/v1/sessions/{id}/logs");
    let page = server.get(&format!("{path}?limit=3")).await;
    assert_eq!(page.header("content-type"), "application/json");
    let page = page.json();
    assert_eq!(
        page["items"][0],
        json!({"time": null, "stream": "stdout", "message": "line 0", "cursor": "0"})
    );
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (3, &json!("2")));
    let rest = server.get(&format!("{path}?cursor=2")).await.json();
    assert_eq!((&rest["items"][0]["message"], &rest["next_cursor"]), (&json!("[redacted]"), &json!(null)));
    let tail = server.get(&format!("{path}?tail=1")).await.json();
    assert_eq!(tail["items"][0]["message"], "line 4");

    let request = server.request("GET", &format!("{path}?tail=1")).header("accept", "text/plain");
    let text = server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((text.text.as_str(), text.header("content-type")), ("line 4\n", "text/plain; charset=utf-8"));
    for bad in ["tail=0", "tail=x", "limit=1001", "cursor=", "follow=yes", "follow=true&limit=1"] {
        assert_eq!(server.get(&format!("{path}?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(backend.with(|state| state.readers), 0);
    server.stop().await;
}

#[tokio::test]
async fn output_is_followed_until_the_client_leaves() {
    let (_folder, backend, server) = start().await;
    let id = running(&server, "admin").await;
    lines(&backend, 2);
    let address = listen(&server).await;
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/sessions/{id}/logs?follow=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        server.token
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut got = String::new();
    while !got.contains("line 1") {
        let mut buffer = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{got}");
        got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(got.contains("application/x-ndjson"), "{got}");
    // A line is sent on when it is written.
    lines(&backend, 3);
    while !got.contains("line 2") {
        let mut buffer = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
        got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert_eq!(backend.with(|state| state.readers), 1);
    drop(socket);
    eventually("the controller's stream is dropped", async || backend.with(|state| state.readers) == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_follower_ends_with_its_session_and_with_the_server() {
    let (_folder, backend, server) = start().await;
    let (id, other) = (running(&server, "admin").await, running(&server, "admin").await);
    lines(&backend, 1);
    let (_, mut follower) = Follower::open(&server, &format!("/api/v1/sessions/{id}/logs?follow=true")).await;
    assert_eq!(follower.line().await.unwrap()["message"], "line 0");
    server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await;
    assert_eq!(follower.line().await, None);

    let path = format!("/api/v1/sessions/{other}/logs?follow=true");
    let (_, mut follower) = Follower::open(&server, &path).await;
    follower.line().await.unwrap();
    // The backend says that there will be no more; whoever comes back goes on behind the last line.
    backend.with(|state| state.output_ended = true);
    assert_eq!(follower.line().await, None);
    backend.with(|state| state.output_ended = false);
    lines(&backend, 2);
    let (_, mut follower) = Follower::open(&server, &format!("{path}&cursor=0")).await;
    assert_eq!(follower.line().await.unwrap()["message"], "line 1");
    let (end, ()) = tokio::join!(follower.line(), server.stop());
    assert_eq!(end, None);
    drop(follower);
    eventually("all are gone", async || backend.with(|state| state.readers) == 0).await;
}

#[tokio::test]
async fn not_everybody_follows_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { log_followers: (1, 2), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = running(&server, "admin").await;
    lines(&backend, 1);
    let path = format!("/api/v1/sessions/{id}/logs?follow=true");
    let (status, follower) = Follower::open(&server, &path).await;
    assert_eq!(status, StatusCode::OK);
    let refused = server.get(&path).await;
    assert_eq!(problem(&refused), (429, "too-many".into()));
    assert!(!refused.header("retry-after").is_empty());
    drop(follower);
    let (status, _) = Follower::open(&server, &path).await;
    assert_eq!(status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn questions_that_cannot_be_answered() {
    let (folder, backend, server) = start().await;
    user(folder.path(), "bob", "user", "of-bob").await;
    let id = running(&server, "alice").await;
    let path = |what: &str| format!("/api/v1/sessions/{id}/{what}");
    for what in ["logs", "metrics", "explain", "access", "events"] {
        assert_eq!(get_as(&server, "of-bob", &path(what)).await.status, StatusCode::NOT_FOUND, "{what}");
    }
    for (act, expected) in [
        (said(Code::Unimplemented, "no"), (409, "unsupported")),
        (said(Code::FailedPrecondition, "it is stopped"), (409, "failed-precondition")),
        (said(Code::Unavailable, "dockerd at 10.0.0.7 is away"), (503, "controller-unreachable")),
        (Act::Fail(Status::unavailable("10.0.0.7: connection refused")), (503, "controller-unreachable")),
        (said(Code::Internal, "broken"), (502, "backend")),
    ] {
        for (rpc, what) in [("logs", "logs"), ("logs", "logs?follow=true"), ("metrics", "metrics")] {
            backend.script(rpc, [act.clone()]);
            let answer = server.get(&path(what)).await;
            assert_eq!(problem(&answer), (expected.0, expected.1.to_owned()), "{what}: {}", answer.text);
            assert_eq!(answer.header("retry-after").is_empty(), expected.0 != 503);
            assert!(!answer.text.contains("10.0.0.7"), "{}", answer.text);
        }
    }
    // What does not run uses nothing.
    backend.script("create", [said(Code::InvalidArgument, "no such image")]);
    let failed = server.create().await;
    server.phase(&failed, "Failed").await;
    for what in ["metrics", "access"] {
        let answer = server.get(&format!("/api/v1/sessions/{failed}/{what}")).await;
        assert_eq!(problem(&answer), (409, "failed-precondition".into()));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_the_backend_does_not_know_is_the_callers_fault() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    let refused = || Act::Fail(Status::invalid_argument("no line of mine"));
    for query in ["cursor=nonsense", "cursor=nonsense&follow=true"] {
        backend.script("logs", [refused()]);
        let answer = server.get(&format!("/api/v1/sessions/{id}/logs?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["field"], "cursor");
    }
    // Without one it is the controller that does not understand us.
    backend.script("logs", [refused()]);
    assert_eq!(server.get(&format!("/api/v1/sessions/{id}/logs")).await.status, StatusCode::BAD_GATEWAY);
    server.stop().await;
}

#[tokio::test]
async fn usage_is_counted_and_rated() {
    let (_folder, backend, server) = start().await;
    let mut body = simple();
    body["spec"]["resources"] = json!({"memory": "1Gi", "cpu": "2"});
    let id = server.post("/api/v1/sessions?wait=30s", &body).await.id();
    let sample = |seconds: i64, cpu_seconds: u64, received: u64| SessionMetricsResponse {
        usage: Some(ResourceUsage { memory: "268435456".into(), ..Default::default() }),
        sampled_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        counters: Some(ResourceCounters {
            cpu_ns: Some(cpu_seconds * 1_000_000_000),
            network_rx_bytes: Some(received),
            ..Default::default()
        }),
        custom_metrics: HashMap::from([("pids".into(), "7".into())]),
        ..Default::default()
    };
    let path = format!("/api/v1/sessions/{id}/metrics");
    backend.with(|state| state.metrics = Some(sample(1_800_000_000, 10, 500)));
    let first = server.get(&path).await.json();
    assert_eq!(first["usage"], json!({"memory_bytes": 268_435_456, "memory_percent": 25.0}));
    assert_eq!(first["counters"], json!({"cpu_ns": 10_000_000_000u64, "network_rx_bytes": 500}));
    assert_eq!((&first["custom"]["pids"], first.get("rates")), (&json!("7"), None));

    backend.with(|state| state.metrics = Some(sample(1_800_000_010, 15, 1500)));
    let second = server.get(&path).await.json();
    let rates = json!({
        "window_seconds": 10.0, "cpu_cores": 0.5, "cpu_percent": 25.0, "network_rx_bytes_per_second": 100.0,
    });
    assert_eq!(second["rates"], rates);
    assert_eq!(second["sampled_at"], "2027-01-15T08:00:10Z");
    // The same sample once more says the same; nothing measured is nothing said.
    assert_eq!(server.get(&path).await.json()["rates"], rates);
    // Counters whose time nobody said are shown, and have neither a time nor a rate.
    let timeless = SessionMetricsResponse { sampled_at: None, ..sample(0, 20, 2500) };
    backend.with(|state| state.metrics = Some(timeless));
    let third = server.get(&path).await.json();
    assert_eq!((&third["counters"]["cpu_ns"], third.get("sampled_at")), (&json!(20_000_000_000u64), None));
    assert_eq!(third.get("rates"), None);
    backend.with(|state| state.metrics = Some(sample(1_800_000_020, 25, 1500)));
    assert_eq!(server.get(&path).await.json()["rates"]["window_seconds"], 10.0, "it is no earlier sample");
    backend.with(|state| state.metrics = Some(SessionMetricsResponse::default()));
    let nothing = server.get(&path).await.json();
    assert_eq!((&nothing["usage"], &nothing["counters"]), (&json!({}), &json!({})));
    server.stop().await;
}

#[tokio::test]
async fn access_shows_ways_in_and_no_backend() {
    let (_folder, backend, server) = start().await;
    let spec = json!({
        "base_image": "i", "webapp": {"enabled": true, "port": 3000}, "vnc": {"enabled": true, "port": 5900},
        "ports": [{"name": "my api", "container_port": 80}, {"name": "dns", "container_port": 53, "protocol": "udp"}],
    });
    let id = server.post("/api/v1/sessions?wait=30s", &json!({ "spec": spec })).await.id();
    let tcp = |host: &str| Some(Target::Tcp(TcpTarget { host: host.into(), port: 5900 }));
    let point = |service: &str, target| AccessPoint {
        service: service.into(),
        target,
        username: "root".into(),
        password: "hunter22".into(),
    };
    let web = HttpTarget {
        base_url: "http://10.0.0.7:3000".into(),
        headers: HashMap::from([("authorization".into(), "hunter22".into())]),
        ..Default::default()
    };
    backend.with(|state| {
        state.points = vec![
            point("vnc", tcp("10.0.0.7")),
            point("web", Some(Target::Http(web))),
            point("my api", tcp("10.0.0.7")),
            point("dns", tcp("10.0.0.7")),
            point("ssh", tcp("10.0.0.7")),
        ];
    });
    let answer = server.get(&format!("/api/v1/sessions/{id}/access")).await;
    assert_eq!(
        answer.json(),
        json!({
            "session_id": id, "url": format!("/s/{id}/"),
            "services": [
                {"name": "vnc", "kind": "vnc", "url": format!("/api/v1/sessions/{id}/vnc")},
                {"name": "web", "kind": "http", "url": format!("/s/{id}/")},
                {"name": "my api", "kind": "http", "url": format!("/s/{id}/~my%20api/")},
                {"name": "dns", "kind": "tcp"},
                {"name": "ssh", "kind": "tcp"},
            ],
        })
    );
    for hidden in ["10.0.0.7", "hunter22", "root"] {
        assert!(!answer.text.contains(hidden), "{}", answer.text);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_explanation_fits_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    user(folder.path(), "alice", "user", "of-alice").await;
    let sick = Backend::default();
    sick.with(|state| state.health = Some(Status::unavailable("10.0.0.7 is away")));
    let sick_id = register(server.control(), "sick-one", &sick).await;
    let id = running(&server, "alice").await;
    eventually("probed", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        all.as_array()
            .unwrap()
            .iter()
            .any(|one| one["message"].as_str().unwrap().contains("10.0.0.7 is away"))
    })
    .await;
    let path = format!("/api/v1/sessions/{id}/explain");
    let told = server.get(&path).await.json();
    assert_eq!((&told["waiting_for"], &told["phase"]), (&json!(null), &json!("Running")));
    let all = told["placement"]["controllers"].as_array().unwrap();
    let (chosen, other) = (&all[0], &all[1]);
    assert_eq!(
        (&chosen["name"], &chosen["chosen"], &chosen["eligible"]),
        (&json!("one"), &json!(true), &json!(true))
    );
    assert_eq!((&other["id"], &other["obstacle"]), (&json!(sick_id.as_str()), &json!("health")));
    let reason = other["reason"].as_str().unwrap();
    assert!(reason.starts_with("is offline (") && reason.contains("10.0.0.7 is away"), "{reason}");

    let theirs = get_as(&server, "of-alice", &path).await;
    let other = &theirs.json()["placement"]["controllers"][1];
    assert_eq!(
        *other,
        json!({
            "type": "docker", "status": "offline", "chosen": false, "eligible": false, "obstacle": "health",
            "reason": "is offline",
        })
    );
    for hidden in ["10.0.0.7", "sick-one", sick_id.as_str()] {
        assert!(!theirs.text.contains(hidden), "{}", theirs.text);
    }

    // Work in progress, a failure, and a controller that is away.
    let wait = |id: String, wanted: &'static str| {
        let server = &server;
        async move {
            let path = format!("/api/v1/sessions/{id}/explain");
            let mut seen = String::new();
            eventually(wanted, async || {
                seen = server.get(&path).await.json()["waiting_for"].as_str().unwrap_or_default().to_owned();
                seen.contains(wanted)
            })
            .await;
            seen
        }
    };
    backend.script("create", vec![Act::Progress("a pull"); 1000]);
    let pulling = server.create().await;
    wait(pulling.clone(), "its creation: working on a pull").await;
    server.delete(&format!("/api/v1/sessions/{pulling}?wait=30s")).await;
    backend.with(|state| state.script.clear());
    backend.script("create", vec![said(Code::ResourceExhausted, "no memory"); 1000]);
    let failing = server.create().await;
    let sentence = wait(failing.clone(), "times: no memory").await;
    assert!(sentence.contains("next attempt at 20"), "{sentence}");
    backend.with(|state| state.health = Some(Status::unavailable("gone")));
    let sentence = wait(failing, "controller \"one\", which is offline").await;
    assert!(sentence.contains("last answered at 20") && sentence.contains("gone)"), "{sentence}");

    // Nobody can take one: who may not know names is told numbers.
    let body = simple().to_string();
    let refused = server.post("/api/v1/sessions", &simple()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text.contains("sick-one") && refused.text.contains("10.0.0.7"), "{}", refused.text);
    let request = Request::post("/api/v1/sessions")
        .header("authorization", "Bearer of-alice")
        .header("content-type", "application/json");
    let refused = server.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text.contains("each of 2 controllers of type"), "{}", refused.text);
    for hidden in ["10.0.0.7", "sick-one", sick_id.as_str()] {
        assert!(!refused.text.contains(hidden), "{}", refused.text);
    }
    server.stop().await;
}

/// The samples of a text in the OpenMetrics format, checked line by line.
fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut samples = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("streamspace_"), "{line}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{line}");
    }
    samples
}

#[tokio::test]
async fn the_server_measures_itself() {
    let (folder, _backend, server) = start().await;
    user(folder.path(), "alice", "user", "of-alice").await;
    let id = running(&server, "admin").await;
    server.session(&id).await;
    server.get("/no/such/path").await;
    let odd = Request::builder().method("BREW").uri("/healthz");
    server.send(odd.body(Body::empty()).unwrap()).await;
    let none = server.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get_as(&server, "of-alice", "/metrics").await.status, StatusCode::FORBIDDEN);

    // What was just committed is told a moment later.
    let mut answer = server.get("/metrics").await;
    eventually("told", async || {
        answer = server.get("/metrics").await;
        samples(&answer.text).get("streamspace_event_lag") == Some(&0.0)
    })
    .await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let found = samples(&answer.text);
    let of = |start: &str| -> f64 {
        found.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, value)| value).sum()
    };
    let route = "route=\"/api/v1/sessions/{id}\"";
    assert_eq!(of(&format!("streamspace_http_requests_total{{method=\"GET\",{route},status=\"200\"}}")), 1.0);
    assert_eq!(
        of(&format!("streamspace_http_request_duration_seconds_count{{method=\"GET\",{route}}}")),
        1.0
    );
    assert_eq!(of("streamspace_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}"), 1.0);
    assert_eq!(of("streamspace_http_requests_total{method=\"other\""), 1.0);
    assert_eq!(of("streamspace_sessions{phase=\"Running\",wish=\"running\"}"), 1.0);
    assert!(of("streamspace_controller_calls_total{") >= 1.0);
    let create = |(name, value): (&String, &f64)| {
        (name.contains("verb=\"create_session\",result=\"Ok\"") && *value == 1.0).then_some(())
    };
    assert_eq!(found.iter().filter_map(create).count(), 1, "{}", answer.text);
    assert!(of("streamspace_store_batch_jobs_count") >= 1.0);
    assert!(of("streamspace_store_transaction_duration_seconds_count") >= 1.0);
    assert_eq!(of("streamspace_build_info{"), 1.0);
    for gauge in ["operations_unsettled", "operations_due", "operations_oldest_due_seconds"] {
        assert_eq!(found.get(&format!("streamspace_{gauge}")), Some(&0.0), "{gauge}");
    }
    for gauge in ["event_lag", "event_listeners", "log_followers"] {
        assert_eq!(found.get(&format!("streamspace_{gauge}")), Some(&0.0), "{gauge}");
    }
    assert!(!answer.text.contains(&id) && !answer.text.contains("no/such"), "{}", answer.text);
    server.stop().await;
}
