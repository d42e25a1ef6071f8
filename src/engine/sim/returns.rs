//! Nodes that come back after removals were forgotten: what was stopped meanwhile does not live again, what
//! was not goes on.

use super::*;
use crate::model::message::SyncWord;

/// How long removals are remembered.
const REMEMBERED: Duration = Duration::from_secs(5);
/// After so long away, what was stopped at the beginning is forgotten.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn remembering(seed: u64, nodes: usize, children: usize) -> World {
    let mut world = World::new(seed, 0);
    world.forget_after = REMEMBERED;
    for _ in 0..nodes {
        world.join();
    }
    world.run_for(3 * SECOND);
    let id = world.start(nodes - 1, 0..children);
    world.run_for(2 * SECOND);
    assert_eq!(world.started(nodes - 1, id), children, "seed {seed}");
    world.check_end(true);
    world.calm = false;
    world
}

/// The children of a node.
pub(super) fn on(world: &World, index: usize) -> Vec<ChildId> {
    world.nodes[index].runtime.actors.keys().cloned().collect()
}

pub(super) fn stop(world: &mut World, index: usize, child: &ChildId) -> RequestId {
    let (children, timeout) = (vec![child.clone()], 10 * SECOND);
    world.request(index, Request::Stop { children, timeout })
}

pub(super) fn cut_off(world: &mut World, index: usize) {
    world.cut(&BTreeSet::from([index]));
    for other in (0..world.nodes.len()).filter(|other| *other != index) {
        world.unlink(index, other);
    }
}

/// The cut ends, and the node finds the others by its seeds: they dial each other no more.
pub(super) fn back(world: &mut World) {
    world.heal();
    for other in 1..world.nodes.len() {
        world.dial(0, other, Duration::ZERO);
    }
}

/// The state of a child's actor on a node.
pub(super) fn state(world: &World, index: usize, child: &ChildId) -> State {
    world.nodes[index].runtime.actors[child].state.clone()
}

/// Whether the state of a child with all that was acknowledged is parked on two nodes, and it runs nowhere.
pub(super) fn is_retired(world: &World, child: &ChildId, acked: &State) {
    let seed = world.seed;
    assert_eq!(world.runner(child), None, "seed {seed}: {child} lives again");
    let has = |index: &usize| {
        let parked = &world.nodes[*index].runtime.parked;
        parked.values().any(|(info, state)| info.key.child == *child && state.is_superset(acked))
    };
    let holders: Vec<usize> = world.alive().into_iter().filter(has).collect();
    assert_eq!(holders.len(), 2, "seed {seed}: {child} is parked on {holders:?}");
    for index in world.alive() {
        let registry = world.nodes[index].engine.registry();
        let owner = registry.owner(child);
        assert!(owner.is_none(), "seed {seed}: {child} has an owner by n{index}: {owner:?}");
    }
}

#[test]
fn what_was_stopped_while_its_node_was_away_for_long_is_parked() {
    for seed in seeds(20) {
        let mut world = remembering(seed, 3, 12);
        let children = on(&world, 0);
        let (stopped, kept) = children.split_at(children.len() / 2);
        cut_off(&mut world, 0);
        world.run_for(6 * SECOND);
        let ids: Vec<_> = stopped.iter().map(|child| stop(&mut world, 1, child)).collect();
        world.run_for(LONG);
        for id in ids {
            let reply = &world.nodes[1].replies[&id];
            assert!(matches!(reply, Reply::Stopped(_)), "seed {seed}: {reply:?}");
        }
        let states: Vec<State> = stopped.iter().map(|child| state(&world, 0, child)).collect();
        back(&mut world);
        world.run_for(20 * SECOND);
        for (child, state) in stopped.iter().zip(states) {
            is_retired(&world, child, &state);
        }
        world.removed.extend(stopped.iter().cloned());
        world.check_end(false);
        for child in kept {
            assert!(world.runner(child).is_some(), "seed {seed}");
        }
    }
}

/// One child of the first node, which was cut off for so long that both sides run it.
fn parted(seed: u64, nodes: usize) -> (World, ChildId) {
    let mut world = remembering(seed, nodes, 12);
    let child = on(&world, 0)[0].clone();
    cut_off(&mut world, 0);
    world.run_for(6 * SECOND);
    (world, child)
}

#[test]
fn what_was_stopped_while_its_node_was_suspended_for_long_is_parked() {
    for seed in seeds(10) {
        let mut world = remembering(seed, 3, 12);
        let child = on(&world, 0)[0].clone();
        let had = state(&world, 0, &child);
        world.nodes[0].paused_until = Some(world.now + LONG + 8 * SECOND);
        world.run_for(6 * SECOND);
        stop(&mut world, 2, &child);
        world.run_for(LONG + 20 * SECOND);
        is_retired(&world, &child, &had);
        world.removed.insert(child);
        world.check_end(false);
    }
}

