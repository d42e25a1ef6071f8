//! Parked states that are given to an actor that panics over them.

use serde::{Serializer, ser::Error as _};

use super::{parked_requests::ParkParcel, *};
use crate::{
    error::ApplyError,
    hub::parcel::Parcel,
    model::{
        child::Epoch,
        id::{ChildId, KindName, NodeRun},
        parked::{ApplyFailed, ParkedKey},
    },
};

/// A sum that cannot be encoded.
const UNWRITABLE: u64 = 13;

fn write<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *value == UNWRITABLE {
        return Err(S::Error::custom("it is not to be written"));
    }
    serializer.serialize_u64(*value)
}

#[derive(Serialize, Deserialize)]
struct Sum(#[serde(serialize_with = "write")] u64);

/// Takes neither another state in place of its own nor its own back.
#[derive(Default)]
struct Brittle {
    value: u64,
}

impl Actor for Brittle {
    type Context = Context<Self>;
}

impl HotSwap for Brittle {
    const KIND: &'static str = "brittle";
    type Args = ();
    type State = Sum;

    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }

    fn prepare_handover_state(&mut self) -> Sum {
        Sum(self.value)
    }

    fn resume_after_abort(&mut self, _: Sum) {
        panic!("it does not go on");
    }

    fn alter_handover_state(&mut self, _: Sum) {
        panic!("it is not altered");
    }

    fn merge_diverged_state(&mut self, Sum(other): Sum) -> MergeOutcome {
        self.value += other;
        MergeOutcome::Merged
    }
}

crate::takes!(Brittle: [Add]);

