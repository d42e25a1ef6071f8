//! Who is voted against, and who is out.
//!
//! A life is down when this node suspects it and every member that it does not suspect votes
//! against it. Nobody is skipped: a member answers by its status, or is suspect itself. Without
//! anybody to ask, patience is twice as long, once.

use std::{collections::BTreeMap, time::Instant};

use super::{
    contact::{Contact, Timing},
    joining::Known,
};
use crate::model::{
    id::{Life, NodeId},
    member::View,
};

/// A life that is over, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) life: Life,
    /// Who voted against it, without this node.
    pub(super) voters: Vec<NodeId>,
}

/// Lives that are to be declared down now.
pub(super) fn due(
    now: Instant,
    timing: &Timing,
    me: NodeId,
    view: &View,
    contacts: &BTreeMap<NodeId, Contact>,
) -> Vec<Verdict> {
    let (suspects, trusted) = split(now, timing, view, contacts);
    let mut verdicts = Vec::new();
    for suspect in suspects {
        let life = suspect.life();
        let is_over = if trusted.is_empty() {
            now >= lonely_verdict_at(timing, suspect)
        } else {
            trusted.iter().all(|voter| voter.votes_against(life))
        };
        if is_over {
            let voters = trusted.iter().map(|voter| voter.life().node).collect();
            verdicts.push(Verdict { life, voters });
        }
    }
    debug_assert!(verdicts.iter().all(|verdict| verdict.life.node != me));
    verdicts
}

/// When the next suspect is declared down if there is nobody to ask.
pub(super) fn lonely_deadline(
    now: Instant,
    timing: &Timing,
    view: &View,
    contacts: &BTreeMap<NodeId, Contact>,
) -> Option<Instant> {
    let (suspects, trusted) = split(now, timing, view, contacts);
    if !trusted.is_empty() {
        return None;
    }
    suspects.iter().map(|suspect| lonely_verdict_at(timing, suspect)).min()
}

/// All suspect at once means that this node may be the one that is slow or cut off, so the window is
/// twice as long. A host that refused the redial is an answer; the node gets half a heartbeat to
/// dial from its side.
fn lonely_verdict_at(timing: &Timing, suspect: &Contact) -> Instant {
    let stretched = suspect.mutual_at() + timing.window * 2;
    match suspect.refused_since() {
        Some(since) => stretched.min(since + timing.heartbeat / 2),
        None => stretched,
    }
}

fn split<'a>(
    now: Instant,
    timing: &Timing,
    view: &View,
    contacts: &'a BTreeMap<NodeId, Contact>,
) -> (Vec<&'a Contact>, Vec<&'a Contact>) {
    let members = view.members.keys().filter_map(|node| contacts.get(node));
    members.partition(|contact| contact.is_suspicious(now, timing))
}

/// The lives that this node votes against: members that it does not hear, and lives that others do
/// not hear and it does not either, known to it or not. There is no wait of its own before that
/// vote: two waits of one length would race each other for ever.
pub(super) fn unheard(now: Instant, timing: &Timing, known: &Known<'_>) -> Vec<Life> {
    let is_heard = |life: Life| {
        life == known.me
            || known
                .contacts
                .get(&life.node)
                .is_some_and(|contact| contact.life() == life && contact.is_heard(now, timing))
    };
    let members = known
        .view
        .iter()
        .map(|(node, incarnation)| Life { node: *node, incarnation: *incarnation });
    let asked = known.contacts.values().filter_map(Contact::status).flat_map(|s| &s.silent);
    // Of this node itself everybody else may judge.
    let asked = asked.copied().filter(|life| life.node != known.me.node);
    let mut silent: Vec<Life> = members.chain(asked).filter(|life| !is_heard(*life)).collect();
    silent.sort_unstable();
    silent.dedup();
    silent
}
