//! Children that end, or cannot be started: pauses, children that are given up, nodes that are passed
//! over.

use super::*;
use crate::model::{
    child::{ChildFailure, RestartIntensity, RestartPauses},
    report::{StartFailed, StopOutcome},
};

const MINUTE: Duration = Duration::from_secs(60);

/// As few tries as there can be.
pub(super) fn few() -> RestartIntensity {
    RestartIntensity { restarts: 2, within: 600 * SECOND }
}

impl World {
    pub(super) fn start_with(
        &mut self,
        index: usize,
        name: &str,
        intensity: RestartIntensity,
    ) -> RequestId {
        let id = ChildId::new(name).expect("a valid id");
        if !self.children.contains(&id) {
            self.children.push(id.clone());
        }
        let spec = ChildSpec::from_parts(id, kind(), Bytes::new()).intensity(intensity);
        let (specs, timeout) = (vec![Arc::new(spec)], 30 * SECOND);
        self.request(index, Request::Start { specs, on_failure: OnFailure::Continue, timeout })
    }

    /// What each node that lives says of a child that failed.
    pub(super) fn failures(&self, child: &ChildId) -> Vec<Option<ChildFailure>> {
        let alive = self.alive().into_iter();
        let owned = alive.filter_map(|index| self.nodes[index].engine.registry().owner(child));
        owned.map(|(_, ownership)| ownership.failure.clone()).collect()
    }

    pub(super) fn is_given_up(&self, child: &ChildId) -> bool {
        let failures = self.failures(child);
        let given_up =
            |failure: &Option<ChildFailure>| failure.as_ref().is_some_and(|f| f.is_given_up());
        failures.len() == self.alive().len() && failures.iter().all(given_up)
    }

    /// Has every actor of a node panic that has told that it runs. Gives how many.
    fn panic_all(&mut self, index: usize) -> usize {
        let children: Vec<ChildId> = self.nodes[index].runtime.actors.keys().cloned().collect();
        children
            .iter()
            .filter(|child| {
                self.acked.remove(*child);
                self.panic_child(index, child)
            })
            .count()
    }

    /// A node on which some children run.
    fn busiest(&self) -> usize {
        let busy = |index: &usize| self.nodes[*index].runtime.actors.len();
        self.alive().into_iter().max_by_key(busy).expect("somebody lives")
    }

    /// One child that runs and ends too often, and its node.
    pub(super) fn given_up(seed: u64) -> (Self, ChildId, usize) {
        Self::given_up_at(seed, false)
    }

    /// The same on a node that is not its home.
    pub(super) fn given_up_away(seed: u64) -> (Self, ChildId, usize) {
        Self::given_up_at(seed, true)
    }

    fn given_up_at(seed: u64, is_away: bool) -> (Self, ChildId, usize) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        world.start_with(0, "c", few());
        world.run_for(2 * SECOND);
        let child = world.children[0].clone();
        let mut at = world.runner(&child).expect("it runs");
        if is_away {
            at = (at + 1) % 3;
            let (child, to, timeout) = (child.clone(), world.nodes[at].me.id, 5 * SECOND);
            world.request(at, Request::Migrate { child, to, forced: false, timeout });
            world.run_for(2 * SECOND);
        }
        for _ in 0..3 {
            world.acked.remove(&child);
            assert!(world.panic_child(at, &child), "seed {seed}");
            world.run_for(2 * SECOND);
        }
        assert!(world.is_given_up(&child), "seed {seed}: {:?}", world.failures(&child));
        (world, child, at)
    }
}