#[test]
fn what_was_stopped_ends_with_a_node_that_is_back_while_that_is_remembered() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(2 * SECOND);
        back(&mut world);
        world.run_for(20 * SECOND);
        assert_eq!(world.runner(&child), None, "seed {seed}");
        let parked = world.nodes.iter().flat_map(|node| node.runtime.parked.keys());
        assert!(!parked.into_iter().any(|key| key.child == child), "seed {seed}: it was stopped");
        world.removed.insert(child);
        world.check_end(false);
    }
}

#[test]
fn what_was_not_stopped_goes_on_with_all_that_both_sides_have() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        // Here it moves on, there others begin.
        let owner = world.owner(1, &child).expect("somebody took it over");
        let (to, timeout) = (world.nodes[3 - owner].me.id, 5 * SECOND);
        world.request(1, Request::Migrate { child, to, forced: false, timeout });
        let id = world.start(0, 100..110);
        world.run_for(LONG);
        assert_eq!(world.started(0, id), 10, "seed {seed}");
        back(&mut world);
        world.run_for(20 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn what_was_stopped_and_is_begun_anew_is_met_and_goes_on() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        let number: usize = child.as_str()[1..].parse().expect("a number");
        world.start(2, number..number + 1);
        world.run_for(2 * SECOND);
        world.acked.remove(&child);
        let had = state(&world, 0, &child);
        back(&mut world);
        world.run_for(20 * SECOND);
        world.check_end(false);
        let runner = world.runner(&child).expect("it goes on");
        assert!(state(&world, runner, &child).is_superset(&had), "seed {seed}: merged");
    }
}

#[test]
fn one_member_that_remembers_is_enough_and_a_newcomer_takes_nobodys_word_for_its_own() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        world.crash(2);
        world.run_for(5 * SECOND);
        world.restart(2);
        world.run_for(5 * SECOND);
        let had = state(&world, 0, &child);
        back(&mut world);
        world.run_for(20 * SECOND);
        is_retired(&world, &child, &had);
        world.removed.insert(child);
        world.check_end(false);
    }
}

#[test]
fn what_nobody_remembers_goes_on() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        for index in [1, 2] {
            world.crash(index);
            world.run_for(5 * SECOND);
            world.restart(index);
            world.run_for(5 * SECOND);
        }
        let had = state(&world, 0, &child);
        world.acked.remove(&child);
        back(&mut world);
        world.run_for(20 * SECOND);
        world.check_end(false);
        let runner = world.runner(&child).expect("it goes on");
        assert!(state(&world, runner, &child).is_superset(&had), "seed {seed}");
    }
}

#[test]
fn of_two_nodes_each_parks_what_the_other_has_stopped() {
    for seed in seeds(10) {
        let mut world = remembering(seed, 2, 12);
        let (first, second) = (on(&world, 0)[0].clone(), on(&world, 1)[0].clone());
        cut_off(&mut world, 0);
        world.run_for(6 * SECOND);
        stop(&mut world, 1, &first);
        stop(&mut world, 0, &second);
        world.run_for(LONG);
        let (had_first, had_second) = (state(&world, 0, &first), state(&world, 1, &second));
        back(&mut world);
        world.run_for(20 * SECOND);
        is_retired(&world, &first, &had_first);
        is_retired(&world, &second, &had_second);
        world.removed.extend([first, second]);
        world.check_end(false);
    }
}

#[test]
fn what_somebody_else_has_goes_on_though_the_node_that_was_away_has_stopped_it() {
    for seed in seeds(10) {
        let mut world = remembering(seed, 3, 12);
        let child = on(&world, 1)[0].clone();
        cut_off(&mut world, 0);
        world.run_for(6 * SECOND);
        stop(&mut world, 0, &child);
        world.run_for(LONG);
        let had = state(&world, 1, &child);
        back(&mut world);
        world.run_for(20 * SECOND);
        world.check_end(false);
        let runner = world.runner(&child).expect("it goes on");
        assert!(state(&world, runner, &child).is_superset(&had), "seed {seed}");
    }
}

#[test]
fn a_state_that_cannot_be_parked_stays_until_it_can_or_its_child_is_stopped() {
    for seed in seeds(10) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        let had = state(&world, 0, &child);
        back(&mut world);
        world.unfreezable = Some(FreezeFailure::Encode { message: "on purpose".to_owned() });
        let retires = |world: &World| {
            let instance = world.nodes[0].engine.children.instance(&child);
            instance.is_some_and(|it| matches!(it.phase(), Phase::Retiring { .. }))
        };
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if retires(&world) {
                break;
            }
        }
        world.run_for(5 * SECOND);
        assert!(retires(&world), "seed {seed}");
        assert!(state(&world, 0, &child).is_superset(&had), "seed {seed}");
        let engine = &world.nodes[0].engine;
        let why = engine.immovable().find(|(id, _)| **id == child).map(|(_, why)| why);
        assert_eq!(why, Some("the state could not be encoded: on purpose"), "seed {seed}");
        if seed % 2 == 0 {
            world.unfreezable = None;
            world.run_for(10 * SECOND);
            is_retired(&world, &child, &had);
        } else {
            stop(&mut world, 1, &child);
            world.run_for(10 * SECOND);
            assert_eq!(world.runner(&child), None, "seed {seed}");
        }
        world.unfreezable = None;
        world.run_for(10 * SECOND);
        world.removed.insert(child);
        world.check_end(false);
    }
}

