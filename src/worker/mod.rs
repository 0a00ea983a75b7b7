//! To come.

/// The life of a worker.
pub fn main() -> u8 {
    70
}
