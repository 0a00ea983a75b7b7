//! What outlives the daemon: which resources an administrator has disconnected.
//!
//! One small file for each such resource, in `DIRECTORY/disconnected`, so that a person sees at a
//! glance what is kept, and that no order can damage another. It lies in a directory that survives
//! a restart of the machine: a disconnected copy may be somebody's last good one, and a daemon that
//! forgot about it after a power failure would let it be overwritten.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What the file says to whoever looks at it.
const NOTE: &str = "Disconnected by order of an administrator; `hastctl connect` ends that.\n";

/// The directory.
#[derive(Clone, Debug)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// The memory below that directory, which need not exist.
    pub fn new(state: &Path) -> Memory {
        Memory {
            directory: state.join("disconnected"),
        }
    }

    /// Names of resources may have slashes.
    fn path(&self, resource: &str) -> PathBuf {
        let name = resource.replace('%', "%25").replace('/', "%2F");
        self.directory.join(name)
    }

    /// Whether the resource is disconnected by order.
    ///
    /// # Errors
    /// That cannot be found out.
    pub fn is_disconnected(&self, resource: &str) -> io::Result<bool> {
        match fs::symlink_metadata(self.path(resource)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Remembers whether it is, durably.
    ///
    /// # Errors
    /// That is not possible; what was remembered before may still be.
    pub fn set_disconnected(&self, resource: &str, disconnected: bool) -> io::Result<()> {
        let path = self.path(resource);
        if disconnected {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.directory)?;
            let mut file = File::create(&path)?;
            file.write_all(NOTE.as_bytes())?;
            file.sync_all()?;
        } else {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => removed?,
            }
        }
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ordered_is_known_to_the_next_daemon_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not/yet/there");
        let memory = Memory::new(&state);
        assert!(!memory.is_disconnected("a/b").unwrap());
        memory.set_disconnected("a/b", false).unwrap();
        assert!(!state.exists(), "nothing is made for nothing");
        memory.set_disconnected("a/b", true).unwrap();
        memory.set_disconnected("a/b", true).unwrap();
        let next = Memory::new(&state);
        assert!(next.is_disconnected("a/b").unwrap());
        for other in ["a", "a%2Fb", "b", "a/b/c"] {
            assert!(!next.is_disconnected(other).unwrap(), "{other}");
        }
        next.set_disconnected("a/b", false).unwrap();
        assert!(!memory.is_disconnected("a/b").unwrap());
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let memory = Memory::new(&file);
        assert!(memory.set_disconnected("a", true).is_err());
        assert!(memory.is_disconnected("a").is_err());
    }
}
