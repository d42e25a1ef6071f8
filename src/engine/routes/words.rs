//! Words of peers: who may speak, and which machine hears what.
//!
//! A table of routes. What a word does is said by the machine that it goes to.

use super::views;
use crate::{
    engine::{
        applies::Applies,
        children::{Children, Offer},
        core::{Core, Fault, OtherHolder},
        handover::SourceInput,
        homes::Homes,
        io::{ChildOrder, Effect, Way},
        membership::Membership,
        parked::{Around, Parked},
        probation::Probation,
        relay,
        returns::Returns,
        roll_call::Rolls,
        settle::{Said, Settle},
        sync::Sync,
        topics::Topics,
    },
    model::{
        access::AccessList,
        id::NodeRun,
        message::{HandoverWord, HomeWord, PeerMessage, RollWord, SyncWord},
        parked::{ParkedKey, ParkedWord},
        words::brief,
    },
};

/// The machines that hear words of peers.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    pub(crate) core: &'a mut Core,
    /// Whose words count.
    pub(crate) access: &'a AccessList,
    pub(crate) membership: &'a mut Membership,
    pub(crate) probation: &'a mut Probation,
    pub(crate) sync: &'a mut Sync,
    pub(crate) settle: &'a mut Settle,
    pub(crate) returns: &'a mut Returns,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) rolls: &'a mut Rolls,
    pub(crate) parked: &'a mut Parked,
    pub(crate) applies: &'a mut Applies,
    pub(crate) topics: &'a mut Topics,
}

