//! The command line.

use std::{fmt, net::SocketAddr};

use crate::room;

pub(crate) const HELP: &str = "\
Chat rooms that live on a cluster and move from node to node.

  chat_room                         three nodes on this machine, each with its page; Ctrl-C ends them
  chat_room --name NAME [OPTIONS]   one node, by hand
  chat_room client --room ROOM ...  read and write from a terminal

Options of a node:
  --name NAME           its name, as people see it (needed)
  --listen ADDRESS      where other nodes reach it: IP:PORT or a multiaddr; may be repeated
                        (default 127.0.0.1:0: any free port, this machine only)
  --http ADDRESS:PORT   where its page is served (default 127.0.0.1:8080). The page has no log-in:
                        whoever reaches it can write, and can make the node leave
  --seed ADDRESS        a node of the cluster: HOST:PORT or a multiaddr; may be repeated. Without one,
                        or if one is this node itself, it founds a cluster if there is none; else it
                        waits until a seed takes it in
  --secret HEX          64 hex digits that all nodes share; needed to listen beyond this machine
  --advertise ADDRESS   how others reach it, if not at --listen (containers); may be repeated
  --url URL             how browsers reach its page, if not at --http
  --until-stdin-closes  leave when standard input ends; the launcher starts its nodes this way

Options of the client:
  --room ROOM           the room (needed)
  --say TEXT            write a line; may be repeated
  --follow              show the lines that are there, and those that come, until Ctrl-C
  --user NAME           who writes (default: terminal)
  --url URL             a node's page; may be repeated (default http://127.0.0.1:8080 to :8082)

Examples:
  chat_room --name a --listen 127.0.0.1:4001 --http 127.0.0.1:8080
  chat_room --name b --listen 127.0.0.1:4002 --http 127.0.0.1:8081 --seed 127.0.0.1:4001
  chat_room client --room lobby --say \"hello\"
  chat_room client --room lobby --follow

With cargo: cargo run --release --example chat_room -- --help
";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Launch,
    Node(NodeOptions),
    Client(ClientOptions),
}

#[derive(Debug, PartialEq)]
pub(crate) struct NodeOptions {
    pub name: String,
    pub listen: Vec<String>,
    pub http: SocketAddr,
    pub seeds: Vec<String>,
    pub secret: Option<[u8; 32]>,
    pub advertise: Vec<String>,
    pub url: Option<String>,
    pub until_stdin_closes: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) struct ClientOptions {
    pub room: String,
    pub say: Vec<String>,
    pub follow: bool,
    pub user: String,
    pub urls: Vec<String>,
}

/// An option that is wrong, and why.
#[derive(Debug, PartialEq)]
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

fn wrong(option: &str, problem: impl Into<String>) -> Wrong {
    Wrong { option: option.to_owned(), problem: problem.into() }
}

/// Reads what follows the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, Wrong> {
    let mut arguments = arguments.into_iter().peekable();
    if arguments.peek().is_none() {
        return Ok(Command::Launch);
    }
    if arguments.next_if(|first| first == "client").is_some() {
        return client(arguments);
    }
    node(arguments)
}

fn node(mut arguments: impl Iterator<Item = String>) -> Result<Command, Wrong> {
    let mut name = None;
    let mut options = NodeOptions {
        name: String::new(),
        listen: Vec::new(),
        http: SocketAddr::from(([127, 0, 0, 1], 8080)),
        seeds: Vec::new(),
        secret: None,
        advertise: Vec::new(),
        url: None,
        until_stdin_closes: false,
    };
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| wrong(&option, "a value must follow"));
        match option.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--name" => name = Some(value()?),
            "--listen" => options.listen.push(value()?),
            "--http" => options.http = address(&option, &value()?)?,
            "--seed" => options.seeds.push(value()?),
            "--secret" => options.secret = Some(secret(&option, &value()?)?),
            "--advertise" => options.advertise.push(value()?),
            "--url" => options.url = Some(url(&option, value()?)?),
            "--until-stdin-closes" => options.until_stdin_closes = true,
            _ => return Err(wrong(&option, "there is no such option; see --help")),
        }
    }
    options.name = name.ok_or_else(|| wrong("--name", "a node needs one"))?;
    let length = options.name.len();
    if length == 0 || length > 64 || options.name.chars().any(char::is_control) {
        return Err(wrong("--name", "a name has 1 to 64 bytes, all on one line"));
    }
    if options.listen.is_empty() {
        options.listen.push("/ip4/127.0.0.1/tcp/0".into());
    }
    if options.http.ip().is_unspecified() && options.url.is_none() {
        return Err(wrong(
            "--http",
            "with this address, --url must say how browsers reach the page",
        ));
    }
    Ok(Command::Node(options))
}

