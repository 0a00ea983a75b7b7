//! Workers that misbehave or break down: the parent ends them, says why, and others go on.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::node::{Node, until};

/// A daemon whose resource `test` is served well and whose others are named after what their
/// workers do.
fn with_rogues(parts: &[&str]) -> Node {
    let mut node = Node::new();
    node.program = PathBuf::from(env!("CARGO_BIN_EXE_hast-rogue"));
    let mut sections = node.resource("test", "");
    for part in parts {
        sections.push_str(&node.resource(&format!("rogue-{part}"), ""));
    }
    node.configure(&sections);
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    node
}

/// hastctl that waits for roles that are never taken.
struct Order(Child);

impl Order {
    fn role(node: &Node, role: &str, parts: &[&str]) -> Order {
        let names: Vec<String> = parts.iter().map(|part| format!("rogue-{part}")).collect();
        let mut command = node.ctl_command(&["role", role]);
        command.args(names).stderr(Stdio::null());
        Order(command.spawn().unwrap())
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a line of the log about that rogue with all of these words.
fn until_logged(node: &Node, part: &str, words: &[&str]) {
    until(&format!("{part}: {words:?}"), || {
        node.log().lines().any(|line| {
            line.contains(&format!("[rogue-{part}]"))
                && words.iter().all(|word| line.contains(word))
        })
    });
}

#[test]
fn workers_that_send_what_is_out_of_place_are_killed_and_nobody_else_notices() {
    let parts = ["twice", "status", "garbage", "smuggler"];
    let node = with_rogues(&["twice", "status", "garbage", "smuggler", "connect"]);
    let served = node.worker("test");
    let _primaries = Order::role(&node, "primary", &parts);
    let _secondary = Order::role(&node, "secondary", &["connect"]);
    let killed = "misbehaves and is killed";
    until_logged(&node, "twice", &[killed, "it sent ready for a second time"]);
    until_logged(&node, "status", &[killed, "a status that nobody asked for"]);
    until_logged(&node, "garbage", &[killed]);
    until_logged(&node, "smuggler", &[killed, "descriptor"]);
    until_logged(&node, "connect", &[killed, "only a primary connects"]);
    for part in ["twice", "status", "garbage", "smuggler", "connect"] {
        until_logged(&node, part, &["Worker process", "stopped"]);
    }
    assert_eq!(node.worker("test"), served);
    assert_eq!(node.state("test")["worker"]["answers"], true);
}

#[test]
fn a_flood_of_lines_fills_no_log_and_holds_nobody_up() {
    let node = with_rogues(&["flood"]);
    let _order = Order::role(&node, "primary", &["flood"]);
    until_logged(&node, "flood", &["flood"]);
    let size = || fs::metadata(node.path("log")).unwrap().len();
    let before = size();
    let once = |_| {
        let start = Instant::now();
        assert_eq!(node.state("test")["worker"]["answers"], true);
        start.elapsed()
    };
    let fastest = (0..20).map(once).min();
    assert!(fastest < Some(Duration::from_secs(1)), "{fastest:?}");
    assert!(
        size() - before < 1 << 20,
        "the log grew by {}",
        size() - before
    );
    until_logged(&node, "flood", &["messages of the worker were dropped"]);
}

#[test]
fn what_a_worker_says_of_itself_is_bounded_and_shown_without_control_characters() {
    let node = with_rogues(&["liar"]);
    node.ctl_ok(&["role", "primary", "rogue-liar"]);
    let state = node.document("rogue-liar")["resources"][0].clone();
    let lines = state["worker"]["confinement"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 64);
    assert_eq!(lines[0], "?[2Jeverything?and more");
    let list = node.ctl_ok(&["list", "-d", "rogue-liar"]);
    assert!(
        list.contains("in force: ?[2Jeverything?and more\n"),
        "{list}"
    );
}

#[test]
fn workers_that_abort_or_panic_are_reported_and_started_again() {
    let node = with_rogues(&["abort", "panic"]);
    let served = node.worker("test");
    let _order = Order::role(&node, "primary", &["abort", "panic"]);
    until_logged(
        &node,
        "abort",
        &["Worker process killed", "SIGABRT", "(abort)"],
    );
    until_logged(&node, "panic", &["exited ungracefully", "exitcode=101"]);
    for part in ["abort", "panic"] {
        until_logged(&node, part, &["Restarting worker process in"]);
        let again = || {
            let log = node.log();
            let started = format!("[rogue-{part}] (primary) Worker process started");
            log.matches(&started).count() >= 2
        };
        until("it is started again", again);
    }
    assert_eq!(node.state("rogue-abort")["role"], "primary");
    assert_eq!(node.worker("test"), served);
}