#[test]
fn a_child_that_cannot_start_is_tried_less_and_less_often_and_runs_when_it_can() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 1, 1);
        let child = world.children[0].clone();
        world.starts.clear();
        world.refuse_starts = true;
        world.acked.clear();
        assert!(world.panic_child(0, &child));
        world.run_for(5 * MINUTE);
        let starts = world.starts[&(0, child.clone())].clone();
        // A second each, at the beginning, and then once in thirty.
        assert!((14..=22).contains(&starts.len()), "seed {seed}: {} starts", starts.len());
        let pauses: Vec<Duration> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (first, last) = (pauses[0], pauses[pauses.len() - 1]);
        assert!(first < SECOND && last > 20 * SECOND, "seed {seed}: {pauses:?}");
        let failure = world.failures(&child)[0].clone().expect("it says why");
        assert!(failure.reason().contains("it does not want to"), "seed {seed}: {failure:?}");
        assert_eq!(failure.restarts() as usize, starts.len() + 1, "seed {seed}");
        assert!(!failure.is_given_up());
        world.refuse_starts = false;
        world.run_for(31 * SECOND);
        assert_eq!(world.failures(&child), [None], "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_child_that_waits_is_owned_and_can_be_stopped() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 6);
        let at = world.busiest();
        world.refuse_starts = true;
        assert!(world.panic_all(at) > 0);
        // Elsewhere they could not start either, and nobody takes them for orphans.
        world.run_for(4 * SECOND);
        let children = world.children.clone();
        for child in &children {
            for index in world.alive() {
                assert!(world.owner(index, child).is_some(), "seed {seed}: {child}");
            }
        }
        world.refuse_starts = false;
        let timeout = 20 * SECOND;
        let id = world.request((at + 1) % 3, Request::Stop { children: children.clone(), timeout });
        world.run_for(SECOND);
        match &world.nodes[(at + 1) % 3].replies[&id] {
            Reply::Stopped(report) => {
                let stopped =
                    |(_, outcome): &(_, _)| matches!(outcome, StopOutcome::Stopped { .. });
                assert!(report.outcomes.iter().all(stopped), "seed {seed}: {report:?}");
            }
            reply => panic!("seed {seed}: {reply:?}"),
        }
        world.removed.extend(children);
        world.run_for(MINUTE);
        world.check_end(false);
    }
}

