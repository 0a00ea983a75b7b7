//! Packets (spec/01, 1) and the framer that cuts a byte stream into them.
//!
//! [`Decoder`] does no I/O. A driver asks [`Decoder::step`] what is next and does it:
//!
//! ```text
//! Step::Fill(space)        receive some bytes into `space`, report them with `received`
//! Step::Packet(packet)     a head is complete: decode it; then `take_data`, `skip_data` or `finish`
//! Step::Data{at, left}     receive at most `left` bytes into the caller's own buffer, from `at` on;
//!                          report them with `received`
//! Step::Complete           the data are complete in the caller's buffer: use them, then `finish`
//! ```
//!
//! At the end of the stream the driver calls [`Decoder::end_of_stream`], which is an error but
//! between two packets: no part of a packet is ever delivered as a whole one. Nothing that a peer
//! announces is allocated: the head's buffer grows with the bytes that really came and up to
//! [`Limits::head_bytes`]; data go to the caller's buffer.

use std::fmt;

use super::nv::{self, Block, NvError};

/// Bytes before the name-value block: version (1) and size (4).
pub const HEADER_BYTES: usize = 5;

/// Highest protocol version that is understood.
pub const VERSION_MAX: u8 = 2;

/// Version byte of a packet before a version was agreed on.
pub const VERSION_INITIAL: u8 = 1;

/// Largest name-value block accepted from a peer, in bytes. A legitimate one stays below 1 KiB.
pub const PEER_HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Largest block of a request on the control socket, in bytes: 65,535 resources with names of
/// usual length.
pub const CONTROL_REQUEST_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Largest block of a reply on the control socket, in bytes: 65,535 resources with some 1 KiB of
/// state each.
pub const CONTROL_REPLY_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Largest data of a packet that are read at all, in bytes: more than any peer can be set to send
/// in one request, so that a request that is too long can be answered and its data skipped.
pub const PEER_DATA_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Bytes that a [`Decoder`] with read-ahead receives at once at most: some 90 replies, or a
/// request of 4 KiB with its data. Of longer data at most this much is copied.
pub const READ_AHEAD_BYTES: usize = 5 * 1024;

/// The head's buffer grows by doubling, and by this much at least, in bytes.
const GROWTH_BYTES: usize = 4 * 1024;

/// What a [`Decoder`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest name-value block, in bytes.
    pub head_bytes: u32,
    /// Largest data after it, in bytes.
    pub data_bytes: u32,
}

impl Limits {
    /// For the connections between primary and secondary.
    pub const PEER: Limits = Limits {
        head_bytes: PEER_HEAD_BYTES_MAX,
        data_bytes: PEER_DATA_BYTES_MAX,
    };
    /// For messages of the handshake that carry no data.
    pub const HANDSHAKE: Limits = Limits {
        head_bytes: PEER_HEAD_BYTES_MAX,
        data_bytes: 0,
    };
    /// For what a daemon reads from its control socket.
    pub const CONTROL_REQUEST: Limits = Limits {
        head_bytes: CONTROL_REQUEST_BYTES_MAX,
        data_bytes: 0,
    };
    /// For what hastctl reads from the control socket.
    pub const CONTROL_REPLY: Limits = Limits {
        head_bytes: CONTROL_REPLY_BYTES_MAX,
        data_bytes: 0,
    };

    /// For the secondary's answer, whose data are a bitmap of at most `map_bytes`.
    pub const fn bitmap(map_bytes: u32) -> Limits {
        Limits {
            head_bytes: PEER_HEAD_BYTES_MAX,
            data_bytes: map_bytes,
        }
    }
}

