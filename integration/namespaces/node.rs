//! One node of the checks in network namespaces: a process that is told what to do by lines of JSON.
//!
//! `run.py` starts one in each namespace. The first line of stdout says who the node is. Each command
//! on stdin is an object with `id` and `do`; its answer has the same `id`, and answers come in any
//! order. Lines with `event` are events of the hub. The process ends when stdin is closed, or when it
//! has left. Deployed, it also ends at SIGTERM, as a service does, and a line with `ended` tells how.

#[path = "../../benches/support/ledger.rs"]
mod ledger;
mod load;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    io::{BufRead, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_hub::{
    HubConfig, StartOutcome,
    admin::{self, AdminOptions},
    prelude::*,
};
use actix_web::{App, HttpServer};
use clap::Parser;
use ledger::{Checked, Counter, Report, check};
use load::{Count, Ledger, Load};
use serde_json::{Value, json};

/// A node whose children count updates, steered by JSON lines on stdin.
#[derive(Parser)]
#[command(name = "namespaces_node")]
struct Options {
    /// The node's name.
    #[arg(long)]
    name: String,
    /// Multiaddr to listen on; may be given more than once.
    #[arg(long)]
    listen: Vec<String>,
    /// Multiaddr of a node to dial; may be given more than once.
    #[arg(long)]
    seed: Vec<String>,
    /// The secret of the cluster, 64 hexadecimal characters.
    #[arg(long, env = "NAMESPACES_SECRET", hide_env_values = true)]
    secret: String,
    /// Where the node's key is kept; without it each start is another node.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Milliseconds between two heartbeats.
    #[arg(long)]
    heartbeat: Option<u64>,
    /// Is described by the variables HUB_*, serves the admin endpoint, for clients on its machine, at
    /// this address, and ends at SIGTERM.
    #[arg(long, value_name = "ADDRESS")]
    deployed: Option<SocketAddr>,
}

/// Commands that may wait to be read.
const COMMANDS: usize = 64;

#[actix::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::default();
    if let Some(heartbeat) = options.heartbeat {
        settings.heartbeat = Duration::from_millis(heartbeat);
    }
    let mut builder = HubSystem::builder("namespaces")
        .node_name(&options.name)
        .settings(settings)
        .shared_secret(&options.secret)
        .child::<Counter>();
    for address in options.listen {
        builder = builder.listen(address);
    }
    for address in options.seed {
        builder = builder.seed(address);
    }
    if let Some(path) = options.key_file {
        builder = builder.key_file(path);
    }
    if options.deployed.is_some() {
        builder = builder.config(HubConfig::from_env("HUB_")?);
    }
    let hub = builder.start().await?;
    let events = hub.events();
    say(&json!({ "node": hub.node_id().to_string(), "name": hub.node_name().to_string() }));
    actix_rt::spawn(tell_events(events));

    let node = Node { hub: hub.clone(), load: Rc::default(), ledger: Rc::default() };
    let (left, mut has_left) = tokio::sync::mpsc::channel(1);
    let mut commands = commands();
    let mut served = Box::pin(serve(node.clone(), options.deployed));
    loop {
        tokio::select! {
            ended = &mut served => {
                say(&ended?);
                break;
            }
            command = commands.recv() => {
                let Some(command) = command else { break };
                let (node, left) = (node.clone(), left.clone());
                actix_rt::spawn(async move {
                    let id = command["id"].clone();
                    let mut answer = node.answer(&command).await;
                    let is_over = answer["left"] == true;
                    answer["id"] = id;
                    say(&answer);
                    if is_over {
                        // Full: it is over already.
                        let _ = left.try_send(());
                    }
                });
            }
            _ = has_left.recv() => break,
        }
    }
    hub.stop().await;
    Ok(())
}

