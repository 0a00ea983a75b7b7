//! The primary: serves the application from both copies.
//!
//! # Interleavings that matter
//!
//! **A write against another write.** Overlapping writes take effect in the order they came, on
//! both nodes. Here the second waits until the first is on the local disk (`ranges`); the peer
//! keeps the order of the stream, so both are sent as soon as they start.
//!
//! **A write against the synchronisation.** A block that is copied to the peer holds its range
//! from before it is read until it is *sent*: a write that came before is already ahead of it in
//! the stream and in what was read, one that comes later is behind it in the stream. A block that
//! is copied from the peer holds its range until it is on the local disk, for until then it would
//! overwrite a newer write.
//!
//! **A disconnection against requests in flight.** Nobody knows whether the peer has them. Their
//! extents are dirty (write-ahead) and nothing becomes clean without a flush of *both* disks after
//! the write was done on both; the next handshake declares every dirty extent to be copied. Before
//! any of these requests is acknowledged by the local disk alone, `localcnt` is raised, durably:
//! should this node then be lost and the peer be promoted, the nodes will know that they were
//! written apart.
//!
//! **A flush against memsync and async.** A write that was acknowledged has been sent before, so a
//! flush that is sent later is behind it in the stream, and the secondary lets it wait for what it
//! has received. A flush counts on both nodes, in every mode but async.
//!
//! **A crash at each durable step.** The bit is set before the data are written: a crash between
//! leaves a dirty extent that needed no copying. The unique id is durable before it is told. The
//! merged bitmap is durable before the first request, at which the secondary clears its own. At
//! the end of a synchronisation the target is flushed, then the counters are written, then bits
//! are cleared: a crash between repeats work and loses nothing.
//!
//! **A failure during a synchronisation.** Its target is neither what it was before nor what it is
//! to be: it mixes blocks of different times. So it is marked as incomplete, durably, before the
//! first block: this copy by its own metadata, the peer's by the word `target` (`x-steer`), and the
//! mark goes when the copies are equal. Nobody becomes primary on such a copy without force.
//!
//! **Failure of the local disk.** While the peer is there, it serves alone. Before a write is
//! acknowledged without the local copy, the copy is marked unusable: on the local disk, as if it
//! had never been connected, or, where that cannot be written either, on a peer that understands
//! (`x-copy`), by raising *its* counter. If neither is possible nothing is acknowledged any more,
//! for the stale copy could later pass for the good one.

mod app;
mod durable;
mod link;
mod pace;
mod request;
mod sync;

use std::collections::VecDeque;

use self::durable::{Clean, Commit, MetaLog, Recorder, Stop};
use self::request::{Purpose, Requests};
use self::sync::Copier;
use super::event::{
    BufId, FailedOp, LostReason, Notice, OpId, Parameters, PeerLimits, PrimaryAction, PrimaryEvent,
    Time,
};
use super::extents::Extents;
use super::flushed;
use super::mutant::{Broken, Mutant};
use super::ranges::Ranges;
use super::states::{Link, LinkEvent, Local, LocalEvent, Sync};
use super::statistics::Statistics;
use crate::disk::layout::Metadata;
use crate::terms::{Errno, Role};

/// Silence after which a keepalive is sent, in milliseconds (spec/01, 5).
pub const KEEPALIVE_MS: u64 = 10_000;

/// Pause between two flushes that make extents clean, in milliseconds.
pub const CLEAN_INTERVAL_MS: u64 = 5_000;

/// The same at most, where most extents that it makes clean are written again before the next, in
/// milliseconds. What was written in that time has to be synchronised after a crash.
pub const CLEAN_INTERVAL_MAX_MS: u64 = 80_000;

