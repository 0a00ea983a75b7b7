//! The handshake, and what is recorded on disk: bitmap and metadata.

use super::{
    LostReason, Mutant, Notice, OP_MAP, OP_MAP_FLUSH, OP_META, OP_META_FLUSH, Out, Record,
    Secondary, SecondaryAction, SessionEvent, Waiter,
};
use crate::engine::decision::{Copy, Decision, decide};
use crate::engine::event::{DiskOp, FailedOp, OpId, PeerLimits};
use crate::terms::Errno;
use crate::wire::message::{PrimaryHello, Reply, SecondaryHello, SyncSource};

/// Longest piece of the bitmap in one write, in bytes.
const RUN_BYTES_MAX: u32 = 1 << 20;

impl Secondary {
    pub(super) fn hello(&mut self, hello: &PrimaryHello, peer: PeerLimits, out: &mut Out) {
        if self.session != crate::engine::states::Session::Waiting {
            self.end(LostReason::Protocol("a second handshake in one session"));
            return;
        }
        self.heard = self.now;
        self.peer = peer;
        self.primary_remotecnt = hello.remotecnt;
        let copy = Copy {
            resuid: self.meta.resuid,
            localcnt: self.meta.localcnt,
            remotecnt: self.meta.remotecnt,
        };
        let decision = decide(copy, hello);
        let mut changed = false;
        let (syncsrc, with_map) = match decision {
            Decision::Refuse(reason) => {
                if reason == LostReason::SplitBrain {
                    out.push(SecondaryAction::Notice(Notice::SplitBrain));
                }
                out.push(SecondaryAction::Refuse(reason));
                self.end(reason);
                return;
            }
            Decision::Adopt { full } => {
                self.meta.resuid = hello.resuid;
                // A write that was never acknowledged may have been made here alone.
                let dirty = self.map.iter().any(|&byte| byte != 0);
                self.meta.inconsistent = (full || dirty) && peer.copy_states;
                if full {
                    // On disk before the unique id: a crash of either node before the primary has
                    // stored the answer must not leave two copies that seem to be in step.
                    self.map.fill(0xff);
                }
                changed = true;
                (SyncSource::Primary, full || dirty)
            }
            Decision::Merge { source, in_step } => {
                // A primary that says when a synchronisation begins says when it has ended, too;
                // of another one that the counters are agreed on has to be enough.
                if in_step && !peer.steering && std::mem::take(&mut self.meta.inconsistent) {
                    changed = true;
                }
                (source, true)
            }
            Decision::Impossible { source } => {
                out.push(SecondaryAction::Notice(Notice::CountersImpossible));
                self.full = true;
                (source, true)
            }
        };
        changed |= self.adopt_role();
        let mapsize = u32::try_from(self.map.len()).unwrap_or(u32::MAX);
        self.answer = Some(SecondaryHello {
            datasize: self.meta.datasize,
            extentsize: self.meta.extentsize,
            localcnt: self.meta.localcnt,
            remotecnt: self.meta.remotecnt,
            virgin: matches!(decision, Decision::Adopt { .. }),
            syncsrc,
            mapsize: if with_map { mapsize } else { 0 },
        });
        if changed {
            self.change(SessionEvent::Adopted);
            self.records.push_back((true, Waiter::Handshake));
        } else {
            self.change(SessionEvent::Accepted);
            self.greet(out);
        }
    }

    fn greet(&mut self, out: &mut Out) {
        if let Some(answer) = self.answer {
            out.push(SecondaryAction::Hello(answer));
        }
        if self.broken.is(Mutant::MapClearedEarly) {
            self.clear_map();
        }
    }

    /// The primary has our bitmap on its disk: it is not needed here any more.
    pub(super) fn clear_map(&mut self) {
        if self.map.iter().any(|&byte| byte != 0) {
            self.map.fill(0);
            self.records.push_back((false, Waiter::Nobody));
        }
    }

    /// The primary's own copy has failed: ours is the only one.
    pub(super) fn ahead(&mut self, seq: u64) {
        self.meta.localcnt = self
            .meta
            .localcnt
            .max(self.primary_remotecnt)
            .saturating_add(1);
        self.map.fill(0xff);
        self.records.push_back((true, Waiter::Word { seq }));
    }

    /// A synchronisation is complete.
    pub(super) fn in_step(&mut self, seq: u64, out: &mut Out) {
        if std::mem::take(&mut self.meta.inconsistent) {
            self.records.push_back((true, Waiter::InStep { seq }));
        } else {
            self.reply(
                Reply {
                    seq,
                    error: None,
                    received: false,
                },
                None,
                out,
            );
        }
    }

    /// A synchronisation begins: until its end this copy is neither what it was nor what it will be.
    pub(super) fn target(&mut self, seq: u64, out: &mut Out) {
        let unmarked = self.broken.is(Mutant::TargetUnmarked);
        let was_marked = std::mem::replace(&mut self.meta.inconsistent, !unmarked) || unmarked;
        if was_marked && self.record == Record::Idle && self.records.is_empty() {
            let reply = Reply {
                seq,
                error: None,
                received: false,
            };
            self.reply(reply, None, out);
        } else {
            self.records.push_back((true, Waiter::Word { seq }));
        }
    }

