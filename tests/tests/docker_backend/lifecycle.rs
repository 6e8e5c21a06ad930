//! Sessions come, sleep, wake and go; homes stay.

use bollard::models::RestartPolicyNameEnum;
use streamspace_proto::controller::v1::{
    CreateSessionRequest, GetCapabilitiesRequest, SessionSpec, VolumeMount,
};
use streamspace_tests::docker::CONTROLLER;
use streamspace_tests::until;
use tonic::Code;

use crate::stage::{Stage, condition, field, name, refused};

fn with_home(request: CreateSessionRequest) -> CreateSessionRequest {
    let spec = SessionSpec { persistent_home: true, ..request.spec.unwrap() };
    CreateSessionRequest { spec: Some(spec), ..request }
}

#[tokio::test]
async fn a_home_outlives_sleep_and_sessions_until_it_is_purged() {
    let Some(stage) = Stage::new().await else { return };
    let mut request = with_home(stage.request());
    request.spec.as_mut().unwrap().volume_mounts =
        vec![VolumeMount { name: "cache".into(), mount_path: "/cache".into(), ..Default::default() }];
    let id = request.session_id.clone();
    let created = stage.create(&request).await;
    assert_eq!(created.phase, "Running");
    assert_eq!(created.node_id, stage.container(&id).await.id.unwrap());
    assert!(stage.fetch(&id, "/").await.contains(&format!("session {id}")), "it knows its id");
    assert_eq!(stage.fetch(&id, "/starts").await.lines().count(), 1);

    // To sleep, twice.
    for _ in 0..2 {
        assert_eq!(stage.hibernate(&id).await.unwrap().phase, "Hibernated");
    }
    let status = stage.status(&id).await.unwrap();
    assert_eq!(status.phase, "Hibernated");
    assert_eq!(condition(&status.conditions, "Ready").reason, "Stopped");
    assert_eq!(stage.container(&id).await.state.unwrap().running, Some(false));
    refused(stage.access(&id, "").await, Code::FailedPrecondition);
    refused(stage.metrics(&id).await, Code::FailedPrecondition);

    // And up again, twice, at an address that answers.
    for _ in 0..2 {
        assert_eq!(stage.wake(&id).await.unwrap().phase, "Running");
    }
    assert_eq!(stage.fetch(&id, "/starts").await.lines().count(), 2, "the home is the same");

    // Gone, twice; the home is still there, and its next session finds it.
    for _ in 0..2 {
        stage.delete(&id, None).await.unwrap();
    }
    assert!(!stage.engine.exists(&name(&id)).await);
    let left = stage.engine.volumes(&stage.controller).await;
    assert!(matches!(left.as_slice(), [home] if home.starts_with("ss-home.")), "{left:?}");
    let other = CreateSessionRequest { session_id: format!("{id}b"), ..with_home(stage.request()) };
    stage.create(&other).await;
    assert_eq!(stage.fetch(&other.session_id, "/starts").await.lines().count(), 3);

    // Not while it is in use, and then by its key alone.
    refused(stage.delete(&id, Some(&request.user_id)).await, Code::FailedPrecondition);
    stage.delete(&other.session_id, None).await.unwrap();
    stage.delete(&id, Some(&request.user_id)).await.unwrap();
    assert!(stage.engine.volumes(&stage.controller).await.is_empty());
    stage.end().await;
}

