//! Calls that misbehave.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use streamspace_proto::controller::v1::{
    CreateSessionRequest, DeleteSessionRequest, HealthCheckRequest, HibernateSessionRequest,
    ListSessionsRequest, SessionSpec, WakeSessionRequest,
};
use streamspace_runtime::{BackendConfig, LimitOverrides};
use tonic::Code;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::engine::MadeUpEngine;
use crate::stage::{Controller, NOWHERE, PATIENCE, config, expect, limited, limits, session_id};

/// What a handle may have at most.
const LARGEST_HANDLE: usize = 64 << 10;

/// What fits into the headers of an answer without anybody having raised a limit.
const HEADERS: usize = 16 << 10;

#[tokio::test]
async fn nothing_is_remembered_from_one_call_to_the_next() {
    let Some(controller) = Controller::new().await else { return };
    for _ in 0..3 {
        controller.works().await;
    }
}

#[tokio::test]
async fn an_endpoint_or_a_secret_that_was_not_given_is_denied() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("other-endpoint", Code::PermissionDenied, "DENIED").await;
    assert!(message.contains("`other`"), "{message}");
    let message = controller.refuses("other-secret", Code::PermissionDenied, "DENIED").await;
    assert!(message.contains("`registry`"), "{message}");
}

#[tokio::test]
async fn names_and_marks_of_others_are_refused_before_the_engine_hears_of_them() {
    let engine = MadeUpEngine::start();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    for (word, code, reason) in [
        ("foreign-container", Code::PermissionDenied, "DENIED"),
        ("foreign-volume", Code::PermissionDenied, "DENIED"),
        ("path-as-name", Code::PermissionDenied, "DENIED"),
        ("path-as-image", Code::InvalidArgument, "INVALID"),
        ("foreign-label", Code::PermissionDenied, "DENIED"),
    ] {
        controller.refuses(word, code, reason).await;
    }
    assert_eq!(engine.requests(), [""; 0], "the engine was asked");
    for (word, code, reason) in [
        ("foreign-label-on-a-container", Code::PermissionDenied, "DENIED"),
        ("unknown-wish", Code::InvalidArgument, "INVALID"),
        ("unknown-profile", Code::PermissionDenied, "DENIED"),
    ] {
        controller.refuses(word, code, reason).await;
    }
    // The network of a new container is looked at first; that is all.
    assert!(engine.requests().iter().all(|request| request.starts_with("GET ")), "{:?}", engine.requests());
}

