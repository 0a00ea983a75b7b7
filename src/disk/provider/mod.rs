//! The local component as a file or device: what it is, how large, who uses it, and exact I/O on
//! its metadata block and bitmap.
//!
//! [`Provider::open`] decides by the type of the file whether it can be one at all; everything
//! that is neither a regular file nor a disk is refused by the name of its type. A worker and
//! `hastctl create` open with [`Access::Exclusive`], which takes the lock that keeps them apart;
//! `hastctl dump` only looks.
//!
//! [`Kind`] has the operations that differ between files and devices and between systems: flush,
//! delete, zero. They take a bare descriptor, so that a driver can call them from any thread. The
//! platforms have a file each, which is where the unsafe code is.

#[cfg(target_os = "freebsd")]
#[path = "freebsd.rs"]
mod sys;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod sys;

mod error;
#[cfg(test)]
mod tests;

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use crate::disk::layout::{Geometry, METADATA_LEN};
use crate::terms::SECTOR_BYTES;

pub use error::{IoError, OpenError};

/// Largest run of zeros that is written at once, in bytes.
const ZEROS_BYTES: usize = 64 * 1024;

/// How a provider is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look, whoever else uses it.
    ReadOnly,
    /// To read and write, alone.
    Exclusive,
    /// To read and write, even if somebody else uses it: for who insists on overwriting it.
    Forced,
}

/// Whether [`Access::Exclusive`] could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Opened to look: not asked for.
    None,
    /// Held until the last descriptor of this opening is closed.
    Held,
    /// Somebody else holds it; only with [`Access::Forced`].
    Taken,
    /// The file system has no locks: worth a warning, as nothing keeps others away.
    Unsupported,
}

/// What kind of thing the component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A block device on Linux; on FreeBSD a character device that is a disk.
    Device,
}

/// What the system says about a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// File or device.
    pub kind: Kind,
    /// The sizes that the layout depends on.
    pub geometry: Geometry,
    /// Unit in which the medium stores data, in bytes: smaller writes cost a read. At least the
    /// sector size.
    pub physical_sectorsize: u32,
    /// Preferred length of I/O, in bytes; 0 if the system does not say.
    pub optimal_io: u32,
}

/// An open local component.
#[derive(Debug)]
pub struct Provider {
    file: File,
    path: PathBuf,
    info: Info,
    lock: Lock,
}

impl Provider {
    /// Opens the component at `path`.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be opened, is no file or disk, its size cannot be found out, or,
    /// with [`Access::Exclusive`], somebody else has it open that way.
    pub fn open(path: &Path, access: Access) -> Result<Provider, OpenError> {
        let system = |reason| OpenError::System {
            path: path.to_owned(),
            reason,
        };
        let refused = |what| OpenError::NotADisk {
            path: path.to_owned(),
            what,
        };

        // Opening some kinds of file has effects (a tape rewinds) or waits (a FIFO): ask first.
        let file_type = fs::metadata(path).map_err(system)?.file_type();
        if let Some(what) = refusal(file_type) {
            return Err(refused(what));
        }
        let writable = access != Access::ReadOnly;
        let mut flags = libc::O_NOCTTY;
        if access == Access::Exclusive {
            flags |= sys::exclusive_open_flags(file_type);
        }
        // The standard library adds O_CLOEXEC.
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .custom_flags(flags)
            .open(path)
            .map_err(|reason| match reason.raw_os_error() {
                Some(libc::EBUSY) if access == Access::Exclusive => OpenError::InUse {
                    path: path.to_owned(),
                },
                _ => system(reason),
            })?;
        let opened = file.metadata().map_err(system)?;
        if let Some(what) = refusal(opened.file_type()) {
            return Err(refused(what));
        }

        let info = if opened.is_file() {
            Info {
                kind: Kind::File,
                geometry: Geometry {
                    mediasize: opened.len(),
                    sectorsize: SECTOR_BYTES,
                },
                physical_sectorsize: SECTOR_BYTES,
                optimal_io: 0,
            }
        } else {
            sys::device_info(file.as_fd()).map_err(|(what, reason)| OpenError::NoSize {
                path: path.to_owned(),
                what,
                reason,
            })?
        };
        let lock = match access {
            Access::ReadOnly => Lock::None,
            Access::Exclusive => lock(path, &file)?,
            Access::Forced => match lock(path, &file) {
                Err(OpenError::InUse { .. }) => Lock::Taken,
                locked => locked?,
            },
        };
        Ok(Provider {
            file,
            path: path.to_owned(),
            info,
            lock,
        })
    }

    /// What the system said when it was opened.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others are kept away.
    pub fn lock(&self) -> Lock {
        self.lock
    }

