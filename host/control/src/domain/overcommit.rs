//! How much more than there is of something a controller promises to sessions.

use serde::{Deserialize, Deserializer};

use super::QuotaKind;

/// How many times something is given away: sessions that mostly idle do not use all that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    /// What there is, and no more.
    pub const ONCE: Self = Self(1000);
    const MOST: f64 = 1000.0;

    /// From a tenth to a thousand times, in steps of a thousandth.
    pub fn new(times: f64) -> Option<Self> {
        if !(0.1..=Self::MOST).contains(&times) {
            return None;
        }
        // In bounds, and a number.
        Some(Self((times * 1000.0).round() as u32))
    }

    /// As a number.
    pub fn times(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// So much of it may be given away.
    pub fn of(self, amount: u64) -> u64 {
        u64::try_from(u128::from(amount) * u128::from(self.0) / 1000).unwrap_or(u64::MAX)
    }

    /// As databases keep it.
    pub fn to_db(self) -> i64 {
        self.0.into()
    }

    /// What [`Factor::to_db`] wrote; nothing sensible counts as once.
    pub fn from_db(stored: i64) -> Self {
        u32::try_from(stored).ok().filter(|stored| *stored > 0).map_or(Self::ONCE, Self)
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let times = f64::deserialize(deserializer)?;
        let complaint = || serde::de::Error::custom(format!("{times} is not between 0.1 and 1000"));
        Self::new(times).ok_or_else(complaint)
    }
}

/// The same of everything that is given away in amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overcommit {
    /// Processor time: who gets less of it is slower, and nothing else.
    pub cpu: Factor,
    /// Memory: who does not get it is killed.
    pub memory: Factor,
    /// Disks, volumes and homes.
    pub storage: Factor,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { cpu: Factor(4000), memory: Factor::ONCE, storage: Factor::ONCE }
    }
}

impl Overcommit {
    /// Nothing is given away twice.
    pub const NONE: Self = Self { cpu: Factor::ONCE, memory: Factor::ONCE, storage: Factor::ONCE };

    /// Of one kind. Places are counted, not estimated.
    pub fn of(&self, kind: QuotaKind) -> Factor {
        match kind {
            QuotaKind::Sessions => Factor::ONCE,
            QuotaKind::Cpu => self.cpu,
            QuotaKind::Memory => self.memory,
            QuotaKind::Storage => self.storage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_times_and_no_more() {
        assert_eq!(Factor::new(1.5).unwrap().of(3), 4);
        assert_eq!(Factor::new(1000.0).unwrap().of(u64::MAX), u64::MAX);
        assert_eq!(Factor::from_db(Factor::new(2.5).unwrap().to_db()).times(), 2.5);
        for wrong in [0.0, -1.0, 0.09, 1000.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Factor::new(wrong), None, "{wrong}");
        }
        assert_eq!(Factor::from_db(0), Factor::ONCE);
    }
}
