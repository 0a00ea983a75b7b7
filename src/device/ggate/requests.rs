//! Requests of the kernel on their way to the engine and back: a state machine without I/O.
//!
//! A request is split into parts of the length that the engine takes, one after the other as there
//! is room, and answered once when all of them are done:
//!
//! ```text
//! START -> waits -> parts in the engine -> all done -> DONE
//!       \-> answered at once: hints, unknown commands, ranges outside the provider
//! ```
//!
//! Requests are begun in the order in which they came. One with very many parts, a delete of a
//! whole disk say, does not keep others waiting: it has a bounded share of the engine at a time.

use std::collections::VecDeque;

use super::bio::Command;
use super::buffer::Buffer;
use super::intake::Started;
use crate::device::slab::Slab;
use crate::engine::event::{AppOp, AppRequest, BufId, DISCARD_BYTES_MAX, ReqId};
use crate::io::pool::{Piece, Pool};
use crate::terms::{Errno, REQUEST_BYTES_MAX};

/// Parts of one request that the engine has at a time.
const PARTS_OF_ONE: u32 = 32;

/// Longest read, in bytes, far above what any kernel asks for.
const READ_MAX_BYTES: u64 = 64 << 20;

/// FreeBSD's numbers.
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const EAGAIN: i32 = 35;
const EOPNOTSUPP: i32 = 45;

/// What the provider looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes.
    pub(super) bytes: u64,
    /// Bytes of a sector.
    pub(super) sector_bytes: u32,
}

/// An answer for DONE.
pub(super) struct Answer {
    /// Which request.
    pub(super) seq: usize,
    /// FreeBSD's number, 0 for success.
    pub(super) error: i32,
    /// A read's data.
    pub(super) data: Data,
}

/// Where the data of an answer are.
pub(super) enum Data {
    /// There are none.
    None,
    /// At the start of a buffer of the pool: so many bytes.
    Pool(BufId, u32),
    /// Gathered from several parts.
    Gathered(Buffer),
}

struct Request {
    seq: usize,
    op: AppOp,
    offset: u64,
    length: u64,
    /// Bytes whose parts were handed to the engine.
    issued: u64,
    /// No more parts follow.
    complete: bool,
    /// Parts that the engine has.
    outstanding: u32,
    /// What went wrong first.
    error: Option<Errno>,
    /// A write's data, or those of a read in several parts.
    data: Option<Buffer>,
}

struct Part {
    request: u32,
    /// Where in the request, in bytes.
    at: u64,
    length: u32,
}

/// All requests of a provider.
pub(super) struct Requests {
    geometry: Geometry,
    requests: Slab<Request>,
    parts: Slab<Part>,
    /// Requests that have parts to come, in order.
    queue: VecDeque<u32>,
    /// Buffers that the threads may have back.
    freed: Vec<Buffer>,
    /// Requests that were not answered.
    unanswered: u32,
    /// Parts that the engine has.
    outstanding: u32,
}

impl Requests {
    /// Of a provider; so many requests and parts of them at a time. Numbers of parts are below
    /// `parts`.
    pub(super) fn new(geometry: Geometry, requests: u32, parts: u32) -> Requests {
        Requests {
            geometry,
            requests: Slab::new(requests),
            parts: Slab::new(parts),
            queue: VecDeque::new(),
            freed: Vec::new(),
            unanswered: 0,
            outstanding: 0,
        }
    }

    /// Whether one more can be added.
    pub(super) fn has_room(&self) -> bool {
        !self.requests.is_full()
    }

    /// Parts that the engine has.
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// A buffer that is no longer needed.
    pub(super) fn freed(&mut self) -> Option<Buffer> {
        self.freed.pop()
    }

    /// Takes a request. Returns the answer if there is nothing to be done for it. Must have room.
    pub(super) fn add(&mut self, started: Started, command: Command) -> Option<Answer> {
        let seq = started.seq;
        match self.judge(started, command) {
            Ok(request) => {
                let index = self.requests.insert(request);
                let index = index.unwrap_or_else(|| unreachable!("the caller has asked for room"));
                self.queue.push_back(index);
                self.unanswered += 1;
                None
            }
            Err(error) => Some(Answer {
                seq,
                error,
                data: Data::None,
            }),
        }
    }

    /// The request, or the answer's error.
    fn judge(&mut self, started: Started, command: Command) -> Result<Request, i32> {
        let Started {
            seq,
            offset,
            length,
            data,
            ..
        } = started;
        let op = match command {
            Command::Read => AppOp::Read,
            Command::Write => AppOp::Write { fua: false },
            Command::Delete => AppOp::Delete,
            Command::Flush => AppOp::Flush,
            Command::Speedup | Command::Other => {
                self.freed.extend(data);
                return Err(if command == Command::Speedup {
                    0
                } else {
                    EOPNOTSUPP
                });
            }
        };
        let mut request = Request {
            seq,
            op,
            offset: 0,
            length: 0,
            issued: 0,
            complete: false,
            outstanding: 0,
            error: None,
            data: None,
        };
        if op == AppOp::Flush {
            self.freed.extend(data);
            return Ok(request);
        }
        let Some((offset, length)) = self.range(offset, length) else {
            self.freed.extend(data);
            return Err(EINVAL);
        };
        request.offset = offset;
        request.length = length;
        match op {
            AppOp::Write { .. } => match data {
                Some(data) if u64::try_from(data.len()).is_ok_and(|held| held >= length) => {
                    request.data = Some(data);
                }
                data => {
                    self.freed.extend(data);
                    return Err(EINVAL);
                }
            },
            AppOp::Read => {
                self.freed.extend(data);
                if length > READ_MAX_BYTES {
                    return Err(EINVAL);
                }
                if length > u64::from(REQUEST_BYTES_MAX) {
                    let gathered = usize::try_from(length).map_err(|_| EINVAL)?;
                    request.data = Some(Buffer::new(gathered).map_err(|_| EIO)?);
                }
            }
            _ => self.freed.extend(data),
        }
        Ok(request)
    }

