//! How a hub ends: once, on a thread of its own, whoever has asked and whether they still wait.
//!
//! An end must not depend on the runtime of who asked for it, which may be dropped, nor on an arbiter
//! of the hub, which ends with it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Hub, Shared,
    requests::HubStopped,
    shutdown::{OVERTIME, ShutdownReport, shut_down},
    system::End,
    worker::Terminate,
};

/// How long what is queued for peers may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// How long an actor or a thread of the hub's own may take to end.
const END: Duration = Duration::from_secs(1);

/// How long a hub that ends waits for what may never end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For messages that wait to be taken by their children.
    queues: Duration,
    /// For children to end.
    children: Duration,
    /// For a thread to end; one that a handler holds is left behind.
    threads: Duration,
    /// When all is over, whatever does not end.
    until: Option<Instant>,
}

impl Patience {
    /// When nothing else was tried.
    pub(crate) fn long() -> Self {
        let (queues, children) = (Duration::from_secs(2), Duration::from_secs(2));
        Self { queues, children, threads: Duration::from_secs(5), until: None }
    }

    /// When children were brought to rest and the others told: no queue is taken any more.
    pub(crate) fn at_rest() -> Self {
        Self { queues: Duration::ZERO, ..Self::long() }
    }

    /// When it is known that some do not end.
    pub(crate) fn short() -> Self {
        let (children, threads) = (Duration::from_millis(250), Duration::from_millis(500));
        Self { queues: Duration::ZERO, children, threads, until: None }
    }

    /// The same, with an end.
    pub(crate) fn until(self, end: Instant) -> Self {
        Self { until: Some(end), ..self }
    }

    /// So long may something take that would wait for `wait`: a half of what is left for all.
    fn share(&self, wait: Duration) -> Duration {
        let left = self.until.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(wait, |left| wait.min(left / 2))
    }
}

/// The end of a hub, if it has begun.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    stop: Mutex<Option<watch::Receiver<bool>>>,
    /// This node has left.
    left: AtomicBool,
    shutdown: Mutex<Option<watch::Receiver<Option<ShutDown>>>>,
}

/// What came of a shutdown.
type ShutDown = Result<ShutdownReport, HubStopped>;

impl Ends {
    /// Everything was handed over: the hub stops.
    pub(crate) fn left(&self, shared: &Arc<Shared>) {
        self.left.store(true, Ordering::Release);
        drop(self.stop(shared, Patience::long()));
    }

    /// Whether the hub is being stopped, or has been.
    pub(crate) fn is_under_way(&self) -> bool {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Begins to shut the hub down, unless that has begun, and waits for it. The deadline is that of
    /// the first caller.
    pub(crate) async fn shut_down(&self, hub: &Hub, deadline: Duration) -> ShutDown {
        let mut told = {
            let mut shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
            let told = shutdown.get_or_insert_with(|| {
                let (tell, told) = watch::channel(None);
                let hub = hub.clone();
                on_own_thread(async move {
                    let end = Instant::now() + deadline + OVERTIME;
                    let (outcome, patience) = shut_down(&hub, deadline).await;
                    let shared = hub.shared();
                    let ended = shared.ends.stop(shared, patience.until(end));
                    // Somebody may have begun to stop it with more patience.
                    let _ = timeout_at(end, ended.wait()).await;
                    tell.send_replace(Some(outcome));
                });
                told
            });
            told.clone()
        };
        let outcome = told.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(HubStopped))
    }

    /// Whether a shutdown has begun: whatever is asked of the hub now is answered as if it had
    /// stopped.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Begins to stop the hub, unless that has begun; waiting for it is up to the caller.
    pub(crate) fn stop(&self, shared: &Arc<Shared>, patience: Patience) -> Ended {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let told = stop.get_or_insert_with(|| {
            let (tell, told) = watch::channel(false);
            let shared = shared.clone();
            on_own_thread(async move {
                stop_all(&shared, patience).await;
                tell.send_replace(true);
            });
            told
        });
        Ended(told.clone())
    }
}

/// The end of a hub, to be waited for by any number of callers on any runtime.
pub(crate) struct Ended(watch::Receiver<bool>);

impl Ended {
    pub(crate) async fn wait(mut self) {
        // An error means that its thread has ended, too.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
}

fn on_own_thread(task: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a clock needs nothing of the system");
        runtime.block_on(task);
        // What it has left to a thread that hangs is not waited for.
        runtime.shutdown_background();
    });
}

async fn stop_all(shared: &Arc<Shared>, patience: Patience) {
    let arbiters =
        std::mem::take(&mut *shared.arbiters.lock().unwrap_or_else(PoisonError::into_inner));
    // What was taken in is handled, unless a child is held up.
    shared.doors.close();
    let queues = patience.share(patience.queues);
    if timeout(queues, shared.doors.finish_queues()).await.is_err() {
        let messages = shared.doors.queued();
        tracing::warn!(hub = %shared.name, messages, "messages that wait are dropped");
    }
    if let Some(system) = shared.system.get() {
        // No decision is made any more, while links and children go.
        let _ = timeout(patience.share(END), system.send(End)).await;
    }
    // What was said and answered is still written.
    if let Some(network) = shared.doors.network.get() {
        let flush = patience.share(FLUSH);
        let _ = timeout(patience.share(FLUSH + END), network.shutdown(flush)).await;
    }
    shared.doors.stop();
    let halts = shared.workers().iter().map(|worker| worker.send(Terminate));
    let all = futures_util::future::join_all(halts);
    if timeout(patience.share(patience.children), all).await.is_err() {
        tracing::warn!(hub = %shared.name, "a child did not end in time");
    }
    shared.end();
    let (tell, joined) = oneshot::channel();
    // A thread of its own: one that a handler blocks would keep this one for ever.
    std::thread::spawn(move || {
        for arbiter in &arbiters {
            arbiter.stop();
        }
        for arbiter in arbiters {
            // A thread that panicked has ended, too.
            let _ = arbiter.join();
        }
        let _ = tell.send(());
    });
    if timeout(patience.share(patience.threads), joined).await.is_err() {
        for (thread, child) in shared.held_threads() {
            let child = child.map(|child| child.to_string());
            let hub = &shared.name;
            tracing::warn!(%hub, thread, child, "a child holds its thread, which is left behind");
        }
    }
}
