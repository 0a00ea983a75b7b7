//! The data stages (spec/01, 4): what happens to a block between a request and the wire.
//!
//! Sending: compression first, then the checksum over the result. Receiving: the reverse, by what
//! the packet's pairs say, whatever this node is configured to send. Both work in the caller's
//! buffers and allocate nothing.

use std::fmt;

use sha2::{Digest, Sha256};

use super::lzf;
use super::message::Stages;
use super::nv::{Entry, Writer, WrongKind};
use crate::terms::{Checksum, Compression};

/// Blocks up to this many bytes are never sent through LZF, and a longer one has to shrink by as
/// much (`HAST_LZF_COMPRESS_MIN`).
const LZF_GAIN_BYTES: usize = 1024;

/// Bytes before an LZF stream, and all bytes of a hole: the length of the block.
const LENGTH_BYTES: usize = 4;

/// The checksum that came with, or goes with, a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// None.
    None,
    /// CRC-32, little-endian.
    Crc32([u8; 4]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl Hash {
    fn of(checksum: Checksum, bytes: &[u8]) -> Hash {
        match checksum {
            Checksum::None => Hash::None,
            Checksum::Crc32 => Hash::Crc32(crc32fast::hash(bytes).to_le_bytes()),
            Checksum::Sha256 => Hash::Sha256(Sha256::digest(bytes).into()),
        }
    }

    /// Which checksum this is.
    pub fn checksum(&self) -> Checksum {
        match self {
            Hash::None => Checksum::None,
            Hash::Crc32(_) => Checksum::Crc32,
            Hash::Sha256(_) => Checksum::Sha256,
        }
    }
}

/// What a packet's pairs say about the data after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHead {
    /// Bytes on the wire.
    pub size: u32,
    /// What they went through.
    pub compression: Compression,
    /// Their checksum.
    pub hash: Hash,
}

impl DataHead {
    /// A packet without data.
    pub const EMPTY: DataHead = DataHead {
        size: 0,
        compression: Compression::None,
        hash: Hash::None,
    };

    /// Whether data of this form can be a block of `length` bytes: checked before they are
    /// received, so that a lie costs nothing.
    ///
    /// # Errors
    /// [`StageError::Size`].
    pub fn check_length(&self, length: u64) -> Result<(), StageError> {
        let size = u64::from(self.size);
        let header = LENGTH_BYTES as u64;
        let fits = match self.compression {
            Compression::None => size == length,
            Compression::Hole => size == header && length > 0,
            Compression::Lzf => size > header && size < length.saturating_add(header),
        };
        if fits {
            return Ok(());
        }
        Err(StageError::Size {
            compression: self.compression,
            size: self.size,
            length,
        })
    }

    /// Appends the pairs, in the order of the original; none for [`DataHead::EMPTY`].
    pub(super) fn write(&self, pairs: &mut Writer<'_>) {
        if self.size == 0 {
            return;
        }
        if self.compression != Compression::None {
            pairs.string("compression", self.compression.as_str());
        }
        match &self.hash {
            Hash::None => {}
            Hash::Crc32(hash) => {
                pairs
                    .string("checksum", Checksum::Crc32.as_str())
                    .bytes("hash", hash);
            }
            Hash::Sha256(hash) => {
                pairs
                    .string("checksum", Checksum::Sha256.as_str())
                    .bytes("hash", hash);
            }
        }
        pairs.u32("size", self.size);
    }
}

/// Collects the pairs of a [`DataHead`] while a message is being decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DataPairs<'a> {
    compression: Option<Entry<'a>>,
    checksum: Option<Entry<'a>>,
    hash: Option<Entry<'a>>,
}

impl<'a> DataPairs<'a> {
    /// Keeps the entry if it is one of these pairs and the first of its name.
    #[inline]
    pub(super) fn take(&mut self, entry: Entry<'a>) {
        let slot = match entry.name {
            b"compression" => &mut self.compression,
            b"checksum" => &mut self.checksum,
            b"hash" => &mut self.hash,
            _ => return,
        };
        slot.get_or_insert(entry);
    }

