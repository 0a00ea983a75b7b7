//! The state of resources as JSON: what `hastctl status --json` and `list --json` print.
//!
//! The daemon fills one [`Resource`] per resource in (`x-json` of the control protocol), hastctl
//! puts them into a [`Document`]. Fields are only ever added within one [`VERSION`];
//! hast-json(5) documents them.

use serde::{Deserialize, Serialize};

use crate::confinement::Confinement;
use crate::ipc;
use crate::latency;
use crate::wire::control::{ResourceStatus, Statistics, WorkerState};

/// Version of the schema.
pub const VERSION: u32 = 1;

/// What is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The daemon's own processes, if it tells of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// In the order of the question.
    pub resources: Vec<Resource>,
}

/// The daemon itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// `require`, or `best-effort` if the administrator accepts that steps fail.
    pub sandbox: String,
    /// The parent and the listener.
    pub processes: Vec<Process>,
}

/// A process of the daemon's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `parent` or `listener`.
    pub kind: String,
    /// Process id.
    pub pid: i32,
    /// The user that it runs as: a name or a number.
    pub user: String,
    /// Descriptors that it held when it was confined; of the parent: now.
    pub descriptors: u32,
    /// The confinement in force.
    pub confinement: Vec<String>,
    /// What of the confinement could not be had, with reasons.
    pub confinement_missing: Vec<String>,
}

impl Process {
    /// From what the process says of itself.
    pub fn new(kind: &str, pid: i32, confinement: &Confinement) -> Process {
        Process {
            kind: kind.to_owned(),
            pid,
            user: confinement.user.clone(),
            descriptors: confinement.descriptors,
            confinement: confinement.in_force.clone(),
            confinement_missing: confinement.missing.clone(),
        }
    }
}

/// One resource. Where the daemon does not say something (FreeBSD's says less), it is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Why nothing is known of it: the number of the control protocol. All else is absent then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<i16>,
    /// The same in words, or what is wrong with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `init`, `primary` or `secondary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `complete`, `degraded`, or absent if no worker runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a word: [`ipc::Cause::as_str`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What was wrong last, unless it has been set right since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// For how many seconds `status` has been what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// State of the local disk: `good`, `stale`, `detached`, `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Bytes in extents that are to be synchronised or may have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_bytes: Option<u64>,
    /// Bytes of an extent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent_bytes: Option<u32>,
    /// How many extents stay dirty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepdirty: Option<u32>,
    /// Whether the device of a primary answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// What an administrator has ordered; absent where the daemon does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<Orders>,
    /// The synchronisation under way, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronisation: Option<Synchronisation>,
    /// The worker process, if one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
    /// Counters since the worker started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Counters>,
    /// How long operations took since the worker started: one per operation and stage that
    /// occurred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
}

/// How long an operation took at a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// `read`, `write`, `delete` or `flush`.
    pub operation: String,
    /// `local`: on this node's disk; `remote`: from the request to the peer to its reply; `total`:
    /// for the application.
    pub stage: String,
    /// How many.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// All their times together, in microseconds.
    pub sum_us: u64,
    /// Times that so many of them do not exceed: half.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Pairs: a power of two of microseconds, and how many took less than that but not less than
    /// the half. The largest has everything that took longer, too.
    pub buckets: Vec<(u64, u64)>,
}

impl From<&latency::Latency> for Latency {
    fn from(told: &latency::Latency) -> Latency {
        let [p50_us, p90_us, p99_us, p999_us] = told.quantiles_us;
        let ends = (1..).map(|exponent| 1_u64 << exponent);
        Latency {
            operation: told.op.as_str().to_owned(),
            stage: told.stage.as_str().to_owned(),
            count: told.count,
            bytes: told.bytes,
            sum_us: told.sum_us,
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us: told.max_us,
            buckets: ends
                .zip(told.octaves)
                .filter(|&(_, count)| count > 0)
                .collect(),
        }
    }
}

/// What was wrong with a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The word of the event: [`crate::events::Kind::as_str`].
    pub kind: String,
    /// In words.
    pub details: String,
    /// How long ago.
    pub seconds_ago: u64,
}

/// What hast.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of hast.conf")]
pub struct Configuration {
    pub provname: String,
    pub local: String,
    pub remote: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub replication: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
}

/// What an administrator has ordered with hastctl, beyond the role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// It is disconnected until `hastctl connect`.
    #[serde(default)]
    pub disconnected: bool,
    /// Synchronisations rest.
    pub sync_paused: bool,
    /// How fast they may go, as in hast.conf.
    pub sync_rate: String,
    /// Whether that was ordered, and is not what hast.conf says.
    pub sync_rate_ordered: bool,
}

