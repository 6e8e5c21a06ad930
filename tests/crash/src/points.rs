//! The points at which the server can be killed, and how often it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

/// Of so many kills one comes at an instant without a name.
const ANYWHERE: u32 = 8;
/// A point is passed at most so often before the kill: later means deeper into the load.
const DEEPEST: u64 = 12;
/// What a kill without a name comes after, at most, in milliseconds.
const LATEST_MS: u64 = 900;

/// When the server dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At a named point, when it comes there for the n-th time.
    At {
        /// The point.
        point: String,
        /// Counted from 1.
        nth: u64,
    },
    /// So long after it serves, wherever it is then.
    After(Duration),
}

/// What became of the tries at one point.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// The server died there.
    pub(crate) hits: u32,
    /// It did not come there in time, and was killed elsewhere.
    pub(crate) missed: u32,
}

/// All points that the load passes.
#[derive(Debug, Default)]
pub(crate) struct Points {
    tallies: BTreeMap<String, Tally>,
    anywhere: u32,
}

impl Points {
    /// Reads what the server wrote down at its first pass of each point.
    pub(crate) fn read(seen: &Path, filter: Option<&str>) -> Result<Self> {
        let text =
            std::fs::read_to_string(seen).with_context(|| format!("no points in {}", seen.display()))?;
        let wanted = |name: &&str| filter.is_none_or(|filter| name.contains(filter));
        let tallies = text.lines().filter(wanted).map(|name| (name.to_owned(), Tally::default())).collect();
        Ok(Self { tallies, anywhere: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tallies.len()
    }

    /// The next one: whichever had the fewest tries, or none of them.
    pub(crate) fn next(&self, random: &mut StdRng) -> Moment {
        if random.random_ratio(1, ANYWHERE) {
            return Moment::After(Duration::from_millis(random.random_range(0..LATEST_MS)));
        }
        let tries = |tally: &Tally| tally.hits + tally.missed * 2;
        let fewest = self.tallies.values().map(tries).min().unwrap_or_default();
        let rarest: Vec<_> = self.tallies.iter().filter(|(_, tally)| tries(tally) == fewest).collect();
        let Some((point, tally)) = rarest.get(random.random_range(0..rarest.len().max(1))) else {
            return Moment::After(Duration::ZERO);
        };
        // Each once where it is passed first; and always there, if it was missed further on: it is passed seldom.
        let deepest = if tally.hits == 0 || tally.missed > 0 { 1 } else { DEEPEST };
        Moment::At { point: (*point).clone(), nth: random.random_range(1..=deepest) }
    }

    /// Notes what became of one.
    pub(crate) fn note(&mut self, moment: &Moment, hit: bool) {
        match moment {
            Moment::After(_) => self.anywhere += 1,
            Moment::At { point, .. } => {
                let tally = self.tallies.entry(point.clone()).or_default();
                if hit {
                    tally.hits += 1;
                } else {
                    tally.missed += 1;
                }
            }
        }
    }

    /// The points with fewer kills than that.
    pub(crate) fn below(&self, each: u32) -> Vec<&str> {
        let few = self.tallies.iter().filter(|(_, tally)| tally.hits < each);
        few.map(|(name, _)| name.as_str()).collect()
    }

    /// All of them, by name.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&str, Tally)> {
        self.tallies.iter().map(|(name, tally)| (name.as_str(), *tally))
    }

    /// Kills at an instant without a name.
    pub(crate) fn anywhere(&self) -> u32 {
        self.anywhere
    }
}

/// Chance that belongs to one of many.
pub(crate) fn chance_of(seed: u64, number: usize) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number as u64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_point_is_next_and_a_missed_one_is_tried_early() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        std::fs::write(&file, "a.one\na.two\nb\n").unwrap();
        let mut points = Points::read(&file, Some("a.")).unwrap();
        assert_eq!(points.len(), 2);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true);
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..50 {
            if let Moment::At { point, nth } = points.next(&mut random) {
                assert_eq!((point.as_str(), nth), ("a.two", 1));
            }
        }
        points.note(&Moment::At { point: "a.two".into(), nth: 9 }, false);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true);
        for _ in 0..50 {
            let next = points.next(&mut random);
            assert!(!matches!(next, Moment::At { nth, .. } if nth > 1), "{next:?}");
        }
        assert_eq!(points.below(1), ["a.two"]);
    }
}
