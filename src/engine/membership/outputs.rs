//! What the membership wants done, and what is due at the end of the call that is being handled.

use std::collections::VecDeque;

use crate::model::{
    event::HubEvent,
    id::{Incarnation, NodeId, NodeRun},
    member::Member,
    message::MemberWord,
};

/// What the membership wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberOutput {
    /// Say this, over the link if it works, else by way of others.
    Send {
        /// The node.
        to: NodeId,
        /// The word.
        word: MemberWord,
    },
    /// Say this over the link, though it seems not to work.
    Probe {
        /// The node.
        to: NodeId,
        /// The word.
        word: MemberWord,
    },
    /// Say this to a node that is no contact: over a link if one stands, else by way of others.
    Greet {
        /// The node, in the run in which it was named.
        to: NodeRun,
        /// The word.
        word: MemberWord,
    },
    /// Keep a link to this node: dial it, with backoff, whenever there is none.
    Connect {
        /// The node.
        node: NodeId,
        /// Where it may be; replaces what was said before.
        addresses: Vec<String>,
    },
    /// No word comes over the link to this node, though others hear it: close it and dial again,
    /// unless anything has come over it since this was said before.
    Silent {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// Have no link to this node; close the one there is.
    Disconnect {
        /// The node.
        node: NodeId,
        /// Why, for the log.
        reason: String,
    },
    /// Hellos tell this from now on. Comes before everything else that one call gives.
    Announce {
        /// This node.
        me: Member,
        /// The other members.
        known: Vec<Member>,
        /// Lives that are over.
        fenced: Vec<(NodeId, Incarnation)>,
    },
    /// Tell whoever listens.
    Event(HubEvent),
    /// [`Membership::view`](super::Membership::view) has another [`View::id`], or [`Membership::is_waiting`](super::Membership::is_waiting) changed. Comes
    /// after everything else that one call gives.
    ViewChanged,
    /// Who is suspect or has no link changed, in an unchanged view.
    Regarded,
    /// Links changed, or what anybody says of links: somebody may be reached in another way. Who is regarded
    /// how did not change.
    Reached,
    /// This run is out.
    Gone {
        /// The run.
        run: NodeRun,
        /// Whether it said `Bye`; otherwise it went down.
        left: bool,
    },
    /// [`Membership::incarnation`](super::Membership::incarnation) rose and the run is the same: what this node owns has to be
    /// published again. The peers are told, no link need be closed.
    Renewed,
    /// Whether gates may start handlers and let replies out.
    Gates {
        /// Whether they may.
        valid: bool,
    },
}

/// Outputs in order, across calls. Within a call the announcement comes first and the one word on
/// what has changed last, however often either became due.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    queue: VecDeque<MemberOutput>,
    /// Where the outputs of the current call begin.
    mark: usize,
    /// [`MemberOutput::Announce`] is due.
    announce: bool,
    /// [`MemberOutput::ViewChanged`] is due.
    view_changed: bool,
    /// [`MemberOutput::Regarded`] is, if not that one.
    regarded: bool,
    /// [`MemberOutput::Reached`] is, if no other of the two.
    reached: bool,
}

