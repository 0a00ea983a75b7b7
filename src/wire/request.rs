//! Requests and replies as bytes (spec/01, 5 and 6).

use std::fmt;

use super::message::{Command, PROTOCOL_VERSION, Reply, Request};
use super::nv::{Entry, WrongKind};
use super::packet::{self, Packet};
use super::stages::{DataHead, DataPairs, StageError};
use crate::terms::{Errno, REQUEST_BYTES_MAX};

impl Command {
    /// The number of the wire.
    pub const fn code(self) -> u8 {
        match self {
            Command::Read => 1,
            Command::Write => 2,
            Command::Delete => 3,
            Command::Flush => 4,
            Command::Keepalive => 5,
            Command::Ahead => 64,
            Command::InStep => 65,
            Command::Target => 66,
        }
    }

    /// The command of that number.
    pub const fn from_code(code: u8) -> Option<Command> {
        match code {
            1 => Some(Command::Read),
            2 => Some(Command::Write),
            3 => Some(Command::Delete),
            4 => Some(Command::Flush),
            5 => Some(Command::Keepalive),
            64 => Some(Command::Ahead),
            65 => Some(Command::InStep),
            66 => Some(Command::Target),
            _ => None,
        }
    }
}

/// A request that is refused. If `seq` is known, the reply is `EINVAL` with it and the stream goes
/// on behind the packet's data; otherwise there is nothing to answer to, and the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The request's number, if it has a usable one.
    pub seq: Option<u64>,
    /// What is wrong with it.
    pub reason: RequestError,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "request {seq}: {}", self.reason),
            None => write!(f, "request without a usable number: {}", self.reason),
        }
    }
}

impl std::error::Error for BadRequest {}

