//! To whom this node says with which heartbeat that it lives.
//!
//! With few others all are told each time. In a large mesh that would be most of what a node does:
//! n times n words in each heartbeat. There its neighbours on the ring of ids are told each time, and
//! the others in turns, so that a node says about [`TOLD`] words in each heartbeat however many there
//! are. Every heartbeat says when the next one comes at the latest, and silence is judged by that
//! ([`beats`](super::beats)).

use crate::model::id::NodeId;

/// So many others are all told with each heartbeat.
const FEW: usize = 16;
/// Of more, so many are each time.
const TOLD: usize = 10;
/// So many of these are always the same on each side of this node on the ring of ids.
const NEIGHBOURS: usize = 3;
/// With so many others each is told once in so many heartbeats of changes that press nobody: a mesh that
/// forms has some at every moment.
const NEWS_EVERY: u32 = 4;
/// Of more than those who have no link that works so many have their turn at a time to be told by way of
/// others.
pub(super) const BY_OTHERS: usize = 4;
/// The same of those who were not met, and are greeted.
pub(super) const GREETED: usize = 8;
/// The most heartbeats from one to anybody to the next.
pub(super) const LONGEST: u32 = 128;

/// Who is told with the heartbeat of now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    others: usize,
    /// How many of them come before this node on the ring.
    before: usize,
    /// How many heartbeats it takes until everybody has had a turn.
    cycle: u32,
    /// Whose turn it is.
    turn: u32,
    /// The same of news that press nobody.
    news_turn: u32,
}

impl Rhythm {
    /// With these others, sorted, at the heartbeat of this number.
    pub(super) fn of<'a>(
        me: NodeId,
        others: impl ExactSizeIterator<Item = &'a NodeId>,
        number: u64,
    ) -> Self {
        let count = others.len();
        let in_turns = count.saturating_sub(2 * NEIGHBOURS);
        let cycle = match is_sparse(count) {
            true => u32::try_from(in_turns.div_ceil(TOLD - 2 * NEIGHBOURS)).unwrap_or(LONGEST),
            false => 1,
        };
        let cycle = cycle.min(LONGEST);
        let turn = u32::try_from(number % u64::from(cycle)).unwrap_or(0);
        let news_turn = u32::try_from(number % u64::from(NEWS_EVERY)).unwrap_or(0);
        let before = others.filter(|id| **id < me).count();
        Self { others: count, before, cycle, turn, news_turn }
    }

    /// Whether the `place`th of the others is told now what has changed, if it presses nobody.
    pub(super) fn is_turn_for_news(&self, place: usize) -> bool {
        let place = u32::try_from(place % NEWS_EVERY as usize).unwrap_or(0);
        !is_sparse(self.others) || (self.news_turn + place).is_multiple_of(NEWS_EVERY)
    }

    /// After how many heartbeats the `place`th of the others is told again, if it is told now.
    pub(super) fn pause(&self, place: usize) -> u32 {
        if self.is_neighbour(place) { 1 } else { self.cycle - self.since_turn(place) }
    }

    /// Whether the `place`th of the others is told now, whatever it was told before.
    pub(super) fn is_turn(&self, place: usize) -> bool {
        self.is_neighbour(place) || self.since_turn(place) == 0
    }

    /// How many heartbeats ago it was the turn of the `place`th.
    fn since_turn(&self, place: usize) -> u32 {
        let place = u32::try_from(place % self.cycle as usize).unwrap_or(0);
        (self.turn + place) % self.cycle
    }

    fn is_neighbour(&self, place: usize) -> bool {
        let all = self.others + 1;
        // This node itself is at `before`.
        let at = if place < self.before { place } else { place + 1 };
        let ahead = (at + all - self.before) % all;
        ahead <= NEIGHBOURS || all - ahead <= NEIGHBOURS
    }
}

/// Whose turn it is of those who are told by way of others: a word takes others' time there, and in a
/// mesh that forms, where hardly anybody has a link yet, such words would leave no time for the links. A
/// turn is two heartbeats long, as a word may be lost on such a way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// After so many heartbeats it is the same one's turn again.
    cycle: u32,
    turn: u32,
}

impl Turns {
    /// Of so many, of whom `begin` have their turn at a time, at the heartbeat of this number. Few are
    /// told each time.
    pub(super) fn of(count: usize, begin: usize, number: u64) -> Self {
        let begin = if is_sparse(count) { begin } else { FEW };
        let cycle = u32::try_from(count.div_ceil(begin)).unwrap_or(LONGEST).clamp(1, LONGEST);
        Self { cycle, turn: u32::try_from(number % u64::from(cycle)).unwrap_or(0) }
    }

    /// Whether it is the turn of the one at this place.
    pub(super) fn is_turn(self, at: usize) -> bool {
        self.since_turn(at) <= 1
    }

    /// After how many heartbeats it is again, if it is told now. The first word of a turn says the same
    /// as the second.
    pub(super) fn pause(self, at: usize) -> u32 {
        self.cycle - self.since_turn(at)
    }

    fn since_turn(self, at: usize) -> u32 {
        let place = u32::try_from(at % self.cycle as usize).unwrap_or(0);
        (self.turn + place) % self.cycle
    }
}

