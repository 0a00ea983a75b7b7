//! Signals, noticed at once: each sets a flag and wakes the poll loop through a socket.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// The signals that the daemon acts upon.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    terminate: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    child: Arc<AtomicBool>,
}

/// What came since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// SIGTERM or SIGINT.
    pub terminate: bool,
    /// SIGHUP.
    pub reload: bool,
    /// SIGCHLD.
    pub child: bool,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> io::Result<Signals> {
        let (wake, wakened) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        wakened.set_nonblocking(true)?;
        let signals = Signals {
            wake,
            terminate: Arc::default(),
            reload: Arc::default(),
            child: Arc::default(),
        };
        for (signal, slot) in [
            (SIGTERM, &signals.terminate),
            (SIGINT, &signals.terminate),
            (SIGHUP, &signals.reload),
            (SIGCHLD, &signals.child),
        ] {
            // In this order, so that the flag is set when the loop wakes.
            flag::register(signal, Arc::clone(slot))?;
            low_level::pipe::register(signal, wakened.try_clone()?)?;
        }
        Ok(signals)
    }

    /// What came since the last call.
    pub fn take(&mut self) -> Pending {
        let mut sink = [0; 64];
        while matches!(self.wake.read(&mut sink), Ok(count) if count > 0) {}
        Pending {
            terminate: self.terminate.swap(false, Ordering::AcqRel),
            reload: self.reload.swap(false, Ordering::AcqRel),
            child: self.child.swap(false, Ordering::AcqRel),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_wakes_and_is_told_once() {
        let mut signals = Signals::install().unwrap();
        low_level::raise(SIGHUP).unwrap();
        let mut polled = [nix::poll::PollFd::new(
            signals.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(nix::poll::poll(&mut polled, 5000u16), Ok(1));
        assert!(signals.take().reload);
        assert!(!signals.take().reload);
    }
}
