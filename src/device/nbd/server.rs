//! The NBD front end: its clients, and the requests that the engine has of them.

use std::os::fd::OwnedFd;

use super::client::{Client, Current, Filling, Life};
use super::connection::{Command, Export, Step};
use super::protocol::{NbdError, data_chunk, error_chunk, simple_reply};
use crate::device::FrontEnd;
use crate::device::slab::Slab;
use crate::engine::event::{AppOp, AppRequest, BufId, DISCARD_BYTES_MAX, ReqId};
use crate::io::outgoing::Outgoing;
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::{Completion, Done, Proactor, Slot, SocketIo, Token};
use crate::terms::{Errno, REQUEST_BYTES_MAX};

/// How much a server takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connected clients, at most 65535. One more replaces a client that has gone, or is
    /// still in its handshake, or is turned away.
    pub clients: u16,
    /// Requests of all clients, and parts of them that the engine has.
    pub requests: u32,
    /// Requests of one client.
    pub client_requests: u32,
    /// Bytes that requests and replies of one client occupy in the pool; one part may exceed it.
    pub client_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            clients: 32,
            requests: 1024,
            client_requests: 256,
            client_bytes: 16 * 1024 * 1024,
        }
    }
}

/// What an operation of the server was, as its token says.
#[derive(Clone, Copy)]
enum Kind {
    Accept = 0,
    Receive = 1,
    Send = 2,
    HangUp = 3,
}

/// A client's request.
struct Request {
    client: u16,
    generation: u32,
    command: Command,
    cookie: u64,
    /// Parts that the engine has.
    outstanding: u32,
    /// No more parts follow.
    complete: bool,
    /// What went wrong first.
    error: Option<NbdError>,
    /// Something of the reply is out: the head of a simple one.
    started: bool,
    /// All of a read without chunks, in bytes.
    length: u32,
    /// Nobody waits for the reply.
    mute: bool,
}

/// What the engine has of a request.
struct Part {
    request: u32,
    offset: u64,
    length: u32,
}

/// The front end.
pub struct NbdServer {
    pool: Pool,
    export: Export,
    limits: ServerLimits,
    /// Set in every token.
    tag: Token,
    listener: Option<Slot>,
    accepting: bool,
    /// The last accept failed: the next one waits for a later round.
    accept_failed: bool,
    clients: Vec<Option<Client>>,
    generation: u32,
    /// Whose turn it is.
    turn: usize,
    requests: Slab<Request>,
    parts: Slab<Part>,
}

/// Replies are held back for so many rounds of the worker's loop, while those do not sleep, or
/// until they are so many bytes: more of them then leave by one system call.
const HOLD_ROUNDS: u32 = 8;
const HOLD_BYTES: usize = 64 * 1024;

/// Bits of a token that are the server's; the worker chooses those above.
pub const TOKEN_BITS: u32 = 56;

