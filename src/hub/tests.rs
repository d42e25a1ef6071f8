//! Hubs in one process, over the memory network and over loopback.

use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    hot_swap::*,
    observe::{Look, Observe, Unanswered},
    requests::Scope,
    system::{self, HubSystem},
    worker::{Order, Orders},
    *,
};
use crate::{
    engine::io::ChildOrder,
    error::{HubSendError, MaybeHandled, NotHandled},
    model::{
        child::RestartRule,
        observe::{Answer, Question, StateUnknown},
        settings::{HotSwapOptions, Migration},
    },
    net::memory::MemoryNetwork,
};

mod blocking;
mod farewell;
mod flood;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    value: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add(u64);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Slow(u64);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Panic;
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Block(u64);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Unknown;
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Quit;

macro_rules! names {
    ($($message:ident)*) => {
        $(impl HubMessage for $message { const NAME: &'static str = stringify!($message); })*
    };
}
names!(Add Slow Panic Block Unknown Quit);

mod encoding;
mod limits;
mod lives;
mod openings;
mod parked;
mod suspend;
mod waits;
mod watches;

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

impl Handler<Slow> for Counter {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, Slow(ms): Slow, _: &mut Self::Context) -> Self::Result {
        let wait = tokio::time::sleep(Duration::from_millis(ms));
        Box::pin(wait.into_actor(self).map(|(), actor, _| {
            actor.value += 1;
            actor.value
        }))
    }
}

impl Handler<Panic> for Counter {
    type Result = ();
    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("as it was told");
    }
}

impl Handler<Block> for Counter {
    type Result = ();
    fn handle(&mut self, Block(ms): Block, _: &mut Self::Context) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

impl Handler<Quit> for Counter {
    type Result = ();
    fn handle(&mut self, _: Quit, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

crate::hot_swap!(Counter, kind = "counter", messages = [Add, Slow, Panic, Block, Quit]);

/// The counter of another release, where it takes another message.
#[derive(Default, Serialize, Deserialize)]
struct OtherCounter;

impl Actor for OtherCounter {
    type Context = Context<Self>;
}

impl Handler<Unknown> for OtherCounter {
    type Result = ();
    fn handle(&mut self, _: Unknown, _: &mut Self::Context) {}
}

crate::hot_swap!(OtherCounter, kind = "counter", messages = [Unknown]);

/// Counts as `Counter` does, and adds up what both sides of a split have counted.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    value: u64,
}

impl Actor for Tally {
    type Context = Context<Self>;
}

impl Handler<Add> for Tally {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

crate::hot_swap!(
    Tally,
    kind = "tally",
    messages = [Add],
    merge = |mine, other| mine.value += other.value,
);

async fn node(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .child::<Counter>()
        .child::<Text>()
        .child::<Tally>()
        .settings(Settings::local())
        .workers(2)
        .memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

/// Waits for something that becomes true by itself.
async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is().await {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many nodes are in, as this one sees them.
async fn count(hub: &Hub) -> usize {
    hub.nodes().await.expect("the hub runs").iter().filter(|node| node.is_member()).count()
}

async fn members(hub: &Hub, expected: usize) {
    until("all nodes are in", || async { count(hub).await == expected }).await;
}

fn spec(id: &str) -> ChildSpec {
    ChildSpec::new::<Counter>(id, ()).expect("a valid spec")
}

fn reason(error: HubSendError) -> NotHandled {
    match error {
        HubSendError::NotHandled { reason, .. } => reason,
        HubSendError::MaybeHandled { reason, .. } => panic!("it may have been handled: {reason}"),
    }
}

#[actix::test]
async fn a_child_answers_on_its_own_node() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    let started = hub.start_child(spec("c")).await.expect("it starts");
    assert_eq!(started.node, hub.node_id());
    let child = hub.child::<Counter>("c");
    assert_eq!(child.send(Add(2)).await, Ok(2));
    child.do_send(Add(3)).expect("there is room");
    assert_eq!(child.send(Slow(1)).await, Ok(6));
    let known = hub.lookup("c").await.expect("the hub runs").expect("it is known");
    assert_eq!((known.node, known.epoch), (started.node, started.epoch));
    assert!(matches!(hub.start_child(spec("c")).await, Err(StartChildError::Exists { .. })));
    assert_eq!(hub.stop_child("c").await, Ok(hub.node_id()));
    assert!(hub.children(Scope::Global).await.expect("the hub runs").is_empty());
    hub.stop().await;
}

#[actix::test]
async fn a_request_is_carried_out_though_its_future_was_dropped_before_its_turn_came() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    // The hub is busy until it is dropped.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let busy = Look(Box::new(move |_: &system::Running| {
        let _ = wait.recv();
    }));
    hub.system().do_send(busy);
    let start = hub.start_children([spec("c")]).into_future();
    assert!(futures_util::FutureExt::now_or_never(start).is_none());
    drop(go_on);
    until("it was started", async || hub.lookup("c").await.expect("the hub runs").is_some()).await;
    hub.stop().await;
}

