//! The connection: handshake, requests and replies, loss.

use super::durable::Recorder;
use super::request::{Errand, FUA_FLUSH_PART, Half};
use super::{Mutant, Out, Primary};
use crate::engine::event::{AppOp, BufId, FailedOp, LostReason, Notice, PeerLimits, PrimaryAction};
use crate::engine::states::{Link, LinkEvent, Local, LocalEvent};
use crate::terms::{Errno, PEER_REQUEST_BYTES, REQUEST_BYTES_MAX};
use crate::wire::message::{Command, PrimaryHello, Reply, Request, SecondaryHello, SyncSource};

impl Primary {
    // ---- handshake

    pub(super) fn linked(&mut self, out: &mut Out) {
        if self.link != Link::Down {
            self.lost(LostReason::Broken, out);
        }
        if !self.is_running() {
            out.push(PrimaryAction::Disconnect(LostReason::Asked));
            return;
        }
        self.change_link(LinkEvent::Linked);
        self.heard = self.now;
        self.virgin = self.meta.resuid == 0;
        if self.virgin {
            self.meta.resuid = self.fresh_resuid;
            self.link_meta = self.change_meta();
        } else {
            self.link_meta = self.meta_version();
        }
        self.advance_link(out);
    }

    /// Goes on with the handshake as far as the disk allows.
    pub(super) fn advance_link(&mut self, out: &mut Out) {
        if self.link_meta > self.meta_log.durable() && self.local.is_attached() {
            return;
        }
        match self.link {
            Link::Preparing => {
                self.change_link(LinkEvent::Prepared);
                out.push(PrimaryAction::SendHello(PrimaryHello {
                    virgin: self.virgin && self.meta.localcnt == 0,
                    resuid: self.meta.resuid,
                    localcnt: self.meta.localcnt,
                    remotecnt: self.meta.remotecnt,
                }));
            }
            Link::Merging
                if self
                    .link_commit
                    .is_none_or(|commit| self.commit.done >= commit) =>
            {
                self.change_link(LinkEvent::Merged);
                self.heard = self.now;
                self.sent = self.now;
                self.outstanding = 0;
                self.peer_deletes = true;
                self.peer_flushes = true;
                out.push(PrimaryAction::Notice(Notice::Connected));
                let differs = (self.meta.localcnt, self.meta.remotecnt) != self.agreed;
                if !self.local.is_attached() && self.peer.copy_states {
                    // Any other first request would tell the peer that its bitmap is stored here.
                    self.send_ahead(out);
                } else if self.peer.steering && self.extents.sync_count() == 0 && !differs {
                    // The word at the end of a synchronisation may have been lost with the
                    // connection.
                    self.send_in_step(out);
                }
                self.unpark(out);
            }
            _ => {}
        }
    }

    pub(super) fn hello(
        &mut self,
        hello: &SecondaryHello,
        map: &[u8],
        peer: PeerLimits,
        out: &mut Out,
    ) {
        if self.link != Link::HelloSent {
            self.drop_link(
                LostReason::Protocol("an answer to the handshake out of turn"),
                out,
            );
            return;
        }
        if let Err(reason) = self.examine(hello, map) {
            if reason == LostReason::SplitBrain {
                out.push(PrimaryAction::Notice(Notice::SplitBrain));
            }
            self.drop_link(reason, out);
            return;
        }
        self.heard = self.now;
        self.peer = PeerLimits {
            request_bytes: peer
                .request_bytes
                .clamp(PEER_REQUEST_BYTES, REQUEST_BYTES_MAX),
            ..peer
        };
        self.agreed = (hello.remotecnt, hello.localcnt);
        if hello.syncsrc == SyncSource::Primary {
            self.renew_counters(hello, out);
        }
        if self.bumped.is_none() && self.meta.localcnt > hello.remotecnt {
            self.bumped = Some(self.meta_version());
        }
        let from_peer = hello.syncsrc == SyncSource::Secondary;
        self.copier.from_peer = from_peer;
        self.link_commit = None;
        if self.local.is_attached() {
            self.change_local(if from_peer {
                LocalEvent::PeerIsAhead
            } else {
                LocalEvent::PeerIsBehind
            });
            let marked_only = self.broken.is(Mutant::InFlightForgotten)
                || self.broken.is(Mutant::AloneWriteForgotten);
            self.link_commit = self.extents.merge(map, marked_only);
            let incomplete = from_peer && self.extents.sync_count() > 0;
            if std::mem::replace(&mut self.meta.inconsistent, incomplete) != incomplete {
                self.link_meta = self.change_meta();
            }
        }
        self.change_link(LinkEvent::Hello);
        self.advance_link(out);
    }