/// What is wrong with a request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// A pair that it needs is missing.
    Missing(&'static str),
    /// A pair has the wrong type.
    Kind(&'static str, WrongKind),
    /// `cmd` is none that this program knows.
    UnknownCommand(u8),
    /// `seq` is 0.
    SeqZero,
    /// `memsync` with something else than a write.
    MemsyncOutOfPlace,
    /// A flag that is neither 0 nor 1.
    Flag(&'static str, u8),
    /// Read, write or delete of nothing.
    LengthZero,
    /// A read or write beyond [`REQUEST_BYTES_MAX`].
    TooLong(u64),
    /// `offset` + `length` does not fit 64 bits.
    EndOverflows,
    /// `error` is no error number.
    BadErrno(i16),
    /// Data with something that has none, or with an error.
    UnexpectedData,
    /// The data, or what is said about them.
    Data(StageError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Missing(name) => write!(f, "pair '{name}' is missing"),
            RequestError::Kind(name, kind) => write!(f, "pair '{name}' {kind}"),
            RequestError::UnknownCommand(code) => write!(f, "unknown command {code}"),
            RequestError::SeqZero => f.write_str("sequence number 0"),
            RequestError::MemsyncOutOfPlace => f.write_str("memsync with something but a write"),
            RequestError::Flag(name, value) => write!(f, "flag '{name}' is {value}"),
            RequestError::LengthZero => f.write_str("length 0"),
            RequestError::TooLong(length) => {
                write!(
                    f,
                    "{length} bytes in one request, allowed are up to {REQUEST_BYTES_MAX}"
                )
            }
            RequestError::EndOverflows => f.write_str("offset and length exceed any disk"),
            RequestError::BadErrno(number) => write!(f, "error number {number}"),
            RequestError::UnexpectedData => f.write_str("data where there are none"),
            RequestError::Data(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RequestError::Data(error) => Some(error),
            _ => None,
        }
    }
}

/// A number of a pair that may be absent.
#[inline]
fn number<'a, T>(
    name: &'static str,
    entry: Option<Entry<'a>>,
    read: impl Fn(&Entry<'a>) -> Result<T, WrongKind>,
) -> Result<Option<T>, RequestError> {
    entry
        .map(|entry| read(&entry).map_err(|kind| RequestError::Kind(name, kind)))
        .transpose()
}

fn flag(name: &'static str, value: Option<u8>) -> Result<bool, RequestError> {
    match value {
        None | Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(value) => Err(RequestError::Flag(name, value)),
    }
}

impl Request {
    /// Appends the packet's head; the caller sends the `data.size` bytes of data after it.
    /// `data` is [`DataHead::EMPTY`] but for a write.
    pub fn encode(&self, data: &DataHead, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| {
            pairs.u8("cmd", self.command.code());
            if self.command == Command::Keepalive {
                return;
            }
            pairs
                .u64("seq", self.seq)
                .u64("offset", self.offset)
                .u64("length", self.length);
            if self.memsync {
                pairs.u8("memsync", 1);
            }
            data.write(pairs);
        });
    }

    /// The request of a packet, with what is said about its data. Unknown pairs are ignored.
    ///
    /// What is checked here is what can be checked without the disk: alignment and the end of the
    /// data area are the engine's.
    ///
    /// # Errors
    /// Whatever is wrong; [`Packet::data_bytes`] bytes of data follow in any case and have to be
    /// skipped.
    pub fn decode(packet: &Packet<'_>) -> Result<(Request, DataHead), BadRequest> {
        let (mut cmd, mut seq, mut offset, mut length, mut memsync) =
            (None, None, None, None, None);
        let mut data = DataPairs::default();
        for entry in packet.block.entries() {
            let slot = match entry.name {
                b"cmd" => &mut cmd,
                b"seq" => &mut seq,
                b"offset" => &mut offset,
                b"length" => &mut length,
                b"memsync" => &mut memsync,
                _ => {
                    data.take(entry);
                    continue;
                }
            };
            slot.get_or_insert(entry);
        }
        let known_seq = seq
            .and_then(|entry| entry.u64().ok())
            .filter(|&seq| seq != 0);
        let parts = RequestParts {
            cmd,
            seq,
            offset,
            length,
            memsync,
            data,
            size: packet.data_bytes,
        };
        parts.check().map_err(|reason| BadRequest {
            seq: known_seq,
            reason,
        })
    }
}

/// The pairs of a request, found but not yet judged.
struct RequestParts<'a> {
    cmd: Option<Entry<'a>>,
    seq: Option<Entry<'a>>,
    offset: Option<Entry<'a>>,
    length: Option<Entry<'a>>,
    memsync: Option<Entry<'a>>,
    data: DataPairs<'a>,
    size: u32,
}

impl RequestParts<'_> {
    fn check(&self) -> Result<(Request, DataHead), RequestError> {
        let code = number("cmd", self.cmd, Entry::u8)?.ok_or(RequestError::Missing("cmd"))?;
        let command = Command::from_code(code).ok_or(RequestError::UnknownCommand(code))?;
        if command == Command::Keepalive {
            if self.size != 0 {
                return Err(RequestError::UnexpectedData);
            }
            let request = Request {
                command,
                seq: 0,
                offset: 0,
                length: 0,
                memsync: false,
            };
            return Ok((request, DataHead::EMPTY));
        }
        let seq = number("seq", self.seq, Entry::u64)?.ok_or(RequestError::Missing("seq"))?;
        if seq == 0 {
            return Err(RequestError::SeqZero);
        }
        let memsync = flag("memsync", number("memsync", self.memsync, Entry::u8)?)?;
        if memsync && command != Command::Write {
            return Err(RequestError::MemsyncOutOfPlace);
        }
        if self.size != 0 && command != Command::Write {
            return Err(RequestError::UnexpectedData);
        }
        let offset = number("offset", self.offset, Entry::u64)?;
        let length = number("length", self.length, Entry::u64)?;
        if matches!(
            command,
            Command::Flush | Command::Ahead | Command::InStep | Command::Target
        ) {
            // The original sends zeros with a flush and looks at neither.
            let request = Request {
                command,
                seq,
                offset: 0,
                length: 0,
                memsync: false,
            };
            return Ok((request, DataHead::EMPTY));
        }
        let offset = offset.ok_or(RequestError::Missing("offset"))?;
        let length = length.ok_or(RequestError::Missing("length"))?;
        if length == 0 {
            return Err(RequestError::LengthZero);
        }
        if offset.checked_add(length).is_none() {
            return Err(RequestError::EndOverflows);
        }
        if command != Command::Delete && length > u64::from(REQUEST_BYTES_MAX) {
            return Err(RequestError::TooLong(length));
        }
        let mut data = DataHead::EMPTY;
        if command == Command::Write {
            data = self.data.head(self.size).map_err(RequestError::Data)?;
            data.check_length(length).map_err(RequestError::Data)?;
        }
        Ok((
            Request {
                command,
                seq,
                offset,
                length,
                memsync,
            },
            data,
        ))
    }
}

