//! What has to be on stable storage before something else may happen: bitmap commits, the
//! metadata, flushes that make extents clean, giving the local disk up, the orderly end.

use super::request::{Errand, Half, Purpose};
use super::sync::RETRY_MS;
use super::{CLEAN_INTERVAL_MAX_MS, CLEAN_INTERVAL_MS, Mutant, Out, Primary};
use crate::engine::event::{DiskOp, FailedOp, LostReason, Notice, PrimaryAction, Time};
use crate::engine::extents::MapRun;
use crate::engine::states::{Link, Local, LocalEvent, Sync};
use crate::terms::Errno;
use crate::wire::message::{Command, Request};

/// Writes of the bitmap: one group at a time.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// Number of the commit under way.
    number: Option<u64>,
    /// Number of the last that succeeded.
    pub(super) done: u64,
    /// Pieces that are not written yet.
    outstanding: usize,
    /// They are on stable storage when they are done.
    durable: bool,
    failed: Option<Errno>,
    runs: Vec<MapRun>,
    /// Requests that wait for the one under way.
    waiting: Vec<u32>,
    /// Requests that wait for the next.
    next: Vec<u32>,
    /// The next is wanted although nobody waits for it.
    wanted: bool,
}

impl Commit {
    pub(super) fn wait(&mut self, commit: u64, slot: u32) {
        if self.number == Some(commit) {
            self.waiting.push(slot);
        } else {
            self.next.push(slot);
        }
    }
}

/// Writes of the metadata: versions of what is in memory.
#[derive(Debug, Default)]
pub(super) struct MetaLog {
    /// Version that is to be written.
    wanted: u64,
    /// Version on disk.
    durable: u64,
    writing: Option<u64>,
    /// A write failed: the disk says something else than the memory.
    unsaved: bool,
}

impl MetaLog {
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }
}

/// A flush of both disks, which makes the extents that cooled before it clean.
#[derive(Debug)]
pub(super) struct Clean {
    local: Half,
    remote: Half,
    /// When the next may begin.
    pub(super) next: Time,
    /// The next may begin then if nothing is written any more.
    earliest: Time,
    /// Pause until `next`, which grows while flushing is in vain.
    interval_ms: u64,
    /// Extents that the last one began with, and made clean.
    begun: usize,
    cleaned: usize,
    generation: u32,
    /// It covers every block of the synchronisation.
    for_sync: bool,
}

impl Clean {
    pub(super) fn new(now: Time) -> Clean {
        Clean {
            local: Half::Idle,
            remote: Half::Idle,
            next: now,
            earliest: now,
            interval_ms: CLEAN_INTERVAL_MS,
            begun: 0,
            cleaned: 0,
            generation: 0,
            for_sync: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.local != Half::Idle
    }

    /// When extents that cool are to be flushed for. A disk that rests is flushed soon; one whose
    /// extents are written again as soon as they are clean is left in peace: each flush is paid
    /// for by writing everything back, and each extent's next write by writing the bitmap.
    pub(super) fn due(&self, written: Time) -> Time {
        let rested = written.plus(CLEAN_INTERVAL_MS).max(self.earliest);
        self.next.min(rested)
    }
}

/// Who records that the local copy is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorder {
    Nobody,
    Disk {
        /// The version of the metadata that says so.
        version: u64,
    },
    Peer,
}

/// How far the orderly end of the role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Running,
    /// Requests and blocks are in flight.
    Draining,
    Flushing,
    Committing,
    Recording {
        /// Version of the metadata.
        version: u64,
    },
    Stopped,
}

impl Primary {
    // ---- bitmap

