//! Successors that start, or cannot, after their move was committed.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use super::{parcel::Parcel, worker::Peek, *};
use crate::model::id::{NodeId, NodeRun};

/// Whether a successor is being started.
static STARTING: AtomicBool = AtomicBool::new(false);

/// Whether it may go on.
static GO_ON: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

#[derive(Default, Serialize, Deserialize)]
struct Trapped {
    value: u64,
    armed: bool,
}

impl Actor for Trapped {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        if self.armed {
            STARTING.store(true, Ordering::Release);
            let waits = GO_ON.0.lock().expect("nobody panics with it");
            let most = Duration::from_secs(20);
            drop(GO_ON.1.wait_timeout_while(waits, most, |go_on| !*go_on));
            panic!("it starts nowhere else");
        }
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Arm(bool);
names!(Arm);

impl Handler<Arm> for Trapped {
    type Result = ();
    fn handle(&mut self, Arm(armed): Arm, _: &mut Self::Context) {
        self.armed = armed;
    }
}

impl Handler<Add> for Trapped {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

crate::hot_swap!(Trapped, kind = "trapped", messages = [Add, Arm]);

#[actix::test]
async fn what_waits_at_a_successor_that_cannot_start_goes_back_with_its_child() {
    let network = MemoryNetwork::new();
    let settings = Settings { move_retries: 0, ..Settings::local() };
    let mut hubs: Vec<Hub> = Vec::new();
    for name in ["a", "b", "c"] {
        let mut builder = HubSystem::builder("test")
            .node_name(name)
            .child::<Trapped>()
            .settings(settings.clone())
            .workers(1)
            .memory(&network);
        if let Some(seed) = hubs.first() {
            builder = builder.seed(&seed.addresses()[0]);
        }
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    for hub in &hubs {
        members(hub, 3).await;
    }
    let spec = ChildSpec::new::<Trapped>("t", ()).expect("a valid spec");
    let at = hubs[0].start_child(spec).await.expect("it starts").node;
    hubs.sort_by_key(|hub| hub.node_id() != at);
    let [source, target, third] = &hubs[..] else { panic!("there are three") };
    let child = |hub: &Hub| hub.child::<Trapped>("t");
    child(source).send(Arm(true)).await.expect("it answers");

    let (mover, to) = (source.clone(), target.node_id());
    let moving = actix_rt::spawn(async move { mover.migrate("t", to).await });
    until("its successor is being started", || async { STARTING.load(Ordering::Acquire) }).await;
    let add = |hub: &Hub| {
        let sent = child(hub).send(Add(1)).timeout(Duration::from_secs(8));
        actix_rt::spawn(sent)
    };
    let sent = [add(third), add(target)];
    let id = ChildId::new("t").expect("a valid id");
    let gate =
        |hub: &Hub| hub.shared().doors.known(&id).map(|cell| cell.with(|door| door.waiting()));
    until("both wait there", || async { gate(target) == Some((2, 0)) }).await;
    *GO_ON.0.lock().expect("nobody panics with it") = true;
    GO_ON.1.notify_all();
    moving.await.expect("it does not panic").expect_err("the successor does not start");
    let mut answers = Vec::new();
    for sent in sent {
        answers.push(sent.await.expect("it does not panic").expect("its owner answers"));
    }
    answers.sort_unstable();
    assert_eq!(answers, [1, 2], "each was handled once");
    assert_eq!(child(target).send(Add(1)).await, Ok(3));
    assert_eq!(child(third).send(Add(1)).await, Ok(4));
    until("the target keeps nothing", || async {
        target.shared().doors.known(&id).is_none_or(|cell| cell.with(|door| door.is_idle()))
    })
    .await;

    child(third).send(Arm(false)).await.expect("it answers");
    source.migrate("t", target.node_id()).await.expect("now it moves");
    assert_eq!(child(source).send(Add(1)).await, Ok(5));
    for hub in hubs {
        hub.stop().await;
    }
}

/// Bytes that are gone when nobody has them any more.
struct Kept(Vec<u8>, #[expect(dead_code, reason = "its drop tells")] Arc<()>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[actix::test]
async fn the_bytes_that_a_child_came_in_are_given_back_when_it_runs() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    let (child, epoch) = (ChildId::new("c").expect("a valid id"), Epoch { term: 1, attempt: 1 });
    let state = codec::encode(&crate::Snapshot::of(&Counter { value: 5 }), 1_000);
    let last = Arc::new(());
    let kept = Kept(state.expect("it encodes").to_vec(), last.clone());
    let parcel = Parcel { state_version: 1, lanes: Vec::new(), bytes: Bytes::from_owner(kept) };
    let from = NodeRun { node: NodeId::from_key([9; 32]), nonce: 1 };
    let spec = Arc::new(spec("c"));
    let build = ChildOrder::Build { spec, epoch, from, with_state: true };
    let open = ChildOrder::Open { child: child.clone(), built: epoch, epoch };
    let worker = &hub.shared().workers()[super::effects::worker_of(&child, 2)];
    worker.send(Orders(vec![Order { order: build, parcel: Some(parcel) }])).await.expect("it runs");
    assert_eq!(Arc::strong_count(&last), 2, "it may have to be made again");
    worker.send(Orders(vec![Order { order: open, parcel: None }])).await.expect("it runs");
    until("the bytes are given back", || async { Arc::strong_count(&last) == 1 }).await;
    let peeked = worker.send(Peek { child }).await.expect("it runs");
    assert!(matches!(peeked, Some(Ok(_))), "the child still runs");
    hub.stop().await;
}

/// Actors that can be started again later.
static CAN_START: AtomicBool = AtomicBool::new(false);

#[derive(Default, Serialize, Deserialize)]
struct Later {
    value: u64,
}

impl Actor for Later {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        assert!(CAN_START.load(Ordering::Acquire), "not yet");
    }
}

impl Handler<Add> for Later {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

crate::hot_swap!(Later, kind = "later", messages = [Add]);

#[actix::test]
async fn the_state_of_a_successor_that_could_not_start_is_there_until_one_runs() {
    let network = MemoryNetwork::new();
    let builder = HubSystem::builder("test").node_name("a").child::<Later>().workers(1);
    let hub = builder.memory(&network).start().await.expect("the hub starts");
    let (child, epoch) = (ChildId::new("c").expect("a valid id"), Epoch { term: 1, attempt: 1 });
    let state = codec::encode(&crate::Snapshot::of(&Later { value: 5 }), 1_000);
    let last = Arc::new(());
    let kept = Kept(state.expect("it encodes").to_vec(), last.clone());
    let parcel = Parcel { state_version: 1, lanes: Vec::new(), bytes: Bytes::from_owner(kept) };
    let from = NodeRun { node: NodeId::from_key([9; 32]), nonce: 1 };
    let spec = Arc::new(ChildSpec::new::<Later>("c", ()).expect("a valid spec"));
    let build = || ChildOrder::Build { spec: spec.clone(), epoch, from, with_state: true };
    let open = || ChildOrder::Open { child: child.clone(), built: epoch, epoch };
    let workers = hub.shared().workers();
    let order = |order, parcel| workers[0].send(Orders(vec![Order { order, parcel }]));
    let peek = || workers[0].send(Peek { child: child.clone() });
    order(build(), Some(parcel)).await.expect("it runs");
    for _ in 0..2 {
        order(open(), None).await.expect("it runs");
        until("it has not started", || async {
            matches!(peek().await.expect("it runs"), Some(Err(StateUnknown::NotHere)))
        })
        .await;
        assert_eq!(Arc::strong_count(&last), 2, "its state is still there");
        order(build(), None).await.expect("it runs");
    }
    CAN_START.store(true, Ordering::Release);
    order(open(), None).await.expect("it runs");
    until("the bytes are given back", || async { Arc::strong_count(&last) == 1 }).await;
    let Some(Ok((_, bytes))) = peek().await.expect("it runs") else { panic!("it runs") };
    let state: crate::Snapshot<Later> = codec::decode(&bytes).expect("it is a state");
    assert_eq!(state.into_value().expect("it reads back").value, 5);
    hub.stop().await;
}
