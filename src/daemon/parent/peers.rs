//! Peers: their first packets, decoded by the listener, and connections made for primaries.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::{Entry, EntryId, Parent, Session};
use crate::daemon::admission::{self, Facts, ResourceFacts};
use crate::daemon::connect::Connecting;
use crate::daemon::log::DAEMON;
use crate::daemon::socket::{self, End};
use crate::daemon::worker::WorkerId;
use crate::events::Kind;
use crate::ipc::{Hello, Level, PeerHello};
use crate::wire::hello::{Answer, Token};
use crate::wire::message::{PROTOCOL_VERSION, TOKEN_BYTES};
use crate::worker::OFFER;

impl Parent {
    /// A peer has sent its first packet. The listener decoded it and is not believed more than the
    /// peer: the address is what the kernel says of the descriptor.
    pub(super) fn hear_peer(&mut self, hello: &Hello, socket: OwnedFd, now: Instant) {
        let ends = (
            socket::peer_of(socket.as_fd()),
            socket::name_of(socket.as_fd()),
        );
        let (Ok(peer), Ok(own)) = ends else {
            // It has gone already.
            return;
        };
        self.note_peer(
            Level::Info,
            &format!("Connection from {peer} to {own}."),
            now,
        );
        self.log.debug(
            2,
            DAEMON,
            format_args!("{peer}: resource={}", hello.resource),
        );
        let id = self.find(&hello.resource);
        if let Err(refusal) = admission::admit(self.facts(id, hello, &peer)) {
            self.look_up_again(now);
            self.refuse(refusal, id, &hello.resource, &peer, &socket, now);
            return;
        }
        let Some(id) = id else {
            return;
        };
        match &hello.second {
            None => self.begin_session(id, hello.version, &peer, socket, now),
            Some((token, second)) => self.complete_session(id, token, *second, &peer, socket, now),
        }
    }

    fn facts(&mut self, id: Option<EntryId>, hello: &Hello, peer: &End) -> Facts {
        let admits = |entry: &Entry| {
            let remote = entry.conf.remote.as_ref();
            remote.is_some_and(|remote| self.names.matches(remote, peer))
        };
        let configured = || self.entries.iter().filter(|entry| !entry.removed);
        let resource = configured()
            .find(|entry| Some(entry.id) == id)
            .map(|entry| ResourceFacts {
                admitted: admits(entry),
                role: entry.role(),
                disconnected: entry.steering.disconnected,
                token: hello
                    .second
                    .as_ref()
                    .map(|(token, _)| entry.sessions.knows(token)),
            });
        Facts {
            known: configured().any(admits),
            resource,
        }
    }

    fn refuse(
        &mut self,
        refusal: admission::Refusal,
        id: Option<EntryId>,
        resource: &str,
        peer: &End,
        socket: &OwnedFd,
        now: Instant,
    ) {
        let (level, text) = refusal.log(resource, &peer.to_string());
        let about = self
            .entries
            .iter()
            .find(|entry| Some(entry.id) == id)
            .filter(|_| refusal != admission::Refusal::UnknownClient)
            .map_or(String::new(), |entry| entry.about().to_string());
        match id.filter(|_| !about.is_empty()) {
            // Not of interest as the resource's problem: anybody can cause it.
            Some(id) => {
                let entry = self.entries.iter().find(|entry| entry.id == id);
                let whose = entry.map(|entry| (entry.conf.name.as_str(), entry.role()));
                self.events.note(Kind::Refused, whose, &text, now);
            }
            None => self.note(Kind::Refused, &text, now),
        }
        self.note_peer(level, &format!("{about}{text}"), now);
        if let Some(answer) = refusal.answer() {
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            // A peer that has gone does not need it.
            let _ = socket::send_now(socket.as_fd(), &bytes);
        }
    }

