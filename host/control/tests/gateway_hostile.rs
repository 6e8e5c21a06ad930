//! Browsers, applications and guests that mean harm to the gateway or, through it, to each other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message as Served, WebSocketUpgrade};
use axum::response::IntoResponse as _;
use axum::routing::any;
use common::eventually;
use common::visit::{Stage, application, desktop, serve};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::controller::v1::access_point::Target;
use streamspace_proto::controller::v1::{AccessPoint, HttpTarget, TcpTarget};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// What a guest on a raw connection is asked, once; it answers with these bytes.
async fn scripted(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                read => asked.extend_from_slice(&buffer[..read]),
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        // What comes after the answer is read too, until the other side has enough.
        let _ = stream.read_to_end(&mut asked).await;
        String::from_utf8_lossy(&asked).to_lowercase()
    });
    (port, asked)
}

#[tokio::test]
async fn a_request_ends_where_the_gateway_says() {
    let stage = Stage::set().await;
    let (port, asked) = application().await;
    let id = stage.web_session(port).await;
    // Two lengths: for a server that believes the other one, a second request would be in it.
    let hidden = format!("0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address);
    let head = format!(
        "POST /s/{id}/a HTTP/1.1\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n",
        hidden.len()
    );
    stage.raw(&head, &hidden).await;
    assert!(asked.load(Ordering::SeqCst) <= 1, "the hidden request was never asked");

    for lengths in
        ["Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: +1\r\n", "Content-Length: 1, 2\r\n"]
    {
        let answer = stage.raw(&format!("POST /s/{id}/a HTTP/1.1\r\n{lengths}"), "xy").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lengths}: {answer}");
    }
    let before = asked.load(Ordering::SeqCst);
    let odd = format!("POST /s/{id}/a HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n");
    let answer = stage.raw(&odd, "0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn headers_of_the_connection_take_nothing_away() {
    let stage = Stage::set().await;
    let (port, asked) = scripted("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    let id = stage.web_session(port).await;
    let head = format!(
        "GET /s/{id}/a HTTP/1.1\r\nConnection: close, Host, X-Forwarded-Prefix, X-Own\r\nX-Own: 1\r\n\
         X-Forwarded-Host: evil.example\r\nX-Forwarded-Prefix: /evil\r\nTrailer: x\r\n"
    );
    let answer = stage.raw(&head, "").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let asked = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap().unwrap();
    let address = stage.address;
    for part in [
        format!("\r\nhost: {address}"),
        format!("x-forwarded-host: {address}"),
        format!("x-forwarded-prefix: /s/{id}\r\n"),
    ] {
        assert!(asked.contains(&part), "{asked}");
    }
    for part in ["evil", "x-own", "trailer", "connection: close"] {
        assert!(!asked.contains(part), "{asked}");
    }
}

#[tokio::test]
async fn nothing_but_a_websocket_gets_a_connection_of_its_own() {
    let stage = Stage::set().await;
    // An application that would switch to whatever it is asked for.
    let (port, asked) =
        scripted("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n").await;
    let id = stage.web_session(port).await;
    let head = format!(
        "GET /s/{id}/a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    );
    let answer = stage.raw_until(&head, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "nobody was asked to switch: {answer}");
    let asked = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap().unwrap();
    assert!(!asked.contains("upgrade") && !asked.contains("h2c"), "{asked}");

    for method in ["CONNECT", "TRACE"] {
        let (port, asked) = application().await;
        let id = stage.web_session(port).await;
        let answer = stage.raw(&format!("{method} /s/{id}/a HTTP/1.1\r\n"), "").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{method}: {answer}");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{method}");
    }
}

#[tokio::test]
async fn a_page_of_another_server_opens_no_websocket() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let web = stage.web_session(port).await;
    let spec = json!({"base_image": "desk", "vnc": {"enabled": true}});
    let desk = stage.session(spec, "vnc", desktop().await).await;
    let own = format!("http://{}", stage.address);
    // The same machine, another port: browsers send it the cookie.
    for (origin, allowed) in [
        (Some(own.as_str()), true),
        (None, true),
        (Some("http://127.0.0.1:1"), false),
        (Some("https://evil.example"), false),
        (Some("null"), false),
    ] {
        for path in [format!("/s/{web}/chat"), format!("/s/{desk}/~vnc")] {
            let id = if path.contains(&web) { &web } else { &desk };
            let mut request = format!("ws://{}{path}", stage.address).into_client_request().unwrap();
            request.headers_mut().insert("cookie", stage.cookie(id).await.parse().unwrap());
            if let Some(origin) = origin {
                request.headers_mut().insert("origin", origin.parse().unwrap());
            }
            match tokio_tungstenite::connect_async(request).await {
                Ok(_) => assert!(allowed, "{origin:?} {path}"),
                Err(Error::Http(refused)) => {
                    assert!(!allowed && refused.status() == StatusCode::FORBIDDEN, "{origin:?} {path}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    // Who has a token is no page.
    let mut request = format!("ws://{}/s/{web}/chat", stage.address).into_client_request().unwrap();
    let token = format!("Bearer {}", stage.server.token);
    request.headers_mut().insert("authorization", token.parse().unwrap());
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert!(tokio_tungstenite::connect_async(request).await.is_ok());
}

#[tokio::test]
async fn a_heap_of_cookies_is_no_heap_of_work() {
    let stage = Stage::set().await;
    let (port, _) = application().await;
    let id = stage.web_session(port).await;
    let cookie = stage.cookie(&id).await;
    let ask = async |cookies: String| {
        let request = stage.http.get(stage.url(&format!("/s/{id}/a"))).header("cookie", cookies);
        request.send().await.unwrap().status()
    };
    let many = |value: &str, count: usize| format!("streamspace-access={value}; ").repeat(count);
    assert_eq!(ask(format!("{}{cookie}", many("short", 200))).await, StatusCode::OK);
    assert_eq!(ask(format!("{}{cookie}", many(&"ab".repeat(32), 7))).await, StatusCode::OK);
    // Nobody looks further than some.
    assert_eq!(ask(format!("{}{cookie}", many(&"ab".repeat(32), 8))).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_application_cannot_speak_for_the_origin() {
    let stage = Stage::set().await;
    let names = ["nel", "report-to", "clear-site-data", "service-worker-allowed", "alt-svc"];
    let router = Router::new().fallback(async move || {
        let mut answer = StatusCode::OK.into_response();
        for name in names {
            answer.headers_mut().insert(name, "x".parse().unwrap());
        }
        for cookie in ["=streamspace-access=forged; Path=/", "streamspace-access=forged", "own=1"] {
            answer.headers_mut().append("set-cookie", cookie.parse().unwrap());
        }
        answer
    });
    let (port, _stop) = serve(router).await;
    let id = stage.web_session(port).await;
    let answer = stage.get(&format!("/s/{id}/a")).send().await.unwrap();
    for name in names {
        assert_eq!(answer.headers().get(name), None, "{name}");
    }
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, [format!("own=1; Path=/s/{id}/").as_str()]);
}

#[tokio::test]
async fn a_guest_cannot_name_just_any_address() {
    let stage = Stage::set().await;
    let id = stage.web_session(1).await;
    let tcp = |host: &str| Target::Tcp(TcpTarget { host: host.into(), port: 80 });
    let http = |url: &str| Target::Http(HttpTarget { base_url: url.into(), ..Default::default() });
    for target in [
        tcp("169.254.169.254"),
        tcp("0.0.0.0"),
        tcp("::ffff:169.254.169.254"),
        // Where addresses are translated: the same.
        tcp("64:ff9b::a9fe:a9fe"),
        // As the resolver of the system reads it: the number of 169.254.169.254.
        tcp("2852039166"),
        http("http://169.254.169.254/latest"),
        http("https://[fe80::1]/"),
    ] {
        let point = AccessPoint { target: Some(target.clone()), ..Default::default() };
        stage.backend.with(|state| state.targets.insert((id.clone(), "web".into()), point));
        let answer = stage.get(&format!("/s/{id}/a")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{target:?}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("where no session can be") && !text.contains("169"), "{text}");
    }
}

#[tokio::test]
async fn a_viewer_that_fell_silent_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    // Who is silent for three of them is gone; the lively one has to be that quick.
    let config = ControlConfig { event_heartbeat: Duration::from_secs(2), ..common::config(folder.path()) };
    let stage = Stage::with(config, folder).await;
    let spec = json!({"base_image": "desk", "vnc": {"enabled": true}});
    let id = stage.session(spec, "vnc", desktop().await).await;
    let open = async || {
        let mut request = format!("ws://{}/s/{id}/~vnc", stage.address).into_client_request().unwrap();
        request.headers_mut().insert("cookie", stage.cookie(&id).await.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.unwrap().0
    };
    let viewers = async || {
        let metrics = stage.server.get("/metrics").await.text;
        let line = metrics.lines().find(|line| line.starts_with("streamspace_gateway_connections "));
        line.unwrap().split(' ').nth(1).unwrap().parse::<u32>().unwrap()
    };
    // Answers pings only when it is read from.
    let silent = open().await;
    let mut lively = open().await;
    assert_eq!(viewers().await, 2);
    let (mut pings, mut gone) = (0, false);
    while pings < 4 || !gone {
        let message = tokio::time::timeout(Duration::from_secs(30), lively.next()).await.unwrap();
        pings += u32::from(message.unwrap().unwrap().is_ping());
        gone = viewers().await == 1;
    }
    lively.send(Message::binary(&b"still here"[..])).await.unwrap();
    loop {
        match lively.next().await.unwrap().unwrap() {
            Message::Binary(bytes) if bytes.ends_with(b"still here") => break,
            Message::Binary(_) | Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    drop((silent, lively));
    eventually("all places are free", async || viewers().await == 0).await;
}

#[tokio::test]
async fn a_viewer_cannot_send_more_than_a_viewer_has_to_say() {
    let stage = Stage::set().await;
    let spec = json!({"base_image": "desk", "vnc": {"enabled": true}});
    let id = stage.session(spec, "vnc", desktop().await).await;
    let mut request = format!("ws://{}/s/{id}/~vnc", stage.address).into_client_request().unwrap();
    request.headers_mut().insert("cookie", stage.cookie(&id).await.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    // It may break while it is sent.
    let _ = socket.send(Message::binary(vec![0; 2 << 20])).await;
    let mut back = 0;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => back += bytes.len(),
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert!(back < 1 << 20, "nothing of it reached the desktop");
}

#[tokio::test]
async fn a_desktop_that_speaks_websocket_itself_is_reached_like_any_other() {
    let stage = Stage::set().await;
    let router = Router::new()
        .route(
            "/websockify",
            any(async |upgrade: WebSocketUpgrade, uri: http::Uri| {
                upgrade.protocols(["binary"]).on_upgrade(async move |mut socket| {
                    let greeting = format!("RFB 003.008\n{}", uri.query().unwrap_or_default());
                    socket.send(Served::Binary(greeting.into())).await.unwrap();
                })
            }),
        )
        .fallback(async || StatusCode::NOT_FOUND);
    let (port, _stop) = serve(router).await;
    let spec = json!({"base_image": "desk", "vnc": {"enabled": true, "protocol": "websocket"}});
    let id = stage.session(spec, "vnc", port).await;
    let base_url = format!("http://127.0.0.1:{port}/websockify");
    let target = Some(Target::Http(HttpTarget { base_url, ..Default::default() }));
    let point = AccessPoint { target, ..Default::default() };
    stage.backend.with(|state| state.targets.insert((id.clone(), "vnc".into()), point));
    let ticket = stage.server.post(&format!("/api/v1/sessions/{id}/tickets"), &Value::Null).await.json();
    let path = format!("/api/v1/sessions/{id}/vnc?streamspace_ticket={}", ticket["ticket"].as_str().unwrap());
    let mut request = format!("ws://{}{path}", stage.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    // The ticket did not go further than it had to.
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(&b"RFB 003.008\n"[..]));
    let plain = stage.get(&format!("/api/v1/sessions/{id}/vnc")).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
}
