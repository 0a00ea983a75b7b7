//! Who is measured.

mod original;
pub(crate) mod ours;
mod plain;
mod quorum;

use std::path::PathBuf;
use std::time::Duration;

use hast_regress::scenario::blockdev::has;

use self::original::Original;
use self::ours::Ours;
use crate::ground::{Disks, Ground};
use crate::options::Options;

/// Something that serves devices by NBD, until it is dropped.
pub(crate) trait Serving {
    /// Where a client finds each device.
    fn uris(&self) -> Vec<String>;
    /// Its processes; their descendants are its own, too.
    fn pids(&self) -> Vec<i32>;
}

/// A contestant.
#[derive(Clone, Debug)]
pub(crate) enum Contestant {
    /// qemu-nbd: a device without replication, to which the others are compared.
    Bare,
    /// nbdkit: a lean server without replication, which shows what the client and this machine
    /// allow.
    Nbdkit,
    /// QEMU's `quorum` driver: a synchronous mirror of a local file and one behind NBD over TCP.
    Quorum {
        /// Added round trip to the second file.
        rtt: Option<Duration>,
    },
    /// hast.
    Ours(Ours),
    /// What hast replaces.
    Original(Original),
    /// dd(1), for synchronisations: copies one disk to the other.
    Dd,
}

/// Name of the contestant that others are compared with.
pub(crate) const BARE: &str = "bare qemu-nbd";

/// Name of the copy that synchronisations are compared with.
pub(crate) const DD: &str = "dd";

impl Contestant {
    /// Its name in tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Contestant::Bare => BARE.to_owned(),
            Contestant::Nbdkit => "nbdkit".to_owned(),
            Contestant::Quorum { rtt } => format!("qemu quorum{}", added(*rtt)),
            Contestant::Ours(ours) => ours.name(),
            Contestant::Original(_) => "original".to_owned(),
            Contestant::Dd => DD.to_owned(),
        }
    }

    /// Whether it is hast itself.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Contestant::Ours(_))
    }

    /// What keeps it from being measured here, if anything does.
    pub(crate) fn missing(&self) -> Option<String> {
        let needs: &[&str] = match self {
            Contestant::Bare => &["qemu-nbd"],
            Contestant::Nbdkit => &["nbdkit"],
            Contestant::Quorum { .. } => &["qemu-nbd", "qemu-storage-daemon"],
            Contestant::Dd => &["dd"],
            Contestant::Ours(_) | Contestant::Original(_) => &[],
        };
        let missing = needs.iter().find(|program| !has(program))?;
        Some(format!("{missing} is not installed"))
    }

    /// Begins to serve a device for each pair of disks.
    pub(crate) fn serve(
        &self,
        ground: &Ground,
        disks: &[Disks],
    ) -> Result<Box<dyn Serving>, String> {
        match self {
            Contestant::Bare => plain::Plain::qemu_nbd(ground, disks),
            Contestant::Nbdkit => plain::Plain::nbdkit(ground, disks),
            Contestant::Quorum { rtt } => quorum::serve(ground, disks, *rtt),
            Contestant::Ours(ours) => Ok(Box::new(ours.connected(disks))),
            Contestant::Original(original) => original.serve(ground, disks),
            Contestant::Dd => Err("dd serves no device".to_owned()),
        }
    }
}

/// The original, if it was named.
pub(crate) fn original(options: &Options) -> Option<Contestant> {
    let programs: PathBuf = options.original.clone()?;
    Some(Contestant::Original(Original {
        programs,
        statements: options.original_statements.clone(),
        device: options.original_device.clone(),
    }))
}

/// A round trip as part of a name.
fn added(rtt: Option<Duration>) -> String {
    rtt.map(|rtt| format!(", +{} ms", rtt.as_millis()))
        .unwrap_or_default()
}

/// How a client names a device on a Unix socket.
fn uri(socket: &std::path::Path) -> String {
    format!("nbd+unix:///?socket={}", socket.display())
}
