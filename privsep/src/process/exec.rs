//! What happens between fork and exec, with system calls only.
//!
//! The child is a copy of the parent in which no lock may be taken and no memory allocated: between
//! fork(2) and exec only async-signal-safe calls are made, on memory that was prepared before.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::{mem, ptr};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::SpawnStep;

/// Everything that the child needs, prepared by the parent.
pub(super) struct Plan {
    /// The binary; its number is beyond all that the child uses.
    pub(super) program: RawFd,
    /// Writing end of the pipe that tells the parent why exec failed; number as above.
    pub(super) failure: RawFd,
    /// Descriptors that become 0, 1, ...; numbers as above.
    pub(super) descriptors: Vec<RawFd>,
    /// Title and arguments.
    pub(super) arguments: Vec<CString>,
    /// `NAME=value` each.
    pub(super) environment: Vec<CString>,
    /// Signal at the parent's death.
    pub(super) parent_death: Option<Signal>,
}

/// Length of a failure report, in bytes: the step, then the error number.
const REPORT_BYTES: usize = 1 + size_of::<c_int>();

/// Every step that the child can report, in the order of the numbers that it reports.
const CHILD_STEPS: [SpawnStep; 6] = [
    SpawnStep::Signals,
    SpawnStep::ProcessGroup,
    SpawnStep::ParentDeath,
    SpawnStep::Descriptors,
    SpawnStep::CloseOthers,
    SpawnStep::Exec,
];

/// Forks; the child executes the plan.
pub(super) fn start(plan: &Plan) -> Result<Pid, (SpawnStep, io::Error)> {
    let arguments = pointers(&plan.arguments);
    let environment = pointers(&plan.environment);
    let parent = nix::unistd::getpid();

    // No handler of the parent may run in the child before its dispositions are reset.
    // SAFETY: sigset_t is plain data; the calls get valid pointers to it.
    let before = unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    // SAFETY: the child runs `run` only, which makes async-signal-safe calls alone and never
    // returns.
    let result = match unsafe { libc::fork() } {
        -1 => Err((SpawnStep::Fork, io::Error::last_os_error())),
        // SAFETY: this is the child; both lists end with a null.
        0 => unsafe { run(plan, &arguments, &environment, parent.as_raw()) },
        pid => Ok(Pid::from_raw(pid)),
    };
    // SAFETY: `before` was filled in above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
    result
}

/// A list of pointers as exec wants it, with a null at its end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// The failure that the child reported, if exec did not happen.
pub(super) fn read_failure(report: OwnedFd) -> Option<(SpawnStep, io::Error)> {
    let mut bytes = Vec::with_capacity(REPORT_BYTES);
    if let Err(error) = File::from(report)
        .take(REPORT_BYTES as u64)
        .read_to_end(&mut bytes)
    {
        return Some((SpawnStep::Exec, error));
    }
    let (&step, number) = bytes.split_first()?;
    let step = CHILD_STEPS
        .get(usize::from(step))
        .copied()
        .unwrap_or(SpawnStep::Exec);
    let number = number.try_into().map_or(libc::EIO, c_int::from_ne_bytes);
    Some((step, io::Error::from_raw_os_error(number)))
}

/// The child between fork and exec.
///
/// # Safety
/// Only in a process that has just been forked. `arguments` and `environment` end with a null.
unsafe fn run(
    plan: &Plan,
    arguments: &[*const c_char],
    environment: &[*const c_char],
    parent: libc::pid_t,
) -> ! {
    // SAFETY: system calls on numbers and on memory that outlives them, nothing else.
    unsafe {
        // Program and pipe end up right behind the child's descriptors.
        let count = plan.descriptors.len();
        let Ok(program) = c_int::try_from(count) else {
            libc::_exit(libc::EXIT_FAILURE)
        };
        let pipe = program + 1;

        if !reset_signals() {
            fail(plan.failure, SpawnStep::Signals);
        }
        if libc::setpgid(0, 0) == -1 {
            fail(plan.failure, SpawnStep::ProcessGroup);
        }
        if !arm_parent_death(plan.parent_death, parent) {
            fail(plan.failure, SpawnStep::ParentDeath);
        }
        for (target, &descriptor) in (0..).zip(&plan.descriptors) {
            if libc::dup2(descriptor, target) == -1 {
                fail(plan.failure, SpawnStep::Descriptors);
            }
        }
        if libc::dup3(plan.program, program, libc::O_CLOEXEC) == -1
            || libc::dup3(plan.failure, pipe, libc::O_CLOEXEC) == -1
        {
            fail(plan.failure, SpawnStep::Descriptors);
        }
        if !close_from(pipe + 1) {
            fail(pipe, SpawnStep::CloseOthers);
        }
        execute(program, arguments, environment);
        fail(pipe, SpawnStep::Exec)
    }
}

