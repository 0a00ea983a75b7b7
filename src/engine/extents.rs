//! The dirty extent map: which extents may differ between the copies, and what the disk says of it.
//!
//! An extent's bit is set on disk, durably, before a write into it starts (write-ahead), and
//! cleared only after the data of both copies are durable. The map in memory runs ahead of the one
//! on disk; [`Extents::begin_commit`] writes the sectors in which they differ, all together (group
//! commit), one commit at a time. Clearing a bit is never a reason for a commit of its own, unless
//! asked for: it rides along with the next.
//!
//! Memory: half a byte per extent (four bitmaps) plus about 64 bytes for each active extent.
//! 100 TiB in extents of 2 MiB take 25 MiB.

use super::active::Active;

/// Bitmaps of the extents of a resource.
#[derive(Debug)]
pub struct Extents {
    shift: u32,
    count: u64,
    /// Bytes of the map that one write to disk changes at least.
    sector_bytes: u32,
    /// What the disk should say.
    dirty: Vec<u64>,
    /// Bits that the disk says for certain, whatever happens to a commit under way.
    durable: Vec<u64>,
    /// The map as last written, or as the commit under way writes it.
    image: Vec<u8>,
    /// Extents that a synchronisation has to copy; part of `dirty`.
    sync: Vec<u64>,
    dirty_count: u64,
    sync_count: u64,
    /// Sectors of the map that differ from `image`, each once.
    changed: Vec<u32>,
    is_changed: Vec<u64>,
    /// Some changed sector sets a bit that a write waits for.
    urgent: bool,
    /// Number of the next commit; the one under way, if any, is one less.
    next_commit: u64,
    /// Sectors of the commit under way.
    committing: Vec<u32>,
    /// Extents that became dirty since [`Extents::take_dirty_again`].
    dirty_again: usize,
    active: Active,
}

/// A piece of the map to write: offset and length in bytes.
pub type MapRun = (u64, u32);

/// Bits of a `u64` word.
const WORD_BITS: u64 = 64;

/// Longest piece of the map in one write, in bytes.
const RUN_BYTES_MAX: u32 = 1 << 20;

fn word_and_bit(extent: u64) -> (usize, u64) {
    (
        usize::try_from(extent / WORD_BITS).unwrap_or(usize::MAX),
        1 << (extent % WORD_BITS),
    )
}

fn get(map: &[u64], extent: u64) -> bool {
    let (word, bit) = word_and_bit(extent);
    map[word] & bit != 0
}

/// Sets or clears a bit; whether it changed.
fn put(map: &mut [u64], extent: u64, value: bool) -> bool {
    let (word, bit) = word_and_bit(extent);
    let before = map[word];
    map[word] = if value { before | bit } else { before & !bit };
    map[word] != before
}

impl Extents {
    /// The map of a data area of `datasize` bytes as the disk holds it: `map` is the whole bitmap
    /// area, a multiple of `sector_bytes`, and long enough for every extent. What is dirty there
    /// has to be synchronised.
    ///
    /// # Panics
    /// If `map` is too short or `extentsize` no power of two; the metadata were validated.
    pub fn new(
        datasize: u64,
        extentsize: u32,
        sector_bytes: u32,
        keepdirty: u32,
        map: Vec<u8>,
    ) -> Extents {
        assert!(extentsize.is_power_of_two(), "validated with the metadata");
        let count = datasize.div_ceil(u64::from(extentsize));
        let words = map.len() / 8;
        assert!(
            words as u64 * WORD_BITS >= count,
            "validated with the metadata"
        );
        let sectors = map.len().div_ceil(sector_bytes as usize);
        let mut extents = Extents {
            shift: extentsize.trailing_zeros(),
            count,
            sector_bytes,
            dirty: vec![0; words],
            durable: vec![0; words],
            image: map,
            sync: vec![0; words],
            dirty_count: 0,
            sync_count: 0,
            changed: Vec::new(),
            is_changed: vec![0; sectors.div_ceil(64)],
            urgent: false,
            next_commit: 1,
            committing: Vec::new(),
            dirty_again: 0,
            active: Active::new(usize::try_from(keepdirty).unwrap_or(usize::MAX)),
        };
        for word in 0..words {
            let bits = extents.image_word(word) & extents.valid_bits(word);
            extents.dirty[word] = bits;
            extents.durable[word] = bits;
            extents.sync[word] = bits;
            extents.dirty_count += u64::from(bits.count_ones());
        }
        extents.sync_count = extents.dirty_count;
        extents
    }

    /// Number of extents.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of an extent.
    pub fn extentsize(&self) -> u64 {
        1 << self.shift
    }

    /// Extents that are dirty, by what the disk should say.
    pub fn dirty_count(&self) -> u64 {
        self.dirty_count
    }

    /// Extents that a synchronisation has to copy.
    pub fn sync_count(&self) -> u64 {
        self.sync_count
    }

