//! How long many nodes take to become one cluster, and what they cost when nothing happens.
//!
//! `cargo bench --bench mesh -- --nodes 100 --json`
//!
//! All nodes are hubs of this process, over memory. `settled_ms` is from the first start until every
//! node sees all nodes and is settled; `start_ms` of that is until all starts have returned.
//! `idle_percent` is the processor time of the process for each node while nothing happens, in percent
//! of one core: from some seconds after they have settled, when the last of that is told.

mod support;

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_hub::prelude::*;
use futures_util::future::join_all;
use serde_json::json;
use support::Options;

const USAGE: &str = "\
cargo bench --bench mesh -- [--nodes N] [--seconds S] [--rest S] [--idle S] [--json]

  --nodes N    how many nodes (default 50)
  --seconds S  how long they may take to settle (default 60)
  --rest S     how long it rests before it is measured idle (default 10)
  --idle S     for how long the idle cluster is measured (default 10)
  --json       only the JSON object on the last line";

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process, in parentheses, may hold anything.
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    // utime and stime, in hundredths of a second.
    Duration::from_millis(10 * (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)))
}

/// Until this node has settled with all others. It is looked at when it says that it is settled: a look at
/// each of many that form costs more than what is measured.
async fn settles(hub: &Hub, count: usize, limit: Duration) -> Option<Duration> {
    let began = Instant::now();
    loop {
        hub.settled().timeout(limit.saturating_sub(began.elapsed())).await.ok()?;
        let at = began.elapsed();
        let seen = hub.inspect().await.ok()?;
        let members = seen.nodes.iter().filter(|node| node.is_member()).count();
        if seen.is_settled && members == count {
            return Some(at);
        }
        if began.elapsed() >= limit {
            return None;
        }
        // It has settled with some of them.
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn measure(options: &Options) -> bool {
    let count = usize::try_from(options.number("--nodes", 50)).unwrap_or(50).max(1);
    let limit = Duration::from_secs(options.number("--seconds", 60));
    let rest = Duration::from_secs(options.number("--rest", 10));
    let idle = Duration::from_secs(options.number("--idle", 10));
    let quiet = options.flag("--json");
    let network = MemoryNetwork::new();
    let builder = |n: usize| {
        HubSystem::builder("mesh").node_name(format!("n{n}")).workers(1).memory(&network)
    };
    let began = Instant::now();
    let first = builder(0).start().await.expect("the first node starts");
    let seed = first.addresses().into_iter().next().expect("it listens");
    let others = join_all((1..count).map(|n| builder(n).seed(seed.clone()).start())).await;
    let mut hubs = vec![first];
    hubs.extend(others.into_iter().map(|hub| hub.expect("a node starts")));
    let started = began.elapsed();
    let settling = hubs.iter().map(|hub| settles(hub, count, limit.saturating_sub(started)));
    let settling = join_all(settling).await;
    let late = settling.iter().filter(|settled| settled.is_none()).count();
    if late > 0 && !quiet {
        eprintln!("{late} of {count} nodes are not settled");
    }
    let settled = settling.into_iter().collect::<Option<Vec<Duration>>>();
    let settled = settled.and_then(|all| all.into_iter().max()).map(|last| started + last);
    let forming = processor_time();
    actix_rt::time::sleep(rest).await;
    let rested = processor_time();
    actix_rt::time::sleep(idle).await;
    let spent = processor_time().saturating_sub(rested);
    let percent = 100.0 * spent.as_secs_f64() / idle.as_secs_f64() / count as f64;
    let result = json!({
        "nodes": count,
        "start_ms": started.as_millis() as u64,
        "settled_ms": settled.map(|time| time.as_millis() as u64),
        "forming_cpu_ms": forming.as_millis() as u64,
        "idle_percent": (percent * 1_000.0).round() / 1_000.0,
    });
    println!("{result}");
    settled.is_some()
}

fn main() {
    let options = Options::from_args();
    options.check(&["--nodes", "--seconds", "--rest", "--idle"], &["--json"], USAGE);
    let settled = System::new().block_on(measure(&options));
    // The nodes end with the process.
    std::process::exit(if settled { 0 } else { 1 });
}
