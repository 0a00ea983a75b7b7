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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `text` to a file and runs the command on it; gives exit code, stdout and stderr.
    fn run(
        text: &str,
        command: impl FnOnce(&Path, &mut dyn Write, &mut dyn Write) -> u8,
    ) -> (u8, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hast.conf");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = command(&path, &mut out, &mut err);
        let name = path.display().to_string();
        let text = |bytes| {
            String::from_utf8(bytes)
                .unwrap()
                .replace(&name, "hast.conf")
        };
        (code, text(out), text(err))
    }

    const GOOD: &str = "listen tcp4://0.0.0.0 replication fullsync resource \"my disk\" {
        local /l syncrate 2048k on a { remote b:1 source c } on b { remote none } }";

    fn printed(format: Format, node: &'static str) -> String {
        let (code, out, err) = run(GOOD, |path, out, err| {
            print(path, Some(node), format, out, err)
        });
        assert_eq!((code, err.as_str()), (0, ""));
        out
    }

    #[test]
    fn a_wrong_file_is_told_on_stderr_and_ends_with_ex_config() {
        let wrong = "timeout 0\nfoo\n";
        let checked = run(wrong, |path, out, err| check(path, Some("a"), out, err));
        assert_eq!((checked.0, checked.1.as_str()), (78, ""));
        assert_eq!(checked.2.matches("[ERROR] ").count(), 2);
        let printed = run(wrong, |path, out, err| {
            print(path, Some("a"), Format::Json, out, err)
        });
        assert_eq!(printed, checked);
    }

    #[test]
    fn a_file_that_is_missing_ends_with_ex_osfile() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let path = Path::new("/nonexistent/hast.conf");
        assert_eq!(check(path, Some("a"), &mut out, &mut err), 72);
        assert!(out.is_empty() && !err.is_empty());
    }

    #[test]
    fn output_that_cannot_be_written_is_an_error_but_a_closed_pipe_is_not() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, code) in [
            (io::ErrorKind::StorageFull, 74),
            (io::ErrorKind::BrokenPipe, 0),
        ] {
            let result = run(GOOD, |path, _, err| {
                print(path, Some("a"), Format::Conf, &mut Failing(kind), err)
            });
            assert_eq!(result.0, code);
            assert_eq!(result.2.is_empty(), code == 0);
        }
    }

    #[test]
    fn a_right_file_is_confirmed_for_the_node() {
        let checked = run(GOOD, |path, out, err| check(path, Some("b"), out, err));
        assert_eq!(
            checked,
            (
                0,
                "hast.conf: no errors, 1 resources for node b\n".to_owned(),
                String::new()
            )
        );
    }

    #[test]
    fn the_effective_configuration_is_printed_in_each_format() {
        insta::assert_snapshot!("conf", printed(Format::Conf, "a"));
        insta::assert_snapshot!("toml", printed(Format::Toml, "a"));
        insta::assert_snapshot!("json", printed(Format::Json, "b"));
    }
}
