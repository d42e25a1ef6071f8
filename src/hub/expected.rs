//! How many nodes have to be in before a node is ready.

/// How many nodes have to be in, all at once, before a node is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    nodes: usize,
    /// The most that were in at once.
    seen: usize,
}

impl Expected {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes, seen: 0 }
    }

    /// So many are in now.
    pub(crate) fn note(&mut self, members: usize) {
        self.seen = self.seen.max(members);
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Whether they have been in, now or once: others that leave do not end it.
    pub(crate) fn is_met(&self) -> bool {
        self.seen >= self.nodes
    }
}

#[test]
fn expected_nodes_have_to_be_in_at_once_and_may_leave_again() {
    let mut expected = Expected::new(3);
    for members in [2, 1, 2] {
        expected.note(members);
        assert!(!expected.is_met());
    }
    expected.note(3);
    expected.note(1);
    assert!(expected.is_met() && expected.seen() == 3);
}
