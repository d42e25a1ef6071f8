//! Nodes that are emptied and stay in.

use super::*;

impl World {
    fn drain_node(&mut self, index: usize, timeout: Duration) -> RequestId {
        self.request(index, Request::Drain { timeout })
    }

    /// Every node sees whether that one is drained.
    fn check_drained(&self, index: usize, draining: bool) {
        let id = self.nodes[index].me.id;
        for by in self.alive() {
            let member = self.nodes[by].engine.view().member(id).expect("it is in");
            assert_eq!(member.draining, draining, "seed {}: n{index} at n{by}", self.seed);
            assert_eq!(member.takes_children(), !draining, "seed {}", self.seed);
        }
    }

    fn is_empty(&self, index: usize) -> bool {
        self.nodes[index].runtime.actors.is_empty()
    }
}

#[test]
fn a_node_is_emptied_and_stays_a_member_that_does_everything_but_host() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 30);
        let id = world.drain_node(1, 10 * SECOND);
        world.run_for(3 * SECOND);
        assert_eq!(world.nodes[1].replies[&id], Reply::Drained(Ok(())), "seed {seed}");
        assert!(world.is_empty(1), "seed {seed}");
        world.check_drained(1, true);
        world.check_end(true);
        // It is home to some of these, and asks for all.
        let start = world.start(1, 30..60);
        world.run_for(2 * SECOND);
        assert_eq!(world.started(1, start), 30, "seed {seed}");
        let is_home = |child: &ChildId| world.nodes[1].engine.core.is_home(child);
        assert!(world.children[30..].iter().any(is_home), "seed {seed}");
        // Nothing is sent there.
        let child = world.children[0].clone();
        let (to, timeout) = (world.nodes[1].me.id, 5 * SECOND);
        let migrate = world.request(0, Request::Migrate { child, to, forced: false, timeout });
        world.run_for(SECOND);
        let refused = Reply::Migrated(MigrateOutcome::NoSuchNode);
        assert_eq!(world.nodes[0].replies[&migrate], refused, "seed {seed}");
        // Views change, a node goes down: it votes, and takes nothing over.
        world.join();
        world.run_for(4 * SECOND);
        world.crash(2);
        world.run_for(6 * SECOND);
        assert!(world.is_empty(1), "seed {seed}");
        world.check_drained(1, true);
        world.check_end(false);
        let undrain = world.request(1, Request::Undrain);
        world.run_for(4 * SECOND);
        assert_eq!(world.nodes[1].replies[&undrain], Reply::Undrained, "seed {seed}");
        world.check_drained(1, false);
        assert!(!world.is_empty(1), "seed {seed}: it takes children again");
        world.check_end(false);
    }
}

