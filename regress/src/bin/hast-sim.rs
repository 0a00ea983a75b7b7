//! `hast-sim`: simulated clusters under faults, from seeds.
//!
//! Without options it does a thousand runs. A failing run prints its seed, the invariant that was
//! broken and the last lines of its trace; `--replay SEED` repeats it, `--verbose` with all of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use hast::engine::mutant::Mutant;
use hast_regress::sim::script::{History, enumerate, play};
use hast_regress::sim::{Detail, Options, Outcome, Stats, run};

/// Lines of the trace that a failure prints.
const TAIL_LINES: usize = 60;

#[derive(Parser, Debug)]
#[command(about = "Simulates clusters under faults, from seeds")]
struct Arguments {
    /// How many runs.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Seed of the first run.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Do the run of this seed alone.
    #[arg(long)]
    replay: Option<u64>,
    /// Print the trace while it happens.
    #[arg(long)]
    verbose: bool,
    /// Runs at once.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Stop after this many seconds, however many runs are left.
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Instead of drawn runs: every history of roles, writes, disconnections and crashes of this
    /// many steps.
    #[arg(long, conflicts_with_all = ["seeds", "start", "replay", "jobs", "seconds", "keep_going"])]
    histories: Option<usize>,
    /// Break the engine in this way (with the feature `mutants` only).
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
}

fn mutant(name: &str) -> Result<Mutant, String> {
    if !cfg!(feature = "mutants") {
        return Err("this program was built without the feature `mutants`".into());
    }
    let found = Mutant::ALL
        .into_iter()
        .find(|mutant| format!("{mutant:?}") == name);
    found.ok_or_else(|| format!("none of {:?}", Mutant::ALL))
}

fn main() {
    let arguments = Arguments::parse();
    let failed = match (arguments.histories, arguments.replay) {
        (Some(length), _) => histories(&arguments, length),
        (None, Some(seed)) => replay(&arguments, seed),
        (None, None) => batch(&arguments),
    };
    std::process::exit(i32::from(failed));
}

fn histories(arguments: &Arguments, length: usize) -> bool {
    let began = Instant::now();
    let mut played = 0u64;
    let mut failed: Vec<History> = Vec::new();
    enumerate(length, |history| {
        played += 1;
        if play(history, arguments.mutant, Detail::Hash).is_err() {
            failed.push(history.clone());
        }
    });
    if let Some(first) = failed.first() {
        let detail = if arguments.verbose {
            Detail::Print
        } else {
            Detail::Hash
        };
        println!("{first:?}: {:?}", play(first, arguments.mutant, detail));
    }
    println!(
        "{played} histories of {length} steps in {:.1} s, {} failures",
        began.elapsed().as_secs_f64(),
        failed.len()
    );
    !failed.is_empty()
}

fn replay(arguments: &Arguments, seed: u64) -> bool {
    let detail = if arguments.verbose {
        Detail::Print
    } else {
        Detail::Tail(TAIL_LINES)
    };
    let outcome = run(
        seed,
        Options {
            mutant: arguments.mutant,
            detail,
        },
    );
    for line in &outcome.lines {
        println!("{line}");
    }
    let mut total = Stats::default();
    total.add(&outcome.stats);
    println!("{total}seed {seed}, trace {:016x}", outcome.hash);
    complain(&outcome)
}

/// Say which invariant a run broke, if it did.
fn complain(outcome: &Outcome) -> bool {
    let Some(violation) = &outcome.violation else {
        return false;
    };
    println!(
        "seed {}: {}: {}",
        outcome.seed, violation.invariant, violation.detail
    );
    true
}

fn batch(arguments: &Arguments) -> bool {
    let next = AtomicU64::new(arguments.start);
    let end = arguments.start.saturating_add(arguments.seeds);
    let failures: Mutex<Vec<(u64, &'static str)>> = Mutex::default();
    let total: Mutex<Stats> = Mutex::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                let mut own = Vec::new();
                loop {
                    let late = arguments
                        .seconds
                        .is_some_and(|s| began.elapsed().as_secs() >= s);
                    let failed = failures.lock().is_ok_and(|failures| !failures.is_empty());
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || late || (failed && !arguments.keep_going) {
                        break;
                    }
                    let options = Options {
                        mutant: arguments.mutant,
                        detail: Detail::Hash,
                    };
                    let outcome = run(seed, options);
                    if let (Some(violation), Ok(mut failures)) =
                        (&outcome.violation, failures.lock())
                    {
                        failures.push((seed, violation.invariant));
                        if arguments.keep_going {
                            complain(&outcome);
                        }
                    }
                    own.push(outcome.stats);
                    if own.len() >= 64 {
                        merge(&total, &mut own);
                    }
                }
                merge(&total, &mut own);
            });
        }
    });
    let elapsed = began.elapsed();
    let total = total.into_inner().unwrap_or_default();
    let rate =
        total.events as f64 / elapsed.as_secs_f64().max(0.001) / arguments.jobs.max(1) as f64;
    print!("{total}");
    println!(
        "{:.1} s, {:.0} events a second and job",
        elapsed.as_secs_f64(),
        rate
    );
    let mut failures = failures.into_inner().unwrap_or_default();
    failures.sort_unstable();
    if let (Some(&(seed, _)), false) = (failures.first(), arguments.keep_going) {
        replay(arguments, seed);
    }
    for (seed, invariant) in &failures {
        println!("failed: seed {seed}: {invariant}");
    }
    println!("{} failures", failures.len());
    !failures.is_empty()
}

fn merge(total: &Mutex<Stats>, own: &mut Vec<Stats>) {
    if let Ok(mut total) = total.lock() {
        for stats in own.drain(..) {
            total.add(&stats);
        }
    }
}
