//! The last word of a node that ends with children that nobody took.

use std::time::Instant;

use super::{Engine, io::Effect, membership::MemberOutput, relay};
use crate::model::message::PeerMessage;

impl Engine {
    /// Ends this node, whatever it owns: the words that say so to everybody. Nothing else is done any
    /// more; a node that is alone in its view would begin to act.
    ///
    /// Who hears them has the same view as after a node that has left, and calls the rolls of what this
    /// one owned.
    pub(crate) fn farewell(mut self, now: Instant) -> Vec<Effect> {
        let me = self.core.me;
        self.membership.bye(self.core.now.max(now));
        let mut words = Vec::new();
        while let Some(output) = self.membership.next_output() {
            if let MemberOutput::Send { to, word } = output {
                let message = PeerMessage::Member(word);
                words.extend(relay::send(&mut self.membership, me, to, message));
            }
        }
        words
    }
}
