use super::{Node, child, epoch, id, member, news, owned, run, says};
use crate::{
    engine::{children::attempts::MoveBackoff, core::News, handover::SourceInput, io::Effect},
    model::{
        child::{ChildFailure, Entry, Epoch, Ownership},
        id::{NodeId, RequestId},
        message::{HandoverWord, PeerMessage, RefuseReason},
        report::MigrateOutcome,
    },
};

const ATTEMPT: Epoch = Epoch { term: 1, attempt: 1 };

fn waiter(n: u64) -> (NodeId, RequestId) {
    (id(3), RequestId(n))
}

fn migrated(waiters: &[u64], outcome: MigrateOutcome) -> News {
    let waiters = waiters.iter().copied().map(waiter).collect();
    News::Migrated { waiters, child: child(), outcome }
}

impl Node {
    fn offer_to(&self, to: u8, ownership: Ownership) -> Effect {
        let (state, state_version, with_state) = (epoch(1, 0), 3, true);
        let view = self.core.view_id;
        says(to, HandoverWord::Offer { ownership, state, state_version, with_state, view })
    }

    fn pumped(&mut self) -> Vec<Effect> {
        self.children.enqueue(&self.core, &child());
        self.children.pump(&mut self.core);
        self.effects()
    }

    fn migrate(&mut self, to: u8, request: u64) -> Vec<Effect> {
        self.children.migrate(&mut self.core, &child(), Some(id(to)), false, waiter(request));
        self.effects()
    }

    fn release(&mut self, request: u64) -> Vec<Effect> {
        self.children.migrate(&mut self.core, &child(), None, false, waiter(request));
        self.effects()
    }

    fn pinned(&self) -> Option<NodeId> {
        self.instance().ownership().pinned
    }
}

fn offered(pinned: Option<NodeId>) -> Ownership {
    Ownership { epoch: ATTEMPT, pinned, ..owned(epoch(1, 0)) }
}

#[test]
fn a_child_is_offered_where_it_belongs_and_without_a_pin_of_its_own() {
    let mut node = Node::running(&[2]);
    let expected = node.offer_to(2, offered(None));
    assert_eq!(node.pumped(), [expected]);
    let mut node = Node::running(&[1]);
    assert_eq!(node.pumped(), [], "it belongs here");
}

#[test]
fn a_child_that_goes_elsewhere_than_it_belongs_is_bound_to_where_it_goes() {
    // Where it belongs it was refused; the other node, whose view is the same, would refuse it, too.
    let mut node = Node::running(&[2, 3]);
    let instance = node.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().refused_by(id(2));
    let expected = node.offer_to(3, offered(Some(id(3))));
    assert_eq!(node.pumped(), [expected]);
}

#[test]
fn nothing_is_offered_before_the_view_is_settled() {
    let mut node = Node::running(&[2]);
    node.core.settled = false;
    assert_eq!(node.pumped(), []);
    node.core.settled = true;
    assert_eq!(node.pumped().len(), 1);
}

#[test]
fn what_a_roll_call_was_told_of_or_is_being_merged_is_not_offered() {
    let mut node = Node::running(&[2]);
    node.promise(3, 5);
    assert_eq!(node.pumped(), []);
    let mut node = Node::running(&[2]);
    assert!(node.children.merges.begin(&child(), epoch(1, 7), run(3)));
    assert_eq!(node.pumped(), []);
}

#[test]
fn a_child_that_was_given_up_goes_only_if_its_node_is_to_be_empty() {
    let given_up = || {
        let mut node = Node::running(&[2]);
        node.core.emptying = false;
        let instance = node.children.instance_mut(&child()).expect("it is here");
        instance.give_up("x");
        node
    };
    let mut node = given_up();
    assert_eq!(node.pumped(), []);
    let mut node = given_up();
    node.core.emptying = true;
    let word = node.pumped();
    let [
        Effect::Send {
            message: PeerMessage::Handover(HandoverWord::Offer { ownership, with_state, .. }),
            ..
        },
    ] = &word[..]
    else {
        panic!("{word:?}");
    };
    assert!(!with_state, "there is none");
    assert_eq!(ownership.failure, None, "it starts there as any other");
    assert_ne!(node.instance().ownership().failure, None::<ChildFailure>, "here it has failed");
}

