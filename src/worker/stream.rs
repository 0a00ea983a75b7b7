//! One connection to the peer: packets in, packets out, on a driver.
//!
//! What arrives lands in a staging buffer, many small packets at once. Heads are decoded from
//! there; data go from there to where the packet's owner says, and what has not arrived yet is
//! then received straight to that place, so that large blocks are never copied. Packets to be sent
//! gather until [`Stream::flush`] and leave with one system call.

use std::io;
use std::os::fd::OwnedFd;

use crate::engine::event::BufId;
use crate::io::outgoing::Outgoing;
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::{Done, Proactor, Slot, SocketIo, Token};
use crate::wire::packet::{Decoder, Limits, Packet, PacketError, Step};

/// Length of the staging buffer, in bytes: some 15 writes of 4 KiB with their heads.
const STAGING_BYTES: u32 = 64 * 1024;

/// Room behind data that are received directly, in bytes: the heads that follow them. Were it the
/// whole staging buffer, the next blocks would take the way through it.
const AFTER_DATA_BYTES: u32 = 4096;

/// Set in the token of a receive, clear in that of a send.
const RECEIVES: Token = 1 << 32;

/// What the stream has for its owner.
#[derive(Debug)]
pub(super) enum Arrival<T> {
    /// A head, decoded: say what becomes of its data by [`Stream::take`], [`Stream::take_memory`]
    /// or [`Stream::skip`].
    Head(T),
    /// The data are where they were wanted: use them, then [`Stream::finish`].
    Complete,
    /// Nothing more until more was received.
    Nothing,
}

/// Where the data of a packet go.
#[derive(Debug)]
enum Target {
    Nowhere,
    Piece(Piece),
    Memory(Vec<u8>),
}

/// A connection.
pub(super) struct Stream {
    slot: Slot,
    /// Of its operations, with or without [`RECEIVES`].
    token: Token,
    pool: Pool,

    decoder: Decoder,
    target: Target,
    staging: BufId,
    /// The bytes of the staging buffer that were received and not used.
    start: u32,
    end: u32,
    /// Bytes of the receive under way that go to the target; `None`: none is under way.
    receiving: Option<u32>,
    /// What was received is used up.
    hungry: bool,

    out: Outgoing,
    spare: Option<Outgoing>,
    sending: bool,
    /// Why it is of no use any more.
    failure: Option<String>,
}

impl Stream {
    /// Takes a connected socket on. Its operations have tokens from `token` on, whose lower 33
    /// bits are the stream's.
    ///
    /// # Errors
    /// The driver cannot take it, or the pool has no buffer left.
    pub(super) fn new(
        io: &mut dyn Proactor,
        pool: &Pool,
        fd: OwnedFd,
        token: Token,
        limits: Limits,
    ) -> io::Result<Stream> {
        let staging = pool
            .alloc(STAGING_BYTES)
            .ok_or_else(|| io::Error::other("all buffers are in use"))?;
        let slot = io
            .attach_socket(fd)
            .inspect_err(|_| pool.release(staging))?;
        Ok(Stream {
            slot,
            token,
            pool: pool.clone(),
            // Heads come from the staging buffer: no further read-ahead.
            decoder: Decoder::exact(limits),
            target: Target::Nowhere,
            staging,
            start: 0,
            end: 0,
            receiving: None,
            hungry: true,
            out: Outgoing::new(pool),
            spare: Some(Outgoing::new(pool)),
            sending: false,
            failure: None,
        })
    }

    /// Closes it. Operations under way complete as cancelled, with tokens that are nobody's.
    pub(super) fn close(self, io: &mut dyn Proactor) {
        io.detach(self.slot);
        self.pool.release(self.staging);
    }

