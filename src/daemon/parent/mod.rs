//! The parent: one thread, one poll loop, no waiting.
//!
//! It owns every resource's [`Entry`], the worker processes, the listener, the control socket, the
//! connections being made, look-ups and hooks. Each round it does what is due ([`Parent::tick`]),
//! waits for a descriptor or a deadline, and gives each descriptor that is ready its turn. What
//! happens to a resource is told to its [`Supervisor`], whose [`Effect`]s it carries out
//! ([`workers`]).

#[cfg_attr(not(target_os = "linux"), path = "blockdev_none.rs")]
mod blockdev;
mod doors;
mod events;
mod orders;
mod peers;
mod promotion;
mod reload;
mod start;
mod state;
mod steer;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use privsep::process::Program;

use super::connect::Connecting;
use super::control::{ConnectionId, Control};
use super::events::{Events, Problem};
use super::hooks::Hooks;
use super::log::{About, DAEMON, Log};
use super::memory::Memory;
use super::names::{Account, Names};
use super::notify::Notify;
use super::options::Options;
use super::pidfile::Pidfile;
use super::session::Sessions;
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::worker::{Worker, WorkerId};
use crate::conf::model::{self, SandboxMode};
use crate::conf::{Config, Identity};
use crate::confinement::Confinement;
use crate::events::Kind;
use crate::ipc::PeerHello;
use crate::terms::Role;
use crate::wire::control::ControlReply;
use blockdev::BlockDevices;
use doors::Doors;
use events::Follower;
use orders::Waiting;
use promotion::Promotion;
use steer::Steering;

pub use start::start;

/// Messages of one child handled before others get their turn.
const MESSAGES_PER_ROUND: usize = 64;

/// A session whose two connections are made.
#[derive(Debug)]
struct Session {
    /// A, from the primary, then B, to it.
    connections: [OwnedFd; 2],
    hello: PeerHello,
}

/// Names an entry; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct EntryId(u64);

/// A resource as the parent holds it.
#[derive(Debug)]
struct Entry {
    id: EntryId,
    conf: model::Resource,
    supervisor: Supervisor,
    /// First connections of sessions.
    sessions: Sessions<OwnedFd>,
    /// The session that waits for a worker.
    session: Option<Session>,
    worker: Option<WorkerId>,
    /// What an administrator has ordered beyond the role.
    steering: Steering,
    /// What was wrong last.
    problem: Option<Problem>,
    /// It is not configured any more, and goes when its worker has gone.
    removed: bool,
}

impl Entry {
    fn new(id: EntryId, conf: model::Resource) -> Entry {
        Entry {
            id,
            conf,
            supervisor: Supervisor::new(),
            sessions: Sessions::default(),
            session: None,
            worker: None,
            steering: Steering::default(),
            problem: None,
            removed: false,
        }
    }

    fn role(&self) -> Role {
        self.supervisor.role()
    }

    fn about(&self) -> About<'_> {
        About::resource(&self.conf.name, self.role())
    }
}

/// What poll(2) watches.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    ControlSocket,
    Control(ConnectionId),
    Worker(WorkerId),
    Listener,
    Connecting(WorkerId),
    /// A look-up; every round looks after all of them.
    Name,
    /// A child that sees to a block device; likewise.
    BlockDevice,
}

