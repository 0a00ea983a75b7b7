//! Synchronisation: copying the extents that may differ, from the better copy to the other.
//!
//! Several blocks are in flight at once, fewer while the application is active, and no more bytes
//! per second than the operator allows. When the last extent is copied both disks are flushed,
//! then the counters are agreed on.

use std::collections::BTreeSet;

use super::pace::Pace;
use super::request::{Errand, Purpose};
use super::{Mutant, Out, Primary};
use crate::engine::event::{BufId, DiskOp, FailedOp, LostReason, Notice, PrimaryAction, Time};
use crate::engine::ranges::{Access, RangeId};
use crate::engine::states::{Link, LocalEvent, Sync, SyncEvent};
use crate::terms::{Errno, SyncRate};
use crate::wire::message::{Command, Request};

/// Marks the owner of a range as a block.
pub(super) const BLOCK_OWNER: u32 = 1 << 31;

/// Extents that could not be read and are left for later at most, in one attempt.
const FAILED_MAX: usize = 1024;

/// Pause before extents that could not be read are tried again, in milliseconds.
pub(super) const RETRY_MS: u64 = 30_000;

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Not in use.
    Free,
    /// Waits for requests that overlap.
    Range,
    /// On the local disk: being read or written.
    Local,
    /// On the wire: waits for the peer's answer.
    Remote,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    step: Step,
    buf: BufId,
    extent: u64,
    offset: u64,
    length: u32,
    range: Option<RangeId>,
    generation: u32,
    /// Its synchronisation was interrupted.
    orphan: bool,
}

/// An extent that is being copied.
#[derive(Clone, Copy, Debug)]
struct Job {
    extent: u64,
    /// Where its next block begins.
    next: u64,
    end: u64,
    in_flight: u32,
    failed: bool,
    /// It was marked for synchronisation since: what is copied now is not enough.
    again: bool,
}

/// The state of the synchronisation.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) state: Sync,
    pub(super) from_peer: bool,
    pub(super) paused: bool,
    pub(super) total_bytes: u64,
    pub(super) since: Time,
    /// Version of the metadata that makes the end of it durable.
    pub(super) agreed_in: u64,
    /// The word `in step` that waits for its answer.
    pub(super) word: Option<u32>,
    /// It could not be recorded there: when to say it again.
    pub(super) tell_again: Option<Time>,
    /// The word `target` that waits for its answer, before which nothing is copied.
    pub(super) target: Option<u32>,
    blocks: Vec<Block>,
    busy: usize,
    jobs: Vec<Job>,
    cursor: u64,
    failed: BTreeSet<u64>,
    retry_at: Time,
    pub(super) pace: Pace,
    generation: u32,
}

