//! An actix-web app that counts the visits of its short links, before and after: the links become
//! children of a hub, and whichever node is asked, the one that has the link answers.
//!
//! `cargo run --example actix_web_app` shows it with two nodes in this process and ends.
//! `cargo run --example actix_web_app -- --serve` keeps serving until Ctrl-C or SIGTERM.

use std::{error::Error, net::SocketAddr};

use actix::prelude::*;
use actix_hub::{Inspection, prelude::*};
use actix_rt::net::TcpStream;
use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

// ---- the actor, as it would be without a hub ----------------------------------------------------

/// A short link, and how often it was followed.
#[derive(Default, Serialize, Deserialize)]
struct Link {
    visits: u64,
}

impl Actor for Link {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Visit;

impl Handler<Visit> for Link {
    type Result = u64;

    fn handle(&mut self, Visit: Visit, _: &mut Self::Context) -> u64 {
        self.visits += 1;
        self.visits
    }
}

// ---- what makes it live on a cluster -------------------------------------------------------------

impl HubMessage for Visit {
    const NAME: &'static str = "link.visit";
}

hot_swap!(Link, kind = "link", messages = [Visit]);

async fn start_hub(name: &str, seeds: &[String]) -> Result<Hub, Box<dyn Error>> {
    let mut builder =
        HubSystem::builder("links").node_name(name).child::<Link>().listen("/ip4/127.0.0.1/tcp/0");
    for seed in seeds {
        builder = builder.seed(seed);
    }
    Ok(builder.start().await?)
}

// ---- the app -------------------------------------------------------------------------------------

/// Any worker of any node may ask: the hub is a cheap handle, and finds the link.
async fn follow(link: web::Path<String>, hub: web::Data<Hub>) -> HttpResponse {
    match hub.child::<Link>(&*link).send(Visit).await {
        Ok(visits) => HttpResponse::Ok().body(format!("visit {visits} of {link}\n")),
        // It was not handled, so the visitor may try again; and says why, since a hub always does.
        Err(HubSendError::NotHandled { reason: NotHandled::NoSuchChild, .. }) => {
            HttpResponse::NotFound().body(format!("there is no link {link}\n"))
        }
        Err(problem) => HttpResponse::ServiceUnavailable().body(format!("{problem}\n")),
    }
}

fn serve(hub: Hub) -> Result<(ServerHandle, SocketAddr), Box<dyn Error>> {
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::new(hub.clone())).route("/{link}", web::get().to(follow))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")?;
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok((handle, address))
}

// ---- the demonstration ---------------------------------------------------------------------------

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let stay = match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--serve"] => true,
        _ => return Err("usage: actix_web_app [--serve]".into()),
    };

    let interrupted = interrupted()?;
    let a = start_hub("a", &[]).await?;
    let mut events = a.events();
    let b = start_hub("b", &a.addresses()).await?;
    while !matches!(events.next().await.ok_or("the hub runs")?, HubEvent::NodeJoined { .. }) {}
    println!("Two nodes, a and b, have found each other.");

    a.start_child(ChildSpec::new::<Link>("docs", ())?).await?;
    a.migrate("docs", b.node_id()).await?;
    println!("The link \"docs\" runs on node {}.", place(&a).await?);

    let (server_a, address_a) = serve(a.clone())?;
    let (server_b, address_b) = serve(b.clone())?;
    println!("Each node serves the app: a on http://{address_a}, b on http://{address_b}.");
    let mut answers = Vec::new();
    for (name, address) in [("a", address_a), ("b", address_b), ("a", address_a)] {
        let answer = get(address, "/docs").await?;
        println!(
            "GET http://{address}/docs: asked of {name}, answered by the child on b: {answer}"
        );
        answers.push(answer);
    }

    if stay {
        println!("Serving; try curl http://{address_a}/docs. Ctrl-C ends.");
        interrupted.await;
        // First nobody asks any more, then what runs here goes to who is left. The last one just ends.
        for (name, server, hub) in [("b", server_b, b), ("a", server_a, a)] {
            server.stop(true).await;
            println!("{name} has ended: {}", hub.shutdown().await?);
        }
        return Ok(());
    }
    server_b.stop(true).await;
    b.leave().await?;
    println!("b has left; \"docs\" runs on node {} now.", place(&a).await?);
    let answer = get(address_a, "/docs").await?;
    println!("GET http://{address_a}/docs: asked of a, answered there: {answer}");
    answers.push(answer);
    server_a.stop(true).await;
    println!("a has ended: {}", a.shutdown().await?);

    let expected = ["visit 1 of docs", "visit 2 of docs", "visit 3 of docs", "visit 4 of docs"];
    if answers != expected {
        return Err(format!("expected {expected:?}, got {answers:?}").into());
    }
    println!("One link, one count, whoever was asked.");
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

/// The name of the node on which the link runs, as `hub` knows it.
async fn place(hub: &Hub) -> Result<String, Box<dyn Error>> {
    let Inspection { nodes, children, .. } = hub.inspect().await?;
    let link = children.iter().find(|child| child.id.as_str() == "docs").ok_or("it exists")?;
    let node = nodes.iter().find(|node| node.id == link.node).ok_or("its node is in")?;
    Ok(node.name.to_string())
}

/// A request as a browser would make it, without an HTTP client as a dependency.
async fn get(address: SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is HTTP")?;
    if !head.starts_with("HTTP/1.0 200") && !head.starts_with("HTTP/1.1 200") {
        return Err(format!("{path}: {body}").into());
    }
    Ok(body.trim_end().to_owned())
}
