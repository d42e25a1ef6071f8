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

/// How long the hub may take to say what a wait that is over has waited for.
const REASON: Duration = Duration::from_millis(250);
/// A look at everything takes at most one part in so many of the hub's time.
const SHARE: u32 = 10;
/// The pauses between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How far a hub is.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    is_settled: bool,
    has_stopped: bool,
}

/// What those who wait are woken by.
pub(crate) struct Progress(watch::Sender<Stage>);

impl Default for Progress {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::default()))
    }
}

impl Progress {
    /// The engine has taken something in.
    pub(crate) fn turned(&self, is_settled: bool) {
        self.0.send_modify(|stage| stage.is_settled = is_settled);
    }

    /// The hub has stopped.
    pub(crate) fn stopped(&self) {
        self.0.send_modify(|stage| stage.has_stopped = true);
    }
}

/// What this node waits for.
#[derive(Message)]
#[rtype(result = "Option<String>")]
pub(crate) struct WaitsFor;

impl Handler<WaitsFor> for HubSystem {
    type Result = Option<String>;

    fn handle(&mut self, _: WaitsFor, _: &mut Context<Self>) -> Self::Result {
        self.running.as_ref()?.engine.waits_for()
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
    /// It looks at once, and then when something has happened, but at most every 10 ms, and so seldom that
    /// the hub spends no more than a tenth of its time on it: each look is an [`inspect`](Self::inspect),
    /// and takes the longer the more children there are. What was so only for a moment may be missed.
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

    /// The error of a wait whose time is over.
    async fn over(&self) -> WaitError {
        match tokio::time::timeout(REASON, self.system().send(WaitsFor)).await {
            Ok(Ok(waits_for)) => WaitError::Timeout { waits_for },
            Ok(Err(_)) => WaitError::HubStopped,
            Err(_) => WaitError::Timeout { waits_for: None },
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
    /// How long to wait; `Settings::request_timeout` unless set, at most a day.
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
            let mut progress = self.hub.shared().progress.0.subscribe();
            let settled = progress.wait_for(|stage| stage.is_settled || stage.has_stopped);
            let settled = tokio::time::timeout(self.timeout, settled)
                .await
                .map(|stage| stage.is_ok_and(|stage| !stage.has_stopped));
            match settled {
                Ok(true) => Ok(()),
                Ok(false) => Err(WaitError::HubStopped),
                Err(_) => Err(self.hub.over().await),
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
    /// How long to wait; `Settings::request_timeout` unless set, at most a day.
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
        let Self { hub, timeout, is_so } = self;
        Box::pin(async move {
            match tokio::time::timeout(timeout, look_until(&hub, is_so)).await {
                Ok(Ok(seen)) => Ok(seen),
                Ok(Err(HubStopped)) => Err(WaitError::HubStopped),
                Err(_) => Err(hub.over().await),
            }
        })
    }
}

async fn look_until(
    hub: &Hub,
    mut is_so: impl FnMut(&Inspection) -> bool,
) -> Result<Inspection, HubStopped> {
    let mut progress = hub.shared().progress.0.subscribe();
    loop {
        // What happens from here on wakes it again.
        if progress.borrow_and_update().has_stopped {
            return Err(HubStopped);
        }
        let began = Instant::now();
        let seen = hub.system().send(Inspect).await.map_err(|_| HubStopped)??;
        if is_so(&seen) {
            return Ok(seen);
        }
        let (shortest, longest) = PAUSES;
        tokio::time::sleep((began.elapsed() * SHARE).clamp(shortest, longest)).await;
        // The sender is the hub's, which is held here.
        let _ = progress.changed().await;
    }
}