    /// Takes note of a secondary whose counters are not those that we knew: it is new, or was made
    /// anew. Only we have the data, until it is synchronised; and should it be promoted before and
    /// count again from where it is now, that count must not be taken for the old one.
    fn renew_counters(&mut self, hello: &SecondaryHello, out: &mut Out) {
        let known = (self.meta.localcnt, self.meta.remotecnt);
        if hello.virgin || hello.localcnt != self.meta.remotecnt {
            self.meta.remotecnt = hello.localcnt;
            self.meta.localcnt = known.0.max(hello.remotecnt.saturating_add(1));
        }
        if (self.meta.localcnt, self.meta.remotecnt) != known {
            self.link_meta = self.change_meta();
        }
        if self.meta.localcnt != known.0 {
            out.push(PrimaryAction::Notice(Notice::LocalcntBumped(
                self.meta.localcnt,
            )));
        }
    }

    /// Whether a cluster can be formed with a secondary that says this.
    fn examine(&self, hello: &SecondaryHello, map: &[u8]) -> Result<(), LostReason> {
        if hello.datasize != self.meta.datasize {
            return Err(LostReason::DatasizeMismatch {
                ours: self.meta.datasize,
                theirs: hello.datasize,
            });
        }
        if hello.extentsize != self.meta.extentsize {
            return Err(LostReason::ExtentsizeMismatch {
                ours: self.meta.extentsize,
                theirs: hello.extentsize,
            });
        }
        if map.len() != hello.mapsize as usize {
            return Err(LostReason::Protocol(
                "a bitmap of another length than announced",
            ));
        }
        if !map.is_empty() && (map.len() as u64) < self.extents.count().div_ceil(8) {
            return Err(LostReason::Protocol("a bitmap that is too short"));
        }
        // The secondary compared what we said when the handshake began; we may have written alone
        // since.
        if hello.localcnt > self.meta.remotecnt
            && self.meta.localcnt > hello.remotecnt
            && !hello.virgin
        {
            return Err(LostReason::SplitBrain);
        }
        if hello.syncsrc == SyncSource::Primary
            && self.local == Local::Stale
            && self.extents.sync_count() > 0
        {
            return Err(LostReason::NoGoodCopy);
        }
        // Without the local disk only the very copy that was complete can be served from: not one
        // that was made anew since, and waits for the data.
        let waits_for_data = hello.virgin || map.iter().any(|&byte| byte != 0);
        if !self.local.is_attached() && hello.syncsrc == SyncSource::Primary && waits_for_data {
            return Err(LostReason::NoGoodCopy);
        }
        Ok(())
    }

    // ---- requests and replies

    pub(super) fn send(
        &mut self,
        request: Request,
        data: Option<(BufId, u32)>,
        zeroes: bool,
        out: &mut Out,
    ) {
        if self.outstanding == 0 {
            self.heard = self.now;
        }
        self.outstanding += 1;
        self.sent = self.now;
        out.push(PrimaryAction::Send {
            request,
            data,
            zeroes,
        });
    }

    pub(super) fn send_keepalive(&mut self, out: &mut Out) {
        let request = Request {
            command: Command::Keepalive,
            seq: 0,
            offset: 0,
            length: 0,
            memsync: false,
        };
        if self.peer.heartbeat {
            self.heartbeats += 1;
            self.send(request, None, false, out);
        } else {
            self.sent = self.now;
            out.push(PrimaryAction::Send {
                request,
                data: None,
                zeroes: false,
            });
        }
    }

    /// The peer is alive.
    pub(super) fn heartbeat(&mut self, out: &mut Out) {
        if self.heartbeats == 0 {
            self.drop_link(
                LostReason::Protocol("a heartbeat that was not asked for"),
                out,
            );
            return;
        }
        self.heartbeats -= 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.heard = self.now;
    }

    /// Where the data of a successful read go: buffer, offset in it, and the length in bytes that
    /// they must have. `None`: no such read is under way.
    pub fn read_destination(&mut self, seq: u64) -> Option<(BufId, u32, u32)> {
        match Errand::of(seq) {
            Errand::Request {
                slot,
                part,
                generation,
            } => {
                let req = self.requests.find(slot)?;
                let expected = req.generation == generation
                    && req.app.op == AppOp::Read
                    && req.unfinished.contains(part);
                let offset = u32::try_from(part).ok()?.checked_mul(req.part_bytes)?;
                let length = req.part_bytes.min(req.app.length.checked_sub(offset)?);
                req.app
                    .buf
                    .filter(|_| expected)
                    .map(|buf| (buf, offset, length))
            }
            Errand::Block { slot, generation } => self
                .copier
                .read_destination(slot, generation)
                .map(|(buf, len)| (buf, 0, len)),
            Errand::Clean { .. } | Errand::Word { .. } => None,
        }
    }

