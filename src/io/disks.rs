//! The disks of a driver: what is submitted, whether it can be done at once, and flushes.
//!
//! What a driver does not do at once it takes from here as [`Job`]s ([`Disks::staged`],
//! [`Disks::cached`]), has them done by whatever it has for that, and hands them back to
//! [`Disks::finish`].
//!
//! Where Linux's page cache is between us and the disk, handing an operation over costs more than
//! doing it. Reads are tried without waiting; writes are done at once as long as they do not take
//! long ([`Pace`]): one that waits for the disk after all sends those that follow to the threads
//! for a while, longer each time.
//!
//! Flushes of a disk are grouped: one runs at a time, and all that are asked for meanwhile are
//! answered by the next. `fua` writes are writes that then join such a group.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::jobs::{BATCH_JOBS_MAX, Job, Work, run_all};
use super::pool::{Access, Pool};
use super::proactor::{Completion, Disk, DiskIo, Done, Slot, Token};
use crate::terms::Errno;

/// Longest read or write that the main thread does by itself, in bytes; longer ones are worth a
/// thread.
const INLINE_BYTES_MAX: usize = 128 * 1024;

/// After how many futile tries in a row, as a power of two, reads go to the threads untried.
#[cfg(target_os = "linux")]
const INLINE_PATIENCE: u32 = 8;

/// A cached write that took longer than this waited for something.
const WRITE_PATIENCE: Duration = Duration::from_millis(10);

/// Pause of writing at once after one write that waited; doubled by each that waits soon after.
const PACE_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Its bound.
const PACE_PAUSE_MAX: Duration = Duration::from_secs(1);

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

/// Whether cached writes are done at once.
struct Pace {
    /// Not before.
    from: Option<Instant>,
    /// After the next one that waits.
    pause: Duration,
}

impl Pace {
    /// Whether to write at once.
    fn is_good(&self, now: Instant) -> bool {
        self.from.is_none_or(|from| now >= from)
    }

    /// Learns how long some writes have taken, which began at `start`.
    fn learn(&mut self, start: Instant, end: Instant, writes: usize) {
        let took = end.duration_since(start);
        let patience = WRITE_PATIENCE * u32::try_from(writes).unwrap_or(u32::MAX).div_ceil(16);
        if took > patience {
            self.from = Some(end + self.pause);
            self.pause = (self.pause * 2).min(PACE_PAUSE_MAX);
        } else if self.from.is_some_and(|from| end > from + self.pause) {
            // It was good for as long as it was bad.
            self.from = None;
            self.pause = PACE_PAUSE_MIN;
        }
    }
}

/// All disks of a driver.
pub(super) struct Disks {
    pool: Pool,
    disks: Vec<Option<Registered>>,
    /// Jobs for somebody else.
    pub(super) staged: VecDeque<Job>,
    /// Writes through the page cache, which [`Disks::write_cached`] may do.
    pub(super) cached: VecDeque<Job>,
    /// Those that are being done; empty otherwise.
    running: Vec<Job>,
    pace: Pace,
}

impl Disks {
    /// No disks yet.
    pub(super) fn new(pool: &Pool) -> Disks {
        Disks {
            pool: pool.clone(),
            disks: Vec::new(),
            staged: VecDeque::new(),
            cached: VecDeque::new(),
            running: Vec::with_capacity(BATCH_JOBS_MAX),
            pace: Pace {
                from: None,
                pause: PACE_PAUSE_MIN,
            },
        }
    }

