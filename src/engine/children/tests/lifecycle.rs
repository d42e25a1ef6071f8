use std::{sync::Arc, time::Duration};

use super::{Node, child, emit, epoch, id, kind, member, news, order, owned, run, spec};
use crate::{
    engine::{
        children::{begun, phase::Phase},
        core::{News, Timer},
        io::{ChildOrder, Effect, Exit},
    },
    model::{
        child::{
            ChildFailure, ChildOrigin, ChildSpec, Entry, Epoch, Ownership, RestartIntensity,
            RestartRule,
        },
        event::HubEvent,
        id::{NodeId, Origin, RequestId},
        member::MemberState,
        report::{MigrateOutcome, StartFailed, StartOutcome, StopOutcome},
    },
};

const PANICKED: &str = "it panicked: boom";

fn panicked() -> Exit {
    Exit::Panicked { message: "boom".to_owned() }
}

impl Node {
    fn ordered(&mut self, spec: Arc<ChildSpec>, epoch: Epoch) {
        self.children.run(&mut self.core, id(2), spec, epoch, Origin::default());
    }

    fn started(&mut self, epoch: Epoch, outcome: Result<(), String>) {
        self.children.started(&mut self.core, &child(), epoch, outcome);
    }

    fn exited(&mut self, epoch: Epoch) {
        self.children.exited(&mut self.core, &child(), epoch, &panicked());
    }

    /// When it is started again, if it waits for that.
    fn waits(&self) -> Option<Duration> {
        match self.instance().phase() {
            Phase::Waiting(wait) => Some(wait.until? - self.core.now),
            phase => panic!("{phase:?}"),
        }
    }
}

fn start(epoch: Epoch, origin: ChildOrigin) -> Effect {
    order(ChildOrder::Start { spec: spec(), epoch, origin })
}

fn ran(epoch: Epoch, outcome: StartOutcome) -> News {
    News::Ran { home: id(2), child: child(), epoch, outcome }
}

fn refused(reason: &str) -> StartOutcome {
    StartOutcome::Failed { reason: StartFailed::Refused { reason: reason.to_owned() } }
}

fn look() -> News {
    News::Changed { child: child() }
}

fn halted(outcome: StopOutcome) -> News {
    News::Halted { home: id(3), child: child(), epoch: epoch(1, 7), outcome }
}

fn failure(reason: &str, restarts: u64, given_up: bool) -> Option<ChildFailure> {
    Some(ChildFailure::new(reason, restarts, given_up))
}

#[test]
fn a_start_is_written_before_it_is_ordered_and_answered_when_it_has_ended() {
    let mut node = Node::new(&[1]);
    node.ordered(spec(), epoch(1, 0));
    assert_eq!(node.entry(), Some(Entry::Owned(owned(epoch(1, 0)))));
    assert_eq!(node.effects(), [start(epoch(1, 0), ChildOrigin::Fresh)]);
    assert_eq!(node.timers(), [Timer::Start(child(), epoch(1, 0))]);
    // Whoever asks again is answered when it is known.
    node.ordered(spec(), epoch(1, 0));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
    node.started(epoch(1, 0), Ok(()));
    let kind = kind();
    let event = HubEvent::ChildStarted { child: child(), kind, epoch: epoch(1, 0) };
    assert_eq!(node.effects(), [emit(event)]);
    let outcome = StartOutcome::Started { node: id(1), epoch: epoch(1, 0) };
    assert_eq!(node.news(), news(&[ran(epoch(1, 0), outcome.clone()), look()]));
    assert!(node.instance().is_running());
    node.ordered(spec(), epoch(1, 0));
    assert_eq!(node.news(), news(&[ran(epoch(1, 0), outcome)]));
}