#[test]
fn a_child_that_waits_is_moved_without_being_started_first() {
    for seed in seeds(20) {
        let (mut world, child, at, other, _) = one_child(seed);
        world.cannot.insert(at, Cannot::Start);
        world.acked.clear();
        assert!(world.panic_child(at, &child));
        let to = world.nodes[other].me.id;
        let timeout = 5 * SECOND;
        let migrate = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        let id = world.request(other, migrate);
        world.run_for(SECOND);
        let reply = world.nodes[other].replies.get(&id);
        assert!(
            matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { node, .. })) if *node == to),
            "seed {seed}: {reply:?}"
        );
        assert_eq!(world.runner(&child), Some(other), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_child_that_waits_is_taken_over_when_its_node_dies() {
    for seed in seeds(20) {
        let (mut world, child, at, _, _) = one_child(seed);
        world.refuse_starts = true;
        assert!(world.panic_child(at, &child));
        world.run_for(3 * SECOND);
        world.refuse_starts = false;
        let owner = world.owner(at, &child).expect("somebody waits with it");
        world.crash(owner);
        world.run_for(8 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn children_whose_move_is_broken_off_wait_on_where_they_are() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 8);
        world.faulty = true;
        let at = world.busiest();
        for _ in 0..6 {
            world.panic_all(at);
            let wait = world.dice.ms(1, 60);
            world.run_for(wait);
            // Whoever belongs there goes, whether it has an actor or not.
            if world.nodes.len() < 4 {
                world.join();
            }
            let wait = world.dice.ms(1, 900);
            world.run_for(wait);
        }
        let victim = (0..world.nodes.len()).find(|n| *n != at).expect("there are more");
        world.crash(victim);
        world.faulty = false;
        world.run_for(3 * MINUTE);
        world.check_end(false);
    }
}

#[test]
fn a_child_that_is_given_up_stays_and_everybody_knows_why() {
    for seed in seeds(10) {
        let (mut world, child, at) = World::given_up(seed);
        world.starts.clear();
        world.run_for(10 * MINUTE);
        assert!(world.is_given_up(&child), "seed {seed}");
        assert!(world.starts.is_empty(), "seed {seed}: {:?}", world.starts);
        for index in 0..3 {
            assert_eq!(world.owner(index, &child), Some(at), "seed {seed}");
        }
        for failure in world.failures(&child).into_iter().flatten() {
            assert!(failure.reason().contains("on purpose"), "seed {seed}: {failure:?}");
            assert_eq!(failure.restarts(), 2, "seed {seed}");
        }
    }
}

#[test]
fn a_child_that_was_given_up_is_started_again_by_hand() {
    for seed in seeds(20) {
        let (mut world, child, at) = World::given_up(seed);
        let asker = (at + 1) % 3;
        // It cannot yet: who asked is told why, and the child is not lost.
        world.refuse_starts = true;
        let id = world.start_with(asker, "c", few());
        world.run_for(2 * SECOND);
        match &world.nodes[asker].replies[&id] {
            Reply::Started(report) => {
                let reason = report.failures().next().map(|(_, reason)| reason.clone());
                assert!(
                    matches!(&reason, Some(StartFailed::Refused { reason }) if reason.contains("want")),
                    "seed {seed}: {reason:?}"
                );
            }
            reply => panic!("seed {seed}: {reply:?}"),
        }
        assert!(world.is_given_up(&child), "seed {seed}");
        let said = world.failures(&child)[0].clone().expect("it says why");
        assert!(said.reason().contains("it does not want to"), "seed {seed}: {said:?}");
        world.refuse_starts = false;
        let id = world.start_with(asker, "c", few());
        world.run_for(2 * SECOND);
        assert_eq!(world.started(asker, id), 1, "seed {seed}");
        assert_eq!(world.runner(&child), Some(at), "seed {seed}");
        assert!(world.failures(&child).iter().all(Option::is_none), "seed {seed}");
        world.check_end(true);
        // It begins to count anew.
        world.acked.clear();
        assert!(world.panic_child(at, &child));
        world.run_for(2 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_child_that_was_given_up_is_started_again_when_a_node_comes_or_goes() {
    for seed in seeds(10) {
        for joins in [true, false] {
            let (mut world, _, at) = World::given_up(seed);
            if joins {
                world.join();
            } else {
                world.crash((at + 1) % 3);
            }
            world.run_for(10 * SECOND);
            world.check_end(false);
            // Also when it is its own node that goes.
            let (mut world, _, at) = World::given_up(seed);
            world.crash(at);
            world.run_for(10 * SECOND);
            world.check_end(false);
        }
    }
}

#[test]
fn a_child_that_was_given_up_can_be_stopped_and_sent_elsewhere() {
    for seed in seeds(20) {
        let (mut world, child, at) = World::given_up(seed);
        let other = (at + 1) % 3;
        let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
        let migrate = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        let id = world.request(at, migrate);
        world.run_for(SECOND);
        let reply = world.nodes[at].replies.get(&id);
        let moved = matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. })));
        assert!(moved, "seed {seed}: {reply:?}");
        world.check_end(true);
        let (mut world, child, at) = World::given_up(seed);
        let children = vec![child.clone()];
        world.request(at, Request::Stop { children, timeout });
        world.run_for(SECOND);
        world.removed.insert(child);
        world.check_end(true);
        for index in 0..3 {
            assert!(world.owner(index, &world.children[0]).is_none(), "seed {seed}");
        }
    }
}

#[test]
fn a_node_leaves_though_its_children_cannot_start_anywhere() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 9);
        let at = world.busiest();
        world.refuse_starts = true;
        for index in 0..3 {
            world.cannot.insert(index, Cannot::Make);
        }
        assert!(world.panic_all(at) > 0);
        world.run_for(2 * SECOND);
        let id = world.request(at, Request::Leave { timeout: 20 * SECOND });
        world.run_for(10 * SECOND);
        let reply = world.nodes[at].replies.get(&id);
        assert!(matches!(reply, Some(Reply::Left(Ok(())))), "seed {seed}: {reply:?}");
        // Nobody is lost: the others run them when they can.
        world.refuse_starts = false;
        world.cannot.clear();
        world.run_for(MINUTE);
        world.check_end(false);
    }
}

