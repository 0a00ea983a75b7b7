//! What an administrator orders beyond the role.

use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Load, ResourceConf, Setup, Side, Writelog, wait};

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
    // So that there is time to look at it.
    conf.syncrate = Some(MIB);
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

/// Beta is primary; its copy is the older one, and it copies slowly from alpha.
fn being_completed() -> Cluster {
    let mut cluster = behind(16);
    cluster.stop_node(Side::Alpha);
    cluster.role(Side::Beta, "secondary");
    cluster.start_node(Side::Alpha);
    cluster.role(Side::Alpha, "secondary");
    cluster.role(Side::Beta, "primary");
    let stale = |status: &Status| status.disk.as_deref() == Some("stale");
    cluster.wait_status(Side::Beta, "a stale copy", stale);
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
    cluster.must(Side::Alpha, &["sync-rate", "unlimited", "data"]);
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
        orders.sync_rate == "1M" && !orders.sync_rate_ordered,
        "{orders:?}"
    );
}

// ---- connect and disconnect

const BY_ORDER: &str = "by order of an administrator";

fn is_apart(status: &Status) -> bool {
    let reason = status.reason.as_deref().unwrap_or_default();
    status.orders.disconnected && reason.contains(BY_ORDER) && !status.is_synced()
}

#[test]
fn primary_that_is_disconnected_serves_alone_until_it_is_connected() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(50);
    cluster.must(Side::Alpha, &["disconnect", "data"]);
    cluster.wait_status(Side::Alpha, "disconnected", is_apart);
    log.wait_for(100);
    let before = cluster.kill_worker(Side::Alpha);
    cluster.wait_status(Side::Alpha, "disconnected in another worker", |status| {
        status.worker_pid() != before && status.worker_pid() != 0 && is_apart(status)
    });
    log.wait_for(100);
    cluster.must(Side::Alpha, &["connect", "data"]);
    cluster.wait_synced(Side::Alpha);
    log.wait_for(50);
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn disconnection_survives_the_daemon_on_both_roles() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    for side in Side::BOTH {
        cluster.must(side, &["disconnect", "data"]);
    }
    for side in Side::BOTH {
        cluster.kill_node(side);
        cluster.start_node(side);
        assert!(cluster.status(side).orders.disconnected, "{side}");
    }
    cluster.role(Side::Beta, "secondary");
    cluster.role(Side::Alpha, "primary");
    cluster.wait_status(Side::Alpha, "disconnected", is_apart);
    Client::connect(&cluster.device(Side::Alpha))
        .unwrap()
        .write(0, &[7; 8192])
        .unwrap();
    // One side's consent is not enough.
    cluster.must(Side::Alpha, &["connect", "data"]);
    cluster.wait_status(Side::Alpha, "turned away", |status| {
        let reason = status.reason.as_deref().unwrap_or_default();
        !status.orders.disconnected && reason.contains("The remote node is disconnected")
    });
    let mut block = [1; 8192];
    cluster.copy(Side::Beta).read(0, &mut block);
    assert_eq!(block, [0; 8192], "beta's copy was left alone");
    cluster.must(Side::Beta, &["connect", "data"]);
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
}

#[test]
fn secondary_that_is_disconnected_ends_its_session_and_keeps_its_role() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    cluster.must(Side::Beta, &["disconnect", "data"]);
    cluster.wait_status(Side::Beta, "disconnected", |status| {
        status.worker_pid() == 0 && is_apart(status)
    });
    assert_eq!(cluster.status(Side::Beta).role, "secondary");
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    cluster.must(Side::Beta, &["connect", "all"]);
    cluster.wait_synced(Side::Alpha);
}

#[test]
fn disconnection_that_cannot_be_remembered_is_refused() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    std::fs::write(cluster.node(Side::Alpha).home().join("state"), "in the way").unwrap();
    let said = must_fail(&cluster, Side::Alpha, &["disconnect", "data"], 74);
    assert!(said.contains("Unable to remember"), "{said}");
    assert!(cluster.status(Side::Alpha).is_synced());
}

#[test]
fn primary_that_lives_on_its_peers_copy_is_not_disconnected_without_force() {
    let cluster = being_completed();
    let said = must_fail(&cluster, Side::Beta, &["disconnect", "data"], 77);
    assert!(
        said.contains("The local copy is stale") && said.contains("--force"),
        "{said}"
    );
    assert!(!cluster.status(Side::Beta).orders.disconnected);
    cluster.must(Side::Beta, &["disconnect", "--force", "data"]);
    cluster.wait_status(Side::Beta, "disconnected", is_apart);
    cluster.must(Side::Beta, &["connect", "data"]);
    cluster.must(Side::Beta, &["sync-rate", "unlimited", "data"]);
    cluster.wait_synced(Side::Beta);
    cluster.must_be_equal();
}

// ---- role --force and --wait

/// Beta is the target of a synchronisation that has not ended, and alpha is gone.
fn half_synchronised() -> Cluster {
    let mut cluster = behind(32);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_status(Side::Alpha, "half of it", |status| {
        let sync = status.synchronisation.as_ref();
        sync.is_some_and(|sync| sync.left_bytes < sync.total_bytes)
    });
    cluster.wait_status(Side::Beta, "an incomplete copy", |status| {
        status.disk.as_deref() == Some("stale")
    });
    cluster.kill_node(Side::Alpha);
    cluster
}

