//! Parked states of this node and their copies on others: who holds which, who sends a copy to
//! whom, what is given up when there is no room, what was disposed of.
//!
//! A *holder* is a node with the bytes. Each parked state is wanted on two nodes that stay. When it
//! is on fewer, as far as is known here, its *keeper* sends a copy to one more: the lowest holder
//! that is heard. A holder tells all members when it has a state and when it has it no more. All that
//! it holds it tells to each member that it reaches again, and to everybody when a view is settled, as
//! words of who is not in do not count: so after a split both sides know. What was discarded or applied is
//! remembered for a while, so that a copy that is on its way, or was on the other side of a split, does not
//! come back.
//!
//! What this node holds is in `store`; what others do, in `holders`; copies on their way, in `copies`; what
//! was disposed of, in `dropped`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{core::OtherHolder, distribution::score, io::ParkedOrder};
use crate::model::{
    event::HubEvent,
    id::{NodeId, NodeRun},
    member::MemberState,
    parked::{ParkedInfo, ParkedKey, ParkedUse, ParkedWord},
    words::brief,
};

mod around;
mod copies;
mod dropped;
mod holders;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::{around::Around, store::MOST_PARKED};
use self::{
    copies::{AGAIN, Copies, NO_ROOM},
    dropped::Dropped,
    holders::Holders,
    store::Store,
};

/// The most keys in one word.
const PART: usize = 64;
/// So many nodes hold a parked state, if there are as many that stay.
const COPIES: usize = 2;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Say this.
    Send { to: NodeId, word: ParkedWord },
    /// Do this with the bytes.
    Order(ParkedOrder),
    /// Tell this.
    Emit(HubEvent),
    /// This one, which was offered and that nobody merged, needs its owner no more: another node has it,
    /// nobody else is left who could, or it was disposed of.
    Safe(ParkedKey),
    /// This one is not here any more, and its owner has it.
    Missing(ParkedKey),
    /// A member says that it holds more than anybody may.
    TooMany { node: NodeId },
}

/// The parked states of this node, and what it knows of those of others.
#[derive(Debug)]
pub(crate) struct Parked {
    held: Store,
    /// States that are being parked: their bytes are still with their child's worker.
    awaited: BTreeMap<ParkedKey, OtherHolder>,
    /// States whose owners hold on to them until they are told that this is not needed.
    offered: BTreeSet<ParkedKey>,
    elsewhere: Holders,
    dropped: Dropped,
    copies: Copies,
    /// Whether copies have to be looked at anew.
    changed: bool,
    out: VecDeque<Output>,
}

impl Parked {
    /// Holds at most `limit` bytes, and remembers for so long what was disposed of.
    pub(crate) fn new(limit: u64, keep: Duration) -> Self {
        Self {
            held: Store::new(limit),
            awaited: BTreeMap::new(),
            offered: BTreeSet::new(),
            elsewhere: Holders::default(),
            dropped: Dropped::new(keep),
            copies: Copies::default(),
            changed: false,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`go_on`](Self::go_on) is wanted at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.copies.deadline()
    }

    /// What this node holds under that name.
    pub(crate) fn info(&self, key: &ParkedKey) -> Option<&ParkedInfo> {
        self.held.get(key).map(|held| &held.info)
    }

    /// Whether it was discarded or applied not long ago.
    pub(crate) fn is_dropped(&self, key: &ParkedKey) -> bool {
        self.dropped.contains(key)
    }

    /// The other nodes that hold it, as far as is known; the lowest first.
    pub(crate) fn holders<'a>(&'a self, key: &'a ParkedKey) -> impl Iterator<Item = NodeId> + 'a {
        self.elsewhere.of(key).map(|run| run.node)
    }

    /// Parked states that this node is the last to have among those that stay, if there is another
    /// node that stays: it must not leave before they have a copy there.
    pub(crate) fn at_risk(&self, around: &Around<'_>) -> usize {
        let staying = around.staying();
        if staying.keys().all(|run| *run == around.me) {
            return 0;
        }
        self.alone(&staying).count() + self.awaited.len()
    }

    /// Parked states that end with this node if it ends now.
    pub(crate) fn last(&self, around: &Around<'_>) -> Vec<ParkedKey> {
        self.alone(&around.staying()).cloned().collect()
    }

