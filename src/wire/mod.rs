//! The wire protocol of spec/01: name-value blocks, packets, messages, data stages.
//!
//! Every message is a typed value of [`message`]; bytes become such values here and nowhere else.

pub mod message;
