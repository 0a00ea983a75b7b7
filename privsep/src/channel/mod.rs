//! A typed channel between parent and child: messages, and descriptors alongside.
//!
//! One `SOCK_SEQPACKET` socket pair; each message is one datagram of at most
//! [`MESSAGE_BYTES_MAX`] bytes, encoded by [`crate::codec`], with the descriptors that its
//! type says it carries ([`Message::descriptors`]) and no others. The first datagram of each
//! direction is a greeting that names the protocol and its version; the channel sends and checks it
//! by itself.
//!
//! The channel fails closed: whatever is wrong with what the peer sent makes it dead, and every
//! later call says so. Descriptors of a refused message are closed. A peer that ended can still be
//! heard: what it sent last is received before [`ChannelError::Closed`].
//!
//! Neither end waits unless asked: [`Channel::send`] queues what the socket does not take, up to
//! [`QUEUE_MESSAGES_MAX`] messages or [`QUEUE_BYTES_MAX`], [`Channel::flush`] sends it later; [`Channel::try_receive`]
//! returns nothing when there is nothing. [`AsFd`] gives the socket for poll(2).

mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socketpair, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, MESSAGE_BYTES_MAX};

/// Most descriptors in one message: a connection to a peer is two sockets; a device with its
/// local component and one of them is four.
pub const DESCRIPTORS_MAX: usize = 4;

/// Most messages that wait to be sent. A peer that lets more pile up does not read its channel.
pub const QUEUE_MESSAGES_MAX: usize = 256;

/// Most bytes that wait to be sent: sixteen messages of the largest size, so that the parent of
/// hundreds of stopped children stays small.
pub const QUEUE_BYTES_MAX: usize = 16 * MESSAGE_BYTES_MAX;

/// Buffers of the socket, in bytes: one message of the largest size and what the kernel adds.
const SOCKET_BUFFER_BYTES: usize = MESSAGE_BYTES_MAX + 4096;

/// A message that says how many descriptors travel with it.
pub trait Message {
    /// Number of descriptors that belong to this message, at most [`DESCRIPTORS_MAX`].
    fn descriptors(&self) -> usize {
        0
    }
}

/// What the two ends must agree on. Ends of different builds never talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Which set of messages, for instance one number per kind of child.
    pub id: u32,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {} version {}", self.id, self.version)
    }
}

/// First datagram of each direction.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Greeting {
    magic: [u8; 4],
    protocol: Protocol,
}

const MAGIC: [u8; 4] = *b"PSEP";

/// Why a channel failed.
#[derive(Debug)]
pub enum ChannelError {
    /// The socket cannot be made or set up.
    Socket(io::Error),
    /// The other end is gone.
    Closed,
    /// The channel failed before and is not used any more.
    Dead,
    /// A message of ours cannot be sent: its encoding, or the number of its descriptors.
    /// Nothing was sent; the channel stays usable.
    Message(String),
    /// The peer does not read: the queue is full.
    QueueFull,
    /// The peer did not begin with a greeting, or with that of another protocol.
    Greeting(String),
    /// The peer's message is not of the type expected.
    Malformed(CodecError),
    /// The peer's message is larger than [`MESSAGE_BYTES_MAX`] or carries more than
    /// [`DESCRIPTORS_MAX`] descriptors.
    Truncated,
    /// The peer's message carries another number of descriptors than its type says.
    Descriptors {
        /// Number that the type of the message says.
        expected: usize,
        /// Number that came; they are closed.
        received: usize,
    },
    /// The peer's message carries control data other than descriptors.
    ForeignControl,
    /// The deadline of a waiting call passed. The channel stays usable.
    TimedOut,
    /// A system call failed.
    Io(io::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Socket(error) => write!(f, "unable to set up a channel: {error}"),
            ChannelError::Closed => write!(f, "channel closed by the other process"),
            ChannelError::Dead => write!(f, "channel failed before"),
            ChannelError::Message(reason) => write!(f, "unable to send a message: {reason}"),
            ChannelError::QueueFull => write!(
                f,
                "the other process does not read its channel: too many messages wait"
            ),
            ChannelError::Greeting(reason) => write!(f, "unexpected greeting: {reason}"),
            ChannelError::Malformed(error) => error.fmt(f),
            ChannelError::Truncated => write!(f, "message beyond the channel's limits"),
            ChannelError::Descriptors { expected, received } => {
                write!(
                    f,
                    "message with {received} descriptors instead of {expected}"
                )
            }
            ChannelError::ForeignControl => write!(f, "message with unexpected control data"),
            ChannelError::TimedOut => write!(f, "no message in time"),
            ChannelError::Io(error) => write!(f, "channel failed: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {}

/// A connected pair of sockets for a channel: the parent's end and the child's.
///
/// Both have close-on-exec set and buffers that hold the largest message.
pub fn pair() -> Result<(OwnedFd, OwnedFd), ChannelError> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|error| ChannelError::Socket(error.into()))?;
    for end in [&ours, &theirs] {
        set_buffers(end).map_err(ChannelError::Socket)?;
    }
    Ok((ours, theirs))
}

/// Makes room for the largest message. The kernel may grant less than was asked: that is an error,
/// since a large message would then be refused much later.
fn set_buffers(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES)?;
    setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
    let granted = getsockopt(socket, sockopt::SndBuf)?;
    if granted < SOCKET_BUFFER_BYTES {
        return Err(io::Error::other(format!(
            "the system grants a send buffer of {granted} bytes, {SOCKET_BUFFER_BYTES} are needed \
             (Linux: net.core.wmem_max, FreeBSD: kern.ipc.maxsockbuf)"
        )));
    }
    Ok(())
}

