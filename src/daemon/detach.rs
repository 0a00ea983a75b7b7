//! Becoming a daemon: out of the terminal's session, into the background.
//!
//! The process that was started waits until its child serves or has failed, and ends with its exit
//! code, so that whoever starts the daemon learns what became of it.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

/// The exit code if the daemon was killed while it started.
const EX_OSERR: u8 = 71;

/// Which side of the fork this is.
pub(super) enum Detached {
    /// The process that was started: this is its exit code.
    Launcher(u8),
    /// The daemon.
    Daemon(Pending),
}

/// A daemon whose launcher waits for its success.
pub(super) struct Pending {
    report: File,
}

/// Forks; the child leaves the session. To be called while the process has one thread.
pub(super) fn detach() -> io::Result<Detached> {
    let (reader, writer) = pipe()?;
    // SAFETY: the process has one thread, so that no lock is held by another one.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(writer);
            let mut byte = [0];
            let success = matches!(File::from(reader).read(&mut byte), Ok(1));
            if success {
                return Ok(Detached::Launcher(0));
            }
            let code = match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => u8::try_from(code).unwrap_or(EX_OSERR),
                _ => EX_OSERR,
            };
            Ok(Detached::Launcher(code))
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            chdir("/")?;
            let report = File::from(writer);
            Ok(Detached::Daemon(Pending { report }))
        }
    }
}

impl Pending {
    /// The daemon serves: lets go of the terminal and tells the launcher.
    pub(super) fn succeed(mut self) -> io::Result<()> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        self.report.write_all(&[1])
    }
}
