//! What was measured, and what it amounts to.

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Requests per second.
    Iops,
    /// Data per second.
    Throughput,
    /// Mean time of a request.
    Mean,
    /// Median time of a request.
    P50,
    /// Time within which 99 of 100 requests are done.
    P99,
    /// As `P50`, before what is measured began.
    IdleP50,
    /// As `P99`, before what is measured began.
    IdleP99,
    /// Processor time of all of a contestant's processes per amount of data.
    Cpu,
    /// Memory of all of a contestant's processes.
    Memory,
    /// Memory of the primary's worker.
    PrimaryMemory,
    /// Memory of the secondary's worker.
    SecondaryMemory,
    /// From the command to the first block read, after the other node died.
    Promotion,
    /// The same, after the other node gave its role up in an orderly way.
    Handover,
}

impl Metric {
    /// Its name in CSV, unit included.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Metric::Iops => "iops",
            Metric::Throughput => "mib_per_s",
            Metric::Mean => "mean_us",
            Metric::P50 => "p50_us",
            Metric::P99 => "p99_us",
            Metric::IdleP50 => "idle_p50_us",
            Metric::IdleP99 => "idle_p99_us",
            Metric::Cpu => "cpu_s_per_gib",
            Metric::Memory => "memory_mib",
            Metric::PrimaryMemory => "primary_memory_mib",
            Metric::SecondaryMemory => "secondary_memory_mib",
            Metric::Promotion => "promotion_ms",
            Metric::Handover => "handover_ms",
        }
    }

    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::Iops => "IOPS",
            Metric::Throughput => "MiB/s",
            Metric::Mean => "mean, us",
            Metric::P50 => "median, us",
            Metric::P99 => "p99, us",
            Metric::IdleP50 => "median idle, us",
            Metric::IdleP99 => "p99 idle, us",
            Metric::Cpu => "CPU s/GiB",
            Metric::Memory => "memory, MiB",
            Metric::PrimaryMemory => "memory of the primary, MiB",
            Metric::SecondaryMemory => "memory of the secondary, MiB",
            Metric::Promotion => "after a crash, ms",
            Metric::Handover => "orderly, ms",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Name of the task.
    pub(crate) task: String,
    /// Name of the contestant.
    pub(crate) contestant: String,
    /// From 1.
    pub(crate) round: u32,
    /// What the value says.
    pub(crate) metric: Metric,
    /// In the metric's unit.
    pub(crate) value: f64,
}

/// Several measurements of the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of some values; `None` if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        };
        Some(Spread {
            median,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// The value below which a share of the sorted values lies, the nearest that was measured.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list, from a share between 0 and 1"
    )]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at.min(last)).copied()
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    /// What the rounds say of a metric.
    pub(crate) fn spread(&self, task: &str, contestant: &str, metric: Metric) -> Option<Spread> {
        let values = self.0.iter().filter(|sample| {
            sample.metric == metric && sample.task == task && sample.contestant == contestant
        });
        Spread::of(values.map(|sample| sample.value).collect())
    }

    /// The ratio of two contestants' medians.
    pub(crate) fn ratio(
        &self,
        task: &str,
        contestant: &str,
        baseline: &str,
        metric: Metric,
    ) -> Option<f64> {
        let ours = self.spread(task, contestant, metric)?.median;
        let theirs = self.spread(task, baseline, metric)?.median;
        (theirs > 0.0).then(|| ours / theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![3.0, 1.0, 9.0]).expect("three values");
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 9.0));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 9.0]).expect("four values");
        assert!((even.median - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.99), Some(99.0));
        assert_eq!(percentile(&sorted, 1.0), Some(100.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn ratios_are_of_medians_of_the_same_task() {
        let sample = |task: &str, contestant: &str, value| Sample {
            task: task.into(),
            contestant: contestant.into(),
            round: 1,
            metric: Metric::Iops,
            value,
        };
        let samples = Samples(vec![
            sample("t", "bare", 100.0),
            sample("t", "ours", 150.0),
            sample("t", "ours", 250.0),
            sample("u", "ours", 1.0),
        ]);
        assert_eq!(samples.ratio("t", "ours", "bare", Metric::Iops), Some(2.0));
        assert_eq!(samples.ratio("u", "ours", "bare", Metric::Iops), None);
    }
}
