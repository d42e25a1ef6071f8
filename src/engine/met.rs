//! Runs that messages of this node may have gone to, and of which it is still to be told that they are out.
//!
//! Membership tells of each member that goes. A newcomer that is cut off before it has settled goes back to
//! waiting and forgets its view: who dies meanwhile is a member for it no more, and what was written to it
//! would wait for ever for its answer. The same goes for a run that is linked, and never comes in.

use std::collections::BTreeSet;

use super::{core::Core, io::Effect};
use crate::model::id::NodeRun;

/// Runs that were linked or in a view since they were last told to be out. They are told by each view that
/// settles without them: as many as there are links and members.
#[derive(Debug, Default)]
pub(crate) struct MetRuns(BTreeSet<NodeRun>);

impl MetRuns {
    /// Messages may go to this run from now on.
    pub(crate) fn meet(&mut self, run: NodeRun) {
        self.0.insert(run);
    }

    /// The run was told to be out.
    pub(crate) fn told(&mut self, run: NodeRun) {
        self.0.remove(&run);
    }

    /// Tells of those that are out and were no members when they went.
    pub(crate) fn tell_gone(&mut self, core: &mut Core) {
        if core.settled {
            let is_here = |run| run == core.me || core.is_live(run) || core.linked.contains(&run);
            for run in self.due(is_here) {
                core.effects.push_back(Effect::Unmet { run });
            }
        }
    }

    /// Those that are out, as the view is settled and they are neither in it nor linked. Each is given once.
    fn due(&mut self, is_here: impl Fn(NodeRun) -> bool) -> BTreeSet<NodeRun> {
        let (here, out) = std::mem::take(&mut self.0).into_iter().partition(|run| is_here(*run));
        self.0 = here;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    #[test]
    fn who_was_met_and_is_not_here_is_out_once() {
        let run = |n: u8| NodeRun { node: NodeId::from_key([n; 32]), nonce: u64::from(n) };
        let mut met = MetRuns::default();
        (1..=4).for_each(|n| met.meet(run(n)));
        met.told(run(4));
        let is_here = |other: NodeRun| other == run(1);
        assert_eq!(met.due(is_here), BTreeSet::from([run(2), run(3)]));
        assert_eq!(met.due(is_here), BTreeSet::new());
        met.meet(run(2));
        assert_eq!(met.due(|_| false), BTreeSet::from([run(1), run(2)]));
    }
}
