//! What goes out when a batch of events was handled: calls of the roll, and what the logs have to tell.

use crate::{
    engine::{core::Core, io::Effect, roll_call::Rolls, settle::Settle, sync::Sync},
    model::message::PeerMessage,
};

/// The machines that collect what is told together.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) rolls: &'a mut Rolls,
    pub(crate) settle: &'a mut Settle,
    pub(crate) sync: &'a mut Sync,
}

impl Outgoing<'_> {
    /// Calls the rolls of all children that have come together.
    pub(crate) fn call_rolls(&mut self) {
        self.rolls.call(self.core);
        if !self.rolls.is_idle() || !self.core.promises.are_called() {
            self.settle.keep_ticking(self.core);
        }
    }

    /// What the logs have to tell is added to `words`; answers that rest on it follow.
    pub(crate) fn tell_logs(&mut self, words: &mut Vec<Effect>) {
        let (core, sync) = (&mut *self.core, &mut *self.sync);
        let now = core.now;
        core.registry.expire(now, &core.known, core.config.settings.forget_after);
        sync.tick(now, &core.others, &core.registry);
        sync.publish(now, &core.others, &core.registry);
        while let Some((to, word)) = sync.next_output() {
            words.push(Effect::Send { to, message: PeerMessage::Sync(word) });
        }
        let me = core.me;
        core.release_answers(|to| sync.sent(to, me));
    }
}
