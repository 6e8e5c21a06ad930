//! Containers under other names than they were made: renamed ones, and copies.

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, RemoveContainerOptions, RemoveImageOptions,
    RenameContainerOptions,
};
use streamspace_proto::controller::v1::{CreateSessionRequest, VolumeMount};
use tonic::Code;

use crate::stage::{Stage, name, refused};

async fn rename(stage: &Stage, from: &str, to: &str) {
    let options = RenameContainerOptions { name: to.to_owned() };
    stage.engine.0.rename_container(from, options).await.unwrap();
}

async fn remove(stage: &Stage, container: &str) {
    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    stage.engine.0.remove_container(container, Some(options)).await.unwrap();
}

#[tokio::test]
async fn a_renamed_container_stays_the_session() {
    let Some(stage) = Stage::new().await else { return };
    let mut request = stage.request();
    request.spec.as_mut().unwrap().volume_mounts =
        vec![VolumeMount { name: "cache".into(), mount_path: "/cache".into(), ..Default::default() }];
    let id = request.session_id.clone();
    let node = stage.create(&request).await.node_id;
    let other = format!("{}-renamed", stage.controller);
    rename(&stage, &name(&id), &other).await;

    let is_it = async |phase: &str| {
        let status = stage.status(&id).await.unwrap();
        assert_eq!((status.phase.as_str(), status.node_id.as_str()), (phase, node.as_str()));
        let listed = stage.listed().await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((listed[0].session_id.as_str(), listed[0].phase.as_str()), (id.as_str(), phase));
        assert_eq!(stage.engine.containers(&stage.controller).await.len(), 1);
    };
    is_it("Running").await;
    assert!(stage.fetch(&id, "/").await.contains(&id));
    stage.metrics(&id).await.unwrap();
    assert_eq!(stage.create(&request).await.node_id, node, "made once");
    stage.hibernate(&id).await.unwrap();
    is_it("Hibernated").await;
    stage.wake(&id).await.unwrap();
    is_it("Running").await;

    // Nor does it help to take its name.
    stage.by_hand(&name(&id), &[]).await;
    is_it("Running").await;
    stage.delete(&id, None).await.unwrap();
    assert!(!stage.engine.exists(&other).await);
    assert!(stage.engine.exists(&name(&id)).await, "that one is somebody else's");
    assert!(stage.engine.volumes(&stage.controller).await.is_empty());
    remove(&stage, &name(&id)).await;
    refused(stage.status(&id).await, Code::NotFound);
    stage.end().await;
}

#[tokio::test]
async fn names_that_were_swapped_deceive_nobody() {
    let Some(stage) = Stage::new().await else { return };
    let (one, two) = (stage.request(), stage.request());
    let (first, second) = (stage.create(&one).await.node_id, stage.create(&two).await.node_id);
    let aside = format!("{}-aside", stage.controller);
    rename(&stage, &name(&one.session_id), &aside).await;
    rename(&stage, &name(&two.session_id), &name(&one.session_id)).await;
    rename(&stage, &aside, &name(&two.session_id)).await;
    for (request, node) in [(&one, &first), (&two, &second)] {
        let status = stage.status(&request.session_id).await.unwrap();
        assert_eq!((&status.session_id, &status.node_id), (&request.session_id, node));
    }
    stage.delete(&one.session_id, None).await.unwrap();
    assert_eq!(stage.status(&two.session_id).await.unwrap().node_id, second, "the other one is still there");
    let refusal = refused(stage.status(&one.session_id).await, Code::AlreadyExists);
    assert!(refusal.message().contains("bears the name"), "{refusal:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_copy_of_a_session_is_nobodys() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    let id = request.session_id.clone();
    stage.create(&request).await;
    let options = CommitContainerOptions { container: Some(name(&id)), pause: false, ..Default::default() };
    let image = stage.engine.0.commit_container(options, ContainerConfig::default()).await.unwrap().id;
    // Under a name of its own, and under one that could be a session's.
    let copies = [format!("{}-copy", stage.controller), format!("ss-{}-copy", stage.controller)];
    for copy in &copies {
        let options = CreateContainerOptions { name: Some(copy.clone()), platform: String::new() };
        let body = ContainerCreateBody { image: Some(image.clone()), ..Default::default() };
        stage.engine.0.create_container(Some(options), body).await.unwrap();
        let labels = stage.engine.inspect(copy).await.config.unwrap().labels.unwrap();
        assert_eq!(labels["streamspace.session_id"], id, "it bears the marks");
    }
    assert_eq!(stage.listed().await.len(), 1);
    stage.delete(&id, None).await.unwrap();
    refused(stage.status(&id).await, Code::NotFound);
    assert!(stage.listed().await.is_empty());
    for copy in &copies {
        assert!(stage.engine.exists(copy).await, "{copy} is not touched");
    }

    // A session of an image that was a session: its own marks count.
    let mut spec = request.spec.clone().unwrap();
    spec.base_image.clone_from(&image);
    let again = CreateSessionRequest { spec: Some(spec), ..stage.request() };
    let node = stage.create(&again).await.node_id;
    rename(&stage, &name(&again.session_id), &format!("{}-again", stage.controller)).await;
    assert_eq!(stage.status(&again.session_id).await.unwrap().node_id, node);
    stage.delete(&again.session_id, None).await.unwrap();

    for copy in &copies {
        remove(&stage, copy).await;
    }
    stage.engine.0.remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();
    stage.end().await;
}
