//! The control socket: connections of hastctl, each a small state machine.
//!
//! One request and one reply per connection. A client that is silent, slow or sends nonsense costs
//! a descriptor for a while and stalls nobody: everything is non-blocking and has a deadline, and
//! when there are too many, the one that has been silent for longest goes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use super::socket::{self, Place};
use crate::wire::control::{BadControlRequest, ControlReply, ControlRequest};
use crate::wire::packet::{Decoder, Limits, PacketError, Step};

/// Connections at the same time at most.
const CONNECTIONS_MAX: usize = 128;

/// How long a request may take to come.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a reply may take to be read.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);

/// Names a connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

#[derive(Debug)]
enum State {
    /// The request is being read.
    Reading(Decoder),
    /// The daemon works on the reply.
    Waiting,
    /// The reply is being written.
    Writing { bytes: Vec<u8>, at: usize },
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    state: State,
    /// None while the daemon works: its own deadlines hold then.
    deadline: Option<Instant>,
}

/// What came of a connection's turn.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing yet.
    Nothing,
    /// A request, to be answered with [`Control::reply`].
    Request(ControlRequest),
    /// A request that makes no sense; it was answered as far as the original answers.
    Refused(BadControlRequest),
    /// Bytes that are no request: the connection is closed.
    Garbage(PacketError),
}

/// The control socket and its connections.
#[derive(Debug)]
pub struct Control {
    listening: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket's file: only ours is removed.
    file: Option<(u64, u64)>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
}

impl Control {
    /// Listens there; the file is for this user alone. A socket that a living daemon listens on is
    /// left alone: an error of kind `AddrInUse`.
    pub fn listen(path: &Path) -> io::Result<Control> {
        let listening = socket::listen(&Place::Unix(path.to_owned()))?;
        Ok(Control {
            listening,
            path: path.to_owned(),
            file: identity(path),
            connections: BTreeMap::new(),
            next: 0,
        })
    }

    /// Moves to another path; connections go on.
    pub fn move_to(&mut self, path: &Path) -> io::Result<()> {
        let listening = socket::listen(&Place::Unix(path.to_owned()))?;
        self.remove();
        self.listening = listening;
        self.path = path.to_owned();
        self.file = identity(path);
        Ok(())
    }

