//! Waiting until the cluster is as somebody wants it.

use std::{
    fmt,
    future::IntoFuture,
    time::{Duration, Instant},
};

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    Hub,
    doors::LONGEST_WAIT,
    requests::{HubStopped, Inspect, Inspection},
    system::HubSystem,
};
use crate::error::WaitError;

/// How long the hub may take for the last look of a wait whose time is over, or to say what it has waited for.
const REASON: Duration = Duration::from_millis(250);
/// A look at everything takes at most one part in so many of the hub's time.
const SHARE: u32 = 10;
/// The shortest pause between two looks, and the longest: not all that an [`Inspection`] shows changes with
/// the engine.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How far a hub is.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    is_settled: bool,
    has_stopped: bool,
}

/// What those who wait are woken by.
#[derive(Default)]
pub(crate) struct Progress {
    /// Tells when it changes.
    stage: watch::Sender<Stage>,
    /// Tells each turn of the engine, and the stop.
    turns: watch::Sender<()>,
}

impl Progress {
    /// The engine has taken something in.
    pub(crate) fn turned(&self, is_settled: bool) {
        self.stage.send_if_modified(|stage| {
            std::mem::replace(&mut stage.is_settled, is_settled) != is_settled
        });
        self.turns.send_replace(());
    }

    /// The hub has stopped.
    pub(crate) fn stopped(&self) {
        self.stage.send_modify(|stage| stage.has_stopped = true);
        self.turns.send_replace(());
    }

    fn has_stopped(&self) -> bool {
        self.stage.borrow().has_stopped
    }
}

/// What this node waits for.
#[derive(Message)]
#[rtype(result = "Result<Option<String>, HubStopped>")]
pub(crate) struct WaitsFor;

impl Handler<WaitsFor> for HubSystem {
    type Result = Result<Option<String>, HubStopped>;

    fn handle(&mut self, _: WaitsFor, _: &mut Context<Self>) -> Self::Result {
        Ok(self.running.as_ref().ok_or(HubStopped)?.engine.waits_for())
    }
}

impl Hub {
    /// Waits until this node is settled: it has come into a cluster, all members agree who is in, and it
    /// has the registry of each ([`Inspection::is_settled`]). Starts, stops and moves wait for the same by
    /// themselves. Ends at once if it is so now.
    ///
    /// A node that nobody else knows yet has settled alone: [`wait_for`](Self::wait_for) waits for others.
    ///
    /// ```
    /// # use actix_hub::prelude::*;
    /// # use std::time::Duration;
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = HubSystem::builder("shop").start().await?;
    /// hub.settled().timeout(Duration::from_secs(20)).await?;
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn settled(&self) -> SettledRequest {
        let timeout = self.settings().request_timeout;
        SettledRequest { hub: self.clone(), timeout }
    }

    /// Waits until nodes and children are as `is_so` wants them, and gives what it has seen then.
    ///
    /// It looks at once, and then when something has happened, but at most every 10 ms, and at its deadline
    /// once more, for which it takes up to 250 ms. Each look is an [`inspect`](Self::inspect), and takes the
    /// longer the more children there are: the pause behind one is ten times as long, but no longer than a
    /// second. So the hub spends no more than a tenth of its time on looks that take less than 100 ms. What
    /// was so only for a moment may be missed.
    ///
    /// ```
    /// # use actix_hub::prelude::*;
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = MemoryNetwork::new();
    /// let a = HubSystem::builder("shop").memory(&network).start().await?;
    /// let b = HubSystem::builder("shop").memory(&network).seed(&a.addresses()[0]).start().await?;
    /// let seen = a
    ///     .wait_for(|seen| {
    ///         let members = seen.nodes.iter().filter(|node| node.is_member());
    ///         seen.is_settled && members.count() == 2
    ///     })
    ///     .await?;
    /// assert!(seen.nodes.iter().any(|node| node.id == b.node_id()));
    /// # b.stop().await;
    /// # a.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for<F>(&self, is_so: F) -> WaitRequest<F>
    where
        F: FnMut(&Inspection) -> bool + Send + 'static,
    {
        let timeout = self.settings().request_timeout;
        WaitRequest { hub: self.clone(), timeout, is_so }
    }

