//! The command line.

use std::{fmt, net::SocketAddr};

use clap::{Args, Parser, Subcommand};

use crate::room;

const EXAMPLES: &str = "\
Without a command: three nodes on this machine, each with its page. Ctrl-C ends them.

Examples:
  chat_room
  chat_room node --name a --listen 127.0.0.1:4001 --http 127.0.0.1:8080
  chat_room node --name b --listen 127.0.0.1:4002 --http 127.0.0.1:8081 --seed 127.0.0.1:4001
  chat_room client --room lobby --say \"hello\"
  chat_room client --room lobby --follow";

/// Chat rooms that live on a cluster and move from node to node.
#[derive(Debug, Parser)]
#[command(name = "chat_room", after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One node
    Node(NodeOptions),
    /// Reads and writes from a terminal
    Client(ClientOptions),
}

#[derive(Args, Debug)]
pub(crate) struct NodeOptions {
    /// Its name, as people see it
    #[arg(long, value_parser = node_name)]
    pub name: String,
    /// Where other nodes reach it: IP:PORT or a multiaddr; may be repeated. The default is any free
    /// port, for this machine alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: Vec<String>,
    /// Where its page is served. The page has no log-in: whoever reaches it can write, and can stop
    /// the node
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// A node of the cluster: HOST:PORT or a multiaddr; may be repeated. Without one, or if one is
    /// this node itself, it founds a cluster if there is none; else it waits until a seed takes it in
    #[arg(long = "seed", value_name = "ADDRESS")]
    pub seeds: Vec<String>,
    /// 64 hex digits that all nodes share; needed to listen beyond this machine
    #[arg(long, value_name = "HEX", value_parser = secret)]
    pub secret: Option<Secret>,
    /// How other nodes reach it, if not at --listen (containers); may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Vec<String>,
    /// How browsers reach its page, if not at --http
    #[arg(long, value_parser = url)]
    pub url: Option<String>,
    /// Where the launcher starts other nodes; this one leaves when its standard input closes
    #[arg(long, value_name = "URL", hide = true)]
    pub launcher: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ClientOptions {
    /// The room
    #[arg(long, value_parser = |text: &str| room::check_room(text).map(|()| text.to_owned()))]
    pub room: String,
    /// Writes a message; may be repeated
    #[arg(long, value_name = "TEXT", required_unless_present = "follow")]
    pub say: Vec<String>,
    /// Shows the messages that are there, and those that come, until Ctrl-C
    #[arg(long)]
    pub follow: bool,
    /// Who writes
    #[arg(
        long, value_name = "NAME", default_value = "terminal",
        value_parser = |text: &str| room::check_user(text).map(|()| text.to_owned())
    )]
    pub user: String,
    /// A node's page; may be repeated. The default is those of the launcher
    #[arg(
        long = "url", value_name = "URL", value_parser = url, hide_default_value = true,
        default_values = ["http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082"]
    )]
    pub urls: Vec<String>,
}

/// What all nodes share; never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An option whose value only turned out to be wrong when it was used.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub option: String,
    pub problem: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.problem)
    }
}

impl std::error::Error for Wrong {}

fn node_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err("a name has 1 to 64 bytes, all on one line".into());
    }
    Ok(text.to_owned())
}

fn url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ']) => Ok(text.to_owned()),
        _ => Err("a URL such as http://127.0.0.1:8080 is asked for".into()),
    }
}

fn secret(text: &str) -> Result<Secret, &'static str> {
    let refused = "64 hex digits are asked for; openssl rand -hex 32 makes some";
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused);
    }
    let mut secret = [0; 32];
    for (byte, at) in secret.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| refused)?;
    }
    Ok(Secret(secret))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn read(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["chat_room"].into_iter().chain(line.split_whitespace()))
    }

    fn refused(line: &str) -> String {
        read(line).expect_err("the line is wrong").to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
        assert!(read("").expect("it launches three nodes").command.is_none());
    }

    #[test]
    fn a_node_is_described_by_its_options() {
        let options = read("node --name a --http 127.0.0.1:81 --seed /ip4/10.0.0.1/tcp/1");
        let Some(Command::Node(node)) = options.expect("a node").command else {
            panic!("a node was described")
        };
        assert_eq!((node.name.as_str(), node.http.port(), node.seeds.len()), ("a", 81, 1));
        assert_eq!(node.listen, ["127.0.0.1:0"]);
    }

    #[test]
    fn a_client_asks_the_nodes_of_the_launcher() {
        let options = read("client --room lobby --say hi --say there");
        let Some(Command::Client(client)) = options.expect("a client").command else {
            panic!("a client was described")
        };
        assert_eq!((client.say.len(), client.urls.len(), client.user.as_str()), (2, 3, "terminal"));
    }

    #[test]
    fn a_wrong_option_is_named() {
        for (line, named) in [
            ("node --nme a", "--nme"),
            ("node --http 127.0.0.1:80", "--name"),
            ("node --name a --http eighty", "--http"),
            ("node --name a --secret 1234", "64 hex digits"),
            ("node --name a --seed", "--seed"),
            ("client --follow", "--room"),
            ("client --room x", "--say"),
            ("client --room x --follow --url ftp://x", "--url"),
        ] {
            assert!(refused(line).contains(named), "{line}: {}", refused(line));
        }
    }

    #[test]
    fn a_secret_is_read_and_not_shown() {
        let read = secret(&"0f".repeat(32)).expect("64 hex digits");
        assert_eq!(read.0, [15; 32]);
        assert_eq!(format!("{read:?}"), "Secret(..)");
    }
}
