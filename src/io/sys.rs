//! System calls that no safe wrapper offers in the form that the drivers need.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::time::Duration;

/// Reads what the page cache holds, without waiting for a disk.
///
/// # Errors
/// `EAGAIN`: it would have to wait; `EOPNOTSUPP` and the like: this file cannot do that.
#[cfg(target_os = "linux")]
pub(super) fn read_cached(
    fd: std::os::fd::BorrowedFd<'_>,
    bytes: &mut [u8],
    offset: i64,
) -> std::io::Result<usize> {
    use std::os::fd::AsRawFd;

    let iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: One range, which the exclusive borrow of `bytes` covers for the whole call.
    let read =
        unsafe { libc::preadv2(fd.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| std::io::Error::last_os_error())
}

/// Writes, and returns when what was written is on stable storage.
///
/// # Errors
/// The system's reason; `EOPNOTSUPP` and the like: this file cannot do that.
#[cfg(target_os = "linux")]
pub(super) fn write_through(
    fd: std::os::fd::BorrowedFd<'_>,
    bytes: &[u8],
    offset: i64,
) -> std::io::Result<usize> {
    use std::os::fd::AsRawFd;

    let iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: One range, which is read only and borrowed for the whole call.
    let written =
        unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| std::io::Error::last_os_error())
}

/// Waits for descriptors. A signal counts as the end of the time.
///
/// # Errors
/// The system's reason, which is never temporary.
pub(super) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> std::io::Result<()> {
    let timeout_ms = match timeout {
        None => -1,
        // Rounded up, or a deadline less than a millisecond away would be waited for in a loop.
        Some(timeout) => libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000))
            .unwrap_or(libc::c_int::MAX),
    };
    let count = libc::nfds_t::try_from(fds.len())
        .map_err(|_| std::io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: The kernel reads and writes exactly `count` entries, which are borrowed exclusively.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), count, timeout_ms) };
    if ready >= 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    for entry in fds {
        entry.revents = 0;
    }
    if error.kind() == std::io::ErrorKind::Interrupted {
        return Ok(());
    }
    Err(error)
}

/// An entry for [`poll`].
pub(super) fn pollfd(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}
