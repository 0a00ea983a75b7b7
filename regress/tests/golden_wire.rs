//! The original's own bytes: every captured packet decodes into a typed message that encodes to
//! the same bytes again, but for the padding after names, which the original leaves as it finds it
//! in memory; every block goes through the data stages to the same bytes.
//!
//! data/wire/README.md says what was captured.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::{Path, PathBuf};

use hast::terms::{Checksum, Compression};
use hast::wire::hello::{Answer, Opening, Verdict};
use hast::wire::lzf;
use hast::wire::message::{Command, Reply, Request, Stages};
use hast::wire::packet::{Decoder, HEADER_BYTES, Limits, Packet, PacketError, Step};
use hast::wire::stages::{self, DataHead, Decoded, Source};

fn data_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wire")
}

/// One packet: its head, and the data after it.
type Captured = (Vec<u8>, Vec<u8>);

/// Cuts a stream into packets, received in pieces of at most `piece` bytes.
fn packets(mut stream: &[u8], piece: usize) -> (Vec<Captured>, Result<(), PacketError>) {
    let mut decoder = Decoder::new(Limits::PEER);
    let mut packets: Vec<Captured> = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let taken = match decoder.step() {
            Err(error) => return (packets, Err(error)),
            Ok(Step::Fill(space)) => {
                let count = space.len().min(piece).min(stream.len());
                space[..count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Data { at, left }) => {
                let count = left.min(piece).min(stream.len());
                buffer[at..at + count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Packet(packet)) => {
                let block = packet.block.as_bytes();
                let size = u32::try_from(block.len()).unwrap();
                let mut head = vec![packet.version];
                head.extend(size.to_le_bytes());
                head.extend(block);
                packets.push((head, vec![0; packet.data_bytes as usize]));
                decoder.take_data(&mut buffer).unwrap();
                continue;
            }
            Ok(Step::Complete) => {
                let (_, data) = packets.last_mut().unwrap();
                let length = data.len();
                data.copy_from_slice(&buffer[..length]);
                decoder.finish();
                continue;
            }
        };
        if taken == 0 {
            let end = decoder.end_of_stream();
            if end.is_err() {
                packets.pop();
            }
            return (packets, end);
        }
        decoder.received(taken);
        stream = &stream[taken..];
    }
}

fn read(path: &Path) -> Vec<Captured> {
    let stream = std::fs::read(path).unwrap();
    let (whole, end) = packets(&stream, usize::MAX);
    assert_eq!(end, Ok(()), "{}", path.display());
    let bytes: usize = whole
        .iter()
        .map(|(head, data)| head.len() + data.len())
        .sum();
    assert_eq!(bytes, stream.len(), "{}", path.display());
    whole
}

/// The head with zeros after the names.
fn without_name_padding(head: &[u8]) -> Vec<u8> {
    let mut head = head.to_vec();
    let mut at = HEADER_BYTES;
    while at < head.len() {
        let name_size = usize::from(head[at + 1]);
        let dsize = u32::from_le_bytes(head[at + 2..at + 6].try_into().unwrap()) as usize;
        let name = at + 6;
        head[name + name_size..name + name_size.next_multiple_of(8)].fill(0);
        at = name + name_size.next_multiple_of(8) + dsize.next_multiple_of(8);
    }
    head
}

fn parse(head: &[u8]) -> Packet<'_> {
    // The data were cut off already; the bound is about what is announced.
    Packet::parse(head, Limits::PEER).unwrap()
}

fn assert_encodes_to(head: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    encode(&mut out);
    assert_eq!(out, without_name_padding(head));
}

/// The data decode to a block of `length` bytes, and that block encodes to the same data.
fn assert_stages(head: &DataHead, data: &[u8], length: u32, stages: Stages) {
    let mut output = vec![0; length as usize];
    let block = match stages::decode(head, data, length, &mut output).unwrap() {
        Decoded::InPlace => data.to_vec(),
        Decoded::Output => output,
        Decoded::Zeroes => vec![0; length as usize],
    };
    let mut output = vec![0; block.len()];
    let encoded = stages::encode(stages, &block, &mut output, &mut lzf::Table::new());
    assert_eq!(encoded.head, *head);
    let wire = match encoded.source {
        Source::Block => &block[..],
        Source::Output => &output[..encoded.head.size as usize],
    };
    assert!(
        wire == data,
        "the block of {length} bytes encodes to other bytes"
    );
}

