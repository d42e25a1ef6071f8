//! What the benches share: options, child processes that talk JSON lines, percentiles.

#![allow(dead_code, reason = "each bench uses its part")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

/// `--name value` and `--name` options of the command line.
pub struct Options(Vec<String>);

impl Options {
    pub fn from_args() -> Self {
        // Cargo adds `--bench`.
        Self(std::env::args().skip(1).filter(|arg| arg != "--bench").collect())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|arg| arg == name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        match self.text(name) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                eprintln!("{name} wants a number, got {text:?}");
                std::process::exit(2);
            }),
        }
    }

    /// Ends the process with the usage if an option is not among `known` (which take a value) or
    /// `flags`.
    pub fn check(&self, known: &[&str], flags: &[&str], usage: &str) {
        let mut args = self.0.iter();
        while let Some(arg) = args.next() {
            if arg == "--help" {
                println!("{usage}");
                std::process::exit(0);
            }
            if known.contains(&arg.as_str()) {
                if args.next().is_none() {
                    eprintln!("{arg} wants a value\n\n{usage}");
                    std::process::exit(2);
                }
            } else if !flags.contains(&arg.as_str()) {
                eprintln!("unknown option {arg}\n\n{usage}");
                std::process::exit(2);
            }
        }
    }
}

/// Another process of the same bench, which answers each line of JSON with one.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    name: String,
}

impl Process {
    /// Starts this executable again with these arguments.
    pub fn start(name: &str, args: &[String]) -> Self {
        let exe = std::env::current_exe().expect("this executable has a path");
        let mut child = Command::new(exe)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this executable can be started again");
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (sender, lines) = mpsc::sync_channel(1_024);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, lines, name: name.to_owned() }
    }

    /// Sends a command.
    pub fn say(&mut self, command: &Value) {
        // A process that is gone shows when its answer is awaited.
        let _ = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
    }

    /// The next answer.
    pub fn answer(&mut self, within: Duration) -> Value {
        let line = self.lines.recv_timeout(within).unwrap_or_else(|error| {
            panic!("node {} gave no answer within {within:?}: {error}", self.name)
        });
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("node {} said {line:?}: {error}", self.name))
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &Value, within: Duration) -> Value {
        self.say(command);
        self.answer(within)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        let _ = self.child.wait();
    }

    /// Ends it: closing its stdin tells it to.
    pub fn end(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Answers on stdout.
pub fn answer(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Commands from stdin, read on a thread of their own; ends when stdin is closed.
pub fn commands() -> tokio::sync::mpsc::Receiver<Value> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(command) => {
                    if sender.blocking_send(command).is_err() {
                        return;
                    }
                }
                Err(error) => eprintln!("not a command: {error}"),
            }
        }
    });
    receiver
}

/// The value below which this share of the sorted values lies.
pub fn percentile(sorted: &[u32], share: f64) -> u32 {
    if sorted.is_empty() {
        return 0;
    }
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at]
}
