//! What kind of cluster, load and misfortune a run has: all of it drawn from the seed.

use hast::engine::event::Parameters;
use hast::terms::{Replication, SyncRate};

use super::clock::{Micros, SECOND};
use super::rng::Rng;

/// Requests of the applications in a run, about, at most.
const REQUESTS_MEAN: u64 = 2000;

/// What a discarded sector holds afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteKind {
    /// Zeros.
    Zeros,
    /// The disk cannot discard.
    Unsupported,
    /// Anything.
    Undefined,
}

/// What a disk can do, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpec {
    /// Mean duration of an operation, microseconds.
    pub latency_us: u64,
    /// It has a volatile write cache.
    pub cache: bool,
    /// It knows how to flush; always so with a cache.
    pub flush: bool,
    /// What discarding does.
    pub delete: DeleteKind,
}

/// What the network between the nodes is like.
#[derive(Clone, Copy, Debug)]
pub struct NetSpec {
    /// Mean delay of a message, microseconds.
    pub latency_us: u64,
    /// Sectors per millisecond.
    pub sectors_per_ms: u64,
    /// Senders look at the buffer again when the message leaves.
    pub late_copy: bool,
}

/// The shape of the load on a primary.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests at once.
    pub clients: u32,
    /// Mean pause of a client between two requests, microseconds.
    pub think_us: u64,
    /// Longest read or write, in sectors.
    pub sectors_max: u32,
    /// Longest delete or write of zeros, in sectors.
    pub discard_max: u32,
    /// Size of the region that most requests go to, in sectors.
    pub hot_sectors: u32,
    /// Requests that go there, per mille.
    pub hot: u32,
    /// Weights of read, write, write with FUA, delete, write zeroes, flush.
    pub weights: [u32; 6],
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Bytes of a sector.
    pub sector: u32,
    /// Sectors of the data area.
    pub sectors: u32,
    /// Sectors of an extent.
    pub extent_sectors: u32,
    /// The metadata's `keepdirty`.
    pub keepdirty: u32,
    /// The engine's parameters at the start, the same on both nodes.
    pub parameters: Parameters,
    /// Both nodes know our extension for the states of the copies.
    pub copy_states: bool,
    /// And that for steering.
    pub steering: bool,
    /// Longest request that a peer takes, bytes.
    pub request_bytes: u32,
    /// Requests of the application that an engine holds.
    pub requests_max: usize,
    /// Buffers for synchronisation.
    pub sync_bufs: usize,
    /// The disks.
    pub disks: [DiskSpec; 2],
    /// The network.
    pub net: NetSpec,
    /// The load.
    pub load: Load,
    /// Weights of [`super::faults::Fault::ALL`].
    pub fault_weights: Vec<u32>,
    /// Mean time between two faults.
    pub fault_every: Micros,
    /// When the faults stop.
    pub duration: Micros,
    /// A front end hands the requests of a dead worker to the next one.
    pub takeover: bool,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(rng: &mut Rng) -> Scenario {
        let sector = if rng.chance(200) { 4096 } else { 512 };
        // Mostly a few extents, so that everything meets everything; sometimes a bitmap of
        // several sectors.
        let (extent_sectors, extents) = match rng.below(10) {
            0 => (1, rng.within(4000, 9000)),
            1..=3 => (8, rng.within(20, 150)),
            4..=7 => (16, rng.within(4, 60)),
            _ => (64, rng.within(1, 16)),
        };
        let sectors = extent_sectors * u32::try_from(extents).unwrap_or(4);
        // The last extent is often incomplete.
        let sectors = sectors
            - if rng.coin() {
                rng.below(extent_sectors)
            } else {
                0
            };
        let parameters = Parameters {
            replication: draw_replication(rng),
            timeout_ms: rng.pick(&[2_000, 5_000, 20_000]),
            metaflush: !rng.chance(50),
            sync_rate: SyncRate::Unlimited,
        };
        let disk_mean = rng.pick(&[100, 500, 3_000]);
        let disks = [draw_disk(rng, disk_mean), draw_disk(rng, disk_mean)];
        let net = NetSpec {
            latency_us: rng.pick(&[50, 300, 300, 5_000, 40_000]),
            sectors_per_ms: rng.pick(&[20, 200, 2_000]),
            late_copy: rng.coin(),
        };
        let mut scenario = Scenario {
            sector,
            sectors,
            extent_sectors,
            keepdirty: rng.pick(&[1, 2, 4, 16, 64]),
            parameters,
            copy_states: !rng.chance(300),
            steering: false,
            request_bytes: rng.pick(&[128 * 1024, 128 * 1024, 1024 * 1024]),
            requests_max: index_of(rng.within(4, 40)),
            sync_bufs: index_of(rng.within(1, 8)),
            disks,
            net,
            load: draw_load(rng, sectors),
            fault_weights: Vec::new(),
            fault_every: rng.pick(&[SECOND / 2, 2 * SECOND, 5 * SECOND, 15 * SECOND]),
            duration: rng.pick(&[10, 30, 60]) * SECOND,
            takeover: rng.coin(),
        };
        scenario.steering = scenario.copy_states && !rng.chance(250);
        // A fast load makes a short run: it meets as much in less time.
        let load = scenario.load;
        let paced = REQUESTS_MEAN * load.think_us / u64::from(load.clients);
        scenario.duration = scenario.duration.min(paced.max(2 * SECOND));
        scenario.fault_every = scenario.fault_every.min(scenario.duration / 4);
        scenario.fault_weights = super::faults::draw_weights(rng, &scenario);
        scenario
    }

    /// Bytes of the data area.
    pub fn datasize(&self) -> u64 {
        u64::from(self.sectors) * u64::from(self.sector)
    }

    /// Extents of the data area.
    pub fn extents(&self) -> u32 {
        self.sectors.div_ceil(self.extent_sectors)
    }

    /// Bytes of the bitmap on disk.
    pub fn mapsize(&self) -> u32 {
        (self.extents().div_ceil(64) * 8).next_multiple_of(self.sector)
    }
}

fn index_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A replication mode, the three alike.
pub fn draw_replication(rng: &mut Rng) -> Replication {
    rng.pick(&[
        Replication::Fullsync,
        Replication::Memsync,
        Replication::Async,
    ])
}

fn draw_disk(rng: &mut Rng, latency_us: u64) -> DiskSpec {
    let cache = rng.chance(700);
    DiskSpec {
        latency_us,
        cache,
        flush: cache || rng.chance(500),
        delete: rng.pick(&[
            DeleteKind::Zeros,
            DeleteKind::Zeros,
            DeleteKind::Unsupported,
            DeleteKind::Undefined,
        ]),
    }
}

fn draw_load(rng: &mut Rng, sectors: u32) -> Load {
    Load {
        clients: rng.pick(&[1, 2, 4, 8, 16]),
        think_us: rng.pick(&[1_000, 10_000, 50_000, 300_000]),
        sectors_max: rng.pick(&[1, 4, 16, 64]).min(sectors),
        discard_max: rng.pick(&[4, 64, 512]).min(sectors),
        hot_sectors: rng.pick(&[4, 16, 64]).min(sectors),
        hot: rng.pick(&[0, 500, 900]),
        weights: [
            rng.pick(&[10, 40, 80]),
            rng.pick(&[20, 50]),
            rng.pick(&[0, 5, 20]),
            rng.pick(&[0, 2, 10]),
            rng.pick(&[0, 2, 5]),
            rng.pick(&[0, 2, 10]),
        ],
    }
}
