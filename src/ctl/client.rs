//! The connection to the daemon: one request, one reply, and this process confined before either.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sandbox::policy::roles;

use super::connector::{self, Connector};
use super::{confine, exit};
use crate::conf::model::{Address, Config};
use crate::terms::system_reason;
use crate::wire::control::{ControlReply, ControlRequest, Order};
use crate::wire::packet::{Decoder, Limits, Step};

/// How long the daemon may take to answer before it counts as stuck: much longer than any of its
/// own deadlines, that of a change of role with a long `timeout` included.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// Why there is no reply.
#[derive(Debug)]
pub(super) struct Failure {
    text: String,
    /// The exit code.
    pub(super) code: u8,
}

impl Failure {
    pub(super) fn new(code: u8, text: String) -> Failure {
        Failure { text, code }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The daemon, to be asked once or again and again.
pub(super) struct Daemon {
    via: String,
    link: Link,
}

enum Link {
    /// The one connection that there is; none once it is used.
    Once(Option<UnixStream>),
    Often(Connector),
}

impl Daemon {
    /// The daemon that the configuration names, to be asked one question; this process is confined
    /// afterwards.
    ///
    /// # Errors
    /// The daemon does not run, or this process cannot be confined.
    pub(super) fn once(config: &Config) -> Result<Daemon, Failure> {
        let path = control_path(config)?;
        let via = path.display().to_string();
        let stream = connector::connect(path)
            .map_err(|error| unable_to_connect(&via, &system_reason(&error)))?;
        confine::enter(config, &[(stream.as_fd(), roles::CONTROL)])
            .map_err(|reason| not_confined(&reason))?;
        let link = Link::Once(Some(stream));
        Ok(Daemon { via, link })
    }

    /// The same, to be asked any number of questions.
    ///
    /// # Errors
    /// This process cannot be confined.
    pub(super) fn often(config: &Config) -> Result<Daemon, Failure> {
        let path = control_path(config)?;
        let connector = Connector::start(path).map_err(|reason| not_confined(&reason))?;
        confine::enter(config, &[(connector.as_fd(), roles::CHANNEL)])
            .map_err(|reason| not_confined(&reason))?;
        Ok(Daemon {
            via: path.display().to_string(),
            link: Link::Often(connector),
        })
    }

    /// Sends a request and returns the reply.
    ///
    /// # Errors
    /// The daemon does not run, does not answer, or refuses the request as a whole.
    pub(super) fn ask(&mut self, request: &ControlRequest) -> Result<ControlReply, Failure> {
        let via = &self.via;
        let mut stream = match &mut self.link {
            Link::Once(stream) => stream.take().ok_or("the connection is used up".to_owned()),
            Link::Often(connector) => connector.connect(),
        }
        .map_err(|reason| unable_to_connect(via, &reason))?;
        let failed = |what: &str, error: &io::Error| Failure {
            text: format!("{what} hastd via {via}: {}.", system_reason(error)),
            code: exit::UNAVAILABLE,
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream
            .write_all(&bytes)
            .map_err(|error| failed("Unable to send command to", &error))?;
        let reply =
            receive(&mut stream).map_err(|error| failed("Unable to receive reply from", &error))?;
        if let Some((error, text)) = &reply.error {
            let mut message = format!("Error {} received from hastd.", error.number());
            if let Some(text) = text {
                message.push(' ');
                message.push_str(text);
            } else if matches!(request.order, Order::Stop | Order::Extension { .. }) {
                message.push_str(" It may be a daemon that does not know this command.");
            }
            return Err(Failure {
                text: message,
                code: exit::SOFTWARE,
            });
        }
        Ok(reply)
    }
}

fn control_path(config: &Config) -> Result<&Path, Failure> {
    match &config.control {
        Address::Unix(path) => Ok(path),
        Address::Tcp { .. } => Err(Failure {
            text: format!(
                "Unable to connect to hastd via {}: it is no Unix socket.",
                config.control
            ),
            code: exit::OSERR,
        }),
    }
}

fn unable_to_connect(via: &str, reason: &str) -> Failure {
    Failure {
        text: format!("Unable to connect to hastd via {via}: {reason}."),
        code: exit::OSERR,
    }
}

fn not_confined(reason: &str) -> Failure {
    Failure {
        text: format!("Unable to give up privileges before talking to hastd: {reason}."),
        code: exit::OSERR,
    }
}

fn receive(stream: &mut UnixStream) -> io::Result<ControlReply> {
    let mut decoder = Decoder::exact(Limits::CONTROL_REPLY);
    loop {
        match decoder.step().map_err(io::Error::other)? {
            Step::Fill(space) => match stream.read(space) {
                Ok(0) => {
                    return Err(io::Error::other("the daemon closed the connection"));
                }
                Ok(count) => decoder.received(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            },
            Step::Packet(packet) => {
                return ControlReply::decode(&packet).map_err(io::Error::other);
            }
            Step::Data { .. } | Step::Complete => {
                return Err(io::Error::other("the reply carries data"));
            }
        }
    }
}

/// The names of a command line; none means all.
pub(super) fn names_or_all(names: &[String]) -> Vec<String> {
    if names.is_empty() {
        vec!["all".to_owned()]
    } else {
        names.to_vec()
    }
}

/// The exit code that an error number of the daemon becomes, as the original's tool does it.
pub(super) fn code_of(number: i16) -> u8 {
    u8::try_from(number).unwrap_or(exit::SOFTWARE)
}
