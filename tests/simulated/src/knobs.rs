//! Misbehaviour on demand.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::world::Refusal;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Info,
    BoxCreate,
    BoxGet,
    BoxList,
    BoxStart,
    BoxStop,
    BoxDelete,
    BoxMetrics,
    BoxLogs,
    HomePut,
    HomeGet,
    HomeDelete,
    Events,
    /// Not a request: one change that is about to be told.
    Event,
}

impl Verb {
    const ALL: [Self; 14] = [
        Self::Info,
        Self::BoxCreate,
        Self::BoxGet,
        Self::BoxList,
        Self::BoxStart,
        Self::BoxStop,
        Self::BoxDelete,
        Self::BoxMetrics,
        Self::BoxLogs,
        Self::HomePut,
        Self::HomeGet,
        Self::HomeDelete,
        Self::Events,
        Self::Event,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::BoxCreate => "box.create",
            Self::BoxGet => "box.get",
            Self::BoxList => "box.list",
            Self::BoxStart => "box.start",
            Self::BoxStop => "box.stop",
            Self::BoxDelete => "box.delete",
            Self::BoxMetrics => "box.metrics",
            Self::BoxLogs => "box.logs",
            Self::HomePut => "home.put",
            Self::HomeGet => "home.get",
            Self::HomeDelete => "home.delete",
            Self::Events => "events",
            Self::Event => "event",
        }
    }
}

/// How the infrastructure is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) create_ms: u64,
    pub(crate) start_ms: u64,
    pub(crate) stop_ms: u64,
    pub(crate) delete_ms: u64,
    pub(crate) max_boxes: Option<usize>,
    pub(crate) event_buffer: usize,
    pub(crate) pages: bool,
    pub(crate) unavailable: bool,
    /// Images that are not like all others; the first whose name fits counts.
    pub(crate) images: Vec<Image>,
    /// Nobody has a machine for a larger box.
    pub(crate) largest_memory_bytes: u64,
    pub(crate) largest_cpu_millis: u32,
}

/// What is special about some images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    name: String,
    is: ImageKind,
}

/// What a box of an image does, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ImageKind {
    /// There is no such image.
    Missing,
    /// A box of it crashes right after each start.
    Crashing,
    /// A running box of it writes a line every so often.
    Talking { every_ms: u64 },
}

impl Settings {
    /// What is special about an image.
    pub(crate) fn image(&self, name: &str) -> Option<ImageKind> {
        self.images.iter().find(|image| matches(&image.name, name)).map(|image| image.is)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            create_ms: 0,
            start_ms: 0,
            stop_ms: 0,
            delete_ms: 0,
            max_boxes: None,
            event_buffer: 4096,
            pages: false,
            unavailable: false,
            images: Vec::new(),
            largest_memory_bytes: 1 << 40,
            largest_cpu_millis: 1_024_000,
        }
    }
}

/// One kind of misbehaviour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    Latency {
        #[serde(default)]
        before_ms: u64,
        #[serde(default)]
        after_ms: u64,
    },
    Error {
        status: u16,
        #[serde(default)]
        retry_after_s: Option<u32>,
        #[serde(default)]
        message: String,
    },
    LostReply,
    Refused,
    Hang,
    HangAfter,
    Half,
    Crash {
        after_ms: u64,
    },
    SlowBody {
        every_ms: u64,
    },
    TornBody,
    Garbage,
    Omit(f64),
    Duplicate(f64),
    Drop,
}

/// When one kind of misbehaviour happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default = "anything")]
    verb: String,
    #[serde(default = "anything")]
    name: String,
    /// How many requests pass before the first is hit.
    #[serde(default)]
    skip: u64,
    /// How many are hit; none = all.
    #[serde(default)]
    count: Option<u64>,
    #[serde(default = "always")]
    probability: f64,
    #[serde(default)]
    later_pages: bool,
    fault: Fault,
    /// How many were hit so far.
    #[serde(default)]
    hits: u64,
}

fn anything() -> String {
    "*".to_owned()
}

fn always() -> f64 {
    1.0
}

/// What `PUT /knobs` takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Setup {
    seed: u64,
    settings: Settings,
    rules: Vec<Rule>,
}

/// All knobs.
pub(crate) struct Knobs {
    pub(crate) settings: Settings,
    seed: u64,
    rules: Vec<Rule>,
    rng: SmallRng,
}

/// What becomes of one request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) before: Duration,
    pub(crate) after: Duration,
    pub(crate) error: Option<(u16, Option<u32>, String)>,
    pub(crate) cut_before: bool,
    pub(crate) cut_after: bool,
    pub(crate) hang_before: bool,
    pub(crate) hang_after: bool,
    pub(crate) half: bool,
    pub(crate) crash_after_ms: Option<u64>,
    pub(crate) slow: Option<Duration>,
    pub(crate) torn: bool,
    pub(crate) garbage: bool,
    pub(crate) omit: f64,
    pub(crate) duplicate: f64,
    pub(crate) drop: bool,
}

impl Knobs {
    pub(crate) fn new(seed: u64) -> Self {
        Self { settings: Settings::default(), seed, rules: Vec::new(), rng: SmallRng::seed_from_u64(seed) }
    }