    /// First and last extent of a byte range that is not empty.
    pub fn span(&self, offset: u64, length: u64) -> std::ops::RangeInclusive<u64> {
        offset >> self.shift..=(offset + length.max(1) - 1) >> self.shift
    }

    /// A write into the range is about to start. `None`: it may start now. `Some(commit)`: when
    /// that commit is done. Every extent counts as written until [`Extents::write_end`].
    pub fn write_start(&mut self, offset: u64, length: u64) -> Option<u64> {
        let mut wait = None;
        for extent in self.span(offset, length) {
            self.active.start(extent);
            self.set_dirty(extent);
            if !get(&self.durable, extent) {
                wait = wait.max(Some(self.commit_of(extent)));
            }
        }
        wait
    }

    /// The write of the range is over on both nodes, or will never be.
    pub fn write_end(&mut self, offset: u64, length: u64) {
        for extent in self.span(offset, length) {
            self.active.end(extent);
        }
    }

    /// The copies differ in this range, which a write in flight holds dirty.
    pub fn mark_sync(&mut self, offset: u64, length: u64) {
        for extent in self.span(offset, length) {
            self.set_dirty(extent);
            if put(&mut self.sync, extent, true) {
                self.sync_count += 1;
            }
        }
    }

    /// Everything that is dirty has to be synchronised, and what is in the peer's map, too (bits
    /// beyond its end count as clear). The commit to wait for, if the disk does not say all of it.
    ///
    /// `marked_only` is for tests of the simulator: of our own extents, only those that were
    /// marked are to be synchronised. That is wrong.
    pub(super) fn merge(&mut self, peer: &[u8], marked_only: bool) -> Option<u64> {
        let mut wait = None;
        let mut synced = 0;
        for word in 0..self.dirty.len() {
            let theirs = peer.get(word * 8..).map_or(0, |rest| {
                rest.iter()
                    .take(8)
                    .rev()
                    .fold(0, |bits, &byte| bits << 8 | u64::from(byte))
            }) & self.valid_bits(word);
            let added = theirs & !self.dirty[word];
            self.dirty[word] |= theirs;
            self.dirty_count += u64::from(added.count_ones());
            let before = if marked_only {
                theirs | self.sync[word]
            } else {
                u64::MAX
            };
            self.sync[word] = self.dirty[word] & before;
            synced += u64::from(self.sync[word].count_ones());
            let missing = self.dirty[word] & !self.durable[word];
            if added | missing != 0 {
                let first = word as u64 * WORD_BITS;
                self.note_change(first);
                if missing != 0 {
                    self.urgent = true;
                    wait = Some(self.next_commit);
                }
            }
        }
        self.sync_count = synced;
        wait
    }

    /// Whether any extent of the range has to be synchronised.
    pub fn needs_sync(&self, offset: u64, length: u64) -> bool {
        self.sync_count != 0
            && self
                .span(offset, length)
                .any(|extent| get(&self.sync, extent))
    }

    /// Whether the extent has to be synchronised.
    pub fn is_sync(&self, extent: u64) -> bool {
        get(&self.sync, extent)
    }

    /// The first extent from `from` on that has to be synchronised.
    pub fn next_sync(&self, from: u64) -> Option<u64> {
        if from >= self.count {
            return None;
        }
        let (first, bit) = word_and_bit(from);
        let mut bits = self.sync[first] & !(bit - 1);
        let mut word = first;
        loop {
            if bits != 0 {
                return Some(word as u64 * WORD_BITS + u64::from(bits.trailing_zeros()));
            }
            word += 1;
            bits = *self.sync.get(word)?;
        }
    }

    /// The copies of the extent are equal; it becomes clean after the next flush of both disks.
    pub fn synced(&mut self, extent: u64) {
        if put(&mut self.sync, extent, false) {
            self.sync_count -= 1;
            self.active.cool(extent);
        }
    }

    /// Extents that wait for a flush of both disks to become clean.
    pub fn cooling(&self) -> usize {
        self.active.cooling()
    }

    /// Makes recently written extents candidates as well.
    pub fn cool_all(&mut self) {
        self.active.cool_all();
    }

    /// Both disks are going to be flushed: what cools now will be clean.
    pub fn begin_clean(&mut self) {
        self.active.begin_clean();
    }

    /// Whether a flush of both disks is under way.
    pub fn is_cleaning(&self) -> bool {
        self.active.cleaning() != 0
    }

    /// The flush is over. If it succeeded on both disks, the extents that were not written since
    /// are clean, and their bits are cleared on disk by the next commit. Returns how many became so.
    pub fn end_clean(&mut self, flushed: bool) -> usize {
        if !flushed {
            self.active.abort_clean();
            return 0;
        }
        let mut cleaned = 0;
        while let Some(extent) = self.active.pop_clean() {
            if !get(&self.sync, extent) && put(&mut self.dirty, extent, false) {
                self.dirty_count -= 1;
                cleaned += 1;
                self.note_change(extent);
            }
        }
        cleaned
    }

