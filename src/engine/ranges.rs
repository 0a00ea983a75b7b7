//! Order of overlapping requests.
//!
//! Every request that touches data takes its byte range here before it starts. It starts at once
//! unless an *earlier* request overlaps it and one of the two is exclusive; then it starts when
//! the last such request has ended. So overlapping requests run in the order they came, and no
//! request waits for one that it does not overlap.
//!
//! The ranges live in a treap ordered by their start, each node knowing the largest end below it:
//! taking and ending a range is logarithmic in the number of ranges plus the overlaps themselves.
//! Priorities come from a hash of a counter, so that a run can be repeated exactly.

/// How a range is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Does not disturb others of its kind: reading.
    Shared,
    /// Excludes everything that overlaps it.
    Exclusive,
}

/// A range that was taken; give it back with [`Ranges::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeId(u32);

#[derive(Clone, Debug)]
struct Node {
    start: u64,
    end: u64,
    /// Largest `end` in this subtree.
    reach: u64,
    /// Position in the order of arrival.
    order: u64,
    priority: u64,
    left: u32,
    right: u32,
    access: Access,
    /// Earlier ranges that this one waits for.
    blockers: u32,
    owner: u32,
}

const NONE: u32 = u32::MAX;

/// The ranges of all requests that have come and not ended.
#[derive(Debug)]
pub struct Ranges {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    arrivals: u64,
    /// Kept to avoid an allocation per call.
    overlapping: Vec<u32>,
}

impl Default for Ranges {
    fn default() -> Ranges {
        Ranges::new()
    }
}

impl Ranges {
    /// No ranges.
    pub fn new() -> Ranges {
        Ranges {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            arrivals: 0,
            overlapping: Vec::new(),
        }
    }

    /// Number of ranges taken and not ended.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// Takes `start..start + length` for `owner`. Whether it may start at once; if not, `owner` is
    /// named by the [`Ranges::end`] that makes it possible. An empty range never waits.
    pub fn take(&mut self, start: u64, length: u64, access: Access, owner: u32) -> (RangeId, bool) {
        let end = start.saturating_add(length);
        self.arrivals += 1;
        let blockers = self.conflicts(start, end, access).len();
        let node = Node {
            start,
            end,
            reach: end,
            order: self.arrivals,
            priority: spread(self.arrivals),
            left: NONE,
            right: NONE,
            access,
            blockers: u32::try_from(blockers).unwrap_or(u32::MAX),
            owner,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        let (before, after) = self.split(self.root, (start, self.arrivals));
        let joined = self.merge(before, id);
        self.root = self.merge(joined, after);
        (RangeId(id), blockers == 0)
    }

    /// Ends a range; the owners that may start now are appended to `released`, in the order of
    /// their arrival.
    pub fn end(&mut self, range: RangeId, released: &mut Vec<u32>) {
        let id = range.0;
        let (start, end, order, access) = {
            let node = &self.nodes[id as usize];
            (node.start, node.end, node.order, node.access)
        };
        self.root = self.remove(self.root, (start, order));
        self.free.push(id);
        self.conflicts(start, end, access);
        let mut waiting = std::mem::take(&mut self.overlapping);
        waiting.sort_unstable_by_key(|&other| self.nodes[other as usize].order);
        for &other in &waiting {
            let node = &mut self.nodes[other as usize];
            if node.order > order {
                node.blockers -= 1;
                if node.blockers == 0 {
                    released.push(node.owner);
                }
            }
        }
        self.overlapping = waiting;
    }

    /// The ranges that `start..end` cannot run beside.
    fn conflicts(&mut self, start: u64, end: u64, access: Access) -> &[u32] {
        let mut found = std::mem::take(&mut self.overlapping);
        found.clear();
        if start < end {
            self.visit(self.root, start, end, &mut found);
        }
        found.retain(|&id| {
            access == Access::Exclusive || self.nodes[id as usize].access == Access::Exclusive
        });
        self.overlapping = found;
        &self.overlapping
    }

    fn visit(&self, at: u32, start: u64, end: u64, found: &mut Vec<u32>) {
        if at == NONE || self.nodes[at as usize].reach <= start {
            return;
        }
        let node = &self.nodes[at as usize];
        self.visit(node.left, start, end, found);
        if node.start < end {
            if start < node.end && node.start < node.end {
                found.push(at);
            }
            self.visit(node.right, start, end, found);
        }
    }

    fn update(&mut self, at: u32) {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        let mut reach = self.nodes[at as usize].end;
        for child in [left, right] {
            if child != NONE {
                reach = reach.max(self.nodes[child as usize].reach);
            }
        }
        self.nodes[at as usize].reach = reach;
    }

    fn key(&self, at: u32) -> (u64, u64) {
        (self.nodes[at as usize].start, self.nodes[at as usize].order)
    }

    /// Splits the tree into the nodes before `key` and the others.
    fn split(&mut self, at: u32, key: (u64, u64)) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.key(at) < key {
            let (before, after) = self.split(self.nodes[at as usize].right, key);
            self.nodes[at as usize].right = before;
            self.update(at);
            (at, after)
        } else {
            let (before, after) = self.split(self.nodes[at as usize].left, key);
            self.nodes[at as usize].left = after;
            self.update(at);
            (before, at)
        }
    }

