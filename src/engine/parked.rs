//! Parked states of this node and their copies on others: who holds which, who sends a copy to
//! whom, what is given up when there is no room, what was disposed of.
//!
//! A *holder* is a node with the bytes. Each parked state is wanted on two nodes that stay. When it
//! is on fewer, as far as is known here, its *keeper* sends a copy to one more: the lowest holder
//! that is heard. A holder tells all members when it has a state and when it has it no more. All that
//! it holds it tells to each member that it reaches again, and to everybody when a view is settled, as
//! words of who is not in do not count: so after a split both sides know. What was discarded or applied is remembered for a while, so that a copy that is on its way, or was on the
//! other side of a split, does not come back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    core::{Core, OtherHolder},
    distribution::score,
    io::ParkedOrder,
};
use crate::model::{
    event::HubEvent,
    id::{NodeId, NodeRun},
    member::{MemberState, View},
    parked::{ParkedInfo, ParkedKey, ParkedUse, ParkedWord},
    words::brief,
};

/// The most parked states that a node holds, and that another node is believed to hold.
pub(crate) const MOST_PARKED: usize = 1_024;
/// One peer's copies take at most this part of the room: one in so many.
const SHARE: usize = 2;
/// Parked states that were disposed of and are remembered; the oldest is forgotten first.
const MOST_DROPPED: usize = 4_096;
/// The most keys in one word.
const PART: usize = 64;
/// Copies that are on their way at a time.
const AT_ONCE: usize = 4;
/// How long a copy may take, with time for its size, and how long a node is passed over that did
/// not get one.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a node is passed over that had no room.
const NO_ROOM: Duration = Duration::from_secs(60);
/// So many nodes hold a parked state, if there are as many that stay.
const COPIES: usize = 2;

/// What the machine must know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) me: NodeRun,
    /// Whether this node leaves.
    pub(crate) leaving: bool,
    pub(crate) view: &'a View,
    /// Members to which states can go.
    pub(crate) reachable: &'a BTreeSet<NodeRun>,
}

impl<'a> Around<'a> {
    pub(crate) fn of(core: &'a Core) -> Self {
        let (now, me) = (core.now, core.me);
        let own = core.view.member(me.node);
        let leaving = own.is_some_and(|own| own.state == MemberState::Leaving);
        Self { now, me, leaving, view: &core.view, reachable: &core.reachable }
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + 'a {
        let me = self.me.node;
        self.view.members.keys().copied().filter(move |node| *node != me)
    }

    /// The members that do not leave, this node included if it does not.
    fn staying(&self) -> BTreeMap<NodeRun, MemberState> {
        let stays = |run: NodeRun, state| match run == self.me {
            true => !self.leaving,
            false => state != MemberState::Leaving,
        };
        let members = self.view.members.values().map(|member| (member.run(), member.state));
        members.filter(|(run, state)| stays(*run, *state)).collect()
    }
}

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

/// A parked state that this node holds.
#[derive(Clone, Debug)]
struct Held {
    info: ParkedInfo,
    size: u64,
    /// Rises with each that is taken in.
    number: u64,
    /// Who sent it; `None`: it was parked here.
    by: Option<NodeId>,
}

/// A copy that is on its way.
#[derive(Clone, Copy, Debug)]
struct Sending {
    to: NodeRun,
    until: Instant,
}

/// Names of parked states that were disposed of.
#[derive(Debug)]
struct Dropped {
    keep: Duration,
    known: BTreeSet<ParkedKey>,
    /// The oldest first.
    order: VecDeque<(Instant, ParkedKey)>,
}

impl Dropped {
    fn add(&mut self, now: Instant, key: ParkedKey) {
        if self.known.insert(key.clone()) {
            self.order.push_back((now, key));
        }
        let old = |at: Instant| now.saturating_duration_since(at) > self.keep;
        while self.order.len() > MOST_DROPPED || self.order.front().is_some_and(|(at, _)| old(*at))
        {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.known.remove(&key);
        }
    }
}

/// The parked states of this node, and what it knows of those of others.
#[derive(Debug)]
pub(crate) struct Parked {
    held: BTreeMap<ParkedKey, Held>,
    bytes: u64,
    /// The most bytes that are held.
    limit: u64,
    count: u64,
    /// States that are being parked: their bytes are still with their child's worker.
    awaited: BTreeMap<ParkedKey, OtherHolder>,
    /// States whose owners hold on to them until they are told that this is not needed.
    offered: BTreeSet<ParkedKey>,
    /// What others hold, as they said. At most [`MOST_PARKED`] each.
    elsewhere: BTreeMap<NodeRun, BTreeSet<ParkedKey>>,
    dropped: Dropped,
    sending: BTreeMap<ParkedKey, Sending>,
    /// Until when no copy goes to a node.
    passed: BTreeMap<NodeRun, Instant>,
    /// When a copy that found nobody is tried again.
    next: Option<Instant>,
    /// Whether copies have to be looked at anew.
    changed: bool,
    out: VecDeque<Output>,
}

