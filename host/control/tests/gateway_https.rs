//! Sessions whose web application is on a server that asks for more than a connection: TLS, a base path, credentials.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::serve::Listener;
use common::visit::{Stage, got, header, router};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use streamspace_proto::controller::v1::access_point::Target;
use streamspace_proto::controller::v1::{AccessPoint, HttpTarget, ServerIdentity};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const SECRET: &str = "Hunter22-of-the-backend";

/// Authorities of one name would be taken for each other.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An authority, and a server with a certificate of it for `session.internal`.
struct Backend {
    ca: String,
    sha256: String,
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // Whoever does not like the certificate leaves.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Backend {
    /// An application below `/x`, and beside it something that is nobody's business.
    async fn start(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("authority {}", NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["session.internal".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer<'static> = params.signed_by(&key, &authority).unwrap().into();
        let sha256 = hex::encode(Sha256::digest(&certificate));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let login = move || async move {
            let headers =
                [("location", format!("https://{address}/x/home")), ("set-cookie", "in=1; Path=/x".into())];
            (StatusCode::SEE_OTHER, headers).into_response()
        };
        let renew = async || {
            let headers = [("location", "/x/login?next=/x/"), ("set-cookie", "ticket=renewed; Path=/")];
            (StatusCode::FOUND, headers).into_response()
        };
        let application = router(&asked).route("/login", get(login)).route("/renew", get(renew));
        let everything = Router::new()
            .nest("/x", application)
            .fallback(async |request: Request| format!("the secret of {}", request.uri()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let tls = Tls { listener, acceptor };
        tokio::spawn(async move { axum::serve(tls, everything).await.unwrap() });
        Self { ca: authority.pem(), sha256, address, asked }
    }

    fn identity(&self) -> ServerIdentity {
        ServerIdentity { ca: self.ca.clone(), server_name: "session.internal".into(), ..Default::default() }
    }

    fn point(&self, identity: Option<ServerIdentity>, headers: &[(&str, &str)]) -> AccessPoint {
        let headers: HashMap<_, _> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let base_url = format!("https://{}/x", self.address);
        let target = Some(Target::Http(HttpTarget { base_url, headers, identity }));
        AccessPoint { target, ..Default::default() }
    }
}

/// A session with its web application at an access point.
async fn session(stage: &Stage, point: AccessPoint) -> String {
    let id = stage.web_session(1).await;
    stage.backend.with(|state| state.targets.insert((id.clone(), "web".into()), point));
    id
}

#[tokio::test]
async fn an_application_behind_https_and_a_base_path() {
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let id = session(&stage, backend.point(Some(backend.identity()), &[])).await;

    let told: Value = stage.get(&format!("/s/{id}/a%2Fb?c=%20")).send().await.unwrap().json().await.unwrap();
    // The router of the application takes the base away.
    assert_eq!(told["uri"], "/a%2Fb?c=%20");
    assert_eq!(got(&told, "host"), Some(stage.address.to_string().as_str()));
    assert_eq!(got(&told, "x-forwarded-prefix"), Some(format!("/s/{id}").as_str()));

    let login = stage.get(&format!("/s/{id}/login")).send().await.unwrap();
    assert_eq!(login.status(), StatusCode::SEE_OTHER);
    assert_eq!(header(login.headers(), "location"), format!("/s/{id}/home"), "its own full name");
    assert_eq!(header(login.headers(), "set-cookie"), format!("in=1; Path=/s/{id}/"));
    let moved = stage.get(&format!("/s/{id}/renew")).send().await.unwrap();
    assert_eq!(header(moved.headers(), "location"), format!("/s/{id}/login?next=/x/"));

    // All of it over one connection, which the controller was asked about once.
    assert_eq!(stage.backend.with(|state| state.accessed), 1);

    let mut request = format!("ws://{}/s/{id}/chat", stage.address).into_client_request().unwrap();
    request.headers_mut().insert("cookie", stage.cookie(&id).await.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::text("one")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("heard one"));
}

#[tokio::test]
async fn only_the_right_server_is_spoken_to() {
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let old = Backend::start(|params| params.not_after = date_time_ymd(2020, 1, 1)).await;
    let pinned = |sha256: &str| ServerIdentity { sha256: sha256.into(), ..Default::default() };
    let colons = backend.sha256.to_uppercase();
    let colons: Vec<&str> = (0..32).map(|index| &colons[index * 2..index * 2 + 2]).collect();
    for (what, server, identity, expected) in [
        ("authority and name", &backend, Some(backend.identity()), None),
        ("pin", &backend, Some(pinned(&backend.sha256)), None),
        ("pin with colons", &backend, Some(pinned(&colons.join(":"))), None),
        ("pin alone decides", &old, Some(pinned(&old.sha256)), None),
        (
            "both",
            &backend,
            Some(ServerIdentity { sha256: backend.sha256.clone(), ..backend.identity() }),
            None,
        ),
        ("the system does not know it", &backend, None, Some("an authority that is not trusted")),
        ("another pin", &backend, Some(pinned(&old.sha256)), Some("not the pinned one")),
        (
            "the authority is not enough",
            &backend,
            Some(ServerIdentity { sha256: old.sha256.clone(), ..backend.identity() }),
            Some("not the pinned one"),
        ),
        ("another authority", &backend, Some(old.identity()), Some("an authority that is not trusted")),
        (
            "another name",
            &backend,
            Some(ServerIdentity { server_name: String::new(), ..backend.identity() }),
            Some("for another name"),
        ),
        ("out of time", &old, Some(old.identity()), Some("not valid at this time")),
        ("no pin", &backend, Some(pinned("ab:cd")), Some("names no way")),
        (
            "no authority",
            &backend,
            Some(ServerIdentity { ca: "x".into(), ..Default::default() }),
            Some("names no way"),
        ),
    ] {
        let id = session(&stage, server.point(identity, &[("authorization", SECRET)])).await;
        let before = server.asked.load(Ordering::SeqCst);
        let answer = stage.get(&format!("/s/{id}/a")).send().await.unwrap();
        let Some(expected) = expected else {
            assert_eq!(answer.status(), StatusCode::OK, "{what}");
            continue;
        };
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{what}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(expected), "{what}: {text}");
        for hidden in [SECRET, "127.0.0.1", "session.internal", &server.address.port().to_string()] {
            assert!(!text.contains(hidden), "{what}: {text}");
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), before, "{what}: nothing was asked");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_so() {
    let stage = Stage::set().await;
    let (port, _) = common::visit::application().await;
    let mut backend = Backend::start(|_| {}).await;
    backend.address.set_port(port);
    let id = session(&stage, backend.point(Some(backend.identity()), &[])).await;
    let answer = stage.get(&format!("/s/{id}/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.text().await.unwrap().contains("TLS with it fails"));
}

#[tokio::test]
async fn credentials_are_the_gateways_alone() {
    let log = Log::of_all();
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let cookie = format!("ticket={SECRET}");
    let headers = [("X-Remote-User", SECRET), ("cookie", &cookie)];
    let mut point = backend.point(Some(backend.identity()), &headers);
    (point.username, point.password) = ("robot".into(), SECRET.into());
    let id = session(&stage, point).await;
    let told: Value = stage
        .http
        .get(stage.url(&format!("/s/{id}/a")))
        .header("cookie", format!("own=1; ticket=forged; {}", stage.cookie(&id).await))
        .header("x-remote-user", "root")
        .header("x_remote_user", "root")
        .header("authorization", "Basic cm9vdDpyb290")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(got(&told, "x-remote-user"), Some(SECRET));
    assert_eq!(got(&told, "x_remote_user"), None, "some servers take it for the other");
    assert_eq!(got(&told, "cookie"), Some(format!("own=1; ticket={SECRET}").as_str()));
    let basic = reqwest::Client::new().get("http://a/").basic_auth("robot", Some(SECRET)).build().unwrap();
    assert_eq!(got(&told, "authorization"), basic.headers()["authorization"].to_str().ok());

    let renewed = stage.get(&format!("/s/{id}/renew")).send().await.unwrap();
    assert_eq!(renewed.headers().get("set-cookie"), None, "it is not the browser's ticket");
    // A TRACE would come back with everything in it.
    let trace = stage.http.request(http::Method::TRACE, stage.url(&format!("/s/{id}/a")));
    let trace = trace.bearer_auth(&stage.server.token).send().await.unwrap();
    assert_eq!(trace.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!trace.text().await.unwrap().contains(SECRET));

    // Neither in what is told of the session, nor in what is written down.
    for path in ["", "/access", "/events"] {
        let text = stage.server.get(&format!("/api/v1/sessions/{id}{path}")).await.text;
        assert!(text.contains(&id) && !text.contains(SECRET), "{text}");
    }
    stage.server.stop().await;
    for entry in std::fs::read_dir(stage.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", path.display());
        }
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("hyper") && log.contains(&id), "the log says something of connections");
    assert!(!log.contains(SECRET), "the log tells");
}

/// What the server says of its work, as loud as it can.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Of all tests of this program.
    fn of_all() -> Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
            subscriber.with_writer(move || writer.clone()).init();
            log
        });
        LOG.clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_beside_the_base_can_be_reached() {
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let id = session(&stage, backend.point(Some(backend.identity()), &[])).await;
    for path in [
        "../api2/json",
        "a/../../api2",
        "%2e%2e/api2",
        "..%2fapi2",
        "%252e%252e/api2",
        "..;/api2",
        "..\\api2",
    ] {
        // Clients take such steps themselves, so that this is written by hand.
        let answer = stage.raw(&format!("GET /s/{id}/{path} HTTP/1.1\r\n"), "").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.contains("the secret of"), "{path}: {answer}");
    }
    let told = stage.raw(&format!("GET /s/{id}/a/..b/.c HTTP/1.1\r\n"), "").await;
    assert!(told.contains("\"uri\":\"/a/..b/.c\""), "{told}");
}

#[tokio::test]
async fn credentials_that_expired_are_asked_for_anew() {
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let locked = Router::new().fallback(async |request: Request| {
        match request.headers().get("authorization").is_some_and(|value| value == "second") {
            true => StatusCode::OK,
            false => StatusCode::UNAUTHORIZED,
        }
    });
    let (port, _stop) = common::visit::serve(locked).await;
    let point = |value: &str| {
        let mut point = backend.point(None, &[("authorization", value)]);
        let Some(Target::Http(target)) = &mut point.target else { panic!("a web server") };
        target.base_url = format!("http://127.0.0.1:{port}");
        point
    };
    let id = session(&stage, point("first")).await;
    let ask = async || stage.get(&format!("/s/{id}/a")).send().await.unwrap().status();
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
    stage.backend.with(|state| state.targets.insert((id.clone(), "web".into()), point("second")));
    assert_eq!(ask().await, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let stage = Stage::set().await;
    let backend = Backend::start(|_| {}).await;
    let tunnel = Target::Tunnel(streamspace_proto::controller::v1::TunnelTarget { token: SECRET.into() });
    let id = session(&stage, AccessPoint { target: Some(tunnel), ..Default::default() }).await;
    let answer = stage.get(&format!("/s/{id}/a")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:streamspace:problem:unsupported");
    assert!(
        problem["detail"].as_str().unwrap().contains("a tunnel, which is not supported yet"),
        "{problem}"
    );
    assert!(!problem.to_string().contains(SECRET));

    let desk = json!({"base_image": "desk", "vnc": {"enabled": true}});
    let id = stage.session(desk, "vnc", 1).await;
    let tcp = Target::Tcp(streamspace_proto::controller::v1::TcpTarget {
        host: "127.0.0.1".into(),
        port: backend.address.port().into(),
    });
    let with_password = AccessPoint { target: Some(tcp), password: SECRET.into(), ..Default::default() };
    for (point, expected) in [
        (with_password, "its desktop asks for a password, which is not supported yet"),
        (backend.point(None, &[]), "its desktop is behind a web server, which is not supported yet"),
    ] {
        stage.backend.with(|state| state.targets.insert((id.clone(), "vnc".into()), point));
        let mut request =
            format!("ws://{}/api/v1/sessions/{id}/vnc", stage.address).into_client_request().unwrap();
        let token = format!("Bearer {}", stage.server.token);
        request.headers_mut().insert("authorization", token.parse().unwrap());
        let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) =
            tokio_tungstenite::connect_async(request).await
        else {
            panic!("it was connected")
        };
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        let text = String::from_utf8(refused.into_body().unwrap_or_default()).unwrap();
        assert!(text.contains(expected) && !text.contains(SECRET), "{text}");
    }
}