    /// What the pairs say about `size` bytes of data.
    pub(super) fn head(&self, size: u32) -> Result<DataHead, StageError> {
        if size == 0 {
            return Ok(DataHead::EMPTY);
        }
        let compression = match self
            .compression
            .map(|entry| entry.string_bytes())
            .transpose()
        {
            Ok(None) => Compression::None,
            Ok(Some(b"hole")) => Compression::Hole,
            Ok(Some(b"lzf")) => Compression::Lzf,
            Ok(Some(_)) => return Err(StageError::UnknownCompression),
            Err(kind) => return Err(StageError::Kind("compression", kind)),
        };
        let checksum = match self.checksum.map(|entry| entry.string_bytes()).transpose() {
            Ok(None) => {
                return Ok(DataHead {
                    size,
                    compression,
                    hash: Hash::None,
                });
            }
            Ok(Some(b"crc32")) => Checksum::Crc32,
            Ok(Some(b"sha256")) => Checksum::Sha256,
            Ok(Some(_)) => return Err(StageError::UnknownChecksum),
            Err(kind) => return Err(StageError::Kind("checksum", kind)),
        };
        let hash = self
            .hash
            .ok_or(StageError::HashBytes { checksum, found: 0 })?;
        let hash = hash
            .bytes()
            .map_err(|kind| StageError::Kind("hash", kind))?;
        let wrong = StageError::HashBytes {
            checksum,
            found: hash.len(),
        };
        let hash = match checksum {
            Checksum::Sha256 => Hash::Sha256(hash.try_into().map_err(|_| wrong)?),
            Checksum::Crc32 | Checksum::None => Hash::Crc32(hash.try_into().map_err(|_| wrong)?),
        };
        Ok(DataHead {
            size,
            compression,
            hash,
        })
    }
}

/// Why data are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageError {
    /// A pair has the wrong type.
    Kind(&'static str, WrongKind),
    /// `compression` names something else than `hole` and `lzf`.
    UnknownCompression,
    /// `checksum` names something else than `crc32` and `sha256`.
    UnknownChecksum,
    /// `hash` is missing or has the wrong length.
    HashBytes {
        /// What `checksum` names.
        checksum: Checksum,
        /// Bytes of `hash`.
        found: usize,
    },
    /// Data of this size cannot be a block of that length.
    Size {
        /// What the data went through.
        compression: Compression,
        /// Bytes on the wire.
        size: u32,
        /// Bytes that the block has to have.
        length: u64,
    },
    /// The data are damaged: their checksum is another.
    HashMismatch(Checksum),
    /// The data announce another length than the block has to have.
    Length {
        /// What the data say, bytes.
        announced: u64,
        /// What it has to be, bytes.
        expected: u64,
    },
    /// The LZF stream is damaged.
    Lzf(lzf::LzfError),
    /// The buffer is too short for the block.
    BufferBytes {
        /// The block, bytes.
        needed: usize,
        /// The buffer, bytes.
        given: usize,
    },
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StageError::Kind(name, kind) => write!(f, "pair '{name}' {kind}"),
            StageError::UnknownCompression => f.write_str("unknown compression"),
            StageError::UnknownChecksum => f.write_str("unknown checksum"),
            StageError::HashBytes { checksum, found } => {
                write!(
                    f,
                    "hash of {found} bytes for checksum {}",
                    checksum.as_str()
                )
            }
            StageError::Size {
                compression,
                size,
                length,
            } => write!(
                f,
                "{size} bytes of data (compression {}) for a block of {length} bytes",
                compression.as_str()
            ),
            StageError::HashMismatch(checksum) => {
                write!(
                    f,
                    "data were damaged on their way: {} does not match",
                    checksum.as_str()
                )
            }
            StageError::Length {
                announced,
                expected,
            } => {
                write!(
                    f,
                    "data are a block of {announced} bytes instead of {expected}"
                )
            }
            StageError::Lzf(_) => f.write_str("damaged LZF stream"),
            StageError::BufferBytes { needed, given } => {
                write!(f, "block of {needed} bytes for a buffer of {given} bytes")
            }
        }
    }
}

impl std::error::Error for StageError {}

/// Which bytes to send after the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The block as it is.
    Block,
    /// The first `size` bytes of the output buffer.
    Output,
}

/// A block that is ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// For the head of the packet.
    pub head: DataHead,
    /// Where the `head.size` bytes are.
    pub source: Source,
}