#[test]
fn a_child_whose_move_failed_is_left_alone_for_a_while() {
    for backoff in [MoveBackoff::Retry, MoveBackoff::View] {
        let mut node = Node::running(&[2]);
        let instance = node.children.instance_mut(&child()).expect("it is here");
        instance.attempts_mut().back_off(backoff);
        assert_eq!(node.pumped(), [], "{backoff:?}");
        // Its time is over, or the view has changed.
        match backoff {
            MoveBackoff::Retry => node.children.retry(&mut node.core, &child()),
            MoveBackoff::View => node.children.view_settled(&mut node.core, &child()),
        }
        node.pumped();
        assert_eq!(node.children.table.move_count(), 1, "{backoff:?}");
    }
    // Somebody asks this node once more to be emptied.
    let mut node = Node::running(&[2]);
    let instance = node.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().back_off(MoveBackoff::View);
    node.children.try_again(&mut node.core);
    assert_eq!(node.children.table.move_count(), 1);
}

#[test]
fn a_child_to_whose_node_no_state_can_go_has_its_turn_when_one_can() {
    let mut node = Node::running(&[2]);
    node.core.reachable.clear();
    assert_eq!(node.pumped(), []);
    node.children.reached(&mut node.core, run(3));
    assert_eq!(node.effects(), []);
    node.core.reachable.insert(run(2));
    node.children.reached(&mut node.core, run(2));
    let expected = node.offer_to(2, offered(None));
    assert_eq!(node.effects(), [expected]);
}

#[test]
fn a_migration_is_offered_with_a_pin_and_whoever_asks_for_the_same_waits_with_it() {
    let mut node = Node::running(&[1]);
    let expected = node.offer_to(2, offered(Some(id(2))));
    assert_eq!(node.migrate(2, 1), [expected]);
    assert_eq!(node.migrate(2, 2), []);
    assert_eq!(node.migrate(2, 2), [], "the request is repeated");
    node.children.source(&mut node.core).step(&child(), SourceInput::Overtaken("x"));
    let outcome = MigrateOutcome::Failed { reason: "x".to_owned() };
    assert_eq!(node.news(), news(&[migrated(&[1, 2], outcome)]));
}

#[test]
fn a_migration_to_this_node_binds_the_child_to_it() {
    let mut node = Node::running(&[2]);
    assert_eq!(node.migrate(1, 1), []);
    let pinned = Some(id(1));
    assert_eq!(node.entry(), Some(Entry::Owned(Ownership { pinned, ..owned(epoch(1, 0)) })));
    let moved = MigrateOutcome::Moved { node: id(1), epoch: epoch(1, 0) };
    assert_eq!(node.news(), news(&[migrated(&[1], moved)]));
    assert_eq!(node.pumped(), [], "it stays, whatever the distribution says");
}

#[test]
fn a_migration_to_a_node_that_takes_no_children_is_answered_at_once() {
    let mut node = Node::running(&[1]);
    let mut drained = member(2);
    drained.draining = true;
    node.adopt([member(1), drained, member(3)]);
    assert_eq!(node.migrate(2, 1), []);
    assert_eq!(node.news(), news(&[migrated(&[1], MigrateOutcome::NoSuchNode)]));
    // One that was offered when it could be, and has waited since.
    node.promise(3, 5);
    assert_eq!(node.migrate(3, 2), []);
    node.adopt([1, 2].map(member));
    node.core.promises.release(&child());
    node.children.view_settled(&mut node.core, &child());
    node.children.pump(&mut node.core);
    assert_eq!(node.news(), news(&[migrated(&[2], MigrateOutcome::NoSuchNode)]));
}

