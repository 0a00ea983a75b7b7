//! The driver for Linux's io_uring: one thread for sockets, timers and most of the disk.
//!
//! Everything that was submitted since the last [`Proactor::wait`] starts by one system call,
//! which also waits. The kernel tries each operation at once and completes it later only if it
//! would block, so that packets to several sockets, and the next receives, cost no calls of their
//! own. Receives go straight to where their bytes are wanted; buffers of the kernel's choice
//! (multishot) would have to be copied from.
//!
//! Direct I/O goes to the ring. What goes through the page cache does not: some file systems (ext4)
//! let io_uring write there by kernel threads only, which costs more than the write; it is done at
//! once where it can be (see [`super::disks`]). What has to block - flushes, discards, zeroes,
//! cached I/O that waits for the disk after all - goes to threads of ours. The kernel makes none:
//! an operation of the ring that would need one fails instead (`RWF_NOWAIT`), and goes there too.
//!
//! The ring is restricted when it is made ([`Restrict`]) and takes registered files only; those are
//! the slots of the [`Proactor`].

mod ring;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use self::ring::{Flight, Landed, Number, Ring, received_descriptor};
use super::crew::{Crew, THREADS_MAX};
use super::disks::Disks;
use super::jobs::{BATCH_JOBS_MAX, Job, Waker, Work};
use super::pool::{Access, Lease, Pool};
use super::proactor::{Completion, Disk, DiskIo, Done, Proactor, Slot, SocketIo, Token};
use super::set_nonblocking;
use crate::terms::Errno;

pub use self::ring::Restrict;

/// Files that a ring has at most.
const FILES_MAX: u32 = 1024;

/// The slot of the disk threads' wake-ups.
const WAKE_SLOT: u16 = 0;

/// Vectors for jobs that are kept to be used again.
const SPARE_MAX: usize = 64;

/// The driver. It stays on the thread that made it.
pub struct Uring {
    pool: Pool,
    ring: Ring,
    disks: Disks,
    crew: Crew,
    waker: Arc<Waker>,
    /// The reading end of the waker's pipe.
    wakeups: OwnedFd,
    sockets: Vec<Option<Socket>>,
    /// Completions that the next `wait` returns.
    done: VecDeque<Completion>,
    /// Jobs that the ring did not do to the end: each by itself, by a thread.
    again: Vec<Job>,
    spare: Vec<Vec<Job>>,
    /// The last `wait` had completions without entering the ring.
    passed_over: bool,
    /// Why the ring is of no use any more.
    broken: Option<std::io::Error>,
}

/// The kinds of operations on a socket, of each of which there is one at a time.
#[derive(Clone, Copy)]
enum Kind {
    Receive,
    Send,
    Accept,
    Readable,
    HangUp,
}

struct Socket {
    _fd: OwnedFd,
    /// By [`Kind`].
    running: [Option<Number>; 5],
    /// It is being detached: whatever completes is cancelled.
    closing: bool,
}

