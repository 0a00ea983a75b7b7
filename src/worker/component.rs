//! The local component of a worker: opened, locked, checked; then the disk of its driver.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::exit::{Failure, NOINPUT, REFUSED};
use crate::disk::layout::{METADATA_BYTES, Metadata, map_bytes};
use crate::disk::metadata;
use crate::disk::provider::{Access, Kind, Lock, OpenError, Provider, is_unsupported};
use crate::engine::event::{DiskOp, OpId};
use crate::io::pool::Piece;
use crate::io::proactor::{Disk, DiskIo, Proactor, Slot, Token};
use crate::ipc::Incomplete;
use crate::latency::Op;
use crate::terms::{Errno, Role, system_reason};

/// How long the component may be in use by another process: the worker of a daemon that has died
/// finishes what it is at, and the system its writes, before a new daemon's worker can have it.
const LOCK_PATIENCE: Duration = Duration::from_secs(6);

/// Pause between two attempts to lock it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A local component that belongs to the resource.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) provider: Provider,
    pub(super) metadata: Metadata,
    /// The bitmap, as far as it covers extents.
    pub(super) map: Vec<u8>,
    /// It was incomplete, and is used all the same.
    pub(super) forced: bool,
}

/// Opens the provider for this process alone.
fn lock(path: &std::path::Path) -> Result<Provider, OpenError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Provider::open(path, Access::Exclusive) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
}

/// Opens and checks the component.
///
/// # Errors
/// It cannot be opened or locked, holds no metadata of the resource, or, for a primary that is to
/// refuse it, an incomplete copy.
pub(super) fn open(
    path: &std::path::Path,
    resource: &str,
    role: Role,
    incomplete: Incomplete,
) -> Result<Component, Failure> {
    let input = |error: &dyn std::fmt::Display| Failure::new(NOINPUT, error.to_string());
    let provider = lock(path).map_err(|error| input(&error))?;
    // A worker that died may have written what is not on stable storage yet: only what is there
    // may be acted upon.
    provider.flush("metadata").map_err(|error| input(&error))?;
    let mut metadata = metadata::read(&provider, resource).map_err(|error| input(&error))?;
    let mut forced = false;
    if role == Role::Primary && metadata.inconsistent {
        match incomplete {
            // One that was given up holds nothing that a peer could complete.
            Incomplete::Resume if metadata.resuid != 0 => {}
            Incomplete::Refuse | Incomplete::Resume => {
                return Err(Failure::new(REFUSED, why_refused(path)));
            }
            Incomplete::Use => {
                // At once, lest another worker think otherwise.
                metadata.inconsistent = false;
                metadata::write(&provider, &metadata)
                    .and_then(|()| provider.flush("metadata"))
                    .map_err(|error| input(&error))?;
                forced = true;
            }
        }
    }
    let sector = u64::from(provider.info().geometry.sectorsize);
    let length = used_map_bytes(&metadata, sector);
    let mut map = vec![0; usize::try_from(length).map_err(|error| input(&error))?];
    provider
        .read("activemap", METADATA_BYTES, &mut map)
        .map_err(|error| input(&error))?;
    Ok(Component {
        provider,
        metadata,
        map,
        forced,
    })
}

/// What an administrator has to know before the copy is used all the same.
fn why_refused(path: &std::path::Path) -> String {
    format!(
        "The copy on {} is incomplete: a synchronization onto it has not ended. It holds blocks of \
         different times, so what is on it may be damaged, and of what the other node wrote while \
         the nodes were apart a part is missing. Connect it to a node with a complete copy; or \
         give up what is missing and use it as it is: hastctl role --force primary.",
        path.display()
    )
}

/// Bytes of the bitmap that are read, written and told to the peer: as many as the original's
/// layout gives it, though an aligned data area may leave room for more.
fn used_map_bytes(metadata: &Metadata, sector: u64) -> u64 {
    let covered = (metadata.offset - METADATA_BYTES).saturating_add(metadata.datasize);
    let extents = covered.div_ceil(u64::from(metadata.extentsize));
    map_bytes(extents)
        .next_multiple_of(sector)
        .max(sector)
        .min(metadata.mapsize())
}

impl Component {
    /// Whether nothing keeps other processes away from it.
    pub(super) fn is_unlocked(&self) -> bool {
        self.provider.lock() == Lock::Unsupported
    }

    /// Smallest unit of I/O, in bytes.
    pub(super) fn sector_bytes(&self) -> u32 {
        self.provider.info().geometry.sectorsize
    }
}

/// The component as the driver's threads use it.
struct LocalDisk {
    file: File,
    kind: Kind,
}

fn translate(result: io::Result<()>) -> Result<(), Errno> {
    result.map_err(|error| match error.raw_os_error() {
        _ if is_unsupported(&error) => Errno::EOPNOTSUPP,
        Some(number) => Errno::from_host(number),
        None => Errno::EIO,
    })
}

