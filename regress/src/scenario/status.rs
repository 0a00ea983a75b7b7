//! What `hastctl status --json` says, as a program of the outside reads it.

use serde::Deserialize;

/// The document.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// Version of the schema.
    pub version: u32,
    /// One per resource.
    pub resources: Vec<Status>,
}

/// A resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Why nothing is known.
    pub error: Option<i16>,
    /// What is wrong, in words.
    pub message: Option<String>,
    /// `init`, `primary`, `secondary`.
    pub role: String,
    /// `complete` or `degraded`.
    pub status: Option<String>,
    /// Why it is degraded.
    pub reason: Option<String>,
    /// The same in a word.
    pub cause: Option<String>,
    /// For how many seconds.
    pub since_seconds: Option<u64>,
    /// State of the local disk.
    pub disk: Option<String>,
    /// What differs, or may.
    pub dirty_bytes: Option<u64>,
    /// The device answers.
    pub serving: bool,
    /// What was ordered.
    pub orders: Orders,
    /// The synchronisation under way.
    pub synchronisation: Option<Synchronisation>,
    /// The worker process.
    pub worker: Option<Worker>,
    /// Configuration.
    pub configuration: Option<Configuration>,
    /// Counters.
    pub statistics: Option<Statistics>,
}

/// A synchronisation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Synchronisation {
    /// `to-peer` or `from-peer`.
    pub direction: String,
    /// It rests.
    pub paused: bool,
    /// At its begin.
    pub total_bytes: u64,
    /// Still.
    pub left_bytes: u64,
    /// Lately.
    pub bytes_per_second: u64,
    /// Allowed now.
    pub limit_bytes_per_second: Option<u64>,
    /// At this rate.
    pub eta_seconds: Option<u64>,
}

/// What was ordered beyond the role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// It is disconnected.
    pub disconnected: bool,
    /// Synchronisations rest.
    pub sync_paused: bool,
    /// How fast they may go.
    pub sync_rate: String,
    /// That is not what hast.conf says.
    pub sync_rate_ordered: bool,
}

/// A worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Process id.
    pub pid: i32,
    /// False: it did not answer in time.
    pub answers: bool,
    /// Confinement in force.
    pub confinement: Vec<String>,
    /// The device's socket.
    pub device: Option<String>,
}

/// What is configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The peer's address.
    pub remote: String,
    /// Source address.
    pub source: Option<String>,
    /// Mode of replication.
    pub replication: String,
    /// Checksum.
    pub checksum: Option<String>,
    /// Compression.
    pub compression: Option<String>,
    /// Provider.
    pub provname: String,
    /// Local component.
    pub local: String,
}

/// Counters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Writes.
    pub writes: u64,
    /// Reads.
    pub reads: u64,
    /// Failed writes.
    pub write_errors: u64,
}

impl Status {
    /// Connected, and requests travel.
    pub fn is_complete(&self) -> bool {
        self.status.as_deref() == Some("complete")
    }

    /// Connected, and nothing is left to copy.
    pub fn is_synced(&self) -> bool {
        self.is_complete() && self.synchronisation.is_none()
    }

    /// A worker runs without a peer.
    pub fn is_degraded(&self) -> bool {
        self.status.as_deref() == Some("degraded")
    }

    /// The worker's process id, 0 without one.
    pub fn worker_pid(&self) -> i32 {
        self.worker.as_ref().map_or(0, |worker| worker.pid)
    }

    /// The device's socket.
    pub fn device(&self) -> Option<&str> {
        self.worker
            .as_ref()
            .and_then(|worker| worker.device.as_deref())
    }
}
