//! The scripts of etc/ and of the suite for FreeBSD, run by dash, which knows as little beyond POSIX
//! as FreeBSD's sh, with stubs for what they call.

use std::path::{Path, PathBuf};
use std::process::Command;

use hast_regress::programs::program;

/// Runs a script that tests scripts, and prints a line per case, with a variable perhaps.
fn run(script: &str, environment: Option<(&str, PathBuf)>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("sh")
        .envs(environment)
        .arg(directory.join(script))
        .arg(if cfg!(target_os = "freebsd") {
            "sh"
        } else {
            "dash"
        })
        .output()
        .expect("there is a shell");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn carp_hast_switch_moves_resources_with_an_address() {
    run("etc/carp-hast-switch.sh", None);
}

#[test]
fn vrrp_hast_switch_moves_resources_with_an_address() {
    run("etc/vrrp-hast-switch.sh", None);
}

#[test]
fn the_rc_script_and_the_periodic_one_do_what_their_heads_say() {
    run("etc/rc-hastd.sh", None);
}

#[test]
fn the_suite_for_freebsd_tells_what_passed_failed_and_was_skipped() {
    let hastctl = program("hastctl");
    run("freebsd/suite-test.sh", Some(("HASTCTL", hastctl)));
}
