//! One task that ends waits which are over time. No timer for each message: that costs as much as
//! the message.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use super::doors::{Doors, TICK};

/// How often doors that nobody holds are forgotten.
const PRUNE: Duration = Duration::from_secs(30);

/// Sweeps while there is something to sweep, until the hub stops.
pub(crate) async fn sweep(doors: Weak<Doors>) {
    let mut pruned = Instant::now();
    loop {
        let Some(all) = doors.upgrade() else { return };
        if all.is_stopped() {
            return;
        }
        let now = Instant::now();
        let busy = all.sweep(now);
        if now.saturating_duration_since(pruned) >= PRUNE {
            pruned = now;
            all.prune();
        }
        if busy {
            drop(all);
            tokio::time::sleep(TICK).await;
        } else {
            // A wish that came since the sweep is kept: it is not lost.
            let wanted = all.sweep_wanted.notified();
            let _ = tokio::time::timeout(PRUNE, wanted).await;
        }
    }
}
