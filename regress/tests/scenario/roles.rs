//! Roles change, clash, and the data of two primaries diverge.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hast_regress::scenario::nbd::Client;
use hast_regress::scenario::status::{Document, Status};
use hast_regress::scenario::{Cluster, Load, ResourceConf, Setup, Side, Writelog, rounds, wait};

#[test]
fn roles_change_under_load() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let mut log = Writelog::start(Load::default(), &cluster.device(Side::Alpha));
    let mut primary = Side::Alpha;
    for _ in 0..rounds(3, 30) {
        log.wait_for(50);
        cluster.role(primary, "secondary");
        primary = primary.other();
        cluster.role(primary, "primary");
        log.go_to(&cluster.device(primary));
        log.wait_for(50);
        cluster.wait_synced(primary);
    }
    log.stop();
    log.verify_device(&cluster.device(primary));
    cluster.must_be_equal();
}

#[test]
fn role_that_is_taken_again_changes_nothing() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let before = cluster.status(Side::Alpha).worker_pid();
    cluster.role(Side::Alpha, "primary");
    assert_eq!(cluster.status(Side::Alpha).worker_pid(), before);
}

#[test]
fn status_as_json_says_what_a_program_needs() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let said = cluster.must(Side::Alpha, &["status", "--json"]);
    let document: Document = serde_json::from_str(&said).unwrap();
    assert_eq!(document.version, 1);
    let status = &document.resources[0];
    assert!(status.is_synced(), "{status:#?}");
    assert_eq!(status.role, "primary");
    assert_eq!(status.disk.as_deref(), Some("good"));
    assert_eq!(
        status.worker_pid(),
        cluster.status(Side::Alpha).worker_pid()
    );
    cluster.role(Side::Beta, "init");
    let status = cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    assert!(status.reason.is_some_and(|reason| !reason.is_empty()));
}

#[test]
fn role_that_cannot_be_taken_says_so() {
    let mut cluster = Cluster::prepare(Setup::of(ResourceConf::new("data")));
    // Its local component was never created.
    cluster.start_node(Side::Alpha);
    for role in ["primary", "secondary"] {
        let output = cluster.node(Side::Alpha).hastctl(&["role", role, "data"]);
        assert!(!output.status.success(), "{role}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("data.disk"), "{said}");
        assert_eq!(cluster.status(Side::Alpha).role, "init");
    }
}

#[test]
fn second_primary_is_told_that_the_other_is_primary() {
    let mut conf = ResourceConf::new("data");
    conf.timeout_s = 2;
    let cluster = Cluster::with(conf);
    cluster.role(Side::Beta, "primary");
    let acts = "Remote node acts as primary";
    for side in Side::BOTH {
        cluster.wait_status(side, acts, |status| {
            let reason = status.reason.as_deref().unwrap_or_default();
            status.is_degraded() && reason.contains(acts)
        });
    }
    // Neither wrote: the one is as good as the other.
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
}

/// A hook that notes who runs it, and its arguments.
fn hook(cluster_dir: &std::path::Path) -> PathBuf {
    let path = cluster_dir.join("hook");
    let notes = cluster_dir.join("events");
    let script = format!("#!/bin/sh\necho \"$PPID $*\" >> {}\n", notes.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn with_hook() -> Cluster {
    let mut cluster = Cluster::prepare(Setup::of(ResourceConf::new("data")));
    let path = hook(cluster.dir());
    cluster.setup.resources[0].exec = Some(path);
    cluster.write_config();
    for side in Side::BOTH {
        cluster.create(side);
        cluster.start_node(side);
    }
    cluster
}

/// The events of a node so far.
fn events(cluster: &Cluster, side: Side) -> Vec<String> {
    let prefix = format!("{} ", cluster.node(side).pid());
    let notes = fs::read_to_string(cluster.dir().join("events")).unwrap_or_default();
    notes
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

fn wait_event(cluster: &Cluster, side: Side, event: &str) {
    wait::until_seen(
        &format!("event '{event}' on {side}"),
        wait::PATIENCE,
        || events(cluster, side),
        |seen| seen.iter().any(|seen| seen == event),
    );
}

#[test]
fn hooks_are_told_of_every_event() {
    let cluster = with_hook();
    cluster.connect();
    wait_event(&cluster, Side::Alpha, "role data init primary");
    wait_event(&cluster, Side::Beta, "role data init secondary");
    for side in Side::BOTH {
        wait_event(&cluster, side, "connect data");
    }
    let device = cluster.device(Side::Alpha);
    let mut client = Client::connect(&device).unwrap();
    cluster.role(Side::Beta, "init");
    wait_event(&cluster, Side::Beta, "role data secondary init");
    wait_event(&cluster, Side::Alpha, "disconnect data");
    client.write(0, &[1; 4096]).unwrap();
    cluster.role(Side::Beta, "secondary");
    wait_event(&cluster, Side::Alpha, "syncstart data");
    wait_event(&cluster, Side::Alpha, "syncdone data");
    let shapes = ["role", "connect", "disconnect", "syncstart", "syncdone"];
    for side in Side::BOTH {
        for event in events(&cluster, side) {
            let word = event.split(' ').next().unwrap_or_default();
            assert!(shapes.contains(&word), "{event}");
        }
    }
}

#[test]
fn split_brain_is_detected_on_both_nodes_and_repaired_as_documented() {
    let mut cluster = with_hook();
    cluster.setup.resources[0].timeout_s = 2;
    cluster.write_config();
    for side in Side::BOTH {
        cluster.node(side).reload();
        cluster.wait_log(side, "reloaded successfully");
    }
    cluster.connect();
    let alpha = cluster.device(Side::Alpha);
    Client::connect(&alpha)
        .unwrap()
        .write(0, &[1; 8192])
        .unwrap();
    cluster.link.cut();
    // It takes the timeout.
    Client::connect(&alpha)
        .unwrap()
        .write(0, &[2; 4096])
        .unwrap();
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    cluster.role(Side::Beta, "primary");
    let beta = cluster.device(Side::Beta);
    Client::connect(&beta)
        .unwrap()
        .write(4096, &[3; 4096])
        .unwrap();
    cluster.link.restore();
    cluster.role(Side::Beta, "secondary");
    for side in Side::BOTH {
        cluster.wait_log(side, "Split-brain");
        wait_event(&cluster, side, "split-brain data");
    }
    let status = cluster.wait_status(Side::Alpha, "split-brain as the reason", |status| {
        let reason = status.reason.as_deref().unwrap_or_default();
        reason.contains("Split-brain")
    });
    assert!(status.is_degraded());
    // Nothing was overwritten.
    let mut block = [0; 4096];
    for (side, offset, byte) in [
        (Side::Alpha, 0, 2),
        (Side::Alpha, 4096, 1),
        (Side::Beta, 0, 1),
        (Side::Beta, 4096, 3),
    ] {
        cluster.copy(side).read(offset, &mut block);
        assert_eq!(block, [byte; 4096], "{side} at {offset}");
    }
    // README.md, Split-brain: beta's writes are given up.
    cluster.role(Side::Beta, "init");
    cluster.create(Side::Beta);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_synced(Side::Alpha);
    cluster.must_be_equal();
    cluster.copy(Side::Beta).read(0, &mut block);
    assert_eq!(block, [2; 4096]);
}
