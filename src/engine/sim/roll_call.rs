//! What is left of the children of a node that went down: executions of roll calls, word by word.

use super::divergence::{cut_off, sent, split, yielding};
use super::*;
use crate::{
    engine::{
        children::Begin,
        handover::{SourceStage, TargetStage},
    },
    model::{
        child::{Entry, Ownership, RestartIntensity, Taken, TakenIn},
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

pub(super) fn call(world: &mut World, home: usize, to: usize, child: &ChildId, term: u64) {
    let claims = vec![Claim { child: child.clone(), term }];
    say(world, home, to, RollWord::Call { roll: 1_000 + term, claims });
}

/// Home gives the child to a node, in a term, made of what it holds.
pub(super) fn give(
    world: &mut World,
    home: usize,
    to: usize,
    child: &ChildId,
    term: u64,
    from: Copy,
) {
    let (_, owned) = world.nodes[home].engine.registry().owner(child).expect("it is owned");
    let epoch = Epoch { term, attempt: 0 };
    let ownership = Ownership { epoch, ..owned.clone() };
    say(world, home, to, RollWord::Take { ownership, from });
}

fn begins(world: &World, index: usize, child: &ChildId) -> bool {
    let instance = world.nodes[index].engine.children.instance(child);
    instance.is_some_and(|instance| {
        matches!(instance.phase(), Phase::Starting { why: Begin::Recovered, .. })
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
pub(super) fn term_of(world: &World, index: usize, child: &ChildId) -> u64 {
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
pub(super) fn committed(seed: u64) -> Option<(World, ChildId, usize, usize)> {
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
        let instance = world.nodes[source].engine.children.instance(&child).expect("it is here");
        let Phase::Moving(moving) = instance.phase() else { panic!("it moves") };
        let moved = moving.ownership().clone();
        call(&mut world, home, source, &child, 9);
        let gate = |world: &World| world.nodes[source].runtime.actors[&child].gate;
        // Nothing is left of the successor.
        let from = world.nodes[target].me.run();
        let (reason, epoch) = ("it did not start".to_owned(), moved.epoch);
        let word =
            HandoverWord::Failed { child: child.clone(), epoch, reason, gone: true, lasts: false };
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
        let instance = world.nodes[source].engine.children.instance(&child).expect("it is here");
        let (copy, epoch, _) = holds(source);
        assert_eq!((copy, epoch), (Copy::Frozen, instance.ownership().epoch), "seed {seed}");
        let Phase::Moving(moving) = instance.phase() else { panic!("it moves") };
        assert!(epoch < moving.epoch(), "seed {seed}");
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
        let instance = world.nodes[at].engine.children.instance(&child);
        if instance.is_some_and(|instance| matches!(instance.phase(), Phase::Stopping)) {
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

/// A copy that stands ready is taken, and its `started` fails: the home hears of it, and the copy that
/// its old owner holds goes on in a later term, with all updates.
#[test]
fn a_ready_copy_that_cannot_start_gives_way_to_what_another_holds() {
    let mut hit = 0;
    for seed in seeds(40) {
        let Some((mut world, child, source, target)) = committed(seed) else { continue };
        if world.nodes[target].engine.children.hold(&child).0 != Copy::Ready {
            continue;
        }
        hit += 1;
        let core = &world.nodes[source].engine.core;
        let home = world.index_of(core.home(&child).expect("there is one")).expect("it is a node");
        world.cannot.insert(target, Cannot::Start);
        for index in [source, target] {
            call(&mut world, home, index, &child, 9);
        }
        give(&mut world, home, target, &child, 9, Copy::Ready);
        world.run_for(5 * SECOND);
        assert_eq!(world.runner(&child), Some(source), "seed {seed}");
        assert!(term_of(&world, home, &child) > 9, "seed {seed}");
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn of_a_ready_copy_that_cannot_start_and_was_all_that_was_left_the_child_begins_anew_elsewhere() {
    let mut hit = 0;
    for seed in seeds(20) {
        let (mut world, child, source, target) = sent(seed, 20 * SECOND);
        let hold = |world: &World| world.nodes[target].engine.children.hold(&child).0;
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            if hold(&world) == Copy::Ready {
                break;
            }
        }
        if hold(&world) != Copy::Ready {
            continue;
        }
        hit += 1;
        world.cannot.insert(target, Cannot::Start);
        world.crash(source);
        // It is tried several times, and then parked.
        world.run_for(30 * SECOND);
        assert!(world.runner(&child).is_some_and(|runner| runner != target), "seed {seed}");
        let parked = &world.nodes[target].runtime.parked;
        assert!(parked.keys().any(|key| key.child == child), "seed {seed}");
        let home = world.alive()[0];
        // One call gave it the ready copy, the next one found nothing.
        assert!(term_of(&world, home, &child) > 2, "seed {seed}");
        world.check_end(false);
    }
    assert!(hit > 0);
}

/// A child that ends while nobody can start it. Gives its node.
fn waits(seed: u64, restarts: u32) -> (World, ChildId, usize) {
    let mut world = World::new(seed, 3);
    world.run_for(3 * SECOND);
    let child = ChildId::new("c0").expect("a valid id");
    world.children.push(child.clone());
    let intensity = RestartIntensity { restarts, within: 600 * SECOND };
    let spec = ChildSpec::from_parts(child.clone(), kind(), Bytes::new()).intensity(intensity);
    let (specs, timeout) = (vec![Arc::new(spec)], 30 * SECOND);
    world.request(0, Request::Start { specs, on_failure: OnFailure::Continue, timeout });
    world.run_for(2 * SECOND);
    let at = world.runner(&child).expect("it runs");
    world.refuse_starts = true;
    world.acked.clear();
    assert!(world.panic_child(at, &child), "seed {seed}");
    (world, child, at)
}

#[test]
fn a_child_without_an_actor_is_taken_over_once_when_its_node_dies() {
    for seed in seeds(20) {
        // It waits for its next start, or was given up.
        for restarts in [100, 0] {
            let (mut world, child, _) = waits(seed, restarts);
            world.run_for(SECOND);
            let at = world.owner(0, &child).expect("somebody owns it");
            let instance = world.nodes[at].engine.children.instance(&child).expect("it is here");
            assert_eq!(instance.ownership().is_given_up(), restarts == 0, "seed {seed}");
            let term = term_of(&world, at, &child);
            world.crash(at);
            world.refuse_starts = false;
            world.starts.clear();
            world.run_for(10 * SECOND);
            world.check_end(false);
            let starts: Vec<_> = world.starts.values().flatten().collect();
            assert_eq!(starts.len(), 1, "seed {seed}, {restarts} restarts");
            let home = world.alive()[0];
            assert_eq!(term_of(&world, home, &child), term + 1, "seed {seed}");
            let (_, owned) = world.nodes[home].engine.registry().owner(&child).expect("owned");
            assert!(owned.failure.is_none(), "seed {seed}: {:?}", owned.failure);
        }
    }
}

/// Whether an instance has come so far.
type Reached = fn(&Phase) -> bool;

/// Who is asked while it waits for its next start goes on with it, as any owner that lives does: it
/// takes the term that the home gives it, whatever it is doing by then.
#[test]
fn a_child_that_waits_for_its_next_start_goes_on_under_a_promise_and_is_given_its_term() {
    // Before the pause ends, while it is being started, and when it runs.
    let is_waiting = |phase: &Phase| matches!(phase, Phase::Waiting(_));
    let is_starting = |phase: &Phase| matches!(phase, Phase::Starting { why: Begin::Restart, .. });
    let is_running = |phase: &Phase| matches!(phase, Phase::Running);
    let phases: [(Reached, bool); 5] = [
        (is_waiting, true),
        (is_waiting, false),
        (is_starting, true),
        (is_starting, false),
        (is_running, true),
    ];
    for (until, can) in phases {
        let mut hit = 0;
        for seed in seeds(10) {
            let (mut world, child, at) = waits(seed, 100);
            let core = &world.nodes[at].engine.core;
            let home = core.home(&child).expect("there is one");
            let home = world.index_of(home).expect("it is a node");
            world.refuse_starts = !can;
            world.start_ms = (5, 10);
            call(&mut world, home, at, &child, 9);
            let reached = |world: &World| {
                until(world.nodes[at].engine.children.instance(&child).expect("it is here").phase())
            };
            for _ in 0..200 {
                if reached(&world) {
                    break;
                }
                world.run_for(Duration::from_millis(1));
            }
            // Its home may have called again by itself, as nobody else would.
            if !reached(&world) || !world.nodes[at].engine.core.promises.binds(&child) {
                continue;
            }
            hit += 1;
            assert_eq!(world.nodes[at].engine.children.hold(&child).0, Copy::Live, "seed {seed}");
            give(&mut world, home, at, &child, 9, Copy::Live);
            assert_eq!(term_of(&world, at, &child), 9, "seed {seed}");
            world.run_for(SECOND / 2);
            world.refuse_starts = false;
            world.run_for(20 * SECOND);
            assert_eq!(term_of(&world, home, &child), 9, "seed {seed}");
            world.check_end(true);
        }
        assert!(hit > 0);
    }
}

/// The words that are on their way to a node.
pub(super) fn on_the_way(world: &World, to: usize) -> Vec<PeerMessage> {
    let words = world.queue.values().filter_map(|(index, input)| match input {
        Input::Word { event: Event::Peer { message, .. }, .. } if *index == to => Some(message),
        _ => None,
    });
    words.cloned().collect()
}

pub(super) fn home_of(world: &World, child: &ChildId) -> usize {
    let home = world.nodes[world.alive()[0]].engine.core.home(child).expect("there is one");
    world.index_of(home).expect("it is a node")
}

fn binds(world: &World, index: usize, child: &ChildId) -> bool {
    world.nodes[index].engine.core.promises.binds(child)
}

/// A node hears of an entry that another one has written into its log.
pub(super) fn hears(world: &mut World, index: usize, writer: usize, child: &ChildId, entry: Entry) {
    let log = world.nodes[writer].me.run();
    let version = world.nodes[index].engine.registry().watermark(log);
    let entries = vec![LogEntry { version: version + 1, child: child.clone(), entry }];
    let word = SyncWord::Changes { log, from: version, upto: version + 1, entries };
    world.input(index, Input::Event(Event::Peer { from: log, message: PeerMessage::Sync(word) }));
}

/// The child as its owner has it, at another epoch and in another life.
pub(super) fn begun_anew(world: &World, index: usize, child: &ChildId, epoch: Epoch) -> Ownership {
    let (_, owned) = world.nodes[index].engine.registry().owner(child).expect("it is owned");
    Ownership { epoch, born: epoch, copied: epoch, ..owned.clone() }
}

#[test]
fn a_home_is_told_of_an_owner_that_it_has_not_heard_of_and_promised_nothing_below() {
    let (mut world, child, at, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let epoch = Epoch { term: 9, attempt: 2 };
    let entry = Entry::Owned(begun_anew(&world, at, &child, epoch));
    hears(&mut world, other, at, &child, entry);
    call(&mut world, home, other, &child, 9);
    assert!(!binds(&world, other, &child));
    let told = on_the_way(&world, home).into_iter().find_map(|word| match word {
        PeerMessage::Roll(RollWord::Answer { roll: 1_009, holds }) => holds[0].promised,
        _ => None,
    });
    assert_eq!(told, Some(9));
}

/// Whether somebody tells the home that a child was not taken in this term.
fn is_refused(world: &World, home: usize, child: &ChildId, refused: u64) -> bool {
    on_the_way(world, home).into_iter().any(|word| match word {
        PeerMessage::Roll(RollWord::Again { child: of, term }) => of == *child && term == refused,
        _ => false,
    })
}

/// One child that was sent away from its home. Gives its owner, a third node and its home.
pub(super) fn apart() -> (World, ChildId, usize, usize, usize) {
    let (mut world, child, _, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
    world.request(home, Request::Migrate { child: child.clone(), to, forced: false, timeout });
    world.run_for(2 * SECOND);
    assert_eq!(world.runner(&child), Some(other));
    let third = (0..3).find(|index| ![home, other].contains(index)).expect("three");
    (world, child, other, third, home)
}

#[test]
fn who_has_not_what_it_is_given_says_so_to_the_home() {
    for holds in [Copy::Live, Copy::Frozen, Copy::Ready, Copy::Nothing] {
        let (mut world, child, at, other, home) = apart();
        let to = if holds == Copy::Nothing { at } else { other };
        call(&mut world, home, to, &child, 8);
        give(&mut world, home, to, &child, 8, holds);
        assert!(is_refused(&world, home, &child, 8), "{holds:?}");
        assert_eq!(world.runner(&child), Some(at), "{holds:?}");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn what_is_given_to_a_node_whose_actor_ends_is_taken_when_it_has_ended() {
    for holds in [Copy::Live, Copy::Frozen, Copy::Nothing] {
        let (mut world, child, at, _, home) = apart();
        call(&mut world, home, at, &child, 8);
        let timeout = 5 * SECOND;
        world.request(home, Request::Stop { children: vec![child.clone()], timeout });
        world.removed.insert(child.clone());
        let is_stopping = |world: &World| {
            let instance = world.nodes[at].engine.children.instance(&child);
            instance.is_some_and(|instance| matches!(instance.phase(), Phase::Stopping))
        };
        for _ in 0..20_000 {
            if is_stopping(&world) {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        assert!(is_stopping(&world), "{holds:?}");
        give(&mut world, home, at, &child, 8, holds);
        assert!(is_stopping(&world), "{holds:?}");
        assert!(!is_refused(&world, home, &child, 8), "{holds:?}");
        world.run_for(5 * SECOND);
        assert!(!binds(&world, at, &child), "{holds:?}");
        world.check_end(true);
    }
}

#[test]
fn nobody_but_a_childs_home_is_promised_anything() {
    let (mut world, child, at, other, _) = apart();
    call(&mut world, at, other, &child, 8);
    assert!(!binds(&world, other, &child));
}

#[test]
fn what_is_being_built_is_no_copy_and_one_that_stands_is_not_dropped_for_nothing() {
    let mut hit = 0;
    for seed in seeds(20) {
        let (mut world, child, _, target) = sent(seed, 20 * SECOND);
        let mut built = false;
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            let copy = world.nodes[target].engine.children.hold(&child).0;
            match world.nodes[target].engine.children.successor_stage(&child) {
                Some(stage) if stage < TargetStage::Ready => {
                    built = true;
                    assert_eq!(copy, Copy::Nothing, "seed {seed}");
                }
                Some(TargetStage::Ready) => break,
                _ => {}
            }
        }
        let hold = |world: &World| world.nodes[target].engine.children.hold(&child).0;
        if hold(&world) != Copy::Ready {
            continue;
        }
        hit += usize::from(built);
        let home = home_of(&world, &child);
        call(&mut world, home, target, &child, 9);
        give(&mut world, home, target, &child, 9, Copy::Nothing);
        assert_eq!(hold(&world), Copy::Ready, "seed {seed}");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

/// The target has heard of the commit, and its successor is being started when the roll is called.
#[test]
fn a_live_copy_that_is_still_being_started_is_taken_when_it_runs() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, _, target)) = committed(seed) else { continue };
        world.start_ms = (50, 51);
        let stage = |world: &World| world.nodes[target].engine.children.successor_stage(&child);
        for _ in 0..1_000 {
            if stage(&world) == Some(TargetStage::Opening) {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        let home = home_of(&world, &child);
        if stage(&world) != Some(TargetStage::Opening) || home == target {
            continue;
        }
        hit += 1;
        call(&mut world, home, target, &child, 9);
        give(&mut world, home, target, &child, 9, Copy::Live);
        assert!(!is_refused(&world, home, &child, 9), "seed {seed}");
        for _ in 0..1_000 {
            if stage(&world).is_none() {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        give(&mut world, home, target, &child, 9, Copy::Live);
        assert_eq!(term_of(&world, target, &child), 9, "seed {seed}");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn a_ready_copy_of_a_child_that_had_failed_runs_without_its_failure() {
    let mut hit = 0;
    for seed in seeds(20) {
        let (mut world, child, at) = waits(seed, 100);
        let other = (at + 1) % 3;
        let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
        world.request(at, Request::Migrate { child: child.clone(), to, forced: false, timeout });
        let hold = |world: &World| world.nodes[other].engine.children.hold(&child).0;
        for _ in 0..2_000 {
            if hold(&world) == Copy::Ready {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        if hold(&world) != Copy::Ready {
            continue;
        }
        hit += 1;
        world.crash(at);
        world.refuse_starts = false;
        let owned = |world: &World| {
            let instance = world.nodes[other].engine.children.instance(&child);
            instance.map(|instance| instance.ownership().clone())
        };
        for _ in 0..10_000 {
            if owned(&world).is_some() {
                break;
            }
            world.run_for(Duration::from_millis(1));
        }
        let Some(Ownership { failure, .. }) = owned(&world) else {
            panic!("seed {seed}: no owner")
        };
        assert!(failure.is_none(), "seed {seed}: {failure:?}");
        world.run_for(10 * SECOND);
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn an_owner_that_yields_and_is_given_the_child_runs_and_counts_as_a_copy() {
    let mut hit = 0;
    for seed in seeds(10) {
        let mut world = split(seed);
        world.bulk_ms = (3_000, 4_000);
        world.heal();
        for _ in 0..4_000 {
            if yielding(&world).is_some() {
                break;
            }
            world.run_for(Duration::from_millis(1));
        }
        let Some((child, _)) = yielding(&world) else { continue };
        let yields = |index: &usize| {
            let instance = world.nodes[*index].engine.children.instance(&child);
            instance.is_some_and(|instance| matches!(instance.phase(), Phase::Yielding { .. }))
        };
        let loser = (0..3).find(yields).expect("somebody yields");
        let home = world.nodes[loser].engine.core.home(&child).expect("there is one");
        let home = world.index_of(home).expect("it is a node");
        let epoch = Epoch { term: term_of(&world, loser, &child) + 5, attempt: 0 };
        call(&mut world, home, loser, &child, epoch.term);
        let (_, owned) = world.nodes[loser].engine.registry().owner(&child).expect("it is owned");
        let ownership = Ownership { epoch, copied: epoch, ..owned.clone() };
        say(&mut world, home, loser, RollWord::Take { ownership, from: Copy::Frozen });
        if term_of(&world, loser, &child) != epoch.term {
            continue;
        }
        hit += 1;
        let instance = world.nodes[loser].engine.children.instance(&child).expect("it is here");
        // If it belongs elsewhere it is offered there at once.
        let goes_on = matches!(instance.phase(), Phase::Running | Phase::Moving(_));
        assert!(goes_on, "seed {seed}: {:?}", instance.phase());
        assert_eq!(instance.ownership().copied, epoch, "seed {seed}");
        assert_eq!(world.nodes[loser].runtime.actors[&child].gate, Gate::Open, "seed {seed}");
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn a_promise_stands_until_what_is_taken_runs() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, _, target)) = committed(seed) else { continue };
        if world.nodes[target].engine.children.hold(&child).0 != Copy::Ready {
            continue;
        }
        hit += 1;
        let home = home_of(&world, &child);
        world.start_ms = (50, 51);
        // A state of another was merged into this one: whoever offers it again is told so.
        let taken =
            Taken { from: world.nodes[home].me.run(), epoch: Epoch { term: 1, attempt: 7 } };
        let children = &mut world.nodes[target].engine.children;
        let ready = children.successor_ownership(&child).expect("it stands");
        ready.taken.add(taken, &TakenIn::default());
        call(&mut world, home, target, &child, 9);
        give(&mut world, home, target, &child, 9, Copy::Ready);
        let hold = |world: &World| world.nodes[target].engine.children.hold(&child);
        let epoch = Epoch { term: 9, attempt: 0 };
        assert_eq!((hold(&world).0, hold(&world).1), (Copy::Live, epoch), "seed {seed}");
        // The home says it again, and it was taken already.
        give(&mut world, home, target, &child, 9, Copy::Ready);
        assert!(binds(&world, target, &child), "seed {seed}");
        world.run_for(5 * SECOND);
        assert_eq!(term_of(&world, home, &child), 9, "seed {seed}");
        let instance = world.nodes[target].engine.children.instance(&child).expect("it is here");
        assert!(instance.ownership().taken.contains(taken), "seed {seed}");
        // Once more, and late.
        give(&mut world, home, target, &child, 9, Copy::Ready);
        assert!(!is_refused(&world, home, &child, 9), "seed {seed}");
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn what_was_promised_of_a_child_is_given_back_when_it_is_stopped() {
    for seed in seeds(10) {
        let (mut world, child, at, other, home) = one_child(seed);
        let home = world.index_of(home.node).expect("it is a node");
        call(&mut world, home, other, &child, 7);
        let timeout = 5 * SECOND;
        world.request(at, Request::Stop { children: vec![child.clone()], timeout });
        world.removed.insert(child.clone());
        world.run_for(2 * SECOND);
        assert!(!binds(&world, other, &child), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_home_is_told_until_it_hears_that_a_promise_waits() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 4, 1);
        let child = world.children[0].clone();
        let home = home_of(&world, &child);
        let owner = world.runner(&child).expect("somebody runs it");
        let rest: Vec<usize> = (0..4).filter(|index| ![home, owner].contains(index)).collect();
        let (other, gone) = (rest[0], rest[1]);
        call(&mut world, home, other, &child, 7);
        world.nodes[other].lie = Some(|message| {
            if let PeerMessage::Roll(RollWord::Again { term, .. }) = message {
                *term = 0;
            }
        });
        world.crash(gone);
        world.run_for(5 * SECOND);
        assert!(world.nodes[other].engine.is_settled(), "seed {seed}");
        assert!(binds(&world, other, &child), "seed {seed}");
        world.nodes[other].lie = None;
        world.run_for(5 * SECOND);
        assert_eq!(term_of(&world, other, &child), 8, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_call_that_a_member_never_answered_ends_when_that_member_is_gone() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 5, 1);
        let child = world.children[0].clone();
        let owner = world.runner(&child).expect("somebody runs it");
        world.crash(owner);
        let is_called = |world: &World| {
            let holds_nothing = |index: &usize| binds(world, *index, &child);
            world.alive().into_iter().find(holds_nothing)
        };
        while is_called(&world).is_none() {
            world.run_for(Duration::from_micros(100));
        }
        // Its answer is not on its way yet.
        let mute = world
            .alive()
            .into_iter()
            .find(|index| *index != home_of(&world, &child) && !binds(&world, *index, &child));
        world.crash(mute.expect("one has not heard of it"));
        world.run_for(8 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn nothing_is_committed_under_a_promise() {
    let mut hit = 0;
    for seed in seeds(20) {
        let (mut world, child, source, _) = sent(seed, 20 * SECOND);
        let is_sent = |world: &World| {
            let instance = world.nodes[source].engine.children.instance(&child);
            instance.is_some_and(|instance| {
                matches!(instance.phase(), Phase::Moving(moving) if moving.stage() == SourceStage::Sent)
            })
        };
        for _ in 0..20_000 {
            world.run_for(Duration::from_micros(100));
            if is_sent(&world) {
                break;
            }
        }
        if !is_sent(&world) {
            continue;
        }
        let home = home_of(&world, &child);
        call(&mut world, home, source, &child, 9);
        for _ in 0..2_000 {
            world.run_for(Duration::from_micros(100));
            if binds(&world, source, &child) {
                let actor = world.nodes[source].runtime.actors.get(&child);
                assert!(actor.is_some_and(|actor| actor.gate != Gate::Moved), "seed {seed}");
                hit += usize::from(!is_sent(&world));
            }
        }
        world.run_for(10 * SECOND);
        call(&mut world, home, source, &child, 19);
        give(&mut world, home, source, &child, 19, Copy::Live);
        world.run_for(10 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn no_successor_opens_under_a_promise() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = committed(seed) else { continue };
        if world.nodes[target].engine.children.hold(&child).0 != Copy::Ready {
            continue;
        }
        let home = home_of(&world, &child);
        call(&mut world, home, target, &child, 9);
        let source = world.nodes[source].me.run();
        for _ in 0..1_000 {
            world.run_for(Duration::from_micros(100));
            if binds(&world, target, &child) {
                assert!(!world.nodes[target].runtime.actors.contains_key(&child), "seed {seed}");
                let best = world.nodes[target].engine.registry().best(&child);
                hit += usize::from(best.is_some_and(|best| best.writer == source));
            }
        }
        world.run_for(10 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

#[test]
fn nothing_is_offered_or_accepted_under_a_promise() {
    for seed in seeds(10) {
        for offers in [true, false] {
            let (mut world, child, at, other, home) = one_child(seed);
            let home = world.index_of(home.node).expect("it is a node");
            let bound = if offers { at } else { other };
            call(&mut world, home, bound, &child, 9);
            let (to, timeout) = (world.nodes[other].me.id, 20 * SECOND);
            let request = Request::Migrate { child: child.clone(), to, forced: false, timeout };
            world.request(home, request);
            for _ in 0..100 {
                world.run_for(Duration::from_millis(1));
                if !binds(&world, bound, &child) {
                    continue;
                }
                let children = &world.nodes[at].engine.children;
                let moves = children.instance(&child).expect("it is here").moving().is_some();
                assert!(!(offers && moves), "seed {seed}");
                let stage = world.nodes[other].engine.children.successor_stage(&child);
                assert_eq!(stage, None, "seed {seed}");
            }
            call(&mut world, home, at, &child, 9);
            give(&mut world, home, at, &child, 9, Copy::Live);
            world.run_for(10 * SECOND);
            world.check_end(true);
        }
    }
}

#[test]
fn an_owner_that_meets_another_goes_on_above_what_it_has_promised() {
    let (mut world, child, at, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    call(&mut world, home, at, &child, 9);
    let epoch = Epoch { term: 5, attempt: 0 };
    let entry = Entry::Owned(begun_anew(&world, at, &child, epoch));
    hears(&mut world, at, other, &child, entry);
    assert_eq!(term_of(&world, at, &child), 10);
    assert!(!binds(&world, at, &child));
}

/// A node was handed a child, has nothing of it, and has told that to a home: it does not begin the
/// child by itself.
#[test]
fn nothing_is_begun_anew_under_a_promise() {
    for seed in seeds(10) {
        let (mut world, child, at, other, home) = one_child(seed);
        let home = world.index_of(home.node).expect("it is a node");
        let (_, owned) = world.nodes[at].engine.registry().owner(&child).expect("it is owned");
        let ownership = Ownership { epoch: owned.epoch.next_attempt(), ..owned.clone() };
        let to = world.nodes[other].me.run();
        world.crash(at);
        hears(&mut world, other, at, &child, Entry::Moved { to, ownership });
        call(&mut world, home, other, &child, 9);
        for _ in 0..5_000 {
            world.run_for(Duration::from_millis(1));
            let begun = world.nodes[other].engine.children.instance(&child).is_some();
            assert!(!binds(&world, other, &child) || !begun, "seed {seed}");
        }
        assert!(term_of(&world, other, &child) > 9, "seed {seed}");
        world.check_end(false);
    }
}

/// A call that went by a third node comes late: its home has changed its view since, and has forgotten
/// it. Nobody acts on what was promised, and the child goes where it is sent all the same.
#[test]
fn a_promise_to_a_call_that_is_over_does_not_stand_for_ever() {
    for seed in seeds(10) {
        let (mut world, child, at, other, home) = one_child(seed);
        let home = world.index_of(home.node).expect("it is a node");
        call(&mut world, home, other, &child, 7);
        world.run_for(5 * SECOND);
        assert!(!binds(&world, other, &child), "seed {seed}");
        let (to, timeout) = (world.nodes[other].me.id, 5 * SECOND);
        let request = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        world.request(at, request);
        world.run_for(3 * SECOND);
        assert_eq!(world.runner(&child), Some(other), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn only_what_was_held_is_said_to_be_recovered() {
    let (mut world, child, at, _, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let term = term_of(&world, home, &child) + 1;
    call(&mut world, home, at, &child, term);
    give(&mut world, home, at, &child, term, Copy::Live);
    world.run_for(SECOND);
    assert_eq!(term_of(&world, at, &child), term);
    assert_eq!(world.nodes[at].recovered, 0, "it never stopped");
    let held = seeds(20).find_map(committed);
    let (mut world, child, source, target) = held.expect("one is held");
    let home = world.nodes[source].engine.core.home(&child).expect("there is one");
    let home = world.index_of(home).expect("it is a node");
    let term = term_of(&world, home, &child) + 1;
    for to in [source, target] {
        call(&mut world, home, to, &child, term);
    }
    give(&mut world, home, source, &child, term, Copy::Frozen);
    assert_eq!(world.nodes[source].recovered, 1);
}