    /// Joins two trees, every node of `before` coming before those of `after`.
    fn merge(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE {
            return after;
        }
        if after == NONE {
            return before;
        }
        if self.nodes[before as usize].priority > self.nodes[after as usize].priority {
            self.nodes[before as usize].right =
                self.merge(self.nodes[before as usize].right, after);
            self.update(before);
            before
        } else {
            self.nodes[after as usize].left = self.merge(before, self.nodes[after as usize].left);
            self.update(after);
            after
        }
    }

    fn remove(&mut self, at: u32, key: (u64, u64)) -> u32 {
        assert!(at != NONE, "a range is ended once");
        if self.key(at) == key {
            return self.merge(self.nodes[at as usize].left, self.nodes[at as usize].right);
        }
        if key < self.key(at) {
            self.nodes[at as usize].left = self.remove(self.nodes[at as usize].left, key);
        } else {
            self.nodes[at as usize].right = self.remove(self.nodes[at as usize].right, key);
        }
        self.update(at);
        at
    }
}

/// A well-mixed priority (the finaliser of SplitMix64).
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strangers_do_not_wait_for_each_other() {
        let mut ranges = Ranges::new();
        assert!(ranges.take(0, 4096, Access::Exclusive, 0).1);
        assert!(ranges.take(4096, 4096, Access::Exclusive, 1).1);
        assert!(!ranges.take(4095, 1, Access::Exclusive, 2).1);
    }

    #[test]
    fn readers_share_and_writers_wait_in_order() {
        let mut ranges = Ranges::new();
        let (first, _) = ranges.take(0, 10, Access::Shared, 0);
        assert!(ranges.take(0, 10, Access::Shared, 1).1);
        let (write, granted) = ranges.take(5, 10, Access::Exclusive, 2);
        assert!(!granted);
        assert!(
            !ranges.take(0, 10, Access::Shared, 3).1,
            "not past the waiting write"
        );
        let mut released = Vec::new();
        ranges.end(first, &mut released);
        assert!(released.is_empty());
        ranges.end(RangeId(1), &mut released);
        assert_eq!(released, [2]);
        released.clear();
        ranges.end(write, &mut released);
        assert_eq!(released, [3]);
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn behaves_like_a_list(
            steps in prop::collection::vec((0u64..64, 0u64..16, any::<bool>(), any::<u8>()), 1..200),
        ) {
            struct Entry { id: RangeId, owner: u32, start: u64, end: u64, shared: bool }
            let conflicts = |a: &Entry, b: &Entry| {
                a.start < b.end && b.start < a.end && a.start < a.end && b.start < b.end
                    && !(a.shared && b.shared)
            };
            let mut ranges = Ranges::new();
            let mut list: Vec<Entry> = Vec::new();
            let mut running: Vec<u32> = Vec::new();
            for (owner, &(start, length, shared, pick)) in (0u32..).zip(&steps) {
                let access = if shared { Access::Shared } else { Access::Exclusive };
                let (id, granted) = ranges.take(start, length, access, owner);
                let entry = Entry { id, owner, start, end: start + length, shared };
                prop_assert_eq!(granted, !list.iter().any(|other| conflicts(other, &entry)));
                if granted {
                    running.push(owner);
                }
                list.push(entry);
                if pick % 3 == 0 && !running.is_empty() {
                    let owner = running.remove(usize::from(pick) % running.len());
                    let at = list.iter().position(|entry| entry.owner == owner).unwrap();
                    let ended = list.remove(at);
                    let mut released = Vec::new();
                    ranges.end(ended.id, &mut released);
                    let expected: Vec<u32> = (at..list.len())
                        .filter(|&i| conflicts(&ended, &list[i]))
                        .filter(|&i| !list[..i].iter().any(|other| conflicts(other, &list[i])))
                        .map(|i| list[i].owner)
                        .collect();
                    prop_assert_eq!(&released, &expected);
                    running.extend(released);
                }
                prop_assert_eq!(ranges.len(), list.len());
            }
        }
    }
}
