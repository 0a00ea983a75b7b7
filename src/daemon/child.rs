//! A child process and the channel to it, as the parent holds them.
//!
//! What a child is to do is said by a variable of its environment, so that its title is the whole
//! of its command line; everything else comes over its channel.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use privsep::channel::{self, Channel, ChannelError, Message, Protocol};
use privsep::process::{Child, Program, Spawn};
use privsep::supervise::{Ending, Termination, TerminationAction};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Name of the variable that says what a child is.
const VARIABLE: &str = "HASTD_CHILD";

/// Time for each step of ending a child: by message, by SIGTERM, by SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// The same for a child whose channel has ended: it is ending, or it is not what it should be.
const GRACE_WITHOUT_CHANNEL: Duration = Duration::from_secs(2);

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serves a resource.
    Worker,
    /// Accepts connections of peers.
    Listener,
    /// Looks up a name.
    Resolver,
    /// Gives a worker's device to the kernel, or takes it away.
    #[cfg(target_os = "linux")]
    Attacher,
}

impl Mode {
    const ALL: &[Mode] = &[
        Mode::Worker,
        Mode::Listener,
        Mode::Resolver,
        #[cfg(target_os = "linux")]
        Mode::Attacher,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Mode::Worker => "worker",
            Mode::Listener => "listener",
            Mode::Resolver => "resolver",
            #[cfg(target_os = "linux")]
            Mode::Attacher => "attacher",
        }
    }

    /// What this process is, if it was started by a daemon.
    pub fn of_this_process() -> Option<Mode> {
        let word = std::env::var(VARIABLE).ok()?;
        Mode::ALL.iter().copied().find(|mode| mode.as_str() == word)
    }
}

/// A child process and the parent's end of its channel.
pub struct Process<S, R> {
    child: Child,
    channel: Channel<S, R>,
    /// The channel has ended or failed: nothing is to be heard from this child any more.
    deaf: bool,
    /// The child has closed its end of the channel.
    closed: bool,
    /// It was asked to end, or is being ended, by us.
    told: bool,
    termination: Option<Termination>,
}

impl<S, R> fmt::Debug for Process<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("child", &self.child)
            .field("deaf", &self.deaf)
            .field("termination", &self.termination)
            .finish_non_exhaustive()
    }
}

/// How the end of a child goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insistence {
    /// It was sent this signal, since it did not end.
    Signalled(Signal),
    /// It did not even end by SIGKILL: the kernel holds it.
    Stuck,
}

impl<S, R> Process<S, R>
where
    S: Message + Serialize,
    R: Message + DeserializeOwned,
{
    /// Starts a child.
    ///
    /// # Errors
    /// Why it could not be started, as a sentence without a full stop.
    pub fn start(
        program: &Program,
        title: &str,
        mode: Mode,
        protocol: Protocol,
    ) -> Result<Self, String> {
        let (ours, theirs) = channel::pair().map_err(|error| error.to_string())?;
        let channel = Channel::new(ours, protocol).map_err(|error| error.to_string())?;
        let child = Spawn::new(program, title)
            .variable(VARIABLE, mode.as_str())
            .start(&theirs)
            .map_err(|error| error.to_string())?;
        Ok(Process {
            child,
            channel,
            deaf: false,
            closed: false,
            told: false,
            termination: None,
        })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.pid().as_raw()
    }

    /// Sends a message, or queues it.
    ///
    /// # Errors
    /// The child is gone, or does not read its channel.
    pub fn send(&mut self, message: &S, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        self.channel.send(message, descriptors)
    }

    /// The next message, if there is one. A channel that ends or fails makes the child deaf, and
    /// begins its end: [`Process::tick`] goes on with it.
    ///
    /// # Errors
    /// What is wrong with what the child sent. [`ChannelError::Closed`] is not among them.
    pub fn receive(&mut self, now: Instant) -> Result<Option<(R, Vec<OwnedFd>)>, ChannelError> {
        if self.deaf {
            return Ok(None);
        }
        // What cannot be sent shows when receiving.
        let _ = self.channel.flush();
        match self.channel.try_receive() {
            Ok(message) => Ok(message),
            Err(ChannelError::Closed) => {
                self.deaf = true;
                self.closed = true;
                self.termination
                    .get_or_insert(Termination::asked(now, GRACE_WITHOUT_CHANNEL));
                Ok(None)
            }
            Err(error) => {
                self.kill(now);
                Err(error)
            }
        }
    }

    /// The child misbehaves: ends it without asking, and hears it no more.
    pub fn kill(&mut self, now: Instant) {
        self.told = true;
        self.deaf = true;
        // It has ended, or SIGKILL reaches it; there is no third way for a child of ours.
        let _ = self.child.signal(Signal::SIGKILL);
        self.termination = Some(Termination::asked(now, GRACE));
    }

    /// The child was asked to end by a message: insists from now on.
    pub fn expect_end(&mut self, now: Instant) {
        self.told = true;
        self.termination
            .get_or_insert(Termination::asked(now, GRACE));
    }

    /// Ends the child, beginning with SIGTERM.
    pub fn terminate(&mut self, now: Instant) {
        self.told = true;
        self.termination
            .get_or_insert(Termination::at_once(now, GRACE));
    }

    /// Whether the child was asked to end, or is being ended.
    pub fn is_ending(&self) -> bool {
        self.termination.is_some()
    }

    /// Whether it was asked to end or is being ended: its end is no accident then.
    pub fn was_told_to_end(&self) -> bool {
        self.told
    }

    /// Goes on with the end of the child.
    pub fn tick(&mut self, now: Instant) -> Option<Insistence> {
        let signal = match self.termination.as_mut()?.advance(now) {
            TerminationAction::Wait { .. } => return None,
            TerminationAction::Stuck => return Some(Insistence::Stuck),
            TerminationAction::Terminate => Signal::SIGTERM,
            TerminationAction::Kill => Signal::SIGKILL,
        };
        // As in `kill`.
        let _ = self.child.signal(signal);
        Some(Insistence::Signalled(signal))
    }

    /// When [`Process::tick`] has something to do.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        // A copy: asking is acting.
        let mut termination = self.termination?;
        Some(match termination.advance(now) {
            TerminationAction::Wait { until } => until,
            _ => now,
        })
    }

    /// Whether a child that is [`Insistence::Stuck`] executes nothing any more: it has closed its
    /// channel, and what closes the descriptors of a process that was sent SIGKILL is its end.
    pub fn has_let_go(&self) -> bool {
        self.closed
    }

    /// How the child ended, if it has.
    pub fn ending(&mut self) -> Option<Ending> {
        self.child.try_wait().unwrap_or(Some(Ending::Unknown))
    }

    /// The descriptor to poll, and whether for writing too; nothing of a deaf child.
    pub fn polled(&self) -> Option<(BorrowedFd<'_>, bool)> {
        (!self.deaf).then(|| (self.channel.as_fd(), self.channel.wants_write()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_a_word_of_its_own() {
        for mode in Mode::ALL {
            let same = Mode::ALL
                .iter()
                .filter(|other| other.as_str() == mode.as_str());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn a_process_without_the_variable_is_no_child() {
        assert_eq!(Mode::of_this_process(), None);
    }
}