    pub(super) fn pump_commit(&mut self, out: &mut Out) {
        if self.commit.number.is_some() || !self.local.is_attached() {
            return;
        }
        let for_link = self
            .link_commit
            .is_some_and(|commit| commit > self.commit.done);
        if self.commit.next.is_empty() && !self.commit.wanted && !for_link {
            return;
        }
        self.commit.wanted = false;
        self.commit.runs.clear();
        let Some(number) = self.extents.begin_commit(&mut self.commit.runs) else {
            return;
        };
        self.commit.number = Some(number);
        self.commit.failed = None;
        self.commit.outstanding = self.commit.runs.len();
        self.commit.durable = self.parameters.metaflush;
        std::mem::swap(&mut self.commit.waiting, &mut self.commit.next);
        self.statistics.map_updates += 1;
        for &(offset, length) in &self.commit.runs {
            let what = DiskOp::MapWrite {
                offset,
                length,
                durable: self.commit.durable,
            };
            out.push(PrimaryAction::Disk {
                op: Purpose::Map.op(),
                what,
            });
        }
    }

    pub(super) fn map_written(&mut self, result: Result<(), Errno>, out: &mut Out) {
        self.commit.outstanding -= 1;
        if let Err(error) = result {
            self.commit.failed = Some(error);
        }
        if self.commit.outstanding > 0 {
            return;
        }
        let result = self.commit.failed.map_or(Ok(()), Err);
        self.extents.end_commit(result.is_ok());
        if let Some(number) = self.commit.number.take()
            && result.is_ok()
        {
            self.commit.done = number;
        }
        let mut waiting = std::mem::take(&mut self.commit.waiting);
        let error = match result {
            Ok(()) => None,
            Err(error) => {
                self.local_error(FailedOp::Map, 0, 0, error, out);
                if self.peer_can_go_on() {
                    self.detach(out);
                }
                self.local.is_attached().then_some(error)
            }
        };
        for slot in waiting.drain(..) {
            match error {
                None => self.issue(slot, out),
                Some(error) => {
                    self.answer(slot, Err(error), out);
                    self.finish(slot, out);
                }
            }
        }
        self.commit.waiting = waiting;
        match error {
            Some(error) if self.link == Link::Merging => {
                self.drop_link(LostReason::LocalFailed(error), out);
            }
            _ => self.advance_link(out),
        }
    }

    // ---- metadata

    /// The metadata in memory have changed: the version to wait for.
    pub(super) fn change_meta(&mut self) -> u64 {
        self.meta_log.unsaved = false;
        self.meta_log.wanted += 1;
        self.meta_log.wanted
    }

    /// The version to wait for until the disk says what the memory says.
    pub(super) fn meta_version(&mut self) -> u64 {
        if self.meta_log.unsaved {
            self.change_meta()
        } else {
            self.meta_log.wanted
        }
    }

    pub(super) fn pump_meta(&mut self, out: &mut Out) {
        if self.meta_log.writing.is_none() && self.meta_log.wanted > self.meta_log.durable {
            self.meta_log.writing = Some(self.meta_log.wanted);
            let op = Purpose::Meta.op();
            out.push(PrimaryAction::Disk {
                op,
                what: DiskOp::MetaWrite,
            });
        }
    }

    pub(super) fn meta_written(&mut self, result: Result<(), Errno>, out: &mut Out) {
        if result.is_ok() && self.parameters.metaflush {
            let op = Purpose::MetaFlush.op();
            out.push(PrimaryAction::Disk {
                op,
                what: DiskOp::Flush,
            });
        } else {
            self.meta_flushed(result, out);
        }
    }

    pub(super) fn meta_flushed(&mut self, result: Result<(), Errno>, out: &mut Out) {
        let Some(version) = self.meta_log.writing.take() else {
            unreachable!("the metadata are written once at a time");
        };
        if let Err(error) = result {
            self.meta_failed(error, out);
            return;
        }
        self.meta_log.durable = version;
        let mut waiting = std::mem::take(&mut self.wait_meta);
        waiting.retain(|&(wanted, slot)| {
            if wanted <= version {
                self.requests.at(slot).waiting = false;
                self.settle(slot, out);
            }
            wanted > version
        });
        waiting.append(&mut self.wait_meta);
        self.wait_meta = waiting;
        self.advance_link(out);
        if self.copier.state == Sync::Agreeing && self.copier.agreed_in <= version {
            self.sync_agreed(out);
        }
        if let Recorder::Disk { version: wanted } = self.recorder
            && wanted <= version
        {
            self.recorded(out);
        }
    }

