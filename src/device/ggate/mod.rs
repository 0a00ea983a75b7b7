//! GEOM gate: a resource's data as /dev/hast/&lt;name&gt; on FreeBSD.
//!
//! * [`layout`]: the kernel's structures and the numbers of its ioctls;
//! * `bio`: the commands of bio(9), in both numberings;
//! * [`gate`]: the control device as a trait; `sys`: the kernel's, on FreeBSD;
//! * [`provider`]: a provider made or taken over, direct reads, its end;
//! * `intake`: threads that wait in START;
//! * `requests`: requests split and gathered, as a state machine;
//! * [`server`]: the front end.
//!
//! # What happens when
//!
//! **A worker dies.** The provider stays, the kernel keeps what was asked. The next worker finds it
//! (`CREATE` says `EEXIST`), puts what the dead one had taken back into the queue (`CANCEL`) and is
//! asked for it again. A write that had reached the disk, and even the peer, is then done once
//! more, before anything that came later can have been acknowledged.
//!
//! **A worker ends.** What the engine has is finished and answered, then the provider is destroyed,
//! and the kernel answers the rest with `ENXIO`.
//!
//! **Reads in the kernel.** While the local copy is good the kernel reads it by itself
//! (`READPROV`), and asks this process only if that fails. What has been acknowledged is on the
//! local disk then, in every replication mode, so such reads see it. The moment the copy is not
//! good any more, before anything else is acknowledged, the kernel is told.
//!
//! Everything but `sys` is built and tested on every platform, against a model of the kernel.

mod bio;
mod buffer;
pub mod gate;
mod intake;
pub mod layout;
#[cfg(test)]
mod model;
pub mod provider;
mod requests;
pub mod server;
#[cfg(target_os = "freebsd")]
pub mod sys;

pub use bio::Numbering;
pub use provider::{DirectReads, Origin, Provider, ProviderConfig};
pub use server::{GateLimits, GateServer};
