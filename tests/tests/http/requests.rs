//! Requests and answers as they are on the wire.

use std::time::{Duration, Instant};

use serde_json::json;
use streamspace_runtime::HttpConfig;
use streamspace_tests::until;

use crate::server::Server;
use crate::stage::{Controller, step};

#[tokio::test]
async fn methods_paths_headers_and_bodies_arrive_as_they_were_given() {
    let server = Server::start().await;
    let Some(controller) = Controller::of(HttpConfig::new(format!("{}/base/", server.url))).await else {
        return;
    };
    for (method, body, length) in [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "", Some("0")),
        ("PUT", "", Some("0")),
        ("PATCH", "", Some("0")),
        ("POST", "some text", Some("9")),
        ("PROPFIND", "x", Some("1")),
    ] {
        let path = "/a%20b/c;v=1/echo?q=%2F..//&r=ä".replace('ä', "%C3%A4");
        let headers = [["X-One", "1"], ["X-Two", "2 2"], ["x-one", "3"]];
        let answer =
            controller.send(json!({"method": method, "path": path, "headers": headers, "body": body})).await;
        assert_eq!((answer.status(), answer.body()), (200, body), "{method}");
        assert_eq!(answer.header("x-kind"), ["Echo"]);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.line, format!("{method} /base{path}"));
        assert_eq!(seen.header("content-length"), Vec::from_iter(length), "{method}: {}", seen.head);
        assert_eq!(seen.header("transfer-encoding"), [""; 0], "{method}");
        assert_eq!(seen.header("host"), [format!("127.0.0.1:{}", server.port())]);
        assert_eq!(
            (seen.header("x-one"), seen.header("x-two")),
            (vec!["1".into(), "3".into()], vec!["2 2".into()])
        );
        assert_eq!(seen.header("cookie"), [""; 0]);
    }
    assert_eq!(server.connections(), 1, "they share a connection");
}

#[tokio::test]
async fn an_error_status_is_an_answer_with_its_own_words() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let answer = controller.send(json!({"path": "/odd"})).await;
    assert_eq!((answer.status(), answer.0["reason"].as_str()), (500, Some("got no storage 'x'")));
    assert_eq!((answer.header("x-b"), answer.body()), (vec!["1", "3"], "odd"));
    let answer = controller.send(json!({"path": "/redirect"})).await;
    assert_eq!((answer.status(), answer.header("location")), (302, vec!["/echo"]));
    let answer = controller.send(json!({"path": "/gzip"})).await;
    assert_eq!(answer.header("content-encoding"), ["gzip"]);
    assert!(answer.body().ends_with("not unpacked") && answer.length() == 14);
    assert_eq!(server.seen().len(), 3, "nothing was followed");
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.header("accept-encoding").is_empty()), "{seen:?}");
}

#[tokio::test]
async fn large_bodies_go_both_ways() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let size = 8_000_000;
    let answer = controller
        .send(json!({"method": "POST", "path": "/echo", "body_bytes": size, "max_body": size}))
        .await;
    assert_eq!((answer.status(), answer.length()), (200, size));
    assert_eq!(server.only().header("content-length"), [size.to_string()]);
}

#[tokio::test]
async fn an_answer_longer_than_may_be_is_exhausted() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let answer = controller.send(json!({"path": "/bytes/1000", "max_body": 1000})).await;
    assert_eq!(answer.length(), 1000);
    controller
        .send(json!({"path": "/bytes/1001", "max_body": 1000}))
        .await
        .failed_sent("ErrorKind::Exhausted", true);
    // Without a length said before.
    controller
        .send(json!({"path": "/chunks", "max_body": 10}))
        .await
        .failed_sent("ErrorKind::Exhausted", true);
    // More than the plugin's memory is not even kept for it.
    let enormous = json!({"path": "/bytes/100000000", "max_body": u32::MAX});
    controller.send(enormous).await.failed_sent("ErrorKind::Exhausted", true);
    let head = controller.send(json!({"method": "HEAD", "path": "/bytes/100000000", "max_body": 10})).await;
    assert_eq!((head.status(), head.length()), (200, 0));
    controller.send(json!({"path": "/long-head"})).await.failed_sent("ErrorKind::Exhausted", true);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let pieces = [1, 100_000, 3_000_000];
    let sized = json!({"method": "PUT", "path": "/echo", "pieces": pieces, "length": 3_100_001});
    let answer = controller.run(json!([step("stream", sized)])).await.remove(0);
    assert_eq!((answer.status(), answer.length()), (200, 3_100_001));
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.header("content-length"), ["3100001"]);
    assert_eq!(seen.header("transfer-encoding"), [""; 0]);

    let chunked = json!({"method": "POST", "path": "/echo", "pieces": pieces});
    let answer = controller.run(json!([step("stream", chunked)])).await.remove(0);
    assert_eq!((answer.status(), answer.length()), (200, 3_100_001));
    let seen = server.seen().pop().unwrap();
    assert_eq!(
        (seen.header("transfer-encoding"), seen.header("content-length")),
        (vec!["chunked".into()], vec![])
    );

    // Without a body there is nothing to be chunked.
    let answer =
        controller.run(json!([step("stream", json!({"path": "/chunks", "wait_ms": 20}))])).await.remove(0);
    assert_eq!((answer.status(), answer.body()), (200, "onetwothree"));
    let reads = answer.reads();
    assert!(reads.contains(&"pending") && reads.contains(&"3") && reads.last() == Some(&"end"), "{reads:?}");
    let seen = server.seen().pop().unwrap();
    assert!(
        seen.header("transfer-encoding").is_empty() && seen.header("content-length").is_empty(),
        "{}",
        seen.head
    );
}

