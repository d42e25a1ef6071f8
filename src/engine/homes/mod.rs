//! Starts, stops and migrations: asked for on any node, serialised at each child's home.
//!
//! The *requester* side (`requests`) keeps what its users asked for until every child has an outcome or
//! the time is over, and asks again when a home changes. The *home* side (`orders`) orders one thing at a
//! time for each child and answers everybody who asked for it. A home also says where a child is, and is
//! asked for that (`locate`).

use std::{collections::BTreeSet, sync::Arc};

use super::{
    answers::Answer,
    core::{Core, News},
    io::Request,
};
use crate::model::{
    child::{ChildSpec, Epoch, Route},
    id::{ChildId, NodeId, NodeRun, RequestId},
    member::Member,
    message::HomeWord,
    quota::Quota,
    report::{StartOutcome, StopOutcome},
};

mod asker;
mod locate;
mod orders;
mod requests;
#[cfg(test)]
mod tests;

use self::{
    asker::{Asker, KEPT},
    locate::Locate,
    orders::{Orders, What},
    requests::{UserRequests, is_placed},
};

/// Requests of this node's users, and the orders of this node as a home.
#[derive(Debug)]
pub(crate) struct Homes {
    requests: UserRequests,
    orders: Orders,
    locate: Locate,
    /// Members that have adopted this view since homes were asked in it.
    late: BTreeSet<NodeId>,
    /// What is kept of other nodes in `orders` and `locate`.
    quota: Quota,
}

impl Default for Homes {
    fn default() -> Self {
        Self {
            requests: UserRequests::default(),
            orders: Orders::default(),
            locate: Locate::default(),
            late: BTreeSet::new(),
            quota: Quota::new(KEPT),
        }
    }
}

impl Homes {
    /// A user of this node asks for something that is done with children.
    pub(crate) fn request(&mut self, core: &mut Core, id: RequestId, request: Request) {
        self.requests.ask(core, &mut self.locate, id, request);
    }

    /// Messages of this node wait for a child that nobody here has heard of. Where `start` says how, it is
    /// started if there is none.
    pub(crate) fn locate(
        &mut self,
        core: &mut Core,
        child: ChildId,
        start: Option<Arc<ChildSpec>>,
    ) {
        match start {
            Some(spec) if core.route(&child).is_none() => {
                self.requests.demand(core, &mut self.locate, spec);
            }
            _ => self.locate.locate(core, child),
        }
    }

    /// Somebody on this node watches a child that nobody here has heard of.
    pub(crate) fn seek(&mut self, core: &mut Core, child: ChildId) {
        self.locate.seek(core, child);
    }

    /// Nobody wants to know any more whether there is such a child.
    pub(crate) fn seek_no_more(&mut self, child: &ChildId) {
        self.locate.seek_no_more(child);
    }

    /// A word that asked where children are, or its answer, may have been lost.
    pub(crate) fn locate_again(&mut self, core: &mut Core) {
        let migrating = self.requests.migrating().filter(|child| !is_placed(core, child));
        let migrating: Vec<ChildId> = migrating.cloned().collect();
        self.locate.timer_passed(core, migrating.into_iter());
        self.requests.demand_again(core, &mut self.locate);
    }

    /// The view changed: homes may be other nodes now.
    pub(crate) fn reset(&mut self, core: &mut Core) {
        self.orders.reset(core, &mut self.quota);
        self.locate.reset(core, &mut self.quota);
        self.late.clear();
        self.ask_again(core, |_| true);
    }

    /// A member has adopted this view, and this node had asked before. Until then the member may not
    /// have had this node in, or not have been the home, and have dropped what it was asked.
    pub(crate) fn adopted(&mut self, core: &mut Core, member: NodeId) {
        self.late.insert(member);
        // All such are asked at once when the view settles: no home serves before that.
        if core.settled {
            self.ask_late(core);
        }
    }

    fn ask_late(&mut self, core: &mut Core) {
        let late = std::mem::take(&mut self.late);
        self.requests.ask_again(core, &mut self.locate, |node| late.contains(&node));
    }

    /// The view is settled: this node serves what it is the home of.
    pub(crate) fn serve(&mut self, core: &mut Core) {
        self.orders.serve(core, &mut self.quota);
        let orders = &self.orders;
        self.locate.serve(core, &mut self.quota, |child| orders.has(child));
        self.orders.repeat(core, &mut self.quota);
        self.answer_located(core);
        self.requests.ask_owners_again(core, &mut self.locate);
        self.ask_late(core);
    }

    fn ask_again(&mut self, core: &mut Core, to: impl Fn(NodeId) -> bool) {
        self.requests.ask_again(core, &mut self.locate, to);
        self.locate.ask_again(core);
    }

    /// A member is reached, or in another way than before: what it was asked, ordered or answered
    /// may have been lost.
    pub(crate) fn reached(&mut self, core: &mut Core, run: NodeRun) {
        self.ask_again(core, |node| node == run.node);
        if core.settled {
            self.orders.repeat(core, &mut self.quota);
            self.answer_located(core);
        }
    }

