//! TLS on both ways: to the API server, and to the controller.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use streamspace_call_auth::SignerLayer;
use streamspace_proto::controller::v1::GetCapabilitiesRequest;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::Layer as _;

use crate::api::ApiServer;
use crate::stage::{ID, Stage, address, instance};

/// An authority of a test, and the files that it fills.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, files: tempfile::tempdir().unwrap() }
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }

    async fn api_server(&self) -> ApiServer {
        let (certificate, key) = self.issue();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate)],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        ApiServer::with_tls(config.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_known_by_an_authority_of_the_operators() {
    let authority = Authority::new();
    let Some(stage) = Stage::with(authority.api_server().await) else { return };
    let (certificate, key) = authority.issue();
    let (ca, certificate) = (authority.ca(), authority.file("own.pem", &certificate.pem()));
    let key = authority.file("own.key", &key.serialize_pem());
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path(&ca), path(&certificate), path(&key));
    let controller = stage.start(&[
        "--ca",
        &ca,
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--tls-ca",
        &ca,
        // Encrypted and signed, so that nothing has to be said for it to be served everywhere.
        "--listen",
        "0.0.0.0:0",
        "--advertise",
        "grpcs://127.0.0.1:9",
    ]);
    controller.says("registered as", 1);
    let body = stage.api.said(|said| said.registrations[0].1.clone());
    assert_eq!(body["endpoint"], "grpcs://127.0.0.1:9");
    assert_eq!(body["ca"], authority.issuer.pem());

    let port = address(&controller).rsplit_once(':').unwrap().1.to_owned();
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.issuer.pem()));
    let endpoint = Endpoint::new(format!("https://127.0.0.1:{port}")).unwrap().tls_config(trusting).unwrap();
    let signer = SignerLayer::new(stage.api.key(), ID).for_instance(&instance(&controller));
    let mut api = ControllerServiceClient::new(signer.layer(endpoint.connect().await.unwrap()));
    api.get_capabilities(GetCapabilitiesRequest {}).await.unwrap();
    // Who trusts somebody else does not get as far as a call.
    let other = Authority::new();
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(other.issuer.pem()));
    let endpoint = Endpoint::new(format!("https://127.0.0.1:{port}")).unwrap().tls_config(trusting).unwrap();
    assert!(endpoint.connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_nobody_vouches_for_gets_no_token() {
    let Some(stage) = Stage::with(Authority::new().api_server().await) else { return };
    let ca = Authority::new();
    let ca = ca.ca();
    for arguments in [vec!["--ca", ca.to_str().unwrap()], vec![]] {
        let controller = stage.start(&arguments);
        let failed = controller.says("not registered yet; once more", 1);
        assert!(failed["error"].as_str().unwrap().contains("certificate"), "{failed}");
    }
    assert_eq!(stage.api.said(|said| said.registrations.len()), 0);
}
