//! The parent process, with real processes on loopback addresses.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blockdev;
mod census;
mod closed;
mod events;
mod json;
mod manager;
mod node;
mod peers;
mod rogues;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::{Node, is_alive, until};

#[test]
fn sigterm_ends_the_daemon_and_leaves_nothing_behind() {
    let mut node = Node::new();
    node.start();
    let pid = fs::read_to_string(node.path("pid")).unwrap();
    assert_eq!(pid, node.pid().to_string());
    let mode = node.path("ctl").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let start = Instant::now();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "noticed at once");
    assert!(!node.path("pid").exists() && !node.path("ctl").exists());
    assert!(
        node.log()
            .contains("[INFO] Termination signal received, exiting.\n")
    );
    node.start();
}

#[test]
fn second_daemon_is_refused_and_the_first_goes_on() {
    let mut node = Node::new();
    node.start();
    let output = node.run_another(&[]);
    assert_eq!(output.status.code(), Some(75));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "[ERROR] Another hastd is already running, pidfile: {}, pid: {}.\n",
        node.path("pid").display(),
        node.pid()
    );
    assert_eq!(text, expected);

    // With another pidfile and port it gets as far as the control socket.
    let other = node.path("other.pid").display().to_string();
    let conf = fs::read_to_string(node.path("hast.conf")).unwrap();
    let moved = conf.replace(
        &format!(":{}\n", node.port),
        &format!(":{}\n", node::port()),
    );
    fs::write(node.path("hast.conf"), moved).unwrap();
    let output = node.run_another(&["-P", &other]);
    assert_eq!(output.status.code(), Some(71));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("Unable to listen on control address"),
        "{text}"
    );
    assert!(!node.path("other.pid").exists());
    node.ctl_ok(&["status"]);
}

#[test]
fn detached_daemon_answers_to_whoever_started_it() {
    let node = Node::new();
    let start = |conf: &str| {
        std::process::Command::new(hast_regress::programs::program("hastd"))
            .args(["-N", "nodea", "-c"])
            .arg(node.path(conf))
            .output()
            .unwrap()
    };
    let output = start("hast.conf");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid: i32 = fs::read_to_string(node.path("pid"))
        .unwrap()
        .parse()
        .unwrap();
    node.ctl_ok(&["status"]);

    // Another one on the same port fails, and says so to its terminal.
    let conf = fs::read_to_string(node.path("hast.conf")).unwrap();
    fs::write(node.path("b.conf"), conf.replace("/pid\n", "/pid2\n")).unwrap();
    let output = start("b.conf");
    assert_eq!(output.status.code(), Some(71));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("[ERROR] Unable to listen on address"),
        "{text}"
    );

    node.ctl_ok(&["stop"]);
    until("the daemon ends", || !is_alive(pid));
    assert!(!node.path("pid").exists());
    assert_eq!(node.ctl(&["status"]).status.code(), Some(71));
}

/// The best of some attempts, since other tests keep the machine busy.
fn fastest_status(node: &Node) -> Duration {
    let once = |_| {
        let start = Instant::now();
        node.ctl_ok(&["status"]);
        start.elapsed()
    };
    (0..10).map(once).min().unwrap()
}

#[test]
fn hostile_clients_of_the_control_socket_hold_nobody_up() {
    let mut node = Node::new();
    node.start();
    let connect = || UnixStream::connect(node.path("ctl")).unwrap();
    let _silent: Vec<UnixStream> = (0..10).map(|_| connect()).collect();
    for bytes in [
        &[2, 0, 0, 0, 0][..],
        &[2, 0xff, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.0\r\n\r\n",
        &[
            2, 14, 0, 0, 0, 17, 2, 0xff, 0xff, 0xff, 0xff, 1, 1, 1, 1, 1, 1, 1, 1,
        ],
    ] {
        let mut client = connect();
        client.write_all(bytes).unwrap();
        // Closed, or reset with bytes of ours unread.
        assert!(
            matches!(client.read(&mut [0; 64]), Ok(0) | Err(_)),
            "{bytes:?}"
        );
    }
    assert!(fastest_status(&node) < Duration::from_millis(100));
}

#[test]
fn role_that_cannot_be_taken_is_said_and_undone() {
    let mut node = Node::new();
    node.start();
    for role in ["primary", "secondary"] {
        let output = node.ctl(&["role", role, "test"]);
        assert_ne!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("[test] Received error"), "{text}");
        assert!(text.contains("test.img"), "says why: {text}");
        assert_eq!(node.state("test")["role"], "init");
    }
    assert!(
        node.log()
            .contains("[INFO] [test] (primary) Changing resource role back to init.")
    );
}