/// What a primary starts with.
#[derive(Clone, Debug)]
pub struct PrimaryConfig {
    /// As read from the disk. A copy that is marked as incomplete is served from only together with
    /// the peer that has the complete one; who wants it otherwise takes the mark away before.
    pub metadata: Metadata,
    /// The bitmap, as read from the disk; long enough for every extent.
    pub map: Vec<u8>,
    /// Bytes that one write to the bitmap changes at least: the provider's sector.
    pub sector_bytes: u32,
    /// A random number, not 0: the resource's unique id, should it have none yet.
    pub fresh_resuid: u64,
    /// Parameters.
    pub parameters: Parameters,
    /// Buffers of [`crate::terms::REQUEST_BYTES_MAX`] bytes for the synchronisation; as many
    /// blocks are in flight at most.
    pub sync_bufs: Vec<BufId>,
    /// Requests of the application in flight at most, up to 2^20.
    pub requests_max: usize,
    /// How to be wrong, for tests.
    pub mutant: Option<Mutant>,
}

/// The state of a primary, for the operator and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryStatus {
    /// The connection.
    pub link: Link,
    /// The local copy.
    pub local: Local,
    /// The synchronisation.
    pub sync: Sync,
    /// Whether it copies, or will copy, from the peer.
    pub from_peer: bool,
    /// Whether the operator lets it rest.
    pub paused: bool,
    /// Bytes in dirty extents.
    pub dirty_bytes: u64,
    /// Bytes in extents that have to be copied.
    pub sync_left_bytes: u64,
    /// Bytes that this synchronisation had to copy when it began.
    pub sync_total_bytes: u64,
    /// When it began.
    pub sync_since: Time,
    /// Bytes per second that it may move now, if there is a limit.
    pub sync_limit: Option<u64>,
    /// The peer has everything, and is being told so.
    pub telling: bool,
    /// Requests of the application in flight.
    pub requests: usize,
    /// Requests that wait for a copy that can serve them.
    pub parked: usize,
    /// Generations written alone.
    pub localcnt: u64,
    /// The peer's, as last agreed.
    pub remotecnt: u64,
    /// What was done so far.
    pub statistics: Statistics,
}

/// The state machine of a primary.
#[derive(Debug)]
pub struct Primary {
    now: Time,
    parameters: Parameters,
    fresh_resuid: u64,
    broken: Broken,

    meta: Metadata,
    meta_log: MetaLog,
    /// Requests that are acknowledged when a version of the metadata is durable.
    wait_meta: Vec<(u64, u32)>,
    /// `localcnt` is ahead of what the peer knows, durably from this version on.
    bumped: Option<u64>,

    extents: Extents,
    commit: Commit,
    clean: Clean,
    ranges: Ranges,
    requests: Requests,
    /// Requests that no copy can serve now, with the time at which they fail.
    parked: VecDeque<(Time, u32)>,
    released: Vec<u32>,

    link: Link,
    peer: PeerLimits,
    peer_deletes: bool,
    peer_flushes: bool,
    local_deletes: bool,
    /// Sent and not answered.
    outstanding: u64,
    /// Keepalives among them.
    heartbeats: u64,
    heard: Time,
    sent: Time,
    /// Numbers what is sent on our own account.
    errands: u32,
    /// The unique id was made for this connection.
    virgin: bool,
    /// Version of the metadata to wait for before the hello or before `Up`.
    link_meta: u64,
    /// Commit of the bitmap to wait for before `Up`.
    link_commit: Option<u64>,
    /// The secondary's counters, as it said.
    agreed: (u64, u64),

    local: Local,
    /// Requests that failed on the local disk, done on the peer, until that is recorded.
    wait_detach: Vec<u32>,
    recorder: Recorder,
    /// The word to the peer that waits for its answer.
    word: Option<u32>,

    copier: Copier,
    stop: Stop,
    statistics: Statistics,
    /// When the application wrote last.
    written: Time,
}

type Out = Vec<PrimaryAction>;