    /// Takes a disk on under a free slot.
    pub(super) fn attach(&mut self, slot: Slot, disk: Arc<dyn Disk>) -> std::io::Result<()> {
        // A direct read waits for the disk whatever it is told. Elsewhere nothing is asked: a
        // confined process on FreeBSD may not ask.
        let cached = cfg!(target_os = "linux") && {
            let flags = fcntl(disk.fd().as_fd(), FcntlArg::F_GETFL)?;
            !OFlag::from_bits_truncate(flags).contains(OFlag::O_DIRECT)
        };
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
        out: &mut impl Extend<Completion>,
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
            DiskIo::WriteBytes {
                offset,
                bytes,
                durable,
            } => (offset, Work::WriteBytes { bytes, durable }, false),
            DiskIo::Zero {
                offset,
                length,
                fua,
            } => (offset, Work::Zero(length), fua),
            DiskIo::Delete { offset, length } => (offset, Work::Delete(length), false),
        };
        disk.outstanding += 1;
        let cached = match &work {
            Work::Write(_) => disk.cached,
            Work::WriteBytes { durable, .. } => disk.cached && !durable,
            _ => false,
        };
        let queue = if cached {
            &mut self.cached
        } else {
            &mut self.staged
        };
        queue.push_back(Job {
            slot,
            disk: Arc::clone(&disk.disk),
            token,
            offset,
            work,
            fua,
            direct: !disk.cached,
            result: Ok(()),
        });
    }

    /// Whether [`Disks::write_cached`] has something to do.
    #[cfg(target_os = "linux")]
    pub(super) fn has_quick_writes(&self) -> bool {
        let short = |job: &Job| job.bytes() <= INLINE_BYTES_MAX;
        self.cached.front().is_some_and(short) && self.pace.is_good(Instant::now())
    }

    /// Does cached writes at once, as long as they go quickly; what is left in `cached` is for
    /// the threads.
    pub(super) fn write_cached(&mut self, out: &mut impl Extend<Completion>) {
        if self.cached.is_empty() {
            return;
        }
        let mut start = Instant::now();
        while self.pace.is_good(start) {
            let short = |job: &&Job| job.bytes() <= INLINE_BYTES_MAX;
            let count = self.cached.iter().take(BATCH_JOBS_MAX);
            let count = count.take_while(short).count();
            if count == 0 {
                return;
            }
            let mut jobs = std::mem::take(&mut self.running);
            jobs.extend(self.cached.drain(..count));
            run_all(&mut jobs);
            let end = Instant::now();
            self.pace.learn(start, end, count);
            start = end;
            for job in jobs.drain(..) {
                self.finish(job, out);
            }
            self.running = jobs;
        }
    }

    /// Starts a flush for all that wait for one, unless one runs already.
    fn start_flush(&mut self, slot: Slot, out: &mut impl Extend<Completion>) {
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
            direct: false,
            result: Ok(()),
        });
    }

    /// Takes a job back that is done.
    pub(super) fn finish(&mut self, job: Job, out: &mut impl Extend<Completion>) {
        let slot = job.slot;
        let mut result = job.result;
        let (bytes, through) = match job.work {
            Work::Read(lease) | Work::Write(lease) => {
                self.pool.end(lease);
                (Vec::new(), false)
            }
            Work::WriteBytes { bytes, durable } => (bytes, durable && !job.fua),
            Work::Flush => return self.flushed(slot, result, out),
            Work::Zero(_) | Work::Delete(_) => (Vec::new(), false),
        };
        let Some(disk) = self.disks[usize::from(slot.0)].as_mut() else {
            unreachable!("a disk stays registered while it has operations");
        };
        if through {
            // Such a write is told of what was lost before, which nobody is told again.
            if let Err(error @ (Errno::EIO | Errno::ENOSPC)) = result {
                disk.flush_failed = disk.flush_failed.or(Some(error));
            }
            result = disk.flush_failed.map_or(result, Err);
        }
        if job.fua && result.is_ok() {
            disk.waiting.push((job.token, bytes));
            return self.start_flush(slot, out);
        }
        disk.outstanding -= 1;
        complete(out, job.token, result, bytes);
        self.forget_if_idle(slot);
    }

    fn flushed(
        &mut self,
        slot: Slot,
        result: Result<(), Errno>,
        out: &mut impl Extend<Completion>,
    ) {
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
        if bytes.len() > INLINE_BYTES_MAX {
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
    /// What is only staged is dropped.
    fn drop(&mut self) {
        for job in self.staged.drain(..).chain(self.cached.drain(..)) {
            if let Work::Read(lease) | Work::Write(lease) = job.work {
                self.pool.end(lease);
            }
        }
    }
}

fn complete(
    out: &mut impl Extend<Completion>,
    token: Token,
    result: Result<(), Errno>,
    bytes: Vec<u8>,
) {
    out.extend([Completion {
        token,
        done: Done::Disk { result, bytes },
    }]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_wait_are_left_to_threads_for_longer_and_longer() {
        let mut pace = Pace {
            from: None,
            pause: PACE_PAUSE_MIN,
        };
        let mut now = Instant::now();
        assert!(pace.is_good(now));
        for round in 0..20u32 {
            let end = now + WRITE_PATIENCE * 2;
            pace.learn(now, end, 1);
            let pause = (PACE_PAUSE_MIN * 2u32.pow(round.min(10))).min(PACE_PAUSE_MAX);
            assert!(!pace.is_good(end + pause - Duration::from_millis(1)));
            assert!(pace.is_good(end + pause));
            now = end + pause;
        }
        // Good for long enough, it is trusted again.
        pace.learn(now, now + Duration::from_millis(1), 1);
        assert_eq!(pace.pause, PACE_PAUSE_MAX);
        now += PACE_PAUSE_MAX * 2;
        pace.learn(now, now + Duration::from_millis(1), 1);
        assert_eq!(pace.pause, PACE_PAUSE_MIN);
    }

    #[test]
    fn a_long_batch_may_take_longer_than_a_single_write() {
        let mut pace = Pace {
            from: None,
            pause: PACE_PAUSE_MIN,
        };
        let now = Instant::now();
        pace.learn(now, now + WRITE_PATIENCE * 2, 32);
        assert!(pace.is_good(now + WRITE_PATIENCE * 2));
    }
}
