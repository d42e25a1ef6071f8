//! Load on children: writers that send numbered updates, and how long they went unanswered.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_hub::prelude::*;
use serde::Serialize;

use crate::ledger::{Add, Counter, Written};

/// How long a writer waits for one answer: longer than any time for which a scenario lets calls go
/// unanswered, so that what is measured is the cluster and not this.
const PATIENCE: Duration = Duration::from_secs(20);
/// Different errors that are kept.
const MOST_ERRORS: usize = 16;

/// What clients wrote, by child.
pub type Ledger = BTreeMap<u32, BTreeMap<String, Written>>;

/// What came of the updates so far.
#[derive(Default, Serialize)]
pub struct Count {
    /// Updates that were acknowledged.
    pub acked: u64,
    /// Updates that were certainly not handled.
    pub failed: u64,
    /// Updates that may have been handled.
    pub may_have_been_handled: u64,
    /// The longest time from the begin of a call until the same client heard from the same child
    /// again, calls that failed in between included; one that goes on counts until now.
    pub unanswered_ms: u64,
    /// The child and client of that.
    pub unanswered: String,
    /// Errors with how often they were seen.
    pub errors: BTreeMap<String, u64>,
}

/// One client's updates of one child.
struct Writer {
    client: u32,
    child: String,
    written: Written,
    acked: u64,
    failed: u64,
    maybe: u64,
    /// The begin of the first call since the last answer.
    waits_since: Option<Instant>,
    longest: Duration,
}

impl Writer {
    fn answered(&mut self, took: Duration) {
        self.acked += 1;
        let waited = self.waits_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.longest = self.longest.max(waited).max(took);
    }

    fn longest(&self) -> Duration {
        self.waits_since.map_or(self.longest, |since| self.longest.max(since.elapsed()))
    }
}

/// Clients that write to children until they are stopped.
pub struct Load {
    stop: Rc<Cell<bool>>,
    writers: Vec<Rc<RefCell<Writer>>>,
    errors: Rc<RefCell<BTreeMap<String, u64>>>,
    tasks: Vec<actix_rt::task::JoinHandle<()>>,
}

impl Load {
    /// Each client writes to each child, two updates at a time and then a pause; no child waits
    /// for another.
    pub fn begin(hub: &Hub, children: &[String], clients: Range<u32>, pause: Duration) -> Self {
        let mut load = Self {
            stop: Rc::default(),
            writers: Vec::new(),
            errors: Rc::default(),
            tasks: Vec::new(),
        };
        for client in clients {
            for child in children {
                let writer = Rc::new(RefCell::new(Writer {
                    client,
                    child: child.clone(),
                    written: Written::default(),
                    acked: 0,
                    failed: 0,
                    maybe: 0,
                    waits_since: None,
                    longest: Duration::ZERO,
                }));
                let (stop, errors) = (load.stop.clone(), load.errors.clone());
                let task = write(hub.child(child), writer.clone(), errors, stop, pause);
                load.tasks.push(actix_rt::spawn(task));
                load.writers.push(writer);
            }
        }
        load
    }

    /// Tells the writers to stop; they end with the answers to what they have sent.
    pub fn stop(&mut self) -> Vec<actix_rt::task::JoinHandle<()>> {
        self.stop.set(true);
        std::mem::take(&mut self.tasks)
    }

    pub fn count(&self) -> Count {
        let mut count = Count { errors: self.errors.borrow().clone(), ..Count::default() };
        let mut longest = Duration::ZERO;
        for writer in &self.writers {
            let writer = writer.borrow();
            count.acked += writer.acked;
            count.failed += writer.failed;
            count.may_have_been_handled += writer.maybe;
            if writer.longest() > longest {
                longest = writer.longest();
                count.unanswered = format!("{} by client {}", writer.child, writer.client);
            }
        }
        count.unanswered_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        count
    }

    pub fn written(&self) -> Ledger {
        let mut ledger = Ledger::new();
        for writer in &self.writers {
            let writer = writer.borrow();
            let client = ledger.entry(writer.client).or_default();
            client.insert(writer.child.clone(), writer.written.clone());
        }
        ledger
    }
}

async fn write(
    child: ChildRef<Counter>,
    writer: Rc<RefCell<Writer>>,
    errors: Rc<RefCell<BTreeMap<String, u64>>>,
    stop: Rc<Cell<bool>>,
    pause: Duration,
) {
    while !stop.get() {
        let began = Instant::now();
        writer.borrow_mut().waits_since.get_or_insert(began);
        let client = writer.borrow().client;
        let send = || {
            let number = writer.borrow_mut().written.next();
            (number, child.send(Add { client, number }).timeout(PATIENCE))
        };
        let (first, second) = (send(), send());
        let ended = |number: u64, outcome: Result<u64, HubSendError>| {
            let mut writer = writer.borrow_mut();
            let Err(error) = outcome else { return writer.answered(began.elapsed()) };
            writer.written.unacked.insert(number);
            if error.may_have_been_handled() {
                writer.maybe += 1;
            } else {
                writer.failed += 1;
            }
            let mut errors = errors.borrow_mut();
            // One line for all children.
            let text = error.to_string().replace(child.id().as_str(), "a child");
            if errors.len() < MOST_ERRORS || errors.contains_key(&text) {
                *errors.entry(text).or_default() += 1;
            }
        };
        futures_util::join!(async { ended(first.0, first.1.await) }, async {
            ended(second.0, second.1.await)
        },);
        tokio::time::sleep(pause).await;
    }
    let mut writer = writer.borrow_mut();
    writer.longest = writer.longest();
    writer.waits_since = None;
}
