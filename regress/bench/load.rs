//! A client of our own, for what fio cannot do: to write for as long as something else takes, and
//! to places that are spread over a device.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use hast_regress::scenario::nbd::{Client, Command};

use crate::statistics::percentile;

/// Bytes of each of its writes.
pub(crate) const WRITE_BYTES: u32 = 4096;

/// What a load saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Times of the writes in microseconds, sorted.
    times_us: Vec<f64>,
    /// How long it ran, in seconds.
    seconds: f64,
}

impl Seen {
    /// Writes per second.
    #[allow(clippy::cast_precision_loss, reason = "a number of writes")]
    pub(crate) fn iops(&self) -> f64 {
        self.times_us.len() as f64 / self.seconds.max(f64::EPSILON)
    }

    /// Time within which that share of the writes was done.
    pub(crate) fn share_us(&self, share: f64) -> Result<f64, String> {
        percentile(&self.times_us, share).ok_or_else(|| "not a single write was done".to_owned())
    }
}

/// Writes 4 KiB at a time, `depth` at once, to where `place` says, until `done`.
pub(crate) fn write(
    device: &Path,
    depth: usize,
    mut place: impl FnMut() -> u64,
    mut done: impl FnMut() -> bool,
) -> Result<Seen, String> {
    let mut client = Client::connect(device).map_err(|error| told(&error))?;
    let data = vec![0x5a; WRITE_BYTES as usize];
    let mut started = HashMap::new();
    let mut times_us = Vec::new();
    let since = Instant::now();
    let mut ending = false;
    loop {
        ending = ending || done();
        while !ending && started.len() < depth {
            let cookie = client
                .send(Command::Write, false, place(), WRITE_BYTES, &data)
                .map_err(|error| told(&error))?;
            started.insert(cookie, Instant::now());
        }
        if started.is_empty() {
            break;
        }
        let (cookie, result) = client.reply().map_err(|error| told(&error))?;
        result.map_err(|error| format!("a write failed: error {error}"))?;
        let began = started.remove(&cookie).ok_or("a reply to nothing")?;
        times_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times_us.sort_by(f64::total_cmp);
    Ok(Seen {
        times_us,
        seconds: since.elapsed().as_secs_f64(),
    })
}

fn told(error: &io::Error) -> String {
    format!("device: {error}")
}
