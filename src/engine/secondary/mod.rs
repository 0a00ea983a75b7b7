//! The secondary: one session with one primary.
//!
//! # Interleavings that matter
//!
//! **Parallel requests.** The original's secondary does one thing after the other. Here requests
//! run in parallel, and what that order guaranteed is kept: requests that overlap run in the order
//! received, reads beside reads excepted (`ranges`); a flush starts when every write received
//! before it has ended, and what is written after it waits for it: in async the application goes
//! on when its own disk is flushed, and a power failure here must not keep what it wrote then and
//! lose what it wrote before.
//!
//! **memsync and the loss of the primary.** `received` is a promise: the data will be on this disk
//! unless this node fails as well. So when the connection is lost, every write that was received
//! is still carried out before the session ends and this node may be promoted.
//!
//! **The bitmap.** It is ours until the primary has merged it and stored the result, which is
//! known when its first request arrives; only then it is cleared here. A crash before that sends
//! it again, a crash after it finds it in the primary's.
//!
//! **A crash during the first full synchronisation.** A copy that is being filled for the first
//! time is marked as inconsistent, if the primary is one that tells when it is complete
//! (`x-copy`), so that it cannot be taken for a good one.

mod handshake;
mod serve;

use std::collections::{BTreeSet, VecDeque};

use self::serve::Op;
use super::event::{
    FailedOp, LostReason, Notice, OpId, PeerLimits, SecondaryAction, SecondaryEvent, Time,
};
use super::flushed;
use super::mutant::{Broken, Mutant};
use super::ranges::Ranges;
use super::states::{Session, SessionEvent};
use super::statistics::Statistics;
use crate::disk::layout::Metadata;
use crate::terms::{Errno, Role};

/// Silence of the primary after which it counts as gone, in milliseconds: twice the interval of
/// keepalives (spec/01, 3). One of ours that serves sends them three times within its timeout.
pub const SILENCE_MS: u64 = 2 * super::primary::KEEPALIVE_MS;

/// What a session starts with.
#[derive(Clone, Debug)]
pub struct SecondaryConfig {
    /// As read from the disk.
    pub metadata: Metadata,
    /// The bitmap, as read from the disk.
    pub map: Vec<u8>,
    /// Bytes that one write to the bitmap changes at least, and the unit of requests.
    pub sector_bytes: u32,
    /// Whether bitmap and metadata writes are flushed.
    pub metaflush: bool,
    /// Silence after which a primary of ours counts as gone, in milliseconds, [`SILENCE_MS`] at
    /// most. Both nodes are configured alike.
    pub timeout_ms: u64,
    /// Requests in progress at most.
    pub requests_max: usize,
    /// How to be wrong, for tests.
    pub mutant: Option<Mutant>,
}

/// The state of a secondary, for the operator and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondaryStatus {
    /// The session.
    pub session: Session,
    /// Requests in progress.
    pub requests: usize,
    /// Dirty bytes by its own bitmap.
    pub dirty_bytes: u64,
    /// Generations written alone.
    pub localcnt: u64,
    /// The peer's, as last agreed.
    pub remotecnt: u64,
    /// Whether the copy is known to be unusable.
    pub inconsistent: bool,
    /// What was done so far.
    pub statistics: Statistics,
}

/// Something to be recorded on disk, one thing at a time: the bitmap, then the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Idle,
    Map {
        outstanding: usize,
        failed: Option<Errno>,
    },
    MapFlush,
    Meta,
    MetaFlush,
}

/// What waits for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    /// The answer to the handshake.
    Handshake,
    /// Nobody: the bitmap is cleared.
    Nobody,
    /// The reply to a word of the primary.
    Word { seq: u64 },
    /// The reply to the word that this copy is complete.
    InStep { seq: u64 },
}

/// The state machine of a secondary's session.
#[derive(Debug)]
pub struct Secondary {
    now: Time,
    broken: Broken,
    sector_bytes: u32,
    metaflush: bool,
    timeout_ms: u64,
    meta: Metadata,
    /// The bitmap in memory.
    map: Vec<u8>,
    /// The bitmap on disk, as far as it was written.
    map_on_disk: Vec<u8>,
    /// The primary has not stored the merged bitmap yet.
    map_is_ours: bool,
    /// The answer's bitmap is all ones instead.
    full: bool,
    session: Session,
    ended: LostReason,
    heard: Time,
    answer: Option<crate::wire::message::SecondaryHello>,
    primary_remotecnt: u64,
    peer: PeerLimits,

    record: Record,
    /// Who waits for the record under way, and what is to be recorded next.
    waiter: Waiter,
    records: VecDeque<(bool, Waiter)>,

    ops: Vec<Option<Op>>,
    free: Vec<u32>,
    ranges: Ranges,
    released: Vec<u32>,
    arrivals: u64,
    /// Writes that have not ended, by arrival.
    writes: BTreeSet<u64>,
    /// Flushes that wait for writes, in order.
    flushes: VecDeque<u32>,
    /// Flushes that have not ended, by arrival.
    barriers: BTreeSet<u64>,
    /// Writes that wait for an earlier flush.
    held: Vec<u32>,
    statistics: Statistics,
}

type Out = Vec<SecondaryAction>;

const OP_MAP: u64 = 1 << 32;
const OP_MAP_FLUSH: u64 = 2 << 32;
const OP_META: u64 = 3 << 32;
const OP_META_FLUSH: u64 = 4 << 32;

