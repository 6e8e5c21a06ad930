//! Quotas: how much of everything the sessions of one user may take together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ByteQuantity, CpuQuantity, SessionSpec};

/// What stands for "no limit" where a limit is expected.
pub const UNLIMITED: &str = "unlimited";

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuotaKind {
    /// Sessions, however they are.
    Sessions,
    /// Processor time of sessions that are to run.
    Cpu,
    /// Memory of sessions that are to run.
    Memory,
    /// Disks, volumes and the home.
    Storage,
}

impl QuotaKind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Sessions, Self::Cpu, Self::Memory, Self::Storage];

    /// The name in the API, in the configuration and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Storage => "storage",
        }
    }

    /// An amount as people write it.
    pub fn write(self, amount: u64) -> String {
        match self {
            Self::Sessions => amount.to_string(),
            Self::Cpu if amount.is_multiple_of(1000) => (amount / 1000).to_string(),
            Self::Cpu => format!("{amount}m"),
            Self::Memory | Self::Storage => {
                let unit = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
                    .into_iter()
                    .find(|(_, bits)| amount > 0 && amount.is_multiple_of(1 << bits));
                unit.map_or_else(|| amount.to_string(), |(name, bits)| format!("{}{name}", amount >> bits))
            }
        }
    }

    /// Reads a limit.
    pub fn read(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Sessions => text.parse::<u32>().map(u64::from).map_err(|_| "must be a number".to_owned()),
            Self::Cpu => {
                CpuQuantity::parse(text).map(|cpu| cpu.millicores()).map_err(|error| error.to_string())
            }
            Self::Memory | Self::Storage => {
                ByteQuantity::parse(text).map(|size| size.bytes()).map_err(|error| error.to_string())
            }
        }
    }
}

/// Limits for the sessions of one user; what is absent has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// How many there may be.
    pub sessions: Option<u32>,
    /// Processors of those that are to run.
    pub cpu: Option<CpuQuantity>,
    /// Memory of those that are to run.
    pub memory: Option<ByteQuantity>,
    /// Disks, volumes and the home.
    pub storage: Option<ByteQuantity>,
}

impl Quota {
    /// The limits by kind.
    pub fn limits(&self) -> Limits {
        let bytes = |size: &Option<ByteQuantity>| size.as_ref().map(ByteQuantity::bytes);
        let all = [
            (QuotaKind::Sessions, self.sessions.map(u64::from)),
            (QuotaKind::Cpu, self.cpu.as_ref().map(CpuQuantity::millicores)),
            (QuotaKind::Memory, bytes(&self.memory)),
            (QuotaKind::Storage, bytes(&self.storage)),
        ];
        Limits(all.into_iter().filter_map(|(kind, limit)| Some((kind, limit?))).collect())
    }
}

/// Limits in whole units: sessions, thousandths of a processor, bytes. A kind that is absent has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(BTreeMap<QuotaKind, u64>);

impl Limits {
    /// The limit of a kind.
    pub fn of(&self, kind: QuotaKind) -> Option<u64> {
        self.0.get(&kind).copied()
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These limits, with what was set for one user put over them.
    pub fn with(&self, set: &QuotaOverride) -> Self {
        let mut limits = self.0.clone();
        for (kind, limit) in &set.0 {
            match limit {
                Some(limit) => drop(limits.insert(*kind, *limit)),
                None => drop(limits.remove(kind)),
            }
        }
        Self(limits)
    }
}

/// What was set for one user: a limit, or that there is none. A kind that is absent is as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaOverride(BTreeMap<QuotaKind, Option<u64>>);

impl QuotaOverride {
    /// What was set for a kind; none inside = no limit.
    pub fn of(&self, kind: QuotaKind) -> Option<Option<u64>> {
        self.0.get(&kind).copied()
    }

    /// Sets the limit of a kind, or that there is none, from what somebody wrote.
    pub fn set(&mut self, kind: QuotaKind, text: &str) -> Result<(), String> {
        let limit = if text == UNLIMITED { None } else { Some(kind.read(text)?) };
        self.0.insert(kind, limit);
        Ok(())
    }

