//! From the registration to the end.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use streamspace_call_auth::SigningKey;
use streamspace_proto::controller::v1::{GetCapabilitiesRequest, ListSessionsRequest, WatchSessionsRequest};
use streamspace_tests::until;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::api::JOIN_TOKEN;
use crate::stage::{ID, Stage, address, caller, caller_of, channel, create, refusal};

const SERVICE: &str = "streamspace.controller.v1.ControllerService";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_serves_registers_and_gives_signs_of_life() {
    let Some(stage) = Stage::new().await else { return };
    let mut controller = stage.start(&["--label", "region=lab", "--label", "gpu=none"]);
    let registered = controller.says("registered as", 1);
    assert_eq!((&registered["controller"], &registered["epoch"]), (&json!(ID), &json!(5)));

    let (token, body) = stage.api.said(|said| said.registrations[0].clone());
    assert_eq!(token, JOIN_TOKEN);
    assert_eq!((&body["type"], &body["name"]), (&json!("simulated"), &json!("lab")));
    assert_eq!(body["endpoint"], format!("grpc://{}", address(&controller)));
    assert_eq!(body["labels"], json!({"region": "lab", "gpu": "none"}));
    assert_eq!(body["capabilities"]["supports_hibernation"], true, "known before it is bound: {body}");
    let instance = body["instance"].as_str().unwrap();
    assert!((1..=64).contains(&instance.len()), "{instance}");
    assert!(body.get("ca").is_none(), "{body}");

    let (token, heartbeat) = until("a sign of life of a well controller", async || {
        let last = stage.api.said(|said| said.heartbeats.last().cloned())?;
        (last.1["status"] == "healthy").then_some(last)
    })
    .await;
    assert_eq!((token.as_str(), &heartbeat["instance"]), ("ssc_1", &json!(instance)));

    let mut api = caller(&controller, &stage.api.key(), ID).await;
    let made = api.create_session(create("s1", 5)).await.unwrap().into_inner();
    assert_eq!(made.session_id, "s1");
    // What it makes bears the id that the API server gave it.
    let boxes = stage.simulated.boxes().await;
    assert_eq!(boxes[0]["labels"]["streamspace.controller"], ID, "{boxes:?}");
    until("the session in a sign of life", async || {
        stage.api.said(|said| (said.heartbeats.last()?.1["current_sessions"] == 1).then_some(()))
    })
    .await;

    let status = controller.terminate();
    assert!(status.success(), "{status}");
    let last = stage.api.said(|said| said.heartbeats.last().unwrap().1.clone());
    assert_eq!((&last["status"], &last["instance"]), (&json!("draining"), &json!(instance)));
    assert!(
        !controller.log().contains(JOIN_TOKEN) && !controller.log().contains("ssc_"),
        "{}",
        controller.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_is_waited_for_and_nobody_is_served_meanwhile() {
    let Some(mut stage) = Stage::new().await else { return };
    stage.api.stop().await;
    let controller = stage.start(&[]);
    controller.says("not registered yet; once more", 1);

    let mut api = caller_of(&controller, &stage.api.key(), (ID, "")).await;
    let refused = api.create_session(create("s1", 5)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unavailable, "NOT_REGISTERED".to_owned()));
    // The process is there, and says that its service is not.
    let mut health = HealthClient::new(channel(&controller).await);
    for (service, wanted) in [("", ServingStatus::Serving), (SERVICE, ServingStatus::NotServing)] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status(), wanted, "{service}");
    }

    stage.api.start_again().await;
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    api.create_session(create("s1", 5)).await.unwrap();
    until("the health of the service", async || {
        let request = HealthCheckRequest { service: SERVICE.to_owned() };
        (health.check(request).await.ok()?.into_inner().status() == ServingStatus::Serving).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_that_is_refused_ends_it_with_a_code_of_its_own() {
    let Some(stage) = Stage::new().await else { return };
    for (token, words) in [("ssj_wrong", "the test wants it so"), ("two words", "is no token")] {
        let mut controller = stage.start_with(token, &[]);
        assert_eq!(controller.end().code(), Some(4), "{}", controller.log());
        let log = controller.log();
        assert!(log.contains(words) && !log.contains(token), "{log}");
    }
    // What is wrong with the registration itself is another matter.
    stage.api.said(|said| said.refusal = Some(StatusCode::UNPROCESSABLE_ENTITY));
    let mut controller = stage.start(&[]);
    assert_eq!(controller.end().code(), Some(1), "{}", controller.log());
    // What may go better later is tried again.
    stage.api.said(|said| said.refusal = Some(StatusCode::SERVICE_UNAVAILABLE));
    let controller = stage.start(&[]);
    controller.says("not registered yet; once more", 1);
    stage.api.said(|said| said.refusal = None);
    controller.says("registered as", 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_was_away_is_found_again() {
    let Some(mut stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    stage.api.stop().await;
    controller.says("no sign of life came through", 1);
    // Meanwhile whoever was trusted still is.
    api.create_session(create("s1", 5)).await.unwrap();
    let before = stage.api.said(|said| said.heartbeats.len());
    stage.api.start_again().await;
    until("signs of life", async || {
        stage.api.said(|said| (said.heartbeats.len() > before + 2).then_some(()))
    })
    .await;
    assert_eq!(stage.api.said(|said| said.registrations.len()), 1, "its token still holds");

    // One that has forgotten its tokens, or revoked them.
    stage.api.said(|said| said.tokens.clear());
    let again = controller.says("registered as", 2);
    assert_eq!(again["controller"], ID);
    let (token, body) = stage.api.said(|said| said.registrations.last().unwrap().clone());
    assert_eq!(token, JOIN_TOKEN);
    assert_eq!(body["instance"], stage.api.said(|said| said.registrations[0].1["instance"].clone()));
    api.list_sessions(ListSessionsRequest::default()).await.unwrap();
    until("a sign of life with the new token", async || {
        stage.api.said(|said| (said.heartbeats.last()?.0 == "ssc_2").then_some(()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_registered_it_goes_on_asking_to_be_let_in() {
    let Some(stage) = Stage::new().await else { return };
    let mut controller = stage.registered();
    stage.api.said(|said| {
        said.refusal = Some(StatusCode::UNAUTHORIZED);
        said.tokens.clear();
    });
    controller.says("no sign of life came through", 2);
    stage.api.said(|said| said.refusal = None);
    controller.says("registered as", 2);
    assert!(controller.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_kept_until_the_next_one_was_taken() {
    let Some(stage) = Stage::new().await else { return };
    stage.api.said(|said| said.token_life = Duration::from_secs(6));
    let controller = stage.registered();
    stage.api.said(|said| said.closed = Some(StatusCode::SERVICE_UNAVAILABLE));
    // Another one is due, and none is given: what there is stays in use.
    controller.says("there is no new token yet", 1);
    let before = stage.api.said(|said| said.heartbeats.len());
    until("signs of life", async || {
        stage.api.said(|said| (said.heartbeats.len() > before + 2).then_some(()))
    })
    .await;
    drop(controller);

    stage.api.said(|said| said.closed = None);
    let controller = stage.registered();
    // The next one is given, and not known any more when it is used.
    stage.api.said(|said| said.forgets = true);
    controller.says("the new token is not taken", 1);
    let (token, taken) =
        stage.api.said(|said| (said.registrations.last().unwrap().0.clone(), said.tokens.last().cloned()));
    assert_eq!(Some(token), taken, "the one before it");
    stage.api.said(|said| said.forgets = false);
    until("a sign of life with a token that is taken", async || {
        stage.api.said(|said| said.tokens.contains(&said.heartbeats.last()?.0).then_some(()))
    })
    .await;
    let joined =
        stage.api.said(|said| said.registrations.iter().filter(|(token, _)| token == JOIN_TOKEN).count());
    assert_eq!(joined, 2, "each process once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_does_not_keep_it_from_ending() {
    let Some(stage) = Stage::new().await else { return };
    let mut controller = stage.start(&["--drain", "1h"]);
    controller.says("registered as", 1);
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    let mut events = api.watch_sessions(WatchSessionsRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    assert!(controller.terminate().success());
    assert!(controller.log().contains("the API server knows that this process ends"), "{}", controller.log());
    let last = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(refusal(&last.unwrap_err()), (Code::Unavailable, "CONTROLLER_ENDS".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_epochs_and_roles_are_followed() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let (old, new) = (stage.api.key(), Arc::new(SigningKey::generate().unwrap().0));
    let mut by_old = caller(&controller, &old, ID).await;
    let mut by_new = caller(&controller, &new, ID).await;
    by_old.create_session(create("s1", 5)).await.unwrap();

    // Rarely, so that what comes soon was asked for. The next answer says so.
    let beats = stage.api.said(|said| {
        said.interval = "1h";
        said.heartbeats.len()
    });
    until("the last sign of life for an hour", async || {
        stage.api.said(|said| (said.heartbeats.len() > beats).then_some(()))
    })
    .await;
    let beats = stage.api.said(|said| said.heartbeats.len());
    stage.api.said(|said| {
        said.keys = vec![Arc::clone(&new)];
        said.epoch = 9;
        said.role = "standby";
    });
    // A key that nobody has told of is asked for, at once and once.
    by_new.get_capabilities(GetCapabilitiesRequest {}).await.unwrap();
    assert_eq!(stage.api.said(|said| said.heartbeats.len()), beats + 1);
    controller.says("this process has another role", 1);
    // Those who are not named any more are not trusted any more; their key is asked for as well.
    let refused = by_old.get_capabilities(GetCapabilitiesRequest {}).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unauthenticated, "CALL_KEY_UNKNOWN".to_owned()));
    // Whoever was replaced is refused, although it signs well.
    let refused = by_new.create_session(create("s2", 8)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    // And nobody changes anything through a process that is not the active one.
    let refused = by_new.create_session(create("s2", 9)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unavailable, "STANDBY".to_owned()));
    stage.api.said(|said| said.role = "active");
    until("the next question for keys, and with it its role", async || {
        by_old.get_capabilities(GetCapabilitiesRequest {}).await.unwrap_err();
        by_new.create_session(create("s2", 9)).await.ok()
    })
    .await;
    assert_eq!(stage.simulated.boxes().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_removed_becomes_another() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let mut before = caller(&controller, &stage.api.key(), ID).await;
    before.create_session(create("s1", 5)).await.unwrap();
    stage.api.said(|said| {
        said.id = "ctrl-anew".to_owned();
        said.epoch = 1;
        said.tokens.clear();
    });
    let again = controller.says("registered as", 2);
    assert_eq!(again["controller"], "ctrl-anew");
    let refused = before.create_session(create("s2", 5)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unauthenticated, "CALL_AUDIENCE".to_owned()));
    // It counts its epochs from the start, and does not know what the one before it made.
    let mut anew = caller(&controller, &stage.api.key(), "ctrl-anew").await;
    assert!(
        anew.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner().entries.is_empty()
    );
    anew.create_session(create("s2", 1)).await.unwrap();
    let listed = anew.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner().entries;
    assert_eq!(listed.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_without_its_backend_says_so() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    until("a sign of life of a well controller", async || {
        stage.api.said(|said| (said.heartbeats.last()?.1["status"] == "healthy").then_some(()))
    })
    .await;
    stage.simulated.rules(json!([{"verb": "info", "fault": {"error": {"status": 503}}}])).await;
    until("a sign of life of one that is not", async || {
        stage.api.said(|said| (said.heartbeats.last()?.1["status"] == "unhealthy").then_some(()))
    })
    .await;
    stage.simulated.rules(json!([])).await;
    until("a sign of life of one that is well again", async || {
        stage.api.said(|said| (said.heartbeats.last()?.1["status"] == "healthy").then_some(()))
    })
    .await;
    drop(controller);
}
