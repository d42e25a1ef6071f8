//! How an event is told to people: its name, how grave it is, and what happened in words. Logs, the admin
//! endpoint and `hubctl` all tell it like this.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{HubEvent, Moved};
use crate::model::id::{ChildId, NodeId};

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventLevel {
    /// One child of many: what becomes of all of them is told by an event of its own.
    Debug,
    /// Nothing is wrong.
    Info,
    /// Somebody should look at it: something waits, was refused, or began anew.
    Warn,
    /// Something is lost, or will be if nobody acts.
    Error,
}

impl EventLevel {
    /// `debug`, `info`, `warn` or `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Display for EventLevel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names of all events, for who counts them.
#[cfg(feature = "admin")]
pub(crate) const EVENT_NAMES: &[&str] = &[
    "founded",
    "waiting_for_seeds",
    "join_delayed",
    "link_missing",
    "link_restored",
    "unsettled",
    "node_joined",
    "node_suspected",
    "node_recovered",
    "node_leaving",
    "node_left",
    "leave_failed",
    "node_draining",
    "drained",
    "drain_failed",
    "node_resumed",
    "node_down",
    "rejoined",
    "peer_refused",
    "key_in_use",
    "words_refused",
    "child_started",
    "child_stopped",
    "child_restarted",
    "child_given_up",
    "child_cannot_move",
    "handover_started",
    "handed_over",
    "handover_failed",
    "taken_over",
    "recovered",
    "children_moved",
    "admin_action",
    "message_dropped",
    "divergence_merged",
    "divergence_yielded",
    "state_parked",
    "parked_state_applied",
    "parked_state_discarded",
    "parked_state_dropped",
];

impl HubEvent {
    /// What kind of event it is, as the API and metrics name it: `node_down`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.told().0
    }

    /// How grave it is.
    #[must_use]
    pub fn level(&self) -> EventLevel {
        self.told().1
    }

    fn told(&self) -> (&'static str, EventLevel) {
        use EventLevel::{Debug, Error, Info, Warn};
        match self {
            Self::NodeJoined { .. } => ("node_joined", Info),
            Self::Founded => ("founded", Info),
            Self::WaitingForSeeds { .. } => ("waiting_for_seeds", Warn),
            Self::JoinDelayed { .. } => ("join_delayed", Warn),
            Self::LinkMissing { .. } => ("link_missing", Warn),
            Self::LinkRestored { .. } => ("link_restored", Info),
            Self::Unsettled { .. } => ("unsettled", Warn),
            Self::NodeSuspected { .. } => ("node_suspected", Warn),
            Self::NodeRecovered { .. } => ("node_recovered", Info),
            Self::NodeLeaving { .. } => ("node_leaving", Info),
            Self::NodeLeft { .. } => ("node_left", Info),
            Self::LeaveFailed { .. } => ("leave_failed", Warn),
            Self::NodeDraining { .. } => ("node_draining", Info),
            Self::Drained => ("drained", Info),
            Self::DrainFailed { .. } => ("drain_failed", Warn),
            Self::NodeResumed { .. } => ("node_resumed", Info),
            Self::NodeDown { .. } => ("node_down", Error),
            Self::Rejoined => ("rejoined", Warn),
            Self::PeerRefused { .. } => ("peer_refused", Warn),
            Self::KeyInUse { .. } => ("key_in_use", Error),
            Self::WordsRefused { .. } => ("words_refused", Warn),
            Self::ChildStarted { .. } => ("child_started", Debug),
            Self::ChildStopped { .. } => ("child_stopped", Debug),
            Self::ChildRestarted { .. } => ("child_restarted", Warn),
            Self::ChildGivenUp { .. } => ("child_given_up", Error),
            Self::ChildCannotMove { .. } => ("child_cannot_move", Warn),
            Self::HandoverStarted { .. } => ("handover_started", Debug),
            Self::HandedOver { .. } => ("handed_over", Debug),
            Self::HandoverFailed { .. } => ("handover_failed", Warn),
            Self::TakenOver { .. } => ("taken_over", Debug),
            Self::Recovered { .. } => ("recovered", Debug),
            Self::ChildrenMoved { moved, .. } => {
                let is_well = moved.failed == 0 && moved.begun_anew == 0;
                ("children_moved", if is_well { Info } else { Warn })
            }
            Self::AdminAction { status, .. } => {
                ("admin_action", if *status < 400 { Info } else { Warn })
            }
            Self::MessageDropped { .. } => ("message_dropped", Error),
            Self::DivergenceMerged { .. } => ("divergence_merged", Warn),
            Self::DivergenceYielded { .. } => ("divergence_yielded", Warn),
            Self::StateParked { .. } => ("state_parked", Error),
            Self::ParkedStateApplied { .. } => ("parked_state_applied", Warn),
            Self::ParkedStateDiscarded { .. } => ("parked_state_discarded", Warn),
            Self::ParkedStateDropped { .. } => ("parked_state_dropped", Error),
        }
    }

