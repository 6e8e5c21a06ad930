//! The process from outside: what it does when it behaves, when it is told not to, and when it is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::until;

fn start() -> Simulated {
    Simulated::start_program(Path::new(env!("CARGO_BIN_EXE_streamspace-simulated")))
}

fn new_box(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"streamspace.controller": "ctrl-a", "streamspace.session_id": name.trim_start_matches("ss-")},
    })
}

async fn create(simulated: &Simulated, name: &str) -> u16 {
    simulated.send(Method::POST, "/boxes", Some(&new_box(name))).await.0
}

async fn post(simulated: &Simulated, path: &str) -> u16 {
    simulated.send(Method::POST, path, Some(&json!({}))).await.0
}

#[tokio::test]
async fn every_effect_is_told_once_and_on_whose_behalf() {
    let simulated = start();
    assert_eq!(simulated.send(Method::PUT, "/homes/h", Some(&json!({}))).await.0, 201);
    assert_eq!(simulated.send(Method::PUT, "/homes/h", Some(&json!({}))).await.0, 200);
    let mut new = new_box("ss-1");
    new["home"] = json!("h");
    assert_eq!(simulated.send(Method::POST, "/boxes", Some(&new)).await.0, 201);
    assert_eq!(create(&simulated, "ss-1").await, 409);
    for expected in [200, 200] {
        assert_eq!(post(&simulated, "/boxes/ss-1/start").await, expected);
    }
    assert_eq!(simulated.send(Method::DELETE, "/homes/h", None).await.1["error"]["code"], "in_use");
    assert_eq!(post(&simulated, "/boxes/ss-1/stop").await, 200);
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-1", None).await.0, 204);
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-1", None).await.0, 404);
    assert_eq!(simulated.send(Method::DELETE, "/homes/h", None).await.0, 204);

    let effects = simulated.effects().await;
    let kinds: Vec<_> = effects.iter().map(|effect| effect["kind"].as_str().unwrap()).collect();
    let expected = ["home.made", "box.made", "box.started", "box.stopped", "box.removed", "home.removed"];
    assert_eq!(kinds, expected);
    let started = &effects[2];
    for (field, value) in [
        ("seq", json!(3)),
        ("session", json!("1")),
        ("controller", json!("ctrl-a")),
        ("operation", json!("op-1")),
        ("generation", json!(3)),
        ("epoch", json!(7)),
        ("origin", json!("api")),
    ] {
        assert_eq!(started[field], value, "{field}");
    }
    let written = std::fs::read_to_string(simulated.effects_file()).unwrap();
    let written: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(written, effects);
}

#[tokio::test]
async fn a_lost_reply_has_an_effect_and_a_refused_request_has_none() {
    let simulated = start();
    simulated
        .rules(json!([
            {"verb": "box.create", "name": "ss-lost", "count": 1, "fault": "lost_reply"},
            {"verb": "box.create", "name": "ss-refused", "count": 1, "fault": "refused"},
            {"verb": "box.create", "name": "ss-error", "count": 1,
             "fault": {"error": {"status": 503, "retry_after_s": 2, "message": "not now"}}},
        ]))
        .await;
    for name in ["ss-lost", "ss-refused"] {
        simulated.try_send(Method::POST, "/boxes", Some(&new_box(name))).await.expect_err("an answer");
    }
    let (status, body) = simulated.send(Method::POST, "/boxes", Some(&new_box("ss-error"))).await;
    assert_eq!((status, body["error"]["message"].as_str()), (503, Some("not now")));
    assert_eq!(create(&simulated, "ss-lost").await, 409);
    assert_eq!(create(&simulated, "ss-refused").await, 201);
    assert_eq!(create(&simulated, "ss-error").await, 201);
    assert_eq!(simulated.effects().await.len(), 3);
}

