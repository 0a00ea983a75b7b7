//! hastctl(8): controls hastd(8), makes and shows local components, checks the configuration.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(hast::ctl::main())
}
