//! Which descriptors this process holds, compared with those that it may hold.
//!
//! A descriptor too many is a privilege that nobody granted; one too few, or of another kind, is a
//! mistake that would otherwise show much later. A child audits itself first of all.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use nix::sys::stat::{SFlag, fstat};

mod borrow;

/// What a descriptor refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A socket.
    Socket(Family, Type),
    /// A regular file (a memfd too).
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A character device: a terminal, /dev/null, a disk of FreeBSD, /dev/ggctl.
    CharDevice,
    /// A pipe or FIFO.
    Pipe,
    /// An object of the kernel without a file, by its name on Linux: `eventfd`, `eventpoll`,
    /// `io_uring`, `signalfd`, `timerfd`, ...
    Anonymous(String),
    /// Something else.
    Other,
}

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Unix.
    Unix,
    /// IPv4 or IPv6.
    Internet,
    /// Some other.
    Other,
}

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A stream of bytes.
    Stream,
    /// Datagrams in sequence.
    SeqPacket,
    /// Some other.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Socket(family, kind) => {
                let family = match family {
                    Family::Unix => "Unix",
                    Family::Internet => "Internet",
                    Family::Other => "other",
                };
                let kind = match kind {
                    Type::Stream => "stream",
                    Type::SeqPacket => "sequenced-packet",
                    Type::Other => "other",
                };
                write!(f, "{family} {kind} socket")
            }
            Kind::File => f.write_str("file"),
            Kind::Directory => f.write_str("directory"),
            Kind::BlockDevice => f.write_str("block device"),
            Kind::CharDevice => f.write_str("character device"),
            Kind::Pipe => f.write_str("pipe"),
            Kind::Anonymous(name) => f.write_str(name),
            Kind::Other => f.write_str("object of unknown kind"),
        }
    }
}

/// A descriptor that a process may hold.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its number.
    pub number: RawFd,
    /// What it is for, as messages name it.
    pub role: &'static str,
    /// The kinds that it may be.
    pub kinds: Vec<Kind>,
}

impl Expected {
    /// A descriptor of exactly that kind.
    pub fn new(number: RawFd, role: &'static str, kind: Kind) -> Self {
        Expected {
            number,
            role,
            kinds: vec![kind],
        }
    }

    /// Standard input, output and error: each a device (terminal, /dev/null), a file, a pipe, or
    /// the socket of a supervisor such as the journal.
    pub fn stdio() -> [Expected; 3] {
        let stdio = |number, role| Expected {
            number,
            role,
            kinds: vec![
                Kind::CharDevice,
                Kind::File,
                Kind::Pipe,
                Kind::Socket(Family::Unix, Type::Stream),
            ],
        };
        [
            stdio(0, "standard input"),
            stdio(1, "standard output"),
            stdio(2, "standard error"),
        ]
    }

    /// The channel to the parent.
    pub fn ipc() -> Expected {
        Expected::new(
            crate::process::IPC_DESCRIPTOR,
            "channel to the parent",
            Kind::Socket(Family::Unix, Type::SeqPacket),
        )
    }
}

/// A deviation from what a process may hold.
#[derive(Debug)]
pub enum AuditError {
    /// An open descriptor that is not on the list.
    Unexpected {
        /// Its number.
        number: RawFd,
        /// What it is.
        kind: Kind,
    },
    /// A descriptor of the list is not open.
    Missing {
        /// Its number.
        number: RawFd,
        /// What it is for.
        role: &'static str,
    },
    /// A descriptor of the list is something else.
    WrongKind {
        /// Its number.
        number: RawFd,
        /// What it is for.
        role: &'static str,
        /// What it is.
        kind: Kind,
    },
    /// The descriptors cannot be listed, or one of them not be examined.
    Unreadable(io::Error),
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditError::Unexpected { number, kind } => {
                write!(f, "descriptor {number} ({kind}) is open and should not be")
            }
            AuditError::Missing { number, role } => {
                write!(f, "descriptor {number} ({role}) is not open")
            }
            AuditError::WrongKind { number, role, kind } => {
                write!(
                    f,
                    "descriptor {number} should be the {role} and is a {kind}"
                )
            }
            AuditError::Unreadable(error) => {
                write!(f, "unable to examine the open descriptors: {error}")
            }
        }
    }
}

