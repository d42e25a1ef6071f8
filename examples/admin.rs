//! A cluster to look at: three nodes in one process, children that are written to and move now and
//! then, and the admin endpoint of each node.
//!
//! `cargo run --release --example admin -- --children 10000`, then open http://127.0.0.1:8090/hub/
//!
//! What an app needs is the one line with `admin::scope`.

use std::{
    collections::VecDeque,
    error::Error,
    net::SocketAddr,
    num::NonZeroU32,
    process::ExitCode,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_hub::{
    admin::{self, AdminAccess, AdminOptions, AdminToken},
    prelude::*,
};
use actix_web::{App, HttpServer, dev::ServerHandle};
use clap::{CommandFactory as _, Parser, ValueEnum, error::ErrorKind};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

/// Runs a small cluster in one process and serves the admin endpoint of each node.
#[derive(Parser)]
#[command(name = "admin", version)]
struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// How many children.
    #[arg(long, default_value_t = 200)]
    children: u32,
    /// Where the first node serves; the others on the ports after it. Port 0: any that are free.
    #[arg(long, default_value = "127.0.0.1:8090")]
    http: SocketAddr,
    /// Messages per second, from all nodes to all children.
    #[arg(long, default_value_t = 200)]
    load: u32,
    /// Children per minute that are sent to another node, for something to see.
    #[arg(long, default_value_t = 30)]
    moves: u32,
    /// A token that clients must send; without it only clients on this machine are served.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Whether the states of children are shown.
    #[arg(long)]
    states: bool,
    /// Something that is wrong, to look at it; the nodes then talk over a network in this process.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Actions per minute that the endpoint takes.
    #[arg(long, default_value = "120")]
    actions: NonZeroU32,
}

/// How long the nodes may take to end: they end together, and under a fault they wait in vain.
const END: Duration = Duration::from_secs(5);

/// What is wrong with the cluster.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// The link between the first two nodes is cut.
    Link,
    /// A node wants to come in, and the last one hears nobody for 100 s.
    Joiner,
    /// The first node waits for a seed that is not there.
    Seed,
    /// The last node is cut off once the children run, and declared down.
    Down,
}

/// Counts, and remembers the last notes.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    count: u64,
    notes: VecDeque<String>,
}

impl Actor for Tally {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add {
    note: String,
}

impl HubMessage for Add {
    const NAME: &'static str = "tally.add";
}

impl Handler<Add> for Tally {
    type Result = u64;

    fn handle(&mut self, Add { note }: Add, _: &mut Self::Context) -> u64 {
        self.count += 1;
        self.notes.push_front(note);
        self.notes.truncate(3);
        self.count
    }
}

hot_swap!(Tally, kind = "tally", messages = [Add]);

fn name(n: u32) -> String {
    format!("tally/{n:05}")
}

#[actix_web::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    // Not where it is read: the message of a value that is refused there would show it.
    let wrong = |what: &str| Options::command().error(ErrorKind::ValueValidation, what).exit();
    let access = match &options.token {
        Some(token) => match AdminToken::new(token) {
            Ok(token) => AdminAccess::token(token),
            Err(error) => wrong(&format!("--token: {error}")),
        },
        None => AdminAccess::Loopback,
    };
    let first = options.http.port();
    if first != 0 && first.checked_add(options.nodes - 1).is_none() {
        wrong(&format!("--http: there are no {} ports from {first} on", options.nodes));
    }
    let mount = AdminOptions::default()
        .access(access)
        .states(options.states)
        .actions_per_minute(options.actions);