#[test]
fn of_two_owners_the_one_with_an_actor_goes_on() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 4);
        world.calm = false;
        world.cut(&BTreeSet::from([0]));
        world.run_for(6 * SECOND);
        // On the side that ran them before they fail; the other side began them anew, and writes.
        world.cannot.insert(0, Cannot::Start);
        for child in world.children.clone() {
            world.panic_child(0, &child);
        }
        for child in &world.children {
            let runner = world.nodes[1..].iter().find_map(|node| node.runtime.actors.get(child));
            let state = runner.expect("the other side runs it").state.clone();
            world.acked.insert(child.clone(), state);
        }
        world.run_for(5 * SECOND);
        world.heal();
        // Whoever goes on does so at once, and its callers do not wait for the one that failed.
        let mut yielded = 0;
        for _ in 0..100 {
            world.run_for(SECOND / 10);
            yielded += world.nodes[1..]
                .iter()
                .flat_map(|node| node.engine.children.instances().map(|(_, instance)| instance))
                .filter(|instance| matches!(instance.phase(), Phase::Yielding { .. }))
                .count();
        }
        assert_eq!(yielded, 0, "seed {seed}");
        world.check_end(true);
        for child in world.children.clone() {
            assert_ne!(world.runner(&child), Some(0), "seed {seed}: {child}");
        }
    }
}

#[test]
fn the_pauses_of_a_spec_count_before_those_of_the_node() {
    let mut world = World::new(7, 1);
    world.run_for(2 * SECOND);
    let long = RestartPauses { first: 20 * SECOND, ..RestartPauses::default() };
    let id = ChildId::new("c").expect("a valid id");
    let spec = ChildSpec::from_parts(id.clone(), kind(), Bytes::new()).pauses(long);
    let (specs, timeout) = (vec![Arc::new(spec)], 30 * SECOND);
    world.request(0, Request::Start { specs, on_failure: OnFailure::Continue, timeout });
    world.run_for(SECOND);
    assert!(world.panic_child(0, &id));
    world.run_for(14 * SECOND);
    assert_eq!(world.runner(&id), None);
    world.run_for(7 * SECOND);
    assert_eq!(world.runner(&id), Some(0));
}

/// The failed moves of all children together.
fn failed_moves(world: &World) -> usize {
    world.nodes.iter().flat_map(|node| node.failures.values()).sum()
}

const CANNOT: [Cannot; 2] = [Cannot::Make, Cannot::Start];

#[test]
fn a_newcomer_that_cannot_make_successors_is_tried_less_and_less_often() {
    for seed in seeds(10) {
        for cannot in CANNOT {
            let mut world = cluster(seed, 2, 13);
            world.cannot.insert(2, cannot);
            world.join();
            world.run_for(21 * SECOND);
            world.check_end(true);
            let failed = world.nodes.iter().map(|node| node.failures.len()).sum::<usize>();
            assert!(failed > 0, "seed {seed}: nothing was to move");
            // At once, and after ten seconds.
            assert!(failed_moves(&world) <= 2 * failed, "seed {seed}: {}", failed_moves(&world));
            assert!(world.nodes[2].runtime.actors.is_empty(), "seed {seed}");
            // It can now: nobody has to say so.
            world.cannot.clear();
            world.run_for(30 * SECOND);
            world.check_end(true);
            assert_eq!(world.nodes[2].runtime.actors.len(), failed, "seed {seed}");
        }
    }
}

