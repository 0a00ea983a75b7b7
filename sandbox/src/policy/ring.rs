//! The table of what the ring of the io_uring driver may do (Linux).
//!
//! An operation of a ring is no system call, so that no filter sees it. The ring itself is what
//! refuses: it is told this table before anything is submitted (`IORING_REGISTER_RESTRICTIONS`),
//! and takes files of its table of registered ones only (`IOSQE_FIXED_FILE` is required), which
//! can be filled with descriptors that the process holds, and with nothing else.

/// One entry: an operation, or a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// Its name in linux/io_uring.h.
    pub name: &'static str,
    /// Its number there.
    pub number: u8,
    /// Why it is there.
    pub reason: &'static str,
}

const fn permitted(name: &'static str, number: u8, reason: &'static str) -> Permitted {
    Permitted {
        name,
        number,
        reason,
    }
}

/// Every operation that a ring takes.
pub const OPERATIONS: &[Permitted] = &[
    permitted(
        "IORING_OP_READV",
        1,
        "the local component; sockets, into several buffers",
    ),
    permitted("IORING_OP_WRITEV", 2, "the local component"),
    permitted(
        "IORING_OP_POLL_ADD",
        6,
        "the channel to the parent, wake-ups, clients that go away",
    ),
    permitted("IORING_OP_SENDMSG", 9, "connected sockets"),
    permitted(
        "IORING_OP_ACCEPT",
        13,
        "NBD clients on a socket that listens already",
    ),
    permitted(
        "IORING_OP_ASYNC_CANCEL",
        14,
        "the end of a connection: of operations of this ring",
    ),
    permitted("IORING_OP_RECV", 27, "sockets"),
];

/// Every registration that a ring takes once it is enabled.
pub const REGISTRATIONS: &[Permitted] = &[permitted(
    "IORING_REGISTER_FILES_UPDATE",
    6,
    "connections that come later; of descriptors that the process holds",
)];

/// The numbers of [`OPERATIONS`].
pub fn operations() -> Vec<u8> {
    OPERATIONS.iter().map(|entry| entry.number).collect()
}

/// The numbers of [`REGISTRATIONS`].
pub fn registrations() -> Vec<u8> {
    REGISTRATIONS.iter().map(|entry| entry.number).collect()
}
