//! Orders to the kernel's nbd, and its answers.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::netlink::{Malformed, Message, Request, parse};

/// How long requests wait in the kernel for a worker that is started again, in seconds: longer than
/// the longest pause before a start, and what it takes to open disk and device.
pub const DEAD_CONNECTION_S: u64 = 120;

/// Bytes that requests are multiples of.
const BLOCK_BYTES: u64 = crate::terms::SECTOR_BYTES as u64;

/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer, in bytes: the kernel's are far shorter.
const ANSWER_BYTES_MAX: usize = 8192;

/// Messages of one answer at most.
const MESSAGES_MAX: usize = 64;

/// The controller of families, and its command and attributes (linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands and attributes of nbd (linux/nbd-netlink.h).
mod nbd {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const DISCONNECT: u8 = 2;
    pub(super) const RECONFIGURE: u8 = 3;
    pub(super) const INDEX: u16 = 1;
    pub(super) const SIZE_BYTES: u16 = 2;
    pub(super) const BLOCK_SIZE_BYTES: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const SERVER_FLAGS: u16 = 5;
    pub(super) const SOCKETS: u16 = 7;
    pub(super) const SOCKET_ITEM: u16 = 1;
    pub(super) const SOCKET_FD: u16 = 1;
    pub(super) const DEAD_CONNECTION_TIMEOUT: u16 = 8;
    pub(super) const BACKEND_IDENTIFIER: u16 = 10;
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum KernelError {
    /// The kernel refuses.
    Refused(Errno),
    /// It does not answer, or not sensibly.
    Answer(Malformed),
    /// The socket fails.
    Io(io::Error),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::Refused(errno) => f.write_str(errno.desc()),
            KernelError::Answer(error) => error.fmt(f),
            KernelError::Io(error) => error.fmt(f),
        }
    }
}

impl From<Errno> for KernelError {
    fn from(errno: Errno) -> Self {
        KernelError::Io(errno.into())
    }
}

impl From<Malformed> for KernelError {
    fn from(error: Malformed) -> Self {
        KernelError::Answer(error)
    }
}

fn generic_netlink() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )
}

/// The way to the kernel's nbd.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
}

impl Kernel {
    /// Opens it.
    ///
    /// # Errors
    /// This kernel has no nbd, or the system refuses.
    pub(super) fn open() -> Result<Kernel, KernelError> {
        Kernel::on(generic_netlink()?)
    }

    /// The same on a socket whose other end is the kernel, or plays it.
    pub(super) fn on(socket: OwnedFd) -> Result<Kernel, KernelError> {
        let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap_or(30), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        let mut kernel = Kernel {
            socket,
            family: CONTROLLER,
            sequence: 0,
        };
        kernel.family = kernel.number_of("nbd")?;
        Ok(kernel)
    }

    /// Asks the controller for a family's number.
    fn number_of(&mut self, name: &str) -> Result<u16, KernelError> {
        let request = self.request(GET_FAMILY).text(FAMILY_NAME, name);
        let number = self.ask(request, |attributes| attributes.u16(FAMILY_ID))?;
        Ok(number.ok_or(Malformed)?)
    }

    /// A new device on these sockets, which are past the handshake; its number.
    pub(super) fn connect(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        bytes: u64,
        flags: u16,
        identifier: &str,
    ) -> Result<u32, KernelError> {
        let request = self
            .request(nbd::CONNECT)
            .u64(nbd::SIZE_BYTES, bytes)
            .u64(nbd::BLOCK_SIZE_BYTES, BLOCK_BYTES)
            // A worker answers everything in the end; the peer's timeout is its own business.
            .u64(nbd::TIMEOUT, 0)
            .u64(nbd::DEAD_CONNECTION_TIMEOUT, DEAD_CONNECTION_S)
            .u64(nbd::SERVER_FLAGS, flags.into());
        let request = with_sockets(request, sockets)?.text(nbd::BACKEND_IDENTIFIER, identifier);
        let index = self.ask(request, |attributes| attributes.u32(nbd::INDEX))?;
        Ok(index.ok_or(Malformed)?)
    }

