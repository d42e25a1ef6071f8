//! Requests of this node's users, and which machine answers them.

use crate::{
    engine::{
        applies::{Applies, Apply},
        children::Children,
        core::Core,
        drain::Drain,
        homes::Homes,
        io::{Effect, Reply, Request},
        leave::Leave,
        membership::Membership,
        parked::{Around, Parked},
    },
    model::{id::RequestId, parked::ParkedKey},
};

/// The machines that answer users.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) membership: &'a mut Membership,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) parked: &'a mut Parked,
    pub(crate) applies: &'a mut Applies,
    pub(crate) leave: &'a mut Leave,
    pub(crate) drain: &'a mut Drain,
}

impl Requests<'_> {
    /// Somebody asks for something.
    pub(crate) fn take(&mut self, id: RequestId, request: Request) {
        let Self { core, membership, homes, children, parked, applies, leave, drain } = self;
        match request {
            Request::Leave { timeout } => leave.request(id, timeout, core, membership, children),
            Request::Stay => leave.stay(id, core, membership),
            Request::Drain { timeout } => drain.request(id, timeout, core, membership, children),
            Request::Undrain => drain.undo(id, core, membership),
            Request::ApplyParked { key, replace, timeout } => {
                let apply = Apply { request: id, replace, wait: timeout };
                applies.request(core, parked, children, &key, apply);
            }
            Request::DiscardParked { key } => discard(core, parked, id, &key),
            request => homes.request(core, id, request),
        }
    }
}

fn discard(core: &mut Core, parked: &mut Parked, id: RequestId, key: &ParkedKey) {
    let outcome = match parked.discard(&Around::of(core), key) {
        true => Ok(()),
        false => Err(parked.holders(key).next()),
    };
    let reply = Reply::Discarded(outcome);
    core.effects.push_back(Effect::Reply { request: id, reply });
}
