//! What the machine of topics wants, and who carries it out.

use super::{
    core::{Core, Fault},
    io::Effect,
    topics::{Around, Output, Topics},
};
use crate::model::{message::PeerMessage, topic::MOST_TOPICS};

/// Lets the machine of topics go on, and carries out what it wants.
pub(crate) fn go_on(core: &mut Core, topics: &mut Topics) {
    topics.go_on(&Around::of(core));
    while let Some(output) = topics.next_output() {
        match output {
            Output::Send { to, word } => core.send(to, PeerMessage::Topics(word)),
            Output::Changed { run, version, changes } => {
                core.effects.push_back(Effect::Subscribed { run, version, changes });
            }
            Output::Forgotten { run } => core.effects.push_back(Effect::Unsubscribed { run }),
            Output::TooMany { node } => core.fault(node, Fault::Quota, || {
                format!("it says that more than {MOST_TOPICS} topics have subscribers there")
            }),
        }
    }
}
