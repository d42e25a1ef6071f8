//! The doors as the network sees them: frames in, frames out, on the network's thread.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::doors::{Barrier, Doors};
use crate::{
    model::{
        frame::{DataFrame, Refusal},
        id::NodeRun,
    },
    net::DataPlane,
    wire::{self, WireError},
};

/// What one door may write before the next one has its turn.
const TURN: usize = 16 << 10;
/// Answers of no door that may wait for one peer.
const OUTBOX: usize = 65_536;
/// Lanes that one peer may have.
const LANES: usize = 1 << 20;

fn broken(reason: impl Into<String>) -> WireError {
    WireError::Protocol(reason.into())
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
        let Some(peer) = doors.peer(from) else {
            return Ok(());
        };
        let answer = |frame| {
            let mut outbox = peer.outbox.lock().map_err(|_| broken("the outbox is lost"))?;
            if outbox.len() >= OUTBOX {
                return Err(broken("it asks and does not read the answers"));
            }
            outbox.push_back(frame);
            drop(outbox);
            doors.data_ready(from);
            Ok(())
        };
        let cell = match &frame {
            DataFrame::Open { lane, session, child, .. } => {
                // A door is made by who runs a child or sends to it, never by a peer.
                let Some(cell) = doors.known(child) else {
                    let (lane, session) = (*lane, *session);
                    let why = Refusal::NotHere;
                    return answer(DataFrame::Refused { lane, session, why });
                };
                let mut lanes = peer.lanes.lock().map_err(|_| broken("the lanes are lost"))?;
                if lanes.len() >= LANES && !lanes.contains_key(lane) {
                    return Err(broken("it has too many lanes"));
                }
                lanes.insert(*lane, cell.clone());
                cell
            }
            DataFrame::Message { lane, .. }
            | DataFrame::Budget { lane, .. }
            | DataFrame::Settled { lane, .. } => {
                let lanes = peer.lanes.lock().map_err(|_| broken("the lanes are lost"))?;
                match lanes.get(lane) {
                    Some(cell) => cell.clone(),
                    // Its Open was refused; the lane says it again when it knows better.
                    None => return Ok(()),
                }
            }
            DataFrame::Accepted { lane, .. }
            | DataFrame::Reply { lane, .. }
            | DataFrame::Refused { lane, .. } => match doors.own_lane(*lane) {
                Some(cell) => cell,
                None => return Ok(()),
            },
            DataFrame::Last => return answer(DataFrame::LastHeard),
            DataFrame::LastHeard => {
                let mut last = peer.last.lock().map_err(|_| broken("the barrier is lost"))?;
                if *last == Barrier::Sent {
                    *last = Barrier::Heard;
                }
                drop(last);
                doors.drained.notify_waiters();
                return Ok(());
            }
        };
        let now = Instant::now();
        cell.with(|door| door.frame(now, from, frame)).map_err(|violation| broken(violation.0))
    }

    fn fill(&self, to: NodeRun, buffer: &mut BytesMut, target: usize) -> bool {
        let Some(doors) = self.0.upgrade() else {
            return false;
        };
        let Some(peer) = doors.peer(to) else {
            return false;
        };
        if let Ok(mut outbox) = peer.outbox.lock() {
            while let Some(frame) = outbox.pop_front() {
                wire::append_frame(buffer, &frame);
                if buffer.len() >= target {
                    return true;
                }
            }
        }
        let now = Instant::now();
        while let Some(cell) = peer.next_ready() {
            let before = buffer.len();
            let budget = TURN.min(target.saturating_sub(before)).max(1);
            let more = cell.with(|door| {
                door.write(now, to, budget, &mut |frame| wire::append_frame(buffer, &frame))
            });
            if more {
                peer.again(cell);
            }
            if buffer.len() >= target || more && buffer.len() == before {
                return peer.has_ready();
            }
        }
        if let Ok(mut last) = peer.last.lock()
            && *last == Barrier::Wanted
        {
            *last = Barrier::Sent;
            wire::append_frame(buffer, &DataFrame::Last);
        }
        false
    }
}
