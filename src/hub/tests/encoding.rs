//! Messages, replies and states that would not be the same on another node.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// What cannot be read once it was written: an address under a tag.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "is")]
enum Place {
    Nowhere,
    Host { ip: IpAddr },
}

#[derive(Default, Serialize, Deserialize)]
struct Visits {
    places: Vec<Place>,
}

impl Actor for Visits {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "usize")]
struct Visit {
    place: Place,
    note: Option<Option<u8>>,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Vec<Place>")]
struct Make;

/// The same, later.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Vec<Place>")]
struct MakeLater;

/// Its encoding panics.
#[derive(Clone, Copy, Deserialize)]
struct Mine;

impl Serialize for Mine {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("the encoder panics on purpose")
    }
}

/// Its decoding panics.
#[derive(Clone, Copy, Serialize)]
struct Trap(u8);

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("the decoder panics on purpose")
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Mine")]
struct Lay;

/// The same, later.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Mine")]
struct LayLater;

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "usize")]
struct Bury(Mine);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Trap")]
struct Set(Option<Trap>);

names!(Lay LayLater Bury Set);

impl HubMessage for Visit {
    const NAME: &'static str = "Visit";
}
impl HubMessage for Make {
    const NAME: &'static str = "Make";
}
impl HubMessage for MakeLater {
    const NAME: &'static str = "MakeLater";
}

const HOST: Place = Place::Host { ip: IpAddr::V4(Ipv4Addr::LOCALHOST) };

impl Handler<Visit> for Visits {
    type Result = usize;
    fn handle(&mut self, Visit { place, .. }: Visit, _: &mut Self::Context) -> usize {
        self.places.push(place);
        self.places.len()
    }
}

impl Handler<Make> for Visits {
    type Result = Vec<Place>;
    fn handle(&mut self, _: Make, _: &mut Self::Context) -> Vec<Place> {
        self.places.push(HOST);
        self.places.clone()
    }
}

impl Handler<MakeLater> for Visits {
    type Result = ResponseActFuture<Self, Vec<Place>>;
    fn handle(&mut self, _: MakeLater, _: &mut Self::Context) -> Self::Result {
        let wait = tokio::task::yield_now();
        Box::pin(wait.into_actor(self).map(|(), actor, _| actor.places.clone()))
    }
}

impl Handler<Lay> for Visits {
    type Result = MessageResult<Lay>;
    fn handle(&mut self, _: Lay, _: &mut Self::Context) -> Self::Result {
        MessageResult(Mine)
    }
}

impl Handler<LayLater> for Visits {
    type Result = ResponseActFuture<Self, Mine>;
    fn handle(&mut self, _: LayLater, _: &mut Self::Context) -> Self::Result {
        let wait = tokio::task::yield_now();
        Box::pin(wait.into_actor(self).map(|(), _, _| Mine))
    }
}

impl Handler<Bury> for Visits {
    type Result = usize;
    fn handle(&mut self, _: Bury, _: &mut Self::Context) -> usize {
        self.places.len()
    }
}

impl Handler<Set> for Visits {
    type Result = MessageResult<Set>;
    fn handle(&mut self, _: Set, _: &mut Self::Context) -> Self::Result {
        MessageResult(Trap(0))
    }
}

crate::hot_swap!(
    Visits,
    kind = "visits",
    messages = [Visit, Make, MakeLater, Lay, LayLater, Bury, Set],
);

async fn hub(name: &str, network: &MemoryNetwork, seed: Option<&Hub>, verify: bool) -> Hub {
    let settings = Settings { verify_encoding: verify, move_retries: 0, ..Settings::local() };
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .child::<Visits>()
        .settings(settings)
        .workers(1)
        .memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(seed.addresses()[0].as_str());
    }
    builder.start().await.expect("the hub starts")
}

async fn started(hub: &Hub) -> ChildRef<Visits> {
    let spec = ChildSpec::new::<Visits>("v", ()).expect("valid");
    hub.start_child(spec).await.expect("it starts");
    hub.child("v")
}

fn visit(place: Place) -> Visit {
    Visit { place, note: None }
}

