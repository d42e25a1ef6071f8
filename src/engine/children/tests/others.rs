//! Two owners: one gives way, and the other takes its state in.

use super::{Node, child, emit, epoch, id, kind, member, news, order, owned, run, says, spec};
use crate::{
    engine::{
        children::phase::{Life, Phase},
        core::{News, OtherHolder, Timer},
        io::{ChildOrder, Effect, Exit},
    },
    model::{
        child::{Entry, Epoch, Ownership, Taken, TakenIn},
        event::HubEvent,
        message::{Copy, HandoverWord},
        parked::{ParkedInfo, ParkedKey},
    },
};

/// The owner on node 3 that goes on: it was born first.
fn winner() -> Ownership {
    Ownership { epoch: epoch(4, 0), ..owned(epoch(1, 0)) }
}

/// The epoch of the owner on this node that gives way, and offers its state under it.
const OFFERED: Epoch = Epoch { term: 2, attempt: 0 };

fn send(to: u8, life: Epoch) -> Effect {
    order(ChildOrder::SendDiverged { child: child(), epoch: OFFERED, to: run(to), life })
}

fn key() -> ParkedKey {
    ParkedKey { child: child(), run: run(3), epoch: epoch(2, 0) }
}

impl Node {
    /// An owner that meets the one on node 3, and gives way.
    fn yielding() -> Self {
        let mut node = Self::new(&[1]);
        node.children.begin(&mut node.core, spec(), OFFERED);
        node.children.started(&mut node.core, &child(), OFFERED, Ok(()));
        node.forget();
        node.log_says(3, Entry::Owned(winner()));
        node.children.child_changed(&mut node.core, &child());
        assert_eq!(node.effects(), [send(3, epoch(1, 0))]);
        assert_eq!(node.timers(), [Timer::Yield(child(), OFFERED)]);
        let to = Life { run: run(3), born: epoch(1, 0) };
        let phase = node.instance().phase();
        assert!(matches!(phase, Phase::Yielding { to: it, .. } if *it == to), "{phase:?}");
        node
    }

    /// Node 3's state, offered to the life that began at this epoch, arrives.
    fn arrives(&mut self, life: Epoch) -> Vec<Effect> {
        self.children.diverged(&mut self.core, run(3), &child(), epoch(2, 0), life);
        self.effects()
    }
}

fn merge() -> Effect {
    order(ChildOrder::Merge { child: child(), epoch: epoch(2, 0) })
}

fn discard() -> Effect {
    order(ChildOrder::Discard { child: child(), epoch: epoch(2, 0) })
}

fn taken() -> Effect {
    says(3, HandoverWord::Taken { child: child(), epoch: epoch(2, 0) })
}

#[test]
fn an_owner_that_gives_way_offers_its_state_once_to_each_life_and_again_when_it_hears_nothing() {
    let mut node = Node::yielding();
    node.children.child_changed(&mut node.core, &child());
    assert_eq!(node.effects(), []);
    node.children.yield_again(&mut node.core, &child(), OFFERED);
    assert_eq!(
        (node.effects(), node.timers()),
        (vec![send(3, epoch(1, 0))], vec![Timer::Yield(child(), OFFERED)],)
    );
    // A timer of an earlier offer finds nothing to do.
    node.children.yield_again(&mut node.core, &child(), epoch(1, 0));
    assert_eq!((node.effects(), node.timers()), (vec![], vec![]));
    // Its owner has begun anew, or went on elsewhere: that one is offered it, under the same name.
    node.log_says(3, Entry::Owned(Ownership { born: epoch(1, 1), ..winner() }));
    node.children.child_changed(&mut node.core, &child());
    assert_eq!(node.effects(), [send(3, epoch(1, 1))]);
    node.log_says(2, Entry::Owned(Ownership { epoch: epoch(5, 0), ..winner() }));
    node.children.yield_again(&mut node.core, &child(), OFFERED);
    assert_eq!(node.effects(), [send(2, epoch(1, 0))]);
    // Nobody is there to whom it could go: it asks on.
    node.adopt([1].map(member));
    node.timers();
    node.children.yield_again(&mut node.core, &child(), OFFERED);
    assert_eq!((node.effects(), node.timers()), (vec![], vec![Timer::Yield(child(), OFFERED)]));
}