/// Default dispositions for all signals, and none blocked.
///
/// # Safety
/// As [`run`].
unsafe fn reset_signals() -> bool {
    // SAFETY: system calls with pointers to local plain data.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        // Signals that do not exist, or have no disposition, are refused, which is as good.
        for signal in 1..=64 {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()) == 0
    }
}

/// Arms the signal at the parent's death.
///
/// # Safety
/// As [`run`].
unsafe fn arm_parent_death(signal: Option<Signal>, parent: libc::pid_t) -> bool {
    let Some(signal) = signal else { return true };
    if !ask_for_signal(signal) {
        return false;
    }
    // The parent may have ended before the signal was armed.
    // SAFETY: system calls on numbers.
    unsafe {
        if libc::getppid() != parent {
            libc::_exit(libc::EXIT_FAILURE);
        }
    }
    true
}

/// Asks the kernel for a signal when the thread (Linux) or process (FreeBSD) that started this
/// process ends. Makes one system call, which fails for signals only that do not exist.
/// May be called between fork and exec.
#[cfg(target_os = "linux")]
pub(super) fn ask_for_signal(signal: Signal) -> bool {
    // SAFETY: a system call on numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0, 0, 0) != -1 }
}

#[cfg(target_os = "freebsd")]
pub(super) fn ask_for_signal(signal: Signal) -> bool {
    let mut number = signal as c_int;
    // SAFETY: the kernel reads an int; a process of 0 is this one.
    unsafe {
        libc::procctl(
            libc::P_PID,
            0,
            libc::PROC_PDEATHSIG_CTL,
            ptr::from_mut(&mut number).cast(),
        ) != -1
    }
}

/// Closes all descriptors from `first` on.
///
/// # Safety
/// As [`run`].
#[cfg(target_os = "linux")]
unsafe fn close_from(first: c_int) -> bool {
    // SAFETY: system calls on numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) == 0 {
            return true;
        }
        // A kernel before 5.9: one by one, as far as the limit goes that they were opened under.
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == -1 {
            return false;
        }
        let Ok(last) = c_int::try_from(limit.rlim_cur) else {
            return false;
        };
        for descriptor in first..last {
            libc::close(descriptor);
        }
        true
    }
}

/// Closes all descriptors from `first` on.
///
/// # Safety
/// As [`run`].
#[cfg(target_os = "freebsd")]
unsafe fn close_from(first: c_int) -> bool {
    // SAFETY: a system call on a number, documented never to fail.
    unsafe { libc::closefrom(first) };
    true
}

/// Executes the binary behind a descriptor; returns if that failed.
///
/// # Safety
/// As [`run`].
unsafe fn execute(program: c_int, arguments: &[*const c_char], environment: &[*const c_char]) {
    // SAFETY: both lists end with a null and point to strings that are alive.
    unsafe {
        // The library's fexecve(3) may fall back to a path below /proc.
        #[cfg(target_os = "linux")]
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        #[cfg(not(target_os = "linux"))]
        libc::fexecve(
            program,
            arguments.as_ptr().cast(),
            environment.as_ptr().cast(),
        );
    }
}

/// Reports the step and `errno`, then ends the child.
///
/// # Safety
/// As [`run`].
unsafe fn fail(pipe: RawFd, step: SpawnStep) -> ! {
    let number = io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO);
    let mut report = [0_u8; REPORT_BYTES];
    for (index, candidate) in (0..).zip(CHILD_STEPS) {
        if candidate == step {
            report[0] = index;
        }
    }
    report[1..].copy_from_slice(&number.to_ne_bytes());
    // SAFETY: system calls on a number and a local buffer. Nobody is left to tell of a failure.
    unsafe {
        libc::write(pipe, report.as_ptr().cast(), report.len());
        libc::_exit(libc::EXIT_FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_step_and_reason() {
        let (report, failure) = nix::unistd::pipe().unwrap();
        let mut bytes = vec![5];
        bytes.extend(libc::ENOEXEC.to_ne_bytes());
        nix::unistd::write(&failure, &bytes).unwrap();
        drop(failure);
        let (step, error) = read_failure(report).unwrap();
        assert_eq!(step, SpawnStep::Exec);
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
    }

    #[test]
    fn no_report_is_success() {
        let (report, failure) = nix::unistd::pipe().unwrap();
        drop(failure);
        assert!(read_failure(report).is_none());
    }
}
