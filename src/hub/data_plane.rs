//! The doors as the network sees them: frames in, frames out, on the network's thread.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    doors::{DoorCell, Doors, PathReport},
    exchange::{Exchange, OutOfBounds, Way},
    paths::PathNews,
};
use crate::{
    delivery::Side,
    model::{
        frame::{DataFrame, PathClosed, PathId, Refusal},
        id::NodeRun,
    },
    net::DataPlane,
    wire::{self, WireError},
};

/// What calls may write after answers have filled the buffer.
const SHARE: usize = 16 << 10;

fn broken(reason: impl Into<String>) -> WireError {
    WireError::Protocol(reason.into())
}

impl From<OutOfBounds> for WireError {
    fn from(bound: OutOfBounds) -> Self {
        broken(bound.to_string())
    }
}

/// [`Doors`] for a network; not kept alive by it, as they hold it.
pub(crate) struct Plane(pub(crate) std::sync::Weak<Doors>);

impl DataPlane for Plane {
    fn linked(&self, run: NodeRun) {
        if let Some(doors) = self.0.upgrade() {
            doors.linked(run);
        }
    }

    fn unlinked(&self, run: NodeRun) {
        if let Some(doors) = self.0.upgrade() {
            doors.unlinked(run);
        }
    }

    fn frame(&self, from: NodeRun, frame: Bytes) -> Result<(), WireError> {
        let frame = wire::decode_frame(frame)?;
        let Some(doors) = self.0.upgrade() else {
            return Ok(());
        };
        match frame {
            DataFrame::Direct { number } => {
                doors.came(from, number, Way::Link).map_err(|error| broken(error.to_string()))?;
                Ok(())
            }
            DataFrame::Path { path, word } => {
                let is_linked = |run| doors.over_link(Side::Calls, run).is_some();
                let (news, neighbours) = doors.paths.word(from, path, word, is_linked)?;
                doors.wake(neighbours);
                carry_out(&doors, news)
            }
            frame => {
                // What comes over a link that the peer does not use any more, or this node does
                // not, was sent again by another path.
                let side = side_of(&frame);
                match side.and_then(|side| doors.over_link(side, from)) {
                    Some(exchange) => take(&doors, &exchange, frame),
                    None => Ok(()),
                }
            }
        }
    }

    fn fill(&self, to: NodeRun, buffer: &mut BytesMut, target: usize) -> bool {
        // A door that was abandoned refuses what waits, and that is for this node's callers alone.
        let Some(doors) = self.0.upgrade().filter(|doors| !doors.is_stopped()) else {
            return false;
        };
        let now = Instant::now();
        let (mut more, mut is_used) = (false, false);
        for side in [Side::Answers, Side::Calls] {
            if let Some(exchange) = doors.over_link(side, to) {
                // Calls are not kept waiting by answers without end.
                let least = if side == Side::Calls { buffer.len() + SHARE } else { 0 };
                more |= exchange.write(now, buffer, target.max(least));
                is_used |= exchange.take_used();
            }
        }
        // Beyond the target: the messages of others are not kept waiting by one's own.
        let before = buffer.len();
        more |= doors.paths.fill(now, to, buffer);
        if is_used || buffer.len() > before {
            doors.use_link(to.node);
        }
        more
    }
}

/// The side of a frame as its receiver sees it. `None`: it is about no exchange.
fn side_of(frame: &DataFrame) -> Option<Side> {
    match frame {
        DataFrame::Last => Some(Side::Calls),
        DataFrame::LastHeard => Some(Side::Answers),
        frame => Side::of(frame).map(|side| match side {
            Side::Calls => Side::Answers,
            Side::Answers => Side::Calls,
        }),
    }
}

