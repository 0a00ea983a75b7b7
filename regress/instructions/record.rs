//! What is on record, and whether it still holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hast_regress::programs::workspace;

use crate::{cases, count};

/// A count may differ by this share. Another compiler makes other code.
const TOLERANCE: f64 = 0.03;
const TOLERANCE_OTHER_COMPILER: f64 = 0.25;

fn path() -> PathBuf {
    workspace().join("regress/data/instructions.txt")
}

/// The record: counts by case, and the compiler.
#[derive(Debug, Default, PartialEq)]
struct Record {
    compiler: String,
    counts: BTreeMap<String, f64>,
}

fn parse(text: &str) -> Record {
    let mut record = Record::default();
    for line in text.lines() {
        if let Some(compiler) = line.strip_prefix("# compiler: ") {
            compiler.clone_into(&mut record.compiler);
        } else if let Some((name, count)) = line.split_once('\t')
            && let Ok(count) = count.trim().parse()
        {
            record.counts.insert(name.to_owned(), count);
        }
    }
    record
}

/// Counts every case and compares.
pub(crate) fn check() -> Result<bool, String> {
    let text = fs::read_to_string(path()).map_err(|error| format!("the record: {error}"))?;
    let record = parse(&text);
    let compiler = count::compiler();
    let tolerance = if compiler == record.compiler {
        TOLERANCE
    } else {
        println!(
            "The record was made by {}, this is {compiler}: only large differences count.\n",
            record.compiler
        );
        TOLERANCE_OTHER_COMPILER
    };
    let mut good = true;
    println!("{:<44}{:>12}{:>12}{:>9}", "", "on record", "now", "");
    for case in cases::all() {
        let now = count::per_call(&case)?;
        let before = record.counts.get(&case.name).copied();
        let verdict = verdict(before, now, tolerance);
        good &= verdict != Verdict::Slower && verdict != Verdict::Unknown;
        println!(
            "{:<44}{:>12}{now:>12.0}{:>8.1}% {}",
            case.name,
            before.map_or_else(String::new, |count| format!("{count:.0}")),
            before.map_or(0.0, |count| (now / count - 1.0) * 100.0),
            verdict.text()
        );
    }
    if !good {
        println!("\nIf that is meant: hast-instructions record");
    }
    Ok(good)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Slower,
    Faster,
    Unknown,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Same => "",
            Verdict::Slower => "SLOWER",
            Verdict::Faster => "faster: record it",
            Verdict::Unknown => "NOT ON RECORD",
        }
    }
}

fn verdict(before: Option<f64>, now: f64, tolerance: f64) -> Verdict {
    match before {
        None => Verdict::Unknown,
        Some(before) if now > before * (1.0 + tolerance) => Verdict::Slower,
        Some(before) if now < before * (1.0 - tolerance) => Verdict::Faster,
        Some(_) => Verdict::Same,
    }
}

/// Counts every case and writes it down.
pub(crate) fn renew() -> Result<bool, String> {
    let mut text = format!(
        "# Instructions per call, as valgrind counts them in a release build. Made by\n\
         # `hast-instructions record`, compared by `make bench-instructions`.\n# compiler: {}\n",
        count::compiler()
    );
    for case in cases::all() {
        let now = count::per_call(&case)?;
        println!("{:<44}{now:>12.0}", case.name);
        text.push_str(&format!("{}\t{now:.0}\n", case.name));
    }
    fs::write(path(), text).map_err(|error| format!("{}: {error}", path().display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_became_slower_is_wrong() {
        for (before, now, expected) in [
            (Some(100.0), 102.9, Verdict::Same),
            (Some(100.0), 103.5, Verdict::Slower),
            (Some(100.0), 90.0, Verdict::Faster),
            (None, 1.0, Verdict::Unknown),
        ] {
            assert_eq!(verdict(before, now, TOLERANCE), expected);
        }
    }

    #[test]
    fn every_case_is_on_record_and_nothing_else() {
        let text = fs::read_to_string(path()).expect("it is in the tree");
        let record = parse(&text);
        assert!(record.compiler.starts_with("rustc"));
        let mut names: Vec<String> = cases::all().into_iter().map(|case| case.name).collect();
        names.sort();
        assert!(names.iter().eq(record.counts.keys()), "{names:?}");
    }

    #[test]
    fn every_case_can_be_called() {
        for case in cases::all().into_iter().chain(crate::scale::cases()) {
            case.ready()();
        }
    }
}
