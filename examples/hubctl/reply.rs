//! What the endpoint answers. A value that is missing or null is not known.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::Value;

use crate::text::{Text, short};

/// A part of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// How many the filters match.
    pub(crate) total: Option<u64>,
    pub(crate) next_cursor: Option<String>,
    /// Nodes that did not answer: what they alone know is not in the list.
    #[serde(default)]
    pub(crate) unreachable: Vec<Unreachable>,
}

/// The state of a child.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) child: Option<Text>,
    pub(crate) epoch: Option<Text>,
    pub(crate) state_version: Option<u32>,
    pub(crate) bytes: Option<u64>,
    pub(crate) diagnostic: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Unreachable {
    Id(Text),
    Named(Who),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(&short(id)),
            Self::Named(who) => who.fmt(f),
        }
    }
}

/// A node: its name, and the end of its id.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Who {
    pub(crate) id: Text,
    #[serde(default)]
    pub(crate) name: Text,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A node without a name may be called by the end of its id.
        if self.name.0.is_empty() || self.id.0.ends_with(&self.name.0) {
            f.write_str(&short(&self.id))
        } else {
            write!(f, "{} {}", self.name, short(&self.id))
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) is_self: Option<bool>,
    pub(crate) state: Option<Text>,
    pub(crate) draining: Option<bool>,
    /// What it still has to hand over, if it leaves or is drained.
    pub(crate) left: Option<Left>,
    pub(crate) addresses: Option<Vec<Text>>,
    pub(crate) labels: Option<BTreeMap<String, Text>>,
    pub(crate) uptime_seconds: Option<f64>,
    pub(crate) version: Option<Text>,
    pub(crate) weight: Option<u64>,
    pub(crate) children: Option<u64>,
    pub(crate) share: Option<f64>,
    pub(crate) load: Option<Load>,
    pub(crate) link: Option<Link>,
    #[serde(default)]
    pub(crate) suspected_by: Vec<Who>,
    #[serde(default)]
    pub(crate) missing: Vec<Unheard>,
    /// What the node that answers waits for.
    pub(crate) waits_for: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Left {
    pub(crate) children: Option<u64>,
    #[serde(default)]
    pub(crate) first: Vec<WhyLeft>,
}

/// A child that is still on its node.
#[derive(Debug, Deserialize)]
pub(crate) struct WhyLeft {
    pub(crate) child: Text,
    pub(crate) reason: Option<Text>,
}

