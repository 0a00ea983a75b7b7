//! hastctl(8): controls hastd(8), makes and shows local components, checks the configuration.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let mut err = io::stderr().lock();
    ExitCode::from(hast::ctl::run(std::env::args_os(), &mut out, &mut err))
}
