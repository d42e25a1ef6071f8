//! How logs travel: each change goes to all peers at once, and a digest of watermarks, now and
//! then, finds what was lost on the way.
//!
//! This is the *PubSub* strategy. A node gives its own log to every peer; the log of a node that
//! is not there is asked of one peer. A digest has one watermark for each log, so that idle traffic
//! does not grow with the number of children. To each peer at most a megabyte of each log is on its
//! way; as much more follows as the peer's [`SyncWord::Have`] says that it has.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    registry::{Applied, Part, Registry},
    repeats::Repeats,
    wants::{Ask, Wants},
};
use crate::model::{
    id::{ChildId, NodeId, NodeRun},
    member::View,
    message::{SyncWord, Watermark},
};

/// Bytes of one log that may be on their way to one peer; one part is always let through.
const WINDOW: usize = 1 << 20;
/// What a member has said it will send, and what may be on its way, is not asked for before that.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
/// A log is sent anew to one peer once in this time, however often it asks: a window of it each time,
/// so 5 MiB a second of each log for who does not say that it has them. Who asks again after a loss
/// does so after [`Settings::digest`](crate::Settings::digest), and is answered.
const AGAIN: Duration = Duration::from_millis(200);
/// Logs of one digest that are looked at.
const MOST_NAMED: usize = 4_096;

/// How far one log was sent to one peer.
#[derive(Debug)]
struct Flow {
    sent: u64,
    /// The floor that was passed: parts that follow need not begin with a snapshot.
    passed: Option<u64>,
    /// What is on its way: up to which version each part goes, and its size.
    parts: VecDeque<(u64, usize)>,
    in_flight: usize,
    at: Instant,
}

impl Flow {
    /// The peer has the log up to here: so much less is on its way.
    fn arrived(&mut self, version: u64) {
        while let Some((_, size)) = self.parts.front().filter(|(upto, _)| *upto <= version) {
            self.in_flight -= size;
            self.parts.pop_front();
        }
    }
}

#[derive(Debug)]
struct Peer {
    linked: bool,
    /// Since when it is there, or linked.
    since: Instant,
    /// Its run, once it has said what it has.
    run: Option<NodeRun>,
    /// When it was last told what this node has.
    told: Option<Instant>,
    flows: BTreeMap<NodeRun, Flow>,
}

impl Peer {
    fn new(now: Instant, linked: bool) -> Self {
        Self { linked, since: now, run: None, told: None, flows: BTreeMap::new() }
    }
}

/// How logs travel between this node and its peers.
#[derive(Debug)]
pub(crate) struct Sync {
    every: Duration,
    /// Bytes of one log that may be on their way to one peer: [`WINDOW`]. A test takes less.
    pub(super) window: usize,
    due: Option<Instant>,
    /// Which peer gets the next digest.
    turn: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// The other members when it was looked last.
    members: Vec<NodeId>,
    /// Up to where this node's own log was given to all peers.
    published: u64,
    wants: Wants,
    repeats: Repeats,
    /// What is to be told to whom about what this node has, when the batch is through.
    have: BTreeSet<(NodeId, NodeRun)>,
    out: VecDeque<(NodeId, SyncWord)>,
}

impl Sync {
    /// Digests go out once in `every`, to one peer after the other; `seed` says with whom it begins.
    pub(crate) fn new(every: Duration, seed: u64) -> Self {
        Self {
            every,
            window: WINDOW,
            due: None,
            turn: seed % 1_000,
            peers: BTreeMap::new(),
            members: Vec::new(),
            published: 0,
            wants: Wants::new(every),
            repeats: Repeats::new(AGAIN),
            have: BTreeSet::new(),
            out: VecDeque::new(),
        }
    }