/// The children that node 0 has, with when each began from nothing.
fn born(world: &World) -> BTreeMap<ChildId, Epoch> {
    let engine = &world.nodes[0].engine;
    let own = |child: &ChildId| {
        let (owner, ownership) = engine.core.registry.owner(child)?;
        (owner == engine.core.me).then(|| (child.clone(), ownership.born))
    };
    world.children.iter().filter_map(own).collect()
}

#[test]
fn nodes_that_come_and_go_bring_back_nothing_that_was_stopped_and_lose_nothing_that_was_not() {
    for seed in seeds(30) {
        let nodes = 3 + (seed % 2) as usize;
        let mut world = remembering(seed, nodes, 12);
        let mut begun = BTreeSet::new();
        for _ in 0..2 {
            world.start_ms = if world.dice.one_in(3) { (0, 900) } else { (0, 10) };
            let lives = born(&world);
            cut_off(&mut world, 0);
            world.run_for(6 * SECOND);
            for _ in 0..10 {
                let index = 1 + world.dice.below(nodes as u64 - 1) as usize;
                let child = world.children[world.dice.below(12) as usize].clone();
                match world.dice.below(4) {
                    0 => {
                        let id = stop(&mut world, index, &child);
                        world.run_for(3 * SECOND);
                        let reply = &world.nodes[index].replies[&id];
                        assert!(matches!(reply, Reply::Stopped(_)), "seed {seed}: {reply:?}");
                        world.removed.insert(child);
                    }
                    1 => drop(world.panic_child(index, &child)),
                    _ => {
                        let to = world.nodes[1 + (index % (nodes - 1))].me.id;
                        let timeout = 5 * SECOND;
                        let request = Request::Migrate { child, to, forced: false, timeout };
                        world.request(index, request);
                    }
                }
                let wait = world.dice.ms(1, 2_000);
                world.run_for(wait);
            }
            if world.dice.one_in(3) {
                world.crash(1);
                world.run_for(5 * SECOND);
                world.restart(1);
            }
            let wait = world.dice.ms(1_000, 20_000);
            world.run_for(wait);
            // What that node has begun anew meanwhile is another life, and may go on.
            let is_new =
                |(child, at): (ChildId, Epoch)| (lives.get(&child) != Some(&at)).then_some(child);
            begun.extend(born(&world).into_iter().filter_map(is_new));
            back(&mut world);
            let wait = world.dice.ms(1_000, 10_000);
            world.run_for(wait);
        }
        world.start_ms = (0, 10);
        world.run_for(40 * SECOND);
        let is_open = |child: &ChildId| begun.contains(child) && world.removed.contains(child);
        let open: BTreeSet<ChildId> =
            world.children.iter().filter(|c| is_open(c)).cloned().collect();
        world.children.retain(|child| !open.contains(child));
        world.check_end(false);
    }
}

#[test]
fn who_does_not_answer_is_waited_for_once_and_what_it_was_asked_about_lives() {
    for seed in seeds(5) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        for index in [1, 2] {
            world.nodes[index].lie = Some(|message| {
                if let PeerMessage::Sync(SyncWord::Recalled { batch, .. }) = message {
                    *batch = 0;
                }
            });
        }
        let had = state(&world, 0, &child);
        world.acked.remove(&child);
        back(&mut world);
        world.run_for(20 * SECOND);
        let runner = world.runner(&child).expect("it goes on");
        assert!(state(&world, runner, &child).is_superset(&had), "seed {seed}");
        world.check_end(false);
    }
}

#[test]
fn who_was_away_and_never_asks_is_not_waited_for_for_ever() {
    for seed in seeds(5) {
        let (mut world, child) = parted(seed, 3);
        stop(&mut world, 1, &child);
        world.run_for(LONG);
        world.nodes[0].lie = Some(|message| {
            if let PeerMessage::Sync(SyncWord::In { asked, .. }) = message {
                asked.clear();
            }
        });
        back(&mut world);
        world.run_for(2 * SECOND);
        let waits_for = world.nodes[1].engine.waits_for().unwrap_or_default();
        assert_eq!(waits_for, "waits for n0, which asks what was stopped while it was away");
        world.run_for(20 * SECOND);
        world.removed.insert(child);
        world.check_end(false);
    }
}

#[test]
fn more_children_than_one_question_takes_are_asked_about() {
    let mut world = remembering(1, 2, 1_400);
    let stopped = on(&world, 0);
    assert!(stopped.len() > 520);
    cut_off(&mut world, 0);
    world.run_for(6 * SECOND);
    let (children, timeout) = (stopped.clone(), 10 * SECOND);
    world.request(1, Request::Stop { children, timeout });
    world.run_for(LONG);
    back(&mut world);
    world.run_for(20 * SECOND);
    for child in &stopped {
        assert_eq!(world.runner(child), None);
    }
    world.removed.extend(stopped);
    world.check_end(false);
}
