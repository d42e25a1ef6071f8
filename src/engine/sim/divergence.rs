//! Two owners of one child meet: while one of them is restarted or being started, while states are
//! slow, while words are lost; and copies that are held while others begin anew.

use super::*;
use crate::{engine::handover::TargetStage, model::message::HandoverWord};

/// A cluster whose first node was cut off for so long that both sides run every child.
pub(super) fn split(seed: u64) -> World {
    let mut world = cluster(seed, 3, 4);
    world.calm = false;
    world.cut(&BTreeSet::from([0]));
    world.run_for(6 * SECOND);
    world
}

/// Who gives way to whom, of which child.
pub(super) fn yielding(world: &World) -> Option<(ChildId, NodeRun)> {
    let instances = world.nodes.iter().flat_map(|node| node.engine.children.instances());
    instances.into_iter().find_map(|(child, instance)| match instance.phase() {
        Phase::Yielding { to, .. } => Some((child.clone(), to.run)),
        _ => None,
    })
}

fn is_running(world: &World, index: usize, child: &ChildId) -> bool {
    let instance = world.nodes[index].engine.children.instance(child);
    instance.is_some_and(|instance| matches!(instance.phase(), Phase::Running))
}

/// Each state was merged by one actor, and by that once; none of them has ended since.
fn merged_once(world: &World) {
    let seed = world.seed;
    assert!(!world.merges.is_empty(), "seed {seed}: nothing was merged");
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    for ((_, child, from, epoch), count) in &world.merges {
        *times.entry((child, from, epoch)).or_default() += count;
    }
    for ((child, from, epoch), times) in times {
        assert_eq!(times, 1, "seed {seed}: {child} of {from:?} at {epoch} was merged");
    }
}