impl Uring {
    /// A driver with so many disk threads, whose ring `restrict` restricts, and whose
    /// operations name buffers of that pool. It takes as many descriptors as the process may have
    /// open.
    ///
    /// # Errors
    /// The kernel has no io_uring that will do, or the administrator forbids it.
    pub fn new(pool: &Pool, threads: usize, restrict: Restrict<'_>) -> std::io::Result<Uring> {
        let (open_max, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let files = u32::try_from(open_max).unwrap_or(u32::MAX).min(FILES_MAX);
        let mut ring = Ring::new(files, restrict)?;
        let (waker, wakeups) = Waker::new()?;
        ring.set_file(WAKE_SLOT, Some(wakeups.as_fd()))?;
        ring.start(WAKE_SLOT, Flight::Wake)?;
        // Fails here rather than in the midst of its work where the kernel refuses.
        ring.submit()?;
        let waker = Arc::new(waker);
        Ok(Uring {
            pool: pool.clone(),
            ring,
            disks: Disks::new(pool),
            crew: Crew::new(pool, threads.clamp(1, THREADS_MAX), &waker)?,
            waker,
            wakeups,
            sockets: Vec::new(),
            done: VecDeque::new(),
            again: Vec::new(),
            spare: Vec::new(),
            passed_over: false,
            broken: None,
        })
    }

    fn free_slot(&self) -> std::io::Result<Slot> {
        let files = u16::try_from(self.ring.files()).unwrap_or(u16::MAX);
        for index in WAKE_SLOT + 1..files {
            let slot = Slot(index);
            let socket = self.sockets.get(usize::from(index));
            if !self.disks.has(slot) && socket.is_none_or(Option::is_none) {
                return Ok(slot);
            }
        }
        Err(std::io::Error::from_raw_os_error(libc::EMFILE))
    }

    fn socket_at(&mut self, slot: Slot) -> Option<&mut Socket> {
        self.sockets
            .get_mut(usize::from(slot.0))
            .and_then(Option::as_mut)
    }

    fn push(&mut self, token: Token, done: Done) {
        self.done.push_back(Completion { token, done });
    }

    /// Remembers the first error of the ring; the next `wait` returns it.
    fn note<T>(&mut self, result: std::io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.broken.get_or_insert(error);
                None
            }
        }
    }

    fn start(&mut self, slot: Slot, kind: Kind, flight: Flight) {
        let started = self.ring.start(slot.0, flight);
        let number = self.note(started);
        if let Some(socket) = self.socket_at(slot) {
            socket.running[kind as usize] = number;
        }
    }

    // ---- completions

    /// Takes what the ring has completed.
    fn reap(&mut self) {
        while let Some(landed) = self.ring.next() {
            self.landed(&landed);
        }
    }

    fn landed(&mut self, landed: &Landed) {
        let number = landed.number;
        let (slot, flight) = self.ring.flight(number);
        let slot = Slot(slot);
        let is_socket = !matches!(flight, Flight::Disk(_) | Flight::Wake | Flight::Over);
        let accepted = matches!(flight, Flight::Accept { .. });
        let closing = is_socket && self.socket_at(slot).is_none_or(|socket| socket.closing);
        if !closing && self.goes_on(landed) {
            return;
        }
        if landed.more {
            // The end of it is still to come.
            return;
        }
        let mut result = landed.result;
        if closing {
            if accepted && result >= 0 {
                drop(received_descriptor(result));
            }
            result = -libc::ECANCELED;
        }
        let outcome = outcome(result);
        let kind = match self.ring.land(number) {
            Flight::Receive { token, into } => {
                for lease in into.into_iter().flatten() {
                    self.pool.end(lease);
                }
                self.push(token, Done::Received(outcome));
                Kind::Receive
            }
            Flight::Send { token, mut out } => {
                out.clear();
                self.push(token, Done::Sent(outcome.map(drop), out));
                Kind::Send
            }
            Flight::Accept { token } => {
                let accepted = outcome.map(|_| received_descriptor(result));
                self.push(token, Done::Accepted(accepted));
                Kind::Accept
            }
            Flight::Readable { token } => {
                self.push(token, Done::Readable(outcome.map(drop)));
                Kind::Readable
            }
            Flight::HangUp { token } => {
                self.push(token, Done::HungUp(outcome.map(drop)));
                Kind::HangUp
            }
            Flight::Disk(jobs) => return self.disk_landed(jobs, &outcome),
            Flight::Over => return,
            // Nobody can wake this thread any more.
            Flight::Wake => {
                self.note(outcome);
                return;
            }
        };
        if let Some(socket) = self.socket_at(slot) {
            socket.running[kind as usize] = None;
        }
    }

    /// Goes on with an operation that is not at its end; whether it is not.
    fn goes_on(&mut self, landed: &Landed) -> bool {
        let &Landed {
            number,
            result,
            more,
        } = landed;
        let interrupted = matches!(-result, libc::EINTR | libc::EAGAIN);
        let again = match self.ring.flight(number).1 {
            Flight::Send { out, .. } => {
                if let Ok(sent @ 1..) = usize::try_from(result) {
                    out.advance(sent);
                }
                interrupted || (result > 0 && !out.is_empty())
            }
            Flight::Accept { .. } => interrupted || -result == libc::ECONNABORTED,
            Flight::HangUp { token } => {
                let whole = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
                let gone = result >= 0 && result & i32::from(whole) != 0;
                if more && gone {
                    let token = *token;
                    self.push(token, Done::HungUp(Ok(())));
                    self.end_hang_up(number);
                }
                // Half of a hang-up is none.
                !more && !gone && (result >= 0 || interrupted)
            }
            Flight::Wake => {
                let mut bytes = [0; 16];
                // What is there wakes once; what is not has woken before.
                let _ = nix::unistd::read(&self.wakeups, &mut bytes);
                result >= 0 || interrupted
            }
            Flight::Receive { .. } | Flight::Readable { .. } => interrupted,
            Flight::Disk(_) | Flight::Over => false,
        };
        if again {
            let enlisted = self.ring.enlist(number);
            self.note(enlisted);
        }
        again
    }

    /// A hang-up was told: what is left of the operation is nobody's.
    fn end_hang_up(&mut self, number: Number) {
        let (slot, flight) = self.ring.flight(number);
        *flight = Flight::Over;
        let slot = Slot(slot);
        if let Some(socket) = self.socket_at(slot) {
            socket.running[Kind::HangUp as usize] = None;
        }
        let cancelled = self.ring.cancel(number);
        self.note(cancelled);
    }

    /// The ring has read or written, or not.
    fn disk_landed(&mut self, mut jobs: Vec<Job>, outcome: &std::io::Result<usize>) {
        let total: usize = jobs.iter().map(Job::bytes).sum();
        let result = match outcome {
            Ok(done) if *done == total => Some(Ok(())),
            // An end before that of the jobs, or one of several that failed: who it belongs to is
            // found out by doing each.
            Ok(_) => None,
            Err(_) if jobs.len() > 1 => None,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED) | None => None,
                Some(number) => Some(Err(Errno::from_host(number))),
            },
        };
        for mut job in jobs.drain(..) {
            if let Some(result) = result {
                job.result = result;
                self.disks.finish(job, &mut self.done);
            } else {
                self.again.push(job);
            }
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(jobs);
        }
    }

    // ---- disks

    /// Takes over what the disk threads have finished, does what can be done at once, and starts
    /// the rest.
    fn serve_disks(&mut self) {
        self.crew.collect(&mut self.disks, &mut self.done);
        if self.disks.has_quick_writes() {
            // Others work while this thread writes.
            let submitted = self.ring.submit();
            self.note(submitted);
            self.disks.write_cached(&mut self.done);
        }
        self.start_staged();
        self.crew.dispatch(&mut self.disks);
    }

    /// Gives the ring what it can do; the rest stays for the threads.
    fn start_staged(&mut self) {
        let mut run: Vec<Job> = Vec::new();
        for _ in 0..self.disks.staged.len() {
            let Some(job) = self.disks.staged.pop_front() else {
                break;
            };
            if !job.direct || !matches!(job.work, Work::Read(_) | Work::Write(_)) {
                self.disks.staged.push_back(job);
                continue;
            }
            let joins = run.last().is_some_and(|last| last.joins(&job));
            if !run.is_empty() && (!joins || run.len() == BATCH_JOBS_MAX) {
                self.start_run(&mut run);
            }
            if run.capacity() == 0 {
                run = self.spare.pop().unwrap_or_default();
            }
            run.push(job);
        }
        self.start_run(&mut run);
        self.disks.staged.extend(self.again.drain(..));
    }

    fn start_run(&mut self, run: &mut Vec<Job>) {
        let Some(slot) = run.first().map(|job| job.slot) else {
            return;
        };
        let started = self.ring.start(slot.0, Flight::Disk(std::mem::take(run)));
        self.note(started);
    }

    // ---- detaching

    /// Waits until the operations of a socket are cancelled: their buffers are the caller's then.
    fn cancel_all(&mut self, slot: Slot) {
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        socket.closing = true;
        for number in socket.running.into_iter().flatten() {
            let cancelled = self.ring.cancel(number);
            self.note(cancelled);
        }
        let busy = |socket: &mut Socket| socket.running.iter().any(Option::is_some);
        while self.socket_at(slot).is_some_and(busy) {
            let waited = self.ring.wait(None);
            if self.note(waited).is_none() {
                return;
            }
            self.reap();
        }
    }
}

