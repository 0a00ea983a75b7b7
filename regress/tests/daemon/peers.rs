//! What peers can do, and cannot.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use hast::wire::hello::{Answer, Offer, Opening};
use hast::wire::message::PrimaryHello;
use hast::wire::packet::{Limits, Packet};
use socket2::{Domain, Socket, Type};

use crate::node::{Node, until};

/// A connection from that address.
fn connect(node: &Node, from: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: IpAddr = from.parse().unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    let to = SocketAddr::new(node.address.parse().unwrap(), node.port);
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(crate::node::SOON)).unwrap();
    socket.into()
}

fn first(resource: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let opening = Opening::First {
        resource: resource.to_owned(),
        version: 2,
        offer: Offer::NONE,
    };
    opening.encode(&mut bytes);
    bytes
}

fn second(resource: &str, token: [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let opening = Opening::Second {
        resource: resource.to_owned(),
        token,
        hello: PrimaryHello {
            virgin: false,
            resuid: 7,
            localcnt: 0,
            remotecnt: 0,
        },
        offer: Offer::NONE,
    };
    opening.encode(&mut bytes);
    bytes
}

/// Sends a packet and returns all that comes back until the end.
fn exchange(node: &Node, from: &str, packet: &[u8]) -> Vec<u8> {
    let mut stream = connect(node, from);
    stream.write_all(packet).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The answer of a secondary to the first step; the connection stays open.
fn begin(stream: &mut TcpStream) -> Answer {
    stream.write_all(&first("test")).unwrap();
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let size = u32::from_le_bytes(header[1..].try_into().unwrap());
    let mut bytes = header.to_vec();
    bytes.resize(5 + size as usize, 0);
    stream.read_exact(&mut bytes[5..]).unwrap();
    Answer::decode(&Packet::parse(&bytes, Limits::HANDSHAKE).unwrap()).unwrap()
}

/// What the original answered in that scenario.
fn golden(scenario: &str) -> Answer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/wire")
        .join(scenario)
        .join("conn-1.s2c.bin");
    decode(&std::fs::read(path).unwrap())
}

fn decode(bytes: &[u8]) -> Answer {
    Answer::decode(&Packet::parse(bytes, Limits::HANDSHAKE).unwrap()).unwrap()
}

#[test]
fn refusals_are_those_of_the_original() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    let refusal = |packet: &[u8]| decode(&exchange(&node, "127.0.0.2", packet));
    assert_eq!(refusal(&first("nosuch")), golden("err-badresource"));
    assert_eq!(refusal(&first("test")), golden("err-role-init"));
    node.ctl_ok(&["role", "primary", "test"]);
    assert_eq!(refusal(&first("test")), golden("err-role-primary"));
    // Nobody with another address gets a byte.
    assert_eq!(exchange(&node, "127.0.0.3", &first("test")), b"");
    until("it is logged", || node.log().contains("isn't known."));
}

#[test]
fn peer_of_another_resource_has_no_access() {
    let mut node = Node::new();
    let other = node
        .resource("other", "")
        .replace("remote tcp4://127.0.0.2", "remote tcp4://127.0.0.3");
    node.configure(&format!("{}{other}", node.resource("test", "")));
    node.start();
    let refused = Answer::Refused {
        message: "No access to the resource.".to_owned(),
        wait: false,
    };
    let answer = exchange(&node, "127.0.0.3", &first("test"));
    assert_eq!(decode(&answer), refused);
}

#[test]
fn first_connection_alone_disturbs_nothing_and_a_wrong_token_opens_nothing() {
    let (mut primary, mut secondary) = Node::pair();
    for node in [&mut primary, &mut secondary] {
        node.create("test");
        node.start();
    }
    secondary.ctl_ok(&["role", "secondary", "test"]);
    primary.ctl_ok(&["role", "primary", "test"]);
    primary.ctl_ok(&["wait", "--connected", "--timeout", "20", "test"]);
    until("the secondary's worker", || {
        secondary.worker("test").is_some()
    });
    let worker = secondary.worker("test");

    let mut streams: Vec<TcpStream> = (0..10).map(|_| connect(&secondary, "127.0.0.1")).collect();
    for stream in &mut streams {
        assert!(matches!(begin(stream), Answer::Accepted { version: 2, .. }));
    }
    for token in [[0; 16], [1; 16]] {
        let answer = exchange(&secondary, "127.0.0.1", &second("test", token));
        let refused = Answer::Refused {
            message: "Token doesn't match.".to_owned(),
            wait: false,
        };
        assert_eq!(decode(&answer), refused);
    }
    assert_eq!(secondary.worker("test"), worker);
    assert_eq!(primary.state("test")["status"], "complete");
}

#[test]
fn junk_and_silence_cost_a_log_line() {
    let mut node = Node::new();
    node.start();
    let _silent: Vec<TcpStream> = (0..60).map(|_| connect(&node, "127.0.0.2")).collect();
    for packet in [
        &[2, 0, 0, 0, 0][..],
        &[1, 0xff, 0xff, 0xff, 0xff],
        &[
            1, 14, 0, 0, 0, 17, 2, 0xff, 0xff, 0xff, 0xff, 1, 1, 1, 1, 1, 1, 1, 1,
        ],
    ] {
        let mut stream = connect(&node, "127.0.0.2");
        stream.write_all(packet).unwrap();
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
    assert!(super::fastest_status(&node) < Duration::from_millis(100));
    // Whoever has something to say is heard all the same.
    let answer = exchange(&node, "127.0.0.2", &first("test"));
    assert_eq!(decode(&answer), golden("err-role-init"));
    until("it is logged", || {
        node.log().contains("Unable to receive header from")
    });
}
