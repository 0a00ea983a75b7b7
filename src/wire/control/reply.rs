//! What the daemon answers.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{ControlError, split_index};
use crate::terms::{Checksum, Compression, Replication, Role};
use crate::wire::message::PROTOCOL_VERSION;
use crate::wire::nv::{Entry, Writer, WrongKind};
use crate::wire::packet::{self, Packet};

/// A reply on the control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlReply {
    /// Why the whole request failed, and in words.
    pub error: Option<(ControlError, Option<String>)>,
    /// One per resource that was asked about.
    pub resources: Vec<ResourceReply>,
    /// The daemon's own state as JSON, if it was asked for.
    pub json: Option<String>,
}

impl ControlReply {
    /// The request failed as a whole.
    pub fn refusal(error: ControlError, text: Option<String>) -> ControlReply {
        ControlReply {
            error: Some((error, text)),
            ..ControlReply::default()
        }
    }
}

/// The answer for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceReply {
    /// The resource's name.
    pub name: String,
    /// The answer.
    pub state: ResourceState,
}

/// The answer for one resource, by what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// It failed.
    Failed {
        /// Why.
        error: ControlError,
        /// Why, in words.
        text: Option<String>,
    },
    /// It was done. For a change of role: the role before.
    Done {
        /// The role before.
        previous: Option<Role>,
        /// What there is to say about it.
        text: Option<String>,
    },
    /// The state that was asked for.
    Status(Box<ResourceStatus>),
}

/// State of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// Name of the provider.
    pub provname: String,
    /// Path of the local component.
    pub localpath: String,
    /// Address of the other node.
    pub remoteaddr: String,
    /// Address that connections are made from, if one is set.
    pub sourceaddr: Option<String>,
    /// Replication mode.
    pub replication: Replication,
    /// Checksum; `None`: the peer program is too old to say.
    pub checksum: Option<Checksum>,
    /// Compression; `None`: the peer program is too old to say.
    pub compression: Option<Compression>,
    /// Role.
    pub role: Role,
    /// Process id of the worker, 0 without one; `None`: the peer program is too old to say.
    pub workerpid: Option<i32>,
    /// What the worker says, if one runs.
    pub worker: Option<WorkerState>,
    /// The state as JSON, if it was asked for.
    pub json: Option<String>,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    /// Whether both nodes are connected: `complete`, otherwise `degraded`.
    pub complete: bool,
    /// Bytes that are to be synchronised.
    pub dirty: u64,
    /// Bytes of an extent.
    pub extentsize: u32,
    /// Extents that are kept dirty; 0 of a secondary.
    pub keepdirty: u32,
    /// Counters.
    pub statistics: Statistics,
}

/// Counters of a worker; those that a peer program does not send read as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the pairs")]
pub struct Statistics {
    pub read: u64,
    pub write: u64,
    pub delete: u64,
    pub flush: u64,
    pub activemap_update: u64,
    pub read_error: u64,
    pub write_error: u64,
    pub delete_error: u64,
    pub flush_error: u64,
    pub idle_queue: u64,
    pub local_queue: u64,
    pub send_queue: u64,
    pub recv_queue: u64,
    pub done_queue: u64,
}

/// Names of the counters' pairs, in the order of the original.
const COUNTERS: [&str; 14] = [
    "stat_read",
    "stat_write",
    "stat_delete",
    "stat_flush",
    "stat_activemap_update",
    "stat_read_error",
    "stat_write_error",
    "stat_delete_error",
    "stat_flush_error",
    "idle_queue_size",
    "local_queue_size",
    "send_queue_size",
    "recv_queue_size",
    "done_queue_size",
];

impl Statistics {
    /// The values in the order of [`COUNTERS`].
    fn values(&self) -> [u64; 14] {
        [
            self.read,
            self.write,
            self.delete,
            self.flush,
            self.activemap_update,
            self.read_error,
            self.write_error,
            self.delete_error,
            self.flush_error,
            self.idle_queue,
            self.local_queue,
            self.send_queue,
            self.recv_queue,
            self.done_queue,
        ]
    }

