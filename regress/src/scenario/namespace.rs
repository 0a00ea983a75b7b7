//! Network namespaces that last as long as somebody holds them: nothing has to be removed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

#[cfg(target_os = "linux")]
use nix::sched::{CloneFlags, setns, unshare};

/// This thread, into a new namespace.
#[cfg(target_os = "linux")]
fn leave() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

/// This thread, into that namespace.
#[cfg(target_os = "linux")]
fn enter(file: &File) -> io::Result<()> {
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// There are none, so that links are on loopback addresses.
#[cfg(not(target_os = "linux"))]
fn leave() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn enter(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, with nothing but a loopback interface.
    ///
    /// # Errors
    /// The system refuses; only root may.
    pub fn new() -> io::Result<Namespace> {
        let made = thread::spawn(|| {
            leave()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made
            .join()
            .map_err(|_| io::Error::other("the thread panicked"))??;
        let namespace = Namespace { file };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Where other processes of the same user can open it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Does something inside, on a thread of its own. Processes started there stay inside.
    ///
    /// # Errors
    /// The thread cannot go there.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter(&self.file)?;
                Ok(act())
            });
            done.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs ip(8) inside, with words separated by spaces.
    ///
    /// # Errors
    /// It does not run, or fails.
    pub fn ip(&self, words: &str) -> io::Result<()> {
        self.run("ip", words)
    }

    /// Runs a program inside.
    ///
    /// # Errors
    /// It does not run, or fails: its standard error.
    pub fn run(&self, program: &str, words: &str) -> io::Result<()> {
        let output = self.inside(|| {
            Command::new(program)
                .args(words.split_whitespace())
                .output()
        })??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{program} {words}: {said}")))
    }
}
