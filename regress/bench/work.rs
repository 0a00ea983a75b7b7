//! What is done to a contestant, and the numbers that come of it.

use std::process::Command;
use std::time::{Duration, Instant};

use hast_regress::scenario::Side;
use hast_regress::scenario::rng::Rng;

use crate::child::output;
use crate::contestant::Contestant;
use crate::contestant::ours::{Ours, Pair};
use crate::fio::{self, Workload};
use crate::ground::{Disks, Ground};
use crate::statistics::Metric;
use crate::{load, sync, usage};

/// Extents that the scaling load writes to, fewer than stay dirty: it is the size that is to make
/// a difference, not the bitmap's updates.
const SCALE_EXTENTS: u64 = 48;

/// Bytes of an extent.
const EXTENT_BYTES: u64 = 2 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// A workload of fio.
    Fio(Workload),
    /// A full synchronisation of so many bytes, nothing else going on.
    FullSync(u64),
    /// The secondary was away while so many bytes were written.
    PartialSync(u64),
    /// Application writes, depth 1, during a full synchronisation of so many bytes.
    WritesDuringSync(u64),
    /// How long until the other node serves.
    Promote,
    /// Writes that are spread over a resource of the contestant's size.
    Scale,
}

/// Numbers of one measurement.
pub(crate) type Numbers = Vec<(Metric, f64)>;

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes per second as MiB per second.
pub(crate) fn mib(bytes: f64) -> f64 {
    bytes / MIB
}

#[allow(
    clippy::cast_precision_loss,
    reason = "sizes of memory and files, for people"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

impl Work {
    /// Measures a contestant once. What a workload measures takes `runtime`.
    pub(crate) fn measure(
        &self,
        ground: &Ground,
        contestant: &Contestant,
        runtime: Duration,
    ) -> Result<Numbers, String> {
        match (*self, contestant) {
            (Work::Fio(workload), _) => measure_fio(ground, contestant, &workload, runtime),
            (Work::FullSync(bytes) | Work::PartialSync(bytes), Contestant::Dd) => {
                copy(&one(ground, bytes)?, bytes)
            }
            (Work::FullSync(bytes), Contestant::Ours(ours)) => {
                sync::full(ours, &one(ground, bytes)?, bytes)
            }
            (Work::PartialSync(bytes), Contestant::Ours(ours)) => {
                sync::partial(ours, &one(ground, bytes)?, bytes)
            }
            (Work::WritesDuringSync(bytes), Contestant::Ours(ours)) => {
                sync::with_writes(ours, &one(ground, bytes)?, bytes, runtime / 2)
            }
            (Work::Promote, Contestant::Ours(ours)) => promote(ours, &one(ground, 32 << 20)?),
            (Work::Scale, Contestant::Ours(ours)) => scale(ground, ours, runtime),
            (_, contestant) => Err(format!("{} cannot do that", contestant.name())),
        }
    }

    /// How long that takes about, without what the contestant needs to start.
    pub(crate) fn estimate(&self, runtime: Duration) -> Duration {
        // A slow disk writes that much.
        let moved = |bytes: u64| Duration::from_millis(bytes >> 18);
        match *self {
            Work::Fio(workload) => {
                runtime
                    + fio::warm_up(runtime)
                    + Duration::from_millis(200 + 100 * workload.resources as u64)
            }
            Work::FullSync(bytes) | Work::PartialSync(bytes) => moved(bytes),
            Work::WritesDuringSync(bytes) => runtime / 2 + moved(bytes),
            Work::Promote => Duration::from_secs(2),
            Work::Scale => runtime + Duration::from_secs(1),
        }
    }
}

fn one(ground: &Ground, bytes: u64) -> Result<[Disks; 1], String> {
    let disks = ground.disks(1, bytes)?;
    <[Disks; 1]>::try_from(disks).map_err(|_| "one pair of disks was asked for".to_owned())
}

fn measure_fio(
    ground: &Ground,
    contestant: &Contestant,
    workload: &Workload,
    runtime: Duration,
) -> Result<Numbers, String> {
    let disks = ground.disks(workload.resources, workload.bytes)?;
    let serving = contestant.serve(ground, &disks)?;
    let pids = serving.pids();
    let before = usage::of(&pids);
    let seen = fio::run(workload, &serving.uris(), runtime)?;
    let after = usage::of(&pids);
    // The warm-up was work as well.
    let seconds = seen.seconds + fio::warm_up(runtime).as_secs_f64();
    let gib = mib(seen.bytes_per_s) * seconds / 1024.0;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    Ok(vec![
        (Metric::Iops, seen.iops),
        (Metric::Throughput, mib(seen.bytes_per_s)),
        (Metric::Mean, seen.mean_us),
        (Metric::P50, seen.p50_us),
        (Metric::P99, seen.p99_us),
        (Metric::Cpu, cpu / gib.max(f64::EPSILON)),
        (Metric::Memory, mib(float(after.memory_bytes))),
    ])
}

