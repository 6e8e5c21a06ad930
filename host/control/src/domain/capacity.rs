//! How much a controller has, and how much of it is given to sessions.

use streamspace_proto::quantity::InvalidQuantity;

use super::{
    ByteQuantity, Capacity, CpuQuantity, Factor, Overcommit, Phase, QuotaKind, Session, SessionSpec,
    WishedState,
};

/// Memory and storage are counted in the store in these.
const UNIT: u64 = 1024;
/// No single session counts for more in the store, so that no sum is too large for a database: 8 PiB.
const MOST_UNITS: u64 = 1 << 43;

/// So much of everything: sessions, thousandths of a processor, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// How many sessions.
    pub sessions: u64,
    /// Processor time, in thousandths of a processor.
    pub cpu: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Disks, volumes and homes, in bytes.
    pub storage: u64,
}

impl Amounts {
    /// What a session takes of its controller while it runs. What its spec does not say counts as nothing: the backend
    /// gives what it has.
    pub fn asked_by(spec: &SessionSpec) -> Self {
        let bytes = |size: &Option<ByteQuantity>| size.as_ref().map_or(0, ByteQuantity::bytes);
        let volumes = spec.volume_mounts.iter().map(|mount| bytes(&mount.size));
        let storage = volumes.fold(bytes(&spec.resources.storage), u64::saturating_add);
        Self {
            sessions: 1,
            cpu: spec.resources.cpu.as_ref().map_or(0, CpuQuantity::millicores),
            memory: bytes(&spec.resources.memory),
            storage: storage.saturating_add(bytes(&spec.home_size)),
        }
    }

    /// What is reserved for a session as it stands. A place and storage for as long as there may be something of it,
    /// processors and memory for as long as it may run; a wish reserves at once, and frees only when it is known to be
    /// fulfilled.
    pub fn held_by(spec: &SessionSpec, state: WishedState, phase: Phase) -> Self {
        let asked = Self::asked_by(spec);
        let stopped = Self { cpu: 0, memory: 0, ..asked };
        match (state, phase) {
            (WishedState::Terminated, Phase::Terminated) => Self::default(),
            (WishedState::Hibernated | WishedState::Terminated, Phase::Hibernated | Phase::Terminated) => {
                stopped
            }
            _ => asked,
        }
    }

    /// How much of a kind.
    pub fn of(&self, kind: QuotaKind) -> u64 {
        match kind {
            QuotaKind::Sessions => self.sessions,
            QuotaKind::Cpu => self.cpu,
            QuotaKind::Memory => self.memory,
            QuotaKind::Storage => self.storage,
        }
    }

    /// What is left when that is taken away.
    pub fn without(&self, other: &Self) -> Self {
        Self {
            sessions: self.sessions.saturating_sub(other.sessions),
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            storage: self.storage.saturating_sub(other.storage),
        }
    }

    /// Whether there is nothing of anything.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// As databases keep it of one session: sessions, processors, memory, storage. Rounded up: what is reserved is
    /// never less than what was asked for.
    pub fn to_db(self) -> [i64; 4] {
        let units = |bytes: u64| bytes.div_ceil(UNIT);
        [self.sessions, self.cpu, units(self.memory), units(self.storage)]
            .map(|amount| i64::try_from(amount.min(MOST_UNITS)).unwrap_or(i64::MAX))
    }

    /// What [`Amounts::to_db`] wrote, or a sum of it.
    pub fn from_db([sessions, cpu, memory, storage]: [i64; 4]) -> Self {
        let number = |stored: i64| u64::try_from(stored).unwrap_or(0);
        let bytes = |stored: i64| number(stored).saturating_mul(UNIT);
        Self { sessions: number(sessions), cpu: number(cpu), memory: bytes(memory), storage: bytes(storage) }
    }
}

impl Session {
    /// What of a controller is reserved for it as it stands, whether it has one or not.
    pub fn held(&self) -> Amounts {
        // What is moved is made before it is stopped again.
        if self.moving_to.is_some() {
            return Amounts::asked_by(&self.spec);
        }
        Amounts::held_by(&self.spec, self.state, self.phase)
    }
}

