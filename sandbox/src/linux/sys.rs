//! Calls of prctl(2) and io_uring_register(2) that nix has no wrapper for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

/// `IORING_REGISTER_RESTRICTIONS` of linux/io_uring.h.
const REGISTER_RESTRICTIONS: libc::c_uint = 11;

/// What a restriction is of (`IORING_RESTRICTION_*`).
#[derive(Clone, Copy)]
pub(super) enum What {
    /// This registration is allowed.
    Registration = 0,
    /// This operation is allowed.
    Operation = 1,
    /// No other flags of submissions than these are allowed.
    FlagsAllowed = 2,
    /// These flags are required.
    FlagsRequired = 3,
}

/// `struct io_uring_restriction`.
#[repr(C)]
pub(super) struct Restriction {
    opcode: u16,
    value: u8,
    reserved: u8,
    reserved_too: [u32; 3],
}

impl Restriction {
    pub(super) fn new(what: What, value: u8) -> Restriction {
        Restriction {
            opcode: what as u16,
            value,
            reserved: 0,
            reserved_too: [0; 3],
        }
    }
}

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

/// Restricts a ring that is not enabled yet to what the entries say.
pub(super) fn restrict_ring(ring: RawFd, restrictions: &[Restriction]) -> io::Result<()> {
    let count = libc::c_uint::try_from(restrictions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: The kernel reads exactly `count` entries of its own layout, which are borrowed for
    // the whole call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_RESTRICTIONS,
            restrictions.as_ptr(),
            count,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
