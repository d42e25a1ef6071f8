//! The room: a child of the hub. It runs on one node at a time, and its history goes along when it
//! moves.
//!
//! The room numbers its lines and publishes each under a topic, which is its own id. A topic delivers
//! at most once, so whoever shows the lines tells by the numbers that one is missing, and asks for
//! what follows the last one that it has ([`Since`]): nothing is lost or doubled, whatever happens in
//! between. A line carries an id made by its writer: saying it again, after a lost answer, changes
//! nothing.

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

/// One line of a room's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Its place: 1, 2, 3, … without gaps.
    pub number: u64,
    /// Unlike that of any other line; made by its writer.
    pub id: String,
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    pub what: What,
}

/// What a line tells. The moves of a room are lines, too: so every page shows them at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// `node` is the name of the one at which the writer sits.
    Said { user: String, node: String, text: String },
    /// The room has changed its node. `took`: microseconds from the moment the old actor stopped
    /// answering until the new one ran, by the clocks of both nodes, so exact on one machine.
    Moved { from: String, to: String, took: u64 },
}

/// Who sits at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Present {
    /// The node's name. Two nodes may have the same one.
    node: String,
    users: Vec<String>,
    /// When it last asked, in milliseconds since 1970.
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
    /// By node id.
    present: BTreeMap<String, Present>,
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

    /// After a split: what was said on the other side comes after what was said on this one.
    fn merge(&mut self, other: Self, known: &mut HashSet<String>) {
        for line in other.lines {
            self.append(line, known);
        }
    }

    fn after(&self, number: u64) -> Vec<Line> {
        let first = self.last + 1 - self.lines.len() as u64;
        let skip = number.saturating_add(1).saturating_sub(first) as usize;
        self.lines.iter().skip(skip).take(BATCH).cloned().collect()
    }
}

pub(crate) struct Room {
    child: ChildContext<Self>,
    state: RoomState,
    /// The same as `state.ids`, for looking up.
    known: HashSet<String>,
    /// A line about the move that brought it here, to be written with the first message. Not
    /// before: a move may still be called off, and its number would then be given to another line.
    arrived: Option<Line>,
}

impl Room {
    /// The name of the node it runs on.
    fn here(&self) -> String {
        self.child.hub().node_name().to_string()
    }

    fn status(&self) -> Status {
        let members = self.state.present.values().flat_map(|present| {
            let member = |user: &String| (user.clone(), present.node.clone());
            present.users.iter().map(member)
        });
        Status { here: self.here(), members: members.collect() }
    }

    /// Writes lines into the history and publishes those that are new.
    fn append(&mut self, lines: impl IntoIterator<Item = Line>) {
        let before = self.state.last;
        for line in lines {
            self.state.append(line, &mut self.known);
        }
        if self.state.last > before {
            self.publish(self.state.after(before), None);
        }
    }

    /// Tells all gateways of this room, on whichever node. What does not arrive they ask for.
    fn publish(&self, lines: Vec<Line>, status: Option<Status>) {
        let feed = Feed { life: self.state.life, lines, last: self.state.last, status };
        if let Err(error) = self.child.hub().publish(self.child.id(), feed) {
            tracing::debug!(%error, "not published");
        }
    }

    fn arrive(&mut self) {
        if let Some(line) = self.arrived.take() {
            self.append([line]);
        }
    }
}

impl Actor for Room {
    type Context = Context<Self>;

    // Runs where the room begins, and again wherever it arrives: the state is there already.
    fn started(&mut self, _: &mut Self::Context) {
        if let Some((from, left)) = self.state.left.take() {
            let now = micros();
            let what = What::Moved { from, to: self.here(), took: now.saturating_sub(left) };
            let line = Line { number: 0, id: format!("moved-{left}"), at: now / 1_000, what };
            self.arrived = Some(line);
        }
    }
}

impl HotSwap for Room {
    const KIND: &'static str = "room";
    type Args = ();
    type State = RoomState;

    fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        let state = RoomState { life: micros(), ..RoomState::default() };
        Ok(Self { child: child.clone(), state, known: HashSet::new(), arrived: None })
    }

    fn prepare_handover_state(&mut self) -> RoomState {
        self.arrive();
        RoomState { left: Some((self.here(), micros())), ..self.state.clone() }
    }

    fn alter_handover_state(&mut self, state: RoomState) {
        self.known = state.ids.iter().cloned().collect();
        self.state = state;
    }

    fn merge_diverged_state(&mut self, other: RoomState) -> MergeOutcome {
        self.state.merge(other, &mut self.known);
        MergeOutcome::Merged
    }
}

takes!(Room: [Say, Since]);

