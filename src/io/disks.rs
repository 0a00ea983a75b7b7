//! The main thread's side of disk operations: what is submitted, spread over the disk threads,
//! flushed and counted.
//!
//! How many jobs a thread is given at once follows from how long they took lately: with a cached
//! file, waking a thread costs more than the work, so one gets many; with a real disk each gets
//! one, so that they wait in parallel. Writes through Linux's page cache go one batch at a time:
//! a file's lock admits one anyway, and those that come meanwhile make the next batch. Only if a
//! batch takes long, because it waits for the disk after all, do others start beside it.
//!
//! Flushes of a disk are grouped: one runs at a time, and all that are asked for meanwhile are
//! answered by the next. `fua` writes are writes that then join such a group.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::jobs::{BATCH_JOBS_MAX, Batch, Job, Waker, Work, serve};
use super::pool::{Access, Pool};
use super::proactor::{Completion, Disk, DiskIo, Done, Slot, Token};
use crate::terms::Errno;

/// Batches that exist: those beyond wait on the main thread.
const BATCHES: usize = 256;

/// How long a thread should have work for when it is woken, in nanoseconds: some ten times what
/// waking it costs.
const BATCH_TARGET_NS: u64 = 60_000;

/// How long a batch of cached writes may take until others start beside it.
const LANE_PATIENCE: Duration = Duration::from_millis(1);

/// Longest read that the main thread tries by itself, in bytes; longer ones are worth a thread.
#[cfg(target_os = "linux")]
const INLINE_BYTES_MAX: u32 = 128 * 1024;

/// After how many futile tries in a row, as a power of two, reads go to the threads untried.
#[cfg(target_os = "linux")]
const INLINE_PATIENCE: u32 = 8;

/// A registered disk.
struct Registered {
    disk: Arc<dyn Disk>,
    /// Operations, flushes for `fua` included, that are not complete.
    outstanding: u32,
    /// Who waits for the flush that runs.
    flushing: Vec<(Token, Vec<u8>)>,
    /// Who waits for the next one.
    waiting: Vec<(Token, Vec<u8>)>,
    /// A flush failed: none can succeed any more.
    flush_failed: Option<Errno>,
    detached: bool,
    /// Writes end in the page cache.
    cached: bool,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    inline: Inline,
}

/// Whether reads are tried on the main thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inline {
    /// The file cannot tell whether it would wait.
    Never,
    /// After that many reads that are not tried; so many tries in a row were futile.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    After { skip: u32, futile: u32 },
}

/// Writes through the page cache.
#[derive(Default)]
struct Lane {
    staged: VecDeque<Job>,
    /// Batches that the threads have.
    batches: usize,
    /// When the last one of them was handed over.
    since: Option<Instant>,
}

/// All disks of a driver, and their threads.
pub(super) struct Disks {
    pool: Pool,
    disks: Vec<Option<Registered>>,
    staged: VecDeque<Job>,
    lane: Lane,
    spare: Vec<Batch>,
    jobs: Option<Sender<Batch>>,
    done: Receiver<Batch>,
    threads: Vec<JoinHandle<()>>,
    /// Of a job, lately, in nanoseconds.
    cost_ns: u64,
}

