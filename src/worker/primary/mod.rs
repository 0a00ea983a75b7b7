//! A primary: the device in front, the engine in the middle, the local disk and the peer behind;
//! everything on one thread but the disk's system calls.
//!
//! Each round of the loop waits once, hands everything that has happened to the engine, executes
//! what the engine wants, and then sends what has gathered with one system call per connection.
//!
//! * [`connector`]: when to connect, as a state machine;
//! * [`peer`]: the connections;
//! * [`report`]: log, events, status.

mod connector;
mod peer;
mod report;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use self::connector::Connector;
use self::peer::Peer;
use self::report::{Queues, Report};
use super::blocks::Encoder;
use super::clock::Clock;
use super::component::{self, Component, Local};
use super::device;
use super::exit::{self, Failure};
use super::parent::{Parent, Word};
use super::{confine, driver, tokens};
use crate::device::FrontEnd;
use crate::engine::event::{
    AppOp, AppRequest, BufId, LostReason, Notice, Parameters, PrimaryAction, PrimaryEvent, Time,
};
use crate::engine::primary::{Primary, PrimaryConfig};
use crate::io::pool::Pool;
use crate::io::proactor::{Completion, Done, Proactor, Slot, SocketIo};
use crate::ipc::{FromWorker, Incomplete, Level, Ready, Settings, Start, ToWorker};
use crate::latency::{Meter, Op, Stage};
use crate::terms::{REQUEST_BYTES_MAX, system_reason};

/// Requests of the application, and parts of larger ones, that the engine has at most.
const REQUESTS_MAX: u32 = 1024;

/// Blocks of a synchronisation in flight.
const SYNC_BLOCKS: usize = 8;

/// How long the end may take once the parent is gone, in milliseconds.
const ORPHANED_MS: u64 = 5000;

/// How long clients may take to receive their last replies, in milliseconds.
const LAST_REPLIES_MS: u64 = 2000;

/// Pause before a message to a busy parent is tried again, in milliseconds.
const BEHIND_MS: u64 = 20;

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not in sight.
    Serving,
    /// The engine finishes what it has, until then at most.
    Stopping { until: Option<Time>, status: u8 },
    /// The engine has stopped; clients receive their last replies.
    Stopped { until: Time, status: u8 },
}

/// The worker.
struct Worker<'p> {
    parent: &'p mut Parent,
    channel: Slot,
    clock: Clock,
    now: Time,
    io: Box<dyn Proactor>,
    pool: Pool,
    engine: Primary,
    /// Reused.
    actions: Vec<PrimaryAction>,
    local: Local,
    front: Box<dyn FrontEnd>,
    /// Buffers of the application's requests, by their number.
    bufs: Vec<Option<BufId>>,
    peer: Peer,
    report: Report,
    meter: Meter,
    resource: String,
    settings: Settings,
    has_peer: bool,
    /// Extent size in bytes, and how many extents stay dirty.
    sizes: (u32, u32),
    end: End,
    /// What the front end was told of the local copy.
    copy_is_good: bool,
}

/// Serves as primary until the end; returns the exit status.
///
/// # Errors
/// The role cannot be taken.
pub(super) fn run(
    parent: &mut Parent,
    start: &Start,
    incomplete: Incomplete,
) -> Result<u8, Failure> {
    let (mut worker, ready) = Worker::new(parent, start, incomplete)?;
    worker.parent.send(FromWorker::Ready(Box::new(ready)));
    Ok(worker.serve())
}

fn parameters(settings: &Settings) -> Parameters {
    Parameters {
        replication: settings.replication,
        timeout_ms: u64::from(settings.timeout_s).saturating_mul(1000),
        metaflush: settings.metaflush,
        sync_rate: settings.sync_rate,
    }
}

/// A number that nobody can guess, not 0.
fn fresh_resuid() -> Result<u64, Failure> {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::new(exit::OSERR, format!("Unable to get random bytes: {error}."))
        })?;
        match u64::from_le_bytes(bytes) {
            0 => {}
            resuid => return Ok(resuid),
        }
    }
}

