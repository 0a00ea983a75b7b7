//! The application's requests, from their arrival to their release.

use super::request::{Errand, FUA_FLUSH_PART, Half, Parts, Purpose, Req, Stage};
use super::sync::BLOCK_OWNER;
use super::{Mutant, Out, Primary};
use crate::engine::event::{AppOp, AppRequest, DiskOp, FailedOp, PrimaryAction};
use crate::engine::flushed;
use crate::engine::ranges::Access;
use crate::engine::states::{Link, Local};
use crate::terms::{Errno, Replication};
use crate::wire::message::{Command, Request};

/// Which copy a read goes to.
enum Source {
    Local,
    Remote,
    Nowhere,
}

impl Primary {
    pub(super) fn app_request(&mut self, app: AppRequest, out: &mut Out) {
        let counter = match app.op {
            AppOp::Read => &mut self.statistics.reads,
            AppOp::Write { .. } | AppOp::WriteZeroes { .. } => &mut self.statistics.writes,
            AppOp::Delete => &mut self.statistics.deletes,
            AppOp::Flush => &mut self.statistics.flushes,
        };
        *counter += 1;
        let slot = self.requests.insert(app, self.now);
        self.begin(slot, out);
    }

    fn begin(&mut self, slot: u32, out: &mut Out) {
        match self.requests.at(slot).app.op {
            AppOp::Read => self.begin_read(slot, out),
            AppOp::Flush => self.issue(slot, out),
            AppOp::Write { .. } | AppOp::Delete | AppOp::WriteZeroes { .. } => {
                self.begin_write(slot, out);
            }
        }
    }

    /// Requests that waited for a copy start again, in the order in which they came.
    pub(super) fn unpark(&mut self, out: &mut Out) {
        self.parked.clear();
        for slot in self.requests.in_order(|req| req.stage == Stage::Parked) {
            self.begin(slot, out);
        }
    }

    // ---- writes, deletes, flushes

    fn begin_write(&mut self, slot: u32, out: &mut Out) {
        let app = self.requests.at(slot).app;
        if app.op == AppOp::Delete && !self.local_deletes && self.local.is_attached() {
            self.answer(slot, Err(Errno::EOPNOTSUPP), out);
            self.finish(slot, out);
            return;
        }
        if !self.can_write() {
            self.park(slot, out);
            return;
        }
        self.requests.at(slot).stage = Stage::Range;
        if app.op == AppOp::Delete && self.broken.is(Mutant::DeleteUntracked) {
            self.issue(slot, out);
            return;
        }
        let (range, granted) =
            self.ranges
                .take(app.offset, u64::from(app.length), Access::Exclusive, slot);
        self.requests.at(slot).range = Some(range);
        if granted {
            self.granted(slot, out);
        }
    }

    /// Earlier requests that overlap are over: everything that waited for them goes on.
    pub(super) fn run_released(&mut self, out: &mut Out) {
        while !self.released.is_empty() {
            let released = std::mem::take(&mut self.released);
            for &owner in &released {
                if owner & BLOCK_OWNER == 0 {
                    self.granted(owner, out);
                } else {
                    self.block_granted(owner & !BLOCK_OWNER, out);
                }
            }
        }
    }

    fn granted(&mut self, slot: u32, out: &mut Out) {
        let app = self.requests.at(slot).app;
        if self.local.is_attached() {
            self.requests.at(slot).in_extents = true;
            self.written = self.now;
            let wait = self.extents.write_start(app.offset, u64::from(app.length));
            if let Some(commit) = wait
                && !self.broken.is(Mutant::NoWriteAhead)
            {
                self.requests.at(slot).stage = Stage::Bitmap;
                self.commit.wait(commit, slot);
                return;
            }
        }
        self.issue(slot, out);
    }

