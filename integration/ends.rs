//! How a hub ends: whoever asked for it, whether they still wait; what was taken in is handled, and
//! whoever waits is told.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix_hub::prelude::*;
use actix_rt::System;
use futures_util::{FutureExt, future::join};

use crate::support::*;

/// Begins something and no longer waits for it.
fn begin(future: impl Future) {
    assert!(pin!(future).now_or_never().is_none(), "it takes a moment");
}

/// Two nodes, and a child on each of them.
async fn two_with_a_child_each(net: &Net) -> (Vec<Hub>, [ChildRef<Counter>; 2]) {
    let hubs = net.cluster(2).await;
    let mut children = Vec::new();
    for (hub, name) in hubs.iter().zip(["c0", "c1"]) {
        start(&hubs[0], name).await;
        hubs[0].migrate(name, hub.node_id()).await.expect("it moves");
        children.push(hubs[0].child(name));
    }
    (hubs, children.try_into().expect("there are two"))
}

#[test]
fn a_stop_that_nobody_waits_for_ends_and_can_be_waited_for_again() {
    run(async {
        let hub = Net::Memory(MemoryNetwork::new()).node("a", None, |_| {}).await;
        let mut events = hub.events();
        begin(hub.stop());
        join(hub.stop(), hub.stop()).await;
        while events.next().await.is_some() {}
        hub.stop().await;
        assert_eq!(hub.leave().await, Err(LeaveError::HubStopped));
    });
}

#[test]
fn a_hub_can_be_stopped_from_outside_of_any_runtime() {
    run(async {
        let hub = Net::Memory(MemoryNetwork::new()).node("a", None, |_| {}).await;
        let stopping = hub.clone();
        std::thread::spawn(move || futures_util::FutureExt::now_or_never(stopping.stop()));
        hub.stopped().await;
        hub.stop().await;
    });
}

#[test]
fn a_leave_that_nobody_waits_for_goes_on_to_its_end_and_can_be_waited_for_again() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        for again in [true, false] {
            let (hubs, [_, child]) = two_with_a_child_each(&net).await;
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
            begin(hubs[1].leave());
            if again {
                let (first, second) = join(hubs[1].leave(), hubs[1].leave()).await;
                assert_eq!((first, second), (Ok(()), Ok(())));
            } else {
                hubs[1].stopped().await;
            }
            assert_eq!(hubs[1].leave().await, Ok(()), "it has left");
            assert_eq!(child.send(Add { sender: 1, number: 2 }).await, Ok(2), "with its state");
            together(&hubs[..1]).await;
            stop(hubs).await;
        }
    });
}

#[test]
fn a_node_that_leaves_waits_for_the_replies_to_its_own_calls() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let (hubs, _) = two_with_a_child_each(&net).await;
        let there: ChildRef<Counter> = hubs[1].child("c0");
        // Longer than the leave would take without it, and than what is given to answers.
        let call = there.send(Later { ms: 6_500 }).timeout(Duration::from_secs(20));
        let began = actix_rt::spawn(call.into_future());
        let at = hubs[0].child::<Counter>("c0");
        at.send(Read { sender: 1 }).await.expect("it answers: the call was taken in before");
        let leaving = actix_rt::spawn({
            let hub = hubs[1].clone();
            async move { hub.leave().await }
        });
        assert_eq!(began.await.expect("it does not panic"), Ok(6_500));
        assert_eq!(leaving.await.expect("it does not panic"), Ok(()));
        let late = there.send(Read { sender: 1 }).await.expect_err("its hub has stopped");
        assert!(!late.may_have_been_handled(), "{late}");
        stop(hubs).await;
    });
}

