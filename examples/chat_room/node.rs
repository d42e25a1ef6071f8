//! A node: a hub, the server of its page, and the ways in which both end.

use std::{collections::BTreeMap, error::Error, io::Read as _, time::Duration};

use actix_hub::{Inspection, StartHubError, prelude::*};
use actix_web::rt;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    cluster,
    directory::{DIRECTORY, Directory, Register},
    gateway::Gateways,
    options::{NodeOptions, Wrong},
    room::Room,
    web::{self, Site},
};

/// How often the picture of the cluster is looked at, and how often this node says that it is there.
const LOOK: Duration = Duration::from_millis(250);
const REGISTER: Duration = Duration::from_secs(1);
/// How long leaving may take before the node stays, or ends without it.
const LEAVE: Duration = Duration::from_secs(8);

/// The cluster as the pages show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cluster {
    /// The id of the node that tells this. Names may be equal.
    pub me: String,
    pub nodes: Vec<NodeState>,
    /// Names of nodes that do not run and that the launcher can start.
    pub stopped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeState {
    pub id: String,
    pub name: String,
    /// Where its page is; empty while it is not known.
    pub url: String,
    pub state: &'static str,
    /// The names of the rooms that run there.
    pub rooms: Vec<String>,
}

/// Runs a node until it is told to leave.
pub(crate) async fn run(options: NodeOptions) -> Result<(), Box<dyn Error>> {
    let settings =
        Settings { leave_timeout: LEAVE, shutdown_deadline: LEAVE, ..Settings::default() };
    if options.http.ip().is_unspecified() && options.url.is_none() {
        let problem = "with this address, --url must say how browsers reach the page".into();
        return Err(Wrong { option: "--http".into(), problem }.into());
    }
    let mut builder = HubSystem::builder("chat_room")
        .node_name(&options.name)
        .settings(settings)
        // Both start with the first message that anybody sends to them.
        .child_kind::<Room>(|kind| kind.on_demand(|_| ()))
        .child_kind::<Directory>(|kind| kind.on_demand(|_| ()));
    for address in &options.listen {
        builder = builder.listen(address);
    }
    for address in &options.seeds {
        builder = builder.seed(address);
    }
    for address in &options.advertise {
        builder = builder.advertise(address);
    }
    if let Some(secret) = &options.secret {
        builder = builder.secret(secret.0);
    }
    let mut stop = Box::pin(stop_signal(options.launcher.is_some()));
    let hub = builder.start().await.map_err(|error| explain(error, &options))?;

    let url = options.url.clone().unwrap_or_else(|| format!("http://{}", options.http));
    let (cluster, watcher) = watch::channel(Cluster::default());
    let gateways = Gateways::new(hub.clone(), watcher.clone());
    let (leave, mut leave_requests) = mpsc::channel(1);
    let launcher = options.launcher.clone();
    let site = Site { gateways: gateways.clone(), cluster: watcher, leave, launcher };
    let server = match web::serve(site, hub.clone(), options.http) {
        Ok(server) => server,
        Err(problem) => {
            hub.stop().await;
            let problem = format!("cannot serve on {}: {problem}", options.http);
            return Err(Wrong { option: "--http".into(), problem }.into());
        }
    };
    let handle = server.handle();
    rt::spawn(server);
    let startable: &[&str] = if options.launcher.is_some() { &cluster::NAMES } else { &[] };
    rt::spawn(observe(hub.clone(), url.clone(), startable, cluster));
    rt::spawn(report(hub.clone()));
    let name = &options.name;
    println!("[{name}] page on {url}, other nodes join with --seed {}", hub.addresses().join(" "));

    loop {
        let answer = tokio::select! {
            () = &mut stop => {
                end(&hub, name).await;
                break;
            }
            () = hub.stopped() => {
                println!("[{name}] has left as an administrator wished");
                break;
            }
            Some(answer) = leave_requests.recv() => answer,
        };
        let left = tokio::select! {
            // The end of the process is more than a wish of a page, and waits for less.
            () = &mut stop => {
                let _ = answer.send(Err("this node ends".into()));
                end(&hub, name).await;
                break;
            }
            left = hub.leave() => left,
        };
        let Err(problem) = left else {
            println!("[{name}] has left; what ran here goes on elsewhere");
            let _ = answer.send(Ok(()));
            break;
        };
        println!("[{name}] stays: {problem}");
        let _ = answer.send(Err(problem.to_string()));
        // Without it the node would go on handing its rooms over.
        let _ = hub.stay().await;
    }
    gateways.bye();
    handle.stop(true).await;
    Ok(())
}

/// Ends the hub in any case: hands the rooms over if another node takes them.
async fn end(hub: &Hub, name: &str) {
    match hub.shutdown().await {
        Ok(report) => println!("[{name}] has ended: {report}"),
        Err(problem) => println!("[{name}] has ended before: {problem}"),
    }
}

