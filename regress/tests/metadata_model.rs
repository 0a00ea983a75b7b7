//! Every short history of roles, writes, disconnections and crashes keeps what was acknowledged.

use hast_regress::sim::Detail;
use hast_regress::sim::script::{History, enumerate, play};

/// Steps of a history; `hast-sim --histories 4` follows longer ones.
const LENGTH: usize = 3;

#[test]
fn no_short_history_loses_a_write_silently() {
    let mut histories = 0;
    enumerate(LENGTH, |history: &History| {
        histories += 1;
        if let Err(violation) = play(history, None, Detail::Hash) {
            panic!("{history:?}: {violation:?}");
        }
    });
    assert!(histories > 40_000);
}
