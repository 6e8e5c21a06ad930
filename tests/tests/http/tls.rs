//! TLS: who is believed, and who is not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use streamspace_runtime::{HttpConfig, TlsConfig};
use streamspace_tests::until;

use crate::server::Server;
use crate::stage::{Controller, step};

/// An authority of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { pem: certificate.pem(), certificate: certificate.into(), key }
    }
}

impl Identity {
    fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.certificate))
    }

    async fn serve(&self, clients: Option<&Authority>) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Server::with_tls(builder.with_single_cert(vec![self.certificate.clone()], key).unwrap()).await
    }
}

/// Files of a test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn by_ca(url: &str, ca: &Path) -> HttpConfig {
    tls(url, TlsConfig { ca: Some(ca.to_owned()), ..Default::default() })
}

fn by_pin(url: &str, pin: &str) -> HttpConfig {
    tls(url, TlsConfig { sha256: Some(pin.to_owned()), ..Default::default() })
}

fn tls(url: &str, tls: TlsConfig) -> HttpConfig {
    HttpConfig { tls: Some(tls), ..HttpConfig::new(url) }
}

/// That a server is not believed, whichever way it is asked, and is sent nothing. Gives the reason.
async fn distrusted(server: &Server, config: HttpConfig) -> Option<String> {
    let controller = Controller::of(config).await?;
    let steps = json!([step("send", json!({"method": "POST", "body": "x"})), {"do": "connect"}]);
    let outcomes = controller.run(steps).await;
    outcomes[1].failed_sent("ErrorKind::Unavailable", false);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    Some(outcomes[0].failed_sent("ErrorKind::Unavailable", false))
}

#[tokio::test]
async fn an_authority_vouches_for_a_name() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.put("ca.pem", &authority.pem());
    let server = authority.issue("127.0.0.1", |_| {}).serve(None).await;
    let Some(controller) = Controller::of(by_ca(&server.url, &ca)).await else { return };
    assert_eq!(controller.send(json!({})).await.body(), "hello");

    let named = authority.issue("pve.example", |_| {}).serve(None).await;
    let reason = distrusted(&named, by_ca(&named.url, &ca)).await.unwrap();
    assert!(reason.contains("not valid for name"), "{reason}");
    let by_name =
        TlsConfig { ca: Some(ca.clone()), server_name: Some("pve.example".to_owned()), ..Default::default() };
    let controller = Controller::of(tls(&named.url, by_name)).await.unwrap();
    assert_eq!(controller.send(json!({})).await.body(), "hello");

    let expired = authority.issue("127.0.0.1", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let expired = expired.serve(None).await;
    let reason = distrusted(&expired, by_ca(&expired.url, &ca)).await.unwrap();
    assert!(reason.contains("expired"), "{reason}");

    let other = files.put("other.pem", &Authority::new().pem());
    let server = authority.issue("127.0.0.1", |_| {}).serve(None).await;
    let reason = distrusted(&server, by_ca(&server.url, &other)).await.unwrap();
    assert!(reason.contains("certificate is not accepted"), "{reason}");
    // What the system trusts does not vouch for it either.
    distrusted(&server, HttpConfig::new(&server.url)).await.unwrap();
}

#[tokio::test]
async fn a_pin_is_for_one_certificate_and_for_no_other() {
    let authority = Authority::new();
    // Whatever it says of names and dates: the pin alone decides.
    let identity = authority.issue("elsewhere.example", |params| params.not_after = date_time_ymd(2021, 1, 1));
    let server = identity.serve(None).await;
    let colons: Vec<_> = Sha256::digest(&identity.certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    for pin in [identity.sha256(), colons.join(":")] {
        let Some(controller) = Controller::of(by_pin(&server.url, &pin)).await else { return };
        let outcomes = controller.run(json!([{"do": "connect"}, step("send-pinned", json!({}))])).await;
        assert_eq!(outcomes[1].body(), "hello");
        // rcgen signs with ECDSA and SHA-256, so that the binding is the same hash.
        assert_eq!(outcomes[0].0["binding"], json!(identity.sha256()));
    }
    let twin = authority.issue("elsewhere.example", |_| {});
    let server = twin.serve(None).await;
    let reason = distrusted(&server, by_pin(&server.url, &identity.sha256())).await.unwrap();
    assert!(reason.contains("not the pinned one") && reason.contains(':'), "{reason}");
    // With an authority as well, both have to agree.
    let files = Files::new();
    let (ca, sha256) = (Some(files.put("ca.pem", &authority.pem())), Some(twin.sha256()));
    distrusted(&server, tls(&server.url, TlsConfig { ca, sha256, ..Default::default() })).await.unwrap();
}

#[tokio::test]
async fn the_host_shows_its_certificate_and_takes_a_new_one_without_being_told() {
    let (files, authority, clients) = (Files::new(), Authority::new(), Authority::new());
    let server = authority.issue("127.0.0.1", |_| {}).serve(Some(&clients)).await;
    let client = |authority: &Authority| {
        authority.issue("streamspace", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    };
    let ca = files.put("ca.pem", &authority.pem());
    let put = |identity: &Identity| {
        let certificate = files.put("client.pem", &identity.pem);
        TlsConfig {
            ca: Some(ca.clone()),
            certificate: Some(certificate),
            key: Some(files.put("client.key", &identity.key.serialize_pem())),
            ..Default::default()
        }
    };
    let Some(anonymous) = Controller::of(by_ca(&server.url, &ca)).await else { return };
    anonymous.send(json!({})).await.failed("ErrorKind::Unavailable");
    assert!(server.seen().is_empty());

    let stranger = put(&client(&Authority::new()));
    let controller = Controller::of(tls(&server.url, stranger)).await.unwrap();
    controller.send(json!({})).await.failed("ErrorKind::Unavailable");
    put(&client(&clients));
    assert_eq!(controller.send(json!({})).await.body(), "hello");
}

/// A server that somebody else has written.
struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_server_of_openssl_is_believed_by_authority_and_by_pin() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl");
        return;
    }
    let (files, authority) = (Files::new(), Authority::new());
    let identity = authority.issue("127.0.0.1", |_| {});
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}"), "-tls1_2"]);
    server.arg("-cert").arg(files.put("cert.pem", &identity.pem));
    server.arg("-key").arg(files.put("key.pem", &identity.key.serialize_pem()));
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _server = Openssl(server);
    until("openssl listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
    let url = format!("https://127.0.0.1:{port}");
    let ca = files.put("ca.pem", &authority.pem());
    for config in [by_ca(&url, &ca), by_pin(&url, &identity.sha256())] {
        let Some(controller) = Controller::of(config).await else { return };
        let answer = controller.send(json!({})).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body().contains("TLSv1.2"), "{}", answer.body());
    }
}
