//! Events: told with every change, listed, and heard over WebSockets without loss and without doubles.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::database::is_postgres;
use common::live::{Listener, get_as, listen, running, sql, user};
use common::{Act, Backend, Server, config, eventually, simple};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tonic::Status;

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

async fn events(server: &Server, id: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/v1/sessions/{id}/events?limit=1000")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["items"].as_array().unwrap().clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn cursors(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["cursor"].as_str().unwrap().parse().unwrap()).collect()
}

fn is(event: &Value, kind: &str, id: &str) -> bool {
    event["type"] == kind && event["session_id"] == id
}

#[tokio::test]
async fn a_session_tells_its_life() {
    let (folder, _backend, server) = start().await;
    user(folder.path(), "alice", "user", "of-alice").await;
    user(folder.path(), "bob", "user", "of-bob").await;
    let id = running(&server, "alice").await;
    let controller = server.session(&id).await["controller_id"].clone();
    let told = events(&server, &id).await;
    assert_eq!(types(&told)[..2], ["session.created", "session.placed"]);
    assert_eq!(told[1]["data"]["controller_id"], controller);
    let phase = told.iter().find(|event| event["type"] == "session.phase_changed").unwrap();
    assert_eq!(phase["data"], json!({"phase": "Running", "previous": "Pending"}));
    assert_eq!((&phase["user_id"], &phase["generation"]), (&json!("alice"), &json!(1)));
    let ready = told.iter().rfind(|event| event["data"]["type"] == "Ready").unwrap();
    assert_eq!(
        (&ready["type"], &ready["data"]["status"]),
        (&json!("session.condition_changed"), &json!("True"))
    );
    let order = cursors(&told);
    assert!(order.is_sorted_by(|one, next| one < next), "oldest first");

    // Page by page the same, and from the last one on nothing.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/api/v1/sessions/{id}/events?limit=2{after}")).await.json();
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, told);
    let last = order.last().unwrap();
    let none = server.get(&format!("/api/v1/sessions/{id}/events?after={last}")).await.json();
    assert_eq!(none, json!({"items": [], "next_cursor": null}));

    // The end is told too, and stays readable; to others none of it exists.
    let deleted = server.delete(&format!("/api/v1/sessions/{id}?wait=30s&purge_home=true")).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let told = events(&server, &id).await;
    let wish = told.iter().find(|event| event["type"] == "session.wish_changed").unwrap();
    assert_eq!(wish["data"], json!({"state": "running", "deleting": true, "purge_home": true}));
    assert_eq!(wish["generation"], 2);
    assert_eq!(types(&told).last(), Some(&"session.deleted"));
    let path = format!("/api/v1/sessions/{id}/events");
    assert_eq!(get_as(&server, "of-alice", &path).await.status, StatusCode::OK);
    assert_eq!(get_as(&server, "of-bob", &path).await.status, StatusCode::NOT_FOUND);
    for bad in ["after=x", "after=-1", "limit=0", "limit=1001", "before=1"] {
        assert_eq!(server.get(&format!("{path}?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let nobody = "/api/v1/sessions/0198c2f0-0000-7000-8000-000000000000/events";
    assert_eq!(server.get(nobody).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn failures_are_told_without_secrets() {
    let (_folder, backend, server) = start().await;
    let busy = || Act::Fail(Status::resource_exhausted("no memory for hunter22"));
    backend
        .script("create", [busy(), busy(), busy(), Act::Fail(Status::invalid_argument("hunter22 is bad"))]);
    let mut body = simple();
    body["spec"]["env"] = json!([{"name": "P", "value": "hunter22", "secret": true}]);
    let id = server.post("/api/v1/sessions", &body).await.id();
    server.phase(&id, "Failed").await;
    let told = events(&server, &id).await;
    let retries: Vec<_> = told.iter().filter(|event| event["type"] == "session.operation_retrying").collect();
    let failures: Vec<_> = retries.iter().map(|event| &event["data"]["failures"]).collect();
    assert_eq!(failures, [1, 2], "the first, and then each that doubles their number");
    assert_eq!(retries[0]["data"]["operation"], "create");
    assert_eq!(retries[0]["message"], "no memory for [redacted]");
    let failed = told.iter().find(|event| event["type"] == "session.operation_failed").unwrap();
    assert_eq!(failed["message"], "[redacted] is bad");
    assert!(!serde_json::to_string(&told).unwrap().contains("hunter22"));
    server.stop().await;
}

#[tokio::test]
async fn a_listener_hears_everything_once_and_goes_on_where_it_was() {
    let (_folder, _backend, server) = start().await;
    let address = listen(&server).await;
    let mut listener = Listener::with_token(address, "", &server.token).await;
    let ready = listener.next().await;
    assert_eq!(ready["type"], "ready");
    let first = running(&server, "admin").await;
    let mut heard = listener.until(|event| event["data"]["phase"] == "Running").await;
    assert!(heard.iter().any(|event| is(event, "session.created", &first)));
    let place = heard.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    listener.close().await;

    // While nobody listens much happens.
    let mut ids = vec![first];
    for _ in 0..30 {
        ids.push(running(&server, "admin").await);
    }
    let mut listener = Listener::with_token(address, &format!("?after={place}"), &server.token).await;
    let last = running(&server, "admin").await;
    heard.extend(listener.until(|event| is(event, "session.phase_changed", &last)).await);
    ids.push(last);

    let heard: Vec<_> = heard.into_iter().filter(|event| event.get("session_id").is_some()).collect();
    let order = cursors(&heard);
    assert!(order.is_sorted_by(|one, next| one < next), "in order, none twice");
    let end = *order.last().unwrap();
    for id in &ids {
        let all = events(&server, id).await;
        let expected: Vec<_> =
            all.into_iter().filter(|event| cursors(std::slice::from_ref(event))[0] <= end).collect();
        let got: Vec<_> = heard.iter().filter(|event| event["session_id"] == **id).cloned().collect();
        assert_eq!(got, expected, "none lost");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_slow_listener_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    // So small that everything has to be read from the table again.
    let config = ControlConfig { event_backlog: 2, ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let address = listen(&server).await;
    let mut listener = Listener::with_token(address, "", &server.token).await;
    listener.next().await;
    // Far more at once than fits between server and client.
    let id = running(&server, "admin").await;
    listener.until(|event| is(event, "session.phase_changed", &id)).await;
    let text = match is_postgres() {
        true => "lpad(i::text, 5, '0') || repeat('0', 8000)",
        false => "printf('%05d', i) || hex(zeroblob(4000))",
    };
    let rows = format!(
        "INSERT INTO events (at, type, session_id, user_id, message) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
         SELECT '2999-01-01T00:00:00+00:00', 'test', 'x', 'admin', {text} FROM n"
    );
    assert_eq!(sql(folder.path(), &rows).await, 4000);
    // A commit of the server itself makes it look.
    let last = running(&server, "admin").await;
    let heard = listener.until(|event| is(event, "session.phase_changed", &last)).await;
    let numbers: Vec<u32> = heard
        .iter()
        .filter(|event| event["type"] == "test")
        .map(|event| event["message"].as_str().unwrap()[..5].parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=4000).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test]
async fn users_hear_of_their_own_sessions_only() {
    let (folder, backend, server) = start().await;
    let address = listen(&server).await;
    user(folder.path(), "alice", "user", "of-alice").await;
    user(folder.path(), "olga", "operator", "of-olga").await;
    let mut alice = Listener::with_token(address, "", "of-alice").await;
    let mut olga = Listener::with_token(address, "", "of-olga").await;
    assert_eq!((&alice.next().await["type"], &olga.next().await["type"]), (&json!("ready"), &json!("ready")));

    let others = running(&server, "bob").await;
    backend.with(|state| state.health = Some(Status::unavailable("away")));
    // Its first probe may be told here as well.
    let fell_ill = |event: &Value| {
        event["type"] == "controller.health_changed" && event["data"]["previous"] == "healthy"
    };
    let news = olga.until(fell_ill).await;
    assert!(news.iter().any(|event| event["session_id"] == *others));
    backend.with(|state| state.health = None);
    olga.until(|event| event["data"]["status"] == "healthy").await;
    let own = running(&server, "alice").await;
    let heard = alice.until(|event| event["data"]["phase"] == "Running").await;
    assert!(heard.iter().all(|event| event["session_id"] == *own), "{heard:?}");

    // From the very start it is the same, and a wish to hear of another's session is heard in vain.
    let mut again = Listener::with_token(address, "?after=0", "of-alice").await;
    let heard = again.until(|event| event["data"]["phase"] == "Running").await;
    assert!(heard.iter().all(|event| event["session_id"] == *own), "{heard:?}");
    let mut nosy =
        Listener::with_token(address, &format!("?after=0&session_id={others},{own}"), "of-alice").await;
    assert_eq!(nosy.next().await["session_id"], *own);
    // An operator's filter.
    let mut one = Listener::with_token(address, &format!("?after=0&session_id={others}"), "of-olga").await;
    let heard = one.until(|event| event["data"]["phase"] == "Running").await;
    assert!(heard.iter().all(|event| event["session_id"] == *others), "{heard:?}");
    server.stop().await;
}

#[tokio::test]
async fn ways_in() {
    let (folder, _backend, server) = start().await;
    let address = listen(&server).await;
    user(folder.path(), "alice", "user", "of-alice").await;
    let refused = async |query: &str, headers: &[(&'static str, String)]| {
        Listener::refusal(address, query, headers).await
    };
    let protocol = |offered: &str| [("sec-websocket-protocol", offered.to_owned())];
    assert_eq!(refused("", &[]).await, 401);
    assert_eq!(refused("", &[("authorization", "Bearer nonsense".into())]).await, 401);
    assert_eq!(refused("?token=of-alice", &[]).await, 400, "never in the URL");
    assert_eq!(refused("", &protocol("streamspace.v1, bearer.nonsense")).await, 401);
    assert_eq!(refused("", &protocol("bearer.of-alice")).await, 400, "the token must not be answered");
    assert_eq!(refused("", &protocol("streamspace.v1")).await, 401);
    assert_eq!(refused("", &protocol("streamspace.v1, bearer.of-alice")).await, 101);
    assert_eq!(refused("?ticket=nonsense", &[]).await, 401);
    assert_eq!(refused("?after=x", &[("authorization", "Bearer of-alice".into())]).await, 400);
    assert_eq!(get_as(&server, "of-alice", "/api/v1/ws").await.status, StatusCode::BAD_REQUEST);

    let answer = server.post("/api/v1/ws/ticket", &json!({})).await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::CREATED, "no-store"));
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    let query = format!("?ticket={ticket}");
    assert_eq!(refused(&query, &[]).await, 101);
    assert_eq!(refused(&query, &[]).await, 401, "good once");
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    // The sweep of a start may come late: this server's sweep takes nothing.
    let server = Server::start_with(config(folder.path()), Some(&backend)).await;
    let (id, other) = (running(&server, "admin").await, running(&server, "admin").await);
    let before = events(&server, &other).await;
    assert!(before.len() > 3);
    server.stop().await;
    // A start sweeps.
    let config = || ControlConfig { events_per_session: 3, ..config(folder.path()) };
    let server = Server::start_with(config(), Some(&backend)).await;
    eventually("swept", async || events(&server, &other).await.len() <= 3).await;
    let kept = events(&server, &other).await;
    assert_eq!(kept[..], before[before.len() - kept.len()..], "the newest are kept");

    let address = listen(&server).await;
    let open = async |query: String| Listener::with_token(address, &query, &server.token).await;
    for query in ["?after=0".to_owned(), "?after=999999999".to_owned(), format!("?after=1&session_id={id}")] {
        let mut listener = open(query.clone()).await;
        let first = listener.next().await;
        assert_eq!(first["type"], "resync", "{query}: {first}");
        // And it goes on from there.
        let next = running(&server, "admin").await;
        if !query.contains("session_id") {
            listener.until(|event| is(event, "session.phase_changed", &next)).await;
        }
    }
    // Nothing of what is asked for is missing behind this place.
    let place = kept[0]["cursor"].as_str().unwrap();
    let mut listener = open(format!("?after={place}&session_id={other}")).await;
    assert_eq!(listener.next().await, kept[1]);

    // Old ones go, whoever they belong to.
    sql(folder.path(), "UPDATE events SET at = '2001-01-01T00:00:00.000000+00:00'").await;
    let after = events(&server, &other).await.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    server.stop().await;
    let server = Server::start_with(config(), Some(&backend)).await;
    eventually("swept", async || events(&server, &other).await.is_empty()).await;
    let address = listen(&server).await;
    let mut listener = Listener::with_token(
        address,
        &format!("?after={}", after.parse::<u64>().unwrap() - 1),
        &server.token,
    )
    .await;
    assert_eq!(listener.next().await["type"], "resync");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye() {
    let (_folder, _backend, server) = start().await;
    let address = listen(&server).await;
    let mut listener = Listener::with_token(address, "", &server.token).await;
    listener.next().await;
    let ((code, _), ()) = tokio::join!(listener.closed(), server.stop());
    assert_eq!(code, CloseCode::Away);
}

#[tokio::test]
async fn heartbeats_see_to_dead_tokens_and_move_the_place_on() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { event_heartbeat: Duration::from_secs(4), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let address = listen(&server).await;
    user(folder.path(), "alice", "user", "of-alice").await;
    let mut alice = Listener::with_token(address, "", "of-alice").await;
    let ready = alice.next().await;
    // She has to be there to answer pings.
    let (_, bookmark) = tokio::join!(running(&server, "bob"), alice.next());
    assert_eq!(bookmark["type"], "bookmark", "nothing of what happened is hers: {bookmark}");
    assert!(cursors(&[bookmark]) > cursors(&[ready]));
    let revoked = sql(folder.path(), "DELETE FROM api_tokens WHERE user_id = 'alice'");
    let (_, (code, reason)) = tokio::join!(revoked, alice.closed());
    assert_eq!((code, reason.as_str()), (CloseCode::Policy, "the token is not valid any more"));
    server.stop().await;
}

#[tokio::test]
async fn not_everybody_listens_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { event_listeners: (2, 100), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let address = listen(&server).await;
    let authorization = [("authorization", format!("Bearer {}", server.token))];
    let first = Listener::with_token(address, "", &server.token).await;
    let _second = Listener::with_token(address, "", &server.token).await;
    let Err(Error::Http(response)) = Listener::open(address, "", &authorization).await else {
        panic!("let in")
    };
    assert_eq!(response.status().as_u16(), 429);
    assert!(response.headers().contains_key("retry-after"));
    first.close().await;
    eventually("a place is free", async || Listener::open(address, "", &authorization).await.is_ok()).await;
    server.stop().await;
}