    /// Sends a write, delete or flush to the peer and to the local disk.
    pub(super) fn issue(&mut self, slot: u32, out: &mut Out) {
        if !self.can_write() {
            self.park(slot, out);
            return;
        }
        let attached = self.local.is_attached();
        let req = self.requests.at(slot);
        req.stage = Stage::Issued;
        // While the peer's copy is the better one, a later handshake lets it win again: nothing
        // is promised that is not on its disk.
        req.strict = self.local == Local::Stale;
        req.mode = if req.strict {
            Replication::Fullsync
        } else {
            self.parameters.replication
        };
        req.local = if attached {
            Half::Pending
        } else {
            Half::Absent
        };
        let app = req.app;
        let is_write = req.is_write();
        let untracked = app.op == AppOp::Delete && self.broken.is(Mutant::DeleteUntracked);
        if self.link != Link::Up {
            self.requests.at(slot).remote = Half::Absent;
            if is_write && attached && !untracked && !self.broken.is(Mutant::AloneWriteForgotten) {
                self.mark_sync(app.offset, u64::from(app.length));
            }
        } else if app.op == AppOp::Delete && !self.peer_deletes {
            self.requests.at(slot).remote = Half::Done;
            if attached {
                self.mark_sync(app.offset, u64::from(app.length));
            }
        } else {
            self.send_parts(slot, out);
        }
        if attached {
            let (offset, length) = (app.offset, app.length);
            let what = match (app.op, app.buf) {
                (AppOp::Write { fua }, Some(buf)) => DiskOp::Write {
                    offset,
                    length,
                    buf,
                    fua,
                },
                (AppOp::WriteZeroes { fua }, _) => DiskOp::Zero {
                    offset,
                    length,
                    fua,
                },
                (AppOp::Delete, _) => DiskOp::Delete {
                    offset,
                    length: u64::from(length),
                },
                (AppOp::Flush, _) => DiskOp::Flush,
                (AppOp::Read | AppOp::Write { .. }, _) => {
                    unreachable!("a write comes with a buffer, and reads go elsewhere")
                }
            };
            out.push(PrimaryAction::Disk {
                op: Purpose::Request(slot).op(),
                what,
            });
        } else {
            self.end_range(slot);
        }
        self.settle(slot, out);
    }

    /// Sends a request to the peer, in pieces that it can take.
    fn send_parts(&mut self, slot: u32, out: &mut Out) {
        let limit = self.peer.request_bytes;
        let req = self.requests.at(slot);
        let app = req.app;
        let zeroes = matches!(app.op, AppOp::WriteZeroes { .. });
        let command = match app.op {
            AppOp::Read => Command::Read,
            AppOp::Write { .. } | AppOp::WriteZeroes { .. } => Command::Write,
            AppOp::Delete => Command::Delete,
            AppOp::Flush => Command::Flush,
        };
        let split = matches!(command, Command::Read | Command::Write);
        req.part_bytes = if split { limit } else { app.length.max(1) };
        let parts = app.length.div_ceil(req.part_bytes).max(1);
        let memsync = req.is_data_write() && !req.is_fua() && req.mode == Replication::Memsync;
        req.remote = Half::Pending;
        req.unfinished = Parts::first(parts as usize);
        req.unreceived = if memsync {
            req.unfinished
        } else {
            Parts::default()
        };
        let (generation, part_bytes) = (req.generation, req.part_bytes);
        for part in 0..parts {
            let start = part * part_bytes;
            let request = Request {
                command,
                seq: Errand::Request {
                    slot,
                    part: part as usize,
                    generation,
                }
                .seq(),
                offset: app.offset + u64::from(start),
                length: u64::from(part_bytes.min(app.length - start)),
                memsync,
            };
            let data = match app.op {
                AppOp::Write { .. } => app.buf.map(|buf| (buf, start)),
                _ => None,
            };
            self.send(request, data, zeroes, out);
        }
    }

    pub(super) fn request_local_done(
        &mut self,
        slot: u32,
        result: Result<(), Errno>,
        out: &mut Out,
    ) {
        let app = self.requests.at(slot).app;
        if app.op == AppOp::Read {
            self.read_local_done(slot, result, out);
            return;
        }
        let result = if app.op == AppOp::Flush {
            flushed(result)
        } else {
            result
        };
        self.requests.at(slot).local = Half::Done;
        if let Err(error) = result {
            self.write_failed(slot, error, out);
        }
        self.end_range(slot);
        self.settle(slot, out);
    }