impl Handler<Add> for Brittle {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

async fn park(hub: &Hub, nonce: u64, value: u64) -> ParkedKey {
    let run = NodeRun { node: hub.node_id(), nonce };
    let child = ChildId::new("b").expect("a valid id");
    let key = ParkedKey { child, run, epoch: Epoch { term: 1, attempt: 0 } };
    let bytes = crate::hub::codec::encode(&Sum(value), 1_000).expect("it is encoded");
    let parcel = Parcel { state_version: Brittle::STATE_VERSION, lanes: Vec::new(), bytes };
    let message = ParkParcel {
        key: key.clone(),
        kind: KindName::new(Brittle::KIND).expect("a valid name"),
        reason: "for a test".to_owned(),
        at: None,
        parcel: Some(parcel),
    };
    hub.system().send(message).await.expect("the hub runs");
    key
}

/// Two parked states wait for a child at a time, and it panics for good over the first, which was to
/// replace its own.
async fn both_are_answered(own: u64, expected: &str) {
    let network = MemoryNetwork::new();
    let hub = HubSystem::builder("test")
        .node_name("a")
        .settings(Settings::local())
        .child::<Brittle>()
        .memory(&network)
        .start()
        .await
        .expect("the hub starts");
    let spec = ChildSpec::new::<Brittle>("b", ()).expect("a valid spec");
    let spec = spec.restart(RestartRule::Transient);
    hub.start_child(spec).await.expect("it starts");
    let child = hub.child::<Brittle>("b");
    assert_eq!(child.send(Add(own)).await, Ok(own));
    let (first, second) = (park(&hub, 7, 100).await, park(&hub, 8, 200).await);
    let patience = Duration::from_secs(20);
    // Both are with the child before it comes to any.
    hub.shared().doors.set_valid(false);
    let asked = [
        actix_rt::spawn(hub.apply_parked(&first).replace().timeout(patience).into_future()),
        actix_rt::spawn(hub.apply_parked(&second).timeout(patience).into_future()),
    ];
    tokio::task::yield_now().await;
    assert_eq!(hub.parked_states().await.expect("the hub runs").len(), 2);
    for worker in hub.shared().workers() {
        worker.send(Orders(Vec::new())).await.expect("it runs");
    }
    hub.shared().doors.set_valid(true);
    let [replaced, merged] = asked;
    let replaced = replaced.await.expect("it ends").expect_err("it panicked");
    let ApplyError::Failed { key, reason: ApplyFailed::Failed { reason } } = replaced else {
        panic!("{replaced:?}")
    };
    assert_eq!(key, first);
    assert!(reason.contains(expected), "{reason}");
    let merged = merged.await.expect("it ends").expect_err("the child has ended");
    let not_running = |failed: &ApplyError| {
        matches!(failed, ApplyError::Failed { reason: ApplyFailed::NotRunning, .. })
    };
    assert!(not_running(&merged), "{merged:?}");
    for key in [first, second] {
        until("the child runs again and takes it in", || async {
            match hub.apply_parked(&key).timeout(patience).await {
                Ok(()) => true,
                Err(failed) => {
                    assert!(not_running(&failed), "{failed:?}");
                    false
                }
            }
        })
        .await;
    }
    assert_eq!(child.send(Add(0)).await, Ok(300), "it began anew, and has both");
    hub.stop().await;
}

#[actix::test]
async fn two_parked_states_are_answered_though_the_child_does_not_take_its_own_back() {
    both_are_answered(1, "it is not altered").await;
}

#[actix::test]
async fn two_parked_states_are_answered_though_the_child_cannot_go_on_with_its_own() {
    both_are_answered(UNWRITABLE, "it is not to be written").await;
}

#[actix::test]
async fn the_state_of_a_frozen_actor_is_parked_and_the_actor_goes_on() {
    let network = MemoryNetwork::new();
    let hub = node("a", &network, None).await;
    let spec = ChildSpec::new::<Tally>("t", ()).expect("a valid spec");
    let epoch = hub.start_child(spec).await.expect("it starts").epoch;
    let tally = hub.child::<Tally>("t");
    assert_eq!(tally.send(Add(5)).await, Ok(5));
    let child = ChildId::new("t").expect("a valid id");
    let run = NodeRun { node: hub.node_id(), nonce: 7 };
    let park = |nonce| ChildOrder::ParkFrozen {
        key: ParkedKey { child: child.clone(), run: NodeRun { nonce, ..run }, epoch },
        kind: KindName::new(Tally::KIND).expect("a valid name"),
        reason: "another node has parked it".to_owned(),
        at: Some(1_500),
    };
    let (retention, forced, with_state) = (Duration::from_secs(5), false, true);
    let freeze = ChildOrder::Freeze { child: child.clone(), epoch, retention, forced, with_state };
    let thaw = ChildOrder::Thaw { child: child.clone(), epoch };
    let order = |order| {
        let orders = Orders(vec![Order { order, parcel: None }]);
        let workers = hub.shared().workers();
        workers[crate::hub::effects::worker_of(&child, workers.len())].send(orders)
    };
    let mut events = hub.events();
    // It runs: there are no bytes yet.
    order(park(7)).await.expect("it runs");
    let told = async {
        loop {
            if let HubEvent::ParkedStateDropped { reason, .. } =
                events.next().await.expect("the hub runs")
            {
                break reason;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    assert_eq!(told.expect("it is told"), "the state is gone");
    order(freeze).await.expect("it runs");
    until("it is frozen, and its state is parked", || async {
        order(park(8)).await.expect("it runs");
        !hub.parked_states().await.expect("the hub runs").is_empty()
    })
    .await;
    let parked = hub.parked_states().await.expect("the hub runs");
    let state: crate::Snapshot<Tally> =
        crate::hub::codec::decode(&parked[0].state).expect("it is a state");
    assert_eq!(state.into_value().expect("it reads back").value, 5);
    assert_eq!(parked[0].key.run.nonce, 8);
    let at = std::time::UNIX_EPOCH + Duration::from_millis(1_500);
    assert_eq!(parked[0].parked_at, at, "it is the time of who parked it first");
    order(thaw).await.expect("it runs");
    assert_eq!(tally.send(Add(1)).await, Ok(6));
    hub.stop().await;
}

#[actix::test]
async fn a_child_whose_state_is_to_be_parked_comes_to_rest_and_can_be_asked_again() {
    let network = MemoryNetwork::new();
    let hub = node("a", &network, None).await;
    let spec = ChildSpec::new::<Tally>("t", ()).expect("a valid spec");
    let epoch = hub.start_child(spec).await.expect("it starts").epoch;
    let tally = hub.child::<Tally>("t");
    assert_eq!(tally.send(Add(5)).await, Ok(5));
    let child = ChildId::new("t").expect("a valid id");
    let workers = hub.shared().workers();
    let worker = &workers[crate::hub::effects::worker_of(&child, workers.len())];
    let order = |order| worker.send(Orders(vec![Order { order, parcel: None }]));
    let key = |nonce| ParkedKey {
        child: child.clone(),
        run: NodeRun { node: hub.node_id(), nonce },
        epoch,
    };
    for nonce in [7, 8] {
        order(ChildOrder::Rest { child: child.clone(), epoch }).await.expect("it runs");
        until("its state is parked", || async {
            let reason = "it was stopped".to_owned();
            let kind = KindName::new(Tally::KIND).expect("a valid name");
            let park = ChildOrder::ParkFrozen { key: key(nonce), kind, reason, at: None };
            order(park).await.expect("it runs");
            hub.parked_states()
                .await
                .expect("the hub runs")
                .iter()
                .any(|state| state.key == key(nonce))
        })
        .await;
    }
    let parked = hub.parked_states().await.expect("the hub runs");
    assert!(parked.iter().all(|state| state.parked_at > std::time::UNIX_EPOCH), "it is now");
    order(ChildOrder::Thaw { child: child.clone(), epoch }).await.expect("it runs");
    assert_eq!(tally.send(Add(1)).await, Ok(6));
    hub.stop().await;
}