/// One node does not hear another.
#[derive(Debug, Deserialize)]
pub(crate) struct Unheard {
    pub(crate) node: Who,
    pub(crate) unheard: Who,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Load {
    pub(crate) queued: Option<u64>,
    pub(crate) handled: Option<u64>,
    pub(crate) running_handovers: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) state: Option<Text>,
    /// Who takes messages while it is down.
    pub(crate) by: Option<Who>,
    pub(crate) rtt_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Child {
    pub(crate) id: Text,
    pub(crate) kind: Option<Text>,
    pub(crate) state: Option<Text>,
    #[serde(default)]
    pub(crate) nodes: Vec<Instance>,
    pub(crate) epoch: Option<Text>,
    /// The id of the node to which somebody sent it.
    pub(crate) pinned: Option<Text>,
    #[serde(default)]
    pub(crate) tags: Vec<Text>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, Text>,
    pub(crate) failure: Option<Failure>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) spec: Option<Spec>,
    pub(crate) why: Option<Why>,
    #[serde(default)]
    pub(crate) history: Vec<Event>,
    #[serde(default)]
    pub(crate) history_unknown: Vec<Who>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Instance {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) role: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Failure {
    pub(crate) reason: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Runtime {
    pub(crate) restarts: Option<u64>,
    pub(crate) mailbox: Option<u64>,
    pub(crate) handled: Option<u64>,
    pub(crate) running_since: Option<Text>,
    pub(crate) last_handover: Option<Handover>,
    pub(crate) cannot_move: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Spec {
    pub(crate) restart: Option<Text>,
    pub(crate) restarts: Option<u64>,
    pub(crate) within_seconds: Option<f64>,
    pub(crate) args_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Why {
    pub(crate) rule: Option<Text>,
    pub(crate) text: Option<Text>,
    pub(crate) owner: Option<Who>,
    pub(crate) belongs: Option<Who>,
    pub(crate) home: Option<Who>,
    pub(crate) born: Option<Text>,
    pub(crate) copied: Option<Text>,
    #[serde(default)]
    pub(crate) candidates: Vec<Candidate>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Candidate {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) takes_children: Option<bool>,
    /// Null when there is nothing against it.
    pub(crate) reason: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Handover {
    pub(crate) child: Text,
    pub(crate) from: Option<Who>,
    pub(crate) to: Option<Who>,
    pub(crate) epoch: Option<Text>,
    pub(crate) status: Option<Text>,
    /// Null unless it failed.
    pub(crate) reason: Option<Text>,
    pub(crate) bytes: Option<u64>,
    pub(crate) started_at: Option<Text>,
    pub(crate) ended_at: Option<Text>,
    pub(crate) took_ms: Option<f64>,
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ParkedState {
    pub(crate) key: Text,
    pub(crate) child: Option<Text>,
    pub(crate) node: Option<Who>,
    pub(crate) bytes: Option<u64>,
    pub(crate) parked_at: Option<Text>,
    pub(crate) reason: Option<Text>,
    #[serde(default)]
    pub(crate) holders: Vec<Who>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: Text,
    pub(crate) took_ms: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: Option<Text>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<Text>,
    pub(crate) level: Option<Text>,
    /// The node that saw it.
    pub(crate) node: Option<Who>,
    #[serde(default)]
    pub(crate) text: Text,
}

/// A node that went in the last hour.
#[derive(Debug, Deserialize)]
pub(crate) struct Departed {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) how: Option<Text>,
    pub(crate) at: Option<Text>,
    pub(crate) came_back_at: Option<Text>,
    pub(crate) moved: Option<u64>,
    pub(crate) recovered: Option<u64>,
    pub(crate) begun_anew: Option<u64>,
    pub(crate) parked: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    pub(crate) hub: Option<Text>,
    pub(crate) node: Option<Who>,
    pub(crate) version: Option<Text>,
    #[serde(default)]
    pub(crate) strategies: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) settings: Vec<Setting>,
    #[serde(default)]
    pub(crate) kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: Text,
    pub(crate) value: Option<Text>,
    pub(crate) default: Option<Text>,
    pub(crate) changed: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Kind {
    pub(crate) name: Text,
    pub(crate) hosted: Option<bool>,
    #[serde(default)]
    pub(crate) messages: Vec<Text>,
    pub(crate) state_version: Option<u64>,
    pub(crate) oldest_state_version: Option<u64>,
}

/// What an action did, or would do.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {
    pub(crate) outcome: Option<Text>,
    pub(crate) node: Option<Value>,
    pub(crate) epoch: Option<Text>,
    pub(crate) children: Option<u64>,
    pub(crate) text: Option<Text>,
}

impl Done {
    /// The node, which may be told by its id alone.
    pub(crate) fn node(&self) -> Option<String> {
        match self.node.as_ref()? {
            Value::String(id) => Some(short(&Text(id.clone()))),
            node => Some(serde_json::from_value::<Who>(node.clone()).ok()?.to_string()),
        }
    }
}

/// How many events are not kept any more.
#[derive(Debug, Deserialize)]
pub(crate) struct Missed {
    pub(crate) count: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_and_told_by_the_end_of_its_id() {
        let who = |id: &str, name: &str| Who { id: Text(id.into()), name: Text(name.into()) };
        assert_eq!(who("12D3KooWabcdefgh", "a").to_string(), "a …abcdefgh");
        assert_eq!(who("12D3KooWabcdefgh", "").to_string(), "…abcdefgh");
        assert_eq!(who("12D3KooWabcdefgh", "abcdefgh").to_string(), "…abcdefgh");
        assert_eq!(who("12D3KooWabcdefgh", "\x1b").to_string(), "\\u{1b} …abcdefgh");
    }

    #[test]
    fn what_is_null_or_missing_is_read_as_not_known() {
        let node: Node =
            serde_json::from_str(r#"{"id":"x","name":"a","load":null}"#).expect("a node");
        assert!(node.load.is_none() && node.children.is_none() && node.link.is_none());
        let page = r#"{"items":[],"unreachable":["12D3KooWabcdefgh",{"id":"x","name":"a"}]}"#;
        let page: Page<Handover> = serde_json::from_str(page).expect("a page");
        let shown: Vec<_> = page.unreachable.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["…abcdefgh", "a …x"]);
    }

    #[test]
    fn an_action_tells_its_node_as_object_or_as_id() {
        let node = |json: &str| serde_json::from_str::<Done>(json).expect("a reply").node();
        assert_eq!(
            node(r#"{"node":{"id":"12345678","name":"a"}}"#).as_deref(),
            Some("a …12345678")
        );
        assert_eq!(node(r#"{"node":"xx12345678"}"#).as_deref(), Some("…12345678"));
        assert_eq!(node(r#"{"node":null}"#), None);
    }
}
