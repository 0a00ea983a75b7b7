//! The process that connects to the daemon for a hastctl that asks again and again.
//!
//! hastctl starts it, tells it the one path that it may connect to, and confines itself. From then on
//! hastctl asks for connections and gets descriptors. This process is not confined, as it must open
//! the socket anew each time; it reads nothing from the daemon, and from hastctl nothing but "connect".

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use privsep::channel::{self, Channel, Message, Protocol};
use privsep::process::{Program, Spawn, take_ipc};
use serde::{Deserialize, Serialize};

use super::client::PATIENCE;
use crate::terms::system_reason;

/// Name of the variable that says what a process is, and what it says.
const VARIABLE: &str = "HASTCTL_CHILD";
const VALUE: &str = "connector";

const PROTOCOL: Protocol = Protocol { id: 4, version: 1 };

#[derive(Debug, Serialize, Deserialize)]
enum ToConnector {
    /// First of all: where the daemon is.
    Start(PathBuf),
    /// Connect.
    Connect,
}

#[derive(Debug, Serialize, Deserialize)]
enum FromConnector {
    /// The connection, as descriptor.
    Connected,
    /// There is none: the system's reason.
    Failed(String),
}

impl Message for ToConnector {}

impl Message for FromConnector {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, FromConnector::Connected))
    }
}

/// Whether this process is one.
pub(super) fn is_this_process() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == VALUE)
}

/// The life of a connector; returns its exit code.
pub(super) fn main() -> u8 {
    // Either end of the channel is a hastctl of the same build: what fails, fails there, too.
    match serve() {
        Ok(()) => super::exit::OK,
        Err(reason) => {
            eprintln!("hastctl: connector: {reason}");
            super::exit::OSERR
        }
    }
}

fn serve() -> Result<(), String> {
    let ipc = take_ipc().map_err(|error| error.to_string())?;
    let mut channel: Channel<FromConnector, ToConnector> =
        Channel::new(ipc, PROTOCOL).map_err(|error| error.to_string())?;
    let Ok((ToConnector::Start(path), _)) = channel.receive(None) else {
        return Err("the first message is not the start".to_owned());
    };
    loop {
        match channel.receive(None) {
            Ok((ToConnector::Connect, _)) => {}
            Ok((ToConnector::Start(_), _)) => return Err("a second start".to_owned()),
            // hastctl has ended.
            Err(_) => return Ok(()),
        }
        let (answer, descriptors) = match connect(&path) {
            Ok(stream) => (FromConnector::Connected, vec![OwnedFd::from(stream)]),
            Err(error) => (FromConnector::Failed(system_reason(&error)), Vec::new()),
        };
        let sent = channel.send(&answer, descriptors);
        if sent.and_then(|()| channel.drain(None)).is_err() {
            return Ok(());
        }
    }
}

/// A connection to the daemon that waits for so long at most.
pub(super) fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The process, as hastctl holds it.
pub(super) struct Connector {
    channel: Channel<ToConnector, FromConnector>,
}

impl Connector {
    /// Starts it.
    ///
    /// # Errors
    /// Why that was not possible, in words.
    pub(super) fn start(path: &Path) -> Result<Connector, String> {
        let program = Program::current().map_err(|error| error.to_string())?;
        let (ours, theirs) = channel::pair().map_err(|error| error.to_string())?;
        let mut channel = Channel::new(ours, PROTOCOL).map_err(|error| error.to_string())?;
        Spawn::new(&program, "hastctl: connector")
            .variable(VARIABLE, VALUE)
            .start(&theirs)
            .map_err(|error| error.to_string())?;
        channel
            .send(&ToConnector::Start(path.to_owned()), Vec::new())
            .map_err(|error| error.to_string())?;
        Ok(Connector { channel })
    }

    /// The channel, to be held when this process confines itself.
    pub(super) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// A new connection.
    ///
    /// # Errors
    /// The system's reason, or what became of the process.
    pub(super) fn connect(&mut self) -> Result<UnixStream, String> {
        let answer = self
            .channel
            .send(&ToConnector::Connect, Vec::new())
            .and_then(|()| self.channel.drain(None))
            .and_then(|()| self.channel.receive(None));
        let (answer, descriptors) = answer.map_err(|error| error.to_string())?;
        match (answer, descriptors.into_iter().next()) {
            (FromConnector::Connected, Some(descriptor)) => {
                use sandbox::policy::{Kind, roles};
                sandbox::limit_received(Kind::Control, roles::CONTROL, descriptor.as_fd())
                    .map_err(|error| error.to_string())?;
                Ok(descriptor.into())
            }
            (FromConnector::Connected, None) => Err("no connection came".to_owned()),
            (FromConnector::Failed(reason), _) => Err(reason),
        }
    }
}