/// What a controller has and what of it is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// What is reserved for its sessions.
    pub reserved: Amounts,
    /// What of that its own word about what is available cannot know of yet.
    pub unseen: Amounts,
    total: Told,
    available: Told,
    overcommit: Overcommit,
}

/// What a controller says that it has; a kind that is absent it says nothing about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    sessions: Option<u64>,
    cpu: Option<u64>,
    memory: Option<u64>,
    storage: Option<u64>,
}

impl Told {
    fn of(&self, kind: QuotaKind) -> Option<u64> {
        match kind {
            QuotaKind::Sessions => self.sessions,
            QuotaKind::Cpu => self.cpu,
            QuotaKind::Memory => self.memory,
            QuotaKind::Storage => self.storage,
        }
    }
}

/// How a controller stands to what a session asks for, in one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Of what.
    pub kind: QuotaKind,
    /// How much is asked for.
    pub asked: u64,
    /// How much is reserved for others.
    pub reserved: u64,
    /// How much there is; absent = the controller does not say, and takes whatever comes.
    pub total: Option<u64>,
    /// How many times that is given away.
    pub overcommit: Factor,
    /// How much was free when the controller last said so.
    pub available: Option<u64>,
    /// How much was given away that is not counted in that yet.
    pub unseen: u64,
}

impl Share {
    /// Whether there is enough of it now. Who asks for nothing is in nobody's way.
    pub fn is_enough(&self) -> bool {
        let fits = |given: u64, limit: Option<u64>| {
            limit.is_none_or(|limit| given.saturating_add(self.asked) <= limit)
        };
        self.asked == 0 || (fits(self.reserved, self.limit()) && fits(self.unseen, self.left()))
    }

    /// Whether there could be enough of it some time. No session alone gets more than there is.
    pub fn could_be_enough(&self) -> bool {
        let limit = self.total.into_iter().chain(self.limit()).min();
        limit.is_none_or(|limit| self.asked <= limit)
    }

    /// What may be given away of all there is.
    fn limit(&self) -> Option<u64> {
        self.total.map(|total| self.overcommit.of(total))
    }

    /// What may be given away beside what is in use: that counts once, however often it is promised.
    fn left(&self) -> Option<u64> {
        let available = self.available?;
        Some(match (self.total, self.limit()) {
            (Some(total), Some(limit)) => available.saturating_add(limit).saturating_sub(total),
            _ => self.overcommit.of(available),
        })
    }

    /// How much could be given away now; absent = anything.
    pub fn free(&self) -> Option<u64> {
        let left = |limit: Option<u64>, given: u64| limit.map(|limit| limit.saturating_sub(given));
        [left(self.limit(), self.reserved), left(self.left(), self.unseen)].into_iter().flatten().min()
    }

    /// In figures, for those who may see them.
    pub fn describe(&self) -> String {
        let write = |amount: u64| self.kind.write(amount);
        let mut text = format!("{}: asked {}", self.kind.as_str(), write(self.asked));
        if let Some(total) = self.total {
            text.push_str(&format!(", reserved {} of {}", write(self.reserved), write(total)));
            if self.overcommit != Factor::ONCE {
                text.push_str(&format!(", which is given away {} times", self.overcommit.times()));
            }
        }
        if let Some(available) = self.available {
            text.push_str(&format!(
                ", available {}, of which {} is promised",
                write(available),
                write(self.unseen)
            ));
        }
        text
    }
}

impl Ledger {
    /// What the controller says, and what was given away.
    pub fn new(
        capacity: Option<&Capacity>,
        overcommit: Overcommit,
        reserved: Amounts,
        unseen: Amounts,
    ) -> Self {
        let (total, available) = capacity.map_or_else(Default::default, told);
        Self { reserved, unseen, total, available, overcommit }
    }

    /// How it stands to what is asked for, in every kind.
    pub fn shares(&self, asked: &Amounts) -> impl Iterator<Item = Share> {
        let (ledger, asked) = (*self, *asked);
        QuotaKind::ALL.into_iter().map(move |kind| Share {
            kind,
            asked: asked.of(kind),
            reserved: ledger.reserved.of(kind),
            total: ledger.total.of(kind),
            overcommit: ledger.overcommit.of(kind),
            available: ledger.available.of(kind),
            unseen: ledger.unseen.of(kind),
        })
    }