/// Tells this hub that another process with its key was there first.
async fn is_second(hub: &Hub) {
    let address = "/memory/77".to_owned();
    let twin = crate::net::NetEvent::Twin { address, by: None, is_second: true };
    hub.system().send(system::FromNetwork(vec![twin])).await.expect("it runs");
}

#[actix::test]
async fn a_hub_that_is_in_with_others_does_not_end_for_one_that_comes_back_with_its_key() {
    let network = MemoryNetwork::new();
    let first = node("a", &network, None).await;
    let second = node("b", &network, Some(&first)).await;
    for hub in [&first, &second] {
        members(hub, 2).await;
        until("it is settled", || async { hub.inspect().await.is_ok_and(|seen| seen.is_settled) })
            .await;
    }
    let mut events = second.events();
    is_second(&second).await;
    while !matches!(events.next().await, Some(HubEvent::PeerRefused { .. })) {}
    assert!(second.inspect().await.is_ok_and(|seen| seen.is_settled));
    first.stop().await;
    second.stop().await;
    let alone = node("c", &network, None).await;
    is_second(&alone).await;
    alone.stopped().await;
}

#[actix::test]
async fn what_cannot_be_sent_is_refused_with_the_reason() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    let nobody = hub.child::<Counter>("nobody").send(Add(1)).await;
    assert_eq!(nobody.map_err(reason), Err(NotHandled::NoSuchChild));
    let invalid = hub.child::<Counter>("line\nbreak").send(Add(1)).await;
    assert_eq!(invalid.map_err(reason), Err(NotHandled::NoSuchChild));
    hub.start_child(spec("c")).await.expect("it starts");
    let unknown = hub.child::<OtherCounter>("c").send(Unknown).await;
    assert!(matches!(unknown.map_err(reason), Err(NotHandled::NotRegistered { .. })));
    hub.stop().await;
    let stopped = hub.child::<Counter>("c").send(Add(1)).await;
    assert_eq!(stopped.map_err(reason), Err(NotHandled::HubStopped));
}

#[actix::test]
async fn a_panic_restarts_the_child_and_keeps_its_queue() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    assert_eq!(child.send(Add(5)).await, Ok(5));
    let panicked = child.send(Panic);
    let behind = child.send(Add(1));
    assert!(matches!(
        panicked.await,
        Err(HubSendError::MaybeHandled { reason: MaybeHandled::NoReply, .. })
    ));
    assert_eq!(behind.await, Ok(1), "a fresh actor handles what was behind");
    hub.stop().await;
}

#[actix::test]
async fn a_transient_child_that_stops_itself_is_gone() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c").restart(RestartRule::Transient)).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    assert_eq!(child.send(Quit).await, Ok(()));
    until("it is gone", || async { hub.lookup("c").await.expect("the hub runs").is_none() }).await;
    until("and refuses", || async { child.send(Add(1)).await.is_err() }).await;
    hub.stop().await;
}

