//! A whole run: real processes under load, an event, and a count of what became of every update.
//!
//! `cargo bench --bench cluster -- --event join|leave|migrate|kill --children N --state-bytes B
//! --clients C --seconds S [--endless] [--picky] [--idle-children N] --json`
//!
//! Clients on every node write numbered increments to all children, some of them in flight at a
//! time, for `S` seconds; the event happens in the middle. Afterwards each client asks each child
//! which of its numbers it has handled. One JSON object on the last line of stdout:
//!
//! `lost`: acknowledged updates that are missing from the final state; `duplicated`: counted more
//! than once; `reordered`: handled out of the order of one sender; `failed`: refused as certainly
//! not handled; `may_have_been_handled`: ended without knowing; `moved`: children whose owner
//! changed; `move_ms`: from the event until the last of them runs at its new owner; `detect_ms`:
//! from the kill until a survivor declares the node down; `lost_children`: those that the node which
//! ended by force says it had left; `picky_on`: the node that the picky child ended up on; `cpu_ms`: the
//! processor time of each node from the event of `leave` until the node has left.

#[path = "support/ledger.rs"]
mod ledger;
mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_hub::{ConsistentHashing, Distribution, Member, prelude::*};
use futures_util::future::join_all;
use ledger::{Add, Checked, Counter, Fill, Never, Report, Written, check};
use serde_json::{Value, json};
use support::{Options, Process, answer, commands, percentile};

const USAGE: &str = "\
cargo bench --bench cluster -- [options]

  --event E         join, leave, migrate or kill (default join)
  --children N      how many children (default 200)
  --state-bytes B   bytes of state of each child beside its counts (default 64)
  --clients C       how many clients, spread over the nodes (default 8)
  --seconds S       how long they write; the event comes after a third (default 6)
  --in-flight F     children that one client writes to at a time (default 32)
  --runs R          how many runs in a row; the counts are summed (default 1)
  --idle-children N so many more on the node that leaves, which nobody writes to (default 0)
  --endless         with leave: one more child there runs a handler that never ends, so that the node
                    ends by a shutdown with a deadline of 3 s; the call of that handler counts as
                    may_have_been_handled, and only that
  --picky           with leave: one more child there that the node which it belongs to next cannot make
  --json            only the JSON object on the last line";

fn child_name(n: u64) -> String {
    format!("counter-{n}")
}

/// The child with the handler that never ends.
const ENDLESS: &str = "endless";
/// The child that the first node cannot make.
const PICKY: &str = "picky";
/// How the names of the children begin that nobody writes to.
const IDLE: &str = "idle-";
/// How long a shutdown may take that has to be forced.
const FORCED: Duration = Duration::from_secs(3);
/// Children that are started by one request.
const BATCH: u64 = 10_000;

/// The children that are written to.
fn names(children: u64, picky: bool) -> Vec<String> {
    (0..children).map(child_name).chain(picky.then(|| PICKY.to_owned())).collect()
}

/// As [`ConsistentHashing`], but that some children belong on the node that leaves, and one of them on
/// the first node afterwards.
#[derive(Debug)]
struct Placing;

impl Distribution for Placing {
    fn owners(&self, spec: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
        let id = spec.id().as_str();
        let wanted = match id {
            PICKY => &["n1", "n0"][..],
            id if id == ENDLESS || id.starts_with(IDLE) => &["n1"],
            _ => &[],
        };
        let find = |name: &&str| members.iter().find(|member| member.name.as_str() == *name);
        let found: Vec<NodeId> = wanted.iter().filter_map(find).map(|member| member.id).collect();
        match found.is_empty() {
            true => ConsistentHashing.owners(spec, members, count),
            false => found.into_iter().take(count).collect(),
        }
    }
}

/// Processor time of this process so far, in milliseconds.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    // A tick is a hundredth of a second wherever there is /proc.
    10 * ticks.sum::<u64>()
}

#[derive(Default)]
struct Totals {
    acked: u64,
    failed: u64,
    maybe: u64,
    latencies: Vec<u32>,
    first_failure: Option<String>,
}

