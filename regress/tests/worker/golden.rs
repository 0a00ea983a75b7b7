//! The original's own sessions: its primary's bytes against our secondary, and our primary's
//! bytes against what it sent.

use std::io::Write;
use std::net::Shutdown;
use std::path::Path;

use hast::ipc::{Event, Offer as IpcOffer, PeerHello};
use hast::terms::{Checksum, Compression, Replication};
use hast::wire::hello::{Offer, Opening, Verdict};
use hast::wire::message::{Command, Reply, Request, SecondaryHello, SyncSource};
use hast::wire::packet::{Decoder, Limits, Packet, Step};
use hast::wire::stages::{self, DataHead, Decoded};

use crate::nbd::Nbd;
use crate::peer::{Far, handshake, packet, send, tcp};
use crate::rig::Node;

/// Extents of the captured sessions, in bytes.
const EXTENT_BYTES: u64 = 2 * 1024 * 1024;

fn captured(scenario: &str, file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wire");
    std::fs::read(folder.join(scenario).join(file)).unwrap()
}

/// The packets of a stream: what `decode` makes of a head, and the data after it.
fn packets<T>(mut stream: &[u8], decode: impl Fn(&Packet<'_>) -> T) -> Vec<(T, Vec<u8>)> {
    let mut decoder = Decoder::exact(Limits::PEER);
    let mut found = Vec::new();
    let (mut head, mut buffer) = (None, Vec::new());
    loop {
        let into = match decoder.step().unwrap() {
            Step::Fill(space) => space,
            Step::Data { at, left } => &mut buffer[at..at + left],
            Step::Packet(packet) => {
                head = Some(decode(&packet));
                buffer = vec![0; packet.data_bytes as usize];
                decoder.take_data(&mut buffer).unwrap();
                continue;
            }
            Step::Complete => {
                found.push((head.take().unwrap(), std::mem::take(&mut buffer)));
                decoder.finish();
                continue;
            }
        };
        let count = into.len().min(stream.len());
        if count == 0 {
            decoder.end_of_stream().unwrap();
            return found;
        }
        into[..count].copy_from_slice(&stream[..count]);
        stream = &stream[count..];
        decoder.received(count);
    }
}

/// The block that data of the wire are.
fn block(head: &DataHead, data: &[u8], length: u64) -> Vec<u8> {
    if head.size == 0 {
        return Vec::new();
    }
    let mut output = vec![0; usize::try_from(length).unwrap()];
    match stages::decode(head, data, u32::try_from(length).unwrap(), &mut output).unwrap() {
        Decoded::InPlace => data.to_vec(),
        Decoded::Output | Decoded::Zeroes => output,
    }
}

/// The requests of a captured connection A: what follows its first packet.
fn requests(scenario: &str) -> Vec<((Request, DataHead), Vec<u8>)> {
    let stream = captured(scenario, "conn-1.c2s.bin");
    let length = 5 + u32::from_le_bytes(stream[1..5].try_into().unwrap()) as usize;
    packets(&stream[length..], |packet| Request::decode(packet).unwrap())
}

/// What the requests make of a disk of zeros.
fn carried_out(requests: &[((Request, DataHead), Vec<u8>)], disk: &mut [u8]) {
    for ((request, head), data) in requests {
        let start = usize::try_from(request.offset).unwrap();
        let range = start..start + usize::try_from(request.length).unwrap();
        match request.command {
            Command::Write => disk[range].copy_from_slice(&block(head, data, request.length)),
            Command::Delete => disk[range].fill(0),
            _ => {}
        }
    }
}

/// Starts a secondary for the primary that sent this on its connection B.
pub(crate) fn hello_of(stream: &[u8]) -> PeerHello {
    let (opening, _) = packets(stream, |packet| Opening::decode(packet).unwrap())
        .pop()
        .unwrap();
    let Opening::Second { hello, .. } = opening else {
        panic!("{opening:?}");
    };
    PeerHello {
        virgin: hello.virgin,
        resuid: hello.resuid,
        localcnt: hello.localcnt,
        remotecnt: hello.remotecnt,
        offer: IpcOffer::default(),
    }
}

#[test]
fn our_secondary_answers_the_originals_primary_as_the_original_does() {
    for scenario in [
        "req-fullsync",
        "req-memsync",
        "req-async",
        "req-crc32",
        "req-sha256",
        "req-hole",
        "req-lzf",
        "read-fallback",
    ] {
        let mut node = Node::with_extents(EXTENT_BYTES);
        if scenario == "read-fallback" {
            node.settings.checksum = Checksum::Sha256;
        }
        let (mut a, near_a) = tcp();
        let (mut b, near_b) = tcp();
        let hello = hello_of(&captured(scenario, "conn-2.c2s.bin"));
        let mut secondary = node.secondary([near_a.into(), near_b.into()], hello);
        let (verdict, _) =
            packet(&mut a, |packet| Verdict::decode(packet, 1 << 20).unwrap()).unwrap();
        let answers = packets(&captured(scenario, "conn-1.s2c.bin"), |packet| {
            Verdict::decode(packet, 1 << 20).ok()
        });
        let Some(Verdict::Accepted { hello: theirs, .. }) = &answers[1].0 else {
            panic!("a captured answer");
        };
        let Verdict::Accepted { hello: ours, .. } = &verdict else {
            panic!("{scenario}: {verdict:?}");
        };
        assert_eq!(ours, theirs, "{scenario}");

        let asked = requests(scenario);
        let wanted = packets(&captured(scenario, "conn-2.s2c.bin"), |packet| {
            Reply::decode(packet).unwrap()
        });
        let stream = captured(scenario, "conn-1.c2s.bin");
        let length = 5 + u32::from_le_bytes(stream[1..5].try_into().unwrap()) as usize;
        let sender = {
            let mut a = a.try_clone().unwrap();
            std::thread::spawn(move || a.write_all(&stream[length..]).unwrap())
        };
        let mut replies = Vec::new();
        for _ in &wanted {
            replies.push(packet(&mut b, |packet| Reply::decode(packet).unwrap()).unwrap());
        }
        sender.join().unwrap();
        // They run in parallel here: only `received` comes first for certain.
        let in_order = |mut replies: Vec<((Reply, DataHead), Vec<u8>)>| {
            replies.sort_by_key(|((reply, _), _)| (reply.seq, !reply.received));
            replies
        };
        assert_eq!(in_order(replies), in_order(wanted), "{scenario}");
        a.shutdown(Shutdown::Both).unwrap();
        assert_eq!(secondary.exit_status(), 75);
        let mut disk = vec![0; node.data().len()];
        carried_out(&asked, &mut disk);
        assert!(node.data() == disk, "{scenario}");
    }
}

/// Answers the engine's own flushes up to a request of this kind; the request and its data.
fn next_request(far: &mut Far, wanted: Command) -> ((Request, DataHead), Vec<u8>) {
    loop {
        let found = packet(&mut far.a, |packet| Request::decode(packet).unwrap()).unwrap();
        let request = found.0.0;
        if request.command == wanted {
            return found;
        }
        assert_eq!(request.command, Command::Flush);
        answer(far, request.seq, false);
    }
}

pub(crate) fn answer(far: &mut Far, seq: u64, received: bool) {
    let reply = Reply {
        seq,
        error: None,
        received,
    };
    send(&mut far.b, |out| reply.encode(&DataHead::EMPTY, out));
}

/// Accepts a new primary as a new secondary.
pub(crate) fn accept(far: &mut Far, node: &Node) {
    let metadata = node.metadata();
    let verdict = Verdict::Accepted {
        hello: SecondaryHello {
            datasize: metadata.datasize,
            extentsize: metadata.extentsize,
            localcnt: 0,
            remotecnt: 0,
            virgin: true,
            syncsrc: SyncSource::Primary,
            mapsize: 0,
        },
        map: DataHead::EMPTY,
        offer: Offer::NONE,
    };
    send(&mut far.a, |out| verdict.encode(out));
}

#[test]
fn our_primary_sends_what_the_originals_sent() {
    use Replication::{Async, Fullsync, Memsync};
    for (scenario, replication, checksum, compression) in [
        ("req-fullsync", Fullsync, Checksum::None, Compression::None),
        ("req-memsync", Memsync, Checksum::None, Compression::None),
        ("req-async", Async, Checksum::None, Compression::None),
        ("req-crc32", Memsync, Checksum::Crc32, Compression::None),
        ("req-sha256", Memsync, Checksum::Sha256, Compression::None),
        ("req-hole", Memsync, Checksum::None, Compression::Hole),
        ("req-lzf", Memsync, Checksum::None, Compression::Lzf),
    ] {
        let mut node = Node::with_extents(EXTENT_BYTES);
        node.settings.checksum = checksum;
        node.settings.compression = compression;
        let asked = requests(scenario);
        let memsync = asked.iter().any(|((request, _), _)| request.memsync);
        node.settings.replication = match replication {
            Memsync if !memsync => Fullsync,
            replication => replication,
        };
        let mut primary = node.primary(true);
        let mut far = handshake(&mut primary, Offer::NONE);
        accept(&mut far, &node);
        primary.event(Event::Connect);
        let mut client = Nbd::connect(&node.devices());
        for ((wanted, head), data) in asked {
            let length = u32::try_from(wanted.length).unwrap();
            match wanted.command {
                Command::Write => {
                    client.submit(wanted.offset, &block(&head, &data, wanted.length));
                }
                Command::Delete => client.start_trim(wanted.offset, length),
                Command::Flush => client.start_flush(),
                _ => continue,
            }
            let ((request, ours), sent) = next_request(&mut far, wanted.command);
            let seq = request.seq;
            assert_eq!(Request { seq, ..wanted }, request, "{scenario}");
            assert_eq!(head, ours, "{scenario} {wanted:?}");
            assert!(sent == data, "{scenario} {wanted:?}");
            if request.memsync {
                answer(&mut far, seq, true);
            }
            answer(&mut far, seq, false);
            assert_eq!(client.reply().1, 0);
        }
    }
}
