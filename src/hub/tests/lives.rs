//! A door belongs to one life of its child.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

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
