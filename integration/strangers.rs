//! Who may be in, and how that changes while a cluster runs.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_hub::{HubStopped, Secret, prelude::*};

use crate::support::{
    Add, Counter, Net, Numbers, Read, builder, event, eventually, run, start, stop, tcp, together,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn both() -> [Net; 2] {
    [Net::Memory(MemoryNetwork::new()), Net::Tcp]
}

fn node(net: &Net, name: &str) -> HubBuilder {
    match net {
        Net::Memory(network) => builder("test", name).memory(network),
        Net::Tcp => tcp(name),
    }
}

async fn sees(hub: &Hub, node: &Hub) -> bool {
    hub.nodes()
        .await
        .expect("the hub runs")
        .iter()
        .any(|known| known.is_member() && known.id == node.node_id())
}

#[test]
fn a_member_that_all_others_block_is_out_until_they_allow_it() {
    run(async {
        for net in both() {
            let hubs = net.cluster(3).await;
            let [bad, others @ ..] = &hubs[..] else { panic!("there are three") };
            start(bad, "a").await;
            bad.migrate("a", bad.node_id()).await.expect("it moves");
            let child: ChildRef<Counter> = others[0].child("a");
            assert_eq!(child.send(Add { sender: 1, number: 1 }).timeout(PATIENCE).await, Ok(1));
            for hub in others {
                hub.block(bad.node_id()).await.expect("the hub runs");
            }
            eventually("it is out", async || {
                !sees(&others[0], bad).await && !sees(&others[1], bad).await
            })
            .await;
            // Its state is gone, as that of a node that crashed.
            for hub in others {
                let child: ChildRef<Counter> = hub.child("a");
                eventually("its child runs again", async || {
                    let read = child.send(Read { sender: 1 }).timeout(PATIENCE).await;
                    read == Ok(Numbers(Vec::new()))
                })
                .await;
            }
            eventually("it goes on alone", async || {
                !sees(bad, &others[0]).await && !sees(bad, &others[1]).await
            })
            .await;
            for hub in others {
                hub.allow(bad.node_id()).await.expect("the hub runs");
            }
            together(&hubs).await;
            eventually("all agree on the child, and it has both states", async || {
                let mut read = Vec::new();
                for hub in &hubs {
                    let child: ChildRef<Counter> = hub.child("a");
                    read.push(child.send(Read { sender: 1 }).timeout(PATIENCE).await);
                }
                read.iter().all(|read| *read == Ok(Numbers(vec![1])))
            })
            .await;
            stop(hubs).await;
        }
    });
}

#[test]
fn a_member_that_one_other_blocks_stays_in_and_has_no_link_to_it() {
    run(async {
        for net in both() {
            let hubs = net.cluster(3).await;
            let mut events = hubs[1].events();
            let blocked = hubs[0].node_id();
            hubs[1].block(blocked).await.expect("the hub runs");
            event(&mut events, |event| {
                matches!(event, HubEvent::NodeSuspected { node } if node == blocked).then_some(())
            })
            .await;
            assert!(sees(&hubs[1], &hubs[0]).await && sees(&hubs[2], &hubs[0]).await);
            hubs[1].allow(blocked).await.expect("the hub runs");
            event(&mut events, |event| {
                matches!(event, HubEvent::NodeRecovered { node } if node == blocked).then_some(())
            })
            .await;
            together(&hubs).await;
            stop(hubs).await;
        }
    });
}

#[test]
fn a_node_that_is_put_on_the_allow_list_comes_in_and_one_taken_off_it_goes() {
    run(async {
        for net in both() {
            let picky = node(&net, "picky").admission(Admission::Allow(BTreeSet::new()));
            let picky = picky.start().await.expect("it starts");
            let mut events = picky.events();
            let other = net.node("other", Some(&picky), |_| {}).await;
            let reason = event(&mut events, |event| match event {
                HubEvent::PeerRefused { node, reason } if node == Some(other.node_id()) => {
                    Some(reason)
                }
                _ => None,
            })
            .await;
            assert_eq!(reason, "it is not on the allow list");
            assert!(!sees(&picky, &other).await);
            picky.allow(other.node_id()).await.expect("the hub runs");
            let hubs = vec![picky, other];
            together(&hubs).await;
            assert_eq!(
                start(&hubs[1], "a").await.send(Read { sender: 1 }).await,
                Ok(Numbers(vec![]))
            );
            hubs[0].block(hubs[1].node_id()).await.expect("the hub runs");
            eventually("it is out", async || !sees(&hubs[0], &hubs[1]).await).await;
            // Nobody blocks itself.
            hubs[0].block(hubs[0].node_id()).await.expect("the hub runs");
            assert!(sees(&hubs[0], &hubs[0]).await);
            let first = hubs[0].clone();
            stop(hubs).await;
            assert_eq!(first.allow(first.node_id()).await, Err(HubStopped));
        }
    });
}

/// Callers, each of a child of its own, by whichever of these hubs are in use.
struct Load {
    hubs: Arc<Mutex<Vec<Hub>>>,
    stop: Arc<AtomicBool>,
    callers: Vec<(Arc<AtomicU64>, actix_rt::task::JoinHandle<()>)>,
}

impl Load {
    fn new(hubs: Vec<Hub>, children: u64) -> Self {
        let (hubs, stop) = (Arc::new(Mutex::new(hubs)), Arc::<AtomicBool>::default());
        let callers = (0..children).map(|id| {
            let (hubs, stop) = (Arc::clone(&hubs), Arc::clone(&stop));
            let answered = Arc::<AtomicU64>::default();
            let count = Arc::clone(&answered);
            let task = actix_rt::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = count.load(Ordering::Relaxed);
                    let hub = {
                        let hubs = hubs.lock().expect("whole");
                        hubs[number as usize % hubs.len()].clone()
                    };
                    let child: ChildRef<Counter> = hub.child(format!("c{id}"));
                    let add = Add { sender: id, number };
                    let answer = child.send(add).timeout(PATIENCE).await;
                    assert_eq!(answer, Ok(number + 1), "child {id}");
                    count.store(number + 1, Ordering::Relaxed);
                }
            });
            (answered, task)
        });
        let callers = callers.collect();
        Self { hubs, stop, callers }
    }

    /// Until each caller has so many more answers.
    async fn goes_on(&self, what: &str, calls: u64) {
        let counts = || -> Vec<u64> {
            self.callers.iter().map(|(count, _)| count.load(Ordering::Relaxed)).collect()
        };
        let before = counts();
        eventually(what, async || {
            assert!(self.callers.iter().all(|(_, task)| !task.is_finished()), "a call failed");
            counts().iter().zip(&before).all(|(now, before)| *now >= before + calls)
        })
        .await;
    }

    /// Takes a hub out of use: no call goes by it any more when this returns.
    async fn take(&self, hub: usize) -> Hub {
        let hub = self.hubs.lock().expect("whole").remove(hub);
        self.goes_on("calls go by others", 2).await;
        hub
    }

    /// Stops, and checks that each call was handled once and in order.
    async fn end(self) -> Vec<Hub> {
        self.stop.store(true, Ordering::Relaxed);
        let hubs = std::mem::take(&mut *self.hubs.lock().expect("whole"));
        for (id, (answered, task)) in (0_u64..).zip(self.callers) {
            task.await.expect("every call was answered");
            let child: ChildRef<Counter> = hubs[0].child(format!("c{id}"));
            let read = child.send(Read { sender: id }).timeout(PATIENCE).await;
            assert_eq!(read, Ok(Numbers((0..answered.load(Ordering::Relaxed)).collect())));
        }
        hubs
    }
}

