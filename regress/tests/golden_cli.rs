//! The original's command lines, its stdout, stderr and exit codes.
//!
//! Each case runs the real program and has to do what the original did, or what
//! `data/text/differences.toml` lists with a reason. `HAST_SHOW_OUTCOMES=1` prints what ours does
//! in the cases that differ, in the form of that file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hast::ctl::args::USAGE;
use hast_regress::golden::{self, Case, Outcome};
use hast_regress::programs::program;

/// What a case cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// The program alone.
    Nothing,
    /// hastd with a pid or a log that the case cannot know: the tests of the daemon look at it.
    Hastd,
    /// hastd in the background.
    Daemon,
}

fn needs(case: &Case) -> Needs {
    match case.id {
        // And 107 asks the name service.
        107 | 110..=112 => Needs::Hastd,
        // No options are looked at before the role.
        124 => Needs::Nothing,
        113.. => Needs::Daemon,
        _ => Needs::Nothing,
    }
}

/// A daemon that ends with the test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The directory that stands for the original's, with its files.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() {
            fs::remove_dir(path).unwrap();
        } else if path.symlink_metadata().is_ok() {
            fs::remove_file(path).unwrap();
        }
    }

    fn zeros(&self, name: &str, length: u64) {
        self.remove(name);
        let file = fs::File::create(self.path(name)).unwrap();
        file.set_len(length).unwrap();
    }

    /// Brings the providers into the state that the case's description speaks of; what is not
    /// mentioned is as the case before left it.
    fn prepare(&self, case: &Case) {
        let size = case
            .desc
            .strip_prefix("create: provider of ")
            .and_then(|rest| rest.strip_suffix(" bytes"))
            .and_then(|size| size.parse().ok());
        match (case.id, size) {
            (_, Some(size)) => self.zeros("a.img", size),
            (1 | 38 | 80 | 82, _) => self.zeros("a.img", 64 << 20),
            (88 | 140, _) => self.zeros("c.img", 32 << 20),
            (98, _) => self.zeros("a.ctl", 0),
            (99, _) => self.remove("a.ctl"),
            (75, _) => self.remove("a.img"),
            (77, _) => {
                self.remove("a.img");
                fs::create_dir(self.path("a.img")).unwrap();
            }
            (79, _) => {
                self.remove("a.img");
                symlink("/dev/null", self.path("a.img")).unwrap();
            }
            (81, _) => {
                // No first byte of a name-value block, and no end of one.
                let noise: Vec<u8> = (0..8192_u32)
                    .map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8 | 0x40)
                    .collect();
                self.remove("a.img");
                fs::write(self.path("a.img"), noise).unwrap();
            }
            _ => {}
        }
    }

    /// hastd on the configuration of the cases that need it.
    fn daemon(&self) -> Daemon {
        let child = Command::new(program("hastd"))
            .args(["-F", "-N", "nodea", "-c"])
            .arg(self.path("two.conf"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.path("a.ctl").exists() {
            assert!(Instant::now() < deadline, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Daemon(child)
    }

    fn run(&self, case: &Case, workdir: &str) -> Outcome {
        let here = self.dir.path().to_str().unwrap();
        let mut words = case.cmd.split_whitespace();
        let name = words.next().unwrap();
        let mut command = Command::new(program(name));
        command.current_dir(&self.dir);
        for (at, word) in words.enumerate() {
            command.arg(word.replace(workdir, here));
            // The original goes by the host's name.
            let is_command = name == "hastctl" && word != "bogus" && !word.starts_with('-');
            if at == 0 && (is_command || word == "-F") {
                let node = match case.id {
                    15 => "nodea.example.org",
                    _ => "nodea",
                };
                command.args(["-N", node]);
            }
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(here, workdir);
        let mut stderr = text(output.stderr);
        if case
            .outcome()
            .is_some_and(|outcome| outcome.stderr.contains("(provider is "))
        {
            let length = fs::metadata(self.path("a.img")).unwrap().len();
            stderr.push_str(&format!("(provider is {length} bytes afterwards)\n"));
        }
        Outcome {
            exit: output
                .status
                .code()
                .or_else(|| output.status.signal().map(|signal| -signal))
                .unwrap(),
            stdout: with_the_pid_of_the_original(&text(output.stdout)),
            stderr,
        }
    }
}

/// Replaces the process id of a worker, which no two runs share.
fn with_the_pid_of_the_original(stdout: &str) -> String {
    let line = |line: &str| match line.strip_prefix("  workerpid: ") {
        Some(pid) if pid.trim_end().parse::<u32>().is_ok() => "  workerpid: 5386\n".to_owned(),
        _ => line.to_owned(),
    };
    stdout.split_inclusive('\n').map(line).collect()
}

#[test]
fn the_usage_begins_with_all_of_the_originals() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/text");
    let cases = golden::cases(&data.join("cases.json"));
    let original = cases.cases[0].outcome().unwrap();
    assert!(USAGE.starts_with(&original.stderr));
}

#[test]
fn every_case_does_what_the_original_did_or_what_is_listed_with_a_reason() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/text");
    let cases = golden::cases(&data.join("cases.json"));
    let differences = golden::differences(&data.join("differences.toml"));
    let show = std::env::var_os("HAST_SHOW_OUTCOMES").is_some();

    let world = World {
        dir: tempfile::tempdir().unwrap(),
    };
    let here = world.dir.path().to_str().unwrap().to_owned();
    for (name, text) in &cases.confs {
        let mut text = text.replace(&cases.workdir, &here);
        if name == "two.conf" {
            // What workers need on a machine without the account of the installation.
            text.push_str(&format!("user nobody\ndevices {here}\n"));
        } else if name.starts_with("d-") {
            text.push_str("user nobody\n");
        }
        fs::write(world.path(name), text).unwrap();
    }

    let mut daemon = None;
    let mut seen = BTreeSet::new();
    let mut skipped = std::collections::BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases.cases {
        let needs = needs(case);
        if needs == Needs::Daemon && daemon.is_none() {
            daemon = Some(world.daemon());
        }
        if needs == Needs::Hastd {
            *skipped.entry(needs).or_insert(0) += 1;
            continue;
        }
        seen.insert(case.id);
        world.prepare(case);
        let ours = world.run(case, &cases.workdir);
        if show && case.outcome().as_ref() != Some(&ours) {
            println!("# {}\n[difference.cases.{}]", case.desc, case.id);
            let mut shown = ours.clone();
            shown.stderr = shown.stderr.replace(USAGE, "{usage}");
            println!("{}", toml::to_string(&shown).unwrap());
        }
        failures.extend(golden::judge(case, &ours, differences.get(&case.id)).err());
    }
    failures.extend(
        differences
            .keys()
            .filter(|id| !seen.contains(id))
            .map(|id| format!("case {id} is listed and was not run")),
    );
    println!("{} cases run, skipped: {skipped:?}", seen.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
