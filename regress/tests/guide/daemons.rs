//! Processes that end, and daemons that do not start or do not do what they should.

use std::fs::{self, File};
use std::net::TcpListener;

use hast::events::Kind;
use hast_regress::scenario::link::PORT;
use hast_regress::scenario::{Cluster, Setup, Side, wait};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::disks::{conf, write};
use super::row::Row;
use super::shell::{Daemons, remedies, remedy, run_block, write_program};

/// What `explain` cannot say, since nobody answers.
const NOBODY: &str = "alpha: nobody answers";

#[test]
fn worker_crash() {
    let title = "Worker crash";
    let cluster = Cluster::with(conf());
    let killed = cluster.kill_worker(Side::Alpha);
    let mut row = Row::new(title);
    row.hears(
        &cluster,
        Side::Alpha,
        &[Kind::WorkerFailed, Kind::WorkerRestart],
    );
    row.sees(&cluster, Side::Alpha, "both copies are good", |status| {
        let pid = status.worker_pid();
        pid > 0 && pid != killed && status.is_synced()
    });
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_worker_running",
        "resource=\"data\"",
        "1",
    );
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn parent_crash() {
    let title = "Parent crash";
    let mut cluster = Cluster::with(conf());
    let _daemons = Daemons::of(&cluster);
    write(&cluster, Side::Alpha, 0);
    cluster.node_mut(Side::Alpha).kill_parent();
    let mut row = Row::new(title);
    row.is_silent(NOBODY, NOBODY, NOBODY);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    row.hears(&cluster, Side::Beta, &[Kind::Disconnect]);
    let said = "no primary is connected to it";
    row.sees(&cluster, Side::Beta, said, |status| {
        status.worker_pid() == 0
    });
    row.counts(
        &cluster,
        Side::Beta,
        "hast_worker_running",
        "resource=\"data\"",
        "0",
    );
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn config_error() {
    let title = "Config error";
    let cluster = Cluster::with(conf());
    let path = cluster.dir().join("hast.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        good.replace("replication fullsync", "replication fulsync"),
    )
    .unwrap();
    cluster.node(Side::Alpha).reload();
    cluster.wait_log(Side::Alpha, "fulsync");
    let mut row = Row::new(title);
    let said = row.ends(&cluster, Side::Alpha, "hastctl config check");
    assert!(said.contains("fulsync"), "{said}");
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    row.ends(&cluster, Side::Alpha, "hastd");
    fs::write(&path, &good).unwrap();
    row.hears(&cluster, Side::Alpha, &[Kind::ReloadFailed]);
    row.stays_good(&cluster, Side::Alpha);
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn missing_user() {
    let title = "Missing user";
    if !geteuid().is_root() {
        return println!("skipped: only daemons of root have another user's workers");
    }
    let cluster = Cluster::prepare(Setup::of(conf()));
    let _daemons = Daemons::of(&cluster);
    let path = cluster.dir().join("hast.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("user nobody", "user no-such-user")).unwrap();
    let mut row = Row::new(title);
    row.is_silent(NOBODY, NOBODY, NOBODY);
    let said = row.ends(&cluster, Side::Alpha, "hastd");
    assert!(said.contains("no-such-user"), "{said}");
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    fs::write(&path, &good).unwrap();
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn port_taken() {
    let title = "Port taken";
    let cluster = Cluster::prepare(Setup::of(conf()));
    let _daemons = Daemons::of(&cluster);
    let address = cluster.link.address(Side::Alpha);
    let bound = cluster
        .link
        .at(Side::Alpha, || TcpListener::bind((address, PORT)));
    let other = bound.unwrap();
    let mut row = Row::new(title);
    row.is_silent(NOBODY, NOBODY, NOBODY);
    let said = row.ends(&cluster, Side::Alpha, "hastd");
    assert!(said.contains("Unable to listen on address"), "{said}");
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    let [before, after] = remedies(title);
    run_block(&cluster, &before);
    drop(other);
    run_block(&cluster, &after);
    row.settle(&cluster);
}

#[test]
fn hook_failing() {
    let title = "Hook failing";
    let mut cluster = Cluster::prepare(Setup::of(conf()));
    let hook = cluster.dir().join("libexec/hast-event");
    write_program(
        &hook,
        "#!/bin/sh\necho \"No such mail host.\" >&2\nexit 3\n",
    );
    cluster.setup.resources[0].exec = Some(hook);
    cluster.write_config();
    for side in Side::BOTH {
        cluster.create(side);
        cluster.start_node(side);
    }
    cluster.connect();
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::HookStart, Kind::HookFailed]);
    row.stays_good(&cluster, Side::Alpha);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn stale_lock() {
    let title = "Stale lock";
    let mut cluster = Cluster::with(conf());
    let _daemons = Daemons::of(&cluster);
    let mut row = Row::new(title);
    row.ends(&cluster, Side::Alpha, "hastd");
    // The files of a daemon that died are in nobody's way.
    cluster.kill_node(Side::Alpha);
    assert!(cluster.node(Side::Alpha).home().join("pid").exists());
    // The system may hold that of the worker until its last flush is done.
    let disk = File::open(cluster.disk(Side::Alpha)).unwrap();
    let lock = Flock::lock(disk, FlockArg::LockExclusive).unwrap();
    let [before, after] = remedies(title);
    run_block(&cluster, &before);
    row.ends(&cluster, Side::Alpha, "hastctl role primary data");
    row.ends(&cluster, Side::Alpha, "hastctl create data");
    row.hears(&cluster, Side::Alpha, &[Kind::DiskUnusable, Kind::RoleLost]);
    let said = "the role that was asked for could not be taken or kept";
    row.sees(&cluster, Side::Alpha, said, |status| status.role == "init");
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_problem",
        "kind=\"disk-unusable\"",
        "1",
    );
    drop(lock);
    run_block(&cluster, &after);
    wait::until("both copies", wait::PATIENCE, || {
        cluster.status(Side::Alpha).is_synced().then_some(())
    });
    row.settle(&cluster);
}
