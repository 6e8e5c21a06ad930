//! `streamspace controller serve`: a controller without an API server beside it, called by clients that we did not
//! write and by our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use streamspace_tests::controller::StandaloneController;
use streamspace_tests::docker::Engine;
use streamspace_tests::{provided, until};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICE: &str = "streamspace.controller.v1.ControllerService";

#[tokio::test]
async fn a_python_client_takes_a_session_through_its_life() {
    let (Some(python), Some(image), Some(socket)) = (
        provided("STREAMSPACE_TEST_PYTHON"),
        provided("STREAMSPACE_TEST_IMAGE"),
        provided("STREAMSPACE_TEST_DOCKER"),
    ) else {
        return;
    };
    let Some(controller) = StandaloneController::start(&format!("unix://{socket}")) else { return };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new(python)
        .arg(tests.join("python/lifecycle.py"))
        .arg(tests.join("../proto"))
        .args([controller.address(), &image, &format!("python-{}", std::process::id())])
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    Engine::connect().await.unwrap().clean(&controller.id()).await;
    assert!(run.status.success() && said.trim_end().ends_with("done"), "{said}{complained}");
}

#[tokio::test]
async fn health_and_reflection_are_served_and_sigterm_ends_it() {
    let Some(mut controller) = StandaloneController::start("unix:///nonexistent/docker.sock") else { return };
    let url = format!("http://{}", controller.address());
    let channel = Endpoint::new(url).unwrap().connect().await.unwrap();

    // The process serves; its backend is away.
    let health = HealthClient::new(channel.clone());
    let ask = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.clone().check(request).await.map(|answer| answer.into_inner().status())
    };
    assert_eq!(ask("").await.unwrap(), ServingStatus::Serving);
    until("the health of the service", async || {
        ask(SERVICE).await.is_ok_and(|status| status == ServingStatus::NotServing).then_some(())
    })
    .await;

    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let services: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(services.iter().any(|name| name == SERVICE), "{services:?}");

    // A stream that is open would be waited for.
    drop(answers);
    let status = controller.terminate();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn only_the_loopback_interface_is_served_without_insecure() {
    let (Some(program), Some(plugins)) =
        (provided("STREAMSPACE_TEST_BIN"), provided("STREAMSPACE_TEST_PLUGINS"))
    else {
        return;
    };
    let plugin = Path::new(&plugins).join("docker.wasm");
    let refused = Command::new(program)
        .args(["controller", "serve", "--name", "test", "--listen", "0.0.0.0:0", "--plugin"])
        .arg(plugin)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--insecure"), "{said}");
}
