//! Children that cannot be started: for a while, on one node, or at all.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use actix_hub::{prelude::*, *};
use serde::{Deserialize, Serialize};

use crate::support::{event, eventually, run, settings, stop, together};

/// What a node cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cannot {
    /// `from_args` refuses, with or without a state.
    Make,
    /// `started` panics.
    Start,
}

/// What each node of each test cannot do.
static CANNOT: Mutex<BTreeMap<NodeId, Cannot>> = Mutex::new(BTreeMap::new());

fn broken(node: NodeId) -> Option<Cannot> {
    CANNOT.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
}

fn break_node(hub: &Hub, cannot: Cannot) {
    CANNOT.lock().unwrap_or_else(PoisonError::into_inner).insert(hub.node_id(), cannot);
}

fn mend(hub: &Hub) {
    CANNOT.lock().unwrap_or_else(PoisonError::into_inner).remove(&hub.node_id());
}

/// Counts, and needs something that its node may not have.
#[derive(Serialize, Deserialize)]
struct Fragile {
    count: u64,
    node: NodeId,
}

impl Actor for Fragile {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        assert_ne!(broken(self.node), Some(Cannot::Start), "the database is away");
    }
}

impl HotSwap for Fragile {
    const KIND: &'static str = "fragile";
    type Args = ();
    type State = u64;

    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        let node = child.hub().node_id();
        match broken(node) {
            Some(Cannot::Make) => Err(StartFailure::new("the database is away")),
            _ => Ok(Self { count: 0, node }),
        }
    }

    fn prepare_handover_state(&mut self) -> u64 {
        self.count
    }

    fn resume_after_abort(&mut self, _: u64) {}

    fn alter_handover_state(&mut self, count: u64) {
        self.count = count;
    }
}

takes!(Fragile: [Count, Fail]);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Count {}

impl HubMessage for Count {
    const NAME: &'static str = "Count";
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fail {}

impl HubMessage for Fail {
    const NAME: &'static str = "Fail";
}

impl Handler<Count> for Fragile {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> u64 {
        self.count += 1;
        self.count
    }
}

impl Handler<Fail> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Self::Context) {
        panic!("failed on purpose");
    }
}

