//! Good calls beside bad ones.

use std::time::Duration;

use futures::future::{join, join_all};

use crate::stage::{Controller, PATIENCE};

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
