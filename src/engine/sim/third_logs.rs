//! Nodes that come back after removals were forgotten, and know children from the logs of third runs that
//! are gone: what was stopped meanwhile does not begin anew, what was not does.

use super::{
    attacks::overstate,
    returns::{LONG, is_retired, on, remembering, stop},
    *,
};

/// Stops children, by way of this node.
fn stop_all(world: &mut World, index: usize, children: &[ChildId]) {
    let seed = world.seed;
    let ids: Vec<_> = children.iter().map(|child| stop(world, index, child)).collect();
    world.run_for(3 * SECOND);
    for id in ids {
        let reply = &world.nodes[index].replies[&id];
        assert!(matches!(reply, Reply::Stopped(_)), "seed {seed}: {reply:?}");
    }
}

/// Nobody runs these, and nobody knows them.
fn are_gone(world: &World, children: &[ChildId]) {
    let seed = world.seed;
    assert!(!children.is_empty(), "seed {seed}: there is none");
    for child in children {
        assert_eq!(world.runner(child), None, "seed {seed}: {child} lives again");
        for index in world.alive() {
            let owner = world.nodes[index].engine.registry().owner(child);
            assert!(owner.is_none(), "seed {seed}: {child} has an owner by n{index}: {owner:?}");
        }
    }
}

/// Of so many nodes the last one dies while these are suspended, for `time`; half of its children are
/// stopped. Gives those that were stopped and those that were not.
fn dies_beside_suspended(
    seed: u64,
    nodes: usize,
    suspended: &[usize],
    time: Duration,
) -> (World, Vec<ChildId>, Vec<ChildId>) {
    let mut world = remembering(seed, nodes, 24);
    let mut stopped = on(&world, nodes - 1);
    for index in suspended {
        world.nodes[*index].paused_until = Some(world.now + time);
    }
    world.crash(nodes - 1);
    world.run_for(6 * SECOND);
    let kept = stopped.split_off(stopped.len().div_ceil(2));
    stop_all(&mut world, 1, &stopped);
    (world, stopped, kept)
}

#[test]
fn orphans_that_were_stopped_while_who_knows_them_was_suspended_do_not_begin_anew() {
    for seed in seeds(5) {
        let time = LONG + 15 * SECOND;
        let (mut world, stopped, kept) = dies_beside_suspended(seed, 4, &[0], time);
        world.run_for(LONG + 30 * SECOND);
        are_gone(&world, &stopped);
        world.removed.extend(stopped);
        world.check_end(false);
        assert!(kept.iter().all(|child| world.runner(child).is_some()), "seed {seed}");
    }
}

#[test]
fn orphans_of_a_run_that_was_replaced_meanwhile_do_not_begin_anew() {
    for seed in seeds(3) {
        let time = 2 * LONG + 30 * SECOND;
        let (mut world, stopped, _) = dies_beside_suspended(seed, 4, &[0], time);
        let log = world.nodes[3].me.run();
        world.run_for(LONG);
        // Of the runs of one node the logs of the latest four are needed, if there is nothing in them.
        for _ in 0..5 {
            world.crash(3);
            world.run_for(2 * SECOND);
            world.restart(3);
            world.run_for(2 * SECOND);
        }
        let told = world.nodes[1].engine.registry().watermarks();
        assert!(!told.iter().any(|mark| mark.log == log), "seed {seed}: it is told of");
        assert!(world.nodes[1].engine.registry().watermark(log) > 0, "seed {seed}: it is dropped");
        world.run_for(LONG + 20 * SECOND);
        are_gone(&world, &stopped);
        world.removed.extend(stopped);
        world.check_end(false);
    }
}

#[test]
fn orphans_that_several_know_who_were_suspended_do_not_begin_anew() {
    for seed in seeds(5) {
        let time = LONG + 15 * SECOND;
        let (mut world, stopped, _) = dies_beside_suspended(seed, 5, &[0, 3], time);
        world.run_for(LONG + 30 * SECOND);
        are_gone(&world, &stopped);
        world.removed.extend(stopped);
        world.check_end(false);
    }
}

