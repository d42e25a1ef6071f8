//! Messages that no other node could be given.

use super::*;

#[derive(Default, Serialize, Deserialize)]
struct Eater {
    eaten: u64,
}

impl Actor for Eater {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Feed(#[serde(with = "serde_bytes")] Vec<u8>);

/// A meal that CBOR cannot carry.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Poison(#[serde(serialize_with = "refuse")] u64);

fn refuse<S: serde::Serializer>(_: &u64, _: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("refused on purpose"))
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Chew(u64);

names!(Feed Poison Chew);

impl Handler<Feed> for Eater {
    type Result = u64;
    fn handle(&mut self, Feed(meal): Feed, _: &mut Self::Context) -> u64 {
        self.eaten += meal.len() as u64;
        self.eaten
    }
}

impl Handler<Poison> for Eater {
    type Result = u64;
    fn handle(&mut self, _: Poison, _: &mut Self::Context) -> u64 {
        self.eaten
    }
}

impl Handler<Chew> for Eater {
    type Result = AtomicResponse<Self, ()>;
    /// Nothing else is begun meanwhile.
    fn handle(&mut self, Chew(ms): Chew, _: &mut Self::Context) -> Self::Result {
        let nap = tokio::time::sleep(Duration::from_millis(ms));
        AtomicResponse::new(Box::pin(nap.into_actor(self).map(|(), _, _| ())))
    }
}

crate::hot_swap!(Eater, kind = "eater", messages = [Feed, Poison, Chew]);

async fn eaters(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let settings = Settings { message_limit: 1_024, verify_encoding: false, ..Settings::local() };
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .memory(network)
        .settings(settings)
        .child::<Eater>();
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

async fn next(events: &mut EventStream) -> HubEvent {
    let next = tokio::time::timeout(Duration::from_secs(20), events.next());
    next.await.expect("something happens within 20 s").expect("the hub runs")
}

#[actix::test]
async fn what_a_move_cannot_take_along_ends_with_its_reason_and_what_follows_goes_on() {
    let network = MemoryNetwork::new();
    let first = eaters("a", &network, None).await;
    let second = eaters("b", &network, Some(&first)).await;
    for hub in [&first, &second] {
        members(hub, 2).await;
    }
    let spec = ChildSpec::new::<Eater>("c", ()).expect("a valid spec");
    let at = first.start_child(spec).await.expect("it starts").node;
    let (from, to) = match at == first.node_id() {
        true => (&first, &second),
        false => (&second, &first),
    };
    let mut events = from.events();
    let child = from.child::<Eater>("c");
    // Its move waits for this one's end; what comes meanwhile goes along.
    let chewing = child.send(Chew(1_000));
    let moved = tokio::task::spawn_local(from.migrate("c", to.node_id()).into_future());
    while !matches!(next(&mut events).await, HubEvent::HandoverStarted { .. }) {}
    child.do_send(Feed(vec![1; 2_000])).expect("it is taken in");
    child.do_send(Poison(1)).expect("it is taken in");
    let large = child.send(Feed(vec![1; 1_500]));
    let poison = child.send(Poison(2));
    let small = child.send(Feed(vec![1; 10]));
    assert_eq!(chewing.await, Ok(()));
    moved.await.expect("it does not panic").expect("it moves");
    let too_large = NotHandled::TooLarge { size: 1_503, limit: 1_024 };
    assert_eq!(large.await.map_err(reason), Err(too_large));
    let poison = poison.await.map_err(reason);
    assert!(
        matches!(&poison, Err(NotHandled::Encode(why)) if why.contains("on purpose")),
        "{poison:?}"
    );
    assert_eq!(small.await, Ok(10));
    let mut dropped = Vec::new();
    while dropped.len() < 2 {
        if let HubEvent::MessageDropped { child, message, reason } = next(&mut events).await {
            dropped.push((child.to_string(), message, reason));
        }
    }
    assert_eq!(dropped[0].1, "Feed");
    assert!(dropped[0].2.contains("2003"), "{dropped:?}");
    assert_eq!(dropped[1].1, "Poison");
    assert!(dropped[1].2.contains("on purpose"), "{dropped:?}");
    first.stop().await;
    second.stop().await;
}
