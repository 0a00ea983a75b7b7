//! What can go wrong with a provider, in sentences for the log.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::terms::system_reason;

/// Why a provider could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The system said no.
    System {
        /// Of the provider.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// It is something else than a regular file or a disk.
    NotADisk {
        /// Of the provider.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The device does not say how large it is, or says nonsense.
    NoSize {
        /// Of the provider.
        path: PathBuf,
        /// `mediasize` or `sectorsize`.
        what: &'static str,
        /// The system's reason.
        reason: io::Error,
    },
    /// Somebody else has it: a worker, a mounted file system, another hastctl.
    InUse {
        /// Of the provider.
        path: PathBuf,
    },
    /// The lock failed for another reason than being taken.
    NoLock {
        /// Of the provider.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::System { path, reason } => {
                write!(
                    f,
                    "Unable to open {}: {}.",
                    path.display(),
                    system_reason(reason)
                )
            }
            OpenError::NotADisk { path, what } => {
                write!(f, "Unable to open {}: {what}.", path.display())
            }
            OpenError::NoSize { path, what, reason } => write!(
                f,
                "Unable to obtain provider {} {what}: {}.",
                path.display(),
                system_reason(reason)
            ),
            OpenError::InUse { path } => write!(
                f,
                "Unable to lock {}: it is in use by another process.",
                path.display()
            ),
            OpenError::NoLock { path, reason } => {
                write!(
                    f,
                    "Unable to lock {}: {}.",
                    path.display(),
                    system_reason(reason)
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::System { reason, .. }
            | OpenError::NoSize { reason, .. }
            | OpenError::NoLock { reason, .. } => Some(reason),
            OpenError::NotADisk { .. } | OpenError::InUse { .. } => None,
        }
    }
}

/// Why I/O on an open provider failed.
#[derive(Debug)]
pub struct IoError {
    /// `read`, `write` or `flush`.
    pub action: &'static str,
    /// `metadata`, `bitmap` and so on.
    pub what: &'static str,
    /// Of the provider.
    pub path: PathBuf,
    /// The system's reason; [`io::ErrorKind::UnexpectedEof`] if the provider is too short.
    pub reason: io::Error,
}

impl IoError {
    /// Whether the provider ends before what was to be read.
    pub fn is_short(&self) -> bool {
        self.reason.kind() == io::ErrorKind::UnexpectedEof
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.action == "read" { "from" } else { "to" };
        write!(
            f,
            "Unable to {} {} {direction} {}: ",
            self.action,
            self.what,
            self.path.display()
        )?;
        if self.is_short() {
            f.write_str("the provider is too short.")
        } else {
            write!(f, "{}.", system_reason(&self.reason))
        }
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}
