//! hast.conf (spec/03): grammar, model, diagnostics.
//!
//! A file becomes a [`Config`] in two steps, the same for both formats: `parser` or
//! `toml_format` turns the text into a document of sections and statements, `resolve` turns
//! that into what applies to one node. Errors of both steps are collected, so that one run shows
//! all of them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub mod address;
mod diagnostic;
pub mod diff;
mod document;
pub mod identity;
mod lexer;
pub mod model;
mod parser;
pub mod print;
mod resolve;
mod toml_format;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Error};
pub use diff::{Changes, diff};
pub use identity::{Identity, IdentityError};
pub use model::Config;

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// hast.conf(5).
    Conf,
    /// The same in TOML.
    Toml,
}

impl Format {
    /// Size of a file at most, in bytes. The TOML parser takes up to 350 times the size of a file
    /// that is full of errors, hence the smaller bound there; it still holds thousands of
    /// resources.
    pub const fn max_bytes(self) -> usize {
        match self {
            Format::Conf => 16 * 1024 * 1024,
            Format::Toml => 2 * 1024 * 1024,
        }
    }

    /// TOML for files named so, hast.conf for all others.
    pub fn of(path: &Path) -> Format {
        let toml = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if toml { Format::Toml } else { Format::Conf }
    }
}

/// Reads the configuration in `path` as it applies to the node of that name, or else to this host.
///
/// # Errors
/// If the file cannot be read or is wrong: all that is wrong with it, for people.
pub fn load(path: &Path, node: Option<&str>) -> Result<Config, Error> {
    let identity = Identity::detect(node).map_err(Error::Identity)?;
    load_as(path, &identity)
}

/// Reads the configuration in `path` as it applies to that node.
///
/// # Errors
/// As [`load`].
pub fn load_as(path: &Path, identity: &Identity) -> Result<Config, Error> {
    let name = path.display().to_string();
    let format = Format::of(path);
    let bytes = read(path, &name, format.max_bytes())?;
    // Comments may hold anything, as in the original; elsewhere both formats refuse the
    // replacement character that stands for what is not UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    parse_str(&text, &name, format, identity)
}

fn read(path: &Path, name: &str, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let failed = |action, error: &std::io::Error| Error::File {
        action,
        path: name.to_owned(),
        reason: error.raw_os_error().map_or_else(
            || error.to_string(),
            |number| nix::errno::Errno::from_raw(number).desc().to_owned(),
        ),
    };
    let file = File::open(path).map_err(|error| failed("open", &error))?;
    let mut bytes = Vec::new();
    // One byte more than may be: to notice that there is more.
    file.take(max_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", &error))?;
    check_size(bytes.len(), name, max_bytes)?;
    Ok(bytes)
}

fn check_size(size: usize, name: &str, max_bytes: usize) -> Result<(), Error> {
    if size > max_bytes {
        return Err(Error::TooLarge {
            path: name.to_owned(),
            max_bytes,
        });
    }
    Ok(())
}

/// The configuration in `text` as it applies to that node. `file` is for messages only.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_str(
    text: &str,
    file: &str,
    format: Format,
    identity: &Identity,
) -> Result<Config, Error> {
    check_size(text.len(), file, format.max_bytes())?;
    let mut sink = diagnostic::Sink::new(file, text);
    let document = match format {
        Format::Conf => parser::parse(text, &mut sink),
        Format::Toml => toml_format::parse(text, &mut sink),
    };
    let config = resolve::resolve(document, identity, &mut sink);
    sink.into_error().map_or(Ok(config), Err)
}
