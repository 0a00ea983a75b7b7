//! hastctl: commands and their output.

pub mod config;
