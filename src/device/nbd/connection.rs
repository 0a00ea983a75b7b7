//! The server's side of one connection as a pure state machine: bytes in, requests and handshake
//! replies out. It keeps no bytes of its own: whoever drives it hands in what was received and is
//! told how much of it was used.
//!
//! ```text
//! Flags --client flags--> Options --GO, EXPORT_NAME--> Requests <--> Payload (of a write)
//!                            |  ^                          |   <--> Refused (payload dropped)
//!                            +--+ every other option       |
//!                            +--ABORT, nonsense--> Closed <+--DISC, nonsense
//! ```

use super::protocol::{
    FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, Fields, INFO_BLOCK_SIZE, INFO_EXPORT, INFO_NAME, NbdError,
    OPTION_MAGIC, REQUEST_BYTES, REQUEST_MAGIC, SERVER_MAGIC, can, command, command_flag,
    error_chunk, option, option_reply, reply, simple_reply,
};
use crate::terms::SECTOR_BYTES;

/// Longest read and write of a client, in bytes: what the protocol lets every client assume.
pub const CLIENT_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Longest option that is read, in bytes with its head: names have 4096 bytes at most, and a few
/// kinds of information are asked for. Input of this length makes the machine go on.
pub const OPTION_BYTES_MAX: usize = 16 * 1024;

/// Options of one client at most: some ten are of use.
const OPTIONS_MAX: u32 = 256;

/// Block size that clients are told to prefer, in bytes.
const PREFERRED_BYTES: u32 = 4096;

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The resource's name; the empty name means the same export.
    pub name: String,
    /// Bytes of the data area, a multiple of the sector size.
    pub bytes: u64,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read.
    Read {
        /// Structured reply, in any number of chunks.
        chunks: bool,
        /// The data must come as one chunk.
        whole: bool,
    },
    /// Write; its payload comes next.
    Write {
        /// Force unit access.
        fua: bool,
    },
    /// Discard. With `fua`, as zeros, which is one way to discard.
    Trim,
    /// Write zeros.
    WriteZeroes {
        /// Force unit access.
        fua: bool,
    },
    /// Write the volatile cache back.
    Flush,
}

/// A valid request: aligned to sectors, inside the export, not empty unless it is a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// What.
    pub command: Command,
    /// The client's name for it.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How many bytes; at most [`CLIENT_BYTES_MAX`] for reads and writes.
    pub length: u32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on, with what is left of the input.
    Again,
    /// Go on when there is more input than this.
    More,
    /// Execute a request.
    Request(ClientRequest),
    /// The next so many bytes of the input are a write's: take some, and say so by
    /// [`Connection::payload_taken`].
    Payload(u32),
    /// Send what is to be sent, then close.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Flags,
    Options,
    Requests,
    Payload { left: u32 },
    Refused { left: u32 },
    Closed,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    structured: bool,
    no_zeroes: bool,
    options: u32,
}