    /// A write, delete or flush failed on the local disk.
    fn write_failed(&mut self, slot: u32, error: Errno, out: &mut Out) {
        let app = self.requests.at(slot).app;
        if self.broken.is(Mutant::LocalErrorIgnored) {
            return;
        }
        self.requests.at(slot).local = Half::Failed(error);
        if app.op == AppOp::Delete && error == Errno::EOPNOTSUPP {
            // Nothing is wrong with the disk, but the peer may have discarded the range.
            self.local_deletes = false;
            if self.local.is_attached() {
                self.mark_sync(app.offset, u64::from(app.length));
            }
            return;
        }
        let op = match app.op {
            AppOp::Delete => FailedOp::Delete,
            AppOp::Flush => FailedOp::Flush,
            AppOp::Read | AppOp::Write { .. } | AppOp::WriteZeroes { .. } => FailedOp::Write,
        };
        self.local_error(op, app.offset, u64::from(app.length), error, out);
        if self.peer_can_go_on() {
            self.detach(out);
        } else if self.local.is_attached() && app.op != AppOp::Flush {
            self.mark_sync(app.offset, u64::from(app.length));
        }
    }

    /// Answers a write, delete or flush if enough of it is done, and ends it if all of it is.
    pub(super) fn settle(&mut self, slot: u32, out: &mut Out) {
        let req = *self.requests.at(slot);
        if req.stage != Stage::Issued || req.waiting {
            return;
        }
        if !req.answered {
            match self.verdict(&req) {
                Verdict::Wait => return,
                Verdict::Answer(result) => self.answer(slot, result, out),
                Verdict::AfterBump => {
                    let version = self.bump(out);
                    self.requests.at(slot).waiting = true;
                    self.wait_meta.push((version, slot));
                    return;
                }
                Verdict::AfterDetach => {
                    self.requests.at(slot).waiting = true;
                    self.wait_detach.push(slot);
                    return;
                }
                Verdict::Park => {
                    self.park(slot, out);
                    return;
                }
            }
        }
        if req.local.is_over() && req.remote.is_over() {
            self.finish(slot, out);
        }
    }

    /// What the application can be told now.
    fn verdict(&mut self, req: &Req) -> Verdict {
        if !req.local.is_over() {
            return Verdict::Wait;
        }
        // A copy that is being given up does not count, even where it was written.
        let stored = req.local == Half::Done && self.local.is_attached();
        match req.remote {
            Half::Pending => {
                let received = req.unreceived.is_empty() || self.broken.is(Mutant::MemsyncTooEarly);
                let enough = match req.mode {
                    Replication::Fullsync => false,
                    Replication::Memsync => req.is_data_write() && !req.is_fua() && received,
                    Replication::Async => true,
                };
                if enough && stored {
                    Verdict::Answer(Ok(()))
                } else {
                    Verdict::Wait
                }
            }
            Half::Done | Half::Failed(_) if stored => Verdict::Answer(Ok(())),
            Half::Done | Half::Failed(_) => match (self.local, req.local) {
                (_, Half::Failed(Errno::EOPNOTSUPP)) if req.app.op == AppOp::Delete => {
                    Verdict::Answer(Err(Errno::EOPNOTSUPP))
                }
                (Local::Detached, _) => Verdict::Answer(Ok(())),
                (Local::Detaching, _) => Verdict::AfterDetach,
                (_, Half::Failed(error)) => Verdict::Answer(Err(error)),
                _ => Verdict::Answer(Err(Errno::EIO)),
            },
            Half::Absent if stored => {
                let nothing_new = req.app.op == AppOp::Flush && self.extents.dirty_count() == 0;
                if self.local == Local::Stale {
                    Verdict::Park
                } else if nothing_new || self.is_bumped() {
                    Verdict::Answer(Ok(()))
                } else {
                    Verdict::AfterBump
                }
            }
            Half::Absent => match req.local {
                Half::Failed(error) => Verdict::Answer(Err(error)),
                _ => Verdict::Park,
            },
            Half::Idle => Verdict::Wait,
        }
    }

