//! What is wrong with a configuration, told so that it can be found and mended.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::identity::IdentityError;

/// Errors that one file reports at most; the rest are counted.
const DIAGNOSTICS_MAX: usize = 100;

/// Characters of a line that are shown around an error at most.
const EXCERPT_CHARS_MAX: usize = 100;

/// One error in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a sentence, in the original's words where it has some.
    pub message: String,
    /// The file as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What would have been right; empty if the message says it all.
    pub expected: String,
    /// The line, or the part of a long one around the error, without control characters.
    pub excerpt: String,
    /// Which characters of the excerpt are meant.
    pub marked: Range<usize>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.message)?;
        write!(f, "  {}:{}:{}", self.file, self.line, self.column)?;
        if !self.expected.is_empty() {
            write!(f, ": expected {}", self.expected)?;
        }
        let width = self.marked.end.saturating_sub(self.marked.start).max(1);
        write!(
            f,
            "\n    {}\n    {}{}",
            self.excerpt,
            " ".repeat(self.marked.start),
            "^".repeat(width)
        )
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file cannot be opened or read.
    File {
        /// `open` or `read`.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The file is larger than [`super::Format::max_bytes`].
    TooLarge {
        /// The file.
        path: String,
        /// The bound, in bytes.
        max_bytes: usize,
    },
    /// Nobody said which node this is.
    Identity(IdentityError),
    /// What is wrong in the file, in its order.
    Invalid {
        /// Never empty.
        diagnostics: Vec<Diagnostic>,
        /// Further errors that are not shown.
        omitted: usize,
    },
}

impl Error {
    /// The code of sysexits(3) that a program ends with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Error::File { .. } => 72,
            Error::Identity(_) => 71,
            Error::TooLarge { .. } | Error::Invalid { .. } => 78,
        }
    }

    /// One text for each error, of one or more lines, without a level in front: for a log.
    pub fn reports(&self) -> Vec<String> {
        match self {
            Error::File {
                action,
                path,
                reason,
            } => vec![format!(
                "Unable to {action} configuration file {}: {reason}.",
                printable(path)
            )],
            Error::TooLarge { path, max_bytes } => vec![format!(
                "Configuration file {} is larger than {max_bytes} bytes.",
                printable(path)
            )],
            Error::Identity(error) => vec![error.to_string()],
            Error::Invalid {
                diagnostics,
                omitted,
            } => {
                let mut reports: Vec<String> =
                    diagnostics.iter().map(Diagnostic::to_string).collect();
                if *omitted > 0 {
                    reports.push(format!("{omitted} further errors are not shown."));
                }
                reports
            }
        }
    }

    /// All errors as the tools print them to stderr, each with `[ERROR] ` in front.
    pub fn render(&self) -> String {
        self.reports()
            .into_iter()
            .fold(String::new(), |mut text, report| {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "[ERROR] {report}");
                text
            })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reports().join("\n"))
    }
}

impl std::error::Error for Error {}

