//! Images of a registry that asks for a password and takes its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bollard::query_parameters::RemoveImageOptions;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use streamspace_proto::controller::v1::CreateSessionRequest;
use streamspace_tests::PATIENCE;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::stage::{Stage, condition, field, refused, secret};

/// `alice:secret`, as HTTP says it.
const LOGIN: &str = "Basic YWxpY2U6c2VjcmV0";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// One image with one layer.
struct Shelf {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    layers_given: AtomicU64,
    /// Somebody was told how far a pull is.
    is_told: AtomicBool,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tar archive with one file that nothing else on this machine has.
fn archive(size: usize) -> Vec<u8> {
    let mut head = [0_u8; 512];
    let fields: [(usize, &str); 7] = [
        (0, "filler"),
        (100, "0000644"),
        (108, "0000000"),
        (116, "0000000"),
        (124, &format!("{size:011o}")),
        (136, "00000000000"),
        (257, "ustar\x0000"),
    ];
    for (at, text) in fields {
        head[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    head[156] = b'0';
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let seed = format!("{}-{:?}", std::process::id(), std::time::SystemTime::now());
    let mut bytes = head.to_vec();
    bytes.extend(seed.bytes().cycle().take(size));
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

impl Shelf {
    fn new() -> Self {
        let layer = archive(3 << 20);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": digest(&config),
            },
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                "size": layer.len(), "digest": digest(&layer),
            }],
        });
        Self {
            manifest: manifest.to_string().into_bytes(),
            config,
            layer,
            layers_given: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
        }
    }

    /// Serves on a port of this machine; gives `host:port`.
    async fn serve(self: &Arc<Self>) -> String {
        let app = Router::new()
            .route("/v2/", get(|| async { "{}" }))
            .route("/v2/private/manifests/{reference}", get(manifest))
            .route("/v2/private/blobs/{digest}", get(blob))
            .layer(middleware::from_fn(authenticate))
            .with_state(Arc::clone(self));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }
}

async fn authenticate(headers: HeaderMap, request: Request, next: Next) -> Response {
    if headers.get(header::AUTHORIZATION).is_some_and(|login| login == LOGIN) {
        return next.run(request).await;
    }
    let refusal = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let ask =
        [(header::WWW_AUTHENTICATE, "Basic realm=\"test\""), (header::CONTENT_TYPE, "application/json")];
    (StatusCode::UNAUTHORIZED, ask, refusal.to_string()).into_response()
}

async fn manifest(State(shelf): State<Arc<Shelf>>) -> Response {
    let head = [("content-type", MANIFEST.to_owned()), ("docker-content-digest", digest(&shelf.manifest))];
    (head, shelf.manifest.clone()).into_response()
}

async fn blob(State(shelf): State<Arc<Shelf>>, Path(wanted): Path<String>) -> Response {
    if wanted == digest(&shelf.config) {
        return shelf.config.clone().into_response();
    }
    if wanted != digest(&shelf.layer) {
        return StatusCode::NOT_FOUND.into_response();
    }
    shelf.layers_given.fetch_add(1, Ordering::SeqCst);
    // Slowly, and the last piece only once something was seen of it on the way.
    let pieces: Vec<Bytes> = shelf.layer.chunks(256 << 10).map(Bytes::copy_from_slice).collect();
    let length = shelf.layer.len();
    let slow = futures::stream::unfold((pieces.into_iter(), shelf), |(mut pieces, shelf)| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        while pieces.len() == 1 && !shelf.is_told.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pieces.next().map(|piece| (Ok::<_, std::io::Error>(piece), (pieces, shelf)))
    });
    ([(header::CONTENT_LENGTH, length)], Body::from_stream(slow)).into_response()
}

/// A stage that knows a login for the registry.
async fn stage(registry: &str, password: &str, folder: &TempDir) -> Option<Stage> {
    let file = folder.path().join("login");
    let login = json!([
        {"registry": "registry.invalid", "username": "bob", "password": "other"},
        {"registry": registry, "username": "alice", "password": password},
    ]);
    std::fs::write(&file, login.to_string()).unwrap();
    Stage::with(|config| {
        config.config = json!({"registries": [registry]});
        config.secrets.insert("registry".into(), secret(file));
    })
    .await
}

