//! The room: a child of the hub. It runs on one node at a time, and its history goes along when it
//! moves.
//!
//! The room numbers its lines. Whoever shows them asks for what follows the last number that it
//! has, so that nothing is lost or doubled by construction, whatever happens in between. A line
//! carries an id made by its writer: saying it again, after a lost answer, changes nothing.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

/// Lines that a room remembers.
const HISTORY: usize = 1_000;
/// Ids that a room remembers, so that a line that comes again is known.
const IDS: usize = 4 * HISTORY;
/// Lines in one answer: with the longest lines it stays below the hub's limit for a message.
pub(crate) const BATCH: usize = 64;
/// A node that has not asked for this long shows the room to nobody any more.
const PRESENCE: Duration = Duration::from_secs(3);
/// Members of one node that are told to the others.
const MEMBERS: usize = 100;

/// One line of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Its place: 1, 2, 3, … without gaps.
    pub number: u64,
    /// Made by its writer, unlike that of any other line.
    pub id: String,
    pub user: String,
    /// The node at which the writer sits.
    pub node: String,
    pub text: String,
    /// When it was said, in milliseconds since 1970.
    pub at: u64,
}

/// The last time the room changed its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub from: String,
    pub to: String,
    /// From the moment the old actor stopped answering until the new one ran. Measured with the
    /// clocks of both nodes: exact on one machine. In microseconds.
    pub took: u64,
    /// Which move this is: 1, 2, 3, …
    pub count: u64,
}

/// Who sits at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Present {
    users: Vec<String>,
    seen: u64,
}

/// Everything a room knows; this travels when it moves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomState {
    /// When this history began, in microseconds since 1970. A room that lost its node without a
    /// hand-over begins a new one, which is how others see that it forgot.
    life: u64,
    lines: VecDeque<Line>,
    last: u64,
    ids: VecDeque<String>,
    present: BTreeMap<String, Present>,
    moved: Option<Moved>,
    /// Where and when (microseconds since 1970) this was written down for a move.
    left: Option<(String, u64)>,
}

impl RoomState {
    fn append(&mut self, mut line: Line, known: &mut HashSet<String>) -> bool {
        if !known.insert(line.id.clone()) {
            return false;
        }
        self.last += 1;
        line.number = self.last;
        self.ids.push_back(line.id.clone());
        self.lines.push_back(line);
        if self.ids.len() > IDS {
            self.ids.pop_front().map(|id| known.remove(&id));
        }
        if self.lines.len() > HISTORY {
            self.lines.pop_front();
        }
        true
    }

    fn after(&self, number: u64) -> Vec<Line> {
        let first = self.last + 1 - self.lines.len() as u64;
        let skip = number.saturating_add(1).saturating_sub(first) as usize;
        self.lines.iter().skip(skip).take(BATCH).cloned().collect()
    }
}

pub(crate) struct Room {
    /// The name of the node it runs on.
    here: String,
    state: RoomState,
    /// The same as `state.ids`, for looking up.
    known: HashSet<String>,
}

impl Actor for Room {
    type Context = Context<Self>;

    // Runs where the room begins, and again wherever it arrives: the state is there already.
    fn started(&mut self, _: &mut Self::Context) {
        if let Some((from, at)) = self.state.left.take() {
            let count = self.state.moved.as_ref().map_or(1, |moved| moved.count + 1);
            let took = micros().saturating_sub(at);
            self.state.moved = Some(Moved { from, to: self.here.clone(), took, count });
        }
    }
}

