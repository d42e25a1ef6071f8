//! Whether memory comes back: many children, references and ids that do not exist, all short-lived.
//!
//! `cargo bench --bench soak -- --json`
//!
//! Two nodes of this process, over memory. One round starts and stops `children`, each of which is
//! called once from the other node; makes `references` to children that stay, calls through each once
//! and drops it; and sends to `unknown_ids` of which no node knows. A first round of the same kind fills
//! the pools of the allocator. `rss_before` is the resident memory in bytes after it, `rss_after` that
//! after a second one, each once everything has settled. Ends with status 1 if it grew by more than
//! `--factor`.

mod support;

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_hub::prelude::*;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::Options;

const USAGE: &str = "\
cargo bench --bench soak -- [options]

  --children N      children that are started, called and stopped (default 200000)
  --references N    references that are made, used and dropped (default 400000)
  --unknown-ids N   ids that no node knows, each sent to once (default 400000)
  --in-flight N     how many of each at a time (default 500)
  --settle S        how long memory may take to come back, in seconds (default 45)
  --factor F        how much it may grow, in percent of what it was (default 110)
  --json            only the JSON object on the last line";

/// Children that stay, to which references are made.
const STAY: u64 = 1_000;
/// What memory may grow by, whatever the factor: a few pages of a small process are no leak.
const SLACK: u64 = 8 << 20;

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

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
        self.0 += n;
        self.0
    }
}

hot_swap!(Counter, kind = "counter", messages = [Add]);

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    1_024 * kib.expect("the system tells the resident memory")
}

struct Soak {
    hubs: [Hub; 2],
    children: u64,
    references: u64,
    unknown_ids: u64,
    in_flight: u64,
    settle: Duration,
    quiet: bool,
}

fn batches(count: u64, size: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..count).step_by(size as usize).map(move |from| from..count.min(from + size))
}

fn spec(name: String) -> ChildSpec {
    ChildSpec::new::<Counter>(name, ()).expect("a valid spec")
}

impl Soak {
    fn hub(&self, n: u64) -> &Hub {
        &self.hubs[(n % 2) as usize]
    }

    fn note(&self, what: &str, began: Instant) {
        if !self.quiet {
            eprintln!("{what}: {:?}, {} MiB", began.elapsed(), resident() >> 20);
        }
    }

    async fn round(&self, round: u64) {
        let began = Instant::now();
        for batch in batches(self.children, self.in_flight) {
            let hub = self.hub(batch.start / self.in_flight);
            let name = |n: u64| format!("short-{round}-{n}");
            let report = hub.start_children(batch.clone().map(|n| spec(name(n)))).await;
            let report = report.expect("the hub runs");
            assert_eq!(report.failures().next(), None);
            let calls = batch.clone().map(|n| self.hub(n).child::<Counter>(name(n)).send(Add(1)));
            for reply in join_all(calls).await {
                assert_eq!(reply.expect("a child that was started answers"), 1);
            }
            let ids = batch.clone().map(|n| ChildId::new(name(n)).expect("a valid id"));
            let report = hub.stop_children(ids).await.expect("the hub runs");
            assert_eq!(report.stopped() as u64, batch.end - batch.start);
        }
        self.note("children", began);
        for batch in batches(self.references, self.in_flight) {
            let calls = batch.map(|n| {
                let child = self.hub(n / STAY).child::<Counter>(format!("stay-{}", n % STAY));
                child.send(Add(1))
            });
            for reply in join_all(calls).await {
                reply.expect("a child that stays answers");
            }
        }
        self.note("references", began);
        for batch in batches(self.unknown_ids, self.in_flight) {
            let calls = batch.map(|n| {
                let nobody = self.hub(n).child::<Counter>(format!("nobody-{round}-{n}"));
                nobody.send(Add(1))
            });
            for reply in join_all(calls).await {
                let refused = matches!(
                    reply,
                    Err(HubSendError::NotHandled { reason: NotHandled::NoSuchChild, .. })
                );
                assert!(refused, "{reply:?}");
            }
        }
        self.note("unknown ids", began);
    }

    /// The least memory that was seen until it has stopped to come back.
    async fn settled(&self) -> u64 {
        let began = Instant::now();
        let mut least = resident();
        while began.elapsed() < self.settle {
            actix_rt::time::sleep(Duration::from_secs(1)).await;
            least = least.min(resident());
        }
        self.note("settled", began);
        least
    }
}

async fn measure(options: &Options) -> bool {
    let network = MemoryNetwork::new();
    let settings = Settings {
        // What stands in for an hour of a cluster's life.
        forget_after: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        ..Settings::default()
    };
    let builder = |name: &str| {
        HubSystem::builder("soak")
            .node_name(name)
            .settings(settings.clone())
            .child::<Counter>()
            .workers(1)
            .memory(&network)
    };
    let first = builder("a").start().await.expect("the first node starts");
    let seed = first.addresses().into_iter().next().expect("it listens");
    let second = builder("b").seed(seed).start().await.expect("the second node starts");
    let stay = (0..STAY).map(|n| spec(format!("stay-{n}")));
    let report = first.start_children(stay).await.expect("the hub runs");
    assert_eq!(report.failures().next(), None);
    let soak = Soak {
        hubs: [first, second],
        children: options.number("--children", 200_000),
        references: options.number("--references", 400_000),
        unknown_ids: options.number("--unknown-ids", 400_000),
        in_flight: options.number("--in-flight", 500).max(1),
        settle: Duration::from_secs(options.number("--settle", 45)),
        quiet: options.flag("--json"),
    };
    soak.round(0).await;
    let before = soak.settled().await;
    let began = Instant::now();
    soak.round(1).await;
    let took = began.elapsed();
    let after = soak.settled().await;
    let percent = options.number("--factor", 110);
    let result = json!({
        "rss_before": before, "rss_after": after,
        "children": soak.children, "references": soak.references, "unknown_ids": soak.unknown_ids,
        "round_ms": took.as_millis() as u64,
    });
    println!("{result}");
    after <= before * percent / 100 + SLACK
}

fn main() {
    let options = Options::from_args();
    let known =
        ["--children", "--references", "--unknown-ids", "--in-flight", "--settle", "--factor"];
    options.check(&known, &["--json"], USAGE);
    let came_back = System::new().block_on(measure(&options));
    // The nodes end with the process.
    std::process::exit(if came_back { 0 } else { 1 });
}
