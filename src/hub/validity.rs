//! Until when this node may act for its children.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::uptime::Uptime;

/// Until when handlers may start and replies may go out.
///
/// A time, checked at the moment of use, and not a word of the engine alone: after a pause of the whole
/// process, or a suspend of the machine, a handler may well run before the engine does and finds out that
/// others may have taken its child over. The engine's words lengthen it; where they stay out it lapses.
#[derive(Debug)]
pub(crate) struct Validity {
    uptime: Arc<Uptime>,
    /// How long one word of the engine counts.
    length: Duration,
    /// The engine has not closed it.
    open: AtomicBool,
    /// In milliseconds of the uptime.
    until: AtomicU64,
    /// Changes whenever it holds again.
    renewed: watch::Sender<()>,
}

impl Validity {
    /// Holds for `length` from now.
    pub(crate) fn new(uptime: Arc<Uptime>, length: Duration) -> Self {
        let validity = Self {
            uptime,
            length,
            open: AtomicBool::new(true),
            until: AtomicU64::new(0),
            renewed: watch::Sender::new(()),
        };
        validity.lengthen(validity.now());
        validity
    }

    fn now(&self) -> u64 {
        u64::try_from(self.uptime.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lengthen(&self, now: u64) {
        let length = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        self.until.store(now.saturating_add(length), Ordering::Release);
    }

    /// Whether a handler may start, or a reply may go out, now.
    pub(crate) fn holds(&self) -> bool {
        self.now() < self.until.load(Ordering::Acquire)
    }

    /// Whether the engine has not closed it; it may have lapsed.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The engine has looked at the time and finds nothing against it. Tells whether it had lapsed:
    /// whoever waits for it goes on after [`told`](Self::told).
    pub(crate) fn renew(&self) -> bool {
        if !self.is_open() {
            return false;
        }
        let (now, until) = (self.now(), self.until.load(Ordering::Acquire));
        // Not written for each event.
        if until.saturating_sub(now) > self.fresh() {
            return false;
        }
        self.lengthen(now);
        // Read again: who has found it lapsed read the time before it was lengthened.
        self.now() >= until
    }

    /// What is left of the time, below which it is lengthened.
    fn fresh(&self) -> u64 {
        u64::try_from(self.length.as_millis() * 7 / 8).unwrap_or(u64::MAX)
    }

    /// How often [`renew`](Self::renew) has to be called at least.
    pub(crate) fn beat(&self) -> Duration {
        self.length / 4
    }

    /// Nothing may go on until [`open`](Self::open).
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        self.until.store(0, Ordering::Release);
    }

    /// It holds again.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.lengthen(self.now());
    }

    /// Lets those go on who wait until it holds.
    pub(crate) fn told(&self) {
        self.renewed.send_replace(());
    }

    /// Waits until it holds.
    pub(crate) async fn until_it_holds(&self) {
        let mut renewed = self.renewed.subscribe();
        while !self.holds() {
            // The sender is here.
            let _ = renewed.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(3_000);

    fn validity() -> (Arc<Uptime>, Validity) {
        let uptime = Arc::new(Uptime::new());
        (uptime.clone(), Validity::new(uptime, LENGTH))
    }

    #[test]
    fn it_lapses_by_itself_when_nobody_renews_it() {
        let (uptime, validity) = validity();
        assert!(validity.holds());
        uptime.suspend(2_999_000);
        assert!(validity.holds());
        assert!(!validity.renew(), "it had not lapsed");
        uptime.suspend(2_999_000);
        assert!(validity.holds());
        uptime.suspend(1_000);
        assert!(!validity.holds() && validity.is_open());
        assert!(validity.renew(), "who waits is to be told");
        assert!(validity.holds());
    }

    #[test]
    fn what_the_engine_has_closed_is_not_renewed_by_the_way() {
        let (_, validity) = validity();
        validity.close();
        assert!(!validity.holds());
        assert!(!validity.renew() && !validity.holds());
        validity.open();
        assert!(validity.holds());
    }

    #[actix_rt::test]
    async fn who_waits_goes_on_when_it_holds_again() {
        let (uptime, validity) = validity();
        uptime.suspend(3_000_000);
        let (waits, renews) = (validity.until_it_holds(), async {
            validity.told();
            tokio::task::yield_now().await;
            assert!(!validity.holds(), "a word alone does not open it");
            assert!(validity.renew());
            validity.told();
        });
        futures_util::future::join(waits, renews).await;
    }
}
