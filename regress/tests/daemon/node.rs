//! A daemon on loopback addresses, with everything it has below a directory of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hast_regress::programs::program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything that happens soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const MOMENT: Duration = Duration::from_millis(10);

/// Waits until it is true.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(MOMENT);
    }
}

/// A port that nobody listens on, different in each call.
pub(crate) fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A node: a directory, a configuration, perhaps a daemon.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) name: &'static str,
    pub(crate) address: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) port: u16,
    /// The daemon's program, and what starts it.
    pub(crate) program: PathBuf,
    pub(crate) launcher: Vec<String>,
    /// Added to the daemon's environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    daemon: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
    }
}

impl Node {
    /// nodea on 127.0.0.1, whose peer is nodeb on 127.0.0.2, with the resource `test`.
    pub(crate) fn new() -> Node {
        Node::at("nodea", "127.0.0.1", "127.0.0.2", port())
    }

    /// Both nodes of a pair.
    pub(crate) fn pair() -> (Node, Node) {
        let port = port();
        (
            Node::at("nodea", "127.0.0.1", "127.0.0.2", port),
            Node::at("nodeb", "127.0.0.2", "127.0.0.1", port),
        )
    }

    fn at(name: &'static str, address: &'static str, peer: &'static str, port: u16) -> Node {
        let dir = tempfile::tempdir().unwrap();
        // The account of the workers reaches nothing in here by itself.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let node = Node {
            dir,
            name,
            address,
            peer,
            port,
            program: program("hastd"),
            launcher: Vec::new(),
            environment: Vec::new(),
            daemon: None,
        };
        node.configure(&node.resource("test", ""));
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A resource's section.
    pub(crate) fn resource(&self, name: &str, statements: &str) -> String {
        format!(
            "resource {name} {{ {statements} on {} {{ local {} remote tcp4://{}:{} source tcp4://{} }} }}\n",
            self.name,
            self.shown(&format!("{name}.img")),
            self.peer,
            self.port,
            self.address,
        )
    }

    /// Writes the configuration: what every node has, and `more`.
    pub(crate) fn configure(&self, more: &str) {
        let listen = format!("listen tcp4://{}:{}\n", self.address, self.port);
        self.configure_all(&format!("control {}\n{listen}{more}", self.shown("ctl")));
    }

    /// Writes the configuration but for what tests never change.
    pub(crate) fn configure_all(&self, more: &str) {
        let text = format!(
            "pidfile {}\ndevices {}\nuser nobody\ntimeout 5\n{more}",
            self.shown("pid"),
            self.shown("devices"),
        );
        fs::write(self.path("hast.conf"), text).unwrap();
    }

    /// Makes the local component of a resource.
    pub(crate) fn create(&self, name: &str) {
        let image = fs::File::create(self.path(&format!("{name}.img"))).unwrap();
        image.set_len(16 << 20).unwrap();
        let output = self.ctl(&["create", name]);
        assert!(output.status.success(), "{output:?}");
    }

    fn command(&self) -> Command {
        let mut words = self.launcher.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(["-N", self.name, "-F", "-d", "-c"]);
        command.arg(self.path("hast.conf"));
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        until("the daemon starts", || {
            self.log().contains("Started successfully")
        });
        let address = SocketAddr::new(self.address.parse().unwrap(), self.port);
        until("the listener accepts", || {
            TcpStream::connect(address).is_ok()
        });
    }

    /// Runs another daemon to its end.
    pub(crate) fn run_another(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the end of the daemon.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            sleep(MOMENT);
        }
    }

    /// hastctl: a command with its arguments.
    pub(crate) fn ctl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("hastctl"));
        command.arg(words[0]).args(["-N", self.name, "-c"]);
        command.arg(self.path("hast.conf")).args(&words[1..]);
        command
    }

    /// Runs hastctl: a command with its arguments.
    pub(crate) fn ctl(&self, words: &[&str]) -> Output {
        self.ctl_command(words).output().unwrap()
    }

    /// Runs hastctl, which has to succeed; its output.
    pub(crate) fn ctl_ok(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What hastctl says as JSON.
    pub(crate) fn document(&self, name: &str) -> serde_json::Value {
        let text = self.ctl_ok(&["status", "--json", name]);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["version"], 1);
        document
    }

    /// The state of a resource as JSON.
    pub(crate) fn state(&self, name: &str) -> serde_json::Value {
        self.document(name)["resources"][0].clone()
    }

    /// The pid of a resource's worker.
    pub(crate) fn worker(&self, name: &str) -> Option<i32> {
        let pid = self.state(name)["worker"]["pid"].as_i64()?;
        i32::try_from(pid).ok()
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
