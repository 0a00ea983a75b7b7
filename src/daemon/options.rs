//! The command line of hastd.
//!
//! getopt(3) by hand, since its few options and their error texts are those of the original.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Where the configuration is unless `-c` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/hast.conf";

/// The original's line, with ours at its end.
pub const USAGE: &str = "hastd: [-dFh] [-c config] [-P pidfile] [-N node]\n";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often `-d` was given.
    pub debug: u8,
    /// Stay in the foreground and log to the standard streams.
    pub foreground: bool,
    /// The configuration file.
    pub config: PathBuf,
    /// The pidfile, instead of the configured one.
    pub pidfile: Option<PathBuf>,
    /// The node to be, instead of what this host is called.
    pub node: Option<String>,
}

/// A command line that asks for the usage, or is wrong: the text for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl Options {
    /// The options of these arguments, the program's name not among them.
    ///
    /// # Errors
    /// The text to print; the program ends with EX_USAGE (64) then.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Usage> {
        let mut options = Options {
            debug: 0,
            foreground: false,
            config: PathBuf::from(DEFAULT_CONFIG),
            pidfile: None,
            node: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let bytes = argument.as_bytes();
            let Some(letters) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
                return Err(Usage(USAGE.to_owned()));
            };
            if letters == b"-" {
                break;
            }
            options.word(letters, &mut arguments)?;
        }
        if arguments.next().is_some() {
            return Err(Usage(USAGE.to_owned()));
        }
        Ok(options)
    }

    /// One argument: letters, the last of which may have a value, behind it or as next argument.
    fn word(
        &mut self,
        letters: &[u8],
        arguments: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Usage> {
        for (at, letter) in letters.iter().enumerate() {
            match letter {
                b'd' => self.debug = self.debug.saturating_add(1),
                b'F' => self.foreground = true,
                b'h' => return Err(Usage(USAGE.to_owned())),
                b'c' | b'P' | b'N' => {
                    let behind = letters.get(at + 1..).filter(|rest| !rest.is_empty());
                    let value = behind
                        .map(|rest| OsStr::from_bytes(rest).to_owned())
                        .or_else(|| arguments.next())
                        .ok_or_else(|| complaint("option requires an argument", *letter))?;
                    return self.value(*letter, value);
                }
                other => return Err(complaint("illegal option", *other)),
            }
        }
        Ok(())
    }

    fn value(&mut self, letter: u8, value: OsString) -> Result<(), Usage> {
        match letter {
            b'c' => self.config = PathBuf::from(value),
            b'P' => self.pidfile = Some(PathBuf::from(value)),
            _ => {
                let node = String::from_utf8(value.into_vec())
                    .map_err(|_| Usage(format!("hastd: invalid node name\n{USAGE}")))?;
                self.node = Some(node);
            }
        }
        Ok(())
    }
}

fn complaint(what: &str, letter: u8) -> Usage {
    Usage(format!(
        "hastd: {what} -- {}\n{USAGE}",
        letter.escape_ascii()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, Usage> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn misuse_is_told_as_getopt_does() {
        for (line, text) in [
            ("-h", ""),
            ("-x", "hastd: illegal option -- x\n"),
            ("-dFx", "hastd: illegal option -- x\n"),
            ("-c", "hastd: option requires an argument -- c\n"),
            ("-F word", ""),
            ("-F -- word", ""),
            ("-", ""),
        ] {
            assert_eq!(parsed(line), Err(Usage(format!("{text}{USAGE}"))), "{line}");
        }
    }

    #[test]
    fn options_are_understood_in_every_form() {
        let options = parsed("-ddF -c a -P/run/p -dN nodea").unwrap();
        assert_eq!(
            options,
            Options {
                debug: 3,
                foreground: true,
                config: "a".into(),
                pidfile: Some("/run/p".into()),
                node: Some("nodea".to_owned()),
            }
        );
        assert_eq!(parsed("").unwrap().config, PathBuf::from(DEFAULT_CONFIG));
    }
}
