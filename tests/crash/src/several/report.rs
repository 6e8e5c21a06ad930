//! What is told at the end.

use std::time::Duration;

use crate::Arguments;
use crate::effects::Ledger;

/// The figures so far.
#[derive(Default)]
pub(super) struct Report {
    kills: u32,
    stops: u32,
    driven: Vec<Duration>,
    takeovers: Vec<Duration>,
    settling: Vec<Duration>,
    heard: (u64, u64),
}

/// The one below which so many of a hundred are.
fn part(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default().as_secs_f64()
}

fn sorted(durations: &[Duration]) -> Vec<Duration> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted
}

impl Report {
    /// A server was killed, or made to stand still.
    pub(super) fn struck(&mut self, killed: bool) {
        if killed {
            self.kills += 1;
        } else {
            self.stops += 1;
        }
    }

    /// Another server drove the controller so long afterwards.
    pub(super) fn driven_again(&mut self, took: Duration) {
        self.driven.push(took);
    }

    /// Others went on so long afterwards with what it was doing.
    pub(super) fn taken_over(&mut self, took: Duration) {
        self.takeovers.push(took);
    }

    pub(super) fn judged(&mut self, took: Duration, heard: (u64, u64)) {
        self.settling.push(took);
        self.heard = heard;
    }

    pub(super) fn blows(&self) -> u32 {
        self.kills + self.stops
    }

    pub(super) fn rounds(&self) -> usize {
        self.settling.len()
    }

    pub(super) fn takeovers(&self) -> usize {
        self.takeovers.len()
    }

    /// How fast takeovers are, in a line.
    pub(super) fn so_far(&self) -> String {
        let sorted = sorted(&self.takeovers);
        let driven = part(&self::sorted(&self.driven), 50);
        format!(
            "{} takeovers (median {:.2} s, max {:.2} s; driven again after {driven:.2} s),",
            sorted.len(),
            part(&sorted, 50),
            part(&sorted, 100)
        )
    }

    /// The whole. Only a run without a fault comes here.
    pub(super) fn finish(
        &self,
        took: Duration,
        of: &Arguments,
        acknowledged: u64,
        ledger: &Ledger,
    ) -> String {
        let (takeovers, settling) = (sorted(&self.takeovers), sorted(&self.settling));
        let driven = sorted(&self.driven);
        format!(
            "{} servers over one PostgreSQL, {} users, {:.1} min, seed {}\n\n\
             | what | figure |\n|---|---|\n\
             | servers killed, stopped for a while | {}, {} |\n\
             | verbs acknowledged | {acknowledged} |\n\
             | effects at the infrastructure | {} |\n\
             | acknowledged and lost | 0 |\n| effects made twice for one wish | 0 |\n| boxes of no session | 0 |\n\
             | effects under an epoch that was over | 0 |\n\
             | events heard by {} listeners, moves between servers | {}, {} |\n\
             | events missed, heard twice or out of order | 0 |\n\
             | judgements | {} |\n\
             | until everything is as wished: median, slowest | {:.2} s, {:.2} s |\n\
             | until another server drives the controller: median, p95, slowest of {} | {:.2} s, {:.2} s, {:.2} s |\n\
             | takeovers: from the blow to the first step that another server recorded | {} |\n\
             | takeover: median, p95, slowest | {:.2} s, {:.2} s, {:.2} s |\n",
            of.servers,
            of.sessions,
            took.as_secs_f64() / 60.0,
            of.seed,
            self.kills,
            self.stops,
            ledger.len(),
            of.servers,
            self.heard.0,
            self.heard.1,
            settling.len(),
            part(&settling, 50),
            part(&settling, 100),
            driven.len(),
            part(&driven, 50),
            part(&driven, 95),
            part(&driven, 100),
            takeovers.len(),
            part(&takeovers, 50),
            part(&takeovers, 95),
            part(&takeovers, 100),
        )
    }
}