impl<'p> Worker<'p> {
    /// Opens everything, then gives up what is needed for that.
    fn new(
        parent: &'p mut Parent,
        start: &Start,
        incomplete: Incomplete,
    ) -> Result<(Worker<'p>, Ready), Failure> {
        let role = crate::terms::Role::Primary;
        let component = super::open_component(parent, start, role, incomplete)?;
        let fresh_resuid = fresh_resuid()?;
        let sector_bytes = component.sector_bytes();
        let Component {
            provider,
            metadata,
            map,
            ..
        } = component;
        // After the local component, that it goes first if something fails: on FreeBSD who closes
        // a disk waits until the kernel has looked at all new ones, at this device, too.
        let device = device::open(parent, start, &metadata, sector_bytes)?;
        let path = device.path();

        let held = [
            (provider.as_fd(), confine::LOCAL_COMPONENT),
            (parent.as_fd(), confine::CHANNEL),
            device.held(),
        ];
        let mut confinement = confine::prepare(start, role, &held)?;
        let pool = driver::pool()?;
        let driver = driver::start(&pool, start.driver)?;
        confinement.drives(driver.is);
        let mut io = driver.io;
        let front = device.serve(&mut *io, &pool, start, metadata.datasize, REQUESTS_MAX)?;
        let confinement = confinement.seal()?;
        parent.log(Level::Info, "Privileges successfully dropped.");
        let instead = driver.instead.map_or_else(String::new, |reason| {
            format!(" instead of uring ({reason})")
        });
        let text = format!("Driver {}{instead}.", driver.is.as_str());
        parent.log(Level::Debug(1), text);

        let clock = Clock::new();
        let now = clock.now();
        let ready = Ready {
            confinement,
            datasize: metadata.datasize,
            extentsize: metadata.extentsize,
            keepdirty: metadata.keepdirty,
            device: Some(path),
            driver: driver.is,
        };
        let local = Local::attach(&mut *io, provider, &metadata, tokens::DISK)?;
        let channel = parent
            .descriptor()
            .and_then(|channel| io.attach_socket(channel))
            .map_err(|error| driver::failed(&error))?;
        let buffer = || {
            pool.alloc(REQUEST_BYTES_MAX)
                .unwrap_or_else(|| unreachable!("the pool has room for what is always needed"))
        };
        let connects = start.has_peer && start.settings.connect;
        let connector = Connector::new(connects, timeout_ms(&start.settings), now);
        let peer = Peer::new(
            connector,
            Encoder::new(super::stages(&start.settings)),
            buffer(),
            map.len(),
        );
        let sizes = (metadata.extentsize, metadata.keepdirty);
        let engine = Primary::new(
            PrimaryConfig {
                metadata,
                map,
                sector_bytes,
                fresh_resuid,
                parameters: parameters(&start.settings),
                sync_bufs: (0..SYNC_BLOCKS).map(|_| buffer()).collect(),
                requests_max: REQUESTS_MAX as usize,
                mutant: None,
            },
            now,
        );
        let worker = Worker {
            parent,
            channel,
            clock,
            now,
            io,
            pool,
            engine,
            actions: Vec::new(),
            local,
            front,
            bufs: vec![None; REQUESTS_MAX as usize],
            peer,
            report: Report::new(
                start.peer_address.clone(),
                start.has_peer,
                start.settings.connect,
                now,
            ),
            meter: Meter::default(),
            resource: start.resource.clone(),
            settings: start.settings,
            has_peer: start.has_peer,
            sizes,
            end: End::Serving,
            copy_is_good: false,
        };
        Ok((worker, ready))
    }

    fn timeout_ms(&self) -> u64 {
        timeout_ms(&self.settings)
    }

    /// The loop.
    fn serve(&mut self) -> u8 {
        let mut completions = Vec::new();
        self.watch_channel();
        self.follow_copy();
        self.feed(PrimaryEvent::PauseSync(self.settings.sync_paused));
        loop {
            self.flush();
            if let Err(error) = self.io.wait(self.patience(), &mut completions) {
                let text = format!("Unable to wait for work: {}.", system_reason(&error));
                self.parent.log(Level::Error, text);
                return exit::OSERR;
            }
            self.now = self.clock.now();
            self.meter.tick(self.clock.us());
            for completion in completions.drain(..) {
                self.dispatch(completion);
            }
            self.pump_peer();
            self.tick();
            self.pump_front();
            if let Some(reason) = self.front.failure() {
                // Another process takes over what is not answered.
                self.parent.log(Level::Error, reason.to_owned());
                return exit::TEMPFAIL;
            }
            if let Some(status) = self.ended() {
                return status;
            }
        }
    }

    /// How long nothing can be due.
    fn patience(&self) -> Option<Duration> {
        let end = match self.end {
            End::Serving => None,
            End::Stopping { until, .. } => until,
            End::Stopped { until, .. } => Some(until),
        };
        let behind = self.parent.is_behind().then(|| self.now.plus(BEHIND_MS));
        Clock::until(
            self.clock.now(),
            [
                self.engine.deadline(),
                self.peer.connector.due(),
                self.report.due(),
                end,
                behind,
            ],
        )
    }

