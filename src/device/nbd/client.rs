//! One client: its connection's bytes on their way between the socket, the protocol's state
//! machine and the pool's buffers.
//!
//! Received bytes land in a staging buffer, as many requests at once as there are. When a write's
//! payload is due, the next receive puts it straight into the buffer that the engine will get, and
//! only what follows into the staging buffer.

use super::connection::{ClientRequest, Connection, Export, Step};
use crate::engine::event::BufId;
use crate::io::outgoing::Outgoing;
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::Slot;

/// Length of the staging buffer that is used, in bytes; the largest option fits.
const STAGING_BYTES: u32 = 64 * 1024;

/// Room after a payload that is received directly: a few more requests. Were it the whole staging
/// buffer, the next payloads would take the way through it.
const AFTER_PAYLOAD_BYTES: u32 = 4096;

/// The request whose parts are being made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Index of the request.
    pub(super) request: u32,
    /// What is asked.
    pub(super) what: ClientRequest,
    /// Where the next part begins.
    pub(super) offset: u64,
    /// Bytes that no part was made of.
    pub(super) left: u32,
    /// A write's part that is being received.
    pub(super) filling: Option<Filling>,
}

/// A buffer on its way to be a write's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    pub(super) buf: BufId,
    pub(super) length: u32,
    pub(super) filled: u32,
}

/// How far a client's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Requests are taken.
    Open,
    /// No more requests: closed when what it has is answered and sent.
    Finishing,
    /// Closed when what is in `out` is sent.
    Closing,
    /// Closed at once.
    Broken,
}

/// A connected client.
pub(super) struct Client {
    pub(super) slot: Slot,
    /// Tells its completions from those of earlier clients in its place.
    pub(super) generation: u32,
    pub(super) life: Life,
    pub(super) machine: Connection,
    pub(super) current: Option<Current>,
    /// Requests that are not answered.
    pub(super) in_flight: u32,
    /// Bytes of buffers that parts of its requests have.
    pub(super) bytes: usize,
    /// Replies that wait.
    pub(super) out: Outgoing,
    /// Replies on their way: their bytes at the start; `None`: none are.
    pub(super) sending: Option<usize>,
    /// For how many rounds the replies have waited for others to join them.
    pub(super) held: u32,
    /// For the next replies.
    pub(super) spare: Option<Outgoing>,
    /// A receive is under way.
    pub(super) receiving: bool,
    /// What was received is used up; more is needed to go on.
    pub(super) hungry: bool,
    /// The other end is gone; what it has sent may still be read.
    pub(super) hung_up: bool,
    staging: BufId,
    /// The bytes of the staging buffer that were received and not used.
    start: u32,
    end: u32,
    pool: Pool,
}

impl Client {
    /// A new client, greeted; `None` if the pool has no buffer for it.
    pub(super) fn new(pool: &Pool, slot: Slot, generation: u32) -> Option<Client> {
        let staging = pool.alloc(STAGING_BYTES)?;
        let mut out = Outgoing::new(pool);
        let mut machine = None;
        out.encode(|bytes| machine = Some(Connection::new(bytes)));
        Some(Client {
            slot,
            generation,
            life: Life::Open,
            machine: machine?,
            current: None,
            in_flight: 0,
            bytes: 0,
            out,
            sending: None,
            held: 0,
            spare: Some(Outgoing::new(pool)),
            receiving: false,
            hungry: true,
            hung_up: false,
            staging,
            start: 0,
            end: 0,
            pool: pool.clone(),
        })
    }

    /// Bytes of memory that it occupies with requests and replies.
    pub(super) fn occupied(&self) -> usize {
        self.bytes + self.out.len() + self.sending.unwrap_or(0)
    }

    /// Lets the machine use what was received, up to the next request, payload or end.
    pub(super) fn step(&mut self, export: &Export) -> Step {
        loop {
            let received = Piece {
                buf: self.staging,
                at: self.start,
                length: self.end - self.start,
            };
            let (used, step) = {
                let input = self.pool.read(received);
                let mut stepped = (0, Step::Close);
                self.out
                    .encode(|out| stepped = self.machine.step(export, &input, out));
                stepped
            };
            self.use_up(u32::try_from(used).unwrap_or(received.length));
            if step != Step::Again {
                return step;
            }
        }
    }

    fn use_up(&mut self, used: u32) {
        self.start += used;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves what the staging buffer has of a payload; returns whether the part is complete.
    pub(super) fn fill(&mut self, filling: &mut Filling) -> bool {
        let taken = (filling.length - filling.filled).min(self.end - self.start);
        if taken > 0 {
            self.machine.payload_taken(taken);
            let from = self.pool.read(Piece {
                buf: self.staging,
                at: self.start,
                length: taken,
            });
            self.pool
                .write(Piece {
                    buf: filling.buf,
                    at: filling.filled,
                    length: taken,
                })
                .copy_from_slice(&from);
        }
        filling.filled += taken;
        self.use_up(taken);
        filling.filled == filling.length
    }

    /// Where the next bytes go: a payload's buffer first, then the staging buffer.
    pub(super) fn room(&mut self) -> [Option<Piece>; 2] {
        let filling = self.current.and_then(|current| current.filling);
        let payload = filling.map(|filling| Piece {
            buf: filling.buf,
            at: filling.filled,
            length: filling.length - filling.filled,
        });
        if self.start > 0 {
            let end = self.end;
            let (start, length) = (self.start as usize, end - self.start);
            let mut bytes = self.pool.write(Piece::first(self.staging, end));
            bytes.copy_within(start.., 0);
            (self.start, self.end) = (0, length);
        }
        let after = if payload.is_some() {
            AFTER_PAYLOAD_BYTES
        } else {
            STAGING_BYTES - self.end
        };
        let staging = Piece {
            buf: self.staging,
            at: self.end,
            length: after,
        };
        [payload, Some(staging)]
    }

    /// Notes that `received` bytes came into [`Client::room`].
    pub(super) fn received(&mut self, received: usize) {
        let mut rest = u32::try_from(received)
            .unwrap_or_else(|_| unreachable!("no more is received than there was room for"));
        if let Some(Current {
            filling: Some(filling),
            ..
        }) = &mut self.current
        {
            let direct = rest.min(filling.length - filling.filled);
            filling.filled += direct;
            rest -= direct;
            if direct > 0 {
                self.machine.payload_taken(direct);
            }
        }
        self.end += rest;
        self.hungry = false;
    }

    /// Drops the part that is being received; returns the request that it was for.
    pub(super) fn abandon(&mut self) -> Option<u32> {
        let current = self.current.take()?;
        if let Some(filling) = current.filling {
            self.pool.release(filling.buf);
        }
        Some(current.request)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.abandon();
        self.pool.release(self.staging);
    }
}
