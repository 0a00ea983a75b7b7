//! The log: standard output and standard error in the foreground, syslog(3) otherwise.
//!
//! A line is `[LEVEL] [resource] (role) text`, LEVEL one of DEBUG (followed by `[n]`), INFO,
//! NOTICE, WARNING and ERROR; operators grep for these and for the texts of the original. Nothing
//! here waits: a log that does not take a line loses it. Where systemd's journal reads the standard
//! streams, `<n>` before a line says its priority (sd-daemon(3)).

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;

use crate::ipc::Level;
use crate::terms::Role;

/// Bytes of one line's text at most; the rest is cut.
const TEXT_BYTES_MAX: usize = 2048;

/// The socket of the system's log daemon.
const SYSLOG_PATH: &str = if cfg!(target_os = "freebsd") {
    "/var/run/log"
} else {
    "/dev/log"
};

/// What a line is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a>(Option<(&'a str, Role)>);

impl<'a> About<'a> {
    /// A resource in its role.
    pub fn resource(name: &'a str, role: Role) -> About<'a> {
        About(Some((name, role)))
    }
}

/// The daemon itself.
pub const DAEMON: About<'static> = About(None);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((name, role)) => write!(f, "[{name}] ({}) ", role.as_str()),
            None => Ok(()),
        }
    }
}

/// Where lines go.
#[derive(Debug)]
enum Sink {
    /// Standard output (debug, info, notice) and standard error (warning, error).
    Streams {
        /// The journal reads them.
        journal: bool,
    },
    /// The system's log; reconnected when it was restarted.
    Syslog(Option<UnixDatagram>),
}

/// The daemon's log.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    debug: u8,
}

impl Log {
    /// A log to the standard streams that shows debugging lines up to that level.
    pub fn streams(debug: u8) -> Log {
        Log {
            sink: Sink::Streams {
                journal: journal_reads_us(),
            },
            debug,
        }
    }

    /// From now on to the system's log, facility daemon.
    pub fn switch_to_syslog(&mut self) {
        self.sink = Sink::Syslog(connect_syslog().ok());
    }

    /// The debug level.
    pub fn debug_level(&self) -> u8 {
        self.debug
    }

    /// Whether lines go to the standard streams.
    pub fn is_streams(&self) -> bool {
        matches!(self.sink, Sink::Streams { .. })
    }

    /// Writes a line.
    pub fn write(&mut self, level: Level, about: About<'_>, text: impl fmt::Display) {
        if matches!(level, Level::Debug(wanted) if wanted > self.debug) {
            return;
        }
        let text = sanitised(&text.to_string());
        let line = format!("[{}] {about}{text}", Label(level));
        match &mut self.sink {
            Sink::Streams { journal: false } => write_stream(level, &line),
            Sink::Streams { journal: true } => {
                write_stream(level, &format!("<{}>{line}", severity(level)));
            }
            Sink::Syslog(socket) => write_syslog(socket, level, &line),
        }
    }

    /// A line of level ERROR.
    pub fn error(&mut self, about: About<'_>, text: impl fmt::Display) {
        self.write(Level::Error, about, text);
    }

    /// A line of level WARNING.
    pub fn warning(&mut self, about: About<'_>, text: impl fmt::Display) {
        self.write(Level::Warning, about, text);
    }

    /// A line of level INFO.
    pub fn info(&mut self, about: About<'_>, text: impl fmt::Display) {
        self.write(Level::Info, about, text);
    }

    /// A line of level DEBUG, shown from debug level `level` on.
    pub fn debug(&mut self, level: u8, about: About<'_>, text: impl fmt::Display) {
        self.write(Level::Debug(level), about, text);
    }
}

struct Label(Level);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Level::Debug(level) => write!(f, "DEBUG][{level}"),
            Level::Info => f.write_str("INFO"),
            Level::Notice => f.write_str("NOTICE"),
            Level::Warning => f.write_str("WARNING"),
            Level::Error => f.write_str("ERROR"),
        }
    }
}

