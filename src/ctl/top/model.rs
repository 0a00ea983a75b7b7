//! What is shown: rates from two states, order, selection.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Instant;

use crate::report::Resource;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Column {
    #[default]
    Name,
    Role,
    State,
    Reads,
    Writes,
    Dirty,
    Queue,
}

impl Column {
    const ALL: [Column; 7] = [
        Column::Name,
        Column::Role,
        Column::State,
        Column::Reads,
        Column::Writes,
        Column::Dirty,
        Column::Queue,
    ];

    /// The word of the first line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Column::Name => "name",
            Column::Role => "role",
            Column::State => "state",
            Column::Reads => "reads",
            Column::Writes => "writes",
            Column::Dirty => "dirty",
            Column::Queue => "queue",
        }
    }
}

/// Totals of an operation since a worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    count: u64,
    bytes: u64,
    us: u64,
}

/// An operation, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// Operations.
    pub(super) count: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// The mean time that one took, in microseconds; none if there were none.
    pub(super) mean_us: Option<u64>,
}

/// A resource, and how it has changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) resource: Resource,
    pub(super) reads: Rate,
    pub(super) writes: Rate,
}

impl Row {
    /// Requests that are under way.
    pub(super) fn queue(&self) -> u64 {
        let counted = self.resource.statistics.unwrap_or_default();
        counted.queue_local.saturating_add(counted.queue_recv)
    }

    /// The state in a word of at most eight letters.
    pub(super) fn state(&self) -> &'static str {
        let resource = &self.resource;
        let has = |cause: &str| resource.cause.as_deref() == Some(cause);
        if resource.error.is_some() {
            return "error";
        }
        match (&resource.worker, resource.status.as_deref()) {
            (Some(worker), _) if !worker.answers => "mute",
            (None, _) if resource.role.as_deref() == Some("init") => "off",
            (None, _) if resource.role.as_deref() == Some("secondary") => "waiting",
            (None, _) => "no worker",
            (_, Some("complete")) => match (&resource.synchronisation, resource.disk.as_deref()) {
                (_, Some("detached" | "failed")) => "disk!",
                (Some(sync), _) if sync.paused => "paused",
                (Some(_), _) | (None, Some("stale")) => "sync",
                _ => "ok",
            },
            _ if has("split-brain") => "split!",
            _ if has("no-peer") => "alone",
            _ => "degraded",
        }
    }
}

/// The resources as they are shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) rows: Vec<Row>,
    pub(super) selected: usize,
    pub(super) column: Column,
    pub(super) reversed: bool,
    /// What each had done when the daemon was asked last: worker, reads, writes.
    before: HashMap<String, (i32, Totals, Totals)>,
    asked: Option<Instant>,
}

fn totals(resource: &Resource, operation: &str) -> Totals {
    // A secondary has no applications: what its disk does is shown.
    let stage = match resource.role.as_deref() {
        Some("primary") => "total",
        _ => "local",
    };
    let mut all = resource.latencies.iter();
    all.find(|latency| latency.operation == operation && latency.stage == stage)
        .map_or(Totals::default(), |latency| Totals {
            count: latency.count,
            bytes: latency.bytes,
            us: latency.sum_us,
        })
}

fn rate(now: Totals, before: Totals, ms: u64) -> Rate {
    let count = now.count.saturating_sub(before.count);
    let per_second = |difference: u64| difference.saturating_mul(1000) / ms.max(1);
    Rate {
        count: per_second(count),
        bytes: per_second(now.bytes.saturating_sub(before.bytes)),
        mean_us: now.us.saturating_sub(before.us).checked_div(count),
    }
}

impl Model {
    /// The daemon has answered.
    pub(super) fn update(&mut self, resources: Vec<Resource>, now: Instant) {
        let chosen = self.rows.get(self.selected);
        let chosen = chosen.map(|row| row.resource.name.clone());
        let elapsed = self
            .asked
            .map_or(0, |asked| now.saturating_duration_since(asked).as_millis());
        let ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.asked = Some(now);
        let mut before = HashMap::with_capacity(resources.len());
        self.rows = Vec::with_capacity(resources.len());
        for resource in resources {
            let worker = resource.worker.as_ref().map_or(0, |worker| worker.pid);
            let (reads, writes) = (totals(&resource, "read"), totals(&resource, "write"));
            let mut row = Row::default();
            // The counters of another worker began anew.
            if let Some((same, old_reads, old_writes)) = self.before.get(&resource.name)
                && *same == worker
                && ms > 0
            {
                row.reads = rate(reads, *old_reads, ms);
                row.writes = rate(writes, *old_writes, ms);
            }
            before.insert(resource.name.clone(), (worker, reads, writes));
            row.resource = resource;
            self.rows.push(row);
        }
        self.before = before;
        self.sort(chosen.as_deref());
    }

    /// Sorts, with the selection on the resource of that name.
    fn sort(&mut self, chosen: Option<&str>) {
        let column = self.column;
        let order = |a: &Row, b: &Row| -> Ordering {
            match column {
                Column::Name => Ordering::Equal,
                Column::Role => a.resource.role.cmp(&b.resource.role),
                Column::State => a.state().cmp(b.state()),
                // The busiest first.
                Column::Reads => b.reads.count.cmp(&a.reads.count),
                Column::Writes => b.writes.count.cmp(&a.writes.count),
                Column::Dirty => b.resource.dirty_bytes.cmp(&a.resource.dirty_bytes),
                Column::Queue => b.queue().cmp(&a.queue()),
            }
        };
        self.rows
            .sort_by(|a, b| order(a, b).then_with(|| a.resource.name.cmp(&b.resource.name)));
        if self.reversed {
            self.rows.reverse();
        }
        let place = self
            .rows
            .iter()
            .position(|row| chosen == Some(row.resource.name.as_str()));
        let last = self.rows.len().saturating_sub(1);
        self.selected = place.unwrap_or(self.selected.min(last));
    }

    /// Moves the selection.
    pub(super) fn select(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    fn chosen(&self) -> Option<String> {
        let row = self.rows.get(self.selected);
        row.map(|row| row.resource.name.clone())
    }

    /// Sorts by the next column.
    pub(super) fn sort_next(&mut self) {
        let place = Column::ALL.iter().position(|&column| column == self.column);
        let next = place.map_or(0, |place| (place + 1) % Column::ALL.len());
        self.column = Column::ALL[next];
        let chosen = self.chosen();
        self.sort(chosen.as_deref());
    }

    /// Sorts in the other direction.
    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        let chosen = self.chosen();
        self.sort(chosen.as_deref());
    }
}
