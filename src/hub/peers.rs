//! How each peer is reached: over its link, by a member between, or not at all; and how its lanes
//! come here.
//!
//! The two sides are apart. Whose lanes use a path chooses it: this node for its own, the peer for
//! its lanes here, and each answers where the other's lanes come from. So both need not see a broken
//! link at once, and may go by different members.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    exchange::{Exchange, Way},
    peer_lanes::PeerLanes,
    writes::Writes,
};
use crate::{delivery::Side, model::id::NodeRun};

/// How often a peer's lanes may come by another path: so many times at once, and one more each
/// [`ONE_MORE`]. All doors hear of each.
const CHANGES: u32 = 100;
const ONE_MORE: Duration = Duration::from_millis(100);

/// A peer's lanes come by another path too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its lanes come by another path too often")]
pub(crate) struct TooOften;

struct Peer<C> {
    linked: bool,
    /// The member by which the engine wants its messages to go. The link is not used meanwhile.
    detour: Option<NodeRun>,
    calls: Option<Arc<Exchange<C>>>,
    answers: Option<Arc<Exchange<C>>>,
}

impl<C> Default for Peer<C> {
    fn default() -> Self {
        Self { linked: false, detour: None, calls: None, answers: None }
    }
}

impl<C> Peer<C> {
    fn of(&mut self, side: Side) -> &mut Option<Arc<Exchange<C>>> {
        match side {
            Side::Calls => &mut self.calls,
            Side::Answers => &mut self.answers,
        }
    }

    fn is_unknown(&self) -> bool {
        !self.linked && self.detour.is_none() && self.calls.is_none() && self.answers.is_none()
    }
}

/// One side of a peer has another exchange.
pub(crate) struct Change<C> {
    pub(crate) old: Option<Arc<Exchange<C>>>,
    pub(crate) new: Option<Arc<Exchange<C>>>,
}

/// How each peer is reached. Numbers of this node's paths rise for ever.
pub(crate) struct Peers<C> {
    map: BTreeMap<NodeRun, Peer<C>>,
    /// The lanes of peers, by whatever path they come, and while they come by none.
    lanes: BTreeMap<NodeRun, Arc<PeerLanes<C>>>,
    numbers: u64,
    /// How many changes each peer has made lately, as of when. Kept longer than the peer.
    changes: BTreeMap<NodeRun, (u32, Instant)>,
    /// Runs that have said `Last` on the path of this node's lanes, and to which no other path was
    /// taken since: all their answers have been read.
    finished: BTreeSet<NodeRun>,
}

impl<C> Default for Peers<C> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            lanes: BTreeMap::new(),
            numbers: 0,
            changes: BTreeMap::new(),
            finished: BTreeSet::new(),
        }
    }
}

impl<C: Writes> Peers<C> {
    /// What is exchanged with this peer.
    pub(crate) fn get(&self, side: Side, run: NodeRun) -> Option<Arc<Exchange<C>>> {
        let peer = self.map.get(&run)?;
        match side {
            Side::Calls => peer.calls.clone(),
            Side::Answers => peer.answers.clone(),
        }
    }