impl Outputs {
    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.mark = self.queue.len();
    }

    /// The call is over. `announcement` gives [`MemberOutput::Announce`], if that is due.
    pub(super) fn close(&mut self, announcement: impl FnOnce() -> MemberOutput) {
        if std::mem::take(&mut self.announce) {
            self.queue.insert(self.mark, announcement());
        }
        if std::mem::take(&mut self.view_changed) {
            self.queue.push_back(MemberOutput::ViewChanged);
            self.regarded = false;
        } else if std::mem::take(&mut self.regarded) {
            self.queue.push_back(MemberOutput::Regarded);
        } else if self.reached {
            self.queue.push_back(MemberOutput::Reached);
        }
        self.reached = false;
    }

    pub(super) fn next(&mut self) -> Option<MemberOutput> {
        self.queue.pop_front()
    }

    /// What Hellos tell is another thing now.
    pub(super) fn announce(&mut self) {
        self.announce = true;
    }

    pub(super) fn view_changed(&mut self) {
        self.view_changed = true;
    }

    pub(super) fn regarded(&mut self) {
        self.regarded = true;
    }

    pub(super) fn reached(&mut self) {
        self.reached = true;
    }

    pub(super) fn send(&mut self, to: NodeId, word: MemberWord) {
        self.queue.push_back(MemberOutput::Send { to, word });
    }

    pub(super) fn probe(&mut self, to: NodeId, word: MemberWord) {
        self.queue.push_back(MemberOutput::Probe { to, word });
    }

    pub(super) fn greet(&mut self, to: NodeRun, word: MemberWord) {
        self.queue.push_back(MemberOutput::Greet { to, word });
    }

    /// A link to this node is kept from now on, if it is known where the node may be.
    pub(super) fn connect(&mut self, node: NodeId, addresses: Vec<String>) {
        if !addresses.is_empty() {
            self.queue.push_back(MemberOutput::Connect { node, addresses });
        }
    }

    pub(super) fn silent(&mut self, node: NodeId, addresses: Vec<String>) {
        self.queue.push_back(MemberOutput::Silent { node, addresses });
    }

    pub(super) fn disconnect(&mut self, node: NodeId, reason: &str) {
        self.queue.push_back(MemberOutput::Disconnect { node, reason: reason.to_owned() });
    }

    /// The link of this node is closed, and whoever listens is told why.
    pub(super) fn refuse(&mut self, node: NodeId, reason: &str) {
        self.event(HubEvent::PeerRefused { node: Some(node), reason: reason.to_owned() });
        self.disconnect(node, reason);
    }

    pub(super) fn event(&mut self, event: HubEvent) {
        self.queue.push_back(MemberOutput::Event(event));
    }

    pub(super) fn gone(&mut self, run: NodeRun, left: bool) {
        self.queue.push_back(MemberOutput::Gone { run, left });
    }

    pub(super) fn renewed(&mut self) {
        self.queue.push_back(MemberOutput::Renewed);
    }

    pub(super) fn gates(&mut self, valid: bool) {
        self.queue.push_back(MemberOutput::Gates { valid });
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{id, member},
        *,
    };

    fn announcement() -> MemberOutput {
        MemberOutput::Announce { me: member(1), known: vec![], fenced: vec![] }
    }

    fn drain(out: &mut Outputs) -> Vec<MemberOutput> {
        std::iter::from_fn(|| out.next()).collect()
    }

    #[test]
    fn the_announcement_comes_before_everything_else_of_its_call_and_after_the_calls_before() {
        let mut out = Outputs::default();
        out.begin();
        out.gates(true);
        out.close(announcement);
        out.begin();
        out.gates(false);
        out.announce();
        out.announce();
        out.close(announcement);
        let gates = |valid| MemberOutput::Gates { valid };
        assert_eq!(drain(&mut out), [gates(true), announcement(), gates(false)]);
        out.begin();
        out.close(announcement);
        assert_eq!(drain(&mut out), [], "it was due once");
    }

    #[test]
    fn of_what_has_changed_the_most_is_told_once_at_the_end() {
        for flags in 0..8 {
            let mut out = Outputs::default();
            let (view, regarded, reached) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
            out.begin();
            for _ in 0..2 {
                view.then(|| out.view_changed());
                regarded.then(|| out.regarded());
                reached.then(|| out.reached());
            }
            out.renewed();
            out.close(announcement);
            let told = match (view, regarded, reached) {
                (true, _, _) => Some(MemberOutput::ViewChanged),
                (_, true, _) => Some(MemberOutput::Regarded),
                (_, _, true) => Some(MemberOutput::Reached),
                _ => None,
            };
            let expected: Vec<_> = [MemberOutput::Renewed].into_iter().chain(told).collect();
            assert_eq!(drain(&mut out), expected);
            out.begin();
            out.close(announcement);
            assert_eq!(drain(&mut out), [], "nothing is left over");
        }
    }

    #[test]
    fn nobody_is_dialled_nowhere() {
        let mut out = Outputs::default();
        out.connect(id(2), vec![]);
        assert_eq!(drain(&mut out), []);
    }
}
