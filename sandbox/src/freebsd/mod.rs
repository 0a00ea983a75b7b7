//! Confinement on FreeBSD.
//!
//! A jail around an empty directory (else chroot), the unprivileged user, limits, rights and ioctls
//! of every descriptor, and capability mode at last. All of it binds the whole process.

mod rights;
mod sys;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{chdir, chroot, geteuid};
use privsep::user::{self, User};

use crate::partial::RESOLVER_FILES;
use crate::policy::descriptors_max;
use crate::step::{Outcome, Result, Run, SandboxError, Step};
use crate::{Config, held};

pub use rights::limit_received;

/// Processes of the user at most: this one. The kernel makes 1 of a limit of 0, and takes 0 for
/// none where it counts.
const PROCESSES: rlim_t = 1;

/// Why a privileged step is not taken.
const NOT_ROOT: &str = "not started by root";

/// The directory that becomes the root: part of every system, empty, and immutable.
pub fn default_directory() -> PathBuf {
    PathBuf::from("/var/empty")
}

/// All but the last two steps.
pub(crate) fn prepare(config: &Config, run: &mut Run) -> std::result::Result<(), SandboxError> {
    let mut count = 0;
    run.step(Step::Descriptors, || {
        count = held::check(config)?;
        Ok(Outcome::InForce(Some(format!("{count} open"))))
    })?;
    run.set_descriptors(count);
    run.step(Step::Root, || {
        if geteuid().is_root() {
            leave(&config.directory)
        } else {
            not_root()
        }
    })?;
    run.step(Step::User, || become_user(config.user.as_ref()))?;
    run.step(Step::Limits, || {
        let files = rlim_t::from(descriptors_max(config.kind));
        set_limit(Resource::RLIMIT_CORE, 0)?;
        set_limit(Resource::RLIMIT_NOFILE, files)?;
        Ok(Outcome::InForce(Some(format!(
            "{files} open files, no core dumps"
        ))))
    })?;
    run.step(Step::Rights, || rights::limit_held(config))
}

/// What the parent gives up: nothing, as FreeBSD has no part of root's privileges to give up.
pub(crate) fn reduce_parent() -> Vec<(Step, Result)> {
    Vec::new()
}

/// What a resolver gives up, step by step until one fails.
pub(crate) fn reduce_resolver(
    user: Option<&User>,
    mut step: impl FnMut(Step, Result) -> std::result::Result<(), SandboxError>,
) -> std::result::Result<(), SandboxError> {
    step(Step::User, become_user(user))?;
    let limits = set_limit(Resource::RLIMIT_CORE, 0)
        .and_then(|()| set_limit(Resource::RLIMIT_NOFILE, rlim_t::from(RESOLVER_FILES)));
    step(
        Step::Limits,
        limits.map(|()| Outcome::InForce(Some(format!("{RESOLVER_FILES} open files")))),
    )
}

/// The last two steps, when all threads exist.
pub(crate) fn seal(_config: &Config, run: &mut Run) -> std::result::Result<(), SandboxError> {
    run.step(Step::ProcessLimit, || {
        set_limit(Resource::RLIMIT_NPROC, PROCESSES)?;
        Ok(Outcome::InForce(None))
    })?;
    run.step(Step::CapabilityMode, || {
        capsicum::enter().map_err(|error| format!("cap_enter: {error}"))?;
        match capsicum::get_mode() {
            Ok(true) => Ok(Outcome::InForce(None)),
            other => Err(format!("cap_getmode says {other:?}")),
        }
    })
}

fn not_root() -> Result {
    Ok(Outcome::NotInForce(NOT_ROOT.into()))
}

/// A jail, or chroot where this system does not permit one (a jail without children, say).
fn leave(directory: &Path) -> Result {
    let path = directory.display();
    let status = std::fs::metadata(directory).map_err(|error| format!("{path}: {error}"))?;
    if !status.is_dir() || status.uid() != 0 || status.mode() & 0o022 != 0 {
        return Err(format!(
            "{path} must be an empty directory that belongs to root and that nobody else may \
             write to"
        ));
    }
    let detail = match sys::jail(directory) {
        Ok(()) if sys::is_jailed().map_err(|error| format!("security.jail.jailed: {error}"))? => {
            "jail".to_owned()
        }
        Ok(()) => return Err("jail succeeded, and the process is in none".into()),
        Err(error) => {
            chroot(directory).map_err(|error| format!("chroot {path}: {error}"))?;
            format!("chroot, as jail failed: {error}")
        }
    };
    chdir("/").map_err(|error| format!("chdir: {error}"))?;
    match std::fs::read_dir("/").map(|entries| entries.count()) {
        Ok(0) => Ok(Outcome::InForce(Some(detail))),
        Ok(count) => Err(format!("{path} holds {count} entries")),
        Err(error) => Err(format!("{path} cannot be read: {error}")),
    }
}

fn become_user(user: Option<&User>) -> Result {
    match user {
        Some(user) => match user::become_user(user).map_err(|error| error.to_string())? {
            user::Outcome::Dropped => Ok(Outcome::InForce(Some(user.name.clone()))),
            user::Outcome::NotRoot => not_root(),
        },
        None if geteuid().is_root() => {
            Err("started by root, and no user to become is configured".into())
        }
        None => not_root(),
    }
}

fn set_limit(resource: Resource, limit: rlim_t) -> std::result::Result<(), String> {
    // What is already lower stays.
    let (_, hard) = getrlimit(resource).map_err(|error| format!("{resource:?}: {error}"))?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).map_err(|error| format!("{resource:?}: {error}"))?;
    match getrlimit(resource) {
        Ok(found) if found == (limit, limit) => Ok(()),
        Ok(found) => Err(format!("{resource:?} is {found:?} instead of {limit}")),
        Err(error) => Err(format!("{resource:?}: {error}")),
    }
}
