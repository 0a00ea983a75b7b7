//! The effective configuration of one node.

use std::path::PathBuf;

use serde::Serialize;

pub use super::address::{Address, Family};
use crate::terms::{Checksum, Compression, DriverChoice, Replication, SyncRate};

/// Where hastctl finds the daemon unless `control` says otherwise.
pub const DEFAULT_CONTROL: &str = "/var/run/hastctl";
/// The pidfile unless `pidfile` says otherwise.
pub const DEFAULT_PIDFILE: &str = "/var/run/hastd.pid";
/// The port of peers, and of `listen` without one.
pub const DEFAULT_PORT: u16 = 8457;
/// Seconds until a silent peer counts as gone, unless `timeout` says otherwise.
pub const DEFAULT_TIMEOUT_S: u32 = 20;
/// Seconds that a fencing program may take, unless `fencetimeout` says otherwise: room for a power
/// switch that is slow to answer.
pub const DEFAULT_FENCE_TIMEOUT_S: u32 = 60;
/// Seconds that it may be given at most.
pub const FENCE_TIMEOUT_MAX_S: u32 = 300;
/// The directory of the device sockets, unless `devices` says otherwise.
pub const DEFAULT_DEVICES: &str = "/var/run/hast";
/// The directory of what outlives the daemon, unless `state` says otherwise.
pub const DEFAULT_STATE: &str = if cfg!(target_os = "freebsd") {
    "/var/db/hast"
} else {
    "/var/lib/hast"
};
/// The account that workers run as, unless `user` says otherwise.
pub const DEFAULT_USER: &str = "hast";

/// The configuration as it applies to this node, inheritance resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where hastctl connects.
    pub control: Address,
    /// File that holds the daemon's pid.
    pub pidfile: PathBuf,
    /// Where peers connect. Never empty; the configured addresses in the file's order, those of
    /// this node's sections last, or else the two defaults.
    pub listen: Vec<Listen>,
    /// Directory of the sockets by which primaries serve their devices where there is no GEOM gate.
    /// Ours, not the original's.
    pub devices: PathBuf,
    /// Directory of what outlives the daemon: which resources are disconnected by order. Ours, not
    /// the original's.
    pub state: PathBuf,
    /// The account that workers and the listener run as. Ours, not the original's.
    pub user: String,
    /// What to do where a confinement cannot be had. Ours, not the original's.
    pub sandbox: SandboxMode,
    /// What performs the workers' I/O. Ours, not the original's.
    pub driver: DriverChoice,
    /// In the file's order; names are unique.
    pub resources: Vec<Resource>,
}

impl Config {
    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Config {
        Config {
            control: Address::Unix(PathBuf::from(DEFAULT_CONTROL)),
            pidfile: PathBuf::from(DEFAULT_PIDFILE),
            listen: Listen::defaults(),
            devices: PathBuf::from(DEFAULT_DEVICES),
            state: PathBuf::from(DEFAULT_STATE),
            user: DEFAULT_USER.to_owned(),
            sandbox: SandboxMode::Require,
            driver: DriverChoice::Auto,
            resources: Vec::new(),
        }
    }
}

/// What happens where the system cannot confine a process as the policy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxMode {
    /// The process ends with a message.
    Require,
    /// It goes on with what can be had; the status says what is missing.
    BestEffort,
}

impl SandboxMode {
    /// The word of hast.conf.
    pub const fn as_str(self) -> &'static str {
        match self {
            SandboxMode::Require => "require",
            SandboxMode::BestEffort => "best-effort",
        }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// One of the two defaults, not configured: skipped if the kernel lacks its family.
    pub default: bool,
}

impl Listen {
    /// An address that somebody configured.
    pub fn configured(address: Address) -> Listen {
        Listen {
            address,
            default: false,
        }
    }

    /// Where to listen if no `listen` says it: port 8457 of every address of either family.
    pub fn defaults() -> Vec<Listen> {
        [(Family::V4, "0.0.0.0"), (Family::V6, "::")]
            .into_iter()
            .map(|(family, host)| Listen {
                address: Address::Tcp {
                    family,
                    host: host.to_owned(),
                    port: Some(DEFAULT_PORT),
                },
                default: true,
            })
            .collect()
    }
}

/// One resource, as it applies to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, 1..=254 bytes.
    pub name: String,
    /// Name of the provider, below /dev/hast/. It has no empty, `.` or `..` component.
    pub provname: String,
    /// Path of the local component.
    pub local: PathBuf,
    /// The peer; `None` for `none`.
    pub remote: Option<Address>,
    /// Address to connect from. Without a port, any port.
    pub source: Option<Address>,
    /// When a write is done.
    pub replication: Replication,
    /// Checksum of blocks sent.
    pub checksum: Checksum,
    /// Compression of blocks sent.
    pub compression: Compression,
    /// Seconds until the peer counts as gone, 1..=i32::MAX.
    pub timeout_s: u32,
    /// Program to run at events.
    pub exec: Option<PathBuf>,
    /// Program that must agree before this node becomes primary. Ours, not the original's.
    pub fence: Option<PathBuf>,
    /// Seconds that it may take, 1..=[`FENCE_TIMEOUT_MAX_S`].
    pub fence_timeout_s: u32,
    /// Whether metadata writes are flushed.
    pub metaflush: bool,
    /// How fast synchronisation may go. Ours, not the original's.
    pub syncrate: SyncRate,
}

impl Resource {
    /// A resource of that name with every default, no peer and the given local component: a
    /// starting point for those who build one by hand.
    pub fn with_defaults(name: &str, local: impl Into<PathBuf>) -> Resource {
        Resource {
            name: name.to_owned(),
            provname: name.to_owned(),
            local: local.into(),
            remote: None,
            source: None,
            replication: Replication::Memsync,
            checksum: Checksum::None,
            compression: Compression::Hole,
            timeout_s: DEFAULT_TIMEOUT_S,
            exec: None,
            fence: None,
            fence_timeout_s: DEFAULT_FENCE_TIMEOUT_S,
            metaflush: true,
            syncrate: SyncRate::Unlimited,
        }
    }
}
