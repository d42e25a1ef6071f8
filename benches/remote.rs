//! Messages to a child on another node, against the bare wire in the same run.
//!
//! `cargo bench --bench remote -- --json`
//!
//! Two processes on loopback, 64 bytes of payload. `ask1_us`: mean time of one `send` with one in
//! flight; `ask64_per_s`, `ask512_per_s`: sends each second with 64 and 512 in flight;
//! `tell_per_s`: `do_send`s each second until all are handled; `tell_lost`: tells that were taken
//! and not handled. `base_*`: the same over length-framed TCP + Noise + Yamux into an Actix actor.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_hub::prelude::*;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::{Options, Process, answer, commands};

const USAGE: &str = "\
cargo bench --bench remote -- [--seconds S] [--tells N] [--json]

  --seconds S   how long each of the ask measurements takes (default 3)
  --tells N     how many tells are sent (default 1000000)
  --json        only the JSON object on the last line";

#[derive(Default, Serialize, Deserialize)]
struct Echo {
    told: u64,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Payload")]
struct Ask(Payload);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Tell(Payload);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Told;

#[derive(Serialize, Deserialize, Clone, MessageResponse)]
struct Payload(#[serde(with = "serde_bytes")] Vec<u8>);

impl HubMessage for Ask {
    const NAME: &'static str = "ask";
}
impl HubMessage for Tell {
    const NAME: &'static str = "tell";
}
impl HubMessage for Told {
    const NAME: &'static str = "told";
}

impl Handler<Ask> for Echo {
    type Result = Payload;
    fn handle(&mut self, Ask(payload): Ask, _: &mut Self::Context) -> Payload {
        payload
    }
}

impl Handler<Tell> for Echo {
    type Result = ();
    fn handle(&mut self, _: Tell, _: &mut Self::Context) {
        self.told += 1;
    }
}

impl Handler<Told> for Echo {
    type Result = u64;
    fn handle(&mut self, _: Told, _: &mut Self::Context) -> u64 {
        self.told
    }
}

hot_swap!(Echo, kind = "echo", messages = [Ask, Tell, Told]);

async fn node(name: &str, seed: Option<&str>) -> Hub {
    let mut builder = HubSystem::builder("bench")
        .node_name(name)
        .child::<Echo>()
        .listen("/ip4/127.0.0.1/tcp/0")
        .settings(Settings { weight: u32::from(name == "server"), ..Settings::default() });
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    builder.start().await.expect("the hub starts")
}

async fn serve() {
    let bare = bare::serve().await;
    let hub = node("server", None).await;
    hub.start_child(ChildSpec::new::<Echo>("echo", ()).expect("a valid spec"))
        .await
        .expect("the child starts");
    let address = hub.addresses().into_iter().next().expect("it listens");
    answer(&json!({ "hub": address, "bare": bare }));
    let mut commands = commands();
    while commands.recv().await.is_some() {}
    hub.stop().await;
}

fn payload() -> Vec<u8> {
    vec![7; 64]
}

/// Asks each second with so many in flight.
async fn rate<F: Future<Output = ()>>(
    in_flight: usize,
    time: Duration,
    ask: impl Fn() -> F,
) -> f64 {
    let began = Instant::now();
    let counts = join_all((0..in_flight).map(|_| async {
        let mut count = 0_u64;
        while began.elapsed() < time {
            ask().await;
            count += 1;
        }
        count
    }))
    .await;
    counts.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}

async fn measure(options: &Options) {
    let quiet = options.flag("--json");
    let seconds = Duration::from_secs(options.number("--seconds", 3));
    let tells = options.number("--tells", 1_000_000);
    let mut server = Process::start("server", &["--serve".to_owned()]);
    let told = server.answer(Duration::from_secs(30));
    let text = |key: &str| told[key].as_str().expect("the server tells its addresses").to_owned();
    let say = |line: &str| {
        if !quiet {
            println!("{line}");
        }
    };

    let base = bare::Client::connect(&text("bare")).await;
    let base_ask = || async {
        base.ask(payload()).await;
    };
    let hub = node("client", Some(&text("hub"))).await;
    let echo: ChildRef<Echo> = hub.child("echo");
    let deadline = Instant::now() + Duration::from_secs(20);
    while echo.send(Ask(Payload(payload()))).await.is_err() {
        assert!(Instant::now() < deadline, "the child was not found within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let hub_ask = || async {
        echo.send(Ask(Payload(payload()))).await.expect("the child answers");
    };

    // Baseline and hub take turns, so that a noisy machine is noisy for both.
    let base_ask1 = 1e6 / rate(1, seconds, base_ask).await;
    let ask1 = 1e6 / rate(1, seconds, hub_ask).await;
    say(&format!("ask, 1 in flight: {ask1:.1} us, bare {base_ask1:.1} us"));
    let base_ask64 = rate(64, seconds, base_ask).await;
    let ask64 = rate(64, seconds, hub_ask).await;
    say(&format!("ask, 64 in flight: {ask64:.0}/s, bare {base_ask64:.0}/s"));
    let base_ask512 = rate(512, seconds, base_ask).await;
    let ask512 = rate(512, seconds, hub_ask).await;
    say(&format!("ask, 512 in flight: {ask512:.0}/s, bare {base_ask512:.0}/s"));

    let began = Instant::now();
    for _ in 0..tells {
        base.tell(payload()).await;
    }
    while base.handled().await < tells {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let base_tell = tells as f64 / began.elapsed().as_secs_f64();

    let began = Instant::now();
    let mut busy = 0_u64;
    for _ in 0..tells {
        // A full queue is told, not hidden: wait for room.
        while let Err(error) = echo.do_send(Tell(Payload(payload()))) {
            assert!(!error.may_have_been_handled(), "{error}");
            busy += 1;
            tokio::task::yield_now().await;
            if busy.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
        }
    }
    let handled = echo
        .send(Told)
        .timeout(Duration::from_secs(60))
        .await
        .expect("the child answers when it has handled everything before");
    let tell = tells as f64 / began.elapsed().as_secs_f64();
    say(&format!("tell: {tell:.0}/s, bare {base_tell:.0}/s, full queue met {busy} times"));

    hub.stop().await;
    server.end();
    println!(
        "{}",
        json!({
            "ask1_us": ask1, "ask64_per_s": ask64, "ask512_per_s": ask512, "tell_per_s": tell,
            "tell_lost": tells - handled,
            "base_ask1_us": base_ask1, "base_ask64_per_s": base_ask64,
            "base_ask512_per_s": base_ask512, "base_tell_per_s": base_tell,
            "ask64_ratio": ask64 / base_ask64,
        })
    );
}

fn main() {
    let options = Options::from_args();
    options.check(&["--seconds", "--tells"], &["--json", "--serve"], USAGE);
    let system = actix::System::new();
    if options.flag("--serve") {
        system.block_on(serve());
    } else {
        system.block_on(measure(&options));
    }
}
