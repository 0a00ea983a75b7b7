//! What state a resource is in, in words: what it means, why, whether data are at risk, and what to
//! do. Computed from what `status --json` says and nothing else.
//!
//! [`situation`] finds out which of the situations it is, [`texts`] says what is to be said of each.

mod situation;
mod texts;

use std::fmt;

use serde::Serialize;

use crate::report::Resource;
use situation::Situation;

/// How safe the data are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Two good copies, or as many as are configured.
    None,
    /// One good copy is left, or the copies are about to differ.
    Reduced,
    /// Data may be lost, or cannot be reached.
    High,
    /// This node alone cannot tell.
    Unknown,
}

impl Risk {
    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Risk::None => "none",
            Risk::Reduced => "reduced",
            Risk::High => "high",
            Risk::Unknown => "unknown",
        }
    }
}

/// Where a command is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// On this node.
    This,
    /// On the other one.
    Other,
    /// On either, both, or the one that the text names.
    Chosen,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where.
    pub node: Node,
    /// What for.
    pub purpose: String,
    /// The command; none if it is not one command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What is to be said of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Name of the resource.
    pub resource: String,
    /// What state it is in, and what that means.
    pub state: String,
    /// Why; none if it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How safe the data are.
    pub risk: Risk,
    /// The same in words.
    pub risk_details: String,
    /// What to do, in this order; nothing if nothing needs to be done.
    pub steps: Vec<Step>,
}

/// Explains the state of a resource.
pub fn explain(resource: &Resource) -> Explanation {
    texts::of(Situation::of(resource), resource)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.resource)?;
        paragraph(f, "State", &self.state)?;
        if let Some(why) = &self.why {
            paragraph(f, "Why", why)?;
        }
        let risk = format!("{}. {}", self.risk.as_str(), self.risk_details);
        paragraph(f, "Risk", &risk)?;
        if self.steps.is_empty() {
            return paragraph(f, "Do", "Nothing.");
        }
        for (index, step) in self.steps.iter().enumerate() {
            let place = match step.node {
                Node::This => "Here: ",
                Node::Other => "On the other node: ",
                Node::Chosen => "",
            };
            let label = if index == 0 { "Do" } else { "" };
            paragraph(f, label, &format!("{place}{}", step.purpose))?;
            if let Some(command) = &step.command {
                writeln!(f, "{:INDENT$}    {command}", "")?;
            }
        }
        Ok(())
    }
}

/// Columns before the text, and columns of a line.
const INDENT: usize = 9;
const WIDTH: usize = 79;

/// A label and a text that is broken to fit a terminal of 80 columns.
fn paragraph(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let colon = if label.is_empty() { "" } else { ":" };
    write!(
        f,
        "  {:<width$}",
        format!("{label}{colon}"),
        width = INDENT - 2
    )?;
    let mut column = INDENT;
    for (index, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            write!(f, "\n{:INDENT$}", "")?;
            column = INDENT;
        } else if index > 0 {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += length;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests;
