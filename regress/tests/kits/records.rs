//! A load on a file system that moves between nodes: records that are appended to files and made
//! durable one by one, wherever it is mounted.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hast_regress::scenario::wait;

/// Before another look where the file system is.
const PAUSE: Duration = Duration::from_millis(20);

/// Records in a file before the next one is begun.
const FILE_RECORDS: u64 = 100;

/// The records.
#[derive(Default)]
pub(crate) struct Records {
    acknowledged: Mutex<Vec<u64>>,
    ended: AtomicBool,
}

impl Records {
    /// Writes until [`Records::stop`]; `place` says where the file system is mounted. A record that
    /// failed may be there or not, and is not written again.
    pub(crate) fn write(&self, place: impl Fn() -> Option<PathBuf>) {
        let mut number = 0;
        while !self.ended.load(Ordering::SeqCst) {
            let Some(directory) = place() else {
                thread::sleep(PAUSE);
                continue;
            };
            number += 1;
            if append(&directory, number).is_ok() {
                self.all(|all| all.push(number));
            } else {
                thread::sleep(PAUSE);
            }
        }
    }

    fn all<T>(&self, look: impl FnOnce(&mut Vec<u64>) -> T) -> T {
        look(
            &mut self
                .acknowledged
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// How many were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.all(|all| all.len())
    }

    /// Waits until further records are acknowledged; the time until the first one.
    pub(crate) fn wait_for_more(&self) -> Duration {
        let (since, before) = (Instant::now(), self.count());
        let wait_for = |more| {
            wait::until("records to be acknowledged", 2 * wait::PATIENCE, || {
                (self.count() >= before + more).then_some(())
            });
        };
        wait_for(1);
        let first = since.elapsed();
        wait_for(20);
        first
    }

    /// Ends [`Records::write`].
    pub(crate) fn stop(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Looks for every record that was acknowledged.
    pub(crate) fn verify(&self, directory: &Path) {
        let mut found = HashSet::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                found.extend(text.lines().filter_map(|line| line.parse::<u64>().ok()));
            }
        }
        let lost: Vec<u64> = self.all(|all| {
            let lost = all.iter().filter(|number| !found.contains(number));
            lost.copied().collect()
        });
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged records are lost: {lost:?}",
            lost.len(),
            self.count()
        );
    }
}

/// Appends a record and returns when it is durable, with its name.
fn append(directory: &Path, number: u64) -> io::Result<()> {
    let path = directory.join(format!("records.{}", number / FILE_RECORDS));
    let is_new = !path.exists();
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    // A line feed before it, too: what is left of a record that failed must not garble this one.
    file.write_all(format!("\n{number}\n").as_bytes())?;
    file.sync_all()?;
    if is_new {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