/// Names the option that is to blame, as for any other wrong option.
fn explain(error: StartHubError, options: &NodeOptions) -> Box<dyn Error> {
    let wrong = |option: &str, problem| Wrong { option: option.to_owned(), problem }.into();
    match &error {
        StartHubError::Address { address, .. } if options.seeds.contains(address) => {
            wrong("--seed", error.to_string())
        }
        StartHubError::Address { address, .. } if options.advertise.contains(address) => {
            wrong("--advertise", error.to_string())
        }
        StartHubError::Address { .. } | StartHubError::Listen { .. } => {
            wrong("--listen", error.to_string())
        }
        StartHubError::Admission(_) => {
            wrong("--secret", format!("is needed to listen on {}", options.listen.join(", ")))
        }
        _ => error.into(),
    }
}

/// Keeps the picture of the cluster that the pages show.
async fn observe(hub: Hub, url: String, startable: &[&str], cluster: watch::Sender<Cluster>) {
    let urls = watch::Sender::new(BTreeMap::new());
    rt::spawn(register(hub.clone(), url, urls.clone()));
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        // Ends with the hub; the last picture stays.
        let Ok(Inspection { nodes, children, .. }) = hub.inspect().await else { return };
        let mut picture = picture(&hub, &nodes, &children, &urls.borrow());
        let is_stopped = |name: &&&str| picture.nodes.iter().all(|node| node.name != **name);
        picture.stopped = startable.iter().filter(is_stopped).map(|name| (*name).into()).collect();
        cluster.send_if_modified(|known| {
            let changed = *known != picture;
            *known = picture;
            changed
        });
    }
}

fn picture(
    hub: &Hub,
    nodes: &[NodeInfo],
    children: &[ChildInfo],
    urls: &BTreeMap<String, String>,
) -> Cluster {
    let room = |child: &ChildInfo| Some(child.id.as_str().strip_prefix("room/")?.to_owned());
    let mut nodes: Vec<NodeState> = nodes
        .iter()
        .map(|node| NodeState {
            id: node.id.to_string(),
            name: node.name.to_string(),
            url: urls.get(&node.id.to_string()).cloned().unwrap_or_default(),
            state: match node.state {
                actix_hub::NodeState::Joining => "joining",
                actix_hub::NodeState::Alive => "alive",
                actix_hub::NodeState::Suspect => "silent",
                actix_hub::NodeState::Leaving => "leaving",
                _ => "unknown",
            },
            rooms: children.iter().filter(|child| child.node == node.id).filter_map(room).collect(),
        })
        .collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Cluster { me: hub.node_id().to_string(), nodes, stopped: Vec::new() }
}

/// Says to the directory where this node's page is, and learns where the others' are.
async fn register(hub: Hub, url: String, urls: watch::Sender<BTreeMap<String, String>>) {
    let directory: ChildRef<Directory> = hub.child(DIRECTORY);
    let node = hub.node_id().to_string();
    let mut tick = tokio::time::interval(REGISTER);
    loop {
        tick.tick().await;
        let register = Register { node: node.clone(), url: url.clone() };
        match directory.send(register).timeout(REGISTER).await {
            Ok(pages) => {
                urls.send_replace(pages.0);
            }
            // The next one is a second away.
            Err(error) => tracing::debug!(%error, "not registered"),
        }
    }
}

/// Tells in the terminal what happens to rooms and nodes.
async fn report(hub: Hub) {
    let me = hub.node_name().to_string();
    let mut events = hub.events();
    let mut names = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            HubEvent::NodeJoined { node, name } => {
                println!("[{me}] sees {name}");
                names.insert(node, name);
            }
            HubEvent::HandedOver { child, took, bytes, .. } => {
                println!("[{me}] handed {child} over: {bytes} bytes, {took:.1?}");
            }
            HubEvent::TakenOver { child, epoch, .. } => {
                println!("[{me}] runs {child} now ({epoch})")
            }
            HubEvent::Recovered { child, .. } => println!("[{me}] started {child} again"),
            HubEvent::NodeLeft { node } | HubEvent::NodeDown { node } => {
                let name =
                    names.remove(&node).map_or_else(|| node.short(), |name| name.to_string());
                println!("[{me}] {name} is gone");
            }
            _ => {}
        }
    }
}

/// Ends when the process is asked to end: Ctrl-C, SIGTERM, or standard input at its end.
fn stop_signal(until_stdin_closes: bool) -> impl Future<Output = ()> {
    let interrupted = interrupted();
    let (closed, stdin_closed) = oneshot::channel();
    if until_stdin_closes {
        // A blocking read, so a thread of its own; it ends with the process.
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = closed.send(());
        });
    } else {
        std::mem::forget(closed);
    }
    async {
        tokio::select! {
            () = interrupted => {}
            _ = stdin_closed => {}
        }
    }
}

/// Ends at Ctrl-C or SIGTERM. From the call on neither kills the process, not even a second one that
/// comes at once: `timeout` signals its child, and then the child's group.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let handler = |kind| signal(kind).expect("a signal handler can be set");
        let mut interrupt = handler(SignalKind::interrupt());
        let mut terminate = handler(SignalKind::terminate());
        async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    }
    #[cfg(not(unix))]
    async {
        let _ = tokio::signal::ctrl_c().await;
    }
}