#[test]
fn a_secret_is_changed_in_three_rolls_while_children_answer() {
    run(async {
        let [old, new] = [1, 2].map(|byte| Secret::new([byte; 32]));
        let rolls = [vec![&old], vec![&old, &new], vec![&new, &old], vec![&new]];
        let with = |secrets: &[&Secret], name: String, seed: Option<&Hub>| {
            let mut builder = tcp(&name).secret(secrets[0].clone());
            for other in &secrets[1..] {
                builder = builder.also_secret((*other).clone());
            }
            if let Some(seed) = seed {
                builder = builder.seed(&seed.addresses()[0]);
            }
            builder
        };
        let mut hubs: Vec<Hub> = Vec::new();
        for n in 0..3 {
            let builder = with(&rolls[0], format!("n{n}"), hubs.first());
            hubs.push(builder.start().await.expect("it starts"));
        }
        together(&hubs).await;
        for id in 0..6 {
            start(&hubs[0], &format!("c{id}")).await;
        }
        let load = Load::new(hubs, 6);
        load.goes_on("children answer", 10).await;
        for (roll, secrets) in rolls.iter().enumerate().skip(1) {
            for n in 0..3 {
                // The longest in use is the one of this turn.
                let hub = load.take(0).await;
                hub.leave().await.expect("the others take its children");
                let mut hubs = load.hubs.lock().expect("whole").clone();
                let hub = with(secrets, format!("n{n}-{roll}"), hubs.first()).start().await;
                hubs.push(hub.expect("it starts"));
                together(&hubs).await;
                *load.hubs.lock().expect("whole") = hubs;
                load.goes_on("children answer", 10).await;
            }
        }
        stop(load.end().await).await;
    });
}