#[test]
fn of_two_migrations_the_later_one_counts() {
    let mut node = Node::running(&[1]);
    node.promise(3, 5);
    assert_eq!(node.migrate(2, 1), []);
    assert_eq!(node.migrate(3, 2), []);
    let reason = "another migration of it was asked for".to_owned();
    assert_eq!(node.news(), news(&[migrated(&[1], MigrateOutcome::Failed { reason })]));
    node.core.promises.release(&child());
    node.children.view_settled(&mut node.core, &child());
    let expected = node.offer_to(3, offered(Some(id(3))));
    assert_eq!(node.pumped(), [expected]);
}

#[test]
fn who_gives_a_child_away_keeps_what_it_is_asked_in_case_it_goes_on_here() {
    let mut node = Node::committed();
    assert_eq!((node.migrate(3, 1), node.news()), (vec![], news(&[])));
    let wanted = node.instance().attempts().wanted().map(|wanted| wanted.to);
    assert_eq!(wanted, Some(Some(id(3))));
}

#[test]
fn who_asks_for_what_is_under_way_is_told_with_the_others_if_it_is_there_then() {
    for is_there in [true, false] {
        let mut node = Node::running(&[1]);
        let expected = node.offer_to(2, offered(Some(id(2))));
        assert_eq!(node.migrate(2, 1), [expected]);
        for input in [SourceInput::Accepted, SourceInput::Frozen(Ok(8)), SourceInput::Ready] {
            node.children.source(&mut node.core).step(&child(), input);
        }
        assert!(!node.instance().owns());
        node.forget();
        assert_eq!((node.migrate(2, 2), node.news()), (vec![], news(&[])));
        if !is_there {
            // It has gone on, and who runs it now is asked.
            let on = Ownership { pinned: Some(id(3)), ..owned(ATTEMPT.next_attempt()) };
            node.log_says(3, Entry::Owned(on));
        }
        node.children.source(&mut node.core).step(&child(), SourceInput::Opened);
        assert!(node.children.instance(&child()).is_none());
        let moved = || MigrateOutcome::Moved { node: id(2), epoch: ATTEMPT };
        let told = [migrated(&[1, 2], moved())];
        assert_eq!(node.news(), news(if is_there { &told } else { &[] }));
        node.effects();
        assert_eq!((node.migrate(2, 3), node.news()), (vec![], news(&[])), "its owner answers");
    }
}

#[test]
fn a_node_is_stranded_when_no_other_takes_any_of_its_children() {
    let mut node = Node::running(&[1]);
    assert!(!node.children.is_stranded(&node.core), "another one would take it");
    let mut leaving = member(1);
    leaving.draining = true;
    node.adopt([leaving.clone(), member(2), member(3)]);
    assert!(!node.children.is_stranded(&node.core));
    // One that refused it will not take it; one that could not make it may be able to later.
    let instance = node.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().refused_by(id(2));
    instance.attempts_mut().pass_over(&mut node.core, &child(), id(3));
    assert!(!node.children.is_stranded(&node.core));
    let instance = node.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().refused_by(id(3));
    assert!(node.children.is_stranded(&node.core));
    node.adopt([leaving]);
    assert!(node.children.is_stranded(&node.core));
    node.children.lose(&child());
    assert!(!node.children.is_stranded(&node.core), "there is nothing to be handed over");
}

#[test]
fn a_migration_to_where_the_child_belongs_anyway_binds_it_there() {
    let mut node = Node::running(&[2]);
    let expected = node.offer_to(2, offered(Some(id(2))));
    assert_eq!(node.migrate(2, 1), [expected]);
}

