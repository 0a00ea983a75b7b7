//! Providers on Linux: regular files and block devices.

#![allow(unsafe_code)]

use std::fs::FileType;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::fdatasync;

use super::{Info, Kind, signed};
use crate::disk::layout::Geometry;

/// The ioctls of <linux/fs.h>. All but the first are numbered without a size, so their arguments
/// are as the kernel's `blkdev_ioctl` reads and writes them.
mod ioctl {
    use nix::{ioctl_read, ioctl_read_bad, ioctl_write_ptr_bad, request_code_none};

    ioctl_read! {
        /// Length of the device in bytes, written as u64 whatever the word size.
        blkgetsize64, 0x12, 114, u64
    }
    ioctl_read_bad! {
        /// Logical sector in bytes, an int.
        blksszget, request_code_none!(0x12, 104), libc::c_int
    }
    ioctl_read_bad! {
        /// Physical sector in bytes, an unsigned int.
        blkpbszget, request_code_none!(0x12, 123), libc::c_uint
    }
    ioctl_read_bad! {
        /// Optimal length of I/O in bytes, an unsigned int.
        blkioopt, request_code_none!(0x12, 121), libc::c_uint
    }
    ioctl_write_ptr_bad! {
        /// Discards a range: offset and length in bytes.
        blkdiscard, request_code_none!(0x12, 119), [u64; 2]
    }
    ioctl_write_ptr_bad! {
        /// Zeroes a range: offset and length in bytes; the kernel writes if the device cannot.
        blkzeroout, request_code_none!(0x12, 127), [u64; 2]
    }
}

/// Whether a file of this type, not a regular one, can be a disk.
pub(super) fn may_be_disk(file_type: FileType) -> bool {
    file_type.is_block_device()
}

/// On a block device, O_EXCL without O_CREAT fails with EBUSY while a mounted file system, a
/// volume manager or anybody else holds the device in the same way (open(2)).
pub(super) fn exclusive_open_flags(file_type: FileType) -> libc::c_int {
    if file_type.is_block_device() {
        libc::O_EXCL
    } else {
        0
    }
}

/// What the kernel says about a block device; an error says which size it would not tell.
pub(super) fn device_info(fd: BorrowedFd<'_>) -> Result<Info, (&'static str, io::Error)> {
    let raw = fd.as_raw_fd();
    let mut mediasize = 0_u64;
    let mut logical: libc::c_int = 0;
    let mut physical: libc::c_uint = 0;
    let mut optimal: libc::c_uint = 0;
    // SAFETY: `raw` is open for the duration of the call and the kernel writes one u64.
    unsafe { ioctl::blkgetsize64(raw, &raw mut mediasize) }
        .map_err(|errno| ("mediasize", errno.into()))?;
    // SAFETY: as above; the kernel writes one int.
    unsafe { ioctl::blksszget(raw, &raw mut logical) }
        .map_err(|errno| ("sectorsize", errno.into()))?;
    let sectorsize = u32::try_from(logical)
        .ok()
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| ("sectorsize", Errno::EINVAL.into()))?;
    // The two hints are optional: a device that does not know them has none.
    // SAFETY: as above; the kernel writes one unsigned int.
    let physical = unsafe { ioctl::blkpbszget(raw, &raw mut physical) }.map_or(0, |_| physical);
    // SAFETY: as above; the kernel writes one unsigned int.
    let optimal_io = unsafe { ioctl::blkioopt(raw, &raw mut optimal) }.map_or(0, |_| optimal);
    Ok(Info {
        kind: Kind::Device,
        geometry: Geometry {
            mediasize,
            sectorsize,
        },
        physical_sectorsize: physical.max(sectorsize),
        optimal_io,
    })
}

/// fdatasync(2) for both kinds: of a file it writes all that reading the data back needs, without
/// the time stamps that fsync(2) adds at the price of a journal commit; of a block device it
/// empties the page cache and then the device's own cache (BLKFLSBUF would do only the former).
pub(super) fn flush(_: Kind, fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fdatasync(fd)?)
}

pub(super) fn delete(kind: Kind, fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    match kind {
        Kind::File => {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            Ok(fallocate(fd, flags, signed(offset)?, signed(length)?)?)
        }
        Kind::Device => {
            // SAFETY: `fd` is open for the duration of the call and the kernel reads two u64.
            unsafe { ioctl::blkdiscard(fd.as_raw_fd(), &[offset, length]) }?;
            Ok(())
        }
    }
}

pub(super) fn zero(kind: Kind, fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    match kind {
        Kind::File => {
            let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            Ok(fallocate(fd, flags, signed(offset)?, signed(length)?)?)
        }
        Kind::Device => {
            // SAFETY: `fd` is open for the duration of the call and the kernel reads two u64.
            unsafe { ioctl::blkzeroout(fd.as_raw_fd(), &[offset, length]) }?;
            Ok(())
        }
    }
}
