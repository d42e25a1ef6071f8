//! How members are reached, as one: words over a link or by neighbours, messages and states by one
//! member between, and what a word may say where it goes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    io::{Effect, Way},
    local_links::LocalLinks,
    membership::Membership,
    relay::{self, Detours, Reach, Reached},
};
use crate::model::{
    id::{NodeId, NodeRun},
    member::{MemberState, NodePath, View},
    message::{PeerMessage, SyncWord},
};

/// On so many ways at a time a member is asked that cannot be asked straight.
const MOST_WAYS: usize = 3;

/// Who is reached in another way than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// How words go now. What was said before may be lost.
    pub(crate) words: Vec<(NodeRun, Option<Reach>)>,
    /// By whom messages and states go now; `None`: over the link again.
    pub(crate) paths: Vec<(NodeRun, Option<NodeRun>)>,
    /// Everybody to whom messages and states can go.
    pub(crate) reachable: BTreeSet<NodeRun>,
}

/// How each member is reached.
#[derive(Debug)]
pub(crate) struct Ways {
    reached: Reached,
    detours: Detours,
    /// Who may be told addresses on loopback.
    local: LocalLinks,
    /// Somebody may be reached in another way.
    may_differ: bool,
    /// How many ways were named to who looks at the cluster.
    named: usize,
}

impl Ways {
    /// Nobody is reached yet. By whom somebody could not be reached is passed over for a few heartbeats.
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self {
            reached: Reached::default(),
            detours: Detours::new(heartbeat),
            local: LocalLinks::default(),
            may_differ: true,
            named: 0,
        }
    }

    /// A link stands; `local`: it is on loopback, or in this process.
    pub(crate) fn linked(&mut self, run: NodeRun, local: bool) {
        self.local.linked(run, local);
        self.may_differ = true;
    }

    /// A link broke.
    pub(crate) fn unlinked(&mut self, run: NodeRun) {
        self.local.unlinked(run);
        self.may_differ = true;
    }

    /// Messages and states for a member cannot go by that one.
    pub(crate) fn path_lost(&mut self, now: Instant, to: NodeRun, by: NodeRun) {
        self.detours.lost(now, to, by);
        self.may_differ = true;
    }

    /// Somebody may be reached in another way: it is to be looked at.
    pub(crate) fn may_differ(&mut self) {
        self.may_differ = true;
    }

    /// Whether anything has happened, or a wait is over, since this was asked last.
    pub(crate) fn is_to_be_looked_at(&mut self) -> bool {
        std::mem::take(&mut self.may_differ)
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.may_differ |= self.deadline().is_some_and(|at| at <= now);
    }

    /// When [`tick`](Self::tick) is wanted.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.detours.deadline()
    }

    /// Looks anew.
    pub(crate) fn refresh(
        &mut self,
        now: Instant,
        membership: &mut Membership,
        view: &View,
        me: NodeId,
    ) -> Changes {
        let words = self.reached.refresh(membership, view, me);
        let paths = self.detours.refresh(now, membership, view, me);
        let reachable = self.detours.runs().chain(self.reached.linked()).collect();
        Changes { words, paths, reachable }
    }

    /// Whether somebody would be reached in another way if this was looked at.
    #[cfg(test)]
    pub(crate) fn are_stale(
        &self,
        now: Instant,
        membership: &Membership,
        view: &View,
        me: NodeId,
    ) -> bool {
        !self.detours.clone().refresh(now, membership, view, me).is_empty()
    }

    /// How messages go to another node, or words if no messages can.
    pub(crate) fn path_to(&self, membership: &Membership, run: NodeRun) -> NodePath {
        if membership.link_works(run.node) {
            return NodePath::Link;
        }
        let by = self.detours.by(run).map(|by| by.node).or_else(|| self.reached.by(run));
        by.map_or(NodePath::None, NodePath::By)
    }

    /// The effect as it leaves this node: a word goes by a neighbour where its link does not work, and
    /// names no address on loopback to who is elsewhere. `None`: there is no way for it now.
    pub(crate) fn outward(
        &self,
        now: Instant,
        membership: &mut Membership,
        me: NodeRun,
        effect: Effect,
    ) -> Option<Effect> {
        let effect = match effect {
            Effect::Send { to, message } => {
                // Found out at once, a link that carries nothing holds up no view and no request.
                if is_waited_for(&message) {
                    membership.in_use(now, [to]);
                }
                relay::send(membership, me, to, message)?
            }
            effect => effect,
        };
        Some(match effect {
            Effect::Send { to, message } => {
                Effect::Send { to, message: self.local.told(to, message) }
            }
            Effect::Probe { to, message } => {
                Effect::Probe { to, message: self.local.told(to, message) }
            }
            effect => effect,
        })
    }

    /// The ways on which a member can be asked by who looks at the cluster: its link, if something
    /// comes over it, or some members between; these may have no link to it, so other ones are named
    /// each time.
    pub(crate) fn for_question(
        &mut self,
        membership: &Membership,
        view: &View,
        me: NodeId,
        to: NodeId,
    ) -> Vec<Way> {
        if view.member(to).is_none() {
            return Vec::new();
        }
        if membership.link_works(to) {
            return vec![Way::Straight];
        }
        let between: Vec<NodeId> = view
            .members
            .values()
            .filter(|member| member.id != me && member.id != to)
            .filter(|member| member.state != MemberState::Suspect)
            .map(|member| member.id)
            .filter(|id| membership.link_works(*id))
            .collect();
        let turn = self.named % between.len().max(1);
        let some = between.iter().cycle().skip(turn).take(between.len().min(MOST_WAYS));
        let mut ways: Vec<Way> = some.map(|id| Way::By(*id)).collect();
        if membership.is_linked(to) {
            ways.push(Way::Straight);
        }
        self.named = self.named.wrapping_add(MOST_WAYS);
        ways
    }
}

