//! Calls from one side to the other, and what somebody in between may try.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};

use crate::token::{Claims, body_hash, unix_now};
use crate::{
    Jwks, KeyRequests, LIFETIME, MAX_BODY, PublicKey, Refusal, SKEW, SignerLayer, SigningKey, Trust,
    VerifierLayer,
};

const ID: &str = "ctrl-1";
const CREATE: &str = "/streamspace.controller.v1.ControllerService/CreateSession";
const DELETE: &str = "/streamspace.controller.v1.ControllerService/DeleteSession";
const TUNNEL: &str = "/streamspace.controller.v1.ControllerService/OpenTunnel";
const BODY: &[u8] = b"\0\0\0\0\x03abc";

type Called = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A controller that counts the calls that get through to it, and answers with the body that it was sent.
struct Controller {
    trust: Arc<Trust>,
    service: Called,
    calls: Arc<AtomicUsize>,
    requests: KeyRequests,
}

impl Controller {
    /// One that nobody has registered.
    fn fresh() -> Self {
        let (trust, requests) = Trust::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let inner = service_fn(move |request: Request<Body>| -> BoxFuture<'static, Result<_, BoxError>> {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move { Ok(Response::new(request.into_body())) })
        });
        let service = Called::new(VerifierLayer::new(Arc::clone(&trust)).layer(inner));
        Self { trust, service, calls, requests }
    }

    fn trusting(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let controller = Self::fresh();
        controller.trust.registered_as(ID);
        controller.trust.replace_keys(&Jwks::new(keys));
        controller
    }

    async fn call(&self, request: Request<Body>) -> Result<Bytes, Status> {
        let before = self.calls.load(Ordering::SeqCst);
        let answer = self.service.clone().oneshot(request).await.unwrap();
        let let_in = self.calls.load(Ordering::SeqCst) > before;
        match Status::from_header_map(answer.headers()) {
            None => {
                assert!(let_in);
                Ok(answer.into_body().collect().await.unwrap().to_bytes())
            }
            Some(status) => {
                assert!(!let_in, "{status}");
                Err(status)
            }
        }
    }

    async fn refuses(&self, request: Request<Body>, refusal: Refusal) {
        let status = self.call(request).await.expect_err(refusal.reason());
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!(
            (reason.as_str(), status.code(), status.message()),
            (refusal.reason(), refusal.code(), refusal.to_string().as_str())
        );
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

fn claims() -> Claims {
    Claims::of_call(ID, CREATE, Some(BODY))
}

fn body(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()))
}

fn request(method: &str, authorization: Option<&str>, bytes: &'static [u8]) -> Request<Body> {
    let mut request = Request::post(format!("http://controller{method}"));
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    request.body(body(bytes)).unwrap()
}

fn signed(key: &SigningKey, claims: &Claims) -> Request<Body> {
    request(CREATE, Some(&format!("Bearer {}", claims.sign(key).unwrap())), BODY)
}

#[tokio::test]
async fn a_signed_call_gets_through_as_it_was_sent() {
    let key = Arc::new(key());
    let controller = Controller::trusting([key.public()]);
    let signer = SignerLayer::new(Arc::clone(&key), ID).layer(controller.service.clone());
    for method in [CREATE, DELETE, TUNNEL] {
        let answer = signer.clone().oneshot(request(method, None, BODY)).await.unwrap();
        assert!(Status::from_header_map(answer.headers()).is_none(), "{method}");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), BODY, "{method}");
    }
    assert_eq!(controller.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_token_says_what_the_contract_says() {
    let key = key();
    let token = claims().sign(&key).unwrap();
    let parts: Vec<serde_json::Value> = token
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], json!({"alg": "EdDSA", "kid": key.kid()}));
    let iat = parts[1]["iat"].as_u64().unwrap();
    let jti = parts[1]["jti"].as_str().unwrap();
    assert_eq!(jti.len(), 36);
    let bdy = "BjsTl6FpovDpOb2tEawt8ATtphu8-WiI9PvhlkMCDoM";
    assert_eq!(bdy, body_hash(BODY));
    assert_eq!(
        parts[1],
        json!({"iss": "streamspace", "aud": ID, "iat": iat, "exp": iat + 60, "jti": jti, "mth": CREATE, "bdy": bdy})
    );
    let streamed = serde_json::to_value(Claims::of_call(ID, TUNNEL, None)).unwrap();
    assert!(!streamed.as_object().unwrap().contains_key("bdy"), "{streamed}");
}

