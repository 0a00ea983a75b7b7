//! The words that every part of the program shares: roles, replication modes, error numbers.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// Length of a resource's name at most, in bytes (the original's `NAME_MAX` less its NUL).
pub const RESOURCE_NAME_MAX_BYTES: usize = 254;

/// Smallest sector of any provider, in bytes; that of regular files.
pub const SECTOR_BYTES: u32 = 512;

/// Largest data request to a peer that has not offered more, in bytes: the `MAXPHYS` of
/// FreeBSD 12 and earlier (spec/01, 5).
pub const PEER_REQUEST_BYTES: u32 = 128 * 1024;

/// Largest data request that this program accepts from anybody, in bytes.
pub const REQUEST_BYTES_MAX: u32 = 1024 * 1024;

/// What a node does for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Off.
    Init,
    /// Exports the provider and does I/O.
    Primary,
    /// Waits for the primary and keeps its copy.
    Secondary,
}

impl Role {
    /// The name as commands, messages and metadata spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Init => "init",
            Role::Primary => "primary",
            Role::Secondary => "secondary",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::Init, Role::Primary, Role::Secondary]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

/// What performs a worker's I/O, as hast.conf says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverChoice {
    /// The best that the system has.
    #[default]
    Auto,
    /// poll(2) and threads for the disk.
    Threads,
    /// Linux's io_uring; without it no role is taken.
    Uring,
}

impl DriverChoice {
    /// The word of hast.conf.
    pub const fn as_str(self) -> &'static str {
        match self {
            DriverChoice::Auto => "auto",
            DriverChoice::Threads => "threads",
            DriverChoice::Uring => "uring",
        }
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    /// On both disks.
    Fullsync,
    /// On the local disk and in the secondary's memory.
    Memsync,
    /// On the local disk.
    Async,
}

impl Replication {
    /// The word of hast.conf.
    pub const fn as_str(self) -> &'static str {
        match self {
            Replication::Fullsync => "fullsync",
            Replication::Memsync => "memsync",
            Replication::Async => "async",
        }
    }
}

/// How fast a synchronisation may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SyncRate {
    /// As fast as it can.
    #[default]
    Unlimited,
    /// So many bytes per second at most.
    Limit(NonZeroU64),
    /// As fast as the applications do not notice.
    Adaptive,
}

impl SyncRate {
    /// `unlimited`, `adaptive`, or bytes per second, at least 1, with a suffix `k`, `M` or `G` for
    /// the powers of 1024.
    pub fn parse(text: &str) -> Option<SyncRate> {
        match text {
            "unlimited" => return Some(SyncRate::Unlimited),
            "adaptive" => return Some(SyncRate::Adaptive),
            _ => {}
        }
        let (digits, shift) = match text.char_indices().next_back() {
            Some((at, 'k' | 'K')) => (&text[..at], 10),
            Some((at, 'm' | 'M')) => (&text[..at], 20),
            Some((at, 'g' | 'G')) => (&text[..at], 30),
            _ => (text, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        number
            .checked_mul(1 << shift)
            .and_then(NonZeroU64::new)
            .map(SyncRate::Limit)
    }
}

/// As [`SyncRate::parse`] reads it, with the largest suffix that loses nothing.
impl fmt::Display for SyncRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncRate::Unlimited => f.write_str("unlimited"),
            SyncRate::Adaptive => f.write_str("adaptive"),
            SyncRate::Limit(rate) => {
                let suffixes = [(30, "G"), (20, "M"), (10, "k"), (0, "")];
                let fits = |&&(shift, _): &&(u32, &str)| rate.trailing_zeros() >= shift;
                let (shift, suffix) = suffixes.iter().find(fits).unwrap_or(&(0, ""));
                write!(f, "{}{suffix}", rate.get() >> shift)
            }
        }
    }
}

/// How blocks are checked on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// Not at all.
    None,
    /// CRC-32, four bytes.
    Crc32,
    /// SHA-256, 32 bytes.
    Sha256,
}

impl Checksum {
    /// The word of hast.conf and of the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Checksum::None => "none",
            Checksum::Crc32 => "crc32",
            Checksum::Sha256 => "sha256",
        }
    }
}

