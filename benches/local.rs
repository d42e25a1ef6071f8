//! Messages to a child on the same node, against the plain `Addr`.
//!
//! `cargo bench --bench local -- --json`
//!
//! Nanoseconds for each message: `hub_send_ns` and `addr_send_ns` with one in flight, awaited;
//! `hub_do_send_ns` and `addr_do_send_ns` for tells, until all are handled.

mod support;

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::Options;

const USAGE: &str = "\
cargo bench --bench local -- [--sends N] [--tells N] [--json]

  --sends N   how many sends are measured, each way (default 200000)
  --tells N   how many tells are measured, each way (default 1000000)
  --json      only the JSON object on the last line";

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

impl HubMessage for Add {
    const NAME: &'static str = "add";
}

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

hot_swap!(Counter, kind = "counter", messages = [Add]);

fn each(began: Instant, count: u64) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}

async fn measure(options: &Options) {
    let sends = options.number("--sends", 200_000);
    let tells = options.number("--tells", 1_000_000);
    let hub = HubSystem::builder("bench")
        .child::<Counter>()
        .workers(1)
        .start()
        .await
        .expect("the hub starts");
    hub.start_child(ChildSpec::new::<Counter>("counter", ()).expect("a valid spec"))
        .await
        .expect("the child starts");
    let child: ChildRef<Counter> = hub.child("counter");
    // As the hub's children, the plain actor runs on an arbiter of its own.
    let arbiter = Arbiter::new();
    let addr = Counter::start_in_arbiter(&arbiter.handle(), |ctx: &mut Context<Counter>| {
        ctx.set_mailbox_capacity(1 << 20);
        Counter::default()
    });

    for _ in 0..sends / 10 {
        child.send(Add(1)).await.expect("the child answers");
        addr.send(Add(1)).await.expect("the actor answers");
    }
    let began = Instant::now();
    for _ in 0..sends {
        addr.send(Add(1)).await.expect("the actor answers");
    }
    let addr_send = each(began, sends);
    let began = Instant::now();
    for _ in 0..sends {
        child.send(Add(1)).await.expect("the child answers");
    }
    let hub_send = each(began, sends);

    let before = addr.send(Add(0)).await.expect("the actor answers");
    let began = Instant::now();
    for _ in 0..tells {
        addr.do_send(Add(1));
    }
    let after = addr.send(Add(0)).await.expect("the actor answers");
    let addr_do_send = each(began, tells);
    assert_eq!(after - before, tells);

    let before = child.send(Add(0)).await.expect("the child answers");
    let began = Instant::now();
    for _ in 0..tells {
        while child.do_send(Add(1)).is_err() {
            tokio::task::yield_now().await;
        }
    }
    let after =
        child.send(Add(0)).timeout(Duration::from_secs(60)).await.expect("the child answers");
    let hub_do_send = each(began, tells);
    assert_eq!(after - before, tells);

    if !options.flag("--json") {
        println!("send: hub {hub_send:.0} ns, plain Addr {addr_send:.0} ns");
        println!("do_send: hub {hub_do_send:.0} ns, plain Addr {addr_do_send:.0} ns");
    }
    println!(
        "{}",
        json!({
            "hub_send_ns": hub_send, "addr_send_ns": addr_send,
            "hub_do_send_ns": hub_do_send, "addr_do_send_ns": addr_do_send,
        })
    );
    hub.stop().await;
    arbiter.stop();
}

fn main() {
    let options = Options::from_args();
    options.check(&["--sends", "--tells"], &["--json"], USAGE);
    actix::System::new().block_on(measure(&options));
}
