//! Good calls beside bad ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use streamspace_runtime::contract::types::SessionRef;
use streamspace_runtime::{Backend, CallError, CallOptions, Runtime, RuntimeConfig};
use tokio::task::JoinSet;

use crate::stage::{Controller, NOWHERE, PATIENCE, another_version, config, hostile_file, session_id};

/// Good calls at once on each controller.
const GOOD: usize = 50;

/// Bad calls at once, fewer than a controller has permits.
const BAD: usize = 4;

/// Whatever the bad calls of one controller do, no good call fails: neither on another controller nor on the same.
async fn good_calls_survive(words: &[&str]) {
    let Some(bad) = Controller::new().await else { return };
    let good = Controller::new().await.unwrap();
    for word in words {
        let misbehaving = join_all((0..BAD).map(|_| bad.create_within(word, Duration::from_secs(3))));
        let behaving = async {
            for controller in [&good, &bad] {
                let (creates, looks) = join(
                    join_all((0..GOOD).map(|_| controller.create("good"))),
                    join_all((0..GOOD).map(|_| controller.look("good", PATIENCE))),
                )
                .await;
                for answer in creates {
                    let answer = answer.unwrap_or_else(|status| panic!("beside `{word}`: {status:?}"));
                    assert_eq!((answer.phase.as_str(), answer.node_id.as_str()), ("Running", "1"));
                }
                for answer in looks {
                    answer.unwrap_or_else(|status| panic!("beside `{word}`: {status:?}"));
                }
            }
        };
        let (outcomes, ()) = join(misbehaving, behaving).await;
        assert!(outcomes.iter().all(Result::is_err), "{word} had to fail: {outcomes:?}");
        // With something that works between them, the failures of all words are no row.
        bad.works().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_calls_survive_traps_beside_them() {
    good_calls_survive(&["panic", "abort", "exit", "stack-overflow", "wild-read", "chat-and-panic"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_calls_survive_loops_beside_them() {
    good_calls_survive(&["loop", "loop-in-the-cache", "loop-in-the-engine", "flood-log"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_calls_survive_greed_beside_them() {
    good_calls_survive(&["grow", "huge-allocation", "sleep", "enormous-handle", "fill-state"]).await;
}

/// One thread for everything: a guest that computes must still let the others run.
#[tokio::test(flavor = "current_thread")]
async fn good_calls_survive_loops_even_on_a_single_thread() {
    good_calls_survive(&["loop", "loop-in-the-engine"]).await;
}

/// Hostile controllers at once.
const HOSTILE: usize = 3;

/// Calls at once of each hostile controller, changing and looking: all that it has permits for.
const CHANGES: usize = 16;
const LOOKS: usize = 32;

/// How long a hostile call may take.
const HOSTILE_TIME: Duration = Duration::from_secs(1);

/// Instances that controllers share: far fewer than the hostile ones want.
const INSTANCES: u32 = 48;

/// Calls at once of the plugin beside them.
const BESIDE: usize = 200;

/// Whatever three controllers do with everything that they can get, no call of another plugin fails. They are called
/// past their shells: those would soon leave a plugin alone that keeps failing. Every caller is a task of its own, as
/// in a server: callers that share one also share its turn, and those that are always ready would leave nothing of it.
async fn another_plugin_does_not_notice(words: &[&'static str]) {
    let Some(file) = hostile_file() else { return };
    let runtime = Runtime::new(RuntimeConfig { instances: INSTANCES, ..Default::default() }).unwrap();
    let wasm = std::fs::read(file).unwrap();
    let plugin = runtime.load(wasm.clone()).await.unwrap();
    let mut hostile = Vec::new();
    for _ in 0..HOSTILE {
        hostile.push(Arc::new(Backend::bind(plugin.clone(), config(NOWHERE)).await.unwrap()));
    }
    let other = Controller::of(runtime.load(another_version(wasm)).await.unwrap(), config(NOWHERE)).await;
    for &word in words {
        let attack = Arc::new(Attack { word, over: AtomicBool::new(false), failed: AtomicUsize::new(0) });
        let mut attackers = JoinSet::new();
        for backend in &hostile {
            for _ in 0..CHANGES {
                attackers.spawn(Arc::clone(&attack).keep_changing(Arc::clone(backend)));
            }
            for _ in 0..LOOKS {
                attackers.spawn(Arc::clone(&attack).keep_looking(Arc::clone(backend)));
            }
        }
        // Not before they have begun.
        while attack.failed.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (creates, looks) = join(
            join_all((0..BESIDE / 2).map(|_| other.create("good"))),
            join_all((0..BESIDE / 2).map(|_| other.look("good", PATIENCE))),
        )
        .await;
        attack.over.store(true, Ordering::Relaxed);
        for answer in creates {
            let answer = answer.unwrap_or_else(|status| panic!("beside `{word}`: {status:?}"));
            assert_eq!((answer.phase.as_str(), answer.node_id.as_str()), ("Running", "1"));
        }
        for answer in looks {
            answer.unwrap_or_else(|status| panic!("beside `{word}`: {status:?}"));
        }
        while let Some(attacker) = attackers.join_next().await {
            attacker.unwrap();
        }
    }
}

/// What keeps controllers busy with failing calls until it is over.
struct Attack {
    word: &'static str,
    over: AtomicBool,
    failed: AtomicUsize,
}

impl Attack {
    async fn keep_changing(self: Arc<Self>, backend: Arc<Backend>) {
        while !self.over.load(Ordering::Relaxed) {
            let handle = Some(self.word.as_bytes().to_vec());
            let result =
                backend.delete(CallOptions::read(HOSTILE_TIME), session(&session_id()), None, handle);
            self.note(result.await.map(drop));
        }
    }

    async fn keep_looking(self: Arc<Self>, backend: Arc<Backend>) {
        while !self.over.load(Ordering::Relaxed) {
            let result = backend.get(CallOptions::read(HOSTILE_TIME), session(self.word));
            self.note(result.await.map(drop));
        }
    }

    fn note(&self, result: Result<(), CallError>) {
        let error = result.expect_err(self.word);
        assert!(
            !matches!(error, CallError::Busy("calls")),
            "the engine has fewer instances than were promised"
        );
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

fn session(id: &str) -> SessionRef {
    SessionRef { session_id: id.to_owned(), node_id: None, external_ref: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plugin_does_not_notice_traps() {
    another_plugin_does_not_notice(&["panic", "stack-overflow", "wild-write", "other-endpoint"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plugin_does_not_notice_loops_and_storms() {
    another_plugin_does_not_notice(&["loop", "loop-in-the-cache", "loop-in-the-engine", "flood-log"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plugin_does_not_notice_greed() {
    another_plugin_does_not_notice(&["grow", "huge-allocation", "sleep", "enormous-error", "fill-state"])
        .await;
}