#[tokio::test]
async fn what_nobody_has_signed_is_refused_and_not_read() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let token = claims().sign(&key).unwrap();
    controller.refuses(request(CREATE, None, BODY), Refusal::Unsigned).await;
    for value in [format!("Basic {token}"), token.clone(), "Bearer".to_owned()] {
        controller.refuses(request(CREATE, Some(&value), BODY), Refusal::Unsigned).await;
    }
    let mut twice = request(CREATE, Some(&format!("Bearer {token}")), BODY);
    twice.headers_mut().append(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    controller.refuses(twice, Refusal::Unsigned).await;

    // A body that never ends is not waited for.
    let (_sender, endless) = Channel::<Bytes, Status>::new(1);
    let mut unsigned = request(CREATE, None, b"");
    *unsigned.body_mut() = Body::new(endless);
    controller.refuses(unsigned, Refusal::Unsigned).await;
    // None of this has used the signature up.
    controller.call(request(CREATE, Some(&format!("bearer {token}")), BODY)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_token_is_malformed() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = encode(&json!({"alg": "EdDSA", "kid": key.kid()}).to_string());
    for token in [
        "x".to_owned(),
        "x.y".to_owned(),
        "!.y.z".to_owned(),
        format!("{}.y.z", encode("[]")),
        format!("{header}.y.!"),
        format!("{header}.{}.z", "y".repeat(5000)),
    ] {
        let status =
            controller.call(request(CREATE, Some(&format!("Bearer {token}")), BODY)).await.unwrap_err();
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!((status.code(), reason.as_str()), (Code::Unauthenticated, "CALL_MALFORMED"), "{token}");
    }
    // Well signed, but no claims of a call.
    for text in ["{}", "no JSON"] {
        let signed = format!("{header}.{}", encode(text));
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
        let malformed = Refusal::Malformed("its claims are not those of a call");
        controller.refuses(request(CREATE, Some(&format!("Bearer {token}")), BODY), malformed).await;
    }
}

#[tokio::test]
async fn there_is_one_way_to_sign() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
    for header in [
        json!({"alg": "none", "kid": key.kid()}),
        // The public key as the secret of an HMAC.
        json!({"alg": "HS256", "kid": key.kid()}),
        json!({"alg": "eddsa", "kid": key.kid()}),
        json!({"alg": "EdDSA", "kid": key.kid(), "crit": ["b64"], "b64": false}),
    ] {
        let signed = format!("{}.{payload}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        let value = format!("Bearer {signed}.{signature}");
        controller.refuses(request(CREATE, Some(&value), BODY), Refusal::Algorithm).await;
    }
}

#[tokio::test]
async fn somebody_elses_signature_is_refused() {
    let (key, rogue) = (key(), key());
    let mut controller = Controller::trusting([key.public()]);
    // Under the name of a key that is trusted.
    let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "EdDSA", "kid": key.kid()}).to_string());
    let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
    let signed_text = format!("{header}.{payload}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(rogue.sign(signed_text.as_bytes()));
    let forged = format!("Bearer {signed_text}.{signature}");
    controller.refuses(request(CREATE, Some(&forged), BODY), Refusal::Signature).await;
    // Changed after it was signed.
    let token = claims().sign(&key).unwrap();
    let signature = token.rsplit_once('.').unwrap().1;
    let other = BASE64_URL_SAFE_NO_PAD
        .encode(serde_json::to_vec(&Claims { aud: "ctrl-2".to_owned(), ..claims() }).unwrap());
    let changed = format!("Bearer {header}.{other}.{signature}");
    controller.refuses(request(CREATE, Some(&changed), BODY), Refusal::Signature).await;
    // Under its own name: newer keys are asked for, and it is not among them.
    let answering = async {
        drop(controller.requests.next().await);
        std::future::pending::<()>().await;
    };
    let (trust, service) = (Arc::clone(&controller.trust), controller.service.clone());
    let calls = Arc::clone(&controller.calls);
    let beside = Controller { trust, service, calls, requests: Trust::new().1 };
    tokio::select! {
        () = answering => unreachable!(),
        () = beside.refuses(signed(&rogue, &claims()), Refusal::UnknownKey) => {}
    }
    // Nobody brings newer keys any more: nothing is waited for.
    drop(controller.requests);
    beside.refuses(signed(&rogue, &claims()), Refusal::UnknownKey).await;
}

