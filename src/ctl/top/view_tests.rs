use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::report::{Counters, Latency, Resource, Worker};

fn latency(operation: &str, stage: &str, count: u64, bytes: u64, sum_us: u64) -> Latency {
    Latency {
        operation: operation.to_owned(),
        stage: stage.to_owned(),
        count,
        bytes,
        sum_us,
        ..Latency::default()
    }
}

fn running(name: &str, role: &str, status: &str, disk: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        role: Some(role.to_owned()),
        status: Some(status.to_owned()),
        disk: Some(disk.to_owned()),
        dirty_bytes: Some(64 << 20),
        worker: Some(Worker {
            pid: 7,
            answers: true,
            ..Worker::default()
        }),
        statistics: Some(Counters {
            queue_local: 3,
            queue_recv: 4,
            ..Counters::default()
        }),
        ..Resource::default()
    }
}

/// Some resources, after so many seconds of work.
fn resources(seconds: u64) -> Vec<Resource> {
    let mut mail = running("mail", "primary", "complete", "good");
    mail.latencies = vec![
        latency(
            "read",
            "total",
            100 * seconds,
            409_600 * seconds,
            25_000 * seconds,
        ),
        latency(
            "write",
            "total",
            2000 * seconds,
            8_192_000 * seconds,
            3_000_000 * seconds,
        ),
    ];
    let mut web = running("web-with-a-long-name", "primary", "complete", "good");
    web.synchronisation = Some(Synchronisation {
        direction: "to-peer".to_owned(),
        total_bytes: 10 << 30,
        left_bytes: 4 << 30,
        bytes_per_second: 100 << 20,
        eta_seconds: Some(41),
        ..Synchronisation::default()
    });
    let mut alone = running("alone", "primary", "degraded", "good");
    alone.cause = Some("unreachable".to_owned());
    alone.reason = Some("tcp://10.0.0.2:8457: Connection refused.".to_owned());
    let mut copy = running("copy", "secondary", "complete", "stale");
    copy.latencies = vec![latency(
        "write",
        "local",
        10 * seconds,
        40_960 * seconds,
        90 * seconds,
    )];
    let off = Resource {
        name: "off".to_owned(),
        role: Some("init".to_owned()),
        ..Resource::default()
    };
    vec![
        web,
        off,
        mail,
        copy,
        alone,
        Resource::failed("what", 1, None),
    ]
}

fn model() -> Model {
    let mut model = Model::default();
    let start = Instant::now();
    model.update(resources(1), start);
    model.update(resources(3), start + Duration::from_secs(2));
    model
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, model, "2026-11-24T23:28:14.123Z"))
        .unwrap();
    terminal.backend().to_string()
}

#[test]
fn eighty_columns_hold_everything() {
    insta::assert_snapshot!(screen(&model(), 80, 24));
}

#[test]
fn selection_stays_in_sight_and_on_its_resource() {
    let mut model = model();
    model.sort_next();
    for _ in 0..100 {
        model.select(1);
    }
    let chosen = model.rows[model.selected].resource.name.clone();
    assert!(screen(&model, 80, 14).contains(&chosen[..4]));
    model.reverse();
    assert_eq!(model.rows[model.selected].resource.name, chosen);
    model.update(resources(9), Instant::now());
    assert_eq!(model.rows[model.selected].resource.name, chosen);
    model.update(Vec::new(), Instant::now());
    model.select(-1);
    screen(&model, 80, 24);
}

#[test]
fn busiest_comes_first_and_no_size_of_terminal_is_too_small() {
    let mut model = model();
    for _ in 0..4 {
        model.sort_next();
    }
    assert_eq!(model.column, super::super::model::Column::Writes);
    assert_eq!(model.rows[0].resource.name, "mail");
    assert_eq!(model.rows[0].writes.count, 2000);
    assert_eq!(model.rows[0].writes.mean_us, Some(1500));
    for (width, height) in [(1, 1), (3, 10), (10, 3), (500, 200)] {
        screen(&model, width, height);
    }
}

#[test]
fn counters_of_another_worker_make_no_rate() {
    let mut model = Model::default();
    let start = Instant::now();
    model.update(resources(1000), start);
    let mut restarted = resources(1);
    for resource in &mut restarted {
        if let Some(worker) = &mut resource.worker {
            worker.pid = 8;
        }
    }
    model.update(restarted, start + Duration::from_secs(1));
    assert!(model.rows.iter().all(|row| row.writes == Rate::default()));
}

#[test]
fn numbers_and_times_keep_to_their_columns() {
    for number in [
        0,
        99_999,
        100_000,
        9_999_999,
        10_000_000,
        u64::from(u32::MAX),
    ] {
        assert!(short(number).len() <= 5, "{}", short(number));
    }
    for us in [
        0,
        999,
        1000,
        9999,
        10_000,
        999_999,
        1_000_000,
        9_999_000_000,
    ] {
        assert!(duration(us).len() <= 6, "{}", duration(us));
    }
}