    /// Starts what has gathered in this round.
    fn flush(&mut self) {
        if self.peer.connector.may_serve() || self.end != End::Serving {
            self.front.flush(&mut *self.io);
        }
        self.peer.flush(&mut *self.io);
        self.parent.forward();
        self.parent.flush();
    }

    fn watch_channel(&mut self) {
        self.io
            .socket(self.channel, tokens::CHANNEL, SocketIo::Readable);
    }

    fn dispatch(&mut self, completion: Completion) {
        match tokens::owner(completion.token) {
            tokens::DEVICE => self.front.done(&mut *self.io, completion),
            tokens::DISK => {
                if let Done::Disk { result, bytes } = completion.done {
                    let op = self.local.done(completion.token, bytes);
                    self.meter.end(Stage::Local, op.0);
                    self.feed(PrimaryEvent::DiskDone { op, result });
                }
            }
            tokens::CHANNEL => self.hear_parent(),
            _ => {
                // Of an earlier session, nothing is of interest any more.
                if let Some(stream) = self.peer.stream_of(completion.token) {
                    stream.done(completion.done);
                }
            }
        }
    }

    fn tick(&mut self) {
        if self.end == End::Serving {
            let step = self.peer.connector.tick(self.now);
            self.follow(step);
        }
        if self.engine.deadline().is_some_and(|due| due <= self.now) {
            self.feed(PrimaryEvent::Tick);
        }
        let engine = &self.engine;
        self.report
            .sample(self.parent, self.now, || engine.status().sync_left_bytes);
    }

    /// Takes the applications' requests for as long as the engine has room.
    fn pump_front(&mut self) {
        if !self.peer.connector.may_serve() {
            return;
        }
        while self.end == End::Serving && self.engine.has_room() {
            let Some(request) = self.front.next_request() else {
                return;
            };
            if let Some(slot) = self.bufs.get_mut(request.id.0 as usize) {
                *slot = request.buf;
            }
            let (op, bytes) = measured(&request);
            self.meter
                .begin(Stage::Total, request.id.0.into(), op, bytes);
            self.feed(PrimaryEvent::App(request));
        }
    }

    // ---- the engine

