//! What the Hello of a node means: who it is here, and whether its link stays.
//!
//! A node that is known may come in another run: it was restarted, or a second process has its key.
//! The run that is known is dead if nothing is heard of it, or if its link was closed; else it is
//! probed while the other waits ([`Rivals`](super::rivals::Rivals)). One that has answered such a
//! probe is not given up because its link closes later: two processes with one key close each
//! other's links all the time.

use std::time::Instant;

use super::{bounds::is_plausible, contact::Contact, timing::Timing};
use crate::model::{id::NodeId, member::Member};

/// The run of a node that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownRun {
    pub(super) nonce: u64,
    /// Something came of it within the window.
    pub(super) is_heard: bool,
    /// Its link stands, working or not; or it went on by way of others after that was closed.
    pub(super) may_live: bool,
}

impl KnownRun {
    pub(super) fn of(now: Instant, timing: &Timing, contact: &Contact) -> Self {
        Self {
            nonce: contact.incarnation().nonce,
            is_heard: contact.is_heard(now, timing),
            may_live: contact.is_linked() || contact.is_heard_without_link(),
        }
    }
}

/// What a Hello means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It comes from this node itself, or has its key. Nothing of it is believed.
    Own,
    /// Its incarnation is the outcome of no history. Nothing of it is believed.
    Absurd,
    /// Its life is over here: it is told so, and comes back in a higher one.
    Over,
    /// Its node is not known: it is met.
    New,
    /// Its run is known, and linked anew.
    Again,
    /// The run that is known is dead; this one takes its place.
    Successor,
    /// The run that is known may be alive: this one waits until that is clear.
    Rival,
    /// The run that is known is alive, as it has shown: this one is refused.
    Twin,
}

impl Greeting {
    /// What it means that `told` greets `me`. `is_over`: that life is fenced; `was_refused`: that run
    /// was refused before, for the sake of the one that is `known`.
    pub(super) fn of(
        me: NodeId,
        told: &Member,
        is_over: bool,
        known: Option<KnownRun>,
        was_refused: bool,
    ) -> Self {
        if told.id == me {
            return Self::Own;
        }
        if !is_plausible(told.incarnation) {
            return Self::Absurd;
        }
        if is_over {
            return Self::Over;
        }
        match known {
            None => Self::New,
            Some(known) if known.nonce == told.incarnation.nonce => Self::Again,
            Some(KnownRun { is_heard: false, .. }) => Self::Successor,
            Some(_) if was_refused => Self::Twin,
            Some(KnownRun { may_live: false, .. }) => Self::Successor,
            Some(_) => Self::Rival,
        }
    }

    /// Whether what the Hello says of others, and of this node, is believed.
    pub(super) fn is_believed(self) -> bool {
        !matches!(self, Self::Own | Self::Absurd)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{id, member},
        *,
    };
    use crate::model::{child::Epoch, id::Incarnation};

    const BOTH: [bool; 2] = [false, true];

    /// Every state of the run that is known, with whether it has this nonce.
    fn runs(nonce: u64) -> impl Iterator<Item = (bool, Option<KnownRun>)> {
        let of = move |same: bool| {
            let nonce = if same { nonce } else { nonce + 1 };
            BOTH.into_iter().flat_map(move |is_heard| {
                BOTH.into_iter()
                    .map(move |may_live| (same, Some(KnownRun { nonce, is_heard, may_live })))
            })
        };
        std::iter::once((false, None)).chain(BOTH.into_iter().flat_map(of))
    }

    fn all(me: u8, told: &Member) -> Vec<(bool, bool, Option<KnownRun>, bool, Greeting)> {
        let mut all = Vec::new();
        for (same, known) in runs(told.incarnation.nonce) {
            for is_over in BOTH {
                for was_refused in BOTH {
                    let greeting = Greeting::of(id(me), told, is_over, known, was_refused);
                    all.push((is_over, same, known, was_refused, greeting));
                }
            }
        }
        all
    }

    #[test]
    fn nothing_is_believed_of_this_node_s_own_key_nor_of_an_absurd_incarnation() {
        assert!(all(2, &member(2)).iter().all(|(.., greeting)| *greeting == Greeting::Own));
        let incarnation = Incarnation { started: Epoch::LIMIT + 1, nonce: 2 };
        let absurd = Member { incarnation, ..member(2) };
        assert!(all(1, &absurd).iter().all(|(.., greeting)| *greeting == Greeting::Absurd));
        assert!(!Greeting::Own.is_believed() && !Greeting::Absurd.is_believed());
    }

    #[test]
    fn what_a_hello_means_in_every_state_of_the_run_that_is_known() {
        for (is_over, same, known, was_refused, greeting) in all(1, &member(2)) {
            let expected = match (known, was_refused) {
                _ if is_over => Greeting::Over,
                (None, _) => Greeting::New,
                _ if same => Greeting::Again,
                (Some(known), false) if !known.is_heard || !known.may_live => Greeting::Successor,
                (Some(_), false) => Greeting::Rival,
                (Some(known), true) if known.is_heard => Greeting::Twin,
                (Some(_), true) => Greeting::Successor,
            };
            assert_eq!(greeting, expected, "{is_over} {same} {known:?} {was_refused}");
            assert!(greeting.is_believed());
        }
    }

    #[test]
    fn a_run_that_is_heard_over_its_link_is_never_given_up_for_a_hello() {
        for (_, same, known, _, greeting) in all(1, &member(2)) {
            let lives = known.is_some_and(|known| known.is_heard && known.may_live);
            assert!(!(lives && !same && greeting == Greeting::Successor));
        }
    }
}
