//! What the nodes are configured to be.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::Side;
use super::link::{Link, PORT};

/// A resource.
#[derive(Clone, Debug)]
pub struct ResourceConf {
    /// Its name.
    pub name: String,
    /// `memsync`, `fullsync`, `async`.
    pub replication: &'static str,
    /// `none`, `crc32`, `sha256`.
    pub checksum: &'static str,
    /// `none`, `hole`, `lzf`.
    pub compression: &'static str,
    /// In seconds.
    pub timeout_s: u32,
    /// The hook.
    pub exec: Option<PathBuf>,
    /// Whether metadata are flushed.
    pub metaflush: bool,
    /// `syncrate`, in bytes per second.
    pub syncrate: Option<u64>,
    /// Name of the provider, if not the resource's.
    pub provider: Option<String>,
    /// Whether there is a peer.
    pub has_peer: bool,
    /// The peer's address, if not the one that the link gives it.
    pub remote: [Option<String>; 2],
    /// Local components, if not files that the cluster makes.
    pub local: [Option<PathBuf>; 2],
    /// Bytes of each local component.
    pub media_bytes: [u64; 2],
    /// Bytes of an extent, of each.
    pub extent_bytes: [u64; 2],
    /// How many extents stay dirty.
    pub keepdirty: u32,
}

impl ResourceConf {
    /// A resource of 32 MiB with everything as the scenarios like it.
    pub fn new(name: &str) -> ResourceConf {
        ResourceConf {
            name: name.to_owned(),
            replication: "fullsync",
            checksum: "none",
            compression: "hole",
            timeout_s: 5,
            exec: None,
            metaflush: true,
            syncrate: None,
            provider: None,
            has_peer: true,
            remote: [None, None],
            local: [None, None],
            media_bytes: [32 << 20; 2],
            extent_bytes: [256 << 10; 2],
            keepdirty: 8,
        }
    }

    /// So many bytes on both nodes.
    #[must_use]
    pub fn sized(mut self, bytes: u64) -> ResourceConf {
        self.media_bytes = [bytes; 2];
        self
    }

    /// In another mode.
    #[must_use]
    pub fn mode(mut self, replication: &'static str) -> ResourceConf {
        self.replication = replication;
        self
    }

    /// Its local component on a node.
    pub fn local(&self, dir: &Path, side: Side) -> PathBuf {
        self.local[side.index()]
            .clone()
            .unwrap_or_else(|| dir.join(side.name()).join(format!("{}.disk", self.name)))
    }
}

/// A cluster's configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The resources.
    pub resources: Vec<ResourceConf>,
    /// Further statements, global.
    pub statements: String,
}

impl Setup {
    /// One resource.
    pub fn of(resource: ResourceConf) -> Setup {
        Setup {
            resources: vec![resource],
            statements: String::new(),
        }
    }

    /// hast.conf(5) for both nodes.
    pub fn text(&self, dir: &Path, link: &Link) -> String {
        let mut text = self.statements.clone();
        if geteuid().is_root() {
            // An account that every system has.
            text.push_str("user nobody\n");
        }
        // As in production, where the system lets us have what that takes.
        let sandbox = if link.is_real() {
            "require"
        } else {
            "best-effort"
        };
        let _ = writeln!(text, "sandbox {sandbox}");
        if let Ok(driver) = std::env::var("HAST_DRIVER") {
            let _ = writeln!(text, "driver {driver}");
        }
        for side in Side::BOTH {
            let home = dir.join(side.name());
            let _ = write!(
                text,
                "on {side} {{\n\tcontrol {home}/ctl\n\tpidfile {home}/pid\n\tdevices {home}/hast\n\tstate {home}/state\n\tlisten tcp4://{}:{PORT}\n}}\n",
                link.address(side),
                home = home.display(),
            );
        }
        for resource in &self.resources {
            resource.write(&mut text, dir, link);
        }
        text
    }
}

impl ResourceConf {
    fn write(&self, text: &mut String, dir: &Path, link: &Link) {
        let metaflush = if self.metaflush { "on" } else { "off" };
        // Writing to a string does not fail, here and below.
        let _ = write!(
            text,
            "resource {} {{\n\treplication {}\n\tchecksum {}\n\tcompression {}\n\ttimeout {}\n\tmetaflush {metaflush}\n",
            self.name, self.replication, self.checksum, self.compression, self.timeout_s,
        );
        if let Some(exec) = &self.exec {
            let _ = writeln!(text, "\texec {}", exec.display());
        }
        if let Some(rate) = self.syncrate {
            let _ = writeln!(text, "\tsyncrate {rate}");
        }
        if let Some(provider) = &self.provider {
            let _ = writeln!(text, "\tname {provider}");
        }
        for side in Side::BOTH {
            let _ = writeln!(
                text,
                "\ton {side} {{\n\t\tlocal {}",
                self.local(dir, side).display()
            );
            match &self.remote[side.index()] {
                Some(remote) => {
                    let _ = writeln!(text, "\t\tremote {remote}");
                }
                None if self.has_peer => {
                    let peer = link.reached_at(side.other());
                    let _ = writeln!(text, "\t\tremote tcp4://{peer}:{PORT}");
                }
                None => text.push_str("\t\tremote none\n"),
            }
            if let Some(source) = link.source(side) {
                let _ = writeln!(text, "\t\tsource tcp4://{source}");
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
    }
}
