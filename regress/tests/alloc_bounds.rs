//! What a peer announces is not allocated, and a request in steady state allocates nothing.
//!
//! One test in one thread: the allocator counts for the whole process.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use hast::terms::{Checksum, Compression};
use hast::wire::control::{ControlReply, ControlRequest};
use hast::wire::hello::{Answer, Opening, Verdict};
use hast::wire::lzf;
use hast::wire::message::{Command, Reply, Request, Stages};
use hast::wire::nv::Block;
use hast::wire::packet::{self, Decoder, Limits, Packet, Step};
use hast::wire::stages::{self, DataHead, Hash};

/// The system's allocator, counting what is asked for.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, so its
// contract is kept; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls and bytes of all allocations during `work`.
fn counted<T>(work: impl FnOnce() -> T) -> (usize, usize, T) {
    let before = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let result = work();
    let after = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    (after.0 - before.0, after.1 - before.1, result)
}

const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// Feeds a stream to a new decoder until it refuses it, and returns whether it did.
fn refuses(limits: Limits, mut stream: &[u8]) -> bool {
    let mut decoder = Decoder::new(limits);
    loop {
        match decoder.step() {
            Err(_) => return true,
            Ok(Step::Fill(space)) => {
                let count = space.len().min(stream.len());
                if count == 0 {
                    return false;
                }
                space[..count].copy_from_slice(&stream[..count]);
                stream = &stream[count..];
                decoder.received(count);
            }
            Ok(Step::Packet(packet)) => {
                let refused =
                    Request::decode(&packet).is_err() && Verdict::decode(&packet, 4096).is_err();
                return refused;
            }
            Ok(Step::Data { .. } | Step::Complete) => return false,
        }
    }
}

/// A write whose data are in a form that announces 4 GiB.
fn write_of(form: DataHead, length: u64) -> Vec<u8> {
    let request = Request {
        command: Command::Write,
        seq: 1,
        offset: 0,
        length,
        memsync: false,
    };
    let mut out = Vec::new();
    request.encode(&form, &mut out);
    out
}

fn announcements_of_4_gib_are_refused_with_less_than_1_mib() {
    let plain = |size, compression| DataHead {
        size,
        compression,
        hash: Hash::None,
    };
    let mut dsize = Vec::new();
    packet::write(&mut dsize, 2, |pairs| {
        pairs.bytes("hash", &[1; 8]);
    });
    dsize[7..11].fill(0xff);
    let mut bitmap = Vec::new();
    packet::write(&mut bitmap, 2, |pairs| {
        pairs
            .i64("datasize", 1 << 60)
            .i32("extentsize", 512)
            .u64("localcnt", 0);
        pairs
            .u64("remotecnt", 0)
            .u8("syncsrc", 1)
            .u32("mapsize", u32::MAX);
        pairs.string("compression", "hole").u32("size", 4);
    });
    let streams: [(&str, Limits, Vec<u8>); 7] = [
        ("header", Limits::PEER, vec![2, 0xff, 0xff, 0xff, 0xff]),
        (
            "header on the control socket",
            Limits::CONTROL_REQUEST,
            vec![2, 0xff, 0xff, 0xff, 0xff],
        ),
        ("nv entry", Limits::PEER, dsize),
        ("bitmap", Limits::bitmap(4096), bitmap),
        (
            "data",
            Limits::PEER,
            write_of(plain(u32::MAX, Compression::None), 4096),
        ),
        (
            "hole request",
            Limits::PEER,
            write_of(plain(4, Compression::Hole), 1 << 32),
        ),
        (
            "lzf request",
            Limits::PEER,
            write_of(plain(64, Compression::Lzf), 1 << 32),
        ),
    ];
    for (what, limits, stream) in &streams {
        let (_, bytes, refused) = counted(|| refuses(*limits, stream));
        assert!(refused, "{what}");
        assert!(bytes < REFUSAL_BYTES_MAX, "{what}: {bytes} bytes");
    }
    let data = [&u32::MAX.to_le_bytes()[..], &[0xe0, 0xff, 0]].concat();
    let mut output = vec![0; 4096];
    for (form, data) in [
        (plain(4, Compression::Hole), &data[..4]),
        (plain(7, Compression::Lzf), &data[..]),
    ] {
        let (calls, _, result) = counted(|| stages::decode(&form, data, 4096, &mut output));
        assert!(result.is_err(), "{form:?}");
        assert_eq!(calls, 0, "{form:?}");
    }
}

fn a_head_that_never_comes_is_not_allocated() {
    // The largest reply that hastctl accepts, of which only a part arrives.
    let mut stream = vec![2];
    stream.extend(packet::CONTROL_REPLY_BYTES_MAX.to_le_bytes());
    stream.resize(100_000, 1);
    let (_, bytes, refused) = counted(|| refuses(Limits::CONTROL_REPLY, &stream));
    assert!(!refused);
    assert!(bytes < REFUSAL_BYTES_MAX, "{bytes} bytes");
}

fn a_request_and_its_reply_allocate_nothing() {
    let block = vec![0x5a; 4096];
    let mut output = vec![0; 4096];
    let mut table = lzf::Table::new();
    let mut head = Vec::with_capacity(1024);
    for compression in [Compression::None, Compression::Hole, Compression::Lzf] {
        for checksum in [Checksum::None, Checksum::Crc32, Checksum::Sha256] {
            let (calls, _, ()) = counted(|| {
                head.clear();
                let encoded = stages::encode(
                    Stages {
                        compression,
                        checksum,
                    },
                    &block,
                    &mut output,
                    &mut table,
                );
                let request = Request {
                    command: Command::Write,
                    seq: 1,
                    offset: 0,
                    length: 4096,
                    memsync: true,
                };
                request.encode(&encoded.head, &mut head);
                let packet = Packet::parse(&head, Limits::PEER).unwrap();
                black_box(Request::decode(&packet).unwrap());
                head.clear();
                Reply {
                    seq: 1,
                    error: None,
                    received: true,
                }
                .encode(&DataHead::EMPTY, &mut head);
                let packet = Packet::parse(&head, Limits::PEER).unwrap();
                black_box(Reply::decode(&packet).unwrap());
            });
            assert_eq!(calls, 0, "{compression:?} {checksum:?}");
        }
    }
}

fn garbage_within_the_bounds_stays_within_them() {
    // The most entries that fit a head, every one of them meant to be kept.
    let mut head = Vec::new();
    packet::write(&mut head, 2, |pairs| {
        for index in 0..2000 {
            pairs.string(&format!("resource{index}"), "r");
        }
    });
    let (_, bytes, ()) = counted(|| {
        assert!(Block::parse(&head[packet::HEADER_BYTES..]).is_ok());
        let packet = Packet::parse(&head, Limits::PEER).unwrap();
        let _ = black_box(Opening::decode(&packet));
        let _ = black_box(Answer::decode(&packet));
        let _ = black_box(ControlRequest::decode(&packet));
        let _ = black_box(ControlReply::decode(&packet));
    });
    assert!(bytes < REFUSAL_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn memory_is_bounded_whatever_a_peer_says() {
    announcements_of_4_gib_are_refused_with_less_than_1_mib();
    a_head_that_never_comes_is_not_allocated();
    a_request_and_its_reply_allocate_nothing();
    garbage_within_the_bounds_stays_within_them();
}
