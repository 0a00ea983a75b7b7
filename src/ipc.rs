//! Every message between the parent and its children: the boundary of privileges.
//!
//! One enum per direction and kind of child. A child can ask only for what its type can say: it
//! never names an address, a path or a program. `privsep::channel` encodes them, bounds them and
//! checks the number of descriptors; the parent also checks that the child's kind and state allow
//! them.

use std::net::IpAddr;
use std::path::PathBuf;

use privsep::channel::{Message, Protocol};
use serde::{Deserialize, Serialize};

use crate::confinement::Confinement;
use crate::latency::Latency;
use crate::terms::{Checksum, Compression, DriverChoice, Replication, Role, SyncRate};

/// The parent and a worker.
pub const WORKER_PROTOCOL: Protocol = Protocol { id: 1, version: 1 };

/// Exit status of a primary that was not to use its incomplete copy: the role stays what it was.
/// EX_NOPERM of sysexits(3).
pub const EXIT_REFUSED: u8 = 77;

/// The parent and the listener.
pub const LISTENER_PROTOCOL: Protocol = Protocol { id: 2, version: 1 };

/// The parent and a resolver.
pub const RESOLVER_PROTOCOL: Protocol = Protocol { id: 3, version: 1 };

/// The parent and an attacher.
pub const ATTACHER_PROTOCOL: Protocol = Protocol { id: 4, version: 1 };

/// What a primary does with a copy that is known to be incomplete: the target of a synchronisation
/// that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Incomplete {
    /// It does not take the role.
    Refuse,
    /// It serves when the peer with the complete copy is connected: an earlier worker did, too.
    Resume,
    /// It serves it as it is.
    Use,
}

/// What a worker is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Serve the device and replicate.
    Primary {
        /// What to do with a copy that is known to be incomplete.
        incomplete: Incomplete,
    },
    /// Keep a copy for the primary whose two connections come with the message.
    Secondary,
    /// Open and check the local component for this role, say so, and end.
    Check(Role),
}

/// Everything that a worker needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What for.
    pub task: Task,
    /// Name of the resource.
    pub resource: String,
    /// Name of the provider.
    pub provname: String,
    /// Path of the local component.
    pub local: PathBuf,
    /// Directory of the NBD sockets.
    pub devices: PathBuf,
    /// What may change later.
    pub settings: Settings,
    /// Whether there is a peer at all.
    pub has_peer: bool,
    /// The peer's address as configured, for messages.
    pub peer_address: String,
    /// Debug level of the log.
    pub debug: u8,
    /// User to become, if started as root.
    pub user: String,
    /// Whether a step of the confinement that fails is fatal.
    pub confine: bool,
    /// What performs its I/O.
    pub driver: DriverChoice,
    /// What a primary said in the second step of the handshake.
    pub hello: Option<PeerHello>,
}

/// A primary's second message, as the listener decoded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Nothing was ever written.
    pub virgin: bool,
    /// Unique id of the resource.
    pub resuid: u64,
    /// Generations that the primary wrote alone.
    pub localcnt: u64,
    /// Ours, as last agreed.
    pub remotecnt: u64,
    /// What it offers.
    pub offer: Offer,
}

/// The extensions that a peer offers (docs/protocol.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Longest read or write that it accepts, in bytes.
    pub request_bytes: Option<u32>,
    /// It answers keepalives.
    pub heartbeat: bool,
    /// It knows `ahead` and `in step`.
    pub copy_states: bool,
    /// It knows `target`.
    pub steering: bool,
}

/// Parameters that may change while a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// When a write is done.
    pub replication: Replication,
    /// Checksum of blocks sent.
    pub checksum: Checksum,
    /// Compression of blocks sent.
    pub compression: Compression,
    /// Seconds until a silent peer counts as gone.
    pub timeout_s: u32,
    /// Whether metadata writes are flushed.
    pub metaflush: bool,
    /// How fast a synchronisation may go.
    pub sync_rate: SyncRate,
    /// Whether a synchronisation rests.
    pub sync_paused: bool,
    /// Whether to connect to the peer; false by order of an administrator.
    pub connect: bool,
}

/// From the parent to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First of all. For a secondary with connections A and B as descriptors.
    Start(Box<Start>),
    /// The connection that was asked for, as descriptor.
    Connected,
    /// It could not be made.
    ConnectFailed {
        /// In words: address and reason.
        reason: String,
    },
    /// New parameters.
    Settings {
        /// Them.
        settings: Settings,
        /// The peer's address changed: connect anew.
        reconnect: bool,
        /// The peer's address as configured, for messages.
        peer_address: String,
    },
    /// Answer with `Status`.
    Status,
    /// End in an orderly way.
    Stop,
}

