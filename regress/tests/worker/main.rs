//! Workers as real processes: the test plays the parent, the applications, and where needed the
//! peer.
// On FreeBSD a primary of root serves a device of the kernel, which regress/freebsd tests.
#![cfg(not(target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod nbd;
mod peer;
mod rig;

mod alone;
mod golden;
mod liars;
mod pair;