    fn meta_failed(&mut self, error: Errno, out: &mut Out) {
        self.local_error(FailedOp::Metadata, 0, 0, error, out);
        self.meta_log.wanted = self.meta_log.durable;
        self.meta_log.unsaved = true;
        self.bumped = None;
        for (_, slot) in std::mem::take(&mut self.wait_meta) {
            // Nothing says that this node was written alone, so the write cannot be promised.
            self.requests.at(slot).waiting = false;
            self.answer(slot, Err(error), out);
            self.finish(slot, out);
        }
        let link_waits = matches!(self.link, Link::Preparing | Link::Merging)
            && self.link_meta > self.meta_log.durable;
        if link_waits || self.copier.state == Sync::Agreeing {
            self.drop_link(LostReason::LocalFailed(error), out);
        }
        if matches!(self.recorder, Recorder::Disk { .. }) {
            self.not_recorded(out);
        }
    }

    /// Whether the metadata on disk say that this node was written alone.
    pub(super) fn is_bumped(&self) -> bool {
        if self.broken.is(Mutant::BumpForgotten) && self.agreed == (0, 0) {
            return true;
        }
        let awaited = |version| version <= self.meta_log.durable;
        self.bumped
            .is_some_and(|v| awaited(v) || self.broken.is(Mutant::BumpNotAwaited))
    }

    /// Raises `localcnt` above what the peer knows, once: the version of the metadata to wait for.
    pub(super) fn bump(&mut self, out: &mut Out) -> u64 {
        if let Some(version) = self.bumped {
            return version;
        }
        if self.meta.resuid == 0 {
            self.meta.resuid = self.fresh_resuid;
        }
        self.meta.localcnt = self.meta.localcnt.saturating_add(1);
        let version = self.change_meta();
        self.bumped = Some(version);
        out.push(PrimaryAction::Notice(Notice::LocalcntBumped(
            self.meta.localcnt,
        )));
        version
    }

    // ---- becoming clean

    pub(super) fn pump_clean(&mut self, out: &mut Out) {
        if self.clean.is_running() || self.link != Link::Up || !self.local.is_attached() {
            return;
        }
        let for_sync = self.copier.state == Sync::Flushing;
        let due = self.extents.cooling() > 0 && self.now >= self.clean.due(self.written);
        if for_sync || due {
            self.start_clean(true, for_sync, out);
        }
    }

    /// Flushes the local disk and, with it, the peer's.
    fn start_clean(&mut self, with_peer: bool, for_sync: bool, out: &mut Out) {
        let dirty_again = self.extents.take_dirty_again();
        let worth = self.clean.cleaned.saturating_sub(dirty_again);
        self.clean.interval_ms = if worth.saturating_mul(2) >= self.clean.begun {
            CLEAN_INTERVAL_MS
        } else {
            (self.clean.interval_ms * 2).min(CLEAN_INTERVAL_MAX_MS)
        };
        self.clean.begun = self.extents.cooling();
        self.extents.begin_clean();
        self.clean.generation = self.clean.generation.wrapping_add(1).max(1);
        self.clean.for_sync = for_sync;
        self.clean.local = Half::Pending;
        self.clean.remote = match (with_peer, self.peer_flushes) {
            (false, _) => Half::Absent,
            (true, false) => Half::Done,
            (true, true) => Half::Pending,
        };
        if self.broken.is(Mutant::CleanWithoutFlush) {
            self.clean.remote = Half::Done;
            self.clean_local_done(Ok(()), out);
            return;
        }
        out.push(PrimaryAction::Disk {
            op: Purpose::Clean.op(),
            what: DiskOp::Flush,
        });
        if self.clean.remote == Half::Pending {
            let generation = self.clean.generation;
            self.send_errand(Command::Flush, Errand::Clean { generation }, out);
        }
    }

