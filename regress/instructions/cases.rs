//! What is counted.

use std::hint::black_box;

use hast::engine::extents::Extents;
use hast::engine::ranges::{Access, Ranges};
use hast::terms::{Checksum, Compression, Replication};
use hast::wire::lzf::Table;
use hast::wire::message::{Command, Reply, Request, Stages};
use hast::wire::packet::{Limits, Packet};
use hast::wire::stages::{self, DataHead, Hash};
use hast_regress::scenario::rng::Rng;

use crate::engine::{Node, Peer, Shape, Where};

/// A call, with what was prepared for it.
type Call = Box<dyn FnMut()>;

/// Something to be counted.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// Calls that are counted.
    pub(crate) calls: u64,
    prepare: Box<dyn Fn() -> Call>,
}

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const BLOCK_BYTES: usize = 4096;

/// Calls before those that are counted: memory is in place, tables have their size.
const WARM_UP: u64 = 200;

impl Case {
    pub(crate) fn new<F: FnMut() + 'static>(
        name: impl Into<String>,
        calls: u64,
        prepare: impl Fn() -> F + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            calls,
            prepare: Box::new(move || Box::new(prepare())),
        }
    }

    /// The same, and the cost of a write of this shape.
    pub(crate) fn write(name: impl Into<String>, shape: Shape) -> Case {
        Case::new(name, 2000, move || {
            let mut node = Node::new(shape);
            move || node.write()
        })
    }

    /// Prepares it, warm.
    pub(crate) fn ready(&self) -> Call {
        let mut call = (self.prepare)();
        for _ in 0..WARM_UP {
            call();
        }
        call
    }
}

/// Makes so many calls of the case of that name.
pub(crate) fn run(name: &str, calls: u64) -> Result<bool, String> {
    let cases = all().into_iter().chain(crate::scale::cases());
    let case = cases.into_iter().find(|case| case.name == name);
    let mut call = case
        .ok_or_else(|| format!("there is no case {name}"))?
        .ready();
    for _ in 0..calls {
        call();
    }
    Ok(true)
}

/// Every case whose count is on record.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = engine();
    cases.extend(tables());
    cases.extend(heads());
    cases.extend(blocks());
    cases
}

fn engine() -> Vec<Case> {
    let mode = |replication| Shape {
        replication,
        ..Shape::of(TIB)
    };
    vec![
        Case::write("primary write fullsync", mode(Replication::Fullsync)),
        Case::write("primary write memsync", mode(Replication::Memsync)),
        Case::write("primary write async", mode(Replication::Async)),
        Case::write(
            "primary write depth 32",
            Shape {
                depth: 32,
                ..Shape::of(TIB)
            },
        ),
        Case::write(
            "primary write anywhere depth 32",
            Shape {
                depth: 32,
                place: Where::Anywhere,
                ..Shape::of(TIB)
            },
        ),
        Case::write("primary write 1 GiB", Shape::of(GIB)),
        Case::write("primary write 100 TiB", Shape::of(100 * TIB)),
        Case::new("primary read", 2000, || {
            let mut node = Node::new(Shape {
                depth: 0,
                ..Shape::of(TIB)
            });
            move || node.read()
        }),
        Case::new("secondary write", 2000, || {
            let mut peer = Peer::new(TIB);
            move || peer.write()
        }),
    ]
}