impl NbdServer {
    /// A server on a listening socket. Its operations have `tag` in the bits of their tokens from
    /// [`TOKEN_BITS`] on.
    ///
    /// # Errors
    /// The driver cannot take the socket on.
    pub fn new(
        io: &mut dyn Proactor,
        pool: &Pool,
        listener: OwnedFd,
        export: Export,
        limits: ServerLimits,
        tag: u8,
    ) -> std::io::Result<NbdServer> {
        Ok(NbdServer {
            pool: pool.clone(),
            export,
            limits,
            tag: Token::from(tag) << TOKEN_BITS,
            listener: Some(io.attach_socket(listener)?),
            accepting: false,
            accept_failed: false,
            clients: (0..limits.clients).map(|_| None).collect(),
            generation: 0,
            turn: 0,
            requests: Slab::new(limits.requests),
            parts: Slab::new(limits.requests),
        })
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    fn token(&self, kind: Kind, client: u16, generation: u32) -> Token {
        self.tag | (kind as Token) << 48 | Token::from(client) << 32 | Token::from(generation)
    }

    /// The client that an operation was for, if it is still there.
    fn client_of(&mut self, token: Token) -> Option<&mut Client> {
        let index = usize::try_from(token >> 32 & 0xffff).ok()?;
        let client = self.clients.get_mut(index)?.as_mut()?;
        (Token::from(client.generation) == token & 0xffff_ffff).then_some(client)
    }

    fn find(&self, wanted: impl Fn(&Client) -> bool) -> Option<usize> {
        let mut clients = self.clients.iter();
        clients.position(|client| client.as_ref().is_some_and(&wanted))
    }

    fn welcome(&mut self, io: &mut dyn Proactor, fd: OwnedFd) {
        let free = self.clients.iter().position(Option::is_none);
        let at_end = |client: &Client| client.hung_up || client.life != Life::Open;
        let silent = |client: &Client| client.machine.in_handshake();
        let index = free.or_else(|| {
            let found = self.find(at_end).or_else(|| self.find(silent));
            found.inspect(|&index| self.remove(io, index))
        });
        let Some(index) = index else {
            log::warn!(
                "NBD client turned away: {} are connected",
                self.limits.clients
            );
            return;
        };
        let slot = match io.attach_socket(fd) {
            Ok(slot) => slot,
            Err(error) => {
                log::warn!("NBD client turned away: {error}");
                return;
            }
        };
        self.generation = self.generation.wrapping_add(1);
        match Client::new(&self.pool, slot, self.generation) {
            Some(client) => {
                self.clients[index] = Some(client);
                let number = u16::try_from(index).unwrap_or(u16::MAX);
                let token = self.token(Kind::HangUp, number, self.generation);
                io.socket(slot, token, SocketIo::HangUp);
            }
            None => io.detach(slot),
        }
    }

    /// Closes a client's socket and forgets it. What the engine has of it is finished there.
    fn remove(&mut self, io: &mut dyn Proactor, index: usize) {
        if let Some(mut client) = self.clients[index].take() {
            io.detach(client.slot);
            if let Some(request) = client.abandon() {
                self.mute(request);
            }
        }
    }

    /// Lets a request that is not complete end without a reply.
    fn mute(&mut self, index: u32) {
        if let Some(request) = self.requests.get_mut(index) {
            request.mute = true;
            request.complete = true;
            if request.outstanding == 0 {
                self.requests.remove(index);
            }
        }
    }

    /// The next part of what a client asks for; `None`: it has nothing, or there is no room.
    fn part_of(&mut self, index: usize) -> Option<AppRequest> {
        if self.parts.is_full() {
            return None;
        }
        loop {
            let client = self.clients[index].as_mut()?;
            if client.life != Life::Open {
                return None;
            }
            if client.current.is_some() {
                return self.next_part(index);
            }
            if client.receiving
                || client.hungry
                || client.in_flight >= self.limits.client_requests
                || client.occupied() > self.limits.client_bytes
                || self.requests.is_full()
            {
                return None;
            }
            match client.step(&self.export) {
                Step::Request(what) => {
                    client.in_flight += 1;
                    let request = self.requests.insert(Request {
                        client: u16::try_from(index).ok()?,
                        generation: client.generation,
                        command: what.command,
                        cookie: what.cookie,
                        outstanding: 0,
                        complete: false,
                        error: None,
                        started: false,
                        length: what.length,
                        mute: false,
                    })?;
                    client.current = Some(Current {
                        request,
                        what,
                        offset: what.offset,
                        left: what.length,
                        filling: None,
                    });
                }
                Step::More => {
                    client.hungry = true;
                    return None;
                }
                Step::Close => {
                    client.life = Life::Closing;
                    return None;
                }
                Step::Again | Step::Payload(_) => {
                    unreachable!("Client::step goes on by itself, and payloads have a request")
                }
            }
        }
    }

    /// The next part of the request that a client is at.
    fn next_part(&mut self, index: usize) -> Option<AppRequest> {
        let client = self.clients[index].as_mut()?;
        let mut current = client.current?;
        let request = self.requests.get_mut(current.request)?;
        let data = matches!(
            current.what.command,
            Command::Read { .. } | Command::Write { .. }
        );
        let longest = if data {
            REQUEST_BYTES_MAX
        } else {
            DISCARD_BYTES_MAX
        };
        let length = current.left.min(longest);
        if let Command::Read { chunks: false, .. } = current.what.command
            && request.length > REQUEST_BYTES_MAX
            && (client.in_flight > 1 || request.outstanding > 0)
        {
            return None;
        }
        let buf = if !data {
            None
        } else if let Some(filling) = current.filling {
            Some(filling.buf)
        } else {
            let occupied = client.occupied();
            if occupied > 0 && occupied + length as usize > self.limits.client_bytes {
                return None;
            }
            Some(self.pool.alloc(length)?)
        };
        if let (Command::Write { .. }, Some(buf)) = (current.what.command, buf) {
            let mut filling = current.filling.unwrap_or(Filling {
                buf,
                length,
                filled: 0,
            });
            let filled = !client.receiving && client.fill(&mut filling);
            if !filled {
                client.hungry = true;
                current.filling = Some(filling);
                client.current = Some(current);
                return None;
            }
            current.filling = None;
        }
        let id = self.parts.insert(Part {
            request: current.request,
            offset: current.offset,
            length,
        })?;
        let part = AppRequest {
            id: ReqId(id),
            op: match current.what.command {
                Command::Read { .. } => AppOp::Read,
                Command::Write { fua } => AppOp::Write { fua },
                Command::Trim => AppOp::Delete,
                Command::WriteZeroes { fua } => AppOp::WriteZeroes { fua },
                Command::Flush => AppOp::Flush,
            },
            offset: current.offset,
            length,
            buf,
        };
        if data {
            client.bytes += length as usize;
        }
        request.outstanding += 1;
        current.offset += u64::from(length);
        current.left -= length;
        request.complete = current.left == 0;
        client.current = (!request.complete).then_some(current);
        Some(part)
    }

    /// Closes clients that are at their end; sends and receives for the others.
    fn flush_client(&mut self, io: &mut dyn Proactor, index: usize) {
        let Some(client) = self.clients[index].as_mut() else {
            return;
        };
        let sent = client.out.is_empty() && client.sending.is_none();
        let done = match client.life {
            Life::Open => false,
            Life::Finishing => sent && client.in_flight == 0,
            Life::Closing => sent,
            Life::Broken => true,
        };
        if done {
            return self.remove(io, index);
        }
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let (slot, generation) = (client.slot, client.generation);
        let receive =
            (client.life == Life::Open && client.hungry && !client.receiving).then(|| {
                client.receiving = true;
                client.room()
            });
        if let Some(into) = receive {
            let token = self.token(Kind::Receive, number, generation);
            io.socket(slot, token, SocketIo::Receive { into });
        }
        let Some(client) = self.clients[index].as_mut() else {
            return;
        };
        if client.sending.is_some() || client.out.is_empty() {
            return;
        }
        if client.out.len() < HOLD_BYTES && client.held < HOLD_ROUNDS && io.is_ready() {
            client.held += 1;
            return;
        }
        client.held = 0;
        client.sending = Some(client.out.len());
        let next = client.spare.take();
        let next = next.unwrap_or_else(|| Outgoing::new(&self.pool));
        let out = std::mem::replace(&mut client.out, next);
        let token = self.token(Kind::Send, number, generation);
        io.socket(slot, token, SocketIo::Send(out));
    }
}

impl FrontEnd for NbdServer {
    fn done(&mut self, io: &mut dyn Proactor, completion: Completion) {
        match completion.done {
            Done::Accepted(accepted) => {
                self.accepting = false;
                match accepted {
                    Ok(fd) if self.listener.is_some() => self.welcome(io, fd),
                    Err(error) if self.listener.is_some() => {
                        log::warn!("Unable to accept an NBD client: {error}");
                        self.accept_failed = true;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            Done::Received(received) => {
                let Some(client) = self.client_of(completion.token) else {
                    return;
                };
                client.receiving = false;
                match received {
                    Ok(0) | Err(_) => client.life = Life::Broken,
                    Ok(received) => client.received(received),
                }
            }
            Done::Sent(result, out) => {
                if let Some(client) = self.client_of(completion.token) {
                    client.sending = None;
                    client.spare = Some(out);
                    if result.is_err() {
                        client.life = Life::Broken;
                    }
                }
            }
            Done::HungUp(_) => {
                if let Some(client) = self.client_of(completion.token) {
                    client.hung_up = true;
                }
            }
            Done::Disk { .. } | Done::Readable(_) => {
                unreachable!("the server submits no such operation")
            }
        }
    }

    fn next_request(&mut self) -> Option<AppRequest> {
        let count = self.clients.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if let Some(part) = self.part_of(index) {
                self.turn = index + 1;
                return Some(part);
            }
        }
        None
    }

    fn complete(&mut self, id: ReqId, result: Result<(), Errno>, buf: Option<BufId>) {
        let Some(part) = self.parts.remove(id.0) else {
            unreachable!("the engine completes a request once: {id:?}");
        };
        let Some(request) = self.requests.get_mut(part.request) else {
            unreachable!("a request stays while the engine has parts of it");
        };
        request.outstanding -= 1;
        if request.error.is_none() {
            request.error = result.err().map(NbdError::from);
        }
        let client = self.clients[usize::from(request.client)].as_mut();
        let client = client.filter(|client| client.generation == request.generation);
        let Some(client) = client.filter(|_| !request.mute) else {
            // Its parts that the engine does not have will never come.
            request.complete = true;
            if request.outstanding == 0 {
                self.requests.remove(part.request);
            }
            return;
        };
        let last = request.complete && request.outstanding == 0;
        match request.command {
            Command::Read { chunks, .. } => {
                client.bytes -= part.length as usize;
                reply_to_read(client, request, &part, buf, chunks, last);
            }
            Command::Write { .. } => client.bytes -= part.length as usize,
            Command::Trim | Command::WriteZeroes { .. } | Command::Flush => {}
        }
        // A failed read in one piece ends at once; other requests are carried out to their end.
        let failed_early = request.error.is_some()
            && matches!(request.command, Command::Read { .. })
            && request.outstanding == 0
            && !request.complete;
        if failed_early {
            client.current = None;
        }
        if !last && !failed_early {
            return;
        }
        let (cookie, error) = (request.cookie, request.error);
        match (request.command, error) {
            (Command::Read { chunks: true, .. }, Some(error)) => {
                client.out.encode(|out| error_chunk(out, cookie, error));
            }
            // Its head said that all is well: only the end of the connection can say otherwise.
            (Command::Read { .. }, Some(_)) if request.started => client.life = Life::Broken,
            (Command::Read { .. }, None) => {}
            _ => client.out.encode(|out| simple_reply(out, cookie, error)),
        }
        client.in_flight -= 1;
        self.requests.remove(part.request);
    }

    fn flush(&mut self, io: &mut dyn Proactor) {
        for index in 0..self.clients.len() {
            self.flush_client(io, index);
        }
        // The listening socket stays ready when descriptors are short: without the pause, the
        // worker would do nothing but fail.
        let pause = std::mem::take(&mut self.accept_failed);
        let listener = self.listener.filter(|_| !self.accepting && !pause);
        if let Some(listener) = listener {
            self.accepting = true;
            io.socket(listener, self.token(Kind::Accept, 0, 0), SocketIo::Accept);
        }
    }

    fn stop(&mut self, io: &mut dyn Proactor) {
        if let Some(listener) = self.listener.take() {
            io.detach(listener);
        }
        for index in 0..self.clients.len() {
            let Some(client) = self.clients[index].as_mut() else {
                continue;
            };
            if client.life == Life::Open {
                client.life = Life::Finishing;
            }
            // A receive may be filling the part: the client goes as a whole.
            if client.current.is_some() {
                client.life = Life::Broken;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.listener.is_none() && self.clients.iter().all(Option::is_none)
    }
}

/// Sends a part of a read, if all went well so far.
fn reply_to_read(
    client: &mut Client,
    request: &mut Request,
    part: &Part,
    buf: Option<BufId>,
    chunks: bool,
    last: bool,
) {
    if request.error.is_some() {
        return;
    }
    let Some(buf) = buf else {
        // The engine completes a read with its data.
        request.error = Some(NbdError::from(Errno::EIO));
        return;
    };
    let cookie = request.cookie;
    if chunks {
        let (offset, length) = (part.offset, part.length);
        client
            .out
            .encode(|out| data_chunk(out, cookie, offset, length, last));
    } else if !request.started {
        client.out.encode(|out| simple_reply(out, cookie, None));
    }
    request.started = true;
    client.out.push_buf(Piece::first(buf, part.length));
}
