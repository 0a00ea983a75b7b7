//! Requests of the primary: checked, ordered, carried out, answered.

use super::{
    Errno, FailedOp, LostReason, Mutant, OpId, Out, Secondary, SecondaryAction, Session,
    SessionEvent,
};
use crate::engine::event::{BufId, DiskOp};
use crate::engine::ranges::{Access, RangeId};
use crate::terms::REQUEST_BYTES_MAX;
use crate::wire::message::{Command, Reply, Request};

/// A request in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    request: Request,
    buf: Option<BufId>,
    arrival: u64,
    range: Option<RangeId>,
    /// On the disk, or done.
    started: bool,
}

impl Secondary {
    pub(super) fn request(
        &mut self,
        request: Request,
        data: Option<(BufId, u32)>,
        zeroes: bool,
        out: &mut Out,
    ) {
        let buf = data.map(|(buf, _)| buf);
        if !self.change(SessionEvent::Request) {
            self.end(LostReason::Protocol(
                "a request before the handshake is complete",
            ));
            out.extend(buf.map(SecondaryAction::Release));
            return;
        }
        self.heard = self.now;
        if request.command != Command::Keepalive && self.map_is_ours {
            self.map_is_ours = false;
            self.clear_map();
        }
        if let Err(error) = self.check(&request, data, zeroes) {
            out.extend(buf.map(SecondaryAction::Release));
            self.reply(
                Reply {
                    seq: request.seq,
                    error: Some(error),
                    received: false,
                },
                None,
                out,
            );
            return;
        }
        match request.command {
            Command::Keepalive => {
                out.extend(buf.map(SecondaryAction::Release));
                if self.peer.heartbeat {
                    out.push(SecondaryAction::Heartbeat);
                }
            }
            Command::Ahead => self.ahead(request.seq),
            Command::InStep => self.in_step(request.seq, out),
            Command::Target => self.target(request.seq, out),
            Command::Read | Command::Write | Command::Delete | Command::Flush => {
                if request.memsync {
                    let reply = Reply {
                        seq: request.seq,
                        error: None,
                        received: true,
                    };
                    self.reply(reply, None, out);
                }
                self.accept(request, buf, out);
            }
        }
    }

