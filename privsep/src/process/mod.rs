//! Starting a child: fork and exec of the program's own binary.
//!
//! The child begins with a fresh address space, the environment and the descriptors that were named
//! and nothing else, default signal dispositions, no signal blocked, and a process group of its
//! own. Its `argv[0]` is a title such as `hastd: test (primary)`, which ps(1) shows and
//! `pgrep -f` matches; what the child is to do is best said in its environment or over its channel,
//! so that the title stays the whole command line.
//!
//! Descriptors: 0, 1 and 2 are what was given or /dev/null, [`IPC_DESCRIPTOR`] is the channel, and
//! further ones follow in the order in which they were added.

mod exec;
mod inherited;

use std::ffi::{CString, NulError, OsStr};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub use inherited::{InheritedError, take_descriptor, take_ipc};

use crate::supervise::Ending;

/// Number of the channel's descriptor in every child.
pub const IPC_DESCRIPTOR: RawFd = 3;

/// Number of the first further descriptor ([`Spawn::pass`]).
pub const FIRST_PASSED_DESCRIPTOR: RawFd = IPC_DESCRIPTOR + 1;

/// The program's own binary, opened once at start, so that children are the same program even if
/// the file was replaced meanwhile.
#[derive(Debug)]
pub struct Program {
    file: File,
}

impl Program {
    /// The binary of this process.
    pub fn current() -> io::Result<Program> {
        #[cfg(target_os = "linux")]
        return Program::open(Path::new("/proc/self/exe"));
        #[cfg(not(target_os = "linux"))]
        Program::open(&std::env::current_exe()?)
    }

    /// Some other binary.
    pub fn open(path: &Path) -> io::Result<Program> {
        #[cfg(target_os = "linux")]
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // O_EXEC replaces the access mode; std insists on one, which O_RDONLY (0) satisfies.
        #[cfg(not(target_os = "linux"))]
        let flags = libc::O_EXEC | libc::O_CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        Ok(Program { file })
    }
}

/// Where a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnStep {
    /// In the parent, before there was a child.
    Prepare,
    /// fork(2).
    Fork,
    /// Signal mask and dispositions.
    Signals,
    /// The process group.
    ProcessGroup,
    /// The signal at the parent's death.
    ParentDeath,
    /// Moving descriptors to their numbers.
    Descriptors,
    /// Closing all others.
    CloseOthers,
    /// Executing the binary.
    Exec,
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnStep::Prepare => "preparation",
            SpawnStep::Fork => "fork",
            SpawnStep::Signals => "resetting signals",
            SpawnStep::ProcessGroup => "making a process group",
            SpawnStep::ParentDeath => "arming the signal at the parent's death",
            SpawnStep::Descriptors => "moving descriptors",
            SpawnStep::CloseOthers => "closing other descriptors",
            SpawnStep::Exec => "exec",
        })
    }
}

/// A child that could not be started; nothing of it is left.
#[derive(Debug)]
pub struct SpawnError {
    /// Title of the child.
    pub title: String,
    /// The step that failed.
    pub step: SpawnStep,
    /// The system's reason.
    pub source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unable to start \"{}\": {}: {}",
            self.title, self.step, self.source
        )
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A child to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    program: &'a Program,
    title: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    stdio: [Option<BorrowedFd<'a>>; 3],
    passed: Vec<BorrowedFd<'a>>,
    parent_death: Option<Signal>,
    invalid: Option<NulError>,
}

impl<'a> Spawn<'a> {
    /// A child with that title, no arguments, no environment, and /dev/null as 0, 1 and 2.
    pub fn new(program: &'a Program, title: &str) -> Self {
        Spawn {
            program,
            title: title.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdio: [None; 3],
            passed: Vec::new(),
            parent_death: None,
            invalid: None,
        }
    }

