//! What is told at the end.

use std::fmt::Write as _;
use std::time::Duration;

use crate::effects::Ledger;
use crate::points::Points;

/// The figures so far.
pub(crate) struct Report {
    pub(crate) kills: u32,
    seed: u64,
    users: usize,
    settling: Vec<Duration>,
    text: String,
}

impl Report {
    pub(crate) fn new(seed: u64, users: usize) -> Self {
        Self { kills: 0, seed, users, settling: Vec::new(), text: String::new() }
    }

    /// Notes how long it took until everything was as it was wished.
    pub(crate) fn judged(&mut self, took: Duration) {
        self.settling.push(took);
    }

    /// Writes it. Only a run without a fault comes here.
    pub(crate) fn finish(&mut self, took: Duration, acknowledged: u64, ledger: &Ledger, points: &Points) {
        let mut settling: Vec<f64> = self.settling.iter().map(Duration::as_secs_f64).collect();
        settling.sort_by(f64::total_cmp);
        let at =
            |part: usize| settling.get((settling.len() * part / 100).min(settling.len().saturating_sub(1)));
        let (median, slowest) = (at(50).copied().unwrap_or_default(), at(100).copied().unwrap_or_default());
        let mut text = format!(
            "{} kills in {:.1} min, {} users, seed {}\n\n\
             | what | figure |\n|---|---|\n\
             | verbs acknowledged | {acknowledged} |\n\
             | effects at the infrastructure | {} |\n\
             | acknowledged and lost | 0 |\n| effects made twice for one wish | 0 |\n| boxes of no session | 0 |\n\
             | judgements | {} |\n\
             | from the last start until everything is as wished: median, slowest | {median:.2} s, {slowest:.2} s |\n\n\
             | point | kills | not reached in time |\n|---|---|---|\n",
            self.kills,
            took.as_secs_f64() / 60.0,
            self.users,
            self.seed,
            ledger.len(),
            settling.len(),
        );
        for (name, tally) in points.tallies() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "| `{name}` | {} | {} |", tally.hits, tally.missed);
        }
        let _ = writeln!(text, "| an instant without a name | {} | |", points.anywhere());
        self.text = text;
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
