//! What etc/install.sh installs where.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hast_regress::programs::{program, workspace};

/// Every file below a directory, with its mode.
fn files(top: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(top, &path, found);
        } else {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let name = path.strip_prefix(top).unwrap().display().to_string();
            found.push(format!("{mode:o} {name}"));
        }
    }
}

/// Installs for a system, and lists what is there then.
fn installed(prefix: &str, system: &str) -> Vec<String> {
    let hastctl = program("hastctl");
    let destination = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .arg(workspace().join("etc/install.sh"))
        .args([destination.path(), Path::new(prefix)])
        .arg(hastctl.parent().unwrap())
        .arg(system)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut found = Vec::new();
    files(destination.path(), destination.path(), &mut found);
    found.sort_by(|left, right| left[4..].cmp(&right[4..]));
    for line in &found {
        let bytes = fs::read(destination.path().join(&line[4..])).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in ["%%PREFIX%%", "%%SYSCONFDIR%%"] {
            assert!(!text.contains(word), "{line}: {word} was not replaced");
        }
    }
    found
}

#[test]
fn linux_gets_units_kits_and_what_belongs_to_the_system() {
    insta::assert_snapshot!(installed("/usr", "Linux").join("\n"));
}

#[test]
fn freebsd_gets_its_scripts_below_the_prefix_alone() {
    insta::assert_snapshot!(installed("/usr/local", "FreeBSD").join("\n"));
}
