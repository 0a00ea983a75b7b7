//! The tokens of hast.conf (spec/03).
//!
//! Where the original echoes a character that it does not know to stdout and goes on, this one is
//! an error at that place.

use std::borrow::Cow;
use std::ops::Range;

use super::diagnostic::Sink;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word: keyword, name, path or address.
    Word,
    /// Digits only.
    Number,
    /// A text in double quotes.
    Quoted,
    /// `{`
    Open,
    /// `}`
    Close,
    /// The end of the file.
    End,
}

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// Without quotes and escapes.
    pub(super) text: Cow<'a, str>,
    /// Its bytes in the file.
    pub(super) span: Range<usize>,
    /// Nothing but white space is before it on its line.
    pub(super) first_on_line: bool,
    /// An error inside was reported: what the text means must not be judged again.
    pub(super) damaged: bool,
}

impl Token<'_> {
    /// Neither a brace nor the end.
    pub(super) const fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Number | Kind::Quoted)
    }
}

/// Whether the character may stand in a word without quotes.
pub(super) const fn is_word_char(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '.' | '_' | '/' | ':' | '[' | ']' | '-')
}

const EXPECTED_CHARS: &str =
    "letters, digits and . _ / : [ ] - (anything else goes in \"double quotes\")";

/// Cuts a text into tokens.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Behind the byte order mark, with which some editors begin a file.
    start: usize,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        let start = text.len() - text.trim_start_matches('\u{feff}').len();
        Lexer {
            text,
            start,
            at: start,
        }
    }

    /// The next token; [`Kind::End`] for ever at the end.
    pub(super) fn next(&mut self, sink: &mut Sink<'_>) -> Token<'a> {
        let mut first_on_line = self.at == self.start;
        loop {
            first_on_line |= self.skip_blanks();
            let start = self.at;
            let Some(character) = self.text[start..].chars().next() else {
                return self.token(Kind::End, Cow::Borrowed(""), start, true, false);
            };
            let (kind, text, damaged) = match character {
                '{' | '}' => {
                    self.at += 1;
                    let kind = if character == '{' {
                        Kind::Open
                    } else {
                        Kind::Close
                    };
                    (kind, Cow::Borrowed(&self.text[start..self.at]), false)
                }
                '"' => {
                    let (text, damaged) = self.quoted(sink);
                    (Kind::Quoted, Cow::Owned(text), damaged)
                }
                _ => {
                    let Some((text, damaged)) = self.word(sink) else {
                        continue;
                    };
                    let number = text.bytes().all(|byte| byte.is_ascii_digit());
                    let kind = if number { Kind::Number } else { Kind::Word };
                    (kind, Cow::Borrowed(text), damaged)
                }
            };
            return self.token(kind, text, start, first_on_line, damaged);
        }
    }

    fn token(
        &self,
        kind: Kind,
        text: Cow<'a, str>,
        start: usize,
        first_on_line: bool,
        damaged: bool,
    ) -> Token<'a> {
        Token {
            kind,
            text,
            span: start..self.at,
            first_on_line,
            damaged,
        }
    }

    /// Skips white space and comments; says whether a line ended.
    fn skip_blanks(&mut self) -> bool {
        let mut newline = false;
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' => newline = true,
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {}
                b'#' => {
                    let rest = &bytes[self.at..];
                    let length = rest.iter().position(|&byte| byte == b'\n');
                    self.at += length.unwrap_or(rest.len());
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        newline
    }

    /// A word; `None` if nothing of it is left without the characters that cannot be in one.
    fn word(&mut self, sink: &mut Sink<'_>) -> Option<(&'a str, bool)> {
        let start = self.at;
        let rest = &self.text[start..];
        let ends = |character: char| {
            matches!(
                character,
                ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c' | '{' | '}' | '"' | '#'
            )
        };
        let run = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += run.len();
        let Some(bad) = run.find(|character| !is_word_char(character)) else {
            return Some((run, false));
        };
        let bad_length = run[bad..].find(is_word_char).unwrap_or(run.len() - bad);
        sink.syntax(
            &(start + bad..start + bad + bad_length),
            "unknown character",
            EXPECTED_CHARS,
        );
        let core = run.trim_matches(|character| !is_word_char(character));
        let damaged = core.contains(|character| !is_word_char(character));
        (!core.is_empty()).then_some((core, damaged))
    }

    /// A text in double quotes, in which `\"` and `\\` stand for the second character.
    fn quoted(&mut self, sink: &mut Sink<'_>) -> (String, bool) {
        let start = self.at;
        let mut text = String::new();
        let mut damaged = false;
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((offset, character)) = chars.next() {
            let at = start + 1 + offset;
            let wrong = match character {
                '"' => {
                    self.at = at + 1;
                    return (text, damaged);
                }
                '\n' => break,
                '\\' => match chars.clone().next() {
                    Some((_, escaped @ ('"' | '\\'))) => {
                        chars.next();
                        text.push(escaped);
                        continue;
                    }
                    _ => Some(("unknown escape", "\\\" or \\\\")),
                },
                char::REPLACEMENT_CHARACTER => Some(("not UTF-8", "a text in UTF-8")),
                _ if character.is_control() => Some(("control character", "printable characters")),
                _ => None,
            };
            match wrong {
                Some((what, expected)) => {
                    sink.syntax(&(at..at + character.len_utf8()), what, expected);
                    damaged = true;
                }
                None => text.push(character),
            }
        }
        let rest = &self.text[start..];
        self.at = start + rest.find('\n').unwrap_or(rest.len());
        sink.syntax(
            &(start..self.at),
            "quotes are not closed",
            "\" before the end of the line",
        );
        (text, true)
    }
}
