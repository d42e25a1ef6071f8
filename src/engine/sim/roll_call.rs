//! What is left of the children of a node that went down: executions of roll calls, word by word.

use super::divergence::{cut_off, sent};
use super::*;
use crate::{
    engine::children::Begin,
    model::{
        child::{Entry, Ownership},
        message::{Claim, Copy, HandoverWord, LogEntry, RollWord, SyncWord},
    },
};

/// Node `from` says a word to node `to`, which hears it at once.
fn say(world: &mut World, from: usize, to: usize, word: RollWord) {
    let message = PeerMessage::Roll(word);
    if from == to {
        world.nodes[to].engine.core.loopback.push_back(message);
        world.input(to, Input::Event(Event::Tick));
    } else {
        let from = world.nodes[from].me.run();
        world.input(to, Input::Event(Event::Peer { from, message }));
    }
}

fn call(world: &mut World, home: usize, to: usize, child: &ChildId, term: u64) {
    let claims = vec![Claim { child: child.clone(), term }];
    say(world, home, to, RollWord::Call { roll: 1_000 + term, claims });
}

/// Home gives the child to a node, in a term, made of what it holds.
fn give(world: &mut World, home: usize, to: usize, child: &ChildId, term: u64, from: Copy) {
    let (_, owned) = world.nodes[home].engine.registry().owner(child).expect("it is owned");
    let epoch = Epoch { term, attempt: 0 };
    let ownership = Ownership { epoch, ..owned.clone() };
    say(world, home, to, RollWord::Take { ownership, from });
}

fn begins(world: &World, index: usize, child: &ChildId) -> bool {
    let instance = world.nodes[index].engine.children.instances.get(child);
    instance.is_some_and(|instance| {
        matches!(instance.phase, Phase::Starting { why: Begin::Recovered, .. })
    })
}

#[test]
fn a_child_is_taken_in_a_term_alone_that_was_promised() {
    for promised in [None, Some(7), Some(8), Some(9)] {
        let (mut world, child, _, other, home) = one_child(1);
        let home = world.index_of(home.node).expect("it is a node");
        if let Some(term) = promised {
            call(&mut world, home, other, &child, term);
        }
        give(&mut world, home, other, &child, 8, Copy::Nothing);
        assert_eq!(begins(&world, other, &child), promised == Some(8), "{promised:?}");
    }
}

/// The term of a child's owner.
fn term_of(world: &World, index: usize, child: &ChildId) -> u64 {
    world.nodes[index].engine.registry().highest_epoch(child).term
}

/// The only child of five nodes, whose owner has just crashed: runs until a node that is not the home
/// has promised a term. Gives the home and that node.
fn promised(seed: u64) -> (World, ChildId, usize, usize) {
    let mut world = cluster(seed, 5, 1);
    let child = world.children[0].clone();
    let owner = (0..5).find(|index| world.nodes[*index].runtime.actors.contains_key(&child));
    world.crash(owner.expect("somebody runs it"));
    for _ in 0..100_000 {
        world.run_for(Duration::from_micros(100));
        let alive = world.alive();
        let home = world.nodes[alive[0]].engine.core.home(&child).expect("there is one");
        let home = world.index_of(home).expect("it is a node");
        let binds = |index: &usize| {
            *index != home && world.nodes[*index].engine.core.promises.binds(&child)
        };
        if let Some(index) = alive.into_iter().find(binds) {
            return (world, child, home, index);
        }
    }
    panic!("seed {seed}: nobody promised anything");
}

#[test]
fn a_home_that_follows_another_claims_a_term_of_its_own() {
    for seed in seeds(20) {
        let (mut world, child, home, other) = promised(seed);
        let term = world.nodes[other].engine.core.promises.term(&child).expect("it promised");
        // The home goes, or another member, and the view changes with it.
        let gone = match seed % 2 {
            0 => home,
            _ => world.alive().into_iter().find(|i| ![home, other].contains(i)).expect("one more"),
        };
        world.crash(gone);
        world.run_for(8 * SECOND);
        assert!(term_of(&world, other, &child) > term, "seed {seed}");
        world.check_end(false);
    }
}

