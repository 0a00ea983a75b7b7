//! What a resource's role demands of its worker: decisions only, no processes and no clock.
//!
//! One [`Supervisor`] per resource. Something happens (the administrator sets a role, a worker is
//! ready or has ended, a primary has shaken hands, time passes), and [`Effect`]s come out that the
//! parent carries out. At most one worker runs per resource at any time, since its successor could
//! not lock the disk: a worker that is no longer wanted is stopped, and its successor starts when it
//! has ended.
//!
//! ```text
//!   Idle ---start---> Starting ---ready---> Ready
//!    ^ ^                  |                   |
//!    | |                  +-------stop--------+----> Stopping
//!    | +--ended-----------+-------------------+---------+
//!    +--time--- Delayed <--+ (a primary that was killed or failed for the time being)
//! ```

use std::time::{Duration, Instant};

use privsep::supervise::{Backoff, Ending};

use crate::terms::Role;

/// EX_TEMPFAIL of sysexits(3): a later attempt may succeed.
const EX_TEMPFAIL: i32 = 75;

/// The exit code of a Rust program that panicked: a crash, like a signal.
const EX_PANIC: i32 = 101;

/// Names an order whose answer is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a worker is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To serve the device and replicate.
    Primary,
    /// To keep a copy for the primary whose session waits.
    Secondary,
    /// To open and check the local component of a secondary, and end.
    Check,
}

/// What the parent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a worker. If that fails: [`Supervisor::start_failed`].
    Start(Kind),
    /// Ask the running worker to end, and insist.
    Stop,
    /// Forget half-open sessions and the one that waits.
    DropSessions,
    /// The role was changed by order.
    Changed {
        /// Before.
        from: Role,
        /// Now.
        to: Role,
    },
    /// The role could not be taken, or its worker failed for good: it is init now, or, where the
    /// copy was not to be used, what it was before.
    FellBack {
        /// Before.
        from: Role,
        /// Now.
        to: Role,
    },
    /// The worker is to be restarted after this time.
    RestartsIn(Duration),
    /// The order is carried out (the role before it), or is not (why).
    Answer(Ticket, Result<Role, String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Idle,
    Delayed(Instant),
    Running(Kind, Stage),
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    previous: Role,
    deadline: Instant,
}

/// The decisions about one resource.
#[derive(Debug)]
pub struct Supervisor {
    role: Role,
    worker: Worker,
    /// The secondary's local component is to be checked.
    check: bool,
    /// A session waits for a worker.
    session: bool,
    /// The running worker is to be replaced: its configuration is another.
    restart: bool,
    /// No worker is wanted any more, whatever the role.
    closing: bool,
    waiters: Vec<Waiter>,
    backoff: Backoff,
    failure: Option<String>,
    /// The worker did not want to use its copy.
    refused: bool,
    /// The role before the last order.
    before: Role,
    /// A worker was ready since the last order.
    served: bool,
}

impl Default for Supervisor {
    fn default() -> Self {
        Supervisor::new()
    }
}