#[actix::test]
async fn a_message_that_would_be_another_elsewhere_is_refused_on_one_node() {
    let a = hub("a", &MemoryNetwork::new(), None, true).await;
    let visits = started(&a).await;
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(1));
    let refused = |error: HubSendError, path: &str| match error {
        HubSendError::NotHandled {
            reason: NotHandled::NotReadBack { name, kind, reason }, ..
        } => {
            assert_eq!((name.as_str(), kind.as_str()), ("Visit", "visits"));
            assert!(reason.starts_with(path), "{reason}");
        }
        other => panic!("{other}"),
    };
    refused(visits.send(visit(HOST)).await.expect_err("it cannot be read"), "place");
    refused(visits.do_send(visit(HOST)).expect_err("it cannot be read"), "place");
    let noted = Visit { place: Place::Nowhere, note: Some(None) };
    let error = visits.send(noted).await.map_err(reason).expect_err("the note would be lost");
    assert!(
        matches!(&error, NotHandled::Encode(reason) if reason.starts_with("note: ")),
        "{error}"
    );
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(2), "no other was handled");
    a.stop().await;
}

#[actix::test]
async fn a_reply_that_would_be_another_elsewhere_is_lost_on_one_node() {
    let a = hub("a", &MemoryNetwork::new(), None, true).await;
    let visits = started(&a).await;
    for sent in [visits.send(Make).await, visits.send(MakeLater).await] {
        let Err(HubSendError::MaybeHandled { reason: MaybeHandled::ReplyLost(reason), .. }) = sent
        else {
            panic!("it would be lost");
        };
        assert!(reason.contains("does not come back as it was: [0]"), "{reason}");
    }
    visits.do_send(Make).expect("nobody waits for its reply");
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(3), "the actor goes on");
    a.stop().await;
}

#[actix::test]
async fn what_stays_on_its_node_is_not_read_back_unless_that_is_set() {
    let a = hub("a", &MemoryNetwork::new(), None, false).await;
    let visits = started(&a).await;
    assert_eq!(visits.send(visit(HOST)).await, Ok(1));
    assert_eq!(visits.send(Make).await.map(|places| places.len()), Ok(2));
    a.stop().await;
}

/// Two nodes that verify nothing, the one with the child first.
async fn two_with_a_child() -> [Hub; 2] {
    let network = MemoryNetwork::new();
    let a = hub("a", &network, None, false).await;
    let b = hub("b", &network, Some(&a), false).await;
    members(&a, 2).await;
    members(&b, 2).await;
    started(&a).await;
    let at = a.lookup("v").await.expect("the hub runs").expect("it is known").node;
    if at == a.node_id() { [a, b] } else { [b, a] }
}

#[actix::test]
async fn a_reply_whose_encoding_panics_is_lost_and_its_child_moves_on() {
    let [home, away] = two_with_a_child().await;
    let visits = away.child::<Visits>("v");
    visits.send(visit(Place::Nowhere)).await.expect("it is handled");
    for sent in [visits.send(LayLater).await, visits.send(Lay).await] {
        let Err(HubSendError::MaybeHandled { reason: MaybeHandled::ReplyLost(reason), .. }) = sent
        else {
            panic!("it cannot be encoded");
        };
        assert!(reason.contains("it panicked: the encoder panics on purpose"), "{reason}");
    }
    let sent = visits.send(Set(None)).await;
    let Err(HubSendError::MaybeHandled { reason: MaybeHandled::ReplyLost(reason), .. }) = sent
    else {
        panic!("it cannot be decoded");
    };
    assert!(reason.contains("the decoder panics on purpose"), "{reason}");
    home.migrate("v", away.node_id()).await.expect("no handler is under way");
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(2), "no actor has ended");
    home.stop().await;
    away.stop().await;
}

