//! The network between two workers, and a scripted peer on it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use hast::ipc::{Offer as IpcOffer, PeerHello, ToWorker};
use hast::terms::REQUEST_BYTES_MAX;
use hast::wire::hello::{Answer, Offer, Opening};
use hast::wire::packet::{Decoder, Limits, Packet, Step};

use crate::rig::{Node, PATIENCE, Worker};

pub(crate) const TOKEN: [u8; 16] = [0x5a; 16];

pub(crate) const OURS: Offer = Offer {
    request_bytes: Some(REQUEST_BYTES_MAX),
    heartbeat: false,
    copy_states: true,
    steering: true,
};

/// Two connected sockets.
pub(crate) fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_nodelay(true).unwrap();
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (near, far)
}

/// Receives one packet, and not a byte more: what `decode` makes of its head, and its data.
pub(crate) fn packet<T>(
    socket: &mut TcpStream,
    mut decode: impl FnMut(&Packet<'_>) -> T,
) -> Option<(T, Vec<u8>)> {
    let mut decoder = Decoder::exact(Limits::PEER);
    let mut buffer = Vec::new();
    let mut decoded = None;
    loop {
        let received = match decoder.step().unwrap() {
            Step::Fill(space) => socket.read(space).unwrap_or(0),
            Step::Data { at, left } => socket.read(&mut buffer[at..at + left]).unwrap_or(0),
            Step::Packet(packet) => {
                decoded = Some(decode(&packet));
                buffer = vec![0; packet.data_bytes as usize];
                decoder.take_data(&mut buffer).unwrap();
                continue;
            }
            Step::Complete => return decoded.map(|decoded| (decoded, buffer)),
        };
        if received == 0 {
            return None;
        }
        decoder.received(received);
    }
}

pub(crate) fn send(socket: &mut TcpStream, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    socket.write_all(&bytes).unwrap();
}

/// A session that is being made by hand: the far ends of a primary's connections.
pub(crate) struct Far {
    pub(crate) a: TcpStream,
    pub(crate) b: TcpStream,
    pub(crate) hello: PeerHello,
}

/// Makes connection A for a primary; the far end, which has received the greeting.
pub(crate) fn first(primary: &mut Worker) -> TcpStream {
    primary.wants_connection();
    let (near, mut far) = tcp();
    primary.tell(&ToWorker::Connected, vec![near.into()]);
    let (opening, _) = packet(&mut far, |packet| Opening::decode(packet).unwrap()).unwrap();
    assert!(matches!(opening, Opening::First { version: 2, .. }));
    far
}

/// Plays a secondary's daemon up to the second step.
pub(crate) fn handshake(primary: &mut Worker, offer: Offer) -> Far {
    let mut a = first(primary);
    let answer = Answer::Accepted {
        version: 2,
        token: TOKEN,
        offer,
    };
    send(&mut a, |out| answer.encode(out));
    primary.wants_connection();
    let (near, mut b) = tcp();
    primary.tell(&ToWorker::Connected, vec![near.into()]);
    let (opening, _) = packet(&mut b, |packet| Opening::decode(packet).unwrap()).unwrap();
    let Opening::Second {
        token,
        hello,
        offer,
        ..
    } = opening
    else {
        panic!("{opening:?}");
    };
    assert_eq!(token, TOKEN);
    Far {
        a,
        b,
        hello: PeerHello {
            virgin: hello.virgin,
            resuid: hello.resuid,
            localcnt: hello.localcnt,
            remotecnt: hello.remotecnt,
            offer: IpcOffer {
                request_bytes: offer.request_bytes,
                heartbeat: offer.heartbeat,
                copy_states: offer.copy_states,
                steering: offer.steering,
            },
        },
    }
}

/// The link between a primary and a secondary: further handles of its sockets.
pub(crate) struct Cable(Vec<TcpStream>);

impl Cable {
    /// Breaks it.
    pub(crate) fn cut(&self) {
        for socket in &self.0 {
            // It may be gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Connects a running primary with a new secondary.
pub(crate) fn connect(primary: &mut Worker, node: &Node) -> (Worker, Cable) {
    let far = handshake(primary, OURS);
    let cable = Cable(vec![far.a.try_clone().unwrap(), far.b.try_clone().unwrap()]);
    let connections: [OwnedFd; 2] = [far.a.into(), far.b.into()];
    let secondary = node.secondary(connections, far.hello);
    primary.event(hast::ipc::Event::Connect);
    (secondary, cable)
}