#[test]
fn an_answer_counts_only_for_the_start_that_is_awaited() {
    let mut node = Node::new(&[1]);
    node.ordered(spec(), epoch(2, 0));
    node.forget();
    for other in [epoch(1, 0), epoch(2, 1)] {
        node.started(other, Ok(()));
        node.started(other, Err("x".to_owned()));
        node.children.start_expired(&mut node.core, &child(), other);
    }
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
    assert!(matches!(node.instance().phase(), Phase::Starting { .. }));
    node.children.start_expired(&mut node.core, &child(), epoch(2, 0));
    let reason = "it did not start within 10s";
    assert_eq!(node.news(), news(&[ran(epoch(2, 0), refused(reason))]));
    node.forget();
    node.started(epoch(2, 0), Ok(()));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])), "it came too late");
}

#[test]
fn a_first_start_that_is_refused_leaves_no_trace_and_nobody_is_told_that_it_ran() {
    let mut node = Node::new(&[1]);
    node.ordered(spec(), epoch(1, 0));
    node.forget();
    node.started(epoch(1, 0), Err("no".to_owned()));
    assert_eq!(node.entry(), Some(Entry::Removed { epoch: epoch(2, 0) }));
    let stop = ChildOrder::Stop { child: child(), epoch: epoch(1, 0) };
    assert_eq!(node.effects(), [order(stop)]);
    assert_eq!(node.news(), news(&[ran(epoch(1, 0), refused("no"))]));
    node.children.stopped(&mut node.core, &child());
    assert_eq!((node.effects(), node.news()), (vec![], news(&[look()])));
    assert!(node.children.instance(&child()).is_none());
}

#[test]
fn an_order_that_is_older_than_what_is_known_starts_nothing() {
    // The owner has moved it since: a term below the order's, and not removed between.
    let live = Entry::Owned(owned(epoch(4, 9)));
    // It is owned, or was removed, at the order's epoch or above.
    let above = Entry::Owned(owned(epoch(5, 1)));
    let removed = Entry::Removed { epoch: epoch(6, 0) };
    let exists = |epoch| StartOutcome::Started { node: id(3), epoch };
    let timeout = StartOutcome::Failed { reason: StartFailed::Timeout { waits_for: None } };
    for (entry, expected) in
        [(live, exists(epoch(4, 9))), (above, exists(epoch(5, 1))), (removed, timeout)]
    {
        let mut node = Node::new(&[1]);
        node.log_says(3, entry);
        node.ordered(spec(), epoch(5, 0));
        assert_eq!((node.effects(), node.news()), (vec![], news(&[ran(epoch(5, 0), expected)])));
        assert!(node.children.instance(&child()).is_none());
    }
}

#[test]
fn a_node_starts_nothing_that_it_cannot_run_or_could_not_keep() {
    let mut node = Node::new(&[1]);
    node.core.emptying = true;
    node.ordered(spec(), epoch(1, 0));
    let leaving = StartOutcome::Failed { reason: StartFailed::Leaving };
    assert_eq!((node.effects(), node.news()), (vec![], news(&[ran(epoch(1, 0), leaving)])));
    let mut node = Node::new(&[1]);
    node.core.config.kinds.clear();
    node.ordered(spec(), epoch(1, 0));
    let unknown = StartFailed::UnknownKind { node: id(1) };
    let unknown = StartOutcome::Failed { reason: unknown };
    assert_eq!((node.effects(), node.news()), (vec![], news(&[ran(epoch(1, 0), unknown)])));
}

#[test]
fn who_asked_first_has_started_it_and_who_came_second_finds_it() {
    let ownership = Ownership { origin: Origin::of(run(2), RequestId(1)), ..owned(epoch(1, 0)) };
    let (node, at) = (id(3), epoch(1, 0));
    let asked = Origin::of(run(2), RequestId(1));
    assert_eq!(begun(node, &ownership, asked), StartOutcome::Started { node, epoch: at });
    let asked = Origin::of(run(2), RequestId(2));
    assert_eq!(begun(node, &ownership, asked), StartOutcome::Exists { node, epoch: at });
}

