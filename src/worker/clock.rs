//! The engine's time: milliseconds of a clock that never goes back.

use std::time::{Duration, Instant};

use crate::engine::event::Time;

/// A clock that began when it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(self) -> Time {
        Time(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Microseconds since it was made.
    pub(super) fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long it is until the earliest of these moments; `None` if there are none.
    pub(super) fn until(
        now: Time,
        due: impl IntoIterator<Item = Option<Time>>,
    ) -> Option<Duration> {
        let earliest = due.into_iter().flatten().min()?;
        Some(Duration::from_millis(earliest.since(now)))
    }
}
