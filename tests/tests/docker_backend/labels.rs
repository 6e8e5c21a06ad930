//! Images and containers with labels that nobody asked for. The engine sends all of them with every look and event.

use bollard::models::ContainerConfig;
use bollard::query_parameters::{CommitContainerOptions, RemoveImageOptions, StartContainerOptions};
use std::collections::HashMap;
use streamspace_proto::controller::v1::HealthCheckRequest;
use streamspace_tests::docker::CONTROLLER;
use tonic::Code;

use crate::stage::{Stage, name, next, refused};

#[tokio::test]
async fn labels_of_megabytes_reach_nobody() {
    // All labels together are several times what a call may take.
    let Some(stage) = Stage::with(|config| config.limits.memory = Some("6MiB".parse().unwrap())).await else {
        return;
    };
    let mut events = stage.watch("").await.unwrap();
    assert!(next(&mut events).await.resync);
    let much = "x".repeat(4 << 20);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let request = stage.request();
        let id = request.session_id.as_str();
        let labels = [
            (CONTROLLER, stage.controller.as_str()),
            ("streamspace.session_id", id),
            ("streamspace.spec_hash", request.spec_hash.as_str()),
            ("org.opencontainers.image.title", much.as_str()),
            ("streamspace.title", much.as_str()),
        ];
        stage.by_hand(&name(id), &labels).await;
        stage.engine.0.start_container(&name(id), None::<StartContainerOptions>).await.unwrap();
        ids.push(request.session_id);
    }
    let mut listed: Vec<_> = stage.listed().await.into_iter().map(|status| status.session_id).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
    let health = stage.client.clone().health_check(HealthCheckRequest {}).await.unwrap().into_inner();
    assert_eq!((health.status.as_str(), health.current_sessions), ("healthy", 3), "{}", health.message);
    stage.phase(&ids[0], "Running").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < ids.len() {
        let event = next(&mut events).await;
        seen.extend(event.status.map(|status| status.session_id));
    }
    stage.end().await;
}

#[tokio::test]
async fn an_image_with_too_many_labels_makes_no_session() {
    let Some(stage) = Stage::new().await else { return };
    let image = |bytes: usize| {
        let stage = &stage;
        async move {
            let made = format!("{}-of-{bytes}", stage.controller);
            stage.by_hand(&made, &[(CONTROLLER, &stage.controller)]).await;
            let options = CommitContainerOptions {
                container: Some(made.clone()),
                repo: Some(made.clone()),
                tag: Some("1".to_owned()),
                ..Default::default()
            };
            let labels = HashMap::from([("org.opencontainers.image.title".to_owned(), "x".repeat(bytes))]);
            let config = ContainerConfig { labels: Some(labels), ..Default::default() };
            stage.engine.0.commit_container(options, config).await.unwrap();
            format!("{made}:1")
        }
    };
    let (burdened, bearable) = (image(300 << 10).await, image(100 << 10).await);
    let mut request = stage.request();
    request.spec.as_mut().unwrap().base_image = burdened.clone();
    let refusal = refused(stage.step(&request).await, Code::FailedPrecondition);
    assert!(refusal.message().contains("labels"), "{refusal:?}");
    assert!(!stage.engine.exists(&name(&request.session_id)).await);

    request.spec.as_mut().unwrap().base_image = bearable.clone();
    stage.create(&request).await;
    stage.phase(&request.session_id, "Running").await;
    let client = stage.engine.clone();
    stage.end().await;
    for image in [burdened, bearable] {
        client.0.remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();
    }
}