#[test]
fn a_child_that_ended_waits_and_begins_from_nothing_at_an_epoch_of_its_own() {
    let mut node = Node::running(&[1]);
    node.exited(epoch(1, 0));
    let after = node.waits().expect("it is started again");
    let failure = failure(PANICKED, 1, false);
    assert_eq!(node.entry(), Some(Entry::Owned(Ownership { failure, ..owned(epoch(1, 1)) })));
    let (reason, restarts) = (PANICKED.to_owned(), 1);
    let event = HubEvent::ChildRestarted { child: child(), reason, restarts, after };
    let wait = ChildOrder::Wait { child: child(), epoch: epoch(1, 1) };
    assert_eq!(node.effects(), [emit(event), order(wait)]);
    assert_eq!(node.timers(), [Timer::Restart(child())]);
    // Not before its time.
    node.children.start_again(&mut node.core, &child());
    assert_eq!(node.effects(), []);
    node.pass(after);
    node.children.start_again(&mut node.core, &child());
    assert_eq!(node.effects(), [start(epoch(1, 1), ChildOrigin::Restarted)]);
    assert_eq!(node.timers(), [Timer::Start(child(), epoch(1, 1))]);
    node.started(epoch(1, 1), Ok(()));
    assert_eq!(node.entry(), Some(Entry::Owned(owned(epoch(1, 1)))), "its entry says so no more");
}

#[test]
fn a_child_that_ended_too_often_is_given_up_and_kept_with_its_reason() {
    let mut node = Node::new(&[1]);
    let intensity = RestartIntensity { restarts: 0, within: Duration::from_secs(60) };
    let spec = Arc::new((*spec()).clone().intensity(intensity));
    node.children.begin(&mut node.core, spec.clone(), epoch(1, 0));
    node.started(epoch(1, 0), Ok(()));
    node.forget();
    node.exited(epoch(1, 0));
    let event = HubEvent::ChildGivenUp { child: child(), reason: PANICKED.to_owned() };
    let give_up = ChildOrder::GiveUp { child: child(), epoch: epoch(1, 1) };
    assert_eq!(node.effects(), [emit(event), order(give_up)]);
    assert_eq!((node.waits(), node.timers()), (None, vec![]));
    let Some(Entry::Owned(ownership)) = node.entry() else { panic!("it is kept") };
    assert_eq!(ownership.failure, failure(PANICKED, 0, true));
    // A home starts it by hand: as anew, at the order's epoch.
    node.ordered(spec.clone(), epoch(2, 0));
    let origin = ChildOrigin::Fresh;
    assert_eq!(node.effects(), [order(ChildOrder::Start { spec, epoch: epoch(2, 0), origin })]);
    assert_eq!(node.instance().ownership().born, epoch(2, 0));
    node.forget();
    node.started(epoch(2, 0), Err("no".to_owned()));
    let give_up = ChildOrder::GiveUp { child: child(), epoch: epoch(2, 1) };
    let event = HubEvent::ChildGivenUp { child: child(), reason: "no".to_owned() };
    assert_eq!(node.effects(), [emit(event), order(give_up)]);
    assert_eq!(node.news(), news(&[ran(epoch(2, 0), refused("no")), look()]));
    // The order is repeated: what it started has failed meanwhile.
    node.ordered(super::spec(), epoch(2, 0));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[ran(epoch(2, 0), refused("no"))])));
    // And the view changes: it gets another try.
    node.children.view_settled(&mut node.core, &child());
    assert!(node.waits().is_some());
}

#[test]
fn a_child_that_is_not_to_be_started_again_ends_for_good() {
    let mut node = Node::new(&[1]);
    let spec = Arc::new((*spec()).clone().restart(RestartRule::Temporary));
    node.children.begin(&mut node.core, spec, epoch(1, 0));
    node.started(epoch(1, 0), Ok(()));
    node.forget();
    node.exited(epoch(1, 0));
    let stop = ChildOrder::Stop { child: child(), epoch: epoch(1, 0) };
    assert_eq!(node.effects(), [order(stop)]);
    // Whatever else is said of its end is known.
    node.exited(epoch(1, 0));
    assert_eq!(node.effects(), []);
}

