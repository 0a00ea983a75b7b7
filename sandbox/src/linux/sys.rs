//! Calls of prctl(2) that nix has no wrapper for.
#![allow(unsafe_code)]

use std::io;

/// True if the capability is in the bounding set; an error if there is none of that number.
pub(super) fn is_in_bounding_set(number: u32) -> io::Result<bool> {
    Ok(option(libc::PR_CAPBSET_READ, number)? == 1)
}

/// Drops a capability from the bounding set.
pub(super) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    option(libc::PR_CAPBSET_DROP, number).map(|_| ())
}

/// The seccomp mode of this thread: 2 with a filter.
pub(super) fn seccomp_mode() -> io::Result<i32> {
    option(libc::PR_GET_SECCOMP, 0)
}

fn option(option: i32, argument: u32) -> io::Result<i32> {
    // SAFETY: the options above take numbers only.
    match unsafe { libc::prctl(option, libc::c_ulong::from(argument), 0_u64, 0_u64, 0_u64) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
