//! hastd: the parent process and its small children.
//!
//! [`main`] is the whole program. Started by an administrator it is the parent ([`parent`]): reads
//! hast.conf, holds the control socket, binds the sockets of peers, connects for primaries, starts
//! and supervises everything else, runs hooks, and never reads a byte that came from the network.
//! Started by a parent it is one of the children that [`child::Mode`] names.
//!
//! Decisions are apart from what carries them out: [`supervisor`] (roles and workers),
//! [`admission`] and [`session`] (peers), [`worker::Conversation`] (what a worker may say when) do
//! neither I/O nor ask for the time.

pub mod admission;
#[cfg(target_os = "linux")]
pub mod blockdev;
pub mod child;
mod confine;
pub mod connect;
pub mod control;
mod detach;
mod errand;
pub mod events;
pub mod fence;
pub mod hooks;
pub mod listener;
pub mod log;
pub mod memory;
pub mod names;
pub mod notify;
pub mod options;
pub mod parent;
pub mod pidfile;
pub mod session;
pub mod signals;
pub mod socket;
pub mod supervisor;
pub mod worker;

use std::ffi::OsString;
use std::io::{self, Write};

use child::Mode;
use options::{Options, Usage};

/// The exit code of a wrong command line.
const EX_USAGE: u8 = 64;

/// The program; `arguments` without its name. Returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match Mode::of_this_process() {
        Some(Mode::Listener) => return listener::main(),
        Some(Mode::Resolver) => return names::resolver::main(),
        #[cfg(target_os = "linux")]
        Some(Mode::Attacher) => return blockdev::child::main(),
        Some(Mode::Worker) => return crate::worker::main(),
        None => crate::inherited::close_all(),
    }
    match Options::parse(arguments) {
        Ok(options) => parent::start(options),
        Err(Usage(text)) => {
            // With stderr gone there is nobody left to tell; the exit code says it.
            let _ = io::stderr().write_all(text.as_bytes());
            EX_USAGE
        }
    }
}
