//! A machine that is suspended and goes on.

use std::sync::{Mutex, mpsc};

use futures_util::FutureExt;

use super::*;

/// Suspends the machine of a hub, whose engine's thread is the last that runs again: when this is dropped.
async fn suspended(hub: &Hub) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (tell, held) = tokio::sync::oneshot::channel();
    hub.0.arbiters.lock().expect("nobody panics with it")[0].spawn_fn(move || {
        let _ = tell.send(());
        let _ = released.recv();
    });
    held.await.expect("it is held");
    let window = hub.settings().suspicion_window();
    hub.shared().doors.uptime.suspend(2 * window.as_millis() as u64);
    release
}

/// Actors have had some turns, but for those on the engine's thread.
async fn turns(hub: &Hub) {
    for _ in 0..10 {
        let turns: Vec<_> = hub.0.arbiters.lock().expect("nobody panics with it")[1..]
            .iter()
            .map(|worker| {
                let (tell, turn) = tokio::sync::oneshot::channel();
                worker.spawn_fn(move || {
                    let _ = tell.send(());
                });
                turn
            })
            .collect();
        for turn in turns {
            turn.await.expect("it runs");
        }
    }
}

#[actix::test]
async fn no_handler_starts_after_a_suspend_before_the_engine_has_looked_at_the_time() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    assert_eq!(child.send(Add(1)).await, Ok(1));
    let release = suspended(&hub).await;
    let mut sent = child.send(Add(2));
    assert!((&mut sent).now_or_never().is_none());
    turns(&hub).await;
    assert!((&mut sent).now_or_never().is_none(), "another node may own the child by now");
    drop(release);
    assert_eq!(sent.await, Ok(3), "nobody does");
    hub.stop().await;
}

/// Answers when it is let, on its thread or later.
#[derive(Default, Serialize, Deserialize)]
struct Held;

impl Actor for Held {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct AtOnce;
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Later;

names!(AtOnce Later);

/// What the handlers of this process that have started wait for.
static GATES: Mutex<Vec<mpsc::Receiver<()>>> = Mutex::new(Vec::new());
/// Tells that a handler has started.
static STARTED: tokio::sync::Notify = tokio::sync::Notify::const_new();
/// Tells that one ends.
static ENDS: tokio::sync::Notify = tokio::sync::Notify::const_new();

fn gate() -> mpsc::Receiver<()> {
    let gate = GATES.lock().expect("nobody panics with it").pop();
    STARTED.notify_one();
    gate.expect("each call comes with one")
}

impl Handler<AtOnce> for Held {
    type Result = u64;
    fn handle(&mut self, _: AtOnce, _: &mut Self::Context) -> u64 {
        let _ = gate().recv();
        ENDS.notify_one();
        1
    }
}

impl Handler<Later> for Held {
    type Result = ResponseFuture<u64>;
    fn handle(&mut self, _: Later, _: &mut Self::Context) -> Self::Result {
        let gate = gate();
        Box::pin(async move {
            let waits = tokio::task::spawn_blocking(move || gate.recv());
            let _ = waits.await;
            ENDS.notify_one();
            2
        })
    }
}

crate::hot_swap!(Held, kind = "held", messages = [AtOnce, Later]);

#[actix::test]
async fn no_reply_leaves_after_a_suspend_before_the_engine_has_looked_at_the_time() {
    for (is_far, is_late) in [(false, false), (false, true), (true, false), (true, true)] {
        let network = MemoryNetwork::new();
        let build = |name: &str| {
            let builder = HubSystem::builder("test").node_name(name).child::<Held>();
            builder.settings(Settings::local()).workers(2).memory(&network)
        };
        let here = build("a").start().await.expect("the hub starts");
        let spec = ChildSpec::new::<Held>("c", ()).expect("a valid spec");
        here.start_child(spec).await.expect("it starts");
        let there = build("b").seed(&here.addresses()[0]).start().await.expect("the hub starts");
        members(&there, 2).await;
        there.migrate("c", here.node_id()).await.expect("it is bound there");
        let child = if is_far { there.child::<Held>("c") } else { here.child("c") };
        let (let_go, gate) = mpsc::channel();
        GATES.lock().expect("nobody panics with it").push(gate);
        let mut sent = match is_late {
            false => child.send(AtOnce).into_future().boxed_local(),
            true => child.send(Later).into_future().boxed_local(),
        };
        assert!((&mut sent).now_or_never().is_none());
        STARTED.notified().await;
        let release = suspended(&here).await;
        drop(let_go);
        ENDS.notified().await;
        turns(&here).await;
        let id = ChildId::new("c").expect("an id");
        let door = here.shared().doors.known(&id).expect("it is here");
        let unresolved = door.with(|door| door.unresolved());
        assert_eq!(unresolved, 1, "another node may own the child by now: {is_far} {is_late}");
        let early = (&mut sent).now_or_never();
        assert!(early.is_none(), "{is_far} {is_late}: {early:?}");
        drop((release, door));
        assert_eq!(sent.await, Ok(1 + u64::from(is_late)), "nobody does");
        there.stop().await;
        here.stop().await;
    }
}
