//! The fencing program decides whether a node becomes primary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::thread;

use hast_regress::scenario::{Cluster, ResourceConf, Setup, Side, wait};

/// A cluster whose nodes ask a program of this body; `$0.asked` has a line for each question.
fn cluster(body: &str, timeout_s: u32) -> Cluster {
    let setup = Setup::of(ResourceConf::new("data"));
    let mut cluster = Cluster::prepare(setup);
    let program = cluster.dir().join("fence");
    let text = format!("#!/bin/sh\necho \"$*\" >>\"$0.asked\"\n{body}\n");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.setup.statements = format!(
        "fence \"{}\"\nfencetimeout {timeout_s}\n",
        program.display()
    );
    cluster.write_config();
    for side in Side::BOTH {
        cluster.create(side);
        cluster.start_node(side);
    }
    cluster
}

fn asked(cluster: &Cluster) -> Vec<String> {
    let text = fs::read_to_string(cluster.dir().join("fence.asked")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn promote(cluster: &Cluster) -> Output {
    cluster
        .node(Side::Alpha)
        .hastctl(&["role", "primary", "data"])
}

fn must_refuse(cluster: &Cluster, why: &str, role: &str) {
    let output = promote(cluster);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(why), "{said}");
    assert!(
        said.contains("this node does not become primary."),
        "{said}"
    );
    assert!(cluster.node(Side::Alpha).log().contains(why));
    assert_eq!(cluster.status(Side::Alpha).role, role);
}

#[test]
fn a_no_leaves_the_role_as_it_is_and_says_why() {
    let cluster = cluster("exit 3", 60);
    cluster.role(Side::Alpha, "secondary");
    must_refuse(&cluster, "refused with exit code 3", "secondary");
    let peer = &asked(&cluster)[0];
    assert!(peer.starts_with("fence data "), "{peer}");
    assert!(
        peer.contains("10.77.0.2") || peer.contains("127."),
        "{peer}"
    );
}

#[test]
fn silence_is_no() {
    let cluster = cluster("exec sleep 600", 1);
    must_refuse(&cluster, "has not answered within 1 s", "init");
}

#[test]
fn a_program_that_cannot_be_run_is_no() {
    let cluster = cluster("exit 0", 60);
    fs::remove_file(cluster.dir().join("fence")).unwrap();
    must_refuse(&cluster, "cannot be run: No such file", "init");
}

#[test]
fn a_yes_is_asked_for_once_and_not_by_a_worker_that_is_started_again() {
    let cluster = cluster("exit 0", 60);
    cluster.connect();
    cluster.role(Side::Alpha, "primary");
    let first = cluster.kill_worker(Side::Alpha);
    cluster.wait_status(Side::Alpha, "another worker", |status| {
        status.is_synced() && status.worker_pid() != first
    });
    assert_eq!(asked(&cluster).len(), 1);
    assert!(
        cluster
            .node(Side::Alpha)
            .log()
            .contains("The fencing program agreed after")
    );
}

#[test]
fn another_role_takes_the_question_back_and_every_order_is_answered() {
    let cluster = cluster("exec sleep 600", 300);
    thread::scope(|scope| {
        let orders = [0, 1].map(|_| scope.spawn(|| promote(&cluster)));
        wait::until("the question", wait::PATIENCE, || {
            (asked(&cluster).len() == 1).then_some(())
        });
        assert_eq!(cluster.status(Side::Alpha).role, "init");
        cluster.role(Side::Alpha, "secondary");
        // One of the orders may have come after that; it has asked anew then.
        wait::until("answers", wait::PATIENCE, || {
            if orders.iter().all(|order| order.is_finished()) {
                return Some(());
            }
            cluster.role(Side::Alpha, "init");
            None
        });
        for order in orders {
            let output = order.join().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("Another change of the role"), "{said}");
        }
    });
    cluster.wait_log(Side::Alpha, "Hook was killed");
}
