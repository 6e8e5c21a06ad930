//! A process whose lease is over, or that is not the active one, changes nothing at the backend: another one may.

use std::time::Duration;

use serde_json::json;
use streamspace_proto::controller::v1::{HibernateSessionRequest, ListSessionsRequest, WakeSessionRequest};
use streamspace_tests::until;
use tonic::{Code, Status};

use crate::stage::{Caller, ID, Stage, caller, create, delete, refusal};

/// Changes of all kinds, each refused for this reason.
async fn nothing_is_changed(api: &mut Caller, reason: &str) {
    let hibernate = HibernateSessionRequest {
        session_id: "s1".to_owned(),
        generation: 2,
        epoch: 5,
        operation_id: "op-hibernate".to_owned(),
        ..Default::default()
    };
    let wake = WakeSessionRequest {
        session_id: "s1".to_owned(),
        generation: 2,
        epoch: 5,
        operation_id: "op-wake".to_owned(),
        ..Default::default()
    };
    let refused: [Status; 4] = [
        api.create_session(create("s2", 5)).await.unwrap_err(),
        api.delete_session(delete("s1", 5)).await.unwrap_err(),
        api.hibernate_session(hibernate).await.unwrap_err(),
        api.wake_session(wake).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(refusal(&status), (Code::Unavailable, reason.to_owned()), "{status}");
    }
    let seen = api.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(seen.entries.len(), 1, "whoever only looks is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_the_api_server_has_not_heard_of_for_its_lease_changes_nothing() {
    let Some(mut stage) = Stage::new().await else { return };
    let lease = Duration::from_secs(6);
    stage.api.said(|said| said.lease = "6s");
    let controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    api.create_session(create("s1", 5)).await.unwrap();
    stage.api.stop().await;
    // From now on the API server cannot hear of it: when that was for the time of the lease, another one may be called.
    tokio::time::sleep(lease).await;
    nothing_is_changed(&mut api, "LEASE_OVER").await;
    assert_eq!(stage.simulated.effects_on("ss-s1").await, ["box.made", "box.started"]);
    stage.api.start_again().await;
    until("that it is heard of again", async || api.create_session(create("s2", 5)).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_not_the_active_one_changes_nothing() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    api.create_session(create("s1", 5)).await.unwrap();
    stage.api.said(|said| said.role = "standby");
    controller.says("this process has another role", 1);
    nothing_is_changed(&mut api, "STANDBY").await;
    stage.api.said(|said| said.role = "active");
    controller.says("this process has another role", 2);
    api.create_session(create("s2", 5)).await.unwrap();
    // Nor one that waits from the start.
    stage.api.said(|said| said.role = "standby");
    let second = stage.registered();
    let mut api = caller(&second, &stage.api.key(), ID).await;
    let refused = api.delete_session(delete("s1", 5)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unavailable, "STANDBY".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_when_another_takes_over_goes_no_further() {
    let Some(stage) = Stage::new().await else { return };
    let controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    // The box is there, and what comes next would be to start it.
    let slow = json!([{"verb": "box.create", "fault": {"latency": {"after_ms": 10000}}}]);
    stage.simulated.rules(slow).await;
    let creating = tokio::spawn(async move { api.create_session(create("s1", 5)).await });
    until("that it is made", async || {
        stage.simulated.effects_on("ss-s1").await.contains(&"box.made".to_owned()).then_some(())
    })
    .await;
    stage.api.said(|said| said.role = "standby");
    controller.says("this process has another role", 1);
    let refused = creating.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    assert_eq!(stage.simulated.effects_on("ss-s1").await, ["box.made"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_says_so_once_it_changes_nothing_any_more() {
    let Some(stage) = Stage::new().await else { return };
    let mut controller = stage.registered();
    let mut api = caller(&controller, &stage.api.key(), ID).await;
    let slow = json!([{"verb": "box.create", "fault": {"latency": {"after_ms": 10000}}}]);
    stage.simulated.rules(slow).await;
    let mut beside = api.clone();
    let creating = tokio::spawn(async move { api.create_session(create("s1", 5)).await });
    until("that it is made", async || {
        stage.simulated.effects_on("ss-s1").await.contains(&"box.made".to_owned()).then_some(())
    })
    .await;
    controller.signal();
    until("that nothing new is begun", async || {
        let refused = beside.create_session(create("s2", 5)).await.err()?;
        (refusal(&refused) == (Code::Unavailable, "CONTROLLER_ENDS".to_owned())).then_some(())
    })
    .await;
    let said_so =
        || stage.api.said(|said| said.heartbeats.iter().any(|(_, body)| body["status"] == "draining"));
    let told = said_so();
    let begun = stage.simulated.effects_on("ss-s1").await;
    assert!(!told || begun.contains(&"box.started".to_owned()), "it says that it ends, and goes on");
    // What is under way comes to its end.
    creating.await.unwrap().unwrap();
    assert!(controller.end().success());
    assert!(said_so());
    assert_eq!(stage.simulated.effects_on("ss-s1").await, ["box.made", "box.started"]);
}
