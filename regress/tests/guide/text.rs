//! The guide as text: its headings, and the blocks of commands below them.
//!
//! Commands are in blocks marked `sh`; a line `# on NODE` in one says where the following ones run,
//! `alpha` if there is none. A block marked `text` right after one shows what its commands print,
//! with `...` for whatever differs. `sh elsewhere=WHY` marks what cannot run here.

use std::path::PathBuf;

use hast_regress::programs::workspace;
use hast_regress::scenario::Side;

/// Where the guide is.
pub(crate) fn path() -> PathBuf {
    workspace().join("docs/guide.md")
}

/// The guide.
pub(crate) fn read() -> String {
    let path = path();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Heading of the chapter whose sections are run by the scenarios of failures.
pub(crate) const FAILURES: &str = "## Failures";

/// A block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of the guide that its first command is in, from 1.
    pub(crate) line: usize,
    /// The last heading before it, with its `#`.
    pub(crate) heading: String,
    /// Whether it is in the chapter of failures.
    pub(crate) is_remedy: bool,
    /// Why it cannot run here.
    pub(crate) elsewhere: Option<String>,
    /// The commands.
    pub(crate) commands: String,
    /// What they print.
    pub(crate) output: Option<String>,
}

impl Block {
    /// The commands for each node in turn.
    pub(crate) fn parts(&self) -> Vec<(Side, String)> {
        let mut parts = vec![(Side::Alpha, String::new())];
        for line in self.commands.lines() {
            match line.strip_prefix("# on ") {
                Some("alpha") => parts.push((Side::Alpha, String::new())),
                Some("beta") => parts.push((Side::Beta, String::new())),
                _ => {
                    if let Some((_, commands)) = parts.last_mut() {
                        commands.push_str(line);
                        commands.push('\n');
                    }
                }
            }
        }
        parts.retain(|(_, commands)| !commands.trim().is_empty());
        parts
    }
}

/// Every block of commands, in their order.
///
/// # Panics
/// At a block that does not end, or whose mark nobody knows.
pub(crate) fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut is_remedy) = (String::new(), false);
    // Whether nothing but blank lines came since the last block of commands.
    let mut follows = false;
    let mut lines = guide.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.starts_with('#') {
            line.clone_into(&mut heading);
            if line.starts_with("## ") {
                is_remedy = line == FAILURES;
            }
        }
        let Some(mark) = line.strip_prefix("```") else {
            follows &= line.trim().is_empty();
            continue;
        };
        let mut body = String::new();
        loop {
            let (_, line) = lines
                .next()
                .unwrap_or_else(|| panic!("line {}: the block does not end", at + 1));
            if line == "```" {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        let elsewhere = mark.strip_prefix("sh elsewhere=").map(str::to_owned);
        match mark {
            "conf" => follows = false,
            "text" => {
                let last = blocks.last_mut().filter(|_| follows);
                if let Some(block) = last {
                    block.output = Some(body);
                }
                follows = false;
            }
            _ if mark == "sh" || elsewhere.is_some() => {
                blocks.push(Block {
                    line: at + 2,
                    heading: heading.clone(),
                    is_remedy,
                    elsewhere,
                    commands: body,
                    output: None,
                });
                follows = true;
            }
            _ => panic!("line {}: nobody knows what '{mark}' means", at + 1),
        }
    }
    blocks
}

/// The configurations that the guide shows: blocks marked `conf`.
pub(crate) fn configurations(guide: &str) -> Vec<String> {
    let pieces = guide.split("\n```conf\n").skip(1);
    pieces
        .map(|piece| piece.split("\n```").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// Where `output` is not of the shape that the guide shows: its first line that was not found.
///
/// Blanks count as one. `...` stands for anything within a line, and in a line of its own for any
/// lines.
pub(crate) fn mismatch(shown: &str, output: &str) -> Option<String> {
    let mut rest = output.lines();
    let mut skips = false;
    for line in shown.lines() {
        if line.trim() == "..." {
            skips = true;
            continue;
        }
        let found = if skips {
            rest.any(|seen| is_like(line, seen))
        } else {
            rest.next().is_some_and(|seen| is_like(line, seen))
        };
        if !found {
            return Some(line.to_owned());
        }
        skips = false;
    }
    let more = rest.find(|line| !skips && !line.trim().is_empty());
    more.map(|line| format!("(more output) {line}"))
}

fn is_like(shown: &str, seen: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, seen) = (squeeze(shown), squeeze(seen));
    let mut pieces = shown.split("...");
    let first = pieces.next().unwrap_or_default().trim_end();
    let Some(mut rest) = seen.strip_prefix(first) else {
        return false;
    };
    let mut is_exact = true;
    for piece in pieces {
        let piece = piece.trim();
        // Behind the last one comes whatever may come.
        is_exact = !piece.is_empty();
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    !is_exact || rest.is_empty()
}

#[test]
fn commands_are_found_with_where_they_run_and_what_they_print() {
    let guide = "# Guide\n\n```sh\none\n# on beta\ntwo\nthree\n```\n\n```text\nout ... put\n```\n\
                 ## Failures\n```sh elsewhere=FreeBSD\nfour\n```\ntext\n```text\nno output\n```\n";
    let blocks = blocks(guide);
    assert_eq!(blocks.len(), 2);
    let parts = blocks[0].parts();
    let expected = [(Side::Alpha, "one\n"), (Side::Beta, "two\nthree\n")];
    assert_eq!(parts, expected.map(|(side, text)| (side, text.to_owned())));
    assert_eq!(blocks[0].output.as_deref(), Some("out ... put\n"));
    assert_eq!(blocks[1].elsewhere.as_deref(), Some("FreeBSD"));
    assert!(blocks[1].is_remedy && blocks[1].output.is_none());
}

#[test]
fn output_of_another_shape_is_noticed() {
    let shown = "a  ...  c\n...\nend\n";
    assert_eq!(mismatch(shown, "a b c\nx\ny\nend\n"), None);
    assert_eq!(
        mismatch(shown, "a b d\nend\n").as_deref(),
        Some("a  ...  c")
    );
    assert_eq!(mismatch(shown, "a b c\nx\n").as_deref(), Some("end"));
    assert_eq!(mismatch("a ...", "a anything"), None);
    assert!(mismatch("a\n", "a\nb\n").is_some());
    assert!(mismatch("a\n", "ab\n").is_some());
}
