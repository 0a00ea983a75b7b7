//! What a primary tells: the log, the events, the answer to `status`.

use std::collections::VecDeque;

use crate::engine::event::{LostReason, Notice, Time};
use crate::engine::primary::PrimaryStatus;
use crate::engine::states::{Link, Local, Sync};
use crate::ipc::{Cause, Event, Level, Status, SyncStatus};
use crate::worker::parent::Parent;
use crate::worker::reasons;

use crate::ctl::size::humanize;

/// Pause between two looks at the progress of a synchronisation, in milliseconds.
const SAMPLE_MS: u64 = 1000;

/// Why it is not connected, if an administrator wants it so.
pub(super) const BY_ORDER: &str = "Disconnected by order of an administrator.";

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
    reason: Option<(String, Cause)>,
    /// When the synchronisation under way began, and how much there was to copy.
    sync: Option<(Time, u64)>,
    /// Bytes that were left, lately.
    samples: VecDeque<(Time, u64)>,
    /// The progress that was told last.
    told: Progress,
}

/// Percent of a synchronisation between two events about its progress.
const PROGRESS_PERCENT: u64 = 10;

/// Time between two of them at least, and after which there is one in any case, in milliseconds.
const PROGRESS_MS: (u64, u64) = (10_000, 300_000);

/// What was told of a synchronisation, and when.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    at: Time,
    percent: u64,
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

/// A line of the log that is an event, too.
fn tell(parent: &mut Parent, level: Level, event: Event, text: String) {
    parent.log(level, text.as_str());
    parent.event(event, text);
}

impl Report {
    pub(super) fn new(peer: String, has_peer: bool, connects: bool, now: Time) -> Report {
        let (reason, cause) = if has_peer && !connects {
            (BY_ORDER, Cause::Asked)
        } else if has_peer {
            ("Not connected yet.", Cause::Starting)
        } else {
            ("There is no remote node.", Cause::NoPeer)
        };
        Report {
            peer,
            connected: false,
            was_connected: false,
            since: now,
            reason: Some((reason.to_owned(), cause)),
            sync: None,
            samples: VecDeque::with_capacity(SAMPLES),
            told: Progress::default(),
        }
    }

    /// An attempt to connect has failed. What was said before is repeated in the debug log only.
    pub(super) fn not_connected(&mut self, parent: &mut Parent, reason: String, cause: Cause) {
        let is_new = self.reason.as_ref().is_none_or(|(old, _)| *old != reason);
        if is_new {
            match cause {
                Cause::SizeMismatch | Cause::IdMismatch | Cause::NoGoodCopy => {
                    parent.event(Event::Mismatch, reason.as_str());
                }
                // There is an event for it already.
                Cause::SplitBrain => {}
                _ => parent.event(Event::ConnectFailed, reason.as_str()),
            }
        }
        self.complain(parent, reason, cause);
    }

    fn complain(&mut self, parent: &mut Parent, reason: String, cause: Cause) {
        let level = match &self.reason {
            Some((old, _)) if *old == reason => Level::Debug(1),
            _ => Level::Warning,
        };
        parent.log(level, reason.as_str());
        self.reason = Some((reason, cause));
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
        parent.event(Event::Connect, format!("Connected to {}.", self.peer));
        (self.connected, self.was_connected) = (true, true);
        self.since = now;
        self.reason = None;
    }