    /// Adds an argument. It shows in the command line, behind the title.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        match CString::new(argument.as_ref().as_bytes()) {
            Ok(argument) => self.arguments.push(argument),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut text = Vec::from(name);
        text.push(b'=');
        text.extend(value.as_ref().as_bytes());
        match CString::new(text) {
            Ok(text) => self.environment.push(text),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// The child's standard input.
    #[must_use]
    pub fn stdin(mut self, descriptor: BorrowedFd<'a>) -> Self {
        self.stdio[0] = Some(descriptor);
        self
    }

    /// The child's standard output.
    #[must_use]
    pub fn stdout(mut self, descriptor: BorrowedFd<'a>) -> Self {
        self.stdio[1] = Some(descriptor);
        self
    }

    /// The child's standard error.
    #[must_use]
    pub fn stderr(mut self, descriptor: BorrowedFd<'a>) -> Self {
        self.stdio[2] = Some(descriptor);
        self
    }

    /// Adds a descriptor: the first becomes [`FIRST_PASSED_DESCRIPTOR`], the next the one after.
    #[must_use]
    pub fn pass(mut self, descriptor: BorrowedFd<'a>) -> Self {
        self.passed.push(descriptor);
        self
    }

    /// The signal that the child gets when the thread (Linux) or the process (FreeBSD) that starts
    /// it ends, in addition to the end of its channel. Linux forgets it when the child changes its
    /// user: call [`arm_parent_death`] again after that.
    #[must_use]
    pub fn at_parent_death(mut self, signal: Signal) -> Self {
        self.parent_death = Some(signal);
        self
    }

    /// Starts the child with `ipc` as its channel. Waits until the binary runs or could not.
    pub fn start(self, ipc: &OwnedFd) -> Result<Child, SpawnError> {
        let title = self.title.clone();
        self.try_start(ipc).map_err(|(step, source)| SpawnError {
            title,
            step,
            source,
        })
    }

    fn try_start(self, ipc: &OwnedFd) -> Result<Child, (SpawnStep, io::Error)> {
        let prepare = |error: io::Error| (SpawnStep::Prepare, error);
        if let Some(error) = self.invalid {
            return Err(prepare(error.into()));
        }
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(prepare)?;

        let mut wanted: Vec<BorrowedFd<'_>> = Vec::new();
        wanted.extend(self.stdio.iter().map(|given| given.unwrap_or(null.as_fd())));
        wanted.push(ipc.as_fd());
        wanted.extend(&self.passed);

        // The child puts them at 0, 1, ..., then the program and the pipe of the error behind them.
        // Copies at numbers beyond all of those cannot be overwritten on the way.
        let beyond = RawFd::try_from(wanted.len() + 2)
            .map_err(|_| prepare(io::Error::other("too many descriptors")))?;
        let mut copies = Vec::with_capacity(wanted.len());
        for descriptor in wanted {
            copies.push(copy_beyond(descriptor, beyond).map_err(prepare)?);
        }
        let program = copy_beyond(self.program.file.as_fd(), beyond).map_err(prepare)?;
        let (report, pipe_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map_err(|error| prepare(error.into()))?;
        let failure = copy_beyond(pipe_end.as_fd(), beyond).map_err(prepare)?;
        // The pipe ends when the child's copy is closed: no other may stay open here.
        drop(pipe_end);

        let title = CString::new(self.title).map_err(|error| prepare(error.into()))?;
        let mut arguments = vec![title];
        arguments.extend(self.arguments);

        let pid = exec::start(&exec::Plan {
            program: program.as_raw_fd(),
            failure: failure.as_raw_fd(),
            descriptors: copies.iter().map(AsRawFd::as_raw_fd).collect(),
            arguments,
            environment: self.environment,
            parent_death: self.parent_death,
        })?;
        drop(failure);
        if let Some(error) = exec::read_failure(report) {
            // It has ended or is about to: the report was its last act.
            let _ = nix::sys::wait::waitpid(pid, None);
            return Err(error);
        }
        Ok(Child { pid, ending: None })
    }
}

/// A copy of the descriptor with a number of at least `beyond`, closed on exec.
fn copy_beyond(descriptor: BorrowedFd<'_>, beyond: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(beyond))?;
    Ok(inherited::adopt_copy(number))
}

/// A started child. Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    ending: Option<Ending>,
}

impl Child {
    /// The process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; nothing if the child has been reaped, so that the number cannot mean
    /// another process by then.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.ending {
            Some(_) => Ok(()),
            None => Ok(nix::sys::signal::kill(self.pid, signal)?),
        }
    }

    /// How the child ended, if it has; does not wait.
    pub fn try_wait(&mut self) -> io::Result<Option<Ending>> {
        if self.ending.is_none() {
            self.ending = crate::supervise::reap(self.pid)?;
        }
        Ok(self.ending)
    }
}

/// Arms the signal at the parent's death again (see [`Spawn::at_parent_death`]); an error if the
/// parent is gone already.
pub fn arm_parent_death(signal: Signal, parent: Pid) -> io::Result<()> {
    if !exec::ask_for_signal(signal) {
        return Err(io::Error::last_os_error());
    }
    if nix::unistd::getppid() != parent {
        return Err(io::Error::other("the parent process has ended"));
    }
    Ok(())
}

/// Sets the short name of this process as `ps -c` and `top` show it: at most 15 bytes, cut there.
/// A name is a convenience, hence no error. Without effect outside Linux, where the title does.
pub fn set_short_name(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let _ = name;
}
