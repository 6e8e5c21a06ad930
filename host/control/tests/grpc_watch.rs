//! What gRPC clients hear without asking again, and what they can ask without a token.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use axum::body::Body;
use common::calls::{Clients, faults, next, refusal};
use common::live::running;
use common::{Backend, Server, config, eventually};
use http::{Request, StatusCode};
use streamspace_control::ControlConfig;
use streamspace_proto::api::v1 as api;
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn start(change: impl FnOnce(ControlConfig) -> ControlConfig) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(change(config(folder.path())), Some(&Backend::default())).await;
    (folder, server)
}

async fn watch(
    clients: &mut Clients,
    after: Option<&str>,
    sessions: &[&str],
) -> Streaming<api::WatchResponse> {
    let session_id = sessions.iter().map(|id| (*id).to_owned()).collect();
    let request = api::WatchRequest { after: after.map(str::to_owned), session_id };
    clients.watch.watch(request).await.unwrap().into_inner()
}

async fn message(stream: &mut Streaming<api::WatchResponse>) -> api::WatchResponse {
    next(stream).await.expect("the stream has ended").unwrap()
}

/// The next event; what says only where to go on is passed over.
async fn event(stream: &mut Streaming<api::WatchResponse>) -> api::Event {
    loop {
        let message = message(stream).await;
        match message.kind() {
            api::WatchKind::Event => {
                let event = message.event.unwrap();
                assert_eq!(event.cursor, message.cursor);
                return event;
            }
            api::WatchKind::Bookmark => {}
            other => panic!("{other:?}"),
        }
    }
}

/// All events up to the end of a session.
async fn until_deleted(stream: &mut Streaming<api::WatchResponse>) -> Vec<api::Event> {
    let mut events = Vec::new();
    loop {
        events.push(event(stream).await);
        if events.last().unwrap().r#type == "session.deleted" {
            return events;
        }
    }
}