#[tokio::test]
async fn a_slow_machine_does_not_stop_because_its_client_left() {
    let simulated = start();
    simulated.rules(json!([{"verb": "box.create", "fault": {"latency": {"before_ms": 3000}}}])).await;
    let new = new_box("ss-1");
    let request = simulated.try_send(Method::POST, "/boxes", Some(&new));
    tokio::time::timeout(Duration::from_millis(500), request).await.expect_err("it answered at once");
    until("the effect", async || (simulated.effects().await.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_request_that_hangs_is_never_answered() {
    let simulated = start();
    simulated
        .rules(json!([
            {"verb": "box.create", "name": "ss-before", "fault": "hang"},
            {"verb": "box.create", "name": "ss-after", "fault": "hang_after"},
        ]))
        .await;
    for name in ["ss-before", "ss-after"] {
        let new = new_box(name);
        let request = simulated.try_send(Method::POST, "/boxes", Some(&new));
        tokio::time::timeout(Duration::from_secs(1), request).await.expect_err(name);
    }
    assert_eq!(simulated.effects_on("ss-before").await, [""; 0]);
    assert_eq!(simulated.effects_on("ss-after").await, ["box.made"]);
}

#[tokio::test]
async fn bodies_can_be_slow_torn_or_nonsense() {
    let simulated = start();
    create(&simulated, "ss-1").await;
    simulated.rules(json!([{"verb": "box.get", "count": 1, "fault": {"slow_body": {"every_ms": 2}}}])).await;
    assert_eq!(simulated.get("/boxes/ss-1").await["state"], "stopped");
    simulated.rules(json!([{"verb": "box.get", "count": 1, "fault": "torn_body"}])).await;
    simulated.try_send(Method::GET, "/boxes/ss-1", None).await.expect_err("a whole body");
    simulated.rules(json!([{"verb": "box.get", "count": 1, "fault": "garbage"}])).await;
    assert_eq!(simulated.get("/boxes/ss-1").await, Value::Null);
    assert_eq!(simulated.get("/boxes/ss-1").await["state"], "stopped");
}

#[tokio::test]
async fn jobs_take_time_and_a_delete_takes_their_place() {
    let simulated = start();
    let slow = json!({"settings": {"create_ms": 1000, "start_ms": 1000, "delete_ms": 1000}});
    simulated.knobs(slow.clone()).await;
    assert_eq!(create(&simulated, "ss-1").await, 202);
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 409);
    let state = async |expected: &str| {
        until(expected, async || (simulated.get("/boxes/ss-1").await["state"] == expected).then_some(()))
            .await;
    };
    state("stopped").await;
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 202);
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 202);
    state("running").await;
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-1", None).await.0, 202);
    assert_eq!(simulated.get("/boxes/ss-1").await["state"], "deleting");
    until("the removal", async || simulated.boxes().await.is_empty().then_some(())).await;
    assert_eq!(simulated.effects_on("ss-1").await, ["box.made", "box.started", "box.removed"]);

    create(&simulated, "ss-2").await;
    simulated.knobs(json!({})).await;
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-2", None).await.0, 204);
    // The job of the first `ss-2` must not finish this one.
    simulated.knobs(slow).await;
    create(&simulated, "ss-2").await;
    let effects = simulated.effects_on("ss-2").await;
    assert_eq!(effects, ["box.made", "box.removed", "box.made"]);
}

#[tokio::test]
async fn half_done_work_and_crashes_leave_failed_boxes() {
    let simulated = start();
    simulated
        .rules(json!([
            {"verb": "box.create", "name": "ss-half", "fault": "half"},
            {"verb": "box.start", "name": "ss-stuck", "fault": "half"},
            {"verb": "box.start", "name": "ss-crash", "fault": {"crash": {"after_ms": 20}}},
        ]))
        .await;
    assert_eq!(create(&simulated, "ss-half").await, 500);
    for name in ["ss-stuck", "ss-crash"] {
        assert_eq!(create(&simulated, name).await, 201);
    }
    assert_eq!(post(&simulated, "/boxes/ss-stuck/start").await, 500);
    assert_eq!(post(&simulated, "/boxes/ss-crash/start").await, 200);
    for name in ["ss-half", "ss-stuck", "ss-crash"] {
        let path = format!("/boxes/{name}");
        until(name, async || (simulated.get(&path).await["state"] == "failed").then_some(())).await;
    }
    assert_eq!(simulated.effects_on("ss-crash").await, ["box.made", "box.started", "box.crashed"]);
}

