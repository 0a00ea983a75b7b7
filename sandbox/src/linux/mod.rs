//! Confinement on Linux.
//!
//! Order: what needs root comes first (namespaces, the root directory, the bounding set), then the
//! user, then what an unprivileged process may do to itself. Files of /proc are read before the
//! root directory is left; the system call filter, which forbids almost all of this, comes last.

mod capabilities;
mod landlock;
mod limits;
mod numbers;
mod ring;
mod root;
mod seccomp;
mod sys;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, gethostname, sethostname};
use privsep::user::User;
use privsep::{process, user};

use crate::partial::{ATTACHER_CAPABILITIES, PARENT_CAPABILITIES, RESOLVER_FILES};
use crate::policy::Kind;
use crate::step::{Outcome, Result, Run, SandboxError, Step};
use crate::{Config, held};
pub use ring::restrict as restrict_ring;
#[cfg(feature = "fault-injection")]
pub use seccomp::install_filter;

/// Why a privileged step is not taken.
const NOT_ROOT: &str = "not started by root";

/// Name of the host as a confined process sees it.
const HOST_NAME: &str = "confined";

/// A directory that may become the root: any that exists will do with a mount namespace, an empty
/// one without.
pub fn default_directory() -> PathBuf {
    ["/var/empty", "/run", "/tmp"]
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Limits a descriptor that was received after confinement to what its role may do. Linux has no
/// rights of descriptors: the system call filter alone binds.
#[allow(clippy::unnecessary_wraps, reason = "the other platform may fail")]
pub fn limit_received(_kind: Kind, _role: &str, _descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

/// All but the last two steps.
pub(crate) fn prepare(config: &Config, run: &mut Run) -> std::result::Result<(), SandboxError> {
    let privileged = geteuid().is_root();
    let if_root = |action: fn() -> Result| move || if privileged { action() } else { not_root() };

    let mut count = 0;
    run.step(Step::Descriptors, || {
        count = held::check(config)?;
        Ok(Outcome::InForce(Some(format!("{count} open"))))
    })?;
    run.set_descriptors(count);
    run.step(Step::SingleThread, single_thread)?;

    run.step(
        Step::NetworkNamespace,
        if_root(|| own_namespace("net", CloneFlags::CLONE_NEWNET)),
    )?;
    run.step(
        Step::MountNamespace,
        if_root(|| {
            own_namespace("mnt", CloneFlags::CLONE_NEWNS)?;
            root::make_private()?;
            in_force()
        }),
    )?;
    run.step(
        Step::IpcNamespace,
        if_root(|| own_namespace("ipc", CloneFlags::CLONE_NEWIPC)),
    )?;
    run.step(Step::UtsNamespace, if_root(own_host_name))?;
    run.step(Step::PidNamespace, || {
        Ok(Outcome::NotInForce(
            "a process keeps the numbers that it started with; the filter forbids to signal others"
                .into(),
        ))
    })?;

    let mounts_are_own = run.has(Step::MountNamespace);
    run.step(Step::Root, || {
        if privileged {
            root::leave(&config.directory, mounts_are_own)
        } else {
            not_root()
        }
    })?;
    run.step(Step::BoundingSet, if_root(capabilities::empty_bounding_set))?;
    run.step(Step::User, || become_user(config.user.as_ref()))?;
    run.step(Step::Capabilities, capabilities::drop_all)?;
    run.step(Step::NoNewPrivileges, no_new_privileges)?;
    run.step(Step::NotDumpable, not_dumpable)?;
    run.step(Step::ParentDeath, || {
        let Some((signal, parent)) = config.parent_death else {
            return Ok(Outcome::NotInForce("not asked for".into()));
        };
        process::arm_parent_death(signal, parent).map_err(|error| error.to_string())?;
        in_force()
    })?;
    run.step(Step::Landlock, landlock::restrict)?;
    run.step(Step::Limits, || limits::descriptors_and_cores(config.kind))
}

/// What the parent gives up.
pub(crate) fn reduce_parent() -> Vec<(Step, Result)> {
    let capabilities = if geteuid().is_root() {
        capabilities::keep(PARENT_CAPABILITIES.iter().map(|(name, _)| *name))
    } else {
        capabilities::drop_all()
    };
    vec![
        (Step::Capabilities, capabilities),
        (Step::NotDumpable, not_dumpable()),
    ]
}

/// What an attacher gives up.
pub(crate) fn reduce_attacher() -> Vec<(Step, Result)> {
    vec![
        (Step::BoundingSet, capabilities::empty_bounding_set()),
        (
            Step::Capabilities,
            capabilities::keep(ATTACHER_CAPABILITIES.iter().map(|(name, _)| *name)),
        ),
        (Step::NoNewPrivileges, no_new_privileges()),
        (Step::NotDumpable, not_dumpable()),
    ]
}

/// What a resolver gives up, step by step until one fails.
pub(crate) fn reduce_resolver(
    user: Option<&User>,
    mut step: impl FnMut(Step, Result) -> std::result::Result<(), SandboxError>,
) -> std::result::Result<(), SandboxError> {
    let bounding_set = if geteuid().is_root() {
        capabilities::empty_bounding_set()
    } else {
        not_root()
    };
    step(Step::BoundingSet, bounding_set)?;
    step(Step::User, become_user(user))?;
    step(Step::Capabilities, capabilities::drop_all())?;
    step(Step::NoNewPrivileges, no_new_privileges())?;
    step(Step::NotDumpable, not_dumpable())?;
    step(Step::Landlock, landlock::restrict_to_reading())?;
    step(Step::Limits, limits::files_and_cores(RESOLVER_FILES.into()))
}

/// The last two steps, when all threads exist.
pub(crate) fn seal(config: &Config, run: &mut Run) -> std::result::Result<(), SandboxError> {
    run.step(Step::ProcessLimit, limits::no_processes)?;
    run.step(Step::SystemCalls, || {
        seccomp::install(config.kind, config.features)
    })
}

fn in_force() -> Result {
    Ok(Outcome::InForce(None))
}

fn not_root() -> Result {
    Ok(Outcome::NotInForce(NOT_ROOT.into()))
}

/// Almost everything below binds the calling thread only.
fn single_thread() -> Result {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|error| format!("unable to read /proc/self/task: {error}"))?
        .count();
    if threads == 1 {
        in_force()
    } else {
        Err(format!("the process has {threads} threads"))
    }
}

/// A namespace of its own; the new one is empty of what the kind counts.
fn own_namespace(name: &str, flag: CloneFlags) -> Result {
    let identity = || {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .map_err(|error| format!("unable to read /proc/self/ns/{name}: {error}"))
    };
    let before = identity()?;
    unshare(flag).map_err(|error| format!("unshare: {error}"))?;
    if identity()? == before {
        return Err("unshare succeeded and the namespace is still the old one".into());
    }
    in_force()
}

fn own_host_name() -> Result {
    own_namespace("uts", CloneFlags::CLONE_NEWUTS)?;
    sethostname(HOST_NAME).map_err(|error| format!("sethostname: {error}"))?;
    match gethostname() {
        Ok(name) if name == HOST_NAME => in_force(),
        Ok(name) => Err(format!("the host's name is still {}", name.display())),
        Err(error) => Err(format!("gethostname: {error}")),
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

fn no_new_privileges() -> Result {
    nix::sys::prctl::set_no_new_privs().map_err(|error| format!("prctl: {error}"))?;
    match nix::sys::prctl::get_no_new_privs() {
        Ok(true) => in_force(),
        other => Err(format!("prctl says {other:?}")),
    }
}

/// After the user has changed, since that sets the attribute anew.
fn not_dumpable() -> Result {
    nix::sys::prctl::set_dumpable(false).map_err(|error| format!("prctl: {error}"))?;
    match nix::sys::prctl::get_dumpable() {
        Ok(false) => in_force(),
        other => Err(format!("prctl says {other:?}")),
    }
}
