//! Sockets: binding, connecting, and the names of their ends.
//!
//! Nothing here waits: sockets are non-blocking from the start.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// Connections that the kernel completes ahead of accept(2).
const BACKLOG: i32 = 128;

/// An address that can be bound or connected to: host names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Inet(address) => write!(f, "tcp://{address}"),
            Place::Unix(path) => write!(f, "uds://{}", path.display()),
        }
    }
}

impl Place {
    fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Place::Inet(address) => Ok((*address).into()),
            Place::Unix(path) => SockAddr::unix(path),
        }
    }

    fn domain(&self) -> Domain {
        match self {
            Place::Inet(SocketAddr::V4(_)) => Domain::IPV4,
            Place::Inet(SocketAddr::V6(_)) => Domain::IPV6,
            Place::Unix(_) => Domain::UNIX,
        }
    }
}

/// One end of a connection, for comparing and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// TCP.
    Inet(SocketAddr),
    /// A Unix socket; clients have no path as a rule.
    Unix(Option<PathBuf>),
    /// Something that no socket of ours is.
    Other,
}

impl End {
    /// The IP address, with an IPv4 address mapped into IPv6 as IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            End::Inet(address) => Some(address.ip().to_canonical()),
            End::Unix(_) | End::Other => None,
        }
    }

    /// The end that has this address.
    pub fn of(address: &SockAddr) -> End {
        if let Some(address) = address.as_socket() {
            return End::Inet(address);
        }
        if address.is_unix() {
            return End::Unix(address.as_pathname().map(Path::to_path_buf));
        }
        End::Other
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Inet(address) => write!(f, "tcp://{address}"),
            End::Unix(Some(path)) => write!(f, "uds://{}", path.display()),
            End::Unix(None) => f.write_str("uds://"),
            End::Other => f.write_str("N/A"),
        }
    }
}

/// Who is connected, as the kernel says; an error if nobody is any more.
pub fn peer_of(socket: BorrowedFd<'_>) -> io::Result<End> {
    SockRef::from(&socket)
        .peer_addr()
        .map(|address| End::of(&address))
}

/// Where the socket is bound, as the kernel says.
pub fn name_of(socket: BorrowedFd<'_>) -> io::Result<End> {
    SockRef::from(&socket)
        .local_addr()
        .map(|address| End::of(&address))
}

/// Sends small packets at once (TCP only).
pub fn set_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
    match peer_of(socket)? {
        End::Inet(_) => SockRef::from(&socket).set_tcp_nodelay(true),
        End::Unix(_) | End::Other => Ok(()),
    }
}

/// Sends what the socket takes at once; true if that was all of it.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<bool> {
    let socket = SockRef::from(&socket);
    loop {
        // A refusal is below 200 bytes and the first thing on its connection: it always fits.
        match socket.send(bytes) {
            Ok(sent) => return Ok(sent == bytes.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// A socket that listens there. A Unix socket's file is made for this user alone unless
/// `everyone`; a file that nobody listens on any more is replaced.
pub fn listen(place: &Place) -> io::Result<OwnedFd> {
    let socket = Socket::new(place.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match place {
        Place::Inet(address) => {
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&place.to_sockaddr()?)?;
        }
        Place::Unix(path) => {
            remove_abandoned(path)?;
            // The mode of the file is what the mask leaves, from the first moment on.
            let before = umask(Mode::from_bits_truncate(0o177));
            let bound = socket.bind(&place.to_sockaddr()?);
            umask(before);
            bound?;
        }
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes the file of a Unix socket that nobody listens on. An error of kind `AddrInUse` if
/// somebody does, or if the file is no socket.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "A file that is no socket is in the way",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A living daemon with a full backlog answers EAGAIN, a dead one's socket ECONNREFUSED.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) | Err(_) => Err(io::Error::from(Errno::EADDRINUSE)),
    }
}

/// How a connection attempt began.
#[derive(Debug)]
pub enum Attempt {
    /// It is complete.
    Connected(OwnedFd),
    /// Poll for writing, then ask [`outcome`].
    Pending(OwnedFd),
}

/// Begins to connect, from `source` if given.
pub fn connect(place: &Place, source: Option<&Place>) -> io::Result<Attempt> {
    let socket = Socket::new(place.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Place::Inet(_) = place {
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            if matches!(source, Place::Inet(address) if address.port() != 0) {
                socket.set_reuse_address(true)?;
            }
            socket.bind(&source.to_sockaddr()?)?;
        }
    }
    match socket.connect(&place.to_sockaddr()?) {
        Ok(()) => Ok(Attempt::Connected(socket.into())),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            Ok(Attempt::Pending(socket.into()))
        }
        Err(error) => Err(error),
    }
}

/// What became of a pending attempt whose socket became writable.
pub fn outcome(socket: &OwnedFd) -> io::Result<()> {
    match SockRef::from(&socket.as_fd()).take_error()? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn socket_of_a_living_process_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _living = UnixListener::bind(&path).unwrap();
        let error = listen(&Place::Unix(path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(listen(&Place::Unix(path.clone())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn abandoned_socket_is_replaced_by_one_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let _socket = listen(&Place::Unix(path.clone())).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn refused_connection_is_reported() {
        let place = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Place::Inet(listener.local_addr().unwrap())
        };
        match connect(&place, None) {
            Err(_) => {}
            Ok(Attempt::Pending(socket)) => {
                let mut polled = [nix::poll::PollFd::new(
                    socket.as_fd(),
                    nix::poll::PollFlags::POLLOUT,
                )];
                nix::poll::poll(&mut polled, 5000u16).unwrap();
                assert!(outcome(&socket).is_err());
            }
            Ok(Attempt::Connected(_)) => panic!("nobody listens there"),
        }
    }

    #[test]
    fn mapped_addresses_compare_as_ipv4() {
        let end = End::Inet("[::ffff:10.0.0.1]:5".parse().unwrap());
        assert_eq!(end.ip(), Some("10.0.0.1".parse().unwrap()));
    }
}
