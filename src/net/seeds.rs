//! Dials a seed for ever: all nodes that it stands for, but this one.
//!
//! A name is many nodes, and its answer changes: it is resolved before each round, and a round
//! dials each address of the answer that does not lead to a node with a link. None is ever given
//! up, not even one that was this node itself: an address may be another node's tomorrow.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    NetEvent,
    backoff::{Backoff, HIGHER_WAITS},
    carrier::{DialFailure, RESOLVED},
    greet::GreetFailure,
    links::Links,
};
use crate::model::{address::SeedOutcome, id::NodeId};

/// How long after a round in which nobody was missing a name is resolved again.
const SETTLED: Duration = Duration::from_secs(30);
/// How many addresses of one seed are dialled at a time.
const AT_A_TIME: usize = 8;
/// How long a connection that was greeted may take to become a link before a seed is told to be
/// this node itself.
const LINKED: Duration = Duration::from_secs(1);
/// So many errors of addresses are told.
const ERRORS: usize = 3;

/// What one address of a seed led to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Led {
    /// To this node itself.
    Here,
    /// To that node, which has a link or is about to have one.
    To(NodeId),
    /// To nobody, for this reason.
    Nowhere(String),
}

/// What is known of the addresses that one seed stands for.
#[derive(Debug, Default)]
struct Answers {
    led: BTreeMap<String, Led>,
    /// Why it stands for none.
    error: Option<String>,
}

impl Answers {
    /// The name was resolved. What is no longer among its addresses is forgotten.
    fn resolved(&mut self, answer: Result<Vec<String>, String>) {
        match answer {
            Ok(addresses) => {
                let addresses: BTreeSet<String> = addresses.into_iter().take(RESOLVED).collect();
                self.error = addresses.is_empty().then(|| "it has no addresses".to_owned());
                self.led.retain(|address, _| addresses.contains(address));
                for address in addresses {
                    self.led.entry(address).or_insert(Led::Nowhere("not dialled yet".to_owned()));
                }
            }
            Err(error) => {
                // The nodes it stood for a moment ago are likely still there.
                self.error = Some(error);
            }
        }
    }

    /// The addresses to dial: not this node's own, and none that leads to a node with a link.
    fn take_unreached(
        &mut self,
        is_own: impl Fn(&str) -> bool,
        is_linked: impl Fn(NodeId) -> bool,
    ) -> Vec<String> {
        let mut unreached = Vec::new();
        for (address, led) in &mut self.led {
            if is_own(address) {
                *led = Led::Here;
            } else if !matches!(led, Led::To(node) if is_linked(*node)) {
                unreached.push(address.clone());
            }
        }
        unreached
    }

    fn dialled(&mut self, address: &str, led: Led) {
        if let Some(known) = self.led.get_mut(address) {
            *known = led;
        }
    }

    /// Whether every address leads to this node or to one with a link.
    fn is_settled(&self, is_linked: impl Fn(NodeId) -> bool) -> bool {
        self.error.is_none()
            && self.led.values().all(|led| match led {
                Led::Here => true,
                Led::To(node) => is_linked(*node),
                Led::Nowhere(_) => false,
            })
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.led.values().filter_map(|led| match led {
            Led::To(node) => Some(*node),
            _ => None,
        })
    }

    /// What came of the seed; `before` is kept if it still holds.
    fn outcome(&self, before: Option<&SeedOutcome>) -> SeedOutcome {
        if self.led.values().any(|led| *led == Led::Here) {
            return SeedOutcome::Itself;
        }
        let kept = self.nodes().find(|node| before == Some(&SeedOutcome::Reached(*node)));
        if let Some(node) = kept.or_else(|| self.nodes().next()) {
            return SeedOutcome::Reached(node);
        }
        let errors = self.led.iter().filter_map(|(address, led)| match led {
            Led::Nowhere(error) => Some(format!("{address}: {error}")),
            _ => None,
        });
        let mut text: Vec<String> = self.error.iter().cloned().chain(errors).collect();
        let more = text.len().saturating_sub(ERRORS);
        text.truncate(ERRORS);
        if more > 0 {
            text.push(format!("and {more} more"));
        }
        SeedOutcome::Failed(text.join("; "))
    }
}

