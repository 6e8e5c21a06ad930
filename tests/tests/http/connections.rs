//! Connections of a plugin's own, and those that wait between calls.

use serde_json::{Value, json};
use streamspace_runtime::{CredentialConfig, HttpConfig, SecretSource};
use streamspace_tests::until;

use crate::server::Server;
use crate::stage::{Controller, PATIENCE, step};

fn use_and_park(tag: &str, memo: &str) -> Value {
    json!([
        {"do": "connect", "tag": tag},
        step("send-pinned", json!({})),
        {"do": "park", "tag": tag, "memo": memo},
    ])
}

#[tokio::test]
async fn all_requests_of_a_connection_are_on_it() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let outcomes = controller
        .run(json!([
            {"do": "connect"},
            step("send-pinned", json!({"method": "POST", "path": "/echo", "body": "one",
                "headers": [["Authorization", "NTLM x"]]})),
            step("send", json!({})),
            step("stream-pinned", json!({"method": "POST", "path": "/echo", "pieces": [10, 10]})),
            step("stream-pinned", json!({"path": "/chunks"})),
            step("send-pinned", json!({"path": "/bytes/100000"})),
        ]))
        .await;
    assert_eq!(outcomes[0].0["binding"], Value::Null, "there is no TLS");
    assert_eq!((outcomes[1].body(), outcomes[3].length()), ("one", 20));
    assert_eq!((outcomes[4].body(), outcomes[5].length()), ("onetwothree", 100_000));
    let on: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(on, [1, 2, 1, 1, 1]);
    let first = &server.seen()[0];
    assert_eq!(first.header("authorization"), ["NTLM x"]);
    assert_eq!(first.header("host"), [format!("127.0.0.1:{}", server.port())]);
    assert_eq!(first.header("content-length"), ["3"]);
    until("it ends with its call", async || (server.open() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_parked_connection_waits_for_the_next_call_with_its_memo() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    assert_eq!(controller.run(use_and_park("a", "one")).await[0].memo(), None);
    for (n, memo) in [(2, "one"), (3, "two"), (4, "three")] {
        let outcomes = controller.run(use_and_park("a", ["two", "three", "four"][n - 2])).await;
        assert_eq!(outcomes[0].memo(), Some(memo));
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 1), "{:?}", server.seen());
    assert_eq!(server.open(), 1);
}

#[tokio::test]
async fn a_connection_that_comes_and_goes_leaves_no_tasks_behind() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    controller.run(use_and_park("a", "one")).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..40 {
        controller.run(use_and_park("a", "one")).await;
    }
    let more = tasks().saturating_sub(before);
    assert!(more < 20, "{more} tasks more");
}

#[tokio::test]
async fn a_parked_connection_is_nobody_elses() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let neighbour = Controller::at(&server).await.unwrap();
    controller.run(use_and_park("a", "mine")).await;
    for (who, endpoint, tag) in [
        (&controller, "api", json!("b")),
        (&controller, "api", Value::Null),
        (&controller, "narrow", json!("a")),
        (&neighbour, "api", json!("a")),
    ] {
        let outcomes = who.run(json!([{"do": "connect", "endpoint": endpoint, "tag": tag}])).await;
        assert_eq!(outcomes[0].memo(), None, "{endpoint} {tag}");
    }
    // One at a time has it: two that ask at once do not share it.
    let twice = json!([
        {"do": "connect", "tag": "a"},
        step("send-pinned", json!({"path": "/chunks"})),
        {"do": "park", "tag": "a", "memo": "again"},
    ]);
    let (one, two) = tokio::join!(controller.run(twice.clone()), controller.run(twice));
    let mut memos = [one[0].memo(), two[0].memo()];
    memos.sort();
    assert_eq!(memos, [None, Some("mine")]);
}

#[tokio::test]
async fn a_parked_connection_that_the_server_has_closed_is_replaced() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    let closing = json!([
        {"do": "connect", "tag": "a"},
        step("send-pinned", json!({"path": "/closes"})),
        {"do": "park", "tag": "a", "memo": "stale"},
    ]);
    controller.run(closing).await;
    until("the server has closed it", async || (server.open() == 0).then_some(())).await;
    let outcomes = controller.run(use_and_park("a", "fresh")).await;
    assert_eq!((outcomes[0].memo(), outcomes[1].status()), (None, 200));
    assert_eq!(server.seen().pop().unwrap().connection, 2);
}

#[tokio::test]
async fn a_connection_in_doubt_is_closed_and_not_parked() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    controller.run(use_and_park("a", "one")).await;
    // A plugin that breaks takes its connection along.
    let trap = json!([{"do": "connect", "tag": "a"}, {"do": "trap"}]);
    controller.run_within(trap, PATIENCE).await.unwrap_err();
    until("it is closed", async || (server.open() == 0).then_some(())).await;
    assert_eq!(controller.run(json!([{"do": "connect", "tag": "a"}])).await[0].memo(), None);
    // So does one that has not read its answer.
    let unread = json!([
        {"do": "connect", "tag": "a"},
        step("stream-pinned", json!({"path": "/bytes/5000000", "reads": 1})),
        {"do": "park", "tag": "a", "memo": "half"},
    ]);
    controller.run(unread).await;
    assert_eq!(controller.run(json!([{"do": "connect", "tag": "a"}])).await[0].memo(), None);
    // And one whose answer did not come.
    let late = json!([
        {"do": "connect", "tag": "a"},
        step("send-pinned", json!({"path": "/silent", "timeout_ms": 1000})),
        {"do": "park", "tag": "a", "memo": "late"},
    ]);
    controller.run(late).await[1].failed_sent("ErrorKind::TimedOut", true);
    assert_eq!(controller.run(json!([{"do": "connect", "tag": "a"}])).await[0].memo(), None);
}

#[tokio::test]
async fn so_many_are_parked_and_no_more() {
    let server = Server::start().await;
    let Some(controller) = Controller::at(&server).await else { return };
    for n in 0..40 {
        controller.run(use_and_park(&format!("tag {n}"), "x")).await;
    }
    until("the first are closed", async || (server.open() <= 16).then_some(())).await;
    assert_eq!(controller.run(json!([{"do": "connect", "tag": "tag 39"}])).await[0].memo(), Some("x"));
    assert_eq!(controller.run(json!([{"do": "connect", "tag": "tag 0"}])).await[0].memo(), None);
}

#[tokio::test]
async fn a_credential_of_the_host_is_on_every_request_of_a_connection() {
    let server = Server::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "t").unwrap();
    let bearer = Some(SecretSource::File(file.path().to_owned()));
    let credential = Some(CredentialConfig { bearer, ..Default::default() });
    let config = HttpConfig { credential, ..HttpConfig::new(&server.url) };
    let Some(controller) = Controller::of(config).await else { return };
    controller.run(use_and_park("a", "x")).await;
    controller.run(use_and_park("a", "x")).await;
    assert!(
        server.seen().iter().all(|seen| seen.header("authorization") == ["Bearer t"]),
        "{:?}",
        server.seen()
    );
}
