//! What goes wrong on a node for a while, and how long its children take.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{engine::chance::Chance, model::id::ChildId};

/// What a node's children cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cannot {
    /// Be made, from nothing or from a state.
    Make,
    /// Return from `started()`: it panics.
    Start,
    /// Read states.
    Read,
    /// Prepare their states: that panics.
    Prepare,
    /// End their handlers soon.
    HandleSoon,
    /// Merge soon.
    MergeSoon,
    /// Find room for states that arrive.
    FindRoom,
}

/// The troubles of one node.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    until: Vec<(Cannot, Instant)>,
    /// Children whose next handler panics.
    panics: BTreeSet<ChildId>,
}

impl Troubles {
    pub(super) fn begin(&mut self, cannot: Cannot, until: Instant) {
        self.until.push((cannot, until));
    }

    pub(super) fn let_panic(&mut self, child: ChildId) {
        self.panics.insert(child);
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    fn has(&self, cannot: Cannot, now: Instant) -> bool {
        self.until.iter().any(|(one, until)| *one == cannot && now < *until)
    }

    pub(super) fn cannot_make(&self, now: Instant) -> bool {
        self.has(Cannot::Make, now)
    }

    pub(super) fn cannot_start(&self, now: Instant) -> bool {
        self.has(Cannot::Start, now)
    }

    pub(super) fn cannot_read(&self, now: Instant) -> bool {
        self.has(Cannot::Read, now)
    }

    pub(super) fn cannot_prepare(&self, now: Instant) -> bool {
        self.has(Cannot::Prepare, now)
    }

    pub(super) fn no_room(&self, now: Instant) -> bool {
        self.has(Cannot::FindRoom, now)
    }

    pub(super) fn panics(&mut self, child: &ChildId) -> bool {
        self.panics.remove(child)
    }

    /// How long a handler takes; `None`: it is done at once.
    pub(super) fn handler_time(&self, now: Instant, dice: &mut Chance) -> Option<Duration> {
        if self.has(Cannot::HandleSoon, now) {
            return Some(dice.ms(200, 2_500));
        }
        (!dice.one_in(2)).then(|| dice.ms(1, 40))
    }

    pub(super) fn merge_time(&self, now: Instant) -> Duration {
        match self.has(Cannot::MergeSoon, now) {
            true => Duration::from_millis(3_000),
            false => Duration::from_millis(1),
        }
    }

    pub(super) fn start_time(&self, dice: &mut Chance) -> Duration {
        dice.ms(0, 8)
    }
}