    /// Other sockets for a device whose own are dead.
    pub(super) fn reconfigure(
        &mut self,
        index: u32,
        sockets: &[BorrowedFd<'_>],
        identifier: &str,
    ) -> Result<(), KernelError> {
        let request = self.request(nbd::RECONFIGURE).u32(nbd::INDEX, index);
        let request = with_sockets(request, sockets)?.text(nbd::BACKEND_IDENTIFIER, identifier);
        self.ask(request, |_| Ok(())).map(drop)
    }

    /// Takes a device away; what waits for it fails.
    pub(super) fn disconnect(&mut self, index: u32) -> Result<(), KernelError> {
        let request = self.request(nbd::DISCONNECT).u32(nbd::INDEX, index);
        self.ask(request, |_| Ok(())).map(drop)
    }

    fn request(&mut self, command: u8) -> Request {
        self.sequence = self.sequence.wrapping_add(1);
        Request::new(self.family, command, self.sequence)
    }

    /// Sends a request and waits until it is acknowledged; what its answer says, if there is one.
    fn ask<T>(
        &self,
        request: Request,
        read: impl Fn(super::netlink::Attributes<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, KernelError> {
        send(
            self.socket.as_raw_fd(),
            &request.finish(),
            MsgFlags::empty(),
        )?;
        let mut answer = None;
        let mut bytes = vec![0; ANSWER_BYTES_MAX];
        for _ in 0..MESSAGES_MAX {
            let count = recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
            if count == 0 {
                break;
            }
            for message in parse(&bytes[..count])? {
                match message {
                    Message::Done(sequence, number) if sequence == self.sequence => {
                        return match number {
                            0 => Ok(answer),
                            number => Err(KernelError::Refused(Errno::from_raw(number))),
                        };
                    }
                    Message::Answer {
                        family,
                        sequence,
                        attributes,
                        ..
                    } if sequence == self.sequence && family == self.family => {
                        answer = Some(read(attributes)?);
                    }
                    // Of an earlier request, or meant for others.
                    Message::Done(..) | Message::Answer { .. } => {}
                }
            }
        }
        Err(Malformed.into())
    }
}

fn with_sockets(request: Request, sockets: &[BorrowedFd<'_>]) -> Result<Request, KernelError> {
    let numbers: Result<Vec<u32>, _> = sockets
        .iter()
        .map(|socket| u32::try_from(socket.as_raw_fd()))
        .collect();
    // Descriptors that are open have numbers from 0 on.
    let numbers = numbers.map_err(|_| Errno::EBADF)?;
    Ok(request.list(nbd::SOCKETS, nbd::SOCKET_ITEM, nbd::SOCKET_FD, &numbers))
}

#[cfg(test)]
pub(super) mod stand_in {
    //! The kernel, played by a thread at the other end of a socket.

    use std::thread::{self, JoinHandle};

    use nix::sys::socket::socketpair;

    use super::*;
    use crate::daemon::blockdev::netlink::Attributes;

    pub(in super::super) const FAMILY: u16 = 0x1c;

    /// What the kernel was asked: command, index, and how many descriptors.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(in super::super) struct Asked {
        pub(in super::super) command: u8,
        pub(in super::super) index: Option<u32>,
        pub(in super::super) sockets: usize,
        pub(in super::super) identifier: Option<String>,
        pub(in super::super) bytes: Option<u64>,
    }

    fn read(attributes: Attributes<'_>, command: u8) -> Asked {
        let list = attributes.get(nbd::SOCKETS).unwrap().unwrap_or(&[]);
        let text = attributes.get(nbd::BACKEND_IDENTIFIER).unwrap();
        let bytes = attributes.get(nbd::SIZE_BYTES).unwrap();
        Asked {
            command,
            index: attributes.u32(nbd::INDEX).ok(),
            // An item, and in it a descriptor, each with a header.
            sockets: list.len() / 12,
            identifier: text.map(|text| String::from_utf8_lossy(&text[..text.len() - 1]).into()),
            bytes: bytes.map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap())),
        }
    }

    fn acknowledge(sequence: u32, error: i32) -> Vec<u8> {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend((-error).to_ne_bytes());
        bytes
    }

    /// A kernel that answers each order by the index that is connected, or refuses it by an error
    /// number, and tells what it was asked when its other end is closed.
    pub(in super::super) fn kernel(
        answer: impl Fn(&Asked) -> Result<u32, i32> + Send + 'static,
    ) -> (OwnedFd, JoinHandle<Vec<Asked>>) {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            let mut bytes = vec![0; ANSWER_BYTES_MAX];
            loop {
                let count = recv(theirs.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
                if count == 0 {
                    return all;
                }
                let messages = parse(&bytes[..count]).unwrap();
                let [
                    Message::Answer {
                        family,
                        command,
                        sequence,
                        attributes,
                    },
                ] = messages[..]
                else {
                    panic!("{messages:?}");
                };
                let mut reply = Vec::new();
                let mut error = 0;
                if family == CONTROLLER {
                    assert_eq!(attributes.get(FAMILY_NAME), Ok(Some(&b"nbd\0"[..])));
                    let id = Request::new(CONTROLLER, 1, sequence)
                        .attribute(FAMILY_ID, &FAMILY.to_ne_bytes());
                    reply.extend(id.finish());
                } else {
                    assert_eq!(family, FAMILY);
                    let asked = read(attributes, command);
                    match answer(&asked) {
                        Ok(index) if command == nbd::CONNECT => {
                            // One of another request, which is none of ours.
                            reply.extend(Request::new(FAMILY, 1, 999).u32(nbd::INDEX, 77).finish());
                            let ours = Request::new(FAMILY, nbd::CONNECT, sequence);
                            reply.extend(ours.u32(nbd::INDEX, index).finish());
                        }
                        Ok(_) => {}
                        Err(number) => error = number,
                    }
                    all.push(asked);
                }
                reply.extend(acknowledge(sequence, error));
                send(theirs.as_raw_fd(), &reply, MsgFlags::empty()).unwrap();
            }
        });
        (ours, thread)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn orders_carry_what_the_kernel_needs_and_answers_are_told_from_others() {
        let (socket, thread) = stand_in::kernel(|_| Ok(3));
        let mut kernel = Kernel::on(socket).unwrap();
        assert_eq!(kernel.family, stand_in::FAMILY);
        let pair = UnixStream::pair().unwrap();
        let sockets = [pair.0.as_fd(), pair.1.as_fd()];
        let index = kernel.connect(&sockets, 1 << 30, 0x16d, "hast:a").unwrap();
        assert_eq!(index, 3);
        kernel.reconfigure(3, &sockets, "hast:a").unwrap();
        kernel.disconnect(3).unwrap();
        drop(kernel);
        let asked: Vec<_> = thread
            .join()
            .unwrap()
            .into_iter()
            .map(|one| (one.command, one.index, one.sockets, one.bytes))
            .collect();
        assert_eq!(
            asked,
            [
                (nbd::CONNECT, None, 2, Some(1 << 30)),
                (nbd::RECONFIGURE, Some(3), 2, None),
                (nbd::DISCONNECT, Some(3), 0, None)
            ]
        );
    }

    #[test]
    fn the_real_kernel_understands_the_question_for_a_family() {
        let mut kernel = Kernel {
            socket: generic_netlink().unwrap(),
            family: CONTROLLER,
            sequence: 0,
        };
        assert_eq!(kernel.number_of("nlctrl").unwrap(), CONTROLLER);
        let unknown = kernel.number_of("hast-has-none").unwrap_err();
        assert!(
            matches!(unknown, KernelError::Refused(Errno::ENOENT)),
            "{unknown:?}"
        );
    }

    #[test]
    fn refusal_is_an_error_with_the_systems_words() {
        let (socket, thread) = stand_in::kernel(|_| Err(libc::EBUSY));
        let mut kernel = Kernel::on(socket).unwrap();
        let error = kernel.disconnect(3).unwrap_err();
        assert_eq!(error.to_string(), Errno::EBUSY.desc());
        drop(kernel);
        thread.join().unwrap();
    }

    #[test]
    fn kernel_that_hangs_up_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(Kernel::on(ours.into()).is_err());
    }
}
