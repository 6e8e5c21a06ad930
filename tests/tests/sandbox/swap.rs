//! A plugin that is replaced, removed or left alone while it is called.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    CreateSessionRequest, DeleteSessionRequest, HealthCheckRequest, SessionSpec,
};
use streamspace_runtime::{BackendConfig, BindError, Plugin, Runtime, RuntimeConfig, Seat};
use streamspace_shell::{Shell, Slot};
use streamspace_tests::until;
use tonic::Code;

use crate::stage::{Controller, NOWHERE, PATIENCE, another_version, config, expect, hostile_file, limited};

/// A controller whose plugin can be replaced by another version.
struct Stage {
    controller: Controller,
    seat: Seat,
    slot: Arc<Slot>,
    versions: [Plugin; 2],
}

impl Stage {
    async fn new() -> Option<Self> {
        let original = std::fs::read(hostile_file()?).unwrap();
        let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
        let versions = [
            runtime.load(original.clone()).await.unwrap(),
            runtime.load(another_version(original)).await.unwrap(),
        ];
        let seat = Seat::new(&runtime, config(NOWHERE)).unwrap();
        let slot = Slot::new(seat.bind(versions[0].clone()).await.unwrap());
        let client = ControllerServiceClient::new(Shell::over(Arc::clone(&slot)).into_transport());
        Some(Self { controller: Controller { client }, seat, slot, versions })
    }

    async fn swap_to(&self, version: usize) {
        self.slot.replace(self.seat.bind(self.versions[version].clone()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_versions_come_and_go() {
    let Some(stage) = Stage::new().await else { return };
    let calls = join_all((0..20).map(|_| async {
        for _ in 0..50 {
            stage.controller.create("good").await.unwrap();
            stage.controller.look("good", PATIENCE).await.unwrap();
        }
    }));
    let swaps = async {
        for round in 0..50 {
            stage.swap_to((round + 1) % 2).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(calls, swaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_the_old_version_keeps_its_sessions_lock_and_then_the_old_version_goes() {
    let Some(mut stage) = Stage::new().await else { return };
    let request = DeleteSessionRequest {
        session_id: "locked".to_owned(),
        handle: b"sleep".to_vec(),
        ..Default::default()
    };
    let mut client = stage.controller.client.clone();
    let sleeping = client.delete_session(limited(request, Duration::from_secs(15)));
    let create = async |session: &str, timeout| {
        let request = CreateSessionRequest {
            session_id: session.to_owned(),
            user_id: "alice".to_owned(),
            spec: Some(SessionSpec { base_image: "good".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        stage.controller.client.clone().create_session(limited(request, timeout)).await
    };
    // It has begun once the session is locked: a free one would have been made in this time.
    let locked = until("the lock", async || create("locked", Duration::from_secs(1)).await.err());
    // Then its caller goes away; it does not.
    tokio::select! {
        ended = sleeping => panic!("it did not sleep: {ended:?}"),
        _ = locked => {}
    }
    stage.swap_to(1).await;
    create("free", PATIENCE).await.unwrap();
    let busy = create("locked", Duration::from_millis(200)).await.unwrap_err();
    expect(&busy, "a mutation of the old version is under way", Code::ResourceExhausted, "BUSY");
    let old = stage.versions[0].downgrade();
    stage.versions[0] = stage.versions[1].clone();
    assert!(old.is_in_use(), "its call is under way");
    create("locked", PATIENCE).await.unwrap();
    until("the end of the old version", async || (!old.is_in_use()).then_some(())).await;
}

#[tokio::test]
async fn a_shell_that_was_started_anew_knows_who_was_replaced() {
    let Some(plugin) = crate::stage::hostile().await else { return };
    let backend = streamspace_runtime::Backend::bind(plugin, config(NOWHERE)).await.unwrap();
    let create = async |shell: Shell, epoch| {
        let request = CreateSessionRequest {
            session_id: crate::stage::session_id(),
            user_id: "alice".to_owned(),
            spec: Some(SessionSpec { base_image: "good".to_owned(), ..Default::default() }),
            epoch,
            ..Default::default()
        };
        ControllerServiceClient::new(shell.into_transport()).create_session(limited(request, PATIENCE)).await
    };
    let shell = || Shell::new(backend.clone()).fenced_from(7);
    let stale = create(shell(), 6).await.unwrap_err();
    expect(&stale, "a lower epoch", Code::Aborted, "STALE_EPOCH");
    for epoch in [0, 7, 8] {
        create(shell(), epoch).await.unwrap();
    }
}

#[tokio::test]
async fn the_cache_is_found_again() {
    let Some(stage) = Stage::new().await else { return };
    stage.controller.create("fill-state").await.unwrap_err();
    stage.swap_to(1).await;
    stage.controller.create("read-state").await.unwrap();
}

#[tokio::test]
async fn a_version_that_does_not_fit_the_configuration_is_not_bound() {
    let Some(file) = hostile_file() else { return };
    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let original = std::fs::read(file).unwrap();
    let strict = String::from_utf8_lossy(&original).contains("\"validate\": {");
    assert!(strict, "the setting that this test is about");
    let first = runtime.load(original.clone()).await.unwrap();
    let settings = BackendConfig { config: json!({"validate": "good"}), ..config(NOWHERE) };
    let seat = Seat::new(&runtime, settings).unwrap();
    seat.bind(first).await.unwrap();
    // The next version calls the setting otherwise.
    let renamed = crate::load::replaced(&original, "\"validate\": {", "\"validity\": {");
    let second = runtime.load(renamed).await.unwrap();
    let Err(error) = seat.bind(second).await else { panic!("it was bound") };
    assert!(matches!(&error, BindError::Config { message, .. } if message.contains("validate")), "{error:?}");
}

#[tokio::test]
async fn without_a_plugin_calls_say_so_until_it_is_back() {
    let Some(stage) = Stage::new().await else { return };
    stage.slot.vacate("plugin file removed");
    let status = stage.controller.create("good").await.unwrap_err();
    let message = expect(&status, "removed", Code::Unavailable, "PLUGIN_REMOVED");
    assert_eq!(message, "plugin file removed");
    stage.swap_to(0).await;
    stage.controller.works().await;
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_left_alone_and_tried_again() {
    let Some(stage) = Stage::new().await else { return };
    for _ in 0..5 {
        stage.controller.create("panic").await.unwrap_err();
    }
    let status = stage.controller.create("good").await.unwrap_err();
    let message = expect(&status, "failing", Code::Unavailable, "PLUGIN_FAILING");
    assert!(message.contains("all is lost"), "{message}");
    let health =
        stage.controller.client.clone().health_check(HealthCheckRequest {}).await.unwrap().into_inner();
    assert_eq!(health.status, "unhealthy");
    assert!(health.message.contains("keeps failing"), "{}", health.message);
    assert!(stage.slot.failing().is_some());

    until("the end of the pause", async || stage.controller.create("good").await.ok()).await;
    assert!(stage.slot.failing().is_none());

    // Another version begins anew.
    for _ in 0..5 {
        stage.controller.create("panic").await.unwrap_err();
    }
    assert!(stage.slot.failing().is_some());
    stage.swap_to(1).await;
    stage.controller.works().await;
}
