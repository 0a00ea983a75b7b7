//! Under what conditions something was measured: without them a figure says nothing.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hast_regress::figures;
use hast_regress::scenario::blockdev::run;

use crate::child::output;
use crate::ground::Ground;
use crate::profile::Profile;

/// Lines for people, each about one thing.
#[derive(Clone, Debug)]
pub(crate) struct Conditions(Vec<String>);

impl Conditions {
    /// As they are now.
    pub(crate) fn now(ground: &Ground, profile: &Profile) -> Conditions {
        let mut lines = vec![
            figures::machine(),
            format!("files on {}", file_system(ground.dir())),
            format!(
                "{}, load {} at the begin",
                figures::date(
                    SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .unwrap_or_default()
                ),
                first_word("/proc/loadavg")
            ),
            format!(
                "hast {}, {}",
                figures::version(),
                [("qemu-nbd", "qemu"), ("nbdkit", "nbdkit"), ("fio", "fio")]
                    .iter()
                    .filter_map(|(program, name)| Some(format!("{name} {}", version(program)?)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            format!(
                "profile {}: medians of {} rounds of {} s, all contestants in turn in each round",
                profile.name,
                profile.rounds,
                profile.runtime.as_secs_f64()
            ),
        ];
        if !profile.absent.is_empty() {
            lines.push(format!("not measured: {}", profile.absent.join("; ")));
        }
        Conditions(lines)
    }

    /// As one sentence.
    pub(crate) fn sentence(&self) -> String {
        self.0.join("; ")
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

fn first_word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// The version that a program states, or nothing.
fn version(program: &str) -> Option<String> {
    let said = output(
        Command::new(program).arg("--version"),
        Duration::from_secs(5),
    )
    .ok()?;
    let number = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    let word = said
        .lines()
        .next()?
        .split_whitespace()
        .flat_map(|word| word.split('-'))
        .find(number)?;
    Some(word.trim_matches(['(', ')', ',']).to_owned())
}

/// The file system's kind and device.
fn file_system(dir: &Path) -> String {
    let shown = dir.display().to_string();
    run("findmnt", &["-n", "-o", "FSTYPE,SOURCE", "-T", &shown]).map_or_else(
        |_| "an unknown file system".to_owned(),
        |said| {
            let words: Vec<&str> = said.split_whitespace().collect();
            words.join(" on ")
        },
    )
}
