//! What keeps a node from acting, or from going, as it is told to people.

use super::{
    core::Core,
    membership::Membership,
    parked::{Around, Parked},
    returns::Returns,
    settle::{Missing, Settle},
};
use crate::model::id::NodeId;

/// So many members are named as what is waited for.
const MOST_NAMED: usize = 8;

/// What keeps this node from acting, if it may not act.
pub(crate) fn waits_for(
    core: &Core,
    membership: &Membership,
    settle: &Settle,
    returns: &Returns,
) -> Option<String> {
    if membership.is_waiting() {
        let seeds: Vec<String> =
            membership.seeds().map(|(seed, outcome)| format!("{seed} ({outcome})")).collect();
        return Some(format!("waits to be taken into a cluster by {}", seeds.join(", ")));
    }
    if core.settled {
        return None;
    }
    let name = |node: NodeId| match core.view.member(node) {
        Some(member) => member.name.to_string(),
        None => node.short(),
    };
    let missing = settle.missing(core).into_iter().map(|missing| match missing {
        Missing::In(node) => {
            let deaf: Vec<String> = membership.deaf_to(node).map(name).collect();
            match &deaf[..] {
                [] => format!("{}, which has not adopted the view", name(node)),
                deaf => format!("{}, which {} cannot hear", name(node), deaf.join(" and ")),
            }
        }
        Missing::Log(node) => format!("the registry of {}", name(node)),
        Missing::Gone(node) => {
            format!("what {} knows of children of nodes that are gone", name(node))
        }
    });
    let missing: Vec<String> = missing.take(MOST_NAMED).collect();
    let mut back = returns.awaited(core).into_iter().map(|run| match run == core.me {
        true => "asks which of its children were stopped while it was away".to_owned(),
        false => {
            format!("waits for {}, which asks what was stopped while it was away", name(run.node))
        }
    });
    if let Some(back) = back.next().filter(|_| missing.is_empty()) {
        return Some(back);
    }
    Some(match missing.len() {
        0 => "this side of a split may not act".to_owned(),
        _ => format!("waits for {}", missing.join(", ")),
    })
}

/// What this node alone keeps, so that it does not leave.
pub(crate) fn keeps(core: &Core, parked: &Parked) -> Option<String> {
    match parked.at_risk(&Around::of(core)) {
        0 => None,
        1 => Some("has a parked state on this node alone".to_owned()),
        states => Some(format!("has {states} parked states on this node alone")),
    }
}
