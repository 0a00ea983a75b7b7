//! Waiting with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Nothing that a scenario waits for takes longer on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks again and again until there is something, and returns it.
///
/// # Panics
/// If there is nothing in time, with `what` was waited for.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: not within {} s",
            patience.as_secs()
        );
        std::thread::sleep(INTERVAL);
    }
}

/// Looks until `wanted` holds for what is seen, and returns that.
///
/// # Panics
/// If it does not in time, with what was seen last.
pub fn until_seen<T: Debug>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> T,
    mut wanted: impl FnMut(&T) -> bool,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: not within {} s; seen last: {seen:#?}",
            patience.as_secs()
        );
        std::thread::sleep(INTERVAL);
    }
}