    fn from_values(values: [u64; 14]) -> Statistics {
        let [read, write, delete, flush, activemap_update, values @ ..] = values;
        let [
            read_error,
            write_error,
            delete_error,
            flush_error,
            values @ ..,
        ] = values;
        let [idle_queue, local_queue, send_queue, recv_queue, done_queue] = values;
        Statistics {
            read,
            write,
            delete,
            flush,
            activemap_update,
            read_error,
            write_error,
            delete_error,
            flush_error,
            idle_queue,
            local_queue,
            send_queue,
            recv_queue,
            done_queue,
        }
    }
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A pair is missing for the resource of this number.
    Missing(&'static str, usize),
    /// A pair has the wrong type.
    Kind(&'static str, WrongKind),
    /// A word that this program does not know, for the resource of this number.
    UnknownWord(&'static str, usize),
    /// Data with a message that has none.
    UnexpectedData,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::Missing(name, index) => write!(f, "field '{name}{index}' is missing"),
            ReplyError::Kind(name, kind) => write!(f, "field '{name}' {kind}"),
            ReplyError::UnknownWord(name, index) => {
                write!(f, "field '{name}{index}' has an unknown value")
            }
            ReplyError::UnexpectedData => f.write_str("data where there are none"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// Writes pairs with the number of a resource behind their names.
struct Indexed<'w, 'v> {
    pairs: &'w mut Writer<'v>,
    index: usize,
    name: String,
}

impl Indexed<'_, '_> {
    fn name(&mut self, stem: &str) {
        self.name.clear();
        // Writing to a String does not fail.
        let _ = write!(self.name, "{stem}{}", self.index);
    }

    fn string(&mut self, stem: &str, value: &str) {
        self.name(stem);
        self.pairs.string(&self.name, value);
    }

    fn optional(&mut self, stem: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(stem, value);
        }
    }

    fn u32(&mut self, stem: &str, value: u32) {
        self.name(stem);
        self.pairs.u32(&self.name, value);
    }

    fn u64(&mut self, stem: &str, value: u64) {
        self.name(stem);
        self.pairs.u64(&self.name, value);
    }

    fn status(&mut self, status: &ResourceStatus) {
        self.string("provname", &status.provname);
        self.string("localpath", &status.localpath);
        self.string("remoteaddr", &status.remoteaddr);
        self.optional("sourceaddr", status.sourceaddr.as_deref());
        self.string("replication", status.replication.as_str());
        self.optional("checksum", status.checksum.map(Checksum::as_str));
        self.optional("compression", status.compression.map(Compression::as_str));
        self.string("role", status.role.as_str());
        if let Some(pid) = status.workerpid {
            self.name("workerpid");
            self.pairs.i32(&self.name, pid);
        }
        if let Some(worker) = &status.worker {
            self.string(
                "status",
                if worker.complete {
                    "complete"
                } else {
                    "degraded"
                },
            );
            self.u64("dirty", worker.dirty);
            self.u32("extentsize", worker.extentsize);
            self.u32("keepdirty", worker.keepdirty);
            for (stem, value) in COUNTERS.iter().zip(worker.statistics.values()) {
                self.u64(stem, value);
            }
        }
        self.optional("x-json", status.json.as_deref());
    }
}

impl ControlReply {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| {
            match &self.error {
                Some((error, text)) => {
                    pairs.i16("error", error.number());
                    if let Some(text) = text {
                        pairs.string("x-text", text);
                    }
                }
                // A block without pairs is none: FreeBSD's receiver aborts on it.
                None if self.resources.is_empty() => {
                    pairs.i16("error", 0);
                }
                None => {}
            }
            if let Some(json) = &self.json {
                pairs.string("x-json", json);
            }
            for (index, resource) in self.resources.iter().enumerate() {
                let mut indexed = Indexed {
                    pairs,
                    index,
                    name: String::new(),
                };
                indexed.string("resource", &resource.name);
                match &resource.state {
                    ResourceState::Failed { error, text } => {
                        indexed.name("error");
                        indexed.pairs.i16(&indexed.name, error.number());
                        indexed.optional("x-text", text.as_deref());
                    }
                    ResourceState::Done { previous, text } => {
                        indexed.optional("role", previous.map(Role::as_str));
                        indexed.optional("x-text", text.as_deref());
                    }
                    ResourceState::Status(status) => indexed.status(status),
                }
            }
        });
    }

    /// The reply of a packet. Unknown pairs are ignored, and so are resources behind a gap in
    /// their numbers.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(packet: &Packet<'_>) -> Result<ControlReply, ReplyError> {
        if packet.data_bytes != 0 {
            return Err(ReplyError::UnexpectedData);
        }
        let (mut error, mut text, mut json) = (None, None, None);
        let mut found: BTreeMap<usize, Vec<(&[u8], Entry<'_>)>> = BTreeMap::new();
        for entry in packet.block.entries() {
            match (entry.name, split_index(entry.name)) {
                (b"error", _) => error = error.or(Some(entry)),
                (b"x-text", _) => text = text.or(Some(entry)),
                (b"x-json", _) => json = json.or(Some(entry)),
                (_, Some((stem, index))) => found.entry(index).or_default().push((stem, entry)),
                _ => {}
            }
        }
        let error = error
            .map(|entry| entry.i16())
            .transpose()
            .map_err(|kind| ReplyError::Kind("error", kind))?
            .and_then(ControlError::from_wire);
        let text = words("x-text", text)?;
        let mut resources = Vec::new();
        for (expected, (index, pairs)) in found.into_iter().enumerate() {
            let fields = Fields { index, pairs };
            if index != expected || fields.find("resource").is_none() {
                break;
            }
            resources.push(fields.resource()?);
        }
        Ok(ControlReply {
            error: error.map(|error| (error, text)),
            resources,
            json: words("x-json", json)?,
        })
    }
}

fn words(name: &'static str, entry: Option<Entry<'_>>) -> Result<Option<String>, ReplyError> {
    let text = entry
        .map(|entry| entry.string_bytes())
        .transpose()
        .map_err(|kind| ReplyError::Kind(name, kind))?;
    // Paths are in whatever encoding the other program uses; they are only shown.
    Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
}

/// The pairs of one resource.
struct Fields<'a> {
    index: usize,
    pairs: Vec<(&'a [u8], Entry<'a>)>,
}

impl<'a> Fields<'a> {
    fn find(&self, stem: &str) -> Option<Entry<'a>> {
        let found = self.pairs.iter().find(|(name, _)| *name == stem.as_bytes());
        found.map(|(_, entry)| *entry)
    }