/// Serves as a service does until the process is told to end, and tells how it has ended. Its clients
/// are what requests would be: they finish what they have begun while the hub shuts down.
async fn serve(node: Node, address: Option<SocketAddr>) -> Result<Value, Box<dyn Error>> {
    let Some(address) = address else { return std::future::pending().await };
    let hub = node.hub.clone();
    let server = HttpServer::new(move || {
        App::new().service(admin::scope(hub.clone(), AdminOptions::default()))
    })
    .workers(1)
    .shutdown_timeout(10)
    .bind(address)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let requests = async {
        terminate.recv().await;
        node.end().await;
    };
    let (report, ()) = futures_util::join!(node.hub.serve(server), requests);
    let report = report?;
    Ok(json!({
        "ended": report.to_string(), "handed_over": report.handed_over, "lost": report.lost.len(),
        "written": report.written.len(), "forced": report.forced, "count": node.count(),
        "ledger": node.ledger.take(),
    }))
}

/// What commands work on; one for all of them.
#[derive(Clone)]
struct Node {
    hub: Hub,
    load: Rc<RefCell<Option<Load>>>,
    /// What this node's clients wrote, and what others gave it to check.
    ledger: Rc<RefCell<Ledger>>,
}

impl Node {
    async fn answer(&self, command: &Value) -> Value {
        match command["do"].as_str().unwrap_or_default() {
            "status" => self.status().await,
            "owners" => self.owners().await,
            "start" => self.start(texts(&command["children"])).await,
            "call" => self.call(command).await,
            "load" => self.begin(command),
            "count" => json!(self.count()),
            "stop" => {
                self.end().await;
                json!(self.count())
            }
            "give" => json!({ "ledger": self.ledger.take() }),
            "adopt" => match serde_json::from_value::<Ledger>(command["ledger"].clone()) {
                Ok(given) => {
                    self.ledger.borrow_mut().extend(given);
                    json!({})
                }
                Err(error) => json!({ "error": error.to_string() }),
            },
            "check" => self.check().await,
            "leave" => self.leave().await,
            other => json!({ "error": format!("unknown command {other:?}") }),
        }
    }

    async fn status(&self) -> Value {
        let Ok(seen) = self.hub.inspect().await else {
            return json!({ "error": "the hub has stopped" });
        };
        let nodes: Vec<Value> = seen
            .nodes
            .iter()
            .filter(|node| node.is_member())
            .map(|node| {
                json!({
                    "id": node.id.to_string(), "name": node.name.to_string(),
                    "state": format!("{:?}", node.state), "addresses": node.addresses,
                    "linked": node.path == NodePath::Link,
                    "life": format!("{:?}", node.incarnation),
                })
            })
            .collect();
        json!({ "settled": seen.is_settled, "nodes": nodes, "children": seen.children.len() })
    }

    async fn owners(&self) -> Value {
        let children = self.hub.children(Scope::Global).await.expect("the hub runs").into_iter();
        let owners: BTreeMap<String, String> =
            children.map(|child| (child.id.to_string(), child.node.to_string())).collect();
        json!({ "owners": owners })
    }

