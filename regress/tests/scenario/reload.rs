//! SIGHUP: every parameter changes while the resource is in use.

use std::path::PathBuf;

use hast_regress::scenario::{Cluster, Load, ResourceConf, Side, Writelog, wait};

const DONE: &str = "Configuration reloaded successfully.";

/// Writes the configuration, lets both nodes read it and waits until they have.
fn reload(cluster: &Cluster) {
    cluster.write_config();
    for side in Side::BOTH {
        let before = cluster.node(side).log().matches(DONE).count();
        cluster.node(side).reload();
        wait::until("a reload", wait::PATIENCE, || {
            (cluster.node(side).log().matches(DONE).count() > before).then_some(())
        });
    }
}

type Change = (&'static str, fn(&mut ResourceConf));

#[test]
fn parameters_change_in_the_running_primary() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(20);
    let worker = cluster.status(Side::Alpha).worker_pid();
    // Each makes the secondary start anew, and the primary waits a little longer each time.
    let changes: [Change; 5] = [
        ("replication memsync", |conf| conf.replication = "memsync"),
        ("replication async, checksum crc32", |conf| {
            conf.replication = "async";
            conf.checksum = "crc32";
        }),
        ("replication fullsync, checksum sha256", |conf| {
            conf.replication = "fullsync";
            conf.checksum = "sha256";
        }),
        ("compression and timeout", |conf| {
            conf.compression = "lzf";
            conf.timeout_s = 7;
        }),
        ("metaflush, syncrate and exec", |conf| {
            conf.metaflush = false;
            conf.syncrate = Some(1 << 30);
            conf.exec = Some(PathBuf::from("/bin/true"));
        }),
    ];
    for (what, change) in changes {
        change(&mut cluster.setup.resources[0]);
        reload(&cluster);
        log.wait_for(20);
        cluster.wait_synced(Side::Alpha);
        let status = cluster.status(Side::Alpha);
        assert_eq!(status.worker_pid(), worker, "{what}: the worker stays");
        let shown = status.configuration.unwrap_or_default();
        let conf = &cluster.setup.resources[0];
        assert_eq!(shown.replication, conf.replication);
        assert_eq!(shown.checksum.as_deref(), Some(conf.checksum));
        assert_eq!(shown.compression.as_deref(), Some(conf.compression));
    }
    // One of each thread: the device never went away.
    assert_eq!(log.connections(), 2);
    assert_eq!(log.failed(), 0);
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn change_of_the_peers_address_reconnects_and_keeps_the_device() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    log.wait_for(20);
    let worker = cluster.status(Side::Alpha).worker_pid();
    let peer = cluster.link.reached_at(Side::Beta);
    cluster.setup.resources[0].remote[0] = Some(format!("{peer}"));
    reload(&cluster);
    cluster.wait_status(Side::Alpha, "the new address", |status| {
        let conf = status.configuration.clone().unwrap_or_default();
        status.is_synced() && !conf.remote.contains("8457")
    });
    log.wait_for(20);
    assert_eq!(cluster.status(Side::Alpha).worker_pid(), worker);
    assert_eq!(log.connections(), 2);
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn change_of_the_provider_restarts_the_worker() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let worker = cluster.status(Side::Alpha).worker_pid();
    cluster.setup.resources[0].provider = Some("other".to_owned());
    reload(&cluster);
    cluster.wait_status(
        Side::Alpha,
        "another worker with another device",
        |status| {
            let device = status.device().unwrap_or_default();
            status.is_synced() && status.worker_pid() != worker && device.contains("other")
        },
    );
}

#[test]
fn resources_come_and_go() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let worker = cluster.status(Side::Alpha).worker_pid();
    let mut second = ResourceConf::new("second");
    for side in Side::BOTH {
        let path = second.local(cluster.dir(), side);
        std::fs::File::create(&path)
            .unwrap()
            .set_len(second.media_bytes[side.index()])
            .unwrap();
        second.local[side.index()] = Some(path);
    }
    cluster.setup.resources.push(second);
    reload(&cluster);
    for side in Side::BOTH {
        cluster.must(side, &["create", "second"]);
    }
    cluster.role_of(Side::Beta, "secondary", "second");
    cluster.role_of(Side::Alpha, "primary", "second");
    wait::until_seen(
        "the second resource",
        wait::PATIENCE,
        || cluster.status_of(Side::Alpha, "second"),
        |status| status.is_synced(),
    );
    cluster.setup.resources.pop();
    reload(&cluster);
    wait::until("the end of the second resource", wait::PATIENCE, || {
        cluster
            .node(Side::Alpha)
            .try_status("second")
            .is_none()
            .then_some(())
    });
    let status = cluster.wait_synced(Side::Alpha);
    assert_eq!(status.worker_pid(), worker);
}

#[test]
fn configuration_with_an_error_changes_nothing() {
    let mut cluster = Cluster::with(ResourceConf::new("data"));
    let worker = cluster.status(Side::Alpha).worker_pid();
    cluster.setup.resources[0].timeout_s = 0;
    cluster.write_config();
    cluster.node(Side::Alpha).reload();
    cluster.wait_log(Side::Alpha, "Configuration not reloaded.");
    let status = cluster.wait_synced(Side::Alpha);
    assert_eq!(status.worker_pid(), worker);
}
