//! What is to be reached, and whether it was.

use crate::contestant::BARE;
use crate::profile::{Profile, Task};
use crate::statistics::{Metric, Samples};

/// A ratio that is to be reached.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What.
    pub(super) text: String,
    /// The least ratio.
    pub(super) least: f64,
    /// What was measured.
    pub(super) ratio: f64,
}

/// By task, beginning of the contestant's name, contestant to compare with, least ratio.
const LEAST: [(&str, &str, &str, f64); 17] = [
    ("randwrite-4k-d32-100m", "hast fullsync", BARE, 1.0),
    ("randwrite-4k-d32-100m", "hast memsync", BARE, 1.0),
    ("randwrite-4k-d32-1g", "hast fullsync", BARE, 1.0),
    ("randwrite-4k-d32-1g", "hast memsync", BARE, 1.0),
    ("randwrite-4k-d1-100m", "hast fullsync", BARE, 0.8),
    ("randwrite-4k-d1-100m", "hast memsync", BARE, 0.8),
    ("write-128k-d16", "hast fullsync", BARE, 1.0),
    ("write-128k-d16", "hast memsync", BARE, 1.0),
    ("randread-4k-d32", "hast fullsync", BARE, 2.5),
    ("randwrite-4k-d32-100m", "hast fullsync", QUORUM, 2.0),
    ("randwrite-4k-d32-100m", "hast memsync", QUORUM, 2.0),
    ("randwrite-4k-d1-100m", "hast fullsync", QUORUM, 2.0),
    ("randwrite-4k-d1-100m", "hast memsync", QUORUM, 2.0),
    ("randwrite-4k-d32-1g", "hast fullsync", QUORUM, 2.0),
    ("randwrite-4k-d32-1g", "hast memsync", QUORUM, 2.0),
    ("write-128k-d16", "hast fullsync", QUORUM, 2.0),
    ("write-128k-d16", "hast memsync", QUORUM, 2.0),
];

const QUORUM: &str = "qemu quorum";

/// Those that this run says something about. Of several drivers the better one counts.
pub(super) fn met(profile: &Profile, samples: &Samples) -> Vec<Target> {
    let mut targets = Vec::new();
    for (name, contestant, baseline, least) in LEAST {
        let Some(task) = profile.tasks.iter().find(|task| task.name == name) else {
            continue;
        };
        let plain = |name: &str| {
            name.strip_prefix(contestant)
                .is_some_and(|rest| matches!(rest, "" | " threads" | " uring"))
        };
        let best = best(task, samples, plain, baseline);
        targets.extend(best.map(|(name, ratio)| Target {
            text: format!("{}: {name} to {baseline}", task.title),
            least,
            ratio,
        }));
    }
    targets.extend(by_itself(
        profile,
        samples,
        "delay-sync-full",
        "+10 ms",
        "+0 ms",
        0.9,
    ));
    let largest = profile
        .tasks
        .iter()
        .find(|task| task.name == "scale")
        .and_then(|task| Some(task.contestants.last()?.name()));
    if let Some(largest) = largest {
        targets.extend(by_itself(profile, samples, "scale", &largest, "1 GiB", 0.9));
    }
    targets
}

fn best(
    task: &Task,
    samples: &Samples,
    wanted: impl Fn(&str) -> bool,
    baseline: &str,
) -> Option<(String, f64)> {
    task.contestants
        .iter()
        .map(crate::contestant::Contestant::name)
        .filter(|name| wanted(name))
        .filter_map(|name| {
            let ratio = samples.ratio(&task.name, &name, baseline, task.headline)?;
            Some((name, ratio))
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Ours against ours: the contestant whose name ends in one thing against that which ends in
/// another.
fn by_itself(
    profile: &Profile,
    samples: &Samples,
    task: &str,
    end: &str,
    baseline: &str,
    least: f64,
) -> Option<Target> {
    let task = profile.tasks.iter().find(|known| known.name == task)?;
    let named = |end: &str| {
        let mut names = task
            .contestants
            .iter()
            .map(crate::contestant::Contestant::name);
        names.find(|name| name.ends_with(end))
    };
    let (contestant, baseline) = (named(end)?, named(baseline)?);
    if contestant == baseline {
        return None;
    }
    let metric: Metric = task.headline;
    Some(Target {
        text: format!("{}: {contestant} to {baseline}", task.title),
        least,
        ratio: samples.ratio(&task.name, &contestant, &baseline, metric)?,
    })
}