#[test]
fn orphans_known_to_a_node_that_restarted_beside_one_that_was_away_do_not_begin_anew() {
    for seed in seeds(5) {
        let mut world = remembering(seed, 5, 24);
        let stopped = on(&world, 4);
        world.cut(&BTreeSet::from([0, 4]));
        world.run_for(6 * SECOND);
        stop_all(&mut world, 1, &stopped);
        world.crash(0);
        world.run_for(3 * SECOND);
        world.restart(0);
        world.dial(0, 4, Duration::ZERO);
        world.run_for(LONG);
        // It is alone, or it is not, when it meets the others.
        world.crash(4);
        let wait = world.dice.ms(0, 3_000);
        world.run_for(wait);
        world.heal();
        for other in 1..4 {
            world.dial(0, other, Duration::ZERO);
        }
        world.run_for(20 * SECOND);
        are_gone(&world, &stopped);
        world.removed.extend(stopped);
        world.check_end(false);
    }
}

#[test]
fn a_successor_of_a_child_that_was_stopped_while_its_node_was_suspended_is_parked() {
    for seed in seeds(5) {
        let mut world = remembering(seed, 4, 24);
        let child = on(&world, 3)[0].clone();
        let (to, timeout) = (world.nodes[0].me.id, 5 * SECOND);
        let request = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        world.request(3, request);
        let built = |world: &World| {
            let mut built = world.nodes[0].runtime.built.iter();
            built.find(|((of, _), _)| *of == child).map(|(_, state)| state.clone())
        };
        while built(&world).is_none() {
            world.run_for(Duration::from_millis(1));
        }
        // It stands ready, and its source dies before it has committed anything.
        let state = built(&world).expect("it stands ready");
        world.crash(3);
        world.run_for(Duration::from_millis(50));
        world.nodes[0].paused_until = Some(world.now + LONG + 15 * SECOND);
        world.run_for(6 * SECOND);
        stop_all(&mut world, 1, std::slice::from_ref(&child));
        world.run_for(LONG + 30 * SECOND);
        is_retired(&world, &child, &state);
        world.removed.insert(child);
        world.check_end(false);
    }
}

#[test]
fn what_a_dead_node_told_one_alone_begins_anew_though_others_believe_to_have_known_it() {
    for seed in seeds(6) {
        let mut world = remembering(seed, 4, 24);
        world.cuts.extend([(3, 1), (3, 2)]);
        world.start(3, 100..160);
        world.run_for(Duration::from_millis(60));
        let knows = |world: &World, index: usize, child: &ChildId| {
            world.nodes[index].engine.registry().owner(child).is_some()
        };
        let told = on(&world, 3).into_iter();
        let told: Vec<ChildId> = told
            .filter(|child| knows(&world, 0, child) && !(1..3).any(|n| knows(&world, n, child)))
            .collect();
        assert!(!told.is_empty(), "seed {seed}: it has told nothing");
        world.crash(3);
        world.heal();
        world.nodes[0].paused_until = Some(world.now + LONG + 15 * SECOND);
        world.run_for(6 * SECOND);
        for (from, to) in [(1, 2), (2, 1)] {
            overstate(&mut world, from, to, 3);
        }
        // While its next run is in, logs of its earlier ones are told of; and as a removal is forgotten
        // they are given as snapshots.
        if seed % 2 == 0 {
            world.restart(3);
            world.run_for(2 * SECOND);
            let child = on(&world, 1)[0].clone();
            stop_all(&mut world, 1, &[child]);
        }
        world.run_for(LONG + 30 * SECOND);
        for child in &told {
            assert!(world.runner(child).is_some(), "seed {seed}: {child} is lost");
        }
    }
}