    /// Removes the socket's file, if it is still ours.
    pub fn remove(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // Nobody can connect to what is left either.
            let _ = std::fs::remove_file(&self.path);
        }
        self.file = None;
    }

    /// Accepts what waits.
    pub fn accept(&mut self, now: Instant) {
        while let Ok((socket, _)) = SockRef::from(&self.listening).accept() {
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= CONNECTIONS_MAX {
                self.displace();
            }
            self.next += 1;
            let connection = Connection {
                socket,
                state: State::Reading(Decoder::exact(Limits::CONTROL_REQUEST)),
                deadline: Some(now + REQUEST_PATIENCE),
            };
            self.connections.insert(ConnectionId(self.next), connection);
        }
    }

    /// The oldest that has not sent its request goes, or else the oldest of all.
    fn displace(&mut self) {
        let silent = self
            .connections
            .iter()
            .find(|(_, connection)| matches!(connection.state, State::Reading(_)));
        let leaves = silent.or_else(|| self.connections.iter().next());
        if let Some(id) = leaves.map(|(&id, _)| id) {
            self.connections.remove(&id);
        }
    }

    /// Reads or writes what is possible on a connection.
    pub fn turn(&mut self, id: ConnectionId, now: Instant) -> Outcome {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Outcome::Nothing;
        };
        match &mut connection.state {
            State::Reading(decoder) => match read(decoder, &connection.socket) {
                Ok(None) => Outcome::Nothing,
                Ok(Some(Ok(request))) => {
                    connection.state = State::Waiting;
                    connection.deadline = None;
                    Outcome::Request(request)
                }
                Ok(Some(Err(bad))) => {
                    match bad.answer() {
                        Some(error) => self.reply(id, &ControlReply::refusal(error, None), now),
                        None => self.close(id),
                    }
                    Outcome::Refused(bad)
                }
                Err(error) => {
                    self.close(id);
                    error.map_or(Outcome::Nothing, Outcome::Garbage)
                }
            },
            // It is polled for its end only: nobody waits for the reply any more.
            State::Waiting => {
                self.close(id);
                Outcome::Nothing
            }
            State::Writing { bytes, at } => {
                if write(&connection.socket, bytes, at) {
                    self.close(id);
                }
                Outcome::Nothing
            }
        }
    }

    /// Sends the reply, now and later as the client takes it.
    pub fn reply(&mut self, id: ConnectionId, reply: &ControlReply, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (mut bytes, mut at) = (Vec::new(), 0);
        reply.encode(&mut bytes);
        if write(&connection.socket, &bytes, &mut at) {
            self.close(id);
            return;
        }
        connection.state = State::Writing { bytes, at };
        connection.deadline = Some(now + REPLY_PATIENCE);
    }

    /// Whether somebody still waits there.
    pub fn is_open(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    fn close(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// Closes connections whose time is over.
    pub fn tick(&mut self, now: Instant) {
        self.connections
            .retain(|_, connection| connection.deadline.is_none_or(|deadline| deadline > now));
    }

    /// When [`Control::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.connections
            .values()
            .filter_map(|connection| connection.deadline)
            .min()
    }

    /// The listening socket.
    pub fn listening(&self) -> BorrowedFd<'_> {
        self.listening.as_fd()
    }

    /// Connections to poll: for writing if true, for reading if false; with nothing, for their end
    /// alone.
    pub fn polled(&self) -> impl Iterator<Item = (ConnectionId, BorrowedFd<'_>, Option<bool>)> {
        self.connections.iter().map(|(&id, connection)| {
            let direction = match connection.state {
                State::Reading(_) => Some(false),
                State::Waiting => None,
                State::Writing { .. } => Some(true),
            };
            (id, connection.socket.as_fd(), direction)
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.symlink_metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The request if it is complete; an error without a reason is the end of the connection.
fn read(
    decoder: &mut Decoder,
    mut socket: &Socket,
) -> Result<Option<Result<ControlRequest, BadControlRequest>>, Option<PacketError>> {
    use std::io::Read;
    loop {
        match decoder.step().map_err(Some)? {
            Step::Fill(space) => match socket.read(space) {
                Ok(0) => return Err(None),
                Ok(count) => decoder.received(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(None),
            },
            Step::Packet(packet) => return Ok(Some(ControlRequest::decode(&packet))),
            // Packets with data are refused by the limits.
            Step::Data { .. } | Step::Complete => return Err(None),
        }
    }
}

/// Writes what the socket takes; true if the connection is done with, one way or the other.
fn write(socket: &Socket, bytes: &[u8], at: &mut usize) -> bool {
    while let Some(rest) = bytes.get(*at..).filter(|rest| !rest.is_empty()) {
        match socket.send(rest) {
            Ok(count) => *at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::wire::control::{ControlError, Order};

    struct Bench {
        dir: tempfile::TempDir,
        control: Control,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let control = Control::listen(&dir.path().join("ctl")).unwrap();
            Bench {
                dir,
                control,
                now: Instant::now(),
            }
        }

        fn client(&mut self) -> UnixStream {
            let client = UnixStream::connect(self.dir.path().join("ctl")).unwrap();
            self.control.accept(self.now);
            client
        }

        fn turn(&mut self) -> Outcome {
            let id = *self.control.connections.keys().next_back().unwrap();
            self.control.turn(id, self.now)
        }
    }

    #[test]
    fn garbage_closes_its_connection_and_nothing_else() {
        for bytes in [
            &[2, 0, 0, 0, 0][..],
            &[2, 0xff, 0xff, 0xff, 0xff],
            &[3, 8, 0, 0, 0],
        ] {
            let mut bench = Bench::new();
            let mut client = bench.client();
            client.write_all(bytes).unwrap();
            assert!(matches!(bench.turn(), Outcome::Garbage(_)), "{bytes:?}");
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
    }

    #[test]
    fn request_without_a_resource_is_answered_as_the_original_does() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        let mut bytes = Vec::new();
        crate::wire::packet::write(&mut bytes, 2, |pairs| {
            pairs.u8("cmd", 2);
        });
        client.write_all(&bytes).unwrap();
        assert!(matches!(
            bench.turn(),
            Outcome::Refused(BadControlRequest::NoResource)
        ));
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        let mut expected = Vec::new();
        ControlReply::refusal(ControlError::INVALID, None).encode(&mut expected);
        assert_eq!(reply, expected);
    }

    #[test]
    fn silent_clients_go_after_a_while_and_at_once_when_there_are_too_many() {
        let mut bench = Bench::new();
        let clients: Vec<UnixStream> = (0..CONNECTIONS_MAX + 3).map(|_| bench.client()).collect();
        assert_eq!(bench.control.connections.len(), CONNECTIONS_MAX);
        assert_eq!((&clients[0]).read(&mut [0; 8]).unwrap(), 0);
        bench.control.tick(bench.now + REQUEST_PATIENCE);
        assert!(bench.control.connections.is_empty());
    }

    #[test]
    fn long_reply_is_written_as_the_client_reads_it() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        let mut bytes = Vec::new();
        let request = ControlRequest {
            order: Order::Status,
            resources: vec!["all".to_owned()],
            json: false,
        };
        request.encode(&mut bytes);
        client.write_all(&bytes).unwrap();
        assert!(matches!(bench.turn(), Outcome::Request(found) if found == request));
        let text = "x".repeat(2 << 20);
        let reply = ControlReply::refusal(ControlError::INVALID, Some(text));
        let id = *bench.control.connections.keys().next().unwrap();
        bench.control.reply(id, &reply, bench.now);
        assert!(bench.control.is_open(id));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        while bench.control.is_open(id) {
            bench.control.turn(id, bench.now);
        }
        assert!(reader.join().unwrap() > 2 << 20);
    }

    #[test]
    fn file_of_another_daemon_is_not_removed() {
        let mut bench = Bench::new();
        let path = bench.dir.path().join("ctl");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        bench.control.remove();
        assert!(path.exists());
    }
}
