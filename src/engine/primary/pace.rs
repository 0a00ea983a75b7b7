//! How many bytes of a synchronisation may go now: a bucket that fills at the rate in force.

use crate::engine::adaptive::Adaptive;
use crate::engine::event::Time;
use crate::terms::SyncRate;

/// Pause after which the rate limit is asked again, in milliseconds.
const RATE_TICK_MS: u64 = 10;

/// The rate limit allows this many milliseconds' worth of bytes at once.
const BURST_MS: u64 = 100;

/// The bucket, and what finds out its rate where none is given.
#[derive(Debug)]
pub(super) struct Pace {
    allowance: u64,
    at: Time,
    adaptive: Adaptive,
}

impl Pace {
    pub(super) fn new(now: Time) -> Pace {
        Pace {
            allowance: 0,
            at: now,
            adaptive: Adaptive::new(now),
        }
    }

    /// Bytes per second that may go now; `None`: any number.
    pub(super) fn rate(&self, rate: SyncRate) -> Option<u64> {
        match rate {
            SyncRate::Unlimited => None,
            SyncRate::Limit(bytes) => Some(bytes.get()),
            SyncRate::Adaptive => Some(self.adaptive.rate()),
        }
    }

    /// From now on bytes are wanted.
    pub(super) fn begin(&mut self, now: Time) {
        self.at = now;
    }

    /// A request of the application took so many milliseconds.
    pub(super) fn answered(&mut self, latency_ms: u64) {
        self.adaptive.answered(latency_ms);
    }

    /// Lets time pass; `copies`: bytes are being moved.
    pub(super) fn pass(&mut self, now: Time, copies: bool) {
        self.adaptive.pass(now, copies);
    }

    /// When bytes may go again, if none may now.
    pub(super) fn due(&self, rate: SyncRate) -> Time {
        // A slow rate takes its time to allow a single byte.
        let rate = self.rate(rate).unwrap_or(1000).max(1);
        self.at.plus(1000u64.div_ceil(rate).max(RATE_TICK_MS))
    }

    /// Whether `bytes` may go now.
    pub(super) fn allow(&mut self, rate: SyncRate, bytes: u32, now: Time) -> bool {
        let Some(rate) = self.rate(rate) else {
            return true;
        };
        let earned = rate.saturating_mul(now.since(self.at)) / 1000;
        if earned > 0 {
            let most = (rate.saturating_mul(BURST_MS) / 1000).max(u64::from(bytes));
            self.allowance = self.allowance.saturating_add(earned).min(most);
            self.at = now;
        }
        let allowed = self.allowance >= u64::from(bytes);
        if allowed {
            self.allowance -= u64::from(bytes);
        }
        allowed
    }
}
