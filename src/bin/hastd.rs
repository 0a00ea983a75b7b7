//! hastd(8)

use std::process::ExitCode;

fn main() -> ExitCode {
    // A child of the daemon is the same program, told by its environment what it is.
    if std::env::var_os("HASTD_CHILD").is_some_and(|what| what == "worker") {
        return ExitCode::from(hast::worker::main());
    }
    ExitCode::SUCCESS
}