impl Primary {
    /// A primary that has just opened its disk, without a connection.
    ///
    /// # Panics
    /// If the map is too short for the data area, `fresh_resuid` is 0 or `requests_max` too large.
    pub fn new(config: PrimaryConfig, now: Time) -> Primary {
        assert!(config.fresh_resuid != 0, "0 means none");
        assert!(
            config.requests_max <= 1 << 20,
            "slots have 20 bits on the wire"
        );
        let mut meta = config.metadata;
        meta.prevrole = Role::Primary;
        // The extents that are missing are dirty, and only the peer has them.
        let local = if meta.inconsistent {
            Local::Stale
        } else {
            Local::Good
        };
        let extents = Extents::new(
            meta.datasize,
            meta.extentsize,
            config.sector_bytes,
            meta.keepdirty,
            config.map,
        );
        Primary {
            now,
            parameters: config.parameters,
            fresh_resuid: config.fresh_resuid,
            broken: Broken(config.mutant),
            meta,
            meta_log: MetaLog::default(),
            wait_meta: Vec::new(),
            bumped: None,
            extents,
            commit: Commit::default(),
            clean: Clean::new(now),
            ranges: Ranges::new(),
            requests: Requests::new(config.requests_max),
            parked: VecDeque::new(),
            released: Vec::new(),
            link: Link::Down,
            peer: PeerLimits::default(),
            peer_deletes: true,
            peer_flushes: true,
            local_deletes: true,
            outstanding: 0,
            heartbeats: 0,
            heard: now,
            sent: now,
            errands: 0,
            virgin: false,
            link_meta: 0,
            link_commit: None,
            agreed: (0, 0),
            local,
            wait_detach: Vec::new(),
            recorder: Recorder::Nobody,
            word: None,
            copier: Copier::new(config.sync_bufs, now),
            stop: Stop::Running,
            statistics: Statistics::default(),
            written: now,
        }
    }

