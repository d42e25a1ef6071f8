//! States that are encoded and decoded on a blocking thread.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserializer, Serializer};

use super::*;

/// Where the encoding and the decoding of one child's state stop.
#[derive(Default)]
struct Lock {
    state: Mutex<Stops>,
    changed: Condvar,
}

#[derive(Default)]
struct Stops {
    encoding: bool,
    decoding: bool,
    panics: bool,
    /// How many wait to be encoded, and to be decoded.
    waiting: [usize; 2],
    /// Actors that were made and not dropped.
    alive: usize,
}

const ENCODING: usize = 0;
const DECODING: usize = 1;

impl Lock {
    fn of(child: &str) -> Arc<Self> {
        static LOCKS: Mutex<Option<HashMap<String, Arc<Lock>>>> = Mutex::new(None);
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get_or_insert_default().entry(child.to_owned()).or_default().clone()
    }

    fn state(&self) -> MutexGuard<'_, Stops> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Stops)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until nothing stops it; in vain after 20 s, so that a test ends that has failed.
    fn pass(&self, which: usize) {
        let mut state = self.state();
        assert!(!state.panics, "as it was told");
        state.waiting[which] += 1;
        let limit = Duration::from_secs(20);
        let waited = self.changed.wait_timeout_while(state, limit, |state| {
            if which == ENCODING { state.encoding } else { state.decoding }
        });
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting[which] -= 1;
    }

    async fn is_held(&self, which: usize) {
        until("somebody is stopped", || async { self.state().waiting[which] > 0 }).await;
    }
}

/// A state that is slow to encode and to decode.
struct Pages {
    child: String,
    text: String,
}

impl Serialize for Pages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Lock::of(&self.child).pass(ENCODING);
        (&self.child, &self.text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (child, text) = <(String, String)>::deserialize(deserializer)?;
        Lock::of(&child).pass(DECODING);
        Ok(Self { child, text })
    }
}

struct Archive {
    child: String,
    text: String,
}

impl Drop for Archive {
    fn drop(&mut self) {
        Lock::of(&self.child).set(|stops| stops.alive -= 1);
    }
}

impl Actor for Archive {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Append(String);

impl HubMessage for Append {
    const NAME: &'static str = "Append";
}

impl Handler<Append> for Archive {
    type Result = String;
    fn handle(&mut self, Append(text): Append, _: &mut Self::Context) -> String {
        self.text.push_str(&text);
        self.text.clone()
    }
}

impl HotSwap for Archive {
    const KIND: &'static str = "archive";
    type Args = ();
    type State = Pages;
    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Lock::of(child.id().as_str()).set(|stops| stops.alive += 1);
        Ok(Self { child: child.id().to_string(), text: String::new() })
    }
    fn prepare_handover_state(&mut self) -> Pages {
        // Moved out, so that an abort must bring it back.
        Pages { child: self.child.clone(), text: std::mem::take(&mut self.text) }
    }
    fn alter_handover_state(&mut self, state: Pages) {
        self.text = state.text;
    }
    fn resume_after_abort(&mut self, state: Pages) {
        self.text = state.text;
    }
}

crate::takes!(Archive: [Append]);

/// Two hubs with one arbiter for children each, an archive on the first and a counter on each.
struct Scene {
    a: Hub,
    b: Hub,
    archive: ChildRef<Archive>,
    child: &'static str,
    lock: Arc<Lock>,
}

impl Scene {
    async fn new(child: &'static str, timeout: Duration) -> Self {
        let network = MemoryNetwork::new();
        let start = |name: &'static str, seed: Option<String>| {
            let options = HotSwapOptions {
                child_migration_timeout: timeout,
                handover_data_wait: timeout,
                ..Default::default()
            };
            let settings = Settings {
                migration: Migration::HotSwap(options),
                move_retries: 0,
                // They would be decoded where they are encoded.
                verify_encoding: false,
                ..Settings::local()
            };
            let mut builder = HubSystem::builder("test")
                .node_name(name)
                .child::<Counter>()
                .child_kind::<Archive>(|kind| kind.encode_on_blocking_thread())
                .settings(settings)
                .workers(1)
                .memory(&network);
            if let Some(seed) = seed {
                builder = builder.seed(seed);
            }
            async move { builder.start().await.expect("the hub starts") }
        };
        let a = start("a", None).await;
        let b = start("b", Some(a.addresses()[0].clone())).await;
        members(&a, 2).await;
        members(&b, 2).await;
        for (id, at) in [("at a", &a), ("at b", &b)] {
            a.start_child(spec(id)).await.expect("it starts");
            bring(&a, id, at).await;
        }
        let archive = ChildSpec::new::<Archive>(child, ()).expect("valid");
        a.start_child(archive).await.expect("it starts");
        bring(&a, child, &a).await;
        let archive = a.child::<Archive>(child);
        assert_eq!(archive.send(Append("x".into())).await, Ok("x".into()));
        Self { a, b, archive, child, lock: Lock::of(child) }
    }

    fn go(&self) -> tokio::task::JoinHandle<Result<Epoch, MigrateError>> {
        let migrate = self.a.migrate(self.child, self.b.node_id());
        actix_rt::spawn(migrate.into_future())
    }

    async fn at(&self) -> NodeId {
        self.a.lookup(self.child).await.expect("the hub runs").expect("it is known").node
    }

    async fn end(self) {
        self.a.stop().await;
        self.b.stop().await;
    }
}

