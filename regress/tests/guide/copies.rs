//! Copies that do not belong together, or were written apart.

use hast::events::Kind;
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Side};

use super::disks::{conf, write};
use super::row::Row;
use super::shell::remedy;

#[test]
fn wrong_id() {
    let title = "Wrong id";
    let cluster = Cluster::with(conf());
    for side in Side::BOTH {
        cluster.role(side, "init");
    }
    // Beta gets an id of its own.
    cluster.create(Side::Beta);
    cluster.role(Side::Beta, "primary");
    cluster.wait_status(Side::Beta, "alone", Status::is_degraded);
    write(&cluster, Side::Beta, 1);
    cluster.role(Side::Beta, "init");
    cluster.role(Side::Alpha, "primary");
    cluster.role(Side::Beta, "secondary");
    let mut row = Row::new(title);
    let said = "The copies belong to different resources.";
    row.sees(&cluster, Side::Alpha, said, |status| {
        status.cause.as_deref() == Some("id-mismatch")
    });
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
    cluster.must_be_equal();
    row.settle(&cluster);
}

#[test]
fn split_brain() {
    let title = "Split-brain";
    let cluster = Cluster::with(conf());
    write(&cluster, Side::Alpha, 0);
    cluster.link.cut();
    cluster.wait_status(Side::Alpha, "degraded", Status::is_degraded);
    write(&cluster, Side::Alpha, 1);
    cluster.role(Side::Beta, "primary");
    write(&cluster, Side::Beta, 2);
    cluster.link.restore();
    cluster.role(Side::Beta, "secondary");
    let mut row = Row::new(title);
    let said = "Split-brain: both nodes were written apart from each other.";
    row.sees(&cluster, Side::Alpha, said, |status| {
        status.cause.as_deref() == Some("split-brain")
    });
    for side in Side::BOTH {
        row.hears(&cluster, side, &[Kind::SplitBrain]);
    }
    row.sees(&cluster, Side::Beta, said, |status| {
        status.role == "secondary"
    });
    row.counts(
        &cluster,
        Side::Alpha,
        "hast_problem",
        "kind=\"split-brain\"",
        "1",
    );
    row.ends(&cluster, Side::Alpha, "hastctl status data");
    remedy(&cluster, title);
    cluster.must_be_equal();
    row.settle(&cluster);
}
