//! Where peers connect: the sockets, bound here, and the listener process that accepts on them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use privsep::channel::ChannelError;
use privsep::process::Program;
use privsep::supervise::Backoff;

use super::{MESSAGES_PER_ROUND, Parent};
use crate::conf::model::{Listen, SandboxMode};
use crate::confinement::Confinement;
use crate::daemon::child::{Mode, Process};
use crate::daemon::log::{DAEMON, Pass, Throttle};
use crate::daemon::names::{Account, Lookup, Names};
use crate::daemon::socket::{self, Place};
use crate::events::Kind;
use crate::ipc::{FromListener, LISTENER_PROTOCOL, Level, Ready, ToListener};
use crate::terms::system_reason;

/// How long a peer may take for its first packet.
const PATIENCE: Duration = Duration::from_secs(5);

type ListenerProcess = Process<ToListener, FromListener>;

/// An address that is listened on.
#[derive(Debug)]
struct Door {
    listen: Listen,
    /// One per place of the address, with the number that the listener knows it by.
    sockets: Vec<(u32, OwnedFd)>,
}

/// What the listener does.
#[derive(Debug)]
enum State {
    Running(Box<ListenerProcess>),
    /// It ended, and is started again at that time.
    Down(Instant),
    /// It is not wanted any more.
    Gone,
}

/// The sockets and the listener.
#[derive(Debug)]
pub(super) struct Doors {
    open: Vec<Door>,
    /// Names that are being looked up.
    pending: Vec<Listen>,
    state: State,
    backoff: Backoff,
    /// The confinement of the listener, once it said so.
    confinement: Option<Confinement>,
    said_ready: bool,
    /// Bounds what peers can write into the log.
    pub(super) throttle: Throttle,
    last_id: u32,
    closing: bool,
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(super) enum DoorError {
    /// Its name is being looked up.
    Pending,
    /// Somebody else listens there: the reason, in words.
    InUse(String),
    /// The reason, in words.
    Failed(String),
}

impl Doors {
    /// Nothing is open, and the listener not started.
    pub(super) fn new(now: Instant) -> Doors {
        Doors {
            open: Vec::new(),
            pending: Vec::new(),
            state: State::Down(now),
            backoff: Backoff::default(),
            confinement: None,
            said_ready: false,
            throttle: Throttle::new(now),
            last_id: 0,
            closing: false,
        }
    }

    /// Binds an address; says whether that did anything (a default may be skipped).
    pub(super) fn bind(
        &mut self,
        listen: &Listen,
        names: &mut Names,
        since: Instant,
    ) -> Result<bool, DoorError> {
        let places = match names.lookup(&listen.address, since) {
            Lookup::Places(places) => places,
            Lookup::Failed(reason) => return Err(DoorError::Failed(reason)),
            Lookup::Pending => return Err(DoorError::Pending),
        };
        let mut sockets = Vec::new();
        for place in places {
            match socket::listen(&place) {
                Ok(socket) => {
                    self.last_id += 1;
                    sockets.push((self.last_id, socket));
                }
                Err(error) if listen.default && lacks_family(&place, &error) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(DoorError::InUse(system_reason(&error)));
                }
                Err(error) => return Err(DoorError::Failed(system_reason(&error))),
            }
        }
        if sockets.is_empty() {
            return Ok(false);
        }
        let door = Door {
            listen: listen.clone(),
            sockets,
        };
        self.hand_over(&door);
        self.open.push(door);
        Ok(true)
    }

    /// Gives a door's sockets to the listener, if it runs; it gets all of them when it starts.
    fn hand_over(&mut self, door: &Door) {
        let State::Running(process) = &mut self.state else {
            return;
        };
        for (id, socket) in &door.sockets {
            if let Ok(copy) = socket.try_clone() {
                // A listener that cannot be told is ending, and its successor is told.
                let _ = process.send(&ToListener::Listen { id: *id }, vec![copy]);
            }
        }
    }