#[test]
fn killed_primary_is_restarted_and_a_stopped_one_holds_no_status_up() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let first = node.worker("test").unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    until("a new worker", || {
        node.worker("test").is_some_and(|pid| pid != first)
    });
    assert_eq!(node.state("test")["role"], "primary");
    assert!(node.log().contains("Worker process killed"));

    let second = node.worker("test").unwrap();
    until("the new worker answers", || {
        node.state("test")["worker"]["answers"] == true
    });
    kill(Pid::from_raw(second), Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    assert_eq!(node.state("test")["worker"]["answers"], false);
    assert!(start.elapsed() < Duration::from_secs(4));
    kill(Pid::from_raw(second), Signal::SIGCONT).unwrap();
    until("the worker answers again", || {
        node.state("test")["worker"]["answers"] == true
    });
}

#[test]
fn worker_that_does_not_end_is_killed_when_the_daemon_ends() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let worker = node.worker("test").unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    assert!(!is_alive(worker));
}

#[test]
fn workers_and_listener_end_at_once_when_the_parent_is_killed() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let worker = node.worker("test").unwrap();
    node.signal(Signal::SIGKILL);
    node.end();
    let start = Instant::now();
    until("the worker ends", || !is_alive(worker));
    assert!(start.elapsed() < Duration::from_secs(5));
    // What it left behind keeps no successor from starting.
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
}

#[test]
fn hooks_get_the_documented_arguments_and_nothing_else() {
    let mut node = Node::new();
    node.create("test");
    let hook = node.path("hook");
    let seen = node.path("seen");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{0}\nls /proc/self/fd | tr '\\n' ' ' >>{0}.fds\nexit 3\n",
        seen.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    node.configure(&node.resource("test", &format!("exec {}", hook.display())));
    node.start();
    node.ctl_ok(&["role", "secondary", "test"]);
    let expected = "role test init secondary\n";
    until("the hook ran", || {
        fs::read_to_string(&seen).is_ok_and(|text| text == expected)
    });
    until("its failure is logged", || {
        node.log()
            .contains("[ERROR] Hook exited ungracefully (pid=")
    });
    // 3 is ls's own, of the directory.
    let descriptors = fs::read_to_string(format!("{}.fds", seen.display())).unwrap();
    assert_eq!(descriptors, "0 1 2 3 ");
}

#[test]
fn reload_changes_what_changed_and_keeps_everything_if_anything_is_wrong() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    let worker = node.worker("test").unwrap();

    let conf = fs::read_to_string(node.path("hast.conf")).unwrap();
    fs::write(node.path("hast.conf"), format!("{conf}\nbogus statement\n")).unwrap();
    node.signal(Signal::SIGHUP);
    until("the refusal", || {
        node.log().contains("[WARNING] Configuration not reloaded.")
    });
    fs::write(node.path("hast.conf"), &conf).unwrap();
    assert_eq!(node.worker("test"), Some(worker));

    // A parameter of a running primary changes in place; a resource and an address come.
    let port = node::port();
    let more = format!(
        "listen tcp4://127.0.0.1:{port}\n{}{}",
        node.resource("test", "replication async timeout 7"),
        node.resource("second", "")
    );
    node.configure(&more);
    node.signal(Signal::SIGHUP);
    until("the reload", || {
        node.log()
            .contains("[INFO] Configuration reloaded successfully.")
    });
    assert_eq!(node.worker("test"), Some(worker));
    assert_eq!(node.state("test")["configuration"]["replication"], "async");
    assert_eq!(node.state("second")["role"], "init");
    until("the new address", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });

    // Another provider name costs the worker.
    node.configure(&node.resource("test", "name other"));
    node.signal(Signal::SIGHUP);
    until("another worker", || {
        node.worker("test").is_some_and(|pid| pid != worker)
    });
    assert_eq!(node.state("test")["role"], "primary");
    assert_eq!(node.ctl(&["status", "second"]).status.code(), Some(1));
    until("the address is closed", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    });

    // The control socket moves; a resource that disappears takes its worker with it.
    let worker = node.worker("test").unwrap();
    let moved = format!(
        "control {}\nlisten tcp4://127.0.0.1:{}\n",
        node.path("moved").display(),
        node.port
    );
    node.configure_all(&moved);
    node.signal(Signal::SIGHUP);
    until("the control socket has moved", || {
        node.path("moved").exists()
    });
    assert!(!node.path("ctl").exists());
    until("the worker ends", || !is_alive(worker));
    assert_eq!(node.ctl(&["status", "test"]).status.code(), Some(1));
    until("it is said", || {
        node.log().contains("[INFO] Resource test removed.")
    });
}

#[test]
fn five_hundred_resources_are_told_in_under_a_second() {
    let mut node = Node::new();
    let sections: String = (0..500)
        .map(|number| node.resource(&format!("r{number}"), ""))
        .collect();
    node.configure(&sections);
    node.start();
    let table = node.ctl_ok(&["status"]);
    assert_eq!(table.lines().count(), 501);
    assert!(fastest_status(&node) < Duration::from_secs(1));
}
