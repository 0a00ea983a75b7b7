//! Cost of the wire protocol per request and per block:
//! `cargo bench -p hast-regress --bench wire`.

#![allow(clippy::unwrap_used, reason = "a benchmark stops by panicking")]

use divan::Bencher;
use divan::counter::BytesCount;
use hast::terms::{Checksum, Compression};
use hast::wire::lzf::Table;
use hast::wire::message::{Command, Reply, Request, Stages};
use hast::wire::packet::{Limits, Packet};
use hast::wire::stages::{self, DataHead, Hash};

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [4096, 128 * 1024, 1024 * 1024];

fn a_write() -> (Request, DataHead) {
    let request = Request {
        command: Command::Write,
        seq: 1234,
        offset: 1 << 30,
        length: 4096,
        memsync: true,
    };
    let form = DataHead {
        size: 4096,
        compression: Compression::None,
        hash: Hash::Crc32([1; 4]),
    };
    (request, form)
}

#[divan::bench]
fn encode_write_request(bencher: Bencher) {
    let (request, form) = a_write();
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        request.encode(&form, &mut out);
        out.len()
    });
}

#[divan::bench]
fn decode_write_request(bencher: Bencher) {
    let (request, form) = a_write();
    let mut out = Vec::new();
    request.encode(&form, &mut out);
    bencher.bench_local(|| {
        let packet = Packet::parse(divan::black_box(&out), Limits::PEER).unwrap();
        Request::decode(&packet).unwrap()
    });
}

#[divan::bench]
fn encode_reply(bencher: Bencher) {
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        Reply {
            seq: 1234,
            error: None,
            received: true,
        }
        .encode(&DataHead::EMPTY, &mut out);
        out.len()
    });
}

#[divan::bench]
fn decode_reply(bencher: Bencher) {
    let mut out = Vec::new();
    Reply {
        seq: 1234,
        error: None,
        received: true,
    }
    .encode(&DataHead::EMPTY, &mut out);
    bencher.bench_local(|| {
        let packet = Packet::parse(divan::black_box(&out), Limits::PEER).unwrap();
        Reply::decode(&packet).unwrap()
    });
}

/// Text that shrinks to about a third.
fn text(size: usize) -> Vec<u8> {
    let words: [&[u8]; 8] = [
        b"block ",
        b"storage ",
        b"for ",
        b"two ",
        b"machines",
        b", \n",
        b"primary ",
        b"secondary ",
    ];
    let mut state = 1u32;
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(words[(state >> 29) as usize]);
        out.extend_from_slice(&state.to_le_bytes()[2..]);
    }
    out.truncate(size);
    out
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = std::iter::repeat_with(next)
        .take(size / 8 + 1)
        .flatten()
        .collect();
    out.truncate(size);
    out
}

fn encode(bencher: Bencher, block: &[u8], compression: Compression, checksum: Checksum) {
    let mut output = vec![0; block.len()];
    let mut table = Table::new();
    let stages = Stages {
        compression,
        checksum,
    };
    bencher
        .counter(BytesCount::new(block.len()))
        .bench_local(|| stages::encode(stages, divan::black_box(block), &mut output, &mut table));
}

#[divan::bench(args = SIZES)]
fn crc32(bencher: Bencher, size: usize) {
    encode(bencher, &noise(size), Compression::None, Checksum::Crc32);
}

#[divan::bench(args = SIZES)]
fn sha256(bencher: Bencher, size: usize) {
    encode(bencher, &noise(size), Compression::None, Checksum::Sha256);
}

#[divan::bench(args = SIZES)]
fn hole_of_zeros(bencher: Bencher, size: usize) {
    encode(bencher, &vec![0; size], Compression::Hole, Checksum::None);
}

#[divan::bench(args = SIZES)]
fn lzf_compress_text(bencher: Bencher, size: usize) {
    encode(bencher, &text(size), Compression::Lzf, Checksum::None);
}

#[divan::bench(args = SIZES)]
fn lzf_compress_noise(bencher: Bencher, size: usize) {
    encode(bencher, &noise(size), Compression::Lzf, Checksum::None);
}

#[divan::bench(args = SIZES)]
fn lzf_decompress_text(bencher: Bencher, size: usize) {
    let block = text(size);
    let mut wire = vec![0; size];
    let stages = Stages {
        compression: Compression::Lzf,
        checksum: Checksum::None,
    };
    let encoded = stages::encode(stages, &block, &mut wire, &mut Table::new());
    assert_eq!(encoded.head.compression, Compression::Lzf);
    wire.truncate(encoded.head.size as usize);
    let mut output = vec![0; size];
    let length = u32::try_from(size).unwrap();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        stages::decode(&encoded.head, divan::black_box(&wire), length, &mut output).unwrap()
    });
}