impl Proactor for Uring {
    fn attach_disk(&mut self, disk: Arc<dyn Disk>) -> std::io::Result<Slot> {
        let slot = self.free_slot()?;
        self.ring.set_file(slot.0, Some(disk.fd()))?;
        self.disks.attach(slot, disk)?;
        Ok(slot)
    }

    fn attach_socket(&mut self, fd: OwnedFd) -> std::io::Result<Slot> {
        let slot = self.free_slot()?;
        set_nonblocking(&fd)?;
        self.ring.set_file(slot.0, Some(fd.as_fd()))?;
        let index = usize::from(slot.0);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket {
            _fd: fd,
            running: [None; 5],
            closing: false,
        });
        Ok(slot)
    }

    fn detach(&mut self, slot: Slot) {
        if self.disks.has(slot) {
            // Its file stays in the ring's table until the slot is used again.
            return self.disks.detach(slot);
        }
        self.cancel_all(slot);
        let index = usize::from(slot.0);
        if self.sockets.get_mut(index).and_then(Option::take).is_some() {
            let forgotten = self.ring.set_file(slot.0, None);
            self.note(forgotten);
        }
    }

    fn disk(&mut self, slot: Slot, token: Token, op: DiskIo) {
        self.disks.submit(slot, token, op, &mut self.done);
    }

    fn socket(&mut self, slot: Slot, token: Token, op: SocketIo) {
        if self.socket_at(slot).is_none() || self.broken.is_some() {
            let gone = std::io::Error::from_raw_os_error(libc::EBADF);
            return self.push(token, op.refused(gone));
        }
        match op {
            SocketIo::Receive { into } => {
                let lease = |piece| self.pool.lease(piece, Access::Exclusive);
                let into: [Option<Lease>; 2] = into.map(|piece| piece.map(lease));
                self.start(slot, Kind::Receive, Flight::Receive { token, into });
            }
            SocketIo::Send(out) if out.is_empty() => self.push(token, Done::Sent(Ok(()), out)),
            SocketIo::Send(out) => self.start(slot, Kind::Send, Flight::Send { token, out }),
            SocketIo::Accept => self.start(slot, Kind::Accept, Flight::Accept { token }),
            SocketIo::Readable => self.start(slot, Kind::Readable, Flight::Readable { token }),
            SocketIo::HangUp => self.start(slot, Kind::HangUp, Flight::HangUp { token }),
        }
    }

    fn is_ready(&self) -> bool {
        !self.done.is_empty() || self.crew.has_finished() || self.ring.has_landed()
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        self.serve_disks();
        if self.done.is_empty() {
            self.waker.sleeps();
            // What was finished before that store woke nobody.
            self.serve_disks();
        }
        // Sockets are looked at every other time at least, however busy the disks are.
        let busy = !self.done.is_empty();
        let pass_over = busy && !self.passed_over && self.ring.is_submitted();
        self.passed_over = pass_over;
        if !pass_over && self.broken.is_none() {
            let ready = busy || self.ring.has_landed();
            let waited = self
                .ring
                .wait(if ready { Some(Duration::ZERO) } else { timeout });
            self.note(waited);
        }
        self.waker.awake();
        self.reap();
        self.serve_disks();
        completions.extend(self.done.drain(..));
        self.broken.take().map_or(Ok(()), Err)
    }
}