/// How blocks are made smaller on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Blocks of zeros travel as their length.
    Hole,
    /// As `hole`, and other blocks by liblzf's algorithm.
    Lzf,
}

impl Compression {
    /// The word of hast.conf and of the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Hole => "hole",
            Compression::Lzf => "lzf",
        }
    }
}

/// An error number as the wire carries it: FreeBSD's numbering, never 0.
///
/// Linux and FreeBSD agree up to 34; [`Errno::from_host`] and [`Errno::to_host`] translate the
/// rest at the border.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Errno(u16);

impl Errno {
    /// Input/output error.
    pub const EIO: Errno = Errno(5);
    /// Device not configured: the disk is gone.
    pub const ENXIO: Errno = Errno(6);
    /// Invalid argument.
    pub const EINVAL: Errno = Errno(22);
    /// No space left on device.
    pub const ENOSPC: Errno = Errno(28);
    /// Operation not supported (45 on FreeBSD, 95 on Linux).
    pub const EOPNOTSUPP: Errno = Errno(45);
    /// Operation timed out (60 on FreeBSD, 110 on Linux).
    pub const ETIMEDOUT: Errno = Errno(60);

    /// The number of the wire; `None` for 0 (success) and for what is no error number.
    pub fn from_wire(number: i16) -> Option<Errno> {
        u16::try_from(number)
            .ok()
            .filter(|&number| number != 0)
            .map(Errno)
    }

    /// The number for the wire, 1..=32767.
    pub fn to_wire(self) -> i16 {
        i16::try_from(self.0).unwrap_or(5)
    }

    /// From the number that a system call gave on this host. Unknown numbers become `EIO`.
    pub fn from_host(number: i32) -> Errno {
        if cfg!(target_os = "freebsd") {
            return u16::try_from(number)
                .ok()
                .filter(|&number| number != 0 && number <= 32767)
                .map_or(Errno::EIO, Errno);
        }
        match number {
            1..=34 if number != 11 => Errno(u16::try_from(number).unwrap_or(5)),
            libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY => Errno::EOPNOTSUPP,
            libc::ETIMEDOUT => Errno::ETIMEDOUT,
            _ => Errno::EIO,
        }
    }

    /// The number that this host uses for the same error. Unknown numbers become `EIO`.
    pub fn to_host(self) -> i32 {
        if cfg!(target_os = "freebsd") {
            return i32::from(self.0);
        }
        match self {
            Errno(number @ 1..=34) if number != 11 => i32::from(number),
            Errno::EOPNOTSUPP => libc::EOPNOTSUPP,
            Errno::ETIMEDOUT => libc::ETIMEDOUT,
            _ => libc::EIO,
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(nix::errno::Errno::from_raw(self.to_host()).desc())
    }
}

/// The system's reason of a failure as strerror(3) words it, without Rust's "(os error 2)".
pub fn system_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_crosses_the_border_both_ways() {
        assert_eq!(Errno::from_wire(0), None);
        assert_eq!(Errno::from_wire(-3), None);
        assert_eq!(Errno::from_wire(22), Some(Errno::EINVAL));
        assert_eq!(Errno::from_host(libc::EOPNOTSUPP), Errno::EOPNOTSUPP);
        assert_eq!(Errno::EOPNOTSUPP.to_host(), libc::EOPNOTSUPP);
        assert_eq!(Errno::EOPNOTSUPP.to_wire(), 45);
        assert_eq!(Errno::from_host(libc::ENOSPC), Errno::ENOSPC);
        assert_eq!(Errno::from_host(123_456), Errno::EIO);
    }

    #[test]
    fn system_reasons_are_the_words_of_the_system_alone() {
        let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(system_reason(&missing), "No such file or directory");
        let other = std::io::Error::other("cut (os error 2)");
        assert_eq!(system_reason(&other), "cut (os error 2)");
    }

    #[test]
    fn role_names_round_trip() {
        for role in [Role::Init, Role::Primary, Role::Secondary] {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("Primary"), None);
    }
}