/// Where the errors of one file come together.
pub(super) struct Sink<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, Diagnostic)>,
    omitted: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Sink<'a> {
        Sink {
            file,
            text,
            found: Vec::new(),
            omitted: 0,
        }
    }

    /// How many errors there are so far.
    pub(super) fn count(&self) -> usize {
        self.found.len() + self.omitted
    }

    /// The number of the line that holds the byte at `offset`, from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Notes an error at the bytes of `span`.
    pub(super) fn report(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if self.full() {
            self.omitted += 1;
            return;
        }
        let start = self.boundary(span.start);
        let (column, excerpt, marked) = self.excerpt(start, self.boundary(span.end));
        self.found.push((
            start,
            Diagnostic {
                message: message.into(),
                file: printable(self.file),
                line: self.line_of(start),
                column,
                expected: expected.into(),
                excerpt,
                marked,
            },
        ));
    }

    /// Whether further errors are only counted: what describes them need not be computed then.
    pub(super) fn full(&self) -> bool {
        self.found.len() >= DIAGNOSTICS_MAX
    }

    /// Notes an error of grammar: the original's words, with the line and what stands there.
    pub(super) fn syntax(&mut self, span: &Range<usize>, what: &str, expected: impl Into<String>) {
        if self.full() {
            self.omitted += 1;
            return;
        }
        let (start, end) = (self.boundary(span.start), self.boundary(span.end));
        let near: String = self.text[start..end.max(start)].chars().take(40).collect();
        let message = format!(
            "Unable to parse configuration file at line {} near '{}': {what}.",
            self.line_of(start),
            printable(near.trim_end())
        );
        self.report(span, message, expected);
    }

    /// The error that all this amounts to, in the file's order; `None` without any.
    pub(super) fn into_error(mut self) -> Option<Error> {
        // The sort is stable: errors at the same place stay in the order of discovery.
        self.found.sort_by_key(|&(offset, _)| offset);
        let diagnostics: Vec<_> = self.found.into_iter().map(|(_, error)| error).collect();
        (!diagnostics.is_empty()).then_some(Error::Invalid {
            diagnostics,
            omitted: self.omitted,
        })
    }

    /// The last boundary of a character that is not behind `offset`.
    fn boundary(&self, offset: usize) -> usize {
        (0..=offset.min(self.text.len()))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0)
    }

    /// The column of `start`, the line around it and the place of `start..end` therein.
    fn excerpt(&self, start: usize, end: usize) -> (usize, String, Range<usize>) {
        let line_start = self.text[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].split('\n').next().unwrap_or("");
        let before = self.text[line_start..start].chars().count();
        let width = self.text[start..end.max(start)]
            .chars()
            .take_while(|&character| character != '\n')
            .count();
        let skipped = if before + width <= EXCERPT_CHARS_MAX {
            0
        } else {
            before.saturating_sub(EXCERPT_CHARS_MAX / 4)
        };
        let shown: String = line.chars().skip(skipped).take(EXCERPT_CHARS_MAX).collect();
        let shown = printable(shown.trim_end_matches('\r'));
        let first = before - skipped;
        let last = (first + width).min(EXCERPT_CHARS_MAX);
        (before + 1, shown, first..last)
    }
}

/// The text with one harmless character in place of each that could play with a terminal.
pub(super) fn printable(text: &str) -> String {
    let bidirectional =
        |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|character| match character {
            '\t' => ' ',
            _ if character.is_control() || bidirectional(character) => '?',
            _ => character,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(file: &str, text: &str, span: Range<usize>) -> Diagnostic {
        let mut sink = Sink::new(file, text);
        sink.syntax(&span, "unknown statement", "something");
        match sink.into_error() {
            Some(Error::Invalid { diagnostics, .. }) => diagnostics[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_marker_stands_under_what_is_meant() {
        assert_eq!(
            only("x.conf", "control /a\n\tfoo bar\n", 12..15).to_string(),
            "Unable to parse configuration file at line 2 near 'foo': unknown statement.\n  \
             x.conf:2:2: expected something\n     foo bar\n     ^^^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_error() {
        let text = format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000));
        let error = only("x.conf", &text, 5000..5004);
        assert_eq!(error.column, 5001);
        assert_eq!(error.excerpt.len(), EXCERPT_CHARS_MAX);
        assert_eq!(&error.excerpt[error.marked], "HERE");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let error = only("a\x1b.conf", "\x1b[2J\u{202e}\n", 0..7).to_string();
        assert!(
            !error.contains('\x1b') && !error.contains('\u{202e}'),
            "{error:?}"
        );
    }

    #[test]
    fn spans_outside_of_the_text_are_harmless() {
        for span in [
            0..usize::MAX,
            usize::MAX..usize::MAX,
            Range { start: 3, end: 1 },
        ] {
            assert_eq!(only("x", "äöü", span).line, 1);
        }
    }

    #[test]
    fn errors_beyond_the_bound_are_counted_only() {
        let mut sink = Sink::new("x", "foo");
        for _ in 0..DIAGNOSTICS_MAX + 7 {
            sink.report(&(0..1), "wrong", "");
        }
        let error = sink.into_error().unwrap();
        assert!(
            error
                .render()
                .ends_with("[ERROR] 7 further errors are not shown.\n")
        );
    }
}
