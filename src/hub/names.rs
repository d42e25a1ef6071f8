//! How nodes are called, also those that have gone.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{
    event::HubEvent,
    id::{NodeId, NodeName},
};

/// Names that are kept; the oldest go first.
const MOST: usize = 4_096;

/// The names of this node and of those that have come in.
#[derive(Debug)]
pub(super) struct Names {
    me: (NodeId, NodeName),
    names: BTreeMap<NodeId, NodeName>,
    oldest: VecDeque<NodeId>,
}

impl Names {
    /// This node's name alone.
    pub(super) fn new(node: NodeId, name: NodeName) -> Self {
        Self { me: (node, name), names: BTreeMap::new(), oldest: VecDeque::new() }
    }

    /// Something happened.
    pub(super) fn event(&mut self, event: &HubEvent) {
        if let HubEvent::NodeJoined { node, name } = event
            && self.names.insert(*node, name.clone()).is_none()
        {
            self.oldest.push_back(*node);
            if self.oldest.len() > MOST
                && let Some(gone) = self.oldest.pop_front()
            {
                self.names.remove(&gone);
            }
        }
    }

    /// All that are known.
    #[cfg(feature = "admin")]
    pub(super) fn known(&self) -> impl Iterator<Item = (NodeId, NodeName)> {
        let others = self.names.iter().map(|(node, name)| (*node, name.clone()));
        std::iter::once(self.me.clone()).chain(others)
    }

    /// What this node is called, or the end of its id.
    pub(super) fn of(&self, node: NodeId) -> String {
        let (me, name) = &self.me;
        let known = if node == *me { Some(name) } else { self.names.get(&node) };
        known.map_or_else(|| node.short(), ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_came_in_has_its_name_from_then_on_and_names_have_a_bound() {
        let node = |n: usize| {
            let mut key = [7; 32];
            (key[0], key[1]) = ((n >> 8) as u8, n as u8);
            NodeId::from_key(key)
        };
        let own = NodeName::new("own").expect("a plain word");
        let mut names = Names::new(NodeId::from_key([9; 32]), own);
        assert_eq!(names.of(NodeId::from_key([9; 32])), "own");
        assert_eq!(names.of(node(0)), node(0).short());
        for n in 0..=MOST {
            let name = NodeName::new(format!("n{n}")).expect("a plain word");
            names.event(&HubEvent::NodeJoined { node: node(n), name });
        }
        names.event(&HubEvent::NodeDown { node: node(MOST) });
        assert_eq!(names.of(node(MOST)), format!("n{MOST}"));
        assert_eq!(names.of(node(0)), node(0).short());
        assert_eq!((names.names.len(), names.oldest.len()), (MOST, MOST));
        let name = NodeName::new("other").expect("a plain word");
        names.event(&HubEvent::NodeJoined { node: node(5), name });
        assert_eq!((names.of(node(5)).as_str(), names.oldest.len()), ("other", MOST));
    }
}
