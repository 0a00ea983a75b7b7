//! Fencing: a program of the administrator's that must agree before this node becomes primary.
//!
//! Only who can make sure that the other node no longer writes - by its power switch, its
//! hypervisor, a third machine that both can reach - can say that a promotion is safe while the
//! peer is silent. The program is run as hooks are; exit code 0 means yes, anything else and
//! silence mean no.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::hooks::{self, Order};

/// What was asked.
#[derive(Debug)]
pub struct Question {
    child: Child,
    text: String,
    since: Instant,
    deadline: Instant,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The node may become primary.
    Yes {
        /// How long that took.
        after: Duration,
    },
    /// It may not: why, as the part of a sentence that follows the program's name.
    No(String),
}

impl Question {
    /// Starts the program: `fence <resource> <peer>`, the peer being its address as configured.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ask(
        program: &Path,
        resource: &str,
        peer: &str,
        patience: Duration,
        inherit_output: bool,
        now: Instant,
    ) -> io::Result<Question> {
        let arguments = ["fence", resource, peer].map(str::to_owned).to_vec();
        let order = Order::new(program.to_owned(), arguments);
        // A group of its own, so that what it has started ends with it.
        let child = hooks::command(&order, inherit_output)
            .process_group(0)
            .spawn()?;
        Ok(Question {
            child,
            text: order.text(),
            since: now,
            deadline: now + patience,
        })
    }

    /// The answer, if there is one by now; silence counts as no from the deadline on.
    pub fn answer(&mut self, now: Instant) -> Option<Answer> {
        let after = now.saturating_duration_since(self.since);
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => Some(Answer::Yes { after }),
            Ok(Some(status)) => Some(Answer::No(refusal(status))),
            Ok(None) if now < self.deadline => None,
            Ok(None) => {
                let seconds = self
                    .deadline
                    .saturating_duration_since(self.since)
                    .as_secs();
                Some(Answer::No(format!("has not answered within {seconds} s")))
            }
            Err(error) => Some(Answer::No(format!("cannot be waited for: {error}"))),
        }
    }

    /// When silence becomes an answer.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// If the program still runs, ends it and whatever it has started. It is to be reaped then; the
    /// text is its command line.
    pub fn end(mut self) -> Option<(Child, String)> {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return None;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It is not reaped yet, so that the number is still its own.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        Some((self.child, self.text))
    }
}

fn refusal(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("refused with exit code {code}"),
        (None, signal) => format!("was killed by signal {}", signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn program(dir: &TempDir, body: &str) -> PathBuf {
        let path = dir.path().join("fence");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn ask(program: &Path, patience: Duration) -> Question {
        Question::ask(program, "data", "10.0.0.2", patience, true, Instant::now()).unwrap()
    }

    fn answer(body: &str) -> Answer {
        let dir = tempfile::tempdir().unwrap();
        let mut question = ask(&program(&dir, body), Duration::from_secs(60));
        question.child.wait().unwrap();
        question.answer(Instant::now()).unwrap()
    }

    #[test]
    fn only_exit_code_0_means_yes() {
        assert!(matches!(answer("exit 0"), Answer::Yes { .. }));
        assert_eq!(
            answer("exit 3"),
            Answer::No("refused with exit code 3".to_owned())
        );
        assert_eq!(
            answer("kill -TERM $$"),
            Answer::No("was killed by signal 15".to_owned())
        );
    }

    #[test]
    fn it_is_told_the_resource_and_the_peer() {
        assert!(matches!(
            answer("[ \"$*\" = 'fence data 10.0.0.2' ]"),
            Answer::Yes { .. }
        ));
    }

    #[test]
    fn silence_is_no_and_ends_all_that_was_started() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A child of the program's holds the fifo open for as long as it lives.
        let body = format!("sleep 600 >{} &\nwait", fifo.display());
        let mut question = ask(&program(&dir, &body), Duration::from_secs(7));
        let mut held = std::fs::File::open(&fifo).unwrap();
        assert_eq!(question.answer(question.since), None);
        assert_eq!(
            question.answer(question.deadline()),
            Some(Answer::No("has not answered within 7 s".to_owned()))
        );
        let (mut child, text) = question.end().unwrap();
        assert!(text.ends_with("fence fence data 10.0.0.2"), "{text}");
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // Its end is the end of the fifo.
        let mut rest = Vec::new();
        assert_eq!(io::Read::read_to_end(&mut held, &mut rest).unwrap(), 0);
    }

    #[test]
    fn program_that_does_not_exist_is_an_error() {
        let patience = Duration::from_secs(1);
        let asked = Question::ask(
            Path::new("/nonexistent/fence"),
            "data",
            "none",
            patience,
            true,
            Instant::now(),
        );
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
