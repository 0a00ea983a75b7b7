//! A secondary: one session with one primary, whose two connections came with the start.
//!
//! Requests come in on A, replies go out on B, everything on one thread but the disk's system
//! calls. A write's data are received straight into the buffer that is then written to the disk.
//! A request that makes no sense is answered `EINVAL` and its data are dropped, so that the stream
//! stays in step; data that are damaged end the session, since nothing of them can be trusted.
//! A block whose data do not arrive completely never reaches the engine.

mod requests;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use self::requests::Pending;
use super::blocks::Encoder;
use super::clock::Clock;
use super::component::{self, Component, Local};
use super::exit::{self, Failure};
use super::parent::{Parent, Word};
use super::stream::Stream;
use super::{OFFER, confine, driver, reasons, tokens};
use crate::engine::event::{
    BufId, LostReason, Notice, PeerLimits, SecondaryAction, SecondaryEvent, Time,
};
use crate::engine::secondary::{Secondary, SecondaryConfig};
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::{Completion, Done, Proactor, Slot, SocketIo};
use crate::ipc::{
    Event, FromWorker, Incomplete, Level, PeerHello, Ready, Settings, Start, Status, ToWorker,
};
use crate::latency::{Meter, Stage};
use crate::terms::{PEER_REQUEST_BYTES, REQUEST_BYTES_MAX, Role, system_reason};
use crate::wire::hello::{Component as Shown, Verdict};
use crate::wire::message::{PrimaryHello, Reply, SecondaryHello};
use crate::wire::packet::Limits;
use crate::wire::request::encode_heartbeat;
use crate::wire::stages::DataHead;

/// Requests in progress at most.
const REQUESTS_MAX: usize = 256;

/// How long the primary may take to receive a refusal, in milliseconds.
const REFUSAL_MS: u64 = 2000;

/// Pause before a message to a busy parent is tried again, in milliseconds.
const BEHIND_MS: u64 = 20;

/// The worker.
struct Worker<'p> {
    parent: &'p mut Parent,
    channel: Slot,
    clock: Clock,
    now: Time,
    io: Box<dyn Proactor>,
    pool: Pool,
    engine: Secondary,
    /// Reused.
    actions: Vec<SecondaryAction>,
    local: Local,
    a: Option<Stream>,
    b: Option<Stream>,
    encoder: Encoder,
    /// For blocks that have to be decompressed.
    beside: BufId,
    /// The write whose data are being received.
    pending: Option<Pending>,
    peer: String,
    peer_is_ours: bool,
    warned: bool,
    settings: Settings,
    /// Extent size in bytes, and how many extents stay dirty.
    sizes: (u32, u32),
    /// The handshake is answered: requests may come.
    greeted: bool,
    since: Time,
    meter: Meter,
    /// Why the session ends, in better words than the engine's.
    words: Option<String>,
    /// The engine has ended: when to exit at the latest, and how.
    end: Option<(Time, u8)>,
}

/// Serves as secondary until the session ends; returns the exit status.
///
/// # Errors
/// The role cannot be taken.
pub(super) fn run(
    parent: &mut Parent,
    start: &Start,
    connections: Vec<OwnedFd>,
) -> Result<u8, Failure> {
    let fault = |what| Failure::new(exit::SOFTWARE, format!("The daemon sent {what}."));
    let Ok([a, b]) = <[OwnedFd; 2]>::try_from(connections) else {
        return Err(fault("no connections"));
    };
    let Some(hello) = start.hello else {
        return Err(fault("no handshake"));
    };
    let (mut worker, ready) = Worker::new(parent, start, a, b)?;
    worker.parent.send(FromWorker::Ready(Box::new(ready)));
    worker.greet(&hello);
    Ok(worker.serve())
}

