//! The terminal: writes and reads messages through the JSON API of any node.
//!
//! A node that does not answer is passed over for the next one; ids of lines make that safe in both
//! directions.

use std::{
    collections::HashSet,
    error::Error,
    io::Write as _,
    time::{Duration, Instant},
};

use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode},
};

use crate::{
    options::ClientOptions,
    room::{Line, What, micros},
    web::Post,
};

/// How long a node may take to answer, and how long all of them together may not.
const ANSWER: Duration = Duration::from_secs(12);
const GIVE_UP: Duration = Duration::from_secs(30);
/// Between two questions for new lines.
const LOOK: Duration = Duration::from_millis(250);
/// The longest answer: 1,000 of the longest lines.
const LIMIT: u64 = 32 << 20;

#[derive(Deserialize)]
struct Lines {
    life: u64,
    lines: Vec<Line>,
}

/// Nodes, the one that answered last first.
struct Nodes {
    agent: Agent,
    urls: Vec<String>,
}

pub(crate) fn run(options: ClientOptions) -> Result<(), Box<dyn Error>> {
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(2)))
        .timeout_global(Some(ANSWER))
        .build()
        .new_agent();
    let mut nodes = Nodes { agent, urls: options.urls };
    let (pid, began) = (std::process::id(), micros());
    for (index, text) in options.say.into_iter().enumerate() {
        // The same id at each try: the room takes the line once.
        let id = format!("terminal-{pid}-{began}-{index}");
        let post = serde_json::to_string(&Post { id, user: options.user.clone(), text })?;
        nodes.ask(|agent, url| {
            let request = agent.post(format!("{url}/api/lines")).query("room", &options.room);
            request.content_type("application/json").send(&post)
        })?;
    }
    if options.follow { follow(&mut nodes, &options.room) } else { Ok(()) }
}

fn follow(nodes: &mut Nodes, room: &str) -> Result<(), Box<dyn Error>> {
    let (mut life, mut after) = (0, 0);
    // A room that lost its node gives its lines new numbers; their ids stay.
    let mut shown = HashSet::new();
    loop {
        let answer = nodes.ask(|agent, url| {
            let request = agent.get(format!("{url}/api/lines")).query("room", room);
            request.query("life", life.to_string()).query("after", after.to_string()).call()
        })?;
        let Lines { life: now, lines } = serde_json::from_str(&answer)?;
        if now != life {
            (life, after) = (now, 0);
        }
        for line in lines {
            after = after.max(line.number);
            if !shown.insert(line.id) {
                continue;
            }
            let shown = match line.what {
                What::Said { user, node, text } => format!("{user}@{node}: {text}"),
                What::Moved { from, to, .. } => {
                    format!("-- moved from node {from} to node {to} --")
                }
            };
            writeln!(std::io::stdout(), "{}", plain(&shown))?;
        }
        std::thread::sleep(LOOK);
    }
}

impl Nodes {
    /// Asks one node after another until one answers. Refusals are final, silence is not.
    fn ask(
        &mut self,
        request: impl Fn(&Agent, &str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<String, Box<dyn Error>> {
        let begin = Instant::now();
        let mut is_told = false;
        loop {
            let mut problem = String::new();
            for _ in 0..self.urls.len() {
                let answer = request(&self.agent, &self.urls[0]).and_then(|mut answer| {
                    let body = answer.body_mut().with_config().limit(LIMIT).read_to_string()?;
                    Ok((answer.status(), body))
                });
                match answer {
                    Ok((StatusCode::OK, answer)) => return Ok(answer),
                    Ok((status, answer)) if status.is_client_error() => return Err(answer.into()),
                    Ok((status, answer)) => problem = format!("{status} {answer}"),
                    Err(error) => problem = error.to_string(),
                }
                self.urls.rotate_left(1);
            }
            if begin.elapsed() > GIVE_UP {
                return Err(format!("no node answers ({}): {problem}", self.urls.join(", ")).into());
            }
            if !std::mem::replace(&mut is_told, true) {
                eprintln!("{problem}; trying for {} s", GIVE_UP.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Without what the terminal would obey: control characters, and those that turn the direction of
/// what follows them.
fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_nothing_that_it_obeys() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c\nd"), "a [2Jb c d");
        assert_eq!(plain("שלום, é"), "שלום, é");
    }
}
