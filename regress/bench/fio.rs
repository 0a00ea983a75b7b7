//! fio(1) with its NBD engine: the client of every contestant.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::child::output;

/// What fio is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    /// fio's `rw`.
    pub(crate) rw: &'static str,
    /// Bytes of a request.
    pub(crate) block_bytes: u64,
    /// Requests in flight, per device.
    pub(crate) depth: u32,
    /// Working set, per device.
    pub(crate) bytes: u64,
    /// Devices, all at once.
    pub(crate) resources: usize,
    /// A flush after so many writes; 0: none.
    pub(crate) flush_each: u32,
}

/// What fio saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Requests per second.
    pub(crate) iops: f64,
    /// Bytes per second.
    pub(crate) bytes_per_s: f64,
    /// Mean time of a request, in microseconds; of writes where there are any.
    pub(crate) mean_us: f64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 99 of 100.
    pub(crate) p99_us: f64,
    /// For how long that was measured.
    pub(crate) seconds: f64,
}

/// Time before the measurement in which a contestant warms up.
pub(crate) fn warm_up(runtime: Duration) -> Duration {
    (runtime / 5).min(Duration::from_secs(1))
}

/// Runs a workload on the devices of these URIs for `runtime`, after the warm-up.
pub(crate) fn run(workload: &Workload, uris: &[String], runtime: Duration) -> Result<Seen, String> {
    let mut command = Command::new("fio");
    command
        .args(["--output-format=json", "--ioengine=nbd", "--thread"])
        .args(["--group_reporting", "--time_based", "--norandommap"])
        .arg(format!("--rw={}", workload.rw))
        .arg(format!("--bs={}", workload.block_bytes))
        .arg(format!("--iodepth={}", workload.depth))
        .arg(format!("--size={}", workload.bytes))
        .arg(format!("--runtime={}ms", runtime.as_millis()))
        .arg(format!("--ramp_time={}ms", warm_up(runtime).as_millis()));
    if workload.rw == "randrw" {
        command.arg("--rwmixread=70");
    }
    if workload.flush_each > 0 {
        command.arg(format!("--fsync={}", workload.flush_each));
    }
    for (at, uri) in uris.iter().enumerate() {
        command
            .arg(format!("--name=device{at}"))
            .arg(format!("--uri={uri}"));
    }
    let patience = runtime + warm_up(runtime) + Duration::from_secs(60);
    understand(&output(&mut command, patience)?)
}

/// Reads what fio printed.
fn understand(said: &str) -> Result<Seen, String> {
    // Its NBD engine prints a line of its own first.
    let start = said.find('{').ok_or("fio says nothing")?;
    let document: Value =
        serde_json::from_str(&said[start..]).map_err(|error| format!("fio's output: {error}"))?;
    let job = &document["jobs"][0];
    if let Some(error) = job["error"].as_i64().filter(|&error| error != 0) {
        return Err(format!("fio: error {error}"));
    }
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let (read, write) = (&job["read"], &job["write"]);
    let timed = if number(&write["total_ios"]) > 0.0 {
        write
    } else {
        read
    };
    let seen = Seen {
        iops: number(&read["iops"]) + number(&write["iops"]),
        bytes_per_s: number(&read["bw_bytes"]) + number(&write["bw_bytes"]),
        mean_us: number(&timed["clat_ns"]["mean"]) / 1e3,
        p50_us: number(&timed["clat_ns"]["percentile"]["50.000000"]) / 1e3,
        p99_us: number(&timed["clat_ns"]["percentile"]["99.000000"]) / 1e3,
        seconds: number(&timed["runtime"]) / 1e3,
    };
    if seen.iops > 0.0 {
        Ok(seen)
    } else {
        Err("fio: not a single request was done".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"fio: connected to NBD server
{ "jobs": [ { "error": 0,
  "read": { "total_ios": 7, "iops": 70.0, "bw_bytes": 700, "runtime": 1000 },
  "write": { "total_ios": 3, "iops": 30.5, "bw_bytes": 300, "runtime": 2000,
    "clat_ns": { "mean": 2500.0, "percentile": { "50.000000": 2000, "99.000000": 9000 } } } } ] }"#;

    #[test]
    fn reads_and_writes_count_and_writes_are_timed() {
        let seen = understand(SAID).expect("it is what fio says");
        assert!((seen.iops - 100.5).abs() < 1e-9);
        assert!((seen.bytes_per_s - 1000.0).abs() < 1e-9);
        assert_eq!((seen.mean_us, seen.p50_us, seen.p99_us), (2.5, 2.0, 9.0));
        assert!((seen.seconds - 2.0).abs() < 1e-9);
    }

    #[test]
    fn failures_are_told() {
        let failed = SAID.replace("\"error\": 0", "\"error\": 5");
        for said in [&failed, "", "{", "{}"] {
            assert!(understand(said).is_err(), "{said}");
        }
    }
}