impl std::error::Error for AuditError {}

/// Checks that exactly the expected descriptors are open.
pub fn audit(expected: &[Expected]) -> Result<(), AuditError> {
    compare(expected, &held().map_err(AuditError::Unreadable)?)
}

/// The open descriptors of this process, in ascending order.
///
/// Meant for a single-threaded process: descriptors that others open or close meanwhile may or may
/// not be listed.
pub fn held() -> io::Result<Vec<(RawFd, Kind)>> {
    let mut held = Vec::new();
    for number in numbers()? {
        match borrow::with(number, kind_of) {
            Ok(kind) => held.push((number, kind)),
            // The descriptor through which the list was read is closed by now.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

fn compare(expected: &[Expected], held: &[(RawFd, Kind)]) -> Result<(), AuditError> {
    for (number, kind) in held {
        let Some(entry) = expected.iter().find(|entry| entry.number == *number) else {
            return Err(AuditError::Unexpected {
                number: *number,
                kind: kind.clone(),
            });
        };
        if !entry.kinds.contains(kind) {
            let (number, kind) = (*number, kind.clone());
            return Err(AuditError::WrongKind {
                number,
                role: entry.role,
                kind,
            });
        }
    }
    match expected
        .iter()
        .find(|entry| held.iter().all(|(number, _)| *number != entry.number))
    {
        Some(entry) => Err(AuditError::Missing {
            number: entry.number,
            role: entry.role,
        }),
        None => Ok(()),
    }
}

/// Numbers that may be open: all that are, and perhaps some that were.
fn numbers() -> io::Result<Vec<RawFd>> {
    #[cfg(target_os = "linux")]
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            numbers
                .push(number.ok_or_else(|| io::Error::other("unexpected name in /proc/self/fd"))?);
        }
        numbers.sort_unstable();
        return Ok(numbers);
    }
    probe()
}

/// Most numbers that are tried one by one; more would take longer than a start may.
const PROBED_MAX: libc::rlim_t = 1 << 20;

/// Numbers that are open, found by trying each one below the limit. /dev/fd of FreeBSD lists the
/// first three only, unless fdescfs(5) is mounted.
fn probe() -> io::Result<Vec<RawFd>> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    if hard > PROBED_MAX {
        return Err(io::Error::other(format!(
            "neither /proc is mounted nor is the limit of open files ({hard}) small enough to try \
             each number"
        )));
    }
    let last = RawFd::try_from(hard).map_err(io::Error::other)?;
    let open = |number: &RawFd| {
        borrow::with(*number, |descriptor| {
            nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).map_err(io::Error::from)
        })
        .is_ok()
    };
    Ok((0..last).filter(open).collect())
}

/// What the descriptor refers to.
pub fn kind_of(descriptor: BorrowedFd<'_>) -> io::Result<Kind> {
    let mode = SFlag::from_bits_truncate(fstat(descriptor)?.st_mode) & SFlag::S_IFMT;
    if mode == SFlag::S_IFSOCK {
        return socket_kind(descriptor);
    }
    if let Some(name) = anonymous_name(descriptor) {
        return Ok(Kind::Anonymous(name));
    }
    Ok(match mode {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFBLK => Kind::BlockDevice,
        SFlag::S_IFCHR => Kind::CharDevice,
        SFlag::S_IFIFO => Kind::Pipe,
        _ => Kind::Other,
    })
}

