//! Planned moves lose nothing, and failed ones change nothing.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix_hub::{StartOutcome, prelude::*};
use futures_util::future::join_all;

use crate::support::*;

fn both(test: impl AsyncFn(Net)) {
    run(async {
        test(Net::Memory(MemoryNetwork::new())).await;
        test(Net::Tcp).await;
    });
}

const CHILDREN: usize = 40;

fn name(n: usize) -> String {
    format!("c{n}")
}

/// Writers on each of these nodes; ends when told, and gives what each had acknowledged.
struct Load {
    stop: Rc<Cell<bool>>,
    writers: Vec<(u64, actix_rt::task::JoinHandle<Vec<u64>>)>,
}

impl Load {
    fn begin(hubs: &[Hub]) -> Self {
        let stop = Rc::new(Cell::new(false));
        let writers = (1..)
            .zip(hubs)
            .map(|(sender, hub)| {
                let refs: Vec<ChildRef<Counter>> =
                    (0..CHILDREN).map(|n| hub.child(name(n))).collect();
                let stop = stop.clone();
                let task = actix_rt::spawn(async move {
                    let mut number = 0;
                    // A few rounds at least, however quick the event is.
                    while !stop.get() || number < 5 {
                        number += 1;
                        let sends = refs.iter().map(|child| {
                            child.send(Add { sender, number }).timeout(Duration::from_secs(20))
                        });
                        for outcome in join_all(sends).await {
                            outcome.expect("a planned move fails no call");
                        }
                    }
                    (1..=number).collect::<Vec<u64>>()
                });
                (sender, task)
            })
            .collect();
        Self { stop, writers }
    }

    /// Each child has handled each number of each writer once, in order.
    async fn check(self, hub: &Hub) {
        self.stop.set(true);
        for (sender, task) in self.writers {
            let written = task.await.expect("a writer does not panic");
            for n in 0..CHILDREN {
                let child: ChildRef<Counter> = hub.child(name(n));
                let read = child.send(Read { sender }).timeout(Duration::from_secs(20)).await;
                assert_eq!(read.expect("the child answers").0, written, "child {n}");
            }
        }
    }
}

async fn start_all(hub: &Hub) {
    let specs = (0..CHILDREN).map(|n| ChildSpec::new::<Counter>(name(n), ()).expect("valid"));
    let report = hub.start_children(specs).await.expect("the hub runs");
    assert_eq!(report.started(), CHILDREN);
}

async fn owned(by: &Hub, seen_by: &Hub) -> usize {
    let id = by.node_id();
    seen_by
        .children(Scope::Global)
        .await
        .expect("the hub runs")
        .iter()
        .filter(|child| child.node == id)
        .count()
}

#[test]
fn a_join_under_load_loses_nothing() {
    both(async |net| {
        let mut hubs = net.cluster(2).await;
        start_all(&hubs[0]).await;
        let load = Load::begin(&hubs);
        let joiner = net.node("joiner", Some(&hubs[0]), |_| {}).await;
        eventually("children move to the joiner", async || owned(&joiner, &hubs[0]).await > 0)
            .await;
        load.check(&hubs[1]).await;
        hubs.push(joiner);
        stop(hubs).await;
    });
}

#[test]
fn two_nodes_that_leave_at_once_under_load_lose_nothing() {
    both(async |net| {
        let hubs = net.cluster(4).await;
        start_all(&hubs[0]).await;
        let load = Load::begin(&hubs[..2]);
        let (left, also_left) = futures_util::join!(hubs[2].leave(), hubs[3].leave());
        left.expect("the first leaves");
        also_left.expect("the second leaves");
        together(&hubs[..2]).await;
        load.check(&hubs[1]).await;
        stop(hubs).await;
    });
}

#[test]
fn children_migrate_under_load_and_stay_where_they_were_sent() {
    both(async |net| {
        let hubs = net.cluster(3).await;
        start_all(&hubs[0]).await;
        let load = Load::begin(&hubs);
        // To and fro: a child that moves is asked to move on.
        for round in 0..3 {
            let moves = (0..CHILDREN).map(|n| {
                let to = hubs[(n + round) % 3].node_id();
                hubs[n % 3].migrate(name(n), to).into_future()
            });
            for outcome in join_all(moves).await {
                outcome.expect("it moves");
            }
        }
        for n in 0..CHILDREN {
            let at = hubs[0].lookup(name(n)).await.expect("the hub runs").expect("it exists").node;
            assert_eq!(at, hubs[(n + 2) % 3].node_id(), "child {n}");
        }
        load.check(&hubs[2]).await;
        stop(hubs).await;
    });
}

