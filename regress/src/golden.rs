//! Command lines whose output is compared with the original's, and what differs deliberately.

use std::collections::BTreeMap;
use std::path::Path;

use hast::ctl::args::USAGE;
use serde::{Deserialize, Serialize};

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Exit code; below zero the signal that ended it.
    pub exit: i32,
    /// All of it, with the original's paths.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
}

/// The cases of the original.
#[derive(Debug, Deserialize)]
pub struct Cases {
    /// Configuration files by name.
    pub confs: BTreeMap<String, String>,
    /// The directory that configurations and outputs name.
    pub workdir: String,
    /// In the order in which they were run, each on what the former left.
    pub cases: Vec<Case>,
}

/// One command line and what the original did.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Its number.
    pub id: u32,
    /// What it is about.
    pub desc: String,
    /// The command line, separated by spaces.
    pub cmd: String,
    stdout: String,
    stderr: String,
    /// A number, or words if it went on running.
    rc: serde_json::Value,
}

impl Case {
    /// What the original did; `None` if it went on running.
    pub fn outcome(&self) -> Option<Outcome> {
        let exit = i32::try_from(self.rc.as_i64()?).ok()?;
        Some(Outcome {
            exit,
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
        })
    }
}

/// Reads the original's cases.
///
/// # Panics
/// If the file is not what it should be.
pub fn cases(path: &Path) -> Cases {
    let text = std::fs::read_to_string(path).expect("the cases are readable");
    serde_json::from_str(&text).expect("the cases are JSON of the right form")
}

#[derive(Deserialize)]
struct Differences {
    difference: Vec<Difference>,
}

/// Cases in which ours does something else, for one reason.
#[derive(Clone, Debug, Deserialize)]
struct Difference {
    reason: String,
    cases: BTreeMap<String, Outcome>,
}

/// What ours does in the cases that differ, by number. `{usage}` in stderr stands for ours.
///
/// # Panics
/// If the file is not what it should be, a case is listed twice, or a reason is missing.
pub fn differences(path: &Path) -> BTreeMap<u32, Outcome> {
    let text = std::fs::read_to_string(path).expect("the differences are readable");
    let listed: Differences = toml::from_str(&text).expect("the differences are TOML of the form");
    let mut outcomes = BTreeMap::new();
    for Difference { reason, cases } in listed.difference {
        assert!(!reason.trim().is_empty(), "each difference has a reason");
        for (id, mut outcome) in cases {
            outcome.stderr = outcome.stderr.replace("{usage}", USAGE);
            let id = id.parse().expect("cases have numbers");
            assert!(outcomes.insert(id, outcome).is_none(), "case {id} twice");
        }
    }
    outcomes
}

/// Compares what ours did with the original and the list; an error says how they disagree.
pub fn judge(case: &Case, ours: &Outcome, listed: Option<&Outcome>) -> Result<(), String> {
    let Some(original) = case.outcome() else {
        return Err(format!("case {}: the original did not end", case.id));
    };
    let head = format!("case {} ({}): {}", case.id, case.desc, case.cmd);
    match (listed, *ours == original) {
        (None, true) => Ok(()),
        (Some(_), true) => Err(format!("{head}\nis equal now: take it off the list")),
        (Some(listed), false) if listed == ours => Ok(()),
        (Some(listed), false) => Err(format!("{head}\nours:     {ours:?}\nlisted:   {listed:?}")),
        (None, false) => Err(format!(
            "{head}\nours:     {ours:?}\noriginal: {original:?}"
        )),
    }
}
