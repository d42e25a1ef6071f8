//! A child that is told of the end of another, while it must not and while it cannot take anything in.

use std::collections::BTreeMap;

use super::*;
use crate::hub::watches::terminated::{Terminated, TerminatedReason};

/// Watches a counter that is told to it.
#[derive(Default, Serialize, Deserialize)]
struct Guard {
    ended: BTreeMap<String, u64>,
    #[serde(skip)]
    child: Option<ChildContext<Guard>>,
    /// Watched again as often as it has ended, up to [`ENOUGH`] times.
    #[serde(skip)]
    again: Option<ChildRef<Counter>>,
    #[serde(skip)]
    times: usize,
}

const ENOUGH: usize = 1_000;

impl Guard {
    fn make((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { child: Some(child.clone()), ..Self::default() })
    }
}

impl Actor for Guard {
    type Context = Context<Self>;
}

impl Handler<Terminated> for Guard {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, ended: Terminated, _: &mut Context<Self>) -> Self::Result {
        assert_eq!(ended.reason, TerminatedReason::Stopped);
        self.times += 1;
        if let (Some(child), Some(again)) = (&self.child, &self.again)
            && self.times < ENOUGH
        {
            child.watch(again);
        }
        // One that goes on for a while.
        let turn = tokio::task::yield_now();
        Box::pin(turn.into_actor(self).map(move |(), guard, _| {
            *guard.ended.entry(ended.child.to_string()).or_default() += 1;
        }))
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Watch(ChildRef<Counter>);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Ended(String);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct WatchAgain(ChildRef<Counter>);
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "usize")]
struct Times;
names!(Watch Ended WatchAgain Times);

impl Handler<Watch> for Guard {
    type Result = ();

    fn handle(&mut self, Watch(other): Watch, _: &mut Context<Self>) {
        if let Some(child) = &self.child {
            child.watch(&other);
        }
    }
}

impl Handler<Ended> for Guard {
    type Result = u64;

    fn handle(&mut self, Ended(child): Ended, _: &mut Context<Self>) -> u64 {
        self.ended.get(&child).copied().unwrap_or(0)
    }
}

impl Handler<WatchAgain> for Guard {
    type Result = ();

    fn handle(&mut self, WatchAgain(other): WatchAgain, _: &mut Context<Self>) {
        if let Some(child) = &self.child {
            child.watch(&other);
        }
        self.again = Some(other);
    }
}

impl Handler<Times> for Guard {
    type Result = usize;

    fn handle(&mut self, _: Times, _: &mut Context<Self>) -> usize {
        self.times
    }
}

crate::hot_swap!(
    Guard,
    kind = "guard",
    messages = [Watch, Ended, WatchAgain, Times],
    make = Guard::make,
    keep = [child],
);

async fn guarded() -> (Hub, ChildRef<Guard>) {
    let builder = HubSystem::builder("watches").child::<Counter>().child::<Guard>();
    let hub = builder.start().await.expect("it starts");
    let guard = hub.child_or_start::<Guard>("guard", ()).await.expect("it starts");
    (hub, guard)
}

async fn is_told_once(guard: &ChildRef<Guard>, child: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while guard.send(Ended(child.to_owned())).await.expect("it answers") == 0 {
        assert!(Instant::now() < deadline, "it is told");
        tokio::task::yield_now().await;
    }
    assert_eq!(guard.send(Ended(child.to_owned())).await, Ok(1));
}

#[actix::test]
async fn the_end_of_a_child_waits_until_handlers_may_start_and_wakes_the_watcher_then() {
    let (hub, guard) = guarded().await;
    let other = hub.child_or_start::<Counter>("c", ()).await.expect("it starts");
    guard.send(Watch(other.clone())).await.expect("it answers");
    let mut watch = other.watch();
    watch.next().await;
    let doors = hub.shared().doors.clone();
    doors.set_valid(false);
    hub.stop_child("c").await.expect("it is there");
    watch.next().await.expect("it was stopped");
    let started = || doors.known(guard.id()).expect("it is there").tally().1;
    let before = started();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for worker in hub.shared().workers() {
        // The actor has had its turn when it has answered this.
        let child = guard.id().clone();
        worker.send(crate::hub::worker::Peek { child }).await.expect("it runs");
    }
    assert_eq!(started(), before, "another node may own it by now");
    doors.set_valid(true);
    // It is not sent anything before that.
    let deadline = Instant::now() + Duration::from_secs(30);
    while started() == before {
        assert!(Instant::now() < deadline, "it is told");
        tokio::task::yield_now().await;
    }
    is_told_once(&guard, "c").await;
    hub.stop().await;
}

const FROZEN: Epoch = Epoch { term: 9, attempt: 0 };

async fn order(hub: &Hub, child: &ChildId, order: ChildOrder) {
    let count = hub.shared().workers().len();
    let worker = hub.shared().workers()[effects::worker_of(child, count)].clone();
    worker.send(Orders(vec![Order { order, parcel: None }])).await.expect("it runs");
}

async fn freeze(hub: &Hub, child: &ChildId) {
    let freeze = ChildOrder::Freeze {
        child: child.clone(),
        epoch: FROZEN,
        retention: Duration::from_secs(30),
        forced: false,
        with_state: true,
    };
    order(hub, child, freeze).await;
}

async fn thaw(hub: &Hub, child: &ChildId) {
    order(hub, child, ChildOrder::Thaw { child: child.clone(), epoch: FROZEN }).await;
}

#[actix::test]
async fn a_watcher_that_is_frozen_is_told_when_it_goes_on() {
    let (hub, guard) = guarded().await;
    let other = hub.child_or_start::<Counter>("c", ()).await.expect("it starts");
    guard.send(Watch(other.clone())).await.expect("it answers");
    let mut watch = other.watch();
    watch.next().await;
    freeze(&hub, guard.id()).await;
    hub.stop_child("c").await.expect("it is there");
    watch.next().await.expect("it was stopped");
    thaw(&hub, guard.id()).await;
    is_told_once(&guard, "c").await;
    hub.stop().await;
}

#[actix::test]
async fn a_watch_that_is_made_again_at_each_end_leaves_the_queue_its_turn() {
    let (hub, guard) = guarded().await;
    // No id: its end is known at once, each time.
    let nobody = hub.child::<Counter>("");
    // Both wait in its queue when it begins.
    freeze(&hub, guard.id()).await;
    let (watched, times) = (guard.send(WatchAgain(nobody)), guard.send(Times));
    thaw(&hub, guard.id()).await;
    assert_eq!(watched.await, Ok(()));
    assert_eq!(times.await, Ok(1), "one end came before the message");
    hub.stop().await;
}
