//! What was sent, handled and answered in a whole run, and what must never be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::call::{News, Slot};
use crate::{
    delivery::SendFailure,
    error::MaybeHandled,
    model::id::{ChildId, NodeRun},
};

/// An update that somebody sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) child: ChildId,
    pub(super) client: NodeRun,
    pub(super) slot: Arc<Slot>,
    /// Its handlers that have started: the node, and its number of the actor.
    started: Vec<(NodeRun, u64)>,
}

/// What is known of all updates.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) sent: BTreeMap<u64, Sent>,
    /// Whose callers wait, with when their time is over.
    pub(super) open: BTreeMap<u64, Instant>,
    news: Arc<Mutex<News>>,
    /// Acknowledged, and to be in some copy of the child's state.
    pub(super) acked: BTreeMap<ChildId, BTreeSet<u64>>,
    /// Were in an actor that ended unasked, or on a node that was killed.
    lost: BTreeSet<u64>,
    /// How often each thing was seen that runs are there for.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// No message may be lost, and none is in doubt: nobody goes without a word.
    pub(super) is_gentle: bool,
    /// What must not be, in the order in which it was seen.
    pub(super) violations: Vec<String>,
}

impl Ledger {
    /// Nothing has been sent, and nothing has happened that loses a message.
    pub(super) fn gentle() -> Self {
        Self { is_gentle: true, ..Self::default() }
    }

    /// Something must hold.
    pub(super) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    /// Something was seen that runs are there for.
    pub(super) fn sees(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A new update.
    pub(super) fn send(
        &mut self,
        client: NodeRun,
        child: &ChildId,
        deadline: Option<Instant>,
    ) -> Arc<Slot> {
        let id = self.sent.len() as u64 + 1;
        let slot = Slot::new(id, deadline, self.news.clone());
        self.open.extend(deadline.map(|deadline| (id, deadline)));
        let sent = Sent { child: child.clone(), client, slot: slot.clone(), started: Vec::new() };
        self.sent.insert(id, sent);
        slot
    }

    /// A handler starts. Gives the client.
    pub(super) fn starts(&mut self, id: u64, child: &ChildId, who: (NodeRun, u64)) -> NodeRun {
        let sent = self.sent.get_mut(&id).expect("somebody has sent it");
        sent.started.push(who);
        let (client, times, of) = (sent.client, sent.started.clone(), sent.child.clone());
        let told = sent.slot.outcome();
        self.expect(of == *child, || format!("{child}: {id} was sent to {of}"));
        self.expect(times.len() == 1, || format!("{child}: {id} is handled twice: {times:?}"));
        let refused = matches!(told, Some(Err(SendFailure::NotHandled(_))));
        self.expect(!refused, || format!("{child}: {id} is handled by {who:?}, told: {told:?}"));
        client
    }

    /// How often its handler has started.
    pub(super) fn times(&self, id: u64) -> usize {
        self.sent.get(&id).map_or(0, |sent| sent.started.len())
    }

    /// These may be lost: their actor or its node has ended unasked.
    pub(super) fn lose(&mut self, updates: impl Iterator<Item = u64>) {
        self.lost.extend(updates);
        let lost = &self.lost;
        for acked in self.acked.values_mut() {
            acked.retain(|id| !lost.contains(id));
        }
    }

    /// All updates of a child that were sent until now may be lost.
    pub(super) fn lose_all_of(&mut self, child: &ChildId) {
        let of = |(id, sent): (&u64, &Sent)| (sent.child == *child).then_some(*id);
        let ids: Vec<u64> = self.sent.iter().filter_map(of).collect();
        self.lose(ids.into_iter());
    }

    /// The callers of a run that has ended do not wait any more.
    pub(super) fn forget_callers(&mut self, client: NodeRun) {
        let sent = &self.sent;
        self.open.retain(|id, _| sent[id].client != client);
        self.look();
    }

    /// The node of these callers stood still: they are answered a while after that.
    pub(super) fn be_patient(&mut self, client: NodeRun, now: Instant) {
        let sent = &self.sent;
        let theirs = self.open.iter_mut().filter(|(id, _)| sent[*id].client == client);
        theirs.for_each(|(_, deadline)| *deadline = now.max(*deadline));
    }

    /// Looks at what was answered.
    pub(super) fn look(&mut self) {
        let news = std::mem::take(&mut *self.news.lock().expect("nobody panics with it"));
        for id in news.dropped {
            let sent = &self.sent[&id];
            // With the process of its caller nobody is left to be told.
            if self.open.contains_key(&id) {
                let what = format!("{}: {id} is thrown away while its caller waits", sent.child);
                self.violations.push(what);
            }
        }
        for id in news.answered {
            self.open.remove(&id);
            let sent = &self.sent[&id];
            let (child, times) = (sent.child.clone(), sent.started.len());
            match sent.slot.outcome() {
                Some(Ok(())) => {
                    self.sees("acknowledged");
                    self.expect(times == 1, || {
                        format!("{child}: {id} is acknowledged, and was handled {times} times")
                    });
                    if !self.lost.contains(&id) {
                        self.acked.entry(child).or_default().insert(id);
                    }
                }
                Some(Err(SendFailure::NotHandled(reason))) => {
                    self.sees("not handled");
                    self.expect(times == 0, || {
                        format!("{child}: {id} was handled, and its caller is told: {reason}")
                    });
                }
                Some(Err(SendFailure::MaybeHandled(reason))) => {
                    self.sees("maybe handled");
                    let holds = !self.is_gentle || reason == MaybeHandled::Timeout;
                    self.expect(holds, || format!("{child}: {id} is in doubt: {reason}"));
                }
                None => {}
            }
        }
    }
}
