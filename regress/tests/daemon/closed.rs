//! A process that cannot be confined does nothing: no role is taken, and hastctl says why.
//!
//! The reasons are real ones: a daemon without the capability to make namespaces, an account that
//! does not exist.

use std::fs;

use nix::sys::signal::Signal;

use crate::node::{Node, until};

/// A daemon that may do all that root may but make namespaces and mounts.
fn without_namespaces(statements: &str) -> Option<Node> {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing to take away");
        return None;
    }
    let mut node = Node::new();
    node.launcher = ["setpriv", "--bounding-set", "-sys_admin", "--"]
        .map(str::to_owned)
        .to_vec();
    node.configure(&format!("{statements}{}", node.resource("test", "")));
    node.create("test");
    Some(node)
}

#[test]
fn a_step_that_fails_ends_the_process_and_no_role_is_taken() {
    let Some(mut node) = without_namespaces("") else {
        return;
    };
    node.start();
    let reason = "unable to confine this process: network namespace: unshare: ";
    until("the listener says why", || {
        node.log()
            .contains(&format!("Unable to confine the listener: {reason}"))
    });
    for role in ["primary", "secondary"] {
        let output = node.ctl(&["role", role, "test"]);
        assert_ne!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains(&format!("Unable to drop privileges: {reason}")),
            "{text}"
        );
        let state = node.state("test");
        assert_eq!(state["role"], "init");
        assert!(state["message"].as_str().unwrap().contains(reason));
    }
    assert!(node.log().contains("exitcode=78"));
    let document = node.document("test");
    assert_eq!(document["daemon"]["sandbox"], "require");
    let listeners = document["daemon"]["processes"].as_array().unwrap().len();
    assert_eq!(listeners, 1, "no listener serves");
}

#[test]
fn best_effort_goes_on_and_says_what_is_missing() {
    let Some(mut node) = without_namespaces("sandbox best-effort\n") else {
        return;
    };
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let document = node.document("test");
    assert_eq!(document["daemon"]["sandbox"], "best-effort");
    let worker = &document["resources"][0]["worker"];
    let lines = |name: &str| {
        let lines = worker[name].as_array().unwrap().iter();
        let lines = lines.map(|line| line.as_str().unwrap().to_owned());
        lines.collect::<Vec<String>>()
    };
    let missing = lines("confinement_missing");
    for step in ["network", "mount", "IPC", "UTS"] {
        let begin = format!("{step} namespace: unshare: ");
        assert!(
            missing.iter().any(|line| line.starts_with(&begin)),
            "{missing:?}"
        );
    }
    let in_force = lines("confinement");
    for step in [
        "unprivileged user (nobody)",
        "capabilities",
        "no new privileges",
    ] {
        assert!(in_force.iter().any(|line| line == step), "{in_force:?}");
    }
    assert!(
        in_force
            .iter()
            .any(|line| line.starts_with("system call filter"))
    );
    assert!(
        node.log()
            .contains("Not confined by network namespace: unshare: ")
    );
    let list = node.ctl_ok(&["list", "-d", "test"]);
    assert!(
        list.contains("    not in force: network namespace: unshare: "),
        "{list}"
    );
}

#[test]
fn a_missing_user_is_said_with_the_command_that_creates_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut node = Node::new();
    let good = fs::read_to_string(node.path("hast.conf")).unwrap();
    let bad = good.replace("user nobody\n", "user nosuchuser\n");
    let advice = "user \"nosuchuser\" does not exist: create it with `useradd --system ";
    // Nothing that the administrator may accept excuses it.
    for statement in ["", "sandbox best-effort\n"] {
        fs::write(node.path("hast.conf"), format!("{statement}{bad}")).unwrap();
        let output = node.run_another(&[]);
        assert_eq!(output.status.code(), Some(67));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(advice), "{text}");
    }

    // It disappears while the daemon runs: workers and hastctl refuse.
    fs::write(node.path("hast.conf"), &good).unwrap();
    node.create("test");
    node.start();
    fs::write(node.path("hast.conf"), &bad).unwrap();
    node.signal(Signal::SIGHUP);
    until("the reload", || {
        node.log().contains("Configuration reloaded successfully.")
    });
    let output = node.ctl(&["status", "test"]);
    assert_eq!(output.status.code(), Some(71));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("Unable to give up privileges"), "{text}");
    assert!(text.contains(advice), "{text}");
    fs::write(node.path("hast.conf"), &good).unwrap();
    let output = node.ctl(&["role", "primary", "test"]);
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(advice), "{text}");
    assert_eq!(node.state("test")["role"], "init");
}
