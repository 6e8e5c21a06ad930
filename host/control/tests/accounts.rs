//! Users, tokens, roles, and what is whose.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Answer, Backend, Server, eventually, simple};
use http::StatusCode;
use serde_json::{Value, json};

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn field(answer: &Answer) -> String {
    answer.json()["errors"][0]["field"].as_str().unwrap_or_default().to_owned()
}

const USERS: &str = "/api/v1/admin/users";
const TOKENS: &str = "/api/v1/tokens";

#[tokio::test]
async fn who_may_do_what() {
    let (_folder, _backend, server) = start().await;
    let tokens = [
        server.user("ursula", "user").await,
        server.user("oskar", "operator").await,
        server.user("ada", "admin").await,
    ];
    let controller =
        server.get("/api/v1/admin/controllers").await.json()[0]["id"].as_str().unwrap().to_owned();
    let controller = format!("/api/v1/admin/controllers/{controller}");
    let template = json!({"name": "t"});
    // What a user, an operator and an administrator get.
    for (method, path, body, expected) in [
        ("GET", "/api/v1/me", None, [200, 200, 200]),
        ("GET", "/api/v1/sessions", None, [200, 200, 200]),
        ("GET", "/api/v1/sessions?user_id=ada", None, [403, 200, 200]),
        (
            "POST",
            "/api/v1/sessions",
            Some(json!({"user": "ada", "spec": {"base_image": "i"}})),
            [403, 201, 201],
        ),
        ("GET", "/api/v1/templates", None, [200, 200, 200]),
        ("POST", "/api/v1/templates", Some(template.clone()), [403, 201, 409]),
        ("GET", "/api/v1/templates/t", None, [200, 200, 200]),
        ("PUT", "/api/v1/templates/t", Some(json!({"category": "x"})), [403, 200, 200]),
        ("PATCH", "/api/v1/templates/t", Some(json!({"category": "y"})), [403, 200, 200]),
        ("POST", "/api/v1/templates/import", Some(json!({})), [403, 415, 415]),
        ("DELETE", "/api/v1/templates/t", None, [403, 204, 404]),
        ("GET", "/api/v1/admin/controllers", None, [403, 200, 200]),
        ("GET", &controller, None, [403, 200, 200]),
        ("PATCH", &controller, Some(json!({"draining": false})), [403, 200, 200]),
        ("DELETE", &controller, None, [403, 409, 409]),
        ("GET", USERS, None, [403, 403, 200]),
        ("POST", USERS, Some(json!({"id": "x"})), [403, 403, 201]),
        ("GET", "/api/v1/admin/users/ursula", None, [403, 403, 200]),
        ("PATCH", "/api/v1/admin/users/ursula", Some(json!({"role": "user"})), [403, 403, 200]),
        ("DELETE", "/api/v1/admin/users/x", None, [403, 403, 204]),
        ("GET", "/api/v1/admin/tokens", None, [403, 403, 200]),
        ("POST", "/api/v1/admin/tokens", Some(json!({"user_id": "ada", "name": "n"})), [403, 403, 201]),
        ("DELETE", "/api/v1/admin/tokens/tok-none", None, [403, 403, 404]),
        ("GET", TOKENS, None, [200, 200, 200]),
        ("POST", TOKENS, Some(json!({"name": "mine"})), [201, 201, 201]),
        ("POST", TOKENS, Some(json!({"name": "mine", "role": "operator"})), [403, 201, 201]),
        ("POST", TOKENS, Some(json!({"name": "mine", "role": "admin"})), [403, 403, 201]),
        ("POST", TOKENS, Some(json!({"name": "x", "user_id": "oskar"})), [403, 201, 403]),
        ("DELETE", "/api/v1/tokens/tok-none", None, [404, 404, 404]),
    ] {
        for (token, expected) in tokens.iter().zip(expected) {
            let answer = server.call(token, method, path, body.as_ref()).await;
            assert_eq!(answer.status.as_u16(), expected, "{method} {path}: {}", answer.text);
        }
        // And nobody gets anything without a token.
        let answer = server.call("ss_nonsense", method, path, body.as_ref()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sessions_of_others_do_not_exist() {
    let (_folder, _backend, server) = start().await;
    let alice = server.user("alice", "user").await;
    let bob = server.user("bob", "user").await;
    let made = server.call(&alice, "POST", "/api/v1/sessions", Some(&simple())).await;
    assert_eq!(made.json()["user_id"], "alice");
    let id = made.id();
    let path = format!("/api/v1/sessions/{id}");
    let unknown = "/api/v1/sessions/0198c2f0-0000-7000-8000-000000000000";

    let foreign = json!({"user_id": "alice", "spec": {"base_image": "i"}});
    let refused = server.call(&bob, "POST", "/api/v1/sessions", Some(&foreign)).await;
    assert_eq!((refused.status, field(&refused)), (StatusCode::FORBIDDEN, "user_id".to_owned()));
    let refused = server.call(&bob, "GET", "/api/v1/sessions?user_id=alice", None).await;
    assert_eq!((refused.status, field(&refused)), (StatusCode::FORBIDDEN, "user_id".to_owned()));
    assert_eq!(server.call(&bob, "GET", "/api/v1/sessions", None).await.json()["items"], json!([]));

    for (tail, served) in [
        ("", ["GET", "PATCH", "DELETE"].as_slice()),
        ("?wait=1s", &["PATCH", "DELETE"]),
        ("/hibernate", &["POST"]),
        ("/wake", &["POST"]),
        ("/heartbeat", &["POST"]),
        ("/tickets", &["POST"]),
        ("/metrics", &["GET"]),
        ("/logs", &["GET"]),
        ("/events", &["GET"]),
        ("/explain", &["GET"]),
        ("/access", &["GET"]),
        ("/vnc", &["GET"]),
    ] {
        for method in ["GET", "PATCH", "POST", "PUT", "DELETE"] {
            if method == "GET" && tail == "?wait=1s" {
                continue;
            }
            let body = json!({"state": "terminated"});
            let body = (method != "GET" && method != "DELETE").then_some(&body);
            let answer = server.call(&bob, method, &format!("{path}{tail}"), body).await;
            let nothing = server.call(&bob, method, &format!("{unknown}{tail}"), body).await;
            let expected = if served.contains(&method) { 404 } else { 405 };
            assert_eq!(answer.status.as_u16(), expected, "{method} {tail}: {}", answer.text);
            // Nothing tells a foreign session from none.
            assert_eq!(
                (answer.status, answer.json()["detail"].clone()),
                (nothing.status, nothing.json()["detail"].clone())
            );
            assert!(!answer.text.contains("alice"));
        }
    }
    for (method, status) in [("GET", 404), ("DELETE", 404)] {
        assert_eq!(server.call(&bob, method, &path, None).await.status.as_u16(), status);
    }
    assert_eq!(server.call(&alice, "GET", &path, None).await.json()["deleting"], false);
    let deleted = server.call(&alice, "DELETE", &format!("{path}?wait=30s"), None).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    server.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_caller() {
    let (_folder, _backend, server) = start().await;
    let (alice, bob) = (server.user("alice", "user").await, server.user("bob", "user").await);
    let key = [("idempotency-key", "one")];
    let mut ids = Vec::new();
    for token in [&alice, &bob, &alice] {
        let made = server.call_with(token, "POST", "/api/v1/sessions", &key, Some(&simple())).await;
        assert_eq!(made.status, StatusCode::CREATED);
        ids.push(made.id());
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
    server.stop().await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_stored_nowhere() {
    let (folder, _backend, server) = start().await;
    server.user("alice", "user").await;
    let made = server.post(TOKENS, &json!({"name": "ci ✓", "role": "operator", "expires_in": "1h"})).await;
    assert_eq!((made.status, made.header("cache-control")), (StatusCode::CREATED, "no-store"));
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("ss_") && secret.len() == 3 + 64, "{secret}");
    let id = made.id();
    for path in [TOKENS, "/api/v1/admin/tokens", "/api/v1/me"] {
        let list = server.get(path).await.text;
        assert!(!list.contains(&secret) && !list.contains("secret") && !list.contains("hash"), "{list}");
    }
    let me = server.call(&secret, "GET", "/api/v1/me", None).await.json();
    assert_eq!(
        (&me["user_id"], &me["role"], &me["user"]["role"]),
        (&json!("admin"), &json!("operator"), &json!("admin"))
    );
    assert_eq!((&me["token"]["name"], &me["token"]["id"]), (&json!("ci ✓"), &json!(id)));
    eventually("the use is noted", async || {
        let list = server.get(TOKENS).await.json();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().any(|token| token["id"] == id.as_str() && token["last_used_at"].is_string())
    })
    .await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let held = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!held.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }

    // Revoked means refused, from the next request on.
    assert_eq!(server.delete(&format!("{TOKENS}/{id}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.call(&secret, "GET", "/api/v1/me", None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.delete(&format!("{TOKENS}/{id}")).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn tokens_of_others_do_not_exist() {
    let (_folder, _backend, server) = start().await;
    let (alice, bob) = (server.user("alice", "user").await, server.user("bob", "user").await);
    let own = server.call(&alice, "GET", TOKENS, None).await.json()["items"].clone();
    assert_eq!(own.as_array().unwrap().len(), 1);
    let path = format!("{TOKENS}/{}", own[0]["id"].as_str().unwrap());
    assert_eq!(server.call(&bob, "DELETE", &path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.call(&alice, "GET", "/api/v1/me", None).await.status, StatusCode::OK);
    let of_alice = server.get("/api/v1/admin/tokens?user_id=alice").await.json()["items"].clone();
    assert_eq!(of_alice.as_array().unwrap().len(), 1);
    assert_eq!(of_alice[0]["created_by"], "admin");
    let path = format!("/api/v1/admin/tokens/{}", own[0]["id"].as_str().unwrap());
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.call(&alice, "GET", "/api/v1/me", None).await.status, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test]
async fn bad_tokens_and_users_are_named() {
    let (_folder, _backend, server) = start().await;
    server.user("alice", "user").await;
    for (path, body, status, at) in [
        ("/api/v1/admin/tokens", json!({}), 400, ""),
        ("/api/v1/admin/tokens", json!({"name": " "}), 422, "name"),
        ("/api/v1/admin/tokens", json!({"name": "a\u{7}"}), 422, "name"),
        ("/api/v1/admin/tokens", json!({"name": "x".repeat(257)}), 422, "name"),
        ("/api/v1/admin/tokens", json!({"name": "x", "role": "king"}), 422, "role"),
        ("/api/v1/admin/tokens", json!({"name": "x", "user_id": "alice", "role": "operator"}), 422, "role"),
        ("/api/v1/admin/tokens", json!({"name": "x", "user_id": "nobody"}), 422, "user_id"),
        ("/api/v1/admin/tokens", json!({"name": "x", "user_id": "nobody", "role": "user"}), 422, "user_id"),
        ("/api/v1/admin/tokens", json!({"name": "x", "expires_in": "soon"}), 422, "expires_in"),
        (
            "/api/v1/admin/tokens",
            json!({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}),
            422,
            "expires_at",
        ),
        ("/api/v1/admin/tokens", json!({"name": "x", "expires_at": "tomorrow"}), 400, "expires_at"),
        ("/api/v1/admin/tokens", json!({"name": "x", "scope": "all"}), 400, "scope"),
        (USERS, json!({"id": ""}), 422, "id"),
        (USERS, json!({"id": " x"}), 422, "id"),
        (USERS, json!({"id": "a\nb"}), 422, "id"),
        // A path to them could not be sent.
        (USERS, json!({"id": "."}), 422, "id"),
        (USERS, json!({"id": ".."}), 422, "id"),
        (USERS, json!({"id": "x", "email": "nowhere"}), 422, "email"),
        (USERS, json!({"id": "x", "role": "king"}), 422, "role"),
        (USERS, json!({"id": "x", "full_name": "f".repeat(300)}), 422, "full_name"),
        (USERS, json!({"id": "x", "password": "p"}), 400, "password"),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(
            (answer.status.as_u16(), field(&answer)),
            (status, at.to_owned()),
            "{body}: {}",
            answer.text
        );
    }
    assert_eq!(server.post(USERS, &json!({"id": "alice"})).await.status, StatusCode::CONFLICT);
    server.stop().await;
}

#[tokio::test]
async fn users_come_change_and_go() {
    let (_folder, _backend, server) = start().await;
    let body =
        json!({"username": "jörg x", "email": "j@example.org", "full_name": "Jörg", "role": "operator"});
    let made = server.post(USERS, &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let path = made.header("location").to_owned();
    assert_eq!(path, "/api/v1/admin/users/j%C3%B6rg%20x");
    assert_eq!(server.get(&path).await.json(), made.json());
    assert_eq!(made.json()["id"], "jörg x");
    let twin = json!({"id": "other", "email": "j@example.org"});
    assert_eq!(server.post(USERS, &twin).await.status, StatusCode::CONFLICT);

    let token = server.post("/api/v1/admin/tokens", &json!({"user_id": "jörg x", "name": "t"})).await.json();
    let secret = token["secret"].as_str().unwrap();
    let controllers =
        async || server.call(secret, "GET", "/api/v1/admin/controllers", None).await.status.as_u16();
    let patch = async |body: Value| server.call(&server.token, "PATCH", &path, Some(&body)).await;
    assert_eq!((&token["role"], controllers().await), (&json!("operator"), 200));
    // Power that is taken away is taken away from tokens that exist.
    assert_eq!(patch(json!({"role": "user"})).await.json()["role"], "user");
    assert_eq!(controllers().await, 403);
    assert_eq!(patch(json!({"active": false, "email": null})).await.json()["email"], Value::Null);
    assert_eq!(controllers().await, 401);
    assert_eq!(patch(json!({"active": true, "role": "operator"})).await.status, StatusCode::OK);
    assert_eq!(controllers().await, 200);

    // Nobody's sessions are left without an owner.
    let session = server.call(secret, "POST", "/api/v1/sessions", Some(&simple())).await.id();
    assert_eq!(server.delete(&path).await.status, StatusCode::CONFLICT);
    server.delete(&format!("/api/v1/sessions/{session}?wait=30s")).await;
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(controllers().await, 401);
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.delete(&path).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let (_folder, _backend, server) = start().await;
    let path = "/api/v1/admin/users/admin";
    for body in
        [json!({"active": false}), json!({"role": "operator"}), json!({"role": "user", "active": false})]
    {
        let refused = server.call(&server.token, "PATCH", path, Some(&body)).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    }
    assert_eq!(server.delete(path).await.status, StatusCode::CONFLICT);
    // One who is inactive does not count.
    let ada = server.user("ada", "admin").await;
    let of_ada = "/api/v1/admin/users/ada";
    server.call(&server.token, "PATCH", of_ada, Some(&json!({"active": false}))).await;
    assert_eq!(server.delete(path).await.status, StatusCode::CONFLICT);
    server.call(&server.token, "PATCH", of_ada, Some(&json!({"active": true}))).await;
    assert_eq!(server.call(&ada, "PATCH", path, Some(&json!({"role": "user"}))).await.status, StatusCode::OK);
    assert_eq!(server.get("/api/v1/admin/controllers").await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.call(&ada, "DELETE", of_ada, None).await.status, StatusCode::CONFLICT);
    server.stop().await;
}

#[tokio::test]
async fn lists_have_pages() {
    let (_folder, _backend, server) = start().await;
    for id in ["a", "b", "c", "d"] {
        server.user(id, "user").await;
    }
    for (path, count) in [(USERS, 5), ("/api/v1/admin/tokens", 5)] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("{path}?limit=2{cursor}")).await.json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!((seen.len(), unique.len()), (count, count), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn draining_and_removing_a_controller() {
    let (_folder, backend, server) = start().await;
    let controller =
        server.get("/api/v1/admin/controllers").await.json()[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/admin/controllers/{controller}");
    let patch = async |body: Value| server.call(&server.token, "PATCH", &path, Some(&body)).await;
    let running = server.create().await;
    server.phase(&running, "Running").await;

    let drained = patch(json!({"draining": true, "labels": {"region": "attic", "gpu": "none"}})).await.json();
    assert_eq!((&drained["draining"], &drained["labels"]["region"]), (&json!(true), &json!("attic")));
    assert_eq!(server.session(&running).await["phase"], "Running");
    let waiting = server.create().await;
    let session = server.session(&waiting).await;
    let scheduled = common::condition(&session, "Scheduled");
    assert_eq!((&session["phase"], &scheduled["reason"]), (&json!("Pending"), &json!("Unschedulable")));
    assert!(scheduled["message"].as_str().unwrap().contains("is draining"), "{scheduled}");
    assert_eq!(server.delete(&path).await.status, StatusCode::CONFLICT);

    let back = patch(json!({"draining": false, "labels": {"region": null}})).await.json();
    assert_eq!((&back["labels"]["region"], &back["labels"]["gpu"]), (&json!("lab"), &json!("none")));
    server.phase(&waiting, "Running").await;
    for (body, at) in [
        (json!({"draining": "yes"}), "draining"),
        (json!({"colour": 1}), "colour"),
        (json!({"labels": {"": "x"}}), "labels"),
    ] {
        assert_eq!(field(&patch(body.clone()).await), at, "{body}");
    }

    for id in [&running, &waiting] {
        server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await;
    }
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        server.call(&server.token, "PATCH", &path, Some(&json!({}))).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(server.post("/api/v1/sessions", &simple()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // Whoever registers again is a new one.
    let again = common::register(server.control(), "one", &backend).await;
    assert_ne!(again.as_str(), controller);
    let id = server.create().await;
    server.phase(&id, "Running").await;
    server.stop().await;
}

#[tokio::test]
async fn what_operators_say_outlives_a_restart() {
    let (folder, backend, server) = start().await;
    let controller =
        server.get("/api/v1/admin/controllers").await.json()[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/admin/controllers/{controller}");
    let body = json!({"draining": true, "labels": {"region": "attic"}});
    server.call(&server.token, "PATCH", &path, Some(&body)).await;
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;
    let found = server.get(&path).await.json();
    assert_eq!((&found["draining"], &found["labels"]["region"]), (&json!(true), &json!("attic")));
    server.stop().await;
}
