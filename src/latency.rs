//! How long operations take: histograms of fixed size, which a worker fills without allocating.
//!
//! A [`Histogram`] is log-linear: 32 buckets per power of two of microseconds, so that any quantile
//! is known to 3 %. [`Meter`] keeps one per operation and stage, and the begin of what is under way.
//! [`Latency`] is what is told of one: quantiles, and counts per power of two.

use serde::{Deserialize, Serialize};

/// Buckets of a power of two, as a power of two.
const SUB_BITS: u32 = 5;
const SUBS: usize = 1 << SUB_BITS;

/// Powers of two of microseconds that are told apart: up to 67 s.
pub const OCTAVES: usize = 27;

/// The values below [`SUBS`] have a bucket each, then each octave has that many.
const BUCKETS: usize = SUBS * (OCTAVES - SUB_BITS as usize);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Op {
    Read,
    Write,
    Delete,
    Flush,
}

impl Op {
    /// Every operation, in the order of [`Meter`].
    pub const ALL: [Op; 4] = [Op::Read, Op::Write, Op::Delete, Op::Flush];

    /// The word of hast-json(5) and of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Delete => "delete",
            Op::Flush => "flush",
        }
    }
}

/// Where the time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// On the local disk, synchronisation included.
    Local,
    /// From a request to the peer to its last reply, synchronisation included.
    Remote,
    /// From an application's request to its completion.
    Total,
}

impl Stage {
    /// Every stage, in the order of [`Meter`].
    pub const ALL: [Stage; 3] = [Stage::Local, Stage::Remote, Stage::Total];

    /// The word of hast-json(5) and of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Local => "local",
            Stage::Remote => "remote",
            Stage::Total => "total",
        }
    }
}

/// Times of one operation at one stage, in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum_us: u64,
    max_us: u64,
    bytes: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            sum_us: 0,
            max_us: 0,
            bytes: 0,
        }
    }
}

/// The bucket of a time; the last one takes whatever is longer.
fn bucket_of(us: u64) -> usize {
    let exponent = us.max(1).ilog2();
    if exponent < SUB_BITS {
        // Below 2^SUB_BITS.
        return usize::try_from(us).unwrap_or(0);
    }
    let shift = exponent - SUB_BITS;
    let sub = usize::try_from(us >> shift).map_or(0, |top| top % SUBS);
    ((shift as usize + 1) * SUBS + sub).min(BUCKETS - 1)
}

/// The shortest time that is beyond the bucket, in microseconds.
fn end_of(bucket: usize) -> u64 {
    let (row, sub) = (bucket / SUBS, bucket % SUBS);
    // A bucket's number is small.
    let sub = sub as u64;
    match row.checked_sub(1) {
        None => sub + 1,
        Some(shift) => (SUBS as u64 + sub + 1) << shift,
    }
}

impl Histogram {
    /// One more operation.
    pub fn record(&mut self, us: u64, bytes: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(us)) {
            *count += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A time that so many thousandths of the operations do not exceed.
    fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = self.count.saturating_mul(thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return (end_of(bucket) - 1).min(self.max_us);
            }
        }
        self.max_us
    }

    /// What is told of it.
    fn latency(&self, op: Op, stage: Stage) -> Latency {
        let mut octaves = [0; OCTAVES];
        for (bucket, count) in self.counts.iter().enumerate() {
            let last = end_of(bucket) - 1;
            let octave = last.max(1).ilog2() as usize;
            if let Some(octave) = octaves.get_mut(octave) {
                *octave += count;
            }
        }
        Latency {
            op,
            stage,
            count: self.count,
            bytes: self.bytes,
            sum_us: self.sum_us,
            max_us: self.max_us,
            quantiles_us: QUANTILES.map(|thousandths| self.quantile(thousandths)),
            octaves,
        }
    }
}

/// The quantiles that are told, in thousandths.
pub const QUANTILES: [u64; 4] = [500, 900, 990, 999];

/// What is told of a histogram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Of which operation.
    pub op: Op,
    /// At which stage.
    pub stage: Stage,
    /// How many were recorded.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// All their times together.
    pub sum_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Those of [`QUANTILES`].
    pub quantiles_us: [u64; 4],
    /// How many took from 2^i to less than 2^(i+1) microseconds; the first also those of less, the
    /// last those of more.
    pub octaves: [u64; OCTAVES],
}