#[actix::test]
async fn a_send_ends_at_its_deadline_and_may_be_longer_than_the_default() {
    let settings = Settings { send_timeout: Duration::from_millis(100), ..Settings::local() };
    let hub = HubSystem::builder("test")
        .child::<Counter>()
        .settings(settings)
        .workers(1)
        .start()
        .await
        .expect("the hub starts");
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    assert!(matches!(
        child.send(Slow(5_000)).await,
        Err(HubSendError::MaybeHandled { reason: MaybeHandled::Timeout, .. })
    ));
    assert_eq!(child.send(Slow(300)).timeout(Duration::from_secs(5)).await, Ok(1));
    // Behind a handler that blocks, one that was not started is known not to be handled.
    let blocked = child.send(Block(400)).timeout(Duration::from_secs(5));
    let behind = child.send(Add(100)).await;
    assert_eq!(behind.map_err(reason), Err(NotHandled::Timeout));
    assert_eq!(blocked.await, Ok(()));
    assert_eq!(child.send(Add(1)).await, Ok(2), "the expired one was skipped");
    hub.stop().await;
}

#[actix::test]
async fn a_full_queue_is_told() {
    let settings = Settings { mailbox: 4, waiting: 4, ..Settings::local() };
    let hub = HubSystem::builder("test")
        .child::<Counter>()
        .settings(settings)
        .workers(1)
        .start()
        .await
        .expect("the hub starts");
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    let blocked = child.send(Block(200));
    let tells: Vec<_> = (0..20).map(|_| child.do_send(Add(1))).collect();
    let busy = tells.into_iter().filter_map(Result::err).map(reason);
    assert!(busy.clone().count() >= 15);
    assert!(busy.into_iter().all(|reason| reason == NotHandled::Busy));
    blocked.await.expect("it ends");
    hub.stop().await;
}

#[actix::test]
async fn children_find_their_node_and_move_with_their_state() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    for n in 0..20 {
        a.start_child(spec(&format!("c{n}"))).await.expect("it starts");
        let child = a.child::<Counter>(format!("c{n}"));
        assert_eq!(child.send(Add(n)).await, Ok(n));
    }
    let b = node("b", &network, Some(&a)).await;
    members(&a, 2).await;
    until("b has its share", || async {
        b.children(Scope::Local).await.expect("the hub runs").len() >= 3
    })
    .await;
    for n in 0..20 {
        let (from_a, from_b) = (a.child::<Counter>(format!("c{n}")), b.child(format!("c{n}")));
        assert_eq!(from_a.send(Add(1)).await, Ok(n + 1));
        assert_eq!(ChildRef::<Counter>::send(&from_b, Add(1)).await, Ok(n + 2));
    }
    let (to, id) = (b.node_id(), "c7");
    if a.lookup(id).await.expect("the hub runs").expect("it is known").node == a.node_id() {
        a.migrate(id, to).await.expect("it moves");
    } else {
        a.migrate(id, a.node_id()).await.expect("it moves");
    }
    assert_eq!(a.child::<Counter>(id).send(Add(0)).await, Ok(9));
    a.leave().await.expect("b takes them");
    assert_eq!(b.children(Scope::Local).await.expect("the hub runs").len(), 20);
    for n in 0..20 {
        assert_eq!(b.child::<Counter>(format!("c{n}")).send(Add(0)).await, Ok(n + 2));
    }
    b.stop().await;
}

#[actix::test]
async fn nothing_is_lost_or_doubled_or_reordered_while_a_child_moves() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let b = node("b", &network, Some(&a)).await;
    members(&a, 2).await;
    members(&b, 2).await;
    a.start_child(spec("c")).await.expect("it starts");
    until("b knows it", || async { b.lookup("c").await.expect("the hub runs").is_some() }).await;
    let mut writers = Vec::new();
    for hub in [a.clone(), b.clone()] {
        writers.push(actix_rt::spawn(async move {
            let child = hub.child::<Counter>("c");
            let mut highest = 0;
            for _ in 0..300 {
                let sends: Vec<_> = (0..8).map(|_| child.send(Add(1))).collect();
                for send in sends {
                    let value = send.await.expect("a planned move fails no send");
                    assert!(value > highest, "{value} after {highest}");
                    highest = value;
                }
            }
        }));
    }
    for _ in 0..10 {
        let at = a.lookup("c").await.expect("the hub runs").expect("it is known").node;
        let to = if at == a.node_id() { b.node_id() } else { a.node_id() };
        a.migrate("c", to).await.expect("it moves");
    }
    for writer in writers {
        writer.await.expect("the writer holds its promises");
    }
    assert_eq!(a.child::<Counter>("c").send(Add(0)).await, Ok(2 * 300 * 8));
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_child_that_blocks_its_thread_does_not_hold_up_the_hub() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c")).await.expect("it starts");
    let blocked = hub.child::<Counter>("c").send(Block(300));
    let began = Instant::now();
    assert_eq!(count(&hub).await, 1);
    assert!(began.elapsed() < Duration::from_millis(250));
    blocked.await.expect("it ends");
    hub.stop().await;
}