#[test]
fn a_node_without_peers_does_not_leave_and_goes_on() {
    run(async {
        let hub = Net::Tcp.node("alone", None, |_| {}).await;
        let child = start(&hub, "c").await;
        match hub.leave().await {
            Err(LeaveError::NoSuccessor { children: 1, left }) => {
                let left: Vec<_> =
                    left.iter().map(|left| (left.child.as_str(), &*left.reason)).collect();
                assert_eq!(left, [("c", "no other node takes children")]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(child.send(Add { sender: 1, number: 1 }).await, Ok(1));
        stop(vec![hub]).await;
    });
}

/// A migration that must fail: why, and the child goes on where it was, with its state.
async fn fails(hubs: &[Hub], child: &ChildRef<Counter>) -> String {
    let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
    let from = hubs.iter().find(|hub| hub.node_id() == at).expect("it is on one of them");
    let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two");
    child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
    let mut events = from.events();
    let error = hubs[0].migrate("c", to.node_id()).await.expect_err("the move must fail");
    let reason = event(&mut events, |event| match event {
        HubEvent::HandoverFailed { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(error.to_string().contains(&reason), "{error} does not say {reason}");
    // A node that saw the commit sees it taken back a moment later.
    eventually("the child is where it was", async || {
        hubs[1].lookup("c").await.expect("the hub runs").is_some_and(|child| child.node == at)
    })
    .await;
    assert_eq!(child.send(Add { sender: 1, number: 2 }).await, Ok(2), "its state is the old one");
    reason
}

async fn trapped(trap: Trap) -> String {
    let net = Net::Memory(MemoryNetwork::new());
    // What cannot be decoded is to be found by the target.
    let unsure = |settings: &mut Settings| settings.verify_encoding = false;
    let first = net.node("a", None, unsure).await;
    let hubs = vec![net.node("b", Some(&first), unsure).await, first];
    together(&hubs).await;
    let child = start(&hubs[0], "c").await;
    child.send(SetTrap { trap: Some(trap) }).await.expect("it answers");
    let reason = fails(&hubs, &child).await;
    // Without the trap the same child moves.
    child.send(SetTrap { trap: None }).await.expect("it answers");
    let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
    let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two").node_id();
    hubs[0].migrate("c", to).await.expect("now it moves");
    assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(vec![1, 2])));
    stop(hubs).await;
    reason
}

#[test]
fn a_panic_in_prepare_leaves_the_child_where_it_was() {
    run(async {
        assert!(trapped(Trap::PanicInPrepare).await.contains("prepare panics on purpose"));
    });
}

#[test]
fn a_panic_in_alter_leaves_the_child_where_it_was() {
    run(async {
        assert!(trapped(Trap::PanicInAlter).await.contains("alter panics on purpose"));
    });
}

#[test]
fn a_panic_in_started_gives_the_child_back_to_where_it_was() {
    run(async {
        assert!(trapped(Trap::PanicInStarted).await.contains("started panics on purpose"));
    });
}

#[test]
fn an_undecodable_state_leaves_the_child_where_it_was() {
    run(async {
        assert!(trapped(Trap::Undecodable).await.contains("poisoned on purpose"));
    });
}

#[test]
fn a_node_without_the_kind_refuses_the_child_which_goes_on() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        let first = net.node("a", None, |_| {}).await;
        let child = start(&first, "c").await;
        let stranger = HubSystem::builder("test")
            .node_name("b")
            .settings(settings())
            .memory(&network)
            .seed(&first.addresses()[0])
            .start()
            .await
            .expect("it starts");
        let hubs = vec![first, stranger];
        together(&hubs).await;
        let reason = fails(&hubs, &child).await;
        assert!(reason.contains("has not registered the kind"), "{reason}");
        stop(hubs).await;
    });
}

#[test]
fn a_state_over_the_limit_is_refused_with_both_sizes() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let first = net.node("a", None, |settings| settings.state_limit = 1 << 20).await;
        let second = net.node("b", Some(&first), |settings| settings.state_limit = 1 << 20).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        let child = start(&hubs[0], "c").await;
        child.send(SetBallast { bytes: 3 << 20 }).await.expect("it answers");
        let reason = fails(&hubs, &child).await;
        assert!(reason.contains("1048576") && reason.contains("31457"), "{reason}");
        stop(hubs).await;
    });
}