/// Whether there are so many others that not all are told with each heartbeat.
fn is_sparse(others: usize) -> bool {
    others > FEW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<NodeId> {
        let id = |n: usize| {
            let mut key = [7; 32];
            (key[0], key[1]) = ((n >> 8) as u8, n as u8);
            NodeId::from_key(key)
        };
        (0..count).map(id).collect()
    }

    /// What the node at `at` of a ring of `count` goes by, and the others.
    fn rhythm(count: usize, at: usize, number: u64) -> (Rhythm, Vec<NodeId>) {
        let mut others = ids(count);
        let me = others.remove(at);
        (Rhythm::of(me, others.iter(), number), others)
    }

    #[test]
    fn few_are_all_told_each_time() {
        for number in 0..3 {
            let (rhythm, others) = rhythm(FEW + 1, 5, number);
            for place in 0..others.len() {
                assert!(rhythm.is_turn(place) && rhythm.pause(place) == 1);
            }
        }
        assert!(is_sparse(FEW + 1) && !is_sparse(FEW));
    }

    #[test]
    fn of_many_about_as_many_are_told_each_time_and_all_within_the_cycle() {
        for count in [FEW + 2, 64, 100, 300, 500] {
            let cycle = rhythm(count, 3, 0).0.cycle;
            let mut told = vec![0; count - 1];
            for number in 10..10 + u64::from(cycle) {
                let (rhythm, _) = rhythm(count, 3, number);
                let now: Vec<usize> = (0..count - 1).filter(|at| rhythm.is_turn(*at)).collect();
                assert!(now.len() <= TOLD + 1, "{} of {count}", now.len());
                now.into_iter().for_each(|place| told[place] += 1);
            }
            let each_time = told.iter().filter(|times| **times == cycle).count();
            assert_eq!(each_time, 2 * NEIGHBOURS, "of {count}");
            assert!(told.iter().all(|times| *times == 1 || *times == cycle), "{told:?}");
        }
        assert_eq!(rhythm(5_000, 3, 0).0.cycle, LONGEST);
    }

    #[test]
    fn of_many_each_is_told_news_that_press_nobody_once_in_four_heartbeats() {
        for number in 0..8 {
            let turns = |count: usize, place: usize| -> Vec<bool> {
                let turn = |n| rhythm(count, 5, number + n).0.is_turn_for_news(place);
                (0..4).map(turn).collect()
            };
            for place in 0..FEW {
                assert_eq!(turns(FEW + 1, place), [true; 4]);
            }
            for place in 0..99 {
                assert_eq!(turns(100, place).iter().filter(|is_turn| **is_turn).count(), 1);
            }
            let (now, others) = rhythm(101, 5, number);
            let told = (0..others.len()).filter(|place| now.is_turn_for_news(*place)).count();
            assert_eq!(told, 25, "not all at once");
        }
    }

    #[test]
    fn the_next_turn_comes_when_it_was_said() {
        for number in 0..40 {
            let (now, others) = rhythm(200, 70, number);
            for place in 0..others.len() {
                let next = u64::from(now.pause(place));
                assert!(rhythm(200, 70, number + next).0.is_turn(place));
                let between = (1..next).map(|n| rhythm(200, 70, number + n).0);
                assert!(between.into_iter().all(|rhythm| !rhythm.is_turn(place)));
            }
        }
    }

    #[test]
    fn neighbours_are_each_others() {
        let count = 61;
        let neighbours = |at: usize| -> Vec<usize> {
            let (rhythm, others) = rhythm(count, at, 1);
            let all = ids(count);
            let place = |id: &NodeId| all.iter().position(|it| it == id).expect("it is in");
            let near = (0..others.len()).filter(|at| rhythm.is_neighbour(*at));
            near.map(|at| place(&others[at])).collect()
        };
        for at in 0..count {
            let near = neighbours(at);
            assert_eq!(near.len(), 2 * NEIGHBOURS);
            assert!(near.iter().all(|other| neighbours(*other).contains(&at)), "of {at}");
        }
    }

    #[test]
    fn those_who_are_told_by_way_of_others_have_turns_of_two_heartbeats_and_few_at_a_time() {
        for count in [0, 1, 16, 17, 40, 299] {
            let (mut told, mut next) = (vec![0_u32; count], vec![u64::MAX; count]);
            let cycle = if count <= FEW { 1 } else { count.div_ceil(BY_OTHERS) as u64 };
            for number in 0..3 * cycle {
                let turns = Turns::of(count, BY_OTHERS, number);
                let now: Vec<usize> = (0..count).filter(|at| turns.is_turn(*at)).collect();
                assert!(now.len() <= FEW.min(2 * BY_OTHERS + 2).max(count.min(FEW)), "{count}");
                for at in now {
                    told[at] += 1;
                    assert!(number <= next[at], "it comes no later than it was said to");
                    next[at] = number + u64::from(turns.pause(at));
                }
                let late = (0..count).find(|at| next[*at] < number);
                assert_eq!(late, None, "of {count} at {number}");
            }
            let each = if cycle == 1 { 3 } else { 6 };
            assert!(
                told.iter().all(|times| (each - 1..=each).contains(times)),
                "{count}: {told:?}"
            );
        }
    }
}
