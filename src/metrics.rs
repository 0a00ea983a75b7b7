//! The state of all resources as metrics for Prometheus: what `hastctl metrics` prints.
//!
//! Names and units follow the conventions of Prometheus: base units, `_total` for counters. The same
//! families are written in two dialects: OpenMetrics, and the older text format, which is what
//! node_exporter reads from files.

use std::fmt::Write;

use crate::explain::{Risk, explain};
use crate::latency::OCTAVES;
use crate::report::{Document, Latency, Resource};

/// The text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Gauge,
    Counter,
    Histogram,
}

/// Edges of the buckets of a histogram: the powers of two of microseconds from 2^4 (16 us) to 2^24
/// (17 s).
const EDGES: std::ops::RangeInclusive<u32> = 4..=24;

/// All metrics of a document.
pub fn render(document: &Document, dialect: Dialect) -> String {
    let mut out = Writer {
        text: String::new(),
        dialect,
    };
    out.family(
        "hast_build_info",
        Type::Gauge,
        "",
        "Version of the program.",
    );
    out.sample(
        "hast_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    let known: Vec<&Resource> = document
        .resources
        .iter()
        .filter(|resource| resource.error.is_none())
        .collect();
    out.family(
        "hast_resources",
        Type::Gauge,
        "",
        "Resources that are configured.",
    );
    out.sample("hast_resources", &[], known.len() as u64);
    states(&mut out, &known);
    synchronisation(&mut out, &known);
    workers(&mut out, &known);
    latencies(&mut out, &known);
    if dialect == Dialect::OpenMetrics {
        out.text.push_str("# EOF\n");
    }
    out.text
}

/// A family of gauges with one sample for each state, of which one is 1.
fn state_set<'a>(
    out: &mut Writer,
    resources: &[&'a Resource],
    (name, label, help): (&str, &str, &str),
    states: &[&str],
    of: impl Fn(&'a Resource) -> Option<String>,
) {
    out.family(name, Type::Gauge, "", help);
    for resource in resources {
        let Some(now) = of(resource) else { continue };
        for state in states {
            let labels = [("resource", resource.name.as_str()), (label, state)];
            out.sample(name, &labels, u64::from(*state == now));
        }
    }
}

/// A family with at most one sample for each resource.
fn gauge<'a>(
    out: &mut Writer,
    resources: &[&'a Resource],
    (name, unit, help): (&str, &str, &str),
    of: impl Fn(&'a Resource) -> Option<u64>,
) {
    out.family(name, Type::Gauge, unit, help);
    for resource in resources {
        if let Some(value) = of(resource) {
            out.sample(name, &[("resource", &resource.name)], value);
        }
    }
}

fn states(out: &mut Writer, resources: &[&Resource]) {
    state_set(
        out,
        resources,
        ("hast_role", "role", "Role of this node for the resource."),
        &["init", "primary", "secondary"],
        |resource| resource.role.clone(),
    );
    gauge(
        out,
        resources,
        (
            "hast_connected",
            "",
            "Whether the nodes are connected; absent without a worker process.",
        ),
        |resource| {
            resource
                .status
                .as_ref()
                .map(|status| u64::from(status == "complete"))
        },
    );
    gauge(
        out,
        resources,
        (
            "hast_status_age_seconds",
            "seconds",
            "For how long hast_connected has been what it is.",
        ),
        |resource| resource.since_seconds,
    );
    state_set(
        out,
        resources,
        ("hast_disk_state", "state", "State of the local copy."),
        &["good", "stale", "detached", "failed"],
        |resource| resource.disk.clone(),
    );
    state_set(
        out,
        resources,
        (
            "hast_risk",
            "risk",
            "How safe the data are, as of hastctl explain.",
        ),
        &[
            Risk::None.as_str(),
            Risk::Reduced.as_str(),
            Risk::High.as_str(),
            Risk::Unknown.as_str(),
        ],
        |resource| Some(explain(resource).risk.as_str().to_owned()),
    );
    out.family(
        "hast_disconnected_cause",
        Type::Gauge,
        "",
        "1 with the cause, while the nodes are not connected.",
    );
    for resource in resources {
        let connected = resource.status.as_deref() == Some("complete");
        if let Some(cause) = resource.cause.as_ref().filter(|_| !connected) {
            let labels = [("resource", resource.name.as_str()), ("cause", cause)];
            out.sample("hast_disconnected_cause", &labels, 1);
        }
    }
    out.family(
        "hast_problem",
        Type::Gauge,
        "",
        "1 with the kind of what was wrong last, until it is set right.",
    );
    for resource in resources {
        if let Some(problem) = &resource.problem {
            let labels = [
                ("resource", resource.name.as_str()),
                ("kind", problem.kind.as_str()),
            ];
            out.sample("hast_problem", &labels, 1);
        }
    }
    gauge(
        out,
        resources,
        ("hast_dirty_bytes", "bytes", "Bytes in dirty extents."),
        |resource| resource.dirty_bytes,
    );
}

fn synchronisation(out: &mut Writer, resources: &[&Resource]) {
    let sync = |resource: &Resource| resource.synchronisation.clone();
    state_set(
        out,
        resources,
        (
            "hast_sync_direction",
            "direction",
            "Direction of the synchronisation under way, if any.",
        ),
        &["none", "to-peer", "from-peer"],
        |resource| {
            let role = resource.role.as_deref() == Some("primary");
            let direction = sync(resource).map_or("none".to_owned(), |sync| sync.direction);
            role.then_some(direction)
        },
    );
    gauge(
        out,
        resources,
        ("hast_sync_paused", "", "Whether the synchronisation rests."),
        |resource| Some(u64::from(sync(resource)?.paused)),
    );
    gauge(
        out,
        resources,
        (
            "hast_sync_size_bytes",
            "bytes",
            "Bytes that the synchronisation had to copy when it began.",
        ),
        |resource| Some(sync(resource)?.total_bytes),
    );
    gauge(
        out,
        resources,
        (
            "hast_sync_left_bytes",
            "bytes",
            "Bytes that it has still to copy.",
        ),
        |resource| Some(sync(resource)?.left_bytes),
    );
    gauge(
        out,
        resources,
        (
            "hast_sync_remaining_seconds",
            "seconds",
            "How long that takes at the rate of the last seconds.",
        ),
        |resource| sync(resource)?.eta_seconds,
    );
}

fn workers(out: &mut Writer, resources: &[&Resource]) {
    gauge(
        out,
        resources,
        ("hast_worker_running", "", "Whether a worker process runs."),
        |resource| Some(u64::from(resource.worker.is_some())),
    );
    gauge(
        out,
        resources,
        (
            "hast_worker_answers",
            "",
            "Whether it answers; if not, all else is what it said before.",
        ),
        |resource| Some(u64::from(resource.worker.as_ref()?.answers)),
    );
    let name = "hast_requests";
    out.family(
        name,
        Type::Counter,
        "",
        "Requests of applications (primary) or of the peer (secondary), by operation.",
    );
    for resource in resources {
        let Some(counted) = resource.statistics else {
            continue;
        };
        for (operation, count) in [
            ("read", counted.reads),
            ("write", counted.writes),
            ("delete", counted.deletes),
            ("flush", counted.flushes),
        ] {
            out.counter(name, &operation_labels(resource, operation), count);
        }
    }
    let name = "hast_disk_errors";
    out.family(
        name,
        Type::Counter,
        "",
        "Operations that failed on the local disk.",
    );
    for resource in resources {
        let Some(counted) = resource.statistics else {
            continue;
        };
        for (operation, count) in [
            ("read", counted.read_errors),
            ("write", counted.write_errors),
            ("delete", counted.delete_errors),
            ("flush", counted.flush_errors),
        ] {
            out.counter(name, &operation_labels(resource, operation), count);
        }
    }
    let name = "hast_bitmap_updates";
    out.family(
        name,
        Type::Counter,
        "",
        "Writes to the bitmap of dirty extents on disk.",
    );
    for resource in resources {
        if let Some(counted) = resource.statistics {
            let labels = [("resource", resource.name.as_str())];
            out.counter(name, &labels, counted.activemap_updates);
        }
    }
    let name = "hast_queue_requests";
    out.family(
        name,
        Type::Gauge,
        "",
        "Requests on the local disk, awaiting a reply of the peer, and places that are free.",
    );
    for resource in resources {
        let Some(counted) = resource.statistics else {
            continue;
        };
        for (queue, length) in [
            ("local", counted.queue_local),
            ("peer", counted.queue_recv),
            ("free", counted.queue_idle),
        ] {
            let labels = [("resource", resource.name.as_str()), ("queue", queue)];
            out.sample(name, &labels, length);
        }
    }
    gauge(
        out,
        resources,
        (
            "hast_send_queue_bytes",
            "bytes",
            "Bytes that wait to be sent to the peer.",
        ),
        |resource| Some(resource.statistics?.queue_send),
    );
}

fn operation_labels<'a>(resource: &'a Resource, operation: &'a str) -> [(&'a str, &'a str); 2] {
    [("resource", &resource.name), ("operation", operation)]
}

fn latency_labels<'a>(resource: &'a Resource, latency: &'a Latency) -> [(&'a str, &'a str); 3] {
    [
        ("resource", &resource.name),
        ("operation", &latency.operation),
        ("stage", &latency.stage),
    ]
}

fn latencies(out: &mut Writer, resources: &[&Resource]) {
    let name = "hast_operation_duration_seconds";
    out.family(
        name,
        Type::Histogram,
        "seconds",
        "Time that operations take: on the local disk, at the peer, and in total for applications.",
    );
    for resource in resources {
        for latency in &resource.latencies {
            out.histogram(name, &latency_labels(resource, latency), latency);
        }
    }
    let name = "hast_operation_bytes";
    out.family(
        name,
        Type::Counter,
        "bytes",
        "Bytes that these operations moved.",
    );
    for resource in resources {
        for latency in &resource.latencies {
            out.counter(name, &latency_labels(resource, latency), latency.bytes);
        }
    }
}

struct Writer {
    text: String,
    dialect: Dialect,
}

impl Writer {
    /// The lines before the samples of a family; a counter's name is without `_total`.
    fn family(&mut self, name: &str, kind: Type, unit: &str, help: &str) {
        let word = match kind {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
            Type::Histogram => "histogram",
        };
        let total = match (self.dialect, kind) {
            (Dialect::Prometheus, Type::Counter) => "_total",
            _ => "",
        };
        self.line(format_args!("# TYPE {name}{total} {word}"));
        if self.dialect == Dialect::OpenMetrics && !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name}{total} {help}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = labels_text(labels, None);
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = labels_text(labels, None);
        self.line(format_args!("{name}_total{labels} {value}"));
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], latency: &Latency) {
        for exponent in EDGES {
            let edge_us = 1_u64 << exponent;
            let below: u64 = latency
                .buckets
                .iter()
                .filter(|&&(end, _)| end <= edge_us && end < 1 << OCTAVES)
                .map(|&(_, count)| count)
                .sum();
            let edge = labels_text(labels, Some(&seconds(edge_us)));
            self.line(format_args!("{name}_bucket{edge} {below}"));
        }
        let all = labels_text(labels, Some("+Inf"));
        self.line(format_args!("{name}_bucket{all} {}", latency.count));
        let labels = labels_text(labels, None);
        self.line(format_args!(
            "{name}_sum{labels} {}",
            seconds(latency.sum_us)
        ));
        self.line(format_args!("{name}_count{labels} {}", latency.count));
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') {
        format!("{short}0")
    } else {
        short.to_owned()
    }
}

fn labels_text(labels: &[(&str, &str)], edge: Option<&str>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    pairs.extend(edge.map(|edge| format!("le=\"{edge}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
