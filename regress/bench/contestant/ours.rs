//! hast: two daemons on this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hast_regress::interrupt;
use hast_regress::programs::program;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Link, ResourceConf, Setup, Side};

use super::{Serving, added, uri};
use crate::ground::Disks;

/// How long the pairs of a cluster may take to find each other.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    /// `replication`.
    pub(crate) mode: &'static str,
    /// `driver`; `None` where hast.conf has no such statement.
    pub(crate) driver: Option<&'static str>,
    /// `checksum`.
    pub(crate) checksum: &'static str,
    /// `compression`.
    pub(crate) compression: &'static str,
    /// Round trip that proxies add; `None`: the nodes reach each other directly.
    pub(crate) rtt: Option<Duration>,
    /// Bytes of the disks where they matter, which are sparse then.
    pub(crate) sparse_bytes: Option<u64>,
}

impl Ours {
    /// With everything else as it is by default.
    pub(crate) fn new(mode: &'static str, driver: Option<&'static str>) -> Ours {
        Ours {
            mode,
            driver,
            checksum: "none",
            compression: "hole",
            rtt: None,
            sparse_bytes: None,
        }
    }

    pub(super) fn name(&self) -> String {
        let mut name = format!("hast {}", self.mode);
        for (word, default) in [
            (self.driver.unwrap_or(""), ""),
            (self.checksum, "none"),
            (self.compression, "hole"),
        ] {
            if word != default {
                name.push(' ');
                name.push_str(if word == "none" { "uncompressed" } else { word });
            }
        }
        name.push_str(&added(self.rtt));
        if let Some(bytes) = self.sparse_bytes {
            name.push_str(&format!(", {}", crate::report::size(bytes)));
        }
        name
    }

    /// Two nodes whose daemons run and have no role yet.
    ///
    /// # Panics
    /// If that fails, here and below: the runner takes it for a failed measurement.
    pub(crate) fn prepared(&self, disks: &[Disks]) -> Pair {
        let resources = disks.iter().enumerate().map(|(at, [primary, secondary])| {
            let mut conf = ResourceConf::new(&format!("r{at}"));
            conf.replication = self.mode;
            conf.checksum = self.checksum;
            conf.compression = self.compression;
            conf.timeout_s = 20;
            conf.local = [Some(primary.clone()), Some(secondary.clone())];
            // As `hastctl create` does by itself.
            conf.extent_bytes = [2 << 20; 2];
            conf.keepdirty = 64;
            conf
        });
        let setup = Setup {
            resources: resources.collect(),
            statements: self
                .driver
                .map(|driver| format!("driver {driver}\n"))
                .unwrap_or_default(),
        };
        let link = self.rtt.map_or_else(Link::direct, Link::delayed);
        let mut cluster = Cluster::prepare_on(setup, link);
        interrupt::remove(cluster.dir());
        for side in Side::BOTH {
            cluster.create(side);
            cluster.start_node(side);
        }
        Pair { cluster }
    }

    /// The same, connected: alpha is primary of every resource.
    pub(crate) fn connected(&self, disks: &[Disks]) -> Pair {
        let pair = self.prepared(disks);
        pair.cluster.must(Side::Beta, &["role", "secondary", "all"]);
        pair.cluster.must(Side::Alpha, &["role", "primary", "all"]);
        pair.wait_synced();
        pair
    }
}

/// Two nodes.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cluster: Cluster,
}

impl Pair {
    /// Waits until every resource is connected and has nothing to copy.
    pub(crate) fn wait_synced(&self) {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        for resource in &self.cluster.setup.resources {
            while !self
                .status(&resource.name)
                .is_some_and(|status| status.is_synced())
            {
                assert!(
                    Instant::now() < deadline,
                    "{} does not get connected and synchronised",
                    resource.name
                );
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// What the primary says of a resource.
    pub(crate) fn status(&self, resource: &str) -> Option<Status> {
        self.cluster.node(Side::Alpha).try_status(resource)
    }

    /// The primary's devices.
    pub(crate) fn devices(&self) -> Vec<PathBuf> {
        let of = |resource: &ResourceConf| {
            let status = self.cluster.status_of(Side::Alpha, &resource.name);
            status.device().map(PathBuf::from)
        };
        let resources = &self.cluster.setup.resources;
        resources
            .iter()
            .map(|resource| {
                of(resource).unwrap_or_else(|| panic!("{} has no device", resource.name))
            })
            .collect()
    }
}

impl Serving for Pair {
    fn uris(&self) -> Vec<String> {
        self.devices().iter().map(|socket| uri(socket)).collect()
    }

    fn pids(&self) -> Vec<i32> {
        Side::BOTH
            .map(|side| self.cluster.node(side).pid())
            .to_vec()
    }
}

/// The drivers that these programs can be told to use; one without a name if they know of none.
pub(crate) fn drivers() -> Vec<Option<&'static str>> {
    let known = |driver: &&'static str| {
        let text =
            format!("driver {driver}\nresource r {{\n on n {{\n local /x\n remote none\n }}\n}}\n");
        let Ok(file) = tempfile::NamedTempFile::new() else {
            return false;
        };
        std::fs::write(file.path(), text).is_ok()
            && std::process::Command::new(program("hastctl"))
                .args(["config", "check", "-N", "n", "-c"])
                .arg(file.path())
                .output()
                .is_ok_and(|output| output.status.success())
    };
    let found: Vec<_> = ["threads", "uring"]
        .into_iter()
        .filter(known)
        .map(Some)
        .collect();
    if found.is_empty() { vec![None] } else { found }
}
