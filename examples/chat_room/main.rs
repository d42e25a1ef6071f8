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

use std::{error::Error, process::ExitCode};

use options::{Command, Wrong};

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned());
    let command = match options::parse(arguments) {
        Ok(command) => command,
        Err(wrong) => return fail(wrong.into()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let outcome = match command {
        Command::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Command::Launch => actix::System::new().block_on(cluster::run()),
        Command::Node(options) => actix::System::new().block_on(node::run(options)),
        Command::Client(options) => client::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

/// Says what is wrong; 2 is the exit code for a wrong option, 1 for all else.
fn fail(problem: Box<dyn Error>) -> ExitCode {
    eprintln!("chat_room: {problem}");
    if problem.is::<Wrong>() {
        eprintln!("chat_room --help explains everything.");
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}