    /// Whether a write can be carried out at all now.
    fn can_write(&self) -> bool {
        match self.local {
            Local::Good => true,
            Local::Stale | Local::Detached => self.link == Link::Up,
            // A write that only the peer gets needs the record that this copy is unusable: after
            // a crash nothing else would say that the copies differ.
            Local::Detaching | Local::Dead => false,
        }
    }

    /// Lets a request wait for a copy that can serve it; it fails if none comes in time.
    fn park(&mut self, slot: u32, out: &mut Out) {
        self.unwind(slot);
        if self.local == Local::Dead {
            self.answer(slot, Err(Errno::EIO), out);
            self.finish(slot, out);
            return;
        }
        let req = self.requests.at(slot);
        req.stage = Stage::Parked;
        req.local = Half::Idle;
        req.remote = Half::Idle;
        self.parked
            .push_back((self.now.plus(self.parameters.timeout_ms), slot));
    }

    // ---- reads

    fn read_source(&self, app: &AppRequest) -> Source {
        let remote = if self.link == Link::Up {
            Source::Remote
        } else {
            Source::Nowhere
        };
        match self.local {
            Local::Good => Source::Local,
            Local::Stale if self.broken.is(Mutant::ReadsIgnoreStale) => Source::Local,
            Local::Stale if self.extents.needs_sync(app.offset, u64::from(app.length)) => remote,
            Local::Stale => Source::Local,
            Local::Detaching | Local::Detached | Local::Dead => remote,
        }
    }

    fn begin_read(&mut self, slot: u32, out: &mut Out) {
        let app = self.requests.at(slot).app;
        match self.read_source(&app) {
            Source::Local => self.read_local(slot, out),
            Source::Remote => {
                self.requests.at(slot).stage = Stage::Issued;
                self.send_parts(slot, out);
            }
            Source::Nowhere => self.park(slot, out),
        }
    }

    fn read_local(&mut self, slot: u32, out: &mut Out) {
        let req = self.requests.at(slot);
        req.stage = Stage::Issued;
        req.local = Half::Pending;
        let AppRequest {
            offset,
            length,
            buf,
            ..
        } = req.app;
        let Some(buf) = buf else {
            unreachable!("a read comes with a buffer");
        };
        let what = DiskOp::Read {
            offset,
            length,
            buf,
        };
        out.push(PrimaryAction::Disk {
            op: Purpose::Request(slot).op(),
            what,
        });
    }

    fn read_local_done(&mut self, slot: u32, result: Result<(), Errno>, out: &mut Out) {
        let req = self.requests.at(slot);
        let app = req.app;
        let Err(error) = result else {
            req.local = Half::Idle;
            if matches!(self.read_source(&app), Source::Local) {
                self.answer(slot, Ok(()), out);
                self.finish(slot, out);
            } else {
                // Meanwhile it turned out that the peer's copy is the better one.
                self.begin_read(slot, out);
            }
            return;
        };
        req.local = Half::Failed(error);
        req.local_error = Some(error);
        let range = (app.offset, u64::from(app.length));
        self.local_error(FailedOp::Read, range.0, range.1, error, out);
        let remote_is_good = self.copier.from_peer
            || !self.extents.needs_sync(range.0, range.1)
            || self.broken.is(Mutant::ReadsIgnoreStale);
        if self.link == Link::Up && remote_is_good {
            self.send_parts(slot, out);
        } else {
            self.answer(slot, Err(error), out);
            self.finish(slot, out);
        }
    }

    /// The peer could not read.
    pub(super) fn read_remote_failed(&mut self, slot: u32, error: Errno, out: &mut Out) {
        let req = self.requests.at(slot);
        req.remote = Half::Failed(error);
        req.unfinished = Parts::default();
        let (app, tried) = (req.app, req.local_error.is_some());
        if !tried && matches!(self.read_source(&app), Source::Local) {
            self.read_local(slot, out);
        } else {
            self.answer(slot, Err(error), out);
            self.finish(slot, out);
        }
    }

    // ---- the remote half