#[test]
fn an_owner_that_gives_way_ends_only_when_the_state_that_it_offers_was_taken() {
    let mut node = Node::yielding();
    node.children.yielded(&mut node.core, run(3), &child(), epoch(1, 0));
    assert_eq!(node.effects(), [], "what it offered before is not what it has now");
    node.children.yielded(&mut node.core, run(3), &child(), OFFERED);
    let away = ChildOrder::MovedAway { child: child(), to: run(3), epoch: epoch(4, 0) };
    let end = ChildOrder::End { child: child() };
    let yielded = HubEvent::DivergenceYielded { child: child(), to: id(3) };
    assert_eq!(node.effects(), [order(away), order(end), emit(yielded)]);
    assert!(node.children.instance(&child()).is_none());
}

#[test]
fn an_entry_says_that_a_state_was_taken_as_well_as_a_word_does() {
    let mut node = Node::yielding();
    let mut theirs = winner();
    theirs.taken.add(Taken { from: run(1), epoch: epoch(1, 9) }, &TakenIn::default());
    node.log_says(3, Entry::Owned(theirs.clone()));
    node.children.child_changed(&mut node.core, &child());
    assert_eq!(node.effects(), [], "it is of an earlier offer");
    theirs.taken.add(Taken { from: run(1), epoch: OFFERED }, &TakenIn::default());
    node.log_says(3, Entry::Owned(theirs));
    node.children.child_changed(&mut node.core, &child());
    assert!(node.children.instance(&child()).is_none());
}

#[test]
fn what_is_to_be_merged_into_an_owner_that_gives_way_is_dropped_with_it() {
    let mut node = Node::yielding();
    assert!(node.children.merges.begin(&child(), epoch(1, 7), run(2)));
    node.children.yielded(&mut node.core, run(3), &child(), OFFERED);
    let discard = ChildOrder::Discard { child: child(), epoch: epoch(1, 7) };
    assert_eq!(node.effects()[0], order(discard));
    assert_eq!(node.children.merge_count(), 0);
}

#[test]
fn an_owner_whose_rival_began_anew_goes_on_above_it_and_takes_its_offer_back() {
    let mut node = Node::yielding();
    node.log_says(3, Entry::Owned(owned(epoch(6, 0))));
    node.children.child_changed(&mut node.core, &child());
    let thaw = ChildOrder::Thaw { child: child(), epoch: epoch(7, 0) };
    assert_eq!(node.effects(), [order(thaw)]);
    assert_eq!(
        node.entry(),
        Some(Entry::Owned(Ownership { epoch: epoch(7, 0), ..owned(OFFERED) }))
    );
    // Under the name that it was offered: whoever has parked it is told.
    let key = ParkedKey { child: child(), run: run(1), epoch: OFFERED };
    assert_eq!(node.news(), news(&[News::TakenBack { key }]));
}

#[test]
fn an_owner_that_is_offered_its_rivals_state_answers_only_for_the_name_it_has() {
    let node = Node::yielding();
    let key = |run, epoch| ParkedKey { child: child(), run, epoch };
    let offers = |key| node.children.offers(&node.core, &key).cloned();
    assert_eq!(offers(key(run(1), OFFERED)), Some(kind()));
    assert_eq!(offers(key(run(1), epoch(1, 0))), None);
    assert_eq!(offers(key(run(3), OFFERED)), None);
    let node = Node::running(&[1]);
    let own = ParkedKey { child: child(), run: run(1), epoch: epoch(1, 0) };
    assert_eq!(node.children.offers(&node.core, &own), None, "it yields to nobody");
}

#[test]
fn a_state_is_merged_into_the_life_to_which_it_was_offered_and_into_no_other() {
    let mut node = Node::running(&[1]);
    assert_eq!(node.arrives(epoch(1, 0)), [merge()]);
    let mut node = Node::running(&[1]);
    assert_eq!(node.arrives(epoch(1, 1)), [discard()], "that actor has ended");
    let mut node = Node::new(&[1]);
    assert_eq!(node.arrives(epoch(1, 0)), [discard()], "nothing is here");
    let mut node = Node::running(&[1]);
    node.adopt([1, 2].map(member));
    assert_eq!(node.arrives(epoch(1, 0)), [discard()], "who offers it is gone");
    // An actor that is being moved takes nothing in: it would be in the state, and in no entry.
    let mut node = Node::running(&[2]);
    node.children.enqueue(&node.core, &child());
    node.children.pump(&mut node.core);
    node.forget();
    assert_eq!(node.arrives(epoch(1, 0)), [discard()]);
}

