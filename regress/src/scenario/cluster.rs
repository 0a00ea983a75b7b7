//! Two nodes and what is between them.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::config::{ResourceConf, Setup};
use super::copies::{self, Copy};
use super::link::Link;
use super::node::Node;
use super::status::Status;
use super::{process, wait};

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that begins as primary.
    Alpha,
    /// The other.
    Beta,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::Alpha, Side::Beta];

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Alpha => Side::Beta,
            Side::Beta => Side::Alpha,
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Side::Alpha => "alpha",
            Side::Beta => "beta",
        }
    }

    /// 0 or 1.
    pub fn index(self) -> usize {
        match self {
            Side::Alpha => 0,
            Side::Beta => 1,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Two nodes.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: daemons, network, files.
    nodes: [Node; 2],
    /// What is between them.
    pub link: Link,
    /// What they are configured to be; after a change: [`Cluster::write_config`].
    pub setup: Setup,
    dir: TempDir,
}

impl Cluster {
    /// Two nodes with fresh disks, whose daemons run.
    ///
    /// # Panics
    /// If they do not.
    pub fn start(setup: Setup) -> Cluster {
        let mut cluster = Cluster::prepare(setup);
        for side in Side::BOTH {
            cluster.create(side);
            cluster.start_node(side);
        }
        cluster
    }

    /// One resource; alpha is primary, beta secondary, and their copies are equal.
    ///
    /// # Panics
    /// If they do not come to that.
    pub fn with(resource: ResourceConf) -> Cluster {
        let cluster = Cluster::start(Setup::of(resource));
        cluster.connect();
        cluster
    }

    /// Directories, configuration and empty disks; nothing runs.
    ///
    /// # Panics
    /// If there is no room for temporary files.
    pub fn prepare(setup: Setup) -> Cluster {
        Cluster::prepare_on(setup, Link::new())
    }

    /// The same, with a certain link.
    ///
    /// # Panics
    /// If there is no room for temporary files.
    pub fn prepare_on(setup: Setup, link: Link) -> Cluster {
        let dir = TempDir::with_prefix("hast").unwrap_or_else(|error| panic!("{error}"));
        let config = dir.path().join("hast.conf");
        let nodes = Side::BOTH.map(|side| {
            let home = dir.path().join(side.name());
            fs::create_dir(&home).unwrap_or_else(|error| panic!("{error}"));
            Node::new(side, home, config.clone())
        });
        let cluster = Cluster {
            nodes,
            link,
            setup,
            dir,
        };
        cluster.write_config();
        for resource in &cluster.setup.resources {
            for side in Side::BOTH {
                if resource.local[side.index()].is_none() {
                    let path = resource.local(cluster.dir(), side);
                    File::create(&path)
                        .and_then(|file| file.set_len(resource.media_bytes[side.index()]))
                        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                }
            }
        }
        cluster
    }

    /// Writes the configuration as `setup` says.
    ///
    /// # Panics
    /// If that fails.
    pub fn write_config(&self) {
        let text = self.setup.text(self.dir(), &self.link);
        fs::write(self.dir().join("hast.conf"), text).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The directory of the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A node.
    pub fn node(&self, side: Side) -> &Node {
        &self.nodes[side.index()]
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[side.index()]
    }

    /// Name of the first resource.
    pub fn resource(&self) -> &str {
        &self.setup.resources[0].name
    }

    // ---- daemons

    /// Creates the local components of all resources.
    ///
    /// # Panics
    /// If hastctl refuses.
    pub fn create(&self, side: Side) {
        for resource in &self.setup.resources {
            self.create_one(side, resource);
        }
    }

    fn create_one(&self, side: Side, resource: &ResourceConf) {
        let extent = resource.extent_bytes[side.index()].to_string();
        let keepdirty = resource.keepdirty.to_string();
        let words = ["create", "-e", &extent, "-k", &keepdirty, &resource.name];
        self.must(side, &words);
    }

    /// Runs hastctl, which has to succeed, and returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn must(&self, side: Side, words: &[&str]) -> String {
        let output = self.node(side).hastctl(words);
        assert!(
            output.status.success(),
            "hastctl {words:?} on {side}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a node's daemon.
    pub fn start_node(&mut self, side: Side) {
        self.nodes[side.index()].start(&self.link);
    }

    /// Ends a node's daemon in an orderly way.
    pub fn stop_node(&mut self, side: Side) {
        self.nodes[side.index()].stop();
    }

    /// All processes of a node die. What they have sent is on its way.
    pub fn kill_node(&mut self, side: Side) {
        self.nodes[side.index()].kill();
    }

    /// A node loses its power: what it has sent and the other one has not received is lost, too.
    pub fn power_off(&mut self, side: Side) {
        self.link.cut();
        self.nodes[side.index()].kill();
        // Where there are such connections that would still deliver what they hold.
        self.link.reset();
        self.link.restore();
    }

    /// Kills the worker of the first resource; returns its process id, 0 if there is none.
    pub fn kill_worker(&self, side: Side) -> i32 {
        let status = self.node(side).try_status(self.resource());
        let pid = status.map_or(0, |status| status.worker_pid());
        process::signal(pid, Signal::SIGKILL);
        pid
    }

    // ---- roles and status, of the first resource

    /// Gives a node a role.
    ///
    /// # Panics
    /// If it does not take it.
    pub fn role(&self, side: Side, role: &str) {
        self.role_of(side, role, self.resource());
    }

    /// Gives a node a role for a certain resource.
    ///
    /// # Panics
    /// If it does not take it.
    pub fn role_of(&self, side: Side, role: &str, resource: &str) {
        self.must(side, &["role", role, resource]);
    }

    /// The state on a node.
    ///
    /// # Panics
    /// If its daemon does not tell.
    pub fn status(&self, side: Side) -> Status {
        self.status_of(side, self.resource())
    }

    /// The state of a certain resource.
    ///
    /// # Panics
    /// If the daemon does not tell.
    pub fn status_of(&self, side: Side, resource: &str) -> Status {
        let status = self.node(side).try_status(resource);
        status.unwrap_or_else(|| panic!("{side} does not tell the status of {resource}"))
    }

    /// Waits until the state on a node is as wanted.
    ///
    /// # Panics
    /// If it is not in time.
    pub fn wait_status(
        &self,
        side: Side,
        what: &str,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Status {
        let seen = wait::until_seen(
            &format!("{side}: {what}"),
            wait::PATIENCE,
            || self.node(side).try_status(self.resource()),
            |seen| seen.as_ref().is_some_and(&mut wanted),
        );
        seen.unwrap_or_default()
    }

    /// Waits until the primary is connected and has nothing left to copy.
    pub fn wait_synced(&self, primary: Side) -> Status {
        self.wait_status(primary, "connected and synchronised", Status::is_synced)
    }

    /// Makes alpha primary and beta secondary, and waits until the copies are equal.
    pub fn connect(&self) {
        self.role(Side::Beta, "secondary");
        self.role(Side::Alpha, "primary");
        self.wait_synced(Side::Alpha);
    }

    /// Where the device of a primary is.
    ///
    /// # Panics
    /// If there is none.
    pub fn device(&self, side: Side) -> PathBuf {
        let status = self.wait_status(side, "a device", |status| status.device().is_some());
        status.device().map(PathBuf::from).unwrap_or_default()
    }

    /// Waits for a line in a node's log.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_log(&self, side: Side, text: &str) {
        wait::until(&format!("{side} logs '{text}'"), wait::PATIENCE, || {
            self.node(side).log().contains(text).then_some(())
        });
    }

    // ---- copies, of the first resource

    /// The local component.
    pub fn disk(&self, side: Side) -> PathBuf {
        self.setup.resources[0].local(self.dir(), side)
    }

    /// The local component, opened.
    pub fn copy(&self, side: Side) -> Copy {
        Copy::open(&self.disk(side))
    }

    /// Waits until both copies are equal.
    ///
    /// # Panics
    /// If they are not.
    pub fn must_be_equal(&self) {
        copies::must_become_equal(&self.disk(Side::Alpha), &self.disk(Side::Beta));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        if std::thread::panicking() {
            let config = fs::read_to_string(self.dir().join("hast.conf"));
            eprintln!("---- hast.conf\n{}", config.unwrap_or_default());
            for side in Side::BOTH {
                eprintln!("---- log of {side}\n{}", tail(&self.node(side).log()));
            }
        }
        if std::env::var_os("HAST_KEEP").is_some() {
            eprintln!("kept: {}", self.dir().display());
            self.dir.disable_cleanup(true);
        }
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(120);
    lines.get(from..).unwrap_or(&[]).join("\n")
}