    /// Everything that is exchanged.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = &Arc<Exchange<C>>> {
        self.map.values().flat_map(|peer| peer.calls.iter().chain(&peer.answers))
    }

    /// The lanes of all peers.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &PeerLanes<C>> {
        self.lanes.values().map(|lanes| &**lanes)
    }

    /// Whether there is a link to this run.
    pub(crate) fn is_linked(&self, run: NodeRun) -> bool {
        self.map.get(&run).is_some_and(|peer| peer.linked)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn set(
        &mut self,
        side: Side,
        run: NodeRun,
        new: Option<Arc<Exchange<C>>>,
    ) -> Option<Change<C>> {
        if side == Side::Calls && new.is_some() {
            // What is written on it is answered after what was said last on another.
            self.finished.remove(&run);
        }
        let peer = self.map.entry(run).or_default();
        let old = std::mem::replace(peer.of(side), new.clone());
        if peer.is_unknown() {
            self.map.remove(&run);
        }
        if side == Side::Answers
            && new.is_none()
            && self.lanes.get(&run).is_some_and(|lanes| lanes.is_empty())
        {
            self.lanes.remove(&run);
        }
        (old.is_some() || new.is_some()).then_some(Change { old, new })
    }

    /// A link stands. Messages go over it unless they are to take a detour; where the peer's lanes
    /// come from it says itself.
    pub(crate) fn linked(&mut self, run: NodeRun) -> Option<Change<C>> {
        // The node's last run has ended.
        self.lanes.retain(|known, _| known.node != run.node || *known == run);
        let peer = self.map.entry(run).or_default();
        if std::mem::replace(&mut peer.linked, true) || peer.detour.is_some() {
            return None;
        }
        let number = self.number();
        self.set(Side::Calls, run, Some(Exchange::calls(run, number, Way::Link)))
    }

    /// The link broke. Paths by that member are another matter.
    pub(crate) fn unlinked(&mut self, run: NodeRun) -> Vec<Change<C>> {
        let Some(peer) = self.map.get_mut(&run) else { return Vec::new() };
        peer.linked = false;
        let over = |exchange: &Option<Arc<Exchange<C>>>| {
            exchange.as_ref().is_some_and(|exchange| exchange.way == Way::Link)
        };
        let (calls, answers) = (over(&peer.calls), over(&peer.answers));
        let calls = calls.then(|| self.set(Side::Calls, run, None)).flatten();
        let answers = answers.then(|| self.set(Side::Answers, run, None)).flatten();
        if self.map.get(&run).is_some_and(Peer::is_unknown) {
            self.map.remove(&run);
        }
        calls.into_iter().chain(answers).collect()
    }

    /// Messages for this run are to go by that member, or over its link, if there is one. `Err`: that
    /// member has no link to this node, and messages go nowhere until another is named.
    pub(crate) fn detour(
        &mut self,
        run: NodeRun,
        by: Option<NodeRun>,
    ) -> (Option<Change<C>>, Result<(), NodeRun>) {
        let peer = self.map.entry(run).or_default();
        let (linked, before) = (peer.linked, std::mem::replace(&mut peer.detour, by));
        if before == by && (by.is_none() || peer.calls.is_some()) {
            if peer.is_unknown() {
                self.map.remove(&run);
            }
            return (None, Ok(()));
        }
        let (way, outcome) = match by {
            Some(by) if by != run && self.is_linked(by) => (Some(Way::By(by)), Ok(())),
            Some(by) => (None, Err(by)),
            None => (linked.then_some(Way::Link), Ok(())),
        };
        let number = self.number();
        let new = way.map(|way| Exchange::calls(run, number, way));
        (self.set(Side::Calls, run, new), outcome)
    }

    /// The peer's lanes come by this path from now on. `None`: it had come to another one since, or
    /// the link is no more.
    ///
    /// # Errors
    /// It does so too often.
    pub(crate) fn came(
        &mut self,
        now: Instant,
        run: NodeRun,
        number: u64,
        way: Way,
    ) -> Result<Option<Change<C>>, TooOften> {
        let known = self.map.get(&run).and_then(|peer| peer.answers.as_ref());
        let neighbour = match way {
            Way::Link => run,
            Way::By(by) => by,
        };
        if known.is_some_and(|known| known.number >= number) || !self.is_linked(neighbour) {
            return Ok(None);
        }
        self.count_change(now, run)?;
        let lanes = self.lanes.entry(run).or_default().clone();
        let exchange = Exchange::answers(run, number, way, lanes);
        Ok(self.set(Side::Answers, run, Some(exchange)))
    }

    fn count_change(&mut self, now: Instant, run: NodeRun) -> Result<(), TooOften> {
        let forgiven = |since: Instant| {
            let intervals = now.saturating_duration_since(since).as_millis() / ONE_MORE.as_millis();
            u32::try_from(intervals).unwrap_or(u32::MAX)
        };
        self.changes.retain(|_, (count, at)| forgiven(*at) < *count);
        let (count, at) = self.changes.entry(run).or_insert((0, now));
        let less = forgiven(*at);
        if less > 0 {
            (*count, *at) = (count.saturating_sub(less), *at + ONE_MORE * less);
        }
        if *count >= CHANGES {
            return Err(TooOften);
        }
        *count += 1;
        Ok(())
    }

    /// This exchange is over.
    pub(crate) fn over(&mut self, exchange: &Exchange<C>) -> Option<Change<C>> {
        let known = self.get(exchange.side, exchange.peer)?;
        (known.number == exchange.number)
            .then(|| self.set(exchange.side, exchange.peer, None))
            .flatten()
    }

    /// The peer has said on this path that it answers nothing more.
    pub(crate) fn finished(&mut self, exchange: &Exchange<C>) {
        let current = self.get(Side::Calls, exchange.peer);
        if current.is_some_and(|current| current.number == exchange.number) {
            self.finished.insert(exchange.peer);
        }
    }

    /// Whether all answers of a run that is out have been read. Asked for once.
    pub(crate) fn has_finished(&mut self, run: NodeRun) -> bool {
        self.finished.remove(&run)
    }

    /// This run is out: no detour leads there any more, and none comes from there.
    pub(crate) fn gone(&mut self, run: NodeRun) -> Vec<Change<C>> {
        self.lanes.remove(&run);
        let Some(peer) = self.map.get_mut(&run) else { return Vec::new() };
        peer.detour = None;
        let mut changes = Vec::new();
        for side in [Side::Calls, Side::Answers] {
            if let Some(exchange) = self.get(side, run).filter(|known| known.way != Way::Link) {
                changes.extend(self.over(&exchange));
            }
        }
        if self.map.get(&run).is_some_and(Peer::is_unknown) {
            self.map.remove(&run);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::model::{
        frame::DataFrame,
        id::{ChildId, LaneId, NodeId},
    };

    struct Cell(ChildId);

    impl Writes for Cell {
        fn child(&self) -> &ChildId {
            &self.0
        }

        fn write(
            self: &Arc<Self>,
            _: Instant,
            _: Side,
            _: (NodeRun, u64),
            _: usize,
            _: &mut dyn FnMut(DataFrame),
        ) -> bool {
            false
        }
    }

    fn run(node: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([node; 32]), nonce: u64::from(node) }
    }

    fn peers() -> Peers<Cell> {
        Peers::default()
    }

    type Seen = Option<(u64, Way)>;

    /// Number and way of the old and the new exchange.
    fn seen(change: Option<Change<Cell>>) -> Option<(Seen, Seen)> {
        let of = |exchange: Option<Arc<Exchange<Cell>>>| exchange.map(|one| (one.number, one.way));
        change.map(|change| (of(change.old), of(change.new)))
    }

    fn way(peers: &Peers<Cell>, side: Side, node: u8) -> Seen {
        peers.get(side, run(node)).map(|exchange| (exchange.number, exchange.way))
    }

    #[test]
    fn a_link_is_used_until_a_detour_is_wanted_and_again_after_it() {
        let mut peers = peers();
        let by = Way::By(run(3));
        assert_eq!(seen(peers.linked(run(2))), Some((None, Some((1, Way::Link)))));
        assert!(peers.linked(run(2)).is_none(), "it stands already");
        peers.linked(run(3));
        let (change, outcome) = peers.detour(run(2), Some(run(3)));
        assert_eq!(outcome, Ok(()));
        assert_eq!(seen(change), Some((Some((1, Way::Link)), Some((3, by)))));
        let (change, _) = peers.detour(run(2), Some(run(3)));
        assert!(change.is_none(), "it was said before");
        let (change, _) = peers.detour(run(2), None);
        assert_eq!(seen(change), Some((Some((3, by)), Some((4, Way::Link)))));
    }

    #[test]
    fn a_link_that_comes_back_during_a_detour_is_not_used_before_the_detour_ends() {
        let mut peers = peers();
        peers.linked(run(2));
        peers.linked(run(3));
        peers.detour(run(2), Some(run(3))).1.expect("there is a link");
        assert!(peers.unlinked(run(2)).is_empty());
        assert!(peers.linked(run(2)).is_none());
        assert_eq!(way(&peers, Side::Calls, 2), Some((3, Way::By(run(3)))));
        peers.unlinked(run(2));
        let (change, _) = peers.detour(run(2), None);
        assert_eq!(seen(change), Some((Some((3, Way::By(run(3)))), None)));
        assert_eq!(seen(peers.linked(run(2))), Some((None, Some((5, Way::Link)))));
    }

    #[test]
    fn a_detour_by_who_has_no_link_or_is_the_peer_itself_is_refused() {
        let mut peers = peers();
        peers.linked(run(2));
        for by in [run(3), run(2)] {
            let (_, outcome) = peers.detour(run(2), Some(by));
            assert_eq!(outcome, Err(by));
            assert_eq!(way(&peers, Side::Calls, 2), None, "the link was not to be used");
        }
        // It may be named again.
        peers.linked(run(3));
        assert_eq!(peers.detour(run(2), Some(run(3))).1, Ok(()));
        assert!(way(&peers, Side::Calls, 2).is_some());
    }

    #[test]
    fn a_path_that_is_over_is_not_replaced_by_the_link_on_its_own() {
        let mut peers = peers();
        peers.linked(run(2));
        peers.linked(run(3));
        peers.detour(run(2), Some(run(3))).1.expect("there is a link");
        let path = peers.get(Side::Calls, run(2)).expect("there is a path");
        assert_eq!(seen(peers.over(&path)), Some((Some((3, Way::By(run(3)))), None)));
        assert!(peers.over(&path).is_none(), "it is over already");
        assert_eq!(way(&peers, Side::Calls, 2), None);
        // The same member may be tried again.
        let (change, _) = peers.detour(run(2), Some(run(3)));
        assert_eq!(seen(change), Some((None, Some((4, Way::By(run(3)))))));
    }

    #[test]
    fn the_highest_number_of_a_peer_counts_by_whatever_way_it_came() {
        let mut peers = peers();
        peers.linked(run(2));
        peers.linked(run(3));
        let by = Way::By(run(3));
        let now = Instant::now();
        let came = |peers: &mut Peers<Cell>, number, way| {
            seen(peers.came(now, run(2), number, way).expect("not too often"))
        };
        assert_eq!(came(&mut peers, 5, by), Some((None, Some((5, by)))));
        assert_eq!(came(&mut peers, 4, Way::Link), None, "it was sent before");
        let over = Some((Some((5, by)), Some((6, Way::Link))));
        assert_eq!(came(&mut peers, 6, Way::Link), over);
        assert_eq!(came(&mut peers, 7, Way::By(run(4))), None, "there is no such link");
        // Its lanes come over the link, ours may still take a detour.
        peers.detour(run(2), Some(run(3))).1.expect("there is a link");
        let changes = peers.unlinked(run(2));
        assert_eq!(changes.len(), 1);
        assert_eq!(way(&peers, Side::Answers, 2), None);
        assert_eq!(way(&peers, Side::Calls, 2), Some((3, by)));
    }

    #[test]
    fn a_peer_that_changes_its_path_over_and_over_is_found_out() {
        let mut peers = peers();
        peers.linked(run(2));
        let mut now = Instant::now();
        let often = |peers: &mut Peers<Cell>, now, numbers: std::ops::Range<u64>| {
            numbers.take_while(|n| peers.came(now, run(2), *n, Way::Link).is_ok()).count()
        };
        assert_eq!(often(&mut peers, now, 1..500), CHANGES as usize);
        // A new link is no new beginning.
        peers.unlinked(run(2));
        peers.linked(run(2));
        now += 7 * ONE_MORE;
        assert_eq!(often(&mut peers, now, 500..600), 7);
        now += CHANGES * ONE_MORE;
        assert_eq!(often(&mut peers, now, 600..650), 50);
        now += CHANGES * ONE_MORE;
        assert_eq!(often(&mut peers, now, 650..651), 1);
        assert_eq!(peers.changes[&run(2)].0, 1);
    }

    #[test]
    fn nothing_is_kept_of_a_peer_that_is_gone() {
        let mut peers = peers();
        peers.linked(run(3));
        peers.detour(run(2), Some(run(3))).1.expect("there is a link");
        let came = peers.came(Instant::now(), run(2), 9, Way::By(run(3))).expect("not too often");
        assert!(came.is_some());
        assert_eq!(peers.gone(run(2)).len(), 2);
        assert!(!peers.map.contains_key(&run(2)));
        assert_eq!(peers.detour(run(4), None).1, Ok(()));
        peers.detour(run(5), Some(run(9))).1.expect_err("there is no link");
        peers.gone(run(5));
        peers.unlinked(run(3));
        assert!(peers.map.is_empty());
        assert!(peers.lanes.is_empty());
    }

    #[test]
    fn lanes_outlive_their_path_and_end_with_their_run() {
        let mut peers = peers();
        let now = Instant::now();
        let door = Arc::new(Cell(ChildId::new("c").expect("an id")));
        let later = NodeRun { nonce: 99, ..run(2) };
        let mut number = 0;
        let mut come = |peers: &mut Peers<Cell>, run| {
            number += 1;
            peers.linked(run);
            peers.came(now, run, number, Way::Link).expect("not too often").expect("a new path");
            peers.get(Side::Answers, run).expect("there is a path").lanes.clone()
        };
        assert!(come(&mut peers, run(2)).lead(LaneId(1), &door));
        peers.unlinked(run(2));
        assert!(come(&mut peers, run(2)).door(LaneId(1)).is_some());
        peers.unlinked(run(2));
        assert!(come(&mut peers, later).door(LaneId(1)).is_none());
        assert_eq!(peers.lanes.len(), 1, "the run before has ended");
        peers.unlinked(later);
        assert!(peers.lanes.is_empty(), "it had none");
        assert!(come(&mut peers, later).lead(LaneId(1), &door));
        peers.gone(later);
        assert!(peers.lanes.is_empty());
    }

    #[test]
    fn who_said_its_last_has_answered_until_another_path_is_taken_to_it() {
        let mut peers = peers();
        let last = |peers: &mut Peers<Cell>| {
            let path = peers.get(Side::Calls, run(2)).expect("there is a path");
            peers.finished(&path);
        };
        peers.linked(run(2));
        peers.linked(run(3));
        assert!(!peers.has_finished(run(2)));
        last(&mut peers);
        peers.unlinked(run(2));
        assert!(peers.has_finished(run(2)), "its link broke after its last word");
        peers.linked(run(2));
        let old = peers.get(Side::Calls, run(2)).expect("a link");
        last(&mut peers);
        peers.detour(run(2), Some(run(3))).1.expect("there is a link");
        assert!(!peers.has_finished(run(2)), "messages were written on the new path");
        peers.finished(&old);
        assert!(!peers.has_finished(run(2)), "it was said on a path of before");
        last(&mut peers);
        assert!(peers.has_finished(run(2)) && peers.finished.is_empty());
    }
}
