//! The roll call: what is left of the children whose owner went down?
//!
//! The home of an orphaned child asks every live member what it holds of it, claiming a term
//! above any it has seen. Each answers once and promises to obey no lower claim: see
//! [`promises`](super::promises). No timer skips anyone: a member answers, or goes down itself.
//!
//! The state of the latest owner wins, and of one owner's the live, then the frozen, then the ready
//! copy; a fresh start only if there is nothing anywhere. The child is given to whoever has the best
//! copy, again and again until there is an owner of that term; if that member cannot, the roll is
//! called again.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use crate::model::{
    child::{Entry, Epoch, Ownership},
    id::{ChildId, NodeRun},
    message::{Claim, Copy, Held, PeerMessage, RollWord},
};

/// Children of one call, so that a word stays far below the frame limit.
const CALL_SIZE: usize = 1_000;

#[derive(Debug)]
struct Orphan {
    term: u64,
    best: Option<(Copy, Epoch, NodeRun, Epoch)>,
    /// The highest term that somebody had promised to another home, if it is not below this one.
    outbid: u64,
}

/// A child that was given to a member.
#[derive(Debug)]
struct Gift {
    to: NodeRun,
    ownership: Ownership,
    /// What it is made of.
    copy: Copy,
}

impl Gift {
    fn say(&self, core: &mut Core) {
        let (ownership, from) = (self.ownership.clone(), self.copy);
        core.send(self.to.node, PeerMessage::Roll(RollWord::Take { ownership, from }));
    }
}

#[derive(Debug)]
struct Roll {
    orphans: BTreeMap<ChildId, Orphan>,
    awaiting: BTreeSet<NodeRun>,
}

/// The roll calls of one home.
#[derive(Debug, Default)]
pub(crate) struct Rolls {
    rolls: BTreeMap<u64, Roll>,
    count: u64,
    /// What was given and is not owned yet: a word may be lost with its link.
    gifts: BTreeMap<ChildId, Gift>,
    /// Children that are in a call, or given.
    busy: BTreeSet<ChildId>,
    /// Children to be called when the registry's batch is through, and above which term: for one that
    /// no live node owns, above any that is known.
    found: BTreeMap<ChildId, u64>,
}

impl Rolls {
    /// The view changed: every call begins anew once the new view is settled.
    pub(crate) fn reset(&mut self) {
        self.rolls.clear();
        self.gifts.clear();
        self.busy.clear();
        self.found.clear();
    }

    fn find(&mut self, child: ChildId, above: u64) {
        let term = self.found.entry(child).or_default();
        *term = above.max(*term);
    }

    /// Looks at one child: the registry changed, or a view has settled.
    pub(crate) fn child_changed(&mut self, core: &Core, child: &ChildId) {
        let owner = core.registry.owner(child).map(|(run, _)| run);
        let known = core.registry.highest_epoch(child).term;
        let done = |gift: &Gift| owner.is_none() || known >= gift.ownership.epoch.term;
        if self.gifts.get(child).is_some_and(done) {
            self.gifts.remove(child);
            self.busy.remove(child);
        }
        match owner {
            None => drop(self.found.remove(child)),
            Some(owner) if core.is_live(owner) || self.busy.contains(child) => {}
            Some(_) if core.is_home(child) => self.find(child.clone(), 0),
            Some(_) => {}
        }
    }

    /// A member wants the roll to be called again for a child, above this term.
    pub(crate) fn again(&mut self, core: &mut Core, from: NodeRun, child: ChildId, term: u64) {
        let epoch = Epoch { term, attempt: 0 };
        if !core.is_home(&child)
            || !core.is_possible(from.node, &child, epoch)
            || core.registry.owner(&child).is_none()
            || core.registry.highest_epoch(&child).term >= term
        {
            return;
        }
        // Others are not asked whether it can be done, and an older gift is not in question any more.
        let given = |gift: &Gift| gift.to == from && gift.ownership.epoch.term <= term;
        if self.gifts.get(&child).is_some_and(given) {
            self.gifts.remove(&child);
            self.busy.remove(&child);
        }
        if !self.busy.contains(&child) {
            self.find(child, term);
        }
    }

