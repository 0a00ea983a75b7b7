//! Peers that break the rules, and nodes that do not fit each other.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use hast::ipc::{Event, Level, Offer as IpcOffer, PeerHello};
use hast::terms::{Checksum, Compression, Errno};
use hast::wire::hello::{Answer, Offer, Verdict};
use hast::wire::message::{Command, Reply, Request, SecondaryHello, SyncSource};
use hast::wire::packet;
use hast::wire::stages::{DataHead, Hash};

use crate::golden::{accept, answer};
use crate::nbd::Nbd;
use crate::peer::{Far, connect, first, handshake, packet as receive, send, tcp};
use crate::rig::{Node, Worker, mixed};

/// A primary by hand: the far ends of a secondary's connections, after the handshake.
struct Primary {
    a: TcpStream,
    b: TcpStream,
}

const VIRGIN: PeerHello = PeerHello {
    virgin: true,
    resuid: 7,
    localcnt: 0,
    remotecnt: 0,
    offer: IpcOffer {
        request_bytes: None,
        heartbeat: false,
        copy_states: false,
        steering: false,
    },
};

fn begin(node: &Node, hello: PeerHello) -> (Worker, Primary, Verdict) {
    let (mut a, near_a) = tcp();
    let (b, near_b) = tcp();
    let secondary = node.secondary([near_a.into(), near_b.into()], hello);
    let (verdict, _) = receive(&mut a, |packet| Verdict::decode(packet, 1 << 20).unwrap()).unwrap();
    (secondary, Primary { a, b }, verdict)
}

fn request(command: Command, seq: u64, offset: u64, length: u64) -> Request {
    Request {
        command,
        seq,
        offset,
        length,
        memsync: false,
    }
}

fn plain(size: usize) -> DataHead {
    DataHead {
        size: u32::try_from(size).unwrap(),
        compression: Compression::None,
        hash: Hash::None,
    }
}

impl Primary {
    fn send(&mut self, request: &Request, head: &DataHead, data: &[u8]) {
        send(&mut self.a, |out| {
            request.encode(head, out);
            out.extend(data);
        });
    }

    fn reply(&mut self) -> Reply {
        receive(&mut self.b, |packet| Reply::decode(packet).unwrap())
            .unwrap()
            .0
            .0
    }

    /// Writes a block, and reads it back.
    fn works(&mut self, seq: u64) {
        let data = mixed(seq, 4096);
        self.send(
            &request(Command::Write, seq, 8192, 4096),
            &plain(4096),
            &data,
        );
        assert_eq!((self.reply().seq, self.reply_error()), (seq, None));
    }

    fn reply_error(&mut self) -> Option<Errno> {
        self.send(&request(Command::Flush, 99, 0, 0), &DataHead::EMPTY, &[]);
        self.reply().error
    }
}

#[test]
fn requests_that_make_no_sense_are_answered_and_the_stream_stays_in_step() {
    let node = Node::new();
    let datasize = node.metadata().datasize;
    let (mut secondary, mut primary, _) = begin(&node, VIRGIN);
    let lzf_of_4_bytes = DataHead {
        size: 4,
        compression: Compression::Lzf,
        hash: Hash::None,
    };
    let bytes = |count: usize| vec![0x41; count];
    let bad: Vec<(Request, DataHead, Vec<u8>)> = vec![
        // Defect 21: the end overflows, before the data area, behind it.
        (
            request(Command::Write, 1, u64::MAX - 4607, 4608),
            plain(4608),
            bytes(4608),
        ),
        (
            request(Command::Read, 2, u64::MAX - 511, 512),
            DataHead::EMPTY,
            vec![],
        ),
        (
            request(Command::Write, 3, datasize, 512),
            plain(512),
            bytes(512),
        ),
        (
            request(Command::Read, 4, datasize - 512, 1024),
            DataHead::EMPTY,
            vec![],
        ),
        (
            request(Command::Delete, 5, 0, datasize + 512),
            DataHead::EMPTY,
            vec![],
        ),
        // Parts of sectors, nothing at all, too much.
        (request(Command::Write, 6, 1, 512), plain(512), bytes(512)),
        (request(Command::Read, 7, 512, 100), DataHead::EMPTY, vec![]),
        (request(Command::Read, 8, 0, 0), DataHead::EMPTY, vec![]),
        (
            request(Command::Read, 9, 0, 2 << 20),
            DataHead::EMPTY,
            vec![],
        ),
        (
            request(Command::Write, 10, 0, 2 << 20),
            plain(2 << 20),
            bytes(2 << 20),
        ),
        // Defect 22: a body that is shorter or longer than the length, or missing.
        (request(Command::Write, 11, 0, 4096), plain(512), bytes(512)),
        (
            request(Command::Write, 12, 0, 512),
            plain(4096),
            bytes(4096),
        ),
        (
            request(Command::Write, 13, 0, 4096),
            DataHead::EMPTY,
            vec![],
        ),
        // Defect 24: an lzf block of 4 bytes, a memsync flag out of place.
        (
            request(Command::Write, 14, 0, 4096),
            lzf_of_4_bytes,
            bytes(4),
        ),
        (
            Request {
                memsync: true,
                ..request(Command::Read, 15, 0, 512)
            },
            DataHead::EMPTY,
            vec![],
        ),
    ];
    for (request, head, data) in bad {
        primary.send(&request, &head, &data);
        let reply = primary.reply();
        assert_eq!(reply.seq, request.seq);
        assert_eq!(reply.error, Some(Errno::EINVAL), "{request:?}");
        primary.works(request.seq + 100);
    }
    // An unknown command with data, as an unknown peer would send them.
    send(&mut primary.a, |out| {
        packet::write(out, 2, |pairs| {
            pairs.u8("cmd", 77).u64("seq", 50).u32("size", 3000);
        });
        out.extend([0xff; 3000]);
    });
    assert_eq!(primary.reply().error, Some(Errno::EINVAL));
    primary.works(51);
    drop(primary);
    assert_eq!(secondary.exit_status(), 75);
    let untouched = node.data();
    assert!(untouched[..8192].iter().all(|&byte| byte == 0));
    assert!(untouched[12288..].iter().all(|&byte| byte == 0));
}

