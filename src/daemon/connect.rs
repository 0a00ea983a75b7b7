//! Connecting to a resource's peer on behalf of its primary, without waiting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::names::{Lookup, Names};
use super::socket::{self, Attempt, Place};
use super::worker::WorkerId;
use crate::conf::model::Address;
use crate::terms::system_reason;

/// How long one address may take at most, whatever the resource's timeout.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum State {
    /// Names are being looked up.
    Resolving,
    /// A socket is connecting.
    Connecting(OwnedFd, Instant),
}

/// A connection that is being made.
#[derive(Debug)]
pub struct Connecting {
    /// For whom.
    pub worker: WorkerId,
    remote: Address,
    source: Option<Address>,
    patience: Duration,
    /// Look-ups must not be older.
    since: Instant,
    deadline: Instant,
    /// Places that were not tried yet, the next one last.
    places: Vec<Place>,
    source_place: Option<Place>,
    failure: Option<String>,
    state: State,
}

/// What became of it.
pub type Outcome = Result<OwnedFd, String>;

impl Connecting {
    /// Begins; [`Connecting::tick`] does the first step.
    pub fn new(
        worker: WorkerId,
        remote: Address,
        source: Option<Address>,
        timeout_s: u32,
        now: Instant,
    ) -> Connecting {
        let patience = Duration::from_secs(timeout_s.into()).min(ATTEMPT_MAX);
        Connecting {
            worker,
            remote,
            source,
            patience,
            since: now.checked_sub(super::names::FRESH).unwrap_or(now),
            deadline: now + 2 * patience,
            places: Vec::new(),
            source_place: None,
            failure: None,
            state: State::Resolving,
        }
    }

    /// Goes on; `writable` says that the socket is. The outcome, if there is one.
    pub fn tick(&mut self, names: &mut Names, writable: bool, now: Instant) -> Option<Outcome> {
        if let State::Connecting(socket, deadline) = &self.state {
            if writable {
                match socket::outcome(socket) {
                    Ok(()) => return Some(self.connected()),
                    Err(error) => self.note(&system_reason(&error)),
                }
            } else if now >= *deadline {
                self.note("Operation timed out");
            } else {
                return None;
            }
        } else if let Err(outcome) = self.resolve(names, now) {
            return outcome;
        }
        self.next_place(now)
    }

    /// Finds the places; an error is what [`Connecting::tick`] returns at once.
    fn resolve(&mut self, names: &mut Names, now: Instant) -> Result<(), Option<Outcome>> {
        let remote = names.lookup(&self.remote, self.since);
        let source = self
            .source
            .as_ref()
            .map(|source| names.lookup(source, self.since));
        match (remote, source) {
            (Lookup::Failed(reason), _) => Err(Some(Err(reason))),
            (_, Some(Lookup::Failed(reason))) => {
                Err(Some(Err(format!("source address: {reason}"))))
            }
            (Lookup::Pending, _) | (_, Some(Lookup::Pending)) => Err((now >= self.deadline)
                .then(|| Err("its name could not be looked up in time".to_owned()))),
            (Lookup::Places(mut places), source) => {
                places.reverse();
                if let Some(Lookup::Places(sources)) = source {
                    self.source_place = sources
                        .into_iter()
                        .next()
                        .map(|place| self.without_port(place));
                    let family = self.source_place.clone();
                    places.retain(|place| same_family(place, family.as_ref()));
                }
                self.places = places;
                Ok(())
            }
        }
    }

    /// A source without a port takes any.
    fn without_port(&self, place: Place) -> Place {
        match (place, &self.source) {
            (Place::Inet(mut address), Some(Address::Tcp { port: None, .. })) => {
                address.set_port(0);
                Place::Inet(address)
            }
            (place, _) => place,
        }
    }

    fn next_place(&mut self, now: Instant) -> Option<Outcome> {
        while let Some(place) = self.places.pop() {
            match socket::connect(&place, self.source_place.as_ref()) {
                Ok(Attempt::Connected(socket)) => return Some(Ok(socket)),
                Ok(Attempt::Pending(socket)) => {
                    self.state = State::Connecting(socket, now + self.patience);
                    return None;
                }
                Err(error) => self.note(&system_reason(&error)),
            }
        }
        let reason = self.failure.take();
        Some(Err(reason.unwrap_or_else(|| {
            "no address of the family of the source address".to_owned()
        })))
    }

    fn connected(&mut self) -> Outcome {
        match std::mem::replace(&mut self.state, State::Resolving) {
            State::Connecting(socket, _) => Ok(socket),
            State::Resolving => Err("no connection".to_owned()),
        }
    }

    fn note(&mut self, reason: &str) {
        self.failure = Some(reason.to_owned());
    }

    /// The socket to poll for writing, if one is connecting.
    pub fn polled(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Connecting(socket, _) => Some(socket.as_fd()),
            State::Resolving => None,
        }
    }

    /// When [`Connecting::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        match self.state {
            State::Connecting(_, deadline) => deadline,
            State::Resolving => self.deadline,
        }
    }
}

fn same_family(place: &Place, source: Option<&Place>) -> bool {
    match (place, source) {
        (Place::Inet(place), Some(Place::Inet(source))) => place.is_ipv4() == source.is_ipv4(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;

    fn finish(mut connecting: Connecting) -> Outcome {
        let mut names = Names::default();
        let mut outcome = connecting.tick(&mut names, false, Instant::now());
        while outcome.is_none() {
            let polled = connecting.polled().unwrap();
            poll(&mut [PollFd::new(polled, PollFlags::POLLOUT)], 5000u16).unwrap();
            outcome = connecting.tick(&mut names, true, Instant::now());
        }
        outcome.unwrap()
    }

    fn to(remote: &str, source: Option<&str>) -> Connecting {
        let source = source.map(|source| source.parse().unwrap());
        Connecting::new(
            WorkerId(1),
            remote.parse().unwrap(),
            source,
            5,
            Instant::now(),
        )
    }

    #[test]
    fn connection_is_made_from_the_source_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = format!("tcp4://{}", listener.local_addr().unwrap());
        let socket = finish(to(&remote, Some("tcp4://127.0.0.3"))).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.3");
        drop(socket);
    }

    #[test]
    fn refused_connection_says_so() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let reason = finish(to(&format!("tcp4://127.0.0.1:{port}"), None)).unwrap_err();
        assert_eq!(reason, "Connection refused");
    }

    #[test]
    fn silent_address_times_out() {
        let start = Instant::now();
        let mut connecting = to("tcp4://192.0.2.1", None);
        let mut names = Names::default();
        // Without a route the attempt may fail at once, which is an outcome too.
        if connecting.tick(&mut names, false, start).is_none() {
            let late = connecting.next_deadline();
            let outcome = connecting.tick(&mut names, false, late);
            assert!(outcome.is_some_and(|outcome| outcome.is_err()));
        }
    }

    #[test]
    fn unix_socket_is_connected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        finish(to(&path.display().to_string(), None)).unwrap();
    }
}
