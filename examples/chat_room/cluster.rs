//! The launcher: three nodes as three processes of this machine. It starts one again that has ended
//! when a page of another asks for it.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, TcpListener},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::header, rt, web};
use futures_util::future::select_all;
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot},
};

use crate::node::interrupted;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// The pages' ports, if they are free.
const PORTS: [u16; 3] = [8080, 8081, 8082];
/// How long a node may take to end before it is killed: it forces what is left after 8 s, which takes
/// 3 s at most.
const LEAVE: Duration = Duration::from_secs(12);

/// A page asks that the node of this name is started, and wants to know what became of it.
type Wish = (String, oneshot::Sender<Result<(), String>>);

/// What the launcher waits for.
enum What {
    Interrupted,
    Ended(io::Result<ExitStatus>, usize),
    Wished(String, oneshot::Sender<Result<(), String>>),
}

/// What a node is started with, each time.
struct Place {
    name: &'static str,
    page: u16,
    hub: u16,
}

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
    let places = std::array::from_fn(|i| Place { name: NAMES[i], page: pages[i], hub: hubs[i] });
    let (launcher, mut wishes) = serve()?;
    let mut nodes = Vec::new();
    for place in &places {
        // The first one is there for the others to find; from it they learn of each other.
        let seeds = places[..nodes.len().min(1)].iter();
        nodes.push(start(place, seeds, &launcher)?);
    }
    println!("Three nodes, each with its own page:");
    for (name, page) in NAMES.iter().zip(pages) {
        println!("  node {name}  http://127.0.0.1:{page}/?room=lobby");
    }
    println!(
        "Open two of them side by side and write. Then stop a node, with the button on its page: its\n\
         rooms move, with all their messages. Start it again from the page of another. From another\n\
         terminal:\n  \
         chat_room client --room lobby --say hello --url http://127.0.0.1:{}\n\
         Ctrl-C ends all.",
        pages[1],
    );

    while !nodes.is_empty() {
        let ends = nodes.iter_mut().map(|node| Box::pin(node.process.wait()));
        let what = tokio::select! {
            (status, index, _) = select_all(ends) => What::Ended(status, index),
            Some((name, answer)) = wishes.recv() => What::Wished(name, answer),
            () = &mut interrupt => What::Interrupted,
        };
        let (status, index) = match what {
            What::Interrupted => return end(nodes).await,
            What::Ended(status, index) => (status, index),
            What::Wished(name, answer) => {
                let started = start_again(&name, &places, &mut nodes, &launcher);
                match &started {
                    Ok(()) => println!("node {name} is started again"),
                    Err(problem) => println!("node {name} is not started again: {problem}"),
                }
                let _ = answer.send(started);
                continue;
            }
        };
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

/// Takes the wishes of nodes, at the URL that it answers with.
fn serve() -> io::Result<(String, mpsc::Receiver<Wish>)> {
    let (wish, wishes) = mpsc::channel::<Wish>(8);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(wish.clone()))
            .route("/start/{name}", web::post().to(take_wish))
    });
    let server = server.workers(1).disable_signals().bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", server.addrs()[0]);
    rt::spawn(server.run());
    Ok((url, wishes))
}

async fn take_wish(
    request: HttpRequest,
    name: web::Path<String>,
    wish: web::Data<mpsc::Sender<Wish>>,
) -> HttpResponse {
    // Browsers name the site for which they post; nodes name none.
    if request.headers().contains_key(header::ORIGIN) {
        return HttpResponse::Forbidden().body("nodes ask here, not pages");
    }
    let (answer, outcome) = oneshot::channel();
    let ending = || HttpResponse::Conflict().body("all nodes are being ended");
    if wish.send((name.into_inner(), answer)).await.is_err() {
        return ending();
    }
    match outcome.await {
        Ok(Ok(())) => HttpResponse::Ok().finish(),
        Ok(Err(problem)) => HttpResponse::Conflict().body(problem),
        Err(_) => ending(),
    }
}

/// Starts a node that has ended; those that are there take it in.
fn start_again(
    name: &str,
    places: &[Place; 3],
    nodes: &mut Vec<Node>,
    launcher: &str,
) -> Result<(), String> {
    let is_there = |name: &str| nodes.iter().any(|node| node.name == name);
    if is_there(name) {
        return Err("it runs already".into());
    }
    let place = places.iter().find(|place| place.name == name);
    let place = place.ok_or("there is no node of this name")?;
    let seeds = places.iter().filter(|place| is_there(place.name));
    let node = start(place, seeds, launcher).map_err(|error| error.to_string())?;
    nodes.push(node);
    Ok(())
}

fn start<'a>(
    place: &Place,
    seeds: impl Iterator<Item = &'a Place>,
    launcher: &str,
) -> io::Result<Node> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["node", "--name", place.name, "--listen", &address(place.hub)])
        .args(["--http", &format!("127.0.0.1:{}", place.page), "--launcher", launcher])
        .args(seeds.flat_map(|seed| ["--seed".to_owned(), address(seed.hub)]))
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C reaches a whole process group. The nodes have groups of their own: they leave one
    // after another, when this process says so.
    #[cfg(unix)]
    command.process_group(0);
    let mut process = command.spawn()?;
    let stdin = process.stdin.take();
    Ok(Node { name: place.name, process, stdin })
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
