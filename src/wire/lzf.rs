//! LZF, bit-compatible with liblzf as FreeBSD's hastd builds it (`HLOG` 16, `VERY_FAST`,
//! `INIT_HTAB`): the same input gives the same bytes, so that captures can be compared.
//!
//! The stream is a sequence of
//! * `000LLLLL`, then L + 1 literal bytes;
//! * `LLLooooo oooooooo`: copy L + 2 bytes (L 1..=6) from `o` + 1 bytes back;
//! * `111ooooo LLLLLLLL oooooooo`: the same with L + 9 bytes.

/// Number of hash slots, a power of two: part of what the output depends on.
const SLOTS: usize = 1 << 16;
/// Longest run of literals.
const LITERALS_MAX: usize = 1 << 5;
/// Farthest reference, in bytes.
const OFFSET_MAX: usize = 1 << 13;
/// Longest match that one reference expresses.
const MATCH_MAX: usize = (1 << 8) + (1 << 3);

/// The compressor's hash table: 256 KiB, reused from block to block.
///
/// The original clears its table for each block. Here positions are stored relative to a base
/// that moves on with each block, so that what an earlier block left counts as empty.
#[derive(Debug)]
pub struct Table {
    slots: Box<[u32]>,
    base: u32,
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table {
            slots: vec![0; SLOTS].into_boxed_slice(),
            base: 0,
        }
    }

    /// Starts a block of `length` bytes: everything that is in the table counts as empty.
    fn start(&mut self, length: u32) {
        if self.base.checked_add(length).is_none() {
            self.slots.fill(0);
            self.base = 0;
        }
    }

    /// Puts `position` into the slot of `hash` and returns what was there. A position 0 reads as
    /// empty, as the original never refers to the first byte.
    #[inline]
    fn swap(&mut self, hash: u32, position: usize) -> Option<usize> {
        // Bits 8 to 23 of the last three bytes and their low 16 bits: the mask discards the rest.
        let index = (hash >> 8).wrapping_sub(hash.wrapping_mul(5)) & 0xffff;
        let slot = self.slots.get_mut(index as usize)?;
        let previous = slot
            .checked_sub(self.base)
            .filter(|&position| position != 0);
        // `start` made sure that base + block length does not overflow.
        *slot = self.base.wrapping_add(u32::try_from(position).unwrap_or(0));
        previous.map(|position| position as usize)
    }
}

#[inline]
fn first(input: &[u8], at: usize) -> u32 {
    (u32::from(input[at]) << 8) | u32::from(input[at + 1])
}

#[inline]
fn next(hash: u32, input: &[u8], at: usize) -> u32 {
    (hash << 8) | u32::from(input[at + 2])
}

/// Compresses `input` into `output`. Returns the number of bytes written, or `None` if they would
/// not fit (then `output` holds rubbish) or `input` is shorter than 2 bytes or longer than 4 GiB.
pub fn compress(input: &[u8], output: &mut [u8], table: &mut Table) -> Option<usize> {
    let length = u32::try_from(input.len()).ok()?;
    if input.len() < 2 || output.is_empty() {
        return None;
    }
    table.start(length);
    let written = compress_block(input, output, table);
    // Whatever the table holds now lies below the next block's base.
    table.base = table.base.saturating_add(length);
    written
}

fn compress_block(input: &[u8], output: &mut [u8], table: &mut Table) -> Option<usize> {
    let end = input.len();
    let room = output.len();
    let mut ip = 0;
    // `op` is where the next byte goes; the control byte of the run of `lit` literals in progress
    // sits at `op - lit - 1` and is filled in when the run ends.
    let mut op = 1;
    let mut lit = 0;
    let mut hash = first(input, 0);
    while ip + 2 < end {
        hash = next(hash, input, ip);
        let found = table.swap(hash, ip).filter(|&reference| {
            reference < ip
                && ip - reference - 1 < OFFSET_MAX
                && ip + 4 < end
                && input[reference..reference + 3] == input[ip..ip + 3]
        });
        let Some(reference) = found else {
            *output.get_mut(op)? = input[ip];
            op += 1;
            ip += 1;
            lit += 1;
            if lit == LITERALS_MAX {
                end_run(output, op, lit);
                lit = 0;
                op += 1;
            }
            continue;
        };
        // The original's bound, to the byte: it gives up a little early.
        if op - usize::from(lit == 0) + 4 >= room {
            return None;
        }
        if lit == 0 {
            op -= 1;
        } else {
            end_run(output, op, lit);
        }
        let matched = match_length(input, reference, ip);
        op = put_reference(output, op, ip - reference - 1, matched - 2);
        lit = 0;
        op += 1;
        ip += matched;
        if ip + 2 >= end {
            break;
        }
        // Only the last two positions of a match enter the table.
        ip -= 2;
        hash = first(input, ip);
        for _ in 0..2 {
            hash = next(hash, input, ip);
            table.swap(hash, ip);
            ip += 1;
        }
    }
    if op + 3 > room {
        return None;
    }
    while ip < end {
        output[op] = input[ip];
        op += 1;
        ip += 1;
        lit += 1;
        if lit == LITERALS_MAX {
            end_run(output, op, lit);
            lit = 0;
            op += 1;
        }
    }
    if lit == 0 {
        return Some(op - 1);
    }
    end_run(output, op, lit);
    Some(op)
}