    // ---- records: the changed parts of the bitmap, then, if wanted, the metadata

    pub(super) fn pump_records(&mut self, out: &mut Out) {
        if self.record != Record::Idle {
            return;
        }
        let Some(&(_, waiter)) = self.records.front() else {
            return;
        };
        self.waiter = waiter;
        let outstanding = self.write_map(out);
        self.record = Record::Map {
            outstanding,
            failed: None,
        };
        if outstanding == 0 {
            self.map_recorded(Ok(()), out);
        }
    }

    /// Writes the sectors of the bitmap that differ from the disk; how many pieces.
    fn write_map(&mut self, out: &mut Out) -> usize {
        let sector = self.sector_bytes as usize;
        let mut runs: Vec<(u64, u32)> = Vec::new();
        let sectors = self.map.chunks(sector).zip(self.map_on_disk.chunks(sector));
        for (at, (wanted, disk)) in (0u64..).zip(sectors) {
            if wanted == disk {
                continue;
            }
            let offset = at * u64::from(self.sector_bytes);
            let length = u32::try_from(wanted.len()).unwrap_or(0);
            match runs.last_mut() {
                Some(run)
                    if run.0 + u64::from(run.1) == offset && run.1 + length <= RUN_BYTES_MAX =>
                {
                    run.1 += length;
                }
                _ => runs.push((offset, length)),
            }
        }
        for &(offset, length) in &runs {
            let what = DiskOp::MapWrite {
                offset,
                length,
                durable: false,
            };
            out.push(SecondaryAction::Disk {
                op: OpId(OP_MAP),
                what,
            });
        }
        if !runs.is_empty() {
            self.statistics.map_updates += 1;
            self.map_on_disk.copy_from_slice(&self.map);
        }
        runs.len()
    }

    pub(super) fn map_written(&mut self, result: Result<(), Errno>, out: &mut Out) {
        let Record::Map {
            outstanding,
            failed,
        } = self.record
        else {
            unreachable!("the bitmap is written only for a record");
        };
        let (outstanding, failed) = (outstanding - 1, failed.or(result.err()));
        self.record = Record::Map {
            outstanding,
            failed,
        };
        match failed {
            _ if outstanding > 0 => {}
            None if self.metaflush => {
                self.record = Record::MapFlush;
                out.push(SecondaryAction::Disk {
                    op: OpId(OP_MAP_FLUSH),
                    what: DiskOp::Flush,
                });
            }
            None => self.map_recorded(Ok(()), out),
            Some(error) => self.map_recorded(Err(error), out),
        }
    }

    pub(super) fn map_recorded(&mut self, result: Result<(), Errno>, out: &mut Out) {
        let with_meta = self
            .records
            .front()
            .is_some_and(|&(with_meta, _)| with_meta);
        match result {
            Err(error) => {
                self.local_error(FailedOp::Map, 0, 0, error, out);
                // What the disk says now is unknown: the next record writes all of it.
                self.map_on_disk
                    .iter_mut()
                    .zip(&self.map)
                    .for_each(|(disk, &want)| *disk = !want);
                self.recorded(Err(error), out);
            }
            Ok(()) if with_meta => {
                self.record = Record::Meta;
                out.push(SecondaryAction::Disk {
                    op: OpId(OP_META),
                    what: DiskOp::MetaWrite,
                });
            }
            Ok(()) => self.recorded(Ok(()), out),
        }
    }

    pub(super) fn meta_written(&mut self, result: Result<(), Errno>, out: &mut Out) {
        if result.is_ok() && self.metaflush {
            self.record = Record::MetaFlush;
            out.push(SecondaryAction::Disk {
                op: OpId(OP_META_FLUSH),
                what: DiskOp::Flush,
            });
        } else {
            self.recorded(result, out);
        }
    }

    /// A record is on disk, or failed.
    pub(super) fn recorded(&mut self, result: Result<(), Errno>, out: &mut Out) {
        if let Err(error) = result
            && matches!(self.record, Record::Meta | Record::MetaFlush)
        {
            self.local_error(FailedOp::Metadata, 0, 0, error, out);
        }
        self.record = Record::Idle;
        self.records.pop_front();
        match (self.waiter, result) {
            (Waiter::Nobody, _) => {}
            (Waiter::Word { seq } | Waiter::InStep { seq }, result) => {
                // Said again, it is to be recorded again.
                self.meta.inconsistent |=
                    result.is_err() && matches!(self.waiter, Waiter::InStep { .. });
                self.reply(
                    Reply {
                        seq,
                        error: result.err(),
                        received: false,
                    },
                    None,
                    out,
                );
            }
            (Waiter::Handshake, Ok(())) => {
                if self.change(SessionEvent::Recorded) {
                    self.greet(out);
                }
            }
            (Waiter::Handshake, Err(error)) => {
                let reason = LostReason::LocalFailed(error);
                if self.is_connected() {
                    out.push(SecondaryAction::Refuse(reason));
                }
                self.end(reason);
            }
        }
        self.pump_records(out);
    }
}