/// Why a stream cannot be read on. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// A version that this program does not know.
    Version(u8),
    /// A name-value block beyond the bound, or none at all (0 bytes).
    HeadBytes {
        /// What was announced, bytes.
        announced: u32,
        /// The bound, bytes.
        limit: u32,
    },
    /// Data beyond the bound.
    DataBytes {
        /// What was announced, bytes.
        announced: u32,
        /// The bound, bytes.
        limit: u32,
    },
    /// The name-value block is malformed.
    Block(NvError),
    /// `size` is not a `uint32`.
    SizeKind,
    /// The stream ended inside a packet.
    EndInside,
    /// The buffer given for the data is shorter than the data.
    BufferBytes {
        /// The data, bytes.
        needed: usize,
        /// The buffer, bytes.
        given: usize,
    },
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::Version(version) => {
                write!(
                    f,
                    "packet of protocol version {version}, known up to {VERSION_MAX}"
                )
            }
            PacketError::HeadBytes { announced, limit } => {
                write!(
                    f,
                    "packet with a header of {announced} bytes, allowed are 1 to {limit}"
                )
            }
            PacketError::DataBytes { announced, limit } => {
                write!(
                    f,
                    "packet with {announced} bytes of data, allowed are up to {limit}"
                )
            }
            PacketError::Block(error) => write!(f, "malformed packet: {error}"),
            PacketError::SizeKind => f.write_str("malformed packet: 'size' is not a uint32"),
            PacketError::EndInside => f.write_str("connection ended in the middle of a packet"),
            PacketError::BufferBytes { needed, given } => {
                write!(
                    f,
                    "packet with {needed} bytes of data for a buffer of {given} bytes"
                )
            }
        }
    }
}

impl std::error::Error for PacketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PacketError::Block(error) => Some(error),
            _ => None,
        }
    }
}

/// A packet's head.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The sender's version byte, 0..=[`VERSION_MAX`].
    pub version: u8,
    /// The pairs.
    pub block: Block<'a>,
    /// How many bytes of data follow.
    pub data_bytes: u32,
}

impl<'a> Packet<'a> {
    /// A packet whose head is all of `bytes`: for heads that arrived as one message.
    ///
    /// # Errors
    /// As [`Decoder::step`]; [`PacketError::EndInside`] if `bytes` is not exactly one head.
    pub fn parse(bytes: &'a [u8], limits: Limits) -> Result<Packet<'a>, PacketError> {
        let (header, block) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(PacketError::EndInside)?;
        let block_bytes = block_bytes(*header, limits)?;
        if block.len() != block_bytes {
            return Err(PacketError::EndInside);
        }
        packet(header[0], block, limits)
    }
}

/// Checks a header and returns the length of the block after it.
fn block_bytes(header: [u8; HEADER_BYTES], limits: Limits) -> Result<usize, PacketError> {
    let [version, s0, s1, s2, s3] = header;
    if version > VERSION_MAX {
        return Err(PacketError::Version(version));
    }
    let announced = u32::from_le_bytes([s0, s1, s2, s3]);
    let refused = PacketError::HeadBytes {
        announced,
        limit: limits.head_bytes,
    };
    if announced == 0 || announced > limits.head_bytes {
        return Err(refused);
    }
    usize::try_from(announced).map_err(|_| refused)
}

fn packet(version: u8, bytes: &[u8], limits: Limits) -> Result<Packet<'_>, PacketError> {
    let block = Block::parse(bytes).map_err(PacketError::Block)?;
    let data_bytes = match block.find("size") {
        Some(entry) => entry.u32().map_err(|_| PacketError::SizeKind)?,
        None => 0,
    };
    if data_bytes > limits.data_bytes {
        let limit = limits.data_bytes;
        return Err(PacketError::DataBytes {
            announced: data_bytes,
            limit,
        });
    }
    Ok(Packet {
        version,
        block,
        data_bytes,
    })
}

/// Appends one packet's head to `out`: the header, then the pairs that `pairs` writes.
pub fn write(out: &mut Vec<u8>, version: u8, pairs: impl FnOnce(&mut nv::Writer<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[version, 0, 0, 0, 0]);
    pairs(&mut nv::Writer::new(out));
    let size = u32::try_from(out.len() - start - HEADER_BYTES)
        .expect("heads that this program writes are below 4 GiB");
    if let Some(field) = out.get_mut(start + 1..start + HEADER_BYTES) {
        field.copy_from_slice(&size.to_le_bytes());
    }
}