#[actix::test]
async fn a_message_whose_encoding_panics_ends_there_and_what_follows_goes_on() {
    let [home, away] = two_with_a_child().await;
    let visits = home.child::<Visits>("v");
    let id = ChildId::new("v").expect("a valid id");
    let cell = home.shared().doors.known(&id).expect("it is here");
    // What comes now waits, and goes along with the child.
    cell.with(|door| door.close());
    let buried = visits.send(Bury(Mine));
    let trapped = visits.send(Set(Some(Trap(0))));
    let visited = visits.send(visit(Place::Nowhere));
    home.migrate("v", away.node_id()).await.expect("it moves");
    let buried = buried.await.map_err(reason);
    assert!(
        matches!(&buried, Err(NotHandled::Encode(why)) if why.contains("encoder panics on purpose")),
        "{buried:?}"
    );
    let trapped = trapped.await.map(drop).map_err(reason);
    assert!(
        matches!(&trapped, Err(NotHandled::Decode(why)) if why.contains("decoder panics on purpose")),
        "{trapped:?}"
    );
    assert_eq!(visited.await, Ok(1));
    home.stop().await;
    away.stop().await;
}

#[actix::test]
async fn a_state_that_would_be_another_elsewhere_does_not_move() {
    let network = MemoryNetwork::new();
    let a = hub("a", &network, None, true).await;
    let b = hub("b", &network, Some(&a), true).await;
    members(&a, 2).await;
    members(&b, 2).await;
    let visits = started(&a).await;
    let at = a.lookup("v").await.expect("the hub runs").expect("it is known").node;
    let (home, away) = if at == a.node_id() { (&a, &b) } else { (&b, &a) };
    home.child::<Visits>("v").do_send(Make).expect("there is room");
    let error = home.migrate("v", away.node_id()).await.expect_err("it cannot be read there");
    let error = error.to_string();
    assert!(error.contains("the state does not come back as it was: places[0]"), "{error}");
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(2), "it goes on where it was");
    let listed = home.inspect().await.expect("it runs").immovable;
    assert_eq!(listed.len(), 1);
    assert!(error.contains(&listed[0].1), "{listed:?}");
    assert_eq!(a.lookup("v").await.expect("the hub runs").expect("it is known").node, at);
    a.stop().await;
    b.stop().await;
}

/// Its first state cannot be read.
#[derive(Serialize, Deserialize)]
struct Stuck {
    places: Vec<Place>,
}

impl Default for Stuck {
    fn default() -> Self {
        Self { places: vec![Place::Nowhere, HOST] }
    }
}

impl Actor for Stuck {
    type Context = Context<Self>;
}

impl Handler<Visit> for Stuck {
    type Result = usize;
    fn handle(&mut self, Visit { place, .. }: Visit, _: &mut Self::Context) -> usize {
        self.places = vec![place];
        self.places.len()
    }
}

crate::hot_swap!(Stuck, kind = "stuck", messages = [Visit]);

/// The same; its kind does not say that `prepare_handover_state` only reads.
#[derive(Default)]
struct Untouched(Stuck);

impl Actor for Untouched {
    type Context = Context<Self>;
}

impl Handler<Visit> for Untouched {
    type Result = usize;
    fn handle(&mut self, _: Visit, _: &mut Self::Context) -> usize {
        self.0.places.len()
    }
}

impl HotSwap for Untouched {
    const KIND: &'static str = "untouched";
    type Args = ();
    type State = Vec<Place>;
    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }
    fn prepare_handover_state(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.0.places)
    }
    fn alter_handover_state(&mut self, places: Vec<Place>) {
        self.0.places = places;
    }
}

crate::takes!(Untouched: [Visit]);

async fn stuck_hub(verify: bool) -> (Hub, EventStream) {
    let hub = HubSystem::builder("test")
        .child::<Stuck>()
        .child::<Untouched>()
        .settings(Settings { verify_encoding: verify, ..Settings::local() })
        .memory(&MemoryNetwork::new())
        .start()
        .await
        .expect("the hub starts");
    let events = hub.events();
    for spec in [
        ChildSpec::new::<Stuck>("s", ()).expect("valid"),
        ChildSpec::new::<Untouched>("u", ()).expect("valid"),
    ] {
        hub.start_child(spec).await.expect("it starts");
    }
    // What is tried is tried before the first message.
    assert_eq!(hub.child::<Untouched>("u").send(visit(Place::Nowhere)).await, Ok(2));
    assert_eq!(hub.child::<Stuck>("s").send(visit(Place::Nowhere)).await, Ok(1));
    (hub, events)
}

