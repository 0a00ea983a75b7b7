//! The connection to the daemon: one request, one reply.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::exit;
use crate::conf::model::{Address, Config};
use crate::terms::system_reason;
use crate::wire::control::{ControlReply, ControlRequest, Order};
use crate::wire::packet::{Decoder, Limits, Step};

/// How long the daemon may take to answer before it counts as stuck: much longer than any of its
/// own deadlines, that of a change of role with a long `timeout` included.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why there is no reply.
#[derive(Debug)]
pub(super) struct Failure {
    text: String,
    /// The exit code.
    pub(super) code: u8,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Sends a request to the daemon that the configuration names, and returns its reply.
///
/// # Errors
/// The daemon does not run, does not answer, or refuses the request as a whole.
pub(super) fn ask(config: &Config, request: &ControlRequest) -> Result<ControlReply, Failure> {
    let Address::Unix(path) = &config.control else {
        return Err(Failure {
            text: format!(
                "Unable to connect to hastd via {}: it is no Unix socket.",
                config.control
            ),
            code: exit::OSERR,
        });
    };
    let via = path.display();
    let failed = |what: &str, error: &io::Error, code| Failure {
        text: format!("{what} hastd via {via}: {}.", system_reason(error)),
        code,
    };
    let mut stream = UnixStream::connect(path)
        .map_err(|error| failed("Unable to connect to", &error, exit::OSERR))?;
    let exchange = |stream: &mut UnixStream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream.write_all(&bytes)
    };
    exchange(&mut stream)
        .map_err(|error| failed("Unable to send command to", &error, exit::UNAVAILABLE))?;
    let reply = receive(&mut stream)
        .map_err(|error| failed("Unable to receive reply from", &error, exit::UNAVAILABLE))?;
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