/// Say lines, once, however often they are sent: new ones, or those of an earlier life, which ended
/// with its node. At most [`BATCH`] at once.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Said")]
pub(crate) struct Say {
    /// The history that the sender knows; a room with another one takes new lines after the sender
    /// has seen, and completed, that one.
    pub life: u64,
    /// Without numbers; new ones without a time, too.
    pub lines: Vec<Line>,
}

impl HubMessage for Say {
    const NAME: &'static str = "room.say";
}

/// What became of a [`Say`].
#[derive(Clone, Debug, PartialEq, Eq, MessageResponse, Serialize, Deserialize)]
pub(crate) enum Said {
    /// They are in the history.
    Yes,
    /// The history is not the one the sender knows.
    OtherLife,
    /// They will never be taken, and this is why.
    Refused(String),
}

impl Handler<Say> for Room {
    type Result = Said;

    fn handle(&mut self, Say { life, mut lines }: Say, _: &mut Self::Context) -> Said {
        if life != self.state.life {
            return Said::OtherLife;
        }
        if let Err(problem) = lines.iter().take(BATCH).try_for_each(check_line) {
            return Said::Refused(problem);
        }
        for new in lines.iter_mut().filter(|line| line.at == 0) {
            new.at = micros() / 1_000;
        }
        self.arrive();
        self.append(lines.into_iter().take(BATCH));
        Said::Yes
    }
}

/// What follows line `after`? Asked once a second by each node that shows the room, and whenever it
/// sees that it has missed something.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Feed")]
pub(crate) struct Since {
    /// The history to which `after` belongs; 0 if none is known.
    pub life: u64,
    pub after: u64,
    /// The asking node by id and name, and who sits there.
    pub node: (String, String),
    pub users: Vec<String>,
}

impl HubMessage for Since {
    const NAME: &'static str = "room.since";
}

/// What a room tells: the answer to [`Since`], and what it publishes.
#[derive(Clone, Debug, Message, MessageResponse, Serialize, Deserialize)]
#[rtype(result = "()")]
pub(crate) struct Feed {
    pub life: u64,
    /// At most [`BATCH`] lines. An answer begins with the first line there is if the asker knows
    /// another history.
    pub lines: Vec<Line>,
    /// The number of the last line there is.
    pub last: u64,
    /// In every answer; published when it changes.
    pub status: Option<Status>,
}

impl HubMessage for Feed {
    const NAME: &'static str = "room.feed";
}

/// Where a room runs, and who is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The name of its node.
    pub here: String,
    /// Users, each with the name of the node at which it sits.
    pub members: Vec<(String, String)>,
}

impl Handler<Since> for Room {
    type Result = Feed;

    fn handle(&mut self, since: Since, _: &mut Self::Context) -> Feed {
        self.arrive();
        let before = self.status();
        let now = micros() / 1_000;
        let (id, node) = since.node;
        let state = &mut self.state;
        if since.users.is_empty() {
            state.present.remove(&id);
        } else {
            let users = since.users.into_iter().take(MEMBERS).collect();
            state.present.insert(id, Present { node, users, seen: now });
        }
        state.present.retain(|_, node| now.saturating_sub(node.seen) < PRESENCE.as_millis() as u64);
        let after = if since.life == state.life { since.after } else { 0 };
        let (life, lines, last) = (state.life, state.after(after), state.last);
        let status = self.status();
        if status != before {
            self.publish(Vec::new(), Some(status.clone()));
        }
        Feed { life, lines, last, status: Some(status) }
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
    check("the id of a line", &line.id, 64)?;
    match &line.what {
        What::Said { user, node, text } => {
            check_user(user)?;
            check("a node's name", node, 64)?;
            let length = text.chars().count();
            if text.trim().is_empty() || length > 2_000 {
                return Err(format!("a message has 1 to 2,000 characters, this one has {length}"));
            }
        }
        What::Moved { from, to, .. } => {
            check("a node's name", from, 64)?;
            check("a node's name", to, 64)?;
        }
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
        said(id, "ann", &format!("line {id}"))
    }

    fn said(id: usize, user: &str, text: &str) -> Line {
        let what = What::Said { user: user.into(), node: "a".into(), text: text.into() };
        Line { number: 0, id: id.to_string(), at: 0, what }
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
            (state, known)
        };
        let (mut state, mut known) = side(&[1, 2]);
        for _ in 0..2 {
            state.merge(side(&[1, 3]).0, &mut known);
        }
        let ids: Vec<&str> = state.lines.iter().map(|line| line.id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "3"]);
        assert_eq!(state.last, 3);
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
        assert!(check_line(&said(1, "ann", &"x".repeat(2_001))).is_err());
        assert!(check_line(&said(1, "ann", "  ")).is_err());
        assert!(check_line(&said(1, "a\nb", "x")).is_err());
        assert!(check_room("").is_err() && check_room(&"r".repeat(41)).is_err());
    }
}