#[tokio::test]
async fn every_event_comes_once_and_a_cursor_goes_on() {
    let (_folder, server) = start(|config| config).await;
    let mut clients = Clients::of(&server);
    let mut live = watch(&mut clients, None, &[]).await;
    let ready = message(&mut live).await;
    assert_eq!((ready.kind(), ready.event.is_none()), (api::WatchKind::Ready, true));

    let id = running(&server, "alice").await;
    server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await;
    let heard = until_deleted(&mut live).await;
    let of_session = |event: &&api::Event| event.session_id.as_deref() == Some(&id);
    let told = server.get(&format!("/api/v1/sessions/{id}/events?limit=1000")).await.json();
    let told: Vec<_> = told["items"].as_array().unwrap().iter().map(|one| one["cursor"].clone()).collect();
    let own: Vec<_> = heard.iter().filter(of_session).map(|event| event.cursor.clone()).collect();
    assert_eq!(own, told);
    let created = heard.iter().find(of_session).unwrap();
    assert_eq!((created.r#type.as_str(), created.user_id.as_deref()), ("session.created", Some("alice")));
    let data = &created.data.as_ref().unwrap().fields["state"].kind;
    assert_eq!(*data, Some(prost_types::value::Kind::StringValue("running".into())));

    // From a cursor, without loss and without repetition; and from the very beginning.
    for (at, event) in heard.iter().enumerate().take(3) {
        let mut resumed = watch(&mut clients, Some(&event.cursor), &[]).await;
        assert_eq!(until_deleted(&mut resumed).await, heard[at + 1..]);
    }
    let mut narrowed = watch(&mut clients, Some(&ready.cursor), &[&id]).await;
    let own: Vec<_> = heard.iter().filter(of_session).cloned().collect();
    assert_eq!(until_deleted(&mut narrowed).await, own);
    // A cursor that is not of this database.
    let mut lost = watch(&mut clients, Some("999999999"), &[]).await;
    assert_eq!(message(&mut lost).await.kind(), api::WatchKind::Resync);
    server.stop().await;
}

#[tokio::test]
async fn users_hear_of_their_own_and_are_told_where_to_go_on() {
    let (_folder, server) =
        start(|config| ControlConfig { event_heartbeat: Duration::from_millis(50), ..config }).await;
    let token = server.user("alice", "user").await;
    let mut alice = Clients::with(&server, Some(&token));
    let mut live = watch(&mut alice, None, &[]).await;
    let ready = message(&mut live).await;
    let bobs = running(&server, "bob").await;
    let bookmark = message(&mut live).await;
    assert_eq!(bookmark.kind(), api::WatchKind::Bookmark);
    assert!(bookmark.cursor.parse::<u64>().unwrap() > ready.cursor.parse().unwrap());
    let own = running(&server, "alice").await;
    assert_eq!(event(&mut live).await.session_id.as_deref(), Some(own.as_str()));
    let mut others = watch(&mut alice, Some(&ready.cursor), &[&bobs, &own]).await;
    assert_eq!(event(&mut others).await.session_id.as_deref(), Some(own.as_str()));

    // A token that becomes invalid ends it.
    let tokens = server.get("/api/v1/admin/tokens").await.json();
    let id = tokens["items"].as_array().unwrap().iter().find(|one| one["user_id"] == "alice").unwrap();
    let revoked = server.delete(&format!("/api/v1/admin/tokens/{}", id["id"].as_str().unwrap())).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text);
    let end = loop {
        match next(&mut live).await.unwrap() {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unauthenticated);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let (_folder, server) = start(|config| ControlConfig { event_listeners: (1, 8), ..config }).await;
    let mut clients = Clients::of(&server);
    let after = api::WatchRequest { after: Some("x".into()), ..Default::default() };
    assert_eq!(faults(clients.watch.watch(after).await.map(|_| ())), ["after"]);
    let session_id = vec!["nobody".to_owned()];
    let unknown = api::WatchRequest { session_id, ..Default::default() };
    assert_eq!(faults(clients.watch.watch(unknown).await.map(|_| ())), ["session_id"]);

    let mut first = watch(&mut clients, None, &[]).await;
    message(&mut first).await;
    let second = clients.watch.watch(api::WatchRequest::default()).await.map(|_| ());
    assert_eq!(refusal(second), (Code::ResourceExhausted, "TOO_MANY".into()));
    drop(first);
    let mut last = None;
    eventually("the place is free again", async || {
        last = clients.watch.watch(api::WatchRequest::default()).await.ok();
        last.is_some()
    })
    .await;
    let mut last = last.unwrap().into_inner();
    message(&mut last).await;

    // A server that stops says so.
    server.stop().await;
    let end = loop {
        match next(&mut last).await.unwrap() {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(refusal::<()>(Err(end)), (Code::Unavailable, "STOPPING".into()));
    assert!(next(&mut last).await.is_none());
}

#[tokio::test]
async fn health_and_reflection_need_no_token() {
    let (_folder, server) = start(|config| config).await;
    let mut health = HealthClient::new(server.router.clone());
    for service in ["", "streamspace.api.v1.SessionService", "streamspace.api.v1.WatchService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = || HealthCheckRequest { service: "streamspace.controller.v1.ControllerService".to_owned() };
    assert_eq!(health.check(unknown()).await.unwrap_err().code(), Code::NotFound);
    let mut strange = health.watch(unknown()).await.unwrap().into_inner();
    assert_eq!(next(&mut strange).await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut watched).await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(server.router.clone());
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        next(&mut answers).await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["SessionService", "TemplateService", "AdminService", "WatchService"] {
        assert!(names.contains(&format!("streamspace.api.v1.{name}")), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("controller.v1")), "{names:?}");

    server.stop().await;
    assert_eq!(next(&mut watched).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(next(&mut watched).await.is_none() && next(&mut strange).await.is_none());
}

#[tokio::test]
async fn calls_are_told_by_their_media_type_and_counted_beside_requests() {
    let (_folder, server) = start(|config| config).await;
    let path = "/streamspace.api.v1.SessionService/List";
    let plain = server.send(server.request("POST", path).body(Body::empty()).unwrap()).await;
    assert_eq!(plain.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", plain.text);
    let web = Request::post(path).header("content-type", "application/grpc-web+proto").body(Body::empty());
    assert_eq!(server.send(web.unwrap()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for path in ["/streamspace.api.v1.SessionService/Nothing", "/streamspace.api.v2.SessionService/List"] {
        let request = server.request("POST", path).header("content-type", "application/grpc");
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "12"), "{path}");
    }
    assert_eq!(server.get("/streamspace.api.v1.SessionService/Nothing").await.status, StatusCode::NOT_FOUND);

    let mut clients = Clients::of(&server);
    clients.sessions.list(api::ListSessionsRequest::default()).await.unwrap();
    let missing = api::GetSessionRequest { id: "x".into() };
    clients.sessions.get(missing).await.unwrap_err();
    let metrics = server.get("/metrics").await.text;
    for (method, status) in [("List", 200), ("Get", 404)] {
        let line = format!("route=\"/streamspace.api.v1.SessionService/{method}\",status=\"{status}\"}} 1");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    server.stop().await;
}
