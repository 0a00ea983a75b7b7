//! How fast a synchronisation may go beside the applications, found out by watching them.
//!
//! Pure: it is told how long requests of the application took, and the time. Each interval it
//! compares their mean with what they take when nothing is copied. If they take much longer, the
//! rate falls by a third; if not, it rises a little; with no requests at all it doubles. So the
//! application gives the disks and the network away when it does not want them, and has them back
//! within about a second.
//!
//! **What requests take when nothing is copied** is known while no synchronisation runs. While one
//! runs it is measured: every ten seconds the copying is held down for two intervals, and the
//! second of them counts. Without that the rate would creep up: each rise makes requests a little
//! slower, and that would become what they usually take.
//!
//! Times are in whole milliseconds, requests may be faster than that. As the moments at which they
//! come have nothing to do with the milliseconds, the mean of many is right all the same.

use super::event::Time;

/// Length of an interval, in milliseconds.
const INTERVAL_MS: u64 = 200;

/// Requests that make a mean; with fewer an interval is joined to the next.
const SAMPLES_MIN: u64 = 20;

/// Intervals that are joined at most.
const JOINED_MAX: u64 = 5;

/// The rate below which it does not fall, in bytes per second: a synchronisation has to end.
pub const FLOOR: u64 = 1 << 20;

/// The rate above which it does not rise, in bytes per second: more than any disk has.
pub const CEILING: u64 = 1 << 35;

/// The rate at which a synchronisation begins, in bytes per second.
const START: u64 = 16 << 20;

/// The least by which it rises, in bytes per second.
const STEP: u64 = 1 << 20;

/// Time between two measurements of what requests take without copying, in milliseconds.
const PROBE_EVERY_MS: u64 = 10_000;

/// Requests may take half as long again and so many microseconds more.
const TOLERANCE_US: u64 = 300;

/// Requests of the applications in an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    count: u64,
    sum_ms: u64,
    intervals: u64,
}

impl Heard {
    fn mean_us(self) -> u64 {
        self.sum_ms.saturating_mul(1000) / self.count.max(1)
    }
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// None is under way.
    No,
    /// What was copied before is still on its way.
    Settling,
    /// This interval counts.
    Measuring,
}

/// The controller.
#[derive(Debug)]
pub struct Adaptive {
    rate: u64,
    heard: Heard,
    /// End of the interval.
    until: Time,
    /// Mean of requests without copying, in microseconds.
    calm_us: Option<u64>,
    probe: Probe,
    probe_at: Time,
}

impl Adaptive {
    /// One that knows nothing yet.
    pub fn new(now: Time) -> Adaptive {
        Adaptive {
            rate: START,
            heard: Heard::default(),
            until: now.plus(INTERVAL_MS),
            calm_us: None,
            probe: Probe::No,
            probe_at: now,
        }
    }

    /// Bytes per second that may be copied now, [`FLOOR`] to [`CEILING`].
    pub fn rate(&self) -> u64 {
        match self.probe {
            Probe::No => self.rate,
            Probe::Settling | Probe::Measuring => FLOOR,
        }
    }

    /// A request of the application was answered, after so many milliseconds.
    pub fn answered(&mut self, latency_ms: u64) {
        self.heard.count += 1;
        self.heard.sum_ms = self.heard.sum_ms.saturating_add(latency_ms);
    }

    /// Lets time pass; `copies`: a synchronisation is moving data.
    pub fn pass(&mut self, now: Time, copies: bool) {
        if now < self.until {
            return;
        }
        self.until = now.plus(INTERVAL_MS);
        self.heard.intervals += 1;
        let heard = self.heard;
        if heard.count == 0 {
            self.quiet(copies);
        } else if heard.count >= SAMPLES_MIN || heard.intervals >= JOINED_MAX {
            self.heard = Heard::default();
            self.judge(heard.mean_us(), now, copies);
        }
    }

    /// Nobody asked for anything.
    fn quiet(&mut self, copies: bool) {
        self.heard = Heard::default();
        self.probe = Probe::No;
        if copies {
            self.rate = self.rate.saturating_mul(2).min(CEILING);
        } else {
            self.rate = START;
        }
    }

    fn judge(&mut self, mean_us: u64, now: Time, copies: bool) {
        if !copies {
            self.calm_us = Some(match self.calm_us {
                Some(calm) => (calm.saturating_mul(3).saturating_add(mean_us)) / 4,
                None => mean_us,
            });
            self.rate = START;
            self.probe = Probe::No;
            self.probe_at = now.plus(PROBE_EVERY_MS);
            return;
        }
        match (self.probe, self.calm_us) {
            (Probe::Settling, _) => self.probe = Probe::Measuring,
            (Probe::Measuring, _) => {
                self.calm_us = Some(mean_us);
                self.probe = Probe::No;
                self.probe_at = now.plus(PROBE_EVERY_MS);
            }
            (Probe::No, None) => self.probe = Probe::Settling,
            (Probe::No, Some(_)) if now >= self.probe_at => self.probe = Probe::Settling,
            (Probe::No, Some(calm)) => {
                let tolerated = calm.saturating_add(calm / 2).saturating_add(TOLERANCE_US);
                self.rate = if mean_us > tolerated {
                    (self.rate - self.rate / 3).max(FLOOR)
                } else {
                    self.rate
                        .saturating_add((self.rate / 16).max(STEP))
                        .min(CEILING)
                };
            }
        }
    }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
