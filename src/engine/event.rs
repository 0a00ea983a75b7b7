//! What goes into an engine and what comes out: the interface between engine and drivers.
//!
//! Rules that every driver keeps:
//! * Metadata and bitmap are handed in as they are on stable storage: the disk is flushed before
//!   they are read, as an earlier process may have died between a write and its flush.
//! * Actions are executed in the order given. `Send` and `Reply` go onto the stream in that order.
//! * A disk operation is answered by exactly one `DiskDone` with its `op`; operations may finish
//!   in any order and run in parallel, and the engine never has two overlapping writes at once.
//! * A buffer belongs to the engine from the event that hands it in (or from the configuration)
//!   until `Release`. A driver that still transmits from it keeps it until it is done.
//! * After `Lost`, nothing of that connection is delivered any more.
//! * Bytes of `MapWrite` and `MetaWrite` are taken from the engine while the action is executed,
//!   before the next event.

use crate::terms::{Errno, Replication, SyncRate};
use crate::wire::message::{PrimaryHello, Reply, Request, SecondaryHello};

/// Milliseconds since some moment in the past; never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// This moment plus `ms` milliseconds.
    #[must_use]
    pub fn plus(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if it is not earlier.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A request of the application, as the front end numbers it. Unique while it is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReqId(pub u32);

/// A buffer of the driver's pool; each holds [`crate::terms::REQUEST_BYTES_MAX`] bytes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufId(pub u32);

/// A disk operation of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// What an application asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppOp {
    /// Fill the buffer.
    Read,
    /// Store the buffer; with `fua`, on stable storage before it completes.
    Write {
        /// Force unit access.
        fua: bool,
    },
    /// The content is no longer needed (trim).
    Delete,
    /// Store zeros; no buffer.
    WriteZeroes {
        /// Force unit access.
        fua: bool,
    },
    /// Everything completed so far goes to stable storage.
    Flush,
}

/// A request of the application. The front end has split it: data requests are at most
/// [`crate::terms::REQUEST_BYTES_MAX`] long, deletes and zeroes at most
/// [`DISCARD_BYTES_MAX`], all multiples of the sector size and inside the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppRequest {
    /// Its number.
    pub id: ReqId,
    /// What.
    pub op: AppOp,
    /// Byte offset in the data area.
    pub offset: u64,
    /// Length in bytes; 0 for flush.
    pub length: u32,
    /// The buffer of a read or write.
    pub buf: Option<BufId>,
}

/// Largest delete or write-zeroes of one [`AppRequest`], in bytes.
pub const DISCARD_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// An operation on the local component. Offsets count from the start of the data area, those of
/// `Map*` from the start of the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Read `length` bytes into the buffer, from its start.
    Read {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u32,
        /// Where to.
        buf: BufId,
    },
    /// Write `length` bytes of the buffer, from its start.
    Write {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u32,
        /// Where from.
        buf: BufId,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Write zeros.
    Zero {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u32,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Discard.
    Delete {
        /// Where.
        offset: u64,
        /// How many bytes; of a peer's request, any that the data area holds.
        length: u64,
    },
    /// Write back the volatile cache: covers every operation that was done before this was issued.
    Flush,
    /// Write the engine's bitmap bytes `offset..offset + length` (`map_bytes`).
    MapWrite {
        /// Where, a multiple of the sector size.
        offset: u64,
        /// How many bytes, a multiple of the sector size.
        length: u32,
        /// Done only when on stable storage. A driver that flushes everything for that is right,
        /// one that need not is fast: the data that wait to be written are much more.
        durable: bool,
    },
    /// Write the engine's metadata block (`metadata`).
    MetaWrite,
}

/// Something worth a line in the log, a hook, an event for hastctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The handshake is complete.
    Connected,
    /// The connection is gone.
    Disconnected(LostReason),
    /// A synchronisation begins: `bytes` to copy.
    SyncStarted {
        /// Whether from the peer to this node.
        from_peer: bool,
        /// How much there is to copy.
        bytes: u64,
    },
    /// The copies are equal.
    SyncDone,
    /// The synchronisation stopped before its end.
    SyncInterrupted,
    /// Both nodes were written apart from each other.
    SplitBrain,
    /// The counters fit no history: a full synchronisation follows.
    CountersImpossible,
    /// The metadata's generation counter was raised to this value before a write alone.
    LocalcntBumped(u64),
    /// The counters were set, at the end of a synchronisation.
    CountersAgreed {
        /// New `localcnt`.
        localcnt: u64,
        /// New `remotecnt`.
        remotecnt: u64,
    },
    /// A local operation failed.
    LocalError {
        /// What failed.
        op: FailedOp,
        /// Where, in the data area.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Why.
        error: Errno,
    },
    /// The peer reported that an operation failed there.
    RemoteError {
        /// What failed.
        op: FailedOp,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Why.
        error: Errno,
    },
    /// The local disk is no longer used: the peer serves alone.
    Detached,
    /// The peer cannot discard; ranges that were deleted here are copied instead.
    PeerCannotDelete,
    /// The peer cannot flush its cache.
    PeerCannotFlush,
}

