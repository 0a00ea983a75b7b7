//! The extents that are being written or were written lately.
//!
//! An entry exists for an extent with writes in flight and for one that waits to become clean.
//! Entries that are not merely in flight are in one of three lists:
//! * *hot*: the `keepdirty` most recently written ones; they stay dirty on disk, so that writing
//!   them again costs nothing;
//! * *cooling*: fell out of the hot list, every write done; may become clean;
//! * *cleaning*: a flush of both disks is under way that will make them clean.
//!
//! Every operation takes constant time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const NONE: u32 = u32::MAX;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In no list: writes in flight, or nothing left to wait for.
    Loose,
    Hot,
    Cooling,
    Cleaning,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    extent: u64,
    /// Writes in flight.
    pending: u32,
    place: Place,
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    length: usize,
}

impl List {
    const EMPTY: List = List {
        newest: NONE,
        oldest: NONE,
        length: 0,
    };
}

/// Extents are numbers of the application's choosing, in a table that it alone suffers from: a
/// multiplication spreads them well enough, and the same on every run.
#[derive(Default)]
struct ExtentHasher(u64);

impl Hasher for ExtentHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The entries and their lists.
#[derive(Debug)]
pub(super) struct Active {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_extent: HashMap<u64, u32, BuildHasherDefault<ExtentHasher>>,
    hot: List,
    cooling: List,
    cleaning: List,
    keepdirty: usize,
}

impl Active {
    /// None active; up to `keepdirty` will be hot.
    pub(super) fn new(keepdirty: usize) -> Active {
        Active {
            entries: Vec::new(),
            free: Vec::new(),
            by_extent: HashMap::default(),
            hot: List::EMPTY,
            cooling: List::EMPTY,
            cleaning: List::EMPTY,
            keepdirty,
        }
    }

    /// A write into `extent` starts.
    pub(super) fn start(&mut self, extent: u64) {
        let at = self.entry(extent);
        self.entries[at as usize].pending += 1;
        self.place(at, Place::Hot);
        while self.hot.length > self.keepdirty {
            let oldest = self.hot.oldest;
            self.place(oldest, Place::Loose);
            self.settle(oldest);
        }
    }

    /// A write into `extent` is over on both nodes, or will never be.
    pub(super) fn end(&mut self, extent: u64) {
        let Some(&at) = self.by_extent.get(&extent) else {
            unreachable!("a write ends in an extent where it started");
        };
        self.entries[at as usize].pending -= 1;
        self.settle(at);
    }

    /// The copies of `extent` were made equal: it may become clean once both are flushed. A flush
    /// that is under way began too early for that.
    pub(super) fn cool(&mut self, extent: u64) {
        let at = self.entry(extent);
        if self.entries[at as usize].place == Place::Cleaning {
            self.place(at, Place::Loose);
        }
        self.settle(at);
    }

    /// How many extents wait for a flush of both disks to begin.
    pub(super) fn cooling(&self) -> usize {
        self.cooling.length
    }

    /// How many extents the flush under way will make clean.
    pub(super) fn cleaning(&self) -> usize {
        self.cleaning.length
    }

    /// Makes the hot extents without a write in flight cool as well: the role ends.
    pub(super) fn cool_all(&mut self) {
        while self.hot.oldest != NONE {
            let oldest = self.hot.oldest;
            self.place(oldest, Place::Loose);
            self.settle(oldest);
        }
    }

    /// Both disks are going to be flushed on behalf of the extents cooling now.
    pub(super) fn begin_clean(&mut self) {
        while self.cooling.oldest != NONE {
            let oldest = self.cooling.oldest;
            self.place(oldest, Place::Cleaning);
        }
    }

    /// The next extent that the flush has made clean; its entry is gone.
    pub(super) fn pop_clean(&mut self) -> Option<u64> {
        let at = self.cleaning.oldest;
        if at == NONE {
            return None;
        }
        self.place(at, Place::Loose);
        let extent = self.entries[at as usize].extent;
        self.forget(at);
        Some(extent)
    }

    /// The flush failed: its extents go on cooling.
    pub(super) fn abort_clean(&mut self) {
        while self.cleaning.oldest != NONE {
            let oldest = self.cleaning.oldest;
            self.place(oldest, Place::Cooling);
        }
    }

    fn entry(&mut self, extent: u64) -> u32 {
        if let Some(&at) = self.by_extent.get(&extent) {
            return at;
        }
        let entry = Entry {
            extent,
            pending: 0,
            place: Place::Loose,
            newer: NONE,
            older: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_extent.insert(extent, at);
        at
    }

    /// An idle entry outside the lists starts to cool.
    fn settle(&mut self, at: u32) {
        let entry = self.entries[at as usize];
        if entry.pending == 0 && entry.place == Place::Loose {
            self.place(at, Place::Cooling);
        }
    }

    fn forget(&mut self, at: u32) {
        self.by_extent.remove(&self.entries[at as usize].extent);
        self.free.push(at);
    }

    fn list(&mut self, place: Place) -> Option<&mut List> {
        match place {
            Place::Loose => None,
            Place::Hot => Some(&mut self.hot),
            Place::Cooling => Some(&mut self.cooling),
            Place::Cleaning => Some(&mut self.cleaning),
        }
    }

    /// Takes the entry out of its list and makes it the newest of another.
    fn place(&mut self, at: u32, place: Place) {
        let Entry {
            newer,
            older,
            place: from,
            ..
        } = self.entries[at as usize];
        if let Some(list) = self.list(from) {
            list.length -= 1;
            if list.newest == at {
                list.newest = older;
            }
            if list.oldest == at {
                list.oldest = newer;
            }
            if newer != NONE {
                self.entries[newer as usize].older = older;
            }
            if older != NONE {
                self.entries[older as usize].newer = newer;
            }
        }
        let mut next = NONE;
        if let Some(list) = self.list(place) {
            list.length += 1;
            next = list.newest;
            list.newest = at;
            if list.oldest == NONE {
                list.oldest = at;
            }
        }
        if next != NONE {
            self.entries[next as usize].newer = at;
        }
        let entry = &mut self.entries[at as usize];
        entry.place = place;
        entry.newer = NONE;
        entry.older = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(active: &mut Active) -> Vec<u64> {
        active.begin_clean();
        std::iter::from_fn(|| active.pop_clean()).collect()
    }

    #[test]
    fn the_last_written_extents_stay() {
        let mut active = Active::new(2);
        for extent in [1, 2, 1, 3] {
            active.start(extent);
            active.end(extent);
        }
        assert_eq!(cleaned(&mut active), [2]);
        active.cool_all();
        assert_eq!(cleaned(&mut active), [1, 3]);
        assert!(active.by_extent.is_empty());
    }

    #[test]
    fn an_extent_with_a_write_in_flight_does_not_cool() {
        let mut active = Active::new(0);
        active.start(7);
        assert_eq!(active.cooling(), 0);
        active.end(7);
        assert_eq!(active.cooling(), 1);
        active.begin_clean();
        active.start(7);
        assert_eq!(active.pop_clean(), None, "it was written again");
        active.end(7);
        assert_eq!(active.cooling(), 1);
    }

    #[test]
    fn a_failed_flush_leaves_them_cooling() {
        let mut active = Active::new(0);
        active.cool(4);
        active.begin_clean();
        assert_eq!(active.cleaning(), 1);
        active.abort_clean();
        assert_eq!((active.cooling(), active.cleaning()), (1, 0));
    }
}