/// Dials a seed until this node stops.
pub(super) async fn seek(links: Links, seed: String) {
    let mut answers = Answers::default();
    let mut told = None;
    let mut backoff = Backoff::new();
    let mut changes = links.peers().watch();
    let mut addresses = links.addresses().watch();
    loop {
        changes.mark_unchanged();
        addresses.mark_unchanged();
        let late = |_| Err("its name was not resolved within the deadline".to_owned());
        let answer = timeout(links.deadline(), links.carrier().resolve(&seed)).await;
        answers.resolved(answer.unwrap_or_else(late));
        let is_linked = |node: NodeId| links.peers().is_linked(node);
        let unreached =
            answers.take_unreached(|address| links.addresses().is_own(address), is_linked);
        let mut dials = JoinSet::new();
        for address in unreached {
            if dials.len() >= AT_A_TIME {
                take(&mut answers, dials.join_next().await);
            }
            let links = links.clone();
            dials.spawn(async move {
                let led = dial(&links, &address).await;
                (address, led)
            });
        }
        while !dials.is_empty() {
            take(&mut answers, dials.join_next().await);
        }
        let outcome = answers.outcome(told.as_ref());
        if outcome == SeedOutcome::Itself {
            // Who hears that a seed is this node itself may found a cluster. It is told of the
            // others first, so that it finds theirs.
            let linked = changes.wait_for(|_| answers.nodes().all(is_linked));
            let _ = timeout(LINKED, linked).await;
            // The task of a new link has its turn, and tells of it.
            tokio::task::yield_now().await;
        }
        if told.as_ref() != Some(&outcome) {
            tracing::debug!(seed, ?outcome, "the outcome of a seed");
            told = Some(outcome.clone());
            let event = NetEvent::Seed { seed: seed.clone(), outcome };
            links.teller().tell(event).await;
        }
        // A name that has nobody else yet, as that of a service whose nodes start together, is asked
        // for again soon: until others are found this node may be a cluster of its own.
        let is_alone = !links.peers().is_any_linked();
        let wait = if answers.is_settled(is_linked) && !is_alone {
            backoff = Backoff::new();
            SETTLED
        } else {
            backoff.next()
        };
        let due = Instant::now() + wait;
        // A link that ends is no reason to wait for long, and one that comes about is none to dial.
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                // Where this node has an address now it may reach others, or be meant itself.
                Ok(()) = addresses.changed() => {
                    backoff = Backoff::new();
                    break;
                }
                Ok(()) = changes.changed() => {
                    let is_missed = |node: NodeId| !is_linked(node);
                    if wait == SETTLED && answers.nodes().any(is_missed) {
                        // Whoever keeps the link to that node dials it first.
                        tokio::time::sleep(2 * HIGHER_WAITS).await;
                        break;
                    }
                }
            }
        }
    }
}

fn take(answers: &mut Answers, ended: Option<Result<(String, Led), tokio::task::JoinError>>) {
    if let Some(Ok((address, led))) = ended {
        answers.dialled(&address, led);
    }
}

