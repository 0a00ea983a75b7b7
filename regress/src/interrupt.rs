//! What to do when the user interrupts a program that has started others and made directories.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::scenario::process;

/// Directories to remove.
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes a directory, too, should the program be interrupted.
pub fn remove(directory: &Path) {
    let mut all = DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|path| path.exists());
    all.push(directory.to_owned());
}

/// From now on SIGINT and SIGTERM kill everything that this process has started, remove what
/// [`remove`] was told, and end it.
pub fn clean_up() {
    // A handler and not a blocked signal: programs that are started would inherit that.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    thread::spawn(move || {
        if signals.forever().next().is_none() {
            return;
        }
        if let Ok(own) = i32::try_from(std::process::id()) {
            for child in process::children(own) {
                process::kill_all(child);
            }
        }
        let all = DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in all.iter() {
            // It may be gone already.
            let _ = std::fs::remove_dir_all(directory);
        }
        eprintln!("\ninterrupted");
        std::process::exit(130);
    });
}