    fn optional(&self, stem: &'static str) -> Result<Option<String>, ReplyError> {
        words(stem, self.find(stem))
    }

    fn string(&self, stem: &'static str) -> Result<String, ReplyError> {
        self.optional(stem)?
            .ok_or(ReplyError::Missing(stem, self.index))
    }

    fn number<T>(
        &self,
        stem: &'static str,
        read: impl Fn(&Entry<'a>) -> Result<T, WrongKind>,
    ) -> Result<Option<T>, ReplyError> {
        let entry = self.find(stem);
        entry
            .map(|entry| read(&entry).map_err(|kind| ReplyError::Kind(stem, kind)))
            .transpose()
    }

    /// One of the words that `all` values are spelt as.
    fn word<T: Copy>(
        &self,
        stem: &'static str,
        all: &[T],
        spelt: fn(T) -> &'static str,
    ) -> Result<Option<T>, ReplyError> {
        let Some(word) = self.optional(stem)? else {
            return Ok(None);
        };
        let value = all.iter().copied().find(|&value| spelt(value) == word);
        value
            .map(Some)
            .ok_or(ReplyError::UnknownWord(stem, self.index))
    }

    fn role(&self) -> Result<Option<Role>, ReplyError> {
        self.word(
            "role",
            &[Role::Init, Role::Primary, Role::Secondary],
            Role::as_str,
        )
    }

    fn resource(&self) -> Result<ResourceReply, ReplyError> {
        let name = self.string("resource")?;
        let error = self
            .number("error", Entry::i16)?
            .and_then(ControlError::from_wire);
        let state = if let Some(error) = error {
            ResourceState::Failed {
                error,
                text: self.optional("x-text")?,
            }
        } else if self.find("provname").is_some() {
            ResourceState::Status(Box::new(self.status()?))
        } else {
            ResourceState::Done {
                previous: self.role()?,
                text: self.optional("x-text")?,
            }
        };
        Ok(ResourceReply { name, state })
    }

    fn status(&self) -> Result<ResourceStatus, ReplyError> {
        const REPLICATIONS: [Replication; 3] = [
            Replication::Fullsync,
            Replication::Memsync,
            Replication::Async,
        ];
        const CHECKSUMS: [Checksum; 3] = [Checksum::None, Checksum::Crc32, Checksum::Sha256];
        const COMPRESSIONS: [Compression; 3] =
            [Compression::None, Compression::Hole, Compression::Lzf];
        let missing = |stem| ReplyError::Missing(stem, self.index);
        let complete = self.word("status", &[true, false], |complete| {
            if complete { "complete" } else { "degraded" }
        })?;
        let worker = complete.map(|complete| self.worker(complete)).transpose()?;
        Ok(ResourceStatus {
            provname: self.string("provname")?,
            localpath: self.string("localpath")?,
            remoteaddr: self.string("remoteaddr")?,
            sourceaddr: self.optional("sourceaddr")?,
            replication: self
                .word("replication", &REPLICATIONS, Replication::as_str)?
                .ok_or(missing("replication"))?,
            checksum: self.word("checksum", &CHECKSUMS, Checksum::as_str)?,
            compression: self.word("compression", &COMPRESSIONS, Compression::as_str)?,
            role: self.role()?.ok_or(missing("role"))?,
            workerpid: self.number("workerpid", Entry::i32)?,
            worker,
            json: self.optional("x-json")?,
        })
    }

    fn worker(&self, complete: bool) -> Result<WorkerState, ReplyError> {
        let mut values = [0; 14];
        for (value, stem) in values.iter_mut().zip(COUNTERS) {
            *value = self.number(stem, Entry::u64)?.unwrap_or(0);
        }
        Ok(WorkerState {
            complete,
            dirty: self.number("dirty", Entry::u64)?.unwrap_or(0),
            extentsize: self.number("extentsize", Entry::u32)?.unwrap_or(0),
            keepdirty: self.number("keepdirty", Entry::u32)?.unwrap_or(0),
            statistics: Statistics::from_values(values),
        })
    }
}
