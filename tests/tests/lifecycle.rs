//! The whole life of a session on a real Docker engine, as its user sees it and as the engine does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::server::Server;
use streamspace_tests::stage::{Stage, condition, container, id};
use streamspace_tests::until;

/// A browser, but that it follows no redirect and keeps no cookie by itself.
struct Browser {
    client: Client,
    base: String,
}

impl Browser {
    fn of(server: &Server) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { client, base: server.url() }
    }

    fn at(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    /// Waits until a session's own server answers a path, and gives the text. The container runs a moment before.
    async fn text(&self, path: &str, permit: (header::HeaderName, &str)) -> String {
        until(&format!("an answer of {path}"), async || {
            let response = self.at(path).header(&permit.0, permit.1).send().await.unwrap();
            let status = response.status();
            let starting = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
            assert!(starting || status == StatusCode::OK, "{path}: {status}");
            if starting { None } else { Some(response.text().await.unwrap()) }
        })
        .await
    }
}

/// Gets a ticket and goes through it as a browser does. Gives the cookie.
async fn enter(api: &Api, browser: &Browser, session: &str) -> String {
    let issued = api.post(&format!("/api/v1/sessions/{session}/tickets"), &json!({})).await;
    assert_eq!(issued.status, StatusCode::CREATED, "{}", issued.body);
    let url = issued.body["url"].as_str().unwrap();
    let entered = browser.at(url).send().await.unwrap();
    assert_eq!(entered.status(), StatusCode::SEE_OTHER);
    let field = |name| entered.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(field(header::LOCATION), format!("/s/{session}/"), "the ticket does not stay in the URL");
    let cookie = field(header::SET_COOKIE);
    assert!(cookie.contains("HttpOnly") && cookie.contains(&format!("Path=/s/{session}/")), "{cookie}");
    assert_eq!(browser.at(url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "it is good once");
    cookie.split(';').next().unwrap().to_owned()
}

fn token(server: &Server) -> String {
    let token = std::fs::read_to_string(server.data().join("admin.token")).unwrap();
    format!("Bearer {}", token.trim())
}

/// The number of the last tick in a line that the image's program wrote.
fn tick(line: &Value) -> Option<u32> {
    line["message"].as_str().unwrap().strip_prefix("tick ")?.parse().ok()
}

#[tokio::test]
async fn from_its_creation_to_its_end() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let browser = Browser::of(&server);
    let session = api.create_running(&stage.request("alice")).await;
    let session = id(&session);
    let path = format!("/api/v1/sessions/{session}");
    let url = format!("/s/{session}/");

    // Its URL answers those who may see it, and nobody else.
    let bearer = token(&server);
    assert!(browser.text(&url, (header::AUTHORIZATION, &bearer)).await.contains("session"));
    assert_eq!(browser.at(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let cookie = enter(&api, &browser, session).await;
    assert!(browser.text(&url, (header::COOKIE, &cookie)).await.contains("session"));
    let starts = format!("/s/{session}/starts");
    assert_eq!(browser.text(&starts, (header::COOKIE, &cookie)).await, "start\n");

    // Hibernated, it stops, and keeps its home.
    let hibernated = api.post(&format!("{path}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!((hibernated.status, &hibernated.body["phase"]), (StatusCode::OK, &json!("Hibernated")));
    assert_eq!(condition(&hibernated.body, "Ready")["status"], "False");
    let inspected = stage.engine.inspect(&container(session)).await;
    assert_eq!(inspected.state.unwrap().running, Some(false));
    assert_eq!(stage.homes().await.len(), 1);
    let closed = browser.at(&url).header(header::COOKIE, &cookie).send().await.unwrap();
    assert!(closed.status().is_client_error() || closed.status().is_server_error(), "{closed:?}");
    let again = api.post(&format!("{path}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!(again.body["generation"], hibernated.body["generation"], "nothing was left to do");

    // Woken, it is the same one: home, URL and cookie.
    let woken = api.post(&format!("{path}/wake?wait=60s"), &Value::Null).await;
    assert_eq!((woken.status, &woken.body["phase"]), (StatusCode::OK, &json!("Running")));
    assert_eq!(woken.body["url"], hibernated.body["url"]);
    assert_eq!(browser.text(&starts, (header::COOKIE, &cookie)).await, "start\nstart\n");
    assert_eq!(stage.settled(&api).await.len(), 1);

    // Deleted, it leaves its home and nothing else.
    let deleted = api.delete(&format!("{path}?wait=60s")).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.body);
    assert!(stage.settled(&api).await.is_empty());
    assert_eq!(stage.engine.volumes(&stage.controller).await, stage.homes().await);
    assert_eq!(stage.homes().await.len(), 1);
    let gone = browser.at(&url).header(header::AUTHORIZATION, &bearer).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);

    // All of it was told, in its order.
    let told = api.get(&format!("{path}/events?limit=1000")).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.body);
    let told: Vec<String> = told.body["items"].as_array().unwrap().iter().filter_map(milestone).collect();
    let expected = [
        "session.created",
        "session.placed",
        "phase Running",
        "wish hibernated",
        "phase Hibernated",
        "wish running",
        "phase Running",
        "wish gone",
        "session.deleted",
    ];
    assert_eq!(told, expected);
    server.kill();
}

/// What an event tells, if it is one that every life has.
fn milestone(event: &Value) -> Option<String> {
    let data = &event["data"];
    match event["type"].as_str().unwrap() {
        "session.phase_changed" => Some(data["phase"].as_str().unwrap())
            .filter(|phase| ["Running", "Hibernated", "Failed"].contains(phase))
            .map(|phase| format!("phase {phase}")),
        "session.wish_changed" if data["deleting"] == true => Some("wish gone".to_owned()),
        "session.wish_changed" => Some(format!("wish {}", data["state"].as_str().unwrap())),
        kind @ ("session.created" | "session.placed" | "session.deleted") => Some(kind.to_owned()),
        "session.condition_changed" => None,
        other => panic!("{other}: {event}"),
    }
}

#[tokio::test]
async fn what_it_writes_is_read_by_pages_and_followed_to_its_end() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request("alice")).await;
    let path = format!("/api/v1/sessions/{}", id(&session));

    // Pages: each goes on where the one before ended.
    let first = until("two lines", async || {
        let page = api.get(&format!("{path}/logs?limit=1")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        page.body["next_cursor"].is_string().then_some(page.body)
    })
    .await;
    assert_eq!(tick(&first["items"][0]), Some(1), "{first}");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("{path}/logs?limit=1&cursor={cursor}")).await.body;
    assert_eq!(tick(&second["items"][0]), Some(2), "{second}");

    // Followed, lines come as they are written, and end when the session does.
    let mut lines = api.follow(&format!("{path}/logs?follow=true")).await;
    for expected in 1..=5 {
        let line = lines.next().await.unwrap();
        assert_eq!(tick(&line), Some(expected), "{line}");
    }
    let hibernated = api.post(&format!("{path}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!(hibernated.body["phase"], "Hibernated", "{}", hibernated.body);
    let mut last = Value::Null;
    while let Some(line) = lines.next().await {
        last = line;
    }
    assert_eq!(last["message"], "stopping", "nothing is missing at the end");

    // What it wrote is still there, and goes on after it was woken.
    let end = api.get(&format!("{path}/logs?tail=1")).await.body;
    assert_eq!(end["items"][0]["message"], "stopping", "{end}");
    let cursor = last["cursor"].as_str().unwrap();
    let mut lines = api.follow(&format!("{path}/logs?follow=true&cursor={cursor}")).await;
    drop(api.post(&format!("{path}/wake?wait=60s"), &Value::Null).await);
    let line = match lines.next().await {
        Some(line) => line,
        // It was asked before the session ran.
        None => api.follow(&format!("{path}/logs?follow=true&cursor={cursor}")).await.next().await.unwrap(),
    };
    assert_eq!(tick(&line), Some(1), "a new life, and no line twice: {line}");
    server.kill();
}

#[tokio::test]
async fn what_it_uses_is_measured_while_it_runs() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request("alice")).await;
    let path = format!("/api/v1/sessions/{}", id(&session));
    let measure = async || {
        let measured = api.get(&format!("{path}/metrics")).await;
        assert_eq!(measured.status, StatusCode::OK, "{}", measured.body);
        measured.body
    };
    let first = until("a measure of the memory", async || {
        let measured = measure().await;
        measured["usage"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0).then_some(measured)
    })
    .await;
    let cpu = |measured: &Value| measured["counters"]["cpu_ns"].as_u64().unwrap();
    assert!(first["usage"]["memory_bytes"].as_u64().unwrap() < 64 << 20, "within its limit: {first}");
    let later = until("more work than before, and its rate", async || {
        let measured = measure().await;
        (cpu(&measured) > cpu(&first) && measured["rates"]["cpu_cores"].is_number()).then_some(measured)
    })
    .await;
    assert!(later["sampled_at"].as_str() > first["sampled_at"].as_str());
    assert!(later["rates"]["window_seconds"].as_f64().unwrap() >= 1.0, "{later}");

    let hibernated = api.post(&format!("{path}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!(hibernated.body["phase"], "Hibernated", "{}", hibernated.body);
    let refused = api.get(&format!("{path}/metrics")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "there is nothing to measure: {}", refused.body);
    server.kill();
}