#[tokio::test]
async fn what_belongs_to_another_controller_is_neither_shown_nor_removed() {
    let engine = MadeUpEngine::start();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    let message = controller.refuses("remove-what-is-not-ours", Code::AlreadyExists, "CONFLICT").await;
    assert!(!message.contains("ctrl-other"), "{message}");
    // Looked at, and whether one of ours was renamed; nothing else.
    let requests = engine.requests();
    assert!(
        requests.len() == 2 && requests.iter().all(|request| request.starts_with("GET ")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn every_trap_ends_its_call_and_says_why() {
    let Some(controller) = Controller::new().await else { return };
    for (word, said) in [
        ("panic", "hostile on purpose: all is lost"),
        ("abort", "unreachable"),
        ("exit", "exit"),
        ("stack-overflow", ""),
        ("index", "index out of bounds: the len is 3 but the index is 7"),
        ("wild-read", "out of bounds memory access"),
        ("wild-write", "out of bounds memory access"),
    ] {
        let message = controller.refuses(word, Code::Internal, "PLUGIN_TRAPPED").await;
        assert!(message.starts_with("the plugin trapped: ") && message.contains(said), "{word}: {message}");
        let status = controller.look(word, PATIENCE).await.expect_err(word);
        expect(&status, word, Code::Internal, "PLUGIN_TRAPPED");
    }
}

#[tokio::test]
async fn the_last_words_of_a_chatty_plugin_are_heard() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("chat-and-panic", Code::Internal, "PLUGIN_TRAPPED").await;
    assert!(message.contains("the last words"), "{message}");
    assert!(message.len() < 2048, "only the end of it: {} bytes", message.len());
}

#[tokio::test]
async fn a_trap_while_looking_at_the_backend_is_told_as_one() {
    let config = BackendConfig { config: serde_json::json!({"check": "panic"}), ..config(NOWHERE) };
    let Some(controller) = Controller::with(config).await else { return };
    let status = controller.client.clone().health_check(HealthCheckRequest {}).await.unwrap_err();
    expect(&status, "check", Code::Internal, "PLUGIN_TRAPPED");
    controller.works().await;
}

#[tokio::test]
async fn an_endless_loop_ends_with_the_budget_of_processor_time() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("loop", Code::ResourceExhausted, "PLUGIN_CPU_BUDGET").await;
    assert!(message.contains("1000 ms"), "{message}");
    let status = controller.look("loop", PATIENCE).await.unwrap_err();
    expect(&status, "a call that only looks", Code::ResourceExhausted, "PLUGIN_CPU_BUDGET");
    controller.works().await;
}

#[tokio::test]
async fn an_endless_loop_of_host_calls_ends_with_the_budget_too() {
    let Some(controller) = Controller::new().await else { return };
    for word in ["loop-in-the-cache", "loop-in-the-engine", "flood-log"] {
        controller.refuses(word, Code::ResourceExhausted, "PLUGIN_CPU_BUDGET").await;
    }
}

#[tokio::test]
async fn waiting_is_not_computing() {
    let config = BackendConfig { limits: limits(200), ..config(NOWHERE) };
    let Some(controller) = Controller::with(config).await else { return };
    let started = Instant::now();
    controller.create("naps").await.expect("it hardly computes");
    assert!(started.elapsed() >= Duration::from_secs(2), "it did wait");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whatever_it_waits_for() {
    let engine = MadeUpEngine::silent();
    let config = BackendConfig { limits: limits(60_000), ..config(&engine.target()) };
    let Some(controller) = Controller::with(config).await else { return };
    let timeout = Duration::from_secs(2);
    for word in ["sleep", "ask-the-engine", "loop"] {
        let started = Instant::now();
        let status = controller.create_within(word, timeout).await.expect_err(word);
        expect(&status, word, Code::DeadlineExceeded, "TIMED_OUT");
        let status = controller.look(word, timeout).await.expect_err(word);
        expect(&status, word, Code::DeadlineExceeded, "TIMED_OUT");
        let took = started.elapsed();
        // Some of it is left for the answer, and a host call that waits gives up a little earlier still.
        let least = timeout * 8 / 10;
        assert!(took >= least * 2 && took < timeout * 2 * 3, "{word} took {took:?}");
        controller.works().await;
    }
}

#[tokio::test]
async fn a_mutation_that_was_given_up_keeps_its_session_until_its_deadline() {
    let engine = MadeUpEngine::silent();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    let session = session_id();
    let timeout = Duration::from_secs(4);
    let started = Instant::now();
    let status = controller.create_as(&session, "ask-the-engine", timeout).await.unwrap_err();
    expect(&status, "a silent engine", Code::DeadlineExceeded, "TIMED_OUT");
    assert!(status.message().contains("the engine did not answer"), "{status:?}");
    // The engine may still do what it was asked for.
    controller.create_as(&session, "good", PATIENCE).await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(3750), "the deadline is after 3.8 s, and it took {took:?}");
}

#[tokio::test]
async fn what_was_found_out_of_an_engine_is_asked_anew_after_it_was_away() {
    let engine = MadeUpEngine::start();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    for _ in 0..3 {
        controller.create("ask-the-engine").await.unwrap();
    }
    assert_eq!(engine.agreements(), 1);
    engine.is_busy(true);
    controller.refuses("ask-the-engine", Code::Unavailable, "UNAVAILABLE").await;
    engine.is_busy(false);
    for _ in 0..3 {
        controller.create("ask-the-engine").await.unwrap();
    }
    assert_eq!(engine.agreements(), 2, "it may be another one");
}

#[tokio::test]
async fn memory_has_a_limit_and_none_is_kept() {
    let Some(controller) = Controller::new().await else { return };
    for word in ["grow", "huge-allocation"] {
        let message = controller.refuses(word, Code::ResourceExhausted, "PLUGIN_MEMORY_LIMIT").await;
        assert!(message.contains("64 MiB"), "{message}");
    }
    // Each takes most of what a call may have: only if the memory of the last one is given back, the next one finds
    // enough.
    for _ in 0..10 {
        controller.create("leak").await.unwrap();
    }
}

#[tokio::test]
async fn the_operators_limit_of_memory_is_kept_to() {
    let limits = LimitOverrides { memory: Some("8MiB".parse().unwrap()), ..limits(2000) };
    let Some(controller) = Controller::with(BackendConfig { limits, ..config(NOWHERE) }).await else {
        return;
    };
    let message = controller.refuses("leak", Code::ResourceExhausted, "PLUGIN_MEMORY_LIMIT").await;
    assert!(message.contains("8 MiB"), "{message}");
}

#[tokio::test]
async fn a_handle_has_at_most_64_kib() {
    let Some(controller) = Controller::new().await else { return };
    let answer = controller.create("handle-at-the-limit").await.unwrap();
    assert_eq!((answer.in_progress, answer.handle.len()), (true, LARGEST_HANDLE));

    let (word, reason) = ("handle-beyond-the-limit", "PLUGIN_HANDLE_TOO_LARGE");
    let message = controller.refuses(word, Code::Internal, reason).await;
    assert!(message.contains("65537") && message.contains("65536"), "{message}");
    let mut client = controller.client.clone();
    let (session_id, handle) = (session_id(), word.as_bytes().to_vec());
    let delete =
        DeleteSessionRequest { session_id: session_id.clone(), handle: handle.clone(), ..Default::default() };
    let status = client.delete_session(delete).await.unwrap_err();
    expect(&status, "delete", Code::Internal, reason);
    let hibernate = HibernateSessionRequest {
        session_id: session_id.clone(),
        handle: handle.clone(),
        ..Default::default()
    };
    let status = client.hibernate_session(hibernate).await.unwrap_err();
    expect(&status, "hibernate", Code::Internal, reason);
    let wake = WakeSessionRequest { session_id, handle, ..Default::default() };
    let status = client.wake_session(wake).await.unwrap_err();
    expect(&status, "wake", Code::Internal, reason);
}

#[tokio::test]
async fn an_enormous_answer_is_not_taken() {
    let Some(controller) = Controller::new().await else { return };
    for word in ["enormous-handle", "enormous-node-id"] {
        controller.refuses(word, Code::Internal, "PLUGIN_TRAPPED").await;
    }
    for cursor in ["enormous-entry", "enormous-page"] {
        let request = ListSessionsRequest { cursor: cursor.to_owned(), limit: 0 };
        let status = controller.client.clone().list_sessions(limited(request, PATIENCE)).await.unwrap_err();
        expect(&status, cursor, Code::Internal, "PLUGIN_TRAPPED");
        controller.works().await;
    }
}

#[tokio::test]
async fn an_enormous_error_arrives_cut_to_what_fits_into_headers() {
    let Some(controller) = Controller::new().await else { return };
    let status = controller.create("enormous-error").await.unwrap_err();
    let message = expect(&status, "an enormous error", Code::Unavailable, "UNAVAILABLE");
    assert!(message.starts_with('ä'), "{message}");
    let headers: usize =
        status.into_http::<tonic::body::Body>().headers().iter().map(|(_, value)| value.len()).sum();
    assert!(headers < HEADERS, "{headers} bytes of headers");
    controller.works().await;
}

#[tokio::test]
async fn a_full_cache_says_so_and_belongs_to_one_controller() {
    let Some(controller) = Controller::new().await else { return };
    let neighbour = Controller::new().await.unwrap();
    controller.refuses("fill-state", Code::ResourceExhausted, "EXHAUSTED").await;
    controller.create("read-state").await.expect("what fitted is there");
    neighbour.refuses("read-state", Code::FailedPrecondition, "FAILED_PRECONDITION").await;
}

#[tokio::test]
async fn small_entries_fill_the_cache_as_well() {
    let Some(controller) =
        Controller::with(BackendConfig { limits: limits(60_000), ..config(NOWHERE) }).await
    else {
        return;
    };
    let message = controller.refuses("fill-state-in-crumbs", Code::ResourceExhausted, "EXHAUSTED").await;
    let entries: u32 = message.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(entries > 1000, "{message}");
    assert!(entries < 100_000, "what keeping an entry costs is not counted: {message}");
}

#[tokio::test]
async fn there_are_no_files() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("files", Code::FailedPrecondition, "FAILED_PRECONDITION").await;
    assert!(message.starts_with("fs: ") && !message.contains("POSSIBLE"), "{message}");
}