#[tokio::test]
async fn the_engine_holds_the_container_to_its_limits() {
    let Some(stage) = Stage::new().await else { return };
    let mut request = stage.request();
    request.controller_config =
        r#"{"user": "1000:1000", "init": true, "command": ["/bin/sh", "-c", "sleep 1000"],
            "health_check": {"command": ["true"], "interval_ms": 1000}}"#
            .into();
    stage.create(&request).await;
    let id = &request.session_id;
    let container = stage.container(id).await;
    let config = container.config.unwrap();
    assert_eq!(config.user.as_deref(), Some("1000:1000"));
    assert_eq!(config.healthcheck.unwrap().test.unwrap(), ["CMD", "true"]);
    assert!(config.env.unwrap().contains(&format!("SESSION_ID={id}")));
    let labels = config.labels.unwrap();
    assert_eq!(labels[CONTROLLER], stage.controller);
    assert_eq!(labels["streamspace.session_id"], *id);
    assert_eq!(labels["streamspace.user_id"], request.user_id);
    let host = container.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)), "no swap on top");
    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert_eq!((host.pids_limit, host.shm_size), (Some(4096), Some(256 << 20)));
    assert!(host.tmpfs.unwrap()["/tmp"].contains("exec"));
    assert_eq!(host.init, Some(true));
    assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::UNLESS_STOPPED));
    let log = host.log_config.unwrap().config.unwrap();
    assert_eq!((log["max-size"].as_str(), log["max-file"].as_str()), ("10m", "3"));
    let ports = container.network_settings.unwrap().ports.unwrap();
    let bindings = ports["3000/tcp"].as_ref().unwrap();
    assert!(bindings.iter().all(|binding| binding.host_ip.as_deref() == Some("127.0.0.1")), "{bindings:?}");

    until("the health check", async || {
        let status = stage.status(id).await.unwrap();
        (condition(&status.conditions, "Ready").status == "True").then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn a_lost_reply_is_made_up_for_and_another_spec_is_a_conflict() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    let first = stage.create(&request).await;
    assert_eq!(stage.create(&request).await.node_id, first.node_id);
    let other = CreateSessionRequest { spec_hash: "two".into(), ..request.clone() };
    refused(stage.step(&other).await, Code::AlreadyExists);
    assert_eq!(stage.listed().await.len(), 1);

    // Made and not started: killed in between.
    let half = stage.request();
    stage.by_hand_as(&half).await;
    let seen = stage.status(&half.session_id).await.unwrap();
    assert_eq!((seen.phase.as_str(), seen.conditions[0].reason.as_str()), ("Pending", "NotStarted"));
    assert_eq!(stage.create(&half).await.phase, "Running");

    // The same, and then it is to sleep.
    let unwanted = stage.request();
    stage.by_hand_as(&unwanted).await;
    assert_eq!(stage.hibernate(&unwanted.session_id).await.unwrap().phase, "Hibernated");
    assert_eq!(stage.status(&unwanted.session_id).await.unwrap().phase, "Hibernated");
    stage.end().await;
}

#[tokio::test]
async fn delete_is_legal_in_every_phase() {
    let Some(stage) = Stage::new().await else { return };
    let created = stage.request();
    stage.by_hand_as(&created).await;
    let running = stage.request();
    stage.create(&running).await;
    let paused = stage.request();
    stage.create(&paused).await;
    stage.engine.0.pause_container(&name(&paused.session_id)).await.unwrap();
    assert_eq!(stage.status(&paused.session_id).await.unwrap().conditions[0].reason, "Paused");
    let exited = stage.request();
    stage.create(&exited).await;
    stage.hibernate(&exited.session_id).await.unwrap();
    let restarting = stage.script("exit 3");
    stage.create(&restarting).await;
    let missing = stage.request();

    for request in [created, running, paused, exited, restarting, missing] {
        stage.delete(&request.session_id, None).await.unwrap();
        assert!(!stage.engine.exists(&name(&request.session_id)).await);
        refused(stage.status(&request.session_id).await, Code::NotFound);
    }
    stage.end().await;
}

#[tokio::test]
async fn a_paused_session_sleeps_and_wakes() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    let id = &request.session_id;
    stage.create(&request).await;
    stage.engine.0.pause_container(&name(id)).await.unwrap();
    assert_eq!(stage.wake(id).await.unwrap().phase, "Running");
    stage.engine.0.pause_container(&name(id)).await.unwrap();
    assert_eq!(stage.hibernate(id).await.unwrap().phase, "Hibernated");
    stage.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_any_call() {
    let Some(stage) = Stage::new().await else { return };
    let id = stage.request().session_id;
    refused(stage.status(&id).await, Code::NotFound);
    refused(stage.hibernate(&id).await, Code::NotFound);
    refused(stage.wake(&id).await, Code::NotFound);
    refused(stage.metrics(&id).await, Code::NotFound);
    refused(stage.access(&id, "").await, Code::NotFound);
    let logs = streamspace_proto::controller::v1::GetSessionLogsRequest {
        session_id: id,
        follow: true,
        ..Default::default()
    };
    refused(stage.logs(logs).await, Code::NotFound);
    stage.end().await;
}

#[tokio::test]
async fn every_service_is_reached_by_name() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    stage.create(&request).await;
    let id = &request.session_id;
    let points = stage.access(id, "").await.unwrap();
    let services: Vec<_> = points.iter().map(|point| point.service.as_str()).collect();
    assert_eq!(services, ["web", "http"]);
    assert_eq!(stage.access(id, "http").await.unwrap().len(), 1);
    refused(stage.access(id, "rdp").await, Code::NotFound);
    stage.end().await;
}

#[tokio::test]
async fn the_controller_says_what_its_engine_can_do_and_refuses_the_rest_by_field() {
    let Some(stage) = Stage::new().await else { return };
    let can = stage.client.clone().get_capabilities(GetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert!(can.supports_hibernation && can.supports_persistent_storage && can.supports_networking);
    assert!(can.supports_metrics && can.supports_logs && can.supports_watch);
    assert!(!can.capacity.unwrap().total_memory.is_empty());
    let engine = stage.engine.0.info().await.unwrap();
    assert_eq!(can.supports_gpu, engine.runtimes.unwrap().contains_key("nvidia"));

    let isolated =
        CreateSessionRequest { controller_config: r#"{"isolation": "hyperv"}"#.into(), ..stage.request() };
    assert_eq!(
        field(&refused(stage.step(&isolated).await, Code::Unimplemented)),
        "controller_config.isolation"
    );
    let unknown =
        CreateSessionRequest { controller_config: r#"{"isolation": "none"}"#.into(), ..stage.request() };
    assert_eq!(
        field(&refused(stage.step(&unknown).await, Code::InvalidArgument)),
        "controller_config.isolation"
    );
    if !can.supports_gpu {
        let gpu = CreateSessionRequest { controller_config: r#"{"gpus": 1}"#.into(), ..stage.request() };
        let status = refused(stage.step(&gpu).await, Code::FailedPrecondition);
        assert_eq!(field(&status), "controller_config.gpus");
        assert!(status.message().contains("device driver"), "{status:?}");
    }
    assert!(
        stage.engine.containers(&stage.controller).await.is_empty(),
        "nothing is left of a refused create"
    );
    stage.end().await;
}