/// What waits to be sent.
struct Outgoing {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// How much of a channel still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Both directions.
    Open,
    /// The peer is gone; what it sent before may still be received.
    ReceiveOnly,
    /// None.
    Dead,
}

/// One end of a channel: sends `S`, receives `R`.
pub struct Channel<S, R> {
    socket: OwnedFd,
    protocol: Protocol,
    greeted: bool,
    state: State,
    queue: VecDeque<Outgoing>,
    buffer: Vec<u8>,
    types: PhantomData<fn(S) -> R>,
}

impl<S, R> fmt::Debug for Channel<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("socket", &self.socket)
            .field("protocol", &self.protocol)
            .field("state", &self.state)
            .field("queued", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S, R> Channel<S, R>
where
    S: Message + Serialize,
    R: Message + DeserializeOwned,
{
    /// A channel over one end of [`pair`]; sends the greeting.
    pub fn new(socket: OwnedFd, protocol: Protocol) -> Result<Self, ChannelError> {
        let mut channel = Channel {
            socket,
            protocol,
            greeted: false,
            state: State::Open,
            queue: VecDeque::new(),
            // One byte more than the largest message, so that a larger one shows even where the
            // kernel would hand out the rest later instead of flagging it as cut.
            buffer: vec![0; MESSAGE_BYTES_MAX + 1],
            types: PhantomData,
        };
        let greeting = codec::encode(&Greeting {
            magic: MAGIC,
            protocol,
        })
        .map_err(|error| ChannelError::Message(error.to_string()))?;
        channel.queue.push_back(Outgoing {
            bytes: greeting,
            descriptors: Vec::new(),
        });
        match channel.flush() {
            // The peer is gone already. Let the first receive say so.
            Ok(_) | Err(ChannelError::Closed) => {}
            Err(error) => return Err(error),
        }
        Ok(channel)
    }

    /// Sends a message, or queues it if the socket is full. The descriptors are closed on this side
    /// when they have gone; the number must be that of [`Message::descriptors`].
    pub fn send(&mut self, message: &S, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        self.check_sending()?;
        let expected = message.descriptors();
        if descriptors.len() != expected || expected > DESCRIPTORS_MAX {
            return Err(ChannelError::Message(format!(
                "{} descriptors given, its type says {expected}, {DESCRIPTORS_MAX} are the most",
                descriptors.len()
            )));
        }
        let bytes =
            codec::encode(message).map_err(|error| ChannelError::Message(error.to_string()))?;
        let queued_bytes: usize = self.queue.iter().map(|waiting| waiting.bytes.len()).sum();
        if self.queue.len() >= QUEUE_MESSAGES_MAX || queued_bytes + bytes.len() > QUEUE_BYTES_MAX {
            return Err(self.fail(ChannelError::QueueFull));
        }
        self.queue.push_back(Outgoing { bytes, descriptors });
        self.flush().map(|_| ())
    }

    /// Sends what is queued, as far as the socket takes it; true if nothing is left.
    pub fn flush(&mut self) -> Result<bool, ChannelError> {
        self.check_sending()?;
        while let Some(next) = self.queue.front() {
            match socket::send(self.socket.as_fd(), &next.bytes, &next.descriptors) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if is_lost(&error) => {
                    self.state = State::ReceiveOnly;
                    self.queue.clear();
                    return Err(ChannelError::Closed);
                }
                Err(error) => return Err(self.fail(ChannelError::Io(error))),
            }
        }
        Ok(true)
    }

    /// True if messages are queued: poll for writing too, then call [`Channel::flush`].
    pub fn wants_write(&self) -> bool {
        self.state == State::Open && !self.queue.is_empty()
    }

    /// The next message and its descriptors, if one is there.
    pub fn try_receive(&mut self) -> Result<Option<(R, Vec<OwnedFd>)>, ChannelError> {
        if self.state == State::Dead {
            return Err(ChannelError::Dead);
        }
        let mut reset_seen = false;
        loop {
            let datagram = match socket::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Linux says once that the peer ended with messages of ours unread, ahead of what
                // the peer itself had sent.
                Err(error) if is_lost(&error) && !reset_seen => {
                    reset_seen = true;
                    continue;
                }
                Err(error) if is_lost(&error) => return Err(self.fail(ChannelError::Closed)),
                Err(error) => return Err(self.fail(ChannelError::Io(error))),
            };
            match self.admit(datagram) {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Checks a datagram; nothing if it was the greeting.
    fn admit(
        &mut self,
        datagram: socket::Datagram,
    ) -> Result<Option<(R, Vec<OwnedFd>)>, ChannelError> {
        if datagram.truncated || datagram.length_bytes > MESSAGE_BYTES_MAX {
            return Err(ChannelError::Truncated);
        }
        if datagram.foreign_control {
            return Err(ChannelError::ForeignControl);
        }
        if datagram.length_bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let bytes = &self.buffer[..datagram.length_bytes];
        let received = datagram.descriptors.len();
        if !self.greeted {
            check_greeting(bytes, self.protocol)?;
            if received != 0 {
                return Err(ChannelError::Descriptors {
                    expected: 0,
                    received,
                });
            }
            self.greeted = true;
            return Ok(None);
        }
        let message: R = codec::decode(bytes).map_err(ChannelError::Malformed)?;
        let expected = message.descriptors();
        if received != expected || received > DESCRIPTORS_MAX {
            return Err(ChannelError::Descriptors { expected, received });
        }
        Ok(Some((message, datagram.descriptors)))
    }

    /// The next message; waits for it until the deadline, for ever without one.
    /// Queued messages are sent meanwhile.
    pub fn receive(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(R, Vec<OwnedFd>), ChannelError> {
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            self.wait(PollFlags::POLLIN, deadline)?;
        }
    }

    /// Waits until all that is queued has been sent, until the deadline at most.
    pub fn drain(&mut self, deadline: Option<Instant>) -> Result<(), ChannelError> {
        while !self.flush()? {
            self.wait(PollFlags::empty(), deadline)?;
        }
        Ok(())
    }

    /// Waits for the socket.
    fn wait(
        &mut self,
        mut events: PollFlags,
        deadline: Option<Instant>,
    ) -> Result<(), ChannelError> {
        match self.flush() {
            // The socket took all of it since the caller looked: there is nothing to wait for.
            Ok(true) if events.is_empty() => return Ok(()),
            Ok(true) => {}
            Ok(false) => events |= PollFlags::POLLOUT,
            // Its last messages are still to be received, and the end shows when polled for.
            Err(ChannelError::Closed) if events.contains(PollFlags::POLLIN) => {}
            Err(error) => return Err(error),
        }
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ChannelError::TimedOut);
                }
                // Rounded up, lest the last millisecond be spent spinning.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(self.fail(ChannelError::Io(error.into()))),
        }
    }

    fn check_sending(&self) -> Result<(), ChannelError> {
        match self.state {
            State::Open => Ok(()),
            State::ReceiveOnly => Err(ChannelError::Closed),
            State::Dead => Err(ChannelError::Dead),
        }
    }

    /// Marks the channel dead; what is queued, and its descriptors, go with it.
    fn fail(&mut self, error: ChannelError) -> ChannelError {
        self.state = State::Dead;
        self.queue.clear();
        error
    }
}

/// True if the error says that the peer is gone.
fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

fn check_greeting(bytes: &[u8], ours: Protocol) -> Result<(), ChannelError> {
    let greeting: Greeting =
        codec::decode(bytes).map_err(|error| ChannelError::Greeting(error.to_string()))?;
    if greeting.magic != MAGIC {
        return Err(ChannelError::Greeting("not one of ours".into()));
    }
    if greeting.protocol != ours {
        return Err(ChannelError::Greeting(format!(
            "{}, this process speaks {ours}",
            greeting.protocol
        )));
    }
    Ok(())
}