#[tokio::test]
async fn there_is_no_environment() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("environment", Code::FailedPrecondition, "FAILED_PRECONDITION").await;
    assert!(message.starts_with("env: 0 variables, 0 arguments, PATH None"), "{message}");
}

#[tokio::test]
async fn there_are_no_processes_and_no_threads() {
    let Some(controller) = Controller::new().await else { return };
    let message = controller.refuses("processes", Code::FailedPrecondition, "FAILED_PRECONDITION").await;
    assert!(message.starts_with("process: ") && !message.contains("POSSIBLE"), "{message}");
}

/// The log of one test: everything runs on the test's own thread.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that is logged on this thread from now on.
    pub fn listen() -> (Self, impl Drop) {
        let log = Self::default();
        let writer = log.clone();
        let guard = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .set_default();
        (log, guard)
    }

    pub fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

#[tokio::test]
async fn a_line_of_a_plugin_stays_one_line_of_the_log() {
    let Some(controller) = Controller::new().await else { return };
    let (log, _listening) = Log::listen();
    controller.create("forge-log").await.unwrap();
    let text = log.text();
    assert!(text.contains("FORGED"), "{text}");
    for line in text.split(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        assert!(
            line.is_empty() || line.contains("plugin: ") && line.contains("plugin=\"hostile\""),
            "{line:?}"
        );
    }
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}

