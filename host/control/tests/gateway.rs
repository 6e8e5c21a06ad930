//! The way of browsers to sessions, with a real application behind it and a real listener in front.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use common::eventually;
use common::visit::{Stage, application, desktop, got, header, serve};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[tokio::test]
async fn requests_reach_the_application_as_they_were_meant() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let id = stage.web_session(port).await;
    let path = format!("/s/{id}/a%2Fb/c?x=%20&y");
    let answer = stage
        .http
        .post(stage.url(&path))
        .bearer_auth(&stage.server.token)
        .header("x-own", "1")
        .body("a body")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let told: Value = answer.json().await.unwrap();
    assert_eq!((&told["method"], &told["body"]), (&json!("POST"), &json!("a body")));
    assert_eq!(told["uri"], "/a%2Fb/c?x=%20&y");
    assert_eq!(got(&told, "x-own"), Some("1"));
    assert_eq!(got(&told, "content-length"), Some("6"));
    assert_eq!(got(&told, "host"), Some(stage.address.to_string().as_str()));
    assert_eq!(got(&told, "x-forwarded-prefix"), Some(format!("/s/{id}").as_str()));
    assert_eq!(got(&told, "authorization"), None, "the API's token is not the application's business");

    let moved = stage.get(&format!("/s/{id}/moved")).send().await.unwrap();
    assert_eq!(moved.status(), StatusCode::FOUND);
    assert_eq!(header(moved.headers(), "location"), format!("/s/{id}/login?x=1"));
    assert_eq!(header(moved.headers(), "set-cookie"), format!("app=1; Path=/s/{id}/"));
    assert_eq!(header(moved.headers(), "strict-transport-security"), "");

    let bare = stage.get(&format!("/s/{id}?a=1")).send().await.unwrap();
    assert_eq!(header(bare.headers(), "location"), format!("/s/{id}/?a=1"));
}

