//! Wanting more than there is: time, memory, room in the cache, the log and the answers.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use streamspace_sdk::host::{docker, log, state};
use streamspace_sdk::{
    Error, ErrorExt as _, ErrorKind, Outcome, Progress, Result, SessionEntry, SessionPage,
};

use crate::{good, listed, refused};

pub(crate) fn spin() -> Result<Outcome> {
    let mut n = 0_u64;
    while black_box(true) {
        n = black_box(n.wrapping_add(1));
    }
    Ok(good())
}

pub(crate) fn grow() -> Result<Outcome> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        all.push(black_box(vec![1; 1 << 20]));
    }
    Ok(good())
}

pub(crate) fn allocate_at_once() -> Result<Outcome> {
    black_box(vec![1_u8; black_box(1 << 30)]);
    Ok(good())
}

/// Takes most of the memory and gives nothing back.
pub(crate) fn leak() -> Result<Outcome> {
    black_box(Box::leak(vec![1_u8; 48 << 20].into_boxed_slice()));
    Ok(good())
}

/// As many lines as there is time for, each as long as may be.
pub(crate) fn flood_log() -> Result<Outcome> {
    let line = "flood ".repeat(1000);
    while black_box(true) {
        log::write(log::Level::Info, &line, &[]);
    }
    Ok(good())
}

/// Lines that would look like somebody else's if the host wrote them as they are.
pub(crate) fn forge_log() -> Result<Outcome> {
    for separator in
        ["\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}", "\u{1b}[2K\u{1b}[1G"]
    {
        let message = format!("innocent{separator}FORGED ERROR the disk is on fire");
        log::write(log::Level::Info, &message, &[("key".to_owned(), message.clone())]);
        log::write(log::Level::Info, "fields", &[(message.clone(), message.clone())]);
    }
    // The order of characters turned round: what is read is not what is written.
    log::write(log::Level::Info, "innocent \u{202e}DEGROF\u{202c}", &[]);
    Ok(good())
}

/// Fields that become many times larger when they are quoted.
pub(crate) fn log_long_fields() -> Result<Outcome> {
    let value = "\u{1}".repeat(12 << 20);
    log::write(log::Level::Warn, "long", &[("value".to_owned(), value)]);
    Ok(good())
}

/// As much as the cache takes, in pieces of 64 KiB. The error is the host's.
pub(crate) fn fill_state() -> Result<Outcome> {
    let value = vec![7; 64 << 10];
    for piece in 0.. {
        state::put(&format!("piece {piece}"), &value, None)?;
    }
    Ok(good())
}

/// As many entries as the cache takes, with next to nothing in each. Says how many there were.
pub(crate) fn fill_state_in_crumbs() -> Result<Outcome> {
    for crumb in 0_u32.. {
        if let Err(error) = state::put(&format!("{crumb:x}"), &[], None) {
            return Err(error.context(&format!("after {crumb} entries")));
        }
    }
    Ok(good())
}

/// Whether what an earlier call left in the cache is there.
pub(crate) fn read_state() -> Result<Outcome> {
    match state::get("piece 0") {
        Some(_) => Ok(good()),
        None => Err(refused("the cache is empty")),
    }
}

/// A host call that copies much and never waits, without end.
pub(crate) fn loop_in_the_cache() -> Result<Outcome> {
    state::put("large", &vec![7; 1 << 20], None)?;
    while black_box(true) {
        black_box(state::get("large"));
    }
    Ok(good())
}

/// A host call that could wait and never does, as it is refused at once, without end.
pub(crate) fn loop_in_the_engine() -> Result<Outcome> {
    while black_box(true) {
        let _ = black_box(docker::engine_inspect("other"));
    }
    Ok(good())
}

pub(crate) fn sleep() -> Result<Outcome> {
    thread::sleep(Duration::from_secs(3600));
    Ok(good())
}

/// Waits far more often than it may compute in ticks of the host's clock, and hardly computes.
pub(crate) fn nap() -> Result<Outcome> {
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(25));
    }
    Ok(good())
}

/// Work that goes on, with a handle of this size.
pub(crate) fn handle(size: usize) -> Outcome {
    Outcome::InProgress(Progress {
        handle: vec![7; size],
        poll_after_ms: 1,
        message: "goes on".to_owned(),
        conditions: Vec::new(),
        ext: Vec::new(),
    })
}

/// An error with too much of everything, in characters that grow on the wire.
pub(crate) fn enormous_error() -> Error {
    let much = "ä\n".repeat(1 << 20);
    Error {
        field: Some(much.clone()),
        ext: (0..1000).map(|n| (format!("{n} {}", "key ".repeat(1000)), "ä".repeat(1000))).collect(),
        ..Error::new(ErrorKind::Unavailable, much)
    }
}

pub(crate) fn entry(session_id: String) -> SessionEntry {
    listed(session_id)
}

/// A page of a listing that is too large in one way or another.
pub(crate) fn page(word: &str) -> Option<SessionPage> {
    let entries = match word {
        "enormous-entry" => vec![listed("s".repeat(24 << 20))],
        "enormous-page" => (0..40_000).map(|n| listed(format!("session {n}"))).collect(),
        _ => return None,
    };
    Some(SessionPage { entries, next_cursor: None, ext: Vec::new() })
}