    /// Sets other bounds, from the next head on.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    /// Why it is of no use any more, if so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What has arrived. An error is that of the stream: nothing can follow.
    pub(super) fn next<T>(
        &mut self,
        decode: impl FnOnce(&Packet<'_>) -> T,
    ) -> Result<Arrival<T>, PacketError> {
        if self.receiving.is_some() {
            return Ok(Arrival::Nothing);
        }
        loop {
            let available = self.end - self.start;
            let taken = match self.decoder.step()? {
                Step::Packet(packet) => return Ok(Arrival::Head(decode(&packet))),
                Step::Complete => return Ok(Arrival::Complete),
                Step::Fill(_) | Step::Data { .. } if available == 0 => {
                    self.hungry = true;
                    return Ok(Arrival::Nothing);
                }
                Step::Fill(space) => {
                    let taken = length(space.len()).min(available);
                    let from = self.pool.read(Piece {
                        buf: self.staging,
                        at: self.start,
                        length: taken,
                    });
                    space[..taken as usize].copy_from_slice(&from);
                    taken
                }
                Step::Data { at, left } => {
                    let taken = length(left).min(available);
                    let from = self.pool.read(Piece {
                        buf: self.staging,
                        at: self.start,
                        length: taken,
                    });
                    match &mut self.target {
                        Target::Piece(piece) => self
                            .pool
                            .write(Piece {
                                buf: piece.buf,
                                at: piece.at + length(at),
                                length: taken,
                            })
                            .copy_from_slice(&from),
                        Target::Memory(bytes) => {
                            bytes[at..at + taken as usize].copy_from_slice(&from);
                        }
                        Target::Nowhere => unreachable!("data are taken to somewhere"),
                    }
                    taken
                }
            };
            self.start += taken;
            self.decoder.received(taken as usize);
        }
    }

    /// Wants the data of the head that was delivered in a buffer; the piece is as long as they are.
    ///
    /// # Errors
    /// The piece is too short.
    pub(super) fn take(&mut self, piece: Piece) -> Result<(), PacketError> {
        self.decoder.take_data(&mut self.pool.write(piece))?;
        self.target = Target::Piece(piece);
        Ok(())
    }

    /// Wants the data, which are `bytes` long, in memory of their own.
    ///
    /// # Errors
    /// That is too short.
    pub(super) fn take_memory(&mut self, bytes: u32) -> Result<(), PacketError> {
        let mut memory = vec![0; bytes as usize];
        self.decoder.take_data(&mut memory)?;
        self.target = Target::Memory(memory);
        Ok(())
    }

    /// The memory of [`Stream::take_memory`], complete; goes on to the next packet.
    pub(super) fn finish_memory(&mut self) -> Vec<u8> {
        self.decoder.finish();
        match std::mem::replace(&mut self.target, Target::Nowhere) {
            Target::Memory(memory) => memory,
            Target::Piece(_) | Target::Nowhere => Vec::new(),
        }
    }

    /// Drops the data, if there are any, and goes on to the next packet.
    pub(super) fn skip(&mut self) {
        self.decoder.skip_data();
    }

    /// Goes on to the next packet.
    pub(super) fn finish(&mut self) {
        self.decoder.finish();
        self.target = Target::Nowhere;
    }

    /// Whether a completion is one of its operations'.
    pub(super) fn owns(&self, token: Token) -> bool {
        token & !RECEIVES == self.token
    }

    /// One of its operations is done.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Received(received) => {
                let direct = self.receiving.take().unwrap_or(0);
                match received {
                    Ok(0) => self.ended(),
                    Ok(received) => {
                        let received = length(received);
                        let direct = direct.min(received);
                        if direct > 0 {
                            self.decoder.received(direct as usize);
                        }
                        (self.start, self.end) = (0, received - direct);
                        self.hungry = false;
                    }
                    Err(error) => self.fail(crate::terms::system_reason(&error)),
                }
            }
            Done::Sent(result, out) => {
                self.sending = false;
                self.spare = Some(out);
                if let Err(error) = result {
                    self.fail(crate::terms::system_reason(&error));
                }
            }
            Done::Disk { .. } | Done::Accepted(_) | Done::Readable(_) | Done::HungUp(_) => {
                unreachable!("a stream submits no such operation")
            }
        }
    }

    fn ended(&mut self) {
        self.fail(match self.decoder.end_of_stream() {
            // As the original says it.
            Ok(()) => "Socket is not connected".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }

    /// Packets to be sent with the next [`Stream::flush`].
    pub(super) fn out(&mut self) -> &mut Outgoing {
        &mut self.out
    }

    /// Whether everything has been handed to the system.
    pub(super) fn is_sent(&self) -> bool {
        !self.sending && self.out.is_empty()
    }

    /// Starts sending what there is and receiving what is wanted: once per round.
    pub(super) fn flush(&mut self, io: &mut dyn Proactor) {
        if self.failure.is_some() {
            return;
        }
        if !self.sending && !self.out.is_empty() {
            let next = self.spare.take();
            let next = next.unwrap_or_else(|| Outgoing::new(&self.pool));
            let out = std::mem::replace(&mut self.out, next);
            self.sending = true;
            io.socket(self.slot, self.token, SocketIo::Send(out));
        }
        if self.hungry && self.receiving.is_none() {
            let data = self.missing();
            let direct = data.map_or(0, |piece| piece.length);
            let room = if direct > 0 {
                AFTER_DATA_BYTES
            } else {
                STAGING_BYTES
            };
            self.receiving = Some(direct);
            let into = [data, Some(Piece::first(self.staging, room))];
            io.socket(self.slot, self.token | RECEIVES, SocketIo::Receive { into });
        }
    }

    /// What is missing of the data that go to a buffer.
    fn missing(&mut self) -> Option<Piece> {
        let Target::Piece(piece) = self.target else {
            return None;
        };
        match self.decoder.step() {
            Ok(Step::Data { at, left }) => Some(Piece {
                buf: piece.buf,
                at: piece.at + length(at),
                length: length(left),
            }),
            _ => None,
        }
    }
}

/// A length that is bounded by the limits of the decoder, which are 32-bit numbers.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