    /// What there is too little of.
    pub fn lacks(&self, asked: &Amounts) -> Option<Share> {
        self.shares(asked).find(|share| !share.is_enough())
    }

    /// The same before one of its sessions got what it holds.
    pub fn without(&self, held: &Amounts) -> Self {
        Self { reserved: self.reserved.without(held), unseen: self.unseen.without(held), ..*self }
    }
}

/// All of what a controller says, and what it says is free. "0" in all is how some say nothing; "0" free of something is
/// nothing left of it.
fn told(capacity: &Capacity) -> (Told, Told) {
    let cpu = |text: &str| amount(CpuQuantity::parse(text).map(|cpu| cpu.millicores()));
    let bytes = |text: &str| amount(ByteQuantity::parse(text).map(|size| size.bytes()));
    let some = |all: Option<u64>| all.filter(|all| *all > 0);
    let free = |all: Option<u64>, free: Option<u64>| free.filter(|free| *free > 0 || all.is_some());
    let total = Told {
        sessions: some(Some(u64::from(capacity.max_sessions))),
        cpu: some(cpu(&capacity.total_cpu)),
        memory: some(bytes(&capacity.total_memory)),
        storage: some(bytes(&capacity.total_storage)),
    };
    let available = Told {
        sessions: None,
        cpu: free(total.cpu, cpu(&capacity.available_cpu)),
        memory: free(total.memory, bytes(&capacity.available_memory)),
        storage: free(total.storage, bytes(&capacity.available_storage)),
    };
    (total, available)
}