impl Drop for Uring {
    /// Lets nothing go that the kernel may still write to.
    fn drop(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.closing = true;
        }
        for number in self.ring.numbers() {
            // What cannot be cancelled is waited for.
            let _ = self.ring.cancel(number);
        }
        while self.ring.in_flight() > 0 {
            if self.ring.wait(None).is_err() {
                return self.ring.abandon();
            }
            while let Some(landed) = self.ring.next() {
                // The wake-ups are not begun again.
                if matches!(self.ring.flight(landed.number).1, Flight::Wake) {
                    self.ring.land(landed.number);
                } else {
                    self.landed(&landed);
                }
            }
        }
        for job in self.again.drain(..) {
            if let Work::Read(lease) | Work::Write(lease) = job.work {
                self.pool.end(lease);
            }
        }
    }
}

fn outcome(result: i32) -> std::io::Result<usize> {
    usize::try_from(result).map_err(|_| std::io::Error::from_raw_os_error(-result))
}

#[cfg(test)]
fn driver_for_tests() -> Option<(Pool, Uring)> {
    let pool = Pool::new(super::pool::PoolLimits::default()).unwrap();
    match Uring::new(&pool, 4, &|ring| sandbox::restrict_ring(&ring)) {
        Ok(io) => Some((pool, io)),
        Err(error) => {
            eprintln!("skipped: no io_uring here: {error}");
            None
        }
    }
}

#[cfg(test)]
#[path = "../driver_tests.rs"]
#[allow(clippy::duplicate_mod, reason = "each driver runs the same tests")]
mod tests;
