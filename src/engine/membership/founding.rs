//! Whether this node is in a cluster, waits to be taken into one, or founds one.
//!
//! A node founds a cluster if it has no seeds, if one of its seeds is itself, or if it was told to.
//! Every other waits: a wrong letter in one seed must not make a second cluster beside the first.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{contact::Contact, outputs::Outputs, pace::Pace, roster::Roster, timing::Timing};
use crate::model::{address::SeedOutcome, event::HubEvent, id::NodeId};

/// How often a node that waits says so.
const TELL: Duration = Duration::from_secs(10);

/// How a node is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// As a cluster of its own, at once.
    Found,
    /// It waits to be taken in; it founds only when it learns that a seed is itself.
    Seeds(Vec<String>),
    /// It waits for others that it may find (on the LAN), and founds if there are none.
    Discovery(Vec<String>),
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In no cluster.
    Waiting,
    /// In a view with others, and not settled with them yet.
    TakenIn,
    /// It founded a cluster or has settled in one: it may act, and go on alone.
    Proven,
}

/// One other node that is heard, as far as founding goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) node: NodeId,
    /// Its [`Status::waiting`](crate::model::message::Status::waiting), if its status is known.
    pub(super) waiting: Option<Option<bool>>,
}

/// Whether this node is in a cluster.
#[derive(Clone, Debug)]
pub(super) struct Founder {
    stage: Stage,
    seeds: BTreeMap<String, SeedOutcome>,
    /// Whether it founds if nobody is found.
    discovers: bool,
    /// From when on it may found, whatever seeds have not answered.
    found_at: Instant,
    tell_at: Instant,
}

impl Founder {
    pub(super) fn new(now: Instant, how: Founding, patience: Duration) -> Self {
        let (stage, seeds, discovers) = match how {
            Founding::Found => (Stage::Proven, Vec::new(), false),
            Founding::Seeds(seeds) => (Stage::Waiting, seeds, false),
            Founding::Discovery(seeds) => (Stage::Waiting, seeds, true),
        };
        Self {
            stage,
            seeds: seeds.into_iter().map(|seed| (seed, SeedOutcome::Untried)).collect(),
            discovers,
            found_at: now + patience,
            tell_at: now + TELL,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    pub(super) fn is_proven(&self) -> bool {
        self.stage == Stage::Proven
    }

    /// What the status of this node says.
    pub(super) fn waiting(&self) -> Option<bool> {
        self.is_waiting().then(|| self.may_ever_found())
    }

    fn may_ever_found(&self) -> bool {
        self.discovers || self.seeds.values().any(|outcome| *outcome == SeedOutcome::Itself)
    }

    /// What came of the latest attempt to reach a seed. Whether that is news.
    pub(super) fn seed(&mut self, seed: String, outcome: SeedOutcome) -> bool {
        match self.seeds.get_mut(&seed) {
            Some(known) => {
                let is_news = *known != outcome;
                // A name that leads to this node once leads to it for ever.
                if *known != SeedOutcome::Itself {
                    *known = outcome;
                }
                is_news
            }
            None => false,
        }
    }

    pub(super) fn seeds(&self) -> impl Iterator<Item = (&String, &SeedOutcome)> {
        self.seeds.iter()
    }

    /// Others have taken this node in, or it them.
    pub(super) fn taken_in(&mut self) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::TakenIn;
        }
    }

    /// It has settled with others.
    pub(super) fn settled(&mut self) {
        if self.stage == Stage::TakenIn {
            self.stage = Stage::Proven;
        }
    }

    /// It was cut off before it had settled: back to waiting. It knows that there is a cluster, and
    /// founds another one only after a long wait.
    pub(super) fn reset(&mut self, now: Instant, patience: Duration) {
        self.stage = Stage::Waiting;
        self.found_at = now + patience;
        self.tell_at = now + TELL;
    }

    /// Founds if this is the time. Who hears a cluster waits for it; of several that wait and may
    /// found, the one with the lowest id does.
    pub(super) fn found(
        &mut self,
        now: Instant,
        me: NodeId,
        heard: impl Iterator<Item = Heard>,
    ) -> bool {
        if !self.is_waiting() || !self.may_ever_found() {
            return false;
        }
        let heard: Vec<Heard> = heard.collect();
        // That a seed was reached is known before the link to it stands: it may well be in a cluster.
        let is_open = |outcome: &SeedOutcome| match outcome {
            SeedOutcome::Untried => true,
            SeedOutcome::Reached(node) => !heard.iter().any(|other| other.node == *node),
            SeedOutcome::Itself | SeedOutcome::Failed(_) => false,
        };
        if (self.discovers || self.seeds.values().any(is_open)) && now < self.found_at {
            return false;
        }
        let gives_way = heard.iter().any(|other| match other.waiting {
            // Its first words are on their way.
            None => now < self.found_at,
            Some(None) => true,
            Some(Some(may_found)) => may_found && other.node < me,
        });
        if !gives_way {
            self.stage = Stage::Proven;
        }
        !gives_way
    }

    /// Whether it is time to say that this node waits.
    pub(super) fn is_told(&mut self, now: Instant) -> bool {
        let due = self.is_waiting() && now >= self.tell_at;
        if due {
            self.tell_at = now + TELL;
        }
        due
    }