    pub(super) fn reply(&mut self, reply: Reply, length: u32, out: &mut Out) {
        if self.link != Link::Up {
            self.drop_link(LostReason::Protocol("a reply before any request"), out);
            return;
        }
        self.heard = self.now;
        let known = match Errand::of(reply.seq) {
            Errand::Request {
                slot,
                part,
                generation,
            } => self.request_reply(slot, part, generation, reply, length, out),
            Errand::Block { slot, generation } if !reply.received => {
                self.block_reply(slot, generation, reply.error, length, out)
            }
            Errand::Clean { generation } if !reply.received => {
                self.clean_remote_done(generation, reply.error, out)
            }
            Errand::Word { generation } if !reply.received => {
                self.word_reply(generation, reply.error, out)
            }
            _ => false,
        };
        if !known {
            self.drop_link(LostReason::Protocol("a reply to no request"), out);
        }
    }

    /// Whether the reply belongs to a request that waits for one.
    fn request_reply(
        &mut self,
        slot: u32,
        part: usize,
        generation: u32,
        reply: Reply,
        length: u32,
        out: &mut Out,
    ) -> bool {
        let Some(req) = self.requests.find(slot) else {
            return false;
        };
        if req.generation != generation || req.remote != Half::Pending {
            return false;
        }
        if reply.received {
            let expected = req.unreceived.take(part);
            if expected {
                self.settle(slot, out);
            }
            return expected;
        }
        let taken = if part == FUA_FLUSH_PART {
            std::mem::take(&mut req.flushing)
        } else {
            req.unreceived.take(part);
            req.unfinished.take(part)
        };
        if !taken {
            return false;
        }
        let is_read = req.app.op == AppOp::Read;
        let start = u32::try_from(part)
            .unwrap_or(0)
            .saturating_mul(req.part_bytes);
        let wanted = if is_read {
            req.part_bytes.min(req.app.length - start)
        } else {
            0
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        match reply.error {
            None if length != wanted => return false,
            None => self.part_done(slot, part, out),
            Some(error) => self.part_failed(slot, part, error, out),
        }
        true
    }

    fn part_failed(&mut self, slot: u32, part: usize, error: Errno, out: &mut Out) {
        let app = self.requests.at(slot).app;
        let op = match app.op {
            AppOp::Read => FailedOp::Read,
            AppOp::Delete => FailedOp::Delete,
            AppOp::Flush => FailedOp::Flush,
            AppOp::Write { .. } | AppOp::WriteZeroes { .. } if part == FUA_FLUSH_PART => {
                FailedOp::Flush
            }
            AppOp::Write { .. } | AppOp::WriteZeroes { .. } => FailedOp::Write,
        };
        let (offset, length) = (app.offset, u64::from(app.length));
        match op {
            FailedOp::Delete if error == Errno::EOPNOTSUPP => {
                // Discarded here and not there: the range is copied instead.
                if std::mem::replace(&mut self.peer_deletes, false) {
                    out.push(PrimaryAction::Notice(Notice::PeerCannotDelete));
                }
                if self.local.is_attached() && !self.broken.is(Mutant::DeleteUntracked) {
                    self.mark_sync(offset, length);
                }
                self.part_done(slot, part, out);
                return;
            }
            FailedOp::Flush if error == Errno::EOPNOTSUPP => {
                self.peer_cannot_flush(out);
                self.part_done(slot, part, out);
                return;
            }
            _ => {}
        }
        out.push(PrimaryAction::Notice(Notice::RemoteError {
            op,
            offset,
            length,
            error,
        }));
        if op == FailedOp::Read {
            self.read_remote_failed(slot, error, out);
        } else if self.broken.is(Mutant::RemoteErrorIgnored) {
            self.part_done(slot, part, out);
        } else {
            // What the peer has of it is unknown: the extent stays dirty and is copied again.
            self.drop_link(LostReason::RemoteFailed(error), out);
        }
    }

    pub(super) fn peer_cannot_flush(&mut self, out: &mut Out) {
        if std::mem::replace(&mut self.peer_flushes, false) {
            out.push(PrimaryAction::Notice(Notice::PeerCannotFlush));
        }
    }

    // ---- loss

    /// Gives the connection up.
    pub(super) fn drop_link(&mut self, reason: LostReason, out: &mut Out) {
        if self.link != Link::Down {
            out.push(PrimaryAction::Disconnect(reason));
            self.lost(reason, out);
        }
    }

    pub(super) fn lost(&mut self, reason: LostReason, out: &mut Out) {
        if self.link == Link::Down {
            return;
        }
        self.change_link(LinkEvent::Lost);
        self.outstanding = 0;
        self.heartbeats = 0;
        self.link_commit = None;
        self.copier.word = None;
        self.copier.target = None;
        self.copier.tell_again = None;
        out.push(PrimaryAction::Notice(Notice::Disconnected(reason)));
        self.interrupt_sync(out);
        self.clean_lost(out);
        if self.word.take().is_some() && self.recorder == Recorder::Peer {
            self.not_recorded(out);
        }
        self.requests_lost(out);
    }
}
