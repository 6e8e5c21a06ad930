//! How much a plugin may use, and the limiter that holds its memory to it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use wasmtime::ResourceLimiter;

/// How much one controller's plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one call, in bytes.
    pub memory: ByteSize,
    /// Processor time of one call.
    pub cpu: Duration,
    /// Mutations at once.
    pub calls: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // Plugins are small and their work is waiting: a listing of ten thousand sessions fits into 64 MiB and
        // takes well under a second, so that whoever needs more has most likely run away.
        Self { memory: ByteSize(64 << 20), cpu: Duration::from_secs(2), calls: 16 }
    }
}

impl Limits {
    /// The largest memory limit that can be granted: what the pooling allocator reserves for each memory.
    pub const MAX_MEMORY: ByteSize = ByteSize(256 << 20);

    /// What an operator's word makes of the defaults.
    pub fn granted(operator: &LimitOverrides) -> Self {
        let default = Self::default();
        Self {
            memory: operator.memory.unwrap_or(default.memory).min(Self::MAX_MEMORY),
            cpu: operator.cpu_ms.map_or(default.cpu, Duration::from_millis),
            calls: operator.calls.unwrap_or(default.calls).max(1),
        }
    }

    /// What a manifest asks for, if it is more than this. Told as `limits.memory`, the wish and the limit.
    pub(crate) fn exceeded_by(&self, asked: &LimitOverrides) -> Option<(&'static str, String, String)> {
        let memory = asked.memory.filter(|memory| *memory > self.memory);
        let cpu = asked.cpu_ms.filter(|ms| Duration::from_millis(*ms) > self.cpu);
        let calls = asked.calls.filter(|calls| *calls > self.calls);
        memory
            .map(|memory| ("memory", memory.to_string(), self.memory.to_string()))
            .or_else(|| cpu.map(|ms| ("cpu_ms", ms.to_string(), self.cpu.as_millis().to_string())))
            .or_else(|| calls.map(|calls| ("calls", calls.to_string(), self.calls.to_string())))
    }
}

/// Limits as a manifest or the operator's configuration gives them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    /// Memory of one call, e.g. `64MiB`; at most 256 MiB.
    pub memory: Option<ByteSize>,
    /// Processor time of one call in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Mutations at once.
    pub calls: Option<u32>,
}

/// A number of bytes, written like `64MiB`, `512KiB` or `4096`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => return Err(format!("`{other}` is no unit of size (B, KiB, MiB, GiB)")),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no size like 64MiB"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} B"),
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the calls of one controller may take together, in their sandboxes and in the host for what they exchange. Each alone keeps to its limit, but a hundred at once could
/// still take all the memory of the machine.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    /// So many calls may come to their limit at once, and in any case there are 512 MiB: far more than a hundred
    /// ordinary calls touch.
    pub(crate) fn of_controller(limits: Limits) -> Self {
        Self::new((limits.memory.bytes() * 4).max(512 << 20))
    }

    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// A part of it, which is empty at first.
    pub(crate) fn share(self: &Arc<Self>) -> MemoryShare {
        MemoryShare { budget: Arc::clone(self), taken: 0 }
    }

    fn take(&self, bytes: u64) -> Result<(), MemoryBudgetExceeded> {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.limit)
        });
        taken.map(drop).map_err(|_| MemoryBudgetExceeded)
    }
}

/// Bytes of a budget that somebody has taken, and gives back with this.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: Arc<MemoryBudget>,
    taken: u64,
}

impl MemoryShare {
    /// Takes more.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), MemoryBudgetExceeded> {
        self.budget.take(more)?;
        self.taken += more;
        Ok(())
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// Holds the memory of one call to its limit. Growing past it traps with [`MemoryLimitExceeded`], so that the
/// caller is told what happened instead of seeing the guest's allocator abort.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: ByteSize,
    share: MemoryShare,
}

/// The guest asked for more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("memory limit of {0} exceeded")]
pub(crate) struct MemoryLimitExceeded(ByteSize);

/// All calls of the controller together have as much memory as they may.
#[derive(Debug, thiserror::Error)]
#[error("the calls of this controller take too much memory together")]
pub(crate) struct MemoryBudgetExceeded;

impl MemoryLimiter {
    pub(crate) fn new(limit: ByteSize, budget: &Arc<MemoryBudget>) -> Self {
        Self { limit, share: budget.share() }
    }
}

/// Entries in a table: function pointers of one compiled program, far above any real one.
const TABLE_ELEMENTS: usize = 20_000;

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired as u64 > self.limit.bytes() {
            return Err(MemoryLimitExceeded(self.limit).into());
        }
        self.share.grow(desired.saturating_sub(current) as u64)?;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("4096", 4096), ("1KiB", 1024), ("64MiB", 64 << 20), ("2 GiB", 2 << 30)] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "MiB", "64MB", "-1", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_operator_has_the_last_word_and_the_pool_the_very_last() {
        let operator = LimitOverrides { memory: Some(ByteSize(1 << 40)), cpu_ms: Some(500), calls: Some(0) };
        let limits = Limits::granted(&operator);
        assert_eq!(limits.memory, Limits::MAX_MEMORY);
        assert_eq!(limits.cpu, Duration::from_millis(500));
        assert_eq!(limits.calls, 1);
    }

    #[test]
    fn calls_share_a_budget_and_give_it_back() {
        let limits = Limits { memory: ByteSize(256 << 20), ..Limits::default() };
        let budget = Arc::new(MemoryBudget::of_controller(limits));
        let call = || MemoryLimiter::new(limits.memory, &budget);
        let mut calls: Vec<_> = (0..4).map(|_| call()).collect();
        for call in &mut calls {
            assert!(call.memory_growing(0, 1 << 20, None).unwrap());
            assert!(call.memory_growing(1 << 20, 256 << 20, None).unwrap());
        }
        let refused = call().memory_growing(0, 1 << 20, None).unwrap_err();
        assert!(refused.is::<MemoryBudgetExceeded>());
        calls.pop();
        assert!(call().memory_growing(0, 256 << 20, None).unwrap());
    }

    #[test]
    fn a_manifest_that_asks_for_more_than_is_granted_is_told() {
        let granted = Limits::default();
        assert_eq!(granted.exceeded_by(&LimitOverrides::default()), None);
        let asked = LimitOverrides { memory: Some(ByteSize(128 << 20)), ..Default::default() };
        assert_eq!(granted.exceeded_by(&asked), Some(("memory", "128 MiB".to_owned(), "64 MiB".to_owned())));
        let asked = LimitOverrides { cpu_ms: Some(3000), ..Default::default() };
        assert_eq!(granted.exceeded_by(&asked), Some(("cpu_ms", "3000".to_owned(), "2000".to_owned())));
    }
}
