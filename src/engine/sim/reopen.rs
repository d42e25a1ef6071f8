//! Successors that cannot start, and whose source is gone: what they came with is not lost.

use super::{
    divergence::{cut_off, sent},
    *,
};
use crate::engine::handover::TargetStage;

/// A child of five nodes that has committed to a node which cannot start it; its source and its target.
fn stuck(seed: u64) -> Option<(World, ChildId, usize, usize)> {
    let (mut world, child, source, target) = sent(seed, 20 * SECOND);
    world.cannot.insert(target, Cannot::Start);
    world.start_ms = (300, 301);
    for _ in 0..20_000 {
        world.run_for(Duration::from_micros(100));
        if stage(&world, target, &child) == Some(TargetStage::Opening) {
            world.calm = false;
            return Some((world, child, source, target));
        }
    }
    None
}

fn stage(world: &World, index: usize, child: &ChildId) -> Option<TargetStage> {
    world.nodes[index].engine.children.successor_stage(child)
}

/// All that was acknowledged of the child is with its actor, or parked.
fn nothing_is_lost(world: &World, child: &ChildId) -> bool {
    let acked = world.acked.get(child).cloned().unwrap_or_default();
    let mut kept = State::new();
    for index in world.alive() {
        let runtime = &world.nodes[index].runtime;
        kept.extend(runtime.actors.get(child).iter().flat_map(|actor| &actor.state));
        let parked = runtime.parked.iter().filter(|(key, _)| key.child == *child);
        kept.extend(parked.flat_map(|(_, (_, state))| state));
    }
    kept.is_superset(&acked)
}

#[test]
fn a_successor_that_could_not_start_is_started_later_with_its_state_when_its_source_is_gone() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = stuck(seed) else { continue };
        world.crash(source);
        world.run_for(4 * SECOND);
        if stage(&world, target, &child).is_none() {
            // The source had heard of it in time, and died with its actor.
            continue;
        }
        hit += 1;
        world.cannot.clear();
        world.run_for(30 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn a_state_of_which_no_successor_can_be_started_is_parked_and_its_child_begins_anew() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = stuck(seed) else { continue };
        world.crash(source);
        world.run_for(4 * SECOND);
        if stage(&world, target, &child).is_none() {
            continue;
        }
        hit += 1;
        world.run_for(60 * SECOND);
        assert!(nothing_is_lost(&world, &child), "seed {seed}");
        let holders = world.alive().into_iter().filter(|index| {
            world.nodes[*index].runtime.parked.keys().any(|key| key.child == child)
        });
        assert_eq!(holders.count(), 2, "seed {seed}");
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn a_source_that_dies_before_it_hears_that_its_successor_failed_takes_no_state_with_it() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = stuck(seed) else { continue };
        // What is said to it from now on is lost, and it is not down yet when the successor fails.
        cut_off(&mut world, source);
        world.run_for(Duration::from_millis(400));
        if !world.nodes[target].engine.core.is_live(world.nodes[source].me.run()) {
            continue;
        }
        hit += 1;
        world.crash(source);
        world.heal();
        world.run_for(60 * SECOND);
        assert!(nothing_is_lost(&world, &child), "seed {seed}");
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn a_node_that_leaves_parks_what_it_could_not_start() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = stuck(seed) else { continue };
        world.crash(source);
        world.run_for(4 * SECOND);
        if stage(&world, target, &child).is_none() {
            continue;
        }
        hit += 1;
        world.request(target, Request::Leave { timeout: 60 * SECOND });
        world.run_for(60 * SECOND);
        assert!(world.nodes[target].left, "seed {seed}");
        assert!(nothing_is_lost(&world, &child), "seed {seed}");
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn a_source_that_lives_goes_on_and_what_was_sent_is_dropped() {
    for seed in seeds(20) {
        let Some((mut world, child, _, target)) = stuck(seed) else { continue };
        world.run_for(10 * SECOND);
        assert_eq!(stage(&world, target, &child), None, "seed {seed}");
        assert!(world.nodes[target].runtime.bytes.is_empty(), "seed {seed}");
        world.check_end(true);
    }
}
