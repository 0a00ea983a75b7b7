//! Operations on a disk as jobs, and how a thread does them.
//!
//! Neighbouring reads and writes are joined into one system call each. Batches of jobs come to a
//! disk thread by one channel and go back by another; it wakes the main thread once per batch,
//! and only if that sleeps.

use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use nix::fcntl::OFlag;
use nix::sys::uio::{pread, preadv, pwrite, pwritev};
use nix::unistd::pipe2;

use super::pool::Lease;
use super::proactor::{Disk, Slot, Token};
use crate::terms::Errno;

/// Jobs of one batch at most, and so ranges of one system call.
pub(super) const BATCH_JOBS_MAX: usize = 32;

/// What to do with a disk.
pub(super) enum Work {
    Read(Lease),
    Write(Lease),
    /// With `durable`, on stable storage at once, without a flush of everything else.
    WriteBytes {
        bytes: Vec<u8>,
        durable: bool,
    },
    Zero(u64),
    Delete(u64),
    Flush,
}

/// One operation.
pub(super) struct Job {
    pub(super) slot: Slot,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) token: Token,
    /// Where, for all but flushes.
    pub(super) offset: u64,
    pub(super) work: Work,
    /// A flush follows before the operation counts as done.
    pub(super) fua: bool,
    /// The page cache is not between us and the disk.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(super) direct: bool,
    pub(super) result: Result<(), Errno>,
}

impl Job {
    /// How many bytes of a joined system call are this job's, and where they begin on the disk;
    /// `None`: it cannot be joined.
    fn span(&self) -> Option<(bool, u64, u64)> {
        let (writes, length) = match &self.work {
            Work::Read(lease) => (false, lease.len()),
            Work::Write(lease) => (true, lease.len()),
            _ => return None,
        };
        Some((writes, self.offset, length as u64))
    }

    /// How many bytes it reads or writes; 0 for what is neither.
    pub(super) fn bytes(&self) -> usize {
        match &self.work {
            Work::Read(lease) | Work::Write(lease) => lease.len(),
            Work::WriteBytes { bytes, .. } => bytes.len(),
            Work::Zero(_) | Work::Delete(_) | Work::Flush => 0,
        }
    }

    /// Whether `next` continues where this ends, in the same direction on the same disk.
    pub(super) fn joins(&self, next: &Job) -> bool {
        let (Some((writes, offset, length)), Some((next_writes, next_offset, _))) =
            (self.span(), next.span())
        else {
            return false;
        };
        self.slot == next.slot
            && writes == next_writes
            && offset.checked_add(length) == Some(next_offset)
    }

    fn run(&mut self) {
        let disk = &*self.disk;
        self.result = match &mut self.work {
            Work::Read(lease) => read_all(disk, lease.bytes_mut(), self.offset),
            Work::Write(lease) => write_all(disk, lease.bytes(), self.offset),
            Work::WriteBytes {
                bytes,
                durable: true,
            } => {
                let (result, durable) = write_through(disk, bytes, self.offset);
                // What could not be written so is flushed after it was written.
                self.fua = !durable;
                result
            }
            Work::WriteBytes { bytes, .. } => write_all(disk, bytes, self.offset),
            Work::Zero(length) => disk.zero(self.offset, *length),
            Work::Delete(length) => disk.delete(self.offset, *length),
            Work::Flush => disk.flush(),
        };
    }
}

/// Jobs that one thread does one after the other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    /// Writes through the page cache.
    pub(super) lane: bool,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl Batch {
    fn run(&mut self) {
        let start = Instant::now();
        run_all(&mut self.jobs);
        self.elapsed = start.elapsed();
    }
}

/// Does jobs, in their order, those that continue each other by one system call.
pub(super) fn run_all(jobs: &mut [Job]) {
    let mut rest = jobs;
    while !rest.is_empty() {
        let joined = 1 + rest
            .windows(2)
            .take(BATCH_JOBS_MAX - 1)
            .take_while(|pair| pair[0].joins(&pair[1]))
            .count();
        let (run, after) = rest.split_at_mut(joined);
        run_joined(run);
        rest = after;
    }
}

/// Does jobs that continue each other; by one system call if that takes all of them. If it does
/// not, each is done by itself, so that an error is that of the operation that it belongs to.
fn run_joined(jobs: &mut [Job]) {
    if jobs.len() > 1 && joined_io(jobs) {
        for job in jobs {
            job.result = Ok(());
        }
        return;
    }
    for job in jobs {
        job.run();
    }
}