#[tokio::test]
async fn a_plugin_cannot_flood_the_log() {
    let Some(controller) = Controller::with(BackendConfig { limits: limits(5000), ..config(NOWHERE) }).await
    else {
        return;
    };
    let (log, _listening) = Log::listen();
    controller.create("long-log").await.unwrap();
    let text = log.text();
    assert!((4096..5120).contains(&text.chars().count()), "{} characters", text.chars().count());

    controller.refuses("flood-log", Code::ResourceExhausted, "PLUGIN_CPU_BUDGET").await;
    let text = log.text();
    assert!(text.lines().all(|line| line.chars().count() < 5120));
    assert!(text.lines().count() <= 1100, "{} lines of one call", text.lines().count());
    assert!(text.lines().any(|line| line.contains("left out")), "it is said that lines are missing");
}

#[tokio::test]
async fn a_caller_that_was_replaced_is_refused_for_every_session() {
    let Some(controller) = Controller::new().await else { return };
    let create = async |session_id: String, epoch| {
        let request = CreateSessionRequest {
            session_id,
            user_id: "alice".to_owned(),
            spec: Some(SessionSpec { base_image: "good".to_owned(), ..Default::default() }),
            epoch,
            ..Default::default()
        };
        controller.client.clone().create_session(limited(request, PATIENCE)).await
    };
    for (epoch, accepted) in [(5, true), (4, false), (5, true), (0, true), (6, true), (5, false)] {
        let answer = create(session_id(), epoch).await;
        assert_eq!(answer.is_ok(), accepted, "epoch {epoch}: {answer:?}");
        if let Err(status) = answer {
            expect(&status, "an old epoch", Code::Aborted, "STALE_EPOCH");
        }
    }
}
