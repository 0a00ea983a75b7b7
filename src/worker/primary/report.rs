//! What a primary tells: the log, the events, the answer to `status`.

use std::collections::VecDeque;

use crate::engine::event::{Notice, Time};
use crate::engine::primary::PrimaryStatus;
use crate::engine::states::{Link, Local, Sync};
use crate::ipc::{Event, Level, Status, SyncStatus};
use crate::worker::parent::Parent;
use crate::worker::reasons;

use crate::ctl::size::humanize;

/// Pause between two looks at the progress of a synchronisation, in milliseconds.
const SAMPLE_MS: u64 = 1000;

/// Looks that are remembered: the rate is that of the last ten seconds.
const SAMPLES: usize = 11;

/// What was told, and since when.
pub(super) struct Report {
    /// The peer's address, for messages.
    pub(super) peer: String,
    connected: bool,
    was_connected: bool,
    since: Time,
    /// Why it is not connected.
    reason: Option<String>,
    /// When the synchronisation under way began, and how much there was to copy.
    sync: Option<(Time, u64)>,
    /// Bytes that were left, lately.
    samples: VecDeque<(Time, u64)>,
}

/// Numbers that the engine does not know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queues {
    /// Requests that may still be handed in.
    pub(super) free: u64,
    /// Operations on the local disk.
    pub(super) local: u64,
    /// Bytes of packets wait to be sent.
    pub(super) send: u64,
    /// Requests that the peer has not answered.
    pub(super) receive: u64,
}

impl Report {
    pub(super) fn new(peer: String, has_peer: bool, now: Time) -> Report {
        let reason = if has_peer {
            "Not connected yet."
        } else {
            "There is no remote node."
        };
        Report {
            peer,
            connected: false,
            was_connected: false,
            since: now,
            reason: Some(reason.to_owned()),
            sync: None,
            samples: VecDeque::with_capacity(SAMPLES),
        }
    }

    /// An attempt to connect, or the connection, has failed. What was said before is repeated in
    /// the debug log only.
    pub(super) fn complain(&mut self, parent: &mut Parent, reason: String) {
        let level = if self.reason.as_ref() == Some(&reason) {
            Level::Debug(1)
        } else {
            Level::Warning
        };
        parent.log(level, reason.as_str());
        self.reason = Some(reason);
    }

    /// Requests travel.
    pub(super) fn connected(&mut self, parent: &mut Parent, status: &PrimaryStatus, now: Time) {
        parent.log(Level::Info, format!("Connected to {}.", self.peer));
        if self.was_connected {
            let text = format!("Successfully reconnected to {}.", self.peer);
            parent.log(Level::Info, text);
        }
        if status.sync_left_bytes == 0 {
            parent.log(Level::Info, "Nodes are in sync.");
        }
        parent.event(Event::Connect);
        (self.connected, self.was_connected) = (true, true);
        self.since = now;
        self.reason = None;
    }

    /// Requests do not travel any more.
    pub(super) fn disconnected(&mut self, parent: &mut Parent, reason: String, now: Time) {
        self.complain(parent, reason);
        let text = format!("Disconnected from {}.", self.peer);
        parent.log(Level::Warning, text);
        parent.event(Event::Disconnect);
        self.connected = false;
        self.since = now;
    }

