//! Who is voted against, and who is out.
//!
//! A life is down when this node suspects it and every member that it does not suspect votes
//! against it. Nobody is skipped: a member answers by its status, or is suspect itself. Without
//! anybody to ask, patience is twice as long, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{contact::Contact, joining::Known, outputs::Outputs, timing::Timing};
use crate::model::{
    id::{Incarnation, Life, NodeId},
    member::View,
    message::MemberWord,
    tags::LISTED,
};

/// A life that is over, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) life: Life,
    /// Who voted against it, without this node.
    pub(super) voters: Vec<NodeId>,
}

impl Verdict {
    /// Tells it, as of `me` and the voters, to all others.
    pub(super) fn tell(&self, me: NodeId, contacts: &BTreeMap<NodeId, Contact>, out: &mut Outputs) {
        let Life { node: about, incarnation } = self.life;
        let mut voters = self.voters.clone();
        voters.push(me);
        for to in contacts.keys().filter(|peer| **peer != about) {
            out.send(*to, MemberWord::Down { about, incarnation, voters: voters.clone() });
        }
    }
}

/// What the verdict of others on a life means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing: the life is over here already, or not known, or not heard and not voted against.
    Nothing,
    /// It is over: this node voted for that. `is_known`: it, or an earlier one, is a contact's.
    Over {
        /// Whether it is a contact's.
        is_known: bool,
    },
    /// It lives, and is refused wherever the verdict binds until it knows of it.
    Wrong,
}