/// The tables of the engine alone.
fn tables() -> Vec<Case> {
    let extents = || {
        let bytes = usize::try_from(TIB >> 21 >> 3).unwrap_or(0);
        Extents::new(TIB, 2 << 20, 512, 64, vec![0; bytes])
    };
    let ranges = |depth: u32| {
        Case::new(format!("range at depth {depth}"), 2000, move || {
            let mut ranges = Ranges::new();
            let mut rng = Rng::new(1);
            let mut released = Vec::new();
            let mut take = move |ranges: &mut Ranges| {
                let start = rng.below(TIB >> 12) << 12;
                ranges.take(start, 4096, Access::Exclusive, 0).0
            };
            let mut taken: std::collections::VecDeque<_> =
                (0..depth).map(|_| take(&mut ranges)).collect();
            move || {
                taken.push_back(take(&mut ranges));
                if let Some(oldest) = taken.pop_front() {
                    ranges.end(oldest, &mut released);
                }
                released.clear();
            }
        })
    };
    vec![
        Case::new("extents write, bit set", 5000, move || {
            let mut extents = extents();
            extents.write_start(0, 4096);
            let mut runs = Vec::new();
            extents.begin_commit(&mut runs);
            extents.end_commit(true);
            move || {
                black_box(extents.write_start(0, 4096));
                extents.write_end(0, 4096);
            }
        }),
        Case::new(
            "extents write, bit not set, and its commit",
            2000,
            move || {
                let mut extents = extents();
                let mut runs = Vec::new();
                let mut extent = 0;
                move || {
                    extent = (extent + 4097) % (TIB >> 21);
                    let offset = extent << 21;
                    black_box(extents.write_start(offset, 4096));
                    extents.begin_commit(&mut runs);
                    extents.end_commit(true);
                    extents.write_end(offset, 4096);
                    extents.begin_clean();
                    extents.end_clean(true);
                    runs.clear();
                }
            },
        ),
        ranges(1),
        ranges(32),
        ranges(1024),
    ]
}

fn a_write() -> (Request, DataHead) {
    let request = Request {
        command: Command::Write,
        seq: 1234,
        offset: GIB,
        length: BLOCK_BYTES as u64,
        memsync: true,
    };
    let form = DataHead {
        size: 4096,
        compression: Compression::None,
        hash: Hash::Crc32([1; 4]),
    };
    (request, form)
}

/// Heads of packets.
fn heads() -> Vec<Case> {
    let reply = Reply {
        seq: 1234,
        error: None,
        received: true,
    };
    vec![
        Case::new("encode write", 2000, || {
            let (request, form) = a_write();
            let mut out = Vec::with_capacity(1024);
            move || {
                out.clear();
                request.encode(&form, black_box(&mut out));
            }
        }),
        Case::new("decode write", 2000, || {
            let (request, form) = a_write();
            let mut out = Vec::new();
            request.encode(&form, &mut out);
            move || {
                let packet = Packet::parse(black_box(&out), Limits::PEER);
                let decoded = packet.map(|packet| Request::decode(&packet).is_ok());
                assert!(decoded.is_ok_and(|good| good), "it is what was encoded");
            }
        }),
        Case::new("encode reply", 2000, move || {
            let mut out = Vec::with_capacity(1024);
            move || {
                out.clear();
                reply.encode(&DataHead::EMPTY, black_box(&mut out));
            }
        }),
        Case::new("decode reply", 2000, move || {
            let mut out = Vec::new();
            reply.encode(&DataHead::EMPTY, &mut out);
            move || {
                let packet = Packet::parse(black_box(&out), Limits::PEER);
                let decoded = packet.map(|packet| Reply::decode(&packet).is_ok());
                assert!(decoded.is_ok_and(|good| good), "it is what was encoded");
            }
        }),
    ]
}

/// Data on their way. Not SHA-256: its speed is that of instructions that valgrind does not know.
fn blocks() -> Vec<Case> {
    let noise = || -> Vec<u8> {
        let mut rng = Rng::new(1);
        (0..BLOCK_BYTES / 8)
            .flat_map(|_| rng.number().to_le_bytes())
            .collect()
    };
    let words = || -> Vec<u8> {
        let text = b"block storage for two machines, primary and secondary; ";
        text.iter().copied().cycle().take(BLOCK_BYTES).collect()
    };
    let encode = |name: &str, compression, checksum, block: Vec<u8>| {
        Case::new(format!("{name} of 4 KiB"), 500, move || {
            let block = block.clone();
            let mut output = vec![0; block.len()];
            let mut table = Table::new();
            let stages = Stages {
                compression,
                checksum,
            };
            move || {
                black_box(stages::encode(stages, &block, &mut output, &mut table));
            }
        })
    };
    vec![
        encode("crc32", Compression::None, Checksum::Crc32, noise()),
        encode(
            "search for zeros",
            Compression::Hole,
            Checksum::None,
            vec![0; BLOCK_BYTES],
        ),
        encode("lzf of text", Compression::Lzf, Checksum::None, words()),
        encode("lzf of noise", Compression::Lzf, Checksum::None, noise()),
    ]
}