    /// Names may have other addresses by now: the peer's next attempt is compared with those.
    fn look_up_again(&mut self, now: Instant) {
        for entry in &self.entries {
            if let Some(remote) = &entry.conf.remote {
                self.names.refresh(remote, now);
            }
        }
    }

    /// Connection A: nothing that runs is disturbed.
    fn begin_session(
        &mut self,
        id: EntryId,
        version: u8,
        peer: &End,
        socket: OwnedFd,
        now: Instant,
    ) {
        let mut token: Token = [0; TOKEN_BYTES];
        if let Err(error) = getrandom::fill(&mut token) {
            let text = format!("Unable to make a token: {error}.");
            self.note_peer(Level::Error, &text, now);
            return;
        }
        let version = version.clamp(1, PROTOCOL_VERSION);
        let mut bytes = Vec::new();
        Answer::Accepted {
            version,
            token,
            offer: OFFER,
        }
        .encode(&mut bytes);
        let sent = socket::set_nodelay(socket.as_fd())
            .and_then(|()| socket::send_now(socket.as_fd(), &bytes));
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return;
        };
        if !matches!(sent, Ok(true)) {
            self.log.error(
                entry.about(),
                format_args!("Unable to send response to {peer}."),
            );
            return;
        }
        entry.sessions.open(token, socket, now);
        let about = entry.about();
        for text in [
            format!("Initial connection from {peer}."),
            format!("Negotiated protocol version {version}."),
            format!("Incoming connection from {peer} configured."),
        ] {
            self.log.debug(1, about, text);
        }
    }

    /// Connection B: a worker that runs for an earlier session is replaced by one for this.
    fn complete_session(
        &mut self,
        id: EntryId,
        token: &Token,
        hello: PeerHello,
        peer: &End,
        socket: OwnedFd,
        now: Instant,
    ) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return;
        };
        let Some(first) = entry.sessions.take(token) else {
            return;
        };
        if let Err(error) = socket::set_nodelay(socket.as_fd()) {
            self.log.error(
                entry.about(),
                format_args!("Unable to set up the connection to {peer}: {error}."),
            );
            return;
        }
        self.log.debug(
            1,
            entry.about(),
            format_args!("Outgoing connection to {peer} configured."),
        );
        entry.session = Some(Session {
            connections: [first, socket],
            hello,
        });
        self.with_supervisor(id, now, |supervisor| supervisor.session(now));
    }

    /// A primary wants to be connected to its configured peer.
    pub(super) fn begin_connect(&mut self, id: EntryId, worker: WorkerId, now: Instant) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        let conf = &entry.conf;
        let Some(remote) = conf.remote.clone() else {
            // The peer was configured away in this moment.
            self.connect_done(
                worker,
                Err("no remote address is configured".to_owned()),
                now,
            );
            return;
        };
        let connecting = Connecting::new(worker, remote, conf.source.clone(), conf.timeout_s, now);
        self.connecting.insert(worker, connecting);
        self.connect_on(worker, false, now);
    }

    /// Goes on with a connection.
    pub(super) fn connect_on(&mut self, worker: WorkerId, writable: bool, now: Instant) {
        let Some(connecting) = self.connecting.get_mut(&worker) else {
            return;
        };
        if let Some(outcome) = connecting.tick(&mut self.names, writable, now) {
            self.connecting.remove(&worker);
            self.connect_done(worker, outcome, now);
        }
    }

    fn connect_done(&mut self, id: WorkerId, outcome: Result<OwnedFd, String>, now: Instant) {
        let Some((entry, worker)) = self.workers.get_mut(&id) else {
            return;
        };
        let remote = self
            .entries
            .iter()
            .find(|other| other.id == *entry)
            .map_or_else(String::new, |entry| {
                super::workers::peer_address(&entry.conf)
            });
        let outcome = outcome.map_err(|reason| format!("{remote}: {reason}"));
        if worker.answer_connect(outcome).is_err() {
            // It does not read its channel, or is ending.
            worker.process.terminate(now);
        }
    }
}
