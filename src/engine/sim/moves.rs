//! Moves that succeed, fail, are asked for, and are cut short by the end of a node.

use super::*;

#[test]
fn a_node_that_cannot_leave_tells_why_and_stays() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 2, 5);
        // Too short for anything to be handed over.
        let timeout = Duration::from_millis(1);
        let leaver = (0..2).find(|n| !world.nodes[*n].runtime.actors.is_empty()).unwrap_or(0);
        let request = world.request(leaver, Request::Leave { timeout });
        world.run_for(SECOND);
        let reply = world.nodes[leaver].replies.get(&request);
        assert!(matches!(reply, Some(Reply::Left(Err(_)))), "seed {seed}: {reply:?}");
        assert_eq!(world.nodes[leaver].stayed, 1, "seed {seed}");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_move_that_fails_is_tried_again_a_few_times_or_when_the_view_changes() {
    let too_large = FreezeFailure::TooLarge { size: 9, limit: 8 };
    let retention = FreezeFailure::Retention { unresolved: 1, longest: SECOND };
    for (failure, tries) in [(too_large, 1), (retention, 3)] {
        for seed in seeds(10) {
            let mut world = cluster(seed, 2, 12);
            world.unfreezable = Some(failure.clone());
            world.join();
            world.run_for(8 * SECOND);
            world.check_end(true);
            let mut tried = 0;
            for node in &world.nodes {
                for (child, attempts) in &node.attempts {
                    tried += 1;
                    assert_eq!(attempts.len(), tries, "seed {seed}: {child} {attempts:?}");
                    for pair in attempts.windows(2) {
                        let wait = pair[1] - pair[0];
                        assert!(wait >= Duration::from_millis(200), "seed {seed}: {wait:?}");
                    }
                }
            }
            assert!(tried > 0, "seed {seed}: nothing was to move");
            let immovable =
                |world: &World| world.nodes.iter().map(|n| n.engine.immovable().count()).sum();
            let listed: usize = immovable(&world);
            assert_eq!(listed, if failure.is_of_state() { tried } else { 0 }, "seed {seed}");
            // What has changed may have helped.
            world.unfreezable = None;
            world.join();
            world.run_for(8 * SECOND);
            world.check_end(true);
            assert!(!world.nodes[2].runtime.actors.is_empty(), "seed {seed}: nothing moved");
            assert!(
                listed == 0 || immovable(&world) < listed,
                "seed {seed}: what has moved can move"
            );
        }
    }
}

#[test]
fn two_nodes_that_leave_at_once_lose_nothing() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 4, 20);
        let timeout = Duration::from_secs(20);
        world.request(1, Request::Leave { timeout });
        let wait = world.dice.ms(0, 50);
        world.run_for(wait);
        world.request(2, Request::Leave { timeout });
        world.run_for(10 * SECOND);
        assert!(world.nodes[1].left && world.nodes[2].left, "seed {seed}: somebody stayed");
        world.check_end(true);
    }
}

#[test]
fn a_migration_on_purpose_stays_where_it_was_sent() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 6);
        let mut asked = Vec::new();
        for n in 0..6 {
            let child = world.children[n].clone();
            let to = world.nodes[n % 3].me.id;
            let timeout = Duration::from_secs(10);
            let from = world.dice.below(3) as usize;
            let id = world.request(from, Request::Migrate { child, to, forced: false, timeout });
            asked.push((from, id));
        }
        world.run_for(5 * SECOND);
        for (from, id) in asked {
            let reply = &world.nodes[from].replies[&id];
            assert!(
                matches!(reply, Reply::Migrated(MigrateOutcome::Moved { .. })),
                "seed {seed}: {reply:?}"
            );
        }
        world.check_end(true);
        for n in 0..6 {
            assert!(world.nodes[n % 3].runtime.actors.contains_key(&world.children[n]), "{seed}");
        }
    }
}

#[test]
fn a_migration_asked_for_while_its_child_moves_is_answered() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 12);
        let joiner = world.join();
        let wait = world.dice.ms(1, 120);
        world.run_for(wait);
        let to = world.nodes[joiner].me.id;
        let mut asked = Vec::new();
        for child in world.children.clone() {
            let from = world.dice.below(2) as usize;
            let timeout = Duration::from_secs(10);
            let id = world.request(from, Request::Migrate { child, to, forced: false, timeout });
            asked.push((from, id));
            let wait = world.dice.ms(0, 5);
            world.run_for(wait);
        }
        world.run_for(6 * SECOND);
        for (from, id) in asked {
            let reply = world.nodes[from].replies.get(&id);
            // By the view of the node that was asked the joiner may not have been in yet.
            assert!(
                matches!(
                    reply,
                    Some(Reply::Migrated(
                        MigrateOutcome::Moved { .. } | MigrateOutcome::NoSuchNode
                    ))
                ),
                "seed {seed}: {reply:?}"
            );
        }
        world.check_end(true);
    }
}

