//! A worker process as the parent sees it: what it may say in which state.
//!
//! A worker is hostile until it has ended: whatever it says out of turn ends it.

use std::os::fd::OwnedFd;
use std::time::Instant;

use privsep::channel::ChannelError;
use privsep::process::Program;

use super::child::{Mode, Process};
use super::log::Throttle;
use super::supervisor::Kind;
use crate::ipc::{FromWorker, Ready, Start, Status, ToWorker, WORKER_PROTOCOL};
use crate::latency::{Op, Stage};

/// Latencies of a status: one per operation and stage.
const LATENCIES_MAX: usize = Op::ALL.len() * Stage::ALL.len();

/// Names a worker process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// How far a worker has come, by what it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Ready,
    Failed,
}

/// What a worker has said and was asked: decides what it may say next.
#[derive(Debug)]
pub struct Conversation {
    kind: Kind,
    has_peer: bool,
    said: Said,
    connecting: bool,
    status_asked: u32,
}

impl Conversation {
    /// Of a worker that was just started.
    pub fn new(kind: Kind, has_peer: bool) -> Conversation {
        Conversation {
            kind,
            has_peer,
            said: Said::Nothing,
            connecting: false,
            status_asked: 0,
        }
    }

    /// Whether the message is in place; remembers it.
    ///
    /// # Errors
    /// What is out of place, in words.
    pub fn admit(&mut self, message: &FromWorker) -> Result<(), &'static str> {
        match message {
            FromWorker::Log { .. } => Ok(()),
            _ if self.said == Said::Failed => Err("a message after its failure"),
            FromWorker::Ready(_) if self.said != Said::Nothing => Err("ready for a second time"),
            FromWorker::Ready(_) => {
                self.said = Said::Ready;
                Ok(())
            }
            FromWorker::Failed { .. } => {
                self.said = Said::Failed;
                Ok(())
            }
            FromWorker::Connect if self.kind != Kind::Primary => Err("only a primary connects"),
            FromWorker::Connect if !self.has_peer => Err("it has no peer to connect to"),
            FromWorker::Connect if self.connecting => Err("a connection while another is made"),
            FromWorker::Connect => {
                self.connecting = true;
                Ok(())
            }
            FromWorker::Event { .. } if self.kind == Kind::Check => Err("an event of a check"),
            FromWorker::Event { .. } => Ok(()),
            FromWorker::Status(_) => match self.status_asked.checked_sub(1) {
                Some(left) => {
                    self.status_asked = left;
                    Ok(())
                }
                None => Err("a status that nobody asked for"),
            },
        }
    }

    /// The connection that it asked for was made or not.
    pub fn connected(&mut self) {
        self.connecting = false;
    }

    /// Whether a connection is being made for it.
    pub fn is_connecting(&self) -> bool {
        self.connecting
    }
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    /// Its name among all workers.
    pub id: WorkerId,
    /// Of which resource.
    pub resource: String,
    /// What it was started for.
    pub kind: Kind,
    /// The process and its channel.
    pub process: Process<ToWorker, FromWorker>,
    /// What it found when it started.
    pub ready: Option<Ready>,
    /// Bounds its lines in the log.
    pub throttle: Throttle,
    conversation: Conversation,
    /// The last status that it told, and when.
    status: Option<(Instant, Status)>,
}

/// The title of a worker, which scripts look for.
pub fn title(resource: &str, kind: Kind) -> String {
    let role = match kind {
        Kind::Primary => "primary",
        Kind::Secondary => "secondary",
        Kind::Check => "check",
    };
    format!("hastd: {resource} ({role})")
}

