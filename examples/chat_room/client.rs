//! The terminal: writes and reads lines through the JSON API of any node.
//!
//! Plain HTTP over a socket, so that this example needs no HTTP client. A node that does not answer
//! is passed over for the next one; ids of lines make that safe in both directions.

use std::{
    collections::HashSet,
    error::Error,
    io::{Read as _, Write as _},
    net::TcpStream,
    net::ToSocketAddrs as _,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    options::ClientOptions,
    room::{Line, micros},
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
struct Nodes(Vec<String>);

pub(crate) fn run(options: ClientOptions) -> Result<(), Box<dyn Error>> {
    let mut nodes = Nodes(options.urls.clone());
    let path = format!("/api/rooms/{}/lines", encode(&options.room));
    for (index, text) in options.say.iter().enumerate() {
        // The same id at each try: the room takes the line once.
        let id = format!("terminal-{}-{}-{index}", std::process::id(), micros());
        let post = Post { id, user: options.user.clone(), text: text.clone() };
        nodes.ask("POST", &path, &serde_json::to_string(&post)?)?;
    }
    if options.follow { follow(&mut nodes, &path) } else { Ok(()) }
}

fn follow(nodes: &mut Nodes, path: &str) -> Result<(), Box<dyn Error>> {
    let (mut life, mut after) = (0, 0);
    // A room that lost its node gives its lines new numbers; their ids stay.
    let mut shown = HashSet::new();
    loop {
        let answer = nodes.ask("GET", &format!("{path}?life={life}&after={after}"), "")?;
        let Lines { life: now, lines } = serde_json::from_str(&answer)?;
        if now != life {
            (life, after) = (now, 0);
        }
        for line in lines {
            after = after.max(line.number);
            if shown.insert(line.id) {
                // Control characters would be obeyed by the terminal.
                let text: String =
                    line.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                writeln!(std::io::stdout(), "{}@{}: {text}", line.user, line.node)?;
            }
        }
        std::thread::sleep(LOOK);
    }
}

impl Nodes {
    /// Asks one node after another until one answers. Refusals are final, silence is not.
    fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<String, Box<dyn Error>> {
        let begin = Instant::now();
        let mut is_told = false;
        loop {
            let mut problem = String::new();
            for _ in 0..self.0.len() {
                match request(&self.0[0], method, target, body) {
                    Ok((200, answer)) => return Ok(answer),
                    Ok((400..500, answer)) => return Err(answer.into()),
                    Ok((status, answer)) => problem = format!("{status} {answer}"),
                    Err(error) => problem = error.to_string(),
                }
                self.0.rotate_left(1);
            }
            if begin.elapsed() > GIVE_UP {
                return Err(format!("no node answers ({}): {problem}", self.0.join(", ")).into());
            }
            if !std::mem::replace(&mut is_told, true) {
                eprintln!("{problem}; trying for {} s", GIVE_UP.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// One HTTP request over a connection of its own; the status and the body.
fn request(
    url: &str,
    method: &str,
    target: &str,
    body: &str,
) -> Result<(u16, String), Box<dyn Error>> {
    let host = url.trim_start_matches("http://");
    let named = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = named.to_socket_addrs()?.next().ok_or("the host has no address")?;
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.set_write_timeout(Some(ANSWER))?;
    // HTTP/1.0: the answer ends where the connection ends.
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    socket.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    socket.take(LIMIT).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).ok_or("the answer is no HTTP")?.parse()?;
    Ok((status, body.to_owned()))
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_of_any_name_fits_into_a_path() {
        assert_eq!(encode("lobby-1"), "lobby-1");
        assert_eq!(encode("a b/é"), "a%20b%2F%C3%A9");
    }
}