impl Secondary {
    /// A session whose two connections exist and whose disk is open.
    pub fn new(config: SecondaryConfig, now: Time) -> Secondary {
        let requests = u32::try_from(config.requests_max).unwrap_or(u32::MAX);
        Secondary {
            now,
            broken: Broken(config.mutant),
            sector_bytes: config.sector_bytes,
            metaflush: config.metaflush,
            timeout_ms: config.timeout_ms.min(SILENCE_MS),
            meta: config.metadata,
            map_on_disk: config.map.clone(),
            map: config.map,
            map_is_ours: true,
            full: false,
            session: Session::Waiting,
            ended: LostReason::Asked,
            heard: now,
            answer: None,
            primary_remotecnt: 0,
            peer: PeerLimits::default(),
            record: Record::Idle,
            waiter: Waiter::Nobody,
            records: VecDeque::new(),
            ops: vec![None; config.requests_max],
            free: (0..requests).rev().collect(),
            ranges: Ranges::new(),
            released: Vec::new(),
            arrivals: 0,
            writes: BTreeSet::new(),
            flushes: VecDeque::new(),
            barriers: BTreeSet::new(),
            held: Vec::new(),
            statistics: Statistics::default(),
        }
    }

    /// Takes one event; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Time, event: SecondaryEvent, out: &mut Out) {
        self.now = self.now.max(now);
        match event {
            SecondaryEvent::Hello { hello, peer } => self.hello(&hello, peer, out),
            SecondaryEvent::Request {
                request,
                data,
                zeroes,
            } => {
                self.request(request, data, zeroes, out);
            }
            SecondaryEvent::DiskDone { op, result } => self.disk_done(op, result, out),
            SecondaryEvent::Lost(reason) => self.end(reason),
            SecondaryEvent::Tick => {}
            SecondaryEvent::Stop => self.end(LostReason::Asked),
        }
        if self.deadline().is_some_and(|due| self.now >= due) {
            self.end(LostReason::Timeout);
        }
        self.run_released(out);
        self.pump_records(out);
        self.pump_end(out);
    }

    /// Whether another request may be handed in.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// When `Tick` is due if nothing else happens before. While requests are in progress the
    /// primary's next words may be waiting for room, so that it cannot be said to be silent.
    pub fn deadline(&self) -> Option<Time> {
        if self.free.len() < self.ops.len() {
            return None;
        }
        match self.session {
            Session::Serving if self.peer.heartbeat => Some(self.heard.plus(self.timeout_ms)),
            Session::Waiting | Session::Adopting | Session::Greeted | Session::Serving => {
                Some(self.heard.plus(SILENCE_MS))
            }
            Session::Draining | Session::Ended => None,
        }
    }

    /// The metadata that `MetaWrite` writes.
    pub fn metadata(&self) -> Metadata {
        self.meta.clone()
    }

    /// Bytes of the bitmap: what `MapWrite` writes.
    pub fn map_bytes(&self, offset: u64, length: u32) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        &self.map[start..start + length as usize]
    }

    /// The bitmap that goes with the answer to the handshake, if its `mapsize` is not 0.
    pub fn answer_map(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.full {
            vec![0xff; self.map.len()].into()
        } else {
            self.map.as_slice().into()
        }
    }

    /// State for the operator.
    pub fn status(&self) -> SecondaryStatus {
        let dirty: u64 = self
            .map
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum();
        SecondaryStatus {
            session: self.session,
            requests: self.ops.len() - self.free.len(),
            dirty_bytes: dirty.saturating_mul(u64::from(self.meta.extentsize)),
            localcnt: self.meta.localcnt,
            remotecnt: self.meta.remotecnt,
            inconsistent: self.meta.inconsistent,
            statistics: self.statistics,
        }
    }

    fn change(&mut self, event: SessionEvent) -> bool {
        let next = self.session.next(event);
        if let Some(next) = next {
            self.session = next;
        }
        next.is_some()
    }

    /// The connection is gone or to be given up: nothing is answered any more, what was received
    /// is carried out.
    fn end(&mut self, reason: LostReason) {
        if !matches!(self.session, Session::Draining | Session::Ended) {
            self.ended = reason;
            self.change(SessionEvent::End);
        }
    }

    fn pump_end(&mut self, out: &mut Out) {
        if self.session == Session::Draining
            && self.free.len() == self.ops.len()
            && self.record == Record::Idle
            && self.records.is_empty()
        {
            self.change(SessionEvent::Drained);
            out.push(SecondaryAction::Stopped(self.ended));
        }
    }

    fn disk_done(&mut self, op: OpId, result: Result<(), Errno>, out: &mut Out) {
        match op.0 {
            OP_MAP => self.map_written(result, out),
            OP_MAP_FLUSH => self.map_recorded(flushed(result), out),
            OP_META => self.meta_written(result, out),
            OP_META_FLUSH => self.recorded(flushed(result), out),
            slot => self.op_done(u32::try_from(slot).unwrap_or(u32::MAX), result, out),
        }
    }

    fn local_error(&mut self, op: FailedOp, offset: u64, length: u64, error: Errno, out: &mut Out) {
        self.statistics.count_failure(op);
        out.push(SecondaryAction::Notice(Notice::LocalError {
            op,
            offset,
            length,
            error,
        }));
    }

    /// Whether anything is still told to the primary.
    fn is_connected(&self) -> bool {
        !matches!(self.session, Session::Draining | Session::Ended)
    }

    fn adopt_role(&mut self) -> bool {
        std::mem::replace(&mut self.meta.prevrole, Role::Secondary) != Role::Secondary
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
