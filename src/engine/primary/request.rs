//! The application's requests in flight, and the numbers under which their parts travel.

use crate::engine::event::{AppOp, AppRequest, OpId, Time};
use crate::engine::ranges::RangeId;
use crate::terms::{Errno, Replication};

/// Parts of one request on the wire at most. A request of
/// [`DISCARD_BYTES_MAX`](crate::engine::event::DISCARD_BYTES_MAX) in pieces of 128 KiB has 256.
pub(super) const PARTS_MAX: usize = 256;

/// How far one node's half of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Not started.
    Idle,
    /// Under way.
    Pending,
    /// On that node.
    Done,
    /// It failed there.
    Failed(Errno),
    /// Never asked, or the connection was lost before the answer.
    Absent,
}

impl Half {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Half::Done | Half::Failed(_) | Half::Absent)
    }
}

/// What a request waits for before it goes to the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An earlier request that overlaps.
    Range,
    /// The bitmap on disk.
    Bitmap,
    /// A copy that can serve it.
    Parked,
    /// Nothing: it is on its way.
    Issued,
}

/// A set of parts of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts([u64; PARTS_MAX / 64]);

impl Parts {
    pub(super) fn first(count: usize) -> Parts {
        let mut parts = Parts::default();
        for part in 0..count {
            parts.0[part / 64] |= 1 << (part % 64);
        }
        parts
    }

    /// Takes a part out; whether it was in.
    pub(super) fn take(&mut self, part: usize) -> bool {
        let Some(word) = self.0.get_mut(part / 64) else {
            return false;
        };
        let bit = 1 << (part % 64);
        let was_in = *word & bit != 0;
        *word &= !bit;
        was_in
    }

