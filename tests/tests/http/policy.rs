//! What is refused, with no request at the server.

use serde_json::json;
use streamspace_runtime::{BindError, HttpConfig};

use crate::server::Server;
use crate::stage::{Controller, step};

#[tokio::test]
async fn what_leads_out_or_could_be_misread_never_leaves() {
    let server = Server::start().await;
    let Some(controller) = Controller::of(HttpConfig::new(format!("{}/base", server.url))).await else { return };
    for path in [
        "", "relative", "http://127.0.0.1/", "//127.0.0.1/x", "/a/../b", "/..", "/a/./b", "/%2e%2e/b", "/.%2E/b",
        "/%252e%252e/b", "/a%2fb", "/a%5Cb", "/a%252fb", "/a\\b", "/a//b", "/a b", "/a\r\nX-Evil: 1", "/a%0d%0aX: 1",
        "/a%00", "/a#b", "/..;/b", "/ä", "/a?b=c\r\nX: 1", "/a?b c",
    ] {
        controller.send(json!({"path": path})).await.failed("ErrorKind::Invalid");
    }
    for (name, value) in [("X-A", "1\r\nX-Evil: 1"), ("X-A", "1\nX-Evil: 1"), ("X-A\r\nX-Evil", "1"), ("X A", "1"), ("X-A", "\u{0}"), ("", "1")] {
        controller.send(json!({"headers": [[name, value]]})).await.failed("ErrorKind::Invalid");
    }
    for name in [
        "Authorization", "authorization", "Cookie", "Host", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
        "Transfer-Encoding", "Content-Length", "Expect", "Proxy-Authorization", "Proxy-Connection", "Impersonate-User",
        "Impersonate-Group", "impersonate-extra-x", "X-Forwarded-For", "X_Forwarded_Host", "X-HTTP-Method-Override",
    ] {
        controller.send(json!({"headers": [[name, "x"]]})).await.failed("ErrorKind::Denied");
    }
    for method in ["CONNECT", "TRACE"] {
        controller.send(json!({"method": method})).await.failed("ErrorKind::Denied");
    }
    for method in ["get", "", "GET / HTTP/1.1\r\nX: 1\r\n\r\nGET"] {
        controller.send(json!({"method": method})).await.failed("ErrorKind::Invalid");
    }
    // The same ways to send.
    let outcomes = controller
        .run(json!([
            step("stream", json!({"path": "/../x"})),
            {"do": "connect"},
            step("send-pinned", json!({"path": "/../x"})),
            step("send-pinned", json!({"headers": [["Cookie", "x"]]})),
            step("stream-pinned", json!({"headers": [["Host", "x"]]})),
        ]))
        .await;
    for (at, kind) in [(0, "Invalid"), (2, "Invalid"), (3, "Denied"), (4, "Denied")] {
        outcomes[at].failed(&format!("ErrorKind::{kind}"));
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn only_requests_that_are_asked_for_and_granted_leave() {
    let server = Server::start().await;
    let allow = Some(vec!["GET /items/*".to_owned(), "GET /other/**".to_owned()]);
    let Some(controller) = Controller::of(HttpConfig { allow, ..HttpConfig::new(&server.url) }).await else { return };
    for (endpoint, method, path, allowed) in [
        ("api", "GET", "/items/1", true),
        ("api", "GET", "/items/1?deep=/x", true),
        ("api", "GET", "/other/a/b", true),
        ("api", "GET", "/items", false),
        ("api", "GET", "/items/1/2", false),
        ("api", "DELETE", "/items/1", false),
        ("api", "GET", "/%69tems/1", false),
        ("narrow", "GET", "/items/1", true),
        ("narrow", "GET", "/other/a", false),
        ("narrow", "POST", "/items", false),
        ("nobody", "GET", "/items/1", false),
    ] {
        let before = server.seen().len();
        let outcome = controller.send(json!({"endpoint": endpoint, "method": method, "path": path})).await;
        if allowed {
            assert_eq!(outcome.status(), 200, "{endpoint}: {method} {path}");
        } else {
            outcome.failed("ErrorKind::Denied");
        }
        assert_eq!(server.seen().len() - before, usize::from(allowed), "{endpoint}: {method} {path}");
    }
    controller.run(json!([{"do": "connect", "endpoint": "nobody"}])).await[0].failed("ErrorKind::Denied");
}

#[tokio::test]
async fn a_grant_that_cannot_be_kept_is_no_grant() {
    for (config, key) in [
        (HttpConfig::new("http://192.0.2.1:80"), "http: "),
        (HttpConfig::new("https://user:hunter2@127.0.0.1"), "http: "),
        (HttpConfig { allow: Some(vec!["GET items".into()]), ..HttpConfig::new("http://127.0.0.1:1") }, "allow: "),
    ] {
        let Some(result) = Controller::try_of(config).await else { return };
        let Err(error) = result else { panic!("{key}: it was bound") };
        let BindError::Endpoint { name, reason } = &error else { panic!("{error:?}") };
        assert!(name == "api" && reason.starts_with(key) && !reason.contains("hunter2"), "{error}");
    }
}
