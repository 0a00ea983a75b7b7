//! Two nodes with real processes, disks and networks (regress/README.md, "Scenarios").

mod clients;
mod disks;
mod failover;
mod hostile;
mod kills;
mod link;
mod matrix;
mod mismatch;
mod reload;
mod roles;
mod sync;
