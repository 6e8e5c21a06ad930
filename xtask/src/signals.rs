//! Ctrl-C and termination. A signal does not end this program at once: it is passed to the programs that
//! run for it, and the command in hand then cleans up what it started and leaves.

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Starts to listen.
pub fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for number in signals.forever() {
            let again = RECEIVED.swap(number, Ordering::SeqCst) != 0;
            // Who asks twice does not want to wait.
            let signal = match number {
                _ if again => Signal::KILL,
                SIGINT => Signal::INT,
                _ => Signal::TERM,
            };
            for &group in groups().iter() {
                // A group that has just ended is no error.
                let _ = kill_process_group(group, signal);
            }
        }
    });
    Ok(())
}

/// Fails once a signal has come.
pub fn check() -> Result<()> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => bail!("interrupted"),
    }
}

/// What a shell expects of a program that a signal ended.
pub fn exit_code() -> Option<ExitCode> {
    let number = RECEIVED.load(Ordering::SeqCst);
    u8::try_from(number).ok().filter(|&number| number != 0).map(|number| ExitCode::from(128 + number))
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running program that leads its own process group and gets our signals, for as long as this lives.
pub struct Forwarding(Option<Pid>);

impl Forwarding {
    /// For a child that was started with `process_group(0)`.
    pub fn to(child: &Child) -> Self {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        groups().extend(group);
        // The signal may have come between the start and this line.
        if let (Some(group), Err(_)) = (group, check()) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        Self(group)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        groups().retain(|&group| Some(group) != self.0);
    }
}