#[test]
fn a_drain_that_fails_keeps_what_is_out_and_goes_on_when_it_is_asked_again() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 30);
        let child = world.nodes[1].runtime.actors.keys().next().expect("it has some").clone();
        world.stuck.insert(child.clone());
        let id = world.drain_node(1, 5 * SECOND);
        world.run_for(20 * SECOND);
        let Reply::Drained(Err(LeaveFailed::Timeout { children: 1, left, .. })) =
            &world.nodes[1].replies[&id]
        else {
            panic!("seed {seed}: {:?}", world.nodes[1].replies[&id]);
        };
        assert_eq!(left[0].child, child, "seed {seed}");
        let here: Vec<&ChildId> = world.nodes[1].runtime.actors.keys().collect();
        assert_eq!(here, [&child], "seed {seed}");
        world.check_drained(1, true);
        world.until_quiet();
        world.check_end(true);
        world.stuck.clear();
        let id = world.drain_node(1, 5 * SECOND);
        world.run_for(2 * SECOND);
        assert_eq!(world.nodes[1].replies[&id], Reply::Drained(Ok(())), "seed {seed}");
        // Undone, and asked for in one moment: who waits is told.
        world.request(1, Request::Undrain);
        world.run_for(4 * SECOND);
        let id = world.drain_node(1, 5 * SECOND);
        world.request(1, Request::Undrain);
        let failed = Reply::Drained(Err(LeaveFailed::Stayed));
        assert_eq!(world.nodes[1].replies[&id], failed, "seed {seed}");
        world.run_for(4 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_drain_lasts_through_a_later_life_and_not_into_the_next_run() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 20);
        world.drain_node(1, 10 * SECOND);
        world.run_for(3 * SECOND);
        let fenced = world.nodes[1].me.incarnation;
        let now = world.now;
        world.nodes[1].engine.handle(now, Event::Fenced { incarnation: fenced });
        world.drain(1);
        world.run_for(10 * SECOND);
        assert!(world.nodes[1].me.incarnation > fenced, "seed {seed}");
        world.check_drained(1, true);
        assert!(world.is_empty(1), "seed {seed}");
        world.check_end(true);
        // Declared down by the others for real, it comes back as it was.
        world.calm = false;
        world.cut(&BTreeSet::from([1]));
        world.run_for(8 * SECOND);
        world.heal();
        world.run_for(15 * SECOND);
        world.check_drained(1, true);
        world.check_end(false);
        world.crash(1);
        world.run_for(5 * SECOND);
        world.restart(1);
        world.run_for(10 * SECOND);
        world.check_drained(1, false);
        world.check_end(false);
    }
}

#[test]
fn a_node_that_is_drained_leaves_and_is_drained_on_if_it_is_told_to_stay() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 20);
        let child = world.nodes[1].runtime.actors.keys().next().expect("it has some").clone();
        world.stuck.insert(child);
        let drain = world.drain_node(1, 60 * SECOND);
        world.request(1, Request::Leave { timeout: 60 * SECOND });
        world.run_for(3 * SECOND);
        world.request(1, Request::Stay);
        world.run_for(3 * SECOND);
        world.check_drained(1, true);
        assert_eq!(world.nodes[1].runtime.actors.len(), 1, "seed {seed}");
        assert!(!world.nodes[1].replies.contains_key(&drain), "seed {seed}: it drains on");
        let leave = world.request(1, Request::Leave { timeout: 60 * SECOND });
        // The drain taken back alone: it leaves on.
        world.request(1, Request::Undrain);
        world.run_for(3 * SECOND);
        assert_eq!(world.nodes[1].runtime.actors.len(), 1, "seed {seed}");
        world.stuck.clear();
        world.run_for(60 * SECOND);
        assert_eq!(world.nodes[1].replies[&leave], Reply::Left(Ok(())), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn the_last_node_that_takes_children_is_not_drained() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 2, 20);
        let first = world.drain_node(0, 10 * SECOND);
        world.run_for(3 * SECOND);
        assert_eq!(world.nodes[0].replies[&first], Reply::Drained(Ok(())), "seed {seed}");
        let second = world.drain_node(1, 10 * SECOND);
        let reply = &world.nodes[1].replies[&second];
        let Reply::Drained(Err(LeaveFailed::NoSuccessor { children: 20, .. })) = reply else {
            panic!("seed {seed}: {reply:?}");
        };
        world.run_for(SECOND);
        world.check_drained(1, false);
        assert_eq!(world.nodes[1].runtime.actors.len(), 20, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_child_that_was_given_up_runs_elsewhere_when_its_node_is_drained() {
    for seed in seeds(10) {
        let (mut world, child, at) = World::given_up(seed);
        let id = world.drain_node(at, 10 * SECOND);
        world.run_for(5 * SECOND);
        assert_eq!(world.nodes[at].replies[&id], Reply::Drained(Ok(())), "seed {seed}");
        let runner = world.runner(&child).expect("another node runs it");
        assert_ne!(runner, at, "seed {seed}");
        assert!(!world.is_given_up(&child), "seed {seed}");
    }
}
