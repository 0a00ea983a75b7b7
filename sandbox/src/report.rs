//! What confinement is in force, for the status and the log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::policy::Kind;
use crate::step::Step;
use crate::{Config, Mode};

/// What confines a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What kind of process it is.
    pub kind: Kind,
    /// What was to become of a failed step.
    pub mode: Mode,
    /// The user that it runs as, where it was started by root.
    pub user: Option<String>,
    /// Descriptors that it held when it was confined, standard ones included.
    pub descriptors: usize,
    /// Each step, in the order taken.
    pub entries: Vec<Entry>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The step.
    pub mechanism: Step,
    /// What became of it.
    pub state: State,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In force, verified.
    InForce {
        /// Details for people.
        detail: Option<String>,
    },
    /// Not in force.
    NotInForce {
        /// Why.
        reason: String,
    },
}

impl Report {
    pub(crate) fn new(config: &Config) -> Self {
        Report {
            kind: config.kind,
            mode: config.mode,
            user: config.user.as_ref().map(|user| user.name.clone()),
            descriptors: 0,
            entries: Vec::new(),
        }
    }

    /// True if the step was taken and is in force.
    pub fn is_in_force(&self, step: Step) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.mechanism == step && matches!(entry.state, State::InForce { .. }))
    }

    /// What is not in force, with the reasons.
    pub fn missing(&self) -> impl Iterator<Item = (Step, &str)> {
        self.entries.iter().filter_map(|entry| match &entry.state {
            State::NotInForce { reason } => Some((entry.mechanism, reason.as_str())),
            State::InForce { .. } => None,
        })
    }
}

/// One line for the log: what is in force, then what is not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_force: Vec<String> = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.state, State::InForce { .. }))
            .map(|entry| entry.mechanism.to_string())
            .collect();
        write!(f, "confined by {}", in_force.join(", "))?;
        let missing: Vec<String> = self
            .missing()
            .map(|(step, reason)| format!("{step} ({reason})"))
            .collect();
        if !missing.is_empty() {
            write!(f, "; not in force: {}", missing.join(", "))?;
        }
        Ok(())
    }
}
