//! Confinement of the daemon's small children: the listener and resolvers.

use std::os::fd::{AsRawFd, BorrowedFd};

use privsep::user::{self, User};
use sandbox::policy::{Kind, roles};
use sandbox::{Config, Held, Mode, State};

use crate::ipc::Ready;

/// The account, if this process is root's.
fn account(name: &str) -> Result<Option<User>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    user::lookup(name)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Becomes an unprivileged user, if this process is root's: all that can be asked of a resolver,
/// which needs files and sockets of whatever kind the system's name service uses.
///
/// # Errors
/// Why not, in words, if `confine` demands it.
pub(super) fn become_user(name: &str, confine: bool) -> Result<(), String> {
    let become_it = |user: User| {
        user::become_user(&user)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    match account(name).and_then(|user| user.map_or(Ok(()), become_it)) {
        Err(reason) if confine => Err(reason),
        _ => Ok(()),
    }
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
    let user = match account(name) {
        Err(_) if !confine => None,
        account => account?,
    };
    let mut config = Config::new(Kind::Listener, user);
    if !confine {
        config.mode = Mode::BestEffort;
    }
    config.descriptors = vec![Held {
        number: channel.as_raw_fd(),
        role: roles::CHANNEL,
    }];
    let report = sandbox::enter(config).map_err(|error| error.to_string())?;
    let mut ready = Ready::default();
    for entry in &report.entries {
        let step = entry.mechanism;
        match &entry.state {
            State::InForce { detail: None } => ready.confinement.push(step.to_string()),
            State::InForce {
                detail: Some(detail),
            } => ready.confinement.push(format!("{step} ({detail})")),
            State::NotInForce { reason } => ready.missing.push(format!("{step}: {reason}")),
        }
    }
    Ok(ready)
}