/// One client: rounds over all children, two updates of each in flight, until told to stop; then
/// a check of every child.
async fn client(
    id: u32,
    refs: Vec<ChildRef<Counter>>,
    in_flight: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> (Vec<Written>, Totals) {
    let mut written: Vec<Written> = refs.iter().map(|_| Written::default()).collect();
    let mut totals = Totals::default();
    'rounds: loop {
        for at in (0..refs.len()).step_by(in_flight) {
            if stop.load(Ordering::Relaxed) {
                break 'rounds;
            }
            let chunk = at..(at + in_flight).min(refs.len());
            let mut sends = Vec::with_capacity(in_flight * 2);
            for n in chunk {
                for _ in 0..2 {
                    let number = written[n].next();
                    let request =
                        refs[n].send(Add { client: id, number }).timeout(Duration::from_secs(30));
                    let began = Instant::now();
                    sends.push(async move { (n, number, request.await, began.elapsed()) });
                }
            }
            for (n, number, outcome, took) in join_all(sends).await {
                match outcome {
                    Ok(_) => {
                        totals.acked += 1;
                        totals.latencies.push(took.as_micros().min(u128::from(u32::MAX)) as u32);
                    }
                    Err(error) => {
                        written[n].unacked.insert(number);
                        if error.may_have_been_handled() {
                            totals.maybe += 1;
                        } else {
                            totals.failed += 1;
                        }
                        totals.first_failure.get_or_insert_with(|| error.to_string());
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    (written, totals)
}

type Client = actix_rt::task::JoinHandle<(Vec<Written>, Totals)>;

struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(u32, Client)>,
}

async fn node(options: &Options) {
    let name = options.text("--node").expect("a node has a name").to_owned();
    let mut builder = HubSystem::builder("bench")
        .node_name(&name)
        .child::<Counter>()
        .distribution(Placing)
        .settings(Settings { leave_timeout: LATE, ..Settings::default() })
        .listen("/ip4/127.0.0.1/tcp/0");
    if let Some(seed) = options.text("--seed") {
        builder = builder.seed(seed);
    }
    let hub = builder.start().await.expect("the hub starts");
    let address = hub.addresses().into_iter().next().expect("it listens");
    answer(&json!({ "address": address, "id": hub.node_id().to_string() }));

    let down: Arc<std::sync::Mutex<Option<Instant>>> = Arc::default();
    let seen_down = down.clone();
    let mut events = hub.events();
    actix_rt::spawn(async move {
        while let Some(event) = events.next().await {
            if let HubEvent::NodeDown { .. } = event {
                seen_down.lock().expect("nobody panics with it").get_or_insert_with(Instant::now);
            }
        }
    });

    let mut refs: Vec<ChildRef<Counter>> = Vec::new();
    let mut load: Option<Load> = None;
    let mut left_in = None;
    let mut never = None;
    let mut checked: Vec<(u32, Vec<Written>)> = Vec::new();
    let mut commands = commands();
    while let Some(command) = commands.recv().await {
        let number = |key: &str| command[key].as_u64().unwrap_or_default();
        match command["do"].as_str().unwrap_or_default() {
            "members" => {
                let count = hub
                    .nodes()
                    .await
                    .expect("the hub runs")
                    .iter()
                    .filter(|node| node.is_member())
                    .count();
                answer(&json!({ "members": count }));
            }
            "start" => {
                let names = names(number("children"), command["picky"] == true);
                let spec = |name: &String| {
                    let unless = (name == PICKY).then(|| "n0".to_owned());
                    ChildSpec::new::<Counter>(name, unless).expect("a valid spec")
                };
                let specs: Vec<ChildSpec> = names.iter().map(spec).collect();
                let report = hub.start_children(specs).timeout(Duration::from_secs(120)).await;
                let started = report.expect("the hub runs").started();
                let bytes = number("bytes");
                for name in names {
                    let child: ChildRef<Counter> = hub.child(name);
                    child.send(Fill(bytes)).timeout(Duration::from_secs(30)).await.expect("filled");
                }
                answer(&json!({ "started": started }));
            }
            "idle" => {
                let mut started = 0;
                for from in (0..number("children")).step_by(BATCH as usize) {
                    let batch = from..number("children").min(from + BATCH);
                    let specs = batch.map(|n| {
                        let name = format!("{IDLE}{n}");
                        ChildSpec::new::<Counter>(name, None).expect("a valid spec")
                    });
                    let report = hub.start_children(specs).timeout(LATE).await;
                    started += report.expect("the hub runs").started();
                }
                answer(&json!({ "started": started }));
            }
            "endless" => {
                let spec = ChildSpec::new::<Counter>(ENDLESS, None).expect("a valid spec");
                hub.start_child(spec).await.expect("it starts");
                let child: ChildRef<Counter> = hub.child(ENDLESS);
                never = Some(actix_rt::spawn(child.send(Never).timeout(LATE).into_future()));
                // Its handler has begun when the child answers what came later.
                child.send(Report { client: 0 }).await.expect("it answers meanwhile");
                answer(&json!({}));
            }
            "begun anew" => {
                let child: ChildRef<Counter> = hub.child(ENDLESS);
                let told = child.send(Report { client: 0 }).timeout(SOON).await;
                answer(&json!({ "error": told.err().map(|error| error.to_string()) }));
            }
            "cpu" => answer(&json!({ "ms": cpu_ms() })),
            "owner" => {
                let info = hub
                    .lookup(command["child"].as_str().expect("a name"))
                    .await
                    .expect("the hub runs");
                answer(&json!({ "node": info.map(|info| info.node.to_string()) }));
            }
            "load" => {
                let names = names(number("children"), command["picky"] == true);
                refs = names.iter().map(|name| hub.child(name)).collect();
                let stop = Arc::new(AtomicBool::new(false));
                let done = Arc::new(AtomicU64::new(0));
                let first = number("first") as u32;
                let in_flight = number("in_flight") as usize;
                let clients = (first..first + number("clients") as u32)
                    .map(|id| {
                        let task = client(id, refs.clone(), in_flight, stop.clone(), done.clone());
                        (id, actix_rt::spawn(task))
                    })
                    .collect();
                load = Some(Load { stop, clients });
                answer(&json!({}));
            }
            "stop" => {
                let mut sum = Totals::default();
                if let Some(Load { stop, clients }) = load.take() {
                    stop.store(true, Ordering::Relaxed);
                    for (id, task) in clients {
                        let (written, totals) = task.await.expect("a client does not panic");
                        checked.push((id, written));
                        sum.acked += totals.acked;
                        sum.failed += totals.failed;
                        sum.maybe += totals.maybe;
                        sum.latencies.extend(totals.latencies);
                        sum.first_failure = sum.first_failure.or(totals.first_failure);
                    }
                }
                if let Some(never) = never.take() {
                    match never.await.expect("a call does not panic") {
                        Ok(()) => sum.acked += 1,
                        Err(error) if error.may_have_been_handled() => sum.maybe += 1,
                        Err(error) => {
                            sum.failed += 1;
                            sum.first_failure.get_or_insert_with(|| error.to_string());
                        }
                    }
                }
                sum.latencies.sort_unstable();
                // Enough for percentiles of the whole: every thousandth part, and the highest.
                let share: Vec<u32> = (0..=1_000)
                    .map(|n| percentile(&sum.latencies, f64::from(n) / 1_000.0))
                    .collect();
                // A node that leaves cannot check afterwards: another one does it for it.
                let written = command["give"].as_bool().unwrap_or(false).then(|| {
                    serde_json::to_value(std::mem::take(&mut checked)).expect("plain data")
                });
                answer(&json!({
                    "acked": sum.acked, "failed": sum.failed, "maybe": sum.maybe,
                    "latencies": share, "first_failure": sum.first_failure, "written": written,
                }));
            }
            "adopt" => {
                let given: Vec<(u32, Vec<Written>)> =
                    serde_json::from_value(command["written"].clone()).expect("from \"stop\"");
                checked.extend(given);
                answer(&json!({}));
            }
            "check" => {
                let mut all = Checked::default();
                for (id, written) in checked.drain(..) {
                    all.add(check(id, &refs, &written, 20, Duration::from_secs(20)).await);
                }
                answer(&serde_json::to_value(&all).expect("plain data"));
            }
            "owners" => {
                let mut owners = BTreeMap::<String, u64>::new();
                let mut digest = 0_u64;
                for info in hub.children(Scope::Global).await.expect("the hub runs") {
                    *owners.entry(info.node.to_string()).or_default() += 1;
                    let seen = format!("{}{}{}", info.id, info.node, info.epoch);
                    digest ^= seen.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
                    });
                }
                answer(&json!({ "owners": owners, "digest": digest }));
            }
            "migrate" => {
                let to: NodeId =
                    command["to"].as_str().expect("where to").parse().expect("a node id");
                let local: Vec<_> = hub
                    .children(Scope::Local)
                    .await
                    .expect("the hub runs")
                    .into_iter()
                    .map(|info| info.id)
                    .collect();
                let began = Instant::now();
                let moves =
                    local.iter().map(|child| hub.migrate(child, to).timeout(LATE).into_future());
                let outcomes = join_all(moves).await;
                let failed: Vec<String> = outcomes
                    .iter()
                    .filter_map(|outcome| outcome.as_ref().err().map(ToString::to_string))
                    .collect();
                answer(&json!({
                    "moved": outcomes.len() - failed.len(), "failed": failed,
                    "ms": began.elapsed().as_secs_f64() * 1e3,
                }));
            }
            "leave" => {
                // As an app would: its own clients finish what they have begun while the children
                // are handed over.
                if let Some(Load { stop, .. }) = &load {
                    stop.store(true, Ordering::Relaxed);
                }
                let began = Instant::now();
                let (leaving, forced) = (hub.clone(), command["forced"] == true);
                let left = actix_rt::spawn(async move {
                    let outcome = match forced {
                        true => {
                            let ended = leaving.shutdown().timeout(FORCED).await;
                            ended.map(|report| report.lost).map_err(|error| error.to_string())
                        }
                        false => {
                            let left = leaving.leave().await;
                            left.map(|()| Vec::new()).map_err(|error| error.to_string())
                        }
                    };
                    (outcome, began.elapsed())
                });
                left_in = Some(left);
                answer(&json!({ "cpu_ms": cpu_ms() }));
            }
            "left" => {
                let Some(left) = left_in.take() else { continue };
                let (outcome, took) = left.await.expect("leave does not panic");
                let lost = outcome.as_ref().map(Vec::as_slice).unwrap_or_default();
                let lost: Vec<&str> = lost.iter().map(|left| left.child.as_str()).collect();
                answer(&json!({
                    "error": outcome.as_ref().err(), "lost": lost, "cpu_ms": cpu_ms(),
                    "ms": took.as_secs_f64() * 1e3,
                }));
            }
            "down" => {
                let at = *down.lock().expect("nobody panics with it");
                answer(&json!({ "down_ago_us": at.map(|at| at.elapsed().as_micros() as u64) }));
            }
            other => answer(&json!({ "error": format!("unknown command {other}") })),
        }
    }
    hub.stop().await;
}

const SOON: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(600);

struct Cluster {
    nodes: Vec<(Process, String)>,
    seed: Option<String>,
}

impl Cluster {
    fn add(&mut self) -> usize {
        let name = format!("n{}", self.nodes.len());
        let mut args = vec!["--node".to_owned(), name.clone()];
        if let Some(seed) = &self.seed {
            args.extend(["--seed".to_owned(), seed.clone()]);
        }
        let mut process = Process::start(&name, &args);
        let told = process.answer(SOON);
        let text = |key: &str| told[key].as_str().expect("a node tells who it is").to_owned();
        self.seed.get_or_insert_with(|| text("address"));
        let id = text("id");
        self.nodes.push((process, id));
        self.nodes.len() - 1
    }

    fn cpu_ms(&mut self, at: usize) -> u64 {
        self.nodes[at].0.ask(&json!({ "do": "cpu" }), LATE)["ms"].as_u64().unwrap_or_default()
    }

    /// The name of the node that runs this child.
    fn owner(&mut self, child: &str) -> Option<String> {
        let told = self.nodes[0].0.ask(&json!({ "do": "owner", "child": child }), LATE);
        let id = told["node"].as_str()?;
        let at = self.nodes.iter().position(|(_, known)| known == id)?;
        Some(format!("n{at}"))
    }

    fn await_members(&mut self, count: u64) {
        let deadline = Instant::now() + SOON;
        for (process, _) in &mut self.nodes {
            while process.ask(&json!({ "do": "members" }), SOON)["members"] != count {
                assert!(Instant::now() < deadline, "the nodes did not find each other");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn owners(&mut self, at: usize) -> (BTreeMap<String, u64>, u64) {
        let told = self.nodes[at].0.ask(&json!({ "do": "owners" }), LATE);
        let owners = told["owners"]
            .as_object()
            .map(|map| map.iter().map(|(k, v)| (k.clone(), v.as_u64().unwrap_or(0))).collect());
        (owners.unwrap_or_default(), told["digest"].as_u64().unwrap_or_default())
    }
}

fn sum(parts: &[Value], key: &str) -> u64 {
    parts.iter().filter_map(|part| part[key].as_u64()).sum()
}

fn run(options: &Options) -> Value {
    let event = options.text("--event").unwrap_or("join").to_owned();
    let children = options.number("--children", 200);
    let bytes = options.number("--state-bytes", 64);
    let clients = options.number("--clients", 8);
    let seconds = options.number("--seconds", 6);
    let in_flight = options.number("--in-flight", 32);
    let idle = options.number("--idle-children", 0);
    let (endless, picky) = (options.flag("--endless"), options.flag("--picky"));
    let mut cluster = Cluster { nodes: Vec::new(), seed: None };
    let first_nodes = if event == "join" { 2 } else { 3 };
    for _ in 0..first_nodes {
        cluster.add();
    }
    cluster.await_members(first_nodes);
    let start = json!({ "do": "start", "children": children, "bytes": bytes, "picky": picky });
    let started = cluster.nodes[0].0.ask(&start, LATE);
    let expected = children + u64::from(picky);
    assert_eq!(started["started"].as_u64(), Some(expected), "not every child was started");
    let started = cluster.nodes[0].0.ask(&json!({ "do": "idle", "children": idle }), LATE);
    assert_eq!(started["started"].as_u64(), Some(idle), "not every idle child was started");
    if endless {
        cluster.nodes[0].0.ask(&json!({ "do": "endless" }), SOON);
    }

    let share = |n: u64| clients / first_nodes + u64::from(n < clients % first_nodes);
    let mut first = 0;
    for n in 0..first_nodes {
        let load = json!({
            "do": "load", "children": children, "first": first, "clients": share(n),
            "in_flight": in_flight, "picky": picky,
        });
        first += share(n);
        cluster.nodes[n as usize].0.ask(&load, SOON);
    }
    std::thread::sleep(Duration::from_secs(seconds) / 3);

    let (before, _) = cluster.owners(0);
    let began = Instant::now();
    let mut move_ms = None;
    let mut detect_ms = None;
    let mut moved = None;
    let mut trouble = Vec::new();
    let mut gone = None;
    let mut early = None;
    let mut lost_children = Value::Null;
    let mut cpu = BTreeMap::<String, u64>::new();
    match event.as_str() {
        "join" => {
            cluster.add();
        }
        "leave" => {
            let stays = [0, 2].map(|n| (n, cluster.cpu_ms(n)));
            let leave = json!({ "do": "leave", "forced": endless });
            let before = cluster.nodes[1].0.ask(&leave, LATE);
            let told = cluster.nodes[1].0.ask(&json!({ "do": "left" }), LATE);
            let ms = |told: &Value| told["cpu_ms"].as_u64().unwrap_or_default();
            cpu.insert("n1".to_owned(), ms(&told).saturating_sub(ms(&before)));
            for (n, before) in stays {
                cpu.insert(format!("n{n}"), cluster.cpu_ms(n).saturating_sub(before));
            }
            lost_children = told["lost"].clone();
            if let Some(error) = told["error"].as_str() {
                trouble.push(error.to_owned());
            }
            move_ms = told["ms"].as_f64();
            let given = cluster.nodes[1].0.ask(&json!({ "do": "stop", "give": true }), LATE);
            let adopt = json!({ "do": "adopt", "written": given["written"] });
            cluster.nodes[0].0.ask(&adopt, LATE);
            early = Some(given);
            gone = Some(1);
        }
        "migrate" => {
            let to = cluster.nodes[2].1.clone();
            let told = cluster.nodes[1].0.ask(&json!({ "do": "migrate", "to": to }), LATE);
            move_ms = told["ms"].as_f64();
            moved = told["moved"].as_u64();
            for error in told["failed"].as_array().into_iter().flatten().take(3) {
                trouble.push(error.to_string());
            }
        }
        _ => {
            cluster.nodes[1].0.kill();
            gone = Some(1);
        }
    }
    // The picture is at rest when it has not changed for a second.
    let victim = cluster.nodes[1].1.clone();
    let joined = cluster.nodes.last().map(|(_, id)| id.clone()).expect("there are nodes");
    let mut last = cluster.owners(0);
    let mut changed = Instant::now();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        std::thread::sleep(Duration::from_millis(25));
        let told = cluster.nodes[0].0.ask(&json!({ "do": "down" }), SOON);
        if detect_ms.is_none()
            && event == "kill"
            && let Some(ago) = told["down_ago_us"].as_u64()
        {
            detect_ms = Some((began.elapsed() - Duration::from_micros(ago)).as_secs_f64() * 1e3);
        }
        let now = cluster.owners(0);
        if now.1 != last.1 {
            changed = Instant::now();
            last = now;
        }
        let there = match event.as_str() {
            "join" => last.0.get(&joined).copied().unwrap_or(0) > 0,
            "migrate" => true,
            _ => last.0.get(&victim).copied().unwrap_or(0) == 0,
        };
        if there && changed.elapsed() > Duration::from_secs(1) {
            break;
        }
        if Instant::now() > deadline {
            trouble.push("the cluster did not come to rest within 120 s".to_owned());
            break;
        }
    }
    let move_ms = move_ms.unwrap_or_else(|| (changed - began).as_secs_f64() * 1e3);
    let moved = moved.unwrap_or_else(|| match event.as_str() {
        "join" => last.0.get(&joined).copied().unwrap_or(0),
        _ => before.get(&victim).copied().unwrap_or(0),
    });
    let rest = Duration::from_secs(seconds)
        .saturating_sub(began.elapsed() + Duration::from_secs(seconds) / 3);
    std::thread::sleep(rest);

    let writers: Vec<usize> = (0..first_nodes as usize).filter(|n| Some(*n) != gone).collect();
    for n in &writers {
        cluster.nodes[*n].0.say(&json!({ "do": "stop" }));
    }
    let mut totals: Vec<Value> = early.into_iter().collect();
    for n in &writers {
        totals.push(cluster.nodes[*n].0.answer(LATE));
    }
    let mut checks = Vec::new();
    for n in &writers {
        checks.push(cluster.nodes[*n].0.ask(&json!({ "do": "check" }), LATE));
    }
    let mut latencies: Vec<u32> = totals
        .iter()
        .flat_map(|part| part["latencies"].as_array().cloned().unwrap_or_default())
        .filter_map(|value| value.as_u64())
        .map(|value| value as u32)
        .collect();
    latencies.sort_unstable();
    trouble.extend(totals.iter().filter_map(|t| t["first_failure"].as_str().map(str::to_owned)));
    let silent = sum(&checks, "silent");
    if silent > 0 {
        trouble.push(format!("{silent} checks got no answer"));
    }
    let picky_on = picky.then(|| cluster.owner(PICKY));
    if endless
        && let Some(error) =
            cluster.nodes[0].0.ask(&json!({ "do": "begun anew" }), LATE)["error"].as_str()
    {
        trouble.push(format!("the child of the endless handler did not begin anew: {error}"));
    }
    for (at, (process, _)) in cluster.nodes.into_iter().enumerate() {
        if event != "kill" || Some(at) != gone {
            process.end();
        }
    }
    json!({
        "event": event, "children": children, "state_bytes": bytes, "clients": clients,
        "moved": moved, "acked": sum(&totals, "acked"), "final": sum(&checks, "counted"),
        "lost": sum(&checks, "lost"), "duplicated": sum(&checks, "duplicated"),
        "reordered": sum(&checks, "reordered"), "failed": sum(&totals, "failed"),
        "may_have_been_handled": sum(&totals, "maybe"), "move_ms": move_ms,
        "detect_ms": detect_ms, "lost_children": lost_children, "picky_on": picky_on,
        "cpu_ms": cpu, "idle_children": idle,
        "max_latency_ms": f64::from(latencies.last().copied().unwrap_or(0)) / 1e3,
        "p99_latency_ms": f64::from(percentile(&latencies, 0.99)) / 1e3,
        "trouble": trouble,
    })
}

fn main() {
    let options = Options::from_args();
    options.check(
        &[
            "--event",
            "--children",
            "--state-bytes",
            "--clients",
            "--seconds",
            "--in-flight",
            "--runs",
            "--idle-children",
            "--node",
            "--seed",
        ],
        &["--json", "--endless", "--picky"],
        USAGE,
    );
    if options.text("--node").is_some() {
        actix::System::new().block_on(node(&options));
        return;
    }
    if let Some(event) = options.text("--event")
        && !["join", "leave", "migrate", "kill"].contains(&event)
    {
        eprintln!("--event is {event}, allowed is join, leave, migrate, kill\n\n{USAGE}");
        std::process::exit(2);
    }
    let runs = options.number("--runs", 1);
    let mut all = Vec::new();
    for n in 1..=runs {
        let result = run(&options);
        if !options.flag("--json") {
            println!("run {n} of {runs}: {result}");
        }
        all.push(result);
    }
    let mut whole = all.last().cloned().expect("at least one run");
    for key in [
        "moved",
        "acked",
        "final",
        "lost",
        "duplicated",
        "reordered",
        "failed",
        "may_have_been_handled",
    ] {
        whole[key] = json!(sum(&all, key));
    }
    for key in ["move_ms", "detect_ms", "max_latency_ms", "p99_latency_ms"] {
        let highest = all.iter().filter_map(|run| run[key].as_f64()).reduce(f64::max);
        whole[key] = json!(highest);
    }
    whole["runs"] = json!(runs);
    println!("{whole}");
}