    /// A part of a request was answered.
    pub(super) fn part_done(&mut self, slot: u32, part: usize, out: &mut Out) {
        let req = self.requests.at(slot);
        if part != FUA_FLUSH_PART && !req.unfinished.is_empty() {
            self.settle_if_write(slot, out);
            return;
        }
        // In async nobody waits for it, unless the local disk is given up in the meantime.
        let durable = req.strict || req.is_fua();
        let needs_flush = part != FUA_FLUSH_PART && durable && req.is_write();
        if needs_flush {
            req.flushing = true;
            let request = Request {
                command: Command::Flush,
                seq: Errand::Request {
                    slot,
                    part: FUA_FLUSH_PART,
                    generation: req.generation,
                }
                .seq(),
                offset: 0,
                length: 0,
                memsync: false,
            };
            self.send(request, None, false, out);
            return;
        }
        req.remote = Half::Done;
        if req.app.op == AppOp::Read {
            self.answer(slot, Ok(()), out);
            self.finish(slot, out);
        } else {
            self.settle(slot, out);
        }
    }

    pub(super) fn settle_if_write(&mut self, slot: u32, out: &mut Out) {
        if self.requests.at(slot).app.op != AppOp::Read {
            self.settle(slot, out);
        }
    }

    /// The connection is gone: whatever was on its way to the peer is in doubt.
    pub(super) fn requests_lost(&mut self, out: &mut Out) {
        let promised = |req: &Req| req.remote == Half::Pending && req.answered && req.is_write();
        if self.local.is_attached()
            && self.local != Local::Stale
            && !self.requests.in_order(promised).is_empty()
        {
            // The application was told, and the peer may not have it: should the peer be promoted
            // after all, this must not go unnoticed.
            self.bump(out);
        }
        for slot in self.requests.in_order(|req| req.remote == Half::Pending) {
            let forgotten = self.broken.is(Mutant::InFlightForgotten);
            let req = self.requests.at(slot);
            req.remote = if forgotten { Half::Done } else { Half::Absent };
            req.flushing = false;
            req.unfinished = Parts::default();
            req.unreceived = Parts::default();
            if req.app.op != AppOp::Read {
                self.settle(slot, out);
            } else if let Some(error) = req.local_error {
                self.answer(slot, Err(error), out);
                self.finish(slot, out);
            } else {
                req.remote = Half::Idle;
                self.begin_read(slot, out);
            }
        }
    }

    // ---- the end

    pub(super) fn answer(&mut self, slot: u32, result: Result<(), Errno>, out: &mut Out) {
        let req = self.requests.at(slot);
        debug_assert!(!req.answered, "a request is answered once");
        req.answered = true;
        if result.is_ok() {
            self.copier.pace.answered(self.now.since(req.since));
        }
        if self.broken.is(Mutant::CompletionLost) && req.generation.is_multiple_of(64) {
            return;
        }
        out.push(PrimaryAction::Complete {
            id: req.app.id,
            result,
        });
    }

    pub(super) fn finish(&mut self, slot: u32, out: &mut Out) {
        self.unwind(slot);
        if let Some(buf) = self.requests.at(slot).app.buf {
            out.push(PrimaryAction::Release(buf));
        }
        self.requests.remove(slot);
    }

    /// Gives back what a request holds of the range and extent tables.
    pub(super) fn unwind(&mut self, slot: u32) {
        self.end_range(slot);
        let req = self.requests.at(slot);
        if std::mem::take(&mut req.in_extents) {
            let app = req.app;
            self.extents.write_end(app.offset, u64::from(app.length));
        }
    }

    fn end_range(&mut self, slot: u32) {
        if let Some(range) = self.requests.at(slot).range.take() {
            self.ranges.end(range, &mut self.released);
        }
    }
}

/// What [`Primary::settle`] does about a request without an answer.
enum Verdict {
    Wait,
    Answer(Result<(), Errno>),
    /// When `localcnt` is ahead of what the peer knows, durably.
    AfterBump,
    /// When it is recorded that the local copy is unusable.
    AfterDetach,
    /// When there is a copy again that can serve it.
    Park,
}