fn client(mut arguments: impl Iterator<Item = String>) -> Result<Command, Wrong> {
    let mut room = None;
    let mut options = ClientOptions {
        room: String::new(),
        say: Vec::new(),
        follow: false,
        user: "terminal".into(),
        urls: Vec::new(),
    };
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| wrong(&option, "a value must follow"));
        match option.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--room" => room = Some(value()?),
            "--say" => options.say.push(value()?),
            "--follow" => options.follow = true,
            "--user" => options.user = value()?,
            "--url" => options.urls.push(url(&option, value()?)?),
            _ => return Err(wrong(&option, "there is no such option; see --help")),
        }
    }
    options.room = room.ok_or_else(|| wrong("--room", "which room?"))?;
    room::check_room(&options.room).map_err(|problem| wrong("--room", problem))?;
    room::check_user(&options.user).map_err(|problem| wrong("--user", problem))?;
    if options.say.is_empty() && !options.follow {
        return Err(wrong("client", "--say or --follow must tell what to do"));
    }
    if options.urls.is_empty() {
        options.urls = (8080..8083).map(|port| format!("http://127.0.0.1:{port}")).collect();
    }
    Ok(Command::Client(options))
}

fn address(option: &str, text: &str) -> Result<SocketAddr, Wrong> {
    text.parse()
        .map_err(|_| wrong(option, format!("{text:?} is no address such as 127.0.0.1:8080")))
}

fn url(option: &str, text: String) -> Result<String, Wrong> {
    let text = text.trim_end_matches('/');
    match text.strip_prefix("http://") {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ']) => Ok(text.to_owned()),
        _ => Err(wrong(option, format!("{text:?} is no URL such as http://127.0.0.1:8080"))),
    }
}

fn secret(option: &str, text: &str) -> Result<[u8; 32], Wrong> {
    let refused = || wrong(option, "64 hex digits are asked for; openssl rand -hex 32 makes some");
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refused());
    }
    let mut secret = [0; 32];
    for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| refused())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, Wrong> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn refused(line: &str) -> String {
        read(line).expect_err("the line is wrong").option
    }

    #[test]
    fn no_options_launch_the_cluster_and_help_explains() {
        assert_eq!(read(""), Ok(Command::Launch));
        assert_eq!(read("--help"), Ok(Command::Help));
        assert_eq!(read("client --help"), Ok(Command::Help));
    }

    #[test]
    fn a_node_is_described_by_its_options() {
        let Ok(Command::Node(node)) =
            read("--name a --http 127.0.0.1:81 --seed /ip4/10.0.0.1/tcp/1")
        else {
            panic!("a node was described")
        };
        assert_eq!((node.name.as_str(), node.http.port(), node.seeds.len()), ("a", 81, 1));
        assert_eq!(node.listen, ["/ip4/127.0.0.1/tcp/0"]);
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert_eq!(refused("--nme a"), "--nme");
        assert_eq!(refused("--http 127.0.0.1:80"), "--name");
        assert_eq!(refused("--name a --http eighty"), "--http");
        assert_eq!(refused("--name a --http 0.0.0.0:80"), "--http");
        assert_eq!(refused("--name a --secret 1234"), "--secret");
        assert_eq!(refused("--name a --seed"), "--seed");
        assert_eq!(refused("client --follow"), "--room");
        assert_eq!(refused("client --room x"), "client");
        assert_eq!(refused("client --room x --follow --url ftp://x"), "--url");
    }
}