#[test]
fn a_child_that_cannot_be_started_again_is_tried_elsewhere_first() {
    let mut node = Node::running(&[1, 2]);
    node.exited(epoch(1, 0));
    node.pass(node.waits().expect("it is started again"));
    node.children.start_again(&mut node.core, &child());
    node.forget();
    node.started(epoch(1, 1), Err("no disk".to_owned()));
    assert_eq!(node.instance().attempts().passed_over().nodes(), &[id(1)].into());
    assert_eq!(node.instance().epoch(), epoch(1, 2));
    assert!(node.timers().contains(&Timer::PassedOver(child())));
    node.children.enqueue(&node.core, &child());
    node.children.pump(&mut node.core);
    assert_eq!(node.instance().moving().expect("it is offered").to(), run(2));
}

#[test]
fn an_end_of_an_actor_that_is_not_known_is_ignored() {
    let mut node = Node::running(&[1]);
    node.exited(epoch(1, 1));
    assert_eq!(node.effects(), []);
    assert!(node.instance().is_running());
}

#[test]
fn a_stop_that_is_ordered_while_it_starts_comes_after_the_start() {
    let mut node = Node::new(&[1]);
    node.ordered(spec(), epoch(1, 0));
    node.forget();
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
    node.started(epoch(1, 0), Ok(()));
    let stop = ChildOrder::Stop { child: child(), epoch: epoch(1, 0) };
    assert_eq!(node.effects().last(), Some(&order(stop)));
    node.news();
    node.children.stopped(&mut node.core, &child());
    // It is answered once, though it was ordered twice.
    let stopped = StopOutcome::Stopped { node: id(1) };
    assert_eq!(node.news(), news(&[halted(stopped), look()]));
    assert_eq!(node.effects(), [emit(HubEvent::ChildStopped { child: child() })]);
}

#[test]
fn a_removal_starts_a_term_above_all_that_is_known_ordered_or_promised() {
    let stop = |known: Option<Epoch>, ordered: Epoch, promised: Option<u64>| {
        let mut node = Node::running(&[1]);
        if let Some(term) = promised {
            node.promise(2, term);
        }
        if let Some(known) = known {
            node.core.write(&child(), Entry::Owned(owned(known)));
        }
        node.children.halt(&mut node.core, id(3), &child(), ordered);
        node.children.stopped(&mut node.core, &child());
        node.entry()
    };
    let removed = |term| Some(Entry::Removed { epoch: epoch(term, 0) });
    assert_eq!(stop(None, epoch(1, 0), None), removed(2));
    assert_eq!(stop(Some(epoch(4, 3)), epoch(1, 0), None), removed(5));
    assert_eq!(stop(None, epoch(7, 0), None), removed(7));
    assert_eq!(stop(None, epoch(1, 0), Some(9)), removed(10));
}

#[test]
fn a_stop_of_a_child_that_is_not_here_is_answered_if_it_is_nowhere() {
    let mut node = Node::new(&[1]);
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    assert_eq!(node.news(), news(&[halted(StopOutcome::NotFound)]));
    node.log_says(2, Entry::Owned(owned(epoch(1, 0))));
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    assert_eq!(node.news(), news(&[]), "its owner answers");
}

#[test]
fn a_start_that_is_ordered_while_it_stops_begins_when_nothing_is_left() {
    let mut node = Node::running(&[1]);
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.forget();
    node.ordered(spec(), epoch(3, 0));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
    node.children.stopped(&mut node.core, &child());
    let event = emit(HubEvent::ChildStopped { child: child() });
    assert_eq!(node.effects(), [event, start(epoch(3, 0), ChildOrigin::Fresh)]);
    assert_eq!(node.instance().epoch(), epoch(3, 0));
}

