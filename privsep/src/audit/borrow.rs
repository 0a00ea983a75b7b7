//! Looking at a descriptor that somebody else owns, by its number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Calls `look` with the descriptor, which may turn out not to be open (EBADF). `look` must only
/// ask the kernel about it.
pub(super) fn with<T>(
    number: RawFd,
    look: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    // SAFETY: the number is not -1: the callers count from 0. The borrow lives for a few queries
    // only; a number that is not open makes them fail, and changes nothing.
    look(unsafe { BorrowedFd::borrow_raw(number) })
}
