//! Chat rooms that live on a cluster.
//!
//! `cargo run --release --example chat_room` starts three nodes on this machine, each with its own
//! page. Rooms are children of the hub: they run on one node at a time, and move to another, with
//! everything said in them, when theirs leaves. Where to read on:
//!
//! - `room.rs`: the room, an actor that moves. Start here.
//! - `node.rs`: a node: the hub, the page's server, and how both end.
//! - `gateway.rs`: what stands between the room and the pages of one node.
//! - `directory.rs`: one small child made movable by `hot_swap!`.
//! - `web.rs`, `page.*`: HTTP, WebSocket and the page.
//! - `cluster.rs`: the launcher. `client.rs`: the terminal. `options.rs`: the command line.

mod client;
mod cluster;
mod directory;
mod gateway;
mod node;
mod options;
mod room;
mod web;

use std::process::ExitCode;

use clap::Parser as _;
use options::{Command, Options, Wrong};

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let outcome = match options.command {
        None => actix::System::new().block_on(cluster::run()),
        Some(Command::Node(options)) => actix::System::new().block_on(node::run(options)),
        Some(Command::Client(options)) => client::run(options),
    };
    let Err(problem) = outcome else { return ExitCode::SUCCESS };
    eprintln!("chat_room: {problem}");
    // As for an option that is wrong by its form.
    if problem.is::<Wrong>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
