//! `hastctl explain`: the state of resources in words ([`crate::explain`]).

use super::args::ExplainOptions;
use super::client::Daemon;
use super::exit;
use super::output::Console;
use super::status::{code, document, fetch};
use crate::conf::Config;
use crate::explain::explain;

/// Explains each resource; the exit code is that of `status`.
pub(super) fn run(options: &ExplainOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let reply =
        Daemon::once(config).and_then(|mut daemon| fetch(&mut daemon, &options.names, true));
    let reply = match reply {
        Ok(reply) => reply,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    let document = document(&reply);
    let explanations: Vec<_> = document.resources.iter().map(explain).collect();
    if options.json {
        if !console.print_json(serde_json::to_string_pretty(&explanations)) {
            return exit::SOFTWARE;
        }
    } else {
        for explanation in &explanations {
            console.print(format_args!("{explanation}"));
        }
    }
    code(&reply)
}
