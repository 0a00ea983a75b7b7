//! Comma-separated values (RFC 4180), for programs.

use std::fmt::Write;

use crate::profile::Profile;
use crate::statistics::Samples;

/// Every measurement.
pub(super) fn samples(samples: &Samples) -> String {
    let mut text = "round,task,contestant,metric,value\n".to_owned();
    for sample in &samples.0 {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(
            text,
            "{},{},{},{},{:.6}",
            sample.round,
            field(&sample.task),
            field(&sample.contestant),
            sample.metric.name(),
            sample.value
        );
    }
    text
}

/// Medians, extremes and ratios to what each task compares with.
pub(super) fn summary(profile: &Profile, samples: &Samples) -> String {
    let mut text = "task,contestant,metric,median,min,max,ratio\n".to_owned();
    for task in &profile.tasks {
        for contestant in &task.contestants {
            let name = contestant.name();
            for metric in super::markdown::metrics(samples, task, &name) {
                let Some(spread) = samples.spread(&task.name, &name, metric) else {
                    continue;
                };
                let ratio = samples
                    .ratio(&task.name, &name, &task.baseline, metric)
                    .map(|ratio| format!("{ratio:.4}"))
                    .unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{},{},{},{:.6},{:.6},{:.6},{ratio}",
                    field(&task.name),
                    field(&name),
                    metric.name(),
                    spread.median,
                    spread.min,
                    spread.max
                );
            }
        }
    }
    text
}

/// A field, in quotes where it needs them.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Metric, Sample};

    #[test]
    fn a_comma_in_a_name_stays_in_its_field() {
        let text = samples(&Samples(vec![Sample {
            task: "t".into(),
            contestant: "hast, \"x\"".into(),
            round: 2,
            metric: Metric::Iops,
            value: 1.5,
        }]));
        let line = text.lines().nth(1).expect("one sample");
        assert_eq!(line, "2,t,\"hast, \"\"x\"\"\",iops,1.500000");
    }
}