/// From a worker to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The disk and the device are open, the process is confined, the role is taken.
    Ready(Box<Ready>),
    /// It cannot be: the reason, in words, and the exit status (sysexits) that follows.
    Failed {
        /// For the log and for hastctl.
        reason: String,
        /// Exit status.
        status: u8,
    },
    /// Connect to my configured peer. One at a time.
    Connect,
    /// A line for the log.
    Log {
        /// How important.
        level: Level,
        /// The text, without prefix.
        text: String,
    },
    /// Something that hooks and operators want to know.
    Event {
        /// What.
        event: Event,
        /// In words, for operators.
        details: String,
    },
    /// The answer to `Status`.
    Status(Box<Status>),
}

/// How a process is confined, and what it found when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// How it is confined.
    pub confinement: Confinement,
    /// Bytes of the data area.
    pub datasize: u64,
    /// Bytes of an extent.
    pub extentsize: u32,
    /// How many extents stay dirty.
    pub keepdirty: u32,
    /// Where the device is reached, e.g. the path of the NBD socket.
    pub device: Option<String>,
    /// What performs its I/O: `Threads` or `Uring`; of a worker that only checks: `Auto`.
    pub driver: DriverChoice,
}

/// Importance of a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// With the debug level that shows it, from 1.
    Debug(u8),
    /// As it should be.
    Info,
    /// Worth knowing.
    Notice,
    /// Something is wrong and work goes on.
    Warning,
    /// Something failed.
    Error,
}

/// Events of a worker: those of the original, for which hooks are run, then ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The peers are connected.
    Connect,
    /// They are not any more.
    Disconnect,
    /// A synchronisation began.
    SyncStart,
    /// It is complete.
    SyncDone,
    /// It was interrupted.
    SyncIntr,
    /// Both were written apart.
    SplitBrain,
    /// An attempt to connect has failed, for another reason than the one before.
    ConnectFailed,
    /// The nodes do not fit together, and only an operator can do something about it.
    Mismatch,
    /// A synchronisation has made progress.
    SyncProgress,
    /// The counters fit no history: everything is synchronised.
    CountersReset,
    /// An operation on the local disk failed.
    DiskError,
    /// An operation on the peer's disk failed.
    PeerError,
    /// The local disk is no longer used.
    DiskDetached,
    /// The peer cannot do something that this node relies on otherwise.
    PeerLimited,
}

impl Event {
    /// Whether it is for operators to read and nothing depends on it.
    pub const fn is_words(self) -> bool {
        match self {
            Event::Connect
            | Event::Disconnect
            | Event::SyncStart
            | Event::SyncDone
            | Event::SyncIntr
            | Event::SplitBrain => false,
            Event::ConnectFailed
            | Event::Mismatch
            | Event::SyncProgress
            | Event::CountersReset
            | Event::DiskError
            | Event::PeerError
            | Event::DiskDetached
            | Event::PeerLimited => true,
        }
    }
}

/// Why a worker is not connected, for programs and for `hastctl explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The first attempt has not ended.
    Starting,
    /// There is no peer.
    NoPeer,
    /// No connection to the peer can be made.
    Unreachable,
    /// The peer does not answer.
    Silent,
    /// The peer does not accept the connection: its role or its configuration.
    Refused,
    /// The connection broke.
    Broken,
    /// The peer violated the protocol.
    Protocol,
    /// The data areas or extents differ in size.
    SizeMismatch,
    /// The copies belong to different resources.
    IdMismatch,
    /// Both copies were written apart.
    SplitBrain,
    /// This copy is incomplete, and the one that it was copied from is gone.
    NoGoodCopy,
    /// An operation failed on the peer.
    PeerFailed,
    /// An operation failed on the local disk.
    LocalFailed,
    /// It was closed on request.
    Asked,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 14] = [
        Cause::Starting,
        Cause::NoPeer,
        Cause::Unreachable,
        Cause::Silent,
        Cause::Refused,
        Cause::Broken,
        Cause::Protocol,
        Cause::SizeMismatch,
        Cause::IdMismatch,
        Cause::SplitBrain,
        Cause::NoGoodCopy,
        Cause::PeerFailed,
        Cause::LocalFailed,
        Cause::Asked,
    ];

    /// The word of `cause` in hast-json(5).
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Starting => "starting",
            Cause::NoPeer => "no-peer",
            Cause::Unreachable => "unreachable",
            Cause::Silent => "silent",
            Cause::Refused => "refused",
            Cause::Broken => "broken",
            Cause::Protocol => "protocol",
            Cause::SizeMismatch => "size-mismatch",
            Cause::IdMismatch => "id-mismatch",
            Cause::SplitBrain => "split-brain",
            Cause::NoGoodCopy => "no-good-copy",
            Cause::PeerFailed => "peer-failed",
            Cause::LocalFailed => "local-failed",
            Cause::Asked => "asked",
        }
    }

    /// The cause of that word.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

