//! The listener's life: a poll loop over its channel, its sockets and its guests.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use privsep::channel::{Channel, ChannelError};
use privsep::process::take_ipc;
use socket2::{SockRef, Socket};

use super::guests::Guests;
use super::reading::Reading;
use crate::daemon::socket::End;
use crate::daemon::{confine, errand};
use crate::ipc::{FromListener, LISTENER_PROTOCOL, Level, ToListener};

/// Connections accepted from one socket before others get their turn.
const ACCEPTS_PER_ROUND: usize = 16;

/// Pause after accept(2) failed for want of resources: it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that waits for its first packet.
struct Guest {
    socket: Socket,
    peer: End,
    reading: Reading,
}

/// What poll(2) watches.
#[derive(Clone, Copy)]
enum Source {
    Parent,
    Socket(u32),
    Guest(usize),
}

struct Listener {
    channel: Channel<FromListener, ToListener>,
    sockets: BTreeMap<u32, OwnedFd>,
    guests: Guests<Guest>,
    paused_until: Option<Instant>,
}

/// The life of the listener; returns its exit code.
pub fn main() -> u8 {
    errand::exit_code(run())
}

fn run() -> Result<(), String> {
    let ipc = take_ipc().map_err(|error| error.to_string())?;
    let mut channel: Channel<FromListener, ToListener> =
        Channel::new(ipc, LISTENER_PROTOCOL).map_err(|error| error.to_string())?;
    let (first, _) = channel.receive(None).map_err(|error| error.to_string())?;
    let ToListener::Start {
        user,
        confine,
        debug: _,
        patience_ms,
    } = first
    else {
        return Err("the first message is not the start".to_owned());
    };
    match confine::listener(&user, confine, channel.as_fd()) {
        Ok(ready) => channel
            .send(&FromListener::Ready(Box::new(ready)), Vec::new())
            .map_err(|error| error.to_string())?,
        Err(reason) => {
            let text = format!("Unable to confine the listener: {reason}.");
            let level = Level::Error;
            // The exit code says it, too.
            let _ = channel.send(&FromListener::Log { level, text }, Vec::new());
            return Err(reason);
        }
    }
    let listener = Listener {
        channel,
        sockets: BTreeMap::new(),
        guests: Guests::new(Duration::from_millis(patience_ms.into())),
        paused_until: None,
    };
    match listener.serve() {
        // The parent is gone: so are we.
        ChannelError::Closed => Ok(()),
        error => Err(error.to_string()),
    }
}

impl Listener {
    /// Serves until the channel ends.
    fn serve(mut self) -> ChannelError {
        loop {
            if let Err(error) = self.round() {
                return error;
            }
        }
    }

    fn round(&mut self) -> Result<(), ChannelError> {
        let ready = self.wait()?;
        let now = Instant::now();
        while let Some((message, descriptors)) = self.channel.try_receive()? {
            self.obey(&message, descriptors)?;
        }
        // From the last guest on, so that places stay right when one leaves.
        for source in ready.iter().rev() {
            match *source {
                Source::Guest(at) if !self.channel.wants_write() => self.read(at)?,
                Source::Guest(_) | Source::Socket(_) | Source::Parent => {}
            }
        }
        for source in &ready {
            match *source {
                Source::Socket(id) if !self.channel.wants_write() => self.accept(id, now)?,
                Source::Guest(_) | Source::Socket(_) | Source::Parent => {}
            }
        }
        for guest in self.guests.expired(now) {
            self.note(&guest.peer, "no packet in time")?;
        }
        Ok(())
    }

    fn obey(
        &mut self,
        message: &ToListener,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        match *message {
            // Once is enough; the parent does not send it twice.
            ToListener::Start { .. } => {}
            ToListener::Listen { id } => {
                for socket in descriptors {
                    // What is accepted inherits the limits.
                    confine::limit_door(socket.as_fd()).map_err(ChannelError::Io)?;
                    self.sockets.insert(id, socket);
                }
            }
            ToListener::Forget { id } => {
                self.sockets.remove(&id);
            }
        }
        Ok(())
    }

    /// Waits until something can be done, and says what. While the parent does not take what there
    /// is for it, nothing more is accepted or read.
    fn wait(&mut self) -> Result<Vec<Source>, ChannelError> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|&until| until > now);
        let backlog = !self.channel.flush()?;
        let mut polled: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let mut parent = PollFlags::POLLIN;
        parent.set(PollFlags::POLLOUT, backlog);
        polled.push((Source::Parent, self.channel.as_fd(), parent));
        if self.paused_until.is_none() && !backlog {
            for (&id, socket) in &self.sockets {
                polled.push((Source::Socket(id), socket.as_fd(), PollFlags::POLLIN));
            }
        }
        if !backlog {
            for (at, guest) in self.guests.iter().enumerate() {
                polled.push((Source::Guest(at), guest.socket.as_fd(), PollFlags::POLLIN));
            }
        }
        let deadline = [self.guests.next_deadline(), self.paused_until]
            .into_iter()
            .flatten()
            .min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(now);
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors: Vec<PollFd<'_>> = polled
            .iter()
            .map(|(_, descriptor, events)| PollFd::new(*descriptor, *events))
            .collect();
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(ChannelError::Io(error.into())),
        }
        Ok(polled
            .iter()
            .zip(&descriptors)
            .filter(|(_, descriptor)| descriptor.any().unwrap_or(true))
            .map(|((source, ..), _)| *source)
            .collect())
    }

    fn accept(&mut self, id: u32, now: Instant) -> Result<(), ChannelError> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(socket) = self.sockets.get(&id) else {
                return Ok(());
            };
            let (socket, peer) = match accept_one(socket.as_fd()) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_passing(&error) => continue,
                Err(error) => {
                    self.paused_until = Some(now + PAUSE);
                    let text = format!("Unable to accept connection: {error}.");
                    return self.log(Level::Error, text);
                }
            };
            let guest = Guest {
                peer: peer.clone(),
                socket,
                reading: Reading::new(),
            };
            if let Some(displaced) = self.guests.admit(peer.ip(), guest, now) {
                let reason = "too many connections wait for their first packet";
                self.note(&displaced.peer, reason)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<(), ChannelError> {
        let Some(guest) = self.guests.get_mut(at) else {
            return Ok(());
        };
        match guest.reading.read(&guest.socket) {
            Ok(None) => Ok(()),
            Ok(Some(hello)) => match self.guests.remove(at) {
                Some(guest) => self.channel.send(
                    &FromListener::Hello(Box::new(hello)),
                    vec![guest.socket.into()],
                ),
                None => Ok(()),
            },
            Err(reason) => {
                let peer = guest.peer.clone();
                self.guests.remove(at);
                self.note(&peer, &reason.to_string())
            }
        }
    }

    fn note(&mut self, peer: &End, reason: &str) -> Result<(), ChannelError> {
        let text = format!("Unable to receive header from {peer}: {reason}.");
        self.log(Level::Error, text)
    }

    fn log(&mut self, level: Level, text: String) -> Result<(), ChannelError> {
        self.channel
            .send(&FromListener::Log { level, text }, Vec::new())
    }
}

fn accept_one(listening: BorrowedFd<'_>) -> io::Result<(Socket, End)> {
    let (socket, peer) = SockRef::from(&listening).accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, End::of(&peer)))
}

/// Whether an error of accept(2) concerns the one connection only.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}