    /// What the hub says at the deadline of a wait; `None`: it has no time for that.
    async fn at_the_end<M, T>(&self, question: M) -> Result<Option<T>, WaitError>
    where
        M: Message<Result = Result<T, HubStopped>> + Send + 'static,
        T: Send + 'static,
        HubSystem: Handler<M>,
    {
        match tokio::time::timeout(REASON, self.system().send(question)).await {
            Ok(Ok(Ok(told))) => Ok(Some(told)),
            Err(_) if !self.shared().progress.has_stopped() => Ok(None),
            _ => Err(WaitError::HubStopped),
        }
    }
}

/// A wait until a node is settled. Nothing happens until it is awaited; dropping it then ends the wait.
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct SettledRequest {
    hub: Hub,
    timeout: Duration,
}

impl SettledRequest {
    /// How long to wait; `Settings::request_timeout` unless set, at most a day. When the time is over, up to
    /// 250 ms more go by until it is known what the cluster waits for.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }
}

impl IntoFuture for SettledRequest {
    type Output = Result<(), WaitError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut stage = self.hub.shared().progress.stage.subscribe();
            let settled = stage.wait_for(|stage| stage.is_settled || stage.has_stopped);
            let settled = tokio::time::timeout(self.timeout, settled)
                .await
                .map(|stage| stage.is_ok_and(|stage| !stage.has_stopped));
            match settled {
                Ok(true) => Ok(()),
                Ok(false) => Err(WaitError::HubStopped),
                Err(_) => {
                    let waits_for = self.hub.at_the_end(WaitsFor).await?.flatten();
                    Err(WaitError::Timeout { waits_for })
                }
            }
        })
    }
}

/// A wait until nodes and children are as somebody wants them. Nothing happens until it is awaited;
/// dropping it then ends the wait.
#[must_use = "nothing is waited for until it is awaited"]
pub struct WaitRequest<F> {
    hub: Hub,
    timeout: Duration,
    is_so: F,
}

impl<F> WaitRequest<F> {
    /// How long to wait; `Settings::request_timeout` unless set, at most a day. When the time is over, the
    /// last look takes up to 250 ms more.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }
}

impl<F> fmt::Debug for WaitRequest<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitRequest").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<F: FnMut(&Inspection) -> bool + Send + 'static> IntoFuture for WaitRequest<F> {
    type Output = Result<Inspection, WaitError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { hub, timeout, mut is_so } = self;
        Box::pin(async move {
            match tokio::time::timeout(timeout, look_until(&hub, &mut is_so)).await {
                Ok(Ok(seen)) => return Ok(seen),
                Ok(Err(HubStopped)) => return Err(WaitError::HubStopped),
                Err(_) => {}
            }
            // It may have become so in the pause behind the last look.
            match hub.at_the_end(Inspect).await? {
                Some(seen) if is_so(&seen) => Ok(seen),
                seen => Err(WaitError::Timeout { waits_for: seen.and_then(|seen| seen.waits_for) }),
            }
        })
    }
}

async fn look_until(
    hub: &Hub,
    mut is_so: impl FnMut(&Inspection) -> bool,
) -> Result<Inspection, HubStopped> {
    let progress = &hub.shared().progress;
    let mut turns = progress.turns.subscribe();
    loop {
        // What happens from here on wakes it again.
        turns.borrow_and_update();
        if progress.has_stopped() {
            return Err(HubStopped);
        }
        let began = Instant::now();
        let seen = hub.system().send(Inspect).await.map_err(|_| HubStopped)??;
        if is_so(&seen) {
            return Ok(seen);
        }
        let (shortest, longest) = PAUSES;
        tokio::time::sleep((began.elapsed() * SHARE).clamp(shortest, longest)).await;
        // What topics count changes without a turn of the engine. The sender is the hub's, which is held here.
        let _ = tokio::time::timeout(longest, turns.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_the_stage_is_not_woken_by_each_turn() {
        let progress = Progress::default();
        let (mut stage, mut turns) = (progress.stage.subscribe(), progress.turns.subscribe());
        let mut woken = || {
            let woken = (stage.has_changed(), turns.has_changed());
            stage.mark_unchanged();
            turns.mark_unchanged();
            (woken.0.expect("it is held"), woken.1.expect("it is held"))
        };
        progress.turned(false);
        assert_eq!(woken(), (false, true));
        progress.turned(true);
        assert_eq!(woken(), (true, true));
        progress.turned(true);
        assert_eq!(woken(), (false, true));
        progress.stopped();
        assert_eq!(woken(), (true, true));
        assert!(progress.has_stopped());
    }
}