impl Connection {
    /// A new connection; appends the server's greeting.
    pub fn new(out: &mut Vec<u8>) -> Connection {
        out.extend_from_slice(&SERVER_MAGIC.to_be_bytes());
        out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        out.extend_from_slice(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
        Connection {
            phase: Phase::Flags,
            structured: false,
            no_zeroes: false,
            options: 0,
        }
    }

    /// Whether the client has not chosen an export yet.
    pub fn in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Flags | Phase::Options)
    }

    /// Uses the front of the input; returns how many bytes of it, and what to do. Replies that
    /// need nobody else are appended to `out`.
    pub fn step(&mut self, export: &Export, input: &[u8], out: &mut Vec<u8>) -> (usize, Step) {
        let (used, step) = match self.phase {
            Phase::Flags => self.flags(input),
            Phase::Options => self.option(export, input, out),
            Phase::Requests => self.request(export, input, out),
            Phase::Payload { left } => (0, Step::Payload(left)),
            Phase::Refused { left } => self.refused(left, input),
            Phase::Closed => (0, Step::Close),
        };
        if step == Step::Close {
            self.phase = Phase::Closed;
        }
        (used, step)
    }

    /// Notes that `taken` bytes of the payload were taken.
    pub fn payload_taken(&mut self, taken: u32) {
        let Phase::Payload { left } = self.phase else {
            unreachable!("a payload is taken only after Step::Payload");
        };
        assert!(taken <= left, "no more is taken than the payload's length");
        self.phase = match left - taken {
            0 => Phase::Requests,
            left => Phase::Payload { left },
        };
    }

    fn flags(&mut self, input: &[u8]) -> (usize, Step) {
        let Some(flags) = Fields(input).u32() else {
            return (0, Step::More);
        };
        if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
            return (4, Step::Close);
        }
        self.no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
        self.phase = Phase::Options;
        (4, Step::Again)
    }

    fn option(&mut self, export: &Export, input: &[u8], out: &mut Vec<u8>) -> (usize, Step) {
        let mut fields = Fields(input);
        match fields.u64() {
            None => return (0, Step::More),
            Some(OPTION_MAGIC) => {}
            Some(_) => return (0, Step::Close),
        }
        let (Some(number), Some(length)) = (fields.u32(), fields.u32()) else {
            return (0, Step::More);
        };
        let length = length as usize;
        if length > OPTION_BYTES_MAX - 16 || self.options >= OPTIONS_MAX {
            return (0, Step::Close);
        }
        let Some(data) = fields.bytes(length) else {
            return (0, Step::More);
        };
        self.options += 1;
        (16 + length, self.answer(export, number, data, out))
    }

    fn answer(&mut self, export: &Export, number: u32, data: &[u8], out: &mut Vec<u8>) -> Step {
        match number {
            option::EXPORT_NAME => {
                if !export.has_name(data) {
                    return Step::Close;
                }
                out.extend_from_slice(&export.bytes.to_be_bytes());
                out.extend_from_slice(&self.transmission_flags().to_be_bytes());
                if !self.no_zeroes {
                    out.extend_from_slice(&[0; 124]);
                }
                self.phase = Phase::Requests;
            }
            option::ABORT => {
                option_reply(out, number, reply::ACK, &[]);
                return Step::Close;
            }
            option::LIST if data.is_empty() => {
                let mut server = Vec::with_capacity(4 + export.name.len());
                let length = u32::try_from(export.name.len())
                    .unwrap_or_else(|_| unreachable!("names of resources have at most 254 bytes"));
                server.extend_from_slice(&length.to_be_bytes());
                server.extend_from_slice(export.name.as_bytes());
                option_reply(out, number, reply::SERVER, &server);
                option_reply(out, number, reply::ACK, &[]);
            }
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                option_reply(out, number, reply::ACK, &[]);
            }
            option::INFO | option::GO => match parse_info(data) {
                None => option_reply(out, number, reply::ERR_INVALID, &[]),
                Some((name, _)) if !export.has_name(name) => {
                    option_reply(out, number, reply::ERR_UNKNOWN, &[]);
                }
                Some((_, wants_name)) => {
                    self.inform(export, number, wants_name, out);
                    if number == option::GO {
                        self.phase = Phase::Requests;
                    }
                }
            },
            option::LIST | option::STRUCTURED_REPLY => {
                option_reply(out, number, reply::ERR_INVALID, &[]);
            }
            _ => option_reply(out, number, reply::ERR_UNSUP, &[]),
        }
        Step::Again
    }

    /// Answers INFO and GO.
    fn inform(&self, export: &Export, number: u32, wants_name: bool, out: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(16);
        data.extend_from_slice(&INFO_EXPORT.to_be_bytes());
        data.extend_from_slice(&export.bytes.to_be_bytes());
        data.extend_from_slice(&self.transmission_flags().to_be_bytes());
        option_reply(out, number, reply::INFO, &data);
        data.clear();
        data.extend_from_slice(&INFO_BLOCK_SIZE.to_be_bytes());
        for bytes in [SECTOR_BYTES, PREFERRED_BYTES, CLIENT_BYTES_MAX] {
            data.extend_from_slice(&bytes.to_be_bytes());
        }
        option_reply(out, number, reply::INFO, &data);
        if wants_name {
            data.clear();
            data.extend_from_slice(&INFO_NAME.to_be_bytes());
            data.extend_from_slice(export.name.as_bytes());
            option_reply(out, number, reply::INFO, &data);
        }
        option_reply(out, number, reply::ACK, &[]);
    }

    /// All connections end in one engine, so a flush on one covers what others have completed.
    fn transmission_flags(&self) -> u16 {
        let flags = can::HAS_FLAGS
            | can::FLUSH
            | can::FUA
            | can::TRIM
            | can::WRITE_ZEROES
            | can::MULTI_CONN;
        if self.structured {
            flags | can::DF
        } else {
            flags
        }
    }

    fn request(&mut self, export: &Export, input: &[u8], out: &mut Vec<u8>) -> (usize, Step) {
        let mut fields = Fields(input);
        let (Some(magic), Some(flags), Some(kind), Some(cookie), Some(offset), Some(length)) = (
            fields.u32(),
            fields.u16(),
            fields.u16(),
            fields.u64(),
            fields.u64(),
            fields.u32(),
        ) else {
            // A client of another kind may wait for an answer to fewer bytes.
            let nonsense = Fields(input).u32().is_some_and(|m| m != REQUEST_MAGIC);
            return (0, if nonsense { Step::Close } else { Step::More });
        };
        if magic != REQUEST_MAGIC || kind == command::DISC {
            return (REQUEST_BYTES, Step::Close);
        }
        let writes = kind == command::WRITE;
        if writes && length > CLIENT_BYTES_MAX {
            return (REQUEST_BYTES, Step::Close);
        }
        let step = match self.check(export, kind, flags, offset, length) {
            Ok(command) => Step::Request(ClientRequest {
                command,
                cookie,
                offset,
                length,
            }),
            Err(error) => {
                if kind == command::READ && self.structured {
                    error_chunk(out, cookie, error);
                } else {
                    simple_reply(out, cookie, Some(error));
                }
                Step::Again
            }
        };
        if writes && length > 0 {
            self.phase = match step {
                Step::Request(_) => Phase::Payload { left: length },
                _ => Phase::Refused { left: length },
            };
        }
        (REQUEST_BYTES, step)
    }

    fn check(
        &self,
        export: &Export,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u32,
    ) -> Result<Command, NbdError> {
        let fua = flags & command_flag::FUA != 0;
        let allowed = match kind {
            command::READ if self.structured => command_flag::DF,
            command::WRITE_ZEROES => command_flag::NO_HOLE,
            _ => 0,
        };
        if flags & !(command_flag::FUA | allowed) != 0 {
            return Err(NbdError::EINVAL);
        }
        let command = match kind {
            command::FLUSH if offset == 0 && length == 0 => return Ok(Command::Flush),
            command::READ => Command::Read {
                chunks: self.structured,
                whole: flags & command_flag::DF != 0,
            },
            command::WRITE => Command::Write { fua },
            command::TRIM if !fua => Command::Trim,
            // Zeros are as good as anything after a trim, and can be had on stable storage.
            command::TRIM | command::WRITE_ZEROES => Command::WriteZeroes { fua },
            _ => return Err(NbdError::EINVAL),
        };
        let sector = u64::from(SECTOR_BYTES);
        let aligned = offset.is_multiple_of(sector) && length.is_multiple_of(SECTOR_BYTES);
        if length == 0 || !aligned {
            return Err(NbdError::EINVAL);
        }
        let end = offset.checked_add(u64::from(length));
        if end.is_none_or(|end| end > export.bytes) {
            return Err(match kind {
                command::WRITE | command::WRITE_ZEROES => NbdError::ENOSPC,
                _ => NbdError::EINVAL,
            });
        }
        match command {
            Command::Read { whole: true, .. } if length > crate::terms::REQUEST_BYTES_MAX => {
                Err(NbdError::EOVERFLOW)
            }
            Command::Read { .. } if length > CLIENT_BYTES_MAX => Err(NbdError::EINVAL),
            command => Ok(command),
        }
    }

    /// Drops the payload of a refused write.
    fn refused(&mut self, left: u32, input: &[u8]) -> (usize, Step) {
        if input.is_empty() {
            return (0, Step::More);
        }
        let dropped = u32::try_from(input.len()).unwrap_or(u32::MAX).min(left);
        self.phase = match left - dropped {
            0 => Phase::Requests,
            left => Phase::Refused { left },
        };
        (dropped as usize, Step::Again)
    }
}

impl Export {
    fn has_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }
}

/// The name that INFO or GO asks for, and whether it asks for the name back.
fn parse_info(data: &[u8]) -> Option<(&[u8], bool)> {
    let mut fields = Fields(data);
    let length = fields.u32()?;
    let name = fields.bytes(usize::try_from(length).ok()?)?;
    let count = fields.u16()?;
    let mut wants_name = false;
    for _ in 0..count {
        wants_name |= fields.u16()? == INFO_NAME;
    }
    fields.0.is_empty().then_some((name, wants_name))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