impl<'p> Worker<'p> {
    /// Opens everything, then gives up what is needed for that.
    fn new(
        parent: &'p mut Parent,
        start: &Start,
        a: OwnedFd,
        b: OwnedFd,
    ) -> Result<(Worker<'p>, Ready), Failure> {
        let component = super::open_component(parent, start, Role::Secondary, Incomplete::Refuse)?;
        super::device::destroy_leftover(parent, start)?;
        let sector_bytes = component.sector_bytes();
        let Component {
            provider,
            metadata,
            map,
            ..
        } = component;

        let held = [
            (provider.as_fd(), confine::LOCAL_COMPONENT),
            (parent.as_fd(), confine::CHANNEL),
            (a.as_fd(), confine::PEER),
            (b.as_fd(), confine::PEER),
        ];
        let mut confinement = confine::prepare(start, Role::Secondary, &held)?;
        let pool = driver::pool()?;
        let driver = driver::start(&pool, start.driver)?;
        confinement.drives(driver.is);
        let mut io = driver.io;
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
            device: None,
            driver: driver.is,
        };
        let local = Local::attach(&mut *io, provider, &metadata, tokens::DISK)?;
        let channel = parent
            .descriptor()
            .and_then(|channel| io.attach_socket(channel))
            .map_err(|error| driver::failed(&error))?;
        let mut stream = |fd, connection| {
            let token = tokens::peer(0, connection);
            Stream::new(&mut *io, &pool, fd, token, Limits::PEER)
                .map_err(|error| driver::failed(&error))
        };
        let (a, b) = (stream(a, 0)?, stream(b, 1)?);
        let beside = pool
            .alloc(REQUEST_BYTES_MAX)
            .unwrap_or_else(|| unreachable!("the pool has room for what is always needed"));
        let sizes = (metadata.extentsize, metadata.keepdirty);
        let engine = Secondary::new(
            SecondaryConfig {
                metadata,
                map,
                sector_bytes,
                metaflush: start.settings.metaflush,
                timeout_ms: u64::from(start.settings.timeout_s).saturating_mul(1000),
                requests_max: REQUESTS_MAX,
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
            a: Some(a),
            b: Some(b),
            encoder: Encoder::new(super::stages(&start.settings)),
            beside,
            pending: None,
            peer: start.peer_address.clone(),
            peer_is_ours: false,
            warned: false,
            settings: start.settings,
            sizes,
            greeted: false,
            since: now,
            meter: Meter::default(),
            words: None,
            end: None,
        };
        Ok((worker, ready))
    }

    /// Hands the primary's hello, which came with the start, to the engine.
    fn greet(&mut self, hello: &PeerHello) {
        let offer = hello.offer;
        self.peer_is_ours = offer.request_bytes.is_some() || offer.copy_states;
        let limits = PeerLimits {
            request_bytes: offer.request_bytes.unwrap_or(PEER_REQUEST_BYTES),
            heartbeat: offer.heartbeat,
            copy_states: offer.copy_states,
            steering: offer.steering,
        };
        let hello = PrimaryHello {
            virgin: hello.virgin,
            resuid: hello.resuid,
            localcnt: hello.localcnt,
            remotecnt: hello.remotecnt,
        };
        self.feed(SecondaryEvent::Hello {
            hello,
            peer: limits,
        });
    }

