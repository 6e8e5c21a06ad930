//! What the host adds, and the plugin never sees.

use std::path::Path;

use serde_json::json;
use streamspace_runtime::{BasicConfig, CredentialConfig, HttpConfig, SecretSource};

use crate::server::Server;
use crate::stage::{Controller, step};

fn header(file: &Path) -> CredentialConfig {
    CredentialConfig {
        header: Some("Authorization".to_owned()),
        format: Some("PVEAPIToken={secret}".to_owned()),
        secret: Some(SecretSource::File(file.to_owned())),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_credential_is_added_out_of_the_plugins_sight_and_read_anew_every_time() {
    let server = Server::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "root@pam!one=1\n").unwrap();
    let config = HttpConfig { credential: Some(header(file.path())), ..HttpConfig::new(&server.url) };
    let Some(controller) = Controller::of(config).await else { return };
    let outcome = controller.send(json!({})).await;
    assert!(!outcome.0.to_string().contains("root@pam"), "{outcome:?}");
    std::fs::write(file.path(), "root@pam!two=2").unwrap();
    let outcomes = controller
        .run(json!([
            step("send", json!({})),
            step("stream", json!({})),
            {"do": "connect"},
            step("send-pinned", json!({})),
            // What the host says, the plugin cannot say otherwise, not even on a connection of its own.
            step("send-pinned", json!({"headers": [["Authorization", "x"]]})),
        ]))
        .await;
    assert!(outcomes[..4].iter().all(|outcome| outcome.0["error"].is_null()), "{outcomes:?}");
    outcomes[4].failed("ErrorKind::Denied");
    let sent: Vec<_> = server.seen().iter().flat_map(|seen| seen.header("authorization")).collect();
    assert_eq!(sent[0], "PVEAPIToken=root@pam!one=1");
    assert_eq!(sent[1..], vec!["PVEAPIToken=root@pam!two=2"; 3]);

    std::fs::write(file.path(), "s3cret\r\nX-Evil: 1").unwrap();
    let message = controller.send(json!({})).await.failed("ErrorKind::FailedPrecondition");
    assert!(!message.contains("s3cret"), "{message}");
    std::fs::remove_file(file.path()).unwrap();
    let message = controller.send(json!({})).await.failed("ErrorKind::FailedPrecondition");
    assert!(message.contains(&file.path().display().to_string()), "{message}");
    assert_eq!(server.seen().len(), 4, "nothing leaves without its credential");
}

#[tokio::test]
async fn basic_and_bearer_are_written_as_the_standards_say() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "open sesame").unwrap();
    let secret = SecretSource::File(file.path().to_owned());
    let basic = BasicConfig { username: "Aladdin".to_owned(), password: secret.clone() };
    for (credential, value) in [
        (CredentialConfig { basic: Some(basic), ..Default::default() }, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (CredentialConfig { bearer: Some(secret), ..Default::default() }, "Bearer open sesame"),
    ] {
        let server = Server::start().await;
        let config = HttpConfig { credential: Some(credential), ..HttpConfig::new(&server.url) };
        assert!(!format!("{config:?}").contains("sesame"));
        let Some(controller) = Controller::of(config).await else { return };
        controller.send(json!({})).await;
        assert_eq!(server.only().header("authorization"), [value]);
    }
}

#[tokio::test]
async fn cookies_of_a_server_behind_a_base_are_those_of_the_whole_path() {
    let server = Server::start().await;
    let config = HttpConfig { cookies: true, ..HttpConfig::new(format!("{}/base", server.url)) };
    let Some(controller) = Controller::of(config).await else { return };
    // One without a path of its own belongs to the folder that the server sees.
    controller.send(json!({"path": "/enter"})).await;
    controller.send(json!({"path": "/list"})).await;
    let sent = server.seen().pop().unwrap().header("cookie");
    assert_eq!(sent, ["folder=base"]);
}

#[tokio::test]
async fn cookies_are_kept_between_calls_if_that_is_granted() {
    let server = Server::start().await;
    let config = HttpConfig { cookies: true, ..HttpConfig::new(&server.url) };
    let Some(controller) = Controller::of(config).await else { return };
    let answer = controller.send(json!({"path": "/login"})).await;
    assert_eq!((answer.status(), answer.header("set-cookie").len()), (200, 0));
    controller.send(json!({"path": "/a/b"})).await;
    let outcomes = controller.run(json!([{"do": "connect"}, step("send-pinned", json!({}))])).await;
    assert_eq!(outcomes[1].status(), 200);
    let cookies: Vec<_> = server.seen().iter().map(|seen| seen.header("cookie")).collect();
    assert_eq!(cookies, [vec![], vec!["sid=abc".to_owned()], vec!["sid=abc".to_owned()]]);
    // Not those of another controller.
    let other = Controller::of(HttpConfig { cookies: true, ..HttpConfig::new(&server.url) }).await.unwrap();
    other.send(json!({})).await;
    assert_eq!(server.seen().pop().unwrap().header("cookie"), [""; 0]);

    let without = Controller::at(&server).await.unwrap();
    assert_eq!(without.send(json!({"path": "/login"})).await.header("set-cookie").len(), 3);
    without.send(json!({})).await;
    assert_eq!(server.seen().pop().unwrap().header("cookie"), [""; 0]);
}
