//! Controllers that run elsewhere: who is let in, who is turned away, and that they are called.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::database::sql;
use common::remote::{JOIN_TOKENS, REGISTER, Shell, audited, controller, door_of, is, join_token, open_door};
use common::{Backend, Server, config, eventually, register, simple};
use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use streamspace_control::{ControlConfig, ControlError, Registration};
use tonic::transport::Identity;

const CONTROLLERS: &str = "/api/v1/admin/controllers";

/// A server without a controller of its own.
async fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(config(folder.path()), None).await;
    (folder, server)
}

#[tokio::test]
async fn join_tokens_are_made_shown_once_listed_and_revoked_by_administrators() {
    let (_folder, server) = start().await;
    let made = join_token(&server, json!({"controller_type": "docker", "expires_in": "1h"})).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("ssj_") && secret.len() > 60, "{made}");
    assert_eq!((&made["controller_type"], &made["controller_name"]), (&json!("docker"), &Value::Null));
    join_token(&server, json!({"name": "second"})).await;

    let page = server.get(&format!("{JOIN_TOKENS}?limit=1")).await.json();
    assert_eq!(page["items"][0]["name"], "second");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("{JOIN_TOKENS}?cursor={cursor}")).await;
    assert_eq!((&rest.json()["items"][0]["id"], &rest.json()["next_cursor"]), (&made["id"], &Value::Null));
    assert!(!rest.text.contains("secret") && !rest.text.contains(secret));

    let operator = server.user("olga", "operator").await;
    let one = format!("{JOIN_TOKENS}/{}", made["id"].as_str().unwrap());
    for (method, path, body) in [
        ("GET", JOIN_TOKENS, None),
        ("POST", JOIN_TOKENS, Some(json!({"name": "x"}))),
        ("DELETE", &one, None),
    ] {
        let refused = server.call(&operator, method, path, body.as_ref()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}: {}", refused.text);
    }
    for (body, field) in [
        (json!({"name": " "}), "name"),
        (json!({"name": "x", "controller_type": ""}), "controller_type"),
        (json!({"name": "x", "controller_name": "a\u{1}"}), "controller_name"),
        (json!({"name": "x", "expires_in": "soon"}), "expires_in"),
        (json!({"name": "x", "expires_in": "100000h"}), "expires_in"),
    ] {
        let refused = server.post(JOIN_TOKENS, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", refused.text);
        assert_eq!(refused.json()["errors"][0]["field"], field);
    }

    assert_eq!(server.delete(&one).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.delete(&one).await.status, StatusCode::NOT_FOUND);
    assert_eq!(audited(&server, "join-token.create").await.len(), 2);
    let gone = audited(&server, "join-token.delete").await;
    assert_eq!((&gone[0]["target"]["id"], &gone[0]["actor"]["id"]), (&made["id"], &json!("admin")));
    server.stop().await;
}

