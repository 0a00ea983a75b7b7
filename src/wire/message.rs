//! The messages between a primary and a secondary, as typed values.

use crate::terms::{Checksum, Compression, Errno};

/// Length of the token that ties the two connections of a session together, in bytes.
pub const TOKEN_BYTES: usize = 16;

/// Protocol version that this program speaks.
pub const PROTOCOL_VERSION: u8 = 2;

/// What a request asks for (`cmd`, spec/01, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// 1: read.
    Read,
    /// 2: write.
    Write,
    /// 3: delete (trim).
    Delete,
    /// 4: flush the write cache.
    Flush,
    /// 5: nothing; sent when nothing else was for a while.
    Keepalive,
    /// 64, extension `x-copy`: the primary's own disk has failed, the secondary's copy alone goes
    /// on. The secondary raises its `localcnt` and marks everything dirty, durably, and replies.
    Ahead,
    /// 65, extension `x-copy`: a synchronisation is complete, the secondary's copy is consistent.
    /// Replied to when that is on its disk.
    InStep,
    /// 66, extension `x-steer`: a synchronisation to the secondary begins, its copy is incomplete
    /// until [`Command::InStep`]. Replied to when that is on its disk; nothing is copied before.
    Target,
}

/// A request of the primary, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Chosen by the primary, echoed by the secondary; 0 for keepalive only.
    pub seq: u64,
    /// Byte offset in the data area; 0 for flush and keepalive.
    pub offset: u64,
    /// Length in bytes; 0 for flush and keepalive.
    pub length: u64,
    /// Whether a `received` reply is wanted before the final one.
    pub memsync: bool,
}

/// A reply of the secondary, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The request's `seq`.
    pub seq: u64,
    /// What went wrong, if anything did.
    pub error: Option<Errno>,
    /// First of the two replies to a memsync write: the data is in memory.
    pub received: bool,
}

/// Where a synchronisation copies from (`syncsrc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncSource {
    /// 1: from the primary to the secondary.
    Primary,
    /// 2: from the secondary to the primary.
    Secondary,
}

/// The primary's message on connection B, spec/01, 3.3, without resource and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryHello {
    /// The primary has just made the resource's unique id: nothing was ever written.
    pub virgin: bool,
    /// The resource's unique id.
    pub resuid: u64,
    /// Generations that the primary wrote alone.
    pub localcnt: u64,
    /// The secondary's `localcnt` as last agreed.
    pub remotecnt: u64,
}

/// The secondary's answer on connection A, spec/01, 3.4, without the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecondaryHello {
    /// Bytes of the data area.
    pub datasize: u64,
    /// Bytes of an extent.
    pub extentsize: u32,
    /// Generations that the secondary wrote alone.
    pub localcnt: u64,
    /// The primary's `localcnt` as last agreed.
    pub remotecnt: u64,
    /// The secondary had no unique id until now.
    pub virgin: bool,
    /// Where to copy from.
    pub syncsrc: SyncSource,
    /// Length of the bitmap that follows, in bytes; 0: none.
    pub mapsize: u32,
}

/// Parameters of the data stages for one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stages {
    /// What is done to blocks first.
    pub compression: Compression,
    /// What is computed over the result.
    pub checksum: Checksum,
}
