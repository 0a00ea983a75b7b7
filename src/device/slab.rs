//! A table of bounded size whose entries are found by their index.

/// The table. An index is used again after its entry is removed.
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// Room for so many entries.
    pub(super) fn new(capacity: u32) -> Slab<T> {
        Slab {
            entries: (0..capacity).map(|_| None).collect(),
            free: (0..capacity).rev().collect(),
        }
    }

    /// Whether no more fits.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Adds an entry; returns its index, or `None` if the table is full.
    pub(super) fn insert(&mut self, entry: T) -> Option<u32> {
        let index = self.free.pop()?;
        self.entries[index as usize] = Some(entry);
        Some(index)
    }

    /// The entry of that index.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_takes_nothing_and_indices_are_used_again() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        let second = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), None);
        assert!(slab.is_full());
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.remove(99), None);
        assert_eq!(slab.insert('d'), Some(first));
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
    }
}
