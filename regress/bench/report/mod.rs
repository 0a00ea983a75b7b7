//! What the figures look like.

pub(crate) mod conditions;
mod csv;
mod markdown;
mod plot;
mod targets;

use std::fs;
use std::path::Path;

use hast_regress::programs::workspace;

use self::conditions::Conditions;
use crate::options::Options;
use crate::profile::Profile;
use crate::runner::Outcome;

/// Writes everything that a run has brought, and prints the tables.
pub(crate) fn write(
    profile: &Profile,
    outcome: &Outcome,
    conditions: &Conditions,
    options: &Options,
) -> Result<(), String> {
    let directory = &options.output;
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    put(
        &directory.join("samples.csv"),
        &csv::samples(&outcome.samples),
    )?;
    put(
        &directory.join("summary.csv"),
        &csv::summary(profile, &outcome.samples),
    )?;
    let details = markdown::details(profile, outcome, conditions);
    put(&directory.join("report.md"), &details)?;
    plots(directory, profile, outcome)?;
    let summary = markdown::summary(profile, outcome, conditions);
    put(&directory.join("summary.md"), &summary)?;
    println!("\n{details}");
    if options.publish {
        publish(profile, outcome, &summary, &details)?;
    }
    Ok(())
}

fn plots(directory: &Path, profile: &Profile, outcome: &Outcome) -> Result<(), String> {
    for task in &profile.tasks {
        if let Some(picture) = plot::bars(task, &outcome.samples) {
            put(&directory.join(format!("{}.svg", task.name)), &picture)?;
        }
    }
    Ok(())
}

/// Puts the summary into README.md, and everything into docs/performance.
fn publish(
    profile: &Profile,
    outcome: &Outcome,
    summary: &str,
    details: &str,
) -> Result<(), String> {
    let directory = workspace().join("docs/performance");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    plots(&directory, profile, outcome)?;
    put(&directory.join("report.md"), details)?;
    hast_regress::figures::insert(&workspace().join("README.md"), "bench", summary)
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A number with three digits that say something, in few characters.
pub(crate) fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        size if size >= 9_995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

/// A size in the largest unit that leaves a whole number.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    units
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{} {unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.666, "0.67"),
            (12.34, "12.3"),
            (1234.4, "1234"),
            (9994.9, "9995"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn sizes_are_whole() {
        assert_eq!(size(15 << 40), "15 TiB");
        assert_eq!(size(1536 << 20), "1536 MiB");
        assert_eq!(size(513), "513 bytes");
    }
}