/// The kind of operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedOp {
    /// Reading data.
    Read,
    /// Writing data or zeros.
    Write,
    /// Discarding.
    Delete,
    /// Flushing the cache.
    Flush,
    /// Writing the dirty bitmap.
    Map,
    /// Writing the metadata.
    Metadata,
    /// Reading for a synchronisation.
    SyncRead,
    /// Writing for a synchronisation.
    SyncWrite,
}

/// Why a connection ended or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The driver saw the connection break or could not make it.
    Broken,
    /// No sign of life for longer than the timeout.
    Timeout,
    /// The peer sent what no peer sends.
    Protocol(&'static str),
    /// The peer's data area has another size.
    DatasizeMismatch {
        /// Ours, bytes.
        ours: u64,
        /// Theirs, bytes.
        theirs: u64,
    },
    /// The peer's extents have another size.
    ExtentsizeMismatch {
        /// Ours, bytes.
        ours: u32,
        /// Theirs, bytes.
        theirs: u32,
    },
    /// The peer's unique id is another.
    ResuidMismatch {
        /// The primary's.
        primary: u64,
        /// The secondary's.
        secondary: u64,
    },
    /// Both were written apart.
    SplitBrain,
    /// This node's copy is incomplete, and the peer has lost the one that it was copied from.
    NoGoodCopy,
    /// A write, delete or flush failed there.
    RemoteFailed(Errno),
    /// The local disk failed.
    LocalFailed(Errno),
    /// The operator or the daemon asked for it.
    Asked,
}

/// Events of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryEvent<'a> {
    /// The application asks. Only while `has_room()`.
    App(AppRequest),
    /// A disk operation is done.
    DiskDone {
        /// Which.
        op: OpId,
        /// How it went.
        result: Result<(), Errno>,
    },
    /// The first step of the handshake is done: both connections exist. The engine answers with
    /// `SendHello` when the metadata allows.
    Linked,
    /// The secondary's answer.
    Hello {
        /// Its fixed part.
        hello: SecondaryHello,
        /// Its bitmap, `mapsize` bytes.
        map: &'a [u8],
        /// What the peer offers beyond the original's protocol.
        peer: PeerLimits,
    },
    /// A reply. The data of a successful read were put where `read_destination(seq)` said.
    Reply {
        /// What was replied.
        reply: Reply,
        /// Bytes of data that came with it, after decoding.
        length: u32,
    },
    /// The answer to a keepalive.
    Heartbeat,
    /// The connection is gone or could not be made complete.
    Lost(LostReason),
    /// Nothing but the time: due at `deadline()` at the latest.
    Tick,
    /// New parameters.
    Parameters(Parameters),
    /// Operator: let the synchronisation rest, or go on.
    PauseSync(bool),
    /// The role ends in an orderly way: no more requests of the application will come. Answered
    /// with `Stopped` when everything is on stable storage and the metadata is written.
    Stop,
}

