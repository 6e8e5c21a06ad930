//! The infrastructure's own log of effects, read as it grows: what happened twice is found here.

use std::collections::HashMap;

use serde_json::Value;

/// What is known of one session's box.
#[derive(Default)]
struct Life {
    /// How often each kind of effect was made for each generation of the wish.
    counts: HashMap<(u64, String), u32>,
}

/// All effects so far.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: HashMap<String, Life>,
    /// The highest epoch that acted for each controller.
    epochs: HashMap<String, u64>,
    read: usize,
}

impl Ledger {
    /// Effects read so far.
    pub(crate) fn len(&self) -> usize {
        self.read
    }

    /// Reads on, and tells what must not have happened.
    pub(crate) fn read(&mut self, effects: &[Value]) -> Vec<String> {
        let mut amiss = Vec::new();
        for effect in effects {
            self.read += 1;
            let text = |field: &str| effect[field].as_str().unwrap_or_default().to_owned();
            let (session, kind) = (text("session"), text("kind"));
            // Homes belong to users and are found again by many sessions.
            if session.is_empty() || !kind.starts_with("box.") {
                continue;
            }
            let number = |field: &str| effect[field].as_u64().unwrap_or_default();
            let life = self.lives.entry(session).or_default();
            // What somebody else did to it is set right under the same wish.
            if text("origin") == "hand" {
                life.counts.clear();
                continue;
            }
            let count = life.counts.entry((number("generation"), kind)).or_default();
            *count += 1;
            if *count > 1 {
                amiss.push(format!("twice for one wish: {effect}"));
            }
            // What a box does by itself has none.
            if text("origin") == "itself" {
                continue;
            }
            let epoch = self.epochs.entry(text("controller")).or_default();
            if number("epoch") < *epoch {
                amiss.push(format!("under an epoch that was over ({epoch}): {effect}"));
            }
            *epoch = number("epoch").max(*epoch);
        }
        amiss
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn effect(kind: &str, generation: u64, epoch: u64) -> Value {
        json!({"kind": kind, "session": "s", "generation": generation, "epoch": epoch})
    }

    #[test]
    fn what_somebody_undid_may_be_done_once_more() {
        let mut ledger = Ledger::default();
        let by_hand =
            json!({"kind": "box.stopped", "session": "s", "generation": 0, "epoch": 0, "origin": "hand"});
        let life =
            [effect("box.made", 1, 3), effect("box.started", 1, 3), by_hand, effect("box.started", 1, 3)];
        assert_eq!(ledger.read(&life), Vec::<String>::new());
        assert_eq!(ledger.read(&[effect("box.started", 1, 3)]).len(), 1);
    }

    #[test]
    fn what_happens_twice_for_one_wish_is_told() {
        let mut ledger = Ledger::default();
        let life = [effect("box.made", 1, 1), effect("box.started", 1, 2), effect("box.stopped", 2, 2)];
        assert_eq!(ledger.read(&life), Vec::<String>::new());
        assert_eq!(ledger.read(&[effect("box.started", 3, 2)]), Vec::<String>::new());
        assert_eq!(ledger.read(&[effect("box.stopped", 2, 3)]).len(), 1);
        assert_eq!(ledger.read(&[effect("box.started", 4, 1)]).len(), 1, "of an old epoch");
        assert_eq!(ledger.len(), 6);
    }
}