#[test]
fn who_waits_for_a_migration_of_a_child_that_stops_is_told_that_there_is_none() {
    let mut node = Node::running(&[1]);
    let waiters: Vec<(NodeId, RequestId)> = vec![(id(3), RequestId(5))];
    // A roll call is under way: it cannot be offered now.
    node.promise(2, 5);
    node.children.migrate(&mut node.core, &child(), Some(id(2)), false, waiters[0]);
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.forget();
    node.children.stopped(&mut node.core, &child());
    let outcome = MigrateOutcome::NotFound;
    let stopped = halted(StopOutcome::Stopped { node: id(1) });
    let migrated = News::Migrated { waiters, child: child(), outcome };
    assert_eq!(node.news(), news(&[migrated, stopped, look()]));
}

#[test]
fn on_a_node_that_is_emptying_a_child_waits_on_if_it_could_start_elsewhere() {
    let emptying = |others: bool| {
        let mut node = Node::running(&[1, 2]);
        let mut me = member(1);
        me.state = MemberState::Leaving;
        let others = others.then(|| [member(2), member(3)]).into_iter().flatten();
        node.adopt([me].into_iter().chain(others));
        node.exited(epoch(1, 0));
        node.pass(node.waits().expect("it is started again"));
        node.forget();
        node.children.start_again(&mut node.core, &child());
        node
    };
    let mut node = emptying(true);
    assert_eq!(node.effects(), []);
    assert_eq!(node.waits(), Some(Duration::from_secs(1)));
    assert_eq!(node.timers(), [Timer::Restart(child())]);
    let mut node = emptying(false);
    assert_eq!(node.effects(), [start(epoch(1, 1), ChildOrigin::Restarted)]);
}

#[test]
fn a_stop_of_a_child_that_was_handed_over_is_for_its_owner() {
    let mut node = Node::committed();
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    assert_eq!((node.effects(), node.news()), (vec![], news(&[])));
    assert!(!node.instance().is_to_stop());
}

#[test]
fn a_copy_that_was_held_for_its_successor_and_ended_is_forgotten_and_not_started_again() {
    let mut node = Node::committed();
    node.exited(epoch(1, 0));
    let effects = node.effects();
    let [Effect::Emit(HubEvent::HandoverFailed { may_have_run: true, .. })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(node.children.instance(&child()).is_none());
    assert!(matches!(node.entry(), Some(Entry::Moved { .. })), "its owner has it");
}

#[test]
fn an_order_that_is_older_than_a_child_which_stops_is_answered_by_what_it_was() {
    let mut node = Node::running(&[1]);
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.forget();
    node.ordered(spec(), epoch(1, 0));
    let outcome = StartOutcome::Started { node: id(1), epoch: epoch(1, 0) };
    assert_eq!(node.news(), news(&[ran(epoch(1, 0), outcome)]));
    node.children.stopped(&mut node.core, &child());
    assert!(node.children.instance(&child()).is_none());
}

#[test]
fn a_child_that_is_to_stop_and_does_not_start_is_not_started_again() {
    let mut node = Node::running(&[1]);
    node.exited(epoch(1, 0));
    node.pass(node.waits().expect("it is started again"));
    node.children.start_again(&mut node.core, &child());
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.forget();
    node.started(epoch(1, 1), Err("no".to_owned()));
    let stop = ChildOrder::Stop { child: child(), epoch: epoch(1, 1) };
    assert_eq!(node.effects(), [order(stop)]);
}

#[test]
fn a_child_that_another_node_has_is_not_removed_when_this_one_stops_its_own() {
    let mut node = Node::running(&[1]);
    node.children.halt(&mut node.core, id(3), &child(), epoch(1, 7));
    node.forget();
    node.log_says(3, Entry::Owned(owned(epoch(4, 0))));
    let entry = node.entry();
    node.children.stopped(&mut node.core, &child());
    assert_eq!(node.entry(), entry);
    assert_eq!(node.effects(), [], "it has not stopped");
    let stopped = halted(StopOutcome::Stopped { node: id(1) });
    assert_eq!(node.news(), news(&[stopped, look()]));
}