impl Disks {
    /// Starts the threads; all of them have begun when it returns.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn new(pool: &Pool, threads: usize, waker: &Arc<Waker>) -> std::io::Result<Disks> {
        let (jobs, jobs_in) = bounded::<Batch>(BATCHES);
        let (done_out, done) = bounded(BATCHES);
        let mut disks = Disks {
            pool: pool.clone(),
            disks: Vec::new(),
            staged: VecDeque::new(),
            lane: Lane::default(),
            spare: Vec::with_capacity(BATCHES),
            jobs: Some(jobs),
            done,
            threads: Vec::with_capacity(threads),
            cost_ns: BATCH_TARGET_NS,
        };
        disks.spare.resize_with(BATCHES, Batch::default);
        let (begins, begun) = bounded(threads);
        for number in 0..threads {
            let (jobs, done, waker) = (jobs_in.clone(), done_out.clone(), Arc::clone(waker));
            let begins = begins.clone();
            let thread = std::thread::Builder::new()
                .name(format!("disk{number}"))
                .stack_size(256 * 1024)
                .spawn(move || {
                    // The receiver waits for all threads, or has given up.
                    let _ = begins.send(());
                    serve(&jobs, &done, &waker);
                })?;
            disks.threads.push(thread);
        }
        drop(begins);
        // What a thread does when it begins (an arena of the allocator, a signal stack) may be
        // forbidden once the process is confined: it is done now.
        for () in begun.iter().take(threads) {}
        Ok(disks)
    }

    /// Takes a disk on under a free slot.
    pub(super) fn attach(&mut self, slot: Slot, disk: Arc<dyn Disk>) -> std::io::Result<()> {
        let flags = fcntl(disk.fd().as_fd(), FcntlArg::F_GETFL)?;
        // A direct read waits for the disk whatever it is told.
        let direct = OFlag::from_bits_truncate(flags).contains(OFlag::O_DIRECT);
        let cached = cfg!(target_os = "linux") && !direct;
        let index = usize::from(slot.0);
        if self.disks.len() <= index {
            self.disks.resize_with(index + 1, || None);
        }
        self.disks[index] = Some(Registered {
            disk,
            outstanding: 0,
            flushing: Vec::new(),
            waiting: Vec::new(),
            flush_failed: None,
            detached: false,
            cached,
            inline: if cached {
                Inline::After { skip: 0, futile: 0 }
            } else {
                Inline::Never
            },
        });
        Ok(())
    }

    /// Whether the slot is a disk, or was one whose operations are not finished.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.disks
            .get(usize::from(slot.0))
            .is_some_and(Option::is_some)
    }

    /// Forgets a disk, once its operations are finished.
    pub(super) fn detach(&mut self, slot: Slot) {
        if let Some(Some(disk)) = self.disks.get_mut(usize::from(slot.0)) {
            disk.detached = true;
            self.forget_if_idle(slot);
        }
    }

    fn forget_if_idle(&mut self, slot: Slot) {
        let entry = &mut self.disks[usize::from(slot.0)];
        if entry
            .as_ref()
            .is_some_and(|disk| disk.detached && disk.outstanding == 0)
        {
            *entry = None;
        }
    }

    /// Submits an operation; some are done at once.
    pub(super) fn submit(
        &mut self,
        slot: Slot,
        token: Token,
        op: DiskIo,
        out: &mut Vec<Completion>,
    ) {
        let entry = self.disks.get_mut(usize::from(slot.0));
        let Some(disk) = entry.and_then(Option::as_mut).filter(|d| !d.detached) else {
            let bytes = match op {
                DiskIo::WriteBytes { bytes, .. } => bytes,
                _ => Vec::new(),
            };
            return complete(out, token, Err(Errno::ENXIO), bytes);
        };
        let (offset, work, fua) = match op {
            DiskIo::Flush => {
                disk.outstanding += 1;
                disk.waiting.push((token, Vec::new()));
                return self.start_flush(slot, out);
            }
            DiskIo::Read { offset, piece } => {
                let mut lease = self.pool.lease(piece, Access::Exclusive);
                if disk.read_inline(lease.bytes_mut(), offset) {
                    self.pool.end(lease);
                    return complete(out, token, Ok(()), Vec::new());
                }
                (offset, Work::Read(lease), false)
            }
            DiskIo::Write { offset, piece, fua } => {
                let lease = self.pool.lease(piece, Access::Shared);
                (offset, Work::Write(lease), fua)
            }
            DiskIo::WriteBytes { offset, bytes } => (offset, Work::WriteBytes(bytes), false),
            DiskIo::Zero {
                offset,
                length,
                fua,
            } => (offset, Work::Zero(length), fua),
            DiskIo::Delete { offset, length } => (offset, Work::Delete(length), false),
        };
        disk.outstanding += 1;
        let lane = disk.cached && matches!(work, Work::Write(_) | Work::WriteBytes(_));
        let staged = if lane {
            &mut self.lane.staged
        } else {
            &mut self.staged
        };
        staged.push_back(Job {
            slot,
            disk: Arc::clone(&disk.disk),
            token,
            offset,
            work,
            fua,
            result: Ok(()),
        });
    }

    /// Starts a flush for all that wait for one, unless one runs already.
    fn start_flush(&mut self, slot: Slot, out: &mut Vec<Completion>) {
        let Some(disk) = self.disks[usize::from(slot.0)].as_mut() else {
            return;
        };
        if let Some(error) = disk.flush_failed {
            for (token, bytes) in disk.waiting.drain(..) {
                disk.outstanding -= 1;
                complete(out, token, Err(error), bytes);
            }
            return self.forget_if_idle(slot);
        }
        if disk.waiting.is_empty() || !disk.flushing.is_empty() {
            return;
        }
        std::mem::swap(&mut disk.waiting, &mut disk.flushing);
        self.staged.push_back(Job {
            slot,
            disk: Arc::clone(&disk.disk),
            token: 0,
            offset: 0,
            work: Work::Flush,
            fua: false,
            result: Ok(()),
        });
    }

    /// Hands what is staged to the threads.
    pub(super) fn dispatch(&mut self) {
        let share = BATCH_TARGET_NS / self.cost_ns.max(1);
        let share = usize::try_from(share).unwrap_or(BATCH_JOBS_MAX);
        let share = share.clamp(1, BATCH_JOBS_MAX);
        while !self.staged.is_empty() {
            let Some(mut batch) = self.spare.pop() else {
                return;
            };
            // A flush takes its time: nothing waits behind it.
            while let Some(job) = self.staged.front()
                && batch.jobs.len() < share
                && (batch.jobs.is_empty() || !matches!(job.work, Work::Flush))
            {
                let flush = matches!(job.work, Work::Flush);
                batch.jobs.extend(self.staged.pop_front());
                if flush {
                    break;
                }
            }
            self.hand_over(batch);
        }
        while !self.lane.staged.is_empty() && self.lane_is_free() {
            let Some(mut batch) = self.spare.pop() else {
                return;
            };
            let count = self.lane.staged.len().min(BATCH_JOBS_MAX);
            batch.jobs.extend(self.lane.staged.drain(..count));
            batch.lane = true;
            self.lane.batches += 1;
            self.lane.since = Some(Instant::now());
            self.hand_over(batch);
        }
    }

    fn lane_is_free(&self) -> bool {
        let slow = |since: Instant| since.elapsed() > LANE_PATIENCE;
        self.lane.batches == 0
            || (self.lane.batches < self.threads.len() && self.lane.since.is_some_and(slow))
    }

    fn hand_over(&self, batch: Batch) {
        let Some(jobs) = &self.jobs else {
            unreachable!("the channel is closed only when the disks are dropped");
        };
        if let Err(refused) = jobs.try_send(batch) {
            unreachable!("the channel holds all batches and the threads live: {refused}");
        }
    }

    /// Whether there is something to collect.
    pub(super) fn has_finished(&self) -> bool {
        !self.done.is_empty()
    }

    /// Collects what the threads have finished.
    pub(super) fn collect(&mut self, out: &mut Vec<Completion>) {
        loop {
            let mut batch = match self.done.try_recv() {
                Ok(batch) => batch,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            };
            let count = batch.jobs.len() as u64;
            let flush = matches!(batch.jobs.first(), Some(job) if matches!(job.work, Work::Flush));
            if std::mem::take(&mut batch.lane) {
                self.lane.batches -= 1;
            } else if !flush && count > 0 {
                let cost_ns = u64::try_from(batch.elapsed.as_nanos()).unwrap_or(u64::MAX) / count;
                // One slow job among many must not hide the others' speed for long.
                self.cost_ns = (self.cost_ns / 8).saturating_mul(7) + cost_ns.min(1 << 30) / 8;
            }
            for job in batch.jobs.drain(..) {
                self.finish(job, out);
            }
            self.spare.push(batch);
        }
    }

    fn finish(&mut self, job: Job, out: &mut Vec<Completion>) {
        let slot = job.slot;
        let bytes = match job.work {
            Work::Read(lease) | Work::Write(lease) => {
                self.pool.end(lease);
                Vec::new()
            }
            Work::WriteBytes(bytes) => bytes,
            Work::Flush => return self.flushed(slot, job.result, out),
            Work::Zero(_) | Work::Delete(_) => Vec::new(),
        };
        let Some(disk) = self.disks[usize::from(slot.0)].as_mut() else {
            unreachable!("a disk stays registered while it has operations");
        };
        if job.fua && job.result.is_ok() {
            disk.waiting.push((job.token, bytes));
            return self.start_flush(slot, out);
        }
        disk.outstanding -= 1;
        complete(out, job.token, job.result, bytes);
        self.forget_if_idle(slot);
    }

    fn flushed(&mut self, slot: Slot, result: Result<(), Errno>, out: &mut Vec<Completion>) {
        let Some(disk) = self.disks[usize::from(slot.0)].as_mut() else {
            unreachable!("a disk stays registered while it has operations");
        };
        disk.flush_failed = disk.flush_failed.or(result.err());
        for (token, bytes) in disk.flushing.drain(..) {
            disk.outstanding -= 1;
            complete(out, token, result, bytes);
        }
        self.start_flush(slot, out);
        if self.has(slot) {
            self.forget_if_idle(slot);
        }
    }
}

