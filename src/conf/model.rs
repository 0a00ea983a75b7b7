//! The effective configuration of one node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::terms::{Checksum, Compression, Replication};

/// An address as the configuration writes it; host names are not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// `tcp://`, `tcp4://`, `tcp6://`, or nothing in front.
    Tcp {
        /// 4 or 6 if the prefix demands that family.
        family: Family,
        /// Host name or IP address, without brackets.
        host: String,
        /// `None`: the default, 8457.
        port: Option<u16>,
    },
    /// `uds://`, `unix://` or a path.
    Unix(PathBuf),
}

/// Which address family a TCP address may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `tcp://`
    Any,
    /// `tcp4://`
    V4,
    /// `tcp6://`
    V6,
}

/// The configuration as it applies to this node, inheritance resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where hastctl connects.
    pub control: Address,
    /// File that holds the daemon's pid.
    pub pidfile: PathBuf,
    /// Where peers connect.
    pub listen: Vec<Listen>,
    /// In the file's order.
    pub resources: Vec<Resource>,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// One of the two defaults, not configured: skipped if the kernel lacks its family.
    pub default: bool,
}

/// One resource, as it applies to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Name of the provider, below /dev/hast/.
    pub provname: String,
    /// Path of the local component.
    pub local: PathBuf,
    /// The peer; `None` for `none`.
    pub remote: Option<Address>,
    /// Address to connect from.
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
    /// Whether metadata writes are flushed.
    pub metaflush: bool,
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Address, String> {
        Err(format!("{text}: not an address"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { host, .. } => f.write_str(host),
            Address::Unix(path) => write!(f, "uds://{}", path.display()),
        }
    }
}