    /// As texts, by name.
    pub fn to_texts(&self) -> BTreeMap<&'static str, String> {
        let text = |kind: QuotaKind, limit: Option<u64>| {
            limit.map_or_else(|| UNLIMITED.to_owned(), |limit| kind.write(limit))
        };
        self.0.iter().map(|(kind, limit)| (kind.as_str(), text(*kind, *limit))).collect()
    }

    /// Reads what [`QuotaOverride::to_texts`] wrote.
    pub fn from_texts(texts: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut read = Self::default();
        for (name, text) in texts {
            let kind = QuotaKind::ALL.into_iter().find(|kind| kind.as_str() == name);
            let kind = kind.ok_or_else(|| format!("there is no quota {name}"))?;
            read.set(kind, text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(read)
    }
}

/// What the sessions of one user take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    sessions: u64,
    cpu: u64,
    memory: u64,
    /// Of sessions, each for itself.
    own_storage: u64,
    /// Of the one home that all share: the largest that was asked for.
    home: u64,
}

impl Usage {
    /// Counts a session in. One that is not to run takes no processor and no memory.
    pub fn add(&mut self, spec: &SessionSpec, runs: bool) {
        self.sessions = self.sessions.saturating_add(1);
        let bytes = |size: &Option<ByteQuantity>| size.as_ref().map_or(0, ByteQuantity::bytes);
        let volumes = spec.volume_mounts.iter().map(|mount| bytes(&mount.size));
        let own = volumes.fold(bytes(&spec.resources.storage), u64::saturating_add);
        self.own_storage = self.own_storage.saturating_add(own);
        let home = bytes(&spec.home_size);
        if spec.persistent_home {
            self.home = self.home.max(home);
        } else {
            self.own_storage = self.own_storage.saturating_add(home);
        }
        if runs {
            self.run(spec);
        }
    }

    /// A session that is counted in is to run.
    pub fn run(&mut self, spec: &SessionSpec) {
        let cpu = spec.resources.cpu.as_ref().map_or(0, CpuQuantity::millicores);
        let memory = spec.resources.memory.as_ref().map_or(0, ByteQuantity::bytes);
        self.cpu = self.cpu.saturating_add(cpu);
        self.memory = self.memory.saturating_add(memory);
    }

    /// Counts in a session of which nothing but its existence is known.
    pub fn add_unknown(&mut self) {
        self.sessions = self.sessions.saturating_add(1);
    }

    /// How much of a kind.
    pub fn of(&self, kind: QuotaKind) -> u64 {
        match kind {
            QuotaKind::Sessions => self.sessions,
            QuotaKind::Cpu => self.cpu,
            QuotaKind::Memory => self.memory,
            QuotaKind::Storage => self.own_storage.saturating_add(self.home),
        }
    }
}

/// A quota that something would exceed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuotaExcess {
    /// Which.
    pub quota: QuotaKind,
    /// How much there may be.
    pub limit: String,
    /// How much there is.
    pub used: String,
    /// How much was asked for beside that; `null` = the session does not say, which it has to where there is a limit.
    #[schema(required)]
    pub requested: Option<String>,
}

impl Limits {
    /// What would be exceeded, if `after` came out of `before` by letting a session of that spec run.
    pub fn exceeded(&self, before: &Usage, after: &Usage, spec: &SessionSpec) -> Vec<QuotaExcess> {
        let excess = |(kind, limit): (&QuotaKind, &u64)| {
            let (used, total) = (before.of(*kind), after.of(*kind));
            // Whoever asks for nothing in particular gets whatever the backend has.
            let silent = match kind {
                QuotaKind::Cpu => spec.resources.cpu.is_none(),
                QuotaKind::Memory => spec.resources.memory.is_none(),
                QuotaKind::Sessions | QuotaKind::Storage => false,
            };
            // Too much already is in the way of more only.
            (silent || (total > used && total > *limit)).then(|| QuotaExcess {
                quota: *kind,
                limit: kind.write(*limit),
                used: kind.write(used),
                requested: (!silent).then(|| kind.write(total - used)),
            })
        };
        self.0.iter().filter_map(excess).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resources, test_spec};
    use super::*;

