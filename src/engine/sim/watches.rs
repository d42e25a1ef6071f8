//! Who watches a child is told what became of it, wherever either is.

use super::*;
use crate::model::watch::{ChildChange, ChildStatus, Condition, Sighting, WatchId};

impl World {
    /// Somebody on a node watches a child.
    fn watch(&mut self, index: usize, child: &ChildId) {
        self.requests += 1;
        let (child, id) = (child.clone(), Some(WatchId(self.requests)));
        self.nodes[index].sighted.remove(&child);
        self.push(Duration::ZERO, index, Input::Event(Event::Watch { child, id }));
    }

    /// What is told of a child on a node, as one who reads all of it sees it.
    fn changes(&self, index: usize, child: &ChildId) -> Vec<ChildChange> {
        let mut before: Option<&ChildStatus> = None;
        let mut changes = Vec::new();
        for sighting in self.nodes[index].sighted.get(child).into_iter().flatten() {
            match sighting {
                Sighting::Gone => changes.push(ChildChange::Stopped),
                Sighting::There(now) => {
                    changes.extend(now.change_from(before));
                    before = Some(now);
                }
            }
        }
        changes
    }

    /// All that is watched was told of as it is.
    fn check_watches(&self) {
        let seed = self.seed;
        for index in self.alive() {
            for (child, sighted) in &self.nodes[index].sighted {
                let last = sighted.last();
                let Some(runner) = self.runner(child) else {
                    assert_eq!(last, Some(&Sighting::Gone), "seed {seed}: {child} at n{index}");
                    continue;
                };
                let Some(Sighting::There(status)) = last else {
                    panic!("seed {seed}: {child} at n{index}: {last:?}");
                };
                let told = (status.node, &status.condition);
                let is = (self.nodes[runner].me.id, &Condition::Runs);
                assert_eq!(told, is, "seed {seed}: {child} at n{index}");
            }
        }
    }
}

#[test]
fn a_watch_follows_its_child_through_a_move_a_crash_and_to_its_stop() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 4);
        world.run_for(2 * SECOND);
        let child = world.children[0].clone();
        let first = world.runner(&child).expect("it runs");
        let [second, watcher] = [1, 2].map(|n| (first + n) % 3);
        let node = |world: &World, index: usize| world.nodes[index].me.id;
        let missing = ChildId::new("missing").expect("a valid id");
        world.watch(watcher, &missing);
        world.watch(watcher, &child);
        world.run_for(SECOND);
        let running = |change: &ChildChange, at| matches!(change, ChildChange::Running { node, .. } if *node == at);
        let changes = world.changes(watcher, &child);
        assert!(matches!(&changes[..], [one] if running(one, node(&world, first))), "{changes:?}");
        assert_eq!(world.changes(watcher, &missing), [ChildChange::Stopped], "seed {seed}");
        let to = node(&world, second);
        let migrate =
            Request::Migrate { child: child.clone(), to, forced: false, timeout: 10 * SECOND };
        world.request(watcher, migrate);
        world.run_for(3 * SECOND);
        let moved = ChildChange::Moved { from: node(&world, first), to };
        assert_eq!(world.changes(watcher, &child)[1..], [moved], "seed {seed}");
        world.crash(second);
        world.run_for(10 * SECOND);
        let changes = world.changes(watcher, &child);
        assert_eq!(changes[2], ChildChange::NodeDown { node: to }, "seed {seed}: {changes:?}");
        assert!(
            matches!(&changes[3..], [ChildChange::Restarted { .. }]),
            "seed {seed}: {changes:?}"
        );
        let stop = Request::Stop { children: vec![child.clone()], timeout: 10 * SECOND };
        world.request(first, stop);
        world.run_for(2 * SECOND);
        assert_eq!(world.changes(watcher, &child)[4..], [ChildChange::Stopped], "seed {seed}");
    }
}

#[test]
fn a_child_that_was_said_to_be_started_is_not_said_to_be_gone_to_who_watches_it_at_once() {
    for seed in seeds(40) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        for round in 0..3 {
            let id = world.start(0, 0..6);
            while !world.nodes[0].replies.contains_key(&id) {
                world.run_for(Duration::from_millis(1));
            }
            let children = world.children.clone();
            for (index, child) in (0..3).flat_map(|index| children.iter().map(move |c| (index, c)))
            {
                world.watch(index, child);
            }
            world.run_for(2 * SECOND);
            world.check_watches();
            for index in 0..3 {
                for child in &children {
                    let changes = world.changes(index, child);
                    assert!(
                        matches!(&changes[..], [ChildChange::Running { .. }]),
                        "seed {seed}, round {round}: {child} at n{index}: {changes:?}"
                    );
                }
            }
            // A removal stands where the next ones are started.
            let stop = Request::Stop { children, timeout: 10 * SECOND };
            let id = world.request(1, stop);
            while !world.nodes[1].replies.contains_key(&id) {
                world.run_for(Duration::from_millis(1));
            }
        }
    }
}

#[test]
fn whatever_happens_all_watches_know_in_the_end_how_it_is() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 4, 8);
        world.calm = false;
        let children = world.children.clone();
        for child in &children {
            for index in 0..4 {
                world.watch(index, child);
            }
        }
        for _ in 0..3 {
            let index = world.dice.below(4) as usize;
            match world.dice.below(4) {
                0 => world.cut(&[index].into()),
                1 => world.heal(),
                2 => world.unlink(index, (index + 1) % 4),
                _ => {
                    let child = children[world.dice.below(8) as usize].clone();
                    let to = world.nodes[index].me.id;
                    let timeout = 5 * SECOND;
                    let move_it = Request::Migrate { child, to, forced: false, timeout };
                    world.request((index + 1) % 4, move_it);
                }
            }
            let wait = world.dice.ms(1, 9_000);
            world.run_for(wait);
        }
        world.heal();
        world.run_for(20 * SECOND);
        world.check_watches();
        let gone = world.dice.below(4) as usize;
        world.crash(gone);
        world.run_for(15 * SECOND);
        world.check_watches();
        let stop = Request::Stop { children: children.clone(), timeout: 10 * SECOND };
        world.request((gone + 1) % 4, stop);
        world.run_for(5 * SECOND);
        world.check_watches();
        for index in world.alive() {
            for child in &children {
                let stops = world.changes(index, child);
                let stops = stops.iter().filter(|change| **change == ChildChange::Stopped).count();
                assert_eq!(stops, 1, "seed {seed}: {child} at n{index}");
            }
        }
    }
}