/// Whether one vectored system call did everything.
fn joined_io(jobs: &mut [Job]) -> bool {
    let Ok(offset) = position(jobs[0].offset) else {
        return false;
    };
    let disk = Arc::clone(&jobs[0].disk);
    let total: u64 = jobs.iter().filter_map(Job::span).map(|span| span.2).sum();
    let done = if matches!(jobs[0].work, Work::Write(_)) {
        let mut slices = [IoSlice::new(&[]); BATCH_JOBS_MAX];
        let count = jobs.len();
        for (slice, job) in slices.iter_mut().zip(&*jobs) {
            if let Work::Write(lease) = &job.work {
                *slice = IoSlice::new(lease.bytes());
            }
        }
        pwritev(disk.fd(), &slices[..count], offset)
    } else {
        let mut slices = [const { None }; BATCH_JOBS_MAX];
        let count = jobs.len();
        for (slice, job) in slices.iter_mut().zip(jobs) {
            if let Work::Read(lease) = &mut job.work {
                *slice = Some(lease.bytes_mut());
            }
        }
        let mut slices = slices.map(|slice| IoSliceMut::new(slice.unwrap_or_default()));
        preadv(disk.fd(), &mut slices[..count], offset)
    };
    done.is_ok_and(|done| done as u64 == total)
}

fn position(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// Reads all of the range; its end beyond the provider's is an error.
fn read_all(disk: &dyn Disk, mut bytes: &mut [u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pread(disk.fd(), bytes, position(offset)?) {
            Ok(0) => return Err(Errno::EIO),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Errno::from_host(error as i32)),
        }
    }
    Ok(())
}

/// Writes all of the range.
fn write_all(disk: &dyn Disk, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(disk.fd(), bytes, position(offset)?) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Errno::from_host(error as i32)),
        }
    }
    Ok(())
}

/// Writes all of the range to stable storage, and says whether it is there; if it is not, it is
/// written all the same, and has to be flushed.
#[cfg(target_os = "linux")]
fn write_through(disk: &dyn Disk, bytes: &[u8], offset: u64) -> (Result<(), Errno>, bool) {
    let Ok(at) = position(offset) else {
        return (Err(Errno::EINVAL), false);
    };
    match super::sys::write_through(disk.fd(), bytes, at) {
        Ok(written) if written == bytes.len() => (Ok(()), true),
        // A part of it, an interruption, or a file that cannot.
        Ok(_) => (write_all(disk, bytes, offset), false),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => {
                (write_all(disk, bytes, offset), false)
            }
            Some(number) => (Err(Errno::from_host(number)), true),
            None => (Err(Errno::EIO), true),
        },
    }
}

#[cfg(not(target_os = "linux"))]
fn write_through(disk: &dyn Disk, bytes: &[u8], offset: u64) -> (Result<(), Errno>, bool) {
    (write_all(disk, bytes, offset), false)
}

/// Wakes the main thread from its sleep, once per sleep.
pub(super) struct Waker {
    pipe: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    /// A waker, and the end of its pipe that the main thread reads from, without waiting.
    ///
    /// # Errors
    /// The system refuses a pipe.
    pub(super) fn new() -> std::io::Result<(Waker, OwnedFd)> {
        let (wakeups, pipe) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let waker = Waker {
            pipe,
            asleep: AtomicBool::new(false),
        };
        Ok((waker, wakeups))
    }

    /// The main thread is about to look for finished batches a last time, then to sleep. The order
    /// of the store and the look is what loses no wake-up.
    pub(super) fn sleeps(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// The main thread is awake, and need not be woken.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // A full pipe wakes as well as one more byte would.
            let _ = nix::unistd::write(&self.pipe, &[0]);
        }
    }
}

/// A disk thread: ends when the channel of jobs is closed.
pub(super) fn serve(jobs: &Receiver<Batch>, done: &Sender<Batch>, waker: &Waker) {
    while let Ok(mut batch) = jobs.recv() {
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| batch.run()));
        if run.is_err() {
            // The operations of this batch would never complete, and the main thread would wait
            // for ever: better to end the process, which the parent notices.
            let _ = writeln!(std::io::stderr(), "disk thread panicked");
            std::process::abort();
        }
        if done.send(batch).is_err() {
            return;
        }
        waker.wake();
    }
}
