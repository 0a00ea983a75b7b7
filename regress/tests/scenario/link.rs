//! The link is cut, half of it is cut, it is slow, or the secondary stands still.

use std::time::{Duration, Instant};

use hast_regress::scenario::status::Status;
use hast_regress::scenario::writelog::rate;
use hast_regress::scenario::{Cluster, Load, ResourceConf, Side, Writelog, process, rounds};
use nix::sys::signal::Signal;

fn in_flight_when_the_link_is_cut(mode: &'static str) {
    let mut conf = ResourceConf::new("data").mode(mode);
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let load = Load {
        overlapping: true,
        ..Load::default()
    };
    let mut log = Writelog::start(load, &device);
    for _ in 0..rounds(2, 20) {
        log.wait_for(100);
        cluster.link.cut();
        cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
        log.wait_for(100);
        cluster.link.restore();
        cluster.wait_synced(Side::Alpha);
    }
    log.wait_for(100);
    log.stop();
    assert_eq!(log.failed(), 0, "writes that the application saw fail");
    log.verify_device(&device);
    cluster.must_be_equal();
    log.verify_copy(&cluster.copy(Side::Beta));
}

#[test]
fn writes_in_flight_at_a_cut_are_on_both_copies_in_the_end_with_fullsync() {
    in_flight_when_the_link_is_cut("fullsync");
}

#[test]
fn writes_in_flight_at_a_cut_are_on_both_copies_in_the_end_with_memsync() {
    in_flight_when_the_link_is_cut("memsync");
}

#[test]
fn writes_in_flight_at_a_cut_are_on_both_copies_in_the_end_with_async() {
    in_flight_when_the_link_is_cut("async");
}

#[test]
fn link_that_is_cut_in_one_direction_counts_as_cut() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    for from in Side::BOTH {
        log.wait_for(100);
        if !cluster.link.cut_one_way(from) {
            println!("skipped: one direction alone cannot be cut here");
            return;
        }
        cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
        log.wait_for(100);
        cluster.link.restore();
        cluster.wait_synced(Side::Alpha);
    }
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn idle_link_that_is_cut_is_noticed() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    cluster.link.cut();
    let since = Instant::now();
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    println!("noticed after {} ms", since.elapsed().as_millis());
    cluster.link.restore();
    cluster.wait_synced(Side::Alpha);
}

#[test]
fn slow_link_slows_writes_down_and_nothing_else() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 5;
    let cluster = Cluster::with(conf);
    if !cluster.link.limit(Some(16_000_000)) {
        println!("skipped: the link cannot be slowed down here");
        return;
    }
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    println!("{} writes/s", rate(&log, Duration::from_secs(3)));
    let status = cluster.status(Side::Alpha);
    assert!(status.is_complete(), "{status:#?}");
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn secondary_that_stands_still_holds_writes_up_no_longer_than_the_timeout() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(100);
    let worker = cluster.status(Side::Beta).worker_pid();
    assert!(worker > 0);
    process::signal(worker, Signal::SIGSTOP);
    // It does not hold up whoever asks for the status either.
    let since = Instant::now();
    let status = cluster.status(Side::Beta);
    assert!(since.elapsed() < Duration::from_secs(2), "{status:#?}");
    assert!(!status.worker.is_some_and(|worker| worker.answers));
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    log.wait_for(100);
    process::signal(worker, Signal::SIGCONT);
    cluster.wait_synced(Side::Alpha);
    log.stop();
    assert_eq!(log.failed(), 0);
    log.verify_device(&device);
    cluster.must_be_equal();
}
