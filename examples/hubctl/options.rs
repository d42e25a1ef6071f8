//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use serde_json::Value;

const ABOUT: &str =
    "Shows and steers a cluster of actix-hub through the admin endpoint of any node";

const AFTER: &str = "\
Values that are not known are shown as ?. Exit code 0: done, 1: the endpoint said no, or could not
be reached, 2: the command line is wrong.

Examples:
  hubctl nodes
  hubctl children --node a --tag eu
  hubctl start room/lobby --kind room --args '{\"limit\": 10}' --tag eu
  hubctl migrate room/lobby b --dry-run
  hubctl drain b
  hubctl --json children --all | jq -r '.items[].id'
  hubctl watch";

/// What is asked for.
#[derive(Debug, Parser)]
#[command(name = "hubctl", version, about = ABOUT, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Shows the JSON that the endpoint sent, one reply or event on a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// When colours are used; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the endpoint is.
#[derive(Args, Debug)]
#[command(next_help_heading = "Endpoint")]
pub(crate) struct Endpoint {
    /// Where it is mounted, on any node
    #[arg(
        long, global = true, env = "HUBCTL_URL", hide_env_values = true, value_parser = url,
        value_hint = ValueHint::Url, default_value = "http://127.0.0.1:8080/hub"
    )]
    pub(crate) url: String,
    /// Its token; other users of this machine can see it here, but not in the variable or a file
    #[arg(long, global = true, env = "HUBCTL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Token>,
    /// A file with its token, used before any other
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates in PEM that are trusted instead of the usual ones, for https
    #[arg(long, global = true, env = "HUBCTL_CA_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<OsString>,
    /// How long an answer may take
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// A bearer token. Never shown.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Token {
    /// The token, if it fits into a header. It is not checked where it is read, as the message of
    /// a value that is refused there would show it.
    pub(crate) fn check(self) -> Result<Self, &'static str> {
        if self.0.is_empty() || !self.0.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a token has visible ASCII characters only, and at least one");
        }
        Ok(self)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the nodes
    Nodes,
    /// Lists the nodes that went in the last hour, and what that cost
    Departed,
    /// Lists children, sorted by id
    Children(ChildrenFilter),
    /// Shows a child: its facts, why it is there, and what the nodes saw of it
    Child {
        /// Its id
        #[arg(value_parser = child)]
        id: String,
    },
    /// Shows the state of a child, if the endpoint allows it
    State {
        /// Its id
        #[arg(value_parser = child)]
        id: String,
    },
    /// Starts a child where it belongs
    Start {
        #[command(flatten)]
        what: NewChild,
        #[command(flatten)]
        sure: Sure,
    },
    /// Stops a child for good
    Stop {
        /// Its id
        #[arg(value_parser = child)]
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Lists handovers: running ones first, then the newest first
    Handovers(HandoversFilter),
    /// Lists states that nobody merged after a split, shows one, gives it to its child, discards it
    #[command(subcommand)]
    Parked(Parked),
    /// Moves a child with its state to another node
    Migrate {
        /// Its id
        #[arg(value_parser = child)]
        child: String,
        /// The target: its name, its id, or the end of its id
        node: String,
        /// Cuts handlers off that run on for too long; what they did is then not known
        #[arg(long)]
        forced: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Binds a child to no node any more: it goes where the distribution has it
    Release {
        /// Its id
        #[arg(value_parser = child)]
        child: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Lets a node hand its children over and go
    Leave {
        /// Its name, its id, or the end of its id
        node: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Takes a leave back that is under way, or has failed
    Stay {
        /// Its name, its id, or the end of its id
        node: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Empties a node that stays in, for maintenance: it hands its children over and takes none
    Drain {
        /// Its name, its id, or the end of its id
        node: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Lets a drained node take children again
    Undrain {
        /// Its name, its id, or the end of its id
        node: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Shows what happened on the node that answers, or on all
    Events(EventsFilter),
    /// Shows the settings, strategies and kinds of the node that answers
    Settings,
    /// Follows nodes, running handovers and events until Ctrl-C
    Watch,
    /// Writes a completion script for a shell
    #[command(
        after_help = "Example: hubctl completions bash > ~/.local/share/bash-completion/completions/hubctl"
    )]
    Completions { shell: Shell },
}

/// Which events are shown.
#[derive(Args, Debug)]
pub(crate) struct EventsFilter {
    /// How many of the latest events come first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) replay: u32,
    /// Goes on until Ctrl-C, over broken connections too
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// What all nodes saw, 100 events at most, and who saw it
    #[arg(long, conflicts_with = "follow")]
    pub(crate) all_nodes: bool,
    /// Events that are at least as grave
    #[arg(long)]
    pub(crate) level: Option<Level>,
    /// Events whose words contain this
    #[arg(long, value_name = "TEXT")]
    pub(crate) contains: Option<String>,
    /// Events of this child
    #[arg(long, value_name = "ID")]
    pub(crate) child: Option<String>,
    /// Events of this type, such as node_down
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

/// How grave an event is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// Lists parked states, the newest first
    List {
        /// Of this child
        #[arg(long, value_parser = child)]
        child: Option<String>,
        /// How many at most; with --all: how many in one reply [default: 100, with --all 1000]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Shows a parked state, if the endpoint allows it
    Show {
        /// Its key, or its child, if that has one only
        key: String,
    },
    /// Gives a parked state to its child, which merges it
    Apply {
        /// Its key, or its child, if that has one only
        key: String,
        /// Puts it in the place of the child's own state, which is parked instead
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Discards a parked state on all nodes
    Discard {
        /// Its key, or its child, if that has one only
        key: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ChildrenFilter {
    /// With this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// On this node: its name, its id, or the end of its id
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// In this state
    #[arg(long)]
    pub(crate) state: Option<ChildState>,
    /// With this text in the id
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// How many at most; with --all: how many in one reply [default: 100, with --all 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct HandoversFilter {
    /// That stand so
    #[arg(long)]
    pub(crate) status: Option<Status>,
    /// From or to this node: its name, its id, or the end of its id
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Of this child
    #[arg(long, value_parser = child)]
    pub(crate) child: Option<String>,
    /// How many at most; with --all: how many in one reply [default: 100, with --all 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ChildState {
    Running,
    Moving,
    Waiting,
    Failed,
    Orphaned,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    Running,
    Done,
    Failed,
}

#[derive(Args, Debug)]
pub(crate) struct NewChild {
    /// Its id: 1 to 256 bytes without control characters
    #[arg(value_parser = child)]
    pub(crate) id: String,
    /// Its kind, as the nodes registered it
    #[arg(long)]
    pub(crate) kind: String,
    /// What its factory is given
    #[arg(long, value_name = "JSON", value_parser = json, allow_hyphen_values = true)]
    pub(crate) args: Option<Value>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// A note; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// When it is started again after it ended: always, after a panic, or never
    #[arg(long, value_name = "RULE")]
    pub(crate) restart: Option<Restart>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Restart {
    Permanent,
    Transient,
    Temporary,
}

/// How sure the user is.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Sure {
    /// Acts without showing what would be done, and without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Shows what would be done, and does not do it
    #[arg(long, short = 'n', conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

fn url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && !"?#@\"<>\\^`{|}".contains(c));
    if host.is_empty() || !is_plain {
        return Err(
            "a URL such as http://127.0.0.1:8080/hub is asked for, with nothing behind its path"
                .into(),
        );
    }
    Ok(text.to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.001..=86_400.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("0.001 to 86400 seconds are asked for".into()),
    }
}

fn child(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err("a child's id has 1 to 256 bytes and no control characters".into());
    }
    Ok(text.to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is asked for".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn read(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("hubctl").chain(line.split_whitespace()))
    }

    fn refused(line: &str) -> ErrorKind {
        read(line).expect_err("the line is wrong").kind()
    }

    #[test]
    fn the_description_of_the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_of_the_endpoint_stand_before_or_behind_the_command() {
        for line in ["--url http://h:1/hub/ --json nodes", "nodes --json --url http://h:1/hub"] {
            let options = read(line).expect("the line is right");
            assert_eq!((options.endpoint.url.as_str(), options.json), ("http://h:1/hub", true));
        }
    }

    #[test]
    fn a_wrong_value_is_refused_before_anything_is_sent() {
        for line in [
            "--url ftp://h nodes",
            "--url http:///hub nodes",
            "--url http://u:p@h nodes",
            "--url http://h/?x nodes",
            "--timeout 0 nodes",
            "--timeout NaN nodes",
            "start x --kind k --args {",
            "start x --kind k --metadata k",
            "handovers --limit 1001",
            "child \u{7}",
        ] {
            assert_eq!(refused(line), ErrorKind::ValueValidation, "{line}");
        }
        assert_eq!(refused("stop x --yes --dry-run"), ErrorKind::ArgumentConflict);
        assert_eq!(refused("start x"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refused("children --state lost"), ErrorKind::InvalidValue);
        assert_eq!(refused("nods"), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn what_is_started_is_described_by_its_options() {
        let line = "start a/b --kind room --args -1 --tag x --tag y --metadata k=v=w -n";
        let Ok(Command::Start { what, sure }) = read(line).map(|options| options.command) else {
            panic!("a start was described")
        };
        assert_eq!((what.id.as_str(), what.args), ("a/b", Some(Value::from(-1))));
        assert_eq!(what.tags, ["x", "y"]);
        assert_eq!(what.metadata, [("k".to_owned(), "v=w".to_owned())]);
        assert!(sure.dry_run && !sure.yes);
    }

    #[test]
    fn a_parked_state_is_named_by_its_key() {
        let line = "parked apply 1.0~7~12D3~c --replace -y";
        let Ok(Command::Parked(Parked::Apply { key, replace: true, sure })) =
            read(line).map(|options| options.command)
        else {
            panic!("an action was described")
        };
        assert!(key == "1.0~7~12D3~c" && sure.yes);
        assert_eq!(refused("parked discard"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refused("parked"), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    }

    #[test]
    fn a_token_is_not_shown() {
        let options = read("--token secret-of-16-bytes nodes").expect("the line is right");
        assert!(!format!("{options:?}").contains("secret"));
        for wrong in ["", "a b", "\u{e9}", "a\r\nX-Header: b"] {
            let why = Token(wrong.to_owned()).check().expect_err("it fits into no header");
            assert!(why.starts_with("a token has"));
        }
    }
}