impl Reply {
    /// Appends the packet's head; the caller sends the `data.size` bytes of data after it.
    /// `data` is [`DataHead::EMPTY`] but for a successful read.
    pub fn encode(&self, data: &DataHead, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| {
            pairs.u64("seq", self.seq);
            if self.received {
                pairs.i8("received", 1);
            }
            if let Some(error) = self.error {
                pairs.i16("error", error.to_wire());
            }
            data.write(pairs);
        });
    }

    /// The reply of a packet, with what is said about its data. Whether data are expected, and how
    /// many, only the request says: [`super::stages::decode`] checks it.
    ///
    /// # Errors
    /// What is wrong. A primary cannot go on then: it does not know what was answered.
    pub fn decode(packet: &Packet<'_>) -> Result<(Reply, DataHead), RequestError> {
        let (mut seq, mut error, mut received) = (None, None, None);
        let mut data = DataPairs::default();
        for entry in packet.block.entries() {
            let slot = match entry.name {
                b"seq" => &mut seq,
                b"error" => &mut error,
                b"received" => &mut received,
                _ => {
                    data.take(entry);
                    continue;
                }
            };
            slot.get_or_insert(entry);
        }
        let seq = number("seq", seq, Entry::u64)?.ok_or(RequestError::Missing("seq"))?;
        if seq == 0 {
            return Err(RequestError::SeqZero);
        }
        let error = match number("error", error, Entry::i16)? {
            None | Some(0) => None,
            Some(number) => Some(Errno::from_wire(number).ok_or(RequestError::BadErrno(number))?),
        };
        let received = match number("received", received, Entry::i8)? {
            None | Some(0) => false,
            Some(1) => true,
            Some(other) => return Err(RequestError::Flag("received", other.cast_unsigned())),
        };
        let data = data.head(packet.data_bytes).map_err(RequestError::Data)?;
        if data.size != 0 && (error.is_some() || received) {
            return Err(RequestError::UnexpectedData);
        }
        Ok((
            Reply {
                seq,
                error,
                received,
            },
            data,
        ))
    }
}

/// Whatever a secondary sends on connection B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// A reply, with what is said about its data.
    Reply(Reply, DataHead),
    /// The answer to a keepalive: only between nodes that both offered `x-heartbeat`.
    Heartbeat,
}

impl Response {
    /// The response of a packet.
    ///
    /// # Errors
    /// As [`Reply::decode`].
    pub fn decode(packet: &Packet<'_>) -> Result<Response, RequestError> {
        match Reply::decode(packet) {
            Ok((reply, data)) => Ok(Response::Reply(reply, data)),
            Err(RequestError::Missing("seq")) if packet.data_bytes == 0 => {
                let heartbeat = number("x-heartbeat", packet.block.find("x-heartbeat"), Entry::u8)?;
                match heartbeat {
                    Some(1) => Ok(Response::Heartbeat),
                    _ => Err(RequestError::Missing("seq")),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Appends the answer to a keepalive.
pub fn encode_heartbeat(out: &mut Vec<u8>) {
    packet::write(out, PROTOCOL_VERSION, |pairs| {
        pairs.u8("x-heartbeat", 1);
    });
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
