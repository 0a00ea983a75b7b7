//! `hast-instructions`: what a request costs in engine and wire, in instructions.
//!
//! Times on a busy machine say little; the number of instructions is the same each time. It is
//! counted by valgrind's callgrind, which runs this program twice for each case, with different
//! numbers of calls: the difference is the calls' own. `make bench-instructions` compares with what
//! is on record in `regress/data/instructions.txt`; `record` renews that after a change that is
//! meant. `scale` shows how the cost of a write depends on the size of a resource, on how much is
//! dirty, and on how many requests are in flight.
//!
//! * `cases`: what is counted; `engine`: both roles without disks and network;
//! * `count`: valgrind; `record`: the comparison; `scale`: the table of docs/performance.md.

mod cases;
mod count;
mod engine;
mod record;
mod scale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "hast-instructions")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts every case and compares it with what is on record.
    Check,
    /// Counts every case and writes it down.
    Record,
    /// Shows what the cost of a write depends on.
    Scale {
        /// Also puts the table into docs/performance.md.
        #[arg(long)]
        publish: bool,
    },
    /// Makes so many calls of a case; what valgrind runs.
    Run {
        /// Its name.
        case: String,
        /// How many.
        calls: u64,
    },
    /// Prints how many bytes an engine for so many bytes takes.
    Memory {
        /// Bytes of the resource.
        bytes: u64,
    },
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Check => record::check(),
        Command::Record => record::renew(),
        Command::Scale { publish } => scale::show(publish),
        Command::Run { case, calls } => cases::run(&case, calls),
        Command::Memory { bytes } => {
            println!("{}", scale::memory(bytes));
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("hast-instructions: {reason}");
            ExitCode::FAILURE
        }
    }
}
