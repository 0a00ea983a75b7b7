//! `hastctl events` and `hastctl explain`, told by real daemons.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::node::{Node, until};

/// The events that a node remembers, each as `kind`, `resource`, `details`.
fn events(node: &Node, words: &[&str]) -> Vec<Value> {
    let mut line = vec!["events", "--json"];
    line.extend(words);
    let text = node.ctl_ok(&line);
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records.collect()
}

fn kinds(node: &Node, words: &[&str]) -> Vec<String> {
    let kind = |event: Value| event["kind"].as_str().unwrap().to_owned();
    events(node, words).into_iter().map(kind).collect()
}

fn has(node: &Node, kind: &str) -> bool {
    kinds(node, &[]).iter().any(|other| other == kind)
}

/// The last event of a kind, once there is one.
fn last(node: &Node, kind: &str) -> Value {
    until(kind, || has(node, kind));
    let mut all = events(node, &[]).into_iter().rev();
    all.find(|event| event["kind"] == kind).unwrap()
}

#[test]
fn life_of_a_pair_is_told_in_order_with_advice_where_something_is_wrong() {
    let (mut a, mut b) = Node::pair();
    for node in [&mut a, &mut b] {
        node.create("test");
        node.start();
    }
    a.ctl_ok(&["role", "primary", "test"]);
    let event = last(&a, "connect-failed");
    assert_eq!(event["resource"], "test");
    assert_eq!(event["role"], "primary");
    assert_eq!(event["severity"], "warning");
    assert!(event["advice"].as_str().unwrap().contains("secondary"));
    let text = a.ctl_ok(&["explain", "test"]);
    assert!(
        text.contains("The other node does not accept the connection."),
        "{text}"
    );

    b.ctl_ok(&["role", "secondary", "test"]);
    a.ctl_ok(&["wait", "--synced", "--timeout", "30", "test"]);
    until("in sync", || {
        a.ctl_ok(&["explain", "test"])
            .contains("both copies are good")
    });
    assert!(
        b.ctl_ok(&["explain", "test"])
            .contains("secondary and connected")
    );

    kill(Pid::from_raw(b.worker("test").unwrap()), Signal::SIGKILL).unwrap();
    let event = last(&b, "worker-failed");
    assert!(event["details"].as_str().unwrap().contains("signal=9"));
    last(&a, "disconnect");

    let order = kinds(&a, &["test"]);
    let place = |kind: &str| order.iter().position(|other| other == kind).expect(kind);
    let expected = [
        "role",
        "worker-start",
        "connect-failed",
        "connect",
        "disconnect",
    ];
    let places = expected.map(place);
    assert!(places.is_sorted(), "{order:?}");
    let whole = events(&a, &[]);
    let seqs: Vec<u64> = whole
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(whole[0]["kind"], "daemon-start");
    assert!(events(&a, &["--since", "@4102444800"]).is_empty());
    assert!(events(&a, &["other"]).is_empty());
}

#[test]
fn follower_hears_of_what_happens_and_of_the_end() {
    let mut node = Node::new();
    node.start();
    let mut follower = node
        .ctl_command(&["events", "--json", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // Whoever looks whether the port is open is refused.
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["kind"] != "refused" {
            return event;
        }
    };
    assert_eq!(next()["kind"], "daemon-start");
    node.signal(Signal::SIGHUP);
    assert_eq!(next()["kind"], "reload");
    fs::write(node.path("hast.conf"), "resource {").unwrap();
    node.signal(Signal::SIGHUP);
    let event = next();
    assert_eq!(event["kind"], "reload-failed");
    assert!(event["details"].as_str().unwrap().contains("at line 1"));
    assert!(event["advice"].as_str().unwrap().contains("config check"));
    // Perhaps between two of its questions.
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    assert_eq!(follower.wait().unwrap().code(), Some(71));
}

#[test]
fn followers_that_do_not_read_hold_nobody_up() {
    let mut node = Node::new();
    node.start();
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut client = UnixStream::connect(node.path("ctl")).unwrap();
        let mut bytes = Vec::new();
        hast::wire::control::ControlRequest {
            order: hast::wire::control::Order::Extension {
                code: hast::wire::control::EVENTS,
                argument: Some("wait=60 after=1".to_owned()),
            },
            resources: vec!["all".to_owned()],
            json: true,
        }
        .encode(&mut bytes);
        client.write_all(&bytes).unwrap();
        silent.push(client);
    }
    for _ in 0..30 {
        node.signal(Signal::SIGHUP);
        node.ctl_ok(&["status"]);
    }
    assert!(has(&node, "reload"));
}

#[test]
fn hooks_are_told_from_their_start_to_their_end() {
    let mut node = Node::new();
    let hook = node.path("hook");
    // The arguments are: role test init primary.
    fs::write(&hook, "#!/bin/sh\n[ \"$4\" != primary ] || exit 3\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    node.configure(&node.resource("test", &format!("exec {}", hook.display())));
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let event = last(&node, "hook-failed");
    assert!(event["details"].as_str().unwrap().contains("exitcode=3"));
    assert_eq!(event["resource"], "test");
    node.ctl_ok(&["role", "init", "test"]);
    last(&node, "hook-end");
    assert!(has(&node, "hook-start"));
}

#[test]
fn what_strangers_cause_is_told_and_bounded() {
    let mut node = Node::new();
    node.start();
    for _ in 0..60 {
        let mut stream = TcpStream::connect((node.address, node.port)).unwrap();
        // It may be closed before all of it is sent.
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    }
    last(&node, "refused");
    node.ctl_ok(&["status"]);
    let refused = kinds(&node, &[])
        .iter()
        .filter(|kind| *kind == "refused")
        .count();
    assert!(refused <= 20, "{refused}");
}

#[test]
fn why_a_role_is_not_taken_is_explained() {
    let mut node = Node::new();
    node.start();
    assert!(!node.ctl(&["role", "primary", "test"]).status.success());
    assert!(has(&node, "disk-unusable") && has(&node, "role-lost"));
    let text = node.ctl_ok(&["explain", "test"]);
    assert!(
        text.contains("the role that was asked for could not be taken"),
        "{text}"
    );
    assert!(text.contains("hastctl create test"), "{text}");
    let output = node.ctl(&["explain", "other"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("no resource of this name")
    );
}
