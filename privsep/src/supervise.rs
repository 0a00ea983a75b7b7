//! How a child ended, when to start its successor, and how to end one without waiting for it.
//!
//! Times are given, never taken: the parent's loop says what time it is.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Killed {
        /// The signal.
        signal: Signal,
        /// It left a core dump.
        core: bool,
    },
    /// It is gone and nobody knows how: somebody else reaped it.
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exited with code {code}"),
            Ending::Killed { signal, core } => {
                write!(f, "killed by {}", signal.as_str())?;
                match signal {
                    Signal::SIGSYS => f.write_str(" (a system call that its policy forbids)")?,
                    Signal::SIGABRT => f.write_str(" (abort)")?,
                    _ => {}
                }
                if *core {
                    f.write_str(", core dumped")
                } else {
                    Ok(())
                }
            }
            Ending::Unknown => f.write_str("ended in an unknown way"),
        }
    }
}

/// How the process ended, if it has; does not wait. The number is free for others afterwards.
pub fn reap(pid: Pid) -> io::Result<Option<Ending>> {
    loop {
        return match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ending::Exited(code))),
            Ok(WaitStatus::Signaled(_, signal, core)) => Ok(Some(Ending::Killed { signal, core })),
            Ok(_) => Ok(None),
            Err(Errno::EINTR) => continue,
            // Not ours any more; or ended by a signal that has no name (a real-time one), which nix
            // reports as an invalid argument after it has reaped the process.
            Err(Errno::ECHILD | Errno::EINVAL) => Ok(Some(Ending::Unknown)),
            Err(error) => Err(error.into()),
        };
    }
}

/// Delays between restarts: the first is short, each further one twice as long, up to a limit; after
/// a time of health they begin anew.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    healthy_after: Duration,
    next: Duration,
    started: Option<Instant>,
}

impl Backoff {
    /// Restart after this much the first time: the second that the original promises.
    pub const FIRST: Duration = Duration::from_secs(1);
    /// Never wait longer than this.
    pub const LONGEST: Duration = Duration::from_secs(60);
    /// A process that ran this long was healthy.
    pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

    /// Other delays than the usual ones. `longest` is raised to `first` if it is shorter.
    pub fn with(first: Duration, longest: Duration, healthy_after: Duration) -> Self {
        let longest = longest.max(first);
        Backoff {
            first,
            longest,
            healthy_after,
            next: first,
            started: None,
        }
    }

    /// The process was started.
    pub fn started(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// The process ended, or could not be started: how long to wait before the next start.
    pub fn ended(&mut self, now: Instant) -> Duration {
        let ran = self
            .started
            .take()
            .map(|start| now.saturating_duration_since(start));
        if ran.is_some_and(|ran| ran >= self.healthy_after) {
            self.next = self.first;
        }
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.longest);
        delay
    }

    /// The administrator asked for a start: forget former failures.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::with(Backoff::FIRST, Backoff::LONGEST, Backoff::HEALTHY_AFTER)
    }
}

/// What to do about a child that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminationAction {
    /// Nothing before that time.
    Wait {
        /// When to ask again.
        until: Instant,
    },
    /// Send SIGTERM: the child did not end by itself after it was asked to.
    Terminate,
    /// Send SIGKILL.
    Kill,
    /// Nothing is left to be done: the child is in an uninterruptible sleep of the kernel.
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Terminated,
    Killed,
    Stuck,
}

/// The end of a child: asked by message (or the end of its channel), then by SIGTERM, then SIGKILL.
/// Dropped by the caller when the child has been reaped.
#[derive(Clone, Copy, Debug)]
pub struct Termination {
    stage: Stage,
    deadline: Instant,
    grace: Duration,
}

impl Termination {
    /// The child was asked to end by a message; it gets `grace` for that, and again after SIGTERM
    /// and after SIGKILL.
    pub fn asked(now: Instant, grace: Duration) -> Self {
        Termination {
            stage: Stage::Asked,
            deadline: now + grace,
            grace,
        }
    }

