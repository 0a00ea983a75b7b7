//! Blocks on their way to and from the peer: the data stages, applied to buffers of the pool.

use crate::engine::event::BufId;
use crate::io::outgoing::Outgoing;
use crate::io::pool::{Piece, Pool};
use crate::terms::{Checksum, Compression, REQUEST_BYTES_MAX};
use crate::wire::lzf;
use crate::wire::message::Stages;
use crate::wire::stages::{self, DataHead, Decoded, Source, StageError};

/// Applies the stages of this node to blocks that it sends.
pub(super) struct Encoder {
    pub(super) stages: Stages,
    table: lzf::Table,
    /// What compression makes of a block.
    output: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(stages: Stages) -> Encoder {
        Encoder {
            stages,
            table: lzf::Table::new(),
            output: Vec::new(),
        }
    }

    /// Appends a packet with a block of a buffer: `head` writes its head. The buffer is held until
    /// it is sent.
    pub(super) fn push_piece(
        &mut self,
        out: &mut Outgoing,
        pool: &Pool,
        piece: Piece,
        head: impl FnOnce(&DataHead, &mut Vec<u8>),
    ) {
        let encoded = {
            let block = pool.read(piece);
            self.output.resize(REQUEST_BYTES_MAX as usize, 0);
            stages::encode(self.stages, &block, &mut self.output, &mut self.table)
        };
        out.encode(|bytes| head(&encoded.head, bytes));
        match encoded.source {
            Source::Block => out.push_buf(piece),
            Source::Output => out.push(&self.output[..encoded.head.size as usize]),
        }
    }

    /// As above for bytes that are in no buffer; they are copied.
    pub(super) fn push_bytes(
        &mut self,
        out: &mut Outgoing,
        block: &[u8],
        head: impl FnOnce(&DataHead, &mut Vec<u8>),
    ) {
        self.output
            .resize(block.len().max(REQUEST_BYTES_MAX as usize), 0);
        let encoded = stages::encode(self.stages, block, &mut self.output, &mut self.table);
        out.encode(|bytes| head(&encoded.head, bytes));
        match encoded.source {
            Source::Block => out.push(block),
            Source::Output => out.push(&self.output[..encoded.head.size as usize]),
        }
    }

    /// Appends a packet with a block of zeros.
    pub(super) fn push_zeroes(
        &mut self,
        out: &mut Outgoing,
        length: u32,
        head: impl FnOnce(&DataHead, &mut Vec<u8>),
    ) {
        let (data, block) = stages::encode_zeroes(self.stages.checksum, length);
        out.encode(|bytes| head(&data, bytes));
        out.push(&block);
    }
}

/// Where a block that is being received goes: to its destination as it is, or, if it has to be
/// decompressed, to a buffer beside it first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    head: DataHead,
    /// Where the block is wanted.
    destination: Piece,
    /// Where its bytes of the wire are.
    wire: Piece,
}

impl Receiving {
    /// For data of this head, which are a block of `destination.length` bytes. `beside` is a
    /// buffer that no other block uses meanwhile; `None`: they do not fit into it.
    pub(super) fn new(
        head: DataHead,
        destination: Piece,
        beside: BufId,
        pool: &Pool,
    ) -> Option<Receiving> {
        let wire = match head.compression {
            Compression::None => destination,
            Compression::Hole | Compression::Lzf => Piece::first(beside, head.size),
        };
        let fits = wire.length == head.size && wire.at + wire.length <= pool.capacity(wire.buf);
        fits.then_some(Receiving {
            head,
            destination,
            wire,
        })
    }

    /// Where to receive.
    pub(super) fn wire(&self) -> Piece {
        self.wire
    }

    /// Where the block is wanted.
    pub(super) fn destination(&self) -> Piece {
        self.destination
    }

    /// Checks what was received and puts the block where it is wanted. True if the block is all
    /// zeros, in which case the destination, which may then be anything, is as it was.
    pub(super) fn decode(&self, pool: &Pool) -> Result<bool, StageError> {
        let wire = pool.read(self.wire);
        let length = self.destination.length;
        let decoded = if self.head.compression == Compression::Lzf {
            let mut output = pool.write(self.destination);
            stages::decode(&self.head, &wire, length, &mut output)?
        } else {
            stages::decode(&self.head, &wire, length, &mut [])?
        };
        Ok(decoded == Decoded::Zeroes)
    }
}

/// What to think of a block without a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchecked {
    /// Nothing: this node does not ask for checksums.
    Fine,
    /// The peer cannot be asked: worth a warning, once.
    Warn,
    /// The peer is one of ours and should know better.
    Refuse,
}

/// Judges a block by its checksum. The original accepts blocks without one whatever its own
/// configuration says; so do we from a peer without extensions, since nothing tells it what we
/// want.
pub(super) fn judge(head: &DataHead, wanted: Checksum, peer_is_ours: bool) -> Unchecked {
    if head.size == 0 || wanted == Checksum::None || head.hash.checksum() != Checksum::None {
        Unchecked::Fine
    } else if peer_is_ours {
        Unchecked::Refuse
    } else {
        Unchecked::Warn
    }
}
