//! How many moves and bytes of state are on their way at a time, and whose turn is next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{moving::Move, turns::Turns};
use crate::model::id::{ChildId, NodeRun};

/// Moves that may be under way before any has ended; each that ends well allows one more.
const FIRST_MOVES: usize = 16;

/// The pace of one node's moves.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    turns: Turns,
    /// Those that had their turn when no state could go to this run.
    without_way: BTreeMap<NodeRun, BTreeSet<ChildId>>,
    /// How many moves have shown to be possible at a time.
    allowed: usize,
    /// Bytes of states that are sent and not over.
    bytes: u64,
    /// Those whose state waits to be sent, in the order in which they were frozen.
    room: VecDeque<ChildId>,
}

impl Pacing {
    /// Somebody asked for this child to move: it goes before all that merely belong elsewhere.
    pub(super) fn ask(&mut self, child: &ChildId) {
        self.turns.ask(child);
    }

    /// A child belongs elsewhere.
    pub(super) fn belongs_elsewhere(&mut self, child: &ChildId) {
        self.turns.belongs_elsewhere(child);
    }

    /// A child belongs here.
    pub(super) fn belongs_here(&mut self, child: &ChildId) {
        self.turns.belongs_here(child);
    }

    /// Whose turn it is, while fewer than `most` moves are allowed by the settings and `under_way` are.
    pub(super) fn next(&mut self, under_way: usize, most: usize) -> Option<ChildId> {
        let limit = self.allowed.max(FIRST_MOVES).min(most);
        if under_way < limit { self.turns.next() } else { None }
    }

    /// No state can go to this run: the child has its turn when one can.
    pub(super) fn waits_for_way(&mut self, run: NodeRun, child: &ChildId) {
        self.without_way.entry(run).or_default().insert(child.clone());
    }

    /// States can go to this run again. Gives those that waited for it.
    pub(super) fn way_found(&mut self, run: NodeRun) -> BTreeSet<ChildId> {
        self.without_way.remove(&run).unwrap_or_default()
    }

    /// Who could be reached by a state is asked anew for every child.
    pub(super) fn forget_ways(&mut self) {
        self.without_way.clear();
    }

    /// A child is frozen, and its state waits to be sent.
    pub(super) fn wait_for_room(&mut self, child: &ChildId) {
        self.room.push_back(child.clone());
    }

    /// The next one whose state may be sent, while no more than `most` bytes are on their way. A state
    /// that is larger than that goes alone. `bytes`: the size of a state, unless its move is over.
    pub(super) fn next_to_send(
        &mut self,
        most: u64,
        bytes: impl Fn(&ChildId) -> Option<u64>,
    ) -> Option<ChildId> {
        while let Some(child) = self.room.front() {
            let Some(bytes) = bytes(child) else {
                self.room.pop_front();
                continue;
            };
            // Nobody overtakes: a large state would wait for as long as small ones come.
            if self.bytes > 0 && self.bytes.saturating_add(bytes) > most {
                return None;
            }
            self.bytes += bytes;
            return self.room.pop_front();
        }
        None
    }

    /// Bytes of states that are on their way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A move ended well: one more may be under way, up to `most`.
    pub(super) fn succeeded(&mut self, most: usize) {
        self.allowed = self.allowed.max(FIRST_MOVES).saturating_add(1).min(most);
    }

    /// A move is over: what it had of the bytes is free again.
    pub(super) fn ended(&mut self, child: &ChildId, moving: &Move) {
        if moving.is_sent() {
            self.bytes = self.bytes.saturating_sub(moving.bytes());
        } else {
            self.room.retain(|waiting| waiting != child);
        }
    }
}
