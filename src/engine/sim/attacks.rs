//! Members that say what no honest one would. What they can do ends when they are gone.

use super::*;
use crate::engine::children::MOST_MERGES;
use crate::model::{
    child::{Entry, Ownership},
    message::{BulkHeader, Claim, LogEntry, RollWord, SyncWord, Watermark},
    quota::Quota,
    report::{StartFailed, StopOutcome},
};

/// All children, each as it is owned.
fn owned(world: &World) -> Vec<(ChildId, NodeRun, Ownership)> {
    let registry = world.nodes[0].engine.registry();
    registry.children().map(|(child, run, owned)| (child.clone(), run, owned.clone())).collect()
}

/// Node `from` says a word to node `to`.
fn say(world: &mut World, from: usize, to: usize, message: PeerMessage) {
    let from = world.nodes[from].me.run();
    world.input(to, Input::Event(Event::Peer { from, message }));
}

#[test]
fn entries_at_the_highest_epoch_leave_no_child_without_an_owner() {
    for (seed, term) in seeds(3).zip([Epoch::LIMIT, Epoch::FIRST, 2 + Epoch::JUMP]) {
        let mut world = cluster(seed, 3, 60);
        let log = world.nodes[2].me.run();
        let from = world.nodes[2].engine.registry().version();
        let entries: Vec<LogEntry> = owned(&world)
            .into_iter()
            .zip(from + 1..)
            .map(|((child, _, ownership), version)| {
                let epoch = Epoch { term, attempt: 0 };
                let entry = Entry::Owned(Ownership { epoch, ..ownership });
                LogEntry { version, child, entry }
            })
            .collect();
        let upto = from + entries.len() as u64;
        for to in 0..2 {
            let entries = entries.clone();
            let word = SyncWord::Changes { log, from, upto, entries };
            say(&mut world, 2, to, PeerMessage::Sync(word));
            assert_eq!(world.nodes[to].faults.len(), 1, "seed {seed}: told once");
        }
        world.crash(2);
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_promise_that_cannot_be_outbid_does_not_hold_up_a_takeover() {
    for seed in seeds(3) {
        let mut world = cluster(seed, 4, 40);
        world.nodes[3].lie = Some(|word| {
            if let PeerMessage::Roll(RollWord::Answer { holds, .. }) = word {
                holds.iter_mut().for_each(|held| held.promised = Some(Epoch::LIMIT));
            }
        });
        world.crash(1);
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_claim_that_jumps_is_not_obeyed() {
    let (mut world, child, _, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let claims = vec![Claim { child: child.clone(), term: Epoch::LIMIT }];
    say(&mut world, home, other, PeerMessage::Roll(RollWord::Call { roll: 9, claims }));
    assert!(!world.nodes[other].engine.core.promises.binds(&child));
    assert_eq!(world.nodes[other].faults.len(), 1);
}

/// Children that do not exist, and whose home is node 0.
fn homed(world: &World, count: usize) -> Vec<ChildId> {
    let core = &world.nodes[0].engine.core;
    (0..)
        .map(|n| ChildId::new(format!("new-{n}")).expect("an id"))
        .filter(|child| core.is_home(child))
        .take(count)
        .collect()
}

/// What node 0 says and does about a word of node 1. Nothing of it is carried out.
fn effects_of(world: &mut World, word: HomeWord) -> Vec<Effect> {
    let (from, now) = (world.nodes[1].me.run(), world.now);
    let engine = &mut world.nodes[0].engine;
    engine.handle(now, Event::Peer { from, message: PeerMessage::Home(word) });
    std::iter::from_fn(|| engine.next_effect()).collect()
}

fn start(child: &ChildId, request: u64) -> HomeWord {
    let args = Bytes::from(vec![0; 1_000]);
    let spec = Arc::new(ChildSpec::from_parts(child.clone(), kind(), args));
    HomeWord::Start { request: RequestId(request), specs: vec![spec], wait: SECOND }
}

/// Whether a start was refused for lack of room.
fn is_refused(effect: &Effect) -> bool {
    let busy = |outcome: &StartOutcome| {
        matches!(outcome, StartOutcome::Failed { reason: StartFailed::Busy { .. } })
    };
    matches!(effect, Effect::Send { message: PeerMessage::Home(HomeWord::Started { outcomes, .. }), .. }
        if outcomes.iter().any(|one| busy(&one.outcome)))
}

#[test]
fn starts_that_wait_are_bounded_for_each_node_and_given_back() {
    let mut world = cluster(1, 2, 1);
    let peer = world.nodes[1].me.id;
    *world.nodes[0].engine.homes.quota() = Quota::new(10_000);
    let children = homed(&world, 20);
    let over = |effect: &&Effect| matches!(effect, Effect::Emit(HubEvent::WordsRefused { .. }));
    let (mut refused, mut told) = (0, 0);
    for (child, request) in children.iter().zip(1..) {
        let effects = effects_of(&mut world, start(child, request));
        refused += effects.iter().filter(|effect| is_refused(effect)).count();
        told += effects.iter().filter(over).count();
        // The same again takes no room.
        effects_of(&mut world, start(child, request));
    }
    assert!((11..=13).contains(&refused), "{refused} were refused");
    assert_eq!(told, 1);
    assert!(world.nodes[0].engine.homes.quota().used(peer) > 8_000);
    // Others of the node that wait for one start take room, too.
    for request in 100..200 {
        effects_of(&mut world, start(&children[0], request));
    }
    assert!(world.nodes[0].engine.homes.quota().used(peer) <= 10_000);
    let word = HomeWord::Stop { request: RequestId(7), children: children.clone(), wait: SECOND };
    let stops = effects_of(&mut world, word);
    let busy = stops.iter().filter_map(|effect| match effect {
        Effect::Send { message: PeerMessage::Home(HomeWord::Stopped { outcomes, .. }), .. } => {
            Some(outcomes.iter().filter(|o| matches!(o.outcome, StopOutcome::Busy { .. })).count())
        }
        _ => None,
    });
    assert!(busy.sum::<usize>() > 0);
    // Nobody has started anything: the orders end with their time.
    let engine = &mut world.nodes[0].engine;
    for seconds in [2, 4] {
        engine.handle(world.now + seconds * SECOND, Event::Tick);
        while engine.next_effect().is_some() {}
    }
    assert_eq!(engine.homes.quota().used(peer), 0);
}

#[test]
fn questions_that_wait_are_bounded_for_each_node_and_given_back() {
    let mut world = cluster(1, 2, 1);
    let peer = world.nodes[1].me.id;
    *world.nodes[0].engine.homes.quota() = Quota::new(10_000);
    let children = homed(&world, 100);
    // While a start is under way nobody knows where the child is.
    let specs = children
        .iter()
        .map(|child| Arc::new(ChildSpec::from_parts(child.clone(), kind(), Bytes::new())));
    let request =
        Request::Start { specs: specs.collect(), on_failure: OnFailure::Continue, timeout: SECOND };
    let engine = &mut world.nodes[0].engine;
    engine.handle(world.now, Event::Request { id: RequestId(900), request });
    while engine.next_effect().is_some() {}
    for question in [1, 2] {
        for child in &children {
            effects_of(&mut world, HomeWord::Locate { child: child.clone(), question });
        }
    }
    let used = world.nodes[0].engine.homes.quota().used(peer);
    assert!((9_000..=10_000).contains(&used), "{used} bytes are kept");
    let engine = &mut world.nodes[0].engine;
    engine.handle(world.now + 2 * SECOND, Event::Tick);
    while engine.next_effect().is_some() {}
    assert_eq!(engine.homes.quota().used(peer), 0);
}

/// Node `from` tells node `to` that the log of `about` is at 2^62, in every way.
pub(super) fn overstate(world: &mut World, from: usize, to: usize, about: usize) {
    let log = world.nodes[about].me.run();
    let here = world.nodes[to].engine.registry().watermark(log);
    let (upto, entries) = (1 << 62, Vec::new());
    let own = Watermark { log: world.nodes[from].me.run(), version: 0 };
    let watermarks = vec![own, Watermark { log, version: upto }];
    for word in [
        SyncWord::Changes { log, from: here + 9, upto, entries: entries.clone() },
        SyncWord::Changes { log, from: here, upto, entries },
        SyncWord::Digest { watermarks },
    ] {
        say(world, from, to, PeerMessage::Sync(word));
    }
}

#[test]
fn who_overstates_a_members_log_makes_nobody_take_what_it_writes_for_old() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 3, 20);
        overstate(&mut world, 2, 0, 1);
        for node in 0..3 {
            expect_start(&mut world, node, 20 + 10 * node..30 + 10 * node);
        }
        world.run_for(SECOND);
        world.check_end(true);
    }
}

#[test]
fn what_was_overstated_while_a_node_was_away_is_corrected_when_it_is_back() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 3, 20);
        world.calm = false;
        world.cut(&BTreeSet::from([1]));
        world.run_for(5 * SECOND);
        assert_eq!(world.nodes[0].engine.view().members.len(), 2, "seed {seed}: it is out");
        overstate(&mut world, 2, 0, 1);
        let log = world.nodes[1].me.run();
        assert_eq!(world.nodes[0].engine.registry().watermark(log), 1 << 62, "it is believed");
        world.heal();
        world.run_for(10 * SECOND);
        for node in 0..3 {
            expect_start(&mut world, node, 20 + 10 * node..30 + 10 * node);
        }
        world.run_for(5 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn who_names_a_version_of_its_own_log_that_never_comes_is_given_up() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 4, 20);
        world.calm = false;
        world.nodes[3].lie = Some(|word| {
            if let PeerMessage::Sync(SyncWord::In { version, .. }) = word {
                *version = 1 << 62;
            }
        });
        world.crash(1);
        world.run_for(8 * SECOND);
        let liar = world.nodes[3].me.id;
        for index in [0, 2] {
            let engine = &world.nodes[index].engine;
            assert!(engine.view().member(liar).is_none(), "seed {seed}: n{index} waits for it");
            assert!(engine.is_settled(), "seed {seed}: n{index}");
        }
    }
}

