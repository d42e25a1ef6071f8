//! What the tests share: an actor that counts, nodes, and waiting for a condition.

use std::{collections::BTreeMap, future::Future, time::Duration};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

/// Counts what it is told, by sender; can be made to misbehave.
#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    pub seen: BTreeMap<u64, Vec<u64>>,
    pub ballast: u64,
    /// What its state does when it is decoded or taken.
    pub trap: Option<Trap>,
    /// Handlers that have started and not ended.
    in_flight: u64,
    /// For so many milliseconds its end holds the thread.
    end_holds_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trap {
    PanicInPrepare,
    PanicInEncode,
    PanicInAlter,
    PanicInStarted,
    Undecodable,
}

#[derive(Serialize, Deserialize)]
pub struct CounterState {
    pub seen: BTreeMap<u64, Vec<u64>>,
    #[serde(with = "serde_bytes")]
    ballast: Vec<u8>,
    trap: Option<Trap>,
    poison: Poison,
    /// What was in when the actor was taken apart, for a look that must not take place meanwhile.
    in_flight: u64,
}

/// Encodes whatever it is and decodes only if it is harmless.
#[derive(Clone, Copy)]
struct Poison(bool, bool);

impl Serialize for Poison {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.1, "the encoder panics on purpose");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Poison {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            return Err(serde::de::Error::custom("poisoned on purpose"));
        }
        Ok(Self(false, false))
    }
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        assert_ne!(self.trap, Some(Trap::PanicInStarted), "started panics on purpose");
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        std::thread::sleep(Duration::from_millis(self.end_holds_ms));
    }
}

impl HotSwap for Counter {
    const KIND: &'static str = "counter";
    type Args = ();
    type State = CounterState;

    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }

    fn prepare_handover_state(&mut self) -> CounterState {
        assert_ne!(self.trap, Some(Trap::PanicInPrepare), "prepare panics on purpose");
        CounterState {
            seen: std::mem::take(&mut self.seen),
            ballast: vec![1; self.ballast as usize],
            trap: self.trap,
            poison: Poison(
                self.trap == Some(Trap::Undecodable),
                self.trap == Some(Trap::PanicInEncode),
            ),
            in_flight: self.in_flight,
        }
    }

    fn resume_after_abort(&mut self, state: CounterState) {
        self.seen = state.seen;
    }

    fn alter_handover_state(&mut self, state: CounterState) {
        assert_ne!(state.trap, Some(Trap::PanicInAlter), "alter panics on purpose");
        self.seen = state.seen;
        self.ballast = state.ballast.len() as u64;
        self.trap = state.trap;
    }

    fn merge_diverged_state(&mut self, other: CounterState) -> MergeOutcome {
        for (sender, numbers) in other.seen {
            let mine = self.seen.entry(sender).or_default();
            mine.extend(numbers);
            mine.sort_unstable();
            mine.dedup();
        }
        MergeOutcome::Merged
    }
}

takes!(Counter: [Add, Read, SetTrap, SetBallast, Boom, Quit, Block, HoldAtEnd, Later]);

macro_rules! message {
    ($name:ident { $($field:ident: $kind:ty),* } -> $result:ty, $text:literal) => {
        #[derive(Message, Serialize, Deserialize)]
        #[rtype(result = $text)]
        pub struct $name { $(pub $field: $kind),* }
        impl HubMessage for $name {
            const NAME: &'static str = stringify!($name);
        }
    };
}

message!(Add { sender: u64, number: u64 } -> u64, "u64");
message!(Read { sender: u64 } -> Numbers, "Numbers");
message!(SetTrap { trap: Option<Trap> } -> (), "()");
message!(SetBallast { bytes: u64 } -> (), "()");
message!(Boom {} -> (), "()");
message!(Quit {} -> (), "()");
message!(Block { ms: u64 } -> (), "()");
message!(HoldAtEnd { ms: u64 } -> (), "()");
message!(Later { ms: u64 } -> u64, "u64");

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, MessageResponse)]
pub struct Numbers(pub Vec<u64>);

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        let seen = self.seen.entry(add.sender).or_default();
        seen.push(add.number);
        seen.len() as u64
    }
}

impl Handler<Read> for Counter {
    type Result = Numbers;
    fn handle(&mut self, read: Read, _: &mut Self::Context) -> Numbers {
        Numbers(self.seen.get(&read.sender).cloned().unwrap_or_default())
    }
}

