//! Bulk transfers: states that arrived, had no room, or were not delivered; and which machine waits for
//! them.

use crate::{
    engine::{
        applies::{Applies, Apply},
        children::Children,
        core::Core,
        handover::{SourceInput, TargetInput},
        io::{ChildOrder, Effect, ParkedOrder},
        parked::{Around, Parked},
    },
    model::{
        child::Epoch,
        id::{ChildId, NodeRun},
        message::{BulkHeader, PeerMessage},
        parked::{ApplyFailed, ParkedInfo, ParkedKey, ParkedUse, ParkedWord},
    },
};

/// The machines that wait for states.
#[derive(Debug)]
pub(crate) struct Transfers<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) children: &'a mut Children,
    pub(crate) parked: &'a mut Parked,
    pub(crate) applies: &'a mut Applies,
}

impl Transfers<'_> {
    /// One arrived whole, of so many bytes.
    pub(crate) fn arrived(&mut self, from: NodeRun, header: BulkHeader, size: u64) {
        let core = &mut *self.core;
        match header {
            BulkHeader::State { child, epoch, .. } => {
                let awaited = core.is_live(from)
                    && self.children.target_input(core, &child, epoch, &TargetInput::State);
                if !awaited {
                    core.order(ChildOrder::Discard { child, epoch });
                }
            }
            BulkHeader::Diverged { child, epoch, life, .. } => {
                self.children.diverged(core, from, &child, epoch, life);
                let key = ParkedKey { child, run: from, epoch };
                if let Some(info) = self.parked.info(&key) {
                    // It offers it still: the word of it may be lost.
                    self.children.tell_parked(core, info);
                }
            }
            BulkHeader::Parked { info, purpose } => self.parked_came(from, info, &purpose, size),
        }
    }

    /// A parked state arrived.
    fn parked_came(&mut self, from: NodeRun, info: ParkedInfo, purpose: &ParkedUse, size: u64) {
        let core = &mut *self.core;
        match purpose {
            ParkedUse::Keep if core.is_live(from) => {
                self.parked.arrived(&Around::of(core), from, info, size);
            }
            ParkedUse::Apply { request, replace, wait } if core.is_live(from) => {
                let apply = Apply { request: *request, replace: *replace, wait: *wait };
                self.applies.came(core, self.parked, self.children, from, &info, apply);
            }
            _ => {
                let order = ParkedOrder::Refuse { key: info.key, from };
                core.effects.push_back(Effect::Parked(order));
            }
        }
    }

    /// One arrived and the hub had no room for it.
    pub(crate) fn no_room(&mut self, from: NodeRun, header: BulkHeader) {
        let core = &mut *self.core;
        match header {
            BulkHeader::State { child, epoch, .. } => {
                if core.is_live(from) {
                    let input = TargetInput::NoRoom;
                    self.children.target_input(core, &child, epoch, &input);
                }
            }
            // The state of an owner that gave way is offered again.
            BulkHeader::Diverged { .. } => {}
            BulkHeader::Parked { info, purpose } => {
                let word = match purpose {
                    ParkedUse::Keep => ParkedWord::NoRoom { key: info.key },
                    ParkedUse::Apply { request, .. } => {
                        let reason = "its node had no room for the state".to_owned();
                        let outcome = Err(ApplyFailed::Failed { reason });
                        ParkedWord::Applied { request, outcome }
                    }
                };
                core.send(from.node, PeerMessage::Parked(word));
            }
        }
    }

    /// A child's state was not delivered to its successor.
    pub(crate) fn not_sent(&mut self, child: &ChildId, epoch: Epoch, reason: String) {
        let input = SourceInput::SendFailed(reason);
        self.children.source_input(self.core, child, epoch, None, &input);
    }

    /// A state of a child of this node is held here.
    pub(crate) fn parked(&mut self, info: ParkedInfo, size: u64) {
        self.children.tell_parked(self.core, &info);
        self.children.retired(self.core, &info.key);
        self.parked.parked(&Around::of(self.core), info, size);
    }

    /// A state of a child of this node could not be parked.
    pub(crate) fn not_parked(&mut self, key: &ParkedKey, reason: String) {
        self.parked.not_parked(key, reason);
    }

    /// A parked state was not delivered.
    pub(crate) fn parked_not_sent(&mut self, key: &ParkedKey, to: NodeRun, purpose: &ParkedUse) {
        match purpose {
            ParkedUse::Keep => self.parked.not_sent(&Around::of(self.core), key, to),
            // Its answer may be what was lost.
            ParkedUse::Apply { request, .. } => drop(self.applies.no_answer(self.core, *request)),
        }
    }
}