impl Supervisor {
    /// A resource in role init.
    pub fn new() -> Supervisor {
        Supervisor {
            role: Role::Init,
            worker: Worker::Idle,
            check: false,
            session: false,
            restart: false,
            closing: false,
            waiters: Vec::new(),
            backoff: Backoff::default(),
            failure: None,
            refused: false,
            before: Role::Init,
            served: false,
        }
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Why the last worker failed, until one is ready.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the last failure was that of a worker that did not want to use its copy.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Whether a worker has taken this role since it was ordered.
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// Whether no worker runs.
    pub fn is_idle(&self) -> bool {
        !matches!(self.worker, Worker::Running(..))
    }

    /// The administrator sets the role; the answer comes when it is known whether it was taken, at
    /// the deadline at the latest.
    pub fn set_role(
        &mut self,
        role: Role,
        ticket: Ticket,
        now: Instant,
        deadline: Instant,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let previous = self.role;
        if self.closing {
            let reason = "The resource is being removed, or the daemon ends.".to_owned();
            return vec![Effect::Answer(ticket, Err(reason))];
        }
        if role != previous {
            self.refuse_waiters("Another change of the role came in between.", &mut effects);
            self.enter(role, &mut effects);
        }
        // An administrator who asks again does not want to wait for the next attempt.
        if let Worker::Delayed(_) = self.worker {
            self.worker = Worker::Idle;
            self.backoff.reset();
        }
        self.waiters.push(Waiter {
            ticket,
            previous,
            deadline,
        });
        self.settle(now, &mut effects);
        effects
    }

    /// The resource was configured anew in a way that its worker must be replaced.
    pub fn reconfigured(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.restart = matches!(self.worker, Worker::Running(..));
        if self.role == Role::Secondary {
            self.check = true;
            self.session = false;
            effects.push(Effect::DropSessions);
        }
        self.settle(now, &mut effects);
        effects
    }

    /// No worker is wanted any more; the role is init. Orders that wait are answered with `reason`.
    pub fn close(&mut self, reason: &str, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.refuse_waiters(reason, &mut effects);
        self.closing = true;
        self.settle(now, &mut effects);
        effects
    }

    /// The role becomes init without an order: the resource is going away.
    pub fn leave(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.role != Role::Init {
            self.enter(Role::Init, &mut effects);
        }
        effects.extend(self.close("The resource is not configured any more.", now));
        effects
    }

    /// Nothing is wanted of the peer for the time being: a session and its worker end, the role
    /// stays.
    pub fn hang_up(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.role == Role::Secondary {
            self.session = false;
            self.restart |= matches!(self.worker, Worker::Running(Kind::Secondary, _));
            effects.push(Effect::DropSessions);
            self.settle(now, &mut effects);
        }
        effects
    }

    /// A primary has completed the second step of the handshake: its connections wait with the
    /// parent. A worker that runs for an earlier session is replaced.
    pub fn session(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.role == Role::Secondary && !self.closing {
            self.session = true;
            self.settle(now, &mut effects);
        }
        effects
    }

    /// The worker has taken its role.
    pub fn ready(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Worker::Running(kind, Stage::Starting) = self.worker {
            self.worker = Worker::Running(kind, Stage::Ready);
            self.failure = None;
            self.refused = false;
            self.served |= kind != Kind::Check;
            self.settle(now, &mut effects);
        }
        effects
    }

    /// The worker says why it is about to fail; `refused`: it does not want to use its copy.
    pub fn failed(&mut self, reason: String, refused: bool) {
        self.failure = Some(reason);
        self.refused = refused;
    }

    /// The worker could not be started.
    pub fn start_failed(&mut self, reason: String, now: Instant) -> Vec<Effect> {
        self.failure = Some(reason);
        self.ended(Ending::Exited(EX_TEMPFAIL), now)
    }

    /// The worker has ended.
    pub fn ended(&mut self, ending: Ending, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Worker::Running(kind, stage) = self.worker else {
            return effects;
        };
        self.worker = Worker::Idle;
        if stage != Stage::Stopping {
            self.ended_by_itself(kind, ending, now, &mut effects);
        }
        self.settle(now, &mut effects);
        effects
    }

    fn ended_by_itself(
        &mut self,
        kind: Kind,
        ending: Ending,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if kind == Kind::Check && ending == Ending::Exited(0) {
            self.check = false;
            return;
        }
        if kind == Kind::Secondary {
            // The next handshake starts a new one.
            return;
        }
        self.failure
            .get_or_insert_with(|| format!("The worker process {ending}."));
        if may_recover(ending) {
            let delay = self.backoff.ended(now);
            self.worker = Worker::Delayed(now + delay);
            effects.push(Effect::RestartsIn(delay));
        } else {
            self.fall_back(effects);
        }
    }

    /// Time has passed: restarts that are due, orders that waited long enough.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        let waiters = std::mem::take(&mut self.waiters);
        let (late, rest): (Vec<_>, Vec<_>) = waiters
            .into_iter()
            .partition(|waiter| waiter.deadline <= now);
        self.waiters = rest;
        for waiter in late {
            let reason = match &self.failure {
                Some(failure) => format!("{failure} The daemon keeps trying."),
                None => "The worker has not said in time whether it took the role.".to_owned(),
            };
            effects.push(Effect::Answer(waiter.ticket, Err(reason)));
        }
        effects
    }

