//! The worker's end of the channel to its parent.
//!
//! Messages wait here while the socket is full: the parent may be busy, and a worker does not wait
//! for it. Lines of the log are dropped before anything else is.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use privsep::channel::{Channel, ChannelError};

use crate::ipc::{Event, FromWorker, Level, ToWorker, WORKER_PROTOCOL};

/// Messages that wait at most; further lines of the log are dropped, and counted.
const WAITING_MAX: usize = 1024;

/// Lines that code without access to the channel has written ([`Forwarder`]).
static WRITTEN: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

/// Lines of [`WRITTEN`] at most.
const WRITTEN_MAX: usize = 256;

/// Makes the log of the front ends and of the driver that of the parent.
struct Forwarder;

impl log::Log for Forwarder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warning,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => Level::Debug(1),
        };
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() < WRITTEN_MAX {
            written.push((level, record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// What the parent says.
#[derive(Debug)]
pub(super) enum Word {
    /// A message, with its descriptors.
    Message(Box<ToWorker>, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// It is gone, or talks nonsense.
    Gone,
}

/// The parent.
pub(super) struct Parent {
    channel: Channel<FromWorker, ToWorker>,
    waiting: VecDeque<FromWorker>,
    dropped: u64,
    debug: u8,
    gone: bool,
}

impl Parent {
    /// Takes the inherited channel.
    pub(super) fn new(socket: OwnedFd) -> Result<Parent, ChannelError> {
        static FORWARDER: Forwarder = Forwarder;
        // Only this function sets a logger, and a process has one parent.
        if log::set_logger(&FORWARDER).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
        Ok(Parent {
            channel: Channel::new(socket, WORKER_PROTOCOL)?,
            waiting: VecDeque::new(),
            dropped: 0,
            debug: 0,
            gone: false,
        })
    }

    /// Sets which lines of the log are of interest.
    pub(super) fn set_debug(&mut self, debug: u8) {
        self.debug = debug;
    }

    /// The descriptor of the channel.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// A further descriptor of the channel, to wait on.
    pub(super) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.channel.as_fd().try_clone_to_owned()
    }

    /// Waits for the next message.
    pub(super) fn receive(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(ToWorker, Vec<OwnedFd>), ChannelError> {
        self.channel.receive(deadline)
    }

    /// The next message, if there is one.
    pub(super) fn next(&mut self) -> Word {
        if self.gone {
            return Word::Gone;
        }
        match self.channel.try_receive() {
            Ok(Some((message, descriptors))) => Word::Message(Box::new(message), descriptors),
            Ok(None) => Word::Nothing,
            Err(_) => {
                self.gone = true;
                Word::Gone
            }
        }
    }

    /// Tells the parent.
    pub(super) fn send(&mut self, message: FromWorker) {
        let is_words = match &message {
            FromWorker::Log { .. } => true,
            FromWorker::Event { event, .. } => event.is_words(),
            _ => false,
        };
        if self.waiting.len() >= WAITING_MAX && is_words {
            self.dropped += 1;
            return;
        }
        self.waiting.push_back(message);
        self.flush();
    }

    /// A line for the log.
    pub(super) fn log(&mut self, level: Level, text: impl Into<String>) {
        if matches!(level, Level::Debug(needed) if needed > self.debug) {
            return;
        }
        let text = text.into();
        self.send(FromWorker::Log { level, text });
    }

    /// Something that happened, and what of it operators want to read.
    pub(super) fn event(&mut self, event: Event, details: impl Into<String>) {
        let details = details.into();
        self.send(FromWorker::Event { event, details });
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        if self.gone {
            self.waiting.clear();
            return;
        }
        if self.channel.wants_write() && self.channel.flush().is_err() {
            // Whether it is gone for good, receiving will tell.
            self.waiting.clear();
        }
        while !self.channel.wants_write() {
            let Some(message) = self.waiting.pop_front() else {
                break;
            };
            // A peer that is gone is found out by receiving.
            let _ = self.channel.send(&message, Vec::new());
        }
        if self.waiting.is_empty() && self.dropped > 0 && !self.channel.wants_write() {
            let dropped = std::mem::take(&mut self.dropped);
            let text = format!("{dropped} lines of the log were dropped: the daemon was busy.");
            let level = Level::Warning;
            let _ = self
                .channel
                .send(&FromWorker::Log { level, text }, Vec::new());
        }
    }

    /// Takes over what was written elsewhere in this process.
    pub(super) fn forward(&mut self) {
        let written = {
            let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
            if written.is_empty() {
                return;
            }
            std::mem::take(&mut *written)
        };
        for (level, text) in written {
            self.log(level, text);
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn is_behind(&self) -> bool {
        !self.gone && (!self.waiting.is_empty() || self.channel.wants_write())
    }

    /// Sends the last words, for so long at most.
    pub(super) fn drain(&mut self, deadline: Instant) {
        self.forward();
        while let Some(message) = self.waiting.pop_front() {
            if self.channel.send(&message, Vec::new()).is_err()
                || self.channel.drain(Some(deadline)).is_err()
            {
                return;
            }
        }
        let _ = self.channel.drain(Some(deadline));
    }
}