    /// The loop.
    fn serve(&mut self) -> u8 {
        let mut completions = Vec::new();
        self.watch_channel();
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
            self.pump();
            if self.engine.deadline().is_some_and(|due| due <= self.now) {
                self.feed(SecondaryEvent::Tick);
            }
            if let Some((until, status)) = self.end
                && (self.now >= until || self.a.as_ref().is_none_or(Stream::is_sent))
            {
                return status;
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let behind = self.parent.is_behind().then(|| self.now.plus(BEHIND_MS));
        let end = self.end.map(|(until, _)| until);
        Clock::until(self.clock.now(), [self.engine.deadline(), end, behind])
    }

    fn flush(&mut self) {
        for stream in [&mut self.a, &mut self.b].into_iter().flatten() {
            stream.flush(&mut *self.io);
        }
        self.parent.forward();
        self.parent.flush();
    }

    fn watch_channel(&mut self) {
        self.io
            .socket(self.channel, tokens::CHANNEL, SocketIo::Readable);
    }

    fn dispatch(&mut self, completion: Completion) {
        match tokens::owner(completion.token) {
            tokens::DISK => {
                if let Done::Disk { result, bytes } = completion.done {
                    let op = self.local.done(completion.token, bytes);
                    self.meter.end(Stage::Local, op.0);
                    self.feed(SecondaryEvent::DiskDone { op, result });
                }
            }
            tokens::CHANNEL => self.hear_parent(),
            _ => {
                let streams = [&mut self.a, &mut self.b].into_iter().flatten();
                for stream in streams {
                    if stream.owns(completion.token) {
                        return stream.done(completion.done);
                    }
                }
            }
        }
    }

    // ---- the engine

    fn feed(&mut self, event: SecondaryEvent) {
        let mut actions = std::mem::take(&mut self.actions);
        self.engine.handle(self.now, event, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: SecondaryAction) {
        match action {
            SecondaryAction::Disk { op, what } => {
                if let Some((kind, bytes)) = component::measured(what) {
                    self.meter.begin(Stage::Local, op.0, kind, bytes);
                }
                self.local.submit(&mut *self.io, &self.engine, op, what);
            }
            SecondaryAction::Hello(hello) => self.accept(hello),
            SecondaryAction::Refuse(reason) => self.refuse(reason),
            SecondaryAction::Reply { reply, data } => self.reply(reply, data),
            SecondaryAction::Heartbeat => {
                if let Some(b) = &mut self.b {
                    b.out().encode(encode_heartbeat);
                }
            }
            SecondaryAction::Release(buf) => self.pool.release(buf),
            SecondaryAction::Notice(notice) => self.tell(notice),
            SecondaryAction::Stopped(reason) => self.stopped(reason),
        }
    }

    /// Answers the handshake, with the bitmap.
    fn accept(&mut self, hello: SecondaryHello) {
        let Some(a) = &mut self.a else { return };
        if hello.mapsize == 0 {
            let verdict = Verdict::Accepted {
                hello,
                map: DataHead::EMPTY,
                offer: OFFER,
            };
            a.out().encode(|out| verdict.encode(out));
        } else {
            let map = self.engine.answer_map();
            self.encoder.push_bytes(a.out(), &map, |&map, out| {
                Verdict::Accepted {
                    hello,
                    map,
                    offer: OFFER,
                }
                .encode(out);
            });
        }
        self.greeted = true;
        self.since = self.now;
        let text = format!("Connected to {}.", self.peer);
        self.parent.log(Level::Debug(1), text.as_str());
        self.parent.event(Event::Connect, text);
    }

    fn refuse(&mut self, reason: LostReason) {
        let metadata = self.engine.metadata();
        let verdict = Verdict::Refused {
            message: reasons::describe(reason),
            component: Some(Shown {
                datasize: metadata.datasize,
                extentsize: metadata.extentsize,
                localcnt: metadata.localcnt,
                remotecnt: metadata.remotecnt,
            }),
        };
        if let Some(a) = &mut self.a {
            a.out().encode(|out| verdict.encode(out));
        }
    }

    fn reply(&mut self, reply: Reply, data: Option<(BufId, u32)>) {
        let Some(b) = &mut self.b else { return };
        match data {
            None => b.out().encode(|out| reply.encode(&DataHead::EMPTY, out)),
            Some((buf, length)) => {
                let piece = Piece::first(buf, length);
                self.encoder
                    .push_piece(b.out(), &self.pool, piece, |head, out| {
                        reply.encode(head, out);
                    });
            }
        }
    }

    fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::SplitBrain => {
                self.parent
                    .log(Level::Error, "Split-brain detected, exiting.");
                let text = reasons::describe(LostReason::SplitBrain);
                self.parent.event(Event::SplitBrain, text);
            }
            Notice::CountersImpossible => {
                let text = "The counters of the nodes fit no history: everything is synchronized.";
                self.parent.log(Level::Warning, text);
                self.parent.event(Event::CountersReset, text);
            }
            Notice::LocalError {
                op,
                offset,
                length,
                error,
            } => {
                let text = reasons::failed("Local", op, offset, length, error);
                self.parent.log(Level::Error, text.as_str());
                self.parent.event(Event::DiskError, text);
            }
            // The others are a primary's.
            _ => {}
        }
    }

