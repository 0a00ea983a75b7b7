//! The interface between a worker and a driver: submit operations, wait for their completions.
//!
//! An operation names a registered descriptor by its [`Slot`], carries a token of the caller's and
//! is answered by exactly one [`Completion`] with it, in any order. From submission to completion
//! the operation owns its part of the buffers (see [`super::pool`]) and the vectors that it was
//! given; the vectors come back with the completion, so that they can be used again.
//!
//! Operations start at any time from their submission to the next [`Proactor::wait`]: a caller
//! submits everything that is ready, then waits once. Operations on a disk run in parallel and in
//! no particular order; only `Flush` and `fua` promise anything about stable storage. A socket
//! takes one operation of each kind at a time.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::outgoing::Outgoing;
use super::pool::Piece;
use crate::terms::Errno;

/// The caller's name for an operation; need not be unique.
pub type Token = u64;

/// A registered descriptor. Slots are used again after [`Proactor::detach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// A local component, as far as reading and writing its descriptor does not do. The functions may
/// block, and are called by several threads at once; `flush` by one at a time.
pub trait Disk: Send + Sync {
    /// The descriptor that is read from and written to.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// The system's reason. The range's content is then unknown.
    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Discards a range, if the disk can.
    ///
    /// # Errors
    /// The system's reason; `EOPNOTSUPP`: it cannot.
    fn delete(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Writes the volatile cache back.
    ///
    /// # Errors
    /// The system's reason. What was written before may be lost: drivers never ask again.
    fn flush(&self) -> Result<(), Errno>;
}

/// An operation on a disk. Offsets count from the start of the provider, in bytes.
#[derive(Debug)]
pub enum DiskIo {
    /// Fills the piece.
    Read {
        /// Where.
        offset: u64,
        /// Where to.
        piece: Piece,
    },
    /// Stores the piece.
    Write {
        /// Where.
        offset: u64,
        /// Where from.
        piece: Piece,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Stores bytes that are not in a buffer: bitmap and metadata.
    WriteBytes {
        /// Where.
        offset: u64,
        /// What; returned by the completion.
        bytes: Vec<u8>,
        /// Done only when on stable storage, without waiting for anything else to get there.
        durable: bool,
    },
    /// Stores zeros.
    Zero {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Discards.
    Delete {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Puts everything on stable storage that was done before this was submitted. Once it has
    /// failed, it and every `fua` fail on this slot for ever: the system reports a lost write
    /// once only, and a later success would be a lie.
    Flush,
}

/// An operation on a socket, or on anything that poll(2) knows.
#[derive(Debug)]
pub enum SocketIo {
    /// Receives what there is, at least a byte, into the first piece and, when that is full, into
    /// the second.
    Receive {
        /// Where to; not both empty.
        into: [Option<Piece>; 2],
    },
    /// Sends all of it.
    Send(Outgoing),
    /// Accepts one connection of a listening socket.
    Accept,
    /// Waits until there is something to read, or the other end is gone.
    Readable,
    /// Waits until the other end is gone, whatever it has left to be read.
    HangUp,
}

impl SocketIo {
    /// How it ends if it cannot even be begun.
    pub(super) fn refused(self, error: std::io::Error) -> Done {
        match self {
            SocketIo::Receive { .. } => Done::Received(Err(error)),
            SocketIo::Send(mut out) => {
                out.clear();
                Done::Sent(Err(error), out)
            }
            SocketIo::Accept => Done::Accepted(Err(error)),
            SocketIo::Readable => Done::Readable(Err(error)),
            SocketIo::HangUp => Done::HungUp(Err(error)),
        }
    }
}

/// An operation is done.
#[derive(Debug)]
pub struct Completion {
    /// The caller's token.
    pub token: Token,
    /// What was done.
    pub done: Done,
}

/// How an operation ended. Those on a socket that is detached end with `ECANCELED`.
#[derive(Debug)]
pub enum Done {
    /// Any [`DiskIo`].
    Disk {
        /// Success means all of it: short reads and writes were continued or are errors.
        result: Result<(), Errno>,
        /// The vector of `WriteBytes`; empty otherwise.
        bytes: Vec<u8>,
    },
    /// [`SocketIo::Receive`]: how many bytes; 0: the other end has finished.
    Received(std::io::Result<usize>),
    /// [`SocketIo::Send`]: what was sent, empty now.
    Sent(std::io::Result<()>, Outgoing),
    /// [`SocketIo::Accept`]: the connection, closed on exec.
    Accepted(std::io::Result<OwnedFd>),
    /// [`SocketIo::Readable`].
    Readable(std::io::Result<()>),
    /// [`SocketIo::HangUp`].
    HungUp(std::io::Result<()>),
}

/// A driver.
pub trait Proactor {
    /// Registers a local component.
    ///
    /// # Errors
    /// Too many descriptors are registered, or this one cannot be asked for its mode.
    fn attach_disk(&mut self, disk: Arc<dyn Disk>) -> std::io::Result<Slot>;

    /// Registers a socket, and makes it non-blocking.
    ///
    /// # Errors
    /// Too many descriptors are registered, or this one cannot be made non-blocking.
    fn attach_socket(&mut self, fd: OwnedFd) -> std::io::Result<Slot>;

    /// Forgets a slot. A socket's operations are cancelled, and complete so, and it is closed; a
    /// disk's operations are finished, and complete as ever, before its descriptor is closed.
    fn detach(&mut self, slot: Slot);

    /// Submits an operation on a disk.
    fn disk(&mut self, slot: Slot, token: Token, op: DiskIo);

    /// Submits an operation on a socket.
    fn socket(&mut self, slot: Slot, token: Token, op: SocketIo);

    /// Whether the next `wait` will find something done without sleeping: who has little to send
    /// may add to it first, instead of spending a system call on each reply.
    fn is_ready(&self) -> bool;

    /// Starts what was submitted, waits until an operation is done or the time is over, and
    /// appends what is done. `None`: without limit of time.
    ///
    /// # Errors
    /// The system refuses to wait: nothing can go on.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> std::io::Result<()>;
}
