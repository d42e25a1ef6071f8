//! News of one machine for others, and children of which something else is known now.

use crate::{
    engine::{
        children::Children,
        core::{Core, News},
        homes::Homes,
        parked::{Around, Parked},
        roll_call::Rolls,
        watches::Watches,
    },
    model::id::ChildId,
};

/// The machines that have news for each other.
#[derive(Debug)]
pub(crate) struct Listeners<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) rolls: &'a mut Rolls,
    pub(crate) parked: &'a mut Parked,
    pub(crate) watches: &'a mut Watches,
}

impl Listeners<'_> {
    /// Everybody looks at a child of which something else is known now.
    pub(crate) fn child_changed(&mut self, child: &ChildId) {
        let core = &mut *self.core;
        core.reroute(child);
        core.review_promise(child);
        self.children.child_changed(core, child);
        self.homes.child_changed(core, child);
        if core.settled {
            self.rolls.child_changed(core, child);
            self.children.enqueue(core, child);
        }
        self.watches.changed(core, self.homes, child);
    }

    /// Who is concerned hears it.
    pub(crate) fn tell(&mut self, news: News) {
        match news {
            News::Changed { child } => self.child_changed(&child),
            News::StartNow { home, spec, epoch, origin } => {
                self.children.run(self.core, home, spec, epoch, origin);
            }
            News::Parks { key, other } => {
                self.parked.awaits(&Around::of(self.core), key, other);
            }
            News::Merged { key } => self.parked.merged(&Around::of(self.core), &key),
            News::TakenBack { key } => self.parked.taken_back(&Around::of(self.core), &key),
            News::Sought { child, route } => {
                self.watches.sought(self.core, self.homes, &child, route);
            }
            news => self.homes.news(self.core, news),
        }
    }
}
