//! `hastctl invalidate`: gives this node's copy up, so that all of it is copied from the other node.
//!
//! It works on the local component itself, and holds its lock from before the question until the
//! end: what was said of it stays true.

use std::io::IsTerminal;

use super::args::ForceOptions;
use super::create::open_alone;
use super::exit;
use super::output::Console;
use super::size::humanize;
use crate::conf::Config;
use crate::conf::model::Resource;
use crate::disk::invalidate::{Loss, invalidate, loss};
use crate::disk::metadata;
use crate::disk::provider::OpenError;

/// Gives up every copy that is named; one that fails does not keep the others from it.
pub(super) fn run(options: &ForceOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let mut code = exit::OK;
    for name in &options.names {
        let done = match config.resource(name) {
            Some(resource) => match one(options.force, resource, console) {
                Ok(()) => exit::OK,
                Err((code, text)) => {
                    console.error(Some(name), text);
                    code
                }
            },
            None => {
                console.error(None, format_args!("Unknown resource {name}."));
                exit::DATAERR
            }
        };
        code = exit::first(code, done);
    }
    code
}

/// An error is the exit code and what to say.
fn one(force: bool, resource: &Resource, console: &mut Console<'_>) -> Result<(), (u8, String)> {
    let name = resource.name.as_str();
    let provider = open_alone(&resource.local).map_err(|error| match error {
        OpenError::InUse { .. } => (
            exit::TEMPFAIL,
            format!("{error} Set the role to init first: hastctl role init {name}."),
        ),
        _ => (exit::NOINPUT, error.to_string()),
    })?;
    let metadata =
        metadata::read(&provider, name).map_err(|error| (exit::DATAERR, error.to_string()))?;
    let loss = loss(&provider, &metadata).map_err(|error| (exit::IOERR, error.to_string()))?;
    console.print(format_args!("{name}: {}\n", describe(resource, &loss)));
    console.flush();
    if !force && !agreed(name)? {
        return Err((exit::REFUSED, "Nothing was changed.".to_owned()));
    }
    invalidate(&provider, &metadata).map_err(|error| (exit::IOERR, error.to_string()))?;
    console.print(format_args!(
        "{name}: The copy is given up. As secondary it receives all data from its primary: hastctl \
         role secondary {name}.\n"
    ));
    Ok(())
}

/// What would be lost.
fn describe(resource: &Resource, loss: &Loss) -> String {
    let mut text = format!(
        "The copy on {} is to be given up. {} of its extents ({}B) differ from the other node's \
         copy, or may; what only they hold is lost.",
        resource.local.display(),
        loss.extents,
        humanize(loss.bytes)
    );
    if loss.generations > 0 {
        text.push_str(&format!(
            " It was written without the other node (generation {}).",
            loss.generations
        ));
    }
    text.push_str(" Make sure that the other node has a complete copy before.");
    text
}

/// Whether somebody at a terminal agrees.
fn agreed(name: &str) -> Result<bool, (u8, String)> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let text = "Not without --force where nobody can be asked.".to_owned();
        return Err((exit::REFUSED, text));
    }
    eprint!("Type the name of the resource to go on: ");
    let mut answer = String::new();
    stdin
        .read_line(&mut answer)
        .map_err(|error| (exit::IOERR, format!("Unable to read the answer: {error}.")))?;
    Ok(answer.trim() == name)
}