    fn feed(&mut self, event: PrimaryEvent<'_>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.engine.handle(self.now, event, &mut actions);
        self.follow_copy();
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    /// Tells the front end whether the local copy is good, before anything is completed.
    fn follow_copy(&mut self) {
        let good = self.engine.has_good_copy();
        if good == self.copy_is_good {
            return;
        }
        self.copy_is_good = good;
        self.tell_copy();
    }

    fn tell_copy(&mut self) {
        if let Some(text) = self.front.local_copy(self.copy_is_good) {
            self.parent.log(Level::Info, text);
        }
    }

    fn act(&mut self, action: PrimaryAction) {
        match action {
            PrimaryAction::Disk { op, what } => {
                if let Some((kind, bytes)) = component::measured(what) {
                    self.meter.begin(Stage::Local, op.0, kind, bytes);
                }
                self.local.submit(&mut *self.io, &self.engine, op, what);
            }
            PrimaryAction::SendHello(hello) => self.send_hello(hello),
            PrimaryAction::Send {
                request,
                data,
                zeroes,
            } => self.send_request(request, data, zeroes),
            PrimaryAction::Complete { id, result } => {
                self.meter.end(Stage::Total, id.0.into());
                let buf = self.bufs.get_mut(id.0 as usize).and_then(Option::take);
                self.front.complete(id, result, buf);
            }
            PrimaryAction::Release(buf) => self.pool.release(buf),
            PrimaryAction::Disconnect(_) => self.peer.close(&mut *self.io),
            PrimaryAction::Notice(Notice::Connected) => {
                self.peer.connector.up(self.now);
                let status = self.engine.status();
                self.report.connected(self.parent, &status, self.now);
            }
            PrimaryAction::Notice(Notice::Disconnected(reason)) => self.disconnected(reason),
            PrimaryAction::Notice(notice) => {
                let status = self.engine.status();
                self.report.notice(self.parent, notice, &status, self.now);
            }
            PrimaryAction::Stopped => {
                if let End::Stopping { status, .. } = self.end {
                    let until = self.now.plus(LAST_REPLIES_MS);
                    self.end = End::Stopped { until, status };
                }
            }
        }
    }

    // ---- the parent

    fn hear_parent(&mut self) {
        loop {
            match self.parent.next() {
                Word::Nothing => return self.watch_channel(),
                Word::Gone => {
                    let until = self.now.plus(ORPHANED_MS);
                    self.front.hand_over();
                    return self.stop(Some(until), exit::TEMPFAIL);
                }
                Word::Message(message, descriptors) => self.obey(*message, descriptors),
            }
        }
    }

    fn obey(&mut self, message: ToWorker, descriptors: Vec<OwnedFd>) {
        match message {
            ToWorker::Connected => {
                if let Some(socket) = descriptors.into_iter().next() {
                    match confine::limit_peer(socket.as_fd()) {
                        Ok(()) => self.peer_connected(socket),
                        Err(error) => {
                            let reason = format!("unable to limit the connection: {error}");
                            let step = self.peer.connector.not_connected(self.now, reason);
                            self.follow(step);
                        }
                    }
                }
            }
            ToWorker::ConnectFailed { reason } => {
                let step = self.peer.connector.not_connected(self.now, reason);
                self.follow(step);
            }
            ToWorker::Settings {
                settings,
                reconnect,
                peer_address,
            } => self.set(settings, reconnect, peer_address),
            ToWorker::Status => {
                let status = self.status();
                self.parent.send(FromWorker::Status(Box::new(status)));
            }
            ToWorker::Stop => {
                self.parent
                    .log(Level::Info, "Termination signal received, exiting.");
                self.stop(None, exit::OK);
            }
            ToWorker::Start(_) => {
                self.parent
                    .log(Level::Error, "The daemon started this process twice.");
            }
        }
    }

    fn set(&mut self, settings: Settings, reconnect: bool, peer_address: String) {
        let connects = settings.connect;
        let turned = std::mem::replace(&mut self.settings, settings).connect != connects;
        self.peer.encoder.stages = super::stages(&settings);
        self.peer.connector.set_timeout(timeout_ms(&settings));
        self.feed(PrimaryEvent::Parameters(parameters(&settings)));
        self.feed(PrimaryEvent::PauseSync(settings.sync_paused));
        if reconnect {
            self.has_peer = !peer_address.is_empty();
            self.lose(
                LostReason::Asked,
                "The address of the remote node has changed.".to_owned(),
            );
        } else if turned {
            let words = if connects {
                "Not connected yet."
            } else {
                report::BY_ORDER
            };
            self.lose(LostReason::Asked, words.to_owned());
        }
        if reconnect || turned {
            let connects = self.has_peer && connects;
            self.peer.connector.restart(self.now, connects);
        }
        self.report.peer = peer_address;
    }

    fn status(&mut self) -> crate::ipc::Status {
        let engine = self.engine.status();
        let requests = u64::try_from(engine.requests).unwrap_or(u64::MAX);
        let queues = Queues {
            free: u64::from(REQUESTS_MAX).saturating_sub(requests),
            local: self.local.outstanding,
            send: self.peer.waiting_bytes(),
            receive: self.peer.unanswered,
        };
        let mut status = self.report.status(&engine, self.sizes, queues, self.now);
        status.latencies = self.meter.latencies();
        status.serving = self.peer.connector.may_serve() && self.end == End::Serving;
        status
    }

    // ---- the end

    fn stop(&mut self, until: Option<Time>, status: u8) {
        if self.end != End::Serving {
            if let (End::Stopping { until: limit, .. }, Some(_)) = (&mut self.end, until) {
                *limit = until;
            }
            return;
        }
        self.end = End::Stopping { until, status };
        self.front.stop(&mut *self.io);
        self.feed(PrimaryEvent::Stop);
    }

    /// Whether the end has come.
    fn ended(&mut self) -> Option<u8> {
        match self.end {
            End::Serving => None,
            End::Stopping { until, status } => {
                (until.is_some_and(|until| self.now >= until)).then_some(status)
            }
            End::Stopped { until, status } => {
                self.front.flush(&mut *self.io);
                (self.front.is_stopped() || self.now >= until).then_some(status)
            }
        }
    }
}

/// What a request of an application is counted as, and how many bytes it moves.
fn measured(request: &AppRequest) -> (Op, u64) {
    let op = match request.op {
        AppOp::Read => Op::Read,
        AppOp::Write { .. } | AppOp::WriteZeroes { .. } => Op::Write,
        AppOp::Delete => Op::Delete,
        AppOp::Flush => Op::Flush,
    };
    (op, request.length.into())
}

fn timeout_ms(settings: &Settings) -> u64 {
    u64::from(settings.timeout_s).saturating_mul(1000)
}
