//! Workers: what their resources' supervisors decide is done here, and what they say is heard.

use std::collections::VecDeque;
use std::time::Instant;

use nix::sys::signal::Signal;
use privsep::supervise::Ending;

use super::{EntryId, MESSAGES_PER_ROUND, Parent};
use crate::conf::model::{self, Address, SandboxMode};
use crate::daemon::child::Insistence;
use crate::daemon::hooks::event_name;
use crate::daemon::log::{About, Pass};
use crate::daemon::supervisor::{Effect, Kind, Supervisor};
use crate::daemon::worker::{Worker, WorkerId};
use crate::events::Kind as EventKind;
use crate::ipc::{
    EXIT_REFUSED, Event, FromWorker, Incomplete, Level, PeerHello, Settings, Start, Task,
};
use crate::terms::Role;
use crate::wire::control::ControlError;

/// The parameters that may change while a worker runs.
pub(super) fn settings(entry: &super::Entry) -> Settings {
    let conf = &entry.conf;
    Settings {
        replication: conf.replication,
        checksum: conf.checksum,
        compression: conf.compression,
        timeout_s: conf.timeout_s,
        metaflush: conf.metaflush,
        sync_rate: entry.sync_rate(),
        sync_paused: entry.steering.sync_paused,
        connect: !entry.steering.disconnected,
    }
}

/// The peer's address as configured.
pub(super) fn peer_address(conf: &model::Resource) -> String {
    conf.remote
        .as_ref()
        .map_or_else(|| "none".to_owned(), Address::to_string)
}

/// Exit codes of a secondary's worker whose session has ended: the connection is gone, or was
/// refused.
const EX_TEMPFAIL: i32 = 75;
const EX_CONFIG: i32 = 78;

/// What an event of a worker is called.
fn event_kind(event: Event) -> EventKind {
    match event {
        Event::Connect => EventKind::Connect,
        Event::Disconnect => EventKind::Disconnect,
        Event::SyncStart => EventKind::SyncStart,
        Event::SyncDone => EventKind::SyncDone,
        Event::SyncIntr => EventKind::SyncInterrupted,
        Event::SplitBrain => EventKind::SplitBrain,
        Event::ConnectFailed => EventKind::ConnectFailed,
        Event::Mismatch => EventKind::Mismatch,
        Event::SyncProgress => EventKind::SyncProgress,
        Event::CountersReset => EventKind::CountersReset,
        Event::DiskError => EventKind::DiskError,
        Event::PeerError => EventKind::PeerError,
        Event::DiskDetached => EventKind::DiskDetached,
        Event::PeerLimited => EventKind::PeerLimited,
    }
}

/// What the failure of a worker is called, by the exit status that it announces.
fn failure_kind(status: u8) -> EventKind {
    match status {
        66 => EventKind::DiskUnusable,
        EXIT_REFUSED => EventKind::CopyIncomplete,
        _ => EventKind::WorkerFailed,
    }
}