#[test]
fn an_owner_that_yields_goes_on_when_the_other_is_restarted() {
    let mut hit = 0;
    for seed in seeds(20) {
        let mut world = split(seed);
        world.bulk_ms = (20, 60);
        world.heal();
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if let Some((child, to)) = yielding(&world)
                && let Some(winner) = world.index_of(to.node)
                && world.panic_child(winner, &child)
            {
                hit += 1;
                break;
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn owners_that_are_restarted_while_they_meet_come_to_rest() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.start_ms = (1_000, 1_500);
        world.heal();
        for _ in 0..12 {
            world.run_for(Duration::from_millis(200));
            for index in 0..3 {
                for child in world.children.clone() {
                    if is_running(&world, index, &child) && world.dice.one_in(8) {
                        world.panic_child(index, &child);
                    }
                }
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn an_owner_that_is_being_started_when_it_meets_another_comes_to_run() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.start_ms = (300, 400);
        world.heal();
        for _ in 0..8_000 {
            world.run_for(Duration::from_millis(1));
            if yielding(&world).is_some() {
                break;
            }
            for index in 1..3 {
                for child in world.children.clone() {
                    if is_running(&world, index, &child) {
                        world.panic_child(index, &child);
                    }
                }
            }
        }
        world.start_ms = (0, 10);
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_diverged_state_that_takes_long_to_arrive_is_merged_once() {
    for seed in seeds(10) {
        let mut world = split(seed);
        world.bulk_ms = (5_000, 5_001);
        world.heal();
        world.run_for(40 * SECOND);
        merged_once(&world);
        world.check_end(true);
    }
}

#[test]
fn a_diverged_state_that_takes_long_to_be_merged_is_merged_once() {
    for seed in seeds(10) {
        let mut world = split(seed);
        world.merge_ms = (5_000, 5_001);
        world.heal();
        world.run_for(40 * SECOND);
        merged_once(&world);
        world.check_end(true);
    }
}

#[test]
fn a_diverged_state_is_merged_once_though_the_word_of_it_is_lost() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.heal();
        let mut merges = 0;
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if world.merges.len() > merges {
                merges = world.merges.len();
                world.unlink(0, 1);
                world.unlink(0, 2);
            }
        }
        world.run_for(20 * SECOND);
        merged_once(&world);
        world.check_end(true);
    }
}

#[test]
fn an_owner_that_yields_reads_in_the_registry_that_its_state_was_taken() {
    for seed in seeds(5) {
        let mut world = split(seed);
        for node in &mut world.nodes {
            // Nobody is ever told so by word.
            node.lie = Some(|message| {
                if let PeerMessage::Handover(HandoverWord::Taken { epoch, .. }) = message {
                    *epoch = Epoch::ZERO;
                }
            });
        }
        world.heal();
        world.run_for(30 * SECOND);
        merged_once(&world);
        world.check_end(true);
    }
}

#[test]
fn a_diverged_state_is_merged_once_though_its_child_moves_on_at_once() {
    let mut moved = 0;
    for seed in seeds(20) {
        let mut world = split(seed);
        // Half of them are asked to move while they merge.
        world.merge_ms = if seed % 2 == 0 { (0, 10) } else { (3_000, 4_000) };
        world.heal();
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            world.run_for(Duration::from_millis(1));
            let merges: Vec<_> = world.merges.keys().cloned().collect();
            for (at, child, from, _) in merges {
                if !seen.insert(child.clone()) {
                    continue;
                }
                let loser = world.index_of(from.node).expect("it is a node");
                let to = world.nodes[3 - at - loser].me.id;
                let timeout = 8 * SECOND;
                let request = Request::Migrate { child, to, forced: false, timeout };
                world.request(at, request);
                world.unlink(loser, at);
                world.unlink(loser, 3 - at - loser);
            }
        }
        let replies = world.nodes.iter().flat_map(|node| node.replies.values());
        let is_moved =
            |reply: &&Reply| matches!(reply, Reply::Migrated(MigrateOutcome::Moved { .. }));
        moved += replies.filter(is_moved).count();
        world.run_for(20 * SECOND);
        merged_once(&world);
        world.check_end(true);
    }
    assert!(moved > 0);
}

#[test]
fn of_three_sides_of_a_split_each_state_is_merged_once() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 4);
        world.calm = false;
        world.cut(&BTreeSet::from([0]));
        world.cut(&BTreeSet::from([1]));
        world.run_for(8 * SECOND);
        world.bulk_ms = (20, 3_000);
        world.heal();
        world.run_for(40 * SECOND);
        world.check_end(true);
        for ((_, child, from, epoch), times) in &world.merges {
            assert_eq!(*times, 1, "seed {seed}: {child} of {from:?} at {epoch} was merged");
        }
    }
}

/// The only child of five nodes, its owner, and where it is sent.
pub(super) fn sent(seed: u64, timeout: Duration) -> (World, ChildId, usize, usize) {
    let mut world = cluster(seed, 5, 1);
    world.run_for(SECOND);
    let child = world.children[0].clone();
    let owns = |index: &usize| world.nodes[*index].runtime.actors.contains_key(&child);
    let source = (0..5).find(owns).expect("somebody runs it");
    let target = (source + 1) % 5;
    let to = world.nodes[target].me.id;
    world.request(
        (source + 2) % 5,
        Request::Migrate { child: child.clone(), to, forced: false, timeout },
    );
    (world, child, source, target)
}

pub(super) fn cut_off(world: &mut World, index: usize) {
    world.cut(&BTreeSet::from([index]));
    for other in (0..world.nodes.len()).filter(|other| *other != index) {
        world.unlink(index, other);
    }
}

