//! A few simulated clusters, as part of the ordinary tests; `hast-sim` does many.

use hast_regress::sim::{Detail, Options, run};

/// Runs of `no_invariant_breaks`: a few seconds of one core.
const RUNS: u64 = 400;

fn plain() -> Options {
    Options {
        mutant: None,
        detail: Detail::Hash,
    }
}

#[test]
fn no_invariant_breaks() {
    for seed in 1..=RUNS {
        let outcome = run(seed, plain());
        assert_eq!(
            outcome.violation, None,
            "repeat it with: cargo run --release -p hast-regress --bin hast-sim -- --replay {seed}"
        );
    }
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 1..=5 {
        let one = run(seed, plain());
        let two = run(seed, plain());
        assert_eq!(one.hash, two.hash);
        assert_eq!(one.stats.events, two.stats.events);
    }
    assert_ne!(run(1, plain()).hash, run(2, plain()).hash);
}

#[test]
fn text_does_not_change_the_run() {
    let quiet = run(3, plain());
    let told = run(
        3,
        Options {
            detail: Detail::Tail(10),
            ..plain()
        },
    );
    assert_eq!(quiet.hash, told.hash);
    assert_eq!(told.lines.len(), 10);
}
