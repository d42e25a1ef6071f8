//! Reports of children's runtimes, and which machine waits for them.

use crate::engine::{
    applies::Applies, children::Children, core::Core, handover::SourceInput, io::ChildReport,
    parked::Parked, parking,
};

/// The machines that wait for children's runtimes.
#[derive(Debug)]
pub(crate) struct Reports<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) children: &'a mut Children,
    pub(crate) parked: &'a mut Parked,
    pub(crate) applies: &'a mut Applies,
}

impl Reports<'_> {
    /// A runtime reports.
    pub(crate) fn take(&mut self, report: ChildReport) {
        let (core, children) = (&mut *self.core, &mut *self.children);
        match report {
            ChildReport::Started { child, epoch, outcome } => {
                children.started(core, &child, epoch, outcome);
            }
            ChildReport::Frozen { child, epoch, outcome } => {
                let input = SourceInput::Frozen(outcome);
                children.source_input(core, &child, epoch, None, &input);
            }
            ChildReport::Tried { child, epoch, outcome } => {
                children.tried(core, &child, epoch, &outcome);
                children.rested(core, &child, epoch, &outcome);
            }
            ChildReport::Built { child, epoch, outcome } => {
                children.built(core, &child, epoch, outcome);
            }
            ChildReport::Opened { child, epoch, outcome } => {
                children.opened(core, &child, epoch, outcome);
            }
            ChildReport::Stopped { child, .. } => children.stopped(core, &child),
            ChildReport::Exited { child, epoch, exit } => {
                children.exited(core, &child, epoch, &exit);
            }
            ChildReport::Merged { child, epoch, outcome } => {
                children.merged(core, &child, epoch, outcome);
            }
            ChildReport::Applied { key, outcome } => {
                let asker = self.applies.applied(core, self.parked, &key, &outcome);
                // All are told that nobody keeps it any more before who asked hears that it went well.
                parking::go_on(core, self.parked, children);
                if let Some((asker, request)) = asker {
                    self.applies.answer(core, asker, request, outcome);
                }
            }
        }
    }
}
