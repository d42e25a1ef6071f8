//! A door belongs to one life of its child.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::model::child::ChildOrigin;

/// Whether the next actor takes longer to start than its node waits.
static SLOW: AtomicBool = AtomicBool::new(true);

/// Whether that actor has ended.
static ENDED: AtomicBool = AtomicBool::new(false);

#[derive(Default, Serialize, Deserialize)]
struct Sleeper {
    woken: u64,
}

impl Actor for Sleeper {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        if SLOW.swap(false, Ordering::AcqRel) {
            std::thread::sleep(Duration::from_millis(1_000));
        }
    }
    fn stopped(&mut self, _: &mut Context<Self>) {
        ENDED.store(true, Ordering::Release);
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Wake;
names!(Wake);

impl Handler<Wake> for Sleeper {
    type Result = u64;
    fn handle(&mut self, _: Wake, _: &mut Self::Context) -> u64 {
        self.woken += 1;
        self.woken
    }
}

crate::hot_swap!(Sleeper, kind = "sleeper", messages = [Wake]);

#[actix::test]
async fn a_start_that_is_given_up_lets_nobody_in_though_it_ends_in_the_end() {
    let settings = Settings { start_timeout: Duration::from_millis(200), ..Settings::local() };
    let hub = HubSystem::builder("test")
        .node_name("a")
        .memory(&MemoryNetwork::new())
        .workers(1)
        .settings(settings)
        .child::<Sleeper>()
        .start()
        .await
        .expect("the hub starts");
    let spec = || ChildSpec::new::<Sleeper>("c", ()).expect("a valid spec");
    let error = hub.start_child(spec()).await.expect_err("it takes too long");
    assert!(error.to_string().contains("did not start within"), "{error}");
    let child = hub.child::<Sleeper>("c");
    until("the first has ended", || async {
        let has_ended = ENDED.load(Ordering::Acquire);
        let _ = child.do_send(Wake);
        let sent = child.send(Wake).timeout(Duration::from_secs(60)).await;
        let refused = sent.map_err(reason);
        assert!(
            matches!(refused, Err(NotHandled::NoSuchChild | NotHandled::Stopped)),
            "{refused:?}"
        );
        has_ended
    })
    .await;
    hub.start_child(spec()).await.expect("it starts");
    assert_eq!(child.send(Wake).await, Ok(1), "none of those before are for this one");
    hub.stop().await;
}

/// Says with its first breath why it was made.
struct Newborn {
    child: ChildContext<Self>,
    made: ChildOrigin,
    started: Option<ChildOrigin>,
}

impl Actor for Newborn {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        self.started = Some(self.child.origin());
    }
}

impl HotSwap for Newborn {
    const KIND: &'static str = "newborn";
    type Args = ();
    type State = ();
    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { child: child.clone(), made: child.origin(), started: None })
    }
    fn prepare_handover_state(&mut self) {}
    fn alter_handover_state(&mut self, (): ()) {}
}

crate::takes!(Newborn: [Why, Fall]);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Why;
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fall;
names!(Why Fall);

impl Handler<Why> for Newborn {
    type Result = String;
    fn handle(&mut self, _: Why, _: &mut Self::Context) -> String {
        assert_eq!(self.started, Some(self.made));
        format!("{:?}", self.made)
    }
}

impl Handler<Fall> for Newborn {
    type Result = ();
    fn handle(&mut self, _: Fall, _: &mut Self::Context) {
        panic!("on purpose");
    }
}

#[actix::test]
async fn an_actor_knows_why_it_was_made() {
    let network = MemoryNetwork::new();
    let start = |name: &'static str, seed: Option<&Hub>| {
        let mut builder = HubSystem::builder("test")
            .node_name(name)
            .memory(&network)
            .settings(Settings::local())
            .child::<Newborn>();
        if let Some(seed) = seed {
            builder = builder.seed(&seed.addresses()[0]);
        }
        async move { builder.start().await.expect("the hub starts") }
    };
    let a = start("a", None).await;
    let b = start("b", Some(&a)).await;
    members(&a, 2).await;
    members(&b, 2).await;
    a.start_child(ChildSpec::new::<Newborn>("c", ()).expect("valid")).await.expect("it starts");
    let child = a.child::<Newborn>("c");
    assert_eq!(child.send(Why).await.expect("it answers"), format!("{:?}", ChildOrigin::Fresh));
    child.send(Fall).await.expect_err("it panics");
    let restarted = child.send(Why).await.expect("it is started again");
    assert_eq!(restarted, format!("{:?}", ChildOrigin::Restarted));
    let at = a.lookup("c").await.expect("the hub runs").expect("it is known").node;
    let to = if at == a.node_id() { b.node_id() } else { a.node_id() };
    a.migrate("c", to).await.expect("it moves");
    let moved = child.send(Why).await.expect("it answers");
    assert_eq!(moved, format!("{:?}", ChildOrigin::HandedOver { from: at }));
    if to == a.node_id() {
        a.migrate("c", b.node_id()).await.expect("it moves");
    }
    network.kill(b.node_id());
    until("it runs on the other", || async {
        a.lookup("c").await.expect("the hub runs").is_some_and(|child| child.node == a.node_id())
    })
    .await;
    let taken = child.send(Why).await.expect("it answers");
    assert_eq!(taken, format!("{:?}", ChildOrigin::TakenOver));
    a.stop().await;
    b.stop().await;
}