    /// What a request must not be (spec/01, 5): answered, and no reason to disconnect.
    fn check(
        &self,
        request: &Request,
        data: Option<(BufId, u32)>,
        zeroes: bool,
    ) -> Result<(), Errno> {
        let sector = u64::from(self.sector_bytes);
        let has_range = matches!(
            request.command,
            Command::Read | Command::Write | Command::Delete
        );
        if has_range {
            let end = request
                .offset
                .checked_add(request.length)
                .ok_or(Errno::EINVAL)?;
            let fits = request.length > 0
                && request.offset.is_multiple_of(sector)
                && request.length.is_multiple_of(sector)
                && end <= self.meta.datasize;
            if !fits {
                return Err(Errno::EINVAL);
            }
        }
        let length = data.map_or(0, |(_, length)| u64::from(length));
        match request.command {
            Command::Ahead | Command::InStep if !self.peer.copy_states => Err(Errno::EINVAL),
            Command::Target if !self.peer.steering => Err(Errno::EINVAL),
            Command::Read if request.length > u64::from(REQUEST_BYTES_MAX) || data.is_none() => {
                Err(Errno::EINVAL)
            }
            Command::Write if request.length > u64::from(REQUEST_BYTES_MAX) => Err(Errno::EINVAL),
            Command::Write if zeroes => Ok(()),
            Command::Write if length != request.length => {
                if data.is_some() && self.broken.is(Mutant::TornWriteStored) {
                    Ok(())
                } else {
                    Err(Errno::EINVAL)
                }
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, request: Request, buf: Option<BufId>, out: &mut Out) {
        let Some(slot) = self.free.pop() else {
            unreachable!("the driver asks for room before it hands in a request");
        };
        self.arrivals += 1;
        let arrival = self.arrivals;
        let mut op = Op {
            request,
            buf,
            arrival,
            range: None,
            started: false,
        };
        match request.command {
            Command::Flush => {
                self.statistics.flushes += 1;
                self.ops[slot as usize] = Some(op);
                self.flushes.push_back(slot);
                self.barriers.insert(arrival);
                self.pump_flushes(out);
                return;
            }
            Command::Read => self.statistics.reads += 1,
            Command::Delete => self.statistics.deletes += 1,
            _ => self.statistics.writes += 1,
        }
        let access = if request.command == Command::Read {
            Access::Shared
        } else {
            self.writes.insert(arrival);
            Access::Exclusive
        };
        let (range, granted) = self
            .ranges
            .take(request.offset, request.length, access, slot);
        op.range = Some(range);
        self.ops[slot as usize] = Some(op);
        if granted || self.broken.is(Mutant::SecondaryReorders) {
            self.start(slot, out);
        }
    }

    pub(super) fn run_released(&mut self, out: &mut Out) {
        while let Some(slot) = self.released.pop() {
            self.start(slot, out);
        }
        self.pump_flushes(out);
    }

    /// Nothing that overlaps stands in the way of a read, write or delete any more.
    fn start(&mut self, slot: u32, out: &mut Out) {
        let connected = self.is_connected();
        let barrier = self.barriers.first().copied();
        let op = self.op(slot);
        let behind = barrier.is_some_and(|flush| flush < op.arrival);
        if behind && op.request.command != Command::Read && !op.started {
            self.held.push(slot);
            return;
        }
        if std::mem::replace(&mut op.started, true) {
            return;
        }
        let Op { request, buf, .. } = *op;
        let length = u32::try_from(request.length).unwrap_or(u32::MAX);
        let what = match (request.command, buf) {
            // Nobody is left to read for.
            (Command::Read, _) if !connected => {
                self.finish(slot, out);
                return;
            }
            (Command::Read, Some(buf)) => DiskOp::Read {
                offset: request.offset,
                length,
                buf,
            },
            (Command::Write, Some(buf)) => DiskOp::Write {
                offset: request.offset,
                length,
                buf,
                fua: false,
            },
            (Command::Write, None) => DiskOp::Zero {
                offset: request.offset,
                length,
                fua: false,
            },
            _ => DiskOp::Delete {
                offset: request.offset,
                length: request.length,
            },
        };
        out.push(SecondaryAction::Disk {
            op: OpId(u64::from(slot)),
            what,
        });
    }

    /// Starts the flushes before which every write has ended.
    fn pump_flushes(&mut self, out: &mut Out) {
        while let Some(&slot) = self.flushes.front() {
            let arrival = self.op(slot).arrival;
            let waits = self.writes.first().is_some_and(|&write| write < arrival);
            if waits && !self.broken.is(Mutant::FlushDoesNotWait) {
                return;
            }
            self.flushes.pop_front();
            self.op(slot).started = true;
            out.push(SecondaryAction::Disk {
                op: OpId(u64::from(slot)),
                what: DiskOp::Flush,
            });
        }
    }

    pub(super) fn op_done(&mut self, slot: u32, result: Result<(), Errno>, out: &mut Out) {
        let Op { request, buf, .. } = *self.op(slot);
        if let Err(error) = result
            && !(error == Errno::EOPNOTSUPP && request.command == Command::Delete)
        {
            let op = match request.command {
                Command::Read => FailedOp::Read,
                Command::Delete => FailedOp::Delete,
                Command::Flush => FailedOp::Flush,
                _ => FailedOp::Write,
            };
            self.local_error(op, request.offset, request.length, error, out);
        }
        let data = match (request.command, buf, result) {
            (Command::Read, Some(buf), Ok(())) => {
                Some((buf, u32::try_from(request.length).unwrap_or(0)))
            }
            _ => None,
        };
        let reply = Reply {
            seq: request.seq,
            error: result.err(),
            received: false,
        };
        self.reply(reply, data, out);
        self.finish(slot, out);
        self.run_released(out);
    }

    fn finish(&mut self, slot: u32, out: &mut Out) {
        let op = *self.op(slot);
        if let Some(range) = op.range {
            self.ranges.end(range, &mut self.released);
        }
        self.writes.remove(&op.arrival);
        if self.barriers.remove(&op.arrival) {
            self.released.append(&mut self.held);
        }
        out.extend(op.buf.map(SecondaryAction::Release));
        self.ops[slot as usize] = None;
        self.free.push(slot);
        self.heard = self.now;
    }

    pub(super) fn reply(&self, reply: Reply, data: Option<(BufId, u32)>, out: &mut Out) {
        if self.is_connected() {
            out.push(SecondaryAction::Reply { reply, data });
        }
    }

    fn op(&mut self, slot: u32) -> &mut Op {
        match self.ops.get_mut(slot as usize).and_then(Option::as_mut) {
            Some(op) => op,
            None => unreachable!("slots are named by their request only"),
        }
    }

    /// Whether requests travel.
    pub fn is_serving(&self) -> bool {
        self.session == Session::Serving
    }
}
