//! Keeps calls away from a plugin that keeps failing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use streamspace_runtime::CallError;

/// So many failures without anything that works between them, and the plugin gets a pause. One session counts only
/// once: what breaks the plugin may be the session, and then it must not take the others with it.
const FAILURES: usize = 5;

/// The first pause. Every further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// A plugin that held out for so long after a pause begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// A call with less time than that may fail without anybody being at fault.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// What a call was about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// One session.
    Session(&'a str),
    /// The backend as a whole.
    Backend,
}

/// A plugin that is left alone for a while.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Its last failure.
    pub reason: String,
    /// When it was found to be failing, for the first of the pauses in a row.
    pub since: Instant,
    /// When calls reach it again.
    pub until: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What failed since something worked; none = a call about the backend as a whole.
    failures: Vec<Option<String>>,
    /// The pause under way, or the one that has just ended and nothing has worked since.
    failing: Option<Failing>,
    /// Pauses in a row.
    pauses: u32,
    last_pause_ended: Option<Instant>,
}

impl Breaker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pause under way.
    pub(crate) fn pause(&self, now: Instant) -> Option<Failing> {
        self.failing().filter(|failing| now < failing.until)
    }

    /// The pause under way, or the last one if nothing has worked since.
    pub(crate) fn failing(&self) -> Option<Failing> {
        self.state().failing.clone()
    }

    /// Notes how a call ended.
    pub(crate) fn note<T>(&self, subject: Subject<'_>, result: &Result<T, CallError>, now: Instant) {
        match result.as_ref().err() {
            None | Some(CallError::Backend(_)) => self.worked(now),
            Some(error) if is_the_plugins_fault(error) => self.failed(subject, error, now),
            Some(_) => {}
        }
    }

    fn worked(&self, now: Instant) {
        let mut state = self.state();
        // It began before the pause did.
        if state.failing.as_ref().is_some_and(|failing| now < failing.until) {
            return;
        }
        state.failures.clear();
        if let Some(failing) = state.failing.take() {
            tracing::info!("the plugin works again");
            state.last_pause_ended = Some(failing.until);
        }
    }

    fn failed(&self, subject: Subject<'_>, error: &CallError, now: Instant) {
        let mut state = self.state();
        match &state.failing {
            Some(failing) if now < failing.until => return,
            // It was tried again, and that was that.
            Some(_) => {}
            None => {
                let subject = match subject {
                    Subject::Session(id) => Some(id.to_owned()),
                    Subject::Backend => None,
                };
                if subject.is_none() || !state.failures.contains(&subject) {
                    state.failures.push(subject);
                }
                if state.failures.len() < FAILURES {
                    return;
                }
            }
        }
        if state.last_pause_ended.take().is_some_and(|ended| now.duration_since(ended) > FORGIVEN_AFTER) {
            state.pauses = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << state.pauses.min(16)).min(LONGEST_PAUSE);
        state.pauses += 1;
        state.failures.clear();
        let since = state.failing.as_ref().map_or(now, |failing| failing.since);
        tracing::warn!(%error, ?pause, "the plugin keeps failing and is left alone for a while");
        state.failing = Some(Failing { reason: error.to_string(), since, until: now + pause });
    }
}

/// What the host ended is the plugin's fault, unless there was no room or hardly any time.
fn is_the_plugins_fault(error: &CallError) -> bool {
    match error {
        CallError::Backend(_) | CallError::Busy(_) => false,
        CallError::TimedOut(limit) => *limit >= FAIR_TIME,
        CallError::Trapped(_)
        | CallError::CpuBudget(_)
        | CallError::MemoryLimit(_)
        | CallError::HandleTooLarge(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap() -> Result<(), CallError> {
        Err(CallError::Trapped("unreachable".to_owned()))
    }

    fn fail(breaker: &Breaker, at: Instant) {
        for _ in 0..FAILURES {
            breaker.note(Subject::Backend, &trap(), at);
        }
    }

    #[test]
    fn only_failures_in_a_row_count_and_a_session_only_once() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES * 2 {
            breaker.note(Subject::Session("poison"), &trap(), now);
        }
        assert!(breaker.pause(now).is_none(), "one session");
        for _ in 0..FAILURES - 2 {
            breaker.note(Subject::Backend, &trap(), now);
        }
        breaker.note(Subject::Backend, &Ok(()), now);
        for session in ["a", "b", "c", "d"] {
            breaker.note(Subject::Session(session), &trap(), now);
        }
        assert!(breaker.pause(now).is_none(), "something worked");
        breaker.note(Subject::Session("e"), &trap(), now);
        assert!(breaker.pause(now).unwrap().reason.contains("unreachable"));
    }

    #[test]
    fn pauses_grow_while_nothing_works_and_end_when_something_does() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        fail(&breaker, start);
        let first = breaker.pause(start).unwrap();
        assert_eq!(first.until, start + FIRST_PAUSE);
        breaker.note(Subject::Backend, &Ok(()), start);
        assert!(breaker.pause(start).is_some(), "a late success of before");

        assert!(breaker.pause(first.until).is_none(), "tried again");
        assert!(breaker.failing().is_some(), "but not well yet");
        breaker.note(Subject::Backend, &trap(), first.until);
        let second = breaker.pause(first.until).unwrap();
        assert_eq!((second.until, second.since), (first.until + FIRST_PAUSE * 2, start));

        breaker.note(Subject::Backend, &Ok(()), second.until);
        assert!(breaker.failing().is_none());
        fail(&breaker, second.until);
        assert_eq!(
            breaker.pause(second.until).unwrap().until,
            second.until + FIRST_PAUSE * 4,
            "not forgotten"
        );
        let later = second.until + FIRST_PAUSE * 4;
        breaker.note(Subject::Backend, &Ok(()), later);
        let later = later + FORGIVEN_AFTER * 2;
        fail(&breaker, later);
        assert_eq!(breaker.pause(later).unwrap().until, later + FIRST_PAUSE);
    }

    #[test]
    fn whoever_had_no_time_or_no_room_says_nothing_about_the_plugin() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.note(Subject::Backend, &Err::<(), _>(CallError::Busy("reads")), now);
            breaker.note(Subject::Backend, &Err::<(), _>(CallError::TimedOut(Duration::ZERO)), now);
        }
        assert!(breaker.pause(now).is_none());
    }
}