#[test]
fn what_was_promised_binds_beyond_the_view_and_an_owner_that_lives_is_raised_above_it() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 4, 1);
        let child = world.children[0].clone();
        let core = &world.nodes[0].engine.core;
        let home = world.index_of(core.home(&child).expect("there is one")).expect("it is a node");
        let owner = (0..4).find(|index| world.nodes[*index].runtime.actors.contains_key(&child));
        let owner = owner.expect("somebody runs it");
        let rest: Vec<usize> = (0..4).filter(|index| ![home, owner].contains(index)).collect();
        let (other, gone) = (rest[0], rest[1]);
        call(&mut world, home, other, &child, 7);
        world.crash(gone);
        for _ in 0..20_000 {
            if world.nodes[other].engine.view().members.len() == 3 {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        assert_eq!(world.nodes[other].engine.view().members.len(), 3, "seed {seed}");
        assert!(world.nodes[other].engine.core.promises.binds(&child), "seed {seed}");
        world.run_for(5 * SECOND);
        assert_eq!(term_of(&world, other, &child), 8, "seed {seed}");
        world.check_end(true);
        let to = world.nodes[other].me.id;
        let request = Request::Migrate { child, to, forced: false, timeout: 5 * SECOND };
        let id = world.request(home, request);
        world.run_for(5 * SECOND);
        let reply = &world.nodes[home].replies[&id];
        let moved = matches!(reply, Reply::Migrated(MigrateOutcome::Moved { .. }));
        assert!(moved, "seed {seed}: {reply:?}");
        world.check_end(true);
    }
}

#[test]
fn what_was_promised_of_a_child_that_never_was_is_given_back() {
    let mut world = cluster(1, 3, 1);
    let child = ChildId::new("never").expect("a valid id");
    let home = world.nodes[0].engine.core.home(&child).expect("there is one");
    let home = world.index_of(home).expect("it is a node");
    let (other, gone) = ((home + 1) % 3, (home + 2) % 3);
    call(&mut world, home, other, &child, 7);
    assert!(world.nodes[other].engine.core.promises.binds(&child));
    world.crash(gone);
    world.run_for(5 * SECOND);
    assert!(!world.nodes[other].engine.core.promises.binds(&child));
}

/// A child on its way: its old owner has committed, and its successor does not run yet. Gives both.
fn committed(seed: u64) -> Option<(World, ChildId, usize, usize)> {
    let (mut world, child, source, target) = sent(seed, 20 * SECOND);
    for _ in 0..20_000 {
        world.run_for(Duration::from_micros(100));
        let old = world.nodes[source].runtime.actors.get(&child);
        if world.nodes[target].runtime.actors.contains_key(&child) {
            return None;
        }
        if old.is_some_and(|actor| actor.gate == Gate::Moved) {
            return Some((world, child, source, target));
        }
    }
    None
}

#[test]
fn a_copy_that_is_held_does_not_go_on_under_a_promise_but_by_the_homes_word() {
    let mut hit = 0;
    for seed in seeds(40) {
        let Some((mut world, child, source, target)) = committed(seed) else { continue };
        let core = &world.nodes[source].engine.core;
        let home = world.index_of(core.home(&child).expect("there is one")).expect("it is a node");
        hit += 1;
        let other = (0..5).find(|i| ![source, target, home].contains(i)).expect("five");
        let instance = &world.nodes[source].engine.children.instances[&child];
        let Phase::Moving(moving) = &instance.phase else { panic!("it moves") };
        let moved = moving.ownership.clone();
        call(&mut world, home, source, &child, 9);
        let gate = |world: &World| world.nodes[source].runtime.actors[&child].gate;
        // Nothing is left of the successor.
        let from = world.nodes[target].me.run();
        let (reason, epoch) = ("it did not start".to_owned(), moved.epoch);
        let word = HandoverWord::Failed { child: child.clone(), epoch, reason, gone: true };
        let message = PeerMessage::Handover(word);
        world.input(source, Input::Event(Event::Peer { from, message }));
        assert_eq!(gate(&world), Gate::Moved, "seed {seed}");
        // Another one has begun anew, and would give way.
        let log = world.nodes[other].me.run();
        let epoch = Epoch { term: 5, attempt: 0 };
        let entry = Entry::Owned(Ownership { epoch, born: epoch, copied: epoch, ..moved });
        let version = world.nodes[source].engine.registry().watermark(log);
        let entries = vec![LogEntry { version: version + 1, child: child.clone(), entry }];
        let word = SyncWord::Changes { log, from: version, upto: version + 1, entries };
        let message = PeerMessage::Sync(word);
        world.input(source, Input::Event(Event::Peer { from: log, message }));
        assert_eq!(gate(&world), Gate::Moved, "seed {seed}");
        give(&mut world, home, source, &child, 9, Copy::Frozen);
        assert_eq!(gate(&world), Gate::Open, "seed {seed}");
        assert_eq!(term_of(&world, source, &child), 9, "seed {seed}");
    }
    assert!(hit > 0);
}

