//! A terminal client of the admin endpoint.
//!
//! `cargo run --example hubctl -- --url http://127.0.0.1:8090/hub nodes`, with an endpoint from
//! `cargo run --example admin`.

mod act;
mod client;
mod follow;
mod interrupt;
mod options;
mod paint;
mod problem;
mod reply;
mod screen;
mod show;
mod sse;
mod table;
mod text;
mod watch;

use std::{error::Error as _, fs, io, path::Path, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};

use crate::{
    client::{Client, certificates},
    options::{Command, Endpoint, Options, Parked, Token},
    paint::Tone,
    problem::Failure,
    screen::Screen,
    text::escape,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let screen = Screen::new(options.json, options.color);
    match run(options, screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code();
            if matches!(failure, Failure::Declined) {
                screen.note(Tone::Plain, &failure.to_string());
            } else if code != ExitCode::SUCCESS {
                let mut text = failure.to_string();
                if let Some(source) = failure.source() {
                    text.push_str(&format!(": {source}"));
                }
                screen.fail(&text);
            }
            code
        }
    }
}

fn run(options: Options, screen: Screen) -> Result<(), Failure> {
    let client = match options.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Options::command(), "hubctl", &mut script);
            return Ok(io::Write::write_all(&mut io::stdout(), &script)?);
        }
        _ => client(options.endpoint)?,
    };
    match options.command {
        Command::Nodes => show::nodes(&client, screen),
        Command::Departed => show::departed(&client, screen),
        Command::Children(filter) => show::children(&client, screen, filter),
        Command::Child { id } => show::child(&client, screen, &id),
        Command::State { id } => show::state(&client, screen, &id),
        Command::Start { what, sure } => act::start(&client, screen, what, sure),
        Command::Stop { id, sure } => act::stop(&client, screen, &id, sure),
        Command::Handovers(filter) => show::handovers(&client, screen, filter),
        Command::Parked(Parked::List { child, limit, all }) => {
            show::parked(&client, screen, child, limit, all)
        }
        Command::Parked(Parked::Show { key }) => show::parked_state(&client, screen, &key),
        Command::Parked(Parked::Apply { key, replace, sure }) => {
            act::apply(&client, screen, &key, replace, sure)
        }
        Command::Parked(Parked::Discard { key, sure }) => act::discard(&client, screen, &key, sure),
        Command::Migrate { child, node, forced, sure } => {
            act::migrate(&client, screen, &child, &node, forced, sure)
        }
        Command::Release { child, sure } => act::release(&client, screen, &child, sure),
        Command::Leave { node, sure } => act::on_node(&client, screen, "leave", &node, sure),
        Command::Stay { node, sure } => act::on_node(&client, screen, "stay", &node, sure),
        Command::Drain { node, sure } => act::on_node(&client, screen, "drain", &node, sure),
        Command::Undrain { node, sure } => act::on_node(&client, screen, "undrain", &node, sure),
        Command::Events(filter) if filter.all_nodes => show::events(&client, screen, &filter),
        Command::Events(filter) => follow::events(&client, screen, &filter),
        Command::Settings => show::settings(&client, screen),
        Command::Watch => watch::watch(&client, screen),
        Command::Completions { .. } => Ok(()),
    }
}

fn client(endpoint: Endpoint) -> Result<Client, Failure> {
    let Endpoint { url, token: given, token_file, ca_file, timeout } = endpoint;
    let (token, source) = match token_file {
        // An empty variable is as good as none.
        None => (given.filter(|token| !token.0.is_empty()), "--token or HUBCTL_TOKEN".to_owned()),
        Some(file) => {
            let (name, text) = read(&file)?;
            (Some(Token(text.trim().to_owned())), name)
        }
    };
    let token = token.map(Token::check).transpose();
    let token = token.map_err(|why| Failure::Usage(format!("{source}: {why}")))?;
    let trusted = ca_file.filter(|file| !file.is_empty()).map(|file| {
        let (name, text) = read(Path::new(&file))?;
        certificates(&text).map_err(|why| Failure::Usage(format!("{name}: {why}")))
    });
    Ok(Client::new(&url, token, timeout, trusted.transpose()?))
}

/// The name of a file as it may be shown, and what is in it.
fn read(file: &Path) -> Result<(String, String), Failure> {
    let name = escape(&file.to_string_lossy()).into_owned();
    match fs::read_to_string(file) {
        Ok(text) => Ok((name, text)),
        Err(source) => Err(Failure::File { file: name, source }),
    }
}