async fn node(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let builder = HubSystem::builder("restarts").node_name(name).workers(2).settings(settings());
    let mut builder = builder.child::<Fragile>().memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

async fn cluster(count: usize) -> Vec<Hub> {
    let network = MemoryNetwork::new();
    let mut hubs: Vec<Hub> = Vec::new();
    for n in 0..count {
        let hub = node(&format!("n{n}"), &network, hubs.first()).await;
        hubs.push(hub);
    }
    together(&hubs).await;
    hubs
}

fn spec(id: &str) -> ChildSpec {
    ChildSpec::new::<Fragile>(id, ()).expect("valid")
}

const LONG: Duration = Duration::from_secs(25);

#[test]
fn a_child_whose_database_is_away_is_tried_less_often_and_answers_when_it_is_back() {
    run(async {
        for cannot in [Cannot::Make, Cannot::Start] {
            let hubs = cluster(1).await;
            let hub = &hubs[0];
            hub.start_child(spec("c")).await.expect("it starts");
            let child: ChildRef<Fragile> = hub.child("c");
            let mut events = hub.events();
            break_node(hub, cannot);
            let _ = child.send(Fail {}).await;
            let waits = child.send(Count {}).timeout(LONG);
            let mut pauses = Vec::new();
            for _ in 0..4 {
                let (reason, after) = event(&mut events, |event| match event {
                    HubEvent::ChildRestarted { reason, after, .. } => Some((reason, after)),
                    _ => None,
                })
                .await;
                if !pauses.is_empty() {
                    assert!(reason.contains("the database is away"), "{reason}");
                }
                pauses.push(after);
            }
            assert!(pauses.windows(2).all(|pair| pair[1] > pair[0]), "{pauses:?}");
            let failure = hub
                .lookup("c")
                .await
                .expect("the hub runs")
                .expect("it is there")
                .failure
                .expect("it failed");
            assert!(!failure.is_given_up() && failure.restarts() >= 4, "{failure:?}");
            mend(hub);
            assert_eq!(waits.await, Ok(1), "what waited is handled");
            eventually("it is well", async || {
                hub.lookup("c")
                    .await
                    .expect("the hub runs")
                    .is_some_and(|child| child.failure.is_none())
            })
            .await;
            stop(hubs).await;
        }
    });
}

#[test]
fn a_child_that_is_given_up_is_seen_everywhere_refuses_at_once_and_is_started_again() {
    run(async {
        let hubs = cluster(2).await;
        let intensity = RestartIntensity { restarts: 1, within: Duration::from_secs(600) };
        let spec = || spec("c").intensity(intensity);
        hubs[0].start_child(spec()).await.expect("it starts");
        for hub in [&hubs[0], &hubs[1]] {
            let _ = hub.child::<Fragile>("c").send(Fail {}).timeout(LONG).await;
        }
        for hub in &hubs {
            eventually("it was given up", async || {
                let failure =
                    hub.lookup("c").await.expect("the hub runs").and_then(|child| child.failure);
                failure.is_some_and(|failure| failure.is_given_up())
            })
            .await;
            let failure =
                hub.lookup("c").await.expect("the hub runs").and_then(|child| child.failure);
            let failure = failure.expect("it stays");
            assert!(failure.reason().contains("failed on purpose"), "{failure:?}");
            // Far below the deadline: it does not wait for it.
            let sent = hub.child::<Fragile>("c").send(Count {}).timeout(Duration::from_secs(600));
            let refused = tokio::time::timeout(LONG, sent).await.expect("it is told at once");
            assert!(
                matches!(
                    refused,
                    Err(HubSendError::NotHandled { reason: NotHandled::GivenUp, .. })
                ),
                "{refused:?}"
            );
        }
        // By hand, from any node; first while it cannot.
        let owner = hubs[0].lookup("c").await.expect("the hub runs").expect("it is there").node;
        let at = hubs.iter().position(|hub| hub.node_id() == owner).expect("one of them");
        break_node(&hubs[at], Cannot::Start);
        let again = hubs[1 - at].start_child(spec()).await;
        assert!(
            matches!(&again, Err(StartChildError::Failed { reason: StartFailed::Refused { reason }, .. })
                if reason.contains("the database is away")),
            "{again:?}"
        );
        assert!(
            hubs[1 - at].lookup("c").await.expect("the hub runs").is_some(),
            "it is not lost by that"
        );
        mend(&hubs[at]);
        hubs[1 - at].start_child(spec()).await.expect("it starts again");
        for (hub, count) in hubs.iter().zip(1..) {
            let child = hub.child::<Fragile>("c");
            assert_eq!(child.send(Count {}).timeout(LONG).await, Ok(count));
            let failure =
                hub.lookup("c").await.expect("the hub runs").expect("it is there").failure;
            assert_eq!(failure, None);
        }
        stop(hubs).await;
    });
}

async fn start_all(hub: &Hub, count: usize) {
    let specs = (0..count).map(|n| spec(&format!("c{n}")));
    assert_eq!(hub.start_children(specs).await.expect("the hub runs").started(), count);
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
fn a_node_leaves_though_one_of_the_others_cannot_take_its_children() {
    run(async {
        for cannot in [Cannot::Make, Cannot::Start] {
            let mut hubs = cluster(3).await;
            start_all(&hubs[0], 12).await;
            for n in 0..12 {
                let child = hubs[0].child::<Fragile>(format!("c{n}"));
                assert_eq!(child.send(Count {}).await, Ok(1));
            }
            let before = owned(&hubs[1], &hubs[0]).await;
            break_node(&hubs[1], cannot);
            let leaver = hubs.remove(0);
            leaver.leave().await.expect("the third takes them");
            assert_eq!(owned(&hubs[0], &hubs[1]).await, before, "the broken one has its own");
            for n in 0..12 {
                let child = hubs[1].child::<Fragile>(format!("c{n}"));
                assert_eq!(child.send(Count {}).timeout(LONG).await, Ok(2), "with its state");
            }
            stop(hubs).await;
        }
    });
}

#[test]
fn children_of_a_dead_node_run_on_the_survivor_that_can_start_them() {
    run(async {
        for cannot in [Cannot::Make, Cannot::Start] {
            let mut hubs = cluster(3).await;
            start_all(&hubs[0], 12).await;
            break_node(&hubs[1], cannot);
            let dead = hubs.remove(0);
            let was = owned(&dead, &hubs[0]).await;
            assert!(was > 0, "it had some");
            dead.stop().await;
            for n in 0..12 {
                let child = hubs[1].child::<Fragile>(format!("c{n}"));
                eventually("it runs", async || {
                    child.send(Count {}).timeout(Duration::from_secs(5)).await.is_ok()
                })
                .await;
            }
            assert_eq!(
                hubs[1].children(Scope::Global).await.expect("the hub runs").len(),
                12,
                "none was removed"
            );
            stop(hubs).await;
        }
    });
}
