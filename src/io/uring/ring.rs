//! The ring itself: operations in flight, and all that is unsafe about them.
//!
//! The kernel reads and writes memory of ours between an operation's submission and its
//! completion. What makes that safe is that everything it was told of lies in a [`Flight`], which
//! this module alone holds until the completion is there: leases of the pool, packets to be sent,
//! jobs of a disk. Vectors and headers are read by the kernel at the submission only
//! (`IORING_FEAT_SUBMIT_STABLE`), so they lie in an area that is used again afterwards.
//!
//! The ring is made disabled, restricted by its owner, and enabled: from then on it takes what the
//! owner allows, on registered files, and nothing else, whoever submits it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use crate::io::jobs::{BATCH_JOBS_MAX, Job, Work};
use crate::io::outgoing::{Outgoing, SLICES_MAX};
use crate::io::pool::Lease;
use crate::io::proactor::Token;

/// Submissions that the ring holds until it has to be entered.
const ENTRIES: u32 = 256;

/// Completions that it holds; the kernel keeps those beyond.
const COMPLETIONS: u32 = 4096;

/// Vectors of one submission of the ring.
const VECTORS: usize = 4096;

/// Headers of messages of one submission.
const HEADS: usize = ENTRIES as usize;

/// Marks completions that nobody waits for.
const NOBODY: u64 = u64::MAX;

/// Takes from a ring that is not enabled yet what it must not do.
pub type Restrict<'a> = &'a dyn Fn(RawFd) -> io::Result<()>;

/// An operation in flight, with everything that the kernel may touch.
pub(super) enum Flight {
    Receive {
        token: Token,
        into: [Option<Lease>; 2],
    },
    Send {
        token: Token,
        out: Outgoing,
    },
    Accept {
        token: Token,
    },
    Readable {
        token: Token,
    },
    HangUp {
        token: Token,
    },
    /// Reads, or writes, that continue each other.
    Disk(Vec<Job>),
    /// Waits until a disk thread says that it has finished something.
    Wake,
    /// What it was for is over; it has yet to end.
    Over,
}

/// An operation's number, until its completion.
pub(super) type Number = u32;

/// What has completed.
pub(super) struct Landed {
    /// Of the operation.
    pub(super) number: Number,
    /// What the system call would have returned, a negative error number otherwise.
    pub(super) result: i32,
    /// The operation goes on, and completes again.
    pub(super) more: bool,
}

struct Entered {
    slot: u16,
    flight: Flight,
}

/// The ring, and what is in flight.
pub(super) struct Ring {
    ring: IoUring,
    flights: Vec<Option<Entered>>,
    free: Vec<Number>,
    vectors: Box<[libc::iovec]>,
    vectors_used: usize,
    heads: Box<[libc::msghdr]>,
    heads_used: usize,
    /// Registered files at most.
    files: u32,
}

fn unsupported(what: &str) -> io::Error {
    io::Error::other(format!("io_uring of this kernel lacks {what}"))
}

impl Ring {
    /// A ring for so many files, which `restrict` restricts.
    ///
    /// # Errors
    /// The kernel has no io_uring, or one that is too old, or the administrator forbids it, or it
    /// cannot be restricted.
    pub(super) fn new(files: u32, restrict: Restrict<'_>) -> io::Result<Ring> {
        let ring = build()?;
        let features = ring.params();
        for (there, what) in [
            (features.is_feature_nodrop(), "reliable completions"),
            (features.is_feature_submit_stable(), "stable submissions"),
            (features.is_feature_fast_poll(), "polling"),
            (features.is_feature_ext_arg(), "timeouts"),
        ] {
            if !there {
                return Err(unsupported(what));
            }
        }
        let submitter = ring.submitter();
        submitter.register_files_sparse(files)?;
        restrict(ring.as_raw_fd())?;
        submitter.register_enable_rings()?;
        let no_vector = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Ok(Ring {
            ring,
            flights: Vec::new(),
            free: Vec::new(),
            vectors: vec![no_vector; VECTORS].into_boxed_slice(),
            vectors_used: 0,
            heads: (0..HEADS).map(|_| no_head()).collect(),
            heads_used: 0,
            files,
        })
    }

    /// How many files can be registered.
    pub(super) fn files(&self) -> u32 {
        self.files
    }

    /// Makes a descriptor the file of a slot below [`Ring::files`], or none.
    ///
    /// # Errors
    /// The kernel refuses the descriptor.
    pub(super) fn set_file(&self, slot: u16, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let number: RawFd = fd.map_or(-1, |fd| fd.as_raw_fd());
        let submitter = self.ring.submitter();
        submitter.register_files_update(u32::from(slot), &[number])?;
        Ok(())
    }

