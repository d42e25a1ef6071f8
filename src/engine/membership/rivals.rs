//! Other runs of nodes that are known: a restart, or a second process with the same key.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{
    id::{NodeId, NodeRun},
    member::Hello,
};

/// At most so many are held or remembered.
const LIMIT: usize = 1_024;

#[derive(Clone, Debug)]
struct Rival {
    hello: Hello,
    since: Instant,
    /// Who is silent from `since` to here is gone.
    until: Instant,
}

/// Runs that are linked while another run of their node seems alive.
#[derive(Clone, Debug, Default)]
pub(super) struct Rivals {
    held: BTreeMap<NodeId, Rival>,
    /// The nonce of the rival that was turned away last: the run that is known had answered the
    /// probe, so a link that closes later is no proof against it.
    refused: BTreeMap<NodeId, u64>,
}

/// A rival whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) hello: Hello,
    /// When it came.
    pub(super) since: Instant,
}

impl Rivals {
    /// Holds a rival until the known run has had time to show that it lives.
    pub(super) fn hold(&mut self, now: Instant, hello: Hello, patience: Duration) {
        if self.held.len() < LIMIT {
            self.held.insert(hello.me.id, Rival { hello, since: now, until: now + patience });
        }
    }

    /// The known run did not run itself for a while: it gets its time anew.
    pub(super) fn excuse(&mut self, now: Instant, patience: Duration) {
        for rival in self.held.values_mut() {
            (rival.since, rival.until) = (now, now + patience);
        }
    }

    pub(super) fn refuse(&mut self, run: NodeRun) {
        if self.refused.len() >= LIMIT {
            self.refused.clear();
        }
        self.refused.insert(run.node, run.nonce);
    }

    pub(super) fn was_refused(&self, run: NodeRun) -> bool {
        self.refused.get(&run.node) == Some(&run.nonce)
    }

    /// The known run is linked again.
    pub(super) fn forgive(&mut self, node: NodeId) {
        self.refused.remove(&node);
    }

    /// The known run is gone, or its link is. The rival that waited for that.
    pub(super) fn take(&mut self, node: NodeId) -> Option<Hello> {
        self.held.remove(&node).map(|rival| rival.hello)
    }

    /// The rival's own link is gone.
    pub(super) fn unlinked(&mut self, run: NodeRun) -> bool {
        let is_held = self.held.get(&run.node).is_some_and(|rival| rival.hello.me.run() == run);
        if is_held {
            self.held.remove(&run.node);
        }
        is_held
    }

    /// Rivals whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let nodes: Vec<NodeId> = self
            .held
            .iter()
            .filter(|(_, rival)| now >= rival.until)
            .map(|(node, _)| *node)
            .collect();
        nodes
            .into_iter()
            .filter_map(|node| self.held.remove(&node))
            .map(|Rival { hello, since, .. }| Due { hello, since })
            .collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|rival| rival.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, id, member},
        *,
    };
    use crate::model::{
        id::HubName,
        member::{Member, WIRE_VERSION},
    };

    fn hello(me: Member) -> Hello {
        let hub = HubName::new("test").expect("a plain word");
        let (version, fenced, known, dialled) = (WIRE_VERSION, None, Vec::new(), None);
        Hello { version, hub, me, fenced, known, dialled, seen: None, up: 0, linked: false }
    }

    #[test]
    fn a_rival_is_due_when_its_time_has_come_and_an_excuse_gives_the_known_run_its_time_anew() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        rivals.hold(now, hello(member(2)), SECOND);
        assert_eq!(rivals.deadline(), Some(now + SECOND));
        assert!(rivals.due(now + SECOND / 2).is_empty());
        rivals.excuse(now + SECOND / 2, SECOND);
        assert!(rivals.due(now + SECOND).is_empty());
        let due = rivals.due(now + 2 * SECOND);
        assert_eq!((due.len(), due[0].since), (1, now + SECOND / 2));
        assert!(rivals.deadline().is_none() && rivals.take(id(2)).is_none());
    }

    #[test]
    fn a_rival_whose_own_link_is_gone_is_no_rival() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        rivals.hold(now, hello(member(2)), SECOND);
        assert!(!rivals.unlinked(NodeRun { node: id(2), nonce: 77 }));
        assert!(rivals.unlinked(member(2).run()) && rivals.take(id(2)).is_none());
    }

    #[test]
    fn a_run_that_was_refused_is_remembered_until_the_known_one_is_back() {
        let mut rivals = Rivals::default();
        rivals.refuse(member(2).run());
        assert!(rivals.was_refused(member(2).run()));
        assert!(!rivals.was_refused(NodeRun { node: id(2), nonce: 77 }));
        rivals.forgive(id(2));
        assert!(!rivals.was_refused(member(2).run()));
    }

    #[test]
    fn no_more_than_so_many_are_held_or_remembered() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        for n in 0..2_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let me = Member { id: NodeId::from_key(key), ..member(2) };
            rivals.refuse(me.run());
            rivals.hold(now, hello(me), SECOND);
        }
        assert!(rivals.held.len() == LIMIT && rivals.refused.len() <= LIMIT);
    }
}
