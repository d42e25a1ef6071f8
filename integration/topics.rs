//! What is published gets to all who listen, on whichever node, at most once and in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use actix_hub::{PublishError, SubscribeError, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::sync::{
    mpsc::{self, UnboundedReceiver},
    watch,
};

use crate::support::{Net, event, eventually, run, settings, stop, together};

/// A number of one publisher: each counts up.
#[derive(Clone, Debug, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Tick {
    by: u64,
    number: u64,
    #[serde(with = "serde_bytes")]
    ballast: Vec<u8>,
}

impl HubMessage for Tick {
    const NAME: &'static str = "tick";
}

fn tick(by: u64, number: u64) -> Tick {
    Tick { by, number, ballast: Vec::new() }
}

/// Nobody takes this one.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Other;

impl HubMessage for Other {
    const NAME: &'static str = "other";
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "BTreeMap<u64, Vec<u64>>")]
struct Heard;

impl HubMessage for Heard {
    const NAME: &'static str = "heard";
}

/// Has a child listen to one more topic, or to one less.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Tune {
    topic: String,
    on: bool,
}

impl HubMessage for Tune {
    const NAME: &'static str = "tune";
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fail;

impl HubMessage for Fail {
    const NAME: &'static str = "fail";
}

/// Remembers what it has heard, by publisher.
#[derive(Serialize, Deserialize)]
struct Ear {
    heard: BTreeMap<u64, Vec<u64>>,
    #[serde(skip)]
    child: Option<ChildContext<Ear>>,
}

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Ear {
    /// Listens to the topics that its arguments name.
    fn make(topics: Vec<String>, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        topics.iter().try_for_each(|topic| child.subscribe(topic))?;
        Ok(Self { heard: BTreeMap::new(), child: Some(child.clone()) })
    }
}

impl Handler<Tick> for Ear {
    type Result = ();

    fn handle(&mut self, tick: Tick, _: &mut Context<Self>) {
        self.heard.entry(tick.by).or_default().push(tick.number);
    }
}

impl Handler<Heard> for Ear {
    type Result = MessageResult<Heard>;

    fn handle(&mut self, _: Heard, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.heard.clone())
    }
}

impl Handler<Tune> for Ear {
    type Result = ();

    fn handle(&mut self, Tune { topic, on }: Tune, _: &mut Context<Self>) {
        let child = self.child.as_ref().expect("it was made with it");
        match on {
            true => child.subscribe(topic).expect("there is room"),
            false => child.unsubscribe(topic),
        }
    }
}

impl Handler<Fail> for Ear {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        panic!("it fails on purpose");
    }
}

hot_swap!(
    Ear,
    kind = "ear",
    messages = [Tick, Heard, Tune, Fail],
    args = Vec<String>,
    make = Ear::make,
    keep = [child],
);

/// An actor that is no child; its handler of each tick ends when it may.
struct Session {
    heard: mpsc::UnboundedSender<Tick>,
    may_go_on: watch::Receiver<bool>,
}

impl Actor for Session {
    type Context = Context<Self>;
}