impl Copier {
    pub(super) fn new(bufs: Vec<BufId>, now: Time) -> Copier {
        let block = |buf| Block {
            step: Step::Free,
            buf,
            extent: 0,
            offset: 0,
            length: 0,
            range: None,
            generation: 0,
            orphan: false,
        };
        Copier {
            state: Sync::Idle,
            from_peer: false,
            paused: false,
            total_bytes: 0,
            since: now,
            agreed_in: 0,
            word: None,
            tell_again: None,
            target: None,
            blocks: bufs.into_iter().map(block).collect(),
            busy: 0,
            jobs: Vec::new(),
            cursor: 0,
            failed: BTreeSet::new(),
            retry_at: now,
            pace: Pace::new(now),
            generation: 0,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// When there is something to do although nothing happens.
    pub(super) fn due(&self, rate: SyncRate) -> Option<Time> {
        match self.state {
            Sync::Waiting => Some(self.retry_at),
            Sync::Idle => self.tell_again,
            Sync::Copying if self.busy == 0 && !self.paused && self.target.is_none() => {
                Some(self.pace.due(rate))
            }
            _ => None,
        }
    }

    /// Buffer and length of a block whose data are awaited.
    pub(super) fn read_destination(&self, slot: u32, generation: u32) -> Option<(BufId, u32)> {
        let block = self.blocks.get(slot as usize)?;
        let awaited =
            self.from_peer && block.step == Step::Remote && block.generation == generation;
        awaited.then_some((block.buf, block.length))
    }

    fn change(&mut self, event: SyncEvent) {
        match self.state.next(event) {
            Some(next) => self.state = next,
            None => unreachable!("{:?} does not happen in {:?}", event, self.state),
        }
    }
}

impl Primary {
    pub(super) fn pump_sync(&mut self, out: &mut Out) {
        if self.link != Link::Up || !self.local.is_attached() || !self.is_running() {
            return;
        }
        let differs = (self.meta.localcnt, self.meta.remotecnt) != self.agreed;
        match self.copier.state {
            Sync::Idle if self.extents.sync_count() > 0 || differs => self.begin_sync(),
            Sync::Waiting if self.now >= self.copier.retry_at => {
                self.copier.failed.clear();
                self.copier.change(SyncEvent::Again);
            }
            Sync::Idle
                if self.copier.word.is_none()
                    && self.copier.tell_again.is_some_and(|due| self.now >= due) =>
            {
                self.send_in_step(out);
            }
            _ => {}
        }
        if self.copier.state != Sync::Copying {
            return;
        }
        self.announce_sync(out);
        while let Some((slot, offset, length)) = self.next_block() {
            self.start_block(slot, offset, length, out);
            self.run_released(out);
        }
        if self.copier.busy == 0 && self.copier.jobs.is_empty() {
            self.end_of_pass(out);
        }
    }

    fn begin_sync(&mut self) {
        self.copier.change(SyncEvent::Begin);
        self.copier.cursor = 0;
        self.copier.failed.clear();
        self.copier.since = self.now;
        self.copier.pace.begin(self.now);
        self.copier.total_bytes = 0;
    }

    /// There is something to copy, at the beginning or since then: it is told, and the target is
    /// marked.
    fn announce_sync(&mut self, out: &mut Out) {
        if self.copier.total_bytes > 0 || self.extents.sync_count() == 0 {
            return;
        }
        self.copier.since = self.now;
        self.copier.total_bytes = self.extents.sync_count() * self.extents.extentsize();
        out.push(PrimaryAction::Notice(Notice::SyncStarted {
            from_peer: self.copier.from_peer,
            bytes: self.copier.total_bytes,
        }));
        if !self.copier.from_peer && self.peer.steering {
            self.errands = self.errands.wrapping_add(1).max(1);
            let generation = self.errands;
            self.copier.target = Some(generation);
            self.send_errand(Command::Target, Errand::Word { generation }, out);
        }
    }

    /// Nothing is in flight and nothing can be started.
    fn end_of_pass(&mut self, out: &mut Out) {
        if self.extents.sync_count() == 0 {
            self.copier.change(SyncEvent::Copied);
            if self.broken.is(Mutant::AgreedBeforeFlush) {
                self.sync_flushed(out);
            }
        } else if self.copier.failed.len() >= FAILED_MAX
            || self.copier.failed.len() as u64 >= self.extents.sync_count()
        {
            self.copier.change(SyncEvent::Stuck);
            self.copier.retry_at = self.now.plus(RETRY_MS);
            out.push(PrimaryAction::Notice(Notice::SyncInterrupted));
        }
    }

    /// The next block to copy, if one may be started now: its slot, offset and length.
    fn next_block(&mut self) -> Option<(u32, u64, u32)> {
        let window = self.copier.blocks.len();
        let limit = if self.requests.len() > 0 {
            window.div_ceil(4)
        } else {
            window
        };
        let waits = self.copier.paused || self.copier.target.is_some();
        if waits || self.copier.busy >= limit || self.copier.state != Sync::Copying {
            return None;
        }
        let at = self.job()?;
        let job = self.copier.jobs[at];
        let length = u32::try_from(job.end - job.next).unwrap_or(u32::MAX);
        let length = length.min(self.peer.request_bytes);
        let rate = self.parameters.sync_rate;
        if !self.copier.pace.allow(rate, length, self.now) {
            return None;
        }
        let slot = self
            .copier
            .blocks
            .iter()
            .position(|block| block.step == Step::Free)?;
        self.copier.jobs[at].next += u64::from(length);
        self.copier.jobs[at].in_flight += 1;
        Some((u32::try_from(slot).ok()?, job.next, length))
    }

    /// An extent with blocks that are not started: one under way, or the next.
    fn job(&mut self) -> Option<usize> {
        let unfinished = |job: &Job| job.next < job.end && !job.failed;
        if let Some(at) = self.copier.jobs.iter().position(unfinished) {
            return Some(at);
        }
        if self.copier.failed.len() >= FAILED_MAX {
            return None;
        }
        let mut wrapped = false;
        loop {
            let Some(extent) = self.extents.next_sync(self.copier.cursor) else {
                if wrapped || self.copier.cursor == 0 {
                    return None;
                }
                self.copier.cursor = 0;
                wrapped = true;
                continue;
            };
            self.copier.cursor = extent + 1;
            let taken = self.copier.failed.contains(&extent)
                || self.copier.jobs.iter().any(|job| job.extent == extent);
            if !taken {
                let next = extent * self.extents.extentsize();
                let end = next
                    .saturating_add(self.extents.extentsize())
                    .min(self.meta.datasize);
                self.copier.jobs.push(Job {
                    extent,
                    next,
                    end,
                    in_flight: 0,
                    failed: false,
                    again: false,
                });
                return Some(self.copier.jobs.len() - 1);
            }
        }
    }

    fn start_block(&mut self, slot: u32, offset: u64, length: u32, out: &mut Out) {
        self.copier.busy += 1;
        self.copier.generation = self.copier.generation.wrapping_add(1).max(1);
        let block = &mut self.copier.blocks[slot as usize];
        block.step = Step::Range;
        block.extent = offset / self.extents.extentsize();
        block.offset = offset;
        block.length = length;
        block.generation = self.copier.generation;
        block.orphan = false;
        if self.broken.is(Mutant::SyncOverNewerWrite) {
            self.block_granted(slot, out);
            return;
        }
        let owner = slot | BLOCK_OWNER;
        let (range, granted) =
            self.ranges
                .take(offset, u64::from(length), Access::Exclusive, owner);
        self.copier.blocks[slot as usize].range = Some(range);
        if granted {
            self.block_granted(slot, out);
        }
    }

    pub(super) fn block_granted(&mut self, slot: u32, out: &mut Out) {
        let block = &mut self.copier.blocks[slot as usize];
        if block.orphan {
            self.end_block(slot, false);
        } else if self.copier.from_peer {
            block.step = Step::Remote;
            let block = *block;
            self.send_block(slot, block, Command::Read, out);
        } else {
            block.step = Step::Local;
            let Block {
                offset,
                length,
                buf,
                ..
            } = *block;
            let what = DiskOp::Read {
                offset,
                length,
                buf,
            };
            out.push(PrimaryAction::Disk {
                op: Purpose::Block(slot).op(),
                what,
            });
        }
    }

    fn send_block(&mut self, slot: u32, block: Block, command: Command, out: &mut Out) {
        let request = Request {
            command,
            seq: Errand::Block {
                slot,
                generation: block.generation,
            }
            .seq(),
            offset: block.offset,
            length: u64::from(block.length),
            memsync: false,
        };
        let data = (command == Command::Write).then_some((block.buf, 0));
        self.send(request, data, false, out);
    }

    pub(super) fn block_local_done(&mut self, slot: u32, result: Result<(), Errno>, out: &mut Out) {
        let block = self.copier.blocks[slot as usize];
        let (offset, length) = (block.offset, u64::from(block.length));
        let op = if self.copier.from_peer {
            FailedOp::SyncWrite
        } else {
            FailedOp::SyncRead
        };
        match result {
            _ if block.orphan => self.end_block(slot, false),
            Ok(()) if self.copier.from_peer => self.end_block(slot, true),
            Ok(()) => {
                // Sent: what overlaps may follow now, it comes later in the stream.
                self.copier.blocks[slot as usize].step = Step::Remote;
                self.send_block(slot, block, Command::Write, out);
                self.release_block_range(slot);
            }
            Err(_) if self.broken.is(Mutant::SyncErrorIgnored) => self.end_block(slot, true),
            Err(error) => {
                self.local_error(op, offset, length, error, out);
                self.end_block(slot, false);
                if self.copier.from_peer && self.peer_can_go_on() {
                    self.detach(out);
                }
            }
        }
    }

    /// Whether the reply belongs to a block that waits for one.
    pub(super) fn block_reply(
        &mut self,
        slot: u32,
        generation: u32,
        error: Option<Errno>,
        length: u32,
        out: &mut Out,
    ) -> bool {
        let Some(block) = self.copier.blocks.get(slot as usize).copied() else {
            return false;
        };
        if block.step != Step::Remote || block.generation != generation {
            return false;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        let from_peer = self.copier.from_peer;
        match error {
            None if length != if from_peer { block.length } else { 0 } => return false,
            None if from_peer => {
                self.copier.blocks[slot as usize].step = Step::Local;
                let Block {
                    offset,
                    length,
                    buf,
                    ..
                } = block;
                let what = DiskOp::Write {
                    offset,
                    length,
                    buf,
                    fua: false,
                };
                out.push(PrimaryAction::Disk {
                    op: Purpose::Block(slot).op(),
                    what,
                });
            }
            None => self.end_block(slot, true),
            Some(_) if self.broken.is(Mutant::SyncErrorIgnored) => self.end_block(slot, true),
            Some(error) => {
                let op = if from_peer {
                    FailedOp::SyncRead
                } else {
                    FailedOp::SyncWrite
                };
                out.push(PrimaryAction::Notice(Notice::RemoteError {
                    op,
                    offset: block.offset,
                    length: u64::from(block.length),
                    error,
                }));
                self.end_block(slot, false);
                if !from_peer {
                    self.drop_link(LostReason::RemoteFailed(error), out);
                }
            }
        }
        true
    }

    fn release_block_range(&mut self, slot: u32) {
        if let Some(range) = self.copier.blocks[slot as usize].range.take() {
            self.ranges.end(range, &mut self.released);
        }
    }

    fn end_block(&mut self, slot: u32, copied: bool) {
        self.release_block_range(slot);
        let block = &mut self.copier.blocks[slot as usize];
        block.step = Step::Free;
        let (extent, orphan) = (block.extent, block.orphan);
        self.copier.busy -= 1;
        if orphan {
            return;
        }
        let Some(at) = self.copier.jobs.iter().position(|job| job.extent == extent) else {
            unreachable!("a block belongs to an extent that is being copied");
        };
        let job = &mut self.copier.jobs[at];
        job.in_flight -= 1;
        job.failed |= !copied;
        let job = *job;
        if job.in_flight > 0 || (job.next < job.end && !job.failed) {
            return;
        }
        self.copier.jobs.swap_remove(at);
        if job.failed {
            self.copier.failed.insert(extent);
        } else if !job.again {
            self.extents.synced(extent);
        }
    }

    /// The copies differ in this range, which a request in flight holds dirty. Where the extent is
    /// being copied already, blocks of before the difference are on their way: it is copied again.
    pub(super) fn mark_sync(&mut self, offset: u64, length: u64) {
        self.extents.mark_sync(offset, length);
        let span = self.extents.span(offset, length);
        for job in &mut self.copier.jobs {
            job.again |= span.contains(&job.extent);
        }
    }

    /// The connection or the disk is gone: what was copied in part is copied again.
    pub(super) fn interrupt_sync(&mut self, out: &mut Out) {
        if self.copier.state == Sync::Idle {
            return;
        }
        if self.extents.sync_count() > 0 && self.copier.state != Sync::Waiting {
            out.push(PrimaryAction::Notice(Notice::SyncInterrupted));
        }
        self.copier.change(SyncEvent::Interrupted);
        self.copier.jobs.clear();
        for slot in 0..u32::try_from(self.copier.blocks.len()).unwrap_or(0) {
            let block = &mut self.copier.blocks[slot as usize];
            if block.step != Step::Free {
                block.orphan = true;
                if block.step == Step::Remote {
                    self.end_block(slot, false);
                }
            }
        }
    }

    /// Both disks are flushed after the last block: the counters can be agreed on.
    pub(super) fn sync_flushed(&mut self, out: &mut Out) {
        if self.copier.state != Sync::Flushing {
            return;
        }
        if self.extents.sync_count() > 0 {
            self.copier.change(SyncEvent::Again);
            self.copier.cursor = 0;
            return;
        }
        self.copier.change(SyncEvent::Flushed);
        let was_incomplete = std::mem::take(&mut self.meta.inconsistent);
        if !was_incomplete && (self.meta.localcnt, self.meta.remotecnt) == self.agreed {
            self.copier.agreed_in = self.meta_log.durable();
            self.sync_agreed(out);
            return;
        }
        (self.meta.localcnt, self.meta.remotecnt) = self.agreed;
        // Should the connection be lost from here on, the next write alone raises it again.
        self.bumped = None;
        self.copier.agreed_in = self.change_meta();
        out.push(PrimaryAction::Notice(Notice::CountersAgreed {
            localcnt: self.meta.localcnt,
            remotecnt: self.meta.remotecnt,
        }));
    }

    /// The counters are durable: the copies are equal and known to be.
    pub(super) fn sync_agreed(&mut self, out: &mut Out) {
        self.copier.change(SyncEvent::Agreed);
        self.bumped = None;
        self.change_local(LocalEvent::InStep);
        if self.copier.total_bytes > 0 {
            out.push(PrimaryAction::Notice(Notice::SyncDone));
        }
        // Whatever comes up from here on is copied from here.
        self.copier.from_peer = false;
        if self.peer.copy_states && self.copier.word.is_none() {
            self.send_in_step(out);
        }
    }

    /// Tells the peer that its copy is complete.
    pub(super) fn send_in_step(&mut self, out: &mut Out) {
        self.errands = self.errands.wrapping_add(1).max(1);
        let generation = self.errands;
        self.copier.word = Some(generation);
        self.copier.tell_again = None;
        self.send_errand(Command::InStep, Errand::Word { generation }, out);
    }
}
