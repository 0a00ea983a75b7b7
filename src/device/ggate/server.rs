//! The front end: between the threads that wait in START, the engine, and DONE.

use std::os::fd::OwnedFd;

use super::bio::{Command, Numbering};
use super::intake::{Intake, News, Started};
use super::layout::Io;
use super::provider::{GateError, Provider};
use super::requests::{Answer, Data, Geometry, Requests};
use crate::device::FrontEnd;
use crate::engine::event::{AppRequest, BufId, ReqId};
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::{Completion, Done, Proactor, Slot, SocketIo, Token};
use crate::terms::{Errno, system_reason};

/// Bits of a token that are the front end's; the worker chooses those above.
pub const TOKEN_BITS: u32 = 56;

/// Bytes that are read from the threads' pipe at once; how many there are does not matter.
const WAKE_BYTES: u32 = 16;

/// How much a server takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Requests of the kernel.
    pub requests: u32,
    /// Parts of them that the engine has; their numbers are below this.
    pub parts: u32,
}

impl Default for GateLimits {
    fn default() -> GateLimits {
        GateLimits {
            requests: 512,
            parts: 1024,
        }
    }
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    /// The engine finishes what it has.
    Stopping,
    Stopped,
}

/// What becomes of the provider at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Legacy {
    /// It is taken away: this node is not primary any more.
    Destroy,
    /// It stays, and what is not answered waits in the kernel for the next worker.
    Keep,
}

/// The server.
pub struct GateServer {
    pool: Pool,
    provider: Provider,
    numbering: Numbering,
    intake: Intake,
    requests: Requests,
    pipe: Slot,
    receiving: bool,
    /// Where the pipe's bytes go.
    wake: BufId,
    tag: Token,
    life: Life,
    legacy: Legacy,
    /// Why this cannot go on.
    failure: Option<String>,
    /// The kernel may serve reads from a copy that is not good: nothing is acknowledged any more.
    silent: bool,
    /// Direct reads were refused once, and are not asked for again.
    direct_refused: bool,
}

impl GateServer {
    /// A server of that provider. Its threads exist when this returns, so that the process can be
    /// confined, and wait for requests from the first [`FrontEnd::flush`] on. Tokens of its
    /// operations have `tag` in the bits from [`TOKEN_BITS`] on.
    ///
    /// # Errors
    /// The system refuses threads or a pipe, or there is no buffer left.
    pub fn new(
        io: &mut dyn Proactor,
        pool: &Pool,
        provider: Provider,
        numbering: Numbering,
        limits: GateLimits,
        tag: u8,
    ) -> std::io::Result<GateServer> {
        let is_write = move |cmd| numbering.command(cmd) == Command::Write;
        let (intake, pipe): (Intake, OwnedFd) =
            Intake::new(&provider.gate, provider.unit, is_write)?;
        let geometry = Geometry {
            bytes: provider.config().bytes,
            sector_bytes: provider.config().sector_bytes,
        };
        let wake = pool
            .alloc(WAKE_BYTES)
            .ok_or_else(|| std::io::Error::other("no buffer is left"))?;
        Ok(GateServer {
            pool: pool.clone(),
            provider,
            numbering,
            intake,
            requests: Requests::new(geometry, limits.requests, limits.parts),
            pipe: io.attach_socket(pipe)?,
            receiving: false,
            wake,
            tag: Token::from(tag) << TOKEN_BITS,
            life: Life::Serving,
            legacy: Legacy::Destroy,
            failure: None,
            silent: false,
            direct_refused: false,
        })
    }

    /// Lets the kernel serve reads from the local copy by itself, for as long as that is good. To
    /// be called with `false` before anything is completed that the local copy does not hold. Asks
    /// the kernel only if this is a change. True if reads are served so now, and were not before,
    /// or the reverse.
    ///
    /// # Errors
    /// The kernel refuses. For `true`, all stays as it is, and it is not asked again. For `false`,
    /// nothing is acknowledged any more, and [`FrontEnd::failure`] tells why.
    fn serve_direct_reads(&mut self, direct: bool) -> Result<bool, GateError> {
        if direct == self.provider.has_direct_reads() || (direct && self.direct_refused) {
            return Ok(false);
        }
        match self.provider.set_direct_reads(direct) {
            Ok(()) => Ok(self.provider.has_direct_reads() == direct),
            Err(error) => {
                if direct {
                    self.direct_refused = true;
                } else {
                    self.silent = true;
                    self.fail(error.to_string());
                }
                Err(error)
            }
        }
    }

    fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }

    /// Takes over what the threads have got, as far as there is room.
    fn take_news(&mut self) {
        while self.life == Life::Serving && self.requests.has_room() {
            match self.intake.next() {
                None => break,
                Some(News::Started(started)) => self.started(started),
                Some(News::Gone) => {
                    let name = &self.provider.config().name;
                    self.fail(format!("Device {name} was destroyed by another program."));
                }
                Some(News::Failed(reason)) => self.fail(reason),
            }
        }
        self.give_back();
    }

    fn started(&mut self, started: Started) {
        let command = self.numbering.command(started.cmd);
        if let Some(answer) = self.requests.add(started, command) {
            self.answer(answer);
        }
    }

    fn give_back(&mut self) {
        while let Some(buffer) = self.requests.freed() {
            self.intake.give_back(buffer);
        }
    }

    fn answer(&mut self, answer: Answer) {
        if self.silent {
            return;
        }
        let mut request = Io::new(self.provider.unit);
        request.seq = answer.seq;
        request.error = answer.error;
        let done = match answer.data {
            Data::None => self.provider.gate.done(&mut request, &[]),
            Data::Pool(buf, length) => {
                let bytes = self.pool.read(Piece::first(buf, length));
                self.provider.gate.done(&mut request, &bytes)
            }
            Data::Gathered(bytes) => self.provider.gate.done(&mut request, &bytes),
        };
        if let Err(error) = done {
            let reason = system_reason(&error);
            self.fail(format!("Unable to answer a request: {reason}."));
        }
    }

    /// Takes the provider away when nothing is under way any more.
    fn try_finish(&mut self) {
        if self.life != Life::Stopping || self.requests.outstanding() > 0 {
            return;
        }
        self.life = Life::Stopped;
        if self.legacy == Legacy::Destroy
            && let Err(error) = self.provider.destroy()
        {
            self.fail(error.to_string());
        }
    }
}

impl FrontEnd for GateServer {
    fn done(&mut self, _io: &mut dyn Proactor, completion: Completion) {
        let Done::Received(received) = completion.done else {
            return;
        };
        // After their end, which the threads tell about, the pipe is of no use any more.
        self.receiving = matches!(received, Ok(0));
        match received {
            Ok(_) => self.intake.woken(),
            Err(error) if self.life == Life::Serving => {
                let reason = system_reason(&error);
                self.fail(format!("Unable to wait for requests: {reason}."));
            }
            Err(_) => {}
        }
        self.take_news();
    }

    fn next_request(&mut self) -> Option<AppRequest> {
        if self.life != Life::Serving {
            return None;
        }
        self.take_news();
        let request = self.requests.next(&self.pool);
        self.give_back();
        request
    }

    fn complete(&mut self, id: ReqId, result: Result<(), Errno>, buf: Option<BufId>) {
        if let Some(answer) = self.requests.complete(id, result, buf, &self.pool) {
            self.answer(answer);
        }
        self.give_back();
    }

    fn flush(&mut self, io: &mut dyn Proactor) {
        if self.life == Life::Serving {
            self.provider.serve();
            if let Err(error) = self.intake.start() {
                let reason = system_reason(&error);
                self.fail(format!("Unable to get memory for requests: {reason}."));
            }
            if !self.receiving && self.failure.is_none() {
                self.receiving = true;
                let into = [Some(Piece::first(self.wake, WAKE_BYTES)), None];
                io.socket(self.pipe, self.tag, SocketIo::Receive { into });
            }
        }
        self.try_finish();
    }

    fn stop(&mut self, io: &mut dyn Proactor) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Stopping;
        self.requests.close();
        io.detach(self.pipe);
        self.try_finish();
    }

    fn local_copy(&mut self, good: bool) -> Option<String> {
        match self.serve_direct_reads(good) {
            Ok(false) => None,
            Ok(true) if good => Some("Direct reads enabled.".to_owned()),
            Ok(true) => Some("Direct reads disabled.".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn hand_over(&mut self) {
        self.legacy = Legacy::Keep;
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn is_stopped(&self) -> bool {
        self.life == Life::Stopped
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