    /// Requests do not travel any more.
    pub(super) fn disconnected(
        &mut self,
        parent: &mut Parent,
        reason: String,
        cause: Cause,
        now: Time,
    ) {
        let text = format!("Disconnected from {}.", self.peer);
        parent.event(Event::Disconnect, format!("{text} {reason}"));
        self.complain(parent, reason, cause);
        parent.log(Level::Warning, text);
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
            Notice::SyncStarted { bytes, from_peer } => {
                let text = format!("Synchronization started. {}B to go.", humanize(bytes));
                parent.log(Level::Info, text.as_str());
                let direction = if from_peer { "from" } else { "to" };
                parent.event(
                    Event::SyncStart,
                    format!("{text} Direction: {direction} the remote node."),
                );
                self.told = Progress {
                    at: now,
                    percent: 0,
                };
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
                    parent.log(Level::Info, text.as_str());
                    parent.event(Event::SyncDone, text);
                } else {
                    parent.event(Event::SyncDone, "Nodes are in sync.");
                }
            }
            Notice::SyncInterrupted => {
                if let Some((_, bytes)) = self.sync.take() {
                    let done = bytes.saturating_sub(status.sync_left_bytes);
                    let text = format!(
                        "Synchronization interrupted. {}B synchronized so far.",
                        humanize(done)
                    );
                    parent.log(Level::Warning, text.as_str());
                    parent.event(Event::SyncIntr, text);
                } else {
                    parent.event(Event::SyncIntr, "Synchronization interrupted.");
                }
            }
            Notice::SplitBrain => {
                let text = reasons::describe(LostReason::SplitBrain);
                parent.event(Event::SplitBrain, text);
            }
            Notice::CountersImpossible => tell(
                parent,
                Level::Warning,
                Event::CountersReset,
                "The counters of the nodes fit no history: everything is synchronized.".to_owned(),
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
            } => tell(
                parent,
                Level::Error,
                Event::DiskError,
                reasons::failed("Local", op, offset, length, error),
            ),
            Notice::RemoteError {
                op,
                offset,
                length,
                error,
            } => tell(
                parent,
                Level::Error,
                Event::PeerError,
                reasons::failed("Remote", op, offset, length, error),
            ),
            Notice::Detached => tell(
                parent,
                Level::Error,
                Event::DiskDetached,
                "The local disk has failed and is no longer used: the remote node serves alone."
                    .to_owned(),
            ),
            Notice::PeerCannotDelete => tell(
                parent,
                Level::Warning,
                Event::PeerLimited,
                "The remote node cannot delete: what is deleted here is synchronized instead."
                    .to_owned(),
            ),
            Notice::PeerCannotFlush => tell(
                parent,
                Level::Warning,
                Event::PeerLimited,
                "The remote node cannot flush its write cache: what it has acknowledged may be \
                 lost if it loses power."
                    .to_owned(),
            ),
        }
    }

    /// When to look at the progress again.
    pub(super) fn due(&self) -> Option<Time> {
        self.sync?;
        self.samples.back().map(|sample| sample.0.plus(SAMPLE_MS))
    }

    /// Looks at the progress, if it is time.
    pub(super) fn sample(
        &mut self,
        parent: &mut Parent,
        now: Time,
        left_bytes: impl FnOnce() -> u64,
    ) {
        if self.due().is_some_and(|due| now >= due) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            let left = left_bytes();
            self.samples.push_back((now, left));
            self.tell_progress(parent, left, now);
        }
    }

    /// An event now and then while a synchronisation goes on.
    fn tell_progress(&mut self, parent: &mut Parent, left: u64, now: Time) {
        let Some((_, total)) = self.sync.filter(|&(_, total)| total > 0) else {
            return;
        };
        let percent = total.saturating_sub(left).saturating_mul(100) / total;
        let (pause_ms, silence_ms) = PROGRESS_MS;
        let elapsed_ms = now.since(self.told.at);
        let is_further = percent / PROGRESS_PERCENT > self.told.percent / PROGRESS_PERCENT;
        if elapsed_ms < pause_ms || !(is_further || elapsed_ms >= silence_ms) {
            return;
        }
        self.told = Progress { at: now, percent };
        let rate = self.rate(now, left);
        let text = format!(
            "{percent} % synchronized, {}B of {}B left, {}B/sec.",
            humanize(left),
            humanize(total),
            humanize(rate)
        );
        parent.event(Event::SyncProgress, text);
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
        let copying = engine.sync != Sync::Idle && left_bytes > 0;
        let sync = (engine.link == Link::Up && (copying || engine.telling)).then(|| {
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
            reason: self.reason.as_ref().map(|(reason, _)| reason.clone()),
            cause: self.reason.as_ref().map(|&(_, cause)| cause),
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
            serving: false,
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
            latencies: Vec::new(),
        }
    }
}