#[tokio::test]
async fn a_browser_gets_in_with_a_ticket_once_and_then_with_its_cookie() {
    let stage = Stage::set().await;
    let (port, asked) = application().await;
    let id = stage.web_session(port).await;
    let other = stage.web_session(port).await;

    let ticket = stage.server.post(&format!("/api/v1/sessions/{id}/tickets"), &Value::Null).await.json();
    let secret = ticket["ticket"].as_str().unwrap();
    let wrong = format!("/s/{other}/?streamspace_ticket={secret}");
    assert_eq!(stage.http.get(stage.url(&wrong)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let url = ticket["url"].as_str().unwrap();
    // Whoever tried it at the wrong door has used it up.
    assert_eq!(stage.http.get(stage.url(url)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);

    let cookie = stage.cookie(&id).await;
    let home = stage.url(&format!("/s/{id}/"));
    let with = |value: String| stage.http.get(&home).header("cookie", value).send();
    let answer = with(format!("theirs=1; {cookie}; more=2")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers().get("set-cookie"), None, "a fresh one needs no renewal");
    let told: Value = answer.json().await.unwrap();
    assert_eq!(got(&told, "cookie"), Some("theirs=1; more=2"), "our cookie stays here");

    // An application's own use of the header passes, where the cookie opened.
    let own = stage.http.get(&home).header("cookie", &cookie).header("authorization", "Basic abc");
    let told: Value = own.send().await.unwrap().json().await.unwrap();
    assert_eq!(got(&told, "authorization"), Some("Basic abc"));

    let before = asked.load(Ordering::SeqCst);
    let elsewhere = stage.http.get(stage.url(&format!("/s/{other}/"))).header("cookie", &cookie);
    assert_eq!(elsewhere.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(with("streamspace-access=guess".to_owned()).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stage.http.get(&home).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(asked.load(Ordering::SeqCst), before, "nothing of it reached the application");

    let page = stage.http.get(&home).header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    assert!(header(page.headers(), "content-type").starts_with("text/html"));
    assert_eq!(stage.get("/s/01890000-0000-7000-8000-000000000000/").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn websockets_go_through_and_end_with_the_session() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let id = stage.web_session(port).await;
    let url = format!("ws://{}/s/{id}/chat", stage.address);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("cookie", stage.cookie(&id).await.parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(header(answer.headers(), "sec-websocket-protocol"), "chat");
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(format!("heard {text}")));
    }
    stage.server.delete(&format!("/api/v1/sessions/{id}")).await;
    // The connection ends although neither side of it wants to.
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
}

#[tokio::test]
async fn requests_and_open_connections_are_use() {
    let folder = tempfile::tempdir().unwrap();
    let interval = std::time::Duration::from_millis(50);
    let config = ControlConfig {
        activity_interval: interval,
        gateway_connections: (1, 10),
        ..common::config(folder.path())
    };
    let stage = Stage::with(config, folder).await;
    let (port, _) = application().await;
    let id = stage.web_session(port).await;
    let last = async || stage.server.session(&id).await["status"]["last_activity"].clone();
    assert_eq!(last().await, Value::Null);
    let refused = stage.http.get(stage.url(&format!("/s/{id}/a"))).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(last().await, Value::Null, "a stranger does not use it");
    assert_eq!(stage.get(&format!("/s/{id}/a")).send().await.unwrap().status(), StatusCode::OK);
    eventually("noted", async || last().await != Value::Null).await;

    let cookie = stage.cookie(&id).await;
    let open = async || {
        let mut request = format!("ws://{}/s/{id}/chat", stage.address).into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    let (chat, _) = open().await.unwrap();
    for _ in 0..2 {
        let earlier = last().await;
        eventually("a connection that is open counts", async || last().await != earlier).await;
    }
    let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) = open().await else {
        panic!("one more than may be open")
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let metrics = stage.server.get("/metrics").await.text;
    assert!(metrics.contains("streamspace_gateway_connections 1"), "{metrics}");
    assert!(metrics.contains(r#"route="/s/{session}/{*path}""#), "{metrics}");
    assert!(!metrics.contains(&id), "{metrics}");
    drop(chat);
    eventually("a place is free again", async || open().await.is_ok()).await;
    // The server does not wait for viewers.
    stage.server.stop().await;
}

#[tokio::test]
async fn a_session_that_was_started_again_is_found_on_its_new_port() {
    let stage = Stage::set().await;
    let named = |name: &'static str| serve(Router::new().fallback(move || async move { name }));
    let (first, stop_first) = named("first").await;
    let (second, _second) = named("second").await;
    let id = stage.web_session(first).await;
    let ask = async || {
        let answer = stage.get(&format!("/s/{id}/")).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(ask().await, (StatusCode::OK, "first".to_owned()));
    stop_first.cancel();
    stage.backend.with(|state| state.access.insert((id.clone(), "web".into()), second));
    let mut refused = 0;
    eventually("the new port is used", async || {
        let (status, text) = ask().await;
        refused += u32::from(status != StatusCode::OK);
        text == "second"
    })
    .await;
    assert!(refused <= 1, "only a request that was under way may notice");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_in_words() {
    let stage = Stage::set().await;
    // Nobody else gets the port as long as it is held, and nobody listens at it.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let id = stage.web_session(port).await;
    let path = format!("/s/{id}/");
    let answer = stage.get(&path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.text().await.unwrap();
    assert!(text.contains("does not accept") && !text.contains(&port.to_string()), "{text}");

    let page = stage.get(&path).header("accept", "text/html,*/*").send().await.unwrap();
    assert!(page.text().await.unwrap().contains("http-equiv=\"refresh\""));

    stage.backend.with(|state| state.access.clear());
    let answer = stage.get(&path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.unwrap().contains("no such service"));

    let answer = stage.get(&format!("/s/{id}/~nothing/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);

    let bare = stage.session(json!({"base_image": "app"}), "web", port).await;
    let answer = stage.get(&format!("/s/{bare}/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(answer.text().await.unwrap().contains("no TCP port"));
}

#[tokio::test]
async fn the_start_page_and_the_ports_are_services() {
    let stage = Stage::set().await;
    let (web, _) = application().await;
    let (admin, asked_admin) = application().await;
    let spec = json!({
        "base_image": "app",
        "webapp": {"enabled": true, "port": 3000, "path": "/start"},
        "ports": [{"name": "admin", "container_port": 9000}],
    });
    let id = stage.session(spec, "web", web).await;
    stage.backend.with(|state| state.access.insert((id.clone(), "admin".into()), admin));
    let home = stage.get(&format!("/s/{id}/")).send().await.unwrap();
    assert_eq!(home.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(header(home.headers(), "location"), format!("/s/{id}/start"));
    let told: Value = stage.get(&format!("/s/{id}/~admin/x")).send().await.unwrap().json().await.unwrap();
    assert_eq!(told["uri"], "/x");
    assert_eq!(got(&told, "x-forwarded-prefix"), Some(format!("/s/{id}/~admin").as_str()));
    assert_eq!(asked_admin.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_desktop_speaks_rfb_over_a_websocket() {
    let stage = Stage::set().await;
    let port = desktop().await;
    let spec = json!({"base_image": "desk", "vnc": {"enabled": true, "port": 5900, "protocol": "rfb"}});
    let id = stage.session(spec, "vnc", port).await;
    let plain = stage.get(&format!("/s/{id}/")).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);

    let ticket = stage.server.post(&format!("/api/v1/sessions/{id}/tickets"), &Value::Null).await.json();
    let by_ticket =
        format!("/api/v1/sessions/{id}/vnc?streamspace_ticket={}", ticket["ticket"].as_str().unwrap());
    for (path, cookie) in [(format!("/s/{id}/~vnc"), Some(stage.cookie(&id).await)), (by_ticket, None)] {
        let mut request = format!("ws://{}{path}", stage.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
        if let Some(cookie) = cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(request.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(&b"RFB 003.008\n"[..]));
        socket.send(Message::binary(&b"RFB 003.008\n"[..])).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(&b"RFB 003.008\n"[..]));
        socket.close(None).await.unwrap();
        let again = tokio_tungstenite::connect_async(request).await;
        assert_eq!(again.is_ok(), path.starts_with("/s/"), "a ticket is good once");
    }
}

#[tokio::test]
async fn a_desktop_that_hangs_up_is_an_answer() {
    let stage = Stage::set().await;
    // What forwards a port accepts, and only then finds out that nobody listens behind it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let id = stage.session(json!({"base_image": "desk", "vnc": {}}), "vnc", port).await;
    let mut request = format!("ws://{}/s/{id}/~vnc", stage.address).into_client_request().unwrap();
    request.headers_mut().insert("cookie", stage.cookie(&id).await.parse().unwrap());
    let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) =
        tokio_tungstenite::connect_async(request).await
    else {
        panic!("there is nobody to talk to")
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(refused.headers(), "retry-after"), "5");
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let id = stage.web_session(port).await;
    // Larger than what the API itself would read.
    let body = "x".repeat(8 << 20);
    let chunks: Vec<Result<String, std::io::Error>> =
        body.as_bytes().chunks(1 << 16).map(|chunk| Ok(String::from_utf8(chunk.to_vec()).unwrap())).collect();
    let answer = stage
        .http
        .put(stage.url(&format!("/s/{id}/upload")))
        .bearer_auth(&stage.server.token)
        .body(reqwest::Body::wrap_stream(futures::stream::iter(chunks)))
        .send()
        .await
        .unwrap();
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["body"].as_str().unwrap().len(), body.len());
    assert_eq!(got(&told, "transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn only_who_sees_a_session_gets_a_ticket() {
    let stage = Stage::set().await;
    let request = http::Request::post("/api/v1/sessions/01890000-0000-7000-8000-000000000000/tickets");
    let answer = stage.server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = stage
        .server
        .post("/api/v1/sessions/01890000-0000-7000-8000-000000000000/tickets", &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_controller_of_the_core_only_tells_by_its_status_where_a_session_is() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let spec = json!({
        "base_image": "app", "webapp": {"enabled": true, "port": 3000},
        "ports": [{"name": "more", "container_port": 1}],
    });
    let id = stage.session(spec, "web", port).await;
    let url = |url: String| stage.backend.with(|state| state.core_url = Some(url));

    url(format!("http://127.0.0.1:{port}/below"));
    let told: Value = stage.get(&format!("/s/{id}/a")).send().await.unwrap().json().await.unwrap();
    assert_eq!(told["uri"], "/below/a");
    let access = stage.server.get(&format!("/api/v1/sessions/{id}/access")).await.json();
    assert_eq!(
        access["services"],
        json!([{"name": "web", "kind": "http", "url": format!("/s/{id}/")}]),
        "{access}"
    );
    // Where the others are it does not say.
    let other = stage.get(&format!("/s/{id}/~more/")).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::BAD_GATEWAY);
    // What is no place of a session from others is none from here.
    for nowhere in [String::new(), "http://169.254.169.254/".to_owned(), "http://me:pw@127.0.0.1/".to_owned()]
    {
        url(nowhere.clone());
        // Connections that are there stay good for a while.
        let fresh = stage.web_session(port).await;
        let answer = stage.get(&format!("/s/{fresh}/")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{nowhere}");
    }
}