    pub(crate) fn replace(&mut self, setup: Setup) -> Result<(), Refusal> {
        for (index, rule) in setup.rules.iter().enumerate() {
            if !Verb::ALL.iter().any(|verb| matches(&rule.verb, verb.name())) {
                let verbs = Verb::ALL.map(Verb::name).join(", ");
                return Err(Refusal::Invalid(format!(
                    "rules[{index}].verb: `{}` is none of {verbs}",
                    rule.verb
                )));
            }
            let of_fault = match rule.fault {
                Fault::Omit(probability) | Fault::Duplicate(probability) => probability,
                _ => 1.0,
            };
            if [rule.probability, of_fault].iter().any(|probability| !(0.0..=1.0).contains(probability)) {
                return Err(Refusal::Invalid(format!("rules[{index}]: a probability is from 0 to 1")));
            }
        }
        let Setup { seed, settings, rules } = setup;
        *self = Self { settings, seed, rules, rng: SmallRng::seed_from_u64(seed) };
        Ok(())
    }

    pub(crate) fn show(&self) -> Setup {
        Setup { seed: self.seed, settings: self.settings.clone(), rules: self.rules.clone() }
    }

    /// Lets all rules have their say on one request.
    pub(crate) fn plan(&mut self, verb: Verb, name: &str, later_page: bool) -> Plan {
        let mut plan = Plan::default();
        if self.settings.unavailable && verb != Verb::Event {
            plan.error = Some((503, Some(1), "the infrastructure is down for maintenance".to_owned()));
        }
        for rule in &mut self.rules {
            // A pattern for requests must not be used up by changes that are told, nor the other way round.
            let concerned = (rule.fault == Fault::Drop) == (verb == Verb::Event)
                && matches(&rule.verb, verb.name())
                && matches(&rule.name, name)
                && (!rule.later_pages || later_page)
                && rule.count != Some(0);
            if !concerned || (rule.probability < 1.0 && !self.rng.random_bool(rule.probability)) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.count = rule.count.map(|left| left - 1);
            rule.hits += 1;
            plan.add(&rule.fault);
        }
        plan
    }

    /// Whether something with this probability happens now.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability)
    }
}

impl Plan {
    fn add(&mut self, fault: &Fault) {
        match fault {
            Fault::Latency { before_ms, after_ms } => {
                self.before += Duration::from_millis(*before_ms);
                self.after += Duration::from_millis(*after_ms);
            }
            Fault::Error { status, retry_after_s, message } => {
                self.error = Some((*status, *retry_after_s, message.clone()));
            }
            Fault::LostReply => self.cut_after = true,
            Fault::Refused => self.cut_before = true,
            Fault::Hang => self.hang_before = true,
            Fault::HangAfter => self.hang_after = true,
            Fault::Half => self.half = true,
            Fault::Crash { after_ms } => self.crash_after_ms = Some(*after_ms),
            Fault::SlowBody { every_ms } => self.slow = Some(Duration::from_millis(*every_ms)),
            Fault::TornBody => self.torn = true,
            Fault::Garbage => self.garbage = true,
            Fault::Omit(probability) => self.omit = *probability,
            Fault::Duplicate(probability) => self.duplicate = *probability,
            Fault::Drop => self.drop = true,
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(rules: serde_json::Value) -> Knobs {
        let mut knobs = Knobs::new(1);
        knobs.replace(serde_json::from_value(serde_json::json!({"rules": rules})).unwrap()).unwrap();
        knobs
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("box.*", "box.get", true),
            ("box.*", "home.get", false),
            ("*.get", "box.get", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_skips_then_hits_so_often() {
        let mut knobs = knobs(serde_json::json!([
            {"verb": "box.create", "name": "ss-*", "skip": 1, "count": 2, "fault": "lost_reply"},
            {"verb": "box.list", "later_pages": true, "fault": {"error": {"status": 500}}},
        ]));
        let mut cut = |verb, name, later| knobs.plan(verb, name, later) != Plan::default();
        assert!(!cut(Verb::BoxGet, "ss-1", false));
        assert!(!cut(Verb::BoxCreate, "other", false));
        let hits: Vec<bool> = (0..4).map(|_| cut(Verb::BoxCreate, "ss-1", false)).collect();
        assert_eq!(hits, [false, true, true, false]);
        assert!(!cut(Verb::BoxList, "", false));
        assert!(cut(Verb::BoxList, "", true));
        assert_eq!(knobs.show().rules[0].hits, 2);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let run = || {
            let mut knobs = knobs(serde_json::json!([{"probability": 0.5, "fault": "hang"}]));
            (0..64).map(|_| knobs.plan(Verb::BoxGet, "x", false).hang_before).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        assert!(first.contains(&true) && first.contains(&false));
    }

    #[test]
    fn a_rule_for_nothing_is_refused() {
        let setup =
            serde_json::from_value(serde_json::json!({"rules": [{"verb": "box.crate", "fault": "hang"}]}));
        assert!(matches!(Knobs::new(0).replace(setup.unwrap()), Err(Refusal::Invalid(_))));
        assert!(serde_json::from_value::<Setup>(serde_json::json!({"rule": []})).is_err());
    }
}