async fn bring(hub: &Hub, child: &str, to: &Hub) {
    if hub.lookup(child).await.expect("the hub runs").expect("it is known").node != to.node_id() {
        hub.migrate(child, to.node_id()).await.expect("it moves");
    }
}

const LONG: Duration = Duration::from_secs(30);

#[actix::test]
async fn the_others_of_an_arbiter_go_on_while_a_state_is_encoded_and_decoded() {
    let scene = Scene::new("goes on", LONG).await;
    scene.lock.set(|stops| (stops.encoding, stops.decoding) = (true, true));
    let moving = scene.go();
    scene.lock.is_held(ENCODING).await;
    assert_eq!(scene.a.child::<Counter>("at a").send(Add(1)).await, Ok(1), "it encodes");
    scene.lock.set(|stops| stops.encoding = false);
    scene.lock.is_held(DECODING).await;
    assert_eq!(scene.b.child::<Counter>("at b").send(Add(1)).await, Ok(1), "it decodes");
    let waits = scene.archive.send(Append("y".into()));
    scene.lock.set(|stops| stops.decoding = false);
    moving.await.expect("it is not cancelled").expect("it moves");
    assert_eq!(waits.await, Ok("xy".into()));
    assert_eq!(scene.at().await, scene.b.node_id());
    scene.end().await;
}

#[actix::test]
async fn a_move_that_is_given_up_while_its_state_is_encoded_changes_nothing() {
    let scene = Scene::new("given up", Duration::from_secs(2)).await;
    scene.lock.set(|stops| stops.encoding = true);
    let error = scene.go().await.expect("it is not cancelled").expect_err("it takes too long");
    assert!(error.to_string().contains("longer than its deadline"), "{error}");
    // The state is not back yet: what comes waits for it, and so does the next move.
    let waits = scene.archive.send(Append("y".into()));
    let mut events = scene.a.events();
    let again = scene.go();
    while let Some(event) = events.next().await {
        if matches!(event, HubEvent::HandoverStarted { .. }) {
            break;
        }
    }
    scene.lock.set(|stops| stops.encoding = false);
    again.await.expect("it is not cancelled").expect("now it moves");
    assert_eq!(waits.await, Ok("xy".into()), "its state came back");
    assert_eq!(scene.at().await, scene.b.node_id());
    scene.end().await;
}

#[actix::test]
async fn a_successor_that_is_given_up_while_its_state_is_decoded_leaves_nothing() {
    let scene = Scene::new("given up there", Duration::from_secs(2)).await;
    scene.lock.set(|stops| stops.decoding = true);
    let error = scene.go().await.expect("it is not cancelled").expect_err("it takes too long");
    assert!(error.to_string().contains("deadline"), "{error}");
    assert_eq!(scene.archive.send(Append("y".into())).await, Ok("xy".into()), "it goes on");
    let again = scene.go();
    until("both are decoded", || async { scene.lock.state().waiting[DECODING] == 2 }).await;
    scene.lock.set(|stops| stops.decoding = false);
    again.await.expect("it is not cancelled").expect("now it moves");
    assert_eq!(scene.archive.send(Append("z".into())).await, Ok("xyz".into()));
    until("one actor is left", || async { scene.lock.state().alive == 1 }).await;
    scene.end().await;
}

#[actix::test]
async fn a_panic_on_the_blocking_thread_is_a_move_that_failed() {
    let scene = Scene::new("panics there", LONG).await;
    scene.lock.set(|stops| stops.panics = true);
    let error = scene.go().await.expect("it is not cancelled").expect_err("it panics");
    assert!(error.to_string().contains("as it was told"), "{error}");
    scene.lock.set(|stops| stops.panics = false);
    assert_eq!(scene.archive.send(Append("y".into())).await, Ok("xy".into()));
    assert_eq!(scene.at().await, scene.a.node_id());
    scene.end().await;
}