#[test]
fn incomplete_copy_is_not_promoted_and_stays_a_secondary() {
    let mut cluster = half_synchronised();
    let said = must_fail(&cluster, Side::Beta, &["role", "primary", "data"], 77);
    assert!(
        said.contains("is incomplete") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(cluster.status(Side::Beta).role, "secondary");
    assert!(cluster.copy(Side::Beta).metadata.inconsistent);
    // What was missing comes from alpha.
    cluster.start_node(Side::Alpha);
    cluster.role(Side::Alpha, "primary");
    cluster.must(Side::Alpha, &["sync-rate", "unlimited", "data"]);
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    // The mark goes with the peers' agreement, which follows the last block.
    wait::until("the mark of the copy goes", wait::PATIENCE, || {
        (!cluster.copy(Side::Beta).metadata.inconsistent).then_some(())
    });
    cluster.role(Side::Alpha, "secondary");
    cluster.role(Side::Beta, "primary");
}

#[test]
fn incomplete_copy_is_promoted_by_force_and_the_log_says_so() {
    let cluster = half_synchronised();
    cluster.must(
        Side::Beta,
        &["role", "--force", "--wait", "primary", "data"],
    );
    cluster.wait_log(
        Side::Beta,
        "used all the same, by order of an administrator",
    );
    assert!(!cluster.copy(Side::Beta).metadata.inconsistent);
    Client::connect(&cluster.device(Side::Beta))
        .unwrap()
        .write(0, &[9; 4096])
        .unwrap();
    let said = must_fail(
        &cluster,
        Side::Beta,
        &["role", "--force", "secondary", "data"],
        64,
    );
    assert!(said.contains("Only the role primary"), "{said}");
}

#[test]
fn primary_that_is_being_completed_survives_its_worker() {
    let cluster = being_completed();
    assert!(cluster.copy(Side::Beta).metadata.inconsistent);
    let before = cluster.kill_worker(Side::Beta);
    cluster.wait_status(Side::Beta, "another worker", |status| {
        status.worker_pid() != before && status.worker_pid() != 0
    });
    let mut block = [0; 4096];
    let device = cluster.device(Side::Beta);
    let mut client = Client::connect(&device).unwrap();
    client.read(15 * MIB, &mut block).unwrap();
    assert_eq!(block, [15; 4096], "read at the peer");
    cluster.must(Side::Beta, &["sync-rate", "unlimited", "data"]);
    cluster.wait_synced(Side::Beta);
    cluster.must_be_equal();
    assert!(!cluster.copy(Side::Beta).metadata.inconsistent);
}

#[test]
fn role_waits_until_it_is_of_use() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 3;
    let cluster = Cluster::start(Setup::of(conf));
    let words = ["role", "--wait", "--timeout", "1", "secondary", "data"];
    let said = must_fail(&cluster, Side::Beta, &words, 75);
    assert!(said.contains("Not yet"), "{said}");
    cluster.must(Side::Alpha, &["role", "--wait", "primary", "data"]);
    assert!(cluster.status(Side::Alpha).serving);
    cluster.must(Side::Beta, &["role", "--wait", "secondary", "data"]);
    cluster.must(Side::Alpha, &["role", "--wait", "init", "data"]);
    assert_eq!(cluster.status(Side::Alpha).worker_pid(), 0);
}

// ---- invalidate

#[test]
fn split_brain_is_repaired_by_giving_one_copy_up() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    let invalidate = ["invalidate", "data"];
    let said = must_fail(&cluster, Side::Alpha, &invalidate, 75);
    assert!(said.contains("role init"), "{said}");
    // Both are written apart.
    for side in Side::BOTH {
        cluster.role(side.other(), "init");
        cluster.role(side, "primary");
        let mut client = Client::connect(&cluster.device(side)).unwrap();
        let byte = u8::try_from(side.index()).unwrap() + 1;
        client.write(MIB, &[byte; 4096]).unwrap();
    }
    cluster.role(Side::Beta, "secondary");
    cluster.role(Side::Alpha, "primary");
    cluster.wait_status(Side::Alpha, "split-brain", |status| {
        let reason = status.reason.as_deref().unwrap_or_default();
        reason.contains("Split-brain")
    });
    cluster.role(Side::Beta, "init");
    let said = must_fail(&cluster, Side::Beta, &invalidate, 77);
    assert!(said.contains("--force"), "{said}");
    assert_ne!(
        cluster.copy(Side::Beta).metadata.resuid,
        0,
        "nothing was changed"
    );
    let said = cluster.must(Side::Beta, &["invalidate", "--force", "data"]);
    assert!(said.contains("written without the other node"), "{said}");
    must_fail(&cluster, Side::Beta, &["role", "primary", "data"], 77);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    let mut block = [0; 4096];
    cluster.copy(Side::Beta).read(MIB, &mut block);
    assert_eq!(block, [1; 4096]);
}
