//! Providers on FreeBSD: regular files and GEOM providers, which are character devices.

#![allow(unsafe_code)]

use std::fs::FileType;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::unistd::fsync;

use super::{Info, Kind, signed};
use crate::disk::layout::Geometry;

/// The ioctls of <sys/disk.h>.
mod ioctl {
    use nix::{ioctl_none, ioctl_read, ioctl_write_ptr};

    ioctl_read! {
        /// Sector in bytes.
        diocgsectorsize, b'd', 128, libc::c_uint
    }
    ioctl_read! {
        /// Length of the provider in bytes.
        diocgmediasize, b'd', 129, libc::off_t
    }
    ioctl_none! {
        /// Flushes the device's write cache.
        diocgflush, b'd', 135
    }
    ioctl_write_ptr! {
        /// Deletes a range: offset and length in bytes.
        diocgdelete, b'd', 136, [libc::off_t; 2]
    }
    ioctl_read! {
        /// Stripe size in bytes, which for a disk is its physical sector; 0 if there is none.
        diocgstripesize, b'd', 139, libc::off_t
    }
}

/// Whether a file of this type, not a regular one, can be a disk: [`device_info`] has to say so.
pub(super) fn may_be_disk(file_type: FileType) -> bool {
    file_type.is_char_device()
}

/// GEOM itself refuses to open for writing a provider that others hold exclusively.
pub(super) fn exclusive_open_flags(_: FileType) -> libc::c_int {
    0
}

/// What GEOM says about a provider; an error says which size it would not tell: other character
/// devices fail with ENOTTY.
pub(super) fn device_info(fd: BorrowedFd<'_>) -> Result<Info, (&'static str, io::Error)> {
    let raw = fd.as_raw_fd();
    let mut mediasize: libc::off_t = 0;
    let mut sectorsize: libc::c_uint = 0;
    let mut stripesize: libc::off_t = 0;
    // SAFETY: `raw` is open for the duration of the call and the kernel writes one off_t.
    unsafe { ioctl::diocgmediasize(raw, &raw mut mediasize) }
        .map_err(|errno| ("mediasize", errno.into()))?;
    // SAFETY: as above; the kernel writes one u_int.
    unsafe { ioctl::diocgsectorsize(raw, &raw mut sectorsize) }
        .map_err(|errno| ("sectorsize", errno.into()))?;
    let mediasize = u64::try_from(mediasize).map_err(|_| ("mediasize", Errno::EINVAL.into()))?;
    if sectorsize == 0 {
        return Err(("sectorsize", Errno::EINVAL.into()));
    }
    // The stripe is a hint: a provider that does not know it has none.
    // SAFETY: as above; the kernel writes one off_t.
    let stripesize = unsafe { ioctl::diocgstripesize(raw, &raw mut stripesize) }
        .ok()
        .and_then(|_| u32::try_from(stripesize).ok())
        .unwrap_or(0);
    Ok(Info {
        kind: Kind::Device,
        geometry: Geometry {
            mediasize,
            sectorsize,
        },
        physical_sectorsize: stripesize.max(sectorsize),
        optimal_io: stripesize,
    })
}

pub(super) fn flush(kind: Kind, fd: BorrowedFd<'_>) -> io::Result<()> {
    match kind {
        Kind::File => Ok(fsync(fd)?),
        Kind::Device => {
            // SAFETY: `fd` is open for the duration of the call, which takes no argument.
            unsafe { ioctl::diocgflush(fd.as_raw_fd()) }?;
            Ok(())
        }
    }
}

/// Files would need fspacectl(2), which FreeBSD has from 14 on only.
pub(super) fn delete(kind: Kind, fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    match kind {
        Kind::File => Err(Errno::EOPNOTSUPP.into()),
        Kind::Device => {
            let range = [signed(offset)?, signed(length)?];
            // SAFETY: `fd` is open for the duration of the call and the kernel reads two off_t.
            unsafe { ioctl::diocgdelete(fd.as_raw_fd(), &raw const range) }?;
            Ok(())
        }
    }
}

/// FreeBSD has no such call for either kind; the caller writes zeros.
pub(super) fn zero(_: Kind, _: BorrowedFd<'_>, _: u64, _: u64) -> io::Result<()> {
    Err(Errno::EOPNOTSUPP.into())
}