fn write_stream(level: Level, line: &str) {
    // With the stream gone there is nobody left to tell.
    let _ = match level {
        Level::Warning | Level::Error => writeln!(io::stderr(), "{line}"),
        Level::Debug(_) | Level::Info | Level::Notice => {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        }
    };
}

/// The severity of syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Notice => 5,
        Level::Info => 6,
        Level::Debug(_) => 7,
    }
}

/// Whether standard error is a stream of systemd's journal: the variable, which children inherit,
/// names the device and inode that it is about.
fn journal_reads_us() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|stat| *stream == *format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn write_syslog(socket: &mut Option<UnixDatagram>, level: Level, line: &str) {
    // Facility daemon is 3.
    let priority = 3 * 8 + severity(level);
    let record = format!("<{priority}>hastd[{}]: {line}", std::process::id());
    let sent = socket
        .as_ref()
        .is_some_and(|socket| match socket.send(record.as_bytes()) {
            Ok(_) => true,
            // Full: the line is lost, the daemon is not held up.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
    if !sent {
        *socket = connect_syslog().ok();
        if let Some(socket) = socket {
            // As above.
            let _ = socket.send(record.as_bytes());
        }
    }
}

fn connect_syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(SYSLOG_PATH)?;
    Ok(socket)
}

/// A text without control characters but line feeds before indented lines, and not too long: it
/// may come from a child that somebody took over, and must not forge lines.
pub fn sanitised(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for char in text.trim_end().chars() {
        if clean.len() >= TEXT_BYTES_MAX {
            clean.push_str("...");
            break;
        }
        match char {
            // Continuation lines are told from new ones by their indentation.
            '\n' => clean.push_str("\n  "),
            '\t' => clean.push(' '),
            char if char.is_control() => clean.push('?'),
            char => clean.push(char),
        }
    }
    clean
}

/// Bounds how many lines a child may write.
#[derive(Debug)]
pub struct Throttle {
    left: u32,
    since: Instant,
    dropped: u32,
}

/// Lines that a child may write at once.
const BURST_LINES: u32 = 1000;

/// The time after which it may write as many again.
const BURST_PERIOD: Duration = Duration::from_secs(5);

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is written.
    Write,
    /// It is written, after the note that this many were lost.
    WriteAfterLoss(u32),
    /// It is lost.
    Drop,
}

impl Throttle {
    /// A fresh allowance.
    pub fn new(now: Instant) -> Throttle {
        Throttle {
            left: BURST_LINES,
            since: now,
            dropped: 0,
        }
    }

    /// Whether one more line may be written.
    pub fn pass(&mut self, now: Instant) -> Pass {
        if now.saturating_duration_since(self.since) >= BURST_PERIOD {
            self.left = BURST_LINES;
            self.since = now;
        }
        if self.left == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return Pass::Drop;
        }
        self.left -= 1;
        match std::mem::take(&mut self.dropped) {
            0 => Pass::Write,
            lost => Pass::WriteAfterLoss(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_forge_lines_or_flood_the_log() {
        assert_eq!(
            sanitised("a\n[ERROR] b\x1b[2J\tc\r\n"),
            "a\n  [ERROR] b?[2J c"
        );
        assert_eq!(
            sanitised(&"x".repeat(1 << 20)).len(),
            TEXT_BYTES_MAX + "...".len()
        );
    }

    #[test]
    fn prefixes_are_those_of_the_original() {
        let about = About::resource("test", Role::Primary);
        assert_eq!(
            format!("[{}] {about}", Label(Level::Debug(1))),
            "[DEBUG][1] [test] (primary) "
        );
        assert_eq!(format!("[{}] {DAEMON}", Label(Level::Info)), "[INFO] ");
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let written = (0..BURST_LINES + 7)
            .filter(|_| throttle.pass(start) == Pass::Write)
            .count();
        assert_eq!(written, 1000);
        assert_eq!(throttle.pass(start + BURST_PERIOD), Pass::WriteAfterLoss(7));
        assert_eq!(throttle.pass(start + BURST_PERIOD), Pass::Write);
    }
}
