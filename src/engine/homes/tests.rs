//! The face of homes: requests, orders and questions together.

use std::time::Duration;

use super::*;
use crate::{
    engine::{
        core::Core,
        io::Effect,
        tests::{child, core, spec},
    },
    model::{
        child::{Entry, Ownership, Role, TakenIn},
        id::Origin,
        member::View,
        message::{ChildOutcome, PeerMessage},
        report::StartFailed,
        settings::OnFailure,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A node that is alone, and so the home of all children.
struct Bench {
    core: Core,
    homes: Homes,
}

impl Bench {
    fn new() -> Self {
        Self { core: core(&[1]), homes: Homes::default() }
    }

    /// The view is this now, and settled.
    fn settles(&mut self, view: View) {
        self.core.adopt(view);
        self.homes.reset(&mut self.core);
        self.core.settled = true;
        self.homes.serve(&mut self.core);
    }

    fn receive(&mut self, request: u64, what: What) {
        let (request, wait) = (RequestId(request), 30 * SECOND);
        let word = match what {
            What::Start(spec) => HomeWord::Start { request, specs: vec![spec], wait },
            What::Stop(child) => HomeWord::Stop { request, children: vec![child], wait },
        };
        let me = self.core.me;
        self.homes.handle(&mut self.core, me, word);
    }

    /// What was ordered since this was asked last.
    fn orders(&mut self) -> Vec<(&'static str, ChildId, Epoch)> {
        let orders = std::mem::take(&mut self.core.loopback).into_iter();
        let order = |word| match word {
            PeerMessage::Home(HomeWord::Run { spec, epoch, .. }) => {
                Some(("run", spec.id().clone(), epoch))
            }
            PeerMessage::Home(HomeWord::Halt { child, epoch }) => Some(("halt", child, epoch)),
            _ => None,
        };
        orders.filter_map(order).collect()
    }

    /// The owner writes, and says that it has started a child.
    fn ran(&mut self, n: usize, epoch: Epoch) {
        let ownership = Ownership {
            epoch,
            born: epoch,
            copied: epoch,
            role: Role::Active,
            pinned: None,
            origin: Origin::of(self.core.me, RequestId(1)),
            taken: TakenIn::default(),
            failure: None,
            spec: spec(n),
        };
        self.core.write(&child(n), Entry::Owned(ownership));
        let outcome = StartOutcome::Started { node: self.core.me.node, epoch };
        self.homes.ran(&mut self.core, &child(n), epoch, outcome);
    }

    fn halted(&mut self, n: usize, epoch: Epoch) {
        self.core.write(&child(n), Entry::Removed { epoch });
        let outcome = StopOutcome::Stopped { node: self.core.me.node };
        self.homes.halted(&mut self.core, &child(n), epoch, outcome);
    }

    /// What was answered to which request.
    fn answers(&mut self) -> Vec<u64> {
        let (now, me) = (self.core.now, self.core.me);
        let mut answers = std::mem::take(&mut self.core.answers);
        let words = answers.release(now, me, |to| self.core.safe(to, 0));
        self.core.answers = answers;
        let requests = words.into_iter().map(|(_, word)| match word {
            HomeWord::Started { request, .. } | HomeWord::Stopped { request, .. } => request.0,
            word => panic!("{word:?}"),
        });
        requests.collect()
    }
}

#[test]
fn starts_and_stops_of_a_child_take_turns_and_those_of_one_kind_go_together() {
    let mut bench = Bench::new();
    bench.receive(1, What::Start(spec(0)));
    bench.receive(2, What::Stop(child(0)));
    bench.receive(3, What::Stop(child(0)));
    let [("run", _, first)] = bench.orders()[..] else { panic!("one start") };
    bench.ran(0, first);
    assert_eq!(bench.answers(), [1]);
    let [("halt", _, second)] = bench.orders()[..] else { panic!("one stop") };
    bench.receive(4, What::Start(spec(0)));
    bench.receive(5, What::Start(spec(0)));
    bench.receive(6, What::Stop(child(0)));
    bench.receive(7, What::Start(spec(0)));
    bench.halted(0, second);
    assert_eq!(bench.answers(), [2, 3, 6], "a stop goes with the one that is under way");
    let [("run", _, third)] = bench.orders()[..] else { panic!("one start") };
    assert!(first < second && second < third);
    bench.ran(0, third);
    assert_eq!(bench.answers(), [4, 5, 7]);
    assert_eq!(bench.orders(), []);
    assert_eq!(bench.homes.orders.waiting(&child(0)), 0);
}

#[test]
fn who_asks_again_while_it_waits_is_kept_once() {
    let mut bench = Bench::new();
    bench.core.settled = false;
    for _ in 0..3 {
        bench.receive(1, What::Stop(child(0)));
        bench.receive(2, What::Start(spec(0)));
    }
    assert_eq!(bench.homes.orders.waiting(&child(0)), 2);
    bench.core.settled = true;
    bench.homes.serve(&mut bench.core);
    let [("run", _, epoch), ..] = bench.orders()[..] else { panic!("nothing to stop") };
    bench.ran(0, epoch);
    let mut answers = bench.answers();
    answers.sort_unstable();
    assert_eq!(answers, [1, 2]);
    assert_eq!(bench.orders(), [], "a stop that was answered is not carried out again");
}

#[test]
fn what_waits_for_one_child_does_not_wait_for_another() {
    let mut bench = Bench::new();
    for n in 0..2 {
        bench.receive(1, What::Start(spec(n)));
        bench.receive(2, What::Stop(child(n)));
    }
    let orders = bench.orders();
    assert_eq!(orders.len(), 2);
    bench.ran(1, orders[1].2);
    assert!(matches!(&bench.orders()[..], [("halt", id, _)] if *id == child(1)));
    assert_eq!([0, 1].map(|n| bench.homes.orders.waiting(&child(n))), [1, 0]);
}

#[test]
fn what_waits_is_kept_while_the_view_is_not_settled() {
    let mut bench = Bench::new();
    bench.receive(1, What::Start(spec(0)));
    bench.receive(2, What::Stop(child(0)));
    let epoch = bench.orders()[0].2;
    bench.core.settled = false;
    bench.ran(0, epoch);
    assert_eq!(bench.orders(), []);
    bench.core.settled = true;
    bench.homes.serve(&mut bench.core);
    let [("halt", _, epoch), ..] = bench.orders()[..] else { panic!("it is ordered") };
    bench.halted(0, epoch);
    assert_eq!(bench.answers(), [1, 2]);
}

#[test]
fn a_request_is_answered_when_each_of_its_children_has_an_outcome() {
    let mut bench = Bench::new();
    let me = bench.core.me;
    let specs = vec![spec(0), spec(1)];
    let on_failure = OnFailure::Continue;
    let request = Request::Start { specs, on_failure, timeout: SECOND };
    bench.homes.request(&mut bench.core, RequestId(7), request);
    for n in [0, 1] {
        let outcome = StartOutcome::Failed { reason: StartFailed::NoNode };
        let outcomes = vec![ChildOutcome { child: child(n), outcome }];
        bench.core.effects.clear();
        let word = HomeWord::Started { request: RequestId(7), outcomes };
        bench.homes.handle(&mut bench.core, me, word);
        let replies = bench.core.effects.iter().filter(|e| matches!(e, Effect::Reply { .. }));
        assert_eq!(replies.count(), n);
    }
}

#[test]
fn a_start_whose_executor_died_is_ordered_anew_and_what_waits_stays_behind_it() {
    let mut bench = Bench::new();
    // This node is a home, and takes no children.
    let mut view = core(&[1, 2]).view;
    view.members.get_mut(&bench.core.me.node).expect("it is in").draining = true;
    bench.settles(view);
    let homed = (0..100).find(|n| bench.core.is_home(&child(*n)));
    let n = homed.expect("of a hundred children it is the home of one");
    bench.receive(1, What::Start(spec(n)));
    assert_eq!(bench.orders(), [], "it is for the other one");
    bench.receive(2, What::Stop(child(n)));
    bench.settles(core(&[1]).view);
    let orders = bench.orders();
    let [("run", _, epoch), ..] = orders[..] else { panic!("it is ordered here: {orders:?}") };
    assert_eq!(bench.homes.orders.waiting(&child(n)), 1);
    bench.ran(n, epoch);
    assert_eq!(bench.answers(), [1]);
    assert!(matches!(&bench.orders()[..], [("halt", id, _)] if *id == child(n)));
}

/// Which requests home 2 was asked to start something for since this was asked last.
fn asked_of_two(bench: &mut Bench) -> Vec<u64> {
    let two = core(&[2]).view;
    let effects = std::mem::take(&mut bench.core.effects).into_iter();
    let request = |effect| match effect {
        Effect::Send { to, message: PeerMessage::Home(HomeWord::Start { request, .. }) }
            if two.member(to).is_some() =>
        {
            Some(request.0)
        }
        _ => None,
    };
    effects.filter_map(request).collect()
}

#[test]
fn a_home_that_adopts_the_view_after_it_was_asked_is_asked_again() {
    let mut bench = Bench::new();
    let view = core(&[1, 2, 3]).view;
    bench.core.adopt(view.clone());
    let [two, three] = [2, 3].map(|n| crate::engine::tests::member(n).id);
    let homed = (0..100).find(|n| bench.core.home(&child(*n)) == Some(two));
    let specs = vec![spec(homed.expect("of a hundred children it is the home of one"))];
    bench.core.settled = false;
    bench.homes.reset(&mut bench.core);
    let request = Request::Start { specs, on_failure: OnFailure::Continue, timeout: SECOND };
    bench.homes.request(&mut bench.core, RequestId(7), request);
    assert_eq!(asked_of_two(&mut bench), [7]);
    // It has not heard that it is in. It serves nobody before the view is settled.
    bench.homes.adopted(&mut bench.core, two);
    assert!(asked_of_two(&mut bench).is_empty());
    bench.core.settled = true;
    bench.homes.serve(&mut bench.core);
    assert_eq!(asked_of_two(&mut bench), [7]);
    // Another node came in and left again, and this one has not heard of either.
    bench.homes.adopted(&mut bench.core, three);
    assert!(asked_of_two(&mut bench).is_empty(), "that is not its home");
    bench.homes.adopted(&mut bench.core, two);
    assert_eq!(asked_of_two(&mut bench), [7]);
    // Who had adopted the view before this node did has heard what it was asked.
    bench.settles(view);
    assert_eq!(asked_of_two(&mut bench), [7]);
}
