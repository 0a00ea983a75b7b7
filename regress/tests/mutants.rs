//! The simulator sees: every deliberately broken variant of the engine is caught.
//!
//! `cargo test --release -p hast-regress --features mutants --test mutants`

use hast::engine::mutant::Mutant;
use hast_regress::sim::{Detail, Options, run};

/// Runs within which a variant must be caught.
const SEEDS_MAX: u64 = 3000;

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
            None => missed.push(mutant),
        }
    }
    assert_eq!(missed, [], "not caught within {SEEDS_MAX} runs");
}
