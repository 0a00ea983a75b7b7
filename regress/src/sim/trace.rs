//! What happened in a run: a hash of all of it, and, when wanted, its last lines as text.

use std::collections::VecDeque;

/// How much of the trace is kept as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing but the hash: the fast way.
    Hash,
    /// The last lines, for the report of a failure.
    Tail(usize),
    /// Everything, printed as it happens.
    Print,
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    detail: Detail,
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(detail: Detail) -> Trace {
        Trace {
            detail,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: VecDeque::new(),
        }
    }

    /// Count an event and mix it into the hash.
    pub fn event(&mut self, now: u64, kind: u64, detail: u64) {
        self.events += 1;
        self.mix(now);
        self.mix(kind << 48 ^ detail);
    }

    /// Mix something into the hash that is no event of its own.
    pub fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x9fb2_1c65_1e98_df25)
            .rotate_left(29);
    }

    /// Whether text is wanted; ask before formatting a line.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.detail != Detail::Hash
    }

    /// Add a line of text.
    pub fn line(&mut self, now: u64, text: std::fmt::Arguments<'_>) {
        match self.detail {
            Detail::Hash => {}
            Detail::Tail(most) => {
                if self.lines.len() >= most {
                    self.lines.pop_front();
                }
                self.lines.push_back(format!("{} {text}", stamp(now)));
            }
            Detail::Print => println!("{} {text}", stamp(now)),
        }
    }

    /// The hash so far: equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// A moment as seconds with six digits.
fn stamp(now: u64) -> String {
    format!("{:>5}.{:06}", now / 1_000_000, now % 1_000_000)
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant: a short name that stays the same over runs.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// A violation of `invariant`, seen as `detail`.
    #[must_use]
    pub fn new(invariant: &'static str, detail: String) -> Violation {
        Violation { invariant, detail }
    }
}