impl Handler<Tick> for Session {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, tick: Tick, _: &mut Context<Self>) -> Self::Result {
        let (heard, mut may_go_on) = (self.heard.clone(), self.may_go_on.clone());
        Box::pin(async move {
            may_go_on.wait_for(|may| *may).await.expect("the test goes on");
            heard.send(tick).ok();
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Quit;

impl Handler<Quit> for Session {
    type Result = ();

    fn handle(&mut self, _: Quit, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// A session that is held up until the sender says so.
fn session() -> (Addr<Session>, watch::Sender<bool>, mpsc::UnboundedReceiver<Tick>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let (go, may_go_on) = watch::channel(false);
    (Session { heard, may_go_on }.start(), go, hears)
}

async fn node(net: &Net, name: &str, seed: Option<&Hub>, topic_bytes: usize) -> Hub {
    let settings = Settings { topic_bytes, ..settings() };
    let builder = HubSystem::builder("test").node_name(name).workers(2).settings(settings);
    let builder = match net {
        Net::Memory(network) => builder.memory(network),
        Net::Tcp => builder.listen("127.0.0.1:0"),
    };
    let builder = match seed {
        Some(seed) => builder.seed(&seed.addresses()[0]),
        None => builder,
    };
    builder.child::<Ear>().start().await.expect("the hub starts")
}

/// Room for all that a test publishes at once.
const ROOM: usize = 4 << 20;

async fn three(net: &Net, topic_bytes: usize) -> Vec<Hub> {
    let a = node(net, "a", None, topic_bytes).await;
    let b = node(net, "b", Some(&a), topic_bytes).await;
    let c = node(net, "c", Some(&a), topic_bytes).await;
    let hubs = vec![a, b, c];
    together(&hubs).await;
    hubs
}

/// A child on this node that listens by its spec.
async fn ear_on(hub: &Hub, id: &str, topic: &str) -> ChildRef<Ear> {
    let spec = ChildSpec::new::<Ear>(id, Vec::new()).expect("a valid spec");
    let spec = spec.subscribe(topic).expect("a valid topic");
    hub.start_child(spec).await.expect("it starts");
    hub.migrate(id, hub.node_id()).await.expect("it moves");
    hub.child(id)
}

/// Until a message of each node goes to so many others.
async fn known(hubs: &[Hub], topic: &str, others: usize) {
    eventually("all nodes know who listens", async || {
        let nodes = hubs.iter().map(|hub| hub.publish(topic, Other).expect("it is sent").nodes);
        nodes.into_iter().all(|nodes| nodes == others)
    })
    .await;
}

/// From this publisher on, what is published says only that all is known.
const FIRST: u64 = 100;

/// Until each ear and the session are given what each node publishes: the nodes know where the ears have moved to,
/// and the instances from which they moved have ended.
async fn all_hear(hubs: &[Hub], ears: &[ChildRef<Ear>], session: &mut UnboundedReceiver<Tick>) {
    let firsts = FIRST..FIRST + hubs.len() as u64;
    eventually("all hear and no earlier instance does", async || {
        let mut is_settled = true;
        for (n, (by, hub)) in firsts.clone().zip(hubs).enumerate() {
            let here = hub.publish("news", tick(by, 0)).expect("it is sent").here;
            is_settled &= here == 1 + usize::from(n == 1);
        }
        for ear in ears {
            let heard = heard(ear).await;
            is_settled &= firsts.clone().all(|by| heard.contains_key(&by));
        }
        is_settled
    })
    .await;
    let mut open: BTreeSet<u64> = firsts.collect();
    while !open.is_empty() {
        open.remove(&session.recv().await.expect("it hears").by);
    }
}

async fn heard(ear: &ChildRef<Ear>) -> BTreeMap<u64, Vec<u64>> {
    ear.send(Heard).timeout(Duration::from_secs(20)).await.expect("it answers")
}

#[test]
fn each_subscriber_on_each_node_is_given_everything_once_and_in_order() {
    run(async {
        for net in [Net::Memory(MemoryNetwork::new()), Net::Tcp] {
            let hubs = three(&net, ROOM).await;
            let mut ears = Vec::new();
            for (n, hub) in hubs.iter().enumerate() {
                ears.push(ear_on(hub, &format!("ear-{n}"), "news").await);
            }
            let (session, go, mut hears) = session();
            go.send_replace(true);
            let subscription =
                hubs[1].subscribe("news", session.recipient::<Tick>()).expect("it listens");
            assert_eq!(subscription.topic().as_str(), "news");
            known(&hubs, "news", 2).await;
            all_hear(&hubs, &ears, &mut hears).await;
            for number in 0..200 {
                for (by, hub) in hubs.iter().enumerate() {
                    let published = hub.publish("news", tick(by as u64, number));
                    let published = published.expect("it is sent");
                    assert_eq!((published.nodes, published.here), (2, 1 + usize::from(by == 1)));
                }
            }
            let all: BTreeMap<u64, Vec<u64>> = (0..3).map(|by| (by, (0..200).collect())).collect();
            for ear in &ears {
                let heard = async || {
                    let mut heard = heard(ear).await;
                    heard.retain(|by, _| *by < FIRST);
                    heard
                };
                eventually("all was heard", async || heard().await == all).await;
            }
            let mut by_session = BTreeMap::<u64, Vec<u64>>::new();
            while by_session.values().map(Vec::len).sum::<usize>() < 600 {
                let tick = hears.recv().await.expect("it hears");
                if tick.by < FIRST {
                    by_session.entry(tick.by).or_default().push(tick.number);
                }
            }
            assert_eq!(by_session, all);
            drop(subscription);
            assert_eq!(hubs[1].publish("news", tick(9, 0)).expect("it is sent").here, 1);
            stop(hubs).await;
        }
    });
}

#[test]
fn a_node_without_subscribers_of_a_topic_is_sent_nothing_of_it() {
    run(async {
        let hubs = three(&Net::Tcp, ROOM).await;
        // A child might have begun elsewhere, and what is sent there until its move is known.
        let (session, go, mut hears) = session();
        go.send_replace(true);
        let subscription =
            hubs[1].subscribe("news", session.recipient::<Tick>()).expect("it listens");
        known(&hubs[..1], "news", 1).await;
        known(&hubs[1..2], "news", 0).await;
        for number in 0..50 {
            assert_eq!(hubs[0].publish("news", tick(0, number)).expect("it is sent").nodes, 1);
            assert_eq!(hubs[0].publish("gossip", tick(7, number)).expect("it is sent").nodes, 0);
        }
        for number in 0..50 {
            assert_eq!(hears.recv().await.map(|Tick { number, .. }| number), Some(number));
        }
        assert_eq!(hubs[2].topic_counts().received, 0);
        assert_eq!(hubs[2].topic_counts().topics, 0);
        let counts = hubs[1].inspect().await.expect("it runs").topics;
        assert_eq!((counts.topics, counts.delivered), (1, 50));
        drop(subscription);
        // A child that has registered no such message.
        let _ear = ear_on(&hubs[1], "ear", "news").await;
        let before = hubs[1].topic_counts().dropped.not_taken;
        hubs[1].publish("news", Other).expect("it is sent");
        eventually("it was not taken", async || hubs[1].topic_counts().dropped.not_taken > before)
            .await;
        stop(hubs).await;
    });
}

/// Publishes numbers until it is told to stop.
struct Publisher {
    published: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Publisher {
    fn start(hub: &Hub, by: u64, topic: &'static str) -> Self {
        let (published, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stops, hub) = (published.clone(), stop.clone(), hub.clone());
        let task = actix_rt::spawn(async move {
            // So fast that there is always something on its way, and seldom more than there is room for.
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            while !stops.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                hub.publish(topic, tick(by, number)).expect("it is sent");
                pace.tick().await;
            }
        });
        Self { published, stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic");
    }
}

/// Until a listener has heard of each publisher what that publishes from now on.
async fn hears_on(ear: &ChildRef<Ear>, publishers: &[Publisher]) {
    let now = publishers.iter().map(|publisher| publisher.published.load(Ordering::Relaxed));
    let now: Vec<u64> = now.collect();
    eventually("it hears what is published now", async || {
        let heard = heard(ear).await;
        let last = |by: usize| heard.get(&(by as u64)).and_then(|numbers| numbers.last().copied());
        now.iter().enumerate().all(|(by, now)| last(by) >= Some(*now))
    })
    .await;
}

fn assert_in_order(heard: &BTreeMap<u64, Vec<u64>>) {
    for (by, numbers) in heard {
        let wrong = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None, "of publisher {by}");
    }
}

#[test]
fn a_child_that_moves_goes_on_listening_and_is_given_nothing_twice_or_out_of_order() {
    run(async {
        for net in [Net::Memory(MemoryNetwork::new()), Net::Tcp] {
            let hubs = three(&net, ROOM).await;
            let by_spec = ear_on(&hubs[0], "by-spec", "news").await;
            let spec = ChildSpec::new::<Ear>("by-code", vec!["news".to_owned()]);
            hubs[0].start_child(spec.expect("a valid spec")).await.expect("it starts");
            let by_code: ChildRef<Ear> = hubs[0].child("by-code");
            // Each node has another subscriber: it is sent everything, also before the children come.
            for (n, hub) in hubs.iter().enumerate() {
                ear_on(hub, &format!("stays-{n}"), "news").await;
            }
            let publishers: Vec<Publisher> =
                (0..3).map(|by| Publisher::start(&hubs[by], by as u64, "news")).collect();
            for to in [1, 2, 0, 2, 1, 0] {
                hubs[to].migrate("by-spec", hubs[to].node_id()).await.expect("it moves");
                hubs[to].migrate("by-code", hubs[to].node_id()).await.expect("it moves");
                hears_on(&by_spec, &publishers).await;
                hears_on(&by_code, &publishers).await;
            }
            for publisher in publishers {
                publisher.end().await;
            }
            for ear in [by_spec, by_code] {
                let heard = heard(&ear).await;
                assert_eq!(heard.len(), 3);
                assert_in_order(&heard);
            }
            stop(hubs).await;
        }
    });
}

#[test]
fn who_listened_on_a_node_that_died_listens_where_it_is_started_anew() {
    run(async {
        let hubs = three(&Net::Tcp, ROOM).await;
        ear_on(&hubs[1], "ear", "news").await;
        let ear: ChildRef<Ear> = hubs[0].child("ear");
        let (session, go, mut hears) = session();
        go.send_replace(true);
        hubs[2].subscribe("news", session.recipient::<Tick>()).expect("it listens").detach();
        known(&hubs[..1], "news", 2).await;
        let dead = hubs[1].node_id();
        let mut events = hubs[0].events();
        hubs[1].stop().await;
        event(&mut events, |event| match event {
            HubEvent::NodeDown { node } | HubEvent::NodeLeft { node } if node == dead => Some(()),
            _ => None,
        })
        .await;
        eventually("the child is heard from again", async || {
            ear.send(Heard).await.is_ok()
                && hubs[0]
                    .lookup("ear")
                    .await
                    .expect("the hub runs")
                    .is_some_and(|child| child.node != dead)
        })
        .await;
        let mut number = 0;
        eventually("both hear what is published", || {
            number += 1;
            let nodes = hubs[0].publish("news", tick(0, number)).expect("it is sent").nodes;
            let (ear, number) = (ear.clone(), number);
            async move { nodes == 1 && heard(&ear).await.values().flatten().any(|n| *n < number) }
        })
        .await;
        assert_in_order(&heard(&ear).await);
        let first = hears.recv().await.expect("it hears").number;
        assert_eq!(hears.recv().await.map(|tick| tick.number), Some(first + 1));
        stop(vec![hubs[0].clone(), hubs[2].clone()]).await;
    });
}

#[test]
fn a_child_listens_again_when_it_has_failed_and_to_what_its_code_says() {
    run(async {
        let hub = node(&Net::Memory(MemoryNetwork::new()), "a", None, ROOM).await;
        let ear = ear_on(&hub, "ear", "news").await;
        let tune = |topic: &str, on| ear.send(Tune { topic: topic.to_owned(), on });
        tune("more", true).await.expect("it answers");
        tune("more", true).await.expect("it answers");
        let here = |topic| hub.publish(topic, Other).expect("it is sent").here;
        assert_eq!((here("news"), here("more")), (1, 1));
        ear.send(Fail).await.expect_err("it panics");
        // What it said itself went with it; what its spec says did not.
        eventually("it has ended", async || here("more") == 0).await;
        eventually("it listens again", async || here("news") == 1).await;
        assert_eq!(here("more"), 0);
        tune("news", false).await.expect("it answers");
        assert_eq!(here("news"), 0);
        hub.stop_child("ear").await.expect("it stops");
        assert_eq!(hub.topic_counts().topics, 0);
        hub.stop().await;
    });
}

#[test]
fn a_slow_recipient_loses_its_own_messages_alone() {
    run(async {
        let hubs = three(&Net::Memory(MemoryNetwork::new()), 64 << 10).await;
        let (slow, go, mut hears_late) = session();
        let (quick, at_once, mut hears) = session();
        at_once.send_replace(true);
        let subscriptions = [&slow, &quick]
            .map(|session| hubs[1].subscribe("news", session.clone().recipient::<Tick>()));
        known(&hubs[..1], "news", 1).await;
        for number in 0..500 {
            let ballast = vec![0; 1_000];
            hubs[0].publish("news", Tick { by: 0, number, ballast }).expect("it is sent");
            assert_eq!(hears.recv().await.map(|tick| tick.number), Some(number));
        }
        let dropped = hubs[1].topic_counts().dropped;
        assert!(dropped.subscriber_full >= 400, "{dropped:?}");
        assert_eq!(dropped.total(), dropped.subscriber_full);
        go.send_replace(true);
        // What had room, in order and from the first on.
        for number in 0..500 - dropped.subscriber_full {
            assert_eq!(hears_late.recv().await.map(|tick| tick.number), Some(number));
        }
        drop(subscriptions);
        stop(hubs).await;
    });
}

#[test]
fn a_recipient_whose_actor_has_ended_is_forgotten() {
    run(async {
        let hub = node(&Net::Memory(MemoryNetwork::new()), "a", None, ROOM).await;
        let (session, go, mut hears) = session();
        go.send_replace(true);
        hub.subscribe("news", session.clone().recipient::<Tick>()).expect("it listens").detach();
        hub.publish("news", tick(0, 1)).expect("it is sent");
        assert_eq!(hears.recv().await, Some(tick(0, 1)));
        session.do_send(Quit);
        eventually("nobody listens", async || {
            hub.publish("news", tick(0, 2)).expect("it is sent");
            hub.topic_counts().topics == 0
        })
        .await;
        hub.stop().await;
    });
}

#[test]
fn what_cannot_be_published_or_subscribed_to_is_told() {
    run(async {
        let hub = node(&Net::Memory(MemoryNetwork::new()), "a", None, ROOM).await;
        let (session, ..) = session();
        let recipient = session.recipient::<Tick>();
        for topic in ["", "line\nbreak", &"x".repeat(256)] {
            let error = hub.publish(topic, tick(0, 0)).expect_err("it is no topic");
            assert!(matches!(error, PublishError::Id(_)), "{error}");
            let error = hub.subscribe(topic, recipient.clone()).expect_err("it is no topic");
            assert!(matches!(error, SubscribeError::Id(_)), "{error}");
        }
        hub.publish("x".repeat(255), tick(0, 0)).expect("that is one");
        let large = Tick { by: 0, number: 0, ballast: vec![0; 2 << 20] };
        match hub.publish("news", large) {
            Err(PublishError::TooLarge { size, limit }) => {
                assert!(size > limit && limit == 1 << 20);
            }
            other => panic!("{other:?}"),
        }
        let (asked, to) = (hub.clone(), recipient.clone());
        let elsewhere = std::thread::spawn(move || asked.subscribe("news", to).map(drop));
        let refused = elsewhere.join().expect("it does not panic");
        assert_eq!(refused, Err(SubscribeError::NoArbiter));
        assert_eq!(hub.topic_counts().topics, 0);
        hub.stop().await;
        assert_eq!(hub.publish("news", tick(0, 0)), Err(PublishError::HubStopped));
        let refused = hub.subscribe("news", recipient).map(drop);
        assert_eq!(refused, Err(SubscribeError::HubStopped));
    });
}