    /// A member is reached, or in another way than before: each side tells what it has, and gives
    /// its own log from where the other one said last that it has it. It does not wait to be told
    /// again: an answer that leaves meanwhile would overtake the entry that it rests on.
    pub(crate) fn reached(&mut self, now: Instant, peer: NodeId, registry: &Registry) {
        self.peers.insert(peer, Peer::new(now, true));
        self.tell(now, peer, registry);
        let me = registry.me();
        let known = registry.acked(peer, me).min(registry.version());
        self.begin(now, peer, me, known, registry);
    }

    /// A member says where its own log stands. What was said before this node had taken it in was
    /// dropped, so it is asked for soon.
    pub(crate) fn expect(&mut self, now: Instant, log: NodeRun, version: u64, registry: &Registry) {
        if registry.watermark(log) < version {
            self.wants.note(log, version, log.node, now + ON_ITS_WAY.min(self.every));
        }
    }

    /// A member has more of a log whose writer is gone: nobody sends that by itself.
    pub(crate) fn lacks(&mut self, now: Instant, from: NodeId, mark: Watermark, every: Duration) {
        self.wants.note(mark.log, mark.version, from, now);
        self.wants.hurry(mark.log, now, every.min(self.every));
    }

    /// The link broke: what was asked may never be answered.
    pub(crate) fn unlinked(&mut self, now: Instant, peer: NodeId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.linked = false;
        }
        self.wants.retain(now, |holder| holder != peer);
        self.have.retain(|(node, _)| *node != peer);
    }

    /// A peer says something about logs. Gives the children of which something else is known now.
    ///
    /// Of the log of a member that is in, that member's own words alone count: it writes to
    /// everybody, and nobody else knows where its log ends. A third one that names a version which
    /// does not exist would have this node wait for it, or take what the member writes next for old.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        run: NodeRun,
        word: SyncWord,
        view: &View,
        registry: &mut Registry,
    ) -> BTreeSet<ChildId> {
        let from = run.node;
        let may_tell = |log: NodeRun| log == run || !view.is_live(log);
        let mut changed = BTreeSet::new();
        match word {
            SyncWord::Changes { log, .. } | SyncWord::Snapshot { log, .. } if !may_tell(log) => {}
            SyncWord::Changes { log, from: after, upto, entries } => {
                registry.told_by(run, log, upto);
                let applied = registry.apply_changes(log, after, upto, entries);
                changed = self.applied(now, from, log, upto, applied, registry);
            }
            SyncWord::Snapshot { log, upto, entries, more } => {
                registry.told_by(run, log, upto);
                let applied = match log == run {
                    true => registry.apply_snapshot(log, upto, entries, more),
                    false => registry.apply_passed_on(log, upto, entries),
                };
                changed = self.applied(now, from, log, upto, applied, registry);
            }
            SyncWord::Have { watermark: Watermark { log, version } } => {
                registry.acknowledged(log, run, version);
                self.arrived(now, from, log, version, registry);
            }
            SyncWord::Ask { log, from: after } => {
                // What the run before this one had is lost.
                if let Some(peer) = self.peers.get_mut(&from)
                    && peer.run.is_some_and(|known| known != run)
                {
                    *peer = Peer::new(now, peer.linked);
                }
                self.begin_again(now, from, log, after, registry);
            }
            SyncWord::Digest { watermarks } => {
                self.compare(now, run, &watermarks, may_tell, registry)
            }
            SyncWord::In { .. } | SyncWord::Doubt { .. } | SyncWord::Recalled { .. } => {}
        }
        self.pursue(now, registry);
        changed
    }

    fn applied(
        &mut self,
        now: Instant,
        from: NodeId,
        log: NodeRun,
        upto: u64,
        applied: Applied,
        registry: &Registry,
    ) -> BTreeSet<ChildId> {
        if applied.gap.is_some() {
            self.wants.note(log, upto, from, now);
        } else if log != registry.me() {
            self.have.insert((from, log));
            // The log's own node wants to know too, whoever passed it on.
            self.have.insert((log.node, log));
            self.wants.came(now, log, from, registry.watermark(log));
        }
        applied.changed
    }

    fn tell(&mut self, now: Instant, to: NodeId, registry: &Registry) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.told = Some(now);
        }
        self.out.push_back((to, SyncWord::Digest { watermarks: registry.watermarks() }));
    }

    /// A peer says up to where it has each log.
    fn compare(
        &mut self,
        now: Instant,
        run: NodeRun,
        theirs: &[Watermark],
        may_tell: impl Fn(NodeRun) -> bool,
        registry: &mut Registry,
    ) {
        let (me, from) = (registry.me(), run.node);
        let theirs: BTreeMap<NodeRun, u64> = theirs
            .iter()
            .take(MOST_NAMED)
            .map(|watermark| (watermark.log, watermark.version))
            .collect();
        let peer = self.peers.entry(from).or_insert_with(|| Peer::new(now, false));
        let first = peer.run.is_none();
        if peer.run != Some(run) && !first {
            // It is another run than before, and knows nothing that the last one was told.
            *peer = Peer::new(now, peer.linked);
        }
        peer.run = Some(run);
        let told = peer.told;
        let is_new = now.saturating_duration_since(peer.since) < self.every;
        for (log, version) in &theirs {
            registry.acknowledged(*log, run, *version);
            if *log == me || *version <= registry.watermark(*log) || !may_tell(*log) {
                continue;
            }
            // A writer gives its own log to who has told it what it has.
            let writer = self.peers.get(&log.node);
            let writes = writer.is_some_and(|it| it.run.map_or(it.linked, |run| run == *log));
            let patience = match log.node == from {
                true if is_new => self.every,
                true => Duration::ZERO,
                false if writes => self.every / 2,
                false => Duration::ZERO,
            };
            self.wants.note(*log, *version, from, now + patience);
        }
        let known = theirs.get(&me).copied().unwrap_or(0);
        registry.acknowledged(me, run, known);
        let on_its_way =
            self.peers.get(&from).and_then(|peer| peer.flows.get(&me)).is_some_and(|flow| {
                flow.sent > known && now.saturating_duration_since(flow.at) < self.every
            });
        if !on_its_way {
            self.begin_again(now, from, me, known.min(registry.version()), registry);
        }
        let lacks = |watermark: &Watermark| {
            let Watermark { log, version } = *watermark;
            log != me && log.node != from && theirs.get(&log).is_none_or(|known| *known < version)
        };
        let is_behind = registry.watermarks().iter().any(lacks);
        let lately = told.is_some_and(|told| now.saturating_duration_since(told) < self.every / 2);
        if told.is_none() || (is_behind && (first || !lately)) {
            self.tell(now, from, registry);
        }
    }

    /// Asks for what has not come by itself.
    fn pursue(&mut self, now: Instant, registry: &Registry) {
        while let Some(Ask { holder, log, from }) =
            self.wants.next_due(now, |log| registry.watermark(log))
        {
            self.out.push_back((holder, SyncWord::Ask { log, from }));
        }
    }

    /// Sends a log to a peer that says that it has it up to `after`: now, or when it was not sent
    /// to it for a while.
    fn begin_again(
        &mut self,
        now: Instant,
        to: NodeId,
        log: NodeRun,
        after: u64,
        registry: &Registry,
    ) {
        let here = registry.watermark(log);
        let is_behind = after < here;
        // Of the own log something may follow; of another's there is nothing to be kept.
        let is_with_it = after == here && log == registry.me();
        if self.peers.contains_key(&to)
            && (is_with_it || is_behind && self.repeats.may(now, to, log, after))
        {
            self.begin(now, to, log, after, registry);
        }
    }

    /// Sends a log to a peer that has it up to `after`.
    fn begin(&mut self, now: Instant, to: NodeId, log: NodeRun, after: u64, registry: &Registry) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let parts = VecDeque::new();
        let flow = Flow { sent: after, passed: None, parts, in_flight: 0, at: now };
        peer.flows.insert(log, flow);
        self.push(now, to, log, registry);
    }

    /// A peer has a log up to here: what was sent has arrived, and more may follow.
    fn arrived(
        &mut self,
        now: Instant,
        from: NodeId,
        log: NodeRun,
        version: u64,
        registry: &Registry,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(flow) = peer.flows.get_mut(&log) else {
            return;
        };
        flow.arrived(version);
        // It may have had more than it was sent since it asked.
        flow.sent = flow.sent.max(version.min(registry.watermark(log)));
        if log != registry.me() && version >= flow.sent && flow.sent >= registry.watermark(log) {
            peer.flows.remove(&log);
        } else {
            self.push(now, from, log, registry);
        }
    }

    fn push(&mut self, now: Instant, to: NodeId, log: NodeRun, registry: &Registry) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let Some(flow) = peer.flows.get_mut(&log) else { return };
        let floor = Some(registry.floor(log));
        while flow.in_flight < self.window {
            let part = registry.part(log, flow.sent, flow.passed == floor, self.window, peer.run);
            let Some(Part { word, upto, size }) = part else {
                return;
            };
            flow.parts.push_back((upto, size));
            (flow.sent, flow.passed, flow.at) = (upto, floor, now);
            flow.in_flight += size;
            self.out.push_back((to, word));
        }
    }

    /// Greets new peers, asks for what has not come, and sends a digest to one of the peers when it
    /// is time. `peers` are the other members, in order.
    pub(crate) fn tick(&mut self, now: Instant, peers: &[NodeId], registry: &Registry) {
        if self.members != peers {
            self.members = peers.to_vec();
            self.peers.retain(|node, _| peers.binary_search(node).is_ok());
            self.wants.retain(now, |holder| peers.binary_search(&holder).is_ok());
            self.repeats.retain(|node| peers.binary_search(&node).is_ok());
            for peer in peers {
                if !self.peers.contains_key(peer) {
                    self.peers.insert(*peer, Peer::new(now, false));
                    self.tell(now, *peer, registry);
                }
            }
        }
        while let Some((to, log, after)) = self.repeats.next_due(now) {
            self.begin_again(now, to, log, after, registry);
        }
        self.pursue(now, registry);
        if peers.is_empty() {
            self.due = None;
            return;
        }
        if now < *self.due.get_or_insert(now + self.every) {
            return;
        }
        self.due = Some(now + self.every);
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn % peers.len() as u64;
        if let Some(peer) = usize::try_from(at).ok().and_then(|at| peers.get(at)) {
            self.tell(now, *peer, registry);
        }
    }

    /// Gives what was written since the last time to all peers that have said what they have.
    pub(crate) fn publish(&mut self, now: Instant, peers: &[NodeId], registry: &Registry) {
        // Whoever lags behind for another reason is gone on with when it says what it has.
        if self.published != registry.version() {
            self.published = registry.version();
            for peer in peers {
                self.push(now, *peer, registry.me(), registry);
            }
        }
        for (node, log) in std::mem::take(&mut self.have) {
            if peers.binary_search(&node).is_ok() {
                let watermark = Watermark { log, version: registry.watermark(log) };
                self.out.push_back((node, SyncWord::Have { watermark }));
            }
        }
    }

    /// Up to where this node's own log was sent to a peer. What is said to it from now on comes after
    /// that.
    pub(crate) fn sent(&self, to: NodeId, me: NodeRun) -> u64 {
        let flow = self.peers.get(&to).and_then(|peer| peer.flows.get(&me));
        flow.map_or(0, |flow| flow.sent)
    }

    /// The next word for a peer.
    pub(crate) fn next_output(&mut self) -> Option<(NodeId, SyncWord)> {
        self.out.pop_front()
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.due, self.wants.deadline(), self.repeats.deadline()];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::registry::tests::owned, *};
    use crate::model::{
        child::{Entry, Epoch},
        id::{Incarnation, NodeName},
        member::{Member, MemberState},
    };

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn child(n: u8) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    struct Node {
        registry: Registry,
        sync: Sync,
        /// Who is in; nobody, unless a test says so.
        view: View,
    }

    fn node(n: u8) -> Node {
        let registry = Registry::new(run(n));
        Node { registry, sync: Sync::new(Duration::from_secs(5), 0), view: View::default() }
    }

    impl Node {
        fn write(&mut self, n: u8) {
            let epoch = Epoch { term: 1, attempt: 0 };
            self.registry.write(child(n), Entry::Removed { epoch });
        }

        fn words(&mut self, peers: &[NodeId]) -> Vec<(NodeId, SyncWord)> {
            self.sync.publish(Instant::now(), peers, &self.registry);
            std::iter::from_fn(|| self.sync.next_output()).collect()
        }

        fn hear(&mut self, from: u8, word: SyncWord) -> BTreeSet<ChildId> {
            self.hear_at(Instant::now(), from, word)
        }

        fn hear_at(&mut self, now: Instant, from: u8, word: SyncWord) -> BTreeSet<ChildId> {
            self.sync.handle(now, run(from), word, &self.view, &mut self.registry)
        }

        /// How many entries it gives away now.
        fn entries(&mut self, now: Instant, peers: &[NodeId]) -> usize {
            self.sync.tick(now, peers, &self.registry);
            self.sync.publish(now, peers, &self.registry);
            let words = std::iter::from_fn(|| self.sync.next_output());
            words
                .map(|(_, word)| match word {
                    SyncWord::Changes { entries, .. } | SyncWord::Snapshot { entries, .. } => {
                        entries.len()
                    }
                    _ => 0,
                })
                .sum()
        }
    }

    /// A peer of this number says that it has nothing.
    fn greet(node: &mut Node, n: u8) {
        let watermarks = vec![Watermark { log: run(n), version: 0 }];
        node.hear(n, SyncWord::Digest { watermarks });
        while node.sync.next_output().is_some() {}
    }

    #[test]
    fn a_change_goes_to_all_peers_once_and_is_acknowledged() {
        let (mut a, mut b) = (node(1), node(2));
        greet(&mut a, 2);
        greet(&mut a, 3);
        a.write(0);
        let peers = [run(2).node, run(3).node];
        let words = a.words(&peers);
        assert_eq!(words.len(), 2);
        assert!(a.words(&peers).is_empty());
        assert_eq!(b.hear(1, words[0].1.clone()), BTreeSet::from([child(0)]));
        let answer = b.words(&[run(1).node]);
        let watermark = Watermark { log: run(1), version: 1 };
        assert_eq!(answer, [(run(1).node, SyncWord::Have { watermark })]);
        a.hear(2, answer[0].1.clone());
        assert_eq!(a.registry.acked(run(2).node, run(1)), 1);
    }

    #[test]
    fn what_was_lost_is_asked_for_and_given() {
        let (mut a, mut b) = (node(1), node(2));
        greet(&mut a, 2);
        let peer = [run(2).node];
        a.write(0);
        drop(a.words(&peer));
        a.write(1);
        let late = a.words(&peer);
        assert!(b.hear(1, late[0].1.clone()).is_empty());
        let asked = b.words(&[run(1).node]);
        assert_eq!(asked, [(run(1).node, SyncWord::Ask { log: run(1), from: 0 })]);
        a.hear(2, asked[0].1.clone());
        let given = a.words(&peer);
        assert_eq!(b.hear(1, given[0].1.clone()).len(), 2);
    }

    /// Node 1 with a log of many windows, node 2 that has nothing of it, and the members.
    fn large() -> (Node, [NodeId; 1], Instant) {
        let (mut a, now) = (node(1), Instant::now());
        for n in 0..100_000 {
            let epoch = Epoch { term: 1, attempt: 0 };
            let child = ChildId::new(format!("child-{n}")).expect("a valid id");
            a.registry.write(child, Entry::Removed { epoch });
        }
        let peers = [run(2).node];
        a.sync.reached(now, peers[0], &a.registry);
        (a, peers, now)
    }

    #[test]
    fn each_part_that_has_arrived_makes_room_for_another() {
        let (mut a, peers, now) = large();
        let window = a.entries(now, &peers);
        let part = a.registry.part(run(1), 0, false, WINDOW, None).expect("there is one");
        let have = |version| SyncWord::Have { watermark: Watermark { log: run(1), version } };
        a.hear_at(now, 2, have(part.upto - 1));
        assert_eq!(a.entries(now, &peers), 0, "nothing has arrived as a whole");
        a.hear_at(now, 2, have(part.upto));
        let more = a.entries(now, &peers);
        assert!(more > 0 && more < window / 2, "{more} of {window} entries");
        assert_eq!(a.sync.sent(run(2).node, run(1)), (window + more) as u64);
        a.hear_at(now, 2, have((window + more) as u64));
        assert!(a.entries(now, &peers) >= window - more, "all has arrived");
    }

    #[test]
    fn a_flood_of_questions_for_a_log_gets_one_window_of_it_in_each_interval() {
        let (mut a, peers, now) = large();
        let window = a.entries(now, &peers);
        assert!((1_000..50_000).contains(&window), "{window} entries in a window");
        let mut given = 0;
        for ms in 0..1_000 {
            let now = now + Duration::from_millis(ms);
            for n in 0..100 {
                let watermarks = vec![Watermark { log: run(2), version: 0 }];
                let other = NodeRun { nonce: ms * 100 + n, ..run(2) };
                let lie = vec![Watermark { log: other, version: 0 }];
                for word in [
                    SyncWord::Ask { log: run(1), from: n },
                    SyncWord::Digest { watermarks },
                    SyncWord::Digest { watermarks: lie },
                ] {
                    a.hear_at(now, 2, word);
                }
            }
            given += a.entries(now, &peers);
            assert!(given <= 5 * window, "{given} entries in {ms} ms");
        }
        assert!(given >= 4 * window, "the answers still come");
    }

    #[test]
    fn the_latest_question_is_answered_when_the_interval_is_over() {
        let (mut a, peers, now) = large();
        for after in [7, 50_000, 90_000] {
            let word = SyncWord::Ask { log: run(1), from: after };
            a.hear_at(now, 2, word);
        }
        a.entries(now, &peers);
        assert_eq!(a.sync.deadline(), Some(now + AGAIN));
        a.sync.tick(now + AGAIN, &peers, &a.registry);
        let next = a.sync.next_output().expect("an answer");
        assert!(matches!(next.1, SyncWord::Changes { from: 90_000, .. }), "{next:?}");
    }

    #[test]
    fn questions_for_logs_that_are_not_here_leave_nothing() {
        let (mut a, peers, now) = (node(1), [run(2).node], Instant::now());
        a.sync.reached(now, peers[0], &a.registry);
        for nonce in 0..1_000 {
            let log = NodeRun { nonce, ..run(3) };
            let word = SyncWord::Ask { log, from: 0 };
            a.hear_at(now, 2, word);
        }
        assert_eq!(a.sync.peers[&peers[0]].flows.len(), 1, "its own log");
        assert_eq!(a.sync.repeats.deadline(), None);
    }

    #[test]
    fn a_digest_brings_logs_of_third_nodes_along() {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        greet(&mut c, 1);
        c.write(7);
        let words = c.words(&[run(1).node]);
        a.hear(3, words[0].1.clone());
        b.sync.reached(Instant::now(), run(1).node, &b.registry);
        let digest = b.words(&[]);
        a.hear(2, digest[0].1.clone());
        let digest = a.words(&[]);
        b.hear(1, digest[0].1.clone());
        let asked = b.words(&[]);
        assert_eq!(asked, [(run(1).node, SyncWord::Ask { log: run(3), from: 0 })]);
        a.hear(2, asked[0].1.clone());
        let given = a.words(&[]);
        assert_eq!(b.hear(1, given[0].1.clone()), BTreeSet::from([child(7)]));
    }

    /// The log in which the child stands higher may be lost with its writer and with who has told of this
    /// one, before it comes.
    #[test]
    fn who_has_a_log_knows_every_child_of_which_it_speaks() {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        greet(&mut a, 3);
        a.registry.write(child(7), owned(7, 1));
        b.registry.write(child(7), owned(7, 2));
        a.hear(2, registry_word(&b));
        for (to, word) in a.words(&[run(2).node, run(3).node]) {
            if to == run(3).node {
                c.hear(1, word);
            }
        }
        assert_eq!(c.registry.watermark(run(1)), a.registry.version());
        assert_eq!(c.registry.watermark(run(2)), 0);
        assert!(c.registry.best(&child(7)).is_some());
    }

    #[test]
    fn of_a_members_log_nobody_else_says_anything() {
        let mut a = node(1);
        let member = Member {
            id: run(3).node,
            incarnation: Incarnation { started: 1, nonce: run(3).nonce },
            name: NodeName::new("node-3").expect("a plain word"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        };
        a.view.members.insert(member.id, member);
        greet(&mut a, 2);
        greet(&mut a, 3);
        let (log, upto) = (run(3), 1 << 62);
        let entries = Vec::new();
        let digest = vec![Watermark { log: run(2), version: 0 }, Watermark { log, version: upto }];
        for word in [
            SyncWord::Changes { log, from: 0, upto, entries: entries.clone() },
            SyncWord::Changes { log, from: 9, upto, entries: entries.clone() },
            SyncWord::Snapshot { log, upto, entries, more: true },
            SyncWord::Digest { watermarks: digest },
        ] {
            a.hear(2, word);
        }
        assert_eq!(a.registry.watermark(log), 0);
        assert_eq!(a.words(&[run(2).node, run(3).node]), [], "it asks nobody");
        let mut c = node(3);
        c.write(7);
        let word = registry_word(&c);
        assert_eq!(a.hear(3, word).len(), 1);
        // Of who is not in everybody may tell.
        a.view = View::default();
        c.write(8);
        assert_eq!(a.hear(2, registry_word(&c)).len(), 1);
    }

    #[test]
    fn what_a_third_one_says_of_a_log_whose_writer_is_gone_takes_nothing_away() {
        let (mut a, mut c) = (node(1), node(3));
        c.write(7);
        a.hear(3, registry_word(&c));
        let snapshot =
            |upto| SyncWord::Snapshot { log: run(3), upto, entries: Vec::new(), more: false };
        assert_eq!(a.hear(2, snapshot(9)), BTreeSet::new());
        assert!(a.registry.best(&child(7)).is_some());
        assert_eq!(a.registry.watermark(run(3)), 9);
        assert_eq!(a.hear(3, snapshot(10)), BTreeSet::from([child(7)]), "it has it no more");
    }

    /// All that a node has written.
    fn registry_word(node: &Node) -> SyncWord {
        node.registry.part(node.registry.me(), 0, false, WINDOW, None).expect("it has written").word
    }

    #[test]
    fn digests_take_turns_and_are_not_sent_before_their_time() {
        let mut a = node(1);
        let peers = [run(2).node, run(3).node];
        let now = Instant::now();
        a.sync.tick(now, &peers, &a.registry);
        assert_eq!(a.words(&peers).len(), 2, "new peers are greeted");
        a.sync.tick(now + Duration::from_secs(1), &peers, &a.registry);
        assert!(a.words(&peers).is_empty());
        let mut told = BTreeSet::new();
        for n in 1..3 {
            a.sync.tick(now + Duration::from_secs(6 * n), &peers, &a.registry);
            told.extend(a.words(&peers).into_iter().map(|(to, _)| to));
        }
        assert_eq!(told, BTreeSet::from(peers));
    }
}
