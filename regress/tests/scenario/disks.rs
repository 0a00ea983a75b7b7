//! Disks that are full or fail.

use std::fs::OpenOptions;

use hast_regress::scenario::blockdev::{LoopDevice, Mount, run};
use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Load, ResourceConf, Setup, Side, Writelog};
use tempfile::TempDir;

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..bytes / 8)
        .flat_map(|_| rng.number().to_le_bytes())
        .collect()
}

/// A file of 32 MiB on a file system of 8 MiB.
fn small_disk() -> Option<(TempDir, Mount, std::path::PathBuf)> {
    let dir = TempDir::with_prefix("hastfull").unwrap();
    match Mount::memory(dir.path(), 8 << 20) {
        Ok(mount) => {
            let path = dir.path().join("disk");
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(32 << 20).unwrap();
            Some((dir, mount, path))
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn secondary_whose_disk_is_full_is_left_and_catches_up_when_there_is_room() {
    let Some((_dir, mount, path)) = small_disk() else {
        return;
    };
    let mut conf = ResourceConf::new("data");
    conf.local[1] = Some(path);
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    for at in 0..16 {
        client.write(at << 20, &noise(1 << 20, at)).unwrap();
    }
    let status = cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    println!("{:?}", status.reason);
    assert!(
        cluster
            .node(Side::Alpha)
            .log()
            .contains("No space left on device")
    );
    assert!(status.dirty_bytes.unwrap_or(0) >= 8 << 20, "{status:#?}");
    let shown = mount.path.display().to_string();
    run("mount", &["-o", "remount,size=64m", &shown]).unwrap();
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    let mut block = vec![0; 1 << 20];
    client.read(15 << 20, &mut block).unwrap();
    assert!(block == noise(1 << 20, 15));
    drop(cluster);
}

#[test]
fn primary_whose_disk_fails_serves_from_the_secondary() {
    let Some((_dir, _mount, path)) = small_disk() else {
        return;
    };
    let mut conf = ResourceConf::new("data");
    conf.local[0] = Some(path);
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    for at in 0..16 {
        client.write(at << 20, &noise(1 << 20, at)).unwrap();
    }
    let status = cluster.status(Side::Alpha);
    assert_eq!(status.disk.as_deref(), Some("detached"), "{status:#?}");
    let mut block = vec![0; 1 << 20];
    for at in 0..16 {
        client.read(at << 20, &mut block).unwrap();
        assert!(block == noise(1 << 20, at), "MiB {at}");
        cluster.copy(Side::Beta).read(at << 20, &mut block);
        assert!(block == noise(1 << 20, at), "MiB {at} of the copy");
    }
    drop(cluster);
}

#[test]
fn secondary_whose_disk_fails_catches_up_when_it_is_whole_again() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    cluster.stop_node(Side::Beta);
    // What lies behind cannot be written.
    cluster.node_mut(Side::Beta).file_bytes_max = Some(16 << 20);
    cluster.start_node(Side::Beta);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    for at in 0..24 {
        client.write(at << 20, &noise(1 << 20, at)).unwrap();
    }
    client.flush().unwrap();
    cluster.wait_log(Side::Alpha, "Disconnected from");
    cluster.kill_node(Side::Beta);
    cluster.node_mut(Side::Beta).file_bytes_max = None;
    cluster.start_node(Side::Beta);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
}

#[test]
fn reads_that_fail_are_served_by_the_peer() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    client.write(24 << 20, &noise(1 << 20, 5)).unwrap();
    client.flush().unwrap();
    // The end of the disk is gone.
    let file = OpenOptions::new()
        .write(true)
        .open(cluster.disk(Side::Alpha))
        .unwrap();
    file.set_len(16 << 20).unwrap();
    let mut block = vec![0; 1 << 20];
    client.read(24 << 20, &mut block).unwrap();
    assert!(block == noise(1 << 20, 5));
}

#[test]
fn block_devices_are_as_good_as_files() {
    let dir = TempDir::with_prefix("hastloop").unwrap();
    let mut devices = Vec::new();
    let mut conf = ResourceConf::new("data");
    for side in Side::BOTH {
        let path = dir.path().join(side.name());
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(32 << 20).unwrap();
        match LoopDevice::attach(&path) {
            Ok(device) => {
                conf.local[side.index()] = Some(device.path.clone());
                devices.push(device);
            }
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        }
    }
    let mut cluster = Cluster::start(Setup::of(conf));
    cluster.connect();
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(200);
    cluster.kill_node(Side::Alpha);
    cluster.role(Side::Beta, "primary");
    let device = cluster.device(Side::Beta);
    log.pause();
    log.verify_device(&device);
    log.go_to(&device);
    log.resume();
    log.wait_for(100);
    cluster.start_node(Side::Alpha);
    cluster.role(Side::Alpha, "secondary");
    cluster.wait_synced(Side::Beta);
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
    drop(cluster);
}