async fn dial(links: &Links, address: &str) -> Led {
    let connection = match links.dial(None, vec![address.to_owned()]).await {
        Ok(connection) => connection,
        Err(DialFailure::Itself) => return Led::Here,
        Err(failure) => {
            if let DialFailure::Twin { is_second } = failure {
                links.teller().twin(address, None, is_second).await;
            }
            return Led::Nowhere(failure.to_string());
        }
    };
    let node = connection.peer;
    match links.admit(connection).await {
        Ok(node) => {
            links.addresses().seed(node);
            Led::To(node)
        }
        // It is there, and this node comes back to it with a later life.
        Err(GreetFailure::Fenced(_)) => Led::To(node),
        Err(GreetFailure::Refused(reason) | GreetFailure::Broken(reason)) => Led::Nowhere(reason),
        Err(GreetFailure::Twin(address)) => Led::Nowhere(format!(
            "it has a link to another process with this node's own key, at {address}"
        )),
        Err(GreetFailure::Duplicate) => Led::To(node),
        Err(GreetFailure::Unanswered) => Led::Nowhere(
            "it closes connections before it says anything: it does not admit this node, or it stops"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn answer(addresses: &[&str]) -> Result<Vec<String>, String> {
        Ok(addresses.iter().map(|address| (*address).to_owned()).collect())
    }

    #[test]
    fn all_addresses_are_dialled_but_ones_own_and_those_of_linked_nodes() {
        let mut answers = Answers::default();
        answers.resolved(answer(&["own", "a", "b"]));
        assert_eq!(answers.take_unreached(|address| address == "own", |_| false), ["a", "b"]);
        answers.dialled("a", Led::To(node(1)));
        answers.dialled("b", Led::Nowhere("refused".to_owned()));
        assert_eq!(answers.outcome(None), SeedOutcome::Itself);
        // The node at `a` has a link: `b` is dialled on.
        let is_linked = |linked| linked == node(1);
        assert_eq!(answers.take_unreached(|address| address == "own", is_linked), ["b"]);
        assert!(!answers.is_settled(is_linked));
        answers.dialled("b", Led::To(node(1)));
        assert!(answers.is_settled(is_linked));
        // And when it has none any more, all are.
        assert_eq!(answers.take_unreached(|address| address == "own", |_| false), ["a", "b"]);
        assert!(!answers.is_settled(|_| false));
    }

    #[test]
    fn what_is_no_longer_in_the_answer_is_forgotten() {
        let mut answers = Answers::default();
        answers.resolved(answer(&["a"]));
        answers.dialled("a", Led::Here);
        assert_eq!(answers.outcome(None), SeedOutcome::Itself);
        answers.resolved(answer(&["b"]));
        assert_eq!(answers.take_unreached(|_| false, |_| false), ["b"]);
        answers.dialled("a", Led::Here);
        let expected = SeedOutcome::Failed("b: not dialled yet".to_owned());
        assert_eq!(answers.outcome(None), expected);
        // The answers of a server that fails are not.
        answers.dialled("b", Led::To(node(2)));
        answers.resolved(Err("no server answers".to_owned()));
        assert_eq!(answers.take_unreached(|_| false, |_| false), ["b"]);
        assert_eq!(answers.outcome(None), SeedOutcome::Reached(node(2)));
        assert!(!answers.is_settled(|_| true));
    }

    #[test]
    fn an_answer_is_bounded_and_so_are_the_errors_told() {
        let mut answers = Answers::default();
        answers.resolved(Ok((100..300).map(|n| format!("a{n}")).collect()));
        assert_eq!(answers.take_unreached(|_| false, |_| false).len(), RESOLVED);
        let SeedOutcome::Failed(text) = answers.outcome(None) else { panic!("nobody answered") };
        assert!(text.contains("a100: not dialled yet") && text.ends_with("and 61 more"), "{text}");
        let mut answers = Answers::default();
        answers.resolved(answer(&[]));
        assert_eq!(answers.outcome(None), SeedOutcome::Failed("it has no addresses".to_owned()));
    }

    #[test]
    fn the_outcome_does_not_change_while_it_holds() {
        let mut answers = Answers::default();
        answers.resolved(answer(&["a", "b"]));
        answers.dialled("b", Led::To(node(2)));
        let first = answers.outcome(None);
        assert_eq!(first, SeedOutcome::Reached(node(2)));
        answers.dialled("a", Led::To(node(1)));
        assert_eq!(answers.outcome(Some(&first)), first);
        answers.dialled("b", Led::Nowhere("gone".to_owned()));
        assert_eq!(answers.outcome(Some(&first)), SeedOutcome::Reached(node(1)));
    }
}
