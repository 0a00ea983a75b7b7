//! Privilege separation: processes that trust each other as little as possible.
//!
//! A privileged parent starts children from its own binary and talks to each over one socket pair.
//! The parts, in the order in which a child's life meets them:
//!
//! * [`process`]: the parent starts a child by fork and exec, with a title, an environment and
//!   descriptors that are named one by one; nothing is inherited by accident.
//! * [`audit`]: the child compares what it holds with what it may hold, first of all.
//! * [`channel`]: typed messages, encoded by [`codec`], with descriptors alongside.
//! * [`user`]: the child becomes an unprivileged user, and checks that it cannot go back.
//! * [`supervise`]: the parent learns how a child ended, when to start the next and how to end one.
//!
//! The crate knows nothing of what the processes do. `unsafe` lives in `process::exec`,
//! `process::inherited`, `channel::socket` and `audit::borrow` only.

pub mod audit;
pub mod channel;
pub mod codec;
pub mod process;
pub mod supervise;
pub mod user;
