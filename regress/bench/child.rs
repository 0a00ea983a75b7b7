//! Programs that are started, and always ended.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hast_regress::scenario::process;

/// A server takes no longer to begin to serve.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts a program; what it says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Server, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let told = |error: io::Error| format!("{name}: {error}");
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(told)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(told)?)
            .stderr(log)
            .spawn()
            .map_err(told)?;
        Ok(Server { child, name })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// Waits until `ready`.
    pub(crate) fn wait(&mut self, ready: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} has ended: {status}", self.name));
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not begin to serve", self.name));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until it serves on a Unix socket.
    pub(crate) fn wait_for_socket(&mut self, socket: &Path) -> Result<(), String> {
        self.wait(|| UnixStream::connect(socket).is_ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended; its status says nothing of interest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, which has to be a success within `patience`, and returns what it
/// printed.
pub(crate) fn output(command: &mut Command, patience: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = waiting.recv_timeout(patience).is_err();
        if late {
            process::kill_all(pid);
        }
        late
    });
    let ended = child.wait_with_output();
    // The watchdog may have done its work and gone.
    let _ = done.send(());
    let Output {
        status,
        stdout,
        stderr,
    } = ended.map_err(|error| format!("{name}: {error}"))?;
    if watchdog.join().unwrap_or(false) {
        return Err(format!("{name}: not done after {} s", patience.as_secs()));
    }
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return Err(format!("{name}: {status}: {}", last.unwrap_or("")));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