#[test]
fn who_names_entries_of_a_dead_nodes_log_that_do_not_exist_is_waited_for_once() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 5, 20);
        world.calm = false;
        world.nodes[4].lie = Some(|word| {
            if let PeerMessage::Sync(SyncWord::In { gone, .. }) = word {
                let log = NodeRun { node: node_id(1, 0), nonce: 7 };
                gone.push(Watermark { log, version: 1 << 62 });
            }
        });
        world.crash(1);
        world.run_for(8 * SECOND);
        for index in [0, 2, 3] {
            assert!(world.nodes[index].engine.is_settled(), "seed {seed}: n{index}");
        }
        world.crash(2);
        // As long as it takes to notice that.
        world.run_for(2 * SECOND);
        for index in [0, 3] {
            let engine = &world.nodes[index].engine;
            assert_eq!(engine.view().members.len(), 3, "seed {seed}: n{index}");
            assert!(engine.is_settled(), "seed {seed}: n{index} waits for it again");
        }
    }
}

#[test]
fn states_to_be_merged_are_noted_only_where_they_can_be() {
    let (mut world, child, at, other, _) = one_child(1);
    let from = world.nodes[other].me.run();
    let stranger = NodeRun { nonce: 7, ..from };
    let unknown = ChildId::new("nobody").expect("an id");
    let born =
        world.nodes[at].engine.children.instance(&child).expect("it is here").ownership().born;
    let now = world.now;
    let engine = &mut world.nodes[at].engine;
    for term in 0..10_000 {
        for (from, child, life) in [
            (stranger, &child, born),
            (from, &unknown, born),
            (from, &child, born.next_attempt()),
            (from, &child, born),
        ] {
            let (child, epoch) = (child.clone(), Epoch { term, attempt: 0 });
            let header = BulkHeader::Diverged { child, epoch, state_version: 1, life };
            engine.handle(now, Event::Bulk { from, header, size: 1 });
        }
    }
    let children = &mut engine.children;
    assert_eq!(children.merge_count(), MOST_MERGES);
    assert_eq!(children.forget_merges(&child).len(), MOST_MERGES);
}