/// Takes a frame of an exchange.
fn take(
    doors: &Doors,
    exchange: &Arc<Exchange<DoorCell>>,
    frame: DataFrame,
) -> Result<(), WireError> {
    let frame = match frame {
        DataFrame::Published(publication) => {
            doors.topics.arrived(exchange.peer, publication);
            return Ok(());
        }
        frame => frame,
    };
    let answer = |frame| {
        exchange.say(frame)?;
        doors.data_ready(exchange.next_hop());
        Ok(())
    };
    let cell = match &frame {
        DataFrame::Open { lane, session, child, .. } => {
            // A door is made by who runs a child or sends to it, never by a peer.
            let Some(cell) = doors.known(child) else {
                let (lane, session) = (*lane, *session);
                return answer(DataFrame::Refused { lane, session, why: Refusal::NotHere });
            };
            if !exchange.lanes.lead(*lane, &cell) {
                let (lane, session) = (*lane, *session);
                return answer(DataFrame::Refused { lane, session, why: Refusal::Full });
            }
            Some(cell)
        }
        DataFrame::Closed { lane } => exchange.lanes.forget(*lane),
        DataFrame::Message { lane, .. }
        | DataFrame::Budget { lane, .. }
        | DataFrame::Acknowledged { lane, .. } => exchange.lanes.door(*lane),
        DataFrame::Accepted { lane, .. }
        | DataFrame::Reply { lane, .. }
        | DataFrame::Refused { lane, .. } => {
            let cell = doors.own_lane(*lane);
            if cell.is_none() {
                // Its door was forgotten while there was no path to say so by.
                doors.close_lane(exchange.peer, *lane);
            }
            cell
        }
        DataFrame::Last => {
            doors.finished(exchange);
            return answer(DataFrame::LastHeard);
        }
        DataFrame::LastHeard => {
            exchange.last_heard();
            doors.drained.notify_waiters();
            return Ok(());
        }
        DataFrame::Direct { .. } | DataFrame::Path { .. } | DataFrame::Published(_) => None,
    };
    let Some(cell) = cell else { return Ok(()) };
    let from = (exchange.peer, exchange.number);
    let gives_back = matches!(frame, DataFrame::Acknowledged { .. } | DataFrame::Closed { .. });
    let taken = cell.with(|door| door.frame(Instant::now(), from, frame));
    if gives_back {
        doors.release(&cell);
    }
    taken.map_err(|violation| broken(violation.0))
}

/// Does what follows from words of paths. An error is the neighbour's.
fn carry_out(doors: &Doors, news: Vec<PathNews<DoorCell>>) -> Result<(), WireError> {
    for one in news {
        match one {
            PathNews::Came { by, path } => {
                // That it comes too often is not the fault of the member between.
                let why = match doors.came(path.origin, path.number, Way::By(by)) {
                    Ok(true) => continue,
                    Ok(false) => PathClosed::Replaced,
                    Err(_) => PathClosed::TooMany,
                };
                doors.wake(doors.paths.refuse(by, path, why)?);
            }
            PathNews::Frame { exchange, frame } => {
                let taken = wire::decode_frame(frame).and_then(|frame| {
                    if side_of(&frame) != Some(exchange.side) {
                        return Err(broken("a frame that has no place on a path"));
                    }
                    take(doors, &exchange, frame)
                });
                if let Err(error) = taken {
                    let (peer, by) = (exchange.peer, exchange.next_hop());
                    tracing::warn!(%peer, %by, %error, "a path is closed");
                    doors.fail_path(exchange);
                }
            }
            PathNews::State { path, arrived } => {
                doors.report(PathReport::State { from: path.origin, path, arrived });
            }
            PathNews::Answered(done, outcome) => done(outcome),
            PathNews::Over(over) => doors.path_over(over),
        }
    }
    Ok(())
}

/// What became of a state that arrived by a path.
pub(crate) fn state_taken(doors: &Doors, path: PathId, outcome: Result<(), &str>) {
    let (news, neighbours) = doors.paths.state_taken(path, outcome);
    doors.wake(neighbours);
    // Only words of a neighbour can be its fault.
    let _ = carry_out(doors, news);
}