/// What a verdict on `incarnation` means. `is_over`: that life is fenced here; `binds`: the verdict
/// rests on a vote of this node; `known`: the contact of that node.
pub(super) fn meaning(
    now: Instant,
    timing: &Timing,
    incarnation: Incarnation,
    is_over: bool,
    binds: bool,
    known: Option<&Contact>,
) -> Meaning {
    let known = known.filter(|contact| contact.incarnation() <= incarnation);
    match known {
        _ if is_over => Meaning::Nothing,
        _ if binds => Meaning::Over { is_known: known.is_some() },
        Some(contact) if contact.is_heard(now, timing) => Meaning::Wrong,
        _ => Meaning::Nothing,
    }
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
/// vote: two waits of one length would race each other for ever. Sorted, at most [`LISTED`].
///
/// A run that is held off as mute counts as not heard: who still has it in, and finds it mute in its
/// next life, would else get no vote from those who do not take it in.
pub(super) fn unheard(now: Instant, timing: &Timing, known: &Known<'_>) -> Vec<Life> {
    let is_heard = |life: Life| {
        let contact = known.contacts.get(&life.node).filter(|contact| contact.life() == life);
        life == known.me
            || contact.is_some_and(|contact| {
                contact.is_heard(now, timing) && !known.mute.is_held_off(now, contact.run())
            })
    };
    let members = known
        .view
        .iter()
        .map(|(node, incarnation)| Life { node: *node, incarnation: *incarnation });
    // Of this node itself everybody else may judge.
    let asked = known.contacts.values().flat_map(Contact::asks_about);
    let asked = asked.filter(|life| life.node != known.me.node);
    let mut silent = BTreeSet::new();
    // Members first: nobody's questions may leave them without a vote.
    for life in members.chain(asked).filter(|life| !is_heard(*life)) {
        if silent.len() < LISTED {
            silent.insert(life);
        }
    }
    silent.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            bench::{SECOND, TIMING, Told, contacts, id, life_map, lives, member, view},
            dialling::Dialling,
            fences::Fences,
        },
        *,
    };

    /// Who is declared down by node 1, whose view is {1, 2, 3, 4}: nodes 2 and 3 have said this now,
    /// nothing came of node 4 for a window.
    fn declared(second: &[u8], third: &[u8]) -> Vec<Verdict> {
        let now = Instant::now() + 10 * SECOND;
        let all = [1, 2, 3, 4];
        let told = [
            Told { silent: second, ..Told::of(2, &all) },
            Told { silent: third, ..Told::of(3, &all) },
        ];
        let mut known = contacts(now, &told);
        known.extend(contacts(now - 3 * SECOND, &[Told::of(4, &all)]));
        due(now, &TIMING, id(1), &view(&all), &known)
    }

    #[test]
    fn all_who_are_trusted_have_to_vote_against_it() {
        assert_eq!(declared(&[], &[]), []);
        assert_eq!(declared(&[4], &[]), []);
        let verdict = Verdict { life: member(4).life(), voters: vec![id(2), id(3)] };
        assert_eq!(declared(&[4], &[4]), [verdict]);
        assert_eq!(declared(&[3], &[2]), [], "who is heard here is no suspect");
    }

    #[test]
    fn with_nobody_to_ask_it_takes_two_windows_since_both_heard_each_other() {
        let start = Instant::now();
        let known = contacts(start, &[Told::of(2, &[1, 2])]);
        let view = view(&[1, 2]);
        let end = start + 6 * SECOND;
        let at = |now| due(now, &TIMING, id(1), &view, &known).len();
        assert_eq!(at(end - SECOND / 1_000), 0);
        assert_eq!(at(end), 1);
        assert_eq!(lonely_deadline(start, &TIMING, &view, &known), None, "nobody is suspect");
        assert_eq!(lonely_deadline(start + 3 * SECOND, &TIMING, &view, &known), Some(end));
    }

    #[test]
    fn a_refused_redial_is_an_answer() {
        let start = Instant::now();
        let mut known = contacts(start, &[Told::of(2, &[1, 2])]);
        let contact = known.get_mut(&id(2)).expect("it is there");
        contact.unlinked(start + SECOND);
        contact.refused();
        let view = view(&[1, 2]);
        let at = lonely_deadline(start + SECOND, &TIMING, &view, &known);
        assert_eq!(at, Some(start + SECOND + SECOND / 2));
    }

    #[test]
    fn votes_are_given_on_members_and_on_whom_members_of_others_are_asked_about() {
        let now = Instant::now() + 10 * SECOND;
        let told =
            [Told { silent: &[1, 3, 5, 6, 7], ..Told::of(2, &[1, 2, 3, 5, 6]) }, Told::of(5, &[5])];
        let mut contacts = contacts(now, &told);
        contacts.extend(super::super::bench::contacts(
            now - 3 * SECOND,
            &[Told::of(3, &[1, 2, 3]), Told::of(4, &[1, 2, 3, 4])],
        ));
        let (fences, dialling) = (Fences::default(), Dialling::new(TIMING.window, SECOND));
        let known = Known {
            now,
            timing: &TIMING,
            me: member(1).life(),
            view: &life_map(&[1, 2, 3, 4]),
            contacts: &contacts,
            fences: &fences,
            dialling: &dialling,
            mute: &super::super::mute::Mute::default(),
        };
        // Not itself, not node 5 that it hears, not node 7 that is in nobody's view.
        assert_eq!(unheard(now, &TIMING, &known), lives(&[3, 4, 6]));
    }

    #[test]
    fn what_a_verdict_of_others_means_in_every_state() {
        let now = Instant::now();
        let contacts = contacts(now, &[Told::of(2, &[2])]);
        let (contact, told) = (&contacts[&id(2)], member(2).incarnation);
        let earlier = Incarnation { started: told.started - 1, ..told };
        let later = Incarnation { started: told.started + 1, ..told };
        let states = [
            (told, Some(contact), now, true, true),
            (later, Some(contact), now, true, true),
            (told, Some(contact), now + TIMING.window, true, false),
            // Its contact lives on in a later life, or is none.
            (earlier, Some(contact), now, false, false),
            (told, None, now, false, false),
        ];
        for (incarnation, known, now, is_known, is_heard) in states {
            let meaning =
                |is_over, binds| meaning(now, &TIMING, incarnation, is_over, binds, known);
            assert_eq!(meaning(true, false), Meaning::Nothing);
            assert_eq!(meaning(true, true), Meaning::Nothing);
            assert_eq!(meaning(false, true), Meaning::Over { is_known });
            let unbound = if is_heard { Meaning::Wrong } else { Meaning::Nothing };
            assert_eq!(meaning(false, false), unbound);
        }
    }
}
