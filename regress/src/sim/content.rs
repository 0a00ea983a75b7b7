//! What a simulated sector holds: not bytes, but who wrote it.
//!
//! A cell names the write it comes from and the sector that the write meant it for, so that data
//! that arrive at the wrong place are as visible as data that are too old.

/// The content of one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell(u64);

/// A write of an application, numbered from 1 in the order of the run.
pub type WriteId = u32;

/// Set in a cell whose content is undefined: a discarded sector of a disk that promises nothing.
const UNDEFINED: u64 = 1 << 63;

impl Cell {
    /// All zeros: the content of a new disk, of a write of zeros, of most discarded sectors.
    pub const ZERO: Cell = Cell(0);

    /// What `write` stores in `sector`.
    #[must_use]
    pub fn of(write: WriteId, sector: u32) -> Cell {
        Cell(u64::from(write) << 31 | u64::from(sector & 0x7fff_ffff))
    }

    /// Undefined content; `noise` makes it differ from other undefined content.
    #[must_use]
    pub fn undefined(noise: u64) -> Cell {
        Cell(noise | UNDEFINED)
    }

    /// Whether the content is undefined.
    #[must_use]
    pub fn is_undefined(self) -> bool {
        self.0 & UNDEFINED != 0
    }

    /// The write that it comes from, if it was meant for `sector`. `None` for zeros, for undefined
    /// content, and for data of another sector.
    #[must_use]
    pub fn writer(self, sector: u32) -> Option<WriteId> {
        if self.0 == 0 || self.is_undefined() || self.0 & 0x7fff_ffff != u64::from(sector) {
            return None;
        }
        u32::try_from(self.0 >> 31).ok()
    }

    /// Whether two copies of a sector differ in a way that matters.
    #[must_use]
    pub fn differs(self, other: Cell) -> bool {
        self != other && !self.is_undefined() && !other.is_undefined()
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 {
            f.write_str("zeros")
        } else if self.is_undefined() {
            f.write_str("undefined")
        } else {
            write!(
                f,
                "write {} of sector {}",
                self.0 >> 31,
                self.0 & 0x7fff_ffff
            )
        }
    }
}

/// A count or number as an index: every host of this program has pointers of 32 bits or more.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit a pointer")
}

/// An index back as a number; the simulator's disks are far smaller than 2^32 sectors.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("the simulator's disks are small")
}

/// Bytes to sectors: offsets of the engine are multiples of a sector inside a small disk.
pub(crate) fn sectors(bytes: u64, sector: u32) -> u32 {
    u32::try_from(bytes / u64::from(sector)).expect("the simulator's disks are small")
}

#[cfg(test)]
mod tests {
    use super::Cell;

    #[test]
    fn data_of_another_sector_has_no_writer() {
        assert_eq!(Cell::of(5, 9).writer(9), Some(5));
        assert_eq!(Cell::of(5, 9).writer(8), None);
        assert_eq!(Cell::ZERO.writer(0), None);
    }

    #[test]
    fn undefined_content_differs_from_nothing() {
        assert!(!Cell::undefined(3).differs(Cell::of(1, 1)));
        assert!(Cell::of(2, 1).differs(Cell::of(1, 1)));
        assert!(Cell::ZERO.differs(Cell::of(1, 1)));
    }
}
