//! How a worker gives up what it does not need, once everything is open.

use std::os::fd::BorrowedFd;

use super::exit::Failure;
use crate::ipc::Start;
use crate::terms::Role;

/// The disk of the resource.
pub(super) const LOCAL_COMPONENT: &str = "local component";
/// The channel to the parent.
pub(super) const CHANNEL: &str = "channel to the parent";
/// The socket on which applications connect by NBD.
pub(super) const DEVICE_LISTENER: &str = "listening NBD socket";
/// A connection to the peer.
pub(super) const PEER: &str = "connection to the peer";

/// What is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Confinement {
    /// In words.
    pub(super) in_force: Vec<String>,
    /// What could not be applied, with reasons.
    pub(super) missing: Vec<String>,
}

/// A process that may still make threads.
pub(super) struct Prepared;

/// The first half, before there are threads.
///
/// # Errors
/// A step failed that must not.
pub(super) fn prepare(
    _start: &Start,
    _role: Role,
    _held: &[(BorrowedFd<'_>, &'static str)],
) -> Result<Prepared, Failure> {
    Ok(Prepared)
}

impl Prepared {
    /// The second half, for all threads.
    ///
    /// # Errors
    /// A step failed that must not.
    pub(super) fn seal(self) -> Result<Confinement, Failure> {
        Ok(Confinement {
            in_force: Vec::new(),
            missing: vec!["confinement: not available in this build".to_owned()],
        })
    }
}
