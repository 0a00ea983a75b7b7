//! hastctl: commands and their output.
//!
//! [`main`] is the whole program, [`run`] all of it but for its streams. [`args`] turns the
//! command line into a [`args::Command`]; each command has a module of its own, which gets its
//! options and a [`Console`] and returns an exit code of [`exit`].

pub mod args;
mod client;
mod completions;
pub mod config;
mod confine;
mod connector;
mod create;
mod dump;
mod events;
pub mod exit;
mod explain;
mod invalidate;
mod metrics;
pub mod output;
mod role;
pub mod size;
mod status;
mod steer;
#[cfg(feature = "top")]
mod top;
mod watch;

use std::ffi::OsString;
use std::io::Write;

use args::{Command, Common, ConfigCommand};
use output::Console;

use crate::conf::{self, Config};

/// The program; returns the exit code.
pub fn main() -> u8 {
    if connector::is_this_process() {
        return connector::main();
    }
    // A caller's files and locks are no business of a process that confines itself.
    crate::inherited::close_all();
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr().lock();
    run(std::env::args_os(), &mut out, &mut err)
}

/// Runs a command line, the program's name included, and returns the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let command = match args::parse(arguments) {
        Ok(command) => command,
        Err(misuse) => {
            // With stderr gone there is nobody left to tell; the exit code says it.
            let _ = err.write_all(misuse.to_string().as_bytes());
            return exit::USAGE;
        }
    };
    match command {
        Command::Create(options) => with_config(&options.common, out, err, |config, console| {
            create::run(&options, config, console)
        }),
        Command::Dump(options) => with_config(&options.common, out, err, |config, console| {
            dump::run(&options, config, console)
        }),
        Command::Role(options) => with_config(&options.common, out, err, |config, console| {
            role::run(&options, config, console)
        }),
        Command::Status(options) | Command::List(options) if options.watch => {
            with_config(&options.common, out, err, |config, console| {
                watch::watch(&options, config, console)
            })
        }
        Command::List(options) => with_config(&options.common, out, err, |config, console| {
            status::run(&options, status::Form::List, config, console)
        }),
        Command::Status(options) => with_config(&options.common, out, err, |config, console| {
            status::run(&options, status::Form::Table, config, console)
        }),
        Command::Explain(options) => with_config(&options.common, out, err, |config, console| {
            explain::run(&options, config, console)
        }),
        Command::Events(options) => with_config(&options.common, out, err, |config, console| {
            events::run(&options, config, console)
        }),
        Command::Metrics(options) => with_config(&options.common, out, err, |config, console| {
            metrics::run(&options, config, console)
        }),
        #[cfg(feature = "top")]
        Command::Top(options) => with_config(&options.common, out, err, |config, console| {
            top::run(&options, config, console)
        }),
        Command::Wait(options) => with_config(&options.common, out, err, |config, console| {
            watch::wait(&options, config, console)
        }),
        Command::PauseSync(options) => with_config(&options.common, out, err, |config, console| {
            steer::pause(&options, true, config, console)
        }),
        Command::ResumeSync(options) => {
            with_config(&options.common, out, err, |config, console| {
                steer::pause(&options, false, config, console)
            })
        }
        Command::SyncRate(options) => with_config(&options.common, out, err, |config, console| {
            steer::rate(&options, config, console)
        }),
        Command::Connect(options) => with_config(&options.common, out, err, |config, console| {
            steer::connect(&options, config, console)
        }),
        Command::Disconnect(options) => {
            with_config(&options.common, out, err, |config, console| {
                steer::disconnect(&options, config, console)
            })
        }
        Command::Invalidate(options) => {
            with_config(&options.common, out, err, |config, console| {
                invalidate::run(&options, config, console)
            })
        }
        Command::Stop(options) => with_config(&options, out, err, |config, console| {
            role::stop(&options, config, console)
        }),
        Command::Completions { shell } => completions::print(shell, out),
        Command::Config(ConfigCommand::Check(options)) => {
            config::check(&options.config, options.node.as_deref(), out, err)
        }
        Command::Config(ConfigCommand::Print { common, format }) => {
            config::print(&common.config, common.node.as_deref(), format, out, err)
        }
    }
}

/// Reads the configuration and runs a command that needs it.
fn with_config(
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
    command: impl FnOnce(&Config, &mut Console<'_>) -> u8,
) -> u8 {
    match conf::load(&common.config, common.node.as_deref()) {
        Ok(config) => {
            let mut console = Console::new(out, err, common.debug);
            let code = command(&config, &mut console);
            console.finish(code)
        }
        Err(error) => {
            // As above.
            let _ = err.write_all(error.render().as_bytes());
            error.exit_code()
        }
    }
}