#[test]
fn a_state_of_64_mib_moves() {
    run(async {
        // Without optimisation the wire takes seconds for it, and other tests want the cores too.
        let calm = |settings: &mut Settings| settings.heartbeat = Duration::from_secs(1);
        let first = Net::Tcp.node("a", None, calm).await;
        let second = Net::Tcp.node("b", Some(&first), calm).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        let mut events = hubs[0].events();
        let child = start(&hubs[0], "c").await;
        child.send(SetBallast { bytes: 64 << 20 }).await.expect("it answers");
        child.send(Add { sender: 1, number: 7 }).await.expect("it answers");
        let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
        let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two").node_id();
        hubs[0].migrate("c", to).timeout(Duration::from_secs(60)).await.expect("it moves");
        let read = child.send(Read { sender: 1 }).timeout(Duration::from_secs(20)).await;
        let mut seen = Vec::new();
        while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
            seen.push(event);
        }
        assert_eq!(read, Ok(Numbers(vec![7])), "{seen:?}");
        stop(hubs).await;
    });
}

#[test]
fn a_handler_in_flight_at_retention_keeps_the_child_and_its_queue() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let short = |settings: &mut Settings| {
            settings.migration = Migration::HotSwap(HotSwapOptions {
                retention: Duration::from_millis(100),
                ..HotSwapOptions::default()
            });
            settings.move_retries = 0;
        };
        let first = net.node("a", None, short).await;
        let second = net.node("b", Some(&first), short).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        let child = start(&hubs[0], "c").await;
        let later = child.send(Later { ms: 1_500 });
        let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
        let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two").node_id();
        let moving = hubs[0].migrate("c", to);
        // Queued while the gate is closed.
        let queued = child.send(Add { sender: 1, number: 1 });
        let error = moving.await.expect_err("a handler is still at work");
        assert!(error.to_string().contains("not resolved within retention"), "{error}");
        assert_eq!(queued.await, Ok(1));
        assert_eq!(later.await, Ok(1_500), "the handler was not cut off");
        hubs[0].migrate("c", to).await.expect("now it moves");
        assert_eq!(child.send(Add { sender: 1, number: 2 }).await, Ok(2));
        stop(hubs).await;
    });
}

#[test]
fn a_child_that_is_stopped_while_it_moves_is_stopped() {
    both(async |net| {
        let hubs = net.cluster(2).await;
        start_all(&hubs[0]).await;
        let moves =
            (0..CHILDREN).map(|n| hubs[0].migrate(name(n), hubs[n % 2].node_id()).into_future());
        let ids = (0..CHILDREN).map(|n| ChildId::new(name(n)).expect("valid"));
        let stops = hubs[1].stop_children(ids).into_future();
        let (_, report) = futures_util::join!(join_all(moves), stops);
        assert_eq!(report.expect("the hub runs").stopped(), CHILDREN);
        for hub in &hubs {
            eventually("no child is left", async || {
                hub.children(Scope::Global).await.expect("the hub runs").is_empty()
            })
            .await;
        }
        stop(hubs).await;
    });
}

#[test]
fn one_id_started_from_two_nodes_at_once_is_started_once() {
    both(async |net| {
        let hubs = net.cluster(3).await;
        let specs =
            || (0..CHILDREN).map(|n| ChildSpec::new::<Counter>(name(n), ()).expect("valid"));
        let (first, second) = futures_util::join!(
            hubs[0].start_children(specs()).into_future(),
            hubs[2].start_children(specs()).into_future()
        );
        let (first, second) = (first.expect("it runs"), second.expect("it runs"));
        assert_eq!(first.started() + second.started(), CHILDREN);
        let exists = |outcome: &StartOutcome| !matches!(outcome, StartOutcome::Failed { .. });
        assert!(first.outcomes.iter().chain(&second.outcomes).all(|(_, o)| exists(o)));
        stop(hubs).await;
    });
}

#[test]
fn after_a_cut_heals_the_older_actor_goes_on_with_both_states() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        let hubs = net.cluster(2).await;
        start_all(&hubs[0]).await;
        let refs = |hub: &Hub| -> Vec<ChildRef<Counter>> {
            (0..CHILDREN).map(|n| hub.child(name(n))).collect()
        };
        for child in refs(&hubs[0]) {
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        }
        network.cut(hubs[0].node_id(), hubs[1].node_id());
        for hub in &hubs {
            eventually("the other is down", async || members(hub).await == 1).await;
        }
        // Each side has every child now, and both write.
        for (sender, hub) in (2..).zip(&hubs) {
            for child in refs(hub) {
                let add = Add { sender, number: sender };
                child.send(add).timeout(Duration::from_secs(20)).await.expect("both sides go on");
            }
        }
        network.heal(hubs[0].node_id(), hubs[1].node_id());
        together(&hubs).await;
        for hub in &hubs {
            for child in refs(hub) {
                for sender in 1..4 {
                    let number = if sender == 1 { 1 } else { sender };
                    eventually("both states are in the one that goes on", async || {
                        let read =
                            child.send(Read { sender }).timeout(Duration::from_secs(5)).await;
                        read == Ok(Numbers(vec![number]))
                    })
                    .await;
                }
            }
        }
        stop(hubs).await;
    });
}