    /// Gives an operation on a slot's file a number and a place in the next submission.
    ///
    /// # Errors
    /// The kernel takes no submissions, which is fatal.
    pub(super) fn start(&mut self, slot: u16, flight: Flight) -> io::Result<Number> {
        let number = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            Number::try_from(self.flights.len() - 1)
                .unwrap_or_else(|_| unreachable!("operations are bounded by pool and slots"))
        });
        self.flights[number as usize] = Some(Entered { slot, flight });
        self.enlist(number)?;
        Ok(number)
    }

    /// Submits an operation, whose flight is there, again.
    ///
    /// # Errors
    /// As [`Ring::start`].
    pub(super) fn enlist(&mut self, number: Number) -> io::Result<()> {
        let room = {
            let queue = self.ring.submission();
            !queue.is_full()
        };
        let vectors = SLICES_MAX.max(BATCH_JOBS_MAX);
        if !room || self.vectors_used + vectors > VECTORS || self.heads_used == HEADS {
            self.submit()?;
        }
        let entry = self.describe(number).user_data(number.into());
        self.push(&entry)
    }

    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let entry = entry.clone().flags(Flags::FIXED_FILE);
        // SAFETY: What the entry points to lies in its flight until the completion, or in the
        // area of vectors and headers until the submission (see the module); the file is named
        // by its number in the ring's table.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| unsupported("room for a submission that was just emptied"))
    }

    /// The submission of a flight.
    fn describe(&mut self, number: Number) -> Entry {
        let Some(Entered { slot, flight }) = self.flights[number as usize].as_mut() else {
            unreachable!("an operation has its flight until it is landed");
        };
        let file = Fixed(u32::from(*slot));
        match flight {
            Flight::Receive { into, .. } => {
                let mut pieces = into.iter_mut().flatten().filter(|lease| lease.len() > 0);
                match (pieces.next(), pieces.next()) {
                    (Some(only), None) => {
                        let bytes = only.bytes_mut();
                        opcode::Recv::new(file, bytes.as_mut_ptr(), length(bytes.len())).build()
                    }
                    (first, second) => {
                        let start = self.vectors_used;
                        for lease in [first, second].into_iter().flatten() {
                            self.vectors[self.vectors_used] = vector_mut(lease.bytes_mut());
                            self.vectors_used += 1;
                        }
                        let vectors = &self.vectors[start..self.vectors_used];
                        opcode::Readv::new(file, vectors.as_ptr(), length(vectors.len())).build()
                    }
                }
            }
            Flight::Send { out, .. } => {
                let start = self.vectors_used;
                let (vectors, used) = (&mut self.vectors, &mut self.vectors_used);
                out.next(|slices| {
                    for slice in slices {
                        vectors[*used] = vector(slice);
                        *used += 1;
                    }
                });
                let head = &mut self.heads[self.heads_used];
                self.heads_used += 1;
                head.msg_iov = self.vectors[start..].as_mut_ptr();
                head.msg_iovlen = self.vectors_used - start;
                opcode::SendMsg::new(file, head)
                    .flags(libc::MSG_NOSIGNAL.cast_unsigned())
                    .build()
            }
            Flight::Accept { .. } => {
                let nobody = std::ptr::null_mut();
                opcode::Accept::new(file, nobody, std::ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Flight::Readable { .. } | Flight::Wake => {
                opcode::PollAdd::new(file, events(libc::POLLIN)).build()
            }
            // The kernel adds errors and both kinds of hang-ups; one of a half, which is none
            // here, must not end it.
            Flight::HangUp { .. } => opcode::PollAdd::new(file, events(libc::POLLHUP))
                .multi(true)
                .build(),
            Flight::Over => unreachable!("what is over is not begun again"),
            Flight::Disk(jobs) => {
                let offset = jobs.first().map_or(0, |job| job.offset);
                let start = self.vectors_used;
                let mut writes = false;
                for job in jobs.iter_mut() {
                    self.vectors[self.vectors_used] = match &mut job.work {
                        Work::Read(lease) => vector_mut(lease.bytes_mut()),
                        Work::Write(lease) => {
                            writes = true;
                            vector(lease.bytes())
                        }
                        _ => unreachable!("the ring reads and writes"),
                    };
                    self.vectors_used += 1;
                }
                let vectors = &self.vectors[start..self.vectors_used];
                let (vectors, count) = (vectors.as_ptr(), length(vectors.len()));
                if writes {
                    let entry = opcode::Writev::new(file, vectors, count);
                    entry.offset(offset).rw_flags(libc::RWF_NOWAIT).build()
                } else {
                    let entry = opcode::Readv::new(file, vectors, count);
                    entry.offset(offset).rw_flags(libc::RWF_NOWAIT).build()
                }
            }
        }
    }

    /// Asks for the early end of an operation, which completes all the same.
    ///
    /// # Errors
    /// As [`Ring::start`].
    pub(super) fn cancel(&mut self, number: Number) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit()?;
        }
        let entry = opcode::AsyncCancel::new(number.into()).build();
        self.push(&entry.user_data(NOBODY))
    }

    /// Whether nothing waits to be submitted.
    pub(super) fn is_submitted(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// Whether something has completed, or will have as soon as the ring is entered.
    pub(super) fn has_landed(&self) -> bool {
        // SAFETY: Only this thread has the ring, and neither queue is held elsewhere.
        let (completions, submissions) =
            unsafe { (self.ring.completion_shared(), self.ring.submission_shared()) };
        !completions.is_empty() || submissions.taskrun()
    }

    /// Submits what there is, without waiting.
    ///
    /// # Errors
    /// The kernel takes no submissions.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
                _ => {}
            }
        }
        self.vectors_used = 0;
        self.heads_used = 0;
        Ok(())
    }

    /// Submits what there is and waits until something has completed, or the time is over; without
    /// a system call if there is nothing to submit and no time to wait.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
        }
        let submitter = self.ring.submitter();
        let waited = match timeout {
            None => submitter.submit_and_wait(1),
            Some(Duration::ZERO) => submitter.submit(),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match waited {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
        if self.ring.submission().is_empty() {
            self.vectors_used = 0;
            self.heads_used = 0;
        }
        Ok(())
    }

    /// The next of what has completed. Its flight is taken by [`Ring::land`], unless there is
    /// more to come.
    pub(super) fn next(&mut self) -> Option<Landed> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() == NOBODY {
                continue;
            }
            let number = Number::try_from(entry.user_data())
                .unwrap_or_else(|_| unreachable!("the kernel returns what it was given"));
            return Some(Landed {
                number,
                result: entry.result(),
                more: io_uring::cqueue::more(entry.flags()),
            });
        }
    }

    /// The flight of an operation that has completed, and the slot it was on.
    pub(super) fn flight(&mut self, number: Number) -> (u16, &mut Flight) {
        match self.flights[number as usize].as_mut() {
            Some(entered) => (entered.slot, &mut entered.flight),
            None => unreachable!("an operation has its flight until it is landed"),
        }
    }

    /// Takes the flight of an operation that has completed for the last time.
    pub(super) fn land(&mut self, number: Number) -> Flight {
        let Some(entered) = self.flights[number as usize].take() else {
            unreachable!("an operation has its flight until it is landed");
        };
        self.free.push(number);
        entered.flight
    }

    /// Operations in flight on any slot.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Gives the memory of what is in flight up for ever: the kernel may still write to it.
    pub(super) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.flights));
        self.free.clear();
    }

    /// Numbers of all operations in flight.
    pub(super) fn numbers(&self) -> Vec<Number> {
        (0..)
            .zip(&self.flights)
            .filter_map(|(number, flight)| flight.as_ref().map(|_| number))
            .collect()
    }
}

/// A descriptor that a completion has brought.
pub(super) fn received_descriptor(number: i32) -> OwnedFd {
    // SAFETY: The kernel made this descriptor for the accept that has just completed, and told
    // nobody else of it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The best ring that this kernel has; disabled.
fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_r_disabled().setup_clamp();
    builder.setup_cqsize(COMPLETIONS).setup_submit_all();
    let mut best = builder.clone();
    best.setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    match best.build(ENTRIES) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        built => return built,
    }
    // Before Linux 6.1.
    builder
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(ENTRIES)
}

/// Whether waiting ended for a reason that is no failure: a signal, the time, completions that
/// have to be taken first.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ETIME | libc::EBUSY)
    )
}

fn events(events: libc::c_short) -> u32 {
    u32::from(events.cast_unsigned())
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn vector_mut(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

fn no_head() -> libc::msghdr {
    // SAFETY: A header of no message: null pointers and zero lengths are valid for all fields.
    unsafe { std::mem::zeroed() }
}

/// A length that is bounded by a buffer of the pool, or by a number of vectors.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