    /// Closes the sockets of an address; whether there were any.
    pub(super) fn unbind(&mut self, listen: &Listen) -> bool {
        self.pending.retain(|other| other.address != listen.address);
        let before = self.open.len();
        let (closed, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|door| door.listen.address == listen.address);
        self.open = open;
        if let State::Running(process) = &mut self.state {
            let closed: Vec<Door> = closed;
            for (id, _) in closed.iter().flat_map(|door| &door.sockets) {
                // As above.
                let _ = process.send(&ToListener::Forget { id: *id }, Vec::new());
            }
        }
        before != self.open.len()
    }

    /// An address that is to be bound when its name is known.
    pub(super) fn defer(&mut self, listen: Listen) {
        self.pending.push(listen);
    }

    /// The addresses that are listened on.
    pub(super) fn addresses(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|door| door.listen.address.to_string())
    }

    /// Starts the listener.
    pub(super) fn start(
        &mut self,
        program: &Program,
        account: &Account,
        debug: u8,
        now: Instant,
    ) -> Result<(), String> {
        self.said_ready = false;
        self.backoff.started(now);
        let started = start_process(program, account, debug);
        match started {
            Ok(process) => self.state = State::Running(Box::new(process)),
            Err(reason) => {
                self.state = State::Down(now + self.backoff.ended(now));
                return Err(reason);
            }
        }
        for door in std::mem::take(&mut self.open) {
            self.hand_over(&door);
            self.open.push(door);
        }
        Ok(())
    }

    /// Ends the listener.
    pub(super) fn close(&mut self, now: Instant) {
        self.closing = true;
        self.open.clear();
        self.pending.clear();
        match &mut self.state {
            State::Running(process) => process.terminate(now),
            State::Down(_) | State::Gone => self.state = State::Gone,
        }
    }

    /// Whether no listener runs and none will.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// The listener's channel, and whether to poll it for writing too.
    pub(super) fn polled(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.state {
            State::Running(process) => process.polled(),
            State::Down(_) | State::Gone => None,
        }
    }

    /// The listener's pid and confinement, once it said so.
    pub(super) fn listener(&self) -> Option<(i32, &Confinement)> {
        match &self.state {
            State::Running(process) => Some((process.pid(), self.confinement.as_ref()?)),
            State::Down(_) | State::Gone => None,
        }
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Running(process) => process.next_deadline(now),
            State::Down(at) => Some(*at),
            State::Gone => None,
        }
    }
}

fn start_process(
    program: &Program,
    account: &Account,
    debug: u8,
) -> Result<ListenerProcess, String> {
    let mut process = Process::start(
        program,
        "hastd: listener",
        Mode::Listener,
        LISTENER_PROTOCOL,
    )?;
    let start = ToListener::Start {
        user: account.user.clone(),
        confine: account.confine,
        debug,
        patience_ms: u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX),
    };
    // A listener that cannot be told has ended already, which shows when it is reaped.
    let _ = process.send(&start, Vec::new());
    Ok(process)
}

/// Whether the error says that the kernel has no such addresses at all.
fn lacks_family(place: &Place, error: &io::Error) -> bool {
    let code = error.raw_os_error();
    match place {
        Place::Inet(address) if address.is_ipv6() => {
            code == Some(libc::EAFNOSUPPORT) || code == Some(libc::EADDRNOTAVAIL)
        }
        Place::Inet(_) => code == Some(libc::EAFNOSUPPORT),
        Place::Unix(_) => false,
    }
}

impl Parent {
    /// Starts the listener again, ends it, and binds what has been looked up.
    pub(super) fn tick_doors(&mut self, now: Instant) {
        if let State::Running(process) = &mut self.doors.state {
            process.tick(now);
        }
        if matches!(self.doors.state, State::Down(at) if at <= now && !self.doors.closing) {
            self.start_listener(now);
        }
        for listen in std::mem::take(&mut self.doors.pending) {
            self.listen_on(listen, now.checked_sub(PATIENCE).unwrap_or(now));
        }
    }

    pub(super) fn start_listener(&mut self, now: Instant) {
        let account = self.account();
        let debug = self.log.debug_level();
        if let Err(reason) = self.doors.start(&self.program, &account, debug, now) {
            self.log.error(
                DAEMON,
                format_args!("Unable to start the listener process: {reason}."),
            );
        }
    }