/// What the nodes of a scenario were configured to do with data.
fn stages_of(scenario: &str) -> Stages {
    let (compression, checksum) = match scenario {
        "req-crc32" => (Compression::None, Checksum::Crc32),
        "req-sha256" | "read-fallback" => (Compression::None, Checksum::Sha256),
        "req-hole" => (Compression::Hole, Checksum::None),
        "req-lzf" => (Compression::Lzf, Checksum::None),
        _ => (Compression::None, Checksum::None),
    };
    Stages {
        compression,
        checksum,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    openings: usize,
    answers: usize,
    verdicts: usize,
    requests: usize,
    memsync: usize,
    keepalives: usize,
    replies: usize,
    blocks: usize,
    refusals: usize,
}

impl Seen {
    fn primary_sent(&mut self, captured: &[Captured], stages: Stages) -> bool {
        let mut first_step = false;
        for (at, (head, data)) in captured.iter().enumerate() {
            let packet = parse(head);
            if at == 0 {
                let opening = Opening::decode(&packet).unwrap();
                first_step = matches!(opening, Opening::First { .. });
                assert_encodes_to(head, |out| {
                    opening.encode(out);
                    if first_step && packet.version == 2 {
                        // A worker of the original that reconnects says the version of its last
                        // session here; ours begins anew. A receiver accepts both.
                        assert_eq!(out[0], 1);
                        out[0] = 2;
                    }
                });
                self.openings += 1;
                continue;
            }
            let (request, form) = Request::decode(&packet).unwrap();
            assert_encodes_to(head, |out| request.encode(&form, out));
            self.requests += 1;
            self.memsync += usize::from(request.memsync);
            self.keepalives += usize::from(request.command == Command::Keepalive);
            if request.command == Command::Write {
                assert_stages(&form, data, u32::try_from(request.length).unwrap(), stages);
                self.blocks += 1;
            }
        }
        first_step
    }

    fn secondary_sent(&mut self, captured: &[Captured], first_step: bool, stages: Stages) {
        for (at, (head, data)) in captured.iter().enumerate() {
            let packet = parse(head);
            match (first_step, at) {
                (true, 0) => {
                    let answer = Answer::decode(&packet).unwrap();
                    assert_encodes_to(head, |out| answer.encode(out));
                    self.answers += 1;
                    self.refusals += usize::from(matches!(answer, Answer::Refused { .. }));
                }
                (true, _) => {
                    let verdict = Verdict::decode(&packet, 1 << 20).unwrap();
                    assert_encodes_to(head, |out| verdict.encode(out));
                    self.verdicts += 1;
                    match &verdict {
                        Verdict::Accepted { hello, map, .. } if hello.mapsize > 0 => {
                            assert_stages(map, data, hello.mapsize, stages);
                        }
                        Verdict::Accepted { .. } => {}
                        Verdict::Refused { .. } => self.refusals += 1,
                    }
                }
                (false, _) => {
                    let (reply, form) = Reply::decode(&packet).unwrap();
                    assert_encodes_to(head, |out| reply.encode(&form, out));
                    self.replies += 1;
                    if form.size > 0 {
                        // Reads were captured without compression only.
                        assert_stages(&form, data, form.size, stages);
                        self.blocks += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn every_captured_packet_decodes_and_encodes_to_the_same_bytes() {
    let mut seen = Seen::default();
    let mut scenarios: Vec<PathBuf> = std::fs::read_dir(data_folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    scenarios.sort();
    for scenario in scenarios {
        let name = scenario.file_name().unwrap().to_str().unwrap();
        let stages = stages_of(name);
        for connection in 1..=5 {
            let sent = scenario.join(format!("conn-{connection}.c2s.bin"));
            if !sent.exists() {
                continue;
            }
            let first_step = seen.primary_sent(&read(&sent), stages);
            let received = scenario.join(format!("conn-{connection}.s2c.bin"));
            let cut = name == "resync-from-secondary" && connection == 4;
            if received.exists() && !cut {
                seen.secondary_sent(&read(&received), first_step, stages);
            }
        }
    }
    // As counted in the captures.
    let expected = Seen {
        openings: 39,
        answers: 21,
        verdicts: 17,
        requests: 93,
        memsync: 7,
        keepalives: 1,
        replies: 95,
        blocks: 59,
        refusals: 6,
    };
    assert_eq!(seen, expected);
}

#[test]
fn a_capture_that_is_cut_in_the_middle_of_data_delivers_nothing_of_it() {
    let path = data_folder().join("resync-from-secondary/conn-4.s2c.bin");
    let stream = std::fs::read(path).unwrap();
    assert_eq!(
        packets(&stream, 1000),
        (vec![], Err(PacketError::EndInside))
    );
}

#[test]
fn captures_give_the_same_packets_however_the_stream_is_cut() {
    let path = data_folder().join("req-lzf/conn-1.c2s.bin");
    let stream = std::fs::read(path).unwrap();
    let (whole, _) = packets(&stream, usize::MAX);
    for piece in [1, 2, 5, 7, 64, 1000, 4096, 65536] {
        let (pieces, end) = packets(&stream, piece);
        assert_eq!(end, Ok(()));
        assert!(pieces == whole, "in pieces of {piece} bytes");
    }
}
