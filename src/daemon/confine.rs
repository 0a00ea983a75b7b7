//! Confinement of the daemon's small children: the listener and resolvers.

use privsep::user;

use crate::ipc::Ready;

/// Becomes an unprivileged user, if this process is root's.
///
/// # Errors
/// Why not, in words, if `confine` demands it.
pub(super) fn become_user(name: &str, confine: bool) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    match user::lookup(name).and_then(|user| user::become_user(&user)) {
        Err(error) if confine => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Confines the listener, before it accepts anything.
///
/// # Errors
/// Why not, in words, if `confine` demands it.
pub(super) fn listener(name: &str, confine: bool) -> Result<Ready, String> {
    let mut ready = Ready::default();
    match user::lookup(name) {
        _ if !nix::unistd::geteuid().is_root() => {
            ready.missing.push("user: not started by root".to_owned());
        }
        Ok(user) => {
            user::become_user(&user).map_err(|error| error.to_string())?;
            ready.confinement.push(format!("user {}", user.name));
        }
        Err(error) if confine => return Err(error.to_string()),
        Err(error) => ready.missing.push(format!("user: {error}")),
    }
    Ok(ready)
}
