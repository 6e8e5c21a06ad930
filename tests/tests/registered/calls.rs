//! Calls that are not an API server's, or not its for this controller, or not now: over the network, as somebody would make
//! them who has got hold of something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use streamspace_call_auth::{SignerLayer, SigningKey};
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{ListSessionsRequest, WatchSessionsRequest};
use streamspace_tests::{PATIENCE, holds};
use tokio::sync::Mutex;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, Service as _, ServiceExt as _, service_fn};

use crate::stage::{ID, Stage, caller, caller_of, channel, create, delete, instance, refusal};

type Wire = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A way to the controller on which the token of every call is noted.
fn tapped(channel: Channel, tokens: Arc<Mutex<Vec<HeaderValue>>>) -> Wire {
    Wire::new(service_fn(move |request: Request<Body>| {
        let (mut channel, tokens) = (channel.clone(), Arc::clone(&tokens));
        async move {
            tokens.lock().await.push(request.headers()["authorization"].clone());
            channel.ready().await?;
            channel.call(request).await.map_err(BoxError::from)
        }
    }))
}

/// A way on which every call gets this token.
fn with_token(channel: Channel, token: HeaderValue) -> Wire {
    Wire::new(service_fn(move |mut request: Request<Body>| {
        request.headers_mut().insert("authorization", token.clone());
        let mut channel = channel.clone();
        async move {
            channel.ready().await?;
            channel.call(request).await.map_err(BoxError::from)
        }
    }))
}

fn unauthenticated(status: &Status, reason: &str) {
    assert_eq!(refusal(status), (Code::Unauthenticated, reason.to_owned()), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_let_in() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let channel = channel(&controller).await;

    let mut anybody = ControllerServiceClient::new(channel.clone());
    let refused = anybody.create_session(create("s1", 5)).await.unwrap_err();
    unauthenticated(&refused, "CALL_UNSIGNED");
    let refused = anybody.watch_sessions(WatchSessionsRequest::default()).await.unwrap_err();
    unauthenticated(&refused, "CALL_UNSIGNED");
    // The controller's own token and the join token are for other doors.
    for token in ["ssc_1", crate::api::JOIN_TOKEN] {
        let token = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let mut thief = ControllerServiceClient::new(with_token(channel.clone(), token));
        unauthenticated(&thief.create_session(create("s1", 5)).await.unwrap_err(), "CALL_MALFORMED");
    }
    let rogue = Arc::new(SigningKey::generate().unwrap().0);
    let mut rogue = caller(&controller, &rogue, ID).await;
    unauthenticated(&rogue.create_session(create("s1", 5)).await.unwrap_err(), "CALL_KEY_UNKNOWN");
    // The right one calls another controller, and is led here.
    let mut led = caller(&controller, &stage.api.key(), "ctrl-other").await;
    unauthenticated(&led.create_session(create("s1", 5)).await.unwrap_err(), "CALL_AUDIENCE");
    // Or another process of this one.
    for other in ["", "another"] {
        let mut led = caller_of(&controller, &stage.api.key(), (ID, other)).await;
        unauthenticated(&led.create_session(create("s1", 5)).await.unwrap_err(), "CALL_INSTANCE");
    }

    assert!(stage.simulated.boxes().await.is_empty());
    // What it says comes after its answers.
    holds("the reasons are in the log", PATIENCE, async || {
        let log = controller.log();
        let reasons = ["CALL_UNSIGNED", "CALL_KEY_UNKNOWN", "CALL_AUDIENCE"];
        if reasons.iter().all(|reason| log.contains(reason)) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_seen_on_its_way_is_of_no_use() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let channel = channel(&controller).await;
    let tokens = Arc::default();
    let signer = SignerLayer::new(stage.api.key(), ID).for_instance(&instance(&controller));
    let mut api = ControllerServiceClient::new(signer.layer(tapped(channel.clone(), Arc::clone(&tokens))));
    api.create_session(create("s1", 5)).await.unwrap();
    let token = tokens.lock().await[0].clone();

    let mut thief = ControllerServiceClient::new(with_token(channel.clone(), token));
    // The same, another body, and another method.
    unauthenticated(&thief.create_session(create("s1", 5)).await.unwrap_err(), "CALL_REPLAYED");
    unauthenticated(&thief.create_session(create("s2", 5)).await.unwrap_err(), "CALL_BODY");
    unauthenticated(&thief.delete_session(delete("s1", 5)).await.unwrap_err(), "CALL_METHOD");
    assert_eq!(stage.simulated.boxes().await.len(), 1);
    // Whoever signs may make the same call as often as it likes.
    api.create_session(create("s1", 5)).await.unwrap();
    assert_eq!(stage.simulated.boxes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_replaced_is_refused_from_the_start() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    // It was told so when it registered: it has not seen a call yet.
    let refused = api.create_session(create("s1", 4)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Aborted, "STALE_EPOCH".to_owned()), "{refused}");
    api.create_session(create("s1", 5)).await.unwrap();
    api.list_sessions(ListSessionsRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_is_none_of_questions_for_keys() {
    let Some(stage) = Stage::new().await else { return };
    let beats = || stage.api.said(|said| said.heartbeats.len());
    stage.api.said(|said| said.interval = "1h");
    let controller = stage.registered();
    let rogue = Arc::new(SigningKey::generate().unwrap().0);
    let (begun, before) = (Instant::now(), beats());
    let flood = (0..32).map(|_| async {
        let mut rogue = caller(&controller, &rogue, ID).await;
        while begun.elapsed() < Duration::from_secs(12) {
            let refused = rogue.list_sessions(ListSessionsRequest::default()).await.unwrap_err();
            unauthenticated(&refused, "CALL_KEY_UNKNOWN");
        }
    });
    futures::future::join_all(flood).await;
    let asked = beats() - before;
    // The first at once, and then one every 5 s.
    let most = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap() / 5;
    assert!((1..=most).contains(&asked), "{asked} questions in {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_are_everybodys() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let channel = channel(&controller).await;
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel.clone()).check(request).await.unwrap();
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = reflection.server_reflection_info(futures::stream::iter([request])).await;
    assert!(asked.unwrap().into_inner().message().await.unwrap().is_some());
}
