//! Processor time and memory of processes, as /proc tells them.

use std::fs;
use std::time::Duration;

use hast_regress::scenario::process;
use nix::unistd::{SysconfVar, sysconf};

/// What some processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system, since they were started.
    pub(crate) cpu: Duration,
    /// Memory of their own: neither program text nor page cache.
    pub(crate) memory_bytes: u64,
}

/// What these processes and all their descendants have used. What has ended is not counted.
pub(crate) fn of(roots: &[i32]) -> Usage {
    let mut all = roots.to_vec();
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(process::children(pid));
        at += 1;
    }
    all.iter().fold(Usage::default(), |sum, &pid| Usage {
        cpu: sum.cpu + cpu(pid),
        memory_bytes: sum.memory_bytes + memory(pid),
    })
}

fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; `state` follows it. User and system time are the
    // twelfth and thirteenth after the name (proc(5): 14 and 15).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .unwrap_or(100)
        .max(1);
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / per_second)
}

fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("RssAnon:") || line.starts_with("RssShmem:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .sum()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_is_seen() {
        let own = i32::try_from(std::process::id()).expect("process ids are positive");
        let before = of(&[own]);
        let block = vec![1u8; 8 << 20];
        while of(&[own]).cpu < before.cpu + Duration::from_millis(20) {
            std::hint::black_box(&block);
        }
        assert!(of(&[own]).memory_bytes >= 8 << 20);
    }

    #[test]
    fn a_process_that_is_gone_has_used_nothing() {
        assert_eq!(of(&[i32::MAX]).memory_bytes, 0);
    }
}
