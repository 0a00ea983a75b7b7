//! When and how a primary connects: the steps up to the engine's handshake, as a state machine
//! without I/O.
//!
//! ```text
//! Resting --due--> First --connected--> Answer --accepted--> Second --connected--> Linked --> Up
//!    ^               |                    |                    |                     |        |
//!    +---------------+------ failed, refused, out of time -----+---------------------+--------+
//! ```
//!
//! After a loss it connects again at once, then after pauses that grow to 10 s; a connection that
//! lasted makes them short again. A peer that is in the middle of a change of roles asks to wait:
//! then it is tried each second for as long as the timeout, as the original does.
//!
//! **Serving.** A primary that starts does not know whether its copy is the newest before it has
//! heard of its peer, so it serves nothing before its first attempt has ended, one way or the
//! other; that takes the timeout at most.

use crate::engine::event::Time;
use crate::ipc::Cause;
use crate::wire::hello::{Answer, Token};

/// Pauses before attempts, by the number of failures in a row, in milliseconds.
const PAUSES_MS: [u64; 6] = [0, 500, 1000, 2000, 5000, 10_000];

/// Pause after a handshake that ended because the copies do not fit together, in milliseconds.
const REFUSED_MS: u64 = 10_000;

/// Pause after a refusal that asks to wait, in milliseconds.
const WAIT_MS: u64 = 1000;

/// A connection that lasted so long makes the pauses short again, in milliseconds.
const LASTED_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no peer.
    Alone,
    /// Until the next attempt.
    Resting { until: Time },
    /// The parent makes connection A.
    First { deadline: Time },
    /// The peer's answer is awaited on A.
    Answer { deadline: Time },
    /// The parent makes connection B.
    Second { deadline: Time },
    /// The engine goes on with the handshake, and watches its time.
    Linked,
    /// Requests travel.
    Up { since: Time },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Ask the parent for a connection.
    Connect,
    /// The socket is connection A: send the first message.
    Greet,
    /// The socket is connection B: tell the engine.
    Link,
    /// Nobody waits for this socket any more: close it.
    Discard,
    /// The attempt has failed: close what is open, say why.
    Failed {
        /// In words.
        reason: String,
        /// For programs.
        cause: Cause,
        /// The peer asks to wait; so many milliseconds are left, 0 when it was long enough.
        wait_ms: Option<u64>,
    },
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may work soon.
    Passing,
    /// Only an operator can do something about it.
    Lasting,
}

/// The state of the connecting.
#[derive(Debug)]
pub(super) struct Connector {
    phase: Phase,
    timeout_ms: u64,
    /// The parent was asked and has not answered.
    asked: bool,
    /// In a row.
    failures: usize,
    /// Until when the peer's wish to wait is granted, once it has been uttered.
    wait_until: Option<Time>,
    /// The first attempt has ended.
    may_serve: bool,
    token: Token,
}

impl Connector {
    pub(super) fn new(has_peer: bool, timeout_ms: u64, now: Time) -> Connector {
        Connector {
            phase: if has_peer {
                Phase::Resting { until: now }
            } else {
                Phase::Alone
            },
            timeout_ms,
            asked: false,
            failures: 0,
            wait_until: None,
            may_serve: !has_peer,
            token: [0; 16],
        }
    }

    pub(super) fn set_timeout(&mut self, timeout_ms: u64) {
        self.timeout_ms = timeout_ms;
    }

    /// Whether applications may be served.
    pub(super) fn may_serve(&self) -> bool {
        self.may_serve
    }

