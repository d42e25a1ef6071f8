//! Single rules of owners, moves, promises and answers, each shown by an execution that is scripted word
//! by word: what is said by hand, and what is lost or comes late.

use super::{
    divergence::sent,
    roll_call::{apart, begun_anew, call, committed, give, hears, home_of, on_the_way, term_of},
    *,
};
use crate::{
    engine::{
        handover::{SourceStage, TargetStage},
        registry::Registry,
    },
    model::{
        child::{Entry, Ownership, Role, TakenIn},
        id::Origin,
        member::ViewId,
        message::{Copy, HandoverWord, LogEntry, RefuseReason, RollWord, SyncWord},
    },
};

fn at(term: u64, attempt: u64) -> Epoch {
    Epoch { term, attempt }
}

/// Node `to` hears a word of this run now.
fn hear(world: &mut World, from: NodeRun, to: usize, message: PeerMessage) {
    world.input(to, Input::Event(Event::Peer { from, message }));
}

/// Node `from` says a word to node `to`, which hears it at once.
fn say(world: &mut World, from: usize, to: usize, message: PeerMessage) {
    hear(world, world.nodes[from].me.run(), to, message);
}

fn instance<'a>(world: &'a World, index: usize, child: &ChildId) -> Option<&'a Instance> {
    world.nodes[index].engine.children.instance(child)
}

fn gate(world: &World, index: usize, child: &ChildId) -> Option<Gate> {
    world.nodes[index].runtime.actors.get(child).map(|actor| actor.gate)
}

/// How far the move of a child is at its source, and as what its successor will own it.
fn moving(world: &World, index: usize, child: &ChildId) -> Option<(SourceStage, Ownership)> {
    match instance(world, index, child)?.phase() {
        Phase::Moving(moving) => Some((moving.stage(), moving.ownership().clone())),
        _ => None,
    }
}

fn stage(world: &World, source: usize, child: &ChildId) -> Option<SourceStage> {
    moving(world, source, child).map(|(stage, _)| stage)
}

/// Lets time pass until this holds, for so long at most. Whether it does.
fn until(world: &mut World, most: Duration, holds: impl Fn(&World) -> bool) -> bool {
    let end = world.now + most;
    while !holds(world) {
        if world.now >= end {
            return false;
        }
        world.run_for(Duration::from_micros(100));
    }
    true
}

/// The only child of five nodes on its way from one to another, seen by the first at this stage.
fn at_stage(seed: u64, wanted: SourceStage) -> (World, ChildId, usize, usize) {
    let (mut world, child, source, target) = sent(seed, 20 * SECOND);
    // So that no stage is over before it is seen.
    world.bulk_ms = (20, 30);
    world.start_ms = (20, 30);
    let reached =
        until(&mut world, 2 * SECOND, |world| stage(world, source, &child) == Some(wanted));
    assert!(reached, "seed {seed}: it never was {wanted:?}");
    (world, child, source, target)
}

/// The words of its end of a move say nothing: they are of an attempt that never was.
fn is_not_heard(message: &mut PeerMessage) {
    if let PeerMessage::Handover(
        HandoverWord::Ready { epoch, .. }
        | HandoverWord::Failed { epoch, .. }
        | HandoverWord::Query { epoch, .. },
    ) = message
    {
        *epoch = Epoch::ZERO;
    }
}

fn failed(child: &ChildId, epoch: Epoch) -> PeerMessage {
    let (child, reason) = (child.clone(), "on purpose".to_owned());
    PeerMessage::Handover(HandoverWord::Failed { child, epoch, reason, gone: true, lasts: false })
}

fn ready(child: &ChildId, epoch: Epoch) -> PeerMessage {
    PeerMessage::Handover(HandoverWord::Ready { child: child.clone(), epoch })
}

// Who goes on.