impl Registered {
    /// Reads from the page cache, if the range is there.
    #[cfg(target_os = "linux")]
    fn read_inline(&mut self, bytes: &mut [u8], offset: u64) -> bool {
        let Inline::After { skip, futile } = self.inline else {
            return false;
        };
        let Ok(position) = i64::try_from(offset) else {
            return false;
        };
        if bytes.len() > INLINE_BYTES_MAX as usize {
            return false;
        }
        if skip > 0 {
            self.inline = Inline::After {
                skip: skip - 1,
                futile,
            };
            return false;
        }
        let read = super::sys::read_cached(self.disk.fd(), bytes, position);
        if read.as_ref().is_ok_and(|&read| read == bytes.len()) {
            self.inline = Inline::After { skip: 0, futile: 0 };
            return true;
        }
        self.inline = match read {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Inline::Never,
            _ => Inline::After {
                skip: (1 << futile.min(INLINE_PATIENCE)) - 1,
                futile: futile + 1,
            },
        };
        false
    }

    #[cfg(not(target_os = "linux"))]
    fn read_inline(&mut self, _bytes: &mut [u8], _offset: u64) -> bool {
        false
    }
}

impl Drop for Disks {
    /// Finishes what the threads were given; what is only staged is dropped.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process.
            let _ = thread.join();
        }
        let mut rest = Vec::new();
        self.collect(&mut rest);
        for job in self.staged.drain(..).chain(self.lane.staged.drain(..)) {
            if let Work::Read(lease) | Work::Write(lease) = job.work {
                self.pool.end(lease);
            }
        }
    }
}

fn complete(out: &mut Vec<Completion>, token: Token, result: Result<(), Errno>, bytes: Vec<u8>) {
    out.push(Completion {
        token,
        done: Done::Disk { result, bytes },
    });
}