/// Fills in the control byte of a run of `lit` literals (1..=32) that ends before `op`.
#[inline]
fn end_run(output: &mut [u8], op: usize, lit: usize) {
    // lit - 1 is at most 31.
    output[op - lit - 1] = u8::try_from(lit - 1).unwrap_or(31);
}

/// Writes a reference `offset` + 1 bytes back of `length` + 2 bytes; returns where the next byte
/// goes.
#[inline]
fn put_reference(output: &mut [u8], mut op: usize, offset: usize, length: usize) -> usize {
    let [low, high, ..] = offset.to_le_bytes();
    if length < 7 {
        output[op] = high + (u8::try_from(length).unwrap_or(0) << 5);
    } else {
        output[op] = high + (7 << 5);
        op += 1;
        // A match is at most MATCH_MAX long, so that length - 7 is at most 255.
        output[op] = u8::try_from(length - 7).unwrap_or(u8::MAX);
    }
    output[op + 1] = low;
    op + 2
}

/// Length of the match of `ip` with `reference`, 3..=264 bytes. Three bytes are known to match.
///
/// Near the end of the input the original stops two bytes early, except in the first 16 steps of
/// its unrolled loop; both are part of the output.
#[inline]
fn match_length(input: &[u8], reference: usize, ip: usize) -> usize {
    let longest = (input.len() - ip - 2).min(MATCH_MAX);
    // The unrolled part looks at bytes up to 18 (inside the input whenever longest > 16).
    let bound = if longest > 16 {
        longest.max(19)
    } else {
        longest
    };
    let mut len = 3;
    while len + 8 <= bound {
        let ours: [u8; 8] = word(input, ip + len);
        let theirs: [u8; 8] = word(input, reference + len);
        let differing = u64::from_le_bytes(ours) ^ u64::from_le_bytes(theirs);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    while len < bound && input[ip + len] == input[reference + len] {
        len += 1;
    }
    len
}

#[inline]
fn word(input: &[u8], at: usize) -> [u8; 8] {
    let mut word = [0; 8];
    word.copy_from_slice(&input[at..at + 8]);
    word
}

/// Why a stream does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LzfError {
    /// It ends inside a command.
    Truncated,
    /// It refers to bytes before the beginning.
    BadReference,
    /// It gives more bytes than there should be.
    TooLong,
}

/// Decompresses `input` into `output`; returns the number of bytes written.
///
/// # Errors
/// The stream is damaged or does not fit; `output` then holds an unusable part of it.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Result<usize, LzfError> {
    let mut ip = 0;
    let mut op = 0;
    while let Some(&control) = input.get(ip) {
        let control = usize::from(control);
        ip += 1;
        if control < LITERALS_MAX {
            let run = control + 1;
            let from = input.get(ip..ip + run).ok_or(LzfError::Truncated)?;
            let to = output.get_mut(op..op + run).ok_or(LzfError::TooLong)?;
            to.copy_from_slice(from);
            ip += run;
            op += run;
            continue;
        }
        let mut len = control >> 5;
        if len == 7 {
            len += usize::from(*input.get(ip).ok_or(LzfError::Truncated)?);
            ip += 1;
        }
        len += 2;
        let low = usize::from(*input.get(ip).ok_or(LzfError::Truncated)?);
        ip += 1;
        let offset = ((control & 0x1f) << 8) + low + 1;
        let from = op.checked_sub(offset).ok_or(LzfError::BadReference)?;
        if op + len > output.len() {
            return Err(LzfError::TooLong);
        }
        copy_within(output, from, op, len);
        op += len;
    }
    Ok(op)
}

/// Copies `len` bytes from `from` to `to` > `from`, in order: an overlap repeats the pattern.
#[inline]
fn copy_within(output: &mut [u8], from: usize, to: usize, len: usize) {
    let offset = to - from;
    if offset == 1 {
        let byte = output[from];
        output[to..to + len].fill(byte);
    } else {
        let mut done = 0;
        while done < len {
            // What was written so far extends the pattern, so the step doubles.
            let step = (offset + done).min(len - done);
            output.copy_within(from..from + step, to + done);
            done += step;
        }
    }
}

#[cfg(test)]
#[path = "lzf_tests.rs"]
mod tests;
