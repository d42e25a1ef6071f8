//! Runs that heartbeat and do not say what they must: their engine is stuck, or broken.
//!
//! Such a run is treated as if it were not heard, so that it is voted out like a silent one. It will
//! come back in another life and may be as mute as before: each time it is held off for longer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::id::{Incarnation, NodeRun};

/// At most so many runs are remembered.
const LIMIT: usize = 1_024;
/// The longest hold-off is the suspicion window doubled so often.
const MOST_DOUBLINGS: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Offence {
    times: u32,
    until: Instant,
}

/// Mute runs, and until when they are held off.
#[derive(Clone, Debug, Default)]
pub(super) struct Mute {
    runs: BTreeMap<NodeRun, Offence>,
}

impl Mute {
    /// This run was found mute once more.
    pub(super) fn note(&mut self, now: Instant, window: Duration, run: NodeRun) {
        if self.runs.len() >= LIMIT {
            self.runs.retain(|_, offence| offence.until > now);
        }
        if self.runs.len() < LIMIT || self.runs.contains_key(&run) {
            let times = self.runs.get(&run).map_or(0, |offence| offence.times);
            let until = now + window * 2_u32.pow((times + 1).min(MOST_DOUBLINGS));
            self.runs.insert(run, Offence { times: times + 1, until });
        }
    }

    /// It says what it must.
    pub(super) fn forgive(&mut self, run: NodeRun) {
        self.runs.remove(&run);
    }

    /// Whether the run is not to be taken in yet.
    pub(super) fn is_held_off(&self, now: Instant, run: NodeRun) -> bool {
        self.runs.get(&run).is_some_and(|offence| offence.until > now)
    }

    /// Whether the life that comes is a later one of a member, known in this one, that is held off.
    ///
    /// Somebody has carried out what this node voted for as well, and the member knows of that sooner
    /// than this node. In the place of the life before it would be in without a hold-off here alone:
    /// the others do not follow for as long as they hold it off, and hear it, so that they do not vote
    /// against it either; nobody could settle.
    pub(super) fn is_back(
        &self,
        now: Instant,
        run: NodeRun,
        known: Incarnation,
        comes: Incarnation,
    ) -> bool {
        known < comes && self.is_held_off(now, run)
    }

    /// When the next one is held off no longer.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.runs.values().map(|offence| offence.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_time_the_hold_off_is_twice_as_long_up_to_a_limit() {
        let (now, run) = (Instant::now(), NodeRun { node: NodeId::from_key([1; 32]), nonce: 1 });
        let mut mute = Mute::default();
        assert!(!mute.is_held_off(now, run));
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            mute.note(now, SECOND, run);
            assert_eq!(mute.deadline(now), Some(now + SECOND * expected));
            assert!(mute.is_held_off(now + SECOND * (expected - 1), run));
            assert!(!mute.is_held_off(now + SECOND * expected, run));
            let life = |started| Incarnation { started, nonce: run.nonce };
            assert!(mute.is_back(now, run, life(1), life(2)));
            assert!(!mute.is_back(now, run, life(2), life(2)), "it is the life that is known");
            assert!(!mute.is_back(now + SECOND * expected, run, life(1), life(2)));
        }
        mute.forgive(run);
        assert!(!mute.is_held_off(now, run) && mute.deadline(now).is_none());
    }
}