/// Prepares a block for sending. The block itself is never changed or copied; `output` takes what
/// compression makes of it, if it does. An output buffer as long as the block is always enough; in
/// a shorter one compression is simply less likely to succeed.
///
/// # Panics
/// If the block is 4 GiB long or longer: an error of the caller.
pub fn encode(stages: Stages, block: &[u8], output: &mut [u8], table: &mut lzf::Table) -> Encoded {
    let length = u32::try_from(block.len()).expect("blocks are below 4 GiB");
    let (compression, size) = match stages.compression {
        Compression::None => (Compression::None, None),
        _ if output.len() >= LENGTH_BYTES && !block.is_empty() && is_zero(block) => {
            (Compression::Hole, Some(LENGTH_BYTES))
        }
        Compression::Hole => (Compression::None, None),
        Compression::Lzf => (Compression::Lzf, compress(block, output, table)),
    };
    let Some((size, used)) =
        size.and_then(|size| Some((u32::try_from(size).ok()?, output.get_mut(..size)?)))
    else {
        let hash = Hash::of(stages.checksum, block);
        let head = DataHead {
            size: length,
            compression: Compression::None,
            hash,
        };
        return Encoded {
            head,
            source: Source::Block,
        };
    };
    if let Some(field) = used.first_chunk_mut::<LENGTH_BYTES>() {
        *field = length.to_le_bytes();
    }
    let hash = Hash::of(stages.checksum, used);
    Encoded {
        head: DataHead {
            size,
            compression,
            hash,
        },
        source: Source::Output,
    }
}

/// Compresses behind room for the length; the number of bytes with it, if that is worth it.
fn compress(block: &[u8], output: &mut [u8], table: &mut lzf::Table) -> Option<usize> {
    let room = block
        .len()
        .checked_sub(LZF_GAIN_BYTES)
        .filter(|&room| room > 0)?;
    let end = output.len().min(LENGTH_BYTES + room);
    let stream = output.get_mut(LENGTH_BYTES..end)?;
    Some(LENGTH_BYTES + lzf::compress(block, stream, table)?)
}

/// A block of `length` zeros as `hole`, without having it: the head and the four bytes to send.
pub fn encode_zeroes(checksum: Checksum, length: u32) -> (DataHead, [u8; LENGTH_BYTES]) {
    let data = length.to_le_bytes();
    let hash = Hash::of(checksum, &data);
    (
        DataHead {
            size: 4,
            compression: Compression::Hole,
            hash,
        },
        data,
    )
}

/// Where a received block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The received bytes are the block.
    InPlace,
    /// The first bytes of the output buffer, as many as the block is long.
    Output,
    /// Nowhere: it is all zeros, and nothing was written to the output buffer.
    Zeroes,
}

/// Checks received data and makes the block of `length` bytes of them. `received` are the
/// `head.size` bytes of the wire, `output` is only used for LZF.
///
/// # Errors
/// The data are damaged, or are not a block of `length` bytes: nothing of them may be used.
pub fn decode(
    head: &DataHead,
    received: &[u8],
    length: u32,
    output: &mut [u8],
) -> Result<Decoded, StageError> {
    let expected = u64::from(length);
    let size_error = StageError::Size {
        compression: head.compression,
        size: head.size,
        length: expected,
    };
    if u32::try_from(received.len()) != Ok(head.size) {
        return Err(size_error);
    }
    head.check_length(expected)?;
    let checksum = head.hash.checksum();
    if Hash::of(checksum, received) != head.hash {
        return Err(StageError::HashMismatch(checksum));
    }
    if head.compression == Compression::None {
        return Ok(Decoded::InPlace);
    }
    let (announced, stream) = received
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or(size_error)?;
    let announced = u32::from_le_bytes(*announced);
    if announced != length {
        return Err(StageError::Length {
            announced: announced.into(),
            expected,
        });
    }
    if head.compression == Compression::Hole {
        return Ok(Decoded::Zeroes);
    }
    let needed = usize::try_from(length).map_err(|_| size_error)?;
    let given = output.len();
    let output = output
        .get_mut(..needed)
        .ok_or(StageError::BufferBytes { needed, given })?;
    let written = lzf::decompress(stream, output).map_err(StageError::Lzf)?;
    if written != needed {
        return Err(StageError::Length {
            announced: written as u64,
            expected,
        });
    }
    Ok(Decoded::Output)
}

/// Whether all bytes are zero. Blocks of data nearly always differ from zero early, or not at all.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Three probes first: a block of a file system with zeros at its beginning is common.
    let probes = [0, bytes.len() / 2, bytes.len().saturating_sub(1)];
    if probes
        .iter()
        .any(|&at| bytes.get(at).is_some_and(|&byte| byte != 0))
    {
        return false;
    }
    // Chunks of this size are OR-ed without a branch, which the compiler turns into vector code.
    let mut chunks = bytes.chunks_exact(256);
    chunks
        .by_ref()
        .all(|chunk| chunk.iter().fold(0, |or, &byte| or | byte) == 0)
        && chunks.remainder().iter().all(|&byte| byte == 0)
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
