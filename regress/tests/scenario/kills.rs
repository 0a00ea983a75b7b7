//! Processes and nodes die at any moment, under load.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{
    Cluster, Load, ResourceConf, Setup, Side, Writelog, process, rounds, wait,
};

fn begin(conf: ResourceConf) -> (Cluster, Writelog, PathBuf) {
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let load = Load {
        overlapping: true,
        ..Load::default()
    };
    let log = Writelog::start(load, &device);
    (cluster, log, device)
}

fn finish(cluster: &Cluster, mut log: Writelog, primary: Side) {
    cluster.wait_synced(primary);
    log.wait_for(50);
    log.stop();
    println!(
        "{} writes acknowledged over {} connections",
        log.acknowledged(),
        log.connections()
    );
    log.verify_device(&cluster.device(primary));
    cluster.must_be_equal();
    for side in Side::BOTH {
        log.verify_copy(&cluster.copy(side));
    }
}

/// A moment between 0 and 200 ms from now.
fn some_time(rng: &mut Rng) {
    thread::sleep(Duration::from_micros(rng.below(200_000)));
}

/// Waits until the worker of that process id was replaced.
fn wait_replaced(cluster: &Cluster, side: Side, old: i32) {
    cluster.wait_status(side, "another worker", |status| {
        let pid = status.worker_pid();
        pid > 0 && pid != old
    });
}

#[test]
fn primary_worker_that_is_killed_is_taken_over_and_nothing_is_lost() {
    let mut rng = Rng::from_environment();
    for _ in 0..rounds(1, 13) {
        let (cluster, log, _) = begin(ResourceConf::new("data"));
        // The daemon waits twice as long each time, so not too often on the same one.
        for _ in 0..4 {
            some_time(&mut rng);
            let killed = cluster.kill_worker(Side::Alpha);
            wait_replaced(&cluster, Side::Alpha, killed);
            log.wait_for(20);
        }
        assert!(log.connections() > 4);
        assert_eq!(log.failed(), 0);
        finish(&cluster, log, Side::Alpha);
    }
}

#[test]
fn secondary_worker_that_is_killed_is_replaced() {
    let (cluster, log, _) = begin(ResourceConf::new("data").mode("memsync"));
    let mut rng = Rng::from_environment();
    for _ in 0..rounds(5, 50) {
        some_time(&mut rng);
        let killed = cluster.kill_worker(Side::Beta);
        log.wait_for(20);
        if killed > 0 {
            wait_replaced(&cluster, Side::Beta, killed);
        }
    }
    assert_eq!(log.failed(), 0);
    finish(&cluster, log, Side::Alpha);
}

#[test]
fn workers_end_at_once_when_their_parent_is_killed() {
    let (mut cluster, log, _) = begin(ResourceConf::new("data"));
    let mut rng = Rng::from_environment();
    for round in 0..rounds(4, 50) {
        some_time(&mut rng);
        let (side, role) = match round % 2 {
            0 => (Side::Alpha, "primary"),
            _ => (Side::Beta, "secondary"),
        };
        let worker = cluster.status(side).worker_pid();
        cluster.node_mut(side).kill_parent();
        let since = Instant::now();
        wait::until("the end of orphans", Duration::from_secs(8), || {
            (worker == 0 || !process::runs(worker)).then_some(())
        });
        println!("orphans ended after {} ms", since.elapsed().as_millis());
        cluster.start_node(side);
        cluster.role(side, role);
        log.wait_for(20);
        cluster.wait_synced(Side::Alpha);
    }
    finish(&cluster, log, Side::Alpha);
}

#[test]
fn daemon_that_starts_right_after_its_crash_takes_its_role_again() {
    let (mut cluster, log, _) = begin(ResourceConf::new("data"));
    let mut rng = Rng::from_environment();
    for _ in 0..rounds(3, 50) {
        some_time(&mut rng);
        cluster.node_mut(Side::Alpha).kill_parent();
        // The worker of before may still have the disk.
        cluster.start_node(Side::Alpha);
        cluster.role(Side::Alpha, "primary");
        log.wait_for(20);
        cluster.wait_synced(Side::Alpha);
    }
    finish(&cluster, log, Side::Alpha);
}

