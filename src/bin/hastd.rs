//! hastd(8): the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(hast::daemon::main(std::env::args_os().skip(1)))
}
