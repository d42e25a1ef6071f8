//! Who is admitted: those on a list, or all but the blocked ones.

use std::collections::BTreeSet;

use super::id::NodeId;

/// Who is admitted by a node. Two of them that were given the same changes in the same order are
/// equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    /// The nodes that are admitted; `None`: all.
    listed: Option<BTreeSet<NodeId>>,
    /// The nodes that are not; empty where there is a list.
    blocked: BTreeSet<NodeId>,
}

impl AccessList {
    /// Admits everybody.
    #[must_use]
    pub fn open() -> Self {
        Self { listed: None, blocked: BTreeSet::new() }
    }

    /// Admits these nodes.
    #[must_use]
    pub fn of(nodes: BTreeSet<NodeId>) -> Self {
        Self { listed: Some(nodes), blocked: BTreeSet::new() }
    }

    /// Why a node is not admitted; `None` if it is.
    #[must_use]
    pub fn refusal(&self, node: NodeId) -> Option<&'static str> {
        match &self.listed {
            Some(listed) => (!listed.contains(&node)).then_some("it is not on the allow list"),
            None => self.blocked.contains(&node).then_some("it is blocked"),
        }
    }

    /// Whether a node is admitted.
    #[must_use]
    pub fn admits(&self, node: NodeId) -> bool {
        self.refusal(node).is_none()
    }

    /// Admits a node. `false`: it was admitted before.
    pub fn allow(&mut self, node: NodeId) -> bool {
        match &mut self.listed {
            Some(listed) => listed.insert(node),
            None => self.blocked.remove(&node),
        }
    }

    /// Admits a node no more. `false`: it was not admitted before.
    pub fn block(&mut self, node: NodeId) -> bool {
        match &mut self.listed {
            Some(listed) => listed.remove(&node),
            None => self.blocked.insert(node),
        }
    }

    /// The nodes that are admitted, if not all but some are.
    #[must_use]
    pub fn listed(&self) -> Option<&BTreeSet<NodeId>> {
        self.listed.as_ref()
    }

    /// The nodes that are not admitted, where there is no list.
    #[must_use]
    pub fn blocked(&self) -> &BTreeSet<NodeId> {
        &self.blocked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_admits_who_is_on_it_and_without_one_all_are_admitted_but_the_blocked() {
        let [one, other] = [1, 2].map(|n| NodeId::from_key([n; 32]));
        for (mut access, admits_other, reason) in [
            (AccessList::open(), true, "it is blocked"),
            (AccessList::of(BTreeSet::from([one])), false, "it is not on the allow list"),
        ] {
            let before = access.clone();
            assert_eq!((access.admits(one), access.admits(other)), (true, admits_other));
            assert!(!access.allow(one), "it was admitted");
            assert!(access.block(one) && !access.block(one));
            assert_eq!(access.refusal(one), Some(reason));
            assert_eq!(access.admits(other), admits_other);
            assert!(access.allow(one) && access.admits(one));
            assert_eq!(access, before, "nothing is left of the block");
        }
    }
}
