//! The NBD server: a resource's data on a Unix socket, for every client that speaks NBD.
//!
//! * `protocol`: numbers and encodings;
//! * [`connection`]: the protocol of one connection as a pure state machine, bytes in and out;
//! * `client`: one connection's bytes on their way between socket, machine and buffers;
//! * [`server`]: the front end: its clients, and the requests that the engine has of them.
//!
//! A request is split into parts, of the length that the engine takes, one after the other as the
//! engine and the pool have room: nothing of it waits in memory. A read without structured
//! replies that is longer than one part has its connection for itself, since its data must come
//! in one piece and in order.

mod client;
pub mod connection;
mod protocol;
pub mod server;

pub use connection::Export;
pub use server::{NbdServer, ServerLimits};