    fn spec(cpu: &str, memory: &str, home: &str) -> SessionSpec {
        SessionSpec {
            resources: Resources {
                cpu: CpuQuantity::parse(cpu).ok(),
                memory: ByteQuantity::parse(memory).ok(),
                storage: ByteQuantity::parse("1Gi").ok(),
            },
            persistent_home: true,
            home_size: ByteQuantity::parse(home).ok(),
            ..test_spec()
        }
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for (kind, text) in [
            (QuotaKind::Sessions, "3"),
            (QuotaKind::Cpu, "500m"),
            (QuotaKind::Cpu, "2"),
            (QuotaKind::Memory, "512Mi"),
            (QuotaKind::Storage, "3Ti"),
            (QuotaKind::Storage, "1000"),
        ] {
            assert_eq!(kind.write(kind.read(text).unwrap()), text);
        }
        assert_eq!(QuotaKind::Memory.write(0), "0");
    }

    #[test]
    fn a_home_counts_once_and_what_does_not_run_takes_no_memory() {
        let mut usage = Usage::default();
        usage.add(&spec("1", "1Gi", "10Gi"), true);
        usage.add(&spec("500m", "1Gi", "20Gi"), false);
        let of = |usage: &Usage| QuotaKind::ALL.map(|kind| kind.write(usage.of(kind)));
        assert_eq!(of(&usage), ["2", "1", "1Gi", "22Gi"]);
        usage.run(&spec("500m", "1Gi", "20Gi"));
        assert_eq!(of(&usage), ["2", "1500m", "2Gi", "22Gi"]);
    }

    #[test]
    fn what_is_exceeded_is_named() {
        let quota = Quota { sessions: Some(2), cpu: CpuQuantity::parse("1500m").ok(), ..Quota::default() };
        let limits = quota.limits();
        let asked = spec("1", "1Gi", "1Gi");
        let (none, mut one) = (Usage::default(), Usage::default());
        one.add(&asked, true);
        assert_eq!(limits.exceeded(&none, &one, &asked), []);
        let mut two = one.clone();
        two.add(&asked, true);
        let excess = &limits.exceeded(&one, &two, &asked)[0];
        assert_eq!((excess.quota, excess.limit.as_str()), (QuotaKind::Cpu, "1500m"));
        assert_eq!((excess.used.as_str(), excess.requested.as_deref()), ("1", Some("1")));
        // What is silent could be any amount.
        let silent = spec("", "1Gi", "1Gi");
        assert_eq!(limits.exceeded(&none, &none, &silent)[0].requested, None);
        // What was too much before is in the way of more of the same only.
        assert_eq!(limits.exceeded(&two, &two, &asked), []);
    }

    #[test]
    fn what_is_set_for_a_user_wins() {
        let texts = BTreeMap::from([
            ("sessions".to_owned(), "7".to_owned()),
            ("cpu".to_owned(), UNLIMITED.to_owned()),
        ]);
        let set = QuotaOverride::from_texts(&texts).unwrap();
        let quota = Quota {
            sessions: Some(2),
            cpu: CpuQuantity::parse("1").ok(),
            memory: ByteQuantity::parse("1Gi").ok(),
            storage: None,
        };
        let limits = quota.limits().with(&set);
        assert_eq!(QuotaKind::ALL.map(|kind| limits.of(kind)), [Some(7), None, Some(1 << 30), None]);
        let back: Vec<_> = set.to_texts().into_iter().collect();
        assert_eq!(back, [("cpu", UNLIMITED.to_owned()), ("sessions", "7".to_owned())]);
        for (name, text) in [("cpu", "many"), ("gpus", "1")] {
            assert!(QuotaOverride::from_texts(&[(name.into(), text.into())].into()).is_err());
        }
    }
}
