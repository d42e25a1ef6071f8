//! What this node tells others of where it can be reached.

use crate::model::address::{is_loopback, is_memory, is_wildcard};

/// Decides which addresses are told, and notices when nobody else can use them.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Wins over what the network knows.
    advertise: Vec<String>,
    /// Whether nodes of other machines are likely.
    expects_others: bool,
    /// Whether only loopback was told.
    is_hidden: bool,
}

impl Reach {
    /// Of a node that is configured so.
    pub(crate) fn new(listen: &[String], advertise: Vec<String>, seeds: &[String]) -> Self {
        let is_elsewhere = |seed: &String| !is_loopback(seed) && !is_memory(seed);
        let expects_others =
            listen.iter().any(|address| is_wildcard(address)) || seeds.iter().any(is_elsewhere);
        Self { advertise, expects_others, is_hidden: false }
    }

    /// What others are told when the network would tell this.
    pub(crate) fn told(&mut self, known: Vec<String>) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let is_hidden = self.expects_others && known.iter().all(|address| is_loopback(address));
        if is_hidden && !self.is_hidden {
            tracing::warn!(
                addresses = ?known,
                "no other machine can reach this node: it has no address but loopback; set \
                 `listen` or `advertise`, or wait for an interface to come up",
            );
        } else if self.is_hidden && !is_hidden {
            tracing::info!(addresses = ?known, "other machines can reach this node now");
        }
        self.is_hidden = is_hidden;
        known
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// What is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics with it").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/1";
    const PUBLIC: &str = "/ip4/10.0.0.1/tcp/1";

    fn texts(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|address| (*address).to_owned()).collect()
    }

    #[test]
    fn advertised_addresses_win() {
        let mut reach = Reach::new(&texts(&["/ip4/0.0.0.0/tcp/1"]), texts(&[PUBLIC]), &[]);
        assert_eq!(reach.told(texts(&[LOOPBACK])), [PUBLIC]);
        assert!(!reach.is_hidden);
    }

    #[test]
    fn a_node_that_nobody_can_reach_notices_it_until_that_changes() {
        for (listen, seed) in [("/ip4/0.0.0.0/tcp/1", LOOPBACK), (LOOPBACK, "/dns/hub/tcp/1")] {
            let mut reach = Reach::new(&texts(&[listen]), Vec::new(), &texts(&[seed]));
            assert_eq!(reach.told(texts(&[LOOPBACK])), [LOOPBACK]);
            assert!(reach.is_hidden, "{listen} {seed}");
            reach.told(texts(&[PUBLIC, LOOPBACK]));
            assert!(!reach.is_hidden);
            reach.told(Vec::new());
            assert!(reach.is_hidden);
        }
        for (listen, seed) in [(LOOPBACK, "/dns/localhost/tcp/1"), ("/memory/0", "/memory/1")] {
            let mut reach = Reach::new(&texts(&[listen]), Vec::new(), &texts(&[seed]));
            reach.told(texts(&[LOOPBACK]));
            assert!(!reach.is_hidden, "{listen} {seed}");
        }
    }

    #[test]
    fn that_nobody_can_reach_it_is_warned_of_once_with_what_to_do_and_its_end_is_told() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut reach = Reach::new(&texts(&["/ip4/0.0.0.0/tcp/1"]), Vec::new(), &[]);
            for told in [&[LOOPBACK][..], &[LOOPBACK], &[PUBLIC, LOOPBACK], &[PUBLIC]] {
                reach.told(texts(told));
            }
        });
        let log = log.0.lock().expect("nobody panics with it");
        let lines: Vec<&str> = std::str::from_utf8(&log).expect("it is text").lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let warns =
            ["WARN", "no other machine can reach this node", "listen", "advertise", LOOPBACK];
        assert!(warns.iter().all(|part| lines[0].contains(part)), "{}", lines[0]);
        assert!(["INFO", PUBLIC].iter().all(|part| lines[1].contains(part)), "{}", lines[1]);
    }
}
