//! Hooks: programs of the administrator that are run at events.
//!
//! Run by the parent, as its own user, with arguments and no shell, never waited for. Their number
//! is bounded, for events come from workers, which may be hostile: what does not fit waits, and
//! what waits too long a queue is dropped with a message.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::events::Events;
use super::log::{DAEMON, Log};
use crate::events::Kind;
use crate::ipc::Event;
use crate::terms::Role;

/// Hooks at the same time at most.
const RUNNING_MAX: usize = 64;

/// Hooks that wait for others to end at most.
const QUEUE_MAX: usize = 1024;

/// How often a hook that runs long is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The word for an event, as hooks get it; none if no hook is run for it.
pub const fn event_name(event: Event) -> Option<&'static str> {
    Some(match event {
        Event::Connect => "connect",
        Event::Disconnect => "disconnect",
        Event::SyncStart => "syncstart",
        Event::SyncDone => "syncdone",
        Event::SyncIntr => "syncintr",
        Event::SplitBrain => "split-brain",
        Event::ConnectFailed
        | Event::Mismatch
        | Event::SyncProgress
        | Event::CountersReset
        | Event::DiskError
        | Event::PeerError
        | Event::DiskDetached
        | Event::PeerLimited => return None,
    })
}

/// The resource that a hook is run for, and its role then.
pub type Owner = (String, Role);

/// What is to be run.
#[derive(Debug)]
pub(super) struct Order {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Order {
    pub(super) fn new(program: PathBuf, arguments: Vec<String>) -> Order {
        Order { program, arguments }
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.program.display().to_string();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(argument);
        }
        text
    }
}

#[derive(Debug)]
struct Running {
    owner: Owner,
    child: Child,
    text: String,
    since: Instant,
    reported: Instant,
}

/// The hooks that run and those that wait.
#[derive(Debug, Default)]
pub struct Hooks {
    running: Vec<Running>,
    queue: VecDeque<(Owner, Order)>,
}

impl Hooks {
    /// Runs a hook, or lets it wait for its turn.
    pub fn run(
        &mut self,
        owner: Owner,
        program: PathBuf,
        arguments: Vec<String>,
        (log, events): (&mut Log, &mut Events),
        now: Instant,
    ) {
        let order = Order::new(program, arguments);
        if self.queue.len() >= QUEUE_MAX {
            let text = format!(
                "Unable to execute hook: {QUEUE_MAX} hooks wait already (cmd=[{}]).",
                order.text()
            );
            fail((log, events), &owner, text, now);
            return;
        }
        self.queue.push_back((owner, order));
        self.start_waiting((log, events), now);
    }

    /// Waits for the end of a program that was started elsewhere.
    pub fn adopt(&mut self, owner: Owner, child: Child, text: String, now: Instant) {
        self.running.push(Running {
            owner,
            child,
            text,
            since: now,
            reported: now,
        });
    }

    fn start_waiting(&mut self, (log, events): (&mut Log, &mut Events), now: Instant) {
        while self.running.len() < RUNNING_MAX {
            let Some((owner, order)) = self.queue.pop_front() else {
                return;
            };
            let text = order.text();
            match command(&order, log.is_streams()).spawn() {
                Ok(child) => {
                    log.debug(1, DAEMON, format_args!("Executing hook: {text}."));
                    let details = format!("Hook started (pid={}, cmd=[{text}]).", child.id());
                    events.note(Kind::HookStart, whose(&owner), details, now);
                    self.running.push(Running {
                        owner,
                        child,
                        text,
                        since: now,
                        reported: now,
                    });
                }
                Err(error) => {
                    let reason = crate::terms::system_reason(&error);
                    let text = format!("Unable to execute hook: {reason} (cmd=[{text}]).");
                    fail((log, events), &owner, text, now);
                }
            }
        }
    }

