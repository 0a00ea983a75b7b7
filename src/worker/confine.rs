//! How a worker gives up what it does not need, once everything is open: the crate `sandbox` does
//! it, in two halves with the making of threads between them.

use std::os::fd::{AsRawFd, BorrowedFd};

use sandbox::policy::{Features, Kind};
use sandbox::{Config, Held, Mode, SandboxError};

use super::exit::{CONFIG, Failure};
use crate::confinement::{self, Confinement};
use crate::ipc::Start;
use crate::terms::{DriverChoice, Role};

#[cfg(target_os = "freebsd")]
pub(super) use sandbox::policy::roles::GATE_CONTROL;
pub(super) use sandbox::policy::roles::{CHANNEL, DEVICE_LISTENER, LOCAL_COMPONENT, PEER};

/// A process that may still make threads.
pub(super) struct Prepared {
    prepared: sandbox::Prepared,
    started_as: String,
}

fn failed(error: &SandboxError) -> Failure {
    Failure::new(CONFIG, format!("Unable to drop privileges: {error}."))
}

/// The first half, before there are threads. `held` are all descriptors but the standard ones.
///
/// # Errors
/// A step failed that must not.
pub(super) fn prepare(
    start: &Start,
    role: Role,
    held: &[(BorrowedFd<'_>, &'static str)],
) -> Result<Prepared, Failure> {
    let kind = if role == Role::Primary {
        Kind::Primary
    } else {
        Kind::Secondary
    };
    let user = if nix::unistd::geteuid().is_root() {
        let user = privsep::user::lookup(&start.user);
        Some(user.map_err(|error| {
            Failure::new(CONFIG, format!("Unable to drop privileges: {error}."))
        })?)
    } else {
        None
    };
    let mut config = Config::new(kind, user);
    config.mode = if start.confine {
        Mode::Require
    } else {
        Mode::BestEffort
    };
    config.descriptors = held
        .iter()
        .map(|&(descriptor, role)| Held {
            number: descriptor.as_raw_fd(),
            role,
        })
        .collect();
    let started_as = confinement::own_user();
    let prepared = sandbox::prepare(config).map_err(|error| failed(&error))?;
    Ok(Prepared {
        prepared,
        started_as,
    })
}

/// Limits a connection to the peer that came after confinement to what it may do.
pub(super) fn limit_peer(connection: BorrowedFd<'_>) -> std::io::Result<()> {
    sandbox::limit_received(Kind::Primary, PEER, connection)
}

impl Prepared {
    /// The driver that runs decides what is needed of the system.
    pub(super) fn drives(&mut self, driver: DriverChoice) {
        self.prepared.set_features(Features {
            io_uring: driver == DriverChoice::Uring,
        });
    }

    /// The second half, for all threads.
    ///
    /// # Errors
    /// A step failed that must not.
    pub(super) fn seal(self) -> Result<Confinement, Failure> {
        let report = self.prepared.seal().map_err(|error| failed(&error))?;
        Ok(Confinement::of_report(&report, &self.started_as))
    }
}