/// A synchronisation under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synchronisation {
    /// `to-peer` or `from-peer`.
    pub direction: String,
    /// Whether it rests.
    pub paused: bool,
    /// Bytes that it had to copy at its begin.
    pub total_bytes: u64,
    /// Bytes that are left.
    pub left_bytes: u64,
    /// Bytes per second, lately.
    pub bytes_per_second: u64,
    /// Bytes per second that are allowed now; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<u64>,
    /// Seconds that it will take at this rate; absent if that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
}

/// A worker process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Process id.
    pub pid: i32,
    /// False: it did not answer in time, and what is said of it is what it said before.
    pub answers: bool,
    /// The user that it runs as: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Descriptors that it held when it was confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<u32>,
    /// The confinement in force.
    #[serde(default)]
    pub confinement: Vec<String>,
    /// What of the confinement could not be had, with reasons.
    #[serde(default)]
    pub confinement_missing: Vec<String>,
    /// Where the device is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What performs its I/O: `threads` or `uring`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Counters and lengths of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub reads: u64,
    pub writes: u64,
    pub deletes: u64,
    pub flushes: u64,
    pub activemap_updates: u64,
    pub read_errors: u64,
    pub write_errors: u64,
    pub delete_errors: u64,
    pub flush_errors: u64,
    pub queue_idle: u64,
    pub queue_local: u64,
    pub queue_send: u64,
    pub queue_recv: u64,
    pub queue_done: u64,
}

impl From<Statistics> for Counters {
    fn from(statistics: Statistics) -> Counters {
        Counters {
            reads: statistics.read,
            writes: statistics.write,
            deletes: statistics.delete,
            flushes: statistics.flush,
            activemap_updates: statistics.activemap_update,
            read_errors: statistics.read_error,
            write_errors: statistics.write_error,
            delete_errors: statistics.delete_error,
            flush_errors: statistics.flush_error,
            queue_idle: statistics.idle_queue,
            queue_local: statistics.local_queue,
            queue_send: statistics.send_queue,
            queue_recv: statistics.recv_queue,
            queue_done: statistics.done_queue,
        }
    }
}

impl Resource {
    /// A resource of which nothing is known.
    pub fn failed(name: &str, error: i16, message: Option<String>) -> Resource {
        Resource {
            name: name.to_owned(),
            error: Some(error),
            message,
            ..Resource::default()
        }
    }

    /// What the pairs of the original say.
    pub fn of_status(name: &str, status: &ResourceStatus) -> Resource {
        let worker = status.workerpid.filter(|&pid| pid != 0).map(|pid| Worker {
            pid,
            answers: true,
            ..Worker::default()
        });
        let mut resource = Resource {
            name: name.to_owned(),
            role: Some(status.role.as_str().to_owned()),
            configuration: Some(Configuration {
                provname: status.provname.clone(),
                local: status.localpath.clone(),
                remote: status.remoteaddr.clone(),
                source: status.sourceaddr.clone(),
                replication: status.replication.as_str().to_owned(),
                checksum: status.checksum.map(|word| word.as_str().to_owned()),
                compression: status.compression.map(|word| word.as_str().to_owned()),
            }),
            worker,
            ..Resource::default()
        };
        if let Some(state) = &status.worker {
            resource.take_state(state);
        }
        resource
    }

    fn take_state(&mut self, state: &WorkerState) {
        let word = if state.complete {
            "complete"
        } else {
            "degraded"
        };
        self.status = Some(word.to_owned());
        self.dirty_bytes = Some(state.dirty);
        self.extent_bytes = Some(state.extentsize);
        self.keepdirty = Some(state.keepdirty);
        self.statistics = Some(state.statistics.into());
    }

    /// Adds what only this program's workers say.
    pub fn extend(&mut self, status: &ipc::Status) {
        self.reason.clone_from(&status.reason);
        self.latencies = status.latencies.iter().map(Latency::from).collect();
        self.cause = status.cause.map(|cause| cause.as_str().to_owned());
        self.since_seconds = Some(status.since_s);
        self.disk = Some(status.disk.clone());
        self.serving = (self.role.as_deref() == Some("primary")).then_some(status.serving);
        self.synchronisation = status.sync.map(|sync| Synchronisation {
            direction: if sync.from_peer {
                "from-peer"
            } else {
                "to-peer"
            }
            .to_owned(),
            paused: sync.paused,
            total_bytes: sync.total_bytes,
            left_bytes: sync.left_bytes,
            bytes_per_second: sync.rate,
            limit_bytes_per_second: sync.limit,
            eta_seconds: sync.eta_s,
        });
    }
}