    /// How many extents became dirty since this was asked last.
    pub fn take_dirty_again(&mut self) -> usize {
        std::mem::take(&mut self.dirty_again)
    }

    /// Whether a write waits for a commit that has not begun.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether the disk says something else than the map in memory.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether a commit is under way.
    pub fn is_committing(&self) -> bool {
        !self.committing.is_empty()
    }

    /// Starts to write every changed sector: appends what to write to `runs`. The commit's number,
    /// or `None` if nothing has changed.
    ///
    /// # Panics
    /// If one is under way.
    pub fn begin_commit(&mut self, runs: &mut Vec<MapRun>) -> Option<u64> {
        assert!(!self.is_committing(), "one commit at a time");
        if self.changed.is_empty() {
            return None;
        }
        self.changed.sort_unstable();
        std::mem::swap(&mut self.changed, &mut self.committing);
        self.urgent = false;
        let words = self.sector_bytes as usize / 8;
        for index in 0..self.committing.len() {
            let sector = self.committing[index] as usize;
            put(&mut self.is_changed, sector as u64, false);
            for word in (sector * words..(sector + 1) * words).take_while(|&w| w < self.dirty.len())
            {
                self.durable[word] &= self.dirty[word];
                self.image[word * 8..word * 8 + 8].copy_from_slice(&self.dirty[word].to_le_bytes());
            }
            let offset = sector as u64 * u64::from(self.sector_bytes);
            let left = self.image.len() as u64 - offset;
            let length = self
                .sector_bytes
                .min(u32::try_from(left).unwrap_or(u32::MAX));
            match runs.last_mut() {
                Some(run)
                    if index > 0
                        && run.0 + u64::from(run.1) == offset
                        && run.1 + length <= RUN_BYTES_MAX =>
                {
                    run.1 += length;
                }
                _ => runs.push((offset, length)),
            }
        }
        self.next_commit += 1;
        Some(self.next_commit - 1)
    }

    /// The commit under way is over. If it failed, its sectors are written again by the next.
    pub fn end_commit(&mut self, durable: bool) {
        let words = self.sector_bytes as usize / 8;
        for index in 0..self.committing.len() {
            let sector = self.committing[index];
            if durable {
                let first = sector as usize * words;
                for word in (first..first + words).take_while(|&w| w < self.dirty.len()) {
                    self.durable[word] = self.image_word(word);
                }
            } else {
                self.urgent = true;
                if put(&mut self.is_changed, u64::from(sector), true) {
                    self.changed.push(sector);
                }
            }
        }
        self.committing.clear();
    }

    /// The bytes to write for a run of the commit under way.
    pub fn map_bytes(&self, offset: u64, length: u32) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        &self.image[start..start + length as usize]
    }

    /// Bytes of the whole map.
    pub fn map_len(&self) -> usize {
        self.image.len()
    }

    fn set_dirty(&mut self, extent: u64) {
        if put(&mut self.dirty, extent, true) {
            self.dirty_count += 1;
            self.dirty_again += 1;
            self.note_change(extent);
        }
        if !get(&self.durable, extent) && !self.is_in_commit(extent) {
            self.note_change(extent);
            self.urgent = true;
        }
    }

    /// The commit after which the disk says that the extent is dirty.
    fn commit_of(&self, extent: u64) -> u64 {
        if self.is_in_commit(extent) {
            self.next_commit - 1
        } else {
            self.next_commit
        }
    }

    /// Whether the commit under way sets the extent's bit.
    fn is_in_commit(&self, extent: u64) -> bool {
        let (word, bit) = word_and_bit(extent);
        self.is_committing()
            && self.image_word(word) & bit != 0
            && self
                .committing
                .binary_search(&self.sector_of(extent))
                .is_ok()
    }

    fn sector_of(&self, extent: u64) -> u32 {
        u32::try_from(extent / 8 / u64::from(self.sector_bytes)).unwrap_or(u32::MAX)
    }

    fn note_change(&mut self, extent: u64) {
        let sector = self.sector_of(extent);
        if put(&mut self.is_changed, u64::from(sector), true) {
            self.changed.push(sector);
        }
    }

    fn image_word(&self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.image[word * 8..word * 8 + 8]);
        u64::from_le_bytes(bytes)
    }

    /// The bits of a word that stand for extents.
    fn valid_bits(&self, word: usize) -> u64 {
        match self.count.saturating_sub(word as u64 * WORD_BITS) {
            0 => 0,
            left if left >= WORD_BITS => u64::MAX,
            left => (1 << left) - 1,
        }
    }
}

#[cfg(test)]
#[path = "extents_tests.rs"]
mod tests;
