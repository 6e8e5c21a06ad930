//! Idle timeout and longest duration: when a session has to be stopped that nobody asked to stop. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Condition, ConditionStatus, GoDuration, Phase, Rule, Session, WishedState, condition_type};

/// What the limits in time of a session say at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No limit is ever reached as things stand.
    Never,
    /// None is reached before that.
    NotBefore(DateTime<Utc>),
    /// One is reached.
    Reached(Limit),
}

/// A limit in time that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// Nobody used the session for so long.
    Idle(GoDuration),
    /// It has been there for so long.
    Duration(GoDuration),
}

impl Limit {
    /// The rule by which something is done about it.
    pub fn rule(&self) -> Rule {
        match self {
            Self::Idle(_) => Rule::IdleTimeout,
            Self::Duration(_) => Rule::MaxDuration,
        }
    }

    /// Says what was done about it.
    pub fn condition(&self, state: WishedState, at: DateTime<Utc>) -> Condition {
        let done = if state == WishedState::Hibernated { "hibernated" } else { "terminated" };
        let (reason, message) = match self {
            Self::Idle(limit) => ("IdleTimeout", format!("nobody used it for {limit}; it is {done}")),
            Self::Duration(limit) => {
                ("MaxDurationReached", format!("{limit} have passed since it began; it is {done}"))
            }
        };
        Condition {
            kind: condition_type::POLICY_APPLIED.to_owned(),
            status: ConditionStatus::True,
            reason: reason.to_owned(),
            message,
            since: at,
        }
    }
}

/// When the first limit in time is reached, as far as is known of the use of the session.
pub fn due(session: &Session) -> Option<DateTime<Utc>> {
    [idle_at(session), ends_at(session)].into_iter().flatten().min()
}

/// Whether a limit in time is reached. Signs of users may be written down so much later than they come: that long
/// an idle session is left alone.
pub fn verdict(session: &Session, grace: Duration, at: DateTime<Utc>) -> Verdict {
    let ends = ends_at(session);
    let idle = idle_at(session).map(|idle| later(idle, grace));
    let reached = |limit: Option<DateTime<Utc>>| limit.is_some_and(|limit| limit <= at);
    match (&session.spec.max_session_duration, &session.spec.idle_timeout) {
        (Some(limit), _) if reached(ends) => Verdict::Reached(Limit::Duration(limit.clone())),
        (_, Some(limit)) if reached(idle) => Verdict::Reached(Limit::Idle(limit.clone())),
        _ => [ends, idle].into_iter().flatten().min().map_or(Verdict::Never, Verdict::NotBefore),
    }
}

/// When it has been without a user for too long. Only what runs can be idle.
fn idle_at(session: &Session) -> Option<DateTime<Utc>> {
    let limit = session.spec.idle_timeout.as_ref()?;
    if session.is_deleting() || session.state != WishedState::Running || session.phase != Phase::Running {
        return None;
    }
    // Whoever has just started it has not used it yet.
    session.running_since.max(session.last_activity).map(|since| later(since, limit.length()))
}

/// When its time is over, hibernation included.
fn ends_at(session: &Session) -> Option<DateTime<Utc>> {
    let limit = session.spec.max_session_duration.as_ref()?;
    if session.is_deleting() || session.state == WishedState::Terminated {
        return None;
    }
    session.started_at.map(|since| later(since, limit.length()))
}

/// Beyond the end of time is never; the end of time is as good as that.
fn later(since: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let end = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let later = chrono::Duration::from_std(by).ok().and_then(|by| since.checked_add_signed(by));
    later.unwrap_or(end).min(end)
}

#[cfg(test)]
mod tests {
    use super::super::{Wish, now, test_session};
    use super::*;

    fn running(idle: &str, longest: &str) -> Session {
        let mut session = test_session(Wish::State(WishedState::Running), true, Phase::Pending);
        session.spec.idle_timeout = GoDuration::parse(idle).ok();
        session.spec.max_session_duration = GoDuration::parse(longest).ok();
        session
    }

    fn seconds(seconds: i64) -> chrono::Duration {
        chrono::Duration::seconds(seconds)
    }

    #[test]
    fn what_does_not_run_yet_has_no_limit_in_time() {
        assert_eq!(due(&running("1m", "1h")), None);
        assert_eq!(verdict(&running("1m", "1h"), Duration::ZERO, now() + seconds(7200)), Verdict::Never);
    }

    #[test]
    fn the_idle_clock_starts_with_the_session_with_every_sign_and_with_every_start() {
        let begun = now();
        let mut session = running("60s", "");
        session.observe_phase(Phase::Running, begun);
        assert_eq!(due(&session), Some(begun + seconds(60)));
        session.last_activity = Some(begun - seconds(1000));
        assert_eq!(due(&session), Some(begun + seconds(60)), "a sign from before it ran");
        session.last_activity = Some(begun + seconds(30));
        assert_eq!(due(&session), Some(begun + seconds(90)));
        let grace = Duration::from_secs(15);
        let at = |after: i64| verdict(&session, grace, begun + seconds(after));
        assert_eq!(at(104), Verdict::NotBefore(begun + seconds(105)));
        assert!(matches!(at(105), Verdict::Reached(Limit::Idle(_))));
        // Observed again and again it does not start anew.
        session.observe_phase(Phase::Running, begun + seconds(80));
        assert_eq!(due(&session), Some(begun + seconds(90)));
        session.observe_phase(Phase::Hibernated, begun + seconds(100));
        assert_eq!(due(&session), None);
        session.observe_phase(Phase::Running, begun + seconds(200));
        assert_eq!(due(&session), Some(begun + seconds(260)));
    }

    #[test]
    fn the_longest_duration_goes_on_through_hibernation_and_ends_with_the_session() {
        let begun = now();
        let mut session = running("60s", "100s");
        session.observe_phase(Phase::Running, begun);
        session.observe_phase(Phase::Hibernated, begun + seconds(50));
        (session.state, session.wish) = (WishedState::Hibernated, Wish::State(WishedState::Hibernated));
        assert_eq!(due(&session), Some(begun + seconds(100)));
        let reached = verdict(&session, Duration::from_secs(15), begun + seconds(100));
        assert!(matches!(reached, Verdict::Reached(Limit::Duration(_))), "without any grace");
        session.state = WishedState::Terminated;
        assert_eq!(due(&session), None);
        session.observe_phase(Phase::Terminated, begun + seconds(101));
        session.state = WishedState::Running;
        session.observe_phase(Phase::Running, begun + seconds(500));
        assert_eq!(due(&session), Some(begun + seconds(560)));
        session.wish = Wish::Gone { purge_home: false };
        assert_eq!(due(&session), None);
    }

    #[test]
    fn limits_beyond_the_end_of_time_are_never_reached() {
        let mut session = running("2562047h", "");
        session.observe_phase(Phase::Running, now());
        assert!(due(&session).is_some_and(|due| due.timestamp() <= 253_402_300_799));
    }
}
