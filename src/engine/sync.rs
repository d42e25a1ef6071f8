//! How logs travel: each change goes to all peers at once, and a digest of watermarks, now and
//! then, finds what was lost on the way.
//!
//! This is the *PubSub* strategy. A digest has one watermark for each log, so that idle traffic
//! does not grow with the number of children.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::registry::{Applied, Registry};
use crate::model::{
    id::{ChildId, NodeId, NodeRun},
    message::{SyncWord, Watermark},
};

/// How logs travel between this node and its peers.
#[derive(Debug)]
pub(crate) struct Sync {
    every: Duration,
    due: Option<Instant>,
    /// Which peer gets the next digest.
    turn: u64,
    /// Up to which version the own log was given to all.
    published: u64,
    /// Logs that were asked for, and when, so that one hole is asked for once.
    asked: BTreeMap<(NodeId, NodeRun), Instant>,
    /// What is to be told to whom about what this node has, when the batch is through.
    have: BTreeSet<(NodeId, NodeRun)>,
    out: VecDeque<(NodeId, SyncWord)>,
}

impl Sync {
    /// Digests go out once in `every`, to one peer after the other; `seed` says with whom it begins.
    pub(crate) fn new(every: Duration, seed: u64) -> Self {
        Self {
            every,
            due: None,
            turn: seed % 1_000,
            published: 0,
            asked: BTreeMap::new(),
            have: BTreeSet::new(),
            out: VecDeque::new(),
        }
    }

    fn digest(&mut self, to: NodeId, registry: &Registry) {
        let watermarks = registry.watermarks();
        self.out.push_back((to, SyncWord::Digest { watermarks }));
    }

    /// A link stands: each side tells what it has.
    pub(crate) fn linked(&mut self, _now: Instant, peer: NodeId, registry: &Registry) {
        self.digest(peer, registry);
    }

    /// The link broke: what was asked may never be answered.
    pub(crate) fn unlinked(&mut self, peer: NodeId) {
        self.asked.retain(|(node, _), _| *node != peer);
        self.have.retain(|(node, _)| *node != peer);
    }

