//! What is to be handed out to the subscribers of this node, in the order in which it came.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::model::{id::NodeRun, topic::Publication};

/// Messages that wait to be handed out. Bounded in bytes for each node that they come from, so that the
/// flood of one drops no message of another.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    limit: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<(NodeRun, Arc<Publication>)>,
    bytes: HashMap<NodeRun, usize>,
    ended: bool,
}

impl Inbox {
    /// Holds at most so many bytes of each node; one message of each is always let through.
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: Mutex::default(), filled: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic under a lock is a defect of ours; the others go on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in. `false`: there is no room for more of this node, or the hub has stopped.
    pub(super) fn push(&self, origin: NodeRun, publication: Arc<Publication>) -> bool {
        let mut queue = self.lock();
        let size = publication.size();
        let held = queue.bytes.get(&origin).copied().unwrap_or(0);
        if queue.ended || held > 0 && held.saturating_add(size) > self.limit {
            return false;
        }
        *queue.bytes.entry(origin).or_default() += size;
        queue.items.push_back((origin, publication));
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// The oldest message; waits for one. `None`: the hub has stopped.
    pub(super) fn next(&self) -> Option<Arc<Publication>> {
        let mut queue = self.lock();
        loop {
            if queue.ended {
                return None;
            }
            if let Some((origin, publication)) = queue.items.pop_front() {
                let size = publication.size();
                if let Some(held) = queue.bytes.get_mut(&origin) {
                    *held -= size;
                    if *held == 0 {
                        queue.bytes.remove(&origin);
                    }
                }
                return Some(publication);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing is handed out any more.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        queue.items.clear();
        queue.bytes.clear();
        drop(queue);
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{NodeId, TopicName};

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn publication(known: u64, size: usize) -> Arc<Publication> {
        Arc::new(Publication {
            topic: TopicName::new("t").expect("a valid name"),
            known,
            trace: None,
            name: "m".into(),
            body: vec![0; size].into(),
        })
    }

    #[test]
    fn the_flood_of_one_node_drops_its_own_messages_alone() {
        let inbox = Inbox::new(10_000);
        let size = publication(0, 900).size();
        let taken = (0..100).filter(|n| inbox.push(run(2), publication(*n, 900))).count();
        assert_eq!(taken, 10_000 / size);
        assert!(inbox.push(run(3), publication(100, 20_000)), "one is always let through");
        assert!(!inbox.push(run(3), publication(101, 0)));
        let order: Vec<u64> = (0..=taken).map(|_| inbox.next().expect("it waits").known).collect();
        assert_eq!(order, (0..taken as u64).chain([100]).collect::<Vec<_>>());
        assert!(inbox.push(run(2), publication(102, 900)), "there is room again");
        assert_eq!(inbox.lock().bytes.len(), 1);
    }

    #[test]
    fn who_waits_for_a_message_is_told_that_the_hub_has_stopped() {
        let inbox = Arc::new(Inbox::new(100));
        let waiting = inbox.clone();
        let waits = std::thread::spawn(move || waiting.next());
        inbox.end();
        assert_eq!(waits.join().expect("it does not panic"), None);
        assert!(!inbox.push(run(2), publication(0, 0)));
    }
}
