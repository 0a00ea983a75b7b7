//! The pidfile: says which process is the daemon, and keeps a second one from starting.
//!
//! The lock on it, not its existence, says that a daemon runs: it goes with the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Bytes of a pidfile that are looked at.
const READ_BYTES_MAX: u64 = 32;

/// The daemon's pidfile, locked. Removed by [`Pidfile::remove`].
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    file: Flock<File>,
}

/// Why there is none.
#[derive(Debug)]
pub enum PidfileError {
    /// Another daemon holds it; its number, if the file says it.
    Running(Option<i32>),
    /// The file cannot be opened or locked.
    Io(io::Error),
}

impl Pidfile {
    /// Opens, creates and locks the file; its content stays as it is.
    pub fn open(path: &Path) -> Result<Pidfile, PidfileError> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
                .open(path)
                .map_err(PidfileError::Io)?;
            let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => locked,
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Err(PidfileError::Running(read_pid(file)));
                }
                Err((_, error)) => return Err(PidfileError::Io(error.into())),
            };
            let pidfile = Pidfile {
                path: path.to_owned(),
                file: locked,
            };
            // A daemon that ended between open and lock has removed it: this lock is worth nothing.
            if pidfile.is_in_place() {
                return Ok(pidfile);
            }
        }
    }

    /// Writes this process's number.
    pub fn write(&mut self) -> io::Result<()> {
        let text = std::process::id().to_string();
        self.file.set_len(0)?;
        io::Seek::rewind(&mut *self.file)?;
        self.file.write_all(text.as_bytes())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if it is still this one.
    pub fn remove(self) -> io::Result<()> {
        if self.is_in_place() {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        let (Ok(ours), Ok(theirs)) = (self.file.metadata(), self.path.symlink_metadata()) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
    }
}

fn read_pid(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(READ_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_daemon_is_refused_and_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut first = Pidfile::open(&path).unwrap();
        first.write().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(
            matches!(Pidfile::open(&path), Err(PidfileError::Running(Some(pid))) if pid == own)
        );
        first.remove().unwrap();
        assert!(!path.exists());
        Pidfile::open(&path).unwrap();
    }

    #[test]
    fn file_of_somebody_else_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let first = Pidfile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1").unwrap();
        first.remove().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn garbage_in_the_file_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        let _first = Pidfile::open(&path).unwrap();
        assert!(matches!(
            Pidfile::open(&path),
            Err(PidfileError::Running(None))
        ));
    }
}
