//! The restrictions of a ring, made from the policy.

use std::io;
use std::os::fd::AsRawFd;

use super::sys::{self, Restriction, What};
use crate::policy::ring::{OPERATIONS, REGISTRATIONS};

/// `IOSQE_FIXED_FILE`: the submission names a registered file.
const FIXED_FILE: u8 = 1;

/// Restricts a ring to the policy, for ever: to its operations, on registered files only, and to
/// its registrations. The ring must have been made disabled (`IORING_SETUP_R_DISABLED`) and has to
/// be enabled afterwards.
///
/// # Errors
/// The kernel's: it knows no restrictions, or the ring is in use already.
pub fn restrict(ring: &impl AsRawFd) -> io::Result<()> {
    let operations = OPERATIONS
        .iter()
        .map(|entry| Restriction::new(What::Operation, entry.number));
    let registrations = REGISTRATIONS
        .iter()
        .map(|entry| Restriction::new(What::Registration, entry.number));
    let flags = [What::FlagsAllowed, What::FlagsRequired];
    let flags = flags
        .into_iter()
        .map(|what| Restriction::new(what, FIXED_FILE));
    let all: Vec<Restriction> = operations.chain(registrations).chain(flags).collect();
    sys::restrict_ring(ring.as_raw_fd(), &all)
}