/// State of a worker, for `hastctl status` and `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the peer is connected and requests travel.
    pub connected: bool,
    /// Why not, in words.
    pub reason: Option<String>,
    /// The same for programs.
    pub cause: Option<Cause>,
    /// Seconds since `connected` last changed.
    pub since_s: u64,
    /// Bytes in dirty extents.
    pub dirty_bytes: u64,
    /// Bytes of an extent.
    pub extentsize: u32,
    /// How many extents stay dirty.
    pub keepdirty: u32,
    /// State of the local disk, in a word: good, stale, detached, failed.
    pub disk: String,
    /// Whether the device answers.
    pub serving: bool,
    /// The synchronisation, if one is under way.
    pub sync: Option<SyncStatus>,
    /// Counters since the worker started.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Deletes.
    pub deletes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Writes to the bitmap on disk.
    pub map_updates: u64,
    /// Local errors: read, write, delete, flush.
    pub errors: [u64; 4],
    /// Requests: free, on the local disk, to be sent, awaiting a reply, done.
    pub queues: [u64; 5],
    /// How long operations took: at most one per operation and stage.
    pub latencies: Vec<Latency>,
}

/// A synchronisation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Whether from the peer to this node.
    pub from_peer: bool,
    /// Whether it rests.
    pub paused: bool,
    /// Bytes that it had to copy at its begin.
    pub total_bytes: u64,
    /// Bytes that are left.
    pub left_bytes: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// Bytes per second that are allowed now, if there is a limit.
    pub limit: Option<u64>,
    /// Seconds that it will take at this rate.
    pub eta_s: Option<u64>,
}

/// From the parent to the listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToListener {
    /// First of all.
    Start {
        /// User to become, if started as root.
        user: String,
        /// Whether a step of the confinement that fails is fatal.
        confine: bool,
        /// Debug level of the log.
        debug: u8,
        /// Milliseconds that a peer may take for its first packet.
        patience_ms: u32,
    },
    /// Accept connections of this socket, too: comes with it.
    Listen {
        /// Its number.
        id: u32,
    },
    /// Accept no more connections of that socket, and close it.
    Forget {
        /// Its number.
        id: u32,
    },
}

/// From the listener to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromListener {
    /// The process is confined.
    Ready(Box<Ready>),
    /// A line for the log.
    Log {
        /// How important.
        level: Level,
        /// The text.
        text: String,
    },
    /// A peer's first packet on a connection, which comes as descriptor.
    Hello(Box<Hello>),
}

/// A peer's first packet, decoded and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name of the resource, at most 254 bytes.
    pub resource: String,
    /// The peer's protocol version (first step).
    pub version: u8,
    /// The token and what belongs to the second step.
    pub second: Option<([u8; 16], PeerHello)>,
    /// What it offers.
    pub offer: Offer,
}

/// From the parent to a resolver, which looks up one name and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToResolver {
    /// First and last of all.
    Resolve {
        /// A host's name, from the configuration.
        host: String,
        /// User to become, if started as root.
        user: String,
        /// Whether a step of the confinement that fails is fatal.
        confine: bool,
    },
}

/// From a resolver to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromResolver {
    /// The host's addresses, at least one.
    Addresses(Vec<IpAddr>),
    /// There are none: the reason, in words.
    Failed(String),
}

/// From the parent to an attacher, which does one thing and ends (Linux).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAttacher {
    /// First and last of all: give the kernel a device.
    Attach {
        /// Name of the provider, which becomes that of the link.
        name: String,
        /// The worker's NBD socket.
        socket: PathBuf,
        /// Bytes of the device.
        bytes: u64,
        /// Number of the device that there is already.
        index: Option<u32>,
        /// Whether a step of the confinement that fails is fatal.
        confine: bool,
    },
    /// First and last of all: take it away.
    Detach {
        /// Name of the provider.
        name: String,
        /// Number of the device, if it is known.
        index: Option<u32>,
        /// Whether a step of the confinement that fails is fatal.
        confine: bool,
    },
}

/// From an attacher to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAttacher {
    /// The device, by its number.
    Attached(u32),
    /// There is none any more.
    Detached,
    /// It could not be done: the reason, in words.
    Failed(String),
}

impl Message for ToAttacher {}

impl Message for FromAttacher {}

impl Message for ToResolver {}

impl Message for FromResolver {}

impl Message for ToWorker {
    fn descriptors(&self) -> usize {
        match self {
            ToWorker::Start(start) if start.task == Task::Secondary => 2,
            ToWorker::Connected => 1,
            _ => 0,
        }
    }
}

impl Message for FromWorker {
    fn descriptors(&self) -> usize {
        0
    }
}

impl Message for ToListener {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, ToListener::Listen { .. }))
    }
}

impl Message for FromListener {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, FromListener::Hello(_)))
    }
}
