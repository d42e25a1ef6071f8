//! How a hub ends: what was taken in is handled, and whoever waits is told.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix_hub::prelude::*;
use actix_rt::System;

use crate::support::*;

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