#[test]
fn of_two_owners_the_life_that_began_first_goes_on_and_of_one_life_what_was_copied_first() {
    let (own, low, high) = (at(1, 0), at(0, 9), at(5, 0));
    for (born, copied, goes_on) in [
        (low, high, false),
        (high, low, true),
        (own, low, false),
        (own, high, true),
        // It has handed the child on since, or was given it: it is ahead.
        (own, own, false),
    ] {
        let (mut world, child, here, other, _) = one_child(1);
        let theirs = begun_anew(&world, here, &child, at(5, 0));
        let mine = instance(&world, here, &child).expect("it runs").ownership().clone();
        assert_eq!((mine.born, mine.copied), (own, own));
        hears(&mut world, here, other, &child, Entry::Owned(Ownership { born, copied, ..theirs }));
        let instance = instance(&world, here, &child).expect("it is still there");
        match instance.phase() {
            Phase::Yielding { to, .. } => {
                assert!(!goes_on, "born {born}, copied {copied}");
                assert_eq!((to.run, to.born), (world.nodes[other].me.run(), born));
            }
            Phase::Running => {
                assert!(goes_on, "born {born}, copied {copied}");
                assert!(instance.ownership().epoch > at(5, 0));
            }
            phase => panic!("{phase:?}"),
        }
    }
}

#[test]
fn an_actor_that_lived_on_goes_on_before_one_that_was_restarted() {
    let (mut world, child, here, other, _) = one_child(1);
    let before = instance(&world, here, &child).expect("it runs").ownership().clone();
    assert!(world.panic_child(here, &child));
    let runs = |world: &World| {
        instance(world, here, &child).is_some_and(|one| matches!(one.phase(), Phase::Running))
    };
    assert!(until(&mut world, 5 * SECOND, runs), "it is started again");
    let restarted = instance(&world, here, &child).expect("it runs").ownership().clone();
    assert!(restarted.born > before.born && restarted.born <= restarted.epoch);
    let theirs = Ownership { epoch: at(5, 0), copied: at(5, 0), ..before };
    hears(&mut world, here, other, &child, Entry::Owned(theirs));
    let phase = instance(&world, here, &child).expect("it is still there").phase();
    assert!(matches!(phase, Phase::Yielding { .. }), "{phase:?}");
}

#[test]
fn an_owner_that_gives_way_keeps_its_state_until_it_was_taken() {
    let (mut world, child, here, other, _) = one_child(1);
    world.calm = false;
    let theirs = begun_anew(&world, here, &child, at(5, 0));
    let born = at(0, 9);
    hears(&mut world, here, other, &child, Entry::Owned(Ownership { born, ..theirs.clone() }));
    // It runs nowhere else: nobody ever takes the state.
    world.run_for(10 * SECOND);
    assert_eq!(gate(&world, here, &child), Some(Gate::Closed));
    let Some(Phase::Yielding { offered, .. }) =
        instance(&world, here, &child).map(|instance| instance.phase().clone())
    else {
        panic!("it gives way")
    };
    // A word about another state than that which it offers says nothing of it.
    for (epoch, ends) in [(offered.next_attempt(), false), (offered, true)] {
        let word = HandoverWord::Taken { child: child.clone(), epoch };
        say(&mut world, other, here, PeerMessage::Handover(word));
        assert_eq!(gate(&world, here, &child).is_none(), ends);
    }
}

// Homes and promises.

#[test]
fn orders_of_anybody_but_a_childs_home_are_not_obeyed() {
    let (mut world, child, owner, third, home) = apart();
    let new = (0..)
        .map(|n| ChildId::new(format!("new-{n}")).expect("an id"))
        .find(|child| home_of(&world, child) == home)
        .expect("there are many");
    let spec = Arc::new(ChildSpec::from_parts(new.clone(), kind(), Bytes::new()));
    let run = |index: usize| world.nodes[index].me.run();
    let earlier = NodeRun { nonce: run(home).nonce ^ 1, ..run(home) };
    for (from, obeyed) in [(run(third), false), (earlier, false), (run(home), true)] {
        let (spec, epoch, origin) = (spec.clone(), at(1, 0), Origin::default());
        let word = HomeWord::Run { spec, epoch, origin };
        hear(&mut world, from, owner, PeerMessage::Home(word));
        assert_eq!(instance(&world, owner, &new).is_some(), obeyed);
        let epoch = at(term_of(&world, owner, &child) + 1, 0);
        let word = HomeWord::Halt { child: child.clone(), epoch };
        hear(&mut world, from, owner, PeerMessage::Home(word));
        assert_eq!(gate(&world, owner, &child).is_none(), obeyed);
    }
}