#[tokio::test]
async fn a_key_that_has_just_come_is_asked_for() {
    let (old, new) = (key(), key());
    let mut controller = Controller::trusting([old.public()]);
    let (trust, new_key) = (Arc::clone(&controller.trust), new.public());
    let service = controller.service.clone();
    let keeping = async move {
        let mut missed = controller.requests.next().await;
        controller.requests.gather(&mut missed);
        assert!(!missed.is_none());
        trust.replace_keys(&Jwks::new([new_key]));
        drop(missed);
        controller.requests
    };
    let (answer, _requests) = tokio::join!(service.clone().oneshot(signed(&new, &claims())), keeping);
    assert!(Status::from_header_map(answer.unwrap().headers()).is_none());
    // The old one is trusted no more: all that live are named, and it is not among them.
    let trusting = Controller::trusting([new.public()]);
    drop(trusting.requests);
    let answer = trusting.service.oneshot(signed(&old, &claims())).await.unwrap();
    let reason = Status::from_header_map(answer.headers()).unwrap().get_details_error_info().unwrap().reason;
    assert_eq!(reason, Refusal::UnknownKey.reason());
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_keys_end_and_are_few() {
    let rogue = key();
    let controller = Controller::trusting([key().public()]);
    let mut waiting: Vec<_> =
        (0..64).map(|_| Box::pin(controller.service.clone().oneshot(signed(&rogue, &claims())))).collect();
    for call in &mut waiting {
        assert!(futures::poll!(call).is_pending());
    }
    // One more does not wait: the clock stands still for it.
    let before = tokio::time::Instant::now();
    controller.refuses(signed(&rogue, &claims()), Refusal::UnknownKey).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    for call in waiting {
        let answer = call.await.unwrap();
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::Unauthenticated);
    }
    assert!(before.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_for_something_else_is_refused() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let now = unix_now();
    let lifetime = LIFETIME.as_secs();
    let skew = SKEW.as_secs();
    let at = |iat: u64| Claims { iat, exp: iat + lifetime, ..claims() };
    for (claims, refusal) in [
        (Claims { iss: "elsewhere".to_owned(), ..claims() }, Refusal::Issuer),
        (Claims { aud: "ctrl-2".to_owned(), ..claims() }, Refusal::Audience),
        (Claims { mth: DELETE.to_owned(), ..claims() }, Refusal::Method),
        (Claims { bdy: None, ..claims() }, Refusal::BodyNotCovered),
        (Claims { bdy: Some(body_hash(b"other")), ..claims() }, Refusal::Body),
        (at(now - lifetime - skew - 2), Refusal::Expired),
        (at(now + skew + 10), Refusal::FromTheFuture),
        (Claims { exp: now + lifetime + 10, ..claims() }, Refusal::LongLived),
        (Claims { exp: u64::MAX, ..claims() }, Refusal::LongLived),
        (Claims { iat: u64::MAX, exp: u64::MAX, ..claims() }, Refusal::FromTheFuture),
        (at(now - skew - 10), Refusal::BeforeTheStart),
    ] {
        controller.refuses(signed(&key, &claims), refusal).await;
    }
    // Clocks that are a little apart are borne.
    for claims in [at(now - skew + 5), at(now + skew - 5)] {
        controller.call(signed(&key, &claims)).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_is_for_one_process_of_the_controller() {
    let key = Arc::new(key());
    let (one, other) = (Controller::trusting([key.public()]), Controller::trusting([key.public()]));
    one.trust.serves_as("one");
    other.trust.serves_as("other");
    let of = |instance: Option<&str>| Claims { ins: instance.map(str::to_owned), ..claims() };
    one.call(signed(&key, &of(Some("one")))).await.unwrap();
    for instance in [Some("one"), None, Some("")] {
        other.refuses(signed(&key, &of(instance)), Refusal::Instance).await;
    }
    // One that has no name takes what is signed for its controller.
    Controller::trusting([key.public()]).call(signed(&key, &of(Some("one")))).await.unwrap();
    // The caller's side says it.
    let signer = SignerLayer::new(Arc::clone(&key), ID).for_instance("other").layer(other.service.clone());
    let answer = signer.oneshot(request(CREATE, None, BODY)).await.unwrap();
    assert!(Status::from_header_map(answer.headers()).is_none());
    let signer = SignerLayer::new(Arc::clone(&key), ID).for_instance("").layer(other.service);
    let answer = signer.oneshot(request(CREATE, None, BODY)).await.unwrap();
    assert!(Status::from_header_map(answer.headers()).is_some());
}

#[tokio::test]
async fn a_body_may_be_left_out_only_of_streams() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let of = |method: &str, body: Option<&[u8]>| {
        let token = Claims::of_call(ID, method, body).sign(&key).unwrap();
        request(method, Some(&format!("Bearer {token}")), BODY)
    };
    controller.call(of(TUNNEL, None)).await.unwrap();
    for (method, body) in [(TUNNEL, Some(BODY)), (CREATE, None), (DELETE, None)] {
        controller.refuses(of(method, body), Refusal::BodyNotCovered).await;
    }
    controller.call(of(DELETE, Some(BODY))).await.unwrap();
}

#[tokio::test]
async fn a_call_is_made_once() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let claims = claims();
    // With another body the signature is not used up: the caller's own call still gets through.
    let mut other = signed(&key, &claims);
    *other.body_mut() = body(&b"other"[..]);
    controller.refuses(other, Refusal::Body).await;
    controller.call(signed(&key, &claims)).await.unwrap();
    controller.refuses(signed(&key, &claims), Refusal::Replayed).await;
    // Of the same token under another form it is the same call.
    let padded = format!("Bearer   {}", claims.sign(&key).unwrap());
    controller.refuses(request(CREATE, Some(&padded), BODY), Refusal::Replayed).await;
    // Many at once: one gets through.
    let claims = self::claims();
    let calls = (0..16).map(|_| controller.service.clone().oneshot(signed(&key, &claims)));
    let answers = futures::future::join_all(calls).await;
    let through =
        answers.iter().filter(|answer| Status::from_header_map(answer.as_ref().unwrap().headers()).is_none());
    assert_eq!(through.count(), 1);
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let key = key();
    let controller = Controller::trusting([key.public()]);
    let of = |length: usize| {
        let bytes = vec![7; length];
        let token = Claims::of_call(ID, CREATE, Some(&bytes)).sign(&key).unwrap();
        let mut request = request(CREATE, Some(&format!("Bearer {token}")), b"");
        *request.body_mut() = body(bytes);
        request
    };
    assert_eq!(controller.call(of(MAX_BODY)).await.unwrap().len(), MAX_BODY);
    controller.refuses(of(MAX_BODY + 1), Refusal::BodyTooLarge).await;
    let (sender, broken) = Channel::<Bytes, Status>::new(1);
    sender.abort(Status::cancelled("gone"));
    let mut request = signed(&key, &claims());
    *request.body_mut() = Body::new(broken);
    controller.refuses(request, Refusal::BodyIncomplete).await;
}

#[tokio::test]
async fn nobody_is_let_in_before_the_controller_is_registered() {
    let key = key();
    let controller = Controller::fresh();
    controller.refuses(signed(&key, &claims()), Refusal::NotRegistered).await;
    assert_eq!(Refusal::NotRegistered.code(), Code::Unavailable);
    controller.trust.registered_as(ID);
    controller.trust.replace_keys(&Jwks::new([key.public()]));
    controller.call(signed(&key, &claims())).await.unwrap();
    // Registered anew under another id: what was signed for the old one is for nobody.
    controller.trust.registered_as("ctrl-2");
    controller.refuses(signed(&key, &claims()), Refusal::Audience).await;
}