    /// A word for a home, or an answer from one.
    pub(crate) fn handle(&mut self, core: &mut Core, from: NodeRun, word: HomeWord) {
        let node = from.node;
        match word {
            HomeWord::Start { request, specs, wait } => {
                let asker = Asker { run: from, request };
                for spec in specs {
                    self.orders.receive(core, &mut self.quota, asker, wait, What::Start(spec));
                }
                self.answer_located(core);
            }
            HomeWord::Stop { request, children, wait } => {
                let asker = Asker { run: from, request };
                for child in children {
                    self.orders.receive(core, &mut self.quota, asker, wait, What::Stop(child));
                }
                self.answer_located(core);
            }
            HomeWord::Locate { child, question } => {
                let is_ordered = self.orders.has(&child);
                self.locate.asked(core, &mut self.quota, node, child, question, is_ordered);
            }
            HomeWord::Located { child, question, route } => {
                if core.home(&child) == Some(node)
                    && route.is_none_or(|route| core.is_possible(node, &child, route.epoch))
                {
                    self.located(core, child, question, route);
                }
            }
            HomeWord::Started { request, outcomes } => {
                self.requests.started(core, &mut self.locate, node, request, outcomes);
            }
            HomeWord::Stopped { request, outcomes } => {
                self.requests.stopped(core, &mut self.locate, request, outcomes);
            }
            HomeWord::Ran { child, epoch, outcome } => self.ran(core, &child, epoch, outcome),
            HomeWord::Halted { child, epoch, outcome } => self.halted(core, &child, epoch, outcome),
            HomeWord::Migrated { request, child, outcome } => {
                self.requests.migrated(core, request, &child, outcome);
            }
            HomeWord::Run { .. } | HomeWord::Halt { .. } | HomeWord::Migrate { .. } => {}
        }
    }

    fn located(&mut self, core: &mut Core, child: ChildId, question: u64, route: Option<Route>) {
        if let Some(route) = route {
            core.hint(&child, route);
        }
        self.requests.located(core, &child, question, route);
        self.locate.located(core, child, question, route);
    }

    /// Answers who asked where children are whose orders have ended.
    fn answer_located(&mut self, core: &mut Core) {
        for child in self.orders.take_free() {
            let is_ordered = self.orders.has(&child);
            self.locate.serve_one(core, &mut self.quota, child, is_ordered);
        }
    }

    /// A start that this home ordered has ended.
    fn ran(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, outcome: StartOutcome) {
        self.orders.ran(core, &mut self.quota, child, epoch, outcome);
        self.answer_located(core);
    }

    /// A stop that this home ordered has ended.
    fn halted(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, outcome: StopOutcome) {
        self.orders.halted(core, &mut self.quota, child, epoch, outcome);
        self.answer_located(core);
    }

    /// The registry changed: a stop follows its child, a migration too.
    pub(crate) fn child_changed(&mut self, core: &mut Core, child: &ChildId) {
        self.orders.child_changed(core, &mut self.quota, child);
        self.answer_located(core);
        self.requests.child_changed(core, &mut self.locate, child);
    }

    /// A home's order took too long.
    pub(crate) fn order_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.orders.expired(core, &mut self.quota, child, epoch);
        self.answer_located(core);
    }

    /// The time of a request is over. `waits_for`: what keeps the cluster unsettled.
    pub(crate) fn expired(&mut self, core: &mut Core, id: RequestId, waits_for: Option<String>) {
        self.requests.expired(core, &mut self.locate, id, waits_for);
    }

    /// Passes on what one machine told another.
    pub(crate) fn news(&mut self, core: &mut Core, news: News) {
        match news {
            News::Ran { home, child, epoch, outcome } if home == core.me.node => {
                self.ran(core, &child, epoch, outcome);
            }
            News::Ran { home, child, epoch, outcome } => {
                tell(core, home, child, Answer::Ran { epoch, outcome });
            }
            News::Halted { home, child, epoch, outcome } if home == core.me.node => {
                self.halted(core, &child, epoch, outcome);
            }
            News::Halted { home, child, epoch, outcome } => {
                tell(core, home, child, Answer::Halted { epoch, outcome });
            }
            News::Migrated { waiters, child, outcome } => {
                for (node, request) in waiters {
                    let outcome = outcome.clone();
                    tell(core, node, child.clone(), Answer::Migrated { request, outcome });
                }
            }
            News::Changed { .. }
            | News::StartNow { .. }
            | News::Parks { .. }
            | News::Merged { .. }
            | News::TakenBack { .. }
            | News::Sought { .. } => {}
        }
    }

    /// How many questions were asked where children are.
    #[cfg(test)]
    pub(super) fn questions(&self) -> u64 {
        self.locate.questions()
    }

    /// What is kept of other nodes.
    #[cfg(test)]
    pub(super) fn quota(&mut self) -> &mut Quota {
        &mut self.quota
    }
}

/// Answers a node, if it is in, once what this node's log says of the child is safe.
fn tell(core: &mut Core, to: NodeId, child: ChildId, answer: Answer) {
    if let Some(to) = core.view.member(to).map(Member::run) {
        core.answer(to, child, answer);
    }
}
