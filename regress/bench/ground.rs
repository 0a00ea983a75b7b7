//! The files that are measured over: the same for every contestant.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hast_regress::interrupt;
use hast_regress::scenario::rng::Rng;

/// Room on each disk beyond what is worked on: metadata and bitmap of a local component.
pub(crate) const MARGIN_BYTES: u64 = 4 << 20;

/// The two disks of a resource: the primary's and the secondary's.
pub(crate) type Disks = [PathBuf; 2];

/// Name of the directory that is made, and removed with all that is in it.
const NAME: &str = "hast-bench";

/// A directory with disks in it, removed when dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: PathBuf,
    keep: bool,
}

impl Ground {
    /// Makes the directory, inside of `within`.
    pub(crate) fn new(within: &Path, keep: bool) -> Result<Ground, String> {
        let dir = within.join(NAME);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let dir = fs::canonicalize(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if !keep {
            interrupt::remove(&dir);
        }
        Ok(Ground { dir, keep })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log of a server.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("servers.log")
    }

    /// Disks for so many resources, each with room for `bytes` of data, written from end to end so
    /// that no contestant has to find blocks for them.
    pub(crate) fn disks(&self, resources: usize, bytes: u64) -> Result<Vec<Disks>, String> {
        let each = |resource: usize| {
            let disks = ["a", "b"].map(|side| self.dir.join(format!("{resource}{side}.disk")));
            for disk in &disks {
                fill(disk, bytes + MARGIN_BYTES)
                    .map_err(|error| format!("{}: {error}", disk.display()))?;
            }
            Ok(disks)
        };
        (0..resources).map(each).collect()
    }

    /// Two sparse disks of so many bytes.
    pub(crate) fn sparse(&self, bytes: u64) -> Result<Disks, String> {
        let disks = ["a", "b"].map(|side| self.dir.join(format!("sparse-{side}.disk")));
        for disk in &disks {
            // Holes again, also where an earlier one was written to.
            File::create(disk)
                .and_then(|file| file.set_len(bytes))
                .map_err(|error| format!("{}: {error}", disk.display()))?;
        }
        Ok(disks)
    }

    /// Whether the file system takes a file of so many bytes.
    pub(crate) fn takes(&self, bytes: u64) -> bool {
        let path = self.dir.join("probe");
        let taken = File::create(&path).and_then(|file| file.set_len(bytes));
        // If it could not be made, there is nothing to remove.
        let _ = fs::remove_file(&path);
        taken.is_ok()
    }

    /// Waits until everything is on the disk: what one contestant left in the page cache is not
    /// written at the cost of the next.
    pub(crate) fn settle(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            if let Ok(file) = File::open(entry.path()) {
                // At worst the next one is disturbed.
                let _ = file.sync_all();
            }
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// Makes a file at least so long, with contents that do not compress.
fn fill(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let mut length = file.metadata()?.len();
    if length >= bytes {
        return Ok(());
    }
    let mut rng = Rng::new(length ^ bytes);
    let block: Vec<u8> = (0..(1 << 20) / 8)
        .flat_map(|_| rng.number().to_le_bytes())
        .collect();
    while length < bytes {
        let left = usize::try_from(bytes - length).unwrap_or(usize::MAX);
        let piece = &block[..block.len().min(left)];
        file.write_all(piece)?;
        length += piece.len() as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_grow_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let ground = Ground::new(dir.path(), false).expect("it is made");
        for bytes in [1 << 20, 3 << 20, 1 << 20] {
            let disks = ground.disks(2, bytes).expect("there is room");
            for path in disks.iter().flatten() {
                let length = fs::metadata(path).expect("it is there").len();
                assert!(length >= bytes + MARGIN_BYTES);
            }
        }
        ground.settle();
        assert!(ground.takes(1 << 30) && !ground.takes(u64::MAX));
        drop(ground);
        let left = fs::read_dir(dir.path()).expect("what it is in stays");
        assert_eq!(left.count(), 0);
    }
}
