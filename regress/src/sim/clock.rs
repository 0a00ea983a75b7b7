//! Simulated time and what is due when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hast::engine::event::Time;

/// Microseconds since the run began.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// The engine's clock at a moment of the simulation.
pub fn engine_time(now: Micros) -> Time {
    Time(now / 1000)
}

/// Events by their time, equal times in the order in which they were added.
#[derive(Debug)]
pub struct Clock<E> {
    now: Micros,
    added: u64,
    due: BinaryHeap<Reverse<Due<E>>>,
}

#[derive(Debug)]
struct Due<E> {
    at: Micros,
    order: u64,
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Clock {
            now: 0,
            added: 0,
            due: BinaryHeap::new(),
        }
    }
}

impl<E> Clock<E> {
    /// The present moment.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// `event` is due in `delay`.
    pub fn after(&mut self, delay: Micros, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// `event` is due at `at`, or now if that is past.
    pub fn at(&mut self, at: Micros, event: E) {
        self.added += 1;
        self.due.push(Reverse(Due {
            at: at.max(self.now),
            order: self.added,
            event,
        }));
    }

    /// When the next event is due.
    pub fn peek(&self) -> Option<Micros> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    /// Go on to the next event.
    pub fn advance(&mut self) -> Option<E> {
        let Reverse(due) = self.due.pop()?;
        self.now = due.at;
        Some(due.event)
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn equal_times_keep_the_order_of_adding() {
        let mut clock = Clock::default();
        clock.after(5, 'b');
        clock.after(5, 'c');
        clock.after(1, 'a');
        let order: String = std::iter::from_fn(|| clock.advance()).collect();
        assert_eq!(order, "abc");
        assert_eq!(clock.now(), 5);
    }
}
