//! The block device of a primary on Linux: the kernel as one more client of the worker's NBD server.
//!
//! A child of the parent's ([`child`]) connects to the server, goes through the handshake, and hands
//! the sockets to the kernel by generic netlink ([`kernel`]), which serves `/dev/nbdN` with them from
//! then on; `/dev/hast/<name>` is a link to that. A child, since the kernel asks for `CAP_SYS_ADMIN`,
//! which the parent has given up, since some of these operations wait, and since it reads what a
//! worker says: twenty-eight bytes per connection, of fixed form ([`handshake`]).
//!
//! When a worker is started again the same device gets new sockets; until then requests wait in the
//! kernel, [`kernel::DEAD_CONNECTION_S`] at most. What cannot be tried without a kernel that has nbd
//! is thin: the tests play the kernel at the other end of a socket, byte by byte.

pub mod child;
mod handshake;
pub mod kernel;
mod netlink;

use std::path::{Path, PathBuf};

/// Connections of the kernel to a worker: as many hardware queues has the device.
pub const CONNECTIONS: usize = 4;

/// Where things are; elsewhere in tests.
#[derive(Clone, Debug)]
pub struct Places {
    /// The links of applications.
    pub links: PathBuf,
    /// The nodes of devices.
    pub nodes: PathBuf,
    /// What the kernel says of block devices.
    pub blocks: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            links: "/dev/hast".into(),
            nodes: "/dev".into(),
            blocks: "/sys/block".into(),
        }
    }
}

impl Places {
    fn link(&self, name: &str) -> PathBuf {
        self.links.join(name)
    }

    fn node(&self, index: u32) -> PathBuf {
        self.nodes.join(format!("nbd{index}"))
    }

    /// The device that a link leads to.
    fn linked(&self, name: &str) -> Option<u32> {
        let target = std::fs::read_link(self.link(name)).ok()?;
        let number = target.strip_prefix(&self.nodes).ok()?.to_str()?;
        number.strip_prefix("nbd")?.parse().ok()
    }

    /// Whether the kernel knows the device as ours.
    fn is_ours(&self, index: u32, name: &str) -> bool {
        let path = self.blocks.join(format!("nbd{index}/backend"));
        let backend = std::fs::read_to_string(path);
        backend.is_ok_and(|backend| backend.trim_end() == identifier(name))
    }
}

/// What the kernel keeps of a device, to tell whose it is.
fn identifier(name: &str) -> String {
    format!("hast:{name}")
}

/// Whether a link of that name leads to a device that may be one of ours.
pub fn is_left(name: &str) -> bool {
    let places = Places::default();
    let linked = places.linked(name);
    linked.is_some_and(|index| places.is_ours(index, name))
}

/// Whether this kernel has nbd.
pub fn is_available() -> bool {
    Path::new("/sys/module/nbd").exists()
}
