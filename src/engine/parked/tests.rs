//! The machine of parked states, as its users see it.

use super::{copies::AT_ONCE, store::SHARE, *};
use crate::model::{
    child::Epoch,
    id::{ChildId, Incarnation, KindName, NodeName},
    member::{Member, View},
};

const KEEP: Duration = Duration::from_secs(100);
const LIMIT: u64 = 1_000;

pub(super) fn run(n: u8) -> NodeRun {
    NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
}

pub(super) fn info(n: usize) -> ParkedInfo {
    let child = ChildId::new(format!("c{n}")).expect("a valid id");
    ParkedInfo {
        key: ParkedKey { child, run: run(200), epoch: Epoch { term: 1, attempt: 0 } },
        kind: KindName::new("k").expect("a valid name"),
        state_version: 1,
        at: 0,
        reason: "why".to_owned(),
    }
}

pub(super) fn key(n: usize) -> ParkedKey {
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
            labels: Default::default(),
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
    let Output::Order(ParkedOrder::Send { to, .. }) = &outputs[3] else { panic!("{outputs:?}") };
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
    assert_eq!(node.outputs(), [order(ParkedOrder::Refuse { key: key(0), from }), say(1, have)]);
    node.leaving = true;
    node.copy(1, 1, 10);
    let word = ParkedWord::NoRoom { key: key(1) };
    assert_eq!(node.outputs(), [order(ParkedOrder::Refuse { key: key(1), from }), say(1, word)]);
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
    let is_dropped = |o: &Output| matches!(o, Output::Emit(HubEvent::ParkedStateDropped { .. }));
    assert!(!outputs.iter().any(is_dropped), "the other node has it: {outputs:?}");
    node.park(5, LIMIT / 4);
    let outputs = node.outputs();
    assert!(outputs.contains(&order(ParkedOrder::Forget { key: key(0) })), "{outputs:?}");
    assert_eq!(outputs.iter().filter(|output| is_dropped(output)).count(), 1);
    // The newest is held, however large.
    node.park(6, LIMIT * 2);
    assert_eq!(node.parked.held.keys().collect::<Vec<_>>(), [&key(6)]);
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
    assert!(node.parked.held.is_empty());
}

#[test]
fn who_says_that_it_holds_more_than_anybody_may_is_told_of() {
    let mut node = Node::new(1, &[1, 2]);
    for n in 0..MOST_PARKED + 1 {
        node.has(2, n);
    }
    assert_eq!(node.outputs(), [Output::TooMany { node: run(2).node }]);
    node.members(&[(1, MemberState::Alive)]);
    assert_eq!(node.parked.holders(&key(0)).count(), 0, "it goes with its member");
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
    let is_dropped = |o: &Output| matches!(o, Output::Emit(HubEvent::ParkedStateDropped { .. }));
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