    /// The child that it is about, if it is about one.
    #[must_use]
    pub fn child(&self) -> Option<&ChildId> {
        match self {
            Self::ChildStarted { child, .. }
            | Self::ChildStopped { child }
            | Self::ChildRestarted { child, .. }
            | Self::ChildGivenUp { child, .. }
            | Self::ChildCannotMove { child, .. }
            | Self::HandoverStarted { child, .. }
            | Self::HandedOver { child, .. }
            | Self::HandoverFailed { child, .. }
            | Self::TakenOver { child, .. }
            | Self::Recovered { child, .. }
            | Self::MessageDropped { child, .. }
            | Self::DivergenceMerged { child, .. }
            | Self::DivergenceYielded { child, .. }
            | Self::StateParked { child, .. }
            | Self::ParkedStateApplied { child, .. }
            | Self::ParkedStateDiscarded { child, .. }
            | Self::ParkedStateDropped { child, .. } => Some(child),
            _ => None,
        }
    }

    /// What happened, in words. `here`: the node that tells it; `name`: how other nodes are called.
    pub(crate) fn words(&self, here: &dyn Display, name: &dyn Fn(&NodeId) -> String) -> String {
        match self {
            Self::NodeJoined { name, .. } => format!("{name} came in"),
            Self::Founded => format!("{here} founded a cluster"),
            Self::WaitingForSeeds { seeds } => {
                let seeds = seeds.iter().map(|(seed, outcome)| format!("{seed} ({outcome})"));
                format!("{here} waits for a seed: {}", list(seeds))
            }
            Self::JoinDelayed { node, missing } => {
                let pairs = missing.iter().map(|(deaf, unheard)| {
                    format!("{} does not hear {}", name(deaf), name(unheard))
                });
                format!("{} is not in yet: {}", name(node), list(pairs))
            }
            Self::LinkMissing { node, addresses } => {
                let tried = addresses.join(", ");
                format!("{here} has no working link to {}, tried {tried}", name(node))
            }
            Self::LinkRestored { node } => {
                format!("the link from {here} to {} works again", name(node))
            }
            Self::Unsettled { reason } => format!("the cluster is not settled: {reason}"),
            Self::NodeSuspected { node } => {
                format!("{} is silent, or its link broke", name(node))
            }
            Self::NodeRecovered { node } => format!("{} was heard again", name(node)),
            Self::NodeLeaving { node } => format!("{} hands its children over", name(node)),
            Self::NodeLeft { node } => format!("{} has left", name(node)),
            Self::LeaveFailed { reason, .. } => format!("{here} has not left: {reason}"),
            Self::NodeDraining { node } => {
                format!("{} is drained: it hands its children over and stays", name(node))
            }
            Self::Drained => format!("{here} is drained and has no children left"),
            Self::DrainFailed { reason, .. } => format!("{here} is not empty: {reason}"),
            Self::NodeResumed { node } => format!("{} takes children again", name(node)),
            Self::NodeDown { node } => {
                format!("{} is down; its children are started elsewhere", name(node))
            }
            Self::Rejoined => {
                format!("{here} was declared down while it lived, and came back")
            }
            Self::PeerRefused { node, reason } => {
                let peer = node.as_ref().map_or_else(|| "a peer".to_owned(), name);
                format!("{peer} was not admitted: {reason}")
            }
            Self::KeyInUse { address, .. } => format!(
                "another process runs with the key of {here}, at {address}, and was there first: \
                 {here} stops"
            ),
            Self::WordsRefused { node, reason } => {
                format!("words of {} were refused: {reason}", name(node))
            }
            Self::ChildStarted { child, .. } => format!("{child} was started on {here}"),
            Self::ChildStopped { child } => format!("{child} was stopped on {here}"),
            Self::ChildRestarted { child, reason, after, .. } => {
                format!("{child} ended and is started again in {after:.1?}: {reason}")
            }
            Self::ChildGivenUp { child, reason } => format!("{child} was given up: {reason}"),
            Self::ChildCannotMove { child, reason } => format!("{child} cannot move: {reason}"),
            Self::HandoverStarted { child, to, .. } => {
                format!("{child} goes from {here} to {}", name(to))
            }
            Self::HandedOver { child, to, took, .. } => format!(
                "{child} was handed over from {here} to {} in {:.1} ms",
                name(to),
                took.as_secs_f64() * 1_000.0
            ),
            Self::HandoverFailed { child, to, reason, .. } => {
                format!("{child} stays on {here}, not {}: {reason}", name(to))
            }
            Self::TakenOver { child, from, .. } => {
                format!("{child} came from {} with its state", name(from))
            }
            Self::Recovered { child, from, with_state, .. } => {
                let state = if *with_state { "with its state" } else { "from nothing" };
                let owner = from.as_ref().map_or_else(|| "its owner".to_owned(), name);
                format!("{child} was started on {here} {state}: {owner} went down")
            }
            Self::ChildrenMoved { moved, took } => moved_words(moved, *took, here, name),
            Self::AdminAction { action, address, access, status } => {
                let address = address.as_deref().unwrap_or("an unknown address");
                format!("{address} ({access}) asked {here} for {action}: {status}")
            }
            Self::MessageDropped { child, message, reason } => {
                format!("a {message} to {child} could not go along: {reason}")
            }
            Self::DivergenceMerged { child, from } => {
                format!("{child} took in the state it had on {}", name(from))
            }
            Self::DivergenceYielded { child, to } => {
                format!("{child} gave way to the one on {}", name(to))
            }
            Self::StateParked { child, reason, .. } => {
                format!("a state of {child} is parked on {here}: {reason}")
            }
            Self::ParkedStateDiscarded { child, .. } => {
                format!("a parked state of {child} was discarded")
            }
            Self::ParkedStateApplied { child, replaced, .. } => {
                let how = match replaced {
                    true => "put in the place of its own, which is parked now",
                    false => "merged into it",
                };
                format!("a parked state of {child} was {how}")
            }
            Self::ParkedStateDropped { child, reason } => {
                format!("a parked state of {child} is lost: {reason}")
            }
        }
    }
}

