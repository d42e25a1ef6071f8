//! Members with a broken link between them: messages and states go by a third.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_hub::prelude::*;
use futures_util::future::join_all;

use crate::support::{
    Add, Counter, Net, Numbers, Read, SetBallast, event, eventually, run, start, stop,
};

/// How many calls of one sender are on their way at once.
const AT_ONCE: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// Callers that count, each for itself, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<Sender>,
}

struct Sender {
    child: ChildRef<Counter>,
    id: u64,
    /// Calls that were answered.
    answered: Arc<AtomicU64>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Load {
    fn new() -> Self {
        Self { stop: Arc::default(), senders: Vec::new() }
    }

    fn add(&mut self, child: ChildRef<Counter>) {
        let (id, answered) = (self.senders.len() as u64, Arc::new(AtomicU64::new(0)));
        let (stop, count, to) = (self.stop.clone(), answered.clone(), child.clone());
        let task = actix_rt::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let next = count.load(Ordering::Relaxed);
                let calls = (next..next + AT_ONCE).map(|number| {
                    to.send(Add { sender: id, number }).timeout(PATIENCE).into_future()
                });
                for (number, answer) in (next..).zip(join_all(calls).await) {
                    assert_eq!(answer, Ok(number + 1), "sender {id}");
                }
                count.store(next + AT_ONCE, Ordering::Relaxed);
            }
        });
        self.senders.push(Sender { child, id, answered, task });
    }

    /// Until every sender has so many more answers.
    async fn goes_on(&self, what: &str, calls: u64) {
        let answered = |sender: &Sender| sender.answered.load(Ordering::Relaxed);
        let began: Vec<u64> = self.senders.iter().map(answered).collect();
        eventually(what, async || {
            let now = self.senders.iter().map(answered);
            assert!(self.senders.iter().all(|sender| !sender.task.is_finished()), "a call failed");
            now.zip(&began).all(|(now, began)| now >= began + calls)
        })
        .await;
    }

    /// Stops, and checks that every call was handled once and in order.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for Sender { child, id, answered, task } in self.senders {
            task.await.expect("every call was answered");
            let read = child.send(Read { sender: id }).timeout(PATIENCE).await;
            let all = (0..answered.load(Ordering::Relaxed)).collect();
            assert_eq!(read, Ok(Numbers(all)), "sender {id}");
        }
    }
}

/// A child that runs on this node.
async fn child_on(hubs: &[Hub], at: usize, name: &str) {
    start(&hubs[0], name).await;
    hubs[0].migrate(name, hubs[at].node_id()).await.expect("it moves");
}

#[test]
fn calls_and_a_move_go_by_a_third_member_while_a_link_swallows_everything() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        child_on(&hubs, 0, "a").await;
        child_on(&hubs, 1, "b").await;
        child_on(&hubs, 0, "large").await;
        let large: ChildRef<Counter> = hubs[1].child("large");
        large.send(SetBallast { bytes: 2 << 20 }).await.expect("it answers");
        let mut load = Load::new();
        for _ in 0..2 {
            load.add(hubs[1].child("a"));
            load.add(hubs[0].child("b"));
            load.add(hubs[2].child("a"));
            load.add(hubs[1].child("large"));
        }
        load.goes_on("calls are answered", 100).await;
        network.cut(hubs[0].node_id(), hubs[1].node_id());
        load.goes_on("calls are answered without the link", 500).await;
        let moved = hubs[2].migrate("large", hubs[1].node_id()).timeout(PATIENCE).await;
        moved.expect("a state of 2 MiB goes by the third member");
        assert_eq!(
            hubs[1].lookup("large").await.expect("the hub runs").map(|child| child.node),
            Some(hubs[1].node_id())
        );
        load.goes_on("calls are answered after the move", 500).await;
        network.heal(hubs[0].node_id(), hubs[1].node_id());
        eventually("nobody is suspect", async || {
            let mut calm = true;
            for hub in &hubs {
                calm &= hub
                    .nodes()
                    .await
                    .expect("the hub runs")
                    .iter()
                    .all(|node| node.state == NodeState::Alive);
            }
            calm
        })
        .await;
        load.goes_on("calls are answered over the link again", 500).await;
        load.end().await;
        stop(hubs).await;
    });
}

#[test]
fn calls_go_on_both_ways_while_one_direction_of_a_link_is_swallowed() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        child_on(&hubs, 0, "a").await;
        child_on(&hubs, 1, "b").await;
        let mut load = Load::new();
        for _ in 0..2 {
            load.add(hubs[1].child("a"));
            load.add(hubs[0].child("b"));
        }
        load.goes_on("calls are answered", 100).await;
        network.cut_one_way(hubs[0].node_id(), hubs[1].node_id());
        load.goes_on("calls are answered without that direction", 500).await;
        network.heal_all();
        load.goes_on("calls are answered after the heal", 500).await;
        load.end().await;
        stop(hubs).await;
    });
}

#[test]
fn a_link_that_breaks_again_and_again_loses_doubles_and_reorders_nothing() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        child_on(&hubs, 0, "a").await;
        child_on(&hubs, 1, "b").await;
        let mut load = Load::new();
        for _ in 0..2 {
            load.add(hubs[1].child("a"));
            load.add(hubs[0].child("b"));
        }
        let [a, b, c] = [0, 1, 2].map(|n| hubs[n].node_id());
        for _ in 0..3 {
            network.cut(a, b);
            // Nothing comes over the link; then it is closed and cannot be dialled.
            load.goes_on("calls are answered without the link", 100).await;
            network.reset(a, b);
            load.goes_on("calls are answered without a connection", 100).await;
            // The third one's link breaks under the path, and stands again.
            network.reset(a, c);
            load.goes_on("calls are answered by a new path", 100).await;
            network.heal_all();
            load.goes_on("calls are answered after the heal", 100).await;
        }
        load.end().await;
        stop(hubs).await;
    });
}

#[test]
fn a_node_leaves_though_its_link_to_a_member_is_broken() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        for name in ["a", "b", "c", "d"] {
            child_on(&hubs, 0, name).await;
        }
        let mut load = Load::new();
        for name in ["a", "b", "c", "d"] {
            load.add(hubs[1].child(name));
        }
        network.cut(hubs[0].node_id(), hubs[1].node_id());
        load.goes_on("calls are answered without the link", 100).await;
        let mut events = hubs[1].events();
        hubs[0].leave().await.expect("its children go by the third member");
        let gone = hubs[0].node_id();
        event(&mut events, |event| match event {
            HubEvent::NodeLeft { node } | HubEvent::NodeDown { node } if node == gone => Some(()),
            _ => None,
        })
        .await;
        load.goes_on("calls are answered after the leave", 100).await;
        load.end().await;
        stop(hubs).await;
    });
}
