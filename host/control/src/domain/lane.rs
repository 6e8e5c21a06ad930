//! What may go on at once at one controller, and what cannot keep what waiting.

use super::{OperationKind, Step};

/// Steps that take room from each other. Each lane has some room that the others cannot take: however many creations
/// hang, what is to be removed is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Removing.
    Remove,
    /// Looking, also for the last time.
    Look,
    /// Creating, waking and hibernating, and choosing a controller.
    Change,
}

impl Lane {
    /// All there are, in the order in which they get what is free.
    pub const ALL: [Self; 3] = [Self::Remove, Self::Look, Self::Change];

    /// The lane of a step.
    pub fn of(step: Step) -> Self {
        match step {
            Step::Call(OperationKind::Delete | OperationKind::CleanUp) | Step::Forget => Self::Remove,
            Step::Look | Step::GiveUp => Self::Look,
            Step::Call(_) | Step::Place | Step::Rest => Self::Change,
        }
    }

    /// Its number in the store.
    pub fn to_db(self) -> i64 {
        match self {
            Self::Change => 0,
            Self::Remove => 1,
            Self::Look => 2,
        }
    }
}

/// How many steps of one controller may be under way, and how many are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    limit: u32,
    taken: [u32; Lane::ALL.len()],
}

impl Room {
    /// An eighth of what may go on at once is kept for each lane, at least one step; nothing, if there are fewer
    /// places than lanes.
    const KEPT_PART: u32 = 8;

    /// Room for so many steps at once.
    pub fn for_steps(limit: u32) -> Self {
        Self { limit, taken: Default::default() }
    }

    /// The same steps where another number may be under way.
    pub fn with_limit(&self, limit: u32) -> Self {
        Self { limit, ..self.clone() }
    }

    /// How many steps of a lane may begin now: what is free, but for what is kept for the other lanes.
    pub fn free(&self, lane: Lane) -> u32 {
        let share =
            if (self.limit as usize) < Lane::ALL.len() { 0 } else { (self.limit / Self::KEPT_PART).max(1) };
        let kept: u32 = Lane::ALL
            .into_iter()
            .filter(|other| *other != lane)
            .map(|other| share.saturating_sub(self.taken(other)))
            .sum();
        self.limit.saturating_sub(self.taken.iter().sum()).saturating_sub(kept)
    }

    /// A step begins. It counts even if there is no room for it: what is under way is under way.
    pub fn take(&mut self, lane: Lane) {
        if let Some(taken) = self.taken.get_mut(lane as usize) {
            *taken = taken.saturating_add(1);
        }
    }

    /// A step has ended.
    pub fn leave(&mut self, lane: Lane) {
        if let Some(taken) = self.taken.get_mut(lane as usize) {
            *taken = taken.saturating_sub(1);
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.taken.iter().all(|taken| *taken == 0)
    }

    fn taken(&self, lane: Lane) -> u32 {
        self.taken.get(lane as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins as many as may begin.
    fn fill(room: &mut Room, lane: Lane) -> u32 {
        let mut begun = 0;
        while room.free(lane) > 0 {
            room.take(lane);
            begun += 1;
        }
        begun
    }

    #[test]
    fn whatever_one_lane_takes_the_others_have_their_share() {
        for limit in 3..100 {
            let share = (limit / 8).max(1);
            for first in Lane::ALL {
                let mut room = Room::for_steps(limit);
                assert_eq!(fill(&mut room, first), limit - 2 * share, "{limit} {first:?}");
                for other in Lane::ALL.into_iter().filter(|other| *other != first) {
                    assert_eq!(fill(&mut room, other), share, "{limit} {first:?} {other:?}");
                }
                room.leave(first);
                assert_eq!((room.free(first), room.is_idle()), (1, false));
            }
        }
    }

    #[test]
    fn with_fewer_places_than_lanes_who_comes_first_takes_them() {
        let mut room = Room::for_steps(2);
        assert_eq!((fill(&mut room, Lane::Change), room.free(Lane::Remove)), (2, 0));
    }

    #[test]
    fn more_than_there_is_room_for_leaves_none() {
        let mut room = Room::for_steps(3);
        (0..5).for_each(|_| room.take(Lane::Look));
        assert_eq!(Lane::ALL.map(|lane| room.free(lane)), [0; 3]);
    }
}