    /// A peer says something about logs. Gives the children of which something else is known now.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: NodeId,
        word: SyncWord,
        registry: &mut Registry,
    ) -> BTreeSet<ChildId> {
        match word {
            SyncWord::Changes { log, from: after, upto, entries } => {
                let applied = registry.apply_changes(log, after, upto, entries);
                self.applied(now, from, log, applied)
            }
            SyncWord::Snapshot { log, upto, entries, more } => {
                let applied = registry.apply_snapshot(log, upto, entries, more);
                self.applied(now, from, log, applied)
            }
            SyncWord::Have { watermark } => {
                registry.acknowledged(watermark.log, from, watermark.version);
                BTreeSet::new()
            }
            SyncWord::Ask { log, from: after } => {
                self.give(from, log, after, registry);
                BTreeSet::new()
            }
            SyncWord::Digest { watermarks } => {
                self.compare(now, from, &watermarks, registry);
                BTreeSet::new()
            }
            SyncWord::In { .. } => BTreeSet::new(),
        }
    }

    fn applied(
        &mut self,
        now: Instant,
        from: NodeId,
        log: NodeRun,
        applied: Applied,
    ) -> BTreeSet<ChildId> {
        if let Some(gap) = applied.gap {
            self.ask(now, from, gap);
        } else {
            self.asked.remove(&(from, log));
            self.have.insert((from, log));
            // The log's own node wants to know too, whoever passed it on.
            self.have.insert((log.node, log));
        }
        applied.changed
    }

    fn ask(&mut self, now: Instant, from: NodeId, gap: Watermark) {
        let asked = self.asked.get(&(from, gap.log));
        if asked.is_some_and(|at| now.saturating_duration_since(*at) < self.every) {
            return;
        }
        self.asked.insert((from, gap.log), now);
        self.out.push_back((from, SyncWord::Ask { log: gap.log, from: gap.version }));
    }

    fn give(&mut self, to: NodeId, log: NodeRun, after: u64, registry: &Registry) {
        self.out.extend(registry.since(log, after).into_iter().map(|word| (to, word)));
    }

    fn compare(
        &mut self,
        now: Instant,
        from: NodeId,
        theirs: &[Watermark],
        registry: &mut Registry,
    ) {
        let theirs: BTreeMap<NodeRun, u64> =
            theirs.iter().map(|watermark| (watermark.log, watermark.version)).collect();
        for (log, version) in &theirs {
            registry.acknowledged(*log, from, *version);
            let known = registry.watermark(*log);
            if *version > known && *log != registry.me() {
                self.ask(now, from, Watermark { log: *log, version: known });
            }
        }
        for Watermark { log, version } in registry.watermarks() {
            let known = theirs.get(&log).copied().unwrap_or(0);
            if known < version {
                self.give(from, log, known, registry);
            }
        }
    }

    /// Sends a digest to one of the peers when it is time.
    pub(crate) fn tick(&mut self, now: Instant, peers: &[NodeId], registry: &Registry) {
        let due = *self.due.get_or_insert(now + self.every);
        if now < due {
            return;
        }
        self.due = Some(now + self.every);
        if peers.is_empty() {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn % peers.len() as u64;
        if let Some(peer) = usize::try_from(at).ok().and_then(|at| peers.get(at)) {
            self.digest(*peer, registry);
        }
    }

    /// Gives what was written since the last time to all peers.
    pub(crate) fn publish(&mut self, peers: &[NodeId], registry: &mut Registry) {
        let version = registry.version();
        if version > self.published {
            let words = registry.since(registry.me(), self.published);
            for peer in peers {
                self.out.extend(words.iter().map(|word| (*peer, word.clone())));
            }
            self.published = version;
        }
        let me = registry.me().node;
        for (node, log) in std::mem::take(&mut self.have) {
            if node != me && peers.contains(&node) {
                let watermark = Watermark { log, version: registry.watermark(log) };
                self.out.push_back((node, SyncWord::Have { watermark }));
            }
        }
    }

    /// The next word for a peer.
    pub(crate) fn next_output(&mut self) -> Option<(NodeId, SyncWord)> {
        self.out.pop_front()
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::child::{Entry, Epoch};

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn child(n: u8) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    struct Node {
        registry: Registry,
        sync: Sync,
    }

    fn node(n: u8) -> Node {
        let registry = Registry::new(run(n));
        Node { registry, sync: Sync::new(Duration::from_secs(5), 0) }
    }

    impl Node {
        fn write(&mut self, n: u8) {
            let epoch = Epoch { term: 1, attempt: 0 };
            self.registry.write(child(n), Entry::Removed { epoch });
        }

        fn words(&mut self, peers: &[NodeId]) -> Vec<(NodeId, SyncWord)> {
            self.sync.publish(peers, &mut self.registry);
            std::iter::from_fn(|| self.sync.next_output()).collect()
        }

        fn hear(&mut self, from: u8, word: SyncWord) -> BTreeSet<ChildId> {
            self.sync.handle(Instant::now(), run(from).node, word, &mut self.registry)
        }
    }

    #[test]
    fn a_change_goes_to_all_peers_once_and_is_acknowledged() {
        let (mut a, mut b) = (node(1), node(2));
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

    #[test]
    fn a_digest_brings_logs_of_third_nodes_along() {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        c.write(7);
        let words = c.words(&[run(1).node]);
        a.hear(3, words[0].1.clone());
        b.sync.linked(Instant::now(), run(1).node, &b.registry);
        let digest = b.words(&[]);
        a.hear(2, digest[0].1.clone());
        let given = a.words(&[]);
        assert_eq!(b.hear(1, given[0].1.clone()), BTreeSet::from([child(7)]));
    }

    #[test]
    fn digests_take_turns_and_are_not_sent_before_their_time() {
        let mut a = node(1);
        let peers = [run(2).node, run(3).node];
        let now = Instant::now();
        a.sync.tick(now, &peers, &a.registry);
        assert!(a.words(&peers).is_empty());
        let mut told = BTreeSet::new();
        for n in 1..3 {
            a.sync.tick(now + Duration::from_secs(6 * n), &peers, &a.registry);
            told.extend(a.words(&peers).into_iter().map(|(to, _)| to));
        }
        assert_eq!(told, BTreeSet::from(peers));
    }
}