    /// The session is over, and the disk at rest.
    fn stopped(&mut self, reason: LostReason) {
        let status = match reason {
            LostReason::Asked => exit::OK,
            LostReason::SplitBrain | LostReason::ResuidMismatch { .. } => exit::CONFIG,
            _ => exit::TEMPFAIL,
        };
        let words = self.words.take();
        let text = words.unwrap_or_else(|| reasons::describe(reason));
        // Of split-brain the engine has told already.
        if !matches!(reason, LostReason::Asked | LostReason::SplitBrain) {
            self.parent.log(Level::Error, text.as_str());
            if !self.greeted && reasons::is_lasting(reason) {
                self.parent.event(Event::Mismatch, text.as_str());
            }
        }
        if self.greeted {
            let text = format!("Disconnected from {}. {text}", self.peer);
            self.parent.event(Event::Disconnect, text);
        }
        self.end = Some((self.now.plus(REFUSAL_MS), status));
    }

    /// The connection is given up by this side of the engine.
    fn lose(&mut self, reason: LostReason, words: String) {
        for stream in [self.a.take(), self.b.take()].into_iter().flatten() {
            stream.close(&mut *self.io);
        }
        if let Some(buf) = self.pending.take().and_then(|pending| pending.buf) {
            self.pool.release(buf);
        }
        self.words.get_or_insert(words);
        self.feed(SecondaryEvent::Lost(reason));
    }

    // ---- the parent

    fn hear_parent(&mut self) {
        loop {
            match self.parent.next() {
                Word::Nothing => return self.watch_channel(),
                // What was received is carried out; that is all that can still be done.
                Word::Gone => {
                    let words = "The daemon is gone.".to_owned();
                    return self.lose(LostReason::Broken, words);
                }
                Word::Message(message, _) => self.obey(*message),
            }
        }
    }

    fn obey(&mut self, message: ToWorker) {
        match message {
            ToWorker::Settings {
                settings,
                peer_address,
                ..
            } => {
                self.settings = settings;
                self.encoder.stages = super::stages(&settings);
                self.peer = peer_address;
            }
            ToWorker::Status => {
                let status = self.status();
                self.parent.send(FromWorker::Status(Box::new(status)));
            }
            ToWorker::Stop => {
                self.parent
                    .log(Level::Info, "Termination signal received, exiting.");
                self.feed(SecondaryEvent::Stop);
            }
            ToWorker::Start(_) | ToWorker::Connected | ToWorker::ConnectFailed { .. } => {
                self.parent.log(
                    Level::Error,
                    "The daemon sent what a secondary has no use for.",
                );
            }
        }
    }

    fn status(&mut self) -> Status {
        let engine = self.engine.status();
        let counted = engine.statistics;
        let requests = u64::try_from(engine.requests).unwrap_or(u64::MAX);
        let free = (REQUESTS_MAX as u64).saturating_sub(requests);
        let send = self.b.as_mut().map_or(0, |b| b.out().len() as u64);
        Status {
            connected: self.greeted && self.a.is_some(),
            reason: self.words.clone(),
            cause: None,
            since_s: self.now.since(self.since) / 1000,
            dirty_bytes: engine.dirty_bytes,
            extentsize: self.sizes.0,
            keepdirty: self.sizes.1,
            disk: if engine.inconsistent { "stale" } else { "good" }.to_owned(),
            serving: false,
            sync: None,
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
            queues: [free, self.local.outstanding, send, 0, 0],
            latencies: self.meter.latencies(),
        }
    }
}
