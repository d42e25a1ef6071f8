//! What a status says of links: who is heard outside the view, and who has no link that works.

use std::{sync::Arc, time::Instant};

use super::{contact::Contact, joining::Known};
use crate::model::{
    id::Life,
    member::Member,
    message::Status,
    tags::{LifeSet, NodeSet},
};

/// What is told of links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Lives outside the view that are heard.
    joining: LifeSet,
    /// Of these and of the members those without a link that works. Of others nobody could know that they
    /// are linked.
    unlinked: NodeSet,
}

impl Lists {
    /// Of those outside the view that are `told`.
    fn of(now: Instant, known: &Known<'_>, told: impl Fn(&Contact) -> bool) -> Self {
        let listed = || known.listed().filter(|contact| told(contact));
        let members = known.view.keys().filter_map(|node| known.contacts.get(node));
        let unlinked = members.chain(listed()).filter(|it| !it.link_works(now, known.timing));
        let unlinked = unlinked.map(|contact| contact.life().node).collect();
        Self { joining: listed().map(Contact::life).collect(), unlinked }
    }

    /// All of them.
    pub(super) fn full(now: Instant, known: &Known<'_>) -> Self {
        Self::of(now, known, |_| true)
    }

    /// What those who wait tell each other: of those outside the view only who does not wait. Nobody who
    /// waits concludes, and where many start at once such lists would be long and change with each of
    /// them.
    pub(super) fn brief(now: Instant, known: &Known<'_>) -> Self {
        Self::of(now, known, |contact| !contact.waits())
    }

    /// A status that says this of links.
    pub(super) fn status(
        self,
        me: Option<Arc<Member>>,
        waiting: Option<bool>,
        silent: Vec<Life>,
    ) -> Status {
        Status { me, waiting, silent, joining: self.joining, unlinked: self.unlinked }
    }
}
