//! What the machine of parked states wants, and who carries it out.

use super::{
    children::Children,
    core::{Core, Fault},
    io::Effect,
    parked::{Around, MOST_PARKED, Output, Parked},
};
use crate::model::message::PeerMessage;

/// Lets the machine of parked states go on, and carries out what it wants.
pub(crate) fn go_on(core: &mut Core, parked: &mut Parked, children: &mut Children) {
    parked.go_on(&Around::of(core));
    while let Some(output) = parked.next_output() {
        match output {
            Output::Send { to, word } => core.send(to, PeerMessage::Parked(word)),
            Output::Order(order) => core.effects.push_back(Effect::Parked(order)),
            Output::Emit(event) => core.emit(event),
            Output::Safe(key) => children.parked(core, &key),
            Output::Missing(key) => children.not_parked(&key),
            Output::TooMany { node } => core.fault(node, Fault::Quota, || {
                format!("it says that it holds more than {MOST_PARKED} parked states")
            }),
        }
    }
}