#[test]
fn a_child_that_is_released_goes_where_the_distribution_has_it() {
    let mut node = Node::running(&[2]);
    node.migrate(1, 1);
    assert_eq!((node.pinned(), node.pumped()), (Some(id(1)), vec![]), "it is bound to this node");
    node.news();
    let expected = node.offer_to(2, offered(None));
    assert_eq!(node.release(2), [expected]);
    let own = node.core.registry.owner(&child()).map(|(_, own)| own.pinned);
    assert_eq!((node.pinned(), own), (None, Some(None)), "all are told");
    let outcome = MigrateOutcome::Moved { node: id(1), epoch: epoch(1, 0) };
    assert_eq!(node.news(), news(&[migrated(&[2], outcome.clone())]));
    // One that belongs where it is stays there.
    let mut node = Node::running(&[1]);
    node.migrate(1, 1);
    node.news();
    assert_eq!((node.release(2), node.pumped()), (vec![], vec![]));
    assert_eq!(node.news(), news(&[migrated(&[2], outcome.clone())]));
    assert_eq!((node.release(3), node.pinned()), (vec![], None), "once more does no harm");
    assert_eq!(node.news(), news(&[migrated(&[3], outcome)]));
}

#[test]
fn a_release_ends_the_migration_that_waits_and_a_move_that_is_under_way_is_waited_for() {
    let mut node = Node::running(&[1]);
    node.promise(3, 5);
    assert_eq!(node.migrate(2, 1), []);
    assert_eq!(node.release(2), []);
    let reason = "it was released".to_owned();
    let failed = migrated(&[1], MigrateOutcome::Failed { reason });
    let outcome = MigrateOutcome::Moved { node: id(1), epoch: epoch(1, 0) };
    let released = migrated(&[2], outcome);
    assert_eq!(node.news(), news(&[failed, released]));
    let mut node = Node::running(&[1]);
    node.migrate(2, 1);
    node.release(2);
    assert_eq!(node.news(), news(&[]), "it may be gone soon: its next owner is asked then");
    assert_eq!(node.instance().moving().expect("it moves").to(), run(2));
    let refused = SourceInput::Refused(RefuseReason::UnknownKind);
    node.children.source_input(&mut node.core, &child(), ATTEMPT, Some(run(2)), &refused);
    node.children.child_changed(&mut node.core, &child());
    node.children.pump(&mut node.core);
    let outcome = MigrateOutcome::Moved { node: id(1), epoch: epoch(1, 0) };
    let (told, released) = (node.news(), format!("{:?}", migrated(&[2], outcome)));
    assert!(told.contains(&released), "{told}");
}

#[test]
fn a_release_of_a_child_that_is_not_bound_tries_no_move_again() {
    let outcome = MigrateOutcome::Moved { node: id(1), epoch: epoch(1, 0) };
    for backoff in [MoveBackoff::Retry, MoveBackoff::View] {
        let mut node = Node::running(&[2]);
        let instance = node.children.instance_mut(&child()).expect("it is here");
        instance.attempts_mut().back_off(backoff);
        assert_eq!((node.release(1), node.pumped()), (vec![], vec![]), "{backoff:?}");
        assert_eq!(node.news(), news(&[migrated(&[1], outcome.clone())]));
        assert_eq!(node.instance().attempts().backoff(), Some(backoff));
    }
    // Nor one that was asked for, which is over.
    let mut node = Node::running(&[1]);
    node.migrate(2, 1);
    let refused = SourceInput::Refused(RefuseReason::Busy);
    node.children.source_input(&mut node.core, &child(), ATTEMPT, Some(run(2)), &refused);
    node.forget();
    assert_eq!((node.release(2), node.pumped()), (vec![], vec![]));
    let failed = migrated(&[1], MigrateOutcome::Failed { reason: "it was released".to_owned() });
    let told = node.news();
    assert!(told.contains(&format!("{failed:?}")), "{told}");
    node.children.retry(&mut node.core, &child());
    assert_eq!(node.pumped(), [], "it belongs here");
}

#[test]
fn a_migration_that_failed_for_a_passing_reason_waits_for_its_time() {
    let mut node = Node::running(&[1]);
    node.migrate(2, 1);
    let refused = SourceInput::Refused(RefuseReason::Busy);
    node.children.source_input(&mut node.core, &child(), ATTEMPT, Some(run(2)), &refused);
    node.forget();
    node.children.child_changed(&mut node.core, &child());
    assert_eq!(node.pumped(), [], "each event would try it again");
    node.children.retry(&mut node.core, &child());
    assert_eq!(node.instance().moving().expect("it is offered again").to(), run(2));
}
