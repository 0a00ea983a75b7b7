//! What confines a process, as it says so itself: to its parent, and on to the administrator.

use sandbox::{Entry, Report, State};
use serde::{Deserialize, Serialize};

/// Lines of a child's report at most, and characters of one: a step says a sentence.
const LINES_MAX: usize = 64;
const LINE_CHARS_MAX: usize = 256;

/// What confines a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The user that it runs as: a name, or a number where it could not look the name up.
    pub user: String,
    /// Descriptors that it held when it was confined, standard ones included.
    pub descriptors: u32,
    /// The mechanisms in force, in words.
    pub in_force: Vec<String>,
    /// Those that are not, with reasons.
    pub missing: Vec<String>,
}

/// The user of this process: root, or a number.
pub fn own_user() -> String {
    match nix::unistd::geteuid() {
        uid if uid.is_root() => "root".to_owned(),
        uid => uid.to_string(),
    }
}

impl Confinement {
    /// From the steps that were taken.
    pub fn of_steps(steps: &[Entry], user: &str, descriptors: usize) -> Confinement {
        let mut confinement = Confinement {
            user: user.to_owned(),
            descriptors: u32::try_from(descriptors).unwrap_or(u32::MAX),
            ..Confinement::default()
        };
        for entry in steps {
            let step = entry.mechanism;
            match &entry.state {
                State::InForce { detail: None } => confinement.in_force.push(step.to_string()),
                State::InForce {
                    detail: Some(detail),
                } => confinement.in_force.push(format!("{step} ({detail})")),
                State::NotInForce { reason } => {
                    confinement.missing.push(format!("{step}: {reason}"));
                }
            }
        }
        confinement
    }

    /// From the report of this process; `started_as` is what [`own_user`] said before it was
    /// confined, since afterwards nobody may ask.
    pub fn of_report(report: &Report, started_as: &str) -> Confinement {
        let user = report.user.as_deref().unwrap_or(started_as);
        Confinement::of_steps(&report.entries, user, report.descriptors)
    }

    /// A child's words, bounded and fit to be shown on a terminal.
    #[must_use]
    pub fn sanitised(&self) -> Confinement {
        let line = |text: &String| {
            let visible = |character: char| {
                if character.is_control() {
                    '?'
                } else {
                    character
                }
            };
            let line: String = text.chars().take(LINE_CHARS_MAX).map(visible).collect();
            line
        };
        let lines = |all: &[String]| all.iter().take(LINES_MAX).map(line).collect();
        Confinement {
            user: line(&self.user),
            descriptors: self.descriptors,
            in_force: lines(&self.in_force),
            missing: lines(&self.missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::Step;

    #[test]
    fn steps_are_told_apart_by_whether_they_are_in_force() {
        let entry = |mechanism, state| Entry { mechanism, state };
        let steps = [
            entry(Step::NoNewPrivileges, State::InForce { detail: None }),
            entry(
                Step::Root,
                State::InForce {
                    detail: Some("chroot".to_owned()),
                },
            ),
            entry(
                Step::Landlock,
                State::NotInForce {
                    reason: "the kernel has no Landlock".to_owned(),
                },
            ),
        ];
        let confinement = Confinement::of_steps(&steps, "hast", 6);
        assert_eq!(
            (confinement.user.as_str(), confinement.descriptors),
            ("hast", 6)
        );
        assert_eq!(
            confinement.in_force,
            ["no new privileges", "empty root directory (chroot)"]
        );
        assert_eq!(
            confinement.missing,
            ["Landlock: the kernel has no Landlock"]
        );
    }

    #[test]
    fn a_childs_words_are_bounded_and_free_of_control_characters() {
        let hostile = Confinement {
            user: "\x1b[2J".to_owned(),
            descriptors: 1,
            in_force: vec!["a\nb".to_owned(); 1000],
            missing: vec!["x".repeat(100_000)],
        };
        let shown = hostile.sanitised();
        assert!(!shown.user.contains('\x1b'));
        assert_eq!(shown.in_force.len(), LINES_MAX);
        assert!(shown.in_force.iter().all(|line| !line.contains('\n')));
        assert!(shown.missing[0].len() <= LINE_CHARS_MAX);
    }
}
