//! Every task with every contestant, in interleaved rounds.
//!
//! In each round, tasks come one after the other, and in each task its contestants, beginning with
//! another one each time: what changes on the machine in the course of a run meets all of them.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use crate::contestant::Contestant;
use crate::ground::Ground;
use crate::profile::{Profile, Task};
use crate::statistics::{Sample, Samples};
use crate::work::Numbers;

/// What a run has brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The measurements.
    pub(crate) samples: Samples,
    /// What failed, and why: by task and contestant.
    pub(crate) failures: BTreeMap<(String, String), String>,
    /// Whether anything of ours is among that.
    ours_failed: bool,
}

impl Outcome {
    /// Whether everything of ours could be measured.
    pub(crate) fn ours_is_complete(&self) -> bool {
        !self.ours_failed
    }
}

/// Measures everything.
pub(crate) fn run(profile: &Profile, ground: &Ground) -> Outcome {
    let mut outcome = Outcome::default();
    for round in 1..=profile.rounds {
        for task in profile.tasks.iter().filter(|task| round <= task.rounds) {
            let count = task.contestants.len();
            for at in 0..count {
                let contestant = &task.contestants[(at + round as usize - 1) % count];
                one(profile, ground, task, contestant, round, &mut outcome);
            }
        }
    }
    outcome
}

fn one(
    profile: &Profile,
    ground: &Ground,
    task: &Task,
    contestant: &Contestant,
    round: u32,
    outcome: &mut Outcome,
) {
    let name = contestant.name();
    let key = (task.name.clone(), name.clone());
    if outcome.failures.contains_key(&key) {
        return;
    }
    ground.settle();
    let head = format!("{round}/{}  {:<28} {name:<32}", task.rounds, task.name);
    let measure = || task.work.measure(ground, contestant, profile.runtime);
    let measured = panic::catch_unwind(AssertUnwindSafe(measure))
        .unwrap_or_else(|panic| Err(told(panic.as_ref())));
    match measured {
        Ok(numbers) => {
            println!("{head} {}", line(task, &numbers));
            let of = |(metric, value)| Sample {
                task: task.name.clone(),
                contestant: name.clone(),
                round,
                metric,
                value,
            };
            outcome.samples.0.extend(numbers.into_iter().map(of));
        }
        Err(reason) => {
            println!("{head} failed: {reason}");
            outcome.ours_failed |= contestant.is_ours();
            outcome.failures.insert(key, reason);
        }
    }
}

/// The task's main number, and how it compares.
fn line(task: &Task, numbers: &Numbers) -> String {
    numbers
        .iter()
        .filter(|(metric, _)| *metric == task.headline)
        .map(|(metric, value)| format!("{:>10} {}", crate::report::number(*value), metric.title()))
        .collect()
}

/// What a failed part of the scenarios' machinery said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("it failed without a word");
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        let caught = panic::catch_unwind(|| panic!("no room\nfor {}", "this"));
        let panic = caught.expect_err("it panics");
        assert_eq!(told(panic.as_ref()), "no room");
    }
}