#[test]
fn a_committed_copy_is_not_given_up_for_an_owner_that_began_anew() {
    let mut hit = 0;
    for seed in seeds(40) {
        let (mut world, child, source, target) = sent(seed, 5 * SECOND);
        let committed = |world: &World| {
            let old = world.nodes[source].runtime.actors.get(&child);
            old.is_some_and(|actor| actor.gate == Gate::Moved)
                && !world.nodes[target].runtime.actors.contains_key(&child)
        };
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            if committed(&world) {
                break;
            }
        }
        if !committed(&world) {
            continue;
        }
        hit += 1;
        world.calm = false;
        cut_off(&mut world, source);
        world.crash(target);
        let wait = world.dice.ms(600, 1_500);
        world.run_for(wait);
        world.heal();
        world.run_for(30 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn a_committed_copy_outlives_a_successor_that_could_not_start() {
    let mut hit = 0;
    for seed in seeds(40) {
        let (mut world, child, source, target) = {
            let (mut world, child, source, target) = sent(seed, 20 * SECOND);
            world.start_ms = (1_500, 1_501);
            (world, child, source, target)
        };
        let stage = |world: &World| world.nodes[target].engine.children.successor_stage(&child);
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            match stage(&world) {
                Some(TargetStage::Ready) => world.nodes[target].runtime.built.clear(),
                Some(TargetStage::Opening) => break,
                _ => {}
            }
        }
        let opening = stage(&world) == Some(TargetStage::Opening);
        if !opening || world.nodes[target].runtime.actors.contains_key(&child) {
            continue;
        }
        hit += 1;
        world.calm = false;
        let wait = world.dice.ms(300, 900);
        world.run_for(wait);
        world.start_ms = (0, 10);
        cut_off(&mut world, source);
        let wait = world.dice.ms(600, 1_400);
        world.run_for(wait);
        world.heal();
        world.run_for(30 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn splits_with_restarts_and_migrations_come_to_rest() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 4, 6);
        world.calm = false;
        for _ in 0..3 {
            world.start_ms = if world.dice.one_in(2) { (0, 10) } else { (200, 900) };
            world.bulk_ms = if world.dice.one_in(2) { (1, 30) } else { (500, 3_000) };
            world.merge_ms = if world.dice.one_in(2) { (0, 10) } else { (500, 3_000) };
            let side = world.dice.below(4) as usize;
            world.cut(&BTreeSet::from([side]));
            if world.dice.one_in(2) {
                world.cut(&BTreeSet::from([(side + 1) % 4]));
            }
            let wait = world.dice.ms(300, 9_000);
            world.run_for(wait);
            world.heal();
            for _ in 0..40 {
                let wait = world.dice.ms(1, 200);
                world.run_for(wait);
                let index = world.dice.below(4) as usize;
                let child = world.children[world.dice.below(6) as usize].clone();
                if world.dice.one_in(3) {
                    world.panic_child(index, &child);
                } else {
                    let to = world.nodes[world.dice.below(4) as usize].me.id;
                    let timeout = 5 * SECOND;
                    let request = Request::Migrate { child, to, forced: false, timeout };
                    world.request(index, request);
                }
            }
        }
        world.start_ms = (0, 10);
        world.run_for(40 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn an_owner_that_cannot_hand_its_state_to_whom_it_yields_is_listed_with_the_reason() {
    let mut world = split(1);
    world.bulk_ms = (5_000, 6_000);
    world.heal();
    let child = loop {
        world.run_for(Duration::from_millis(1));
        if let Some((child, _)) = yielding(&world) {
            break child;
        }
    };
    let yields = |node: &Node| {
        let instance = node.engine.children.instance(&child)?;
        matches!(instance.phase(), Phase::Yielding { .. }).then_some(instance.ownership().epoch)
    };
    let (index, epoch) = (0..3)
        .find_map(|index| Some((index, yields(&world.nodes[index])?)))
        .expect("one of them yields");
    let told = |world: &World| {
        let engine = &world.nodes[index].engine;
        let (left, _) = engine.leftover();
        let left = left.into_iter().find(|(spec, ..)| *spec.id() == child).map(|(.., why)| why);
        let listed = engine.immovable().find(|(id, _)| **id == child);
        (left.expect("it is still there"), listed.map(|(_, why)| why.to_owned()))
    };
    let (left, listed) = told(&world);
    assert!(left.starts_with("it gives way to its owner on ") && listed.is_none(), "{left}");
    let outcome = Err(FreezeFailure::Encode { message: "on purpose".to_owned() });
    world.report(index, ChildReport::Tried { child: child.clone(), epoch, outcome });
    world.run_for(Duration::from_millis(20));
    let (left, listed) = told(&world);
    let why = "the state could not be encoded: on purpose";
    assert_eq!(listed.as_deref(), Some(why));
    assert!(left.ends_with(&format!(" and cannot hand its state over: {why}")), "{left}");
}