impl Parent {
    /// Tells a resource's supervisor something and does what it decides.
    pub(super) fn with_supervisor(
        &mut self,
        id: EntryId,
        now: Instant,
        tell: impl FnOnce(&mut Supervisor) -> Vec<Effect>,
    ) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        let mut effects: VecDeque<Effect> = tell(&mut entry.supervisor).into();
        while let Some(effect) = effects.pop_front() {
            effects.extend(self.apply(id, effect, now));
        }
    }

    /// Does what a supervisor decided; what follows from that at once.
    fn apply(&mut self, id: EntryId, effect: Effect, now: Instant) -> Vec<Effect> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return Vec::new();
        };
        match effect {
            Effect::Start(kind) => return self.start_worker(id, kind, now),
            Effect::Stop => {
                if let Some((_, worker)) = entry.worker.and_then(|id| self.workers.get_mut(&id)) {
                    worker.stop(now);
                }
            }
            Effect::DropSessions => {
                entry.sessions.clear();
                entry.session = None;
            }
            Effect::Changed { from, to } => {
                entry.steering.end_of_role();
                let about = About::resource(&entry.conf.name, from);
                let text = format!("Role changed to {}.", to.as_str());
                self.log.info(about, text);
                let text = format!("Role changed from {} to {}.", from.as_str(), to.as_str());
                self.note_of(id, EventKind::Role, &text, now);
                self.detach_device(id);
                self.run_role_hook(id, from, to, now);
            }
            Effect::FellBack { from, to } => {
                entry.steering.end_of_role();
                let about = About::resource(&entry.conf.name, from);
                let text = format!("Changing resource role back to {}.", to.as_str());
                self.log.info(about, text);
                let reason = entry.supervisor.failure().unwrap_or_default();
                let text = format!(
                    "Role changed from {} back to {}: {reason}",
                    from.as_str(),
                    to.as_str()
                );
                self.note_of(id, EventKind::RoleLost, &text, now);
                self.detach_device(id);
                self.run_role_hook(id, from, to, now);
            }
            Effect::RestartsIn(delay) => {
                let text = format!("Restarting worker process in {} s.", delay.as_secs());
                self.say(id, EventKind::WorkerRestart, &text, now);
            }
            Effect::Answer(ticket, result) => {
                let number = if entry.supervisor.was_refused() {
                    ControlError::NEEDS_FORCE
                } else {
                    ControlError::ROLE_NOT_TAKEN
                };
                let result = result.map_err(|reason| (number, reason));
                self.answer_ticket(ticket, result, now);
            }
        }
        Vec::new()
    }

    fn run_role_hook(&mut self, id: EntryId, from: Role, to: Role, now: Instant) {
        self.run_hook(id, &["role"], &[from.as_str(), to.as_str()], now);
    }

    /// Runs the resource's hook: words, its name, further words.
    fn run_hook(&mut self, id: EntryId, before: &[&str], after: &[&str], now: Instant) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        if let Some(program) = entry.conf.exec.clone() {
            let name = entry.conf.name.as_str();
            let arguments = before.iter().chain([&name]).chain(after);
            let arguments = arguments.map(|&word| word.to_owned()).collect();
            let owner = (name.to_owned(), entry.role());
            let journals = (&mut self.log, &mut self.events);
            self.hooks.run(owner, program, arguments, journals, now);
        }
    }

    fn start_worker(&mut self, id: EntryId, kind: Kind, now: Instant) -> Vec<Effect> {
        let number = WorkerId(self.next_id());
        let account = self.account();
        let devices = self.config.devices.clone();
        let debug = self.log.debug_level();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return Vec::new();
        };
        let (hello, connections): (Option<PeerHello>, Vec<_>) = match kind {
            Kind::Primary | Kind::Check => (None, Vec::new()),
            Kind::Secondary => match entry.session.take() {
                Some(session) => (Some(session.hello), session.connections.into()),
                // Its connections were dropped in between: there is nothing to serve.
                None => {
                    let reason = "The session has gone.".to_owned();
                    return entry.supervisor.start_failed(reason, now);
                }
            },
        };
        let conf = &entry.conf;
        let start = Start {
            task: match kind {
                Kind::Primary => Task::Primary {
                    incomplete: if entry.supervisor.has_served() {
                        Incomplete::Resume
                    } else if entry.steering.forced {
                        Incomplete::Use
                    } else {
                        Incomplete::Refuse
                    },
                },
                Kind::Secondary => Task::Secondary,
                Kind::Check => Task::Check(Role::Secondary),
            },
            resource: conf.name.clone(),
            provname: conf.provname.clone(),
            local: conf.local.clone(),
            devices,
            settings: settings(entry),
            has_peer: conf.remote.is_some(),
            peer_address: peer_address(conf),
            debug,
            user: account.user,
            confine: account.confine,
            driver: self.config.driver,
            hello,
        };
        match Worker::start(&self.program, number, kind, start, connections, now) {
            Ok(worker) => {
                let text = format!("Worker process started (pid={}).", worker.process.pid());
                self.log.debug(1, entry.about(), &text);
                entry.worker = Some(number);
                self.workers.insert(number, (id, worker));
                if kind != Kind::Check {
                    self.note_of(id, EventKind::WorkerStart, &text, now);
                }
                Vec::new()
            }
            Err(reason) => {
                let text = format!("Unable to start worker process: {reason}.");
                self.log.error(entry.about(), &text);
                let effects = entry.supervisor.start_failed(text.clone(), now);
                self.note_of(id, EventKind::WorkerFailed, &text, now);
                effects
            }
        }
    }

    /// Goes on with workers that are to end, with connections, sessions and decisions.
    pub(super) fn tick_workers(&mut self, now: Instant) {
        let mut let_go = Vec::new();
        for (&id, (entry, worker)) in &mut self.workers {
            let Some(insistence) = worker.process.tick(now) else {
                continue;
            };
            let role = self
                .entries
                .iter()
                .find(|other| other.id == *entry)
                .map_or(Role::Init, super::Entry::role);
            let about = About::resource(&worker.resource, role);
            let pid = worker.process.pid();
            match insistence {
                Insistence::Signalled(signal) => self.log.warning(
                    about,
                    format_args!("Worker process {pid} does not end: sending it {signal}."),
                ),
                Insistence::Stuck if worker.process.has_let_go() => {
                    let_go.push(id);
                    self.log.warning(
                        about,
                        format_args!("Worker process {pid} is held by the system at its end."),
                    );
                }
                Insistence::Stuck => self.log.error(
                    about,
                    format_args!(
                        "Worker process {pid} does not end even by SIGKILL: the system holds it, \
                         most likely in an operation on its disk."
                    ),
                ),
            }
        }
        for id in let_go {
            let ending = Ending::Killed {
                signal: Signal::SIGKILL,
                core: false,
            };
            self.worker_ended(id, ending, now);
        }
        let connecting: Vec<WorkerId> = self.connecting.keys().copied().collect();
        for id in connecting {
            self.connect_on(id, false, now);
        }
        let ids: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        for id in ids {
            if let Some(entry) = self.entry(id) {
                entry.sessions.expire(now);
            }
            self.with_supervisor(id, now, |supervisor| supervisor.tick(now));
        }
        self.forget_removed(now);
    }

    /// Hears what a worker has to say.
    pub(super) fn hear_worker(&mut self, id: WorkerId, now: Instant) {
        for _ in 0..MESSAGES_PER_ROUND {
            if !self.hear_message(id, now) {
                return;
            }
        }
    }

    /// Hears one message; false if there is none.
    fn hear_message(&mut self, id: WorkerId, now: Instant) -> bool {
        let Some((entry, worker)) = self.workers.get_mut(&id) else {
            return false;
        };
        let entry = *entry;
        match worker.receive(now) {
            Ok(None) => return false,
            Ok(Some(message)) => self.obey(entry, id, message, now),
            Err(what) => {
                let role = self.entry(entry).map_or(Role::Init, |entry| entry.role());
                if let Some((_, worker)) = self.workers.get(&id) {
                    let text = format!(
                        "Worker process misbehaves and is killed (pid={}): {what}.",
                        worker.process.pid()
                    );
                    self.log
                        .error(About::resource(&worker.resource, role), &text);
                    self.note_of(entry, EventKind::WorkerFailed, &text, now);
                }
                return false;
            }
        }
        true
    }

    fn obey(&mut self, entry: EntryId, id: WorkerId, message: FromWorker, now: Instant) {
        match message {
            FromWorker::Ready(_) => {
                self.with_supervisor(entry, now, |supervisor| supervisor.ready(now));
                if self
                    .workers
                    .get(&id)
                    .is_some_and(|(_, worker)| worker.kind == Kind::Primary)
                {
                    self.attach_device(entry);
                }
                self.report_confinement(entry, id);
            }
            FromWorker::Failed { reason, status } => {
                let reason = crate::daemon::log::sanitised(&reason);
                self.note_of(entry, failure_kind(status), &reason, now);
                self.write_for_worker(entry, id, Level::Error, &reason, now);
                self.with_supervisor(entry, now, |supervisor| {
                    supervisor.failed(reason, status == EXIT_REFUSED);
                    Vec::new()
                });
            }
            FromWorker::Connect => self.begin_connect(entry, id, now),
            FromWorker::Log { level, text } => {
                self.write_for_worker(entry, id, level, &text, now);
            }
            FromWorker::Event { event, details } => {
                self.worker_event(entry, id, event, &details, now);
            }
            FromWorker::Status(_) => self.status_came(id, now),
        }
    }

    /// Says what of the confinement is missing where the administrator accepts that.
    fn report_confinement(&mut self, entry: EntryId, id: WorkerId) {
        let demanded = self.config.sandbox == SandboxMode::Require;
        let Some((_, worker)) = self.workers.get(&id) else {
            return;
        };
        let Some(entry) = self.entries.iter().find(|other| other.id == entry) else {
            return;
        };
        if let Some(ready) = &worker.ready
            && !ready.confinement.missing.is_empty()
            && !demanded
        {
            let missing = ready.confinement.missing.join(", ");
            self.log
                .warning(entry.about(), format_args!("Not confined by {missing}."));
        }
    }

    /// A line of a worker, with its resource in front, bounded in number.
    fn write_for_worker(
        &mut self,
        entry: EntryId,
        id: WorkerId,
        level: Level,
        text: &str,
        now: Instant,
    ) {
        // Lines that are not shown do not count.
        if matches!(level, Level::Debug(wanted) if wanted > self.log.debug_level()) {
            return;
        }
        let Some((_, worker)) = self.workers.get_mut(&id) else {
            return;
        };
        let Some(entry) = self.entries.iter().find(|other| other.id == entry) else {
            return;
        };
        // In the role that it was started for, whatever was ordered since.
        let role = match worker.kind {
            Kind::Primary => Role::Primary,
            Kind::Secondary | Kind::Check => Role::Secondary,
        };
        let about = About::resource(&entry.conf.name, role);
        match worker.throttle.pass(now) {
            Pass::Drop => return,
            Pass::Write => {}
            Pass::WriteAfterLoss(lost) => self.log.warning(
                about,
                format_args!("{lost} messages of the worker were dropped."),
            ),
        }
        self.log.write(level, about, text);
    }

    fn worker_event(
        &mut self,
        entry: EntryId,
        id: WorkerId,
        event: Event,
        details: &str,
        now: Instant,
    ) {
        let Some((_, worker)) = self.workers.get_mut(&id) else {
            return;
        };
        // Hooks are bounded as lines are: a flood of events runs nothing.
        if worker.throttle.pass(now) == Pass::Drop {
            return;
        }
        self.note_of(entry, event_kind(event), details, now);
        if let Some(name) = event_name(event) {
            self.run_hook(entry, &[name], &[], now);
        }
    }

    /// Looks for children that have ended.
    pub(super) fn reap(&mut self, now: Instant) {
        self.hooks.reap((&mut self.log, &mut self.events), now);
        self.reap_listener(now);
        self.ghosts.retain_mut(|ghost| ghost.ending().is_none());
        let ended: Vec<(WorkerId, Ending)> = self
            .workers
            .iter_mut()
            .filter_map(|(&id, (_, worker))| worker.process.ending().map(|ending| (id, ending)))
            .collect();
        for (id, ending) in ended {
            // Its last words come first; they are bounded by the socket's buffer.
            while self.hear_message(id, now) {}
            self.worker_ended(id, ending, now);
        }
    }

    fn worker_ended(&mut self, id: WorkerId, ending: Ending, now: Instant) {
        let Some((entry, mut worker)) = self.workers.remove(&id) else {
            return;
        };
        self.connecting.remove(&id);
        let role = match self.entry(entry) {
            Some(entry) => {
                entry.worker = None;
                entry.role()
            }
            None => Role::Init,
        };
        let about = About::resource(&worker.resource, role);
        let pid = worker.process.pid();
        let (is_good, text) = match ending {
            _ if worker.process.was_told_to_end() => {
                (true, format!("Worker process {pid} stopped."))
            }
            Ending::Exited(0) => (
                true,
                format!("Worker process exited gracefully (pid={pid})."),
            ),
            Ending::Exited(code) => (
                false,
                format!("Worker process exited ungracefully (pid={pid}, exitcode={code})."),
            ),
            Ending::Killed { signal, .. } => (
                false,
                format!(
                    "Worker process killed (pid={pid}, signal={}): {ending}.",
                    signal as i32
                ),
            ),
            Ending::Unknown => (false, format!("Worker process {ending} (pid={pid}).")),
        };
        if is_good {
            self.log.debug(1, about, &text);
            if worker.kind != Kind::Check {
                self.note_of(entry, EventKind::WorkerExit, &text, now);
            }
        } else {
            self.log.error(about, &text);
            // A session that ends ends its worker, as it should, and was told of already.
            let kind = match (worker.kind, ending) {
                (Kind::Secondary, Ending::Exited(EX_TEMPFAIL | EX_CONFIG)) => EventKind::WorkerExit,
                _ => EventKind::WorkerFailed,
            };
            self.note_of(entry, kind, &text, now);
        }
        if worker.process.ending().is_none() {
            self.ghosts.push(worker.process);
        }
        self.worker_gone(id, now);
        self.with_supervisor(entry, now, |supervisor| supervisor.ended(ending, now));
    }
}
