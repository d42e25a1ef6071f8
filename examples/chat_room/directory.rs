//! The directory: one child that knows where each node serves its page, so that a page whose node
//! has gone finds another.
//!
//! Nodes say it anew every second. So the directory needs no care: if it loses its node, it is
//! started empty on another and knows everything a second later.

use std::collections::BTreeMap;

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

use crate::room::micros;

/// The id of the one child there is.
pub(crate) const DIRECTORY: &str = "directory";
/// How long a node is listed after it last said anything, in microseconds.
const FORGET: u64 = 10_000_000;
/// Nodes that are listed at most.
const NODES: usize = 1_000;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Directory {
    nodes: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    url: String,
    seen: u64,
}

impl Actor for Directory {
    type Context = Context<Self>;
}

/// The page of this node is there. Answered with all pages, by node id.
#[derive(Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Pages")]
pub(crate) struct Register {
    pub node: String,
    pub url: String,
}

impl HubMessage for Register {
    const NAME: &'static str = "directory.register";
}

#[derive(Debug, Default, MessageResponse, Serialize, Deserialize)]
pub(crate) struct Pages(pub BTreeMap<String, String>);

impl Handler<Register> for Directory {
    type Result = Pages;

    fn handle(&mut self, Register { node, url }: Register, _: &mut Self::Context) -> Pages {
        let seen = micros();
        self.nodes.retain(|_, entry| seen.saturating_sub(entry.seen) < FORGET);
        if self.nodes.len() < NODES {
            self.nodes.insert(node, Entry { url, seen });
        }
        Pages(self.nodes.iter().map(|(node, entry)| (node.clone(), entry.url.clone())).collect())
    }
}

impl Directory {
    /// After a split: takes in the pages that only the other side knows, or knows better.
    fn merge(&mut self, other: Self) {
        for (node, theirs) in other.nodes {
            if self.nodes.get(&node).is_none_or(|mine| mine.seen < theirs.seen) {
                self.nodes.insert(node, theirs);
            }
        }
    }
}

// The actor's own serde form is its state; nothing else is needed to make it movable.
hot_swap!(Directory, kind = "directory", messages = [Register], merge = Directory::merge);