#[actix::test]
async fn a_hub_over_loopback_hands_its_children_over() {
    let start = |name: &'static str, seed: Option<String>| async move {
        let mut builder = HubSystem::builder("test")
            .node_name(name)
            .child::<Counter>()
            .settings(Settings::local())
            .migration(Migration::default())
            .workers(1)
            .listen("/ip4/127.0.0.1/tcp/0");
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        builder.start().await.expect("the hub starts")
    };
    let a = start("a", None).await;
    a.start_child(spec("c")).await.expect("it starts");
    assert_eq!(a.child::<Counter>("c").send(Add(3)).await, Ok(3));
    let b = start("b", Some(a.addresses()[0].clone())).await;
    members(&a, 2).await;
    a.leave().await.expect("b takes it");
    assert_eq!(b.child::<Counter>("c").send(Add(1)).await, Ok(4));
    b.stop().await;
}

#[actix::test]
async fn everybody_who_waits_is_answered_when_the_hub_stops() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    let slow = child.send(Slow(60_000)).timeout(Duration::from_secs(100));
    assert_eq!(child.send(Add(0)).await, Ok(0), "so the slow one has started");
    hub.stop().await;
    assert!(slow.await.is_err_and(|error| error.may_have_been_handled()));
}

/// What the probes of all tests did, by child.
static LOG: std::sync::Mutex<Vec<(String, &'static str)>> = std::sync::Mutex::new(Vec::new());

fn log_of(child: &str) -> Vec<&'static str> {
    let log = LOG.lock().expect("nobody panics with it");
    log.iter().filter(|(id, _)| id == child).map(|(_, what)| *what).collect()
}

/// Writes down what is done to it, and misbehaves as its id says.
struct Probe {
    id: String,
    text: String,
}

impl Probe {
    fn log(&self, what: &'static str) {
        LOG.lock().expect("nobody panics with it").push((self.id.clone(), what));
    }
}

impl Actor for Probe {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        self.log(if self.text.is_empty() { "started" } else { "started with its state" });
    }
    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        Running::Continue
    }
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.log("stopped");
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Write(String);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Wait(u64);
names!(Write Wait);

impl Handler<Write> for Probe {
    type Result = String;
    fn handle(&mut self, Write(text): Write, _: &mut Self::Context) -> String {
        self.text.push_str(&text);
        self.text.clone()
    }
}

impl Handler<Wait> for Probe {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, Wait(ms): Wait, _: &mut Self::Context) -> Self::Result {
        let wait = tokio::time::sleep(Duration::from_millis(ms));
        AtomicResponse::new(Box::pin(wait.into_actor(self)))
    }
}

impl HotSwap for Probe {
    const KIND: &'static str = "probe";
    type Args = ();
    type State = String;
    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        if child.id().as_str().contains("refuses") {
            return Err("as its id says".into());
        }
        Ok(Self { id: child.id().to_string(), text: String::new() })
    }
    fn prepare_handover_state(&mut self) -> String {
        assert!(!self.id.contains("panics"), "as its id says");
        if self.id.contains("tells") {
            self.log("prepared");
        }
        // Moved out, so that an abort must bring it back.
        std::mem::take(&mut self.text)
    }
    fn alter_handover_state(&mut self, state: String) {
        self.text = state;
    }
    fn resume_after_abort(&mut self, state: String) {
        self.text = state;
        self.log("resumed");
    }
}

crate::takes!(Probe: [Write, Wait]);