fn request(stage: &Stage, registry: &str) -> CreateSessionRequest {
    let mut request = stage.request();
    request.spec.as_mut().unwrap().base_image = format!("{registry}/private:1");
    // Without an init the engine itself finds out that there is no such program.
    request.controller_config = r#"{"command": ["/nothing/in/it"], "init": false}"#.into();
    request
}

/// How far the pull of the image is.
fn is_progress(message: &str) -> bool {
    message.ends_with(" of 3 MB")
}

/// Steps until there is nothing more to wait for. Gives what was said on the way, and the end.
async fn pull(stage: &Stage, shelf: &Shelf, request: &CreateSessionRequest) -> (Vec<String>, Status) {
    let mut request = request.clone();
    let mut messages = Vec::new();
    let steps = async {
        loop {
            match stage.step(&request).await {
                Ok(step) => {
                    assert!(step.in_progress, "no program is in the image: {step:?}");
                    let pulled = condition(&step.conditions, "ImagePulled");
                    assert_eq!((pulled.status.as_str(), pulled.reason.as_str()), ("False", "Pulling"));
                    let pause: Duration = step.poll_after.unwrap().try_into().unwrap();
                    assert!((500..=2000).contains(&pause.as_millis()), "{pause:?}");
                    request.handle = step.handle;
                    shelf.is_told.fetch_or(is_progress(&step.message), Ordering::SeqCst);
                    messages.push(step.message);
                    tokio::time::sleep(pause).await;
                }
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, steps).await.expect("the end of the pull");
    (messages, status)
}

#[tokio::test]
async fn a_private_image_is_pulled_once_for_all_who_wait_and_tells_how_far_it_is() {
    let (shelf, folder) = (Arc::new(Shelf::new()), TempDir::new().unwrap());
    let registry = shelf.serve().await;
    let Some(stage) = stage(&registry, "secret", &folder).await else { return };
    let (one, two) = (request(&stage, &registry), request(&stage, &registry));
    let ((messages, status), (others, other)) =
        tokio::join!(pull(&stage, &shelf, &one), pull(&stage, &shelf, &two));
    // The image is there; that nothing in it can be started is another matter.
    assert!(
        status.message().contains("/nothing/in/it") && other.message().contains("/nothing/in/it"),
        "{status:?}"
    );
    assert_eq!(shelf.layers_given.load(Ordering::SeqCst), 1, "one pull for both");
    let told = messages.iter().chain(&others).filter(|text| is_progress(text)).count();
    assert!(told > 0, "{messages:?}");
    assert!(stage.engine.containers(&stage.controller).await.is_empty());
    let image = &one.spec.unwrap().base_image;
    stage.engine.0.remove_image(image, None::<RemoveImageOptions>, None).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_without_quoting_it() {
    let (shelf, folder) = (Arc::new(Shelf::new()), TempDir::new().unwrap());
    let registry = shelf.serve().await;
    let Some(stage) = stage(&registry, "hunter2", &folder).await else { return };
    let (_, status) = pull(&stage, &shelf, &request(&stage, &registry)).await;
    let status = refused::<()>(Err(status), Code::FailedPrecondition);
    assert_eq!(field(&status), "spec.base_image");
    assert!(!format!("{status:?}").contains("hunter2"));
    assert_eq!(shelf.layers_given.load(Ordering::SeqCst), 0);
    stage.end().await;
}

#[tokio::test]
async fn a_registry_without_a_login_refuses_too() {
    let shelf = Arc::new(Shelf::new());
    let registry = shelf.serve().await;
    let Some(stage) = Stage::new().await else { return };
    let (_, status) = pull(&stage, &shelf, &request(&stage, &registry)).await;
    refused::<()>(Err(status), Code::FailedPrecondition);
    stage.end().await;
}
