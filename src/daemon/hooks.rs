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

use super::log::{DAEMON, Log};
use crate::ipc::Event;

/// Hooks at the same time at most.
const RUNNING_MAX: usize = 64;

/// Hooks that wait for others to end at most.
const QUEUE_MAX: usize = 1024;

/// How often a hook that runs long is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The word for an event, as hooks get it.
pub const fn event_name(event: Event) -> &'static str {
    match event {
        Event::Connect => "connect",
        Event::Disconnect => "disconnect",
        Event::SyncStart => "syncstart",
        Event::SyncDone => "syncdone",
        Event::SyncIntr => "syncintr",
        Event::SplitBrain => "split-brain",
    }
}

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
    child: Child,
    text: String,
    since: Instant,
    reported: Instant,
}

/// The hooks that run and those that wait.
#[derive(Debug, Default)]
pub struct Hooks {
    running: Vec<Running>,
    queue: VecDeque<Order>,
}

impl Hooks {
    /// Runs a hook, or lets it wait for its turn.
    pub fn run(&mut self, program: PathBuf, arguments: Vec<String>, log: &mut Log, now: Instant) {
        let order = Order::new(program, arguments);
        if self.queue.len() >= QUEUE_MAX {
            log.error(
                DAEMON,
                format_args!(
                    "Unable to execute hook: {QUEUE_MAX} hooks wait already (cmd=[{}]).",
                    order.text()
                ),
            );
            return;
        }
        self.queue.push_back(order);
        self.start_waiting(log, now);
    }

    /// Waits for the end of a program that was started elsewhere.
    pub fn adopt(&mut self, child: Child, text: String, now: Instant) {
        self.running.push(Running {
            child,
            text,
            since: now,
            reported: now,
        });
    }

    fn start_waiting(&mut self, log: &mut Log, now: Instant) {
        while self.running.len() < RUNNING_MAX {
            let Some(order) = self.queue.pop_front() else {
                return;
            };
            let text = order.text();
            match command(&order, log.is_streams()).spawn() {
                Ok(child) => {
                    log.debug(1, DAEMON, format_args!("Executing hook: {text}."));
                    self.running.push(Running {
                        child,
                        text,
                        since: now,
                        reported: now,
                    });
                }
                Err(error) => {
                    let reason = crate::terms::system_reason(&error);
                    log.error(
                        DAEMON,
                        format_args!("Unable to execute hook: {reason} (cmd=[{text}])."),
                    );
                }
            }
        }
    }

    /// Reaps hooks that have ended.
    pub fn reap(&mut self, log: &mut Log, now: Instant) {
        self.running.retain_mut(|hook| {
            let pid = hook.child.id();
            match hook.child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => report_end(log, pid, status, &hook.text),
                Err(error) => log.error(
                    DAEMON,
                    format_args!(
                        "Unable to wait for hook: {error} (pid={pid}, cmd=[{}]).",
                        hook.text
                    ),
                ),
            }
            false
        });
        self.start_waiting(log, now);
    }

    /// Reports hooks that run long.
    pub fn tick(&mut self, log: &mut Log, now: Instant) {
        for hook in &mut self.running {
            if now.saturating_duration_since(hook.reported) >= REPORT_INTERVAL {
                hook.reported = now;
                log.warning(
                    DAEMON,
                    format_args!(
                        "Hook is running for {} seconds (pid={}, cmd=[{}]).",
                        now.saturating_duration_since(hook.since).as_secs(),
                        hook.child.id(),
                        hook.text
                    ),
                );
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
    command
}

fn report_end(log: &mut Log, pid: u32, status: ExitStatus, text: &str) {
    match (status.code(), status.signal()) {
        (Some(0), _) => log.debug(
            1,
            DAEMON,
            format_args!("Hook exited gracefully (pid={pid}, cmd=[{text}])."),
        ),
        (_, Some(signal)) => log.error(
            DAEMON,
            format_args!("Hook was killed (pid={pid}, signal={signal}, cmd=[{text}])."),
        ),
        (code, None) => log.error(
            DAEMON,
            format_args!(
                "Hook exited ungracefully (pid={pid}, exitcode={}, cmd=[{text}]).",
                code.unwrap_or(-1)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_neither_runs_nor_queues_without_bound() {
        let (mut hooks, mut log) = (Hooks::default(), Log::streams(0));
        let now = Instant::now();
        let sleep = || (PathBuf::from("/bin/sleep"), vec!["60".to_owned()]);
        for _ in 0..RUNNING_MAX + QUEUE_MAX + 5 {
            let (program, arguments) = sleep();
            hooks.run(program, arguments, &mut log, now);
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
        hooks.run(
            "/nonexistent/hook".into(),
            Vec::new(),
            &mut log,
            Instant::now(),
        );
        assert!(hooks.running.is_empty() && hooks.queue.is_empty());
    }
}