#[test]
fn what_anybody_but_a_childs_home_gives_is_neither_taken_nor_answered() {
    let (mut world, child, owner, third, home) = apart();
    let term = term_of(&world, owner, &child) + 3;
    call(&mut world, home, owner, &child, term);
    let again = |world: &World| {
        on_the_way(world, home)
            .into_iter()
            .filter(|word| matches!(word, PeerMessage::Roll(RollWord::Again { .. })))
            .count()
    };
    let before = again(&world);
    give(&mut world, third, owner, &child, term, Copy::Live);
    assert!(term_of(&world, owner, &child) < term);
    assert_eq!(again(&world), before, "the roll is called again");
    give(&mut world, home, owner, &child, term, Copy::Live);
    assert_eq!(term_of(&world, owner, &child), term);
}

#[test]
fn a_call_is_said_again_until_it_is_answered() {
    let mut hit = 0;
    for seed in seeds(5) {
        let mut world = cluster(seed, 4, 1);
        let child = world.children[0].clone();
        let owner = world.runner(&child).expect("it runs");
        // What is answered is answered to no call.
        world.nodes.iter_mut().for_each(|node| {
            node.lie = Some(|word| {
                if let PeerMessage::Roll(RollWord::Call { roll, .. }) = word {
                    *roll = u64::MAX;
                }
            });
        });
        world.crash(owner);
        world.run_for(3 * SECOND);
        hit += usize::from(world.runner(&child).is_none());
        world.nodes.iter_mut().for_each(|node| node.lie = None);
        world.run_for(3 * SECOND);
        world.check_end(false);
    }
    assert!(hit > 0);
}

// Moves.

#[test]
fn words_of_another_attempt_are_ignored_by_the_source() {
    for (wanted, seed) in [(SourceStage::Offered, 1), (SourceStage::Sent, 2)] {
        let (mut world, child, source, target) = at_stage(seed, wanted);
        let (_, ownership) = moving(&world, source, &child).expect("it moves");
        let now = ownership.epoch;
        for epoch in [Epoch { attempt: now.attempt - 1, ..now }, now.next_attempt()] {
            let (id, reason) = (child.clone(), RefuseReason::Busy);
            for word in [
                PeerMessage::Handover(HandoverWord::Accept { child: child.clone(), epoch }),
                PeerMessage::Handover(HandoverWord::Refuse { child: id, epoch, reason }),
                ready(&child, epoch),
                failed(&child, epoch),
            ] {
                say(&mut world, target, source, word.clone());
                assert_eq!(stage(&world, source, &child), Some(wanted), "{word:?}");
            }
        }
        world.run_for(5 * SECOND);
        assert_eq!(world.runner(&child), Some(target));
        world.check_end(true);
    }
}

/// What the next run of a target says of a move is nothing: it does not know what the one before it has
/// done, which may have opened.
#[test]
fn words_of_the_next_run_of_a_target_are_ignored_by_the_source() {
    let mut hit = 0;
    for seed in seeds(10) {
        let Some((mut world, child, source, target)) = committed(seed) else { continue };
        let (_, ownership) = moving(&world, source, &child).expect("it moves");
        hit += 1;
        let to = world.nodes[target].me.id;
        // It begins anew, and is in before anybody has called the roll.
        let core = &mut world.nodes[source].engine.core;
        let mut view = core.view.clone();
        let next = view.members.get_mut(&to).expect("it is in");
        next.incarnation.nonce += 1;
        let next = next.run();
        core.adopt(view);
        hear(&mut world, next, source, failed(&child, ownership.epoch));
        assert_eq!(gate(&world, source, &child), Some(Gate::Moved), "seed {seed}");
    }
    assert!(hit > 0);
}