#[test]
fn a_migration_asked_for_while_its_child_is_restarted_is_answered() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 3, 6);
        let mut asked = Vec::new();
        for child in world.children.clone() {
            let at = (0..3)
                .find(|index| world.nodes[*index].runtime.actors.contains_key(&child))
                .expect("somebody runs it");
            let actor = world.nodes[at].runtime.actors.remove(&child).expect("it runs");
            // What it had not handed on is gone with it.
            world.acked.remove(&child);
            let exit = Exit::Panicked { message: "on purpose".to_owned() };
            let report = ChildReport::Exited { child: child.clone(), epoch: actor.epoch, exit };
            world.input(at, Input::Runtime(report));
            let to = world.nodes[(at + 1) % 3].me.id;
            let timeout = 5 * SECOND;
            let from = (at + 2) % 3;
            let id = world.request(from, Request::Migrate { child, to, forced: false, timeout });
            asked.push((from, id));
        }
        world.run_for(4 * SECOND);
        for (from, id) in asked {
            let reply = world.nodes[from].replies.get(&id);
            assert!(
                matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. }))),
                "seed {seed}: {reply:?}"
            );
        }
        world.check_end(true);
    }
}

#[test]
fn a_node_that_dies_while_children_move_forgets_nobody() {
    for seed in seeds(60) {
        let mut world = cluster(seed, 3, 20);
        world.join();
        let wait = world.dice.ms(1, 700);
        world.run_for(wait);
        let victim = world.dice.below(4) as usize;
        world.crash(victim);
        world.run_for(12 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_successor_that_dies_after_ready_costs_nothing() {
    for seed in seeds(60) {
        let (mut world, _, target) = moving(seed, |runtime| !runtime.built.is_empty());
        world.crash(target);
        world.run_for(12 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_failed_move_says_whether_the_successor_may_have_run() {
    let mut said = BTreeMap::from([(false, 0), (true, 0)]);
    for seed in seeds(60) {
        let (mut world, source, target) = moving(seed, |runtime| !runtime.built.is_empty());
        let child = world.children[0].clone();
        let wait = world.dice.ms(0, 20);
        world.run_for(wait);
        let commits = |world: &World, index: usize| {
            let mut entries = world.nodes[index].engine.core.registry.entries_of(&child);
            entries.any(|(_, entry)| matches!(entry, crate::model::child::Entry::Moved { .. }))
        };
        let ran = world.nodes[target].runtime.actors.contains_key(&child);
        let committed = commits(&world, source);
        if !world.nodes[source].runtime.actors.contains_key(&child) {
            // It was said to run, and the old actor has ended.
            continue;
        }
        world.crash(target);
        world.run_for(12 * SECOND);
        let may = world.nodes[source].may_have_run.contains(&child);
        assert_eq!(may, committed, "seed {seed}");
        assert!(may || !ran, "seed {seed}: it ran, and that is denied");
        *said.entry(may).or_default() += 1;
    }
    assert!(said.values().all(|times| *times > 0), "{said:?}");
}

#[test]
fn a_source_that_dies_after_its_state_has_arrived_costs_nothing() {
    for seed in seeds(60) {
        let (mut world, source, _) =
            moving(seed, |runtime| !runtime.bytes.is_empty() || !runtime.built.is_empty());
        world.crash(source);
        world.run_for(12 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn children_that_a_node_cannot_read_go_where_they_are_read_and_are_offered_to_it_once() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 2, 20);
        world.newer.insert(2);
        world.join();
        world.run_for(6 * SECOND);
        world.check_end(true);
        assert!(world.nodes[2].runtime.actors.is_empty(), "seed {seed}");
        let refused: usize = world.nodes.iter().map(|node| node.failures.len()).sum();
        assert!(refused > 0, "seed {seed}: nothing was offered");
        for node in &world.nodes {
            assert!(node.failures.values().all(|times| *times == 1), "{seed}: {:?}", node.failures);
        }
        // Who leaves finds the one that can.
        world.request(0, Request::Leave { timeout: 10 * SECOND });
        world.run_for(5 * SECOND);
        assert!(world.nodes[0].left, "seed {seed}");
        world.check_end(true);
        assert_eq!(world.nodes[1].runtime.actors.len(), 20, "seed {seed}");
    }
}

#[test]
fn stopped_children_stay_stopped_through_moves() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 12);
        world.join();
        let wait = world.dice.ms(1, 600);
        world.run_for(wait);
        let children: Vec<ChildId> = world.children[..6].to_vec();
        let timeout = Duration::from_secs(10);
        let id = world.request(0, Request::Stop { children: children.clone(), timeout });
        world.removed.extend(children);
        world.run_for(8 * SECOND);
        match &world.nodes[0].replies[&id] {
            Reply::Stopped(report) => assert_eq!(report.stopped(), 6, "seed {seed}: {report:?}"),
            other => panic!("{other:?}"),
        }
        world.check_end(true);
    }
}
