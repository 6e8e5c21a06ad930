//! The end of the time that a call has.

use std::time::{Duration, Instant};

use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{CreateSessionRequest, SessionSpec};
use streamspace_runtime::Backend;
use streamspace_shell::Shell;
use tonic::Code;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::calls::Log;
use crate::engine::MadeUpEngine;
use crate::stage::{Controller, NOWHERE, PATIENCE, config, expect, hostile, limited, reason, session_id};

#[tokio::test]
async fn a_mutation_does_not_begin_without_time() {
    let engine = MadeUpEngine::start();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    let status = controller.create_within("ask-the-engine", Duration::from_millis(40)).await.unwrap_err();
    expect(&status, "hardly any time", Code::ResourceExhausted, "BUSY");
    assert_eq!(engine.requests(), [""; 0]);
    controller.create("ask-the-engine").await.unwrap();
}

#[tokio::test]
async fn calls_that_end_at_their_deadline_are_seen_over_a_socket_as_well() {
    let Some(plugin) = hostile().await else { return };
    let backend = Backend::bind(plugin, config(NOWHERE)).await.unwrap();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let service = Shell::new(backend).into_service();
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let client = ControllerServiceClient::connect(format!("http://{address}")).await.unwrap();
    // More than enough of them for a plugin that fails to be left alone.
    for _ in 0..5 {
        let sleeping = (0..6).map(|_| {
            let request = CreateSessionRequest {
                session_id: session_id(),
                user_id: "alice".to_owned(),
                spec: Some(SessionSpec { base_image: "sleep".to_owned(), ..Default::default() }),
                ..Default::default()
            };
            let mut client = client.clone();
            async move { client.create_session(limited(request, Duration::from_secs(2))).await.unwrap_err() }
        });
        let ended = futures::future::join_all(sleeping).await;
        if ended.iter().any(|status| reason(status) == "PLUGIN_FAILING") {
            return;
        }
    }
    panic!("nobody noticed");
}

#[tokio::test]
async fn a_mutation_whose_caller_has_gone_is_waited_for() {
    let Some(plugin) = hostile().await else { return };
    let backend = Backend::bind(plugin, config(NOWHERE)).await.unwrap();
    backend.idle().await;
    let controller = Controller::over(backend.clone());
    // It naps for two and a half seconds in all, and its caller does not wait for that.
    let naps = controller.create("naps");
    tokio::time::timeout(Duration::from_millis(500), naps).await.unwrap_err();
    let started = Instant::now();
    backend.idle().await;
    assert!(started.elapsed() >= Duration::from_secs(1), "it was under way");
    // And the seat goes on.
    controller.works().await;
    tokio::time::timeout(PATIENCE, backend.idle()).await.unwrap();
}

#[tokio::test]
async fn only_what_may_have_changed_something_is_an_alarm_when_it_is_given_up() {
    let engine = MadeUpEngine::silent();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    let (log, _listening) = Log::listen();
    let timeout = Duration::from_secs(3);
    controller.look("ask-the-engine", timeout).await.unwrap_err();
    let look = controller.look("ask-the-engine", timeout);
    tokio::time::timeout(Duration::from_millis(500), look).await.unwrap_err();
    let text = log.text();
    assert!(!text.contains("WARN"), "{text}");
    controller.create_within("remove-what-is-not-ours", timeout).await.unwrap_err();
    let text = log.text();
    let alarms: Vec<_> = text.lines().filter(|line| line.contains("its effect is unknown")).collect();
    assert!(alarms.len() == 1 && alarms[0].contains("WARN"), "{text}");
    assert!(alarms[0].contains("ctrl-test") && alarms[0].contains("docker.container-remove"), "{text}");
}