#[test]
fn a_copy_counts_by_the_epoch_of_its_state() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((world, child, source, target)) = committed(seed) else { continue };
        let holds = |index: usize| world.nodes[index].engine.children.hold(&child);
        let instance = &world.nodes[source].engine.children.instances[&child];
        let (copy, epoch, _) = holds(source);
        assert_eq!((copy, epoch), (Copy::Frozen, instance.ownership.epoch), "seed {seed}");
        let Phase::Moving(moving) = &instance.phase else { panic!("it moves") };
        assert!(epoch < moving.ownership.epoch, "seed {seed}");
        let (copy, ready, _) = holds(target);
        hit += usize::from(copy == Copy::Ready);
        assert!(copy != Copy::Ready || ready == epoch, "seed {seed}");
    }
    assert!(hit > 0);
}

#[test]
fn an_actor_that_is_being_stopped_is_no_live_one() {
    let (mut world, child, at, _, _) = one_child(1);
    let hold = |world: &World| world.nodes[at].engine.children.hold(&child).0;
    assert_eq!(hold(&world), Copy::Live);
    let timeout = 5 * SECOND;
    world.request(at, Request::Stop { children: vec![child.clone()], timeout });
    for _ in 0..20_000 {
        let instance = world.nodes[at].engine.children.instances.get(&child);
        if instance.is_some_and(|instance| matches!(instance.phase, Phase::Stopping)) {
            assert_eq!(hold(&world), Copy::Nothing);
            return;
        }
        world.run_for(Duration::from_micros(100));
    }
    panic!("it was not stopped");
}

/// A child was handed over, and its successor was cut off before its old owner heard that it runs: that
/// one was given the child, and has committed the next move when the target of that dies and the first
/// successor is back, live, at an epoch of before. Neither's updates are lost.
#[test]
fn a_live_owner_of_before_does_not_win_over_what_a_later_one_has_left() {
    let mut hit = 0;
    for seed in seeds(40) {
        let (mut world, child, source, first) = sent(seed, 20 * SECOND);
        let actor = |world: &World, index: usize| {
            world.nodes[index].runtime.actors.get(&child).map(|actor| actor.gate)
        };
        let opened = |world: &World| {
            actor(world, source) == Some(Gate::Moved) && actor(world, first) == Some(Gate::Open)
        };
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            if opened(&world) {
                break;
            }
        }
        if !opened(&world) {
            continue;
        }
        world.calm = false;
        cut_off(&mut world, first);
        world.run_for(6 * SECOND);
        if actor(&world, source) != Some(Gate::Open) {
            continue;
        }
        let second = (0..5).find(|i| ![source, first].contains(i)).expect("five");
        let to = world.nodes[second].me.id;
        let timeout = 5 * SECOND;
        world
            .request(source, Request::Migrate { child: child.clone(), to, forced: false, timeout });
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            if actor(&world, source) == Some(Gate::Moved) {
                break;
            }
        }
        if actor(&world, second).is_some() || actor(&world, first) != Some(Gate::Open) {
            continue;
        }
        hit += 1;
        world.crash(second);
        world.heal();
        world.run_for(30 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn what_is_stopped_during_a_roll_call_stands_above_what_the_call_gives() {
    let (mut world, child, at, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let term = term_of(&world, home, &child) + 5;
    // The home has claimed a term, and what it gives in it is on its way.
    for to in [home, other] {
        call(&mut world, home, to, &child, term);
    }
    let (_, owned) = world.nodes[home].engine.registry().owner(&child).expect("it is owned");
    let ownership = Ownership { epoch: Epoch { term, attempt: 0 }, ..owned.clone() };
    let timeout = 5 * SECOND;
    world.request(at, Request::Stop { children: vec![child.clone()], timeout });
    world.run_for(SECOND);
    assert!(world.nodes[home].engine.registry().owner(&child).is_none(), "it is stopped");
    say(&mut world, home, other, RollWord::Take { ownership, from: Copy::Nothing });
    world.run_for(2 * SECOND);
    for index in 0..3 {
        assert!(world.nodes[index].engine.registry().owner(&child).is_none());
        assert!(term_of(&world, index, &child) > term);
    }
}
