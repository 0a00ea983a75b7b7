//! hastctl confines itself before it writes to the daemon or reads from it.
//!
//! What it parses comes from the daemon, which got much of it from workers. A command that asks once
//! connects, confines itself, asks and prints. One that asks again and again (`status --watch`,
//! `wait`) cannot make connections once it is confined: a second process does it ([`super::connector`]).

use std::os::fd::{AsRawFd, BorrowedFd};

use privsep::user;
use sandbox::policy::Kind;
use sandbox::{Held, Mode};

use crate::conf::model::{Config, SandboxMode};

/// Confines this process, which has one thread and holds these descriptors and the standard ones.
///
/// # Errors
/// Why not, in words.
pub(super) fn enter(
    config: &Config,
    held: &[(BorrowedFd<'_>, &'static str)],
) -> Result<(), String> {
    let user = if nix::unistd::geteuid().is_root() {
        Some(user::lookup(&config.user).map_err(|error| error.to_string())?)
    } else {
        None
    };
    let mut confinement = sandbox::Config::new(Kind::Control, user);
    confinement.mode = match config.sandbox {
        SandboxMode::Require => Mode::Require,
        SandboxMode::BestEffort => Mode::BestEffort,
    };
    confinement.descriptors = held
        .iter()
        .map(|&(descriptor, role)| Held {
            number: descriptor.as_raw_fd(),
            role,
        })
        .collect();
    sandbox::enter(confinement)
        .map(|_| ())
        .map_err(|error| error.to_string())
}