#[test]
fn secondary_node_that_loses_power_catches_up() {
    let (mut cluster, log, _) = begin(ResourceConf::new("data").mode("memsync"));
    let mut rng = Rng::from_environment();
    for _ in 0..rounds(3, 50) {
        some_time(&mut rng);
        cluster.kill_node(Side::Beta);
        log.wait_for(50);
        cluster.start_node(Side::Beta);
        cluster.role(Side::Beta, "secondary");
        cluster.wait_synced(Side::Alpha);
    }
    assert_eq!(log.failed(), 0);
    finish(&cluster, log, Side::Alpha);
}

#[test]
fn primary_node_that_loses_power_comes_back_as_primary() {
    let (mut cluster, log, device) = begin(ResourceConf::new("data"));
    let mut rng = Rng::from_environment();
    for _ in 0..rounds(3, 50) {
        some_time(&mut rng);
        cluster.kill_node(Side::Alpha);
        cluster.start_node(Side::Alpha);
        cluster.role(Side::Alpha, "primary");
        log.wait_for(20);
        log.pause();
        log.verify_device(&device);
        log.resume();
        cluster.wait_synced(Side::Alpha);
    }
    finish(&cluster, log, Side::Alpha);
}

/// The primary loses its power under load, the other node is promoted, everything that was
/// acknowledged is there; then the first comes back and catches up, and so on with roles swapped.
fn kill_and_promote(mode: &'static str, cycles: u32) {
    let (mut cluster, log, _) = begin(ResourceConf::new("data").mode(mode));
    let mut rng = Rng::from_environment();
    let mut primary = Side::Alpha;
    for cycle in 0..cycles {
        log.wait_for(20);
        some_time(&mut rng);
        if rng.one_in(2) {
            cluster.power_off(primary);
        } else {
            cluster.kill_node(primary);
        }
        let dead = primary;
        primary = dead.other();
        cluster.role(primary, "primary");
        let device = cluster.device(primary);
        log.pause();
        log.verify_device(&device);
        log.go_to(&device);
        log.resume();
        log.wait_for(20);
        some_time(&mut rng);
        cluster.start_node(dead);
        cluster.role(dead, "secondary");
        cluster.wait_synced(primary);
        if cycle % 10 == 9 {
            log.pause();
            cluster.must_be_equal();
            log.resume();
            println!(
                "{mode}: {} cycles, {} writes",
                cycle + 1,
                log.acknowledged()
            );
        }
    }
    finish(&cluster, log, primary);
}

#[test]
fn kill_and_promote_loses_no_acknowledged_write_with_memsync() {
    kill_and_promote("memsync", rounds(3, 100));
}

#[test]
fn kill_and_promote_loses_no_acknowledged_write_with_fullsync() {
    kill_and_promote("fullsync", rounds(3, 100));
}

#[test]
fn both_nodes_that_lose_power_come_back_with_everything() {
    let (mut cluster, log, device) = begin(ResourceConf::new("data"));
    for _ in 0..rounds(2, 20) {
        log.wait_for(100);
        cluster.kill_node(Side::Beta);
        cluster.kill_node(Side::Alpha);
        for side in Side::BOTH {
            cluster.start_node(side);
        }
        cluster.role(Side::Beta, "secondary");
        cluster.role(Side::Alpha, "primary");
        cluster.wait_synced(Side::Alpha);
        log.pause();
        log.verify_device(&device);
        log.resume();
    }
    finish(&cluster, log, Side::Alpha);
}

#[test]
fn daemon_that_is_stopped_leaves_clean_copies_and_nothing_behind() {
    let mut cluster = Cluster::start(Setup::of(ResourceConf::new("data")));
    cluster.connect();
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(100);
    log.stop();
    cluster.stop_node(Side::Alpha);
    for left in ["ctl", "pid"] {
        let path = cluster.node(Side::Alpha).home().join(left);
        assert!(!path.exists(), "{} is left", path.display());
    }
    cluster.must_be_equal();
    assert_eq!(cluster.copy(Side::Alpha).dirty_extents(), 0);
    cluster.start_node(Side::Alpha);
    cluster.role(Side::Alpha, "primary");
    let status = cluster.wait_status(Side::Alpha, "complete", Status::is_complete);
    assert!(status.synchronisation.is_none(), "{status:#?}");
    log.verify_device(&cluster.device(Side::Alpha));
}