impl Words<'_> {
    /// A word of a peer, or of this node to itself.
    pub(crate) fn hear(&mut self, from: NodeRun, message: PeerMessage) {
        self.hear_by(Way::Straight, from, message);
    }

    fn hear_by(&mut self, way: Way, from: NodeRun, message: PeerMessage) {
        match message {
            PeerMessage::Relay { from: origin, to, hops, message } => {
                self.relayed(from, origin, to, hops, message);
            }
            PeerMessage::Member(word) => {
                self.membership.handle(self.core.now, from, way == Way::Straight, word);
            }
            // Whatever else is said counts only from who is in.
            _ if !self.core.is_live(from) => {}
            message if !self.membership.is_proven() && Probation::concerns(&message) => {
                self.probation.hold(from, message);
            }
            PeerMessage::Sync(word) => self.sync(from, word),
            PeerMessage::Home(word) => self.home(from, word),
            PeerMessage::Handover(word) => self.handover(from, word),
            PeerMessage::Roll(word) => self.roll(from, word),
            PeerMessage::Parked(ParkedWord::Applied { request, outcome }) => {
                self.applies.answered(self.core, from, request, outcome);
            }
            PeerMessage::Parked(word) => self.parked.word(&Around::of(self.core), from, word),
            PeerMessage::Topics(word) => self.topics.word(self.core.now, from, word),
            // Whoever looks at the cluster is answered by the hub.
            PeerMessage::Observe(word) => {
                self.core.effects.push_back(Effect::Observed { from, way, word });
            }
        }
    }

    /// A word that this peer passes on for another.
    fn relayed(
        &mut self,
        by: NodeRun,
        origin: NodeRun,
        to: NodeRun,
        hops: u8,
        message: Box<PeerMessage>,
    ) {
        // Members alone speak for others; but words about members also go by, and to, nodes that
        // want to come in.
        let may_speak = matches!(*message, PeerMessage::Member(_)) || self.core.is_live(by);
        if matches!(*message, PeerMessage::Relay { .. })
            || origin == self.core.me
            || !self.access.admits(origin.node)
            || !may_speak
        {
            return;
        }
        if to == self.core.me {
            return self.hear_by(Way::By(by.node), origin, *message);
        }
        let on = relay::pass_on(self.membership, by.node, origin, to, hops, message);
        self.core.effects.extend(on);
    }

    fn sync(&mut self, from: NodeRun, word: SyncWord) {
        let core = &mut *self.core;
        let now = core.now;
        let word = match word {
            SyncWord::In { view, adopted, echo, version, wanted, kinds, gone, away, asked } => {
                core.learn_kinds(from, kinds);
                self.returns.said(core, from, away, asked);
                self.settle.heard_of_gone(from, gone);
                let said = Said { view, adopted, echo, version };
                if self.settle.heard(core, from, said, wanted) {
                    self.homes.adopted(core, from.node);
                }
                if self.settle.is_in(core, from) {
                    core.touched.extend(core.registry.correct(from, version));
                }
                self.sync.expect(now, from, version, &core.registry);
                views::ask_for_gone(core, self.settle, self.sync, from);
                if core.registry.watermark(from) >= version {
                    self.membership.is_not_mute(from);
                }
                return;
            }
            SyncWord::Doubt { batch, children } => {
                return Returns::doubted(core, from, batch, &children);
            }
            SyncWord::Recalled { batch, recalls } => {
                return self.returns.recalled(core, from, batch, &recalls);
            }
            word => word,
        };
        let changed = self.sync.handle(now, from, word, &core.view, &mut core.registry);
        core.touched.extend(changed);
        for (log, entries) in core.registry.take_refused() {
            core.fault(log.node, Fault::Epoch, || {
                format!("{entries} entries of its log cannot be true and are skipped")
            });
        }
    }

    /// Orders are a home's to give, and at an epoch that can be.
    fn home(&mut self, from: NodeRun, word: HomeWord) {
        let core = &mut *self.core;
        match word {
            HomeWord::Run { spec, epoch, origin } => {
                if core.home(spec.id()) == Some(from.node)
                    && core.is_possible(from.node, spec.id(), epoch)
                {
                    self.children.run(core, from.node, spec, epoch, origin);
                }
            }
            HomeWord::Halt { child, epoch } => {
                if core.home(&child) == Some(from.node)
                    && core.is_possible(from.node, &child, epoch)
                {
                    self.children.halt(core, from.node, &child, epoch);
                }
            }
            HomeWord::Migrate { request, child, to, forced, .. } => {
                self.children.migrate(core, &child, to, forced, (from.node, request));
            }
            word => self.homes.handle(core, from, word),
        }
    }

    fn roll(&mut self, from: NodeRun, word: RollWord) {
        let core = &mut *self.core;
        match word {
            RollWord::Call { roll, claims } => self.children.called(core, from, roll, claims),
            RollWord::Answer { roll, holds } => self.rolls.answered(core, from, roll, holds),
            RollWord::Take { ownership, from: copy } => {
                let child = ownership.spec.id();
                if core.home(child) == Some(from.node)
                    && core.is_possible(from.node, child, ownership.epoch)
                {
                    self.children.take(core, from, ownership, copy);
                }
            }
            RollWord::Again { child, term } => self.rolls.again(core, from, child, term),
        }
    }

    fn handover(&mut self, from: NodeRun, word: HandoverWord) {
        let (core, children) = (&mut *self.core, &mut *self.children);
        let run = Some(from);
        match word {
            HandoverWord::Offer { ownership, state, state_version, with_state, view } => {
                let offer = Offer { ownership, state, state_version, with_state, view };
                children.offered(core, from, offer);
            }
            HandoverWord::Accept { child, epoch } => {
                children.source_input(core, &child, epoch, run, &SourceInput::Accepted);
            }
            HandoverWord::Refuse { child, epoch, reason } => {
                let input = SourceInput::Refused(reason);
                children.source_input(core, &child, epoch, run, &input);
            }
            HandoverWord::Ready { child, epoch } => {
                children.source_input(core, &child, epoch, run, &SourceInput::Ready);
            }
            HandoverWord::Failed { child, epoch, reason, gone, lasts } => {
                children.tell_lost(core, from, &child, epoch);
                let input = SourceInput::Failed { reason, gone, lasts };
                children.source_input(core, &child, epoch, run, &input);
            }
            HandoverWord::Lost { child, epoch } => children.source_lost(core, from, &child, epoch),
            HandoverWord::Query { child, epoch } => children.queried(core, from, child, epoch),
            HandoverWord::Taken { child, epoch } => children.yielded(core, from, &child, epoch),
            HandoverWord::Parks { child, epoch, reason, at } => {
                let key = ParkedKey { child, run: core.me, epoch };
                self.parks_own(from, key, reason, at);
            }
        }
    }

    /// A state that this node offers is parked: it parks it, too, so that its actor can end.
    fn parks_own(&mut self, from: NodeRun, key: ParkedKey, reason: String, at: u64) {
        let core = &mut *self.core;
        let Some(kind) = self.children.offers(core, &key).cloned() else { return };
        if !self.parked.says(from.node, &key) {
            self.parked.awaits(&Around::of(core), key.clone(), OtherHolder::Parks);
            let reason = brief(reason);
            core.order(ChildOrder::ParkFrozen { key, kind, reason, at: Some(at) });
        }
    }
}
