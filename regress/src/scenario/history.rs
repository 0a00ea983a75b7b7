//! What a copy may hold, block by block, after writes that were acknowledged and writes that were
//! not.
//!
//! A write begins when its request is sent, and ends when it is acknowledged, or when its
//! connection is known to be replaced by one to another worker. A block may hold a write as long as
//! no acknowledged one began after its end: the last acknowledged one, those at the same time as
//! that, and those of which nobody knows what became. Once a block was read while nothing was
//! written, it holds what was read.

use std::fmt;

use super::rng::Rng;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;

/// Names a write; 0 is what was there before.
pub type WriteId = u64;

/// When something happened, in steps of the history.
type Moment = u64;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: WriteId,
    begin: Moment,
    /// `None`: under way.
    end: Option<Moment>,
}

/// A block that holds what it may not.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Which.
    pub block: u64,
    /// What it may hold.
    pub allowed: Vec<WriteId>,
    /// What it holds, as far as that can be recognised.
    pub found: Option<WriteId>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self
            .found
            .map_or_else(|| "something else".to_owned(), |id| format!("write {id}"));
        write!(
            f,
            "block {} may hold one of the writes {:?} and holds {found}",
            self.block, self.allowed
        )
    }
}

/// What became of all writes so far.
#[derive(Debug)]
pub struct History {
    blocks: Vec<Vec<Candidate>>,
    now: Moment,
    last: WriteId,
}

impl History {
    /// Blocks that hold zeros.
    pub fn new(blocks: usize) -> History {
        let before = Candidate {
            id: 0,
            begin: 0,
            end: Some(0),
        };
        History {
            blocks: vec![vec![before]; blocks],
            now: 0,
            last: 0,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// A write of some blocks is about to be sent.
    pub fn begin(&mut self, blocks: std::ops::Range<usize>) -> WriteId {
        self.now += 1;
        self.last += 1;
        let candidate = Candidate {
            id: self.last,
            begin: self.now,
            end: None,
        };
        for block in &mut self.blocks[blocks] {
            block.push(candidate);
        }
        self.last
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, id: WriteId, blocks: std::ops::Range<usize>) {
        self.end(id, blocks, true);
    }

    /// It failed, or its connection was lost and replaced: nobody knows what became of it, and
    /// nothing more becomes of it.
    pub fn abandoned(&mut self, id: WriteId, blocks: std::ops::Range<usize>) {
        self.end(id, blocks, false);
    }

    fn end(&mut self, id: WriteId, blocks: std::ops::Range<usize>, acknowledged: bool) {
        self.now += 1;
        for block in &mut self.blocks[blocks] {
            let Some(at) = block.iter().position(|candidate| candidate.id == id) else {
                // A later one was acknowledged in between.
                continue;
            };
            block[at].end = Some(self.now);
            let begin = block[at].begin;
            if acknowledged {
                block.retain(|other| other.end.is_none_or(|end| end >= begin));
            }
        }
    }

    /// Whether the block may hold that.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, block: usize, bytes: &[u8]) -> Result<(), Mismatch> {
        match self.matching(block, bytes) {
            Some(_) => Ok(()),
            None => Err(Mismatch {
                block: block as u64,
                allowed: self.blocks[block].iter().map(|other| other.id).collect(),
                found: recognise(bytes),
            }),
        }
    }

    /// The block was read while nothing was written, and held that: it does so from now on.
    ///
    /// # Errors
    /// It may not hold that.
    pub fn settle(&mut self, block: usize, bytes: &[u8]) -> Result<(), Mismatch> {
        self.check(block, bytes)?;
        if let Some(found) = self.matching(block, bytes) {
            self.now += 1;
            self.blocks[block] = vec![Candidate {
                end: Some(self.now),
                ..found
            }];
        }
        Ok(())
    }

    fn matching(&self, block: usize, bytes: &[u8]) -> Option<Candidate> {
        let mut expected = [0; BLOCK_BYTES];
        self.blocks[block].iter().rev().copied().find(|candidate| {
            fill(block as u64, candidate.id, &mut expected);
            bytes == expected
        })
    }
}

/// What a write puts into a block: zeros, text or noise, with its name in front but for zeros.
pub fn fill(block: u64, id: WriteId, bytes: &mut [u8; BLOCK_BYTES]) {
    bytes.fill(0);
    if id.is_multiple_of(5) {
        return;
    }
    if id % 5 == 1 {
        let line = format!("write {id} into block {block}: every acknowledged write survives\n");
        for piece in bytes.chunks_mut(line.len()) {
            piece.copy_from_slice(&line.as_bytes()[..piece.len()]);
        }
    } else {
        let mut rng = Rng::new(id.wrapping_mul(0x1_0001).wrapping_add(block << 40));
        for piece in bytes.chunks_exact_mut(8) {
            piece.copy_from_slice(&rng.number().to_le_bytes());
        }
    }
    bytes[..8].copy_from_slice(b"writelog");
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes[16..24].copy_from_slice(&block.to_le_bytes());
}

/// The write that a block names.
fn recognise(bytes: &[u8]) -> Option<WriteId> {
    let rest = bytes.strip_prefix(b"writelog")?;
    let (id, _) = rest.split_first_chunk()?;
    Some(u64::from_le_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(id: WriteId) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        fill(0, id, &mut bytes);
        bytes
    }

    fn allowed(history: &History) -> Vec<WriteId> {
        // Numbers whose contents differ: not those of zeros.
        let writes = [0, 1, 2, 3, 4].into_iter();
        writes
            .filter(|&id| history.check(0, &content(id)).is_ok())
            .collect()
    }

    #[test]
    fn acknowledged_write_must_be_there_and_nothing_before_it() {
        let mut history = History::new(1);
        let first = history.begin(0..1);
        assert_eq!(allowed(&history), [0, 1]);
        history.acknowledged(first, 0..1);
        assert_eq!(allowed(&history), [1]);
        let second = history.begin(0..1);
        history.acknowledged(second, 0..1);
        assert_eq!(allowed(&history), [2]);
    }

    #[test]
    fn writes_at_the_same_time_may_take_effect_in_either_order() {
        let mut history = History::new(1);
        let first = history.begin(0..1);
        let second = history.begin(0..1);
        history.acknowledged(second, 0..1);
        history.acknowledged(first, 0..1);
        assert_eq!(allowed(&history), [1, 2]);
    }

    #[test]
    fn abandoned_write_may_be_there_until_a_later_one_is_acknowledged() {
        let mut history = History::new(1);
        let lost = history.begin(0..1);
        history.abandoned(lost, 0..1);
        assert_eq!(allowed(&history), [0, 1]);
        let next = history.begin(0..1);
        assert_eq!(allowed(&history), [0, 1, 2]);
        history.acknowledged(next, 0..1);
        assert_eq!(allowed(&history), [2]);
    }

    #[test]
    fn what_was_read_stays() {
        let mut history = History::new(1);
        let lost = history.begin(0..1);
        history.abandoned(lost, 0..1);
        history.settle(0, &content(0)).unwrap();
        assert_eq!(allowed(&history), [0]);
        assert!(history.settle(0, &content(1)).is_err());
    }

    #[test]
    fn a_block_of_another_place_is_not_taken_for_this_one() {
        let mut history = History::new(2);
        let id = history.begin(0..2);
        history.acknowledged(id, 0..2);
        history.check(0, &content(1)).unwrap();
        let mismatch = history.check(1, &content(1)).unwrap_err();
        assert_eq!(mismatch.found, Some(1));
    }
}
