//! The simulator sees: every deliberately broken variant of the engine is caught, by drawn runs or by the
//! enumeration of short histories.
//!
//! `cargo test --release -p hast-regress --features mutants --test mutants`

use hast::engine::mutant::Mutant;
use hast_regress::sim::script::{enumerate, play};
use hast_regress::sim::{Detail, Options, run};

/// Runs within which a variant must be caught.
const SEEDS_MAX: u64 = 1000;

/// Steps of a history that shows what no run does, as it takes a crash at one moment.
const HISTORY_STEPS: usize = 4;

#[test]
fn every_broken_engine_is_caught() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let options = Options {
            mutant: Some(mutant),
            detail: Detail::Hash,
        };
        let caught = (1..=SEEDS_MAX)
            .map(|seed| run(seed, options))
            .find_map(|outcome| Some((outcome.seed, outcome.violation?.invariant)));
        match caught {
            Some((seed, invariant)) => println!("{mutant:?}: seed {seed}, {invariant}"),
            None if caught_by_a_history(mutant) => println!("{mutant:?}: a short history"),
            None => missed.push(mutant),
        }
    }
    assert_eq!(missed, [], "not caught within {SEEDS_MAX} runs");
}

/// Whether a short history shows what is wrong.
fn caught_by_a_history(mutant: Mutant) -> bool {
    let mut caught = false;
    enumerate(HISTORY_STEPS, |history| {
        caught = caught || play(history, Some(mutant), Detail::Hash).is_err();
    });
    caught
}