    /// A range of whole sectors within the provider.
    fn range(&self, offset: i64, length: i64) -> Option<(u64, u64)> {
        let (offset, length) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
        let sector = u64::from(self.geometry.sector_bytes);
        let end = offset.checked_add(length)?;
        let whole = offset.is_multiple_of(sector) && length.is_multiple_of(sector);
        (length > 0 && whole && end <= self.geometry.bytes).then_some((offset, length))
    }

    /// The next part for the engine, its buffer filled if it is a write; `None`: there is none, or
    /// no room for it, or no buffer.
    pub(super) fn next(&mut self, pool: &Pool) -> Option<AppRequest> {
        if self.parts.is_full() {
            return None;
        }
        let mut at = 0;
        let index = loop {
            let index = *self.queue.get(at)?;
            let share = self.request(index).outstanding;
            if share < PARTS_OF_ONE {
                break index;
            }
            at += 1;
        };
        let request = self.request(index);
        let op = request.op;
        let (offset, from) = (request.offset + request.issued, request.issued);
        let longest = match op {
            AppOp::Read | AppOp::Write { .. } => REQUEST_BYTES_MAX,
            _ => DISCARD_BYTES_MAX,
        };
        let left = request.length - request.issued;
        let length = u32::try_from(left).map_or(longest, |left| left.min(longest));
        let buf = match op {
            AppOp::Read => Some(pool.alloc(length)?),
            AppOp::Write { .. } => {
                let buf = pool.alloc(length)?;
                let data = request.data.as_deref();
                let part = usize::try_from(from)
                    .ok()
                    .and_then(|from| data?.get(from..from + length as usize));
                let part = part.unwrap_or_else(|| unreachable!("a write has its data"));
                pool.write(Piece::first(buf, length)).copy_from_slice(part);
                Some(buf)
            }
            _ => None,
        };
        request.issued += u64::from(length);
        request.outstanding += 1;
        if request.issued == request.length {
            request.complete = true;
            let done_with = if matches!(op, AppOp::Write { .. }) {
                request.data.take()
            } else {
                None
            };
            self.freed.extend(done_with);
            self.queue.remove(at);
        }
        self.outstanding += 1;
        let part = Part {
            request: index,
            at: from,
            length,
        };
        let id = self.parts.insert(part);
        let id = id.unwrap_or_else(|| unreachable!("the table was not full above"));
        Some(AppRequest {
            id: ReqId(id),
            op,
            offset,
            length,
            buf,
        })
    }

    /// The engine is done with a part. Returns the answer if it was the last one of its request. A
    /// read's data are in `buf`, as long as the caller leaves them there.
    pub(super) fn complete(
        &mut self,
        id: ReqId,
        result: Result<(), Errno>,
        buf: Option<BufId>,
        pool: &Pool,
    ) -> Option<Answer> {
        let Part {
            request: index,
            at,
            length,
        } = self.parts.remove(id.0)?;
        self.outstanding -= 1;
        let request = self.request(index);
        request.outstanding -= 1;
        let mut data = Data::None;
        match (result, buf) {
            (Err(error), _) => {
                request.error.get_or_insert(error);
                // What is left of it would be in vain.
                request.complete = true;
                let vain = request.data.take();
                self.queue.retain(|&queued| queued != index);
                self.freed.extend(vain);
            }
            (Ok(()), Some(buf)) if request.op == AppOp::Read => match &mut request.data {
                Some(gathered) => {
                    let place = usize::try_from(at)
                        .ok()
                        .and_then(|at| gathered.get_mut(at..at + length as usize));
                    let place = place.unwrap_or_else(|| unreachable!("a part is in its request"));
                    place.copy_from_slice(&pool.read(Piece::first(buf, length)));
                }
                None => data = Data::Pool(buf, length),
            },
            (Ok(()), _) => {}
        }
        let request = self.request(index);
        if !request.complete || request.outstanding > 0 {
            return None;
        }
        let request = self.requests.remove(index)?;
        self.unanswered -= 1;
        let error = request.error.map_or(0, number);
        let data = match (request.error, request.data) {
            (None, Some(gathered)) => Data::Gathered(gathered),
            (None, None) => data,
            (Some(_), _) => Data::None,
        };
        Some(Answer {
            seq: request.seq,
            error,
            data,
        })
    }

    /// Forgets everything that the engine does not have; what it has is completed as ever.
    pub(super) fn close(&mut self) {
        for index in std::mem::take(&mut self.queue) {
            let request = self.request(index);
            request.complete = true;
            if request.outstanding > 0 {
                request.error.get_or_insert(Errno::ENXIO);
            } else {
                self.requests.remove(index);
                self.unanswered -= 1;
            }
        }
    }

    fn request(&mut self, index: u32) -> &mut Request {
        let request = self.requests.get_mut(index);
        request.unwrap_or_else(|| unreachable!("queue and parts name requests that exist"))
    }
}

/// The number for DONE. Two of them are no answers to the kernel: with `EAGAIN` it queues the
/// request again, and with `ENOMEM` GEOM asks for ever and slows down all of its work.
fn number(error: Errno) -> i32 {
    match i32::from(error.to_wire()) {
        EAGAIN | ENOMEM => EIO,
        number => number,
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
