//! The steps of confinement, and what becomes of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::{Entry, Report, State};
use crate::{Config, Mode};

/// A step, in the order in which they are taken (see [`Step::ALL`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The process holds the descriptors that it should and no others.
    Descriptors,
    /// It has one thread (Linux).
    SingleThread,
    /// Network namespace of its own, empty (Linux).
    NetworkNamespace,
    /// Mount namespace of its own (Linux).
    MountNamespace,
    /// IPC namespace of its own (Linux).
    IpcNamespace,
    /// UTS namespace of its own, without the host's name (Linux).
    UtsNamespace,
    /// Process numbers of its own.
    PidNamespace,
    /// An empty directory, not writable, is the root.
    Root,
    /// No capability can be gained by executing anything (Linux).
    BoundingSet,
    /// The unprivileged user.
    User,
    /// No capability (Linux).
    Capabilities,
    /// Executing a program grants nothing (Linux).
    NoNewPrivileges,
    /// No core dump, no tracing by processes of the same user (Linux).
    NotDumpable,
    /// The signal at the parent's death, again, as the change of the user disarms it (Linux).
    ParentDeath,
    /// No file and no network address can be named, no outside process be signalled (Linux).
    Landlock,
    /// Bounds on descriptors and core dumps.
    Limits,
    /// Rights and ioctls of each descriptor (FreeBSD).
    Rights,
    /// No further processes or threads.
    ProcessLimit,
    /// Only the system calls of the policy (Linux).
    SystemCalls,
    /// Capability mode (FreeBSD).
    CapabilityMode,
}

impl Step {
    /// All steps of this platform in their order.
    #[cfg(target_os = "linux")]
    pub const ALL: &'static [Step] = &[
        Step::Descriptors,
        Step::SingleThread,
        Step::NetworkNamespace,
        Step::MountNamespace,
        Step::IpcNamespace,
        Step::UtsNamespace,
        Step::PidNamespace,
        Step::Root,
        Step::BoundingSet,
        Step::User,
        Step::Capabilities,
        Step::NoNewPrivileges,
        Step::NotDumpable,
        Step::ParentDeath,
        Step::Landlock,
        Step::Limits,
        Step::ProcessLimit,
        Step::SystemCalls,
    ];

    /// All steps of this platform in their order.
    #[cfg(target_os = "freebsd")]
    pub const ALL: &'static [Step] = &[
        Step::Descriptors,
        Step::Root,
        Step::User,
        Step::Limits,
        Step::Rights,
        Step::ProcessLimit,
        Step::CapabilityMode,
    ];

    /// True if failure is an error even where the administrator accepts less: these need no
    /// support that a system may lack.
    pub fn is_mandatory(self) -> bool {
        matches!(
            self,
            Step::Descriptors
                | Step::SingleThread
                | Step::User
                | Step::Capabilities
                | Step::NoNewPrivileges
                | Step::NotDumpable
                | Step::ParentDeath
                | Step::Rights
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Descriptors => "descriptor audit",
            Step::SingleThread => "single thread",
            Step::NetworkNamespace => "network namespace",
            Step::MountNamespace => "mount namespace",
            Step::IpcNamespace => "IPC namespace",
            Step::UtsNamespace => "UTS namespace",
            Step::PidNamespace => "PID namespace",
            Step::Root => "empty root directory",
            Step::BoundingSet => "capability bounding set",
            Step::User => "unprivileged user",
            Step::Capabilities => "capabilities",
            Step::NoNewPrivileges => "no new privileges",
            Step::NotDumpable => "not dumpable",
            Step::ParentDeath => "signal at the parent's death",
            Step::Landlock => "Landlock",
            Step::Limits => "resource limits",
            Step::Rights => "descriptor rights",
            Step::ProcessLimit => "process limit",
            Step::SystemCalls => "system call filter",
            Step::CapabilityMode => "capability mode",
        })
    }
}

/// A step that failed: the process must end.
#[derive(Debug)]
pub struct SandboxError {
    /// The step.
    pub step: Step,
    /// Why it failed.
    pub reason: String,
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unable to confine this process: {}: {}",
            self.step, self.reason
        )
    }
}

impl std::error::Error for SandboxError {}

/// What a step that did not fail says.
pub(crate) enum Outcome {
    /// It is in force, with details for people where there are any.
    InForce(Option<String>),
    /// It does not apply here, for this reason, which is no failure.
    NotInForce(String),
}

/// The result of a step; the error is the reason.
pub(crate) type Result = std::result::Result<Outcome, String>;

/// What becomes of a step with that result.
pub(crate) fn judge(
    mode: Mode,
    step: Step,
    result: Result,
) -> std::result::Result<Entry, SandboxError> {
    let state = match result {
        Ok(Outcome::InForce(detail)) => State::InForce { detail },
        Ok(Outcome::NotInForce(reason)) => State::NotInForce { reason },
        Err(reason) if mode == Mode::BestEffort && !step.is_mandatory() => {
            log::warn!("{step} is not in force: {reason}");
            State::NotInForce { reason }
        }
        Err(reason) => return Err(SandboxError { step, reason }),
    };
    Ok(Entry {
        mechanism: step,
        state,
    })
}

/// Takes steps and remembers what became of them.
pub(crate) struct Run {
    mode: Mode,
    #[cfg(feature = "fault-injection")]
    fail_at: Option<Step>,
    report: Report,
}

impl Run {
    /// Before the first step.
    pub(crate) fn new(config: &Config) -> Self {
        Run::resume(config, Report::new(config))
    }

    /// After the steps of that report.
    pub(crate) fn resume(config: &Config, report: Report) -> Self {
        Run {
            mode: config.mode,
            #[cfg(feature = "fault-injection")]
            fail_at: config.fail_at,
            report,
        }
    }

    /// Takes a step.
    pub(crate) fn step(
        &mut self,
        step: Step,
        action: impl FnOnce() -> Result,
    ) -> std::result::Result<(), SandboxError> {
        let result = if self.is_to_fail(step) {
            Err("injected failure".into())
        } else {
            action()
        };
        self.report.entries.push(judge(self.mode, step, result)?);
        Ok(())
    }

    /// True if the step is in force.
    #[cfg(target_os = "linux")]
    pub(crate) fn has(&self, step: Step) -> bool {
        self.report.is_in_force(step)
    }

    /// Remembers how many descriptors the process holds.
    pub(crate) fn set_descriptors(&mut self, count: usize) {
        self.report.descriptors = count;
    }

    /// The report.
    pub(crate) fn finish(self) -> Report {
        self.report
    }

    #[cfg(feature = "fault-injection")]
    fn is_to_fail(&self, step: Step) -> bool {
        self.fail_at == Some(step)
    }

    #[cfg(not(feature = "fault-injection"))]
    #[allow(clippy::unused_self, reason = "the other build asks")]
    fn is_to_fail(&self, _step: Step) -> bool {
        false
    }
}
