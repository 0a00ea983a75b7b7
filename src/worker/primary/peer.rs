//! The primary's two connections to its peer: handshake, requests out on A, replies in on B.

use std::os::fd::OwnedFd;

use super::Worker;
use super::connector::{Connector, Kind, Step};
use crate::engine::event::{BufId, LostReason, PeerLimits, PrimaryEvent};
use crate::io::pool::Piece;
use crate::io::proactor::Proactor;
use crate::ipc::{Cause, Event, FromWorker, Level};
use crate::latency::{Op, Stage};
use crate::terms::{Compression, PEER_REQUEST_BYTES};
use crate::wire::hello::{Answer, HelloError, Offer, Opening, SPLIT_BRAIN_TEXT, Verdict};
use crate::wire::message::SecondaryHello;
use crate::wire::message::{Command, PROTOCOL_VERSION, PrimaryHello, Reply, Request};
use crate::wire::packet::Limits;
use crate::wire::request::Response;
use crate::wire::stages::{self, DataHead, Decoded, StageError};
use crate::worker::blocks::{Encoder, Receiving, Unchecked, judge};
use crate::worker::stream::{Arrival, Stream};
use crate::worker::{OFFER, reasons, tokens};

/// Room for a peer's bitmap beyond the length of ours, in bytes: its data area may be aligned
/// otherwise, or its extents be smaller, which is better said than refused as nonsense.
const MAP_SLACK_BYTES: u32 = 32 * 1024 * 1024;

/// The peer.
pub(super) struct Peer {
    pub(super) connector: Connector,
    /// Sessions, so that what belongs to an earlier one is recognised.
    session: u32,
    a: Option<Stream>,
    b: Option<Stream>,
    pub(super) encoder: Encoder,
    /// For blocks that have to be decompressed.
    beside: BufId,
    /// Largest bitmap that is accepted, in bytes.
    map_bytes_max: u32,
    /// The answer to the engine's hello, until its bitmap is complete.
    verdict: Option<(SecondaryHello, DataHead, Offer)>,
    /// The peer is one of ours.
    is_ours: bool,
    warned: bool,
    /// The reply whose data are being received.
    receiving: Option<(Reply, Receiving)>,
    /// Requests that have no final reply.
    pub(super) unanswered: u64,
    /// Why the connection is being given up, in better words than the engine's.
    words: Option<(String, Kind, Cause)>,
}

/// A packet on connection A.
enum OnA {
    Answer(Result<Answer, HelloError>),
    Verdict(Result<Verdict, HelloError>),
}

impl Peer {
    pub(super) fn new(
        connector: Connector,
        encoder: Encoder,
        beside: BufId,
        map_bytes: usize,
    ) -> Peer {
        Peer {
            connector,
            session: 0,
            a: None,
            b: None,
            encoder,
            beside,
            map_bytes_max: u32::try_from(map_bytes)
                .unwrap_or(u32::MAX)
                .saturating_add(MAP_SLACK_BYTES),
            verdict: None,
            is_ours: false,
            warned: false,
            receiving: None,
            unanswered: 0,
            words: None,
        }
    }

    /// Closes both connections. Buffers that were received into or sent from are free at once.
    pub(super) fn close(&mut self, io: &mut dyn Proactor) {
        for stream in [self.a.take(), self.b.take()].into_iter().flatten() {
            stream.close(io);
        }
        self.session = self.session.wrapping_add(1);
        self.verdict = None;
        self.receiving = None;
        self.unanswered = 0;
    }

    /// The connection that an operation belongs to.
    pub(super) fn stream_of(&mut self, token: u64) -> Option<&mut Stream> {
        [&mut self.a, &mut self.b]
            .into_iter()
            .flatten()
            .find(|stream| stream.owns(token))
    }

