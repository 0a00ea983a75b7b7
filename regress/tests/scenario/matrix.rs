//! Every replication mode with every checksum and compression.

use std::time::Duration;

use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Load, ResourceConf, Side, Writelog, long, wait};

const MODES: [&str; 3] = ["memsync", "fullsync", "async"];
const CHECKSUMS: [&str; 3] = ["none", "crc32", "sha256"];
const COMPRESSIONS: [&str; 3] = ["none", "hole", "lzf"];

/// Bytes written per combination in the long version; `HAST_MATRIX_MB` says otherwise.
fn long_bytes() -> u64 {
    let megabytes = std::env::var("HAST_MATRIX_MB");
    let megabytes = megabytes.ok().and_then(|text| text.parse::<u64>().ok());
    megabytes.unwrap_or(1024) << 20
}

fn combination(mode: &'static str, checksum: &'static str, compression: &'static str) {
    let mut conf = ResourceConf::new("data").mode(mode);
    conf.checksum = checksum;
    conf.compression = compression;
    conf.timeout_s = 1;
    let cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let load = Load {
        blocks: 6144,
        overlapping: true,
        ..Load::default()
    };
    let mut log = Writelog::start(load, &device);
    if long() {
        let (bytes, cuts) = (long_bytes(), 10);
        for cut in 1..=cuts {
            let goal = bytes / cuts * cut;
            wait::until("data to be written", Duration::from_secs(600), || {
                (log.bytes() >= goal).then_some(())
            });
            cluster.link.cut();
            cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
            cluster.link.restore();
            cluster.wait_synced(Side::Alpha);
        }
    } else {
        log.wait_for(60);
        // A disconnection that needs no timeout.
        cluster.role(Side::Beta, "init");
        log.wait_for(20);
        cluster.role(Side::Beta, "secondary");
        cluster.wait_synced(Side::Alpha);
        log.wait_for(20);
    }
    log.stop();
    assert_eq!(log.failed(), 0);
    log.verify_device(&device);
    cluster.must_be_equal();
    log.verify_copy(&cluster.copy(Side::Beta));
    println!(
        "{mode} {checksum} {compression}: {} writes, {} MiB, equal",
        log.acknowledged(),
        log.bytes() >> 20
    );
}

fn with_mode(mode: &'static str) {
    for checksum in CHECKSUMS {
        for compression in COMPRESSIONS {
            combination(mode, checksum, compression);
        }
    }
}

#[test]
fn memsync_with_every_checksum_and_compression() {
    with_mode(MODES[0]);
}

#[test]
fn fullsync_with_every_checksum_and_compression() {
    with_mode(MODES[1]);
}

#[test]
fn async_with_every_checksum_and_compression() {
    with_mode(MODES[2]);
}
