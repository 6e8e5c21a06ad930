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
/// … and no further than is passed within this time, as far as is known.
const REACH: Duration = Duration::from_millis(2500);
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
    /// The longest that it took to come there for the first time.
    slowest: Duration,
    /// A server came there, whether it died or not.
    is_passed: bool,
}

impl Tally {
    /// Where the next kill may be, at most.
    fn deepest(&self) -> u64 {
        // Each once where it is passed first; and always there, if it was missed further on: it is passed seldom.
        if self.hits == 0 || self.missed > 0 {
            return 1;
        }
        let reached = REACH.as_millis() / self.slowest.as_millis().max(1);
        u64::try_from(reached).unwrap_or(DEEPEST).clamp(1, DEEPEST)
    }
}

/// All points that the load passes, or has to pass.
#[derive(Debug, Default)]
pub(crate) struct Points {
    tallies: BTreeMap<String, Tally>,
    /// Only points with this in their name.
    filter: Option<String>,
    anywhere: u32,
}

impl Points {
    /// Reads what the server wrote down at its first pass of each point.
    pub(crate) fn read(seen: &Path, filter: Option<&str>) -> Result<Self> {
        let filter = filter.map(str::to_owned);
        let mut points = Self { tallies: BTreeMap::new(), filter, anywhere: 0 };
        points.learn(seen)?;
        Ok(points)
    }

    /// Reads what was passed for the first time since then.
    pub(crate) fn learn(&mut self, seen: &Path) -> Result<()> {
        let text =
            std::fs::read_to_string(seen).with_context(|| format!("no points in {}", seen.display()))?;
        // A line may be half written when the server dies.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        for name in whole {
            if let Some(tally) = self.tally(name) {
                tally.is_passed = true;
            }
        }
        Ok(())
    }

    /// A point that has to be passed: whether it was or not, it is tried like the others.
    pub(crate) fn expect(&mut self, name: &str) {
        self.tally(name);
    }

    /// None, if it is left out.
    fn tally(&mut self, name: &str) -> Option<&mut Tally> {
        let is_wanted = self.filter.as_deref().is_none_or(|filter| name.contains(filter));
        is_wanted.then(|| self.tallies.entry(name.to_owned()).or_default())
    }

    /// Whether it is passed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tallies.get(name).is_some_and(|tally| tally.is_passed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tallies.len()
    }

    /// The next one: whichever has the fewest kills, or none of them. Those that are seldom passed hold up the others only
    /// half as often, until all that is left to do is that some have fewer than `each`.
    pub(crate) fn next(&self, random: &mut StdRng, each: u32) -> Moment {
        if random.random_ratio(1, ANYWHERE) {
            return Moment::After(Duration::from_millis(random.random_range(0..LATEST_MS)));
        }
        let tries = |tally: &Tally| tally.hits + tally.missed / 2;
        let fewest = self.tallies.values().map(tries).min().unwrap_or_default();
        let rarest: Vec<_> = if fewest >= each && !self.below(each).is_empty() {
            self.tallies.iter().filter(|(_, tally)| tally.hits < each).collect()
        } else {
            self.tallies.iter().filter(|(_, tally)| tries(tally) == fewest).collect()
        };
        let Some((point, tally)) = rarest.get(random.random_range(0..rarest.len().max(1))) else {
            return Moment::After(Duration::ZERO);
        };
        Moment::At { point: (*point).clone(), nth: random.random_range(1..=tally.deepest()) }
    }

    /// Notes what became of one, and how long that took.
    pub(crate) fn note(&mut self, moment: &Moment, hit: bool, took: Duration) {
        match moment {
            Moment::After(_) => self.anywhere += 1,
            Moment::At { point, nth } => {
                let tally = self.tallies.entry(point.clone()).or_default();
                if hit {
                    tally.hits += 1;
                    if *nth == 1 {
                        tally.slowest = tally.slowest.max(took);
                    }
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

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn what_is_passed_seldom_is_not_waited_for_often_and_what_is_new_is_learned() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        std::fs::write(&file, "slow\n").unwrap();
        let mut points = Points::read(&file, None).unwrap();
        let first = Moment::At { point: "slow".into(), nth: 1 };
        points.note(&first, true, REACH / 2);
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..50 {
            let next = points.next(&mut random, 0);
            assert!(!matches!(next, Moment::At { nth, .. } if nth > 2), "{next:?}");
        }
        std::fs::write(&file, "slow\nnew\nhal").unwrap();
        points.expect("due");
        points.learn(&file).unwrap();
        assert!(points.has("new") && !points.has("hal") && !points.has("due"));
        assert_eq!((points.len(), points.below(1)), (3, vec!["due", "new"]));
    }

    #[test]
    fn the_rarest_point_is_next_and_a_missed_one_is_tried_early() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        std::fs::write(&file, "a.one\na.two\nb\n").unwrap();
        let mut points = Points::read(&file, Some("a.")).unwrap();
        assert_eq!(points.len(), 2);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true, SOON);
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..50 {
            if let Moment::At { point, nth } = points.next(&mut random, 0) {
                assert_eq!((point.as_str(), nth), ("a.two", 1));
            }
        }
        points.note(&Moment::At { point: "a.two".into(), nth: 9 }, false, SOON);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true, SOON);
        points.note(&Moment::At { point: "a.one".into(), nth: 1 }, true, SOON);
        for _ in 0..50 {
            let next = points.next(&mut random, 0);
            assert!(!matches!(next, Moment::At { nth, .. } if nth > 1), "{next:?}");
        }
        assert_eq!(points.below(1), ["a.two"]);
        // Tried often enough, and still short of kills: nothing else is left to do.
        points.note(&Moment::At { point: "a.two".into(), nth: 1 }, false, SOON);
        for _ in 0..50 {
            if let Moment::At { point, .. } = points.next(&mut random, 1) {
                assert_eq!(point, "a.two");
            }
        }
    }
}
