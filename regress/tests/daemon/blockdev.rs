//! The kernel's block device, as far as that goes on a kernel without nbd: the daemon is made to
//! believe that the module is there, and the kernel refuses.

use std::path::Path;

use crate::node::{Node, until};

/// Everything below /sys/module but nbd is out of sight of what is started by this.
const PRETEND: &str = "mount --make-rprivate / && mount -t tmpfs none /sys/module && \
                       mkdir /sys/module/nbd && exec \"$@\"";

fn promoted(launcher: &[&str]) -> Node {
    let mut node = Node::new();
    node.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
    node.configure(&node.resource("test", "timeout 1"));
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    node
}

fn is_for_this_machine() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "it takes root"
    } else if Path::new("/sys/module/nbd").exists() {
        "this kernel has nbd"
    } else {
        return true;
    };
    println!("skipped: {reason}");
    false
}

#[test]
fn device_that_the_kernel_refuses_is_reported_and_the_primary_serves() {
    if !is_for_this_machine() {
        return;
    }
    let node = promoted(&["unshare", "-m", "sh", "-c", PRETEND, "sh"]);
    until("the kernel has been asked", || {
        node.log().contains(
            "Unable to attach device /dev/hast/test: nbd of the kernel: No such file or directory.",
        )
    });
    let state = node.state("test");
    assert_eq!(state["role"], "primary");
    assert!(node.path("devices/test.nbd").exists());
    // There is nothing to take away, and nobody tries to.
    node.ctl_ok(&["role", "init", "test"]);
    node.ctl_ok(&["stop"]);
    assert!(!node.log().contains("Unable to remove"));
}

#[test]
fn kernel_without_nbd_is_mentioned_once() {
    if !is_for_this_machine() {
        return;
    }
    let node = promoted(&[]);
    for role in ["init", "primary"] {
        node.ctl_ok(&["role", role, "test"]);
    }
    assert_eq!(node.log().matches("This kernel has no nbd").count(), 1);
}
