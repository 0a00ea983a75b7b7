//! Processes that no policy can confine, and what they give up all the same: the parent, which
//! opens, binds and starts on behalf of all others, and the resolver, whose files, sockets and
//! libraries are those of the system's name service.

use privsep::user::User;

use crate::report::Entry;
use crate::step::{SandboxError, judge};
use crate::{Mode, platform};

/// The capabilities that the parent keeps on Linux, with the reasons. Only it itself: what it
/// executes as root (workers before they confine themselves, hooks) has all of root's again.
pub const PARENT_CAPABILITIES: &[(&str, &str)] = &[
    (
        "CAP_DAC_OVERRIDE",
        "hast.conf, pidfile, control socket and Unix sockets of peers in directories of others",
    ),
    (
        "CAP_NET_BIND_SERVICE",
        "ports below 1024 in `listen` and `source`",
    ),
    (
        "CAP_KILL",
        "signals to workers, which run as another user by then",
    ),
];

/// The capability that an attacher keeps on Linux, with the reason.
pub const ATTACHER_CAPABILITIES: &[(&str, &str)] = &[(
    "CAP_SYS_ADMIN",
    "the kernel asks it of whoever gives it a block device",
)];

/// Files that a resolver may have open: sockets, databases and libraries of the name service.
pub(crate) const RESOLVER_FILES: u32 = 64;

/// Reduces the parent to [`PARENT_CAPABILITIES`] and makes it non-dumpable (Linux); nothing on
/// FreeBSD.
///
/// # Errors
/// A step failed.
pub fn reduce_parent(mode: Mode) -> Result<Vec<Entry>, SandboxError> {
    platform::reduce_parent()
        .into_iter()
        .map(|(step, result)| judge(mode, step, result))
        .collect()
}

/// Reduces an attacher, which stays root, to [`ATTACHER_CAPABILITIES`]: what it executes, if somebody
/// took it over, gets no more, and it is not dumpable. Linux.
///
/// # Errors
/// A step failed.
#[cfg(target_os = "linux")]
pub fn reduce_attacher(mode: Mode) -> Result<Vec<Entry>, SandboxError> {
    platform::reduce_attacher()
        .into_iter()
        .map(|(step, result)| judge(mode, step, result))
        .collect()
}

/// Reduces a resolver: the unprivileged user (if root), no privileges to be gained, limits, and on
/// Linux with Landlock no writing of any file.
///
/// # Errors
/// A step failed that must not.
pub fn reduce_resolver(user: Option<&User>, mode: Mode) -> Result<Vec<Entry>, SandboxError> {
    let mut entries = Vec::new();
    platform::reduce_resolver(user, |step, result| {
        entries.push(judge(mode, step, result)?);
        Ok(())
    })?;
    Ok(entries)
}
