//! The primary's requests on their way from connection A to the engine.

use super::Worker;
use crate::engine::event::{BufId, LostReason, SecondaryEvent};
use crate::io::pool::Piece;
use crate::ipc::Level;
use crate::terms::{Compression, Errno};
use crate::wire::message::{Command, Reply, Request};
use crate::wire::request::BadRequest;
use crate::wire::stages::DataHead;
use crate::worker::blocks::{Receiving, Unchecked, judge};
use crate::worker::stream::Arrival;

/// A write whose data are being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    request: Request,
    receiving: Receiving,
    /// Where its block goes; a block of zeros needs none.
    pub(super) buf: Option<BufId>,
}

/// Whether the next packet can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ready,
    /// Not before something of what is under way is done.
    Later,
}

impl Worker<'_> {
    /// Takes what has arrived, as far as there is room for it.
    pub(super) fn pump(&mut self) {
        while self.greeted && self.engine.has_room() {
            let Some(a) = &mut self.a else { return };
            match a.next(Request::decode) {
                Err(error) => {
                    let words = format!("Unable to receive request header: {error}.");
                    return self.lose(LostReason::Protocol("a malformed packet"), words);
                }
                Ok(Arrival::Nothing) => break,
                Ok(Arrival::Complete) => {
                    a.finish();
                    self.data_complete();
                }
                Ok(Arrival::Head(Err(bad))) => self.refuse_request(bad),
                Ok(Arrival::Head(Ok((request, head)))) => {
                    if self.request(request, head) == Next::Later {
                        break;
                    }
                }
            }
        }
        let streams = [&self.a, &self.b].into_iter().flatten();
        let failure = streams.filter_map(|stream| stream.failure()).next();
        if let Some(failure) = failure.map(str::to_owned) {
            let words = format!("Unable to receive request header: {failure}.");
            self.lose(LostReason::Broken, words);
        }
    }

    /// Answers what is no request, and drops its data.
    fn refuse_request(&mut self, bad: BadRequest) {
        let Some(seq) = bad.seq else {
            let words = format!("Invalid request from {}: {bad}.", self.peer);
            return self.lose(LostReason::Protocol("a request without a number"), words);
        };
        let text = format!("Invalid request from {}: {bad}.", self.peer);
        self.warn_once(text);
        self.answer_invalid(seq);
        if let Some(a) = &mut self.a {
            a.skip();
        }
    }

    fn warn_once(&mut self, text: String) {
        let level = if std::mem::replace(&mut self.warned, true) {
            Level::Debug(1)
        } else {
            Level::Warning
        };
        self.parent.log(level, text);
    }

    fn answer_invalid(&mut self, seq: u64) {
        let reply = Reply {
            seq,
            error: Some(Errno::EINVAL),
            received: false,
        };
        self.reply(reply, None);
    }

    /// A request's head. It is looked at again when there is no buffer for it now.
    fn request(&mut self, request: Request, head: DataHead) -> Next {
        let length = u32::try_from(request.length).unwrap_or(u32::MAX);
        match request.command {
            Command::Write => self.write(request, head, length),
            Command::Read => match self.pool.alloc(length) {
                None => Next::Later,
                Some(buf) => self.deliver(request, Some((buf, 0))),
            },
            _ => self.deliver(request, None),
        }
    }

    /// Hands a request without data to the engine.
    fn deliver(&mut self, request: Request, data: Option<(BufId, u32)>) -> Next {
        if let Some(a) = &mut self.a {
            a.skip();
        }
        self.feed(SecondaryEvent::Request {
            request,
            data,
            zeroes: false,
        });
        Next::Ready
    }

    /// The head of a write: its data are received to where the disk takes them from.
    fn write(&mut self, request: Request, head: DataHead, length: u32) -> Next {
        if !self.accepts_unchecked(&head) {
            return Next::Later;
        }
        let buf = if head.compression == Compression::Hole {
            None
        } else if let Some(buf) = self.pool.alloc(length) {
            Some(buf)
        } else {
            return Next::Later;
        };
        let destination = Piece::first(buf.unwrap_or(self.beside), length);
        let receiving = Receiving::new(head, destination, self.beside, &self.pool);
        let Some(a) = &mut self.a else {
            return Next::Later;
        };
        let taken = receiving.filter(|receiving| a.take(receiving.wire()).is_ok());
        if let Some(receiving) = taken {
            self.pending = Some(Pending {
                request,
                receiving,
                buf,
            });
            return Next::Ready;
        }
        // More bytes than the block itself: no sender makes that.
        a.skip();
        if let Some(buf) = buf {
            self.pool.release(buf);
        }
        self.answer_invalid(request.seq);
        Next::Ready
    }

    /// All data of a write have arrived.
    fn data_complete(&mut self) {
        let Some(pending) = self.pending.take() else {
            unreachable!("data are taken for a write only");
        };
        let Pending {
            request,
            receiving,
            buf,
        } = pending;
        match receiving.decode(&self.pool) {
            Err(error) => {
                if let Some(buf) = buf {
                    self.pool.release(buf);
                }
                let words = format!("Unable to receive request data: {error}.");
                self.lose(LostReason::Protocol("damaged data"), words);
            }
            Ok(zeroes) => {
                let length = receiving.destination().length;
                let data = buf.map(|buf| (buf, length));
                self.feed(SecondaryEvent::Request {
                    request,
                    data,
                    zeroes,
                });
            }
        }
    }

    /// Whether data may come without a checksum, or with this one; otherwise the session ends.
    fn accepts_unchecked(&mut self, head: &DataHead) -> bool {
        match judge(head, self.settings.checksum, self.peer_is_ours) {
            Unchecked::Fine => true,
            Unchecked::Warn => {
                let text = format!(
                    "Data from {} come without the checksum that is configured here.",
                    self.peer
                );
                self.warn_once(text);
                true
            }
            Unchecked::Refuse => {
                let words = format!(
                    "Data from {} come without the checksum that is configured here: configure \
                     the same on both nodes.",
                    self.peer
                );
                self.lose(LostReason::Protocol("data without a checksum"), words);
                false
            }
        }
    }
}
