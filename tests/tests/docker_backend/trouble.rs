//! Neighbours, look-alikes, and an engine that goes away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::RemoveContainerOptions;
use futures::StreamExt as _;
use streamspace_proto::controller::v1::HealthCheckRequest;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::{Code, Request};

use crate::stage::{Stage, name, refused};

/// A way to the engine that can be cut.
pub struct Way {
    folder: TempDir,
    cuts: watch::Sender<u64>,
    listener: tokio::task::JoinHandle<()>,
}

impl Way {
    pub fn to(socket: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let (cuts, cut) = watch::channel(0);
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let target: Arc<PathBuf> = Arc::new(socket.into());
        let listener = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut cut) = (Arc::clone(&target), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut engine = UnixStream::connect(&*target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut engine) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { folder, cuts, listener }
    }

    pub fn path(&self) -> String {
        self.folder.path().join("engine.sock").to_str().unwrap().to_owned()
    }

    /// Ends all connections; new ones are possible.
    pub fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Ends all connections for good.
    pub fn close(&self) {
        self.listener.abort();
        std::fs::remove_file(self.path()).unwrap();
        self.cut();
    }
}

#[tokio::test]
async fn an_engine_that_says_nothing_is_unhealthy_and_no_fault_of_the_plugin() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            held.push(client);
        }
    });
    let endpoint = crate::stage::endpoint(socket.to_str().unwrap());
    let with = |config: &mut streamspace_runtime::BackendConfig| {
        config.endpoints.insert("engine".into(), endpoint);
    };
    let Some(stage) = Stage::with(with).await else { return };
    let check = || {
        let mut request = Request::new(HealthCheckRequest {});
        request.set_timeout(Duration::from_secs(3));
        let mut client = stage.client.clone();
        async move { client.health_check(request).await.unwrap().into_inner() }
    };
    // More than enough of them for a plugin that fails to be left alone.
    let together = futures::future::join_all((0..8).map(|_| check())).await;
    for health in together.into_iter().chain([check().await]) {
        assert_eq!(health.status, "unhealthy");
        assert!(health.message.contains("the engine did not answer in time"), "{}", health.message);
    }
    stage.end().await;
}

/// Runs a program in a session's container; gives whether it ended well.
async fn runs(stage: &Stage, id: &str, command: &[&str]) -> bool {
    let options = CreateExecOptions {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = stage.engine.0.create_exec(&name(id), options).await.unwrap().id;
    let StartExecResults::Attached { mut output, .. } = stage.engine.0.start_exec(&exec, None).await.unwrap()
    else {
        panic!("not attached");
    };
    while output.next().await.is_some() {}
    stage.engine.0.inspect_exec(&exec).await.unwrap().exit_code == Some(0)
}

#[tokio::test]
async fn sessions_cannot_reach_each_other() {
    let Some(stage) = Stage::new().await else { return };
    let (one, two) = (stage.request(), stage.request());
    stage.create(&one).await;
    stage.create(&two).await;
    stage.fetch(&one.session_id, "/").await;
    stage.fetch(&two.session_id, "/").await;
    let networks = stage.container(&two.session_id).await.network_settings.unwrap().networks.unwrap();
    let address = networks["ss-sessions"].ip_address.clone().unwrap();
    let connect = format!("nc -w 3 {address} 3000 </dev/null");
    assert!(runs(&stage, &two.session_id, &["sh", "-c", &connect]).await, "the server listens there");
    assert!(!runs(&stage, &one.session_id, &["sh", "-c", &connect]).await, "and no neighbour reaches it");
    stage.end().await;
}

#[tokio::test]
async fn a_foreign_container_under_our_name_is_left_alone() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    let id = request.session_id.as_str();
    let session = [("streamspace.session_id", id), ("streamspace.spec_hash", "one")];
    stage.by_hand(&name(id), &session).await;
    let before = stage.container(id).await;
    refused(stage.step(&request).await, Code::AlreadyExists);
    refused(stage.hibernate(id).await, Code::AlreadyExists);
    refused(stage.wake(id).await, Code::AlreadyExists);
    refused(stage.status(id).await, Code::AlreadyExists);
    refused(stage.metrics(id).await, Code::AlreadyExists);
    refused(stage.access(id, "").await, Code::AlreadyExists);
    assert!(stage.listed().await.is_empty());
    // There is nothing of ours to delete.
    stage.delete(id, None).await.unwrap();
    let after = stage.container(id).await;
    assert_eq!((after.id, after.state), (before.id.clone(), before.state));
    let force = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    stage.engine.0.remove_container(&before.id.unwrap(), Some(force)).await.unwrap();
    stage.end().await;
}