async fn probes(child: &str) -> (Hub, Hub, ChildRef<Probe>) {
    let network = MemoryNetwork::new();
    let options = HotSwapOptions { retention: Duration::from_millis(100), ..Default::default() };
    let start = |name: &'static str, seed: Option<String>, weight| {
        let settings = Settings {
            state_limit: 1 << 10,
            weight,
            move_retries: 0,
            migration: Migration::HotSwap(options.clone()),
            ..Settings::local()
        };
        let mut builder = HubSystem::builder("test")
            .node_name(name)
            .child::<Probe>()
            .settings(settings)
            .workers(1)
            .memory(&network);
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        async move { builder.start().await.expect("the hub starts") }
    };
    let a = start("a", None, 1_000).await;
    let started = a.start_child(ChildSpec::new::<Probe>(child, ()).expect("valid")).await;
    started.expect("it starts");
    let b = start("b", Some(a.addresses()[0].clone()), 1).await;
    members(&a, 2).await;
    members(&b, 2).await;
    let probe = a.child::<Probe>(child);
    if a.lookup(child).await.expect("the hub runs").expect("it is known").node != a.node_id() {
        a.migrate(child, a.node_id()).await.expect("it moves");
    }
    (a, b, probe)
}

#[actix::test]
async fn an_actor_that_moves_is_started_once_on_each_node_and_stopped_once() {
    let (a, b, probe) = probes("lives once").await;
    assert_eq!(probe.send(Write("x".into())).await, Ok("x".into()));
    let before = log_of("lives once").len();
    a.migrate("lives once", b.node_id()).await.expect("it moves");
    assert_eq!(probe.send(Write("y".into())).await, Ok("xy".into()));
    until("the old one ends", || async { log_of("lives once").len() == before + 2 }).await;
    assert_eq!(log_of("lives once")[before..], ["started with its state", "stopped"]);
    a.stop_child("lives once").await.expect("it stops");
    assert_eq!(log_of("lives once")[before + 2..], ["stopped"]);
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_freeze_that_runs_out_of_retention_leaves_the_child_and_its_queue() {
    let (a, b, probe) = probes("waits").await;
    let waiting = probe.send(Wait(600));
    let behind = probe.send(Write("z".into()));
    let error = a.migrate("waits", b.node_id()).await.expect_err("it waits too long");
    assert!(error.to_string().contains("retention"), "{error}");
    assert_eq!(waiting.await, Ok(()));
    assert_eq!(behind.await, Ok("z".into()));
    assert_eq!(
        a.lookup("waits").await.expect("the hub runs").expect("it is known").node,
        a.node_id()
    );
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_state_that_cannot_go_leaves_the_actor_as_it_was() {
    let (a, b, probe) = probes("too large").await;
    let text = "x".repeat(2_000);
    assert_eq!(probe.send(Write(text.clone())).await, Ok(text.clone()));
    let error = a.migrate("too large", b.node_id()).await.expect_err("it is too large");
    assert!(error.to_string().contains("2003"), "{error}");
    assert_eq!(probe.send(Write(String::new())).await, Ok(text));
    assert!(log_of("too large").contains(&"resumed"));
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_freeze_that_follows_a_thaw_at_once_takes_the_state_that_the_actor_took_back() {
    let (a, b, probe) = probes("tells").await;
    assert_eq!(probe.send(Write("x".into())).await, Ok("x".into()));
    let child = probe.id().clone();
    let epoch = a.lookup("tells").await.expect("the hub runs").expect("it is known").epoch;
    let before = log_of("tells").iter().filter(|what| **what == "prepared").count();
    let prepared = |count: usize| {
        until("its state is prepared", move || async move {
            log_of("tells").iter().filter(|what| **what == "prepared").count() == before + count
        })
    };
    let orders = |orders: Vec<ChildOrder>| {
        let orders = orders.into_iter().map(|order| Order { order, parcel: None }).collect();
        let [worker] = a.shared().workers() else { panic!("it has one") };
        worker.do_send(Orders(orders));
    };
    let freeze = || {
        let (child, retention) = (child.clone(), Duration::from_secs(10));
        ChildOrder::Freeze { child, epoch, retention, forced: false, with_state: true }
    };
    let thaw = || ChildOrder::Thaw { child: child.clone(), epoch };
    orders(vec![freeze()]);
    prepared(1).await;
    orders(vec![thaw(), freeze()]);
    prepared(2).await;
    // One that is thawed before it took place does not.
    orders(vec![thaw(), freeze(), thaw()]);
    assert_eq!(probe.send(Write("y".into())).await, Ok("xy".into()));
    prepared(2).await;
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_panic_while_the_state_is_prepared_leaves_the_child() {
    let (a, b, probe) = probes("panics").await;
    assert_eq!(probe.send(Write("x".into())).await, Ok("x".into()));
    let error = a.migrate("panics", b.node_id()).await.expect_err("it panics");
    assert!(error.to_string().contains("as its id says"), "{error}");
    assert_eq!(probe.send(Write("y".into())).await, Ok("xy".into()));
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_child_that_waits_for_itself_can_be_stopped() {
    let (a, b, probe) = probes("stubborn").await;
    let waiting = probe.send(Wait(60_000));
    let behind = probe.send(Write("x".into()));
    a.stop_child("stubborn").await.expect("it stops");
    assert!(waiting.await.is_err_and(|error| error.may_have_been_handled()));
    assert_eq!(behind.await.map_err(reason), Err(NotHandled::Stopped));
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_child_that_refuses_to_be_made_tells_why() {
    let (a, b, _) = probes("made").await;
    let spec = ChildSpec::new::<Probe>("refuses", ()).expect("valid");
    let error = a.start_child(spec).await.expect_err("it refuses");
    assert!(matches!(&error, StartChildError::Failed { reason, .. }
        if reason.to_string().contains("as its id says")));
    until("nothing is left of it", || async {
        a.lookup("refuses").await.expect("the hub runs").is_none()
    })
    .await;
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_forced_move_cuts_handlers_off_and_says_so() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let b = node("b", &network, Some(&a)).await;
    members(&a, 2).await;
    members(&b, 2).await;
    let at = a.start_child(spec("c")).await.expect("it starts").node;
    let to = if at == a.node_id() { b.node_id() } else { a.node_id() };
    let home = if at == a.node_id() { &a } else { &b };
    let child = home.child::<Counter>("c");
    assert_eq!(child.send(Add(3)).await, Ok(3));
    let slow = child.send(Slow(30_000)).timeout(Duration::from_secs(60));
    home.migrate("c", to).forced().await.expect("it moves");
    assert!(slow.await.is_err_and(|error| error.may_have_been_handled()));
    assert_eq!(child.send(Add(0)).await, Ok(3));
    a.stop().await;
    b.stop().await;
}

/// As long as it is told to be.
#[derive(Default, Serialize, Deserialize)]
struct Text(String);

impl Actor for Text {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fill(usize);

names!(Fill);

impl Handler<Fill> for Text {
    type Result = ();

    fn handle(&mut self, Fill(length): Fill, _: &mut Self::Context) {
        self.0 = "x".repeat(length);
    }
}

crate::hot_swap!(Text, kind = "text", messages = [Fill]);

fn node_question() -> Question {
    Question::Node { links: false }
}

async fn ask(asker: &Hub, asked: &Hub, patience: Duration) -> Option<Result<Answer, Unanswered>> {
    let observe = Observe { node: asked.node_id(), question: node_question() };
    let answer = tokio::time::timeout(patience, asker.system().send(observe)).await.ok()?;
    Some(answer.expect("the hub runs"))
}

async fn three(network: &MemoryNetwork) -> [Hub; 3] {
    let a = node("a", network, None).await;
    let b = node("b", network, Some(&a)).await;
    let c = node("c", network, Some(&a)).await;
    for hub in [&a, &b, &c] {
        until("all are in", async || count(hub).await == 3).await;
    }
    [a, b, c]
}

#[actix_rt::test]
async fn a_node_behind_a_wall_is_looked_at_through_another_one() {
    let network = MemoryNetwork::new();
    let [a, b, c] = three(&network).await;
    let second = Duration::from_secs(1);
    until("it answers", async || ask(&a, &c, second).await.is_some_and(|told| told.is_ok())).await;
    for (id, length) in [("short", 1_000), ("long", 100_000)] {
        let spec = ChildSpec::new::<Text>(id, ()).expect("a valid spec");
        a.start_child(spec).await.expect("it starts");
        a.migrate(id, c.node_id()).await.expect("it moves");
        a.child::<Text>(id).send(Fill(length)).await.expect("it answers");
    }
    let state = async |id: &str| {
        let child = ChildId::new(id).expect("a valid id");
        let observe = Observe { node: c.node_id(), question: Question::State { child } };
        let told = tokio::time::timeout(second, a.system().send(observe)).await.ok()?;
        match told.expect("it runs").ok()? {
            Answer::State(told) => Some(told.map(|report| report.state.len())),
            _ => None,
        }
    };
    assert!(matches!(state("long").await, Some(Ok(100_000..))), "over the link");
    network.cut(a.node_id(), c.node_id());
    until("it answers by another way", async || {
        ask(&a, &c, second).await.is_some_and(|told| told.is_ok())
    })
    .await;
    // What is long does not go that way.
    assert!(matches!(state("short").await, Some(Ok(1_000..))));
    let long = state("long").await;
    assert!(matches!(long, Some(Err(StateUnknown::TooLarge { limit: 65_536, .. }))), "{long:?}");
    for hub in [a, b, c] {
        hub.stop().await;
    }
}

#[actix_rt::test]
async fn a_link_that_swallows_everything_is_closed_and_stands_again_after_the_heal() {
    let network = MemoryNetwork::new();
    let [a, b, c] = three(&network).await;
    let there = c.node_id();
    let is_linked = async || {
        let look = Look(Box::new(move |running: &system::Running| running.engine.is_linked(there)));
        a.system().send(look).await.expect("it runs").expect("it runs")
    };
    until("it is linked", is_linked).await;
    network.cut(a.node_id(), there);
    until("the link is closed", async || !is_linked().await).await;
    assert_eq!(count(&a).await, 3, "others hear it");
    network.heal_all();
    until("it is linked again", is_linked).await;
    for hub in [a, b, c] {
        hub.stop().await;
    }
}

#[actix_rt::test]
async fn who_asked_a_node_that_went_down_is_told_so_at_once() {
    let network = MemoryNetwork::new();
    let [a, b, c] = three(&network).await;
    // It is asked, and its answers do not come through.
    for other in [&a, &b] {
        network.cut_one_way(c.node_id(), other.node_id());
    }
    let asked = ask(&a, &c, Duration::from_secs(60));
    let killed = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        network.kill(c.node_id());
    };
    let (told, ()) = futures_util::join!(asked, killed);
    assert_eq!(told, Some(Err(Unanswered::Silent)), "long before the deadline");
    let nobody = ask(&a, &c, Duration::from_secs(1)).await;
    assert_eq!(nobody, Some(Err(Unanswered::NotAsked)), "it is not in any more");
    for hub in [a, b] {
        hub.stop().await;
    }
}

#[actix::test]
async fn after_a_split_a_state_is_merged_once_if_its_kind_says_how_and_parked_if_not() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let b = node("b", &network, Some(&a)).await;
    let hubs = [&a, &b];
    members(&a, 2).await;
    members(&b, 2).await;
    a.start_child(spec("c")).await.expect("it starts");
    a.start_child(ChildSpec::new::<Tally>("t", ()).expect("a valid spec"))
        .await
        .expect("it starts");
    a.child::<Counter>("c").send(Add(1)).await.expect("it answers");
    a.child::<Tally>("t").send(Add(1)).await.expect("it answers");
    network.cut(a.node_id(), b.node_id());
    for hub in hubs {
        members(hub, 1).await;
    }
    let patience = Duration::from_secs(20);
    for (hub, n) in hubs.into_iter().zip([10, 100]) {
        hub.child::<Counter>("c").send(Add(n)).timeout(patience).await.expect("both go on");
        hub.child::<Tally>("t").send(Add(n)).timeout(patience).await.expect("both go on");
    }
    network.heal_all();
    for hub in hubs {
        until("what was counted on both sides is there once", || async {
            let sum = hub.child::<Tally>("t").send(Add(0)).await;
            sum.is_ok_and(|sum| sum == 111)
        })
        .await;
    }
    let parked = || async {
        [
            a.parked_states().await.expect("the hub runs"),
            b.parked_states().await.expect("the hub runs"),
        ]
        .concat()
    };
    until("a state is parked", || async { !parked().await.is_empty() }).await;
    until("one goes on", || async {
        let at = [
            a.lookup("c").await.expect("the hub runs"),
            b.lookup("c").await.expect("the hub runs"),
        ];
        at[0].as_ref().map(|child| child.node) == at[1].as_ref().map(|child| child.node)
    })
    .await;
    let goes_on = a.child::<Counter>("c").send(Add(0)).await.expect("it answers");
    until("it is parked on both nodes", || async { parked().await.len() == 2 }).await;
    let parked = parked().await;
    assert_eq!(parked[0].key, parked[1].key, "it is the same one");
    assert_eq!(parked[0].copies.len(), 1, "{parked:?}");
    assert_eq!(parked[0].child().as_str(), "c");
    let state: crate::Snapshot<Counter> =
        super::codec::decode(&parked[0].state).expect("it is a state");
    let kept = state.into_value().expect("it reads back").value;
    assert_eq!(goes_on + kept, 111, "{goes_on} goes on, {kept} is kept");
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn the_state_of_a_successor_that_is_not_wanted_is_parked_as_it_came() {
    use super::{
        parcel::Parcel,
        worker::{Order, Orders},
    };
    use crate::{
        engine::io::ChildOrder,
        model::{id::NodeRun, parked::ParkedKey},
    };

    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let spec = std::sync::Arc::new(ChildSpec::new::<Tally>("t", ()).expect("a valid spec"));
    let (epoch, run) = (Epoch { term: 1, attempt: 1 }, NodeRun { node: a.node_id(), nonce: 7 });
    let bytes = super::codec::encode(&crate::Snapshot::of(&Tally { value: 5 }), 1_000);
    let bytes = bytes.expect("it is encoded");
    let parcel = Parcel { state_version: 1, lanes: Vec::new(), bytes: bytes.clone() };
    let build = ChildOrder::Build { spec: spec.clone(), epoch, from: run, with_state: true };
    let key = ParkedKey { child: spec.id().clone(), run, epoch: Epoch { term: 1, attempt: 0 } };
    let park = || ChildOrder::ParkBuilt {
        key: key.clone(),
        kind: spec.kind().clone(),
        built: epoch,
        reason: "nobody wants it".to_owned(),
    };
    let mut events = a.events();
    let orders = vec![
        Order { order: build, parcel: Some(parcel) },
        Order { order: park(), parcel: None },
        Order { order: park(), parcel: None },
    ];
    a.shared().workers()[0].send(Orders(orders)).await.expect("it runs");
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        match event.expect("it is told").expect("the hub runs") {
            HubEvent::StateParked { key, .. } => told.push(key.to_string()),
            // The second time there is nothing.
            HubEvent::ParkedStateDropped { reason, .. } => told.push(reason),
            _ => {}
        }
    }
    assert_eq!(told, [key.to_string(), "the state is gone".to_owned()]);
    let states = a.parked_states().await.expect("the hub runs");
    assert_eq!(states.len(), 1, "{states:?}");
    assert_eq!((&states[0].key, &states[0].state), (&key, &bytes));
    assert_eq!((states[0].reason.as_str(), states[0].copies.len()), ("nobody wants it", 0));
    // While it is not known whether this node still counts, it is given to nobody.
    let spec = ChildSpec::new::<Tally>("t", ()).expect("a valid spec");
    a.start_child(spec).await.expect("it starts");
    let tally = a.child::<Tally>("t");
    assert_eq!(tally.send(Add(1)).await, Ok(1));
    a.shared().doors.set_valid(false);
    let applied = actix_rt::spawn(a.apply_parked(&key).into_future());
    tokio::task::yield_now().await;
    let question = Question::State { child: key.child.clone() };
    let observe = Observe { node: a.node_id(), question };
    let told = a.system().send(observe).await.expect("it runs");
    let Ok(Answer::State(Ok(report))) = told else { panic!("{told:?}") };
    let own: crate::Snapshot<Tally> = super::codec::decode(&report.state).expect("it is one");
    assert_eq!(own.into_value().expect("it reads back").value, 1, "it waits");
    a.shared().doors.set_valid(true);
    applied.await.expect("it ends").expect("it is merged");
    assert_eq!(tally.send(Add(0)).await, Ok(6));
    a.stop().await;
}
