//! Processes by their number, as /proc shows them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|children| {
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// The command line of a process; empty if it has gone or is a zombie.
pub fn title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .trim_end_matches('\0')
        .replace('\0', " ")
}

/// Whether anything of the process runs. A thread in the middle of a system call, such as fsync(2),
/// may outlive the first one by a while and hold all that the process had open.
pub fn runs(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
    if !state.starts_with(['Z', 'X']) {
        return true;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads > 1
}

/// Sends a signal; a process that has gone does not mind.
pub fn signal(pid: i32, signal: Signal) {
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills a process and all that it has started, as a loss of power does: none of them gets to see
/// another one's end.
pub fn kill_all(root: i32) {
    let mut found = vec![root];
    signal(root, Signal::SIGSTOP);
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        for child in children(pid) {
            signal(child, Signal::SIGSTOP);
            found.push(child);
        }
        at += 1;
    }
    for &pid in &found {
        signal(pid, Signal::SIGKILL);
    }
    super::wait::until("the end of killed processes", super::wait::PATIENCE, || {
        found.iter().skip(1).all(|&pid| !runs(pid)).then_some(())
    });
}