    /// Reaps hooks that have ended.
    pub fn reap(&mut self, (log, events): (&mut Log, &mut Events), now: Instant) {
        self.running.retain_mut(|hook| {
            let pid = hook.child.id();
            let (is_good, text) = match hook.child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => describe_end(pid, status, &hook.text),
                Err(error) => {
                    let cmd = &hook.text;
                    let text =
                        format!("Unable to wait for hook: {error} (pid={pid}, cmd=[{cmd}]).");
                    (false, text)
                }
            };
            if is_good {
                log.debug(1, DAEMON, &text);
                events.note(Kind::HookEnd, whose(&hook.owner), text, now);
            } else {
                fail((log, events), &hook.owner, text, now);
            }
            false
        });
        self.start_waiting((log, events), now);
    }

    /// Reports hooks that run long.
    pub fn tick(&mut self, (log, events): (&mut Log, &mut Events), now: Instant) {
        for hook in &mut self.running {
            if now.saturating_duration_since(hook.reported) >= REPORT_INTERVAL {
                hook.reported = now;
                let text = format!(
                    "Hook is running for {} seconds (pid={}, cmd=[{}]).",
                    now.saturating_duration_since(hook.since).as_secs(),
                    hook.child.id(),
                    hook.text
                );
                log.warning(DAEMON, &text);
                events.note(Kind::HookSlow, whose(&hook.owner), text, now);
            }
        }
    }

    /// When [`Hooks::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let reports = self.running.iter().map(|hook| hook.reported);
        reports.min().map(|earliest| earliest + REPORT_INTERVAL)
    }
}

/// Every descriptor of this process but 0 to 2 is closed on exec.
pub(super) fn command(order: &Order, inherit_output: bool) -> Command {
    let output = || {
        if inherit_output {
            Stdio::inherit()
        } else {
            Stdio::null()
        }
    };
    let mut command = Command::new(&order.program);
    command
        .args(&order.arguments)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output());
    for name in super::notify::VARIABLES {
        command.env_remove(name);
    }
    command
}

fn fail((log, events): (&mut Log, &mut Events), owner: &Owner, text: String, now: Instant) {
    log.error(DAEMON, &text);
    events.note(Kind::HookFailed, whose(owner), text, now);
}

fn whose((name, role): &Owner) -> super::events::Whose<'_> {
    Some((name, *role))
}

/// Whether a hook has ended well, and in words.
fn describe_end(pid: u32, status: ExitStatus, text: &str) -> (bool, String) {
    match (status.code(), status.signal()) {
        (Some(0), _) => (
            true,
            format!("Hook exited gracefully (pid={pid}, cmd=[{text}])."),
        ),
        (_, Some(signal)) => (
            false,
            format!("Hook was killed (pid={pid}, signal={signal}, cmd=[{text}])."),
        ),
        (code, None) => (
            false,
            format!(
                "Hook exited ungracefully (pid={pid}, exitcode={}, cmd=[{text}]).",
                code.unwrap_or(-1)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        ("test".to_owned(), Role::Primary)
    }

    #[test]
    fn a_flood_of_events_neither_runs_nor_queues_without_bound() {
        let (mut hooks, mut log) = (Hooks::default(), Log::streams(0));
        let mut events = Events::default();
        let now = Instant::now();
        let sleep = || (PathBuf::from("/bin/sleep"), vec!["60".to_owned()]);
        for _ in 0..RUNNING_MAX + QUEUE_MAX + 5 {
            let (program, arguments) = sleep();
            hooks.run(owner(), program, arguments, (&mut log, &mut events), now);
        }
        assert_eq!(hooks.running.len(), RUNNING_MAX);
        assert_eq!(hooks.queue.len(), QUEUE_MAX);
        for hook in &mut hooks.running {
            hook.child.kill().unwrap();
            hook.child.wait().unwrap();
        }
    }

    #[test]
    fn program_that_does_not_exist_is_reported_and_forgotten() {
        let (mut hooks, mut log) = (Hooks::default(), Log::streams(0));
        let mut events = Events::default();
        hooks.run(
            owner(),
            "/nonexistent/hook".into(),
            Vec::new(),
            (&mut log, &mut events),
            Instant::now(),
        );
        assert!(hooks.running.is_empty() && hooks.queue.is_empty());
        let page = events.page(crate::events::Query::default(), &[]);
        assert_eq!(page.events[0].kind, "hook-failed");
    }
}
