//! Confinement of the parent, as far as it goes, and of its small children: listener and resolvers.

use std::os::fd::{AsRawFd, BorrowedFd};

use privsep::user::{self, User};
use sandbox::policy::{Kind, roles};
use sandbox::{Config, Held, Mode, SandboxError};

use crate::confinement::{self, Confinement};
use crate::ipc::Ready;

/// What becomes of a step that fails.
fn mode(confine: bool) -> Mode {
    if confine {
        Mode::Require
    } else {
        Mode::BestEffort
    }
}

/// The account, if this process is root's.
fn account(name: &str) -> Result<Option<User>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    user::lookup(name)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Confines a resolver as far as that can be: it needs files, sockets and libraries of whatever kind
/// the system's name service uses.
///
/// # Errors
/// Why not, in words.
pub(super) fn resolver(name: &str, confine: bool) -> Result<(), String> {
    let user = account(name)?;
    sandbox::reduce_resolver(user.as_ref(), mode(confine))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Leaves an attacher what it needs to give devices to the kernel.
///
/// # Errors
/// Why not, in words.
#[cfg(target_os = "linux")]
pub(super) fn attacher(confine: bool) -> Result<(), String> {
    sandbox::reduce_attacher(mode(confine))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Confines the listener, before it accepts anything. Its channel is all that it holds: listening
/// sockets come over it afterwards.
///
/// # Errors
/// Why not, in words.
pub(super) fn listener(
    name: &str,
    confine: bool,
    channel: BorrowedFd<'_>,
) -> Result<Ready, String> {
    let mut config = Config::new(Kind::Listener, account(name)?);
    config.mode = mode(confine);
    config.descriptors = vec![Held {
        number: channel.as_raw_fd(),
        role: roles::CHANNEL,
    }];
    let started_as = confinement::own_user();
    let report = sandbox::enter(config).map_err(|error| error.to_string())?;
    Ok(Ready {
        confinement: Confinement::of_report(&report, &started_as),
        ..Ready::default()
    })
}

/// Limits a socket that peers connect to, which came after confinement, to what it may do.
pub(super) fn limit_door(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    sandbox::limit_received(Kind::Listener, roles::PEER_LISTENER, socket)
}

/// Gives up what the parent does not need, and says what is in force.
///
/// # Errors
/// A step failed.
pub(super) fn parent(mode: Mode) -> Result<Confinement, SandboxError> {
    let steps = sandbox::reduce_parent(mode)?;
    // Its descriptors come and go: they are counted when somebody asks.
    Ok(Confinement::of_steps(&steps, &confinement::own_user(), 0))
}
