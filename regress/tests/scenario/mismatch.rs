//! Nodes that do not fit together.

use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::{Cluster, ResourceConf, Setup, Side};

/// Roles are set, and alpha says why it is alone.
fn must_refuse(cluster: &Cluster, reason: &str) {
    cluster.role(Side::Beta, "secondary");
    cluster.role(Side::Alpha, "primary");
    cluster.wait_status(Side::Alpha, reason, |status| {
        let said = status.reason.as_deref().unwrap_or_default();
        status.is_degraded() && said.contains(reason)
    });
    // The device works all the same.
    let device = cluster.device(Side::Alpha);
    Client::connect(&device)
        .unwrap()
        .write(0, &[1; 4096])
        .unwrap();
}

#[test]
fn copies_of_different_sizes_are_not_connected() {
    let mut conf = ResourceConf::new("data");
    conf.media_bytes[1] = 16 << 20;
    let cluster = Cluster::start(Setup::of(conf));
    must_refuse(&cluster, "size");
}

#[test]
fn copies_of_different_extent_sizes_are_not_connected() {
    let mut conf = ResourceConf::new("data");
    conf.extent_bytes[1] = 512 << 10;
    let cluster = Cluster::start(Setup::of(conf));
    // The data areas begin at the same place, since both bitmaps fit into a sector.
    must_refuse(&cluster, "xtent size");
}

#[test]
fn copies_of_different_resources_are_not_connected() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    for side in Side::BOTH {
        cluster.role(side, "init");
    }
    // Each of them gets an id of its own.
    cluster.create(Side::Beta);
    cluster.role(Side::Beta, "primary");
    cluster.role(Side::Alpha, "secondary");
    cluster.wait_status(Side::Beta, "unique ID mismatch", |status| {
        let said = status.reason.as_deref().unwrap_or_default();
        said.contains("unique ID mismatch")
    });
    assert_eq!(cluster.status(Side::Beta).role, "primary");
}