/// What cannot be read says nothing, but for what is zero or less.
fn amount(read: Result<u64, InvalidQuantity>) -> Option<u64> {
    match read {
        Ok(amount) => Some(amount),
        Err(InvalidQuantity::NotPositive) => Some(0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resources, Wish, test_session};
    use super::*;

    fn spec(cpu: &str, memory: &str, storage: &str) -> Resources {
        Resources {
            cpu: CpuQuantity::parse(cpu).ok(),
            memory: ByteQuantity::parse(memory).ok(),
            storage: ByteQuantity::parse(storage).ok(),
        }
    }

    fn capacity(total: [&str; 3], available: [&str; 3]) -> Capacity {
        let [total_cpu, total_memory, total_storage] = total.map(str::to_owned);
        let [available_cpu, available_memory, available_storage] = available.map(str::to_owned);
        Capacity {
            max_sessions: 0,
            total_cpu,
            total_memory,
            total_storage,
            available_cpu,
            available_memory,
            available_storage,
        }
    }

    #[test]
    fn a_wish_reserves_at_once_and_frees_when_it_is_fulfilled() {
        use WishedState::{Hibernated, Running, Terminated};
        let held = |state, phase| {
            let mut session = test_session(Wish::State(state), true, phase);
            session.spec.resources = spec("500m", "1Gi", "2Gi");
            session.spec.home_size = ByteQuantity::parse("1Gi").ok();
            let held = session.held();
            (held.sessions, held.cpu, held.memory >> 30, held.storage >> 30)
        };
        let (all, stopped) = ((1, 500, 1, 3), (1, 0, 0, 3));
        for phase in [Phase::Pending, Phase::Running, Phase::Failed, Phase::Hibernated, Phase::Terminated] {
            assert_eq!(held(Running, phase), all);
        }
        assert_eq!(held(Hibernated, Phase::Running), all);
        assert_eq!(held(Hibernated, Phase::Failed), all, "nobody knows whether it runs");
        assert_eq!(held(Hibernated, Phase::Hibernated), stopped);
        assert_eq!(held(Terminated, Phase::Running), all);
        assert_eq!(held(Terminated, Phase::Hibernated), stopped);
        assert_eq!(held(Terminated, Phase::Terminated), (0, 0, 0, 0));
    }

    #[test]
    fn amounts_come_back_from_the_store_and_never_smaller() {
        let amounts = Amounts { sessions: 1, cpu: 250, memory: 1025, storage: 1 << 30 };
        let back = Amounts::from_db(amounts.to_db());
        assert_eq!((back.sessions, back.cpu, back.memory, back.storage), (1, 250, 2048, 1 << 30));
        let huge = Amounts { memory: u64::MAX, ..amounts }.to_db();
        assert!(huge.iter().all(|stored| stored.checked_mul(1 << 19).is_some()), "sums fit as well");
    }

    #[test]
    fn processors_are_given_away_more_than_once_and_no_session_gets_more_than_there_is() {
        let lacks = |asked: u64, given: u64, available: &str, promised: u64| {
            let capacity = capacity(["2", "", ""], [available, "", ""]);
            let amounts = |cpu| Amounts { cpu, ..Amounts::default() };
            let ledger =
                Ledger::new(Some(&capacity), Overcommit::default(), amounts(given), amounts(promised));
            ledger.lacks(&Amounts { sessions: 1, ..amounts(asked) }).is_some()
        };
        assert!(!lacks(1000, 7000, "", 0));
        assert!(lacks(1000, 7001, "", 0));
        // All is in use, and six more may be promised beside that.
        assert!(!lacks(1000, 0, "0", 5000));
        assert!(lacks(1000, 0, "0", 5001));
        let ledger = Ledger::new(
            Some(&capacity(["2", "1Gi", ""], ["", "", ""])),
            Overcommit::default(),
            Amounts { cpu: 8000, ..Amounts::default() },
            Amounts::default(),
        );
        let share = |cpu| ledger.shares(&Amounts { cpu, ..Amounts::default() }).nth(1).unwrap();
        assert!(share(2000).could_be_enough() && !share(2001).could_be_enough());
        assert_eq!(share(1).free(), Some(0));
        assert_eq!(share(1).describe(), "cpu: asked 1m, reserved 8 of 2, which is given away 4 times");
    }

    #[test]
    fn what_a_controller_says_nothing_about_is_no_limit() {
        let asked = Amounts { sessions: 1, cpu: 4000, memory: 8 << 30, storage: 0 };
        let ledger = |capacity: &Capacity| {
            let given = Amounts { sessions: 3, cpu: 2000, memory: 4 << 30, storage: 9 << 40 };
            Ledger::new(
                Some(capacity),
                Overcommit::NONE,
                given,
                Amounts { memory: 1 << 30, ..Amounts::default() },
            )
        };
        let lacks = |total, available| ledger(&capacity(total, available)).lacks(&asked).map(|one| one.kind);
        assert_eq!(lacks(["", "", ""], ["", "", ""]), None);
        assert_eq!(lacks(["0", "0", "0"], ["0", "0", "0"]), None, "that is how some say nothing");
        assert_eq!(lacks(["lots", "?", ""], ["", "", ""]), None);
        assert_eq!(lacks(["6", "12Gi", "1Gi"], ["", "", ""]), None, "who wants no storage needs none");
        assert_eq!(lacks(["5999m", "", ""], ["", "", ""]), Some(QuotaKind::Cpu));
        assert_eq!(lacks(["6", "11Gi", ""], ["", "", ""]), Some(QuotaKind::Memory));
        assert_eq!(lacks(["6", "64Gi", ""], ["", "9Gi", ""]), None);
        assert_eq!(lacks(["6", "64Gi", ""], ["", "8Gi", ""]), Some(QuotaKind::Memory), "1Gi is promised");
        assert_eq!(lacks(["6", "64Gi", ""], ["0", "", ""]), Some(QuotaKind::Cpu), "nothing is left");
    }

    #[test]
    fn figures_are_told_as_people_write_them() {
        let given = Amounts { memory: 30 << 30, ..Amounts::default() };
        let ledger =
            Ledger::new(Some(&capacity(["", "32Gi", ""], ["", "16Gi", ""])), Overcommit::NONE, given, given);
        let asked = Amounts { sessions: 1, memory: 6 << 30, ..Amounts::default() };
        let share = ledger.lacks(&asked).unwrap();
        assert_eq!(
            share.describe(),
            "memory: asked 6Gi, reserved 30Gi of 32Gi, available 16Gi, of which 30Gi is promised"
        );
        assert_eq!((share.free(), share.could_be_enough()), (Some(0), true));
    }
}
