//! What an administrator orders beyond the role.

use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, ResourceConf, Side};

const MIB: u64 = 1 << 20;

/// Runs hastctl, which has to fail with this code; what it says.
pub(crate) fn must_fail(cluster: &Cluster, side: Side, words: &[&str], code: i32) -> String {
    let output = cluster.node(side).hastctl(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "hastctl {words:?} on {side}: {said}"
    );
    said
}

/// A cluster whose secondary is away, with so many MiB to copy to it.
fn behind(mib: u64) -> Cluster {
    let mut conf = ResourceConf::new("data").sized(64 << 20);
    conf.compression = "none";
    let cluster = Cluster::with(conf);
    cluster.role(Side::Beta, "init");
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    let mut client = Client::connect(&cluster.device(Side::Alpha)).unwrap();
    for at in 0..mib {
        client
            .write(at * MIB, &vec![u8::try_from(at).unwrap() | 1; 1 << 20])
            .unwrap();
    }
    cluster
}

fn left(status: &Status) -> Option<u64> {
    status.synchronisation.as_ref().map(|sync| sync.left_bytes)
}

#[test]
fn only_the_primary_is_asked_to_pause_or_pace() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    for words in [
        &["pause-sync", "data"][..],
        &["resume-sync", "data"],
        &["sync-rate", "1M", "data"],
    ] {
        let said = must_fail(&cluster, Side::Beta, words, 69);
        assert!(said.contains("The role here is secondary"), "{said}");
    }
    let said = must_fail(&cluster, Side::Alpha, &["pause-sync", "nothing"], 1);
    assert!(said.contains("No such resource"), "{said}");
    must_fail(&cluster, Side::Alpha, &["sync-rate", "1X", "data"], 64);
    must_fail(&cluster, Side::Alpha, &["sync-rate", "0", "data"], 64);
}

#[test]
fn paused_synchronisation_rests_until_it_is_resumed_even_in_another_worker() {
    let cluster = behind(16);
    cluster.must(Side::Alpha, &["pause-sync", "data"]);
    cluster.role(Side::Beta, "secondary");
    let paused = |status: &Status| {
        let sync = status.synchronisation.as_ref();
        sync.is_some_and(|sync| sync.paused && sync.left_bytes == sync.total_bytes)
    };
    let status = cluster.wait_status(Side::Alpha, "a paused synchronisation", paused);
    assert!(status.orders.sync_paused);
    let before = cluster.kill_worker(Side::Alpha);
    let status = cluster.wait_status(Side::Alpha, "another worker, paused, too", |status| {
        status.worker_pid() != before && paused(status)
    });
    assert!(left(&status) >= Some(16 * MIB));
    cluster.must(Side::Alpha, &["resume-sync", "data"]);
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    assert!(!cluster.status(Side::Alpha).orders.sync_paused);
}

#[test]
fn pause_ends_with_the_role() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    cluster.must(Side::Alpha, &["pause-sync", "data"]);
    cluster.role(Side::Alpha, "init");
    assert!(!cluster.status(Side::Alpha).orders.sync_paused);
}

#[test]
fn rate_changes_while_it_copies() {
    let cluster = behind(32);
    cluster.must(Side::Alpha, &["sync-rate", "256k", "data"]);
    cluster.role(Side::Beta, "secondary");
    let status = cluster.wait_status(Side::Alpha, "a slow synchronisation", |status| {
        status.synchronisation.is_some()
    });
    assert_eq!(status.orders.sync_rate, "256k");
    assert!(status.orders.sync_rate_ordered);
    let limit = |status: &Status| status.synchronisation.as_ref()?.limit_bytes_per_second;
    assert_eq!(limit(&status), Some(256 << 10));
    // It would take two minutes.
    assert!(left(&status) > Some(16 * MIB), "{status:?}");
    cluster.must(Side::Alpha, &["sync-rate", "adaptive", "data"]);
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    cluster.must(Side::Alpha, &["sync-rate", "default", "data"]);
    let orders = cluster.status(Side::Alpha).orders;
    assert!(
        orders.sync_rate == "unlimited" && !orders.sync_rate_ordered,
        "{orders:?}"
    );
}