impl HotSwap for Room {
    const KIND: &'static str = "room";
    type Args = ();
    type State = RoomState;

    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        let state = RoomState { life: micros(), ..RoomState::default() };
        Ok(Self { here: child.hub().node_name().to_string(), state, known: HashSet::new() })
    }

    fn prepare_handover_state(&mut self) -> RoomState {
        RoomState { left: Some((self.here.clone(), micros())), ..self.state.clone() }
    }

    fn alter_handover_state(&mut self, state: RoomState) {
        self.known = state.ids.iter().cloned().collect();
        self.state = state;
    }

    // After a split: what was said on the other side comes after what was said on this one.
    fn merge_diverged_state(&mut self, other: RoomState) -> MergeOutcome {
        for line in other.lines {
            self.state.append(line, &mut self.known);
        }
        MergeOutcome::Merged
    }
}

takes!(Room: [Say, Since, Restore]);

/// Say a line, once, however often it is sent. Answered with its number.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Said")]
pub(crate) struct Say {
    /// The history that the sender knows; a room with another one takes the line after the sender
    /// has seen, and completed, that one.
    pub life: u64,
    pub line: Line,
}

impl HubMessage for Say {
    const NAME: &'static str = "room.say";
}

/// What became of a [`Say`].
#[derive(Clone, Debug, PartialEq, Eq, MessageResponse, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It is in the history.
    Yes,
    /// The history is not the one the sender knows.
    OtherLife,
    /// It will never be taken, and this is why.
    Refused(String),
}

impl Handler<Say> for Room {
    type Result = Said;

    fn handle(&mut self, Say { life, mut line }: Say, _: &mut Self::Context) -> Said {
        if life != self.state.life {
            return Said::OtherLife;
        }
        if let Err(problem) = check_line(&line) {
            return Said::Refused(problem);
        }
        line.at = micros() / 1_000;
        self.state.append(line, &mut self.known);
        Said::Yes
    }
}

/// What follows line `after`? Asked again and again by each node that shows the room.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Feed")]
pub(crate) struct Since {
    /// The history to which `after` belongs; 0 if none is known.
    pub life: u64,
    pub after: u64,
    /// The asking node, and who sits there.
    pub node: String,
    pub users: Vec<String>,
}

impl HubMessage for Since {
    const NAME: &'static str = "room.since";
}

/// The answer to [`Since`].
#[derive(Clone, Debug, PartialEq, MessageResponse, Serialize, Deserialize)]
pub(crate) struct Feed {
    pub life: u64,
    /// At most [`BATCH`] lines; from the first one on if the history is another than the asker's.
    pub lines: Vec<Line>,
    /// The number of the last line there is.
    pub last: u64,
    /// The node on which the room runs.
    pub here: String,
    pub moved: Option<Moved>,
    /// Who is in the room, by node.
    pub members: BTreeMap<String, Vec<String>>,
}

impl Handler<Since> for Room {
    type Result = Feed;

    fn handle(&mut self, since: Since, _: &mut Self::Context) -> Feed {
        let now = micros() / 1_000;
        let state = &mut self.state;
        if since.users.is_empty() {
            state.present.remove(&since.node);
        } else {
            let users = since.users.into_iter().take(MEMBERS).collect();
            state.present.insert(since.node, Present { users, seen: now });
        }
        state.present.retain(|_, node| now.saturating_sub(node.seen) < PRESENCE.as_millis() as u64);
        let after = if since.life == state.life { since.after } else { 0 };
        Feed {
            life: state.life,
            lines: state.after(after),
            last: state.last,
            here: self.here.clone(),
            moved: state.moved.clone(),
            members: state
                .present
                .iter()
                .map(|(node, p)| (node.clone(), p.users.clone()))
                .collect(),
        }
    }
}

/// Take back lines of an earlier life, which ended with its node: what anybody has seen is not
/// forgotten. At most [`BATCH`] at once. Answered with whether the room is still in this life.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "bool")]
pub(crate) struct Restore {
    /// The new life, into which they go.
    pub life: u64,
    pub lines: Vec<Line>,
}

impl HubMessage for Restore {
    const NAME: &'static str = "room.restore";
}

impl Handler<Restore> for Room {
    type Result = bool;

