//! The commands of bio(9), which FreeBSD numbered anew in version 12.

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Data of the provider.
    Read,
    /// Data for it.
    Write,
    /// The content is no longer needed.
    Delete,
    /// What was written goes to stable storage.
    Flush,
    /// A hint that the system is short of something; carries no data and asks for nothing.
    Speedup,
    /// Attributes, zones, whatever comes: not supported.
    Other,
}

/// How the running kernel numbers the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Up to FreeBSD 11: one bit each.
    Bits,
    /// From FreeBSD 12 on: in sequence.
    Sequence,
}

impl Numbering {
    /// That of a release, by its `kern.osreldate` (1302001 is FreeBSD 13.2).
    pub fn of_release(osreldate: u32) -> Numbering {
        if osreldate >= 1_200_000 {
            Numbering::Sequence
        } else {
            Numbering::Bits
        }
    }

    /// The command of that number.
    pub(super) fn command(self, number: u32) -> Command {
        match (self, number) {
            (_, 1) => Command::Read,
            (_, 2) => Command::Write,
            (Numbering::Bits, 4) | (Numbering::Sequence, 3) => Command::Delete,
            (Numbering::Bits, 16) | (Numbering::Sequence, 5) => Command::Flush,
            (Numbering::Sequence, 10) => Command::Speedup,
            _ => Command::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbering_changes_with_freebsd_12() {
        assert_eq!(Numbering::of_release(1_104_001), Numbering::Bits);
        assert_eq!(Numbering::of_release(1_200_000), Numbering::Sequence);
        assert_eq!(Numbering::of_release(1_500_000), Numbering::Sequence);
    }

    #[test]
    fn a_number_means_what_its_release_says() {
        let sequence = (0..=11).map(|number| Numbering::Sequence.command(number));
        use Command::{Delete, Flush, Other, Read, Speedup, Write};
        let expected = [
            Other, Read, Write, Delete, Other, Flush, Other, Other, Other, Other, Speedup, Other,
        ];
        assert!(sequence.eq(expected));
        let bits = [1, 2, 3, 4, 5, 8, 10, 16, 32].map(|number| Numbering::Bits.command(number));
        let expected = [
            Read, Write, Other, Delete, Other, Other, Other, Flush, Other,
        ];
        assert_eq!(bits, expected);
    }
}
