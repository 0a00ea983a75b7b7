//! Confinement of each kind of process, and a report of what is in force.
//!
//! [`policy`] says, as data, what each kind may hold and do, and why. [`prepare`] and
//! [`Prepared::seal`] put a process under it, step by step ([`Step`]), each verified afterwards;
//! any failure is an error that names the step, and the caller exits. [`Report`] says what is in
//! force.
//!
//! Two halves, since Linux confines thread by thread: [`prepare`] is called while the process has
//! one thread, then the process creates the threads that it needs, which inherit all of it, then
//! [`Prepared::seal`] takes away what creating threads needed and installs the system call filter
//! for all of them. A process without further threads calls [`enter`].
//!
//! The parent and the resolvers cannot be confined so: [`reduce_parent`] and [`reduce_resolver`] say
//! what they give up.
//!
//! `unsafe` lives in `linux::sys` and `freebsd::sys` only.

mod held;
mod partial;
pub mod policy;
mod report;
mod step;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

use std::os::fd::RawFd;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use privsep::user::User;
use serde::{Deserialize, Serialize};

#[cfg(target_os = "freebsd")]
use freebsd as platform;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(target_os = "linux")]
pub use partial::reduce_attacher;
pub use partial::{ATTACHER_CAPABILITIES, PARENT_CAPABILITIES, reduce_parent, reduce_resolver};
#[cfg(all(target_os = "linux", feature = "fault-injection"))]
pub use platform::install_filter;
#[cfg(target_os = "linux")]
pub use platform::restrict_ring;
pub use platform::{default_directory, limit_received};
pub use report::{Entry, Report, State};
pub use step::{SandboxError, Step};

use policy::{Features, Kind};

/// What becomes of a step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Any failure is an error.
    Require,
    /// The administrator accepts less: failures are reported, but those of [`Step::is_mandatory`]
    /// are errors all the same.
    BestEffort,
}

/// A descriptor that the process holds when it is confined, besides the standard ones.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its number.
    pub number: RawFd,
    /// Its role, one of the policy's ([`policy::roles`]).
    pub role: &'static str,
}

/// How to confine this process: made by [`Config::new`], then changed field by field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What kind of process it is.
    pub kind: Kind,
    /// What becomes of a step that fails.
    pub mode: Mode,
    /// The user to become, looked up before; none if the process was not started by root.
    pub user: Option<User>,
    /// A directory that becomes the root: empty where it is used as it is (FreeBSD, and Linux
    /// without a mount namespace); any on Linux otherwise, where an empty one is mounted over it.
    pub directory: PathBuf,
    /// Every descriptor that the process holds, but 0, 1 and 2.
    pub descriptors: Vec<Held>,
    /// Optional parts of the policy.
    pub features: Features,
    /// Signal at the parent's death and the parent, armed again after the user has changed. Linux.
    pub parent_death: Option<(Signal, Pid)>,
    /// The step that is to fail, in tests.
    #[cfg(feature = "fault-injection")]
    pub fail_at: Option<Step>,
}

impl Config {
    /// The confinement of a kind that requires every step, as the given user.
    pub fn new(kind: Kind, user: Option<User>) -> Self {
        Config {
            kind,
            mode: Mode::Require,
            user,
            directory: default_directory(),
            descriptors: Vec::new(),
            features: Features::default(),
            parent_death: None,
            #[cfg(feature = "fault-injection")]
            fail_at: None,
        }
    }
}

/// A process that is confined but for what creating threads needs.
#[derive(Debug)]
#[must_use = "the system call filter is not in force before `seal`"]
pub struct Prepared {
    config: Config,
    report: Report,
}

/// The first half: everything but what would forbid to create threads. The process must have one
/// thread.
pub fn prepare(config: Config) -> Result<Prepared, SandboxError> {
    let mut run = step::Run::new(&config);
    platform::prepare(&config, &mut run)?;
    let report = run.finish();
    Ok(Prepared { config, report })
}

impl Prepared {
    /// Sets the optional parts of the policy, which may be known only now: nothing that was done so
    /// far depends on them.
    pub fn set_features(&mut self, features: Features) {
        self.config.features = features;
    }

    /// What is in force so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The second half, for all threads. Each thread must have begun to run: a barrier after its
    /// creation is enough.
    pub fn seal(self) -> Result<Report, SandboxError> {
        let mut run = step::Run::resume(&self.config, self.report);
        platform::seal(&self.config, &mut run)?;
        Ok(run.finish())
    }
}

/// Both halves, for a process of one thread.
pub fn enter(config: Config) -> Result<Report, SandboxError> {
    prepare(config)?.seal()
}