#[tokio::test]
async fn pages_of_a_listing_are_whole_unless_told_otherwise() {
    let simulated = start();
    for index in 0..25 {
        create(&simulated, &format!("ss-{index:02}")).await;
    }
    let foreign = json!({"name": "ss-99", "labels": {"streamspace.controller": "ctrl-b"}});
    assert_eq!(simulated.send(Method::POST, "/foreign", Some(&foreign)).await.0, 201);
    let list = async || {
        let mut names = Vec::new();
        let mut path = "/boxes?controller=ctrl-a&limit=10".to_owned();
        loop {
            let page = simulated.get(&path).await;
            let boxes = page["boxes"].as_array().unwrap();
            names.extend(boxes.iter().map(|found| found["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return names };
            path = format!("/boxes?controller=ctrl-a&limit=10&after={next}");
        }
    };
    let whole: Vec<String> = (0..25).map(|index| format!("ss-{index:02}")).collect();
    assert_eq!(list().await, whole);
    simulated.knobs(json!({"seed": 3, "rules": [{"verb": "box.list", "fault": {"omit": 0.5}}]})).await;
    let shorter = list().await;
    assert!(shorter.len() < 25 && shorter.iter().all(|name| whole.contains(name)), "{shorter:?}");
    simulated.rules(json!([{"verb": "box.list", "fault": {"duplicate": 0.5}}])).await;
    assert!(list().await.len() > 25);
    simulated
        .rules(json!([{"verb": "box.list", "later_pages": true, "fault": {"error": {"status": 502}}}]))
        .await;
    assert_eq!(simulated.send(Method::GET, "/boxes?limit=10", None).await.0, 200);
    assert_eq!(simulated.send(Method::GET, "/boxes?limit=10&after=ss-09", None).await.0, 502);
    assert_eq!(simulated.boxes().await.len(), 26);
}

#[tokio::test]
async fn events_come_in_order_or_are_told_to_be_lost() {
    let mut simulated = start();
    let start = simulated.get("/events?controller=ctrl-a").await;
    let path = |page: &Value| {
        let (instance, next) = (page["instance"].as_str().unwrap(), &page["next"]);
        format!("/events?controller=ctrl-a&instance={instance}&after={next}&wait_ms=10000")
    };
    let next_path = path(&start);
    let (waiting, ()) = tokio::join!(simulated.get(&next_path), async {
        create(&simulated, "ss-1").await;
    });
    assert_eq!(waiting["events"][0]["box"]["name"], "ss-1");
    assert_eq!(waiting["lost"], false);

    simulated.rules(json!([{"verb": "event", "count": 1, "fault": "drop"}])).await;
    post(&simulated, "/boxes/ss-1/start").await;
    simulated.by_hand("ss-1", "stop").await;
    let next_path = path(&waiting);
    let silent = simulated.get(&next_path).await;
    assert_eq!(silent["events"].as_array().unwrap().len(), 1, "one was dropped: {silent}");
    assert_eq!(silent["events"][0]["box"]["state"], "stopped");

    assert_eq!(post(&simulated, "/events/forget").await, 204);
    let next_path = path(&silent);
    assert_eq!(simulated.get(&next_path).await["lost"], true);
    let before = simulated.get("/events").await;
    simulated.kill_and_restart();
    let next_path = path(&before);
    assert_eq!(simulated.get(&next_path).await["lost"], true);
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_written_down() {
    let mut simulated = start();
    simulated.knobs(json!({"settings": {"start_ms": 50}})).await;
    create(&simulated, "ss-1").await;
    create(&simulated, "ss-2").await;
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-2", None).await.0, 204);
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 202);
    let before = simulated.effects().await;
    simulated.kill_and_restart();
    let after = simulated.effects().await;
    assert_eq!(after[..3], before[..3]);
    until("the job goes on", async || {
        (simulated.get("/boxes/ss-1").await["state"] == "running").then_some(())
    })
    .await;
    assert_eq!(simulated.effects_on("ss-1").await, ["box.made", "box.started"]);
    // Numbers and objects go on where they were.
    assert_eq!(create(&simulated, "ss-2").await, 201);
    let effects = simulated.effects().await;
    let uids: std::collections::BTreeSet<_> = effects
        .iter()
        .filter(|effect| effect["kind"] == "box.made")
        .map(|effect| effect["uid"].as_u64())
        .collect();
    assert_eq!(uids.len(), 3);
    let written = std::fs::read_to_string(simulated.effects_file()).unwrap();
    assert_eq!(written.lines().count(), effects.len());
}

#[tokio::test]
async fn output_is_told_line_by_line_and_waited_for() {
    let simulated = start();
    create(&simulated, "ss-1").await;
    post(&simulated, "/boxes/ss-1/start").await;
    let page = simulated.get("/boxes/ss-1/logs?tail=1").await;
    assert_eq!(page["lines"][0]["message"], "the box is started");
    let path = format!("/boxes/ss-1/logs?after={}&wait_ms=10000", page["next"]);
    let line = json!({"message": "hello", "source": "stderr"});
    let (page, _) =
        tokio::join!(simulated.get(&path), simulated.send(Method::POST, "/boxes/ss-1/say", Some(&line)),);
    assert_eq!(
        (&page["lines"][0]["message"], &page["lines"][0]["source"]),
        (&json!("hello"), &json!("stderr"))
    );
    assert_eq!(simulated.get("/boxes/ss-1/metrics").await["memory_limit_bytes"], Value::Null);
    simulated.by_hand("ss-1", "crash").await;
    assert_eq!(simulated.get("/boxes/ss-1/logs?after=9007199254740991&wait_ms=10000").await["ended"], true);
    assert_eq!(simulated.send(Method::GET, "/boxes/ss-1/metrics", None).await.0, 409);
}

#[tokio::test]
async fn a_running_box_serves_a_page_on_a_port_of_its_own() {
    let simulated = start();
    simulated.knobs(json!({"settings": {"pages": true, "max_boxes": 1}})).await;
    create(&simulated, "ss-1").await;
    assert_eq!(create(&simulated, "ss-2").await, 429);
    assert_eq!(simulated.get("/boxes/ss-1").await["port"], Value::Null);
    post(&simulated, "/boxes/ss-1/start").await;
    let port = simulated.get("/boxes/ss-1").await["port"].as_u64().unwrap();
    // The TLS that this client does not need was set up by the one above.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("ss-1"), "{page}");
    let seen = client.get(format!("http://127.0.0.1:{port}/a?b")).send().await.unwrap().text().await.unwrap();
    assert!(seen.contains("\"uri\":\"/a?b\""), "{seen}");
    post(&simulated, "/boxes/ss-1/stop").await;
    until("the end of the page", async || {
        client.get(format!("http://127.0.0.1:{port}/")).send().await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn images_and_sizes_decide_what_becomes_of_a_box() {
    let simulated = start();
    simulated
        .knobs(json!({"settings": {"largest_cpu_millis": 4000, "images": [
            {"name": "no/*", "is": "missing"},
            {"name": "bad", "is": "crashing"},
            {"name": "loud", "is": {"talking": {"every_ms": 10}}},
        ]}}))
        .await;
    let make = async |name: &str, extra: Value| {
        let mut new = new_box(name);
        new.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (status, body) = simulated.send(Method::POST, "/boxes", Some(&new)).await;
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    for (extra, status, code) in [
        (json!({"image": "no/such:1"}), 409, "no_image"),
        (json!({"image": "../x"}), 400, "invalid"),
        (json!({"cpu_millis": 4001}), 409, "too_large"),
        (json!({"memory_bytes": 1u64 << 41}), 409, "too_large"),
    ] {
        assert_eq!(make("ss-1", extra.clone()).await, (status, code.to_owned()), "{extra}");
    }
    assert!(simulated.boxes().await.is_empty());

    let own = json!({"image": "bad", "env": {"A": "1"}, "disks": ["cache"]});
    assert_eq!(make("ss-2", own).await.0, 201);
    assert_eq!(post(&simulated, "/boxes/ss-2/start").await, 200);
    until("the box crashes", async || {
        (simulated.get("/boxes/ss-2").await["state"] == "failed").then_some(())
    })
    .await;
    let found = simulated.get("/boxes/ss-2").await;
    assert_eq!((&found["env"], &found["disks"]), (&json!({"A": "1"}), &json!(["cache"])));

    assert_eq!(make("ss-3", json!({"image": "loud"})).await.0, 201);
    assert_eq!(post(&simulated, "/boxes/ss-3/start").await, 200);
    let lines = async || {
        let page = simulated.get("/boxes/ss-3/logs").await;
        page["lines"].as_array().unwrap().iter().filter(|line| line["source"] == "stdout").count()
    };
    until("the box talks", async || (lines().await >= 3).then_some(())).await;
    assert_eq!(post(&simulated, "/boxes/ss-3/stop").await, 200);
    let said = lines().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lines().await, said, "a stopped box says nothing");
}

#[tokio::test]
async fn files_are_in_the_home_and_outlive_the_box() {
    let mut simulated = start();
    assert_eq!(simulated.send(Method::PUT, "/homes/h", Some(&json!({}))).await.0, 201);
    let mut new = new_box("ss-1");
    new["home"] = json!("h");
    let file = json!({"path": "/config/a b", "content": "text"});
    let write = async |simulated: &Simulated| {
        simulated.send(Method::PUT, "/boxes/ss-1/file", Some(&file)).await.1["error"]["code"].clone()
    };
    assert_eq!(write(&simulated).await, "not_found");
    assert_eq!(simulated.send(Method::POST, "/boxes", Some(&new)).await.0, 201);
    assert_eq!(write(&simulated).await, "not_running");
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 200);
    assert_eq!(write(&simulated).await, Value::Null);
    assert_eq!(simulated.send(Method::DELETE, "/boxes/ss-1", None).await.0, 204);

    simulated.kill_and_restart();
    assert_eq!(simulated.send(Method::POST, "/boxes", Some(&new)).await.0, 201);
    assert_eq!(post(&simulated, "/boxes/ss-1/start").await, 200);
    assert_eq!(simulated.get("/boxes/ss-1/file?path=/config/a%20b").await["content"], "text");
    assert_eq!(simulated.get("/boxes/ss-1/file?path=/config/b").await["content"], Value::Null);
}

#[tokio::test]
async fn wrong_knobs_are_named() {
    let simulated = start();
    for (knobs, word) in [
        (json!({"rules": [{"verb": "box.crate", "fault": "hang"}]}), "box.crate"),
        (json!({"rules": [{"fault": "hung"}]}), "hung"),
        (json!({"rules": [{"fault": "hang", "probability": 1.5}]}), "probability"),
        (json!({"rules": [{"fault": {"omit": -1}}]}), "probability"),
        (json!({"setting": {}}), "setting"),
    ] {
        let response = simulated.send(Method::PUT, "/knobs", Some(&knobs)).await;
        assert!((400..500).contains(&response.0), "{word}: {response:?}");
    }
    simulated.rules(json!([])).await;
    simulated.knobs(json!({"settings": {"unavailable": true}})).await;
    assert_eq!(create(&simulated, "ss-1").await, 503);
    assert_eq!(simulated.effects().await, [Value::Null; 0]);
}
