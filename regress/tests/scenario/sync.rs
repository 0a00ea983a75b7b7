//! Copies become equal, and no more travels than has to.

use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::{Cluster, Load, ResourceConf, Setup, Side, Writelog};

const EXTENT: u64 = 256 << 10;

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..bytes / 8)
        .flat_map(|_| rng.number().to_le_bytes())
        .collect()
}

#[test]
fn first_synchronisation_copies_what_was_written_before_the_peer_came() {
    let cluster = Cluster::start(Setup::of(ResourceConf::new("data")));
    cluster.role(Side::Alpha, "primary");
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(300);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    log.wait_for(300);
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
    for side in Side::BOTH {
        log.verify_copy(&cluster.copy(side));
    }
}

#[test]
fn partial_resynchronisation_moves_dirty_extents_only() {
    let mut conf = ResourceConf::new("data").sized(64 << 20);
    conf.compression = "none";
    conf.keepdirty = 2;
    let mut cluster = Cluster::with(conf);
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    for at in 0..16 {
        client.write(at * EXTENT, &noise(65536, at)).unwrap();
    }
    cluster.wait_status(Side::Alpha, "only recent extents dirty", |status| {
        status.dirty_bytes.is_some_and(|bytes| bytes <= 2 * EXTENT)
    });
    cluster.stop_node(Side::Beta);
    cluster.wait_status(Side::Alpha, "degraded", |status| status.is_degraded());
    let changed = [100, 150, 200];
    for extent in changed {
        client.write(extent * EXTENT, &noise(4096, extent)).unwrap();
    }
    let before = cluster.link.bytes();
    cluster.start_node(Side::Beta);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    let moved = cluster.link.bytes() - before;
    cluster.must_be_equal();
    let least = changed.len() as u64 * EXTENT;
    // Those that are kept dirty as well, and what the network adds.
    let most = (changed.len() as u64 + 2 + 1) * EXTENT * 11 / 10;
    println!("moved {moved} bytes for {least} in changed extents");
    assert!(
        (least..=most).contains(&moved),
        "{moved} is not in {least}..={most}"
    );
}

#[test]
fn deletes_while_the_secondary_is_away_are_not_forgotten() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    client.write(0, &noise(1 << 20, 7)).unwrap();
    client.write(8 << 20, &noise(1 << 20, 8)).unwrap();
    cluster.stop_node(Side::Beta);
    cluster.wait_status(Side::Alpha, "degraded", |status| status.is_degraded());
    client.trim(0, 512 << 10).unwrap();
    cluster.start_node(Side::Beta);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    // And while it is there.
    client.trim(8 << 20, 256 << 10).unwrap();
    client.flush().unwrap();
    cluster.must_be_equal();
}

#[test]
fn first_write_after_the_secondary_was_stopped_reaches_it_later() {
    for mode in ["memsync", "fullsync", "async"] {
        let cluster = Cluster::with(ResourceConf::new("data").mode(mode));
        let device = cluster.device(Side::Alpha);
        let mut client = Client::connect(&device).unwrap();
        cluster.role(Side::Beta, "init");
        for at in 0..3 {
            client.write(at * EXTENT, &noise(4096, at)).unwrap();
        }
        cluster.role(Side::Beta, "secondary");
        cluster.wait_synced(Side::Alpha);
        cluster.must_be_equal();
    }
}
