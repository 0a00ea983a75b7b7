use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::report::{Counters, Problem, Synchronisation, Worker};

fn document() -> Document {
    let primary = Resource {
        name: "a\"\\\nb".to_owned(),
        role: Some("primary".to_owned()),
        status: Some("complete".to_owned()),
        since_seconds: Some(77),
        disk: Some("good".to_owned()),
        dirty_bytes: Some(1 << 20),
        synchronisation: Some(Synchronisation {
            direction: "to-peer".to_owned(),
            total_bytes: 4096,
            left_bytes: 1024,
            eta_seconds: Some(3),
            ..Synchronisation::default()
        }),
        worker: Some(Worker {
            answers: true,
            ..Worker::default()
        }),
        statistics: Some(Counters {
            reads: 10,
            write_errors: 2,
            ..Counters::default()
        }),
        latencies: vec![Latency {
            operation: "write".to_owned(),
            stage: "total".to_owned(),
            count: 6,
            bytes: 24_576,
            sum_us: 100_001_234,
            buckets: vec![(16, 1), (64, 2), (1 << 24, 1), (1 << OCTAVES, 2)],
            ..Latency::default()
        }],
        ..Resource::default()
    };
    let secondary = Resource {
        name: "b".to_owned(),
        role: Some("secondary".to_owned()),
        problem: Some(Problem {
            kind: "split-brain".to_owned(),
            ..Problem::default()
        }),
        ..Resource::default()
    };
    Document {
        version: 1,
        daemon: None,
        resources: vec![primary, secondary, Resource::failed("gone", 1, None)],
    }
}

#[test]
fn text_is_as_it_was_read_last() {
    insta::assert_snapshot!(render(&document(), Dialect::OpenMetrics));
}

/// A strict reader of both dialects: the name of each sample with its labels, and its value.
fn parse(text: &str, dialect: Dialect) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let body = match dialect {
        Dialect::OpenMetrics => text.strip_suffix("# EOF\n").expect("the end"),
        Dialect::Prometheus => text,
    };
    for line in body.lines() {
        assert!(!line.is_empty() && line.trim() == line, "{line:?}");
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').unwrap();
            assert!(seen.insert(name.to_owned()), "{name} twice");
            (family, kind) = (name.to_owned(), word.to_owned());
            continue;
        }
        if let Some(rest) = line.strip_prefix("# UNIT ") {
            assert_eq!(dialect, Dialect::OpenMetrics);
            let (name, unit) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(help.ends_with('.'), "{line}");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let name = key.split('{').next().unwrap();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(plain), "{name}");
        let base = family.strip_suffix("_total").unwrap_or(&family);
        let suffixes: &[&str] = match kind.as_str() {
            "gauge" => &[""],
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("type {other}"),
        };
        let fits = suffixes
            .iter()
            .any(|suffix| name == format!("{base}{suffix}"));
        assert!(fits, "{name} in the family {family}");
        assert_eq!(
            kind == "counter" && dialect == Dialect::Prometheus,
            family.ends_with("_total")
        );
        if let Some(labels) = key.strip_prefix(name).filter(|rest| !rest.is_empty()) {
            check_labels(labels);
        }
        let before = samples.insert(key.to_owned(), value.parse().unwrap());
        assert!(before.is_none(), "{key} twice");
    }
    samples
}

fn check_labels(text: &str) {
    let mut rest = text.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        let mut escape = false;
        let end = value.find(|character| {
            let ends = character == '"' && !escape;
            escape = character == '\\' && !escape;
            ends
        });
        rest = &value[end.unwrap() + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break assert_eq!(rest, "", "{text}"),
        }
    }
}

#[test]
fn both_dialects_say_the_same_and_follow_their_rules() {
    let samples = parse(
        &render(&document(), Dialect::OpenMetrics),
        Dialect::OpenMetrics,
    );
    let older = parse(
        &render(&document(), Dialect::Prometheus),
        Dialect::Prometheus,
    );
    assert_eq!(samples, older);
    let bucket = |edge: &str| {
        let key = format!(
            "hast_operation_duration_seconds_bucket{{resource=\"a\\\"\\\\\\nb\",operation=\"write\",\
             stage=\"total\",le=\"{edge}\"}}"
        );
        samples[&key]
    };
    let edges = [
        "0.000016",
        "0.000032",
        "0.000064",
        "8.388608",
        "16.777216",
        "+Inf",
    ];
    assert_eq!(edges.map(bucket), [1.0, 1.0, 3.0, 3.0, 4.0, 6.0]);
    assert_eq!(samples["hast_risk{resource=\"b\",risk=\"high\"}"], 1.0);
    assert!(!samples.keys().any(|key| key.contains("gone")));
}

#[test]
fn a_daemon_without_resources_has_metrics_too() {
    let empty = Document {
        version: 1,
        daemon: None,
        resources: Vec::new(),
    };
    let samples = parse(&render(&empty, Dialect::OpenMetrics), Dialect::OpenMetrics);
    assert_eq!(samples["hast_resources"], 0.0);
}

#[test]
fn times_are_written_exactly() {
    let texts = [0, 16, 1_000_000, 1_500_000, u64::MAX].map(seconds);
    assert_eq!(
        texts,
        ["0.0", "0.000016", "1.0", "1.5", "18446744073709.551615"]
    );
}
