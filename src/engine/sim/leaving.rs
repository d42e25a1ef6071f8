//! Nodes that are to be emptied and cannot be, or only partly.

use super::*;
use crate::model::{child::Ownership, message::Copy, report::ChildLeft};

impl World {
    /// Until no move has been tried for a moment: one that fails gives its child another epoch.
    pub(super) fn until_quiet(&mut self) {
        let tries = |world: &Self| -> usize {
            world.nodes.iter().flat_map(|node| node.attempts.values()).map(Vec::len).sum()
        };
        for _ in 0..100 {
            let before = tries(self);
            self.run_for(Duration::from_millis(150));
            let moves = |index: &usize| self.nodes[*index].engine.moves().next().is_some();
            if tries(self) == before && !self.alive().iter().any(moves) {
                return;
            }
        }
        panic!("seed {}: moves are tried on and on", self.seed);
    }

    fn leave(&mut self, index: usize, timeout: Duration) -> RequestId {
        self.request(index, Request::Leave { timeout })
    }

    /// What came of a leave that has failed.
    fn not_left(&self, index: usize, id: RequestId) -> LeaveFailed {
        match self.nodes[index].replies.get(&id) {
            Some(Reply::Left(Err(failed))) => failed.clone(),
            reply => panic!("seed {}: {reply:?}", self.seed),
        }
    }

    /// Ends a node with all that it has: it tells the others, who hear it before its links break.
    fn force(&mut self, index: usize) {
        let nobody = self.make(index, 1).engine;
        let engine = std::mem::replace(&mut self.nodes[index].engine, nobody);
        for word in engine.farewell(self.now) {
            self.perform(index, word);
        }
        self.nodes[index].alive = false;
        self.run_for(Duration::from_millis(50));
        for other in self.alive() {
            let view = self.nodes[other].engine.view();
            let is_in = view.member(self.nodes[index].me.id).is_some();
            assert!(!is_in, "seed {}: n{other} has not heard of its end", self.seed);
        }
        self.crash(index);
    }

    fn state_of(&self, seen_by: usize, index: usize) -> MemberState {
        let view = self.nodes[seen_by].engine.view();
        view.member(self.nodes[index].me.id).expect("it is in").state
    }
}

/// Three nodes; one of them, with more than one child, has one that cannot be frozen and was left out
/// of a leave of ten seconds.
fn one_is_stuck(seed: u64) -> (World, usize, ChildId, RequestId) {
    let mut world = cluster(seed, 3, 30);
    let leaver = (0..3).find(|n| world.nodes[*n].runtime.actors.len() > 1);
    let leaver = leaver.expect("thirty children are on three nodes");
    let child = world.nodes[leaver].runtime.actors.keys().next().expect("it has some").clone();
    world.stuck.insert(child.clone());
    let id = world.leave(leaver, 10 * SECOND);
    world.run_for(11 * SECOND);
    (world, leaver, child, id)
}

