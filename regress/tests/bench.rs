//! The benchmark suite still works: its shortest profile, whose figures mean nothing.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hast_regress::scenario::blockdev::has;
use hast_regress::scenario::{process, wait};
use nix::sys::signal::Signal;

fn bench(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hast-bench"));
    command
        .arg("--smoke")
        .arg("--dir")
        .arg(home.join("disks"))
        .arg("--output")
        .arg(home.join("report"));
    command
}

#[test]
fn everything_is_measured_once() {
    let home = tempfile::tempdir().expect("a directory");
    let output = bench(home.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read = |name: &str| {
        let path = home.path().join("report").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}\n{said}"))
    };
    let samples = read("samples.csv");
    let mut tasks = vec![
        "sync-full",
        "sync-partial",
        "sync-latency",
        "promote",
        "scale",
    ];
    if has("fio") {
        tasks.extend(["randwrite-4k-d32-100m", "many-3", "delay-randwrite-4k-d1"]);
    }
    for task in tasks {
        let of_ours = |line: &&str| line.contains(task) && line.contains("hast fullsync");
        assert!(samples.lines().any(|line| of_ours(&line)), "{task}: {said}");
        assert!(read(&format!("{task}.svg")).ends_with("</svg>\n"));
    }
    let summary = read("summary.md");
    assert!(
        summary.contains("time until the other node serves"),
        "{summary}"
    );
    assert_eq!(
        fs::read_dir(home.path().join("disks")).map_or(0, Iterator::count),
        0,
        "its disks are gone"
    );
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("a directory");
    let mut child = bench(home.path())
        .args(["--only", "scale", "--seconds", "60"])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let pid = i32::try_from(child.id()).expect("process ids are small");
    let out = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(out).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("results go to"))));
    // Both daemons, each with a listener and a worker.
    let descendants = || {
        let mut all = process::children(pid);
        let mut at = 0;
        while let Some(&pid) = all.get(at) {
            all.extend(process::children(pid));
            at += 1;
        }
        all
    };
    let running = wait::until("two nodes", wait::PATIENCE, || {
        let all = descendants();
        (all.len() >= 6).then_some(all)
    });
    process::signal(pid, Signal::SIGTERM);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    wait::until("the end of its children", Duration::from_secs(10), || {
        running.iter().all(|&pid| !process::runs(pid)).then_some(())
    });
    for directory in [temporary, home.path().join("disks")] {
        let left: Vec<_> = fs::read_dir(&directory)
            .expect("it stays")
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
