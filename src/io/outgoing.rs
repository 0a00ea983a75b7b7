//! Packets that wait to be sent or are being sent on one stream: encoded headers, which lie in one
//! reused vector, and ranges of pool buffers, in order. All of it goes out by vectored sends,
//! however many packets there are.

use std::io::IoSlice;

use super::pool::{Access, Lease, Piece, Pool};

/// Ranges that one system call sends at most.
pub(super) const SLICES_MAX: usize = 128;

enum Part {
    /// Up to there in `bytes`, from the end of the previous such part.
    Bytes {
        end: usize,
    },
    Buf(Lease),
    /// Sent; if it was a range of a buffer, that is released.
    Sent,
}

/// Bytes to send, in order. It holds the buffers that it names until it is cleared or dropped.
pub struct Outgoing {
    pool: Pool,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes that are not sent.
    left: usize,
    /// The first part that is not sent, what of it is, and where its bytes begin in `bytes`.
    part: usize,
    part_sent: usize,
    part_start: usize,
}

impl Outgoing {
    /// Nothing to send yet.
    pub fn new(pool: &Pool) -> Outgoing {
        Outgoing {
            pool: pool.clone(),
            bytes: Vec::new(),
            parts: Vec::new(),
            left: 0,
            part: 0,
            part_sent: 0,
            part_start: 0,
        }
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Bytes that are not sent.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Appends what `encode` appends to the vector; it must not touch what is in there.
    pub fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        encode(&mut self.bytes);
        let end = self.bytes.len();
        assert!(end >= start, "encoders append");
        self.left += end - start;
        match self.parts.last_mut() {
            Some(Part::Bytes { end: last }) => *last = end,
            _ => self.parts.push(Part::Bytes { end }),
        }
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.encode(|out| out.extend_from_slice(bytes));
    }

    /// Appends a range of a buffer, which is held, and must not be written to, until it is sent.
    pub fn push_buf(&mut self, piece: Piece) {
        self.left += piece.length as usize;
        let lease = self.pool.lease(piece, Access::Shared);
        self.parts.push(Part::Buf(lease));
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        for part in self.parts.drain(..) {
            if let Part::Buf(lease) = part {
                self.pool.end(lease);
            }
        }
        self.bytes.clear();
        (self.left, self.part, self.part_sent, self.part_start) = (0, 0, 0, 0);
    }

    /// Calls `send` with the ranges that come next, in order; at most [`SLICES_MAX`].
    pub(super) fn next<R>(&self, send: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let (mut start, mut skip) = (self.part_start, self.part_sent);
        for (part, slice) in self.parts[self.part..].iter().zip(&mut slices) {
            let bytes = match part {
                Part::Bytes { end } => {
                    let bytes = &self.bytes[start..*end];
                    start = *end;
                    bytes
                }
                Part::Buf(lease) => lease.bytes(),
                Part::Sent => &[],
            };
            *slice = IoSlice::new(&bytes[skip..]);
            skip = 0;
            count += 1;
        }
        send(&slices[..count])
    }

    /// Notes that `sent` more bytes are on their way. What is wholly sent is released at once.
    pub(super) fn advance(&mut self, sent: usize) {
        assert!(sent <= self.left, "no more is sent than there is");
        self.left -= sent;
        let mut rest = self.part_sent + sent;
        while let Some(part) = self.parts.get_mut(self.part) {
            let length = match part {
                Part::Bytes { end } => *end - self.part_start,
                Part::Buf(lease) => lease.len(),
                Part::Sent => 0,
            };
            if rest < length {
                break;
            }
            rest -= length;
            // The peer may answer before the rest is sent: then a buffer is used anew.
            match std::mem::replace(part, Part::Sent) {
                Part::Bytes { end } => self.part_start = end,
                Part::Buf(lease) => self.pool.end(lease),
                Part::Sent => {}
            }
            self.part += 1;
        }
        self.part_sent = rest;
        if self.left == 0 {
            self.clear();
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({} bytes)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::PoolLimits;
    use super::*;

    #[test]
    fn partial_sends_continue_where_they_stopped() {
        let pool = Pool::new(PoolLimits::default()).unwrap();
        for step in 1..20 {
            let mut out = Outgoing::new(&pool);
            let mut expected = Vec::new();
            for round in 0..100u8 {
                out.push(&[round, 1, 2]);
                out.push(&[]);
                out.push(&[3]);
                let buf = pool.alloc(10).unwrap();
                pool.write(Piece::first(buf, 10)).fill(round);
                out.push_buf(Piece {
                    buf,
                    at: 2,
                    length: 5,
                });
                pool.release(buf);
                expected.extend([round, 1, 2, 3, round, round, round, round, round]);
            }
            assert_eq!(out.len(), expected.len());
            let mut sent = Vec::new();
            while !out.is_empty() {
                let bytes = out.next(|slices| {
                    let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
                    all[..step.min(all.len())].to_vec()
                });
                out.advance(bytes.len());
                sent.extend(bytes);
            }
            assert_eq!(sent, expected);
            assert_eq!(pool.available()[0], 1024);
        }
    }

    #[test]
    fn a_buffer_that_is_wholly_sent_is_free_before_the_rest_is_sent() {
        let pool = Pool::new(PoolLimits::default()).unwrap();
        let mut out = Outgoing::new(&pool);
        let bufs = [pool.alloc(10).unwrap(), pool.alloc(10).unwrap()];
        for buf in bufs {
            out.push(&[1]);
            out.push_buf(Piece::first(buf, 10));
        }
        out.advance(11);
        pool.write(Piece::first(bufs[0], 10)).fill(7);
        assert_eq!(out.len(), 11);
        out.advance(5);
        assert_eq!(out.next(|slices| slices[0].len()), 6);
    }

    #[test]
    fn dropping_unsent_packets_frees_their_buffers() {
        let pool = Pool::new(PoolLimits::default()).unwrap();
        let mut out = Outgoing::new(&pool);
        let buf = pool.alloc(10).unwrap();
        out.push_buf(Piece::first(buf, 10));
        pool.release(buf);
        assert_eq!(pool.available()[0], 1023);
        drop(out);
        assert_eq!(pool.available()[0], 1024);
    }
}