    /// Listens on an address from now on, or when its name is known.
    pub(super) fn listen_on(&mut self, listen: Listen, since: Instant) {
        match self.doors.bind(&listen, &mut self.names, since) {
            Ok(true) => self.log.info(
                DAEMON,
                format_args!("Listening on address {}.", listen.address),
            ),
            Ok(false) => {}
            Err(DoorError::Pending) => self.doors.defer(listen),
            Err(DoorError::InUse(reason) | DoorError::Failed(reason)) => {
                let text = format!("Unable to listen on address {}: {reason}.", listen.address);
                self.log.error(DAEMON, &text);
                self.note(Kind::ListenerFailed, text, Instant::now());
            }
        }
    }

    /// Hears what the listener has to say.
    pub(super) fn hear_listener(&mut self, now: Instant) {
        for _ in 0..MESSAGES_PER_ROUND {
            let State::Running(process) = &mut self.doors.state else {
                return;
            };
            match process.receive(now) {
                Ok(None) => return,
                Ok(Some((message, mut descriptors))) => match message {
                    FromListener::Ready(ready) => self.listener_ready(&ready, now),
                    FromListener::Log { level, text } => {
                        if matches!(level, Level::Warning | Level::Error) {
                            self.note(Kind::Refused, &text, now);
                        }
                        self.note_peer(level, &text, now);
                    }
                    // Nothing is accepted of a listener that has not said it is confined.
                    FromListener::Hello(_) if !self.doors.said_ready => {
                        self.listener_misbehaves("it sent a packet before it was confined", now);
                    }
                    FromListener::Hello(hello) => {
                        if let Some(socket) = descriptors.pop() {
                            self.hear_peer(&hello, socket, now);
                        }
                    }
                },
                Err(error) => self.listener_failed(&error),
            }
        }
    }

    fn listener_ready(&mut self, ready: &Ready, now: Instant) {
        if std::mem::replace(&mut self.doors.said_ready, true) {
            self.listener_misbehaves("it was ready for a second time", now);
            return;
        }
        let demanded = self.config.sandbox == SandboxMode::Require;
        let confinement = ready.confinement.sanitised();
        if !confinement.missing.is_empty() && !demanded {
            self.log.warning(
                DAEMON,
                format_args!(
                    "The listener is not confined by {}.",
                    confinement.missing.join(", ")
                ),
            );
        }
        self.log.debug(
            1,
            DAEMON,
            format_args!(
                "The listener is confined by {}.",
                confinement.in_force.join(", ")
            ),
        );
        self.doors.confinement = Some(confinement);
    }

    fn listener_misbehaves(&mut self, what: &str, now: Instant) {
        if let State::Running(process) = &mut self.doors.state {
            process.kill(now);
        }
        self.log.error(
            DAEMON,
            format_args!("The listener process misbehaves and is killed: {what}."),
        );
    }

    fn listener_failed(&mut self, error: &ChannelError) {
        self.log.error(
            DAEMON,
            format_args!("The listener process misbehaves and is killed: {error}."),
        );
    }

    /// A line that a peer caused: bounded, since anybody can cause any number.
    pub(super) fn note_peer(&mut self, level: Level, text: &str, now: Instant) {
        match self.doors.throttle.pass(now) {
            Pass::Drop => return,
            Pass::Write => {}
            Pass::WriteAfterLoss(lost) => self.log.warning(
                DAEMON,
                format_args!("{lost} messages about connections were dropped."),
            ),
        }
        self.log.write(level, DAEMON, text);
    }

    /// Looks whether the listener has ended.
    pub(super) fn reap_listener(&mut self, now: Instant) {
        let State::Running(process) = &mut self.doors.state else {
            return;
        };
        let Some(ending) = process.ending() else {
            return;
        };
        let pid = process.pid();
        self.hear_listener(now);
        self.doors.confinement = None;
        if self.doors.closing {
            self.doors.state = State::Gone;
            return;
        }
        let delay = self.doors.backoff.ended(now);
        self.doors.state = State::Down(now + delay);
        let text = format!(
            "Listener process {ending} (pid={pid}); restarting it in {} s.",
            delay.as_secs()
        );
        self.log.error(DAEMON, &text);
        self.note(Kind::ListenerFailed, text, now);
    }
}
