//! Numbers and encodings of the NBD protocol (the NetworkBlockDevice project's doc/proto.md).
//! Everything on the wire is big-endian.

use crate::terms::Errno;

/// First bytes of the server: `NBDMAGIC`.
pub(super) const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second, and the first of every option: `IHAVEOPT`.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First bytes of a reply to an option.
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First bytes of a request.
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First bytes of a simple reply.
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First bytes of a chunk of a structured reply.
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, of the server and of the client: fixed newstyle; no zeros after an export.
pub(super) const FLAG_FIXED_NEWSTYLE: u16 = 1;
pub(super) const FLAG_NO_ZEROES: u16 = 2;

/// Options.
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
}

/// Replies to options.
pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const ERR_UNSUP: u32 = 0x8000_0001;
    pub(in super::super) const ERR_INVALID: u32 = 0x8000_0003;
    pub(in super::super) const ERR_UNKNOWN: u32 = 0x8000_0006;
}

/// Kinds of information about an export.
pub(super) const INFO_EXPORT: u16 = 0;
pub(super) const INFO_NAME: u16 = 1;
pub(super) const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags: what the export can do.
pub(super) mod can {
    pub(in super::super) const HAS_FLAGS: u16 = 1;
    pub(in super::super) const FLUSH: u16 = 1 << 2;
    pub(in super::super) const FUA: u16 = 1 << 3;
    pub(in super::super) const TRIM: u16 = 1 << 5;
    pub(in super::super) const WRITE_ZEROES: u16 = 1 << 6;
    pub(in super::super) const DF: u16 = 1 << 7;
    pub(in super::super) const MULTI_CONN: u16 = 1 << 8;
}

/// Commands.
pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const WRITE: u16 = 1;
    pub(in super::super) const DISC: u16 = 2;
    pub(in super::super) const FLUSH: u16 = 3;
    pub(in super::super) const TRIM: u16 = 4;
    pub(in super::super) const WRITE_ZEROES: u16 = 6;
}

/// Flags of commands.
pub(super) mod command_flag {
    pub(in super::super) const FUA: u16 = 1;
    pub(in super::super) const NO_HOLE: u16 = 2;
    pub(in super::super) const DF: u16 = 4;
}

/// An error number as NBD knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NbdError(pub(super) u32);

impl NbdError {
    pub(super) const EIO: NbdError = NbdError(5);
    pub(super) const EINVAL: NbdError = NbdError(22);
    pub(super) const ENOSPC: NbdError = NbdError(28);
    pub(super) const EOVERFLOW: NbdError = NbdError(75);
    pub(super) const ENOTSUP: NbdError = NbdError(95);
}

impl From<Errno> for NbdError {
    fn from(error: Errno) -> NbdError {
        match error {
            Errno::EINVAL => NbdError::EINVAL,
            Errno::ENOSPC => NbdError::ENOSPC,
            Errno::EOPNOTSUPP => NbdError::ENOTSUP,
            _ => NbdError::EIO,
        }
    }
}

/// Length of a request, in bytes, without a write's payload.
pub(super) const REQUEST_BYTES: usize = 28;

const CHUNK_DONE: u16 = 1;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_ERROR: u16 = 0x8001;

/// Appends a reply to an option.
pub(super) fn option_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let length = u32::try_from(data.len()).unwrap_or_else(|_| {
        unreachable!("replies carry a name or fixed fields, each far shorter than 4 GiB")
    });
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
}

/// Appends a simple reply; a successful read's data follow.
pub(super) fn simple_reply(out: &mut Vec<u8>, cookie: u64, error: Option<NbdError>) {
    let mut reply = [0; 16];
    reply[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    reply[4..8].copy_from_slice(&error.map_or(0, |error| error.0).to_be_bytes());
    reply[8..].copy_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&reply);
}

/// Appends the head of a chunk of a read's data, which follow.
pub(super) fn data_chunk(out: &mut Vec<u8>, cookie: u64, offset: u64, length: u32, last: bool) {
    chunk(
        out,
        cookie,
        CHUNK_OFFSET_DATA,
        length.saturating_add(8),
        last,
    );
    out.extend_from_slice(&offset.to_be_bytes());
}

/// Appends the chunk that ends a failed read.
pub(super) fn error_chunk(out: &mut Vec<u8>, cookie: u64, error: NbdError) {
    chunk(out, cookie, CHUNK_ERROR, 6, true);
    out.extend_from_slice(&error.0.to_be_bytes());
    // No text.
    out.extend_from_slice(&[0, 0]);
}

fn chunk(out: &mut Vec<u8>, cookie: u64, kind: u16, length: u32, last: bool) {
    let flags = if last { CHUNK_DONE } else { 0 };
    let mut head = [0; 20];
    head[..4].copy_from_slice(&CHUNK_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&kind.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..].copy_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&head);
}

/// Takes integers from the front of bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}