    async fn start(&self, children: Vec<String>) -> Value {
        let began = Instant::now();
        let specs: Result<Vec<ChildSpec>, _> =
            children.iter().map(|child| ChildSpec::new::<Counter>(child, None)).collect();
        let specs = match specs {
            Ok(specs) => specs,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        match self.hub.start_children(specs).await {
            Ok(report) => {
                let failed: BTreeMap<String, String> = report
                    .outcomes
                    .iter()
                    .filter(|(_, outcome)| !matches!(outcome, StartOutcome::Started { .. }))
                    .map(|(child, outcome)| (child.to_string(), format!("{outcome:?}")))
                    .collect();
                json!({ "started": report.started(), "failed": failed, "ms": millis(began) })
            }
            Err(error) => json!({ "error": error.to_string() }),
        }
    }

    /// One call to each of some children, all at the same time.
    async fn call(&self, command: &Value) -> Value {
        let began = Instant::now();
        let timeout = Duration::from_millis(command["timeout_ms"].as_u64().unwrap_or(5_000));
        let children = texts(&command["children"]);
        let calls = children.iter().map(|name| async move {
            let child: ChildRef<Counter> = self.hub.child(name);
            let reply = child.send(Report { client: 0 }).timeout(timeout).await;
            reply.err().map(|error| (name.clone(), error.to_string()))
        });
        let failed: BTreeMap<String, String> =
            futures_util::future::join_all(calls).await.into_iter().flatten().collect();
        json!({ "failed": failed, "ms": millis(began) })
    }

    fn begin(&self, command: &Value) -> Value {
        let mut load = self.load.borrow_mut();
        if load.is_some() {
            return json!({ "error": "there is load already" });
        }
        let number = |key: &str| command[key].as_u64().unwrap_or_default();
        let first = number("first") as u32;
        let clients = first..first + number("clients") as u32;
        let pause = Duration::from_millis(number("pause_ms"));
        *load = Some(Load::begin(&self.hub, &texts(&command["children"]), clients, pause));
        json!({})
    }

    fn count(&self) -> Count {
        self.load.borrow().as_ref().map(Load::count).unwrap_or_default()
    }

    /// Ends the load; its counts stay.
    async fn end(&self) {
        let Some(tasks) = self.load.borrow_mut().as_mut().map(Load::stop) else { return };
        for task in tasks {
            // A client that panicked has left what it wrote.
            let _ = task.await;
        }
        if let Some(load) = &*self.load.borrow() {
            self.ledger.borrow_mut().extend(load.written());
        }
    }

    async fn check(&self) -> Value {
        let mut all = Checked::default();
        for (client, written) in self.ledger.take() {
            let (refs, written): (Vec<ChildRef<Counter>>, Vec<_>) =
                written.into_iter().map(|(child, part)| (self.hub.child(child), part)).unzip();
            all.add(check(client, &refs, &written, 3, Duration::from_secs(5)).await);
        }
        json!(all)
    }

    /// Leaves as an app would: its own clients finish what they have begun while the children are
    /// handed over. The answer has their counts and what they wrote, for another node to check.
    async fn leave(&self) -> Value {
        let began = Instant::now();
        let (outcome, ()) = futures_util::join!(self.hub.leave(), self.end());
        json!({
            "left": outcome.is_ok(),
            "failed": outcome.err().map(|error| error.to_string()),
            "ms": millis(began),
            "count": self.count(),
            "ledger": self.ledger.take(),
        })
    }
}

/// Tells the hub's events on stdout until it stops.
async fn tell_events(mut events: EventStream) {
    while let Some(event) = events.next().await {
        let text = format!("{event:?}");
        let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        let (child, node) = match &event {
            HubEvent::HandoverStarted { child, to, .. }
            | HubEvent::HandoverFailed { child, to, .. }
            | HubEvent::HandedOver { child, to, .. } => (Some(child), Some(to)),
            HubEvent::TakenOver { child, from, .. } => (Some(child), Some(from)),
            HubEvent::Recovered { child, .. } => (Some(child), None),
            HubEvent::NodeJoined { node, .. }
            | HubEvent::NodeSuspected { node }
            | HubEvent::NodeRecovered { node }
            | HubEvent::NodeLeft { node }
            | HubEvent::NodeDown { node } => (None, Some(node)),
            _ => (None, None),
        };
        let may_have_run = matches!(&event, HubEvent::HandoverFailed { may_have_run: true, .. });
        say(&json!({
            "event": name, "text": text, "child": child.map(ToString::to_string),
            "node": node.map(ToString::to_string), "may_have_run": may_have_run,
        }));
    }
}

/// Commands from stdin, read on a thread of their own; ends when stdin is closed.
fn commands() -> tokio::sync::mpsc::Receiver<Value> {
    let (sender, receiver) = tokio::sync::mpsc::channel(COMMANDS);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(command) => {
                    if sender.blocking_send(command).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "not a command"),
            }
        }
    });
    receiver
}

fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: stdin is closed as well, which ends the process.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