#[test]
fn what_cannot_be_trusted_ends_the_session_and_reaches_no_disk() {
    let damaged = DataHead {
        hash: Hash::Crc32([1, 2, 3, 4]),
        ..plain(4096)
    };
    let mut streams: Vec<Vec<u8>> = vec![
        // Not a packet; a header of 4 GiB; the five bytes of defect 12.
        vec![0xff; 4096],
        vec![2, 0xff, 0xff, 0xff, 0xff],
        vec![2, 0, 0, 0, 0],
    ];
    let mut stream = Vec::new();
    request(Command::Write, 1, 0, 4096).encode(&damaged, &mut stream);
    stream.extend([0x41; 4096]);
    streams.push(stream);
    // No command, no number.
    let mut stream = Vec::new();
    packet::write(&mut stream, 2, |pairs| {
        pairs.u64("offset", 0);
    });
    streams.push(stream);
    // Defect 6: a torn write.
    let mut stream = Vec::new();
    request(Command::Write, 1, 0, 65536).encode(&plain(65536), &mut stream);
    stream.extend([0x41; 60000]);
    streams.push(stream);
    for stream in streams {
        let node = Node::new();
        let (mut secondary, mut primary, _) = begin(&node, VIRGIN);
        primary.a.write_all(&stream).unwrap();
        primary.a.shutdown(Shutdown::Write).unwrap();
        assert_eq!(secondary.exit_status(), 75);
        secondary.event(Event::Disconnect);
        assert!(node.data().iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_peer_of_ours_has_to_send_the_checksum_that_is_configured() {
    for (ours, status) in [(false, None), (true, Some(75))] {
        let mut node = Node::new();
        node.settings.checksum = Checksum::Crc32;
        let mut hello = VIRGIN;
        hello.offer.copy_states = ours;
        let (mut secondary, mut primary, _) = begin(&node, hello);
        let data = mixed(2, 512);
        primary.send(&request(Command::Write, 1, 0, 512), &plain(512), &data);
        match status {
            None => assert_eq!(primary.reply().error, None),
            Some(status) => assert_eq!(secondary.exit_status(), status),
        }
    }
}

#[test]
fn a_reply_that_belongs_to_nothing_costs_the_peer_its_connection_and_nothing_else() {
    let reply = |seq, error: Option<Errno>, head: DataHead, data: &[u8]| {
        let mut out = Vec::new();
        Reply {
            seq,
            error,
            received: false,
        }
        .encode(&head, &mut out);
        out.extend(data);
        out
    };
    for lie in [
        reply(12345, None, DataHead::EMPTY, &[]),
        reply(12345, None, plain(4096), &[1; 4096]),
        vec![2, 0, 0, 0, 0],
        vec![2, 0xff, 0xff, 0xff, 0x7f],
        vec![0x55; 1000],
    ] {
        let node = Node::new();
        let mut primary = node.primary(true);
        let mut far = handshake(&mut primary, Offer::NONE);
        accept(&mut far, &node);
        primary.event(Event::Connect);
        far.b.write_all(&lie).unwrap();
        primary.event(Event::Disconnect);
        let mut client = Nbd::connect(&node.devices());
        client.write(0, &mixed(2, 4096));
        assert_eq!(client.read(0, 4096), mixed(2, 4096));
        assert!(!primary.status().connected);
        drop(client);
        assert_eq!(primary.stop(), 0);
    }
}

#[test]
fn a_secondary_that_does_not_fit_is_refused_and_the_status_says_why() {
    let node = Node::new();
    let metadata = node.metadata();
    let fits = SecondaryHello {
        datasize: metadata.datasize,
        extentsize: metadata.extentsize,
        localcnt: 0,
        remotecnt: 0,
        virgin: true,
        syncsrc: SyncSource::Primary,
        mapsize: 0,
    };
    let cases = [
        (
            SecondaryHello {
                extentsize: 1 << 20,
                ..fits
            },
            "Extent size differs between nodes (local=262144, remote=1048576).".to_owned(),
        ),
        (
            SecondaryHello {
                datasize: 512,
                ..fits
            },
            format!(
                "Data size differs between nodes (local={}, remote=512).",
                metadata.datasize
            ),
        ),
        (
            SecondaryHello {
                mapsize: u32::MAX,
                ..fits
            },
            "Invalid packet from tcp4://peer: pair 'mapsize' has an impossible value.".to_owned(),
        ),
    ];
    for (hello, reason) in cases {
        let node = Node::new();
        let mut primary = node.primary(true);
        let mut far = handshake(&mut primary, Offer::NONE);
        let verdict = Verdict::Accepted {
            hello,
            map: DataHead::EMPTY,
            offer: Offer::NONE,
        };
        send(&mut far.a, |out| verdict.encode(out));
        primary.logs(Level::Warning, &reason);
        assert_eq!(primary.status().reason, Some(reason));
    }
}

#[test]
fn split_brain_and_a_foreign_disk_are_said_on_both_nodes() {
    let (a, b) = (Node::new(), Node::new());
    for (node, localcnt, remotecnt) in [(&a, 3, 0), (&b, 2, 1)] {
        let mut metadata = node.metadata();
        metadata.resuid = 7;
        (metadata.localcnt, metadata.remotecnt) = (localcnt, remotecnt);
        node.set_metadata(&metadata);
    }
    let mut primary = a.primary(true);
    let Far {
        a: far_a,
        b: far_b,
        hello,
    } = handshake(&mut primary, Offer::NONE);
    let mut secondary = b.secondary([far_a.into(), far_b.into()], hello);
    secondary.logs(Level::Error, "Split-brain detected, exiting.");
    secondary.event(Event::SplitBrain);
    assert_eq!(secondary.exit_status(), 78);
    primary.event(Event::SplitBrain);
    primary.logs(Level::Warning, "Split-brain condition!");
    let reason = primary.status().reason;
    assert_eq!(reason.as_deref(), Some("Split-brain condition!"));
    drop(primary);

    let mut metadata = b.metadata();
    metadata.resuid = 8;
    b.set_metadata(&metadata);
    let mut primary = a.primary(true);
    let Far {
        a: far_a,
        b: far_b,
        hello,
    } = handshake(&mut primary, Offer::NONE);
    let mut secondary = b.secondary([far_a.into(), far_b.into()], hello);
    let text = "Resource unique ID mismatch (primary=7, secondary=8).";
    secondary.logs(Level::Error, text);
    assert_eq!(secondary.exit_status(), 78);
    primary.logs(Level::Warning, text);
}

#[test]
fn a_primary_waits_for_a_peer_in_a_change_of_roles_and_starts_then() {
    let (a, b) = (Node::new(), Node::new());
    let mut primary = a.primary(true);
    let mut far = first(&mut primary);
    let refusal = "Remote node acts as primary for the resource and not as secondary.";
    let answer = Answer::Refused {
        message: refusal.to_owned(),
        wait: true,
    };
    send(&mut far, |out| answer.encode(out));
    primary.logs(Level::Warning, refusal);
    primary.logs(
        Level::Warning,
        "Waiting for remote node to become secondary for 10s.",
    );
    let (_secondary, _cable) = connect(&mut primary, &b);
    let mut client = Nbd::connect(&a.devices());
    client.write(0, &mixed(2, 4096));
    assert!(primary.status().connected);
}

#[test]
fn a_silent_peer_costs_no_more_than_the_timeout() {
    let mut node = Node::new();
    node.settings.timeout_s = 1;
    let mut primary = node.primary(true);
    let _silent = first(&mut primary);
    primary.logs(
        Level::Warning,
        "The remote node did not answer the handshake in time.",
    );
    let mut client = Nbd::connect(&node.devices());
    client.write(0, &mixed(2, 4096));
    let mut far = handshake(&mut primary, Offer::NONE);
    accept(&mut far, &node);
    primary.event(Event::Connect);
    let seq = receive(&mut far.a, |packet| Request::decode(packet).unwrap().0.seq)
        .unwrap()
        .0;
    client.submit(0, &mixed(3, 4096));
    // Everything but the write that is never answered.
    primary.event(Event::Disconnect);
    assert_eq!(client.reply().1, 0);
    answer(&mut far, seq, false);
}
