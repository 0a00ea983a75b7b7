//! One node: its daemon, and what can happen to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use hast::wire::control::{ControlReply, ControlRequest, Order, ResourceState};
use hast::wire::packet::{Limits, Packet};
use nix::sys::signal::Signal;

use super::link::Link;
use super::status::Status;
use super::{Side, process, wait};
use crate::programs::program;

/// How long the daemon may take to answer on its control socket.
const CONTROL_PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon says when it serves.
const STARTED: &str = "Started successfully";

/// A node.
#[derive(Debug)]
pub struct Node {
    side: Side,
    home: PathBuf,
    config: PathBuf,
    daemon: Option<Child>,
    /// Limits the daemon's files, in bytes.
    pub file_bytes_max: Option<u64>,
}

impl Node {
    pub(super) fn new(side: Side, home: PathBuf, config: PathBuf) -> Node {
        Node {
            side,
            home,
            config,
            daemon: None,
            file_bytes_max: None,
        }
    }

    /// The directory of what is its own.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What its daemons have logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.home.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// If none runs.
    pub fn pid(&self) -> i32 {
        let daemon = self.daemon.as_ref();
        let pid = daemon
            .map(Child::id)
            .and_then(|pid| i32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("no daemon runs on {}", self.side))
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(&mut self, link: &Link) {
        assert!(self.daemon.is_none(), "{} runs already", self.side);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .unwrap_or_else(|error| panic!("log of {}: {error}", self.side));
        let lines = self.log().matches(STARTED).count();
        let mut command = match self.file_bytes_max {
            None => Command::new(program("hastd")),
            Some(bytes) => {
                let mut command = Command::new("prlimit");
                command
                    .arg(format!("--fsize={bytes}"))
                    .arg(program("hastd"));
                command
            }
        };
        command
            .args(["-F", "-d", "-N", self.side.name(), "-c"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap_or_else(|error| panic!("{error}")))
            .stderr(log)
            .process_group(0);
        let daemon = link.at(self.side, || command.spawn());
        self.daemon = Some(daemon.unwrap_or_else(|error| panic!("hastd: {error}")));
        wait::until("the start of a daemon", wait::PATIENCE, || {
            assert!(self.is_running(), "hastd on {} has ended", self.side);
            (self.log().matches(STARTED).count() > lines).then_some(())
        });
    }

    /// Whether the daemon runs.
    pub fn is_running(&mut self) -> bool {
        let daemon = self.daemon.as_mut();
        daemon.is_some_and(|daemon| matches!(daemon.try_wait(), Ok(None)))
    }

    /// Ends the daemon in an orderly way.
    ///
    /// # Panics
    /// If it does not end, or not with success.
    pub fn stop(&mut self) {
        process::signal(self.pid(), Signal::SIGTERM);
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        let status = wait::until("the end of a daemon", wait::PATIENCE, || {
            daemon.try_wait().unwrap_or_else(|error| panic!("{error}"))
        });
        assert!(status.success(), "hastd on {}: {status}", self.side);
    }

    /// The daemon and all its processes die at once, as if the node had lost its power.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(pid) = i32::try_from(daemon.id()) {
                process::kill_all(pid);
            }
            // Reaped; there is nothing to learn from its status.
            let _ = daemon.wait();
        }
    }

    /// The parent alone dies.
    ///
    /// # Panics
    /// If none runs.
    pub fn kill_parent(&mut self) {
        process::signal(self.pid(), Signal::SIGKILL);
        if let Some(mut daemon) = self.daemon.take() {
            // As above.
            let _ = daemon.wait();
        }
    }

    /// Lets the daemon read its configuration again.
    ///
    /// # Panics
    /// If none runs.
    pub fn reload(&self) {
        process::signal(self.pid(), Signal::SIGHUP);
    }

    /// Runs hastctl: a command, then the rest of its words.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn hastctl(&self, words: &[&str]) -> Output {
        let (command, rest) = words.split_first().unwrap_or((&"", &[]));
        Command::new(program("hastctl"))
            .arg(command)
            .args(["-N", self.side.name(), "-c"])
            .arg(&self.config)
            .args(rest)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("hastctl: {error}"))
    }

    /// One request on the control socket, as hastctl makes it, without the cost of a process.
    ///
    /// # Errors
    /// The daemon cannot be reached, or answers nonsense.
    pub fn control(&self, request: &ControlRequest) -> io::Result<ControlReply> {
        let mut stream = UnixStream::connect(self.home.join("ctl"))?;
        stream.set_read_timeout(Some(CONTROL_PATIENCE))?;
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream.write_all(&bytes)?;
        bytes.clear();
        stream.read_to_end(&mut bytes)?;
        let packet = Packet::parse(&bytes, Limits::CONTROL_REPLY).map_err(io::Error::other)?;
        ControlReply::decode(&packet).map_err(|error| io::Error::other(format!("{error:?}")))
    }

    /// The state of a resource; `None` if the daemon cannot be asked.
    pub fn try_status(&self, resource: &str) -> Option<Status> {
        let request = ControlRequest {
            order: Order::Status,
            resources: vec![resource.to_owned()],
            json: true,
        };
        let reply = self.control(&request).ok()?;
        match reply.resources.into_iter().next()?.state {
            ResourceState::Status(status) => serde_json::from_str(&status.json?).ok(),
            _ => None,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