    /// Starts sending and receiving: once per round.
    pub(super) fn flush(&mut self, io: &mut dyn Proactor) {
        for stream in [&mut self.a, &mut self.b].into_iter().flatten() {
            stream.flush(io);
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting_bytes(&mut self) -> u64 {
        self.a.as_mut().map_or(0, |a| a.out().len() as u64)
    }

    fn failure(&self) -> Option<String> {
        let streams = [&self.a, &self.b].into_iter().flatten();
        let mut failures = streams.filter_map(Stream::failure);
        failures.next().map(str::to_owned)
    }
}

impl Worker<'_> {
    // ---- connecting

    /// Does what the connector says.
    pub(super) fn follow(&mut self, step: Step) {
        match step {
            Step::Nothing | Step::Greet | Step::Link | Step::Discard => {}
            Step::Connect => self.parent.send(FromWorker::Connect),
            Step::Failed {
                reason,
                cause,
                wait_ms,
            } => {
                self.peer.close(&mut *self.io);
                self.report.not_connected(self.parent, reason, cause);
                match wait_ms {
                    Some(0) => self.parent.log(
                        Level::Warning,
                        "Remote node is still primary, starting anyway.",
                    ),
                    Some(left) if left == self.timeout_ms() => self.parent.log(
                        Level::Warning,
                        format!(
                            "Waiting for remote node to become secondary for {}.",
                            reasons::duration(left / 1000)
                        ),
                    ),
                    _ => {}
                }
            }
        }
    }

    /// A connection that was asked for.
    pub(super) fn peer_connected(&mut self, socket: OwnedFd) {
        let step = self.peer.connector.connected(self.now);
        let connection = u64::from(step == Step::Link);
        if !matches!(step, Step::Greet | Step::Link) {
            return;
        }
        let token = tokens::peer(self.peer.session, connection);
        let limits = if step == Step::Greet {
            Limits::HANDSHAKE
        } else {
            Limits::PEER
        };
        let mut stream = match Stream::new(&mut *self.io, &self.pool, socket, token, limits) {
            Ok(stream) => stream,
            Err(error) => {
                let reason = crate::terms::system_reason(&error);
                return self.lose(LostReason::Broken, format!("Unable to connect: {reason}."));
            }
        };
        if step == Step::Greet {
            let greeting = Opening::First {
                resource: self.resource.clone(),
                version: PROTOCOL_VERSION,
                offer: OFFER,
            };
            stream.out().encode(|bytes| greeting.encode(bytes));
            self.peer.a = Some(stream);
        } else {
            self.peer.b = Some(stream);
            self.feed(PrimaryEvent::Linked);
        }
    }

    /// The engine's part of the second step.
    pub(super) fn send_hello(&mut self, hello: PrimaryHello) {
        let second = Opening::Second {
            resource: self.resource.clone(),
            token: self.peer.connector.token(),
            hello,
            offer: OFFER,
        };
        let map_bytes_max = self.peer.map_bytes_max;
        if let (Some(a), Some(b)) = (&mut self.peer.a, &mut self.peer.b) {
            b.out().encode(|bytes| second.encode(bytes));
            a.set_limits(Limits::bitmap(map_bytes_max));
        }
    }

    // ---- the end of a connection

    /// The connection, or the attempt, is given up by this side of the engine.
    pub(super) fn lose(&mut self, reason: LostReason, words: String) {
        let kind = if reasons::is_lasting(reason) {
            Kind::Lasting
        } else {
            Kind::Passing
        };
        self.lose_for(reason, words, kind, reasons::cause(reason));
    }

    fn lose_for(&mut self, reason: LostReason, words: String, kind: Kind, cause: Cause) {
        self.peer.close(&mut *self.io);
        if !self.peer.connector.is_linked() {
            let step = self.peer.connector.failed(self.now, kind, cause, words);
            return self.follow(step);
        }
        self.peer.words = Some((words, kind, cause));
        self.feed(PrimaryEvent::Lost(reason));
        if self.peer.connector.is_linked() {
            // The engine had given it up already.
            self.disconnected(reason);
        }
    }

    /// The engine says that the connection is gone.
    pub(super) fn disconnected(&mut self, reason: LostReason) {
        self.peer.close(&mut *self.io);
        let (words, kind, cause) = self.peer.words.take().unwrap_or_else(|| {
            let kind = if reasons::is_lasting(reason) {
                Kind::Lasting
            } else {
                Kind::Passing
            };
            (reasons::describe(reason), kind, reasons::cause(reason))
        });
        let was_up = self.peer.connector.is_up();
        let connector = &mut self.peer.connector;
        let step = connector.failed(self.now, kind, cause, words.clone());
        if was_up {
            self.report
                .disconnected(self.parent, words, cause, self.now);
        } else {
            self.follow(step);
        }
    }

    fn violated(&mut self, what: &'static str, error: &dyn std::fmt::Display) {
        let words = format!("Invalid packet from {}: {error}.", self.report.peer);
        self.lose(LostReason::Protocol(what), words);
    }

    // ---- what the peer sends

    /// Takes what has arrived on both connections.
    pub(super) fn pump_peer(&mut self) {
        self.pump_a();
        self.pump_b();
        if let Some(failure) = self.peer.failure() {
            let what = if self.peer.connector.is_up() {
                "Unable to receive reply header"
            } else {
                "Unable to receive handshake header"
            };
            let words = format!("{what} from {}: {failure}.", self.report.peer);
            self.lose(LostReason::Broken, words);
        }
    }

    fn pump_a(&mut self) {
        loop {
            let awaits_answer = self.peer.connector.awaits_answer();
            let map_bytes_max = self.peer.map_bytes_max;
            let Some(a) = &mut self.peer.a else { return };
            let arrival = a.next(|packet| {
                if awaits_answer {
                    OnA::Answer(Answer::decode(packet))
                } else {
                    OnA::Verdict(Verdict::decode(packet, map_bytes_max))
                }
            });
            match arrival {
                Err(error) => return self.violated("a malformed packet", &error),
                Ok(Arrival::Nothing) => return,
                Ok(Arrival::Complete) => {
                    let wire = a.finish_memory();
                    self.verdict_complete(wire);
                }
                Ok(Arrival::Head(OnA::Answer(Ok(answer)))) => {
                    a.skip();
                    if let Answer::Accepted { version, .. } = &answer {
                        let text = format!("Negotiated protocol version {version}.");
                        self.parent.log(Level::Debug(1), text);
                    }
                    let step = self.peer.connector.answered(self.now, answer);
                    self.follow(step);
                }
                Ok(Arrival::Head(OnA::Verdict(Ok(verdict)))) => self.verdict(verdict),
                Ok(Arrival::Head(OnA::Answer(Err(error)) | OnA::Verdict(Err(error)))) => {
                    return self.violated("a malformed answer", &error);
                }
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        let expected =
            self.peer.b.is_some() && !self.peer.connector.is_up() && self.peer.verdict.is_none();
        let Some(a) = self.peer.a.as_mut().filter(|_| expected) else {
            let words = format!("Unexpected packet from {}.", self.report.peer);
            return self.lose(LostReason::Protocol("a packet out of turn"), words);
        };
        match verdict {
            Verdict::Refused { message, .. } => {
                let split_brain = message == SPLIT_BRAIN_TEXT;
                if split_brain {
                    self.parent.event(Event::SplitBrain, message.as_str());
                }
                let cause = reasons::cause_of_refusal(&message);
                let reason = if split_brain {
                    LostReason::SplitBrain
                } else {
                    LostReason::Asked
                };
                self.lose_for(reason, message, Kind::Lasting, cause);
            }
            Verdict::Accepted { hello, map, offer } => {
                self.peer.verdict = Some((hello, map, offer));
                if map.size == 0 {
                    a.skip();
                    self.verdict_complete(Vec::new());
                } else if let Err(error) = a.take_memory(map.size) {
                    self.violated("a malformed answer", &error);
                }
            }
        }
    }

    /// The bitmap of the answer has arrived.
    fn verdict_complete(&mut self, wire: Vec<u8>) {
        let Some((hello, head, offer)) = self.peer.verdict else {
            return;
        };
        self.peer.is_ours = offer.request_bytes.is_some() || offer.copy_states;
        let map = match decode_map(&head, wire, hello.mapsize) {
            Ok(map) => map,
            Err(error) => return self.violated("a damaged bitmap", &error),
        };
        if !self.accepts_unchecked(&head) {
            return;
        }
        // What counts is what the worker there offers, since it is what it was offered itself that
        // it relies on.
        let limits = PeerLimits {
            request_bytes: offer.request_bytes.unwrap_or(PEER_REQUEST_BYTES),
            heartbeat: offer.heartbeat,
            copy_states: offer.copy_states,
            steering: offer.steering,
        };
        self.feed(PrimaryEvent::Hello {
            hello,
            map: &map,
            peer: limits,
        });
    }

    /// Whether data may come without a checksum, or with this one; otherwise the connection is
    /// given up.
    fn accepts_unchecked(&mut self, head: &DataHead) -> bool {
        match judge(head, self.settings.checksum, self.peer.is_ours) {
            Unchecked::Fine => true,
            Unchecked::Warn => {
                if !std::mem::replace(&mut self.peer.warned, true) {
                    let text = format!(
                        "Data from {} come without the checksum that is configured here.",
                        self.report.peer
                    );
                    self.parent.log(Level::Warning, text);
                }
                true
            }
            Unchecked::Refuse => {
                let words = format!(
                    "Data from {} come without the checksum that is configured here: configure \
                     the same on both nodes.",
                    self.report.peer
                );
                self.lose(LostReason::Protocol("data without a checksum"), words);
                false
            }
        }
    }

    fn pump_b(&mut self) {
        loop {
            let Some(b) = &mut self.peer.b else { return };
            match b.next(Response::decode) {
                Err(error) => return self.violated("a malformed packet", &error),
                Ok(Arrival::Nothing) => return,
                Ok(Arrival::Complete) => {
                    b.finish();
                    self.read_complete();
                }
                Ok(Arrival::Head(Err(error))) => {
                    return self.violated("a malformed reply", &error);
                }
                Ok(Arrival::Head(Ok(Response::Heartbeat))) => {
                    b.skip();
                    self.feed(PrimaryEvent::Heartbeat);
                }
                Ok(Arrival::Head(Ok(Response::Reply(reply, head)))) if head.size == 0 => {
                    b.skip();
                    self.reply(reply, 0);
                }
                Ok(Arrival::Head(Ok(Response::Reply(reply, head)))) => {
                    self.read_begins(reply, head);
                }
            }
        }
    }

    /// The head of a reply with data: they are received to where the engine wants them.
    fn read_begins(&mut self, reply: Reply, head: DataHead) {
        let Some((buf, at, length)) = self.engine.read_destination(reply.seq) else {
            let words = format!("Data that were not asked for from {}.", self.report.peer);
            return self.lose(LostReason::Protocol("data that were not asked for"), words);
        };
        if let Err(error) = head.check_length(length.into()) {
            return self.violated("data of another length", &error);
        }
        if !self.accepts_unchecked(&head) {
            return;
        }
        let destination = Piece { buf, at, length };
        let receiving = Receiving::new(head, destination, self.peer.beside, &self.pool);
        let (Some(receiving), Some(b)) = (receiving, &mut self.peer.b) else {
            let error = StageError::BufferBytes {
                needed: head.size as usize,
                given: length as usize,
            };
            return self.violated("data of another length", &error);
        };
        self.peer.receiving = Some((reply, receiving));
        if let Err(error) = b.take(receiving.wire()) {
            self.violated("data of another length", &error);
        }
    }

    /// All data of a reply have arrived.
    fn read_complete(&mut self) {
        let Some((reply, receiving)) = self.peer.receiving.take() else {
            unreachable!("data are taken for a reply only");
        };
        let Piece { buf, at, length } = receiving.destination();
        if self.engine.read_destination(reply.seq) != Some((buf, at, length)) {
            let words = format!("Data that were not asked for from {}.", self.report.peer);
            return self.lose(LostReason::Protocol("data that were not asked for"), words);
        }
        match receiving.decode(&self.pool) {
            Err(error) => return self.violated("damaged data", &error),
            Ok(true) => self.pool.write(receiving.destination()).fill(0),
            Ok(false) => {}
        }
        self.reply(reply, length);
    }

    fn reply(&mut self, reply: Reply, length: u32) {
        if !reply.received {
            self.meter.end(Stage::Remote, reply.seq);
            self.peer.unanswered = self.peer.unanswered.saturating_sub(1);
        }
        self.feed(PrimaryEvent::Reply { reply, length });
    }

    // ---- what the engine sends

    pub(super) fn send_request(
        &mut self,
        request: Request,
        data: Option<(BufId, u32)>,
        zeroes: bool,
    ) {
        let Some(a) = &mut self.peer.a else { return };
        if request.command != Command::Keepalive {
            self.peer.unanswered += 1;
        }
        if let Some(op) = measured(request.command) {
            self.meter
                .begin(Stage::Remote, request.seq, op, request.length);
        }
        let encoder = &mut self.peer.encoder;
        let length = u32::try_from(request.length);
        match (data, length) {
            (_, Ok(length)) if zeroes => {
                encoder.push_zeroes(a.out(), length, |head, out| request.encode(head, out));
            }
            (Some((buf, at)), Ok(length)) => {
                let piece = Piece { buf, at, length };
                encoder.push_piece(a.out(), &self.pool, piece, |head, out| {
                    request.encode(head, out);
                });
            }
            _ => a.out().encode(|out| request.encode(&DataHead::EMPTY, out)),
        }
    }
}

/// What a request is counted as.
fn measured(command: Command) -> Option<Op> {
    match command {
        Command::Read => Some(Op::Read),
        Command::Write => Some(Op::Write),
        Command::Delete => Some(Op::Delete),
        Command::Flush => Some(Op::Flush),
        _ => None,
    }
}

/// The bitmap of its bytes on the wire.
fn decode_map(head: &DataHead, wire: Vec<u8>, mapsize: u32) -> Result<Vec<u8>, StageError> {
    if head.size == 0 {
        return Ok(Vec::new());
    }
    let mut output = if head.compression == Compression::None {
        Vec::new()
    } else {
        vec![0; mapsize as usize]
    };
    Ok(match stages::decode(head, &wire, mapsize, &mut output)? {
        Decoded::InPlace => wire,
        Decoded::Output | Decoded::Zeroes => output,
    })
}