/// What a driver does next.
#[derive(Debug)]
pub enum Step<'d> {
    /// Receive 1 to `len()` bytes to the beginning of this space.
    Fill(&'d mut [u8]),
    /// A head is complete.
    Packet(Packet<'d>),
    /// Receive 1 to `left` bytes to `buffer[at..]`.
    Data {
        /// Bytes of the data that are in the buffer already.
        at: usize,
        /// Bytes that are missing.
        left: usize,
    },
    /// The data are complete.
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or inside a head.
    Head,
    /// The head of this many bytes with this much data is complete and was or can be delivered.
    Delivered { head: usize, data: usize },
    /// The caller's buffer holds `at` bytes of `data`.
    Data { at: usize, data: usize },
    /// This many bytes of data are still to be thrown away.
    Skip { left: usize },
}

/// Cuts a byte stream into packets; the module's text says how to use it.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Bytes to ask for beyond the head that is being read; 0: never one byte too many.
    read_ahead: usize,
    state: State,
    /// `buffer[start..end]` are bytes received and not yet consumed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Decoder {
    /// A decoder that never asks for a byte beyond the packet in progress: for connections that
    /// are handed to another process afterwards (the handshake).
    pub fn exact(limits: Limits) -> Decoder {
        Decoder::with_read_ahead(limits, 0)
    }

    /// A decoder that receives up to [`READ_AHEAD_BYTES`] at once, so that small packets take one
    /// system call for many.
    pub fn new(limits: Limits) -> Decoder {
        Decoder::with_read_ahead(limits, READ_AHEAD_BYTES)
    }

    fn with_read_ahead(limits: Limits, read_ahead: usize) -> Decoder {
        Decoder {
            limits,
            read_ahead,
            state: State::Head,
            buffer: vec![0; read_ahead.max(GROWTH_BYTES)],
            start: 0,
            end: 0,
        }
    }

    /// Sets other bounds, from the next head on: after the handshake, on the same connection.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What to do next. Asking again without doing it gives the same answer.
    ///
    /// # Errors
    /// The stream is not what it should be; every further call gives the same error.
    pub fn step(&mut self) -> Result<Step<'_>, PacketError> {
        match self.state {
            State::Head => match self.missing()? {
                0 => {
                    let head = self.head_bytes()?;
                    let packet = packet_at(&self.buffer, self.start, head, self.limits)?;
                    let data = usize::try_from(packet.data_bytes).unwrap_or(usize::MAX);
                    self.state = State::Delivered { head, data };
                    Ok(Step::Packet(packet))
                }
                missing => Ok(Step::Fill(self.space(missing))),
            },
            State::Delivered { head, .. } => {
                packet_at(&self.buffer, self.start, head, self.limits).map(Step::Packet)
            }
            State::Data { at, data } if at < data => Ok(Step::Data {
                at,
                left: data - at,
            }),
            State::Data { .. } => Ok(Step::Complete),
            State::Skip { left } => Ok(Step::Fill(self.space(left))),
        }
    }

    /// Reports that `count` bytes were received to where [`Decoder::step`] said.
    ///
    /// # Panics
    /// If `count` is more than there was space for: an error of the driver, never of a peer.
    pub fn received(&mut self, count: usize) {
        match &mut self.state {
            State::Data { at, data } => {
                assert!(
                    count <= *data - *at,
                    "more data than the buffer was asked for"
                );
                *at += count;
            }
            State::Head | State::Delivered { .. } | State::Skip { .. } => {
                assert!(
                    count <= self.buffer.len() - self.end,
                    "more bytes than there was space"
                );
                self.end += count;
                self.drain_skipped();
            }
        }
    }

    /// Wants the packet's data in `buffer[..data_bytes]`: copies what was read ahead and from then
    /// on lets [`Decoder::step`] ask for the rest. Without data the packet is complete at once.
    ///
    /// # Errors
    /// The buffer is too short; nothing has changed then, so that the data can be skipped.
    ///
    /// # Panics
    /// If no head was delivered by [`Decoder::step`] before: an error of the driver.
    pub fn take_data(&mut self, buffer: &mut [u8]) -> Result<(), PacketError> {
        let (head, data) = self.delivered();
        let given = buffer.len();
        let Some(target) = buffer.get_mut(..data) else {
            return Err(PacketError::BufferBytes {
                needed: data,
                given,
            });
        };
        self.start += head;
        let at = data.min(self.end - self.start);
        if let (Some(to), Some(from)) = (
            target.get_mut(..at),
            self.buffer.get(self.start..self.start + at),
        ) {
            to.copy_from_slice(from);
        }
        self.start += at;
        self.state = State::Data { at, data };
        Ok(())
    }

    /// Throws the packet's data away, if there are any, and goes on to the next packet.
    ///
    /// # Panics
    /// If no head was delivered by [`Decoder::step`] before: an error of the driver.
    pub fn skip_data(&mut self) {
        let (head, data) = self.delivered();
        self.start += head;
        self.state = State::Skip { left: data };
        self.drain_skipped();
    }

    /// Goes on to the next packet.
    ///
    /// # Panics
    /// If data of this one are outstanding: an error of the driver.
    pub fn finish(&mut self) {
        match self.state {
            State::Delivered { data: 0, .. } => self.skip_data(),
            State::Data { at, data } if at == data => self.state = State::Head,
            _ => panic!("finish() before the packet is complete"),
        }
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`PacketError::EndInside`] if a packet has begun.
    pub fn end_of_stream(&self) -> Result<(), PacketError> {
        if self.state == State::Head && self.start == self.end {
            return Ok(());
        }
        Err(PacketError::EndInside)
    }

    /// Whether bytes of a next packet were read ahead: then [`Decoder::step`] may have a packet
    /// without any more receiving.
    pub fn has_read_ahead(&self) -> bool {
        self.start < self.end
    }

    fn delivered(&self) -> (usize, usize) {
        match self.state {
            State::Delivered { head, data } => (head, data),
            _ => panic!("no packet was delivered"),
        }
    }

    /// Bytes of the head that are still missing.
    fn missing(&self) -> Result<usize, PacketError> {
        let have = self.end - self.start;
        if have < HEADER_BYTES {
            return Ok(HEADER_BYTES - have);
        }
        Ok(self.head_bytes()?.saturating_sub(have))
    }

    /// Length of the head in progress, of which the header is there.
    fn head_bytes(&self) -> Result<usize, PacketError> {
        let have = self.buffer.get(self.start..self.end).unwrap_or_default();
        let header = have
            .first_chunk::<HEADER_BYTES>()
            .ok_or(PacketError::EndInside)?;
        Ok(HEADER_BYTES + block_bytes(*header, self.limits)?)
    }

    /// Space for `missing` bytes, or for fewer if they are many, and for the read-ahead.
    fn space(&mut self, missing: usize) -> &mut [u8] {
        if self.start > 0 {
            // What is left is shorter than a head, for otherwise it would have been delivered.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end + self.end.max(GROWTH_BYTES), 0);
        }
        let wanted = if self.read_ahead == 0 {
            missing
        } else {
            usize::MAX
        };
        let until = self.end.saturating_add(wanted).min(self.buffer.len());
        let from = self.end;
        &mut self.buffer[from..until]
    }

    /// Drops what is to be skipped of the bytes that are there.
    fn drain_skipped(&mut self) {
        if let State::Skip { left } = self.state {
            let dropped = left.min(self.end - self.start);
            self.start += dropped;
            self.state = match left - dropped {
                0 => State::Head,
                left => State::Skip { left },
            };
        }
    }
}

/// The packet whose head of `head` bytes begins at `start`.
fn packet_at(
    buffer: &[u8],
    start: usize,
    head: usize,
    limits: Limits,
) -> Result<Packet<'_>, PacketError> {
    let bytes = buffer
        .get(start..start + head)
        .ok_or(PacketError::EndInside)?;
    Packet::parse(bytes, limits)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
