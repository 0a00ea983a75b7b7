//! Scenarios: two real daemons, real disks and a real network between them.
//!
//! A [`Cluster`] is two nodes, `alpha` and `beta`, with all that they need in a directory of their
//! own, joined by a [`Link`] that can be cut, slowed down and measured. As root each node has a
//! network namespace of its own; otherwise both are on loopback addresses, with proxies between
//! them. Everything goes away when the cluster is dropped, also when a test panics, and clusters do
//! not disturb each other.
//!
//! * [`cluster`], [`node`], [`config`]: the nodes, their daemons and their configuration;
//! * [`link`], [`namespace`], [`proxy`]: what is between them;
//! * [`nbd`]: a client of the device;
//! * [`writelog`], [`history`]: a load that knows what was acknowledged, and whether a copy has it;
//! * [`copies`]: local components, read behind the daemon's back;
//! * [`status`]: what `hastctl status --json` says;
//! * [`blockdev`]: block devices and small file systems, for root alone;
//! * [`process`], [`wait`], [`rng`]: small things.
//!
//! What goes wrong ends in a panic with the reason: it is a test that fails.

pub mod blockdev;
pub mod cluster;
pub mod config;
pub mod copies;
pub mod history;
pub mod link;
pub mod namespace;
pub mod nbd;
pub mod node;
pub mod process;
pub mod proxy;
pub mod rng;
pub mod status;
pub mod wait;
pub mod writelog;

pub use cluster::{Cluster, Side};
pub use config::{ResourceConf, Setup};
pub use link::Link;
pub use writelog::{Load, Writelog};

/// Whether the long versions of the scenarios are wanted (`HAST_LONG=1`).
pub fn long() -> bool {
    std::env::var_os("HAST_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// How often a repeated part is done: `short`, or `long` if that is wanted.
pub fn rounds(short: u32, long_version: u32) -> u32 {
    if long() { long_version } else { short }
}
