//! `hastctl top`: all resources on the whole terminal.
//!
//! Two processes. The one that the administrator starts sets the terminal up, starts the other and
//! waits for it; however that one ends - by a key, a panic, a signal - it sets the terminal back.
//! The other is confined as every hastctl is, reads keys from the terminal and the state from the
//! daemon, and draws.
//!
//! * [`model`]: rates from two states, order, selection;
//! * [`view`]: what is drawn;
//! * [`keys`]: bytes of a terminal as keys.

mod keys;
mod model;
mod view;

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::NamesOrAllOptions;
use super::client::Daemon;
use super::exit;
use super::output::Console;
use super::status::{document, fetch};
use crate::conf::Config;
use crate::moment;
use crate::terms::system_reason;
use keys::{Key, Keys};
use model::Model;

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Name of the variable that says that a process is the one that draws.
const VARIABLE: &str = "HASTCTL_TOP";

/// Shows the resources until `q` is pressed or the daemon does not answer.
pub(super) fn run(options: &NamesOrAllOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    if std::env::var_os(VARIABLE).is_some() {
        return match draw(options, config) {
            Ok(()) => exit::OK,
            Err((code, text)) => {
                console.error(None, text);
                code
            }
        };
    }
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        console.error(
            None,
            "top needs a terminal; see status --watch and metrics.",
        );
        return exit::USAGE;
    }
    match supervise(console) {
        Ok(code) => code,
        Err(error) => {
            let reason = system_reason(&error);
            console.error(None, format_args!("Unable to use the terminal: {reason}."));
            exit::OSERR
        }
    }
}

/// The terminal as it is while resources are shown; as it was before, afterwards.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Screen> {
        enable_raw_mode()?;
        let screen = Screen;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // With the terminal gone there is nothing to set back.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// The process that looks after the terminal.
fn supervise(console: &mut Console<'_>) -> io::Result<u8> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let screen = Screen::enter()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, "1")
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let handle = signals.handle();
    let watcher = std::thread::spawn(move || {
        if signals.forever().next().is_some() && pid.as_raw() > 0 {
            // It is not reaped before this thread has been told to end, or its number is its own.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let ended = wait(&mut child);
    handle.close();
    // It has nothing to tell.
    let _ = watcher.join();
    drop(screen);
    let (status, complaints) = ended?;
    console.complain(&complaints);
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit::SOFTWARE),
        (None, Some(libc::SIGKILL)) => exit::OK,
        (None, _) => exit::SOFTWARE,
    })
}

/// Waits for the end of the process that draws; what it complained about is shown when the terminal
/// is as it was.
fn wait(child: &mut Child) -> io::Result<(std::process::ExitStatus, Vec<u8>)> {
    let mut complaints = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut complaints)?;
    }
    Ok((child.wait()?, complaints))
}

type Failed = (u8, String);

fn of_io(error: &io::Error) -> Failed {
    let reason = system_reason(error);
    (
        exit::IOERR,
        format!("Unable to use the terminal: {reason}."),
    )
}

/// The size of the terminal; what is usual where it cannot be told.
fn area() -> Rect {
    let (rows, columns) = console::Term::stdout().size_checked().unwrap_or((24, 80));
    Rect::new(0, 0, columns, rows)
}

/// The process that draws.
fn draw(options: &NamesOrAllOptions, config: &Config) -> Result<(), Failed> {
    let mut daemon =
        Daemon::often(config).map_err(|failure| (failure.code, failure.to_string()))?;
    let viewport = Viewport::Fixed(area());
    let backend = CrosstermBackend::new(io::stdout());
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport })
        .map_err(|error| of_io(&error))?;
    let mut shown = area();
    let mut model = Model::default();
    let mut keys = Keys::default();
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        if now >= due {
            let reply = fetch(&mut daemon, &options.names, true)
                .map_err(|failure| (failure.code, failure.to_string()))?;
            model.update(document(&reply).resources, now);
            due = now + INTERVAL;
        }
        let current = area();
        if current != shown {
            shown = current;
            terminal.resize(current).map_err(|error| of_io(&error))?;
        }
        let time = moment::rfc3339(moment::now_ms());
        terminal
            .draw(|frame| view::draw(frame, &model, &time))
            .map_err(|error| of_io(&error))?;
        io::stdout().flush().map_err(|error| of_io(&error))?;
        for key in wait_for_keys(&mut keys, due).map_err(|error| of_io(&error))? {
            match key {
                Key::Quit => return Ok(()),
                Key::Up => model.select(-1),
                Key::Down => model.select(1),
                Key::Sort => model.sort_next(),
                Key::Reverse => model.reverse(),
            }
        }
    }
}

/// The keys that are pressed before that time.
fn wait_for_keys(keys: &mut Keys, until: Instant) -> io::Result<Vec<Key>> {
    let stdin = io::stdin();
    let left = until.saturating_duration_since(Instant::now());
    // A size that has changed is noticed soon.
    let left = left.min(Duration::from_millis(250));
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = [0; 64];
    match nix::unistd::read(stdin.as_fd(), &mut bytes)? {
        // The terminal is gone.
        0 => Ok(vec![Key::Quit]),
        count => Ok(keys.take(&bytes[..count])),
    }
}
