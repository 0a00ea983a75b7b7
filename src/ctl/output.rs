//! What the commands print: results and log lines, in the original's form.
//!
//! A log line is `[LEVEL] [resource] text`, the resource only where one is meant, the level DEBUG
//! followed by `[n]`. Errors and warnings go to stderr, the rest to stdout with the results.

use std::fmt;
use std::io::{self, Write};

use super::exit;

/// Where a command prints to.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    debug: u8,
    failure: Option<io::Error>,
}

impl<'a> Console<'a> {
    /// Prints results to `out`, errors to `err`, and debugging lines up to level `debug`.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, debug: u8) -> Console<'a> {
        Console {
            out,
            err,
            debug,
            failure: None,
        }
    }

    /// Prints a result. Should that fail, [`Console::finish`] reports it.
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        if self.failure.is_none() {
            self.failure = self.out.write_fmt(text).err();
        }
    }

    /// Prints a line or lines of JSON; false if there are none, which it complains about.
    pub fn print_json(&mut self, text: serde_json::Result<String>) -> bool {
        match text {
            Ok(text) => {
                self.print(format_args!("{text}\n"));
                true
            }
            Err(error) => {
                self.error(None, format_args!("Unable to write JSON: {error}."));
                false
            }
        }
    }

    /// Prints a line of level ERROR.
    pub fn error(&mut self, resource: Option<&str>, text: impl fmt::Display) {
        // With stderr gone there is nobody left to tell; the exit code says it.
        let _ = writeln!(self.err, "[ERROR] {}{text}", Prefix(resource));
    }

    /// Passes on what another hastctl has complained about.
    pub fn complain(&mut self, text: &[u8]) {
        // As above.
        let _ = self.err.write_all(text);
    }

    /// Prints a line of level WARNING.
    pub fn warning(&mut self, resource: Option<&str>, text: impl fmt::Display) {
        // As above.
        let _ = writeln!(self.err, "[WARNING] {}{text}", Prefix(resource));
    }

    /// Prints a line of level DEBUG if `-d` was given `level` times.
    pub fn debug(&mut self, level: u8, resource: Option<&str>, text: impl fmt::Display) {
        if level <= self.debug {
            self.print(format_args!(
                "[DEBUG][{level}] {}{text}\n",
                Prefix(resource)
            ));
        }
    }

    /// Whether more than results was asked for.
    pub fn is_debug(&self) -> bool {
        self.debug > 0
    }

    /// Makes what was printed visible; false if nobody can be shown anything any more.
    pub fn flush(&mut self) -> bool {
        if self.failure.is_none() {
            self.failure = self.out.flush().err();
        }
        self.failure.is_none()
    }

    /// Ends the output: `code`, or EX_IOERR if results could not be printed although somebody
    /// still reads.
    pub fn finish(mut self, code: u8) -> u8 {
        if self.failure.is_none() {
            self.failure = self.out.flush().err();
        }
        match self.failure.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let reason = crate::terms::system_reason(&error);
                self.error(None, format_args!("Unable to write output: {reason}."));
                exit::first(code, exit::IOERR)
            }
            _ => code,
        }
    }
}

/// `[resource] ` or nothing.
struct Prefix<'a>(Option<&'a str>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |resource| write!(f, "[{resource}] "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn code_when_output_fails(kind: io::ErrorKind, code: u8) -> (u8, String) {
        let (mut out, mut err) = (Broken(kind), Vec::new());
        let mut console = Console::new(&mut out, &mut err, 0);
        console.print(format_args!("a"));
        console.print(format_args!("b"));
        let code = console.finish(code);
        (code, String::from_utf8(err).unwrap())
    }

    #[test]
    fn output_that_cannot_be_written_is_an_error_but_for_a_closed_pipe() {
        let (code, text) = code_when_output_fails(io::ErrorKind::StorageFull, exit::OK);
        assert_eq!(code, exit::IOERR);
        assert!(
            text.starts_with("[ERROR] Unable to write output: "),
            "{text}"
        );
        let (code, _) = code_when_output_fails(io::ErrorKind::StorageFull, exit::DATAERR);
        assert_eq!(code, exit::DATAERR);
        let closed = code_when_output_fails(io::ErrorKind::BrokenPipe, exit::OK);
        assert_eq!(closed, (exit::OK, String::new()));
    }

    #[test]
    fn lines_carry_level_and_resource_and_go_to_their_stream() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err, 1);
        console.error(Some("test"), "bad");
        console.warning(None, "odd");
        console.debug(1, None, "seen");
        console.debug(2, None, "not seen");
        assert_eq!(console.finish(exit::OK), exit::OK);
        assert_eq!(err, b"[ERROR] [test] bad\n[WARNING] odd\n");
        assert_eq!(out, b"[DEBUG][1] seen\n");
    }
}