    pub(super) fn clean_local_done(&mut self, result: Result<(), Errno>, out: &mut Out) {
        self.clean.local = match result {
            Ok(()) => Half::Done,
            Err(error) => Half::Failed(error),
        };
        self.clean_settle(out);
        if let Err(error) = result {
            self.local_error(FailedOp::Flush, 0, 0, error, out);
            if self.peer_can_go_on() {
                self.detach(out);
            } else if self.copier.state == Sync::Flushing {
                self.drop_link(LostReason::LocalFailed(error), out);
            }
        }
    }

    /// Whether the reply belongs to the flush under way.
    pub(super) fn clean_remote_done(
        &mut self,
        generation: u32,
        error: Option<Errno>,
        out: &mut Out,
    ) -> bool {
        if self.clean.remote != Half::Pending || self.clean.generation != generation {
            return false;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        match error {
            Some(Errno::EOPNOTSUPP) => self.peer_cannot_flush(out),
            Some(error) => {
                out.push(PrimaryAction::Notice(Notice::RemoteError {
                    op: FailedOp::Flush,
                    offset: 0,
                    length: 0,
                    error,
                }));
                self.drop_link(LostReason::RemoteFailed(error), out);
                return true;
            }
            None => {}
        }
        self.clean.remote = Half::Done;
        self.clean_settle(out);
        true
    }

    pub(super) fn clean_lost(&mut self, out: &mut Out) {
        if self.clean.is_running() {
            // Also an answer that came already is worth nothing: what became dirty since and was
            // not answered is in doubt.
            self.clean.remote = Half::Absent;
            self.clean_settle(out);
        }
    }

    fn clean_settle(&mut self, out: &mut Out) {
        if !self.clean.local.is_over() || !self.clean.remote.is_over() {
            return;
        }
        let flushed = self.clean.local == Half::Done && self.clean.remote == Half::Done;
        self.clean.cleaned = self.extents.end_clean(flushed && self.local.is_attached());
        self.commit.wanted |= flushed && self.extents.is_changed();
        self.clean.local = Half::Idle;
        self.clean.remote = Half::Idle;
        self.clean.next = self.now.plus(self.clean.interval_ms);
        self.clean.earliest = self.now.plus(CLEAN_INTERVAL_MS);
        if std::mem::take(&mut self.clean.for_sync) && flushed {
            self.sync_flushed(out);
        }
    }

    // ---- giving the local disk up

    /// Whether the peer has all the data, so that it can serve without the local disk.
    pub(super) fn peer_can_go_on(&self) -> bool {
        self.link == Link::Up
            && self.local.is_attached()
            && (self.copier.from_peer || self.extents.sync_count() == 0)
    }

    /// A local write failed: the peer serves alone from now on.
    pub(super) fn detach(&mut self, out: &mut Out) {
        self.change_local(LocalEvent::WriteFailed);
        out.push(PrimaryAction::Notice(Notice::Detached));
        self.interrupt_sync(out);
        self.recorder = Recorder::Disk {
            version: self.change_meta(),
        };
        for slot in std::mem::take(&mut self.commit.next) {
            self.issue(slot, out);
        }
    }

    fn recorded(&mut self, out: &mut Out) {
        self.change_local(LocalEvent::Recorded);
        self.detach_decided(out);
    }

    /// The local disk does not even take the mark: the peer may be able to remember.
    pub(super) fn not_recorded(&mut self, out: &mut Out) {
        let ask = self.recorder != Recorder::Peer && self.link == Link::Up && self.peer.copy_states;
        if ask {
            self.recorder = Recorder::Peer;
            self.send_ahead(out);
        } else {
            self.change_local(LocalEvent::NotRecorded);
            self.detach_decided(out);
        }
    }

    /// Tells the peer that its copy is the only one.
    pub(super) fn send_ahead(&mut self, out: &mut Out) {
        self.errands = self.errands.wrapping_add(1).max(1);
        self.word = Some(self.errands);
        let generation = self.errands;
        self.send_errand(Command::Ahead, Errand::Word { generation }, out);
    }

    fn detach_decided(&mut self, out: &mut Out) {
        self.recorder = Recorder::Nobody;
        for slot in std::mem::take(&mut self.wait_detach) {
            self.requests.at(slot).waiting = false;
            self.settle(slot, out);
        }
        self.unpark(out);
    }

    /// Whether the reply belongs to a word that was sent.
    pub(super) fn word_reply(
        &mut self,
        generation: u32,
        error: Option<Errno>,
        out: &mut Out,
    ) -> bool {
        if self.word == Some(generation) {
            self.word = None;
            self.outstanding = self.outstanding.saturating_sub(1);
            match error {
                None if self.local == Local::Detaching => self.recorded(out),
                None => {}
                Some(_) if self.local == Local::Detaching => self.not_recorded(out),
                Some(error) => self.drop_link(LostReason::RemoteFailed(error), out),
            }
            true
        } else if self.copier.word == Some(generation) {
            self.copier.word = None;
            self.outstanding = self.outstanding.saturating_sub(1);
            if error.is_some() && self.peer.steering {
                self.copier.tell_again = Some(self.now.plus(RETRY_MS));
            }
            true
        } else if self.copier.target == Some(generation) {
            self.copier.target = None;
            self.outstanding = self.outstanding.saturating_sub(1);
            if let Some(error) = error {
                self.drop_link(LostReason::RemoteFailed(error), out);
            }
            true
        } else {
            false
        }
    }

    /// Sends a request without offset and length.
    pub(super) fn send_errand(&mut self, command: Command, errand: Errand, out: &mut Out) {
        let request = Request {
            command,
            seq: errand.seq(),
            offset: 0,
            length: 0,
            memsync: false,
        };
        self.send(request, None, false, out);
    }

    // ---- the end of the role

    pub(super) fn begin_stop(&mut self, out: &mut Out) {
        if self.stop == Stop::Running {
            self.stop = Stop::Draining;
            if self.link != Link::Up {
                // No new session: it would have to be recorded on the disk that is being left.
                self.drop_link(LostReason::Asked, out);
            }
        }
    }

    pub(super) fn pump_stop(&mut self, out: &mut Out) {
        match self.stop {
            Stop::Running | Stop::Stopped => return,
            Stop::Draining => {
                self.expire_parked(out);
                let busy = self.requests.len() > 0
                    || self.copier.is_busy()
                    || self.clean.is_running()
                    || self.commit.number.is_some()
                    || self.meta_log.writing.is_some();
                if busy {
                    return;
                }
                let in_step = self.link == Link::Up
                    && self.copier.state == Sync::Idle
                    && self.extents.sync_count() == 0;
                if in_step {
                    // Both copies are equal: nothing will have to be synchronised.
                    self.extents.cool_all();
                }
                self.stop = Stop::Flushing;
                if self.local.is_attached() {
                    self.start_clean(in_step, false, out);
                }
            }
            Stop::Flushing if !self.clean.is_running() => self.stop = Stop::Committing,
            Stop::Committing if self.commit.number.is_none() && !self.commit.wanted => {
                self.stop = Stop::Recording {
                    version: self.change_meta(),
                };
            }
            Stop::Recording { version } => {
                let failed = version > self.meta_log.wanted;
                if failed || version <= self.meta_log.durable {
                    self.stop = Stop::Stopped;
                    self.drop_link(LostReason::Asked, out);
                    out.push(PrimaryAction::Stopped);
                }
                return;
            }
            Stop::Flushing | Stop::Committing => return,
        }
        self.pump_stop(out);
    }
}