/// In words, with the last characters of node ids for names: `Hub::describe` knows the names.
impl Display for HubEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(&"this node", &NodeId::short))
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// `1 child`, `7 children`.
fn children(count: usize) -> String {
    format!("{count} {}", if count == 1 { "child" } else { "children" })
}

/// `512 B`, `20.3 KiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1_024.0, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn moved_words(
    moved: &Moved,
    took: Duration,
    here: &dyn Display,
    name: &dyn Fn(&NodeId) -> String,
) -> String {
    let each = |nodes: &BTreeMap<NodeId, usize>| {
        list(nodes.iter().map(|(node, count)| format!("{count} {}", name(node))))
    };
    let mut parts = Vec::new();
    let sent: usize = moved.sent.values().sum();
    if sent > 0 {
        parts.push(format!(
            "{} left {here} with {} of state (to {})",
            children(sent),
            bytes(moved.bytes),
            each(&moved.sent)
        ));
    }
    let received: usize = moved.received.values().sum();
    if received > 0 {
        parts.push(format!(
            "{} came to {here} (from {})",
            children(received),
            each(&moved.received)
        ));
    }
    if moved.recovered > 0 {
        parts.push(format!("{} of lost nodes went on here", children(moved.recovered)));
    }
    if moved.begun_anew > 0 {
        parts.push(format!("{} of lost nodes began anew here", children(moved.begun_anew)));
    }
    if moved.failed > 0 {
        let moves = if moved.failed == 1 { "move" } else { "moves" };
        parts.push(format!("{} {moves} failed", moved.failed));
    }
    format!("{}, in {:.1} s", list(parts.into_iter()), took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeName;

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn told(event: &HubEvent) -> String {
        event.words(&"n1", &|id: &NodeId| if *id == node(2) { "n2".to_owned() } else { id.short() })
    }

    #[test]
    fn nodes_are_told_by_their_names_and_else_by_the_end_of_their_ids() {
        let down = |n| HubEvent::NodeDown { node: node(n) };
        assert_eq!(told(&down(2)), "n2 is down; its children are started elsewhere");
        assert!(told(&down(3)).starts_with(&format!("{} is down", node(3).short())));
        assert!(down(2).to_string().starts_with(&node(2).short()));
        let name = NodeName::new("n2").expect("a plain word");
        assert_eq!(told(&HubEvent::NodeJoined { node: node(2), name }), "n2 came in");
        assert_eq!((down(2).name(), down(2).level()), ("node_down", EventLevel::Error));
    }

    #[test]
    fn a_rebalance_is_told_in_one_sentence_and_warned_of_if_anything_was_lost() {
        let event =
            |moved: Moved| HubEvent::ChildrenMoved { moved, took: Duration::from_millis(2_340) };
        let sent = Moved { sent: [(node(2), 300)].into(), bytes: 20_800, ..Moved::default() };
        assert_eq!(
            told(&event(sent.clone())),
            "300 children left n1 with 20.3 KiB of state (to 300 n2), in 2.3 s"
        );
        assert_eq!(event(sent).level(), EventLevel::Info);
        let lost = Moved {
            received: [(node(2), 1)].into(),
            recovered: 2,
            begun_anew: 17,
            failed: 1,
            ..Moved::default()
        };
        assert_eq!(
            told(&event(lost.clone())),
            "1 child came to n1 (from 1 n2), 2 children of lost nodes went on here, 17 children of \
             lost nodes began anew here, 1 move failed, in 2.3 s"
        );
        assert_eq!(event(lost).level(), EventLevel::Warn);
        assert_eq!(
            [0, 1_023, 1_024, 5 << 20, 3 << 50].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3072.0 TiB"]
        );
    }

    #[test]
    fn levels_are_ordered_by_how_grave_they_are() {
        use EventLevel::{Debug, Error, Info, Warn};
        assert!(Debug < Info && Info < Warn && Warn < Error);
        assert_eq!(
            [Debug, Info, Warn, Error].map(|level| level.to_string()),
            ["debug", "info", "warn", "error"]
        );
    }
}