    /// Founds, or tells that this node waits, if this is the time.
    pub(super) fn found_or_wait(
        &mut self,
        now: Instant,
        timing: &Timing,
        roster: &Roster,
        out: &mut Outputs,
        pace: &mut Pace,
    ) {
        let heard = |contact: &&Contact| contact.is_heard(now, timing);
        let heard = roster.contacts().values().filter(heard).map(|contact| Heard {
            node: contact.life().node,
            waiting: contact.status().map(|status| status.waiting),
        });
        if self.found(now, roster.id(), heard) {
            tracing::debug!(node = %roster.id(), "this node founds a cluster");
            out.event(HubEvent::Founded);
            out.view_changed();
            pace.news();
        }
        if self.is_told(now) {
            let seeds = || self.seeds().map(|(seed, outcome)| (seed.clone(), outcome.clone()));
            let told: Vec<String> =
                seeds().map(|(seed, outcome)| format!("{seed}: {outcome}")).collect();
            tracing::debug!(node = %roster.id(), seeds = told.join(", "), "waiting for a seed");
            out.event(HubEvent::WaitingForSeeds { seeds: seeds().collect() });
        }
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let found = Some(self.found_at).filter(|at| *at > now);
        self.is_waiting().then(|| found.map_or(self.tell_at, |at| at.min(self.tell_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn seeds(names: &[&str]) -> Founding {
        Founding::Seeds(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn alone(founder: &mut Founder, now: Instant) -> bool {
        founder.found(now, id(2), std::iter::empty())
    }

    #[test]
    fn a_node_whose_seeds_are_others_never_founds() {
        let now = Instant::now();
        let mut founder = Founder::new(now, seeds(&["a", "b"]), 5 * SECOND);
        founder.seed("a".to_owned(), SeedOutcome::Failed("refused".to_owned()));
        assert!(!alone(&mut founder, now + 3_600 * SECOND));
        assert_eq!(founder.waiting(), Some(false));
    }

    #[test]
    fn a_node_among_its_own_seeds_founds_once_all_others_were_tried_or_after_a_while() {
        let now = Instant::now();
        let mut founder = Founder::new(now, seeds(&["a", "b"]), 5 * SECOND);
        founder.seed("a".to_owned(), SeedOutcome::Itself);
        assert_eq!(founder.waiting(), Some(true));
        assert!(!alone(&mut founder, now));
        assert!(alone(&mut founder.clone(), now + 5 * SECOND));
        founder.seed("b".to_owned(), SeedOutcome::Failed("refused".to_owned()));
        assert!(alone(&mut founder, now));
        assert!(founder.is_proven() && founder.waiting().is_none());
    }

    #[test]
    fn who_has_reached_another_node_waits_for_what_that_says() {
        let now = Instant::now();
        let mut founder = Founder::new(now, seeds(&["a", "b"]), 5 * SECOND);
        founder.seed("a".to_owned(), SeedOutcome::Itself);
        founder.seed("b".to_owned(), SeedOutcome::Reached(id(3)));
        assert!(!alone(&mut founder, now), "its link is about to stand");
        let given = |node: u8, waiting| {
            let heard = Heard { node: id(node), waiting };
            founder.clone().found(now, id(2), std::iter::once(heard))
        };
        assert!(!given(4, Some(Some(false))), "another than the one that was reached");
        assert!(!given(3, None) && !given(3, Some(None)));
        assert!(given(3, Some(Some(false))) && given(3, Some(Some(true))), "it waits, too");
        assert!(alone(&mut founder, now + 5 * SECOND), "nothing has come of it");
    }

    #[test]
    fn who_hears_a_cluster_or_a_lower_id_that_may_found_gives_way() {
        let now = Instant::now();
        let mut founder = Founder::new(now, seeds(&["a"]), 5 * SECOND);
        founder.seed("a".to_owned(), SeedOutcome::Itself);
        let given = |node: u8, waiting, now| {
            let heard = Heard { node: id(node), waiting };
            founder.clone().found(now, id(2), std::iter::once(heard))
        };
        assert!(!given(1, Some(None), now + 9 * SECOND), "it is in a cluster");
        assert!(!given(1, Some(Some(true)), now + 9 * SECOND));
        assert!(given(1, Some(Some(false)), now), "that one never founds");
        assert!(given(3, Some(Some(true)), now), "a higher id waits for this one");
        assert!(!given(3, None, now) && given(3, None, now + 9 * SECOND));
    }

    #[test]
    fn on_a_lan_a_node_founds_after_it_has_looked_around() {
        let now = Instant::now();
        let mut founder = Founder::new(now, Founding::Discovery(Vec::new()), 5 * SECOND);
        assert!(!alone(&mut founder, now + 4 * SECOND));
        assert_eq!(founder.deadline(now), Some(now + 5 * SECOND));
        assert!(alone(&mut founder, now + 5 * SECOND));
    }

    #[test]
    fn a_node_that_waits_says_so_again_and_again() {
        let now = Instant::now();
        let mut founder = Founder::new(now, seeds(&["a"]), 5 * SECOND);
        assert!(!founder.is_told(now + 9 * SECOND));
        assert!(founder.is_told(now + 10 * SECOND) && !founder.is_told(now + 19 * SECOND));
        assert!(founder.is_told(now + 20 * SECOND));
        founder.taken_in();
        assert!(!founder.is_told(now + 40 * SECOND) && founder.deadline(now).is_none());
    }
}