#[test]
fn a_leave_that_fails_names_what_is_left_and_a_second_one_goes_on() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let first = net.node("a", None, |_| {}).await;
        let short = |settings: &mut Settings| {
            settings.leave_timeout = Duration::from_secs(2);
            settings.migration = Migration::HotSwap(HotSwapOptions {
                retention: Duration::from_millis(300),
                ..HotSwapOptions::default()
            });
        };
        let second = net.node("b", Some(&first), short).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        for name in ["c0", "c1", "c2"] {
            start(&hubs[0], name).await;
            hubs[0].migrate(name, hubs[1].node_id()).await.expect("it moves");
        }
        let busy: ChildRef<Counter> = hubs[1].child("c1");
        let call = actix_rt::spawn(
            busy.send(Later { ms: 5_000 }).timeout(Duration::from_secs(20)).into_future(),
        );
        busy.send(Add { sender: 1, number: 1 }).await.expect("it answers meanwhile");
        let mut events = hubs[1].events();
        let error = hubs[1].leave().await.expect_err("a handler runs on");
        let LeaveError::Timeout { children: 1, left, .. } = &error else { panic!("{error}") };
        assert_eq!(left[0].child.as_str(), "c1");
        assert!(left[0].reason.contains("one has run for "), "{}", left[0].reason);
        assert!(error.to_string().contains("c1 ("), "{error}");
        let told = event(&mut events, |event| match event {
            HubEvent::LeaveFailed { left, .. } => Some(left),
            _ => None,
        });
        assert_eq!(told.await, *left);
        // What is out stays out.
        let owned = async |hub: &Hub| hub.children(Scope::Local).await.expect("the hub runs").len();
        assert_eq!((owned(&hubs[0]).await, owned(&hubs[1]).await), (2, 1));
        assert_eq!(call.await.expect("it does not panic"), Ok(5_000));
        assert_eq!(hubs[1].leave().await, Ok(()));
        assert_eq!(
            hubs[0].child::<Counter>("c1").send(Read { sender: 1 }).await,
            Ok(Numbers(vec![1]))
        );
        stop(hubs).await;
    });
}

/// Adds one by `do_send` over and over until it is refused. Tells how many were taken in, and by what
/// the next one was refused.
async fn tell_until_refused(child: ChildRef<Counter>, sender: u64) -> (u64, HubSendError) {
    let mut taken = 0;
    loop {
        match child.do_send(Add { sender, number: taken }) {
            Ok(()) => taken += 1,
            Err(HubSendError::NotHandled { reason: NotHandled::Busy, .. }) => {}
            Err(error) => return (taken, error),
        }
        tokio::task::yield_now().await;
    }
}

fn is_stopped(error: &HubSendError) -> bool {
    matches!(
        error,
        HubSendError::NotHandled { reason: NotHandled::HubStopped, .. }
            | HubSendError::MaybeHandled { reason: MaybeHandled::HubStopped, .. }
    )
}

/// Numbers that children of this kind were told, wherever they ran.
static TOLD: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Counts in [`TOLD`], so that it is seen after its hub has gone.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Teller {
    of: usize,
}

#[derive(actix::Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "()")]
struct Tell {
    of: usize,
}

impl HubMessage for Tell {
    const NAME: &'static str = "tell";
}