impl Disk for LocalDisk {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        translate(self.kind.zero(self.file.as_fd(), offset, length))
    }

    fn delete(&self, offset: u64, length: u64) -> Result<(), Errno> {
        translate(self.kind.delete(self.file.as_fd(), offset, length))
    }

    fn flush(&self) -> Result<(), Errno> {
        match translate(self.kind.flush(self.file.as_fd())) {
            // Storage without a volatile cache.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            flushed => flushed,
        }
    }
}

/// What an engine records on the component.
pub(super) trait Records {
    /// The metadata block of now.
    fn metadata(&self) -> Metadata;
    /// Bytes of the bitmap of now.
    fn map_bytes(&self, offset: u64, length: u32) -> &[u8];
}

impl Records for crate::engine::primary::Primary {
    fn metadata(&self) -> Metadata {
        self.metadata()
    }

    fn map_bytes(&self, offset: u64, length: u32) -> &[u8] {
        self.map_bytes(offset, length)
    }
}

impl Records for crate::engine::secondary::Secondary {
    fn metadata(&self) -> Metadata {
        self.metadata()
    }

    fn map_bytes(&self, offset: u64, length: u32) -> &[u8] {
        self.map_bytes(offset, length)
    }
}

/// What an operation is counted as, and how many bytes it moves; bitmap and metadata are none.
pub(super) fn measured(what: DiskOp) -> Option<(Op, u64)> {
    Some(match what {
        DiskOp::Read { length, .. } => (Op::Read, length.into()),
        DiskOp::Write { length, .. } | DiskOp::Zero { length, .. } => (Op::Write, length.into()),
        DiskOp::Delete { length, .. } => (Op::Delete, length),
        DiskOp::Flush => (Op::Flush, 0),
        DiskOp::MapWrite { .. } | DiskOp::MetaWrite => return None,
    })
}

/// Vectors that are kept for the next writes of bitmap and metadata.
const SPARE_MAX: usize = 16;

/// The engine's operations, translated to the component.
pub(super) struct Local {
    slot: Slot,
    /// Where the data area begins, in bytes.
    data_offset: u64,
    /// Set in every token.
    tag: Token,
    spare: Vec<Vec<u8>>,
    /// Operations that are not done.
    pub(super) outstanding: u64,
}

/// Bits of a token that are the operation's number.
const OP_BITS: u32 = 48;

impl Local {
    /// Hands the component to the driver. Its operations have `tag` in their tokens, in bits that
    /// no operation's number reaches.
    ///
    /// # Errors
    /// The driver's.
    pub(super) fn attach(
        io: &mut dyn Proactor,
        provider: Provider,
        metadata: &Metadata,
        tag: Token,
    ) -> Result<Local, Failure> {
        let path = provider.path().display().to_string();
        let kind = provider.info().kind;
        let disk = Arc::new(LocalDisk {
            file: provider.into_file(),
            kind,
        });
        let slot = io.attach_disk(disk).map_err(|error| {
            Failure::new(
                super::exit::OSERR,
                format!("Unable to use {path}: {}.", system_reason(&error)),
            )
        })?;
        Ok(Local {
            slot,
            data_offset: metadata.offset,
            tag,
            spare: Vec::new(),
            outstanding: 0,
        })
    }

    /// Submits an operation.
    pub(super) fn submit(
        &mut self,
        io: &mut dyn Proactor,
        records: &impl Records,
        op: OpId,
        what: DiskOp,
    ) {
        debug_assert!(op.0 >> OP_BITS == 0, "numbers of operations are short");
        let base = self.data_offset;
        let what = match what {
            DiskOp::Read {
                offset,
                length,
                buf,
            } => DiskIo::Read {
                offset: base + offset,
                piece: Piece::first(buf, length),
            },
            DiskOp::Write {
                offset,
                length,
                buf,
                fua,
            } => DiskIo::Write {
                offset: base + offset,
                piece: Piece::first(buf, length),
                fua,
            },
            DiskOp::Zero {
                offset,
                length,
                fua,
            } => DiskIo::Zero {
                offset: base + offset,
                length: length.into(),
                fua,
            },
            DiskOp::Delete { offset, length } => DiskIo::Delete {
                offset: base + offset,
                length,
            },
            DiskOp::Flush => DiskIo::Flush,
            DiskOp::MapWrite {
                offset,
                length,
                durable,
            } => {
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(records.map_bytes(offset, length));
                DiskIo::WriteBytes {
                    offset: METADATA_BYTES + offset,
                    bytes,
                    durable,
                }
            }
            DiskOp::MetaWrite => {
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(metadata::encode(&records.metadata()).as_slice());
                DiskIo::WriteBytes {
                    offset: 0,
                    bytes,
                    durable: false,
                }
            }
        };
        self.outstanding += 1;
        io.disk(self.slot, self.tag | op.0, what);
    }

    /// The number of an operation that is done, by its token.
    pub(super) fn done(&mut self, token: Token, bytes: Vec<u8>) -> OpId {
        self.outstanding -= 1;
        if bytes.capacity() > 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
        OpId(token & ((1 << OP_BITS) - 1))
    }
}
