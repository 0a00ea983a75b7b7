//! Confinement of each kind of process.
