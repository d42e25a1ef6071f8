//! What the move of a large state costs the other children of its arbiter, with and without
//! `blocking = true`.
//!
//! `cargo bench --bench neighbours -- --mib 64 --json`
//!
//! Two nodes in one process, one arbiter for children each. A child with a state of some MiB of texts
//! and numbers moves to and fro, while a child beside it is asked without a pause at both ends.
//! `source_ms` and `target_ms` are the longest answers of these neighbours, the shortest of all rounds;
//! `move_ms` is what the move took. `ratio` is `source_ms` and `target_ms` without by those with.

mod support;

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::Options;

const USAGE: &str = "\
cargo bench --bench neighbours -- [--mib N] [--rounds N] [--json]

  --mib N     size of the state (default 64)
  --rounds N  moves, with and without each (default 5)
  --json      only the JSON object on the last line";

#[derive(Clone, Default, Serialize, Deserialize)]
struct Page {
    title: String,
    lines: Vec<String>,
    views: u64,
}

macro_rules! archive {
    ($name:ident, $kind:literal $(, $option:ident = $value:tt)*) => {
        #[derive(Clone, Default, Serialize, Deserialize)]
        struct $name {
            pages: Vec<Page>,
        }

        impl Actor for $name {
            type Context = Context<Self>;
        }

        impl Handler<Fill> for $name {
            type Result = ();
            fn handle(&mut self, Fill(bytes): Fill, _: &mut Self::Context) {
                self.pages = (0..bytes / 1_024).map(page).collect();
            }
        }

        hot_swap!($name, kind = $kind, messages = [Fill] $(, $option = $value)*);
    };
}

/// About 1 KiB in CBOR.
fn page(number: u64) -> Page {
    Page {
        title: format!("page {number}"),
        lines: (0..16).map(|line| format!("{number:032} line {line:020}")).collect(),
        views: number,
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fill(u64);

impl HubMessage for Fill {
    const NAME: &'static str = "fill";
}

archive!(Inline, "inline");
archive!(Blocking, "blocking", blocking = true);

#[derive(Default, Serialize, Deserialize)]
struct Neighbour;

impl Actor for Neighbour {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Ask;

impl HubMessage for Ask {
    const NAME: &'static str = "ask";
}

impl Handler<Ask> for Neighbour {
    type Result = ();
    fn handle(&mut self, _: Ask, _: &mut Self::Context) {}
}

hot_swap!(Neighbour, kind = "neighbour", messages = [Ask]);

async fn node(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let mut builder = HubSystem::builder("bench")
        .node_name(name)
        .child::<Inline>()
        .child::<Blocking>()
        .child::<Neighbour>()
        .settings(Settings { state_limit: 1 << 30, verify_encoding: false, ..Settings::local() })
        .workers(1)
        .memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(seed.addresses()[0].as_str());
    }
    builder.start().await.expect("the hub starts")
}

async fn bring(hub: &Hub, child: &str, to: NodeId) {
    if hub.lookup(child).await.expect("the hub runs").expect("it is known").node != to {
        hub.migrate(child, to).await.expect("it moves");
    }
}

/// The longest answer of a neighbour until `done`.
async fn longest(hub: Hub, child: &'static str, done: tokio::sync::watch::Receiver<bool>) -> f64 {
    let neighbour = hub.child::<Neighbour>(child);
    let mut longest = Duration::ZERO;
    while !*done.borrow() {
        let asked = Instant::now();
        neighbour.send(Ask).timeout(Duration::from_secs(60)).await.expect("it answers");
        longest = longest.max(asked.elapsed());
    }
    millis(longest)
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// One kind: the longest answers at both ends and the time of the move, the best of all rounds each.
async fn kind<A>(hubs: &[Hub; 2], bytes: u64, rounds: u64) -> [f64; 3]
where
    A: Takes<Fill> + HotSwap<Args = ()>,
{
    let [a, b] = hubs;
    let spec = ChildSpec::new::<A>(A::KIND, ()).expect("a valid spec");
    a.start_child(spec).await.expect("it starts");
    let fill = a.child::<A>(A::KIND).send(Fill(bytes)).timeout(Duration::from_secs(60));
    fill.await.expect("it answers");
    let mut best = [f64::MAX; 3];
    for _ in 0..rounds {
        bring(a, A::KIND, a.node_id()).await;
        let (end, done) = tokio::sync::watch::channel(false);
        let source = actix_rt::spawn(longest(a.clone(), "at a", done.clone()));
        let target = actix_rt::spawn(longest(b.clone(), "at b", done));
        let began = Instant::now();
        a.migrate(A::KIND, b.node_id()).into_future().await.expect("it moves");
        let took = began.elapsed();
        end.send_replace(true);
        let seen = [source.await.expect("it ends"), target.await.expect("it ends"), millis(took)];
        for (best, seen) in best.iter_mut().zip(seen) {
            *best = best.min(seen);
        }
    }
    a.stop_child(A::KIND).await.expect("it stops");
    best
}

fn told([source_ms, target_ms, move_ms]: [f64; 3]) -> Value {
    json!({ "source_ms": source_ms, "target_ms": target_ms, "move_ms": move_ms })
}

async fn measure(options: &Options) {
    let mib = options.number("--mib", 64);
    let rounds = options.number("--rounds", 5);
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let b = node("b", &network, Some(&a)).await;
    while a.nodes().await.expect("the hub runs").iter().filter(|node| node.is_member()).count() < 2
    {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    for (child, at) in [("at a", &a), ("at b", &b)] {
        a.start_child(ChildSpec::new::<Neighbour>(child, ()).expect("valid"))
            .await
            .expect("starts");
        bring(&a, child, at.node_id()).await;
    }
    let hubs = [a, b];
    let inline = kind::<Inline>(&hubs, mib << 20, rounds).await;
    let blocking = kind::<Blocking>(&hubs, mib << 20, rounds).await;
    let ratio = |which: usize| (inline[which] / blocking[which] * 10.0).round() / 10.0;
    let result = json!({
        "mib": mib,
        "inline": told(inline),
        "blocking": told(blocking),
        "ratio": { "source": ratio(0), "target": ratio(1) },
    });
    println!("{result}");
    for hub in hubs {
        hub.stop().await;
    }
}

fn main() {
    let options = Options::from_args();
    options.check(&["--mib", "--rounds"], &["--json"], USAGE);
    System::new().block_on(measure(&options));
}