#[test]
fn a_newcomer_that_cannot_read_states_is_tried_once_for_each_child() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 2, 13);
        world.cannot.insert(2, Cannot::Read);
        world.join();
        world.run_for(2 * MINUTE);
        world.check_end(true);
        let failed = world.nodes.iter().map(|node| node.failures.len()).sum::<usize>();
        assert!(failed > 0, "seed {seed}: nothing was to move");
        assert_eq!(failed_moves(&world), failed, "seed {seed}");
        // Whoever comes or goes may have changed that.
        world.cannot.clear();
        world.join();
        world.run_for(10 * SECOND);
        world.check_end(true);
        assert!(!world.nodes[2].runtime.actors.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_node_leaves_by_the_others_if_one_cannot_make_successors() {
    for seed in seeds(20) {
        for cannot in CANNOT {
            let mut world = cluster(seed, 3, 13);
            for index in 0..3 {
                world.nodes[index].failures.clear();
            }
            world.cannot.insert(1, cannot);
            let id = world.request(0, Request::Leave { timeout: 20 * SECOND });
            let count = world.nodes[0].runtime.actors.len();
            world.run_for(10 * SECOND);
            let reply = world.nodes[0].replies.get(&id);
            assert!(matches!(reply, Some(Reply::Left(Ok(())))), "seed {seed}: {reply:?}");
            assert!(failed_moves(&world) <= count, "seed {seed}: {}", failed_moves(&world));
            world.check_end(true);
        }
    }
}

#[test]
fn a_node_that_leaves_waits_for_the_only_one_that_may_take_its_children() {
    for seed in seeds(20) {
        for cannot in CANNOT {
            let mut world = cluster(seed, 2, 6);
            world.cannot.insert(1, cannot);
            let id = world.request(0, Request::Leave { timeout: 30 * SECOND });
            world.run_for(6 * SECOND);
            assert!(!world.nodes[0].replies.contains_key(&id), "seed {seed}: it goes on");
            world.cannot.clear();
            world.run_for(10 * SECOND);
            let reply = world.nodes[0].replies.get(&id);
            assert!(matches!(reply, Some(Reply::Left(Ok(())))), "seed {seed}: {reply:?}");
            world.check_end(true);
        }
    }
}

#[test]
fn children_of_a_dead_node_run_on_the_survivor_that_can() {
    for seed in seeds(20) {
        for cannot in CANNOT {
            let mut world = cluster(seed, 3, 13);
            world.cannot.insert(1, cannot);
            // What runs there already goes on.
            world.crash(0);
            world.starts.clear();
            world.run_for(10 * SECOND);
            world.check_end(false);
            for ((index, child), starts) in &world.starts {
                assert!(starts.len() < 5, "seed {seed}: {child} on n{index}: {starts:?}");
            }
            assert!(world.starts.keys().any(|(index, _)| *index == 1), "seed {seed}: not tried");
        }
    }
}

#[test]
fn a_child_that_its_node_cannot_start_any_more_runs_on_another() {
    for seed in seeds(20) {
        let (mut world, child, at, _, _) = one_child(seed);
        world.cannot.insert(at, Cannot::Start);
        world.acked.clear();
        assert!(world.panic_child(at, &child));
        world.run_for(3 * SECOND);
        assert!(world.runner(&child).is_some_and(|runner| runner != at), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_migration_to_a_node_that_cannot_make_the_child_is_answered_and_the_child_stays() {
    for seed in seeds(20) {
        for cannot in CANNOT {
            let (mut world, child, at, other, _) = one_child(seed);
            world.cannot.insert(other, cannot);
            let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
            let migrate = Request::Migrate { child: child.clone(), to, forced: false, timeout };
            let id = world.request(at, migrate);
            world.run_for(2 * SECOND);
            let reply = world.nodes[at].replies.get(&id);
            let failed = matches!(reply, Some(Reply::Migrated(MigrateOutcome::Failed { .. })));
            assert!(failed, "seed {seed}: {reply:?}");
            assert_eq!(world.runner(&child), Some(at), "seed {seed}");
            world.check_end(true);
        }
    }
}

#[test]
fn an_order_to_start_a_child_that_was_given_up_is_void_once_it_runs_elsewhere() {
    for seed in seeds(10) {
        let (mut world, child, at) = World::given_up(seed);
        let home = world.nodes[at].engine.core.home(&child).expect("there is one");
        let home = world.index_of(home).expect("it is a node");
        let other = (0..3).find(|index| *index != at && *index != home);
        let other = other.expect("there are three");
        let order = {
            let core = &world.nodes[home].engine.core;
            let (_, owned) = core.registry.owner(&child).expect("it is owned");
            let (spec, origin) = (owned.spec.clone(), owned.origin);
            HomeWord::Run { spec, epoch: core.next_term(&child), origin }
        };
        // The order is on its way for so long that an operator has sent the child elsewhere.
        let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
        let migrate = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        world.request(at, migrate);
        world.run_for(2 * SECOND);
        let before = world.owner(other, &child).expect("it is owned there");
        let message = PeerMessage::Home(order);
        if at == home {
            world.nodes[at].engine.core.loopback.push_back(message);
            world.input(at, Input::Event(Event::Tick));
        } else {
            let from = world.nodes[home].me.run();
            world.input(at, Input::Event(Event::Peer { from, message }));
        }
        world.run_for(2 * SECOND);
        assert_eq!(world.owner(other, &child), Some(before), "seed {seed}");
        assert_eq!(world.runner(&child), Some(other), "seed {seed}");
        world.check_end(true);
    }
}
