//! Disks that fail or are full.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use hast::events::Kind;
use hast_regress::scenario::blockdev::{Mount, run};
use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::{Cluster, ResourceConf, Side};
use tempfile::TempDir;

use super::row::Row;
use super::shell::{remedies, remedy, run_block};

pub(crate) const MIB: u64 = 1 << 20;

/// A resource as the guide has it: with the sizes that `hastctl create` chooses.
pub(crate) fn conf() -> ResourceConf {
    let mut conf = ResourceConf::new("data");
    conf.extent_bytes = [2 * MIB; 2];
    conf.keepdirty = 64;
    conf.timeout_s = 3;
    conf
}

/// Writes a MiB of something to the device of a primary.
pub(crate) fn write(cluster: &Cluster, side: Side, at_mib: u64) {
    let mut client = Client::connect(&cluster.device(side)).unwrap();
    client.write(at_mib * MIB, &vec![7; 1 << 20]).unwrap();
    client.flush().unwrap();
}

#[test]
fn read_error() {
    let title = "Disk read error";
    let cluster = Cluster::with(conf());
    write(&cluster, Side::Alpha, 24);
    // The end of the disk is gone.
    let disk = OpenOptions::new()
        .write(true)
        .open(cluster.disk(Side::Alpha))
        .unwrap();
    disk.set_len(16 * MIB).unwrap();
    let mut client = Client::connect(&cluster.device(Side::Alpha)).unwrap();
    let mut block = vec![0; 1 << 20];
    client.read(24 * MIB, &mut block).unwrap();
    assert!(block.iter().all(|&byte| byte == 7), "read from beta");
    drop(client);
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::DiskError]);
    let said = "Its own disk has failed operations and is still in use";
    row.sees(&cluster, Side::Alpha, said, |status| status.is_complete());
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_problem",
        "kind=\"disk-error\"",
        "1",
    );
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    let [before, after] = remedies(title);
    run_block(&cluster, &before);
    disk.set_len(32 * MIB).unwrap();
    run_block(&cluster, &after);
    cluster.wait_synced(Side::Beta);
    cluster.must_be_equal();
    row.settle(&cluster);
}

/// A disk of 32 MiB on a file system that has room for 8.
fn small_disk() -> Option<(TempDir, Mount, PathBuf)> {
    let dir = TempDir::with_prefix("hastfull").unwrap();
    match Mount::memory(dir.path(), 8 * MIB) {
        Ok(mount) => {
            let path = dir.path().join("disk");
            File::create(&path).unwrap().set_len(32 * MIB).unwrap();
            Some((dir, mount, path))
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// There is room for all of it.
fn enlarge(mount: &Mount) {
    let shown = mount.path.display().to_string();
    run("mount", &["-o", "remount,size=64m", &shown]).unwrap();
}

#[test]
fn write_error() {
    let title = "Disk write error";
    let Some((_dir, mount, path)) = small_disk() else {
        return;
    };
    let mut conf = conf();
    conf.local[0] = Some(path);
    let cluster = Cluster::with(conf);
    for at in 0..16 {
        write(&cluster, Side::Alpha, at);
    }
    let mut row = Row::new(title);
    row.hears(
        &cluster,
        Side::Alpha,
        &[Kind::DiskError, Kind::DiskDetached],
    );
    let said = "Its own disk has failed and is no longer used";
    row.sees(&cluster, Side::Alpha, said, |status| {
        status.is_complete() && status.disk.as_deref() == Some("detached")
    });
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_disk_state",
        "state=\"detached\"",
        "1",
    );
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    let [before, after] = remedies(title);
    run_block(&cluster, &before);
    enlarge(&mount);
    run_block(&cluster, &after);
    cluster.wait_synced(Side::Beta);
    cluster.must_be_equal();
    row.settle(&cluster);
    drop(cluster);
}

#[test]
fn full() {
    let title = "Disk full";
    let Some((_dir, mount, path)) = small_disk() else {
        return;
    };
    let mut conf = conf();
    conf.local[1] = Some(path);
    let cluster = Cluster::with(conf);
    for at in 0..16 {
        write(&cluster, Side::Alpha, at);
    }
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::PeerError, Kind::Disconnect]);
    row.hears(&cluster, Side::Beta, &[Kind::DiskError]);
    let said = "The disk of the other node fails.";
    row.sees(&cluster, Side::Alpha, said, |status| {
        status.cause.as_deref() == Some("peer-failed")
    });
    row.is_connected(&cluster, Side::Alpha, false);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    enlarge(&mount);
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
    drop(cluster);
}