/// The successor ran for a moment and died. That it ran is heard of after its death, from another node:
/// its old owner, which holds the state, goes on with it.
#[test]
fn a_held_copy_does_not_end_for_a_successor_that_has_died() {
    let mut hit = 0;
    for seed in seeds(10) {
        let Some((mut world, child, source, target)) = committed(seed) else { continue };
        let (_, ownership) = moving(&world, source, &child).expect("it moves");
        let (log, id) = (world.nodes[target].me.run(), child.clone());
        world.crash(target);
        let is_out = |world: &World| !world.nodes[source].engine.core.is_live(log);
        assert!(until(&mut world, 5 * SECOND, is_out), "seed {seed}");
        hit += usize::from(stage(&world, source, &child) == Some(SourceStage::Committed));
        let from = world.nodes[source].engine.registry().watermark(log);
        let entry = LogEntry { version: from + 1, child: id, entry: Entry::Owned(ownership) };
        let word = SyncWord::Changes { log, from, upto: from + 1, entries: vec![entry] };
        let third = (0..5).find(|index| ![source, target].contains(index)).expect("five");
        say(&mut world, third, source, PeerMessage::Sync(word));
        world.run_for(5 * SECOND);
        assert_eq!(gate(&world, source, &child), Some(Gate::Open), "seed {seed}");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
    assert!(hit > 0);
}

/// The target never hears of it by word: that the child is its old owner's again, it reads in an entry
/// above the one that was offered.
#[test]
fn a_move_that_is_given_up_raises_the_epoch_above_what_was_offered() {
    for seed in seeds(10) {
        let (mut world, child, source, target) = at_stage(seed, SourceStage::Sent);
        let (_, ownership) = moving(&world, source, &child).expect("it moves");
        say(&mut world, target, source, failed(&child, ownership.epoch));
        let own = instance(&world, source, &child).expect("it is back").ownership();
        assert!(own.epoch > ownership.epoch, "seed {seed}");
        let best = world.nodes[source].engine.registry().best(&child).expect("it is known");
        assert_eq!((best.owner, best.epoch), (world.nodes[source].me.run(), own.epoch));
        assert_eq!(gate(&world, source, &child), Some(Gate::Open), "seed {seed}");
        assert_eq!(world.nodes[source].runtime.actors[&child].epoch, own.epoch);
        world.run_for(Duration::from_millis(150));
        let stage = world.nodes[target].engine.children.successor_stage(&child);
        assert_eq!(stage, None, "seed {seed}: nobody waits for the commit");
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn every_removal_begins_a_term() {
    // By its owner, by who could not start it, and by its home for an owner that is gone.
    for how in ["stopped", "refused", "orphan"] {
        let (mut world, child, owner, third, home) = apart();
        let timeout = 20 * SECOND;
        let (child, before) = match how {
            "refused" => {
                world.refuse_starts = true;
                let child = ChildId::new("c1").expect("an id");
                world.start(third, 1..2);
                world.removed.insert(child.clone());
                (child, at(1, 0))
            }
            _ => (child.clone(), world.nodes[home].engine.registry().highest_epoch(&child)),
        };
        let stop = Request::Stop { children: vec![child.clone()], timeout };
        if how == "orphan" {
            world.crash(owner);
            let run = world.nodes[owner].me.run();
            let is_out = |world: &World| !world.nodes[home].engine.core.is_live(run);
            assert!(until(&mut world, 5 * SECOND, is_out));
            assert_eq!(world.owner(home, &child), Some(owner), "nobody has it yet");
        }
        if how != "refused" {
            world.request(home, stop);
        }
        world.run_for(5 * SECOND);
        for index in world.alive() {
            let best = world.nodes[index].engine.registry().best(&child).expect("it is known");
            assert!(matches!(best.entry, Entry::Removed { .. }), "{how}: {best:?}");
            assert!(best.epoch.term > before.term && best.epoch.attempt == 0, "{how}: {best:?}");
        }
    }
}

/// The target says that it stands, and leaves. The child is not given to a node that is going.
#[test]
fn nothing_is_committed_to_a_target_that_takes_no_children() {
    for seed in seeds(10) {
        let (mut world, child, source, target) = sent(seed, 20 * SECOND);
        world.nodes[target].lie = Some(is_not_heard);
        let stands = |world: &World| {
            let stage = world.nodes[target].engine.children.successor_stage(&child);
            stage == Some(TargetStage::Ready)
        };
        assert!(until(&mut world, 2 * SECOND, stands), "seed {seed}");
        world.request(target, Request::Leave { timeout: 20 * SECOND });
        let leaves = |world: &World| {
            let member = world.nodes[source].engine.view().member(world.nodes[target].me.id);
            member.is_some_and(|member| !member.takes_children())
        };
        assert!(until(&mut world, 2 * SECOND, leaves), "seed {seed}");
        let (stage, ownership) = moving(&world, source, &child).expect("it moves");
        assert_eq!(stage, SourceStage::Sent, "seed {seed}");
        say(&mut world, target, source, ready(&child, ownership.epoch));
        assert_eq!(gate(&world, source, &child), Some(Gate::Open), "seed {seed}");
        world.nodes[target].lie = None;
        world.run_for(10 * SECOND);
        assert!(world.nodes[target].left, "seed {seed}: nothing keeps it");
        world.check_end(true);
    }
}

/// Offers this child, as its owner has it, to a node, which has this view by what the owner says. Gives
/// the answer.
fn offer(world: &mut World, from: usize, to: usize, child: &ChildId, view: ViewId) -> HandoverWord {
    let own = instance(world, from, child).expect("it runs").ownership().clone();
    let (epoch, pinned) = (own.epoch.next_attempt(), Some(world.nodes[to].me.id));
    let word = HandoverWord::Offer {
        state: own.epoch,
        ownership: Ownership { epoch, pinned, ..own },
        state_version: 1,
        with_state: true,
        view,
    };
    say_offer(world, from, to, word)
}

fn say_offer(world: &mut World, from: usize, to: usize, word: HandoverWord) -> HandoverWord {
    say(world, from, to, PeerMessage::Handover(word));
    let answers = on_the_way(world, from).into_iter().filter_map(|word| match word {
        PeerMessage::Handover(
            word @ (HandoverWord::Accept { .. } | HandoverWord::Refuse { .. }),
        ) => Some(word),
        _ => None,
    });
    answers.last().expect("an offer is answered")
}

fn refusal(word: HandoverWord) -> Option<RefuseReason> {
    match word {
        HandoverWord::Refuse { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn an_offer_counts_in_the_view_alone_in_which_it_was_made() {
    let (mut world, child, here, other, _) = one_child(1);
    let view = world.nodes[other].engine.view().id();
    let earlier = offer(&mut world, here, other, &child, ViewId(view.0 ^ 1));
    assert_eq!(refusal(earlier), Some(RefuseReason::View));
    let now = offer(&mut world, here, other, &child, view);
    assert_eq!(refusal(now), None);
}

#[test]
fn an_offer_is_refused_while_the_view_is_not_settled() {
    let mut world = cluster(1, 4, 1);
    let child = world.children[0].clone();
    let source = world.runner(&child).expect("it runs");
    let rest: Vec<usize> = (0..4).filter(|index| *index != source).collect();
    let (other, gone) = (rest[0], rest[1]);
    world.crash(gone);
    let unsettled = |world: &World| {
        let engine = &world.nodes[other].engine;
        engine.view().members.len() == 3 && !engine.is_settled()
    };
    assert!(until(&mut world, 5 * SECOND, unsettled));
    let view = world.nodes[other].engine.view().id();
    let answer = offer(&mut world, source, other, &child, view);
    assert_eq!(refusal(answer), Some(RefuseReason::View));
    world.run_for(3 * SECOND);
    let answer = offer(&mut world, source, other, &child, view);
    assert_eq!(refusal(answer), None);
}

#[test]
fn an_offer_that_jumps_and_one_to_a_node_that_leaves_are_refused() {
    let (mut world, child, here, other, _) = one_child(1);
    let view = world.nodes[other].engine.view().id();
    let own = instance(&world, here, &child).expect("it runs").ownership().clone();
    let (epoch, pinned) =
        (Epoch { attempt: Epoch::LIMIT, ..own.epoch }, Some(world.nodes[other].me.id));
    let ownership = Ownership { epoch, pinned, ..own.clone() };
    let (state, state_version, with_state) = (own.epoch, 1, true);
    let word = HandoverWord::Offer { ownership, state, state_version, with_state, view };
    assert_eq!(refusal(say_offer(&mut world, here, other, word)), Some(RefuseReason::Busy));
    world.request(other, Request::Leave { timeout: 20 * SECOND });
    let view = world.nodes[other].engine.view().id();
    let answer = offer(&mut world, here, other, &child, view);
    assert_eq!(refusal(answer), Some(RefuseReason::Leaving));
}

#[test]
fn an_offer_of_a_child_that_does_not_belong_there_is_refused() {
    let (mut world, child, here, other, _) = one_child(1);
    let view = world.nodes[other].engine.view().id();
    let own = instance(&world, here, &child).expect("it runs").ownership().clone();
    for (pinned, expected) in
        [(None, Some(RefuseReason::NotMine)), (Some(world.nodes[other].me.id), None)]
    {
        let ownership = Ownership { epoch: own.epoch.next_attempt(), pinned, ..own.clone() };
        let (state, state_version, with_state) = (own.epoch, 1, true);
        let word = HandoverWord::Offer { ownership, state, state_version, with_state, view };
        assert_eq!(refusal(say_offer(&mut world, here, other, word)), expected);
    }
}

/// The successor could not start, and the word of it is lost: its old owner asks until it hears.
#[test]
fn a_source_asks_after_a_successor_that_it_does_not_see_until_it_is_answered() {
    for seed in seeds(10) {
        let (mut world, child, source, target) = sent(seed, 20 * SECOND);
        world.cannot.insert(target, Cannot::Start);
        world.nodes[target].lie = Some(|word| {
            if let PeerMessage::Handover(HandoverWord::Failed { epoch, .. }) = word {
                *epoch = Epoch::ZERO;
            }
        });
        let is_committed =
            |world: &World| stage(world, source, &child) == Some(SourceStage::Committed);
        assert!(until(&mut world, 2 * SECOND, is_committed), "seed {seed}");
        // The first question is lost as well.
        world.nodes[source].lie = Some(is_not_heard);
        world.run_for(Duration::from_millis(1_500));
        assert!(is_committed(&world), "seed {seed}");
        (world.nodes[source].lie, world.nodes[target].lie) = (None, None);
        world.run_for(2 * SECOND);
        assert_eq!(gate(&world, source, &child), Some(Gate::Open), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_successor_that_takes_long_to_start_is_not_said_to_be_lost() {
    for seed in seeds(10) {
        let (mut world, child, source, target) = sent(seed, 20 * SECOND);
        world.start_ms = (3_500, 3_501);
        let is_opening = |world: &World| {
            let stage = world.nodes[target].engine.children.successor_stage(&child);
            stage == Some(TargetStage::Opening)
        };
        assert!(until(&mut world, 2 * SECOND, is_opening), "seed {seed}");
        while is_opening(&world) {
            assert_eq!(gate(&world, source, &child), Some(Gate::Moved), "seed {seed}");
            world.run_for(Duration::from_millis(10));
        }
        world.run_for(3 * SECOND);
        assert_eq!(world.runner(&child), Some(target), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn who_asks_after_a_successor_is_answered_by_what_is_held() {
    let (mut world, child, owner, third, _) = apart();
    let owned = instance(&world, owner, &child).expect("it runs").ownership().epoch;
    let older = Epoch { attempt: owned.attempt - 1, ..owned };
    let asker = (0..3).find(|index| ![owner, third].contains(index)).expect("three");
    for (to, epoch, is_lost) in [
        // It runs there.
        (owner, owned, false),
        // It was handed on from there: the entry of who has it now says so.
        (third, older, false),
        // Nothing is there, and nobody says anything else.
        (third, owned, true),
    ] {
        let word = HandoverWord::Query { child: child.clone(), epoch };
        say(&mut world, asker, to, PeerMessage::Handover(word));
        let told = on_the_way(&world, asker).into_iter().any(|word| {
            matches!(word, PeerMessage::Handover(HandoverWord::Failed { gone: true, .. }))
        });
        assert_eq!(told, is_lost, "of {epoch}");
    }
}

// Answers and entries.

/// What a node says after an event, in order, and nothing of it is carried out.
fn words_of(world: &mut World, index: usize, event: Event) -> Vec<(NodeId, PeerMessage)> {
    let now = world.now;
    let engine = &mut world.nodes[index].engine;
    engine.handle(now, event);
    let effects = std::iter::from_fn(|| engine.next_effect());
    let words = effects.filter_map(|effect| match effect {
        Effect::Send { to, message } => Some((to, message)),
        _ => None,
    });
    words.collect()
}

/// A start is refused: the entry that says so, and the answer that rests on it, are of one step.
#[test]
fn an_answer_leaves_behind_the_entry_on_which_it_rests_in_one_step() {
    let (mut world, _, owner, _, home) = apart();
    let new = (0..)
        .map(|n| ChildId::new(format!("new-{n}")).expect("an id"))
        .find(|child| home_of(&world, child) == home)
        .expect("there are many");
    let spec = Arc::new(ChildSpec::from_parts(new.clone(), kind(), Bytes::new()));
    let (epoch, origin) = (at(1, 0), Origin::default());
    let word = HomeWord::Run { spec, epoch, origin };
    let from = world.nodes[home].me.run();
    let run = Event::Peer { from, message: PeerMessage::Home(word) };
    words_of(&mut world, owner, run);
    let outcome = Err("on purpose".to_owned());
    let report = ChildReport::Started { child: new.clone(), epoch, outcome };
    let words = words_of(&mut world, owner, Event::Child(report));
    let said = |is_it: &dyn Fn(&PeerMessage) -> bool| {
        words.iter().position(|(to, word)| *to == from.node && is_it(word))
    };
    let entry = said(&|word| match word {
        PeerMessage::Sync(SyncWord::Changes { entries, .. }) => {
            entries.iter().any(|one| one.child == new && matches!(one.entry, Entry::Removed { .. }))
        }
        _ => false,
    });
    let answer = said(&|word| matches!(word, PeerMessage::Home(HomeWord::Ran { .. })));
    assert!(entry.is_some() && answer.is_some(), "{words:?}");
    assert!(entry < answer, "{words:?}");
}

#[test]
fn a_node_that_leaves_is_there_until_the_others_have_its_registry() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 3, 12);
        for index in [0, 1] {
            world.nodes[index].lie = Some(|word| match word {
                PeerMessage::Sync(SyncWord::Have { watermark }) => watermark.version = 0,
                PeerMessage::Sync(SyncWord::Digest { watermarks }) => watermarks.clear(),
                _ => {}
            });
        }
        assert!(!world.nodes[2].runtime.actors.is_empty(), "seed {seed}");
        world.request(2, Request::Leave { timeout: 20 * SECOND });
        world.run_for(5 * SECOND);
        assert!(world.nodes[2].runtime.actors.is_empty(), "seed {seed}: everything is out");
        assert!(!world.nodes[2].left, "seed {seed}: nobody knows where it is");
        for index in [0, 1] {
            world.nodes[index].lie = None;
        }
        world.run_for(5 * SECOND);
        assert!(world.nodes[2].left, "seed {seed}");
        world.check_end(true);
    }
}

fn run_of(n: u8) -> NodeRun {
    NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
}

fn entry_of(child: &ChildId, epoch: Epoch) -> Entry {
    Entry::Owned(Ownership {
        epoch,
        born: epoch,
        copied: epoch,
        role: Role::Active,
        pinned: None,
        origin: Origin::default(),
        taken: TakenIn::default(),
        failure: None,
        spec: Arc::new(ChildSpec::from_parts(child.clone(), kind(), Bytes::new())),
    })
}

/// A registry that has written a child, and knows of another owner above it; a third node is in.
fn superseded() -> (Registry, ChildId, BTreeSet<NodeId>) {
    let child = ChildId::new("c").expect("an id");
    let mut registry = Registry::new(run_of(1));
    registry.write(child.clone(), entry_of(&child, at(1, 0)));
    let entry = entry_of(&child, at(2, 0));
    let entries = vec![LogEntry { version: 1, child: child.clone(), entry }];
    registry.apply_changes(run_of(2), 0, 1, entries);
    (registry, child, [1, 2, 3].map(|n| run_of(n).node).into())
}

#[test]
fn an_entry_that_another_supersedes_is_kept_until_all_have_that_one() {
    let (hour, now) = (3_600 * SECOND, Instant::now());
    let (mut registry, child, known) = superseded();
    let count = |registry: &Registry| registry.entries_of(&child).count();
    registry.expire(now, &known, hour);
    assert_eq!(count(&registry), 2, "the third node has nothing");
    // It goes, and may come back.
    let two = [1, 2].map(|n| run_of(n).node).into();
    registry.expire(now + 60 * SECOND, &two, hour);
    assert_eq!(count(&registry), 2);
    registry.acknowledged(run_of(2), run_of(3), 1);
    registry.expire(now + 62 * SECOND, &two, hour);
    assert_eq!(count(&registry), 1);
}

#[test]
fn a_removal_is_kept_for_who_was_in_lately_and_has_not_heard_of_it() {
    let (hour, now) = (3_600 * SECOND, Instant::now());
    let (mut registry, child, known) = superseded();
    registry.write(child.clone(), Entry::Removed { epoch: at(3, 0) });
    let stands = |registry: &Registry| registry.best(&child).is_some();
    registry.expire(now, &known, hour);
    for (node, version) in [(2, 2), (3, 1)] {
        registry.acknowledged(run_of(1), run_of(node), version);
    }
    registry.expire(now + 1_000 * SECOND, &known, hour);
    let two = [1, 2].map(|n| run_of(n).node).into();
    registry.expire(now + 2_000 * SECOND, &two, hour);
    assert!(stands(&registry), "the third node may come back with what it has");
    registry.acknowledged(run_of(1), run_of(3), 2);
    registry.expire(now + 2_002 * SECOND, &two, hour);
    assert!(!stands(&registry));
    // Who has not heard of it in so long has forgotten everything else as well.
    let (mut registry, child, _) = superseded();
    registry.write(child.clone(), Entry::Removed { epoch: at(3, 0) });
    registry.expire(now, &known, hour);
    registry.expire(now + hour, &two, hour);
    registry.expire(now + hour + 2 * SECOND, &two, hour);
    assert!(registry.best(&child).is_none());
}

#[test]
fn a_removal_that_all_have_heard_of_stands_for_a_minute() {
    let (hour, now) = (3_600 * SECOND, Instant::now());
    let (mut registry, child, known) = superseded();
    registry.write(child.clone(), Entry::Removed { epoch: at(3, 0) });
    registry.expire(now, &known, hour);
    for node in [2, 3] {
        registry.acknowledged(run_of(1), run_of(node), 2);
    }
    for (seconds, stands) in [(58, true), (62, false)] {
        registry.expire(now + seconds * SECOND, &known, hour);
        assert_eq!(registry.best(&child).is_some(), stands, "after {seconds} s");
    }
}

// Many children.

/// Fifty thousand children, all of them said to be started, and a node that dies at that moment, be it
/// the one that said so, or one that runs half of them: each of them runs on the other.
#[test]
fn fifty_thousand_children_that_are_said_to_be_started_survive_the_crash_of_any_node_at_that_moment()
 {
    for dies in [0, 1] {
        let mut world = World::new(7, 2);
        // Looking at all children after each step would take long.
        world.calm = false;
        world.run_for(3 * SECOND);
        let count = 50_000;
        let ids: Vec<ChildId> =
            (0..count).map(|n| ChildId::new(format!("c{n}")).expect("an id")).collect();
        let specs = ids
            .iter()
            .map(|id| Arc::new(ChildSpec::from_parts(id.clone(), kind(), Bytes::new())))
            .collect();
        let (on_failure, timeout) = (OnFailure::Continue, 120 * SECOND);
        let id = world.request(0, Request::Start { specs, on_failure, timeout });
        while !world.nodes[0].replies.contains_key(&id) {
            world.run_for(Duration::from_millis(1));
        }
        assert_eq!(world.started(0, id), count);
        let lost = world.nodes[dies].runtime.actors.len();
        assert!(lost > count / 3, "it runs {lost} of them");
        world.crash(dies);
        let left = 1 - dies;
        let end = world.now + 120 * SECOND;
        while world.nodes[left].runtime.actors.len() < count {
            assert!(world.now < end, "{} of {count}", world.nodes[left].runtime.actors.len());
            world.run_for(Duration::from_millis(100));
        }
        let known = ids.iter().filter(|id| world.owner(left, id) == Some(left)).count();
        assert_eq!(known, count);
    }
}
