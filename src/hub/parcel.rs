//! A child's state as it travels: the state, and how far each lane's messages are in it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    model::{
        child::Epoch,
        id::ChildId,
        message::{BulkHeader, LaneMark},
    },
    wire::{self, WireError},
};

/// Marks that go in the header. Others stand before the state: of whatever number of lanes a child has
/// heard, it can move.
const IN_HEADER: usize = 4_096;
/// What the other marks may take, in bytes, beside the largest state: some 200,000.
pub(crate) const MARKS_LIMIT: usize = 16 << 20;

/// A state as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) state_version: u32,
    pub(crate) lanes: Vec<LaneMark>,
    pub(crate) bytes: Bytes,
}

impl Parcel {
    /// Header and body of the transfer for a move.
    pub(crate) fn pack(mut self, child: ChildId, epoch: Epoch) -> (BulkHeader, Bytes) {
        let rest = self.lanes.split_off(self.lanes.len().min(IN_HEADER));
        let (marks, body) = if rest.is_empty() {
            (0, self.bytes)
        } else {
            let mut body = BytesMut::new().writer();
            ciborium::into_writer(&rest, &mut body).expect("marks are plain numbers");
            let mut body = body.into_inner();
            let marks = u32::try_from(body.len()).expect("a node has far fewer lanes");
            body.extend_from_slice(&self.bytes);
            (marks, body.freeze())
        };
        let (state_version, lanes) = (self.state_version, self.lanes);
        (BulkHeader::State { child, epoch, state_version, lanes, marks }, body)
    }

    /// What has arrived, of a move or of a diverged owner.
    ///
    /// # Errors
    /// The sender did not pack it as [`pack`](Self::pack) does.
    pub(crate) fn unpack(header: &BulkHeader, mut body: Bytes) -> Result<Self, WireError> {
        let (state_version, lanes) = match header {
            BulkHeader::Diverged { state_version, .. } => (*state_version, Vec::new()),
            BulkHeader::Parked { info, .. } => (info.state_version, Vec::new()),
            BulkHeader::State { state_version, lanes, marks, .. } => {
                let mut lanes = lanes.clone();
                let length = usize::try_from(*marks).unwrap_or(usize::MAX);
                if length > body.len().min(MARKS_LIMIT) {
                    return Err(WireError::TooLarge {
                        what: "the marks before a state",
                        size: length,
                        limit: body.len().min(MARKS_LIMIT),
                    });
                }
                if length > 0 {
                    let marks = body.split_to(length);
                    lanes.extend(wire::decode_cbor::<Vec<LaneMark>>("marks", &marks)?);
                }
                (*state_version, lanes)
            }
        };
        Ok(Self { state_version, lanes, bytes: body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{LaneId, NodeId, NodeRun};

    fn parcel(lanes: usize) -> Parcel {
        let mark = |n: usize| LaneMark {
            run: NodeRun { node: NodeId::from_key([(n % 251) as u8; 32]), nonce: u64::MAX },
            lane: LaneId(u64::MAX - n as u64),
            accepted: u64::MAX,
        };
        let bytes = Bytes::from_static(b"the state");
        Parcel { state_version: 3, lanes: (0..lanes).map(mark).collect(), bytes }
    }

    fn child() -> (ChildId, Epoch) {
        (ChildId::new("c").expect("an id"), Epoch { term: 1, attempt: 2 })
    }

    #[test]
    fn a_child_that_has_heard_of_any_number_of_lanes_can_move() {
        for lanes in [0, 1, IN_HEADER, IN_HEADER + 1, 13_107, 150_000] {
            let parcel = parcel(lanes);
            let (child, epoch) = child();
            let (header, body) = parcel.clone().pack(child, epoch);
            let header = wire::encode_bulk_header(&header).expect("the header is small enough");
            let header = wire::decode_bulk_header(&header).expect("it decodes");
            assert!(body.len() <= MARKS_LIMIT + parcel.bytes.len());
            assert_eq!(Parcel::unpack(&header, body), Ok(parcel), "{lanes} lanes");
        }
    }

    #[test]
    fn marks_that_are_none_are_refused() {
        let (child, epoch) = child();
        let (header, body) = parcel(IN_HEADER + 1).pack(child, epoch);
        for cut in [0, 1, body.len() - 20] {
            assert!(Parcel::unpack(&header, body.slice(..cut)).is_err());
        }
        let mut wrong = body.to_vec();
        wrong[0] = 0xff;
        assert!(Parcel::unpack(&header, wrong.into()).is_err());
    }
}