/// Operations under way whose begin is remembered, per stage: more than can be. One that is
/// displaced is not recorded.
const UNDER_WAY: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Begin {
    key: u64,
    op: Op,
    at_us: u64,
    bytes: u64,
}

/// The histograms of a worker. Its time is told once per round, as asking the system for it costs
/// as much as the rest.
#[derive(Debug)]
pub struct Meter {
    now_us: u64,
    begun: [Box<[Option<Begin>]>; 3],
    histograms: [[Histogram; 4]; 3],
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            now_us: 0,
            begun: std::array::from_fn(|_| vec![None; UNDER_WAY].into_boxed_slice()),
            histograms: Default::default(),
        }
    }
}

impl Meter {
    /// It is this time now, in microseconds since some moment.
    pub fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    fn slot(&mut self, stage: Stage, key: u64) -> Option<&mut Option<Begin>> {
        let index = usize::try_from(key % UNDER_WAY as u64).ok()?;
        self.begun[stage as usize].get_mut(index)
    }

    /// An operation begins; `key` names it at this stage until it ends.
    pub fn begin(&mut self, stage: Stage, key: u64, op: Op, bytes: u64) {
        let at_us = self.now_us;
        if let Some(slot) = self.slot(stage, key) {
            *slot = Some(Begin {
                key,
                op,
                at_us,
                bytes,
            });
        }
    }

    /// It has ended. Failed ones count: they have taken their time, too.
    pub fn end(&mut self, stage: Stage, key: u64) {
        let now_us = self.now_us;
        let Some(begin) = self
            .slot(stage, key)
            .and_then(|slot| slot.take_if(|begin| begin.key == key))
        else {
            return;
        };
        let histogram = &mut self.histograms[stage as usize][begin.op as usize];
        histogram.record(now_us.saturating_sub(begin.at_us), begin.bytes);
    }

    /// What is told: nothing of operations that have not occurred.
    pub fn latencies(&self) -> Vec<Latency> {
        let mut all = Vec::new();
        for (stage, histograms) in Stage::ALL.into_iter().zip(&self.histograms) {
            for (op, histogram) in Op::ALL.into_iter().zip(histograms) {
                if histogram.count > 0 {
                    all.push(histogram.latency(op, stage));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_in_a_bucket_that_is_at_most_a_32nd_wide(us in 0..1_u64 << (OCTAVES - 1)) {
            let bucket = bucket_of(us);
            let begin = bucket.checked_sub(1).map_or(0, end_of);
            let end = end_of(bucket);
            prop_assert!(begin <= us && us < end, "{begin} {us} {end}");
            prop_assert!((end - begin).saturating_mul(SUBS as u64) <= begin.max(SUBS as u64));
        }

        #[test]
        fn any_time_is_recorded(us in any::<u64>()) {
            let mut histogram = Histogram::default();
            histogram.record(us, us);
            let told = histogram.latency(Op::Read, Stage::Total);
            prop_assert_eq!(told.octaves.iter().sum::<u64>(), 1);
            prop_assert!(told.quantiles_us[0] <= us);
        }
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(end_of(bucket - 1)), bucket);
            assert_eq!(bucket_of(end_of(bucket) - 1), bucket);
        }
        assert_eq!(end_of(BUCKETS - 1), 1 << (OCTAVES - 1));
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record(us * 100, 0);
        }
        let told = histogram.latency(Op::Write, Stage::Local);
        for (told, exact) in told
            .quantiles_us
            .iter()
            .zip([50_000, 90_000, 99_000, 99_900])
        {
            let difference = told.abs_diff(exact);
            assert!(difference * 32 <= exact, "{told} for {exact}");
        }
        assert_eq!((told.count, told.max_us), (1000, 100_000));
        assert_eq!(told.sum_us, 50_050_000);
    }

    #[test]
    fn what_was_never_begun_or_is_another_does_not_end() {
        let mut meter = Meter::default();
        meter.tick(100);
        meter.begin(Stage::Total, 7, Op::Write, 4096);
        meter.tick(350);
        meter.end(Stage::Total, 8);
        meter.end(Stage::Total, 7 + UNDER_WAY as u64);
        meter.end(Stage::Local, 7);
        assert!(meter.latencies().is_empty());
        meter.end(Stage::Total, 7);
        meter.end(Stage::Total, 7);
        let told = meter.latencies();
        let summary = |latency: &Latency| (latency.count, latency.sum_us, latency.bytes);
        assert_eq!(
            told.iter().map(summary).collect::<Vec<_>>(),
            [(1, 250, 4096)]
        );
    }
}