impl Parked {
    /// Holds at most `limit` bytes, and remembers for so long what was disposed of.
    pub(crate) fn new(limit: u64, keep: Duration) -> Self {
        Self {
            held: BTreeMap::new(),
            bytes: 0,
            limit,
            count: 0,
            awaited: BTreeMap::new(),
            offered: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            dropped: Dropped { keep, known: BTreeSet::new(), order: VecDeque::new() },
            sending: BTreeMap::new(),
            passed: BTreeMap::new(),
            next: None,
            changed: false,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`go_on`](Self::go_on) is wanted at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sending = self.sending.values().map(|sending| sending.until).min();
        [sending, self.next].into_iter().flatten().min()
    }

    /// What this node holds under that name.
    pub(crate) fn info(&self, key: &ParkedKey) -> Option<&ParkedInfo> {
        self.held.get(key).map(|held| &held.info)
    }

    /// Whether it was discarded or applied not long ago.
    pub(crate) fn is_dropped(&self, key: &ParkedKey) -> bool {
        self.dropped.known.contains(key)
    }

    /// The other nodes that hold it, as far as is known; the lowest first.
    pub(crate) fn holders(&self, key: &ParkedKey) -> impl Iterator<Item = NodeId> + '_ {
        let key = key.clone();
        let has = move |keys: &BTreeSet<ParkedKey>| keys.contains(&key);
        self.elsewhere.iter().filter(move |(_, keys)| has(keys)).map(|(run, _)| run.node)
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
        let is_safe = |key: &&ParkedKey| {
            self.elsewhere.iter().any(|(run, keys)| staying.contains_key(run) && keys.contains(key))
        };
        self.held.keys().filter(move |key| !is_safe(key))
    }

    /// A state of a child of this node is about to be parked.
    pub(crate) fn awaits(&mut self, around: &Around<'_>, key: ParkedKey, other: OtherHolder) {
        if other == OtherHolder::Offers {
            self.offered.insert(key.clone());
            if around.view.is_live(key.run) {
                // It has the bytes: nobody is sent a copy unless it does not say in time that it keeps them.
                let sending = Sending { to: key.run, until: around.now + AGAIN };
                self.sending.insert(key.clone(), sending);
            }
        }
        self.awaited.insert(key, other);
    }

    /// Tells a node, which has this one, that this node has it, too, if it has. Whether it does, or is
    /// about to.
    pub(crate) fn says(&mut self, to: NodeId, key: &ParkedKey) -> bool {
        let is_held = self.held.contains_key(key);
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
        while self.held.len() > MOST_PARKED || self.bytes > self.limit {
            let Some(oldest) = self.least(&key) else { break };
            self.evict(around, &oldest);
        }
    }

    /// A state could not be parked.
    pub(crate) fn not_parked(&mut self, key: &ParkedKey, reason: String) {
        self.changed = true;
        match self.awaited.remove(key) {
            // Its owner has it, and offers it again; or who has parked it sends its copy to others.
            Some(OtherHolder::Offers | OtherHolder::Parks) => drop(self.sent(key, key.run)),
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
        } else if self.held.contains_key(&key) {
            ParkedWord::Have { keys: vec![key.clone()], first: false }
        } else if around.leaving || !self.has_room(from.node, size) {
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
                    self.elsewhere.remove(&from);
                }
                let (dropped, keys): (Vec<_>, Vec<_>) =
                    keys.into_iter().take(PART).partition(|key| self.is_dropped(key));
                if !dropped.is_empty() {
                    let word = ParkedWord::Dropped { keys: dropped };
                    self.out.push_back(Output::Send { to: from.node, word });
                }
                for key in &keys {
                    self.sent(key, from);
                }
                self.know(from, keys);
            }
            ParkedWord::Lost { key } => self.unknow(from, &key),
            ParkedWord::Dropped { keys } => {
                for key in keys.into_iter().take(PART) {
                    self.drop_one(around.now, key);
                }
            }
            ParkedWord::NoRoom { key } => {
                self.unknow(from, &key);
                if self.sent(&key, from) {
                    self.passed.insert(from, around.now + NO_ROOM);
                }
            }
            // The answer to who applies one.
            ParkedWord::Applied { .. } => return,
        }
        self.changed = true;
    }

    /// A copy did not get there.
    pub(crate) fn not_sent(&mut self, around: &Around<'_>, key: &ParkedKey, to: NodeRun) {
        if self.sent(key, to) {
            self.passed.insert(to, around.now + AGAIN);
            self.changed = true;
        }
    }

    /// It is wanted no more. `false`: this node does not hold it.
    pub(crate) fn discard(&mut self, around: &Around<'_>, key: &ParkedKey) -> bool {
        let is_held = self.held.contains_key(key);
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
        let is_here = self.held.contains_key(key) || self.awaited.contains_key(key);
        if is_here || self.holders(key).next().is_some() {
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
        let live = |run: &NodeRun| around.view.is_live(*run);
        self.elsewhere.retain(|run, _| live(run));
        self.passed.retain(|run, _| live(run));
        self.sending.retain(|_, sending| live(&sending.to));
        self.changed = true;
    }

    /// This member is reached, or in another way than before: words to it may be lost.
    pub(crate) fn reached(&mut self, run: NodeRun) {
        self.changed = true;
        // Who never held one has said nothing that could be wrong.
        if self.count == 0 {
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
        self.next = None;
        let late: Vec<(ParkedKey, NodeRun)> = self
            .sending
            .iter()
            .filter(|(_, sending)| sending.until <= around.now)
            .map(|(key, sending)| (key.clone(), sending.to))
            .collect();
        for (key, to) in late {
            self.not_sent(around, &key, to);
        }
        self.changed = false;
        self.answer(around);
        self.passed.retain(|_, until| *until > around.now);
        if self.held.is_empty() {
            return;
        }
        let staying = around.staying();
        for (key, held) in &self.held {
            if self.sending.len() >= AT_ONCE {
                // Its end calls again.
                return;
            }
            if self.sending.contains_key(key) || !self.wants_copy(around, &staying, key) {
                continue;
            }
            let may = |run: &NodeRun, state: MemberState| {
                *run != around.me
                    && state == MemberState::Alive
                    && around.reachable.contains(run)
                    && !self.has(*run, key)
            };
            let fit = || staying.iter().filter(|(run, state)| may(run, **state)).map(|(r, _)| *r);
            let to = fit()
                .filter(|run| !self.passed.contains_key(run))
                .max_by_key(|run| (score(&key.child, run.node, 0), run.node));
            let Some(to) = to else {
                let waits = fit().filter_map(|run| self.passed.get(&run).copied());
                self.next = [self.next, waits.min()].into_iter().flatten().min();
                continue;
            };
            let until = around.now + AGAIN + Core::time_for(held.size) * 4;
            self.sending.insert(key.clone(), Sending { to, until });
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
            } else if self.held.contains_key(key) {
                let is_safe = is_alone || self.holders(key).next().is_some();
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
        let stays =
            |run: &NodeRun| staying.contains_key(run) && (*run == around.me || self.has(*run, key));
        if staying.keys().filter(|run| stays(run)).count() >= COPIES.min(staying.len()) {
            return false;
        }
        let is_heard = |run: &NodeRun| {
            let member = around.view.member(run.node);
            member.is_some_and(|m| m.run() == *run && m.state != MemberState::Suspect)
        };
        let others = self.elsewhere.iter().filter(|(_, keys)| keys.contains(key));
        others.map(|(run, _)| run).filter(|run| is_heard(run)).all(|run| around.me < *run)
    }

    fn has(&self, run: NodeRun, key: &ParkedKey) -> bool {
        self.elsewhere.get(&run).is_some_and(|keys| keys.contains(key))
    }

    fn know(&mut self, run: NodeRun, keys: impl IntoIterator<Item = ParkedKey>) {
        let known = self.elsewhere.entry(run).or_default();
        for key in keys {
            if known.len() >= MOST_PARKED && !known.contains(&key) {
                self.out.push_back(Output::TooMany { node: run.node });
                return;
            }
            known.insert(key);
        }
    }

    fn unknow(&mut self, run: NodeRun, key: &ParkedKey) {
        if let Some(keys) = self.elsewhere.get_mut(&run) {
            keys.remove(key);
            if keys.is_empty() {
                self.elsewhere.remove(&run);
            }
        }
    }

    /// Ends what is on its way there. `false`: nothing was.
    fn sent(&mut self, key: &ParkedKey, to: NodeRun) -> bool {
        let is_there = self.sending.get(key).is_some_and(|sending| sending.to == to);
        if is_there {
            self.sending.remove(key);
        }
        is_there
    }

    /// Whether there is room for one more copy of this peer.
    fn has_room(&self, peer: NodeId, size: u64) -> bool {
        let its = self.held.values().filter(|held| held.by == Some(peer));
        let (count, bytes) = its.fold((0, 0), |(n, bytes), held| (n + 1, bytes + held.size));
        let share = self.limit / SHARE as u64;
        // One that is larger than a share is taken all the same.
        let fits = count == 0 || count < MOST_PARKED / SHARE && bytes + size <= share;
        fits && self.held.len() < MOST_PARKED && self.bytes.saturating_add(size) <= self.limit
    }

    fn hold(&mut self, around: &Around<'_>, info: ParkedInfo, size: u64, by: Option<NodeId>) {
        let key = info.key.clone();
        self.count += 1;
        let held = Held { info, size, number: self.count, by };
        self.bytes += size;
        if let Some(before) = self.held.insert(key.clone(), held) {
            self.bytes -= before.size;
        }
        for to in around.others() {
            let word = ParkedWord::Have { keys: vec![key.clone()], first: false };
            self.out.push_back(Output::Send { to, word });
        }
        self.changed = true;
    }

    /// What is given up first: the oldest that another node holds, too, else the oldest.
    fn least(&self, not: &ParkedKey) -> Option<ParkedKey> {
        let others = self.held.iter().filter(|(key, _)| *key != not);
        let least = others.min_by_key(|(key, held)| {
            let is_last = self.holders(key).next().is_none();
            (is_last, held.number)
        });
        least.map(|(key, _)| key.clone())
    }

    fn evict(&mut self, around: &Around<'_>, key: &ParkedKey) {
        if self.holders(key).next().is_none() && !self.offered.contains(key) {
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
        self.sending.remove(key);
        if let Some(held) = self.held.remove(key) {
            self.bytes -= held.size;
            self.out.push_back(Output::Order(ParkedOrder::Forget { key: key.clone() }));
        }
    }

    fn drop_one(&mut self, now: Instant, key: ParkedKey) {
        self.forget(&key);
        let runs: Vec<NodeRun> = self.elsewhere.keys().copied().collect();
        for run in runs {
            self.unknow(run, &key);
        }
        self.dropped.add(now, key);
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        child::Epoch,
        id::{ChildId, Incarnation, KindName, NodeName},
        member::Member,
    };

    const KEEP: Duration = Duration::from_secs(100);
    const LIMIT: u64 = 1_000;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn info(n: usize) -> ParkedInfo {
        let child = ChildId::new(format!("c{n}")).expect("a valid id");
        ParkedInfo {
            key: ParkedKey { child, run: run(200), epoch: Epoch { term: 1, attempt: 0 } },
            kind: KindName::new("k").expect("a valid name"),
            state_version: 1,
            at: 0,
            reason: "why".to_owned(),
        }
    }

    fn key(n: usize) -> ParkedKey {
        info(n).key
    }

    /// A node among others, and its machine.
    struct Node {
        now: Instant,
        me: NodeRun,
        leaving: bool,
        view: View,
        reachable: BTreeSet<NodeRun>,
        parked: Parked,
    }

    impl Node {
        fn new(me: u8, members: &[u8]) -> Self {
            let mut node = Self {
                now: Instant::now(),
                me: run(me),
                leaving: false,
                view: View::default(),
                reachable: members.iter().map(|n| run(*n)).collect(),
                parked: Parked::new(LIMIT, KEEP),
            };
            node.members(&members.iter().map(|n| (*n, MemberState::Alive)).collect::<Vec<_>>());
            node
        }

        fn members(&mut self, members: &[(u8, MemberState)]) {
            let member = |(n, state): &(u8, MemberState)| Member {
                id: run(*n).node,
                incarnation: Incarnation { started: 1, nonce: run(*n).nonce },
                name: NodeName::new(format!("n{n}")).expect("a valid name"),
                addresses: Vec::new(),
                weight: 1,
                state: *state,
                draining: false,
                revision: 0,
            };
            let members = members.iter().map(member);
            self.view = View { members: members.map(|m| (m.id, m)).collect() };
            self.tell(|parked, around| parked.viewed(around));
        }

        fn tell(&mut self, tell: impl FnOnce(&mut Parked, &Around<'_>)) {
            let around = Around {
                now: self.now,
                me: self.me,
                leaving: self.leaving,
                view: &self.view,
                reachable: &self.reachable,
            };
            tell(&mut self.parked, &around);
        }

        fn park(&mut self, n: usize, size: u64) {
            self.tell(|parked, around| parked.parked(around, info(n), size));
        }

        fn hears(&mut self, from: u8, word: ParkedWord) {
            self.tell(|parked, around| parked.word(around, run(from), word));
        }

        fn has(&mut self, from: u8, n: usize) {
            self.hears(from, ParkedWord::Have { keys: vec![key(n)], first: false });
        }

        fn copy(&mut self, from: u8, n: usize, size: u64) {
            self.tell(|parked, around| parked.arrived(around, run(from), info(n), size));
        }

        fn at_risk(&mut self) -> usize {
            let mut at_risk = 0;
            self.tell(|parked, around| at_risk = parked.at_risk(around));
            at_risk
        }

        /// What is wanted now, words to all included once.
        fn outputs(&mut self) -> Vec<Output> {
            self.tell(|parked, around| parked.go_on(around));
            std::iter::from_fn(|| self.parked.next_output()).collect()
        }

        /// To whom copies go now.
        fn copies(&mut self) -> Vec<(ParkedKey, NodeRun)> {
            let sent = |output| match output {
                Output::Order(ParkedOrder::Send { key, to, purpose: ParkedUse::Keep }) => {
                    Some((key, to))
                }
                _ => None,
            };
            self.outputs().into_iter().filter_map(sent).collect()
        }
    }

    fn order(order: ParkedOrder) -> Output {
        Output::Order(order)
    }

    fn say(to: u8, word: ParkedWord) -> Output {
        Output::Send { to: run(to).node, word }
    }

    #[test]
    fn a_state_that_is_parked_is_told_to_all_and_copied_to_one() {
        let mut node = Node::new(1, &[1, 2, 3]);
        node.park(0, 10);
        let outputs = node.outputs();
        let have = ParkedWord::Have { keys: vec![key(0)], first: false };
        let (child, reason) = (key(0).child, "why".to_owned());
        assert_eq!(
            outputs[..3],
            [
                say(2, have.clone()),
                say(3, have),
                Output::Emit(HubEvent::StateParked { child, key: key(0), reason }),
            ]
        );
        let Output::Order(ParkedOrder::Send { to, .. }) = &outputs[3] else {
            panic!("{outputs:?}")
        };
        assert_eq!(outputs.len(), 4);
        let to = *to;
        node.now += Duration::from_secs(1);
        assert_eq!(node.outputs(), [], "it is on its way");
        node.tell(|parked, around| {
            let word = ParkedWord::Have { keys: vec![key(0)], first: false };
            parked.word(around, to, word);
        });
        node.now += KEEP;
        assert_eq!(node.outputs(), [], "it is there");
        assert_eq!(node.parked.deadline(), None);
    }

    #[test]
    fn who_had_no_room_or_got_nothing_is_passed_over_for_a_while() {
        let mut node = Node::new(1, &[1, 2, 3]);
        node.park(0, 10);
        let [(_, first)] = node.copies()[..] else { panic!("one copy goes") };
        node.tell(|parked, around| parked.word(around, first, ParkedWord::NoRoom { key: key(0) }));
        let [(_, second)] = node.copies()[..] else { panic!("another node is tried") };
        assert_ne!(first, second);
        // Nothing is heard of it.
        node.now = node.parked.deadline().expect("it is waited for");
        assert_eq!(node.copies(), [], "both are passed over");
        node.now = node.parked.deadline().expect("it is tried again");
        assert_eq!(node.copies(), [(key(0), second)], "a lost copy is sent again sooner");
        node.tell(|parked, around| parked.not_sent(around, &key(0), second));
        assert_eq!(node.copies(), []);
        node.now += NO_ROOM;
        assert_eq!(node.copies().len(), 1);
    }

    #[test]
    fn the_lowest_holder_that_is_heard_sends_the_copy_that_is_missing() {
        use MemberState::{Alive, Leaving, Suspect};
        for (lower, expected) in [(Alive, 0), (Leaving, 0), (Suspect, 1)] {
            // This node has it from a lower one, and of the three one leaves.
            let mut node = Node::new(2, &[1, 2, 3]);
            node.copy(1, 0, 10);
            assert_eq!(node.copies(), []);
            node.members(&[(1, lower), (2, Alive), (3, Alive)]);
            // Two hold it. But while one of them leaves, it is for the lowest to send it on.
            let copies = node.copies();
            assert_eq!(copies.len(), 0, "{lower:?}");
            node.leaving = true;
            node.tell(|parked, around| parked.viewed(around));
            assert_eq!(node.copies().len(), expected, "{lower:?}");
        }
        let mut node = Node::new(2, &[1, 2, 3]);
        node.copy(1, 0, 10);
        node.outputs();
        node.members(&[(2, Alive), (3, Alive)]);
        assert_eq!(node.copies(), [(key(0), run(3))], "the other holder is gone");
    }

    #[test]
    fn copies_are_few_at_a_time_and_go_to_members_that_are_reached() {
        let mut node = Node::new(1, &[1, 2]);
        node.reachable.clear();
        for n in 0..AT_ONCE + 2 {
            node.park(n, 1);
        }
        assert_eq!(node.copies(), []);
        assert_eq!(node.parked.deadline(), None, "it goes on when somebody is reached");
        node.reachable.insert(run(2));
        node.tell(|parked, _| parked.reached(run(2)));
        assert_eq!(node.copies().len(), AT_ONCE);
        for n in 0..AT_ONCE {
            node.has(2, n);
        }
        assert_eq!(node.copies().len(), 2);
    }

    #[test]
    fn a_copy_is_kept_once_and_each_is_answered() {
        let mut node = Node::new(2, &[1, 2]);
        let from = run(1);
        node.copy(1, 0, 10);
        let have = ParkedWord::Have { keys: vec![key(0)], first: false };
        assert_eq!(
            node.outputs(),
            [order(ParkedOrder::Keep { key: key(0), from }), say(1, have.clone())]
        );
        node.copy(1, 0, 10);
        assert_eq!(
            node.outputs(),
            [order(ParkedOrder::Refuse { key: key(0), from }), say(1, have)]
        );
        node.leaving = true;
        node.copy(1, 1, 10);
        let word = ParkedWord::NoRoom { key: key(1) };
        assert_eq!(
            node.outputs(),
            [order(ParkedOrder::Refuse { key: key(1), from }), say(1, word)]
        );
    }

    #[test]
    fn one_peer_fills_its_share_and_no_more() {
        let mut node = Node::new(2, &[1, 2, 3]);
        let kept = |node: &mut Node| {
            let keeps = |o: &Output| matches!(o, Output::Order(ParkedOrder::Keep { .. }));
            node.outputs().iter().filter(|output| keeps(output)).count()
        };
        for n in 0..10 {
            node.copy(1, n, LIMIT / 8);
        }
        assert_eq!(kept(&mut node), 4);
        node.copy(3, 20, LIMIT / 2);
        assert_eq!(kept(&mut node), 1, "the other half is not the first one's");
        node.copy(3, 21, 1);
        assert_eq!(kept(&mut node), 0);
        let mut node = Node::new(2, &[1, 2]);
        for n in 0..MOST_PARKED {
            node.copy(1, n, 0);
        }
        assert_eq!(kept(&mut node), MOST_PARKED / SHARE);
        let mut node = Node::new(2, &[1, 2]);
        node.copy(1, 0, LIMIT);
        assert_eq!(kept(&mut node), 1, "one large state is taken");
        node.copy(1, 1, LIMIT + 1);
        assert_eq!(kept(&mut node), 0);
    }

    #[test]
    fn without_room_the_oldest_that_another_holds_goes_before_the_oldest() {
        let mut node = Node::new(1, &[1, 2]);
        for n in 0..4 {
            node.park(n, LIMIT / 4);
        }
        node.has(2, 2);
        node.outputs();
        node.park(4, LIMIT / 4);
        let lost = |n| say(2, ParkedWord::Lost { key: key(n) });
        let outputs = node.outputs();
        assert!(outputs.contains(&order(ParkedOrder::Forget { key: key(2) })), "{outputs:?}");
        assert!(outputs.contains(&lost(2)));
        let is_dropped =
            |o: &Output| matches!(o, Output::Emit(HubEvent::ParkedStateDropped { .. }));
        assert!(!outputs.iter().any(is_dropped), "the other node has it: {outputs:?}");
        node.park(5, LIMIT / 4);
        let outputs = node.outputs();
        assert!(outputs.contains(&order(ParkedOrder::Forget { key: key(0) })), "{outputs:?}");
        assert_eq!(outputs.iter().filter(|output| is_dropped(output)).count(), 1);
        // The newest is held, however large.
        node.park(6, LIMIT * 2);
        assert_eq!(node.parked.held.keys().collect::<Vec<_>>(), [&key(6)]);
        assert_eq!(node.parked.bytes, LIMIT * 2);
    }

    #[test]
    fn what_was_disposed_of_does_not_come_back_by_any_way() {
        let mut node = Node::new(1, &[1, 2]);
        node.park(0, 10);
        node.outputs();
        node.tell(|parked, around| assert!(parked.discard(around, &key(0))));
        let dropped = ParkedWord::Dropped { keys: vec![key(0)] };
        assert!(node.outputs().contains(&say(2, dropped.clone())));
        node.tell(|parked, around| assert!(!parked.discard(around, &key(0))));
        node.has(2, 0);
        assert_eq!(node.outputs(), [say(2, dropped.clone())], "of a list after a split");
        node.copy(2, 0, 10);
        let refuse = order(ParkedOrder::Refuse { key: key(0), from: run(2) });
        assert_eq!(node.outputs(), [refuse, say(2, dropped)], "of a copy");
        node.park(0, 10);
        assert_eq!(node.outputs(), [order(ParkedOrder::Forget { key: key(0) })], "of its own");
        // Also what was only heard of.
        node.hears(2, ParkedWord::Dropped { keys: vec![key(1)] });
        node.copy(2, 1, 10);
        assert_eq!(node.parked.held.len(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let mut node = Node::new(1, &[1, 2]);
        for n in 0..MOST_DROPPED + 10 {
            node.hears(2, ParkedWord::Dropped { keys: vec![key(n)] });
        }
        let dropped = &node.parked.dropped;
        assert_eq!((dropped.known.len(), dropped.order.len()), (MOST_DROPPED, MOST_DROPPED));
        assert!(!node.parked.is_dropped(&key(9)) && node.parked.is_dropped(&key(10)));
        node.now += KEEP + Duration::from_secs(1);
        node.hears(2, ParkedWord::Dropped { keys: vec![key(0)] });
        assert_eq!(node.parked.dropped.order.len(), 1);
        let mut node = Node::new(1, &[1, 2]);
        for n in 0..MOST_PARKED + 1 {
            node.has(2, n);
        }
        assert_eq!(node.outputs(), [Output::TooMany { node: run(2).node }]);
        assert_eq!(node.parked.elsewhere[&run(2)].len(), MOST_PARKED);
        node.members(&[(1, MemberState::Alive)]);
        assert!(node.parked.elsewhere.is_empty(), "it goes with its member");
    }

    #[test]
    fn who_is_reached_is_told_all_that_is_held_in_parts_and_forgets_what_was_said_before() {
        let mut node = Node::new(1, &[1, 2]);
        node.tell(|parked, _| parked.reached(run(2)));
        assert_eq!(node.outputs(), [], "there was never anything");
        for n in 0..PART + 1 {
            node.park(n, 1);
        }
        node.outputs();
        node.tell(|parked, _| parked.reached(run(2)));
        let parts: Vec<(usize, bool)> = node
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Send { word: ParkedWord::Have { keys, first }, .. } => {
                    Some((keys.len(), first))
                }
                _ => None,
            })
            .collect();
        assert_eq!(parts, [(PART, true), (1, false)]);
        node.has(2, 5);
        node.hears(2, ParkedWord::Have { keys: vec![key(6)], first: true });
        assert_eq!(node.parked.holders(&key(5)).count(), 0);
        assert_eq!(node.parked.holders(&key(6)).count(), 1);
        node.hears(2, ParkedWord::Lost { key: key(6) });
        assert_eq!(node.parked.holders(&key(6)).count(), 0);
    }

    #[test]
    fn a_state_is_at_risk_until_a_node_that_stays_has_it() {
        use MemberState::{Alive, Leaving};
        let mut node = Node::new(1, &[1]);
        node.park(0, 10);
        node.leaving = true;
        assert_eq!(node.at_risk(), 0, "nobody could take it");
        node.members(&[(1, Leaving), (2, Alive), (3, Leaving)]);
        node.has(3, 0);
        assert_eq!(node.at_risk(), 1, "who has it leaves, too");
        node.has(2, 0);
        assert_eq!(node.at_risk(), 0);
        node.tell(|parked, around| parked.awaits(around, key(1), OtherHolder::None));
        assert_eq!(node.at_risk(), 1, "it is about to be parked");
        node.parked.not_parked(&key(1), "it is gone".to_owned());
        assert_eq!(node.at_risk(), 0);
    }

    fn run_of(key: &ParkedKey) -> u8 {
        u8::try_from(key.run.nonce).expect("a test's run")
    }

    /// A state that was offered by the node that it names, and that this node is about to park.
    fn offered(node: &mut Node, n: usize) {
        node.tell(|parked, around| parked.awaits(around, key(n), OtherHolder::Offers));
    }

    fn safe(node: &mut Node) -> Vec<Output> {
        let told = |o: &Output| matches!(o, Output::Safe(_) | Output::Missing(_));
        node.outputs().into_iter().filter(told).collect()
    }

    #[test]
    fn who_offered_a_state_is_answered_when_it_is_on_two_nodes_and_once() {
        let owner = run_of(&key(0));
        let mut node = Node::new(1, &[1, 2, 3, owner]);
        offered(&mut node, 0);
        assert_eq!(safe(&mut node), [], "its bytes are with the actor");
        node.park(0, 10);
        let outputs = node.outputs();
        assert!(!outputs.contains(&Output::Safe(key(0))), "this node alone has it: {outputs:?}");
        let is_sent = |o: &Output| matches!(o, Output::Order(ParkedOrder::Send { .. }));
        assert!(!outputs.iter().any(is_sent), "its owner has the bytes: {outputs:?}");
        node.has(owner, 0);
        assert_eq!(node.outputs(), [Output::Safe(key(0))]);
        node.has(2, 0);
        assert_eq!(node.outputs(), [], "it is told once");
        assert!(node.parked.offered.is_empty());
    }

    #[test]
    fn a_copy_goes_to_another_when_the_owner_says_nothing_or_is_gone() {
        let owner = run_of(&key(0));
        let mut node = Node::new(1, &[1, 2, owner]);
        offered(&mut node, 0);
        node.park(0, 10);
        assert_eq!(node.copies(), []);
        node.now += AGAIN;
        assert_eq!(node.copies(), [(key(0), run(2))]);
        let mut node = Node::new(1, &[1, 2, owner]);
        offered(&mut node, 0);
        node.park(0, 10);
        node.members(&[(1, MemberState::Alive), (2, MemberState::Alive)]);
        assert_eq!(node.copies(), [(key(0), run(2))]);
        node.has(2, 0);
        assert_eq!(safe(&mut node), [Output::Safe(key(0))]);
    }

    #[test]
    fn who_offered_a_state_is_answered_when_nobody_else_is_left_or_it_was_disposed_of() {
        let owner = run_of(&key(0));
        let mut node = Node::new(1, &[1, owner]);
        offered(&mut node, 0);
        node.park(0, 10);
        assert_eq!(safe(&mut node), []);
        node.members(&[(1, MemberState::Alive), (owner, MemberState::Leaving)]);
        assert_eq!(safe(&mut node), [Output::Safe(key(0))]);
        let mut node = Node::new(1, &[1, owner]);
        offered(&mut node, 0);
        node.hears(owner, ParkedWord::Dropped { keys: vec![key(0)] });
        assert_eq!(safe(&mut node), [Output::Safe(key(0))]);
    }

    #[test]
    fn an_offered_state_that_is_here_no_more_is_offered_again_and_not_told_as_lost() {
        let owner = run_of(&key(0));
        let mut node = Node::new(1, &[1, owner]);
        offered(&mut node, 0);
        node.tell(|parked, _| parked.not_parked(&key(0), "it is gone".to_owned()));
        assert_eq!(node.outputs(), [Output::Missing(key(0))]);
        assert_eq!(node.parked.deadline(), None);
        offered(&mut node, 1);
        node.park(1, LIMIT / 2);
        node.outputs();
        node.park(2, LIMIT);
        let outputs = node.outputs();
        assert!(outputs.contains(&order(ParkedOrder::Forget { key: key(1) })), "{outputs:?}");
        assert!(outputs.contains(&Output::Missing(key(1))), "{outputs:?}");
        let is_dropped =
            |o: &Output| matches!(o, Output::Emit(HubEvent::ParkedStateDropped { .. }));
        assert!(!outputs.iter().any(is_dropped), "{outputs:?}");
    }

    #[test]
    fn who_offered_a_state_tells_that_it_parks_it_and_not_its_users() {
        let mut node = Node::new(1, &[1, 2]);
        let parked_by = |parked: &mut Parked| parked.says(run(2).node, &key(0));
        assert!(!parked_by(&mut node.parked));
        let other = OtherHolder::Parks;
        node.tell(|parked, around| parked.awaits(around, key(0), other));
        assert!(parked_by(&mut node.parked), "it is about to");
        assert_eq!(node.outputs(), []);
        node.park(0, 10);
        let have = say(2, ParkedWord::Have { keys: vec![key(0)], first: false });
        assert_eq!(node.outputs()[0], have);
        assert!(parked_by(&mut node.parked));
        assert_eq!(node.outputs(), [have], "it is asked again");
        // Its actor had not come to rest.
        node.tell(|parked, around| parked.awaits(around, key(1), other));
        node.tell(|parked, _| parked.not_parked(&key(1), "it is gone".to_owned()));
        assert_eq!(node.outputs(), []);
    }

    #[test]
    fn what_its_child_has_again_is_kept_by_nobody() {
        let mut node = Node::new(1, &[1, 2]);
        let dropped = |n| say(2, ParkedWord::Dropped { keys: vec![key(n)] });
        node.tell(|parked, around| parked.merged(around, &key(0)));
        assert_eq!(node.outputs(), [], "it is parked nowhere");
        assert!(!node.parked.is_dropped(&key(0)));
        node.has(2, 0);
        node.tell(|parked, around| parked.merged(around, &key(0)));
        assert_eq!(node.outputs(), [dropped(0)]);
        // Who parked it was not heard when its owner went on with it.
        node.tell(|parked, around| parked.taken_back(around, &key(1)));
        assert_eq!(node.outputs(), []);
        node.has(2, 1);
        assert_eq!(node.outputs(), [dropped(1)]);
    }
}
