//! Descriptors that a child was started with, by number.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::IPC_DESCRIPTOR;

/// Why an inherited descriptor cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub enum InheritedError {
    /// The standard descriptors belong to the standard library.
    Standard(RawFd),
    /// It was taken before.
    Taken(RawFd),
    /// It is not open: this process was not started by [`super::Spawn`].
    NotOpen(RawFd, nix::errno::Errno),
}

impl fmt::Display for InheritedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InheritedError::Standard(number) => {
                write!(f, "descriptor {number} is a standard one")
            }
            InheritedError::Taken(number) => write!(f, "descriptor {number} was taken before"),
            InheritedError::NotOpen(number, error) => write!(
                f,
                "descriptor {number} is not open ({error}): this process must be started by its \
                 parent"
            ),
        }
    }
}

impl std::error::Error for InheritedError {}

/// Numbers that were taken: each has one owner.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The child's end of its channel.
pub fn take_ipc() -> Result<OwnedFd, InheritedError> {
    take_descriptor(IPC_DESCRIPTOR)
}

/// An inherited descriptor, from [`IPC_DESCRIPTOR`] on; closed on exec from now on.
///
/// To be called at the start of `main`, before this process has opened anything of its own.
pub fn take_descriptor(number: RawFd) -> Result<OwnedFd, InheritedError> {
    if number < IPC_DESCRIPTOR {
        return Err(InheritedError::Standard(number));
    }
    if !TAKEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(number)
    {
        return Err(InheritedError::Taken(number));
    }
    // SAFETY: fcntl(2) refuses a number that is not open; the number is not closed meanwhile, as it
    // has no owner yet.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|error| InheritedError::NotOpen(number, error))?;
    // SAFETY: open, as fcntl(2) just said, inherited, and without another owner, as TAKEN says.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The owner of a number that fcntl(2) with F_DUPFD_CLOEXEC just returned.
pub(super) fn adopt_copy(number: RawFd) -> OwnedFd {
    // SAFETY: the caller got the number from the kernel for a new descriptor, which has no owner.
    unsafe { OwnedFd::from_raw_fd(number) }
}