fn socket_kind(descriptor: BorrowedFd<'_>) -> io::Result<Kind> {
    use std::os::fd::AsRawFd;
    let address: Result<SockaddrStorage, Errno> = getsockname(descriptor.as_raw_fd());
    let family = match address.ok().and_then(|address| address.family()) {
        Some(AddressFamily::Unix) => Family::Unix,
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Family::Internet,
        _ => Family::Other,
    };
    let kind = match getsockopt(&descriptor, sockopt::SockType) {
        Ok(SockType::Stream) => Type::Stream,
        Ok(SockType::SeqPacket) => Type::SeqPacket,
        Ok(_) => Type::Other,
        Err(error) => return Err(error.into()),
    };
    Ok(Kind::Socket(family, kind))
}

/// The name of an object without a file; needs /proc. Without it such an object has no file type,
/// and counts as [`Kind::Other`].
#[cfg(target_os = "linux")]
fn anonymous_name(descriptor: BorrowedFd<'_>) -> Option<String> {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
    let name = link.to_str()?.strip_prefix("anon_inode:")?;
    Some(name.trim_matches(['[', ']']).to_owned())
}

#[cfg(not(target_os = "linux"))]
fn anonymous_name(_descriptor: BorrowedFd<'_>) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn list(kinds: &[(RawFd, Kind)]) -> Vec<(RawFd, Kind)> {
        let mut held: Vec<_> = (0..3).map(|number| (number, Kind::CharDevice)).collect();
        held.extend_from_slice(kinds);
        held
    }

    fn channel() -> (RawFd, Kind) {
        (3, Kind::Socket(Family::Unix, Type::SeqPacket))
    }

    fn expected() -> Vec<Expected> {
        let mut expected = Expected::stdio().to_vec();
        expected.push(Expected::ipc());
        expected
    }

    #[test]
    fn leaked_descriptor_is_named() {
        let error = compare(&expected(), &list(&[channel(), (7, Kind::File)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "descriptor 7 (file) is open and should not be"
        );
    }

    #[test]
    fn missing_descriptor_is_named() {
        let error = compare(&expected(), &list(&[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "descriptor 3 (channel to the parent) is not open"
        );
    }

    #[test]
    fn descriptor_of_another_kind_is_named() {
        let error = compare(&expected(), &list(&[(3, Kind::File)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "descriptor 3 should be the channel to the parent and is a file"
        );
    }

    #[test]
    fn exact_match_is_accepted() {
        compare(&expected(), &list(&[channel()])).unwrap();
    }

    #[test]
    fn kinds_are_told_apart() {
        use nix::sys::socket::{SockFlag, socketpair};
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(kind_of(null.as_fd()).unwrap(), Kind::CharDevice);
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(kind_of(directory.as_fd()).unwrap(), Kind::Directory);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(kind_of(file.as_fd()).unwrap(), Kind::File);
        let (pipe, _other) = nix::unistd::pipe().unwrap();
        assert_eq!(kind_of(pipe.as_fd()).unwrap(), Kind::Pipe);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            kind_of(tcp.as_fd()).unwrap(),
            Kind::Socket(Family::Internet, Type::Stream)
        );
        for (kind, name) in [
            (SockType::SeqPacket, Type::SeqPacket),
            (SockType::Stream, Type::Stream),
            (SockType::Datagram, Type::Other),
        ] {
            let (socket, _other) =
                socketpair(AddressFamily::Unix, kind, None, SockFlag::empty()).unwrap();
            assert_eq!(
                kind_of(socket.as_fd()).unwrap(),
                Kind::Socket(Family::Unix, name)
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn anonymous_objects_are_named() {
        let (read, _write) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert_eq!(
            kind_of(read.as_fd()).unwrap(),
            Kind::Socket(Family::Unix, Type::Other)
        );
        let own = nix::unistd::getpid();
        let status = std::fs::File::open(format!("/proc/{own}/ns/net")).unwrap();
        assert_eq!(kind_of(status.as_fd()).unwrap(), Kind::File);
    }

    #[test]
    fn probing_finds_what_is_open() {
        let file = tempfile::tempfile().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        match probe() {
            Ok(found) => assert!(found.contains(&number)),
            Err(error) => assert!(error.to_string().contains("limit of open files")),
        }
    }
}