#[actix::test]
async fn a_child_whose_first_state_cannot_go_is_listed_before_anybody_leaves() {
    let (hub, mut events) = stuck_hub(true).await;
    until("it is known", || async {
        hub.inspect().await.is_ok_and(|seen| !seen.immovable.is_empty())
    })
    .await;
    let listed = hub.inspect().await.expect("it runs").immovable;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].0.as_str(), "s");
    assert!(listed[0].1.contains("does not come back as it was: places[1]"), "{listed:?}");
    hub.stop().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let HubEvent::ChildCannotMove { child, reason } = event {
            told.push((child, reason));
        }
    }
    assert_eq!(told, listed, "it is told once");
}

#[actix::test]
async fn no_state_is_tried_unless_that_is_set() {
    let (hub, _) = stuck_hub(false).await;
    let visits = hub.child::<Stuck>("s");
    assert_eq!(visits.send(visit(Place::Nowhere)).await, Ok(1), "reports go in order");
    assert_eq!(hub.inspect().await.expect("it runs").immovable, []);
    hub.stop().await;
}

/// Whether a hoard cannot be encoded now.
static LOCKED: AtomicBool = AtomicBool::new(false);

#[derive(Default, Serialize, Deserialize)]
struct Hoard {
    #[serde(serialize_with = "count")]
    coins: u64,
}

fn count<S: serde::Serializer>(coins: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if LOCKED.load(Ordering::Acquire) {
        return Err(serde::ser::Error::custom("locked on purpose"));
    }
    serializer.serialize_u64(*coins)
}

impl Actor for Hoard {
    type Context = Context<Self>;
}

impl Handler<Add> for Hoard {
    type Result = u64;
    fn handle(&mut self, Add(coins): Add, _: &mut Self::Context) -> u64 {
        self.coins += coins;
        self.coins
    }
}

crate::hot_swap!(
    Hoard,
    kind = "hoard",
    messages = [Add],
    merge = |mine, other| mine.coins += other.coins,
);

#[actix::test]
async fn an_owner_that_gives_way_and_cannot_be_encoded_says_so_and_is_tried_again() {
    let network = MemoryNetwork::new();
    let mut hubs: Vec<Hub> = Vec::new();
    for name in ["a", "b"] {
        let mut builder = HubSystem::builder("test")
            .node_name(name)
            .child::<Hoard>()
            .settings(Settings::local())
            .workers(1)
            .memory(&network);
        if let Some(seed) = hubs.first() {
            builder = builder.seed(&seed.addresses()[0]);
        }
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    for hub in &hubs {
        members(hub, 2).await;
    }
    let spec = ChildSpec::new::<Hoard>("h", ()).expect("a valid spec");
    hubs[0].start_child(spec).await.expect("it starts");
    hubs[0].child::<Hoard>("h").send(Add(1)).await.expect("it answers");
    network.cut(hubs[0].node_id(), hubs[1].node_id());
    let patience = Duration::from_secs(20);
    for (hub, coins) in hubs.iter().zip([10, 100]) {
        members(hub, 1).await;
        let sent = hub.child::<Hoard>("h").send(Add(coins)).timeout(patience).await;
        sent.expect("both sides go on");
    }
    LOCKED.store(true, Ordering::Release);
    network.heal_all();
    let immovable = || async {
        let mut listed = Vec::new();
        for hub in &hubs {
            listed.extend(hub.inspect().await.expect("it runs").immovable);
        }
        listed
    };
    until("it is told", || async { !immovable().await.is_empty() }).await;
    let listed = immovable().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].1.contains("locked on purpose"), "{listed:?}");
    LOCKED.store(false, Ordering::Release);
    until("its state is taken", || async {
        hubs[0].child::<Hoard>("h").send(Add(0)).await == Ok(111)
    })
    .await;
    assert_eq!(immovable().await, []);
    for hub in hubs {
        hub.stop().await;
    }
}
