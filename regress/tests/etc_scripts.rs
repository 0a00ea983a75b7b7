//! The scripts of etc/, run by dash, which knows as little beyond POSIX as FreeBSD's sh, with stubs
//! for what they call.

use std::path::Path;
use std::process::Command;

/// Runs a script of regress/etc, which prints a line per case.
fn run(script: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let output = Command::new("sh")
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
    run("carp-hast-switch.sh");
}

#[test]
fn the_rc_script_and_the_periodic_one_do_what_their_heads_say() {
    run("rc-hastd.sh");
}
