//! Synchronisations: how fast, and what an application feels of one.

use std::time::{Duration, Instant};

use hast_regress::scenario::Side;
use hast_regress::scenario::nbd::{Client, Command};
use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::status::Status;

use crate::contestant::ours::{Ours, Pair};
use crate::ground::Disks;
use crate::load::{self, WRITE_BYTES};
use crate::statistics::Metric;
use crate::work::{Numbers, float, mib};

/// How often the state is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// A synchronisation takes no longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Writes of a partial synchronisation in flight.
const DEPTH: usize = 8;

/// All of the resource.
pub(crate) fn full(ours: &Ours, disks: &[Disks; 1], bytes: u64) -> Result<Numbers, String> {
    let pair = without_secondary(ours, disks);
    pair.cluster.must(Side::Beta, &["role", "secondary", "all"]);
    watch(&pair, bytes)
}

/// What was written while the secondary was away.
pub(crate) fn partial(ours: &Ours, disks: &[Disks; 1], bytes: u64) -> Result<Numbers, String> {
    let mut pair = ours.connected(disks);
    pair.cluster.stop_node(Side::Beta);
    wait(&pair, |status| !status.is_complete())?;
    write_all(&pair, bytes).map_err(|error| format!("device: {error}"))?;
    pair.cluster.start_node(Side::Beta);
    pair.cluster.must(Side::Beta, &["role", "secondary", "all"]);
    watch(&pair, bytes)
}

/// The latency of an application's writes, first without and then during a full synchronisation.
pub(crate) fn with_writes(
    ours: &Ours,
    disks: &[Disks; 1],
    bytes: u64,
    runtime: Duration,
) -> Result<Numbers, String> {
    let pair = ours.connected(disks);
    let devices = pair.devices();
    let device = devices.first().ok_or("there is no device")?;
    let mut rng = Rng::new(bytes);
    let blocks = (bytes / u64::from(WRITE_BYTES)).min(25_600);
    let mut place = || rng.below(blocks) * u64::from(WRITE_BYTES);
    let since = Instant::now();
    let idle = load::write(device, 1, &mut place, || since.elapsed() >= runtime)?;
    make_anew(&pair);
    pair.cluster.must(Side::Beta, &["role", "secondary", "all"]);
    wait(&pair, |status| {
        status.is_complete() && status.synchronisation.is_some()
    })?;
    let mut looked = Instant::now();
    let busy = load::write(device, 1, place, || {
        // Each look costs the worker a little.
        if looked.elapsed() < 10 * INTERVAL {
            return false;
        }
        looked = Instant::now();
        pair.status(pair.cluster.resource())
            .is_none_or(|status| status.is_synced())
    })?;
    Ok(vec![
        (Metric::P50, busy.share_us(0.5)?),
        (Metric::P99, busy.share_us(0.99)?),
        (Metric::IdleP50, idle.share_us(0.5)?),
        (Metric::IdleP99, idle.share_us(0.99)?),
    ])
}

/// A primary whose secondary has a local component that was made anew, and no role.
fn without_secondary(ours: &Ours, disks: &[Disks; 1]) -> Pair {
    let pair = ours.connected(disks);
    make_anew(&pair);
    pair
}

fn make_anew(pair: &Pair) {
    pair.cluster.must(Side::Beta, &["role", "init", "all"]);
    pair.cluster.create(Side::Beta);
}

/// Waits until a synchronisation is over, and says how fast it was. What passes until the nodes
/// have found each other is not counted.
fn watch(pair: &Pair, bytes: u64) -> Result<Numbers, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut since = Instant::now();
    let mut total = bytes;
    loop {
        let seen = Instant::now();
        let status = pair.status(pair.cluster.resource()).unwrap_or_default();
        if status.is_synced() {
            let rate = float(total) / since.elapsed().as_secs_f64();
            return Ok(vec![(Metric::Throughput, mib(rate))]);
        }
        match &status.synchronisation {
            Some(sync) if status.is_complete() => total = sync.total_bytes.max(1),
            _ => since = seen,
        }
        if seen > deadline {
            return Err(format!("the synchronisation does not end: {status:?}"));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn wait(pair: &Pair, wanted: impl Fn(&Status) -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !pair
        .status(pair.cluster.resource())
        .is_some_and(|status| wanted(&status))
    {
        if Instant::now() > deadline {
            return Err("the nodes are not as they should be after a minute".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Writes the first bytes of the device, a MiB at a time.
fn write_all(pair: &Pair, bytes: u64) -> std::io::Result<()> {
    let devices = pair.devices();
    let device = devices
        .first()
        .ok_or_else(|| std::io::Error::other("there is none"))?;
    let mut client = Client::connect(device)?;
    let mut rng = Rng::new(bytes);
    let block: Vec<u8> = (0..(1 << 20) / 8)
        .flat_map(|_| rng.number().to_le_bytes())
        .collect();
    let mut under_way = 0;
    for at in 0..bytes >> 20 {
        client.send(Command::Write, false, at << 20, 1 << 20, &block)?;
        under_way += 1;
        if under_way == DEPTH {
            succeeded(client.reply()?.1)?;
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        succeeded(client.reply()?.1)?;
    }
    client.flush()
}

fn succeeded(result: Result<(), u32>) -> std::io::Result<()> {
    result.map_err(|error| std::io::Error::other(format!("a write failed: error {error}")))
}
