//! Rights and ioctls of descriptors, from the policy.

use std::io;
use std::os::fd::BorrowedFd;

use capsicum::{CapRights, Fcntl, FcntlRights, FileRights, IoctlsBuilder, Right as CapRight};

use super::sys;
use crate::policy::{self, Descriptor, Kind, Right, roles};
use crate::step::{Outcome, Result};
use crate::{Config, held};

/// Limits every descriptor that the process holds, the standard ones included.
pub(super) fn limit_held(config: &Config) -> Result {
    let standard = held::STANDARD
        .iter()
        .map(|number| (*number, roles::STANDARD));
    let others = config
        .descriptors
        .iter()
        .map(|held| (held.number, held.role));
    let mut count = 0;
    for (number, role) in standard.chain(others) {
        sys::with_descriptor(number, |descriptor| {
            limit_received(config.kind, role, descriptor)
        })
        .map_err(|error| format!("descriptor {number} ({role}): {error}"))?;
        count += 1;
    }
    Ok(Outcome::InForce(Some(format!("{count} descriptors"))))
}

/// Limits a descriptor to what its role may do: one that was received after confinement.
pub fn limit_received(kind: Kind, role: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let entry = policy::descriptor(kind, role).ok_or_else(|| {
        io::Error::other(format!(
            "a {} may hold no descriptor for the {role}",
            kind.as_str()
        ))
    })?;
    limit(entry, descriptor)
}

fn limit(entry: &Descriptor, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut rights = FileRights::new();
    for right in entry.rights {
        rights.allow(right_of(*right));
    }
    rights.limit(&descriptor)?;
    if entry.rights.contains(&Right::Ioctl) {
        let mut ioctls = IoctlsBuilder::new();
        for ioctl in entry.ioctls {
            ioctls = ioctls.allow(libc::u_long::from(ioctl.code()));
        }
        ioctls.finalize().limit(&descriptor)?;
    }
    if entry.rights.contains(&Right::Fcntl) {
        // Whether calls wait, and nothing else: not who gets signals.
        FcntlRights::new()
            .allow(Fcntl::GetFL)
            .allow(Fcntl::SetFL)
            .limit(&descriptor)?;
    }
    // The kernel grants what was asked for, no more.
    if FileRights::from_file(&descriptor)? != rights {
        return Err(io::Error::other(
            "the rights in force are others than those that were set",
        ));
    }
    Ok(())
}

fn right_of(right: Right) -> CapRight {
    match right {
        Right::Accept => CapRight::Accept,
        Right::Event => CapRight::Event,
        Right::Fcntl => CapRight::Fcntl,
        Right::Flock => CapRight::Flock,
        Right::Fstat => CapRight::Fstat,
        Right::Fsync => CapRight::Fsync,
        Right::Getpeername => CapRight::Getpeername,
        Right::Getsockname => CapRight::Getsockname,
        Right::Getsockopt => CapRight::Getsockopt,
        Right::Ioctl => CapRight::Ioctl,
        Right::Pread => CapRight::Pread,
        Right::Pwrite => CapRight::Pwrite,
        Right::Read => CapRight::Read,
        Right::Setsockopt => CapRight::Setsockopt,
        Right::Shutdown => CapRight::Shutdown,
        Right::Write => CapRight::Write,
    }
}
