//! What the server does before a backend comes into it: input, configuration, plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use reqwest::StatusCode;
use serde_json::{Value, json};
use streamspace_tests::server::Installation;
use streamspace_tests::{provided, until};

const SESSIONS: &str = "/api/v1/sessions";

#[tokio::test]
async fn bad_input_is_named_field_by_field_and_nothing_is_stored() {
    let Some(installation) = Installation::new() else { return };
    let server = installation.start();
    let api = server.api();
    let spec = |spec: Value| json!({"user_id": "a", "spec": spec});
    for (body, fields) in [
        (json!({"user_id": "a"}), vec!["spec.base_image"]),
        (spec(json!({})), vec!["spec.base_image"]),
        (
            spec(json!({"base_image": "x", "resources": {"memory": "lots", "cpu": "-1"}})),
            vec!["spec.resources.cpu", "spec.resources.memory"],
        ),
        (
            spec(json!({"base_image": "x", "ports": [{"name": "a", "container_port": 70000}]})),
            vec!["spec.ports[0].container_port"],
        ),
        (spec(json!({"base_image": "x", "idle_timeout": "soon"})), vec!["spec.idle_timeout"]),
        (spec(json!({"base_image": "x", "colour": "red"})), vec!["spec.colour"]),
        (json!({"user_id": "a".repeat(513), "spec": {"base_image": "x"}}), vec!["user_id"]),
        (json!({"user_id": "a", "template_id": "nope", "spec": {"base_image": "x"}}), vec!["template_id"]),
        (
            json!({"user_id": "a", "controller_id": "ctrl-nope", "spec": {"base_image": "x"}}),
            vec!["controller_id"],
        ),
    ] {
        let refused = api.post(SESSIONS, &body).await;
        assert!(matches!(refused.status.as_u16(), 400 | 422), "{body}: {refused:?}");
        assert!(refused.content_type.starts_with("application/problem+json"), "{refused:?}");
        assert_eq!(refused.fields(), fields, "{body}: {refused:?}");
    }
    for (content_type, body, status) in [
        ("application/json", "{", StatusCode::BAD_REQUEST),
        ("application/json", "[]", StatusCode::BAD_REQUEST),
        ("text/plain", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        assert_eq!(api.post_raw(SESSIONS, content_type, body).await.status, status, "{body}");
    }
    let large = format!("{{\"user_id\":\"{}\"}}", "a".repeat(2 << 20));
    assert_eq!(
        api.post_raw(SESSIONS, "application/json", &large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert!(api.sessions().await.is_empty());
    server.kill();
}

#[tokio::test]
async fn unknown_paths_methods_and_parameters_are_problems_too() {
    let Some(installation) = Installation::new() else { return };
    let server = installation.start();
    let api = server.api();
    for (path, status) in [
        ("/api/v1/nothing", StatusCode::NOT_FOUND),
        ("/api/v1/sessions/none", StatusCode::NOT_FOUND),
        ("/api/v1/sessions?limit=0", StatusCode::BAD_REQUEST),
        ("/api/v1/sessions?limit=many", StatusCode::BAD_REQUEST),
        ("/api/v1/sessions?cursor=%21", StatusCode::BAD_REQUEST),
        ("/api/v1/sessions?phase=Dancing", StatusCode::BAD_REQUEST),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.content_type.starts_with("application/problem+json"), "{path}: {answer:?}");
    }
    assert_eq!(api.delete("/api/v1/sessions").await.status, StatusCode::METHOD_NOT_ALLOWED);
    server.kill();
}

#[tokio::test]
async fn without_any_controller_a_session_is_refused_and_not_stored() {
    let Some(installation) = Installation::new() else { return };
    let server = installation.start();
    let refused = server.api().post(SESSIONS, &json!({"user_id": "a", "spec": {"base_image": "x"}})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(server.api().sessions().await.is_empty());
    server.kill();
}

#[tokio::test]
async fn a_plugin_that_this_release_does_not_know_waits_for_its_grant() {
    let (Some(installation), Some(hostile)) = (Installation::new(), provided("STREAMSPACE_TEST_HOSTILE"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(hostile, dir.path().join("hostile.wasm")).unwrap();
    std::fs::write(dir.path().join("broken.wasm"), b"nothing").unwrap();
    let installation = installation.plugins(dir.path());
    let server = installation.start();
    assert_eq!(server.api().get("/api/v1/admin/controllers").await.body, json!([]));
    let log = server.log();
    assert!(log.contains("awaiting grant") && log.contains("[controller.endpoints.engine]"), "{log}");
    assert!(log.contains("broken.wasm"), "{log}");
    server.kill();
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_place() {
    let endpoint = "[controller.endpoints.engine]\ndocker = \"unix:///nowhere\"\n";
    let controller = "[[controller]]\nname = \"a\"\nplugin = \"docker\"\n";
    for (config, words) in [
        ("colour = \"red\"".to_owned(), vec!["colour"]),
        (controller.to_owned(), vec!["`a`", "`engine`", "not granted"]),
        (
            format!("{controller}{endpoint}[controller.endpoints.other]\ndocker = \"unix:///x\"\n"),
            vec!["other"],
        ),
        (format!("{controller}config = {{ pids = 1 }}\n{endpoint}"), vec!["`a`", "config.pids"]),
        (format!("{controller}config = {{ colour = 1 }}\n{endpoint}"), vec!["`a`", "colour"]),
        (
            format!("{controller}[controller.endpoints.engine]\ndocker = \"tcp://10.0.0.1:2375\"\n"),
            vec!["endpoints.engine", "loopback"],
        ),
        ("database = \"mysql://x\"\n".to_owned(), vec!["sqlite://"]),
    ] {
        let Some(installation) = Installation::new() else { return };
        let said = installation.config(&config).start_refused();
        for word in words {
            assert!(said.contains(word), "{config}\n{said}");
        }
    }
}

#[tokio::test]
async fn an_empty_variable_is_none_and_a_mistyped_one_is_told() {
    let Some(mut installation) = Installation::new() else { return };
    for name in ["STREAMSPACE_CONFIG", "STREAMSPACE_LOG", "STREAMSPACE_DATABASE", "STREAMSPACE_CONTROLLER"] {
        installation = installation.environment(name, "");
    }
    let installation = installation.environment("STREAMSPACE_LISTN", "127.0.0.1:1");
    let server = installation.start();
    let log = server.log();
    assert!(log.contains("STREAMSPACE_LISTN") && !log.contains("STREAMSPACE_LOG"), "{log}");
    server.kill();
}

#[tokio::test]
async fn whoever_asks_twice_does_not_wait() {
    let Some(installation) = Installation::new() else { return };
    let server = installation.start();
    // A request that does not come to its end is waited for.
    let token = std::fs::read_to_string(server.data().join("admin.token")).unwrap();
    let mut request = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {SESSIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        token.trim()
    );
    request.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    request.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "it is being read");
    assert!(Command::new("kill").args(["-INT", &server.pid().to_string()]).status().unwrap().success());
    until("the stop", async || server.log().contains("stopping").then_some(())).await;
    assert_eq!(server.stop().await.code(), Some(143));
}

#[tokio::test]
async fn two_servers_do_not_share_one_sqlite_database() {
    let Some(installation) = Installation::new() else { return };
    let server = installation.start();
    let said = installation.start_refused();
    assert!(said.contains(installation.data().to_str().unwrap()), "{said}");
    assert!(server.api().sessions().await.is_empty(), "the first still serves");
    server.kill();
}
