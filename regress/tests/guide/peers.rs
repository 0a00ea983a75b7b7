//! The other node, what is between the nodes, and strangers.

use std::io::Write;

use hast::events::Kind;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Setup, Side, process, wait};
use nix::sys::signal::Signal;

use super::disks::{conf, write};
use super::row::{Row, events};
use super::shell::{Daemons, remedies, remedy, run_block};

/// Degraded for this cause; where there are proxies instead of a network, for any.
pub(crate) fn because<'c>(
    cluster: &'c Cluster,
    cause: &'static str,
) -> impl Fn(&Status) -> bool + use<'c> {
    move |status| {
        let same = status.cause.as_deref() == Some(cause);
        status.is_degraded() && (same || !cluster.link.is_real())
    }
}

#[test]
fn gone() {
    let title = "Peer gone";
    let mut cluster = Cluster::with(conf());
    let _daemons = Daemons::of(&cluster);
    cluster.kill_node(Side::Beta);
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::Disconnect]);
    let said = "it serves alone from its own copy";
    row.sees(
        &cluster,
        Side::Alpha,
        said,
        because(&cluster, "unreachable"),
    );
    row.hears(&cluster, Side::Alpha, &[Kind::ConnectFailed]);
    row.is_connected(&cluster, Side::Alpha, false);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    row.ends(
        &cluster,
        Side::Alpha,
        "hastctl wait --connected --timeout 1 data",
    );
    row.ends(&cluster, Side::Beta, "hastctl status data");
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn slow() {
    let title = "Peer slow";
    let cluster = Cluster::with(conf());
    let worker = cluster.status(Side::Beta).worker_pid();
    assert!(worker > 0);
    process::signal(worker, Signal::SIGSTOP);
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::Disconnect]);
    let said = "it serves alone from its own copy";
    row.sees(&cluster, Side::Alpha, said, because(&cluster, "silent"));
    row.is_connected(&cluster, Side::Alpha, false);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    process::signal(worker, Signal::SIGCONT);
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn flapping() {
    let title = "Link flapping";
    let cluster = Cluster::with(conf());
    for _ in 0..2 {
        cluster.link.cut();
        cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
        cluster.link.restore();
        cluster.wait_synced(Side::Alpha);
    }
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::Disconnect, Kind::Connect]);
    let count = |kind: Kind| {
        let seen = events(&cluster, Side::Alpha);
        seen.iter()
            .filter(|event| event.kind == kind.as_str())
            .count()
    };
    assert!(count(Kind::Disconnect) >= 2 && count(Kind::Connect) >= 3);
    row.is_silent("", "", "again and again");
    row.stays_good(&cluster, Side::Alpha);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn both_primary() {
    let title = "Both primary";
    let cluster = Cluster::with(conf());
    cluster.role(Side::Beta, "primary");
    let acts = "Remote node acts as primary";
    let mut row = Row::new(title);
    for side in Side::BOTH {
        cluster.wait_status(side, acts, |status| {
            status.reason.as_deref().unwrap_or_default().contains(acts)
        });
        row.hears(&cluster, side, &[Kind::ConnectFailed]);
        row.sees(&cluster, side, acts, because(&cluster, "refused"));
        row.is_connected(&cluster, side, false);
    }
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn junk() {
    let title = "Junk connections";
    let cluster = Cluster::with(conf());
    for _ in 0..3 {
        let mut stranger = cluster.link.connect_as_stranger(Side::Alpha).unwrap();
        // It may be closed before all of it is sent.
        let _ = stranger.write_all(b"GET / HTTP/1.0\r\n\r\n");
    }
    let mut row = Row::new(title);
    row.hears(&cluster, Side::Alpha, &[Kind::Refused]);
    row.stays_good(&cluster, Side::Alpha);
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    row.settle(&cluster);
}

#[test]
fn interrupted_synchronisation() {
    let title = "Interrupted synchronisation";
    let mut cluster = Cluster::with(conf());
    let _daemons = Daemons::of(&cluster);
    cluster.role(Side::Beta, "init");
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    for at in 0..16 {
        write(&cluster, Side::Alpha, at);
    }
    cluster.must(Side::Alpha, &["sync-rate", "512k", "data"]);
    cluster.role(Side::Beta, "secondary");
    cluster.wait_status(Side::Alpha, "a synchronisation", |status| {
        let sync = status.synchronisation.as_ref();
        sync.is_some_and(|sync| sync.left_bytes < sync.total_bytes)
    });
    cluster.kill_node(Side::Beta);
    let mut row = Row::new(title);
    row.hears(
        &cluster,
        Side::Alpha,
        &[Kind::SyncStart, Kind::SyncInterrupted],
    );
    let said = "Do not let the other node take over";
    row.sees(
        &cluster,
        Side::Alpha,
        said,
        because(&cluster, "unreachable"),
    );
    row.counts(&cluster, Side::Alpha, "hast_risk", "risk=\"reduced\"", "1");
    let [before, after] = remedies(title);
    run_block(&cluster, &before);
    row.ends(
        &cluster,
        Side::Alpha,
        "hastctl wait --synced --timeout 1 data",
    );
    wait::until("a synchronisation that goes on", wait::PATIENCE, || {
        cluster.status(Side::Alpha).synchronisation
    });
    run_block(&cluster, &after);
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn wrong_size() {
    let title = "Wrong size";
    let mut conf = conf();
    conf.media_bytes[0] = 16 << 20;
    let cluster = Cluster::start(Setup::of(conf));
    cluster.role(Side::Beta, "secondary");
    cluster.role(Side::Alpha, "primary");
    let mut row = Row::new(title);
    row.sees(
        &cluster,
        Side::Alpha,
        "The copies have different sizes.",
        |status| status.cause.as_deref() == Some("size-mismatch"),
    );
    row.hears(&cluster, Side::Alpha, &[Kind::Mismatch]);
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_problem",
        "kind=\"mismatch\"",
        "1",
    );
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    row.settle(&cluster);
}
