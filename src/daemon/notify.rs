//! What the service manager is told, by the protocol of sd_notify(3): that the daemon serves, reads
//! its configuration again, ends, and still goes round its loop.
//!
//! Nothing here waits or fails: without a manager nobody is told, and a message that its socket
//! does not take is lost.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Variables of the environment that are ours alone: programs that we run must not speak for us.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Notify {
    /// As the environment says.
    pub fn of_this_process(now: Instant) -> Notify {
        let [socket, interval, pid] = VARIABLES.map(env::var_os);
        let ours = std::process::id().to_string();
        let is_for_us = pid.is_none_or(|pid| *pid == *ours);
        Notify::new(socket.as_deref(), interval.filter(|_| is_for_us), now)
    }

    fn new(socket: Option<&OsStr>, interval: Option<OsString>, now: Instant) -> Notify {
        let Some(socket) = socket.and_then(|name| connect(name).ok()) else {
            return Notify::default();
        };
        // Twice within what the manager allows, as sd_watchdog_enabled(3) recommends.
        let interval = interval
            .and_then(|text| text.to_str()?.parse().ok())
            .filter(|&microseconds: &u64| microseconds > 0)
            .map(|microseconds| Duration::from_micros(microseconds) / 2);
        Notify {
            socket: Some(socket),
            watchdog: interval.map(|interval| Watchdog {
                interval,
                next: now,
            }),
        }
    }

    /// The control socket answers.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`Notify::ready`] follows.
    pub fn reloading(&self) {
        // Tells this reload from others.
        let Ok(clock) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
            return;
        };
        let microseconds = Duration::from(clock).as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The daemon is ending.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the daemon lives, when that is due.
    pub fn tick(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.interval;
            self.tell("WATCHDOG=1");
        }
    }

    /// When [`Notify::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // As the module says.
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

/// Nothing but Linux has such names.
#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager {
        dir: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Manager {
        fn new() -> Manager {
            let dir = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Manager { dir, socket }
        }

        fn notify(&self, watchdog: Option<&str>, now: Instant) -> Notify {
            let name = self.dir.path().join("notify");
            Notify::new(Some(name.as_os_str()), watchdog.map(Into::into), now)
        }

        fn heard(&self) -> Option<String> {
            let mut bytes = [0; 256];
            let count = self.socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        }
    }

    #[test]
    fn without_a_manager_nobody_is_told_and_nothing_is_due() {
        let now = Instant::now();
        for socket in [
            None,
            Some("/nonexistent/notify"),
            Some(""),
            Some("relative"),
        ] {
            let mut notify = Notify::new(socket.map(OsStr::new), Some("1000".into()), now);
            notify.ready();
            notify.tick(now);
            assert_eq!(notify.next_deadline(), None, "{socket:?}");
        }
    }

    #[test]
    fn states_are_told_in_the_words_of_the_protocol() {
        let manager = Manager::new();
        let notify = manager.notify(None, Instant::now());
        notify.ready();
        assert_eq!(manager.heard().as_deref(), Some("READY=1"));
        notify.reloading();
        let said = manager.heard().unwrap();
        let clock = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(clock.parse::<u64>().is_ok_and(|clock| clock > 0), "{said}");
        notify.stopping();
        assert_eq!(manager.heard().as_deref(), Some("STOPPING=1"));
    }

    #[test]
    fn watchdog_is_told_twice_within_its_time() {
        let manager = Manager::new();
        let now = Instant::now();
        let mut notify = manager.notify(Some("3000000"), now);
        notify.tick(now);
        assert_eq!(manager.heard().as_deref(), Some("WATCHDOG=1"));
        let next = notify.next_deadline().unwrap();
        assert_eq!(next, now + Duration::from_millis(1500));
        notify.tick(next - Duration::from_millis(1));
        assert_eq!(manager.heard(), None);
        notify.tick(next);
        assert_eq!(manager.heard().as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn watchdog_of_nonsense_is_none() {
        let manager = Manager::new();
        for text in ["", "0", "-1", "soon", "99999999999999999999999"] {
            let notify = manager.notify(Some(text), Instant::now());
            assert_eq!(notify.next_deadline(), None, "{text}");
        }
    }

    #[test]
    fn manager_that_does_not_listen_holds_nobody_up() {
        let manager = Manager::new();
        let notify = manager.notify(None, Instant::now());
        for _ in 0..100_000 {
            notify.ready();
        }
        assert_eq!(manager.heard().as_deref(), Some("READY=1"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn name_that_is_abstract_begins_with_an_at() {
        let name = format!("hast-notify-test-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let name = format!("@{name}");
        Notify::new(Some(OsStr::new(&name)), None, Instant::now()).ready();
        let mut bytes = [0; 16];
        assert_eq!(socket.recv(&mut bytes).unwrap(), 7);
    }
}