impl actix::Actor for Teller {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Tell> for Teller {
    type Result = ();
    fn handle(&mut self, Tell { of }: Tell, _: &mut Self::Context) {
        // Slower than it is told, so that messages wait.
        std::thread::sleep(Duration::from_micros(200));
        TOLD[of].fetch_add(1, Ordering::SeqCst);
    }
}

hot_swap!(Teller, kind = "teller", messages = [Tell]);

#[test]
fn what_was_taken_in_is_handled_before_a_hub_stops() {
    run(async {
        let network = MemoryNetwork::new();
        let node = |name: &str| builder("test", name).memory(&network).child::<Teller>();
        let first = node("a").start().await.expect("it starts");
        let second = node("b").seed(&first.addresses()[0]).start().await.expect("it starts");
        let hubs = [first, second];
        together(&hubs).await;
        // One child here and one elsewhere.
        let mut here = None;
        let mut there = None;
        for n in 0.. {
            let id = format!("c{n}");
            let spec = ChildSpec::new::<Teller>(&id, ()).expect("valid");
            let node = hubs[0].start_child(spec).await.expect("it starts").node;
            let place = if node == hubs[0].node_id() { &mut here } else { &mut there };
            place.get_or_insert(id);
            if here.is_some() && there.is_some() {
                break;
            }
        }
        let children = [here, there].map(|id| hubs[0].child::<Teller>(id.expect("it is there")));
        let tellers: Vec<_> = children
            .into_iter()
            .enumerate()
            .map(|(of, child)| {
                actix_rt::spawn(async move {
                    let mut taken = 0;
                    loop {
                        match child.do_send(Tell { of }) {
                            Ok(()) => taken += 1,
                            Err(HubSendError::NotHandled { reason: NotHandled::Busy, .. }) => {
                                tokio::task::yield_now().await;
                            }
                            Err(error) => return (taken, error),
                        }
                        if taken % 64 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        eventually("the children are told much", || async {
            TOLD.iter().all(|told| told.load(Ordering::SeqCst) > 500)
        })
        .await;
        hubs[0].stop().await;
        for (of, teller) in tellers.into_iter().enumerate() {
            let (taken, error) = teller.await.expect("it does not panic");
            assert!(is_stopped(&error), "{error}");
            let told = || TOLD[of].load(Ordering::SeqCst);
            eventually("what was taken in is handled", || async { told() >= taken }).await;
            assert_eq!(told(), taken, "of {of}");
        }
        hubs[1].stop().await;
    });
}

#[test]
fn what_a_leaving_node_takes_in_is_handled() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let mut tellers = Vec::new();
        for sender in 0..8 {
            let child = start(&hubs[0], &format!("c{sender}")).await;
            tellers.push(actix_rt::spawn(tell_until_refused(child, sender)));
        }
        tokio::task::yield_now().await;
        hubs[0].leave().await.expect("it leaves");
        for (sender, teller) in tellers.into_iter().enumerate() {
            let (taken, error) = teller.await.expect("it does not panic");
            assert!(is_stopped(&error), "{error}");
            let child: ChildRef<Counter> = hubs[1].child(format!("c{sender}"));
            let seen = child.send(Read { sender: sender as u64 }).await.expect("it answers").0;
            assert_eq!(seen.len() as u64, taken, "of child {sender}");
            assert!(seen.into_iter().eq(0..taken), "in order, of child {sender}");
        }
        hubs[1].stop().await;
    });
}

#[test]
fn every_send_ends_at_once_when_the_system_of_the_hub_is_gone() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stops) = tokio::sync::oneshot::channel::<()>();
    let owner = std::thread::spawn(move || {
        let system = System::new();
        system.block_on(async move {
            let hub = tcp("a").start().await.expect("it starts");
            let child = start(&hub, "c").await;
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
            tell.send((hub, child)).expect("the test waits");
            actix_rt::spawn(async move {
                let _ = stops.await;
                // The app ends without a word to its hub.
                System::current().stop();
            });
        });
        system.run().expect("it ends well");
    });
    let (hub, child) = told.recv().expect("the hub runs");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("it starts").block_on(async move {
        let timeout = Duration::from_secs(3_000);
        let started = child.send(Later { ms: 3_000_000 }).timeout(timeout);
        let waits: ChildRef<Counter> = hub.child("c");
        let queued = waits.send(Block { ms: 0 }).timeout(timeout);
        let stopped = hub.stopped();
        queued.await.expect("it answers");
        stop.send(()).expect("the system waits");
        let ended = async {
            let error = started.await.expect_err("the hub is gone");
            // Its actor may have gone before the hub did.
            assert!(error.may_have_been_handled(), "{error}");
            stopped.await;
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        ended.expect("the caller is told that the hub is gone");
        // From now on everything is refused at once, on any thread.
        let error = child.send(Later { ms: 1 }).timeout(timeout).await.expect_err("it is gone");
        assert!(is_stopped(&error) && !error.may_have_been_handled(), "{error}");
        let error = child.do_send(Add { sender: 1, number: 2 }).expect_err("it is gone");
        assert!(is_stopped(&error), "{error}");
        let other: ChildRef<Counter> = hub.child("never seen");
        let error = other.send(Later { ms: 1 }).timeout(timeout).await.expect_err("it is gone");
        assert!(is_stopped(&error), "{error}");
        let spec = ChildSpec::new::<Counter>("d", ()).expect("valid");
        assert_eq!(hub.start_child(spec).await, Err(StartChildError::HubStopped));
        assert_eq!(hub.leave().await, Err(LeaveError::HubStopped));
        hub.stop().await;
        hub.stop().await;
    });
    owner.join().expect("the system ends");
}
