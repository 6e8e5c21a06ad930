//! What tests do: they look at the truth, and act as somebody who is no client.

use std::sync::Arc;

use super::{Refusal, World, check_name, now_ms};
use crate::effect::{Caller, Cause, Effect, EffectKind, Origin};
use crate::object::{BoxRecord, Home, NewBox, State};

/// What somebody does who is no client.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deed {
    Stop,
    Start,
    Remove,
    Crash,
}

impl World {
    pub(crate) fn homes(&self) -> Vec<Arc<Home>> {
        self.kept.homes.values().cloned().collect()
    }

    pub(crate) fn effects(&self, after: u64, limit: usize) -> Vec<Effect> {
        // Numbers start at 1 and have no gaps.
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        self.kept.effects.iter().skip(skip).take(limit).cloned().collect()
    }

    pub(crate) fn forget_events(&mut self) {
        self.feed.forget();
        self.changed = true;
    }

    pub(crate) fn by_hand(&mut self, name: &str, deed: Deed) -> Result<(), Refusal> {
        let mut record = BoxRecord::clone(&*self.get_box(name)?);
        record.job = None;
        match (deed, record.state) {
            (Deed::Start, State::Running) | (Deed::Stop, State::Stopped) => {
                drop(self.put(record, None));
            }
            (Deed::Start, _) => drop(self.started(record, Origin::Hand, Caller::default(), None)),
            (Deed::Stop, _) => drop(self.stopped(record, Cause::hand(EffectKind::BoxStopped))),
            (Deed::Remove, _) => self.removed(record, Cause::hand(EffectKind::BoxRemoved)),
            (Deed::Crash, _) => self.crashed(record),
        }
        Ok(())
    }

    pub(crate) fn speak(&mut self, name: &str, source: &str, message: String) -> Result<(), Refusal> {
        self.get_box(name)?;
        self.write_line(name, source, message);
        Ok(())
    }

    /// A running box that no client made.
    pub(crate) fn make_foreign(&mut self, new: NewBox) -> Result<Arc<BoxRecord>, Refusal> {
        check_name(&new.name)?;
        if self.kept.boxes.contains_key(&new.name) {
            return Err(Refusal::Taken(new.name));
        }
        let record = BoxRecord::new(new, self.next_uid(), now_ms());
        let record = self.put(record, Some(Cause::hand(EffectKind::BoxMade)));
        Ok(self.started(BoxRecord::clone(&record), Origin::Hand, Caller::default(), None))
    }
}