    /// Whether the answer to the first message is awaited.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.phase, Phase::Answer { .. })
    }

    /// Whether the engine has the connections.
    pub(super) fn is_linked(&self) -> bool {
        matches!(self.phase, Phase::Linked | Phase::Up { .. })
    }

    /// Whether requests travel.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// The token of the peer's answer.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// When [`Connector::tick`] is due.
    pub(super) fn due(&self) -> Option<Time> {
        match self.phase {
            Phase::Resting { until } if !self.asked => Some(until),
            Phase::First { deadline } | Phase::Answer { deadline } | Phase::Second { deadline } => {
                Some(deadline)
            }
            Phase::Alone | Phase::Resting { .. } | Phase::Linked | Phase::Up { .. } => None,
        }
    }

    fn deadline(&self, now: Time) -> Time {
        now.plus(self.timeout_ms)
    }

    fn ask(&mut self, phase: Phase) -> Step {
        self.phase = phase;
        self.asked = true;
        Step::Connect
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) -> Step {
        match self.phase {
            Phase::Resting { until } if !self.asked && now >= until => self.ask(Phase::First {
                deadline: self.deadline(now),
            }),
            Phase::First { deadline } | Phase::Second { deadline } if now >= deadline => self
                .failed(
                    now,
                    Kind::Passing,
                    Cause::Unreachable,
                    "No connection to the remote node in time.".to_owned(),
                ),
            Phase::Answer { deadline } if now >= deadline => self.failed(
                now,
                Kind::Passing,
                Cause::Silent,
                "The remote node did not answer the handshake in time.".to_owned(),
            ),
            _ => Step::Nothing,
        }
    }

    /// The parent made a connection.
    pub(super) fn connected(&mut self, now: Time) -> Step {
        self.asked = false;
        match self.phase {
            Phase::First { .. } => {
                self.phase = Phase::Answer {
                    deadline: self.deadline(now),
                };
                Step::Greet
            }
            Phase::Second { .. } => {
                self.phase = Phase::Linked;
                Step::Link
            }
            _ => Step::Discard,
        }
    }

    /// The parent could not make one.
    pub(super) fn not_connected(&mut self, now: Time, reason: String) -> Step {
        self.asked = false;
        match self.phase {
            Phase::First { .. } | Phase::Second { .. } => {
                self.failed(now, Kind::Passing, Cause::Unreachable, reason)
            }
            _ => Step::Nothing,
        }
    }

    /// The peer's answer to the first message.
    pub(super) fn answered(&mut self, now: Time, answer: Answer) -> Step {
        match answer {
            Answer::Accepted { token, .. } => {
                self.token = token;
                self.ask(Phase::Second {
                    deadline: self.deadline(now),
                })
            }
            Answer::Refused { message, wait } => {
                let Some(until) = self.may_wait(now).filter(|_| wait) else {
                    // Most likely its role, which an operator may be about to change.
                    return self.failed(now, Kind::Passing, Cause::Refused, message);
                };
                if now < until {
                    self.phase = Phase::Resting {
                        until: now.plus(WAIT_MS),
                    };
                    return Step::Failed {
                        reason: message,
                        cause: Cause::Refused,
                        wait_ms: Some(until.since(now)),
                    };
                }
                match self.failed(now, Kind::Passing, Cause::Refused, message) {
                    Step::Failed { reason, cause, .. } => Step::Failed {
                        reason,
                        cause,
                        wait_ms: Some(0),
                    },
                    step => step,
                }
            }
        }
    }

    /// Until when to grant the peer's wish to wait: at start only.
    fn may_wait(&mut self, now: Time) -> Option<Time> {
        if self.may_serve {
            return None;
        }
        let until = self.deadline(now);
        Some(*self.wait_until.get_or_insert(until))
    }

    /// Requests travel.
    pub(super) fn up(&mut self, now: Time) {
        self.phase = Phase::Up { since: now };
        self.may_serve = true;
    }

    /// The attempt, or the connection, has come to its end.
    pub(super) fn failed(&mut self, now: Time, kind: Kind, cause: Cause, reason: String) -> Step {
        if let Phase::Up { since } = self.phase
            && now.since(since) >= LASTED_MS
        {
            self.failures = 0;
        }
        let pause_ms = match kind {
            Kind::Lasting => REFUSED_MS,
            Kind::Passing => {
                let last = PAUSES_MS.len() - 1;
                let index = if self.is_up() {
                    self.failures
                } else {
                    self.failures + 1
                };
                PAUSES_MS[index.min(last)]
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.may_serve = true;
        if self.phase != Phase::Alone {
            self.phase = Phase::Resting {
                until: now.plus(pause_ms),
            };
        }
        Step::Failed {
            reason,
            cause,
            wait_ms: None,
        }
    }

    /// The peer may be elsewhere now: give up what there is, and try at once.
    pub(super) fn restart(&mut self, now: Time, has_peer: bool) {
        self.failures = 0;
        self.phase = if has_peer {
            Phase::Resting { until: now }
        } else {
            self.may_serve = true;
            Phase::Alone
        };
    }
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