/// Whether somebody here waits for what the receiver makes of it. In is said by all to all when a view
/// changes: who has not said it a heartbeat later is doubted then.
fn is_waited_for(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Sync(word) => {
            let tells = matches!(
                word,
                SyncWord::Changes { .. }
                    | SyncWord::Snapshot { .. }
                    | SyncWord::Have { .. }
                    | SyncWord::Digest { .. }
                    | SyncWord::In { .. }
            );
            !tells
        }
        PeerMessage::Member(_) | PeerMessage::Topics(_) | PeerMessage::Relay { .. } => false,
        PeerMessage::Home(_)
        | PeerMessage::Handover(_)
        | PeerMessage::Roll(_)
        | PeerMessage::Observe(_)
        | PeerMessage::Parked(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::membership::tests::Bench,
        model::message::{MemberWord, PeerMessage},
    };

    fn node(n: u8) -> NodeId {
        Bench::run(n).node
    }

    #[test]
    fn a_member_without_a_link_is_asked_by_three_others_and_by_other_ones_the_next_time() {
        let mut bench = Bench::with(&[2, 3, 4, 5, 6, 7]);
        let (view, me) = (bench.membership.view().clone(), node(1));
        let mut ways = Ways::new(Bench::WINDOW);
        let ask = |ways: &mut Ways, bench: &Bench, to: u8| {
            ways.for_question(&bench.membership, &view, me, node(to))
        };
        assert_eq!(ask(&mut ways, &bench, 9), [], "it is not in");
        assert_eq!(ask(&mut ways, &bench, 2), [Way::Straight]);
        bench.unlink(2);
        let first = ask(&mut ways, &bench, 2);
        let second = ask(&mut ways, &bench, 2);
        assert_eq!((first.len(), second.len()), (MOST_WAYS, MOST_WAYS));
        let all: BTreeSet<NodeId> = [first, second]
            .into_iter()
            .flatten()
            .map(|way| match way {
                Way::By(id) => id,
                Way::Straight => panic!("there is no link"),
            })
            .collect();
        assert_eq!(all, [3, 4, 5, 6, 7].map(node).into());
    }

    #[test]
    fn what_happened_is_looked_at_once() {
        let mut ways = Ways::new(Bench::WINDOW);
        assert!(ways.is_to_be_looked_at(), "nobody was looked at yet");
        assert!(!ways.is_to_be_looked_at());
        ways.linked(Bench::run(2), true);
        assert!(ways.is_to_be_looked_at());
        ways.tick(Instant::now());
        assert!(!ways.is_to_be_looked_at(), "nothing was waited for");
    }

    #[test]
    fn a_word_leaves_by_a_neighbour_or_not_at_all() {
        let mut bench = Bench::with(&[2, 3]);
        bench.unlink(3);
        let ways = Ways::new(Bench::WINDOW);
        let word =
            |to: u8| Effect::Send { to: node(to), message: PeerMessage::Member(MemberWord::Ask) };
        let me = Bench::run(1);
        let out = ways.outward(Instant::now(), &mut bench.membership, me, word(2));
        assert_eq!(out, Some(word(2)));
        let out = ways.outward(Instant::now(), &mut bench.membership, me, word(3));
        assert!(matches!(out, Some(Effect::Send { to, .. }) if to == node(2)), "{out:?}");
        bench.pass(Bench::WINDOW, &[]);
        assert_eq!(ways.outward(Instant::now(), &mut bench.membership, me, word(3)), None);
    }
}