#[tokio::test]
async fn a_controller_registers_and_gets_sessions() {
    let (_folder, server) = start().await;
    let nobody = server.post("/api/v1/sessions", &simple()).await;
    assert_eq!(nobody.status, StatusCode::SERVICE_UNAVAILABLE, "{}", nobody.text);
    let backend = Backend::default();
    let mut shell = Shell::start(&backend, "far", None).await;
    let join = join_token(&server, json!({"controller_type": "docker"})).await;
    let secret = join["secret"].as_str().unwrap().to_owned();
    let answer = shell.register(&server, &secret).await;
    assert_eq!((&answer["api_version"], &answer["role"]), (&json!("v1alpha1"), &json!("active")));
    assert_eq!(answer["heartbeat_interval"], "100ms");
    assert!(answer["epoch"].as_u64().unwrap() > 0);
    assert!(shell.token.starts_with("ssc_"));
    let keys = answer["keys"]["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["kty"], &keys[0]["crv"]), (1, &json!("OKP"), &json!("Ed25519")));

    let id = server.running().await;
    assert_eq!(server.session(&id).await["controller_id"], json!(shell.id));
    let epoch = backend.calls("create")[0].epoch;
    assert!(epoch >= answer["epoch"].as_u64().unwrap(), "{epoch}: below what the controller was told");

    let beat = shell.beat(&server).await;
    assert_eq!(beat.status, StatusCode::OK, "{}", beat.text);
    assert_eq!((&beat.json()["state"], &beat.json()["role"]), (&json!("serve"), &json!("active")));
    assert_eq!(beat.json()["keys"], answer["keys"]);
    let shown = is(&server, &shell.id, "healthy").await;
    assert_eq!((&shown["endpoint"], &shown["remote"]), (&shell.registration["endpoint"], &json!(true)));
    assert_eq!(shown["labels"]["region"], "lab");
    let instance = &shown["instances"][0];
    assert_eq!((&instance["instance"], &instance["role"]), (&json!(""), &json!("active")));
    assert_eq!(
        (&instance["current_sessions"], &instance["resource_usage"]["memory"]),
        (&json!(3), &json!("32Gi"))
    );
    assert!(shown["last_heartbeat"].as_str().unwrap() >= instance["last_heartbeat"].as_str().unwrap());
    let drain = json!({"draining": true});
    server.call(&server.token, "PATCH", &format!("{CONTROLLERS}/{}", shell.id), Some(&drain)).await;
    assert_eq!(shell.beat(&server).await.json()["state"], "drain");

    // The same type and name are the same controller, and who is known needs no join token any more.
    let (known, first) = (shell.id.clone(), shell.token.clone());
    shell.register(&server, &first).await;
    assert_eq!(shell.id, known);
    assert_ne!(shell.token, first);
    assert_eq!(server.get(CONTROLLERS).await.json().as_array().unwrap().len(), 1);
    // An answer may have been lost: the token before is good for a while, also to register.
    assert_eq!(shell.beat_as(&server, &first, "healthy").await.status, StatusCode::OK);
    shell.register(&server, &first).await;

    let entries = audited(&server, "controller.register").await;
    assert_eq!(entries.len(), 3);
    let actor = &entries[2]["actor"];
    assert_eq!((&actor["kind"], &actor["id"]), (&json!("controller"), &json!(shell.id)));
    assert_eq!((&actor["token_id"], &actor["token_name"]), (&join["id"], &json!("test")));
    assert_eq!(entries[0]["actor"]["token_id"], Value::Null);
    assert_eq!(audited(&server, "controller.activate").await.len(), 1, "it is where it was");
    let everything = server.get("/api/v1/admin/audit?limit=500").await.text;
    assert!(![&first, &shell.token, &secret].iter().any(|secret| everything.contains(*secret)));
    let used = server.get(JOIN_TOKENS).await.json();
    assert!(used["items"][0]["last_used_at"].is_string(), "{used}");

    server.delete(&format!("/api/v1/sessions/{id}")).await;
    server.gone(&id).await;
    assert_eq!(server.delete(&format!("{CONTROLLERS}/{}", shell.id)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(shell.beat(&server).await.status, StatusCode::UNAUTHORIZED, "its tokens went with it");
    shell.end().await;
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_register_is_turned_away_and_written_down() {
    let (folder, server) = start().await;
    let backend = Backend::default();
    let shell = Shell::start(&backend, "far", None).await;
    let secret = |token: &Value| token["secret"].as_str().unwrap().to_owned();
    let revoked = join_token(&server, json!({})).await;
    server.delete(&format!("{JOIN_TOKENS}/{}", revoked["id"].as_str().unwrap())).await;
    let expired = join_token(&server, json!({"expires_in": "1h"})).await;
    let statement = format!(
        "UPDATE join_tokens SET expires_at = '2026-01-01T00:00:00+00:00' WHERE id = '{}'",
        expired["id"].as_str().unwrap()
    );
    assert_eq!(sql(folder.path(), &statement).await, 1);
    let other_type = join_token(&server, json!({"controller_type": "kvm"})).await;
    let other_name =
        join_token(&server, json!({"controller_type": "docker", "controller_name": "near"})).await;
    let mut near = Shell::start(&backend, "near", None).await;
    near.register(&server, &secret(&other_name)).await;

    for (token, status, reason) in [
        ("ssj_0000".to_owned(), StatusCode::UNAUTHORIZED, "no valid token"),
        (server.token.clone(), StatusCode::UNAUTHORIZED, "no valid token"),
        (secret(&revoked), StatusCode::UNAUTHORIZED, "no valid token"),
        (secret(&expired), StatusCode::UNAUTHORIZED, "no valid token"),
        (secret(&other_type), StatusCode::FORBIDDEN, "the join token is for another type or name"),
        (secret(&other_name), StatusCode::FORBIDDEN, "the join token is for another type or name"),
        (near.token.clone(), StatusCode::FORBIDDEN, "the token is another controller's"),
    ] {
        let before = audited(&server, "controller.refuse").await.len();
        let refused = shell.ask(&server, &token).await;
        assert_eq!(refused.status, status, "{reason}: {}", refused.text);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        let written = audited(&server, "controller.refuse").await;
        assert_eq!(written.len(), before + 1);
        assert_eq!(
            (&written[0]["details"]["reason"], &written[0]["details"]["request"]),
            (&json!(reason), &json!("register"))
        );
    }
    let without = server.send(http::Request::post(REGISTER).body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(without.status, StatusCode::UNAUTHORIZED);
    assert!(without.headers.contains_key("www-authenticate"));
    let written = audited(&server, "controller.refuse").await;
    assert_eq!((written.len(), &written[0]["actor"]["id"]), (8, &json!("unknown")));
    let known = server.get(CONTROLLERS).await.json();
    assert_eq!(known.as_array().unwrap().len(), 1, "nothing is stored of who was turned away: {known}");

    // A flood is not written down as a whole.
    let flood = futures::future::join_all((0..80).map(|_| shell.ask(&server, "ssj_0000"))).await;
    assert!(flood.iter().all(|refused| refused.status == StatusCode::UNAUTHORIZED));
    let all = audited(&server, "controller.refuse").await;
    let of_the_flood = all.iter().filter(|one| one["details"]["reason"] == "no valid token").count();
    assert_eq!((of_the_flood, all.len()), (60, 63));
    // Nor does it keep what others do from being written down.
    assert_eq!(shell.ask(&server, &secret(&other_type)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(audited(&server, "controller.refuse").await.len(), 64);
    server.stop().await;
}

#[tokio::test]
async fn signs_of_life_need_the_right_token() {
    let (folder, server) = start().await;
    let backend = Backend::default();
    let secret = door_of(&server, "far").await;
    let mut shell = Shell::start(&backend, "far", None).await;
    shell.register(&server, &secret).await;
    let stolen = shell.token.clone();
    shell.register(&server, &secret).await;
    assert_eq!(shell.beat_as(&server, &stolen, "healthy").await.status, StatusCode::OK);
    let past = "UPDATE controller_tokens SET previous_expires_at = '2026-01-01T00:00:00+00:00'";
    assert_eq!(sql(folder.path(), past).await, 1);
    let mut other = Shell::start(&backend, "other", None).await;
    other.register(&server, &open_door(&server).await).await;

    for (token, status, reason) in [
        (&stolen, StatusCode::UNAUTHORIZED, "no valid token"),
        (&server.token, StatusCode::UNAUTHORIZED, "no valid token"),
        (&secret, StatusCode::UNAUTHORIZED, "a join token"),
        (&other.token, StatusCode::FORBIDDEN, "the token is another controller's"),
    ] {
        let refused = shell.beat_as(&server, token, "healthy").await;
        assert_eq!(refused.status, status, "{reason}: {}", refused.text);
        let written = &audited(&server, "controller.refuse").await[0];
        assert_eq!(
            (&written["target"]["id"], &written["details"]["reason"]),
            (&json!(shell.id), &json!(reason))
        );
        assert_eq!(written["details"]["request"], "heartbeat");
    }
    assert_eq!(shell.ask(&server, &stolen).await.status, StatusCode::UNAUTHORIZED, "nor does it register");
    assert_eq!(shell.beat(&server).await.status, StatusCode::OK);
    for (body, status, field) in [
        (json!({}), 400, ""),
        (json!({"status": "fine"}), 422, "status"),
        (json!({"status": "healthy", "current_sessions": -1}), 400, "current_sessions"),
        (json!({"status": "healthy", "resource_usage": {"memory": "lots"}}), 422, "resource_usage.memory"),
        (json!({"status": "healthy", "resource_usage": {"cpu": "x"}}), 422, "resource_usage.cpu"),
        (json!({"status": "healthy", "resource_usage": ["1"]}), 400, "resource_usage"),
        (json!({"status": "healthy", "instance": "x".repeat(65)}), 422, "instance"),
        (json!({"status": "healthy", "load": 1}), 400, "load"),
    ] {
        let path = format!("/api/v1/controllers/{}/heartbeat", shell.id);
        let refused = server.call(&shell.token, "POST", &path, Some(&body)).await;
        assert_eq!(refused.status.as_u16(), status, "{body}: {}", refused.text);
        assert_eq!(refused.json()["errors"][0]["field"], field, "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_good_until_the_one_after_it_was_used() {
    let (folder, server) = start().await;
    let backend = Backend::default();
    let mut shell = Shell::start(&backend, "far", None).await;
    shell.register(&server, &open_door(&server).await).await;
    assert_eq!(shell.beat(&server).await.status, StatusCode::OK);
    let first = shell.token.clone();
    let in_an_hour = (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339();
    let good_for_long = format!(
        "UPDATE controller_tokens SET created_at = created_at WHERE previous_expires_at > '{in_an_hour}'"
    );
    // Answers get lost, again and again: what the process has stays good, however long that goes on.
    for _ in 0..3 {
        assert_eq!(shell.ask(&server, &first).await.status, StatusCode::OK);
        assert_eq!(sql(folder.path(), &good_for_long).await, 1);
        assert_eq!(shell.beat_as(&server, &first, "healthy").await.status, StatusCode::OK);
    }
    shell.register(&server, &first).await;
    assert_eq!(sql(folder.path(), &good_for_long).await, 1);
    // It has the new one. What is under way with the old one gets through.
    assert_eq!(shell.beat(&server).await.status, StatusCode::OK);
    assert_eq!(sql(folder.path(), &good_for_long).await, 0);
    assert_eq!(shell.beat_as(&server, &first, "healthy").await.status, StatusCode::OK);
    let past = "UPDATE controller_tokens SET previous_expires_at = '2026-01-01T00:00:00+00:00'";
    assert_eq!(sql(folder.path(), past).await, 1);
    assert_eq!(shell.beat_as(&server, &first, "healthy").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(shell.beat(&server).await.status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn where_a_controller_may_be() {
    let (folder, server) = start().await;
    let secret = open_door(&server).await;
    let ask = async |server: &Server, name: &str, endpoint: &str| {
        let body = json!({"type": "docker", "name": name, "endpoint": endpoint});
        server.call(&secret, "POST", REGISTER, Some(&body)).await
    };
    for (endpoint, words) in [
        ("grpc://site-b.example.org:50051", "remote.allow_insecure_endpoints"),
        ("grpc://10.0.0.7:50051", "remote.allow_insecure_endpoints"),
        ("grpcs://169.254.169.254:80", "link-local"),
        ("grpcs://[fe80::1]:80", "link-local"),
        ("grpcs://[::ffff:169.254.169.254]:80", "link-local"),
        ("grpcs://0.0.0.0:80", "unspecified"),
        ("grpcs://224.0.0.1:80", "multicast"),
        ("grpcs://255.255.255.255:80", "broadcast"),
    ] {
        let refused = ask(&server, "far", endpoint).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{endpoint}: {}", refused.text);
        assert_eq!(refused.json()["errors"][0]["field"], "endpoint");
        assert!(refused.text.contains(words), "{endpoint}: {}", refused.text);
    }
    assert!(server.get(CONTROLLERS).await.json().as_array().unwrap().is_empty());
    server.stop().await;

    let allowing = ControlConfig { allow_insecure_endpoints: true, ..config(folder.path()) };
    let server = Server::start_with(allowing, None).await;
    let registered = ask(&server, "far", "grpc://192.0.2.7:50051").await;
    assert_eq!(registered.status, StatusCode::OK, "{}", registered.text);
    assert_eq!(ask(&server, "near", "grpc://169.254.0.1:1").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    server.stop().await;
}

#[tokio::test]
async fn what_is_part_of_a_server_cannot_be_taken_from_outside() {
    let (folder, server) = start().await;
    let backend = Backend::default();
    let embedded = register(server.control(), "one", &backend).await;
    let id = server.running().await;
    let mut shell = Shell::start(&backend, "one", None).await;
    let named = join_token(
        &server,
        json!({"controller_type": "docker", "controller_name": "one", "expires_in": "1h"}),
    )
    .await;
    let named = named["secret"].as_str().unwrap();
    for token in [open_door(&server).await.as_str(), named] {
        let refused = shell.ask(&server, token).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        assert_eq!(refused.json()["type"], "urn:streamspace:problem:embedded-controller");
    }
    let written = audited(&server, "controller.refuse").await;
    assert_eq!(written[0]["details"]["reason"], "the controller is part of a server");
    server.stop().await;

    // Taken out of the configuration, it goes on elsewhere, if that is what an administrator meant.
    let server = Server::start_with(config(folder.path()), None).await;
    let refused = shell.ask(&server, &open_door(&server).await).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    shell.register(&server, named).await;
    assert_eq!(shell.id, embedded.as_str());
    server.patch(&id, &json!({"state": "hibernated"})).await;
    server.phase(&id, "Hibernated").await;
    assert_eq!(backend.with(|state| state.made), 1);

    // And back, but not as long as it gives signs of life.
    let registration = || Registration {
        controller_type: "docker".into(),
        name: "one".into(),
        endpoint: String::new(),
        labels: Default::default(),
    };
    let refused = server.control().register_controller(registration()).await;
    assert!(matches!(refused, Err(ControlError::Store(_))), "{refused:?}");
    let past = "UPDATE controller_instances SET lease_until = '2026-01-01T00:00:00+00:00'";
    assert_eq!(sql(folder.path(), past).await, 1);
    assert_eq!(register(server.control(), "one", &backend).await, embedded);
    assert_eq!(shell.beat(&server).await.status, StatusCode::UNAUTHORIZED);
    shell.end().await;
    server.patch(&id, &json!({"state": "running"})).await;
    server.phase(&id, "Running").await;
    assert_eq!(controller(&server, embedded.as_str()).await["remote"], false);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_again_calls_its_controllers() {
    let (folder, server) = start().await;
    let backend = Backend::default();
    let mut shell = Shell::start(&backend, "far", None).await;
    shell.register(&server, &open_door(&server).await).await;
    let id = server.running().await;
    let key = std::fs::metadata(folder.path().join("call-signing.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    server.stop().await;
    let server = Server::start_with(config(folder.path()), None).await;
    is(&server, &shell.id, "healthy").await;
    server.patch(&id, &json!({"state": "hibernated"})).await;
    server.phase(&id, "Hibernated").await;
    assert_eq!(shell.beat(&server).await.status, StatusCode::OK, "its token is still good");
    shell.end().await;
    server.stop().await;
}

#[tokio::test]
async fn calls_are_signed_with_a_key_that_the_controller_was_told() {
    let (_folder, server) = start().await;
    let backend = Backend::default();
    let mut shell = Shell::strict(&backend, "far").await;
    let registered = shell.register(&server, &open_door(&server).await).await;
    is(&server, &shell.id, "healthy").await;
    let id = server.running().await;
    // Of another server nobody has told it.
    let (_other_folder, stranger) = start().await;
    let answer = shell.ask(&stranger, &open_door(&stranger).await).await;
    let at_the_stranger = answer.json()["controller_id"].as_str().unwrap().to_owned();
    eventually("that it refuses", async || {
        let seen = controller(&stranger, &at_the_stranger).await;
        seen["message"].as_str().is_some_and(|message| !message.is_empty()) && seen["status"] != "healthy"
    })
    .await;
    assert_ne!(answer.json()["keys"], registered["keys"]);
    assert_eq!(server.session(&id).await["phase"], "Running");
    stranger.stop().await;
    shell.end().await;
    server.stop().await;
}

/// An authority, and the identity of a server on this machine.
fn authority() -> (String, Identity) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of our own");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    (authority.pem(), Identity::from_pem(certificate.pem(), key.serialize_pem()))
}

#[tokio::test]
async fn a_controller_with_a_private_authority_is_called_over_tls() {
    let (_folder, server) = start().await;
    let secret = open_door(&server).await;
    let backend = Backend::default();
    let (ca, identity) = authority();
    let mut shell = Shell::serve(&backend, "far", None, Some((identity.clone(), &ca)), None).await;
    shell.register(&server, &secret).await;
    is(&server, &shell.id, "healthy").await;
    server.running().await;

    // Somebody else's authority does not do.
    let mut wrong = Shell::serve(&backend, "wrong", None, Some((identity, &authority().0)), None).await;
    wrong.register(&server, &secret).await;
    eventually("that it is not trusted", async || {
        let seen = controller(&server, &wrong.id).await;
        seen["status"] == "unhealthy" && !seen["message"].as_str().unwrap().is_empty()
    })
    .await;
    let mut malformed = wrong.registration.clone();
    malformed["ca"] = "none".into();
    let refused = server.call(&secret, "POST", REGISTER, Some(&malformed)).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["field"]), (422, &json!("ca")));
    shell.end().await;
    server.stop().await;
}
