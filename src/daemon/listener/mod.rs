//! The listener: accepts connections of peers and decodes the first packet of each.
//!
//! A process of its own, unprivileged and confined before it accepts anything, for what it reads
//! comes from anybody who can reach the port. A complete first packet goes to the parent with its
//! connection; everything else ends here. Bounded in every direction: bytes of a packet, time,
//! connections of one address and in total ([`guests`]).

mod child;
mod guests;
mod reading;

pub use child::main;