impl Handler<SetTrap> for Counter {
    type Result = ();
    fn handle(&mut self, set: SetTrap, _: &mut Self::Context) {
        self.trap = set.trap;
    }
}

impl Handler<SetBallast> for Counter {
    type Result = ();
    fn handle(&mut self, set: SetBallast, _: &mut Self::Context) {
        self.ballast = set.bytes;
    }
}

impl Handler<Boom> for Counter {
    type Result = ();
    fn handle(&mut self, _: Boom, _: &mut Self::Context) {
        panic!("boom on purpose");
    }
}

impl Handler<Quit> for Counter {
    type Result = ();
    fn handle(&mut self, _: Quit, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Block> for Counter {
    type Result = ();
    fn handle(&mut self, block: Block, _: &mut Self::Context) {
        std::thread::sleep(Duration::from_millis(block.ms));
    }
}

impl Handler<HoldAtEnd> for Counter {
    type Result = ();
    fn handle(&mut self, hold: HoldAtEnd, _: &mut Self::Context) {
        self.end_holds_ms = hold.ms;
    }
}

impl Handler<Later> for Counter {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, later: Later, _: &mut Self::Context) -> Self::Result {
        self.in_flight += 1;
        let nap = tokio::time::sleep(Duration::from_millis(later.ms));
        Box::pin(nap.into_actor(self).map(move |(), counter, _| {
            counter.in_flight -= 1;
            later.ms
        }))
    }
}

/// Fast, and patient with a busy machine.
pub fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(150),
        suspect_after: 10,
        digest: Duration::from_millis(500),
        found_after: Duration::from_secs(3),
        ..Settings::default()
    }
}

/// A node with the counter, over loopback.
pub fn tcp(name: &str) -> HubBuilder {
    builder("test", name).listen("/ip4/127.0.0.1/tcp/0")
}

pub fn builder(hub: &str, name: &str) -> HubBuilder {
    plain(hub, name).child::<Counter>()
}

/// A node without kinds.
pub fn plain(hub: &str, name: &str) -> HubBuilder {
    let builder = HubSystem::builder(hub).node_name(name).label("node", name);
    builder.workers(2).settings(settings())
}

/// Where nodes of a test meet.
#[derive(Clone)]
pub enum Net {
    Memory(MemoryNetwork),
    Tcp,
}

impl Net {
    pub async fn node(
        &self,
        name: &str,
        seed: Option<&Hub>,
        change: impl FnOnce(&mut Settings),
    ) -> Hub {
        let mut settings = settings();
        change(&mut settings);
        let mut builder = match self {
            Self::Memory(network) => builder("test", name).memory(network),
            Self::Tcp => tcp(name),
        }
        .settings(settings);
        if let Some(seed) = seed {
            builder = builder.seed(&seed.addresses()[0]);
        }
        builder.start().await.expect("the hub starts")
    }

    /// So many nodes that all see each other.
    pub async fn cluster(&self, count: usize) -> Vec<Hub> {
        let mut hubs: Vec<Hub> = Vec::new();
        for n in 0..count {
            let hub = self.node(&format!("n{n}"), hubs.first(), |_| {}).await;
            hubs.push(hub);
        }
        together(&hubs).await;
        hubs
    }
}

/// Until each of these sees all of these and nobody else.
pub async fn together(hubs: &[Hub]) {
    eventually("the nodes see each other", || async {
        for hub in hubs {
            if members(hub).await != hubs.len() {
                return false;
            }
        }
        true
    })
    .await;
}

/// How many nodes are in, as this one sees them.
pub async fn members(hub: &Hub) -> usize {
    hub.nodes().await.expect("the hub runs").iter().filter(|node| node.is_member()).count()
}

/// Polls until it is so; fails after 30 s.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next event that fits; fails after 30 s.
pub async fn event<T>(events: &mut EventStream, mut fits: impl FnMut(HubEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the hub runs");
            if let Some(found) = fits(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("the event comes within 30 s")
}

pub async fn start(hub: &Hub, child: &str) -> ChildRef<Counter> {
    hub.start_child(ChildSpec::new::<Counter>(child, ()).expect("a valid spec"))
        .await
        .expect("the child starts");
    hub.child(child)
}

pub async fn stop(hubs: Vec<Hub>) {
    for hub in hubs {
        hub.stop().await;
    }
}

/// Runs a test inside an Actix system. With `RUST_LOG` what its hubs log is shown if it fails.
pub fn run(test: impl Future<Output = ()>) {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer();
    // Another test of this process may have done so.
    let _ = log.try_init();
    System::new().block_on(test);
}