    fn handle(&mut self, Restore { life, lines }: Restore, _: &mut Self::Context) -> bool {
        if life != self.state.life {
            return false;
        }
        for line in lines.into_iter().filter(|line| check_line(line).is_ok()) {
            self.state.append(line, &mut self.known);
        }
        true
    }
}

/// A room's name as people may choose it.
pub(crate) fn check_room(name: &str) -> Result<(), String> {
    check("a room's name", name, 40)
}

/// A user's name.
pub(crate) fn check_user(name: &str) -> Result<(), String> {
    check("a name", name, 30)
}

fn check_line(line: &Line) -> Result<(), String> {
    check_user(&line.user)?;
    check("the id of a line", &line.id, 64)?;
    check("a node's name", &line.node, 64)?;
    let length = line.text.chars().count();
    if line.text.trim().is_empty() || length > 2_000 {
        return Err(format!("a line has 1 to 2,000 characters, this one has {length}"));
    }
    Ok(())
}

fn check(what: &str, text: &str, limit: usize) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > limit || text.chars().any(char::is_control) {
        return Err(format!("{what} has 1 to {limit} characters, all on one line"));
    }
    Ok(())
}

/// Microseconds since 1970.
pub(crate) fn micros() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: usize) -> Line {
        let (id, text) = (id.to_string(), format!("line {id}"));
        Line { number: 0, id, user: "ann".into(), node: "a".into(), text, at: 0 }
    }

    #[test]
    fn a_line_said_twice_is_there_once() {
        let (mut state, mut known) = (RoomState::default(), HashSet::new());
        assert!(state.append(line(1), &mut known));
        assert!(!state.append(line(1), &mut known));
        assert_eq!(state.after(0).len(), 1);
    }

    #[test]
    fn after_a_split_every_line_of_both_sides_is_there_once() {
        let side = |lines: &[usize]| {
            let (mut state, mut known) = (RoomState::default(), HashSet::new());
            lines.iter().for_each(|id| assert!(state.append(line(*id), &mut known)));
            Room { here: "a".into(), state, known }
        };
        let mut room = side(&[1, 2]);
        for _ in 0..2 {
            assert_eq!(room.merge_diverged_state(side(&[1, 3]).state), MergeOutcome::Merged);
        }
        let texts: Vec<String> = room.state.lines.iter().map(|line| line.text.clone()).collect();
        assert_eq!(texts, ["line 1", "line 2", "line 3"]);
        assert_eq!(room.state.last, 3);
    }

    #[test]
    fn who_asks_after_each_last_number_gets_every_line_once_and_in_order() {
        let (mut state, mut known) = (RoomState::default(), HashSet::new());
        (0..300).for_each(|id| assert!(state.append(line(id), &mut known)));
        let mut got: Vec<Line> = Vec::new();
        loop {
            let more = state.after(got.last().map_or(0, |line| line.number));
            if more.is_empty() {
                break;
            }
            got.extend(more);
        }
        assert!(got.iter().map(|line| line.number).eq(1..=300));
    }

    #[test]
    fn an_old_line_makes_room_for_a_new_one() {
        let (mut state, mut known) = (RoomState::default(), HashSet::new());
        (0..HISTORY + 5).for_each(|id| assert!(state.append(line(id), &mut known)));
        assert_eq!(state.lines.len(), HISTORY);
        assert_eq!(state.after(0)[0].number, 6);
        assert!(state.after(HISTORY as u64 + 5).is_empty());
        assert!(state.after(u64::MAX).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_or_empty_is_refused() {
        assert!(check_line(&line(1)).is_ok());
        assert!(check_line(&Line { text: "x".repeat(2_001), ..line(1) }).is_err());
        assert!(check_line(&Line { text: "  ".into(), ..line(1) }).is_err());
        assert!(check_line(&Line { user: "a\nb".into(), ..line(1) }).is_err());
        assert!(check_room("").is_err() && check_room(&"r".repeat(41)).is_err());
    }
}
