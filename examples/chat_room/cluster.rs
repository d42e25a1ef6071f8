//! The launcher: three nodes as three processes of this machine.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, TcpListener},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::future::select_all;
use tokio::process::{Child, ChildStdin, Command};

use crate::node::interrupted;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// The pages' ports, if they are free.
const PORTS: [u16; 3] = [8080, 8081, 8082];
/// How long a node may take to end before it is killed: it forces what is left after 8 s, which takes
/// 3 s at most.
const LEAVE: Duration = Duration::from_secs(12);

struct Node {
    name: &'static str,
    process: Child,
    /// The node leaves when this closes. It closes with this process, however that ends, so that
    /// no node outlives it.
    stdin: Option<ChildStdin>,
}

/// Starts the nodes and stays until all have ended, or until Ctrl-C or SIGTERM ends them.
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let mut interrupt = pin!(interrupted());
    let pages = free_ports(PORTS)?;
    let hubs = free_ports([0; 3])?;
    let mut nodes = Vec::new();
    for ((name, page), hub) in NAMES.into_iter().zip(pages).zip(hubs) {
        // The first one is there for the others to find; from it they learn of each other.
        let seed = (hub != hubs[0]).then(|| address(hubs[0]));
        nodes.push(start(name, page, &address(hub), seed)?);
    }
    println!("Three nodes, each with its own page:");
    for (name, page) in NAMES.iter().zip(pages) {
        println!("  node {name}  http://127.0.0.1:{page}/?room=lobby");
    }
    println!(
        "Open two of them side by side and write. Then make a node leave, with the button on its\n\
         page: its rooms move, and what was said goes with them. From another terminal:\n  \
         chat_room client --room lobby --say hello --url http://127.0.0.1:{}\n\
         Ctrl-C ends all.",
        pages[1],
    );

    while !nodes.is_empty() {
        let ends = nodes.iter_mut().map(|node| Box::pin(node.process.wait()));
        let ended = tokio::select! {
            (status, index, _) = select_all(ends) => Some((status, index)),
            () = &mut interrupt => None,
        };
        let Some((status, index)) = ended else { return end(nodes).await };
        let node = nodes.remove(index);
        let others: Vec<_> = nodes.iter().map(|node| node.name).collect();
        let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        println!("node {} {}; still there: {others}", node.name, describe(status));
    }
    Err("all nodes have ended".into())
}

/// Ends the nodes one by one, so that each hands its rooms over to those that are still there. What
/// bounds it is [`LEAVE`]: a second signal says nothing new.
async fn end(nodes: Vec<Node>) -> Result<(), Box<dyn Error>> {
    println!("ending the nodes one after another, within {} s each", LEAVE.as_secs());
    let mut all_well = true;
    for mut node in nodes {
        drop(node.stdin.take());
        match tokio::time::timeout(LEAVE, node.process.wait()).await {
            Ok(status) => {
                all_well &= matches!(&status, Ok(status) if status.success());
                println!("node {} {}", node.name, describe(status));
            }
            Err(_) => {
                all_well = false;
                node.process.kill().await?;
                println!("node {} was killed", node.name);
            }
        }
    }
    if all_well { Ok(()) } else { Err("not every node ended well".into()) }
}

fn start(name: &'static str, page: u16, listen: &str, seed: Option<String>) -> io::Result<Node> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--name", name, "--listen", listen, "--until-stdin-closes"])
        .args(["--http", &format!("127.0.0.1:{page}")])
        .args(seed.iter().flat_map(|seed| ["--seed", seed]))
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C reaches a whole process group. The nodes have groups of their own: they leave one
    // after another, when this process says so.
    #[cfg(unix)]
    command.process_group(0);
    let mut process = command.spawn()?;
    let stdin = process.stdin.take();
    Ok(Node { name, process, stdin })
}

fn address(port: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}")
}

/// Ports of this machine that are free now: the wanted ones where possible (0: any).
fn free_ports(wanted: [u16; 3]) -> io::Result<[u16; 3]> {
    // All are held until all are found, so that no two are the same.
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let held = wanted.map(|port| bind(port).or_else(|_| bind(0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(held) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) if status.success() => "has left".into(),
        // Tells the signal, if it was one: after `kill -9` the others go on with empty rooms, and
        // give them back what they saw of them.
        Ok(status) => format!("was lost ({status})"),
        Err(problem) => format!("cannot be waited for ({problem})"),
    }
}
