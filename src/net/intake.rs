//! What has come over one link and waits for the hub.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How many words and transfers of one peer may wait for the hub. All peers share one queue to it,
/// and none is behind more than so many of each other one.
const PLACES: usize = 64;

#[derive(Default)]
struct State {
    taken: usize,
    /// Until when the peer is held, if it is.
    held: Option<Instant>,
}

/// When something more may be let in.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Now,
    At(Instant),
    /// When a place is given back.
    Later,
}

impl State {
    /// A peer that is held gets one place at a time, and that not before it is time.
    fn entry(&self, now: Instant) -> Entry {
        match self.held {
            None if self.taken < PLACES => Entry::Now,
            Some(_) if self.taken > 0 => Entry::Later,
            Some(until) if now < until => Entry::At(until),
            Some(_) => Entry::Now,
            None => Entry::Later,
        }
    }
}

/// The places of one link. Whoever reads waits for one, and meanwhile reads nothing: the peer's
/// socket fills, then its own queue, and nothing is lost.
#[derive(Default)]
pub(super) struct Intake {
    state: Mutex<State>,
    given: Notify,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for what took so long to decode. May be cancelled.
    pub(super) async fn enter(self: &Arc<Self>, spent: Duration) -> Place {
        loop {
            let given = self.given.notified();
            let entry = {
                let mut state = self.state();
                let entry = state.entry(Instant::now());
                state.taken += usize::from(entry == Entry::Now);
                entry
            };
            match entry {
                Entry::Now => return Place { intake: Arc::clone(self), spent },
                Entry::At(until) => sleep_until(until).await,
                // Each place that is given back wakes one who waits, and is taken by somebody who
                // gives it back.
                Entry::Later => given.await,
            }
        }
    }
}

/// The place of one word or transfer, given back when it is dropped: when it has been dealt with.
#[derive(Debug)]
pub struct Place {
    intake: Arc<Intake>,
    spent: Duration,
}

impl Place {
    /// How long the network took to decode it.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Lets its peer go on after this time, then with one word at a time; `None`: at once.
    pub fn pace(&self, hold: Option<Duration>) {
        self.intake.state().held = hold.map(|hold| Instant::now() + hold);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.intake.state().taken -= 1;
        self.intake.given.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether there is a place now.
    async fn is_open(intake: &Arc<Intake>) -> bool {
        tokio::time::timeout(Duration::ZERO, intake.enter(Duration::ZERO)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_its_places_wait_for_the_hub() {
        let intake = Arc::new(Intake::default());
        let mut places = Vec::new();
        for _ in 0..PLACES {
            places.push(intake.enter(Duration::ZERO).await);
        }
        assert!(!is_open(&intake).await);
        places.pop();
        assert!(is_open(&intake).await);
        let waiting = [0; 3].map(|_| {
            let intake = Arc::clone(&intake);
            tokio::spawn(async move { drop(intake.enter(Duration::ZERO).await) })
        });
        places.push(intake.enter(Duration::ZERO).await);
        tokio::task::yield_now().await;
        places.pop();
        for task in waiting {
            task.await.expect("one place is enough for all, one after the other");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_held_has_one_place_when_it_is_time_and_all_when_it_is_let_go() {
        let intake = Arc::new(Intake::default());
        let (first, second) =
            (intake.enter(Duration::ZERO).await, intake.enter(Duration::ZERO).await);
        let began = Instant::now();
        second.pace(Some(250 * MS));
        drop(first);
        assert!(!is_open(&intake).await, "another one is not dealt with");
        drop(second);
        let place = intake.enter(Duration::ZERO).await;
        assert_eq!(began.elapsed(), 250 * MS, "the runtime's clock stands still but for this");
        tokio::time::advance(1_000 * MS).await;
        assert!(!is_open(&intake).await, "one at a time");
        place.pace(None);
        assert!(is_open(&intake).await);
    }
}
