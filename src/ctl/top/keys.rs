//! Bytes of a terminal in raw mode as keys.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// End.
    Quit,
    /// The resource above.
    Up,
    /// The one below.
    Down,
    /// By the next column.
    Sort,
    /// In the other direction.
    Reverse,
}

/// An escape sequence may be cut at any place.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Plain,
    /// After ESC.
    Escape,
    /// After ESC and `[` or `O`.
    Sequence,
}

impl Keys {
    /// The keys of these bytes; those that mean nothing are skipped.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|&byte| self.byte(byte)).collect()
    }

    fn byte(&mut self, byte: u8) -> Option<Key> {
        let (state, key) = match (self.state, byte) {
            (_, 0x1b) => (State::Escape, None),
            (State::Escape, b'[' | b'O') => (State::Sequence, None),
            (State::Sequence, b'A') => (State::Plain, Some(Key::Up)),
            (State::Sequence, b'B') => (State::Plain, Some(Key::Down)),
            // Parameters, then the letter that ends the sequence.
            (State::Sequence, 0x20..=0x3f) => (State::Sequence, None),
            (State::Sequence, _) => (State::Plain, None),
            // ^C and ^D end it, too: in raw mode they are bytes like others.
            (_, b'q' | b'Q' | 3 | 4) => (State::Plain, Some(Key::Quit)),
            (_, b'k') => (State::Plain, Some(Key::Up)),
            (_, b'j') => (State::Plain, Some(Key::Down)),
            (_, b's') => (State::Plain, Some(Key::Sort)),
            (_, b'r') => (State::Plain, Some(Key::Reverse)),
            _ => (State::Plain, None),
        };
        self.state = state;
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_understood_wherever_they_are_cut() {
        let bytes = b"x\x1b[A\x1bOBsr\x1b[3~k\x1b[1;5Aq";
        let expected = [
            Key::Up,
            Key::Down,
            Key::Sort,
            Key::Reverse,
            Key::Up,
            Key::Up,
            Key::Quit,
        ];
        for cut in 0..=bytes.len() {
            let mut keys = Keys::default();
            let mut found = keys.take(&bytes[..cut]);
            found.extend(keys.take(&bytes[cut..]));
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn letters_of_sequences_are_no_keys() {
        assert!(Keys::default().take(b"\x1b[q\x1b[s").is_empty());
    }
}
