//! `hastctl config`: says whether a configuration is right, or what it amounts to.

use std::io::{self, Write};
use std::path::Path;

use crate::conf::{self, Config, Identity, print};

/// The code of sysexits(3) for output that cannot be written.
const EX_IOERR: u8 = 74;

/// The form of `config print`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// hast.conf(5).
    #[default]
    Conf,
    /// The same in TOML.
    Toml,
    /// For programs.
    Json,
}

/// `config check`: one line to `out` if the file is right; else every error in it goes to `err`.
/// Returns the exit code: 0, EX_CONFIG (78), EX_OSFILE (72), EX_OSERR (71) or, if `out` cannot be
/// written to, EX_IOERR (74).
pub fn check(path: &Path, node: Option<&str>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let (identity, config) = match load(path, node) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error, err),
    };
    let text = format!(
        "{}: no errors, {} resources for node {}\n",
        path.display(),
        config.resources.len(),
        identity.name()
    );
    written(
        out.write_all(text.as_bytes()).and_then(|()| out.flush()),
        err,
    )
}

fn load(path: &Path, node: Option<&str>) -> Result<(Identity, Config), conf::Error> {
    let identity = Identity::detect(node).map_err(conf::Error::Identity)?;
    conf::load_as(path, &identity).map(|config| (identity, config))
}

/// `config print`: the configuration as it applies to this node, or to `node`, goes to `out`.
/// Returns the exit code: as [`check`], or EX_IOERR (74) if `out` cannot be written to.
pub fn print(
    path: &Path,
    node: Option<&str>,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let (identity, config) = match load(path, node) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error, err),
    };
    let name = identity.name();
    let text = match format {
        Format::Conf => Ok(print::conf(&config, name)),
        Format::Toml => print::toml(&config, name),
        Format::Json => print::json(&config, name),
    };
    let result = text
        .map_err(io::Error::other)
        .and_then(|text| out.write_all(text.as_bytes()))
        .and_then(|()| out.flush());
    written(result, err)
}

/// The exit code after the output was written, or was not.
fn written(result: io::Result<()>, err: &mut dyn Write) -> u8 {
    match result {
        Ok(()) => 0,
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // With stderr gone too there is nobody left to tell; the exit code says it.
            let _ = writeln!(err, "[ERROR] Unable to print the configuration: {error}.");
            EX_IOERR
        }
    }
}

fn failed(error: &conf::Error, err: &mut dyn Write) -> u8 {
    // As above.
    let _ = err.write_all(error.render().as_bytes());
    error.exit_code()
}