#[tokio::test]
async fn a_body_of_another_length_than_was_said_never_looks_whole() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let put =
        |pieces: &[usize]| json!({"method": "PUT", "path": "/echo", "pieces": pieces, "length": 200_000});
    let short = controller.run(json!([step("stream", put(&[100_000]))])).await.remove(0);
    assert!(short.failed("ErrorKind::Invalid").contains("100000 of the 200000"));
    let none = controller.run(json!([step("stream", put(&[]))])).await.remove(0);
    none.failed("ErrorKind::Invalid");
    let long = controller.run(json!([step("stream", put(&[150_000, 150_000]))])).await.remove(0);
    long.failed("ErrorKind::Invalid");
    // Left half-way, with the end of the call or of the plugin: chunks that simply stop could look like the end.
    let left = json!({"method": "POST", "path": "/echo", "pieces": [100_000]});
    controller.run(json!([step("leave", left.clone())])).await;
    controller
        .run_within(json!([step("leave", left), {"do": "trap"}]), crate::stage::PATIENCE)
        .await
        .unwrap_err();
    until("the connections are closed", async || (server.open() == 0).then_some(())).await;
    assert!(server.seen().len() >= 3, "{}", server.seen().len());
    assert!(server.seen().iter().all(|seen| !seen.whole), "{:?}", server.seen());
}

#[tokio::test]
async fn an_answer_that_comes_early_is_told_by_finish() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let upload =
        json!({"method": "PUT", "path": "/early", "pieces": vec![1_000_000; 30], "length": 30_000_000});
    let answer = controller.run(json!([step("stream", upload)])).await.remove(0);
    assert_eq!((answer.status(), answer.body()), (413, "much"));
    answer.failed_sent("ErrorKind::FailedPrecondition", true);
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_no_more_than_the_time_given() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    // A tenth of it is left to the plugin, but at most 250 ms.
    let timeout = Duration::from_secs(3);
    for request in [
        step("send", json!({"path": "/silent"})),
        step("send", json!({"path": "/stalls"})),
        step("stream", json!({"path": "/silent"})),
        step("stream", json!({"path": "/stalls"})),
    ] {
        let started = Instant::now();
        // The plugin itself gets the error, before its call ends.
        let outcomes = controller.run_within(json!([request]), timeout).await.unwrap();
        outcomes[0].failed_sent("ErrorKind::TimedOut", true);
        assert!(started.elapsed() < timeout * 3, "{:?}", started.elapsed());
    }
    let started = Instant::now();
    let own = controller.send(json!({"path": "/silent", "timeout_ms": 1000})).await;
    own.failed_sent("ErrorKind::TimedOut", true);
    assert!(started.elapsed() < Duration::from_secs(20), "its own time, not the call's");
    until("the connections are closed", async || (server.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_breaks_off_is_unavailable_and_never_half_an_answer() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    for path in ["/dies", "/hangs-up"] {
        controller.send(json!({"path": path})).await.failed_sent("ErrorKind::Unavailable", true);
    }
    controller.send(json!({"path": "/garbage"})).await.failed_sent("ErrorKind::Internal", true);
    let answer = controller.run(json!([step("stream", json!({"path": "/dies"}))])).await.remove(0);
    answer.failed_sent("ErrorKind::Unavailable", true);
    assert_eq!(server.seen().len(), 4, "nothing is sent twice");
}

#[tokio::test]
async fn a_server_that_is_away_was_sent_nothing() {
    // A port that nobody is given by chance.
    for url in ["http://127.0.0.1:1", "unix:///nonexistent/api.sock", "https://nonexistent.invalid:1"] {
        let Some(controller) = Controller::of(HttpConfig::new(url)).await else { return };
        for request in [step("send", json!({"method": "POST"})), step("stream", json!({"pieces": [10, 10]}))]
        {
            let outcome = controller.run(json!([request])).await.remove(0);
            outcome.failed_sent("ErrorKind::Unavailable", false);
        }
        controller.run(json!([{"do": "connect"}])).await[0].failed_sent("ErrorKind::Unavailable", false);
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_server_too() {
    let server = Server::on_unix();
    let Some(controller) = Controller::at(&server).await else { return };
    let answer = controller.send(json!({"method": "POST", "path": "/echo", "body": "x"})).await;
    assert_eq!((answer.status(), answer.body()), (200, "x"));
    let outcomes = controller.run(json!([{"do": "connect"}, step("send-pinned", json!({}))])).await;
    assert_eq!(outcomes[1].body(), "hello");
    assert_eq!(server.seen()[1].line, "GET /");
}

#[tokio::test]
async fn a_thousand_calls_leave_nothing_behind() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let calls = 1000;
    for n in 0..calls {
        let steps = match n % 4 {
            0 => json!([step("send", json!({"path": "/echo", "method": "POST", "body": "x"}))]),
            1 => json!([step("stream", json!({"path": "/bytes/100000", "reads": 1}))]),
            2 => json!([{"do": "connect"}, step("send-pinned", json!({}))]),
            _ => json!([step("send", json!({})), {"do": "hoard", "count": 16}]),
        };
        let outcomes = controller.run(steps).await;
        assert!(outcomes.iter().all(|outcome| outcome.0["error"].is_null()), "{n}: {outcomes:?}");
    }
    until("only the pool is open", async || (server.open() <= 8).then_some(())).await;
    // The rest is as before.
    assert_eq!(controller.send(json!({})).await.status(), 200);
}

#[tokio::test]
async fn a_call_cannot_hoard_exchanges() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let outcomes = controller.run(json!([{"do": "hoard", "count": 16}, {"do": "connect"}])).await;
    assert!(outcomes[0].0["error"].is_null());
    outcomes[1].failed("ErrorKind::Exhausted");
    assert_eq!(server.connections(), 0);
}