    /// When [`Supervisor::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let restart = match self.worker {
            Worker::Delayed(at) => Some(at),
            Worker::Idle | Worker::Running(..) => None,
        };
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline);
        waiters.chain(restart).min()
    }

    /// Another role from now on.
    fn enter(&mut self, role: Role, effects: &mut Vec<Effect>) {
        effects.push(Effect::Changed {
            from: self.role,
            to: role,
        });
        self.before = self.role;
        self.role = role;
        self.check = role == Role::Secondary;
        self.session = false;
        self.failure = None;
        self.refused = false;
        self.served = false;
        self.backoff.reset();
        effects.push(Effect::DropSessions);
    }

    fn fall_back(&mut self, effects: &mut Vec<Effect>) {
        // A secondary whose copy is incomplete goes on waiting for what is missing.
        let to = if self.refused && self.before == Role::Secondary {
            Role::Secondary
        } else {
            Role::Init
        };
        effects.push(Effect::FellBack {
            from: self.role,
            to,
        });
        self.role = to;
        self.check = false;
        self.session = false;
        effects.push(Effect::DropSessions);
        let reason = self.failure.clone().unwrap_or_default();
        self.refuse_waiters(&reason, effects);
    }

    fn refuse_waiters(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        let waiters = std::mem::take(&mut self.waiters);
        effects.extend(
            waiters
                .into_iter()
                .map(|waiter| Effect::Answer(waiter.ticket, Err(reason.to_owned()))),
        );
    }

    /// Brings the worker in line with what is wanted, and answers orders that are carried out.
    fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.worker {
            Worker::Running(_, Stage::Stopping) => {}
            Worker::Running(kind, _) => {
                if !self.is_wanted(kind) {
                    self.worker = Worker::Running(kind, Stage::Stopping);
                    effects.push(Effect::Stop);
                }
            }
            Worker::Delayed(at) if at > now && self.wanted().is_some() => {}
            Worker::Idle | Worker::Delayed(_) => self.start(now, effects),
        }
        if self.is_settled() {
            let waiters = std::mem::take(&mut self.waiters);
            effects.extend(
                waiters
                    .into_iter()
                    .map(|waiter| Effect::Answer(waiter.ticket, Ok(waiter.previous))),
            );
        }
    }

    fn start(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.worker = Worker::Idle;
        self.restart = false;
        if let Some(kind) = self.wanted() {
            if kind == Kind::Secondary {
                self.session = false;
            }
            self.worker = Worker::Running(kind, Stage::Starting);
            self.backoff.started(now);
            effects.push(Effect::Start(kind));
        }
    }

    /// What is to be started if nothing runs.
    fn wanted(&self) -> Option<Kind> {
        match self.role {
            _ if self.closing => None,
            Role::Init => None,
            Role::Primary => Some(Kind::Primary),
            Role::Secondary if self.check => Some(Kind::Check),
            Role::Secondary if self.session => Some(Kind::Secondary),
            Role::Secondary => None,
        }
    }

    /// Whether a worker of this kind may go on.
    fn is_wanted(&self, kind: Kind) -> bool {
        if self.closing || self.restart {
            return false;
        }
        match (self.role, kind) {
            (Role::Primary, Kind::Primary) => true,
            (Role::Secondary, Kind::Check) => self.check,
            (Role::Secondary, Kind::Secondary) => !self.check && !self.session,
            _ => false,
        }
    }

    /// Whether the role is taken.
    fn is_settled(&self) -> bool {
        match (self.role, self.worker) {
            (Role::Init, Worker::Idle) => true,
            (Role::Primary, Worker::Running(Kind::Primary, Stage::Ready)) => true,
            (Role::Secondary, Worker::Idle | Worker::Running(Kind::Secondary, _)) => !self.check,
            _ => false,
        }
    }
}

/// Whether a worker that ended so is started again.
fn may_recover(ending: Ending) -> bool {
    match ending {
        Ending::Killed { .. } | Ending::Unknown => true,
        Ending::Exited(code) => code == EX_TEMPFAIL || code == EX_PANIC,
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