impl Worker {
    /// Starts a worker and tells it what for.
    ///
    /// # Errors
    /// Why that was not possible, in words.
    pub fn start(
        program: &Program,
        id: WorkerId,
        kind: Kind,
        start: Start,
        connections: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<Worker, String> {
        let title = title(&start.resource, kind);
        let mut process = Process::start(program, &title, Mode::Worker, WORKER_PROTOCOL)?;
        let resource = start.resource.clone();
        let has_peer = start.has_peer;
        // A worker that cannot be told has ended already, which shows when it is reaped.
        let _ = process.send(&ToWorker::Start(Box::new(start)), connections);
        Ok(Worker {
            id,
            resource,
            kind,
            process,
            ready: None,
            throttle: Throttle::new(now),
            conversation: Conversation::new(kind, has_peer),
            status: None,
        })
    }

    /// The next message that is in place. Whatever is not ends the worker.
    ///
    /// # Errors
    /// What it did, in words; it was killed for it.
    pub fn receive(&mut self, now: Instant) -> Result<Option<FromWorker>, String> {
        let message = match self.process.receive(now) {
            Ok(None) => return Ok(None),
            Ok(Some((message, _))) => message,
            Err(error) => return Err(error.to_string()),
        };
        if let Err(what) = self.conversation.admit(&message) {
            self.process.kill(now);
            return Err(format!("it sent {what}"));
        }
        match &message {
            FromWorker::Ready(ready) => {
                let mut ready = (**ready).clone();
                ready.confinement = ready.confinement.sanitised();
                self.ready = Some(ready);
            }
            FromWorker::Status(status) => {
                let mut status = (**status).clone();
                // It is shown on terminals.
                status.reason = status.reason.map(|reason| super::log::sanitised(&reason));
                status.disk = super::log::sanitised(&status.disk);
                status.latencies.truncate(LATENCIES_MAX);
                self.status = Some((now, status));
            }
            _ => {}
        }
        Ok(Some(message))
    }

    /// Asks it to end, and insists.
    pub fn stop(&mut self, now: Instant) {
        if !self.process.is_ending() {
            match self.process.send(&ToWorker::Stop, Vec::new()) {
                Ok(()) => self.process.expect_end(now),
                Err(_) => self.process.terminate(now),
            }
        }
    }

    /// Asks for its status; false if it cannot be asked.
    pub fn ask_status(&mut self) -> bool {
        if self.process.is_ending() || self.kind == Kind::Check {
            return false;
        }
        // One that has not answered yet will: asking again adds nothing.
        if self.conversation.status_asked > 0 {
            return true;
        }
        let asked = self.process.send(&ToWorker::Status, Vec::new()).is_ok();
        self.conversation.status_asked += u32::from(asked);
        asked
    }

    /// The last status that it told, and when.
    pub fn status(&self) -> Option<&(Instant, Status)> {
        self.status.as_ref()
    }

    /// The connection that it asked for was made, or why not.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn answer_connect(&mut self, result: Result<OwnedFd, String>) -> Result<(), ChannelError> {
        self.conversation.connected();
        match result {
            Ok(connection) => self.process.send(&ToWorker::Connected, vec![connection]),
            Err(reason) => self
                .process
                .send(&ToWorker::ConnectFailed { reason }, Vec::new()),
        }
    }

    /// Whether a connection is being made for it.
    pub fn is_connecting(&self) -> bool {
        self.conversation.is_connecting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{Event, Level};

    fn failed() -> FromWorker {
        FromWorker::Failed {
            reason: "no".to_owned(),
            status: 66,
        }
    }

    fn event() -> FromWorker {
        FromWorker::Event {
            event: Event::Connect,
            details: String::new(),
        }
    }

    fn log() -> FromWorker {
        FromWorker::Log {
            level: Level::Info,
            text: "text".to_owned(),
        }
    }

    #[test]
    fn what_is_out_of_turn_is_refused() {
        let ready = FromWorker::Ready(Box::default());
        let status = FromWorker::Status(Box::default());
        let mut primary = Conversation::new(Kind::Primary, true);
        assert!(primary.admit(&status).is_err(), "not asked for");
        assert!(primary.admit(&FromWorker::Connect).is_ok());
        assert!(
            primary.admit(&FromWorker::Connect).is_err(),
            "one at a time"
        );
        primary.connected();
        assert!(primary.admit(&FromWorker::Connect).is_ok());
        assert!(primary.admit(&ready).is_ok());
        assert!(primary.admit(&ready).is_err());
        assert!(primary.admit(&failed()).is_ok());
        assert!(primary.admit(&log()).is_ok());
        assert!(primary.admit(&event()).is_err());
    }

    #[test]
    fn only_a_primary_with_a_peer_connects() {
        for (kind, has_peer) in [
            (Kind::Secondary, true),
            (Kind::Check, true),
            (Kind::Primary, false),
        ] {
            let mut conversation = Conversation::new(kind, has_peer);
            assert!(conversation.admit(&FromWorker::Connect).is_err());
        }
    }

    #[test]
    fn a_check_has_no_events() {
        let mut check = Conversation::new(Kind::Check, true);
        assert!(check.admit(&event()).is_err());
    }

    #[test]
    fn titles_are_what_failover_scripts_look_for() {
        assert_eq!(title("test", Kind::Primary), "hastd: test (primary)");
        assert_eq!(title("test", Kind::Secondary), "hastd: test (secondary)");
    }
}