#[test]
fn what_is_out_stays_out_when_a_leave_ends_at_its_deadline() {
    for seed in seeds(20) {
        let (mut world, leaver, child, id) = one_is_stuck(seed);
        let LeaveFailed::Timeout { children: 1, left, waits_for: None } =
            world.not_left(leaver, id)
        else {
            panic!("seed {seed}: {:?}", world.not_left(leaver, id));
        };
        let [ChildLeft { child: named, reason }] = &left[..] else {
            panic!("seed {seed}: {left:?}");
        };
        assert_eq!(*named, child, "seed {seed}");
        assert!(reason.contains("not resolved within retention"), "seed {seed}: {reason}");
        assert_eq!(world.nodes[leaver].stayed, 1, "seed {seed}");
        // It goes on as one that leaves, in all views, whatever comes.
        for _ in 0..3 {
            world.start(leaver, 30..60);
            world.run_for(5 * SECOND);
            for index in 0..3 {
                assert_eq!(world.state_of(index, leaver), MemberState::Leaving, "seed {seed}");
            }
            let here: Vec<&ChildId> = world.nodes[leaver].runtime.actors.keys().collect();
            assert_eq!(here, [&child], "seed {seed}");
        }
        world.until_quiet();
        world.check_end(true);
        // Only what was left is lost with it.
        world.crash(leaver);
        world.acked.remove(&child);
        world.run_for(8 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_child_that_can_go_at_last_goes_and_the_node_leaves_when_it_is_asked_again() {
    for seed in seeds(20) {
        let (mut world, leaver, child, _) = one_is_stuck(seed);
        let tries = world.nodes[leaver].attempts[&child].len();
        assert!(tries < 12, "seed {seed}: {tries} freezes");
        // Nobody waits: it does not go by itself, also when nothing is left.
        let by_itself = seed % 2 == 0;
        if by_itself {
            world.stuck.clear();
            world.run_for(60 * SECOND);
            assert!(world.nodes[leaver].runtime.actors.is_empty(), "seed {seed}: it is left");
            assert!(!world.nodes[leaver].left, "seed {seed}: nobody has asked");
            assert_eq!(world.nodes[leaver].stayed, 1, "seed {seed}");
        }
        let again = world.leave(leaver, 10 * SECOND);
        // What rests is tried at once.
        world.stuck.clear();
        world.run_for(2 * SECOND);
        let reply = &world.nodes[leaver].replies[&again];
        assert!(matches!(reply, Reply::Left(Ok(()))), "seed {seed}: {reply:?}");
        world.check_end(true);
    }
}

#[test]
fn each_request_to_leave_has_a_deadline_of_its_own() {
    for seed in seeds(5) {
        let (mut world, leaver, ..) = one_is_stuck(seed);
        let short = world.leave(leaver, SECOND);
        let long = world.leave(leaver, 20 * SECOND);
        world.run_for(2 * SECOND);
        world.not_left(leaver, short);
        assert!(!world.nodes[leaver].replies.contains_key(&long), "seed {seed}");
        world.stuck.clear();
        world.run_for(15 * SECOND);
        assert!(matches!(world.nodes[leaver].replies[&long], Reply::Left(Ok(()))), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_node_that_is_told_to_stay_takes_children_again() {
    for seed in seeds(20) {
        let (mut world, leaver, ..) = one_is_stuck(seed);
        let waiting = world.leave(leaver, 20 * SECOND);
        world.run_for(SECOND);
        let stay = world.request(leaver, Request::Stay);
        world.run_for(5 * SECOND);
        assert_eq!(world.nodes[leaver].replies[&stay], Reply::Stays(true), "seed {seed}");
        assert_eq!(world.not_left(leaver, waiting), LeaveFailed::Stayed, "seed {seed}");
        for index in 0..3 {
            assert_eq!(world.state_of(index, leaver), MemberState::Alive, "seed {seed}");
        }
        assert!(world.nodes[leaver].runtime.actors.len() > 1, "seed {seed}: they come back");
        world.until_quiet();
        world.check_end(true);
        // Who does not leave stays, too.
        let stay = world.request((leaver + 1) % 3, Request::Stay);
        assert_eq!(world.nodes[(leaver + 1) % 3].replies[&stay], Reply::Stays(true));
    }
}

#[test]
fn a_node_that_has_handed_everything_over_cannot_be_told_to_stay() {
    let mut world = cluster(1, 2, 6);
    world.leave(1, 20 * SECOND);
    while world.nodes[1].engine.core.view.members.len() == 2 {
        world.run_for(Duration::from_millis(1));
    }
    let stay = world.request(1, Request::Stay);
    assert_eq!(world.nodes[1].replies[&stay], Reply::Stays(false));
    world.run_for(SECOND);
    assert!(world.nodes[1].left);
    world.check_end(true);
}

#[test]
fn two_nodes_that_leave_each_other_keep_their_children_until_one_stays() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 2, 20);
        // In the same moment: neither has heard of the other.
        let ids = [0, 1].map(|index| world.leave(index, 20 * SECOND));
        world.run_for(3 * SECOND);
        for index in [0, 1] {
            let failed = world.not_left(index, ids[index]);
            let LeaveFailed::NoSuccessor { children, left } = failed else {
                panic!("seed {seed}: {failed:?}");
            };
            assert!(children > 0 && left.len() == children.min(16), "seed {seed}: {left:?}");
            assert!(left.iter().all(|left| left.reason == "no other node takes children"));
            assert_eq!(world.nodes[index].stayed, 1, "seed {seed}");
        }
        world.check_end(true);
        // Nobody takes children: it is refused at once, and nothing changes.
        let again = world.leave(1, 20 * SECOND);
        world.not_left(1, again);
        let start = world.start(0, 20..21);
        world.run_for(SECOND);
        assert_eq!(world.started(0, start), 0, "seed {seed}");
        world.children.pop();
        world.request(0, Request::Stay);
        world.run_for(SECOND);
        let again = world.leave(1, 20 * SECOND);
        world.run_for(5 * SECOND);
        assert!(matches!(world.nodes[1].replies[&again], Reply::Left(Ok(()))), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_leave_that_nobody_could_help_is_refused_before_anything_changes() {
    let mut world = cluster(3, 1, 20);
    let id = world.leave(0, 20 * SECOND);
    let LeaveFailed::NoSuccessor { children: 20, left } = world.not_left(0, id) else {
        panic!("{:?}", world.not_left(0, id));
    };
    assert_eq!(left.len(), 16, "so many are named");
    assert_eq!((world.state_of(0, 0), world.nodes[0].stayed), (MemberState::Alive, 0));
    let start = world.start(0, 20..21);
    world.run_for(SECOND);
    assert_eq!(world.started(0, start), 1);
    // Without children it goes.
    let timeout = 5 * SECOND;
    world.request(0, Request::Stop { children: world.children.clone(), timeout });
    world.run_for(SECOND);
    let id = world.leave(0, 20 * SECOND);
    world.run_for(SECOND);
    assert!(matches!(world.nodes[0].replies[&id], Reply::Left(Ok(()))));
}

#[test]
fn a_child_that_fails_on_a_node_that_leaves_is_started_there_if_nobody_else_takes_it() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 2, 6);
        for index in [0, 1] {
            world.leave(index, 20 * SECOND);
        }
        world.run_for(3 * SECOND);
        let child = world.children[0].clone();
        let at = world.runner(&child).expect("it runs");
        world.acked.remove(&child);
        assert!(world.panic_child(at, &child), "seed {seed}");
        world.run_for(3 * SECOND);
        assert_eq!(world.runner(&child), Some(at), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_node_that_leaves_is_one_that_leaves_when_it_comes_back_in_a_later_life() {
    for seed in seeds(10) {
        let (mut world, leaver, child, _) = one_is_stuck(seed);
        let fenced = world.nodes[leaver].me.incarnation;
        let now = world.now;
        world.nodes[leaver].engine.handle(now, Event::Fenced { incarnation: fenced });
        world.drain(leaver);
        world.run_for(10 * SECOND);
        assert!(world.nodes[leaver].me.incarnation > fenced, "seed {seed}");
        for index in 0..3 {
            assert_eq!(world.state_of(index, leaver), MemberState::Leaving, "seed {seed}");
        }
        assert_eq!(world.runner(&child), Some(leaver), "seed {seed}");
        world.until_quiet();
        world.check_end(true);
        // A new run begins as any other.
        world.acked.remove(&child);
        world.crash(leaver);
        world.run_for(5 * SECOND);
        world.restart(leaver);
        world.stuck.clear();
        world.run_for(10 * SECOND);
        assert_eq!(world.state_of(0, leaver), MemberState::Alive, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_node_that_says_goodbye_takes_over_nothing_that_a_roll_call_gives_it() {
    for is_closing in [false, true] {
        let mut world = cluster(1, 2, 1);
        let gone = world.children[0].clone();
        let home = world.nodes[0].me.run();
        let engine = &mut world.nodes[1].engine;
        let (_, owned) = engine.registry().owner(&gone).expect("it has an owner");
        let child = ChildId::new("orphan").expect("an id");
        let spec = Arc::new(ChildSpec::from_parts(child.clone(), kind(), Bytes::new()));
        let epoch = Epoch { term: 7, attempt: 0 };
        let ownership = Ownership { epoch, born: epoch, copied: epoch, spec, ..owned.clone() };
        engine.core.promises.give(home, &child, 7).expect("there is room");
        engine.core.closing = is_closing;
        engine.children.take(&mut engine.core, home, ownership, Copy::Nothing);
        assert_eq!(engine.children.instance(&child).is_some(), !is_closing);
    }
}

#[test]
fn what_a_node_had_that_is_forced_to_end_runs_elsewhere_before_anybody_would_find_it_down() {
    for seed in seeds(20) {
        let (mut world, leaver, child, _) = one_is_stuck(seed);
        // Only what was left is lost with it.
        world.acked.remove(&child);
        world.force(leaver);
        // A window is 600 ms.
        world.run_for(Duration::from_millis(400));
        world.check_end(true);
    }
}