/// The daemon.
pub struct Parent {
    options: Options,
    identity: Identity,
    config: Config,
    log: Log,
    /// What the parent has given up itself.
    confinement: Confinement,
    program: Program,
    signals: Signals,
    pidfile: Option<Pidfile>,
    notify: Notify,
    control: Control,
    waiting: BTreeMap<ConnectionId, Waiting>,
    doors: Doors,
    entries: Vec<Entry>,
    workers: BTreeMap<WorkerId, (EntryId, Worker)>,
    /// Workers that execute nothing any more, and that the kernel has not let end yet. On FreeBSD a
    /// process that has closed a disk ends only when the kernel has looked at all disks that are
    /// new or changed, at the device of this very worker too: so the next one has to serve it.
    ghosts: Vec<crate::daemon::child::Process<crate::ipc::ToWorker, crate::ipc::FromWorker>>,
    connecting: BTreeMap<WorkerId, Connecting>,
    names: Names,
    hooks: Hooks,
    /// Resources that are to become primary when their fencing program agrees.
    promotions: BTreeMap<EntryId, Promotion>,
    block_devices: BlockDevices,
    events: Events,
    /// Who waits for events.
    followers: BTreeMap<ConnectionId, Follower>,
    memory: Memory,
    last_id: u64,
    ending: bool,
}