/// Two nodes of which the children move as this says, and one child with two numbers.
async fn moving_as(migration: Migration) -> (Vec<Hub>, ChildRef<Counter>, NodeId) {
    let net = Net::Memory(MemoryNetwork::new());
    let change = |settings: &mut Settings| settings.migration = migration.clone();
    let first = net.node("a", None, change).await;
    let second = net.node("b", Some(&first), change).await;
    let hubs = vec![first, second];
    together(&hubs).await;
    let child = start(&hubs[0], "c").await;
    for number in 1..3 {
        child.send(Add { sender: 1, number }).await.expect("it answers");
    }
    let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
    let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two").node_id();
    (hubs, child, to)
}

/// The child moves without its state, and messages that came meanwhile are handled once, in order.
async fn moves_without_its_state(migration: Migration) {
    let (hubs, child, to) = moving_as(migration).await;
    let busy = child.send(Block { ms: 200 });
    let moving = hubs[0].migrate("c", to).into_future();
    let sends: Vec<_> =
        (3..30).map(|number| child.send(Add { sender: 2, number }).into_future()).collect();
    moving.await.expect("it moves");
    busy.await.expect("what has started goes on");
    for sent in join_all(sends).await {
        sent.expect("no call fails");
    }
    let at = hubs[1].lookup("c").await.expect("the hub runs").expect("it exists").node;
    assert_eq!(at, to);
    let after = child.send(Add { sender: 1, number: 9 }).await;
    assert_eq!(after, Ok(1), "the state was not wanted");
    let Numbers(second) = child.send(Read { sender: 2 }).await.expect("it answers");
    assert!(second.is_sorted(), "{second:?}");
    stop(hubs).await;
}

#[test]
fn a_cold_move_begins_anew_and_fails_no_call() {
    run(moves_without_its_state(Migration::ColdSwap));
}

#[test]
fn a_hot_move_without_handover_begins_anew_and_fails_no_call() {
    run(moves_without_its_state(Migration::HotSwap(HotSwapOptions {
        handover: false,
        ..HotSwapOptions::default()
    })));
}

#[test]
fn a_forced_migration_waits_no_longer_than_retention_and_says_so() {
    run(async {
        let (hubs, child, to) = moving_as(Migration::HotSwap(HotSwapOptions {
            retention: Duration::from_millis(100),
            ..HotSwapOptions::default()
        }))
        .await;
        let later = child.send(Later { ms: 60_000 }).timeout(Duration::from_secs(90));
        // The handler has started when what came behind it has been answered.
        child.send(Add { sender: 1, number: 3 }).await.expect("it answers");
        hubs[0].migrate("c", to).forced().await.expect("it moves");
        let error = later.await.expect_err("its handler was cut off");
        assert!(error.may_have_been_handled(), "{error}");
        let read = child.send(Read { sender: 1 }).await;
        assert_eq!(read, Ok(Numbers(vec![1, 2, 3])), "the state has moved");
        stop(hubs).await;
    });
}

#[test]
fn a_queue_that_fills_while_its_child_moves_tells_and_loses_nothing() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let small = |settings: &mut Settings| settings.mailbox = 16;
        let first = net.node("a", None, small).await;
        let second = net.node("b", Some(&first), small).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        let child = start(&hubs[0], "c").await;
        for hub in &hubs {
            let child: ChildRef<Counter> = hub.child("c");
            child.send(Read { sender: 1 }).await.expect("it answers");
        }
        let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
        let to = hubs.iter().find(|hub| hub.node_id() != at).expect("there are two").node_id();
        // The gate closes and waits for this one; what follows queues.
        let blocking = child.send(Later { ms: 500 }).into_future();
        let moving = hubs[0].migrate("c", to).into_future();
        let mut taken = [Vec::new(), Vec::new()];
        let mut refused = 0;
        for number in 0..200 {
            for (sender, hub) in (0..).zip(&hubs) {
                let child: ChildRef<Counter> = hub.child("c");
                match child.do_send(Add { sender, number }) {
                    Ok(()) => taken[sender as usize].push(number),
                    Err(HubSendError::NotHandled { reason: NotHandled::Busy, .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(refused > 0, "400 messages fit into two queues of 16");
        moving.await.expect("it moves");
        assert_eq!(blocking.await, Ok(500));
        for (sender, hub) in (0..).zip(&hubs) {
            let child: ChildRef<Counter> = hub.child("c");
            let read = child.send(Read { sender }).await;
            assert_eq!(read, Ok(Numbers(taken[sender as usize].clone())), "sender {sender}");
        }
        stop(hubs).await;
    });
}