    /// Calls the roll for what was found, at terms that this node has not promised: also none that it
    /// claimed itself in an earlier view, as its answers then are not those of now.
    pub(crate) fn call(&mut self, core: &mut Core) {
        if !core.settled || self.found.is_empty() {
            return;
        }
        let found = std::mem::take(&mut self.found);
        let mut batch: BTreeMap<ChildId, Orphan> = BTreeMap::new();
        let mut batches = Vec::new();
        for (child, above) in found {
            let Some((owner, _)) = core.registry.owner(&child) else { continue };
            let known = core.registry.highest_epoch(&child).term;
            if self.busy.contains(&child) || core.is_live(owner) && known >= above {
                continue;
            }
            let promised = core.promises.term(&child).unwrap_or(0);
            let term = promised.max(known).max(above).saturating_add(1);
            batch.insert(child, Orphan { term, best: None, outbid: 0 });
            if batch.len() == CALL_SIZE {
                batches.push(std::mem::take(&mut batch));
            }
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        for orphans in batches {
            self.start(core, orphans);
        }
    }

    fn start(&mut self, core: &mut Core, orphans: BTreeMap<ChildId, Orphan>) {
        self.count += 1;
        let roll = self.count;
        self.busy.extend(orphans.keys().cloned());
        let awaiting = core.view.members.values().map(|member| member.run()).collect();
        self.rolls.insert(roll, Roll { orphans, awaiting });
        self.say(core, roll);
    }

    fn say(&self, core: &mut Core, roll: u64) {
        let Some(Roll { orphans, awaiting }) = self.rolls.get(&roll) else { return };
        let claims: Vec<Claim> = orphans
            .iter()
            .map(|(child, orphan)| Claim { child: child.clone(), term: orphan.term })
            .collect();
        for run in awaiting {
            let word = RollWord::Call { roll, claims: claims.clone() };
            core.send(run.node, PeerMessage::Roll(word));
        }
    }

    /// Repeats what was not answered, and what was not taken.
    pub(crate) fn repeat(&self, core: &mut Core) {
        for roll in self.rolls.keys() {
            self.say(core, *roll);
        }
        for gift in self.gifts.values() {
            gift.say(core);
        }
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.rolls.is_empty() && self.gifts.is_empty()
    }

    /// A member answers.
    pub(crate) fn answered(&mut self, core: &mut Core, from: NodeRun, roll: u64, holds: Vec<Held>) {
        let Some(call) = self.rolls.get_mut(&roll) else { return };
        if !call.awaiting.remove(&from) {
            return;
        }
        for held in holds {
            let Some(orphan) = call.orphans.get_mut(&held.child) else { continue };
            // A promise that nobody can outbid would leave the child without an owner for ever.
            if let Some(promised) = held.promised.map(|term| Epoch { term, attempt: 0 })
                && core.is_possible(from.node, &held.child, promised)
            {
                orphan.outbid = orphan.outbid.max(promised.term);
            }
            if held.copy == Copy::Nothing || !core.is_possible(from.node, &held.child, held.epoch) {
                continue;
            }
            let better = match &orphan.best {
                None => true,
                // A live owner is the newest, unless it is one of before that has not heard of another
                // yet: then somebody holds the state of a later one. At one epoch all hold the same.
                Some((copy, epoch, _, _)) => (held.epoch, held.copy) > (*epoch, *copy),
            };
            if better {
                orphan.best = Some((held.copy, held.epoch, from, held.born));
            }
        }
        if call.awaiting.is_empty()
            && let Some(call) = self.rolls.remove(&roll)
        {
            self.decide(core, call);
        }
    }

    fn decide(&mut self, core: &mut Core, call: Roll) {
        let mut again = BTreeMap::new();
        for (child, orphan) in call.orphans {
            self.busy.remove(&child);
            // A live owner of a lower term that is known since the call began is given the child like
            // any other that has it: whoever promised waits for an owner of this term.
            let Some((owner, ownership)) = core.registry.owner(&child) else { continue };
            // It has nothing to give and is not gone: it stops the child, and says so.
            let is_stopping = orphan.best.is_none()
                && core.is_live(owner)
                && core.registry.best(&child).is_some_and(|it| matches!(it.entry, Entry::Owned(_)));
            let highest = core.registry.highest_epoch(&child).term;
            if orphan.outbid >= orphan.term || highest >= orphan.term {
                let term = orphan.outbid.max(highest).saturating_add(1);
                again.insert(child, Orphan { term, best: None, outbid: 0 });
                continue;
            }
            if is_stopping {
                continue;
            }
            let epoch = Epoch { term: orphan.term, attempt: 0 };
            let mut next = Ownership { epoch, ..ownership.clone() };
            let (to, copy) = match orphan.best {
                Some((copy, _, run, born)) => {
                    next.born = born;
                    if copy != Copy::Live {
                        next.copied = epoch;
                    }
                    (run, copy)
                }
                None => {
                    next.born = epoch;
                    next.copied = epoch;
                    let node = core.belongs(&next, &BTreeSet::new());
                    match node.and_then(|node| core.view.member(node)) {
                        Some(member) => (member.run(), Copy::Nothing),
                        // Nobody takes children now; the next view may.
                        None => continue,
                    }
                }
            };
            let gift = Gift { to, ownership: next, copy };
            gift.say(core);
            self.gifts.insert(child.clone(), gift);
            self.busy.insert(child);
        }
        if !again.is_empty() {
            self.start(core, again);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use bytes::Bytes;

    use super::*;
    use crate::{
        engine::{
            distribution::ConsistentHashing,
            io::{Effect, EngineConfig, KindInfo},
            membership::founding::Founding,
            partition::Divergence,
            redundancy::Singularity,
        },
        model::{
            access::AccessList,
            child::{ChildSpec, Entry, Role, TakenIn},
            id::{Incarnation, KindName, NodeId, NodeName, Origin, RequestId},
            member::{Member, MemberState, View},
            message::LogEntry,
            settings::Settings,
        },
    };

    fn member(n: u8) -> Member {
        Member {
            id: NodeId::from_key([n; 32]),
            incarnation: Incarnation { started: 100, nonce: u64::from(n) },
            name: NodeName::new(format!("node-{n}")).expect("a plain word"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        }
    }

    fn run(n: u8) -> NodeRun {
        member(n).run()
    }

    fn at(term: u64, attempt: u64) -> Epoch {
        Epoch { term, attempt }
    }

    fn kind() -> KindName {
        KindName::new("set").expect("a valid name")
    }

    fn ownership(child: &ChildId, epoch: Epoch) -> Ownership {
        Ownership {
            epoch,
            born: at(1, 0),
            copied: at(1, 0),
            role: Role::Active,
            pinned: None,
            origin: Origin::of(run(9), RequestId(1)),
            taken: TakenIn::default(),
            failure: None,
            spec: Arc::new(ChildSpec::from_parts(child.clone(), kind(), Bytes::new())),
        }
    }

    fn nothing(child: &ChildId, term: u64) -> Held {
        let epoch = Epoch::ZERO;
        Held { child: child.clone(), term, promised: None, copy: Copy::Nothing, epoch, born: epoch }
    }

    /// Node 1, home of a child of node 9, which is gone; nodes 2 and 3 are in.
    struct Bench {
        core: Core,
        rolls: Rolls,
        child: ChildId,
    }

    impl Bench {
        fn new() -> Self {
            let info = KindInfo { state_version: 1, oldest_state_version: 1 };
            let config = EngineConfig {
                node: member(1).id,
                incarnation: member(1).incarnation,
                name: member(1).name,
                addresses: Vec::new(),
                labels: Default::default(),
                settings: Settings::default(),
                kinds: [(kind(), info)].into(),
                founding: Founding::Found,
                access: AccessList::open(),
                seed: 1,
                distribution: Arc::new(ConsistentHashing),
                redundancy: Arc::new(Singularity),
                partition: Arc::new(Divergence),
            };
            let mut core = Core::new(config, Instant::now());
            let members = [1, 2, 3].map(|n| (member(n).id, member(n)));
            core.adopt(View { members: members.into() });
            core.settled = true;
            let mut ids = (0..).map(|n| ChildId::new(format!("c{n}")).expect("a valid id"));
            let child = ids.find(|child| core.is_home(child)).expect("there is one");
            let rolls = Rolls::default();
            let mut bench = Self { core, rolls, child };
            bench.owned_by(9, at(1, 0));
            bench
        }

        /// The log of this node says that it owns the child.
        fn owned_by(&mut self, n: u8, epoch: Epoch) {
            let (log, from) = (run(n), self.core.registry.watermark(run(n)));
            let entry = Entry::Owned(ownership(&self.child, epoch));
            let entry = LogEntry { version: from + 1, child: self.child.clone(), entry };
            self.core.registry.apply_changes(log, from, from + 1, vec![entry]);
        }

        /// Calls the roll for what is found now. Gives the call's number and the term it claims.
        fn call(&mut self) -> (u64, u64) {
            self.rolls.child_changed(&self.core, &self.child);
            self.rolls.call(&mut self.core);
            self.calls().pop().expect("a call")
        }

        fn words(&mut self) -> Vec<(NodeId, RollWord)> {
            let here = self.core.loopback.drain(..).map(|message| (run(1).node, message));
            let sent = self.core.effects.drain(..).filter_map(|effect| match effect {
                Effect::Send { to, message } => Some((to, message)),
                _ => None,
            });
            let words = here.chain(sent).filter_map(|(to, message)| match message {
                PeerMessage::Roll(word) => Some((to, word)),
                _ => None,
            });
            words.collect()
        }

        /// The calls that were said, each by its number and the term of the child.
        fn calls(&mut self) -> Vec<(u64, u64)> {
            let call = |(_, word)| match word {
                RollWord::Call { roll, claims } => Some((roll, claims[0].term)),
                _ => None,
            };
            self.words().into_iter().filter_map(call).collect()
        }

        /// To whom the child was given: at which epoch, made of what.
        fn given(&mut self) -> Vec<(NodeId, Epoch, Copy)> {
            let take = |(to, word)| match word {
                RollWord::Take { ownership, from } => Some((to, ownership.epoch, from)),
                _ => None,
            };
            self.words().into_iter().filter_map(take).collect()
        }

        /// Everybody answers: node 1 first.
        fn answer(&mut self, roll: u64, holds: [Held; 3]) {
            for (n, held) in (1..).zip(holds) {
                self.rolls.answered(&mut self.core, run(n), roll, vec![held]);
            }
        }
    }

    #[test]
    fn a_child_of_which_nothing_is_left_begins_anew_when_all_have_answered() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        assert_eq!(term, 2);
        let held = nothing(&bench.child, term);
        for n in [1, 2] {
            bench.rolls.answered(&mut bench.core, run(n), roll, vec![held.clone()]);
        }
        assert_eq!(bench.given(), []);
        bench.rolls.answered(&mut bench.core, run(3), roll, vec![held]);
        let [(_, epoch, Copy::Nothing)] = bench.given()[..] else { panic!("it was not given") };
        assert_eq!(epoch, at(2, 0));
    }

    #[test]
    fn a_child_is_given_again_until_there_is_an_owner_of_its_term() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        bench.answer(roll, [1, 2, 3].map(|_| nothing(&bench.child, term)));
        let given = bench.given();
        bench.rolls.repeat(&mut bench.core);
        assert_eq!(bench.given(), given);
        // An owner of a lower term is none that was meant.
        bench.owned_by(2, at(term - 1, 7));
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.rolls.repeat(&mut bench.core);
        assert_eq!(bench.given(), given);
        assert!(!bench.rolls.is_idle());
        bench.owned_by(2, at(term, 0));
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.rolls.repeat(&mut bench.core);
        assert_eq!(bench.given(), []);
        assert!(bench.rolls.is_idle() && bench.rolls.busy.is_empty());
    }

    #[test]
    fn the_roll_is_called_again_when_who_was_given_the_child_cannot_take_it() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        let ready = Held { copy: Copy::Ready, epoch: at(1, 3), ..nothing(&bench.child, term) };
        bench.answer(roll, [nothing(&bench.child, term), ready, nothing(&bench.child, term)]);
        assert_eq!(bench.given(), [(run(2).node, at(term, 0), Copy::Ready)]);
        let mut again = |n, term| {
            bench.rolls.again(&mut bench.core, run(n), bench.child.clone(), term);
            bench.rolls.call(&mut bench.core);
            bench.calls()
        };
        assert_eq!(again(3, term), [], "it was not given to this one");
        assert_eq!(again(2, term - 1), [], "an earlier one");
        let calls = again(2, term);
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|(_, claimed)| *claimed == term + 1));
        assert_eq!(again(2, term), [], "a repeated word");
    }

    #[test]
    fn a_term_that_was_promised_to_another_home_is_claimed_by_nobody_else() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        let held = nothing(&bench.child, term);
        let refused = Held { promised: Some(term), ..held.clone() };
        bench.answer(roll, [held.clone(), refused, held]);
        let words = bench.calls();
        assert_eq!(words.len(), 3, "it calls again: {words:?}");
        assert!(words.iter().all(|(again, claimed)| *again != roll && *claimed == term + 1));
    }

    #[test]
    fn the_state_of_the_latest_owner_wins_and_of_one_owner_what_lived_on() {
        use super::Copy::{Frozen, Live, Nothing, Ready};
        for (holds, winner) in [
            ([(Live, at(1, 4)), (Frozen, at(1, 2)), (Ready, at(1, 2))], 1),
            // An owner of before, from the other side of a split.
            ([(Live, at(1, 4)), (Frozen, at(2, 0)), (Nothing, at(3, 0))], 2),
            ([(Live, at(1, 4)), (Frozen, at(1, 2)), (Ready, at(1, 5))], 3),
            ([(Ready, at(1, 4)), (Frozen, at(1, 4)), (Nothing, at(1, 9))], 2),
            ([(Frozen, at(1, 4)), (Live, at(1, 4)), (Ready, at(1, 4))], 2),
            ([(Ready, at(1, 3)), (Frozen, at(1, 2)), (Frozen, at(1, 1))], 1),
        ] {
            // Whoever answers first.
            for turn in 0..3 {
                let mut bench = Bench::new();
                let (roll, term) = bench.call();
                for n in (0..3).map(|n| (n + turn) % 3) {
                    let (copy, epoch) = holds[n];
                    let held = Held { copy, epoch, ..nothing(&bench.child, term) };
                    bench.rolls.answered(&mut bench.core, run(n as u8 + 1), roll, vec![held]);
                }
                let copy = holds[winner - 1].0;
                let expected = (run(winner as u8).node, at(term, 0), copy);
                assert_eq!(bench.given(), [expected], "{holds:?}, {turn}");
            }
        }
    }

    #[test]
    fn what_is_made_of_a_copy_goes_on_with_its_life_and_is_told_from_what_lived_on() {
        for copy in [Copy::Live, Copy::Frozen, Copy::Ready, Copy::Nothing] {
            let mut bench = Bench::new();
            let (roll, term) = bench.call();
            let held = nothing(&bench.child, term);
            let best = Held { copy, epoch: at(1, 4), born: at(1, 2), ..held.clone() };
            bench.answer(roll, [held.clone(), best, held]);
            let take = |(_, word)| match word {
                RollWord::Take { ownership, .. } => Some(ownership),
                _ => None,
            };
            let given: Vec<Ownership> = bench.words().into_iter().filter_map(take).collect();
            let [Ownership { born, copied, .. }] = given[..] else { panic!("{copy:?}: {given:?}") };
            let (lived, began) = (at(1, 0), at(term, 0));
            let expected = match copy {
                Copy::Live => (at(1, 2), lived),
                Copy::Frozen | Copy::Ready => (at(1, 2), began),
                Copy::Nothing => (began, began),
            };
            assert_eq!((born, copied), expected, "{copy:?}");
        }
    }

    #[test]
    fn a_term_that_turns_out_to_have_an_owner_is_not_given_to_another() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        assert!(!bench.rolls.is_idle(), "it is said again");
        bench.owned_by(2, at(term + 3, 1));
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.answer(roll, [1, 2, 3].map(|_| nothing(&bench.child, term)));
        let words = bench.calls();
        assert!(!words.is_empty() && words.iter().all(|(_, claimed)| *claimed == term + 4));
    }

    #[test]
    fn a_call_is_repeated_to_those_who_have_not_answered() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        let held = nothing(&bench.child, term);
        bench.rolls.answered(&mut bench.core, run(2), roll, vec![held]);
        bench.rolls.repeat(&mut bench.core);
        let asked: BTreeSet<NodeId> = bench.words().into_iter().map(|(to, _)| to).collect();
        assert_eq!(asked, BTreeSet::from([run(1).node, run(3).node]));
    }

    #[test]
    fn a_live_owner_that_is_known_since_the_call_is_given_the_term_that_was_promised() {
        let mut bench = Bench::new();
        let (roll, term) = bench.call();
        bench.owned_by(2, at(1, 7));
        bench.rolls.child_changed(&bench.core, &bench.child);
        let held = nothing(&bench.child, term);
        let live = Held { copy: Copy::Live, epoch: at(1, 7), ..held.clone() };
        bench.answer(roll, [held.clone(), live, held]);
        assert_eq!(bench.given(), [(run(2).node, at(term, 0), Copy::Live)]);
    }

    #[test]
    fn nothing_is_kept_of_a_child_that_was_stopped_meanwhile() {
        for given in [false, true] {
            let mut bench = Bench::new();
            let (roll, term) = bench.call();
            let nothing = [1, 2, 3].map(|_| nothing(&bench.child, term));
            if given {
                bench.answer(roll, nothing.clone());
            }
            bench.core.write(&bench.child, Entry::Removed { epoch: at(1, 9) });
            bench.rolls.child_changed(&bench.core, &bench.child);
            if !given {
                bench.answer(roll, nothing);
            }
            bench.words();
            bench.rolls.repeat(&mut bench.core);
            assert_eq!(bench.words(), []);
            assert!(bench.rolls.is_idle() && bench.rolls.busy.is_empty(), "given: {given}");
        }
    }

    #[test]
    fn a_word_about_an_earlier_gift_does_not_end_the_one_that_stands() {
        let mut bench = Bench::new();
        assert_eq!(bench.core.promises.give(run(1), &bench.child, 5), Ok(None));
        let (roll, term) = bench.call();
        let ready = Held { copy: Copy::Ready, epoch: at(1, 3), ..nothing(&bench.child, term) };
        bench.answer(roll, [nothing(&bench.child, term), ready, nothing(&bench.child, term)]);
        bench.rolls.again(&mut bench.core, run(2), bench.child.clone(), term - 1);
        bench.rolls.call(&mut bench.core);
        assert_eq!(bench.calls(), []);
        assert!(!bench.rolls.is_idle());
    }

    #[test]
    fn only_its_home_calls_the_roll_for_a_child_and_when_its_view_is_settled() {
        let mut bench = Bench::new();
        bench.core.settled = false;
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.rolls.call(&mut bench.core);
        assert_eq!(bench.calls(), []);
        bench.core.settled = true;
        bench.call();
        bench.words();
        let mut ids = (0..).map(|n| ChildId::new(format!("c{n}")).expect("a valid id"));
        bench.child = ids.find(|child| !bench.core.is_home(child)).expect("there is one");
        bench.owned_by(9, at(1, 0));
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.rolls.child_changed(&bench.core, &bench.child);
        bench.rolls.again(&mut bench.core, run(2), bench.child.clone(), 4);
        bench.rolls.call(&mut bench.core);
        assert_eq!(bench.calls(), []);
    }

    #[test]
    fn an_answer_of_a_run_that_is_over_or_to_an_earlier_call_counts_for_nothing() {
        let mut bench = Bench::new();
        let (first, term) = bench.call();
        let held = nothing(&bench.child, term);
        let live = Held { copy: Copy::Live, epoch: at(1, 7), ..held.clone() };
        bench.rolls.answered(&mut bench.core, run(2), first, vec![live.clone()]);
        // Node 2 goes, and is back: the view has changed.
        let later = NodeRun { nonce: 100, ..run(2) };
        let members = [1, 2, 3].map(|n| {
            let mut member = member(n);
            if n == 2 {
                member.incarnation.nonce = later.nonce;
            }
            (member.id, member)
        });
        bench.core.adopt(View { members: members.into() });
        bench.core.settled = true;
        bench.rolls.reset();
        let (second, _) = bench.call();
        for (from, roll) in [(run(2), first), (run(2), second), (later, first)] {
            bench.rolls.answered(&mut bench.core, from, roll, vec![live.clone()]);
        }
        for from in [run(1), run(3)] {
            bench.rolls.answered(&mut bench.core, from, second, vec![held.clone()]);
        }
        assert_eq!(bench.given(), []);
        bench.rolls.answered(&mut bench.core, later, second, vec![held]);
        assert!(matches!(bench.given()[..], [(_, _, Copy::Nothing)]));
    }

    #[test]
    fn a_child_that_its_live_owner_is_stopping_is_not_begun_anew() {
        for n in [2, 9] {
            let mut bench = Bench::new();
            let (roll, term) = bench.call();
            bench.owned_by(n, at(1, 3));
            let held = nothing(&bench.child, term);
            bench.answer(roll, [held.clone(), held.clone(), held]);
            assert_eq!(bench.given().is_empty(), n == 2, "node {n}");
        }
    }

    #[test]
    fn a_home_claims_no_term_twice() {
        let mut bench = Bench::new();
        let (_, term) = bench.call();
        assert_eq!(bench.core.promises.give(run(1), &bench.child, term), Ok(None));
        bench.rolls.reset();
        assert_eq!(bench.call().1, term + 1);
    }
}