    /// What the engine tells, but for the connection.
    pub(super) fn notice(
        &mut self,
        parent: &mut Parent,
        notice: Notice,
        status: &PrimaryStatus,
        now: Time,
    ) {
        match notice {
            Notice::Connected | Notice::Disconnected(_) => {}
            Notice::SyncStarted { bytes, .. } => {
                let text = format!("Synchronization started. {}B to go.", humanize(bytes));
                parent.log(Level::Info, text);
                parent.event(Event::SyncStart);
                self.sync = Some((now, bytes));
                self.samples.clear();
                self.samples.push_back((now, bytes));
            }
            Notice::SyncDone => {
                if let Some((since, bytes)) = self.sync.take() {
                    let elapsed_ms = now.since(since);
                    let rate = bytes.saturating_mul(1000) / elapsed_ms.max(1);
                    let text = format!(
                        "Synchronization complete. {}B synchronized in {} ({}B/sec).",
                        humanize(bytes),
                        reasons::duration(elapsed_ms / 1000),
                        humanize(rate)
                    );
                    parent.log(Level::Info, text);
                }
                parent.event(Event::SyncDone);
            }
            Notice::SyncInterrupted => {
                if let Some((_, bytes)) = self.sync.take() {
                    let done = bytes.saturating_sub(status.sync_left_bytes);
                    let text = format!(
                        "Synchronization interrupted. {}B synchronized so far.",
                        humanize(done)
                    );
                    parent.log(Level::Warning, text);
                }
                parent.event(Event::SyncIntr);
            }
            Notice::SplitBrain => parent.event(Event::SplitBrain),
            Notice::CountersImpossible => parent.log(
                Level::Warning,
                "The counters of the nodes fit no history: everything is synchronized.",
            ),
            Notice::LocalcntBumped(localcnt) => {
                parent.log(
                    Level::Debug(1),
                    format!("Increasing localcnt to {localcnt}."),
                );
            }
            Notice::CountersAgreed {
                localcnt,
                remotecnt,
            } => parent.log(
                Level::Debug(1),
                format!("Setting localcnt to {localcnt} and remotecnt to {remotecnt}."),
            ),
            Notice::LocalError {
                op,
                offset,
                length,
                error,
            } => parent.log(
                Level::Error,
                reasons::failed("Local", op, offset, length, error),
            ),
            Notice::RemoteError {
                op,
                offset,
                length,
                error,
            } => parent.log(
                Level::Error,
                reasons::failed("Remote", op, offset, length, error),
            ),
            Notice::Detached => parent.log(
                Level::Error,
                "The local disk has failed and is no longer used: the remote node serves alone.",
            ),
            Notice::PeerCannotDelete => parent.log(
                Level::Warning,
                "The remote node cannot delete: what is deleted here is synchronized instead.",
            ),
            Notice::PeerCannotFlush => parent.log(
                Level::Warning,
                "The remote node cannot flush its write cache: what it has acknowledged may be \
                 lost if it loses power.",
            ),
        }
    }

    /// When to look at the progress again.
    pub(super) fn due(&self) -> Option<Time> {
        self.sync?;
        self.samples.back().map(|sample| sample.0.plus(SAMPLE_MS))
    }

    /// Looks at the progress, if it is time.
    pub(super) fn sample(&mut self, now: Time, left_bytes: impl FnOnce() -> u64) {
        if self.due().is_some_and(|due| now >= due) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((now, left_bytes()));
        }
    }

    /// Bytes per second, lately; with what is left now.
    fn rate(&self, now: Time, left_bytes: u64) -> u64 {
        let Some(&(then, before)) = self.samples.front() else {
            return 0;
        };
        let elapsed_ms = now.since(then);
        if elapsed_ms == 0 {
            return 0;
        }
        before.saturating_sub(left_bytes).saturating_mul(1000) / elapsed_ms
    }

    /// The answer to `status`.
    pub(super) fn status(
        &self,
        engine: &PrimaryStatus,
        sizes: (u32, u32),
        queues: Queues,
        now: Time,
    ) -> Status {
        let left_bytes = engine.sync_left_bytes;
        let sync =
            (engine.link == Link::Up && engine.sync != Sync::Idle && left_bytes > 0).then(|| {
                let rate = self.rate(now, left_bytes);
                SyncStatus {
                    from_peer: engine.from_peer,
                    paused: engine.paused,
                    total_bytes: engine.sync_total_bytes,
                    left_bytes,
                    rate,
                    limit: engine.sync_limit,
                    eta_s: (rate > 0 && !engine.paused).then(|| left_bytes.div_ceil(rate.max(1))),
                }
            });
        let counted = engine.statistics;
        Status {
            connected: self.connected,
            reason: self.reason.clone(),
            since_s: now.since(self.since) / 1000,
            dirty_bytes: engine.dirty_bytes,
            extentsize: sizes.0,
            keepdirty: sizes.1,
            disk: match engine.local {
                Local::Good => "good",
                Local::Stale => "stale",
                Local::Detaching | Local::Detached => "detached",
                Local::Dead => "failed",
            }
            .to_owned(),
            sync,
            reads: counted.reads,
            writes: counted.writes,
            deletes: counted.deletes,
            flushes: counted.flushes,
            map_updates: counted.map_updates,
            errors: [
                counted.read_errors,
                counted.write_errors,
                counted.delete_errors,
                counted.flush_errors,
            ],
            queues: [queues.free, queues.local, queues.send, queues.receive, 0],
        }
    }
}
