//! The wire protocol of spec/01: name-value blocks, packets, messages, data stages.
//!
//! Bytes become typed values here and nowhere else. Nothing in here does I/O, keeps a clock, or
//! allocates what a peer announces; every error is typed, and no input panics.
//!
//! | module | what for |
//! |---|---|
//! | [`nv`] | name-value blocks over borrowed bytes, and the writer that appends them |
//! | [`packet`] | the 5-byte header, bounds, and [`packet::Decoder`], which cuts a stream into packets |
//! | [`message`] | requests, replies and the handshake's payload as plain values |
//! | [`hello`] | the four messages of the handshake: [`hello::Opening`], [`hello::Answer`], [`hello::Verdict`] |
//! | [`request`] | [`message::Request`] and [`message::Reply`] to and from bytes |
//! | [`stages`] | compression and checksum of a block, both ways |
//! | [`lzf`] | liblzf's algorithm, to the bit |
//! | [`control`] | hastctl's requests and the daemon's replies |
//!
//! # Receiving
//!
//! One [`packet::Decoder`] per direction and connection. It asks for bytes ([`packet::Step::Fill`]),
//! delivers heads ([`packet::Step::Packet`]) and has data received straight into the caller's
//! buffer ([`packet::Step::Data`]). During the handshake use [`packet::Decoder::exact`], which never
//! takes a byte that belongs to whoever gets the connection next; afterwards
//! [`packet::Decoder::new`], which reads ahead.
//!
//! ```
//! use hast::wire::message::{Command, Request};
//! use hast::wire::packet::{Decoder, Limits, Step};
//! use hast::wire::stages::{self, DataHead, Decoded, Hash};
//! use hast::terms::Compression;
//!
//! // What a peer sends: one write of 512 bytes.
//! let write = Request { command: Command::Write, seq: 7, offset: 0, length: 512, memsync: false };
//! let form = DataHead { size: 512, compression: Compression::None, hash: Hash::None };
//! let mut stream = Vec::new();
//! write.encode(&form, &mut stream);
//! stream.extend([1; 512]);
//! let mut stream = &stream[..];
//!
//! let mut decoder = Decoder::new(Limits::PEER);
//! let (mut received, mut output) = (vec![0; 1 << 20], vec![0; 1 << 20]);
//! let mut pending = None;
//! loop {
//!     match decoder.step()? {
//!         // The driver would call recv() on these two.
//!         Step::Fill(space) => {
//!             let count = space.len().min(stream.len());
//!             space[..count].copy_from_slice(&stream[..count]);
//!             stream = &stream[count..];
//!             decoder.received(count);
//!         }
//!         Step::Data { at, left } => {
//!             let count = left.min(stream.len());
//!             received[at..at + count].copy_from_slice(&stream[..count]);
//!             stream = &stream[count..];
//!             decoder.received(count);
//!         }
//!         Step::Packet(packet) => match Request::decode(&packet) {
//!             Ok(request) => {
//!                 pending = Some(request);
//!                 decoder.take_data(&mut received)?;
//!             }
//!             // Answer EINVAL to `refused.seq` (or disconnect without one); the stream stays in step.
//!             Err(_refused) => decoder.skip_data(),
//!         },
//!         Step::Complete => {
//!             let (request, form) = pending.take().expect("a packet came before its data");
//!             let length = u32::try_from(request.length)?;
//!             let wire = &received[..form.size as usize];
//!             assert_eq!(stages::decode(&form, wire, length, &mut output)?, Decoded::InPlace);
//!             decoder.finish();
//!             break;
//!         }
//!     }
//! }
//! decoder.end_of_stream()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`stages::decode`] checks that the data are a block of exactly the length it is given: a write's
//! `length`, or the length of the read that a reply belongs to. [`message::Reply`] alone does not
//! know the latter. A primary decodes what it receives as [`request::Response`]: a reply, or the
//! answer to a keepalive.
//!
//! # Sending
//!
//! [`stages::encode`] says which bytes go out for a block: the block itself, untouched, or an output
//! buffer. The head is appended to a reused `Vec<u8>` by the message's `encode`, with the
//! [`stages::DataHead`] that the stages returned ([`stages::DataHead::EMPTY`] for none); head and
//! data of many packets then go out with one vectored call. A block that is known to be all zeros
//! needs no buffer: [`stages::encode_zeroes`].
//!
//! # Handshake
//!
//! 1. primary, connection A: [`hello::Opening::First`]
//! 2. secondary's daemon, on A: [`hello::Answer`]
//! 3. primary, connection B: [`hello::Opening::Second`]
//! 4. secondary's worker, on A: [`hello::Verdict`], its bitmap as data ([`packet::Limits::bitmap`]
//!    bounds it, and [`hello::Verdict::decode`] checks `mapsize` against the caller's bound).
//!
//! Each may carry a [`hello::Offer`] of extensions. docs/protocol.md describes every packet.

pub mod control;
pub mod hello;
pub mod lzf;
pub mod message;
pub mod nv;
pub mod packet;
pub mod request;
pub mod stages;