#[test]
fn a_state_that_was_taken_is_not_merged_again_however_often_it_comes() {
    let mut node = Node::running(&[1]);
    assert_eq!(node.arrives(epoch(1, 0)), [merge()]);
    assert_eq!(node.arrives(epoch(1, 0)), [], "it is being merged");
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Ok(()));
    let merged = HubEvent::DivergenceMerged { child: child(), from: id(3) };
    assert_eq!(node.effects(), [taken(), emit(merged)]);
    assert_eq!(node.news(), news(&[News::Merged { key: key() }]));
    let Some(Entry::Owned(own)) = node.entry() else { panic!("it owns it") };
    assert!(own.taken.contains(Taken { from: run(3), epoch: epoch(2, 0) }));
    assert_eq!(node.arrives(epoch(1, 0)), [discard(), taken()]);
    // An answer of a merge that is over says nothing.
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Ok(()));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
}

#[test]
fn with_a_state_comes_all_that_is_in_it() {
    let mut node = Node::running(&[1]);
    let within = Taken { from: run(2), epoch: epoch(1, 9) };
    let mut theirs = owned(epoch(2, 0));
    theirs.taken.add(within, &TakenIn::default());
    node.log_says(3, Entry::Owned(theirs));
    node.arrives(epoch(1, 0));
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Ok(()));
    assert!(node.instance().ownership().taken.contains(within));
}

#[test]
fn a_state_that_nobody_merges_is_answered_when_it_is_parked_and_safe() {
    let mut node = Node::running(&[1]);
    node.arrives(epoch(1, 0));
    let reason = "no merge".to_owned();
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Err(reason.clone()));
    let park = ChildOrder::Park { key: key(), kind: kind(), reason: reason.clone() };
    assert_eq!(node.effects(), [order(park)]);
    assert_eq!(node.news(), news(&[News::Parks { key: key(), other: OtherHolder::Offers }]));
    assert_eq!(node.arrives(epoch(1, 0)), [discard()], "it is here");
    // Its owner is told that it is here, and parks it, too.
    let (key, kind, reason) = (key(), kind(), reason.clone());
    let info = ParkedInfo { key, kind, state_version: 3, at: 9, reason };
    node.children.tell_parked(&mut node.core, &info);
    let (reason, at) = (info.reason, info.at);
    let word = HandoverWord::Parks { child: child(), epoch: epoch(2, 0), reason, at };
    assert_eq!(node.effects(), [says(3, word)]);
    // A state of the same name that another owner has is another one.
    let key = || ParkedKey { child: child(), run: run(3), epoch: epoch(2, 0) };
    let other = ParkedKey { run: run(2), ..key() };
    node.children.parked(&mut node.core, &other);
    assert_eq!(node.effects(), []);
    node.children.parked(&mut node.core, &key());
    assert_eq!(node.effects(), [taken()]);
    node.children.parked(&mut node.core, &key());
    assert_eq!(node.effects(), [], "it was answered");
}

#[test]
fn a_state_that_could_not_be_parked_is_offered_again() {
    let mut node = Node::running(&[1]);
    node.arrives(epoch(1, 0));
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Err("no merge".to_owned()));
    node.forget();
    node.children.not_parked(&key());
    assert_eq!((node.effects(), node.children.merge_count()), (vec![], 0));
    assert_eq!(node.arrives(epoch(1, 0)), [merge()]);
}

#[test]
fn an_actor_that_ends_takes_what_it_was_merging_with_it() {
    let mut node = Node::running(&[1]);
    node.arrives(epoch(1, 0));
    let exit = Exit::Stopped;
    node.children.exited(&mut node.core, &child(), epoch(1, 0), &exit);
    assert_eq!(node.effects()[0], discard());
    node.children.merged(&mut node.core, &child(), epoch(2, 0), Ok(()));
    assert_eq!(node.effects().len(), 0, "its answer came too late");
}

#[test]
fn an_owner_that_a_roll_call_confirms_takes_its_offer_back() {
    let mut node = Node::yielding();
    node.promise(2, 9);
    let given = Ownership { epoch: epoch(9, 0), ..owned(OFFERED) };
    node.children.take(&mut node.core, run(2), given, Copy::Frozen);
    let key = ParkedKey { child: child(), run: run(1), epoch: OFFERED };
    assert_eq!(node.news(), news(&[News::TakenBack { key }]));
    assert!(node.instance().is_running());
    assert_eq!(node.instance().epoch(), epoch(9, 0));
}