impl Parent {
    /// Serves until a signal or hastctl ends it; returns the exit code.
    pub fn run(mut self) -> u8 {
        loop {
            let now = Instant::now();
            self.tick(now);
            if self.is_over() {
                break;
            }
            let ready = self.wait(now);
            let now = Instant::now();
            for source in ready {
                self.turn(source, now);
            }
        }
        self.finish();
        0
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn account(&self) -> Account {
        Account {
            user: self.config.user.clone(),
            confine: self.config.sandbox == SandboxMode::Require,
        }
    }

    fn entry(&mut self, id: EntryId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// The configured resource of that name.
    fn find(&self, name: &str) -> Option<EntryId> {
        self.entries
            .iter()
            .find(|entry| !entry.removed && entry.conf.name == name)
            .map(|entry| entry.id)
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant) {
        let pending = self.signals.take();
        if pending.terminate {
            self.end(now);
        }
        if pending.child {
            self.reap(now);
        }
        if pending.reload && !self.ending {
            self.reload(now);
        }
        let account = self.account();
        self.names.tick(&self.program, &account, now);
        self.tick_doors(now);
        self.tick_workers(now);
        self.notify.tick(now);
        self.tick_promotions(now);
        self.hooks.tick((&mut self.log, &mut self.events), now);
        self.control.tick(now);
        self.tick_orders(now);
        self.tick_followers(now);
        // Last: whatever happened before may have changed what is wanted.
        self.tick_block_devices(now);
    }

    /// Waits until something can be done, and says what.
    fn wait(&self, now: Instant) -> Vec<Source> {
        let polled = self.polled();
        let timeout = self
            .next_deadline(now)
            .map_or(PollTimeout::NONE, |deadline| {
                let left = deadline.saturating_duration_since(now);
                // Rounded up, lest the last millisecond be spent spinning.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
        let mut descriptors: Vec<PollFd<'_>> = polled
            .iter()
            .map(|(_, descriptor, events)| PollFd::new(*descriptor, *events))
            .collect();
        if poll(&mut descriptors, timeout).is_err() {
            // Interrupted by a signal, whose flag is set; anything else passes, too.
            return Vec::new();
        }
        polled
            .iter()
            .zip(&descriptors)
            .filter(|(_, descriptor)| descriptor.any().unwrap_or(true))
            .map(|((source, ..), _)| *source)
            .collect()
    }

    fn polled(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let read = PollFlags::POLLIN;
        let both = PollFlags::POLLIN | PollFlags::POLLOUT;
        let channel = |wants_write| if wants_write { both } else { read };
        let mut polled = vec![(Source::Signals, self.signals.as_fd(), read)];
        if !self.ending {
            polled.push((Source::ControlSocket, self.control.listening(), read));
        }
        for (id, socket, direction) in self.control.polled() {
            let events = match direction {
                Some(true) => PollFlags::POLLOUT,
                Some(false) => read,
                None => PollFlags::empty(),
            };
            polled.push((Source::Control(id), socket, events));
        }
        for (&id, (_, worker)) in &self.workers {
            if let Some((socket, wants_write)) = worker.process.polled() {
                polled.push((Source::Worker(id), socket, channel(wants_write)));
            }
        }
        if let Some((socket, wants_write)) = self.doors.polled() {
            polled.push((Source::Listener, socket, channel(wants_write)));
        }
        for (&id, connecting) in &self.connecting {
            if let Some(socket) = connecting.polled() {
                polled.push((Source::Connecting(id), socket, PollFlags::POLLOUT));
            }
        }
        for socket in self.names.polled() {
            polled.push((Source::Name, socket, read));
        }
        for (socket, wants_write) in self.block_devices.polled() {
            polled.push((Source::BlockDevice, socket, channel(wants_write)));
        }
        polled
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let entries = self.entries.iter().flat_map(|entry| {
            let supervisor = entry.supervisor.next_deadline();
            supervisor.into_iter().chain(entry.sessions.next_deadline())
        });
        let workers = self
            .workers
            .values()
            .filter_map(|(_, worker)| worker.process.next_deadline(now));
        let connecting = self.connecting.values().map(Connecting::next_deadline);
        let waiting = self.waiting.values().filter_map(Waiting::deadline);
        let promotions = self.promotions.values().map(Promotion::deadline);
        let followers = self.followers.values().map(Follower::deadline);
        let others = [
            self.control.next_deadline(),
            self.doors.next_deadline(now),
            self.names.next_deadline(now),
            self.hooks.next_deadline(),
            self.notify.next_deadline(),
            self.block_devices.next_deadline(now),
        ];
        entries
            .chain(workers)
            .chain(connecting)
            .chain(waiting)
            .chain(promotions)
            .chain(followers)
            .chain(others.into_iter().flatten())
            .min()
    }

    /// Gives a descriptor that is ready its turn.
    fn turn(&mut self, source: Source, now: Instant) {
        match source {
            // Every round looks after these.
            Source::Signals | Source::Name | Source::BlockDevice => {}
            Source::ControlSocket => self.control.accept(now),
            Source::Control(id) => self.hear_control(id, now),
            Source::Worker(id) => self.hear_worker(id, now),
            Source::Listener => self.hear_listener(now),
            Source::Connecting(id) => self.connect_on(id, true, now),
        }
    }

    /// Begins the end of the daemon.
    fn end(&mut self, now: Instant) {
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        self.log
            .info(DAEMON, "Termination signal received, exiting.");
        self.note(Kind::DaemonStop, "The daemon ends.", now);
        self.notify.stopping();
        // Nobody can reach a daemon that ends; its pidfile stays until its workers are gone.
        self.control.remove();
        self.doors.close(now);
        self.names.shut_down(now);
        for (entry, worker) in self.workers.values() {
            let role = self
                .entries
                .iter()
                .find(|other| other.id == *entry)
                .map_or(Role::Init, Entry::role);
            self.log.info(
                DAEMON,
                format_args!(
                    "Terminating worker process (resource={}, role={}, pid={}).",
                    worker.resource,
                    role.as_str(),
                    worker.process.pid()
                ),
            );
        }
        let ids: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        for id in ids {
            self.take_back_promotion(id, "The daemon is ending.", now);
            self.detach_device(id);
            self.with_supervisor(id, now, |supervisor| {
                supervisor.close("The daemon is ending.", now)
            });
        }
    }

    /// Whether nothing is left to wait for.
    fn is_over(&self) -> bool {
        self.ending
            && self.workers.is_empty()
            && self.doors.is_gone()
            && self.block_devices.is_idle()
    }

    fn finish(&mut self) {
        let now = Instant::now();
        let stops: VecDeque<(ConnectionId, ControlReply)> = self.stop_replies();
        for (id, reply) in stops {
            self.control.reply(id, &reply, now);
        }
        if let Some(pidfile) = self.pidfile.take() {
            let path = pidfile.path().to_owned();
            if let Err(error) = pidfile.remove() {
                self.log.warning(
                    DAEMON,
                    format_args!("Unable to remove pidfile {}: {error}.", path.display()),
                );
            }
        }
    }
}