    let interrupted = interrupted()?;
    let network = MemoryNetwork::new();
    let mut hubs: Vec<Hub> = Vec::new();
    let mut servers = Vec::new();
    for n in 0..options.nodes {
        let name = char::from(b'a' + u8::try_from(n)?).to_string();
        let mut builder = node(&name, options.fault, &network);
        if let Some(first) = hubs.first() {
            builder = builder.seed(&first.addresses()[0]);
        } else if options.fault == Some(Fault::Seed) {
            builder = builder.seed("/memory/nobody");
        }
        let hub = builder.start().await?;
        // Port 0: the system chooses one for each.
        let port = if first == 0 { 0 } else { first + n };
        let address = SocketAddr::new(options.http.ip(), port);
        let (served, mount) = (hub.clone(), mount.clone());
        let server = HttpServer::new(move || {
            App::new().service(admin::scope(served.clone(), mount.clone()))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(address)
        .map_err(|error| format!("{address} cannot be served: {error}"))?;
        let addresses = server.addrs();
        let server = server.run();
        servers.push(server.handle());
        actix_rt::spawn(server);
        println!("node {}  http://{}/hub/", hub.node_name(), addresses[0]);
        hubs.push(hub);
    }
    if options.fault == Some(Fault::Seed) {
        println!("no children started: the nodes wait for a seed; Ctrl-C ends all");
        return end(hubs, servers, interrupted).await;
    }
    let count = hubs.len();
    let all_are_in =
        move |seen: &Inspection| seen.nodes.iter().filter(|node| node.is_member()).count() == count;
    hubs[0].wait_for(all_are_in).timeout(Duration::from_secs(60)).await?;
    let began = Instant::now();
    let specs = (0..options.children)
        .map(|n| {
            let shard = if n % 2 == 0 { "even" } else { "odd" };
            Ok(ChildSpec::new::<Tally>(name(n), ())?.tag(shard)?.note("number", n.to_string()))
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let started = hubs[0].start_children(specs).timeout(Duration::from_secs(120)).await?.started();
    println!("{started} children started in {:.1?}; Ctrl-C ends all", began.elapsed());

    if options.children > 0 {
        actix_rt::spawn(write(hubs.clone(), options.children, options.load));
        actix_rt::spawn(wander(hubs.clone(), options.children, options.moves));
    }
    if let Some(fault) = options.fault {
        hubs.extend(break_it(fault, &hubs, &network).await?);
    }
    end(hubs, servers, interrupted).await
}

fn node(name: &str, fault: Option<Fault>, network: &MemoryNetwork) -> HubBuilder {
    let builder = HubSystem::builder("admin_example").node_name(name).child::<Tally>();
    match fault {
        None => builder.listen("127.0.0.1:0"),
        Some(fault) => {
            let suspect_after = if fault == Fault::Joiner { 100 } else { 3 };
            builder.memory(network).settings(Settings { suspect_after, ..Settings::default() })
        }
    }
}

/// Brings the fault about. Gives the node that wants to come in, if there is one.
async fn break_it(
    fault: Fault,
    hubs: &[Hub],
    network: &MemoryNetwork,
) -> Result<Option<Hub>, Box<dyn Error>> {
    let [first, .., last] = hubs else {
        return Err("--fault needs two nodes at least".into());
    };
    if fault == Fault::Link {
        network.cut(first.node_id(), hubs[1].node_id());
        return Ok(None);
    }
    if fault == Fault::Down {
        for hub in hubs.iter().filter(|hub| hub.node_id() != last.node_id()) {
            network.cut(hub.node_id(), last.node_id());
        }
        return Ok(None);
    }
    // Its seed is a name that stands for nobody yet.
    let late = node("late", Some(fault), network).seed("/memory/first").start().await?;
    for hub in hubs.iter().chain([&late]).filter(|hub| hub.node_id() != last.node_id()) {
        network.cut(hub.node_id(), last.node_id());
    }
    network.name("first", first.addresses());
    Ok(Some(late))
}

/// Waits for Ctrl-C or SIGTERM, and ends all nodes at once: with this process all of them go, so none
/// has to take children over first.
async fn end(
    hubs: Vec<Hub>,
    servers: Vec<ServerHandle>,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    interrupted.await;
    for server in servers {
        server.stop(true).await;
    }
    let ends = hubs.iter().map(async |hub| (hub.node_name(), hub.shutdown().timeout(END).await));
    for (name, report) in join_all(ends).await {
        println!("node {name} has ended: {}", report?);
    }
    Ok(())
}

/// Ends at Ctrl-C or SIGTERM. From the call on neither kills the process, not even a second one.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Writes to the children in turn, from the nodes in turn, until all nodes are gone.
async fn write(hubs: Vec<Hub>, children: u32, per_second: u32) {
    if per_second == 0 {
        return;
    }
    let refs: Vec<Vec<ChildRef<Tally>>> =
        hubs.iter().map(|hub| (0..children).map(|n| hub.child(name(n))).collect()).collect();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let (mut sent, mut due) = (0_u64, 0.0);
    loop {
        tick.tick().await;
        due += f64::from(per_second) / 20.0;
        while due >= 1.0 {
            due -= 1.0;
            // Steps of a prime visit all of them, in no obvious order.
            let child = usize::try_from(sent * 7_919 % u64::from(children)).unwrap_or(0);
            let from = &refs[usize::try_from(sent).unwrap_or(0) % refs.len()];
            sent += 1;
            let request = from[child].send(Add { note: format!("note {sent}") });
            // Nobody waits: what cannot be delivered is counted by the endpoint.
            actix_rt::spawn(async move { drop(request.await) });
        }
    }
}

/// Sends children to other nodes, so that there is something to see.
async fn wander(hubs: Vec<Hub>, children: u32, per_minute: u32) {
    if per_minute == 0 {
        return;
    }
    let pause = Duration::from_secs(60) / per_minute;
    for step in 0_u32.. {
        actix_rt::time::sleep(pause).await;
        let child = name(step.wrapping_mul(31) % children);
        for hub in &hubs {
            let Ok(nodes) = hub.nodes().await else { continue };
            let Ok(Some(known)) = hub.lookup(&child).await else { continue };
            let others: Vec<_> =
                nodes.iter().filter(|node| node.is_member() && node.id != known.node).collect();
            if let Some(to) = others.get(step as usize % others.len().max(1)) {
                let _ = hub.migrate(&child, to.id).await;
            }
            break;
        }
    }
}