    /// The open file, for a driver. The lock stays with it.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// The system's, or that the provider ends before; `what` names what was to be read.
    pub fn read(&self, what: &'static str, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|reason| self.failed("read", what, reason))
    }

    /// Writes all of `bytes` at `offset`; it is not on stable storage before [`Provider::flush`].
    ///
    /// # Errors
    /// The system's; `what` names what was to be written.
    pub fn write(&self, what: &'static str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|reason| self.failed("write", what, reason))
    }

    /// Reads the metadata block as it is, good or bad.
    ///
    /// # Errors
    /// See [`Provider::read`].
    pub fn read_block(&self) -> Result<Box<[u8; METADATA_LEN]>, IoError> {
        let mut block = Box::new([0; METADATA_LEN]);
        self.read("metadata", 0, block.as_mut_slice())?;
        Ok(block)
    }

    /// Writes zeros over `length` bytes at `offset`.
    ///
    /// # Errors
    /// The system's; `what` names what was to be zeroed.
    pub fn zero(&self, what: &'static str, offset: u64, length: u64) -> Result<(), IoError> {
        self.info
            .kind
            .zero(self.file.as_fd(), offset, length)
            .map_err(|reason| self.failed("write", what, reason))
    }

    /// Brings everything written so far to stable storage. A device without a cache to flush has
    /// nothing to do.
    ///
    /// # Errors
    /// The system's; `what` names what was to be flushed.
    pub fn flush(&self, what: &'static str) -> Result<(), IoError> {
        match self.info.kind.flush(self.file.as_fd()) {
            Err(reason) if !is_unsupported(&reason) => Err(self.failed("flush", what, reason)),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, what: &'static str, reason: io::Error) -> IoError {
        IoError {
            action,
            what,
            path: self.path.clone(),
            reason,
        }
    }
}

impl AsFd for Provider {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Kind {
    /// Brings everything written to `fd` so far to stable storage, the device's cache included.
    ///
    /// # Errors
    /// The system's; [`is_unsupported`] recognises devices that have nothing to flush.
    pub fn flush(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        sys::flush(self, fd)
    }

    /// Tells the storage that `length` bytes at `offset` are no longer needed. What is read there
    /// afterwards is not defined.
    ///
    /// # Errors
    /// The system's; [`is_unsupported`] recognises storage that cannot do it.
    pub fn delete(self, fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        sys::delete(self, fd, offset, length)
    }

    /// Makes `length` bytes at `offset` zeros, by the storage itself if it can, else by writing.
    ///
    /// # Errors
    /// The system's; never that it is unsupported.
    pub fn zero(self, fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        match sys::zero(self, fd, offset, length) {
            Err(reason) if is_unsupported(&reason) => write_zeros(fd, offset, length),
            done => done,
        }
    }
}

/// Whether a system call failed because the file system or device does not know the operation.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY | libc::ENODEV)
    )
}

/// Why a file of this type cannot be a component, in words that follow "Unable to open".
fn refusal(file_type: FileType) -> Option<&'static str> {
    if file_type.is_file() || sys::may_be_disk(file_type) {
        None
    } else if file_type.is_dir() {
        Some("Is a directory")
    } else if file_type.is_block_device() {
        Some("Is a block device")
    } else if file_type.is_char_device() {
        Some("Is a character device and not a disk")
    } else if file_type.is_fifo() {
        Some("Is a FIFO")
    } else if file_type.is_socket() {
        Some("Is a socket")
    } else {
        Some("Is neither a regular file nor a disk")
    }
}

/// Takes the lock without waiting.
fn lock(path: &Path, file: &File) -> Result<Lock, OpenError> {
    // nix's successor of this function unlocks when its guard is dropped, even if a driver has a
    // duplicate of the descriptor; this lock is to last as long as any of them.
    #[expect(
        deprecated,
        reason = "the lock has to end with the last descriptor, not before"
    )]
    let locked = nix::fcntl::flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock);
    match locked {
        Ok(()) => Ok(Lock::Held),
        Err(Errno::EWOULDBLOCK) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(Lock::Unsupported),
        Err(errno) => Err(OpenError::NoLock {
            path: path.to_owned(),
            reason: errno.into(),
        }),
    }
}

/// Zeros by plain writes.
fn write_zeros(fd: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];
    let mut at = offset;
    let mut left = length;
    while left > 0 {
        let chunk = usize::try_from(left).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
        let position = signed(at)?;
        match nix::sys::uio::pwrite(fd, &ZEROS[..chunk], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                left -= written as u64;
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// An offset or length as the system takes it.
fn signed(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes).map_err(|_| Errno::EINVAL.into())
}