/// dd(1) from one disk to the other, on stable storage at the end.
fn copy(disks: &[Disks; 1], bytes: u64) -> Result<Numbers, String> {
    let [[from, to]] = disks;
    let since = Instant::now();
    output(
        Command::new("dd")
            .arg(format!("if={}", from.display()))
            .arg(format!("of={}", to.display()))
            .args(["bs=1M", "conv=notrunc,fsync", "status=none"])
            .arg(format!("count={}", bytes >> 20)),
        Duration::from_secs(600),
    )?;
    let rate = float(bytes) / since.elapsed().as_secs_f64();
    Ok(vec![(Metric::Throughput, mib(rate))])
}

/// From the command until the first block is read.
fn promote(ours: &Ours, disks: &[Disks; 1]) -> Result<Numbers, String> {
    let mut crashed = ours.connected(disks);
    crashed.cluster.kill_node(Side::Alpha);
    let after_crash = become_primary(&crashed)?;
    drop(crashed);
    let orderly = ours.connected(disks);
    orderly
        .cluster
        .must(Side::Alpha, &["role", "secondary", "all"]);
    let after_handover = become_primary(&orderly)?;
    Ok(vec![
        (Metric::Promotion, after_crash.as_secs_f64() * 1e3),
        (Metric::Handover, after_handover.as_secs_f64() * 1e3),
    ])
}

fn become_primary(pair: &Pair) -> Result<Duration, String> {
    let since = Instant::now();
    pair.cluster.must(Side::Beta, &["role", "primary", "all"]);
    let name = pair.cluster.resource();
    loop {
        let status = pair.cluster.node(Side::Beta).try_status(name);
        let read = status.as_ref().and_then(|status| {
            let mut client =
                hast_regress::scenario::nbd::Client::connect(status.device()?.as_ref()).ok()?;
            client.read(0, &mut [0; 4096]).ok()
        });
        if read.is_some() {
            return Ok(since.elapsed());
        }
        if since.elapsed() > Duration::from_secs(60) {
            return Err("the new primary does not serve".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes to a few extents all over a sparse resource, at depth 1 and then at depth 32.
fn scale(ground: &Ground, ours: &Ours, runtime: Duration) -> Result<Numbers, String> {
    let bytes = ours.sparse_bytes.ok_or("it has no size")?;
    let disks = ground.sparse(bytes)?;
    let pair = ours.connected(std::slice::from_ref(&disks));
    let devices = pair.devices();
    let device = devices.first().ok_or("there is no device")?;
    let mut client = hast_regress::scenario::nbd::Client::connect(device)
        .map_err(|error| format!("device: {error}"))?;
    let extents = client.size() / EXTENT_BYTES;
    let start = |which: u64| extents / SCALE_EXTENTS * which * EXTENT_BYTES;
    // The file system finds room now and not while it is measured.
    let piece = vec![0xa5; 1 << 20];
    for which in 0..SCALE_EXTENTS {
        for half in 0..2 {
            client
                .write(start(which) + (half << 20), &piece)
                .map_err(|error| format!("device: {error}"))?;
        }
    }
    client.flush().map_err(|error| format!("device: {error}"))?;
    let mut rng = Rng::new(bytes);
    let mut measured = |depth| {
        let since = Instant::now();
        let pages = EXTENT_BYTES / u64::from(load::WRITE_BYTES);
        load::write(
            device,
            depth,
            || start(rng.below(SCALE_EXTENTS)) + rng.below(pages) * u64::from(load::WRITE_BYTES),
            || since.elapsed() >= runtime / 2,
        )
    };
    let alone = measured(1)?;
    let many = measured(32)?;
    let worker = |side| {
        let status = pair.cluster.status_of(side, pair.cluster.resource());
        mib(float(usage::of(&[status.worker_pid()]).memory_bytes))
    };
    Ok(vec![
        (Metric::P50, alone.share_us(0.5)?),
        (Metric::P99, alone.share_us(0.99)?),
        (Metric::Iops, many.iops()),
        (Metric::PrimaryMemory, worker(Side::Alpha)),
        (Metric::SecondaryMemory, worker(Side::Beta)),
    ])
}