    /// The child cannot be asked: begin with SIGTERM at once.
    pub fn at_once(now: Instant, grace: Duration) -> Self {
        Termination {
            stage: Stage::Asked,
            deadline: now,
            grace,
        }
    }

    /// What to do now. Each signal is said once; [`TerminationAction::Stuck`] too.
    pub fn advance(&mut self, now: Instant) -> TerminationAction {
        if now < self.deadline {
            return TerminationAction::Wait {
                until: self.deadline,
            };
        }
        let (stage, action) = match self.stage {
            Stage::Asked => (Stage::Terminated, TerminationAction::Terminate),
            Stage::Terminated => (Stage::Killed, TerminationAction::Kill),
            Stage::Killed => (Stage::Stuck, TerminationAction::Stuck),
            Stage::Stuck => (
                Stage::Stuck,
                TerminationAction::Wait {
                    until: now + self.grace,
                },
            ),
        };
        self.stage = stage;
        self.deadline = now + self.grace;
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_limit() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..9)
            .map(|_| {
                backoff.started(now);
                backoff.ended(now + SECOND).as_secs()
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn failed_starts_count_like_ends() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.ended(now), SECOND);
        assert_eq!(backoff.ended(now), 2 * SECOND);
    }

    #[test]
    fn a_minute_of_health_forgets_failures() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.started(now);
            backoff.ended(now);
        }
        backoff.started(now);
        assert_eq!(
            backoff.ended(now + Duration::from_millis(59_999)),
            32 * SECOND
        );
        backoff.started(now);
        assert_eq!(backoff.ended(now + Duration::from_secs(60)), SECOND);
        assert_eq!(backoff.ended(now), 2 * SECOND);
    }

    #[test]
    fn reset_begins_anew() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.ended(now);
        backoff.reset();
        assert_eq!(backoff.ended(now), SECOND);
    }

    #[test]
    fn clock_that_stands_still_is_not_health() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.started(now + SECOND);
        assert_eq!(backoff.ended(now), SECOND);
    }

    #[test]
    fn termination_escalates_once_per_deadline() {
        let start = Instant::now();
        let mut termination = Termination::asked(start, 5 * SECOND);
        let wait = |seconds| TerminationAction::Wait {
            until: start + seconds * SECOND,
        };
        assert_eq!(termination.advance(start), wait(5));
        assert_eq!(termination.advance(start + 4 * SECOND), wait(5));
        assert_eq!(
            termination.advance(start + 5 * SECOND),
            TerminationAction::Terminate
        );
        assert_eq!(termination.advance(start + 6 * SECOND), wait(10));
        assert_eq!(
            termination.advance(start + 11 * SECOND),
            TerminationAction::Kill
        );
        assert_eq!(termination.advance(start + 11 * SECOND), wait(16));
        assert_eq!(
            termination.advance(start + 16 * SECOND),
            TerminationAction::Stuck
        );
        assert_eq!(termination.advance(start + 21 * SECOND), wait(26));
    }

    #[test]
    fn termination_without_a_channel_begins_with_the_signal() {
        let start = Instant::now();
        let mut termination = Termination::at_once(start, SECOND);
        assert_eq!(termination.advance(start), TerminationAction::Terminate);
        assert_eq!(termination.advance(start + SECOND), TerminationAction::Kill);
    }

    #[test]
    fn process_that_is_no_child_ended_in_an_unknown_way() {
        assert_eq!(reap(nix::unistd::getpid()).unwrap(), Some(Ending::Unknown));
    }

    #[test]
    fn endings_say_what_happened() {
        assert_eq!(Ending::Exited(75).to_string(), "exited with code 75");
        let killed = Ending::Killed {
            signal: Signal::SIGSEGV,
            core: true,
        };
        assert_eq!(killed.to_string(), "killed by SIGSEGV, core dumped");
    }
}