    /// Parked states that no other of these nodes has.
    fn alone<'a>(
        &'a self,
        staying: &'a BTreeMap<NodeRun, MemberState>,
    ) -> impl Iterator<Item = &'a ParkedKey> {
        let is_safe =
            |key: &ParkedKey| self.elsewhere.of(key).any(|run| staying.contains_key(&run));
        self.held.keys().filter(move |key| !is_safe(key))
    }

    /// A state of a child of this node is about to be parked.
    pub(crate) fn awaits(&mut self, around: &Around<'_>, key: ParkedKey, other: OtherHolder) {
        if other == OtherHolder::Offers {
            self.offered.insert(key.clone());
            if around.view.is_live(key.run) {
                // It has the bytes: nobody is sent a copy unless it does not say in time that it keeps them.
                self.copies.begin(around.now, key.clone(), key.run, 0);
            }
        }
        self.awaited.insert(key, other);
    }

    /// Tells a node, which has this one, that this node has it, too, if it has. Whether it does, or is
    /// about to.
    pub(crate) fn says(&mut self, to: NodeId, key: &ParkedKey) -> bool {
        let is_held = self.held.contains(key);
        if is_held {
            let word = ParkedWord::Have { keys: vec![key.clone()], first: false };
            self.out.push_back(Output::Send { to, word });
        }
        is_held || self.awaited.contains_key(key)
    }

    /// A state was parked here.
    pub(crate) fn parked(&mut self, around: &Around<'_>, info: ParkedInfo, size: u64) {
        let key = info.key.clone();
        let other = self.awaited.remove(&key);
        if self.is_dropped(&key) {
            // It has come back by another way than before.
            self.out.push_back(Output::Order(ParkedOrder::Forget { key }));
            return;
        }
        let (child, reason) = (key.child.clone(), info.reason.clone());
        self.hold(around, info, size, None);
        if other != Some(OtherHolder::Parks) {
            let event = HubEvent::StateParked { child, key: key.clone(), reason };
            self.out.push_back(Output::Emit(event));
        }
        while let Some(surplus) = self.held.surplus(&key, |key| self.elsewhere.any(key)) {
            self.evict(around, &surplus);
        }
    }

    /// A state could not be parked.
    pub(crate) fn not_parked(&mut self, key: &ParkedKey, reason: String) {
        self.changed = true;
        match self.awaited.remove(key) {
            // Its owner has it, and offers it again; or who has parked it sends its copy to others.
            Some(OtherHolder::Offers | OtherHolder::Parks) => drop(self.copies.end(key, key.run)),
            Some(OtherHolder::None) | None => {
                let child = key.child.clone();
                let reason = brief(reason);
                self.out.push_back(Output::Emit(HubEvent::ParkedStateDropped { child, reason }));
            }
        }
    }

    /// A copy arrived whole, of so many bytes.
    pub(crate) fn arrived(
        &mut self,
        around: &Around<'_>,
        from: NodeRun,
        info: ParkedInfo,
        size: u64,
    ) {
        let key = info.key.clone();
        let answer = if self.is_dropped(&key) {
            ParkedWord::Dropped { keys: vec![key.clone()] }
        } else if self.held.contains(&key) {
            ParkedWord::Have { keys: vec![key.clone()], first: false }
        } else if around.leaving || !self.held.has_room(from.node, size) {
            ParkedWord::NoRoom { key: key.clone() }
        } else {
            self.out.push_back(Output::Order(ParkedOrder::Keep { key: key.clone(), from }));
            self.know(from, [key]);
            let reason = brief(info.reason);
            self.hold(around, ParkedInfo { reason, ..info }, size, Some(from.node));
            return;
        };
        self.out.push_back(Output::Order(ParkedOrder::Refuse { key, from }));
        self.out.push_back(Output::Send { to: from.node, word: answer });
    }

    /// A word of a member.
    pub(crate) fn word(&mut self, around: &Around<'_>, from: NodeRun, word: ParkedWord) {
        match word {
            ParkedWord::Have { keys, first } => {
                if first {
                    self.elsewhere.forget_run(from);
                }
                let (dropped, keys): (Vec<_>, Vec<_>) =
                    keys.into_iter().take(PART).partition(|key| self.is_dropped(key));
                if !dropped.is_empty() {
                    let word = ParkedWord::Dropped { keys: dropped };
                    self.out.push_back(Output::Send { to: from.node, word });
                }
                for key in &keys {
                    self.copies.end(key, from);
                }
                self.know(from, keys);
            }
            ParkedWord::Lost { key } => self.elsewhere.unknow(from, &key),
            ParkedWord::Dropped { keys } => {
                for key in keys.into_iter().take(PART) {
                    self.drop_one(around.now, key);
                }
            }
            ParkedWord::NoRoom { key } => {
                self.elsewhere.unknow(from, &key);
                if self.copies.end(&key, from) {
                    self.copies.pass_over(around.now, from, NO_ROOM);
                }
            }
            // The answer to who applies one.
            ParkedWord::Applied { .. } => return,
        }
        self.changed = true;
    }

    /// A copy did not get there.
    pub(crate) fn not_sent(&mut self, around: &Around<'_>, key: &ParkedKey, to: NodeRun) {
        if self.copies.end(key, to) {
            self.copies.pass_over(around.now, to, AGAIN);
            self.changed = true;
        }
    }

    /// It is wanted no more. `false`: this node does not hold it.
    pub(crate) fn discard(&mut self, around: &Around<'_>, key: &ParkedKey) -> bool {
        let is_held = self.held.contains(key);
        if is_held {
            self.dispose(around, key);
            let child = key.child.clone();
            let event = HubEvent::ParkedStateDiscarded { child, key: key.clone() };
            self.out.push_back(Output::Emit(event));
        }
        is_held
    }

    /// It is not wanted any more, or its child has it: nobody keeps it.
    pub(crate) fn dispose(&mut self, around: &Around<'_>, key: &ParkedKey) {
        self.drop_one(around.now, key.clone());
        for to in around.others() {
            let word = ParkedWord::Dropped { keys: vec![key.clone()] };
            self.out.push_back(Output::Send { to, word });
        }
    }

    /// Its child has merged it: nobody keeps it.
    pub(crate) fn merged(&mut self, around: &Around<'_>, key: &ParkedKey) {
        let is_here = self.held.contains(key) || self.awaited.contains_key(key);
        if is_here || self.elsewhere.any(key) {
            self.dispose(around, key);
        }
    }

    /// Its child goes on with it: nobody keeps it, nor those who say later that they do.
    pub(crate) fn taken_back(&mut self, around: &Around<'_>, key: &ParkedKey) {
        self.merged(around, key);
        self.drop_one(around.now, key.clone());
    }

    /// There is another view.
    pub(crate) fn viewed(&mut self, around: &Around<'_>) {
        self.elsewhere.retain(|run| around.view.is_live(run));
        self.copies.retain(|run| around.view.is_live(run));
        self.changed = true;
    }

    /// This member is reached, or in another way than before: words to it may be lost.
    pub(crate) fn reached(&mut self, run: NodeRun) {
        self.changed = true;
        // Who never held one has said nothing that could be wrong.
        if !self.held.was_used() {
            return;
        }
        let keys: Vec<ParkedKey> = self.held.keys().cloned().collect();
        let empty: &[ParkedKey] = &[];
        let parts = keys.chunks(PART).chain(keys.is_empty().then_some(empty));
        for (number, part) in parts.enumerate() {
            let word = ParkedWord::Have { keys: part.to_vec(), first: number == 0 };
            self.out.push_back(Output::Send { to: run.node, word });
        }
    }

    /// All members have adopted this view: from now on, and not before, each of them hears this node.
    pub(crate) fn settled(&mut self, around: &Around<'_>) {
        let runs = around.view.members.values().map(|member| member.run());
        let others: Vec<NodeRun> = runs.filter(|run| *run != around.me).collect();
        others.into_iter().for_each(|run| self.reached(run));
    }

    /// Sends the copies that are missing, if anything has changed or a wait is over.
    pub(crate) fn go_on(&mut self, around: &Around<'_>) {
        let is_due = self.deadline().is_some_and(|at| at <= around.now);
        if !std::mem::take(&mut self.changed) && !is_due {
            return;
        }
        for (key, to) in self.copies.late(around.now) {
            self.not_sent(around, &key, to);
        }
        self.changed = false;
        self.answer(around);
        self.copies.give_up_late(around.now);
        if self.held.is_empty() {
            return;
        }
        let staying = around.staying();
        for (key, held) in self.held.iter() {
            if !self.copies.has_room() {
                // Its end calls again.
                return;
            }
            if self.copies.is_sent(key) || !self.wants_copy(around, &staying, key) {
                continue;
            }
            let may = |(run, state): (&NodeRun, &MemberState)| {
                let is_there = *state == MemberState::Alive && around.reachable.contains(run);
                let lacks = *run != around.me && !self.elsewhere.has(*run, key);
                (is_there && lacks).then_some(*run)
            };
            let rank = |run: NodeRun| (score(&key.child, run.node, 0), run.node);
            let fit = staying.iter().filter_map(may);
            let Some(to) = self.copies.choose(fit, rank) else { continue };
            self.copies.begin(around.now, key.clone(), to, held.size);
            let (key, purpose) = (key.clone(), ParkedUse::Keep);
            self.out.push_back(Output::Order(ParkedOrder::Send { key, to, purpose }));
        }
    }

    /// Tells which offered states need their owners no more, and which are here no more.
    fn answer(&mut self, around: &Around<'_>) {
        if self.offered.is_empty() {
            return;
        }
        let is_alone = around.staying().keys().all(|run| *run == around.me);
        let told = |key: &ParkedKey| {
            if self.is_dropped(key) {
                Some(Output::Safe(key.clone()))
            } else if self.held.contains(key) {
                let is_safe = is_alone || self.elsewhere.any(key);
                is_safe.then(|| Output::Safe(key.clone()))
            } else {
                (!self.awaited.contains_key(key)).then(|| Output::Missing(key.clone()))
            }
        };
        let told: Vec<Output> = self.offered.iter().filter_map(told).collect();
        for output in told {
            if let Output::Safe(key) | Output::Missing(key) = &output {
                self.offered.remove(key);
            }
            self.out.push_back(output);
        }
    }

    /// Whether fewer nodes that stay have it than should, and it is for this one to send a copy.
    fn wants_copy(
        &self,
        around: &Around<'_>,
        staying: &BTreeMap<NodeRun, MemberState>,
        key: &ParkedKey,
    ) -> bool {
        let has = |run: &NodeRun| *run == around.me || self.elsewhere.has(*run, key);
        if staying.keys().filter(|run| has(run)).count() >= COPIES.min(staying.len()) {
            return false;
        }
        self.elsewhere.of(key).filter(|run| around.is_heard(*run)).all(|run| around.me < run)
    }

    fn know(&mut self, run: NodeRun, keys: impl IntoIterator<Item = ParkedKey>) {
        if !self.elsewhere.know(run, keys) {
            self.out.push_back(Output::TooMany { node: run.node });
        }
    }

    fn hold(&mut self, around: &Around<'_>, info: ParkedInfo, size: u64, by: Option<NodeId>) {
        let key = info.key.clone();
        self.held.insert(info, size, by);
        for to in around.others() {
            let word = ParkedWord::Have { keys: vec![key.clone()], first: false };
            self.out.push_back(Output::Send { to, word });
        }
        self.changed = true;
    }

    fn evict(&mut self, around: &Around<'_>, key: &ParkedKey) {
        if !self.elsewhere.any(key) && !self.offered.contains(key) {
            let child = key.child.clone();
            let reason = "there is no room for more parked states".to_owned();
            self.out.push_back(Output::Emit(HubEvent::ParkedStateDropped { child, reason }));
        }
        self.forget(key);
        for to in around.others() {
            let word = ParkedWord::Lost { key: key.clone() };
            self.out.push_back(Output::Send { to, word });
        }
    }

    fn forget(&mut self, key: &ParkedKey) {
        self.copies.forget(key);
        if self.held.remove(key) {
            self.out.push_back(Output::Order(ParkedOrder::Forget { key: key.clone() }));
        }
    }

    fn drop_one(&mut self, now: Instant, key: ParkedKey) {
        self.forget(&key);
        self.elsewhere.forget(&key);
        self.dropped.add(now, key);
        self.changed = true;
    }
}