/// Actions of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryAction {
    /// Operate on the local component.
    Disk {
        /// Its number, for `DiskDone`.
        op: OpId,
        /// What.
        what: DiskOp,
    },
    /// Send the second step of the handshake.
    SendHello(PrimaryHello),
    /// Send a request. A write's data are `request.length` bytes of the buffer, from the offset in
    /// `data` on; for `zeroes` the block is all zeros and has no buffer.
    Send {
        /// The request.
        request: Request,
        /// Buffer, and where in it the data begin.
        data: Option<(BufId, u32)>,
        /// A block of zeros.
        zeroes: bool,
    },
    /// The application's request is done; a successful read's data are in its buffer. The buffer
    /// is the front end's again at its `Release`, which may come later.
    Complete {
        /// Which.
        id: ReqId,
        /// How it went.
        result: Result<(), Errno>,
    },
    /// The engine needs this buffer no more.
    Release(BufId),
    /// Close both connections. The engine has already forgotten them: no `Lost` is expected.
    Disconnect(LostReason),
    /// Tell the log, the hooks, the operator.
    Notice(Notice),
    /// The role has ended.
    Stopped,
}

/// What a peer can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Longest read or write, in bytes.
    pub request_bytes: u32,
    /// Answers keepalives (our extension `x-heartbeat`).
    pub heartbeat: bool,
    /// Knows the commands `ahead` and `in step` (our extension `x-copy`).
    pub copy_states: bool,
    /// Knows the command `target` (our extension `x-steer`).
    pub steering: bool,
}

impl Default for PeerLimits {
    fn default() -> PeerLimits {
        PeerLimits {
            request_bytes: crate::terms::PEER_REQUEST_BYTES,
            heartbeat: false,
            copy_states: false,
            steering: false,
        }
    }
}

/// Parameters that may change while a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// When a write is done.
    pub replication: Replication,
    /// Milliseconds until a silent peer counts as gone.
    pub timeout_ms: u64,
    /// Whether bitmap and metadata writes are flushed.
    pub metaflush: bool,
    /// How fast a synchronisation may go.
    pub sync_rate: SyncRate,
}

/// Events of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondaryEvent {
    /// The primary's second step. Answered with `Hello` or `Refuse`.
    Hello {
        /// What it says of its copy.
        hello: PrimaryHello,
        /// What the primary offers beyond the original's protocol.
        peer: PeerLimits,
    },
    /// A request; `buf` holds a write's data or is where a read's go.
    Request {
        /// What is asked.
        request: Request,
        /// A write's data and their length in bytes after decoding, or an empty buffer for a read
        /// (then the length is 0).
        data: Option<(BufId, u32)>,
        /// A write of `request.length` zeros, which needs no buffer.
        zeroes: bool,
    },
    /// A disk operation is done.
    DiskDone {
        /// Which.
        op: OpId,
        /// How it went.
        result: Result<(), Errno>,
    },
    /// The connection is gone.
    Lost(LostReason),
    /// Nothing but the time.
    Tick,
    /// The role ends: answered with `Stopped` when no operation is left.
    Stop,
}

/// Actions of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondaryAction {
    /// Operate on the local component.
    Disk {
        /// Its number, for `DiskDone`.
        op: OpId,
        /// What.
        what: DiskOp,
    },
    /// Answer the handshake; the bitmap is `map_bytes` of the engine, `mapsize` long.
    Hello(SecondaryHello),
    /// Refuse the handshake; the text goes out as `errmsg`. The session ends with `Stopped`.
    Refuse(LostReason),
    /// Reply; a successful read's data are the buffer's first bytes, as many as given.
    Reply {
        /// What.
        reply: Reply,
        /// A read's data.
        data: Option<(BufId, u32)>,
    },
    /// Answer a keepalive.
    Heartbeat,
    /// The engine needs this buffer no more.
    Release(BufId),
    /// Tell the log, the hooks, the operator.
    Notice(Notice),
    /// The session has ended, for this reason; no operation is left on the disk.
    Stopped(LostReason),
}