    /// Takes one event; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Time, event: PrimaryEvent<'_>, out: &mut Out) {
        self.now = self.now.max(now);
        match event {
            PrimaryEvent::App(request) => self.app_request(request, out),
            PrimaryEvent::DiskDone { op, result } => self.disk_done(op, result, out),
            PrimaryEvent::Linked => self.linked(out),
            PrimaryEvent::Hello { hello, map, peer } => self.hello(&hello, map, peer, out),
            PrimaryEvent::Reply { reply, length } => self.reply(reply, length, out),
            PrimaryEvent::Heartbeat => self.heartbeat(out),
            PrimaryEvent::Lost(reason) => self.lost(reason, out),
            PrimaryEvent::Tick => {}
            PrimaryEvent::Parameters(parameters) => self.parameters = parameters,
            PrimaryEvent::PauseSync(paused) => self.copier.paused = paused,
            PrimaryEvent::Stop => self.begin_stop(out),
        }
        let copies = self.copier.state == Sync::Copying && !self.copier.paused;
        self.copier.pace.pass(self.now, copies);
        self.timers(out);
        loop {
            self.run_released(out);
            self.pump_sync(out);
            self.pump_clean(out);
            self.pump_stop(out);
            self.pump_commit(out);
            self.pump_meta(out);
            if self.released.is_empty() {
                break;
            }
        }
    }

    /// Whether another request of the application may be handed in.
    pub fn has_room(&self) -> bool {
        self.requests.has_room() && self.stop == Stop::Running
    }

    /// Whether the local copy holds all that was acknowledged, so that reads of it are as good as
    /// those by requests.
    pub fn has_good_copy(&self) -> bool {
        self.local == Local::Good
    }

    /// The metadata that `MetaWrite` writes.
    pub fn metadata(&self) -> Metadata {
        if self.local.is_attached() {
            self.meta.clone()
        } else {
            self.meta.unusable()
        }
    }

    /// The bytes that a `MapWrite` writes.
    pub fn map_bytes(&self, offset: u64, length: u32) -> &[u8] {
        self.extents.map_bytes(offset, length)
    }

    /// Whether the role has ended (`Stopped` was given).
    pub fn is_stopped(&self) -> bool {
        self.stop == Stop::Stopped
    }

    /// State for the operator.
    pub fn status(&self) -> PrimaryStatus {
        PrimaryStatus {
            link: self.link,
            local: self.local,
            sync: self.copier.state,
            from_peer: self.copier.from_peer,
            paused: self.copier.paused,
            dirty_bytes: self.extents.dirty_count() * self.extents.extentsize(),
            sync_left_bytes: self.extents.sync_count() * self.extents.extentsize(),
            sync_total_bytes: self.copier.total_bytes,
            sync_since: self.copier.since,
            sync_limit: self.copier.pace.rate(self.parameters.sync_rate),
            telling: self.copier.word.is_some(),
            requests: self.requests.len(),
            parked: self.parked.len(),
            localcnt: self.meta.localcnt,
            remotecnt: self.meta.remotecnt,
            statistics: self.statistics,
        }
    }

    /// When `Tick` is due if nothing else happens before.
    pub fn deadline(&self) -> Option<Time> {
        let mut due: Option<Time> = None;
        let mut consider = |time: Time| due = Some(due.map_or(time, |d: Time| d.min(time)));
        if let Some(&(time, _)) = self.parked.front() {
            consider(time);
        }
        match self.link {
            Link::Down => {}
            Link::Preparing | Link::HelloSent | Link::Merging => {
                consider(self.heard.plus(self.parameters.timeout_ms));
            }
            Link::Up => {
                consider(self.sent.plus(self.keepalive_ms()));
                if self.outstanding > 0 {
                    consider(self.heard.plus(self.parameters.timeout_ms));
                }
                // What is not going to be done at its time is not due, or the driver would call
                // again and again.
                let attached = self.local.is_attached();
                if self.extents.cooling() > 0 && !self.clean.is_running() && attached {
                    consider(self.clean.due(self.written));
                }
                let due = self.copier.due(self.parameters.sync_rate);
                if let (Some(time), true) = (due, attached && self.is_running()) {
                    consider(time);
                }
            }
        }
        due
    }

    /// Requests that have waited for a copy long enough fail; when the role ends, all of them.
    fn expire_parked(&mut self, out: &mut Out) {
        while let Some(&(time, slot)) = self.parked.front() {
            if time > self.now && self.stop == Stop::Running {
                break;
            }
            self.parked.pop_front();
            self.answer(slot, Err(Errno::EIO), out);
            self.finish(slot, out);
        }
    }

    /// Silence of ours after which a keepalive is due. A peer that answers is asked often enough
    /// to notice its death within the timeout.
    fn keepalive_ms(&self) -> u64 {
        if self.peer.heartbeat {
            (self.parameters.timeout_ms / 3).clamp(1, KEEPALIVE_MS)
        } else {
            KEEPALIVE_MS
        }
    }

    fn is_running(&self) -> bool {
        self.stop == Stop::Running
    }

    fn timers(&mut self, out: &mut Out) {
        self.expire_parked(out);
        let waits = self.link != Link::Down && (self.link != Link::Up || self.outstanding > 0);
        if waits && self.now.since(self.heard) >= self.parameters.timeout_ms {
            self.drop_link(LostReason::Timeout, out);
        }
        if self.link == Link::Up && self.now.since(self.sent) >= self.keepalive_ms() {
            self.send_keepalive(out);
        }
    }

    fn disk_done(&mut self, op: OpId, result: Result<(), Errno>, out: &mut Out) {
        match Purpose::of(op) {
            Some(Purpose::Request(slot)) => self.request_local_done(slot, result, out),
            Some(Purpose::Block(slot)) => self.block_local_done(slot, result, out),
            Some(Purpose::Map) => self.map_written(flushed(result), out),
            Some(Purpose::Meta) => self.meta_written(result, out),
            Some(Purpose::MetaFlush) => self.meta_flushed(flushed(result), out),
            Some(Purpose::Clean) => self.clean_local_done(flushed(result), out),
            None => unreachable!("drivers answer with the op that they were given"),
        }
    }

    fn change_link(&mut self, event: LinkEvent) {
        match self.link.next(event) {
            Some(next) => self.link = next,
            None => unreachable!("{:?} does not happen in {:?}", event, self.link),
        }
    }

    fn change_local(&mut self, event: LocalEvent) {
        match self.local.next(event) {
            Some(next) => self.local = next,
            None => unreachable!("{:?} does not happen in {:?}", event, self.local),
        }
    }

    /// Counts and tells a local failure.
    fn local_error(&mut self, op: FailedOp, offset: u64, length: u64, error: Errno, out: &mut Out) {
        self.statistics.count_failure(op);
        out.push(PrimaryAction::Notice(Notice::LocalError {
            op,
            offset,
            length,
            error,
        }));
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