    pub(super) fn contains(&self, part: usize) -> bool {
        self.0
            .get(part / 64)
            .is_some_and(|word| word & 1 << (part % 64) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

/// A request of the application.
#[derive(Clone, Copy, Debug)]
pub(super) struct Req {
    pub(super) app: AppRequest,
    pub(super) generation: u32,
    /// When it came.
    pub(super) since: Time,
    /// Position in the order of arrival.
    pub(super) arrival: u64,
    /// The mode when it was issued.
    pub(super) mode: Replication,
    /// Answered only when it is durable on the peer, whatever the mode.
    pub(super) strict: bool,
    /// Named in a list of requests that wait for a record on disk.
    pub(super) waiting: bool,
    pub(super) stage: Stage,
    pub(super) local: Half,
    pub(super) remote: Half,
    pub(super) range: Option<RangeId>,
    /// Counted as a write in its extents.
    pub(super) in_extents: bool,
    /// The application has its answer.
    pub(super) answered: bool,
    /// Parts without a final reply.
    pub(super) unfinished: Parts,
    /// Parts that the peer has not even received.
    pub(super) unreceived: Parts,
    /// The remote flush of a FUA write is under way.
    pub(super) flushing: bool,
    /// Bytes of each part on the wire but the last.
    pub(super) part_bytes: u32,
    /// The local copy was tried and failed (reads).
    pub(super) local_error: Option<Errno>,
}

impl Req {
    pub(super) fn is_write(&self) -> bool {
        matches!(
            self.app.op,
            AppOp::Write { .. } | AppOp::Delete | AppOp::WriteZeroes { .. }
        )
    }

    pub(super) fn is_fua(&self) -> bool {
        matches!(
            self.app.op,
            AppOp::Write { fua: true } | AppOp::WriteZeroes { fua: true }
        )
    }

    /// Data, for which memsync has a first reply.
    pub(super) fn is_data_write(&self) -> bool {
        matches!(self.app.op, AppOp::Write { .. } | AppOp::WriteZeroes { .. })
    }
}

/// The slab of requests.
#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Option<Req>>,
    free: Vec<u32>,
    generation: u32,
    arrivals: u64,
}

impl Requests {
    pub(super) fn new(capacity: usize) -> Requests {
        Requests {
            slots: vec![None; capacity],
            free: (0..u32::try_from(capacity).unwrap_or(u32::MAX))
                .rev()
                .collect(),
            generation: 0,
            arrivals: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// # Panics
    /// If there is no room: the front end asks before.
    pub(super) fn insert(&mut self, app: AppRequest, now: Time) -> u32 {
        let Some(slot) = self.free.pop() else {
            unreachable!("the front end asks for room before it hands in a request");
        };
        self.generation = self.generation.wrapping_add(1).max(1);
        self.arrivals += 1;
        self.slots[slot as usize] = Some(Req {
            app,
            generation: self.generation,
            since: now,
            arrival: self.arrivals,
            mode: Replication::Fullsync,
            strict: false,
            waiting: false,
            stage: Stage::Range,
            local: Half::Idle,
            remote: Half::Idle,
            range: None,
            in_extents: false,
            answered: false,
            unfinished: Parts::default(),
            unreceived: Parts::default(),
            flushing: false,
            part_bytes: 0,
            local_error: None,
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    pub(super) fn find(&mut self, slot: u32) -> Option<&mut Req> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The request in a slot that is known to be taken.
    pub(super) fn at(&mut self, slot: u32) -> &mut Req {
        match self.find(slot) {
            Some(req) => req,
            None => unreachable!("slots are named by their request only"),
        }
    }

    /// The slots of the requests for which `wanted` holds, in the order of their arrival.
    pub(super) fn in_order(&self, wanted: impl Fn(&Req) -> bool) -> Vec<u32> {
        let mut found: Vec<(u64, u32)> = (0u32..)
            .zip(&self.slots)
            .filter_map(|(slot, req)| req.as_ref().map(|req| (slot, req)))
            .filter(|(_, req)| wanted(req))
            .map(|(slot, req)| (req.arrival, slot))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }
}

/// What an operation on the local disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The request in a slot.
    Request(u32),
    /// The synchronisation block in a slot.
    Block(u32),
    /// A run of the bitmap.
    Map,
    /// The metadata block.
    Meta,
    /// The flush after it.
    MetaFlush,
    /// The flush that makes extents clean.
    Clean,
}

impl Purpose {
    pub(super) fn op(self) -> OpId {
        let (kind, slot) = match self {
            Purpose::Request(slot) => (0, slot),
            Purpose::Block(slot) => (1, slot),
            Purpose::Map => (2, 0),
            Purpose::Meta => (3, 0),
            Purpose::MetaFlush => (4, 0),
            Purpose::Clean => (5, 0),
        };
        OpId(kind << 32 | u64::from(slot))
    }

    pub(super) fn of(op: OpId) -> Option<Purpose> {
        let slot = u32::try_from(op.0 & u64::from(u32::MAX)).unwrap_or(0);
        match op.0 >> 32 {
            0 => Some(Purpose::Request(slot)),
            1 => Some(Purpose::Block(slot)),
            2 => Some(Purpose::Map),
            3 => Some(Purpose::Meta),
            4 => Some(Purpose::MetaFlush),
            5 => Some(Purpose::Clean),
            _ => None,
        }
    }
}

/// What a request on the wire is for; its `seq`.
///
/// 32 bits of generation, so that a reply to an earlier holder of the slot is recognised, 2 of
/// kind, 10 of part, 20 of slot. The original keeps `seq` as it is and so does every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// A part of the request in a slot.
    Request {
        slot: u32,
        part: usize,
        generation: u32,
    },
    /// The synchronisation block in a slot.
    Block { slot: u32, generation: u32 },
    /// The flush that makes extents clean.
    Clean { generation: u32 },
    /// A word about the copies (extension `x-copy`).
    Word { generation: u32 },
}

/// The part number of the flush after a FUA write.
pub(super) const FUA_FLUSH_PART: usize = 1023;

impl Errand {
    pub(super) fn seq(self) -> u64 {
        let (generation, kind, part, slot) = match self {
            Errand::Request {
                slot,
                part,
                generation,
            } => (generation, 0, part as u64, slot),
            Errand::Block { slot, generation } => (generation, 1, 0, slot),
            Errand::Clean { generation } => (generation, 2, 0, 0),
            Errand::Word { generation } => (generation, 3, 0, 0),
        };
        u64::from(generation) << 32 | kind << 30 | part << 20 | u64::from(slot)
    }

    pub(super) fn of(seq: u64) -> Errand {
        let generation = u32::try_from(seq >> 32).unwrap_or(0);
        let slot = u32::try_from(seq & 0xf_ffff).unwrap_or(0);
        match seq >> 30 & 3 {
            0 => Errand::Request {
                slot,
                part: usize::try_from(seq >> 20 & 0x3ff).unwrap_or(0),
                generation,
            },
            1 => Errand::Block { slot, generation },
            2 => Errand::Clean { generation },
            _ => Errand::Word { generation },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_survive_the_journey() {
        for errand in [
            Errand::Request {
                slot: 0,
                part: 0,
                generation: 1,
            },
            Errand::Request {
                slot: 0xf_ffff,
                part: FUA_FLUSH_PART,
                generation: u32::MAX,
            },
            Errand::Block {
                slot: 17,
                generation: 9,
            },
            Errand::Clean { generation: 3 },
            Errand::Word { generation: 4 },
        ] {
            assert_eq!(Errand::of(errand.seq()), errand);
            assert_ne!(errand.seq(), 0);
        }
    }

    #[test]
    fn purposes_survive_the_journey() {
        for purpose in [
            Purpose::Request(5),
            Purpose::Block(6),
            Purpose::Map,
            Purpose::Clean,
        ] {
            assert_eq!(Purpose::of(purpose.op()), Some(purpose));
        }
        assert_eq!(Purpose::of(OpId(u64::MAX)), None);
    }

    #[test]
    fn a_part_is_taken_once() {
        let mut parts = Parts::first(256);
        assert!(parts.take(255) && !parts.take(255) && !parts.take(256));
        for part in 0..255 {
            assert!(!parts.is_empty() && parts.take(part));
        }
        assert!(parts.is_empty());
    }
}
