//! What a service manager is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::node::{Node, SOON};

/// A node whose daemon has a manager.
fn managed() -> (Node, UnixDatagram) {
    let mut node = Node::new();
    let socket = UnixDatagram::bind(node.path("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    node.environment = vec![("NOTIFY_SOCKET", node.path("notify").display().to_string())];
    (node, socket)
}

fn hear(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let count = socket.recv(&mut bytes).expect("a message in time");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn manager_is_told_when_the_control_socket_answers_of_reloads_and_of_the_end() {
    let (mut node, socket) = managed();
    node.start();
    assert_eq!(hear(&socket), "READY=1");
    node.ctl_ok(&["status"]);
    for text in [node.resource("test", "timeout 9"), "nonsense\n".to_owned()] {
        node.configure(&text);
        node.signal(Signal::SIGHUP);
        let said = hear(&socket);
        assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
        // Also when everything stays as it is.
        assert_eq!(hear(&socket), "READY=1");
    }
    node.signal(Signal::SIGTERM);
    assert_eq!(hear(&socket), "STOPPING=1");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn watchdog_hears_of_a_daemon_that_has_nothing_to_do() {
    let (mut node, socket) = managed();
    node.environment
        .push(("WATCHDOG_USEC", "200000".to_owned()));
    node.start();
    for _ in 0..4 {
        while hear(&socket) != "WATCHDOG=1" {}
    }
}

#[test]
fn hooks_do_not_speak_for_the_daemon() {
    let (mut node, _socket) = managed();
    node.environment
        .push(("WATCHDOG_USEC", "200000".to_owned()));
    let hook = node.path("hook");
    let out = node.path("environment");
    // Renamed, so that it is complete as soon as it is there.
    let body = format!("#!/bin/sh\nenv >{0}.new\nmv {0}.new {0}\n", out.display());
    fs::write(&hook, body).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    node.configure(&node.resource("test", &format!("exec {}", hook.display())));
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "secondary", "test"]);
    crate::node::until("the hook has run", || out.exists());
    let environment = fs::read_to_string(out).unwrap();
    assert!(environment.contains("PATH="), "{environment}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        assert!(!environment.contains(name), "{environment}");
    }
}
