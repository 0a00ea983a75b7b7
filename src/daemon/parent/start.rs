//! From the command line to a daemon that serves.
//!
//! In this order: configuration, pidfile (its lock says whether another daemon runs, before
//! anything of that daemon's is touched), detaching, peers' sockets, control socket, listener.
//! Whatever fails is said on standard error of whoever starts the daemon, who gets its exit code.

use std::io;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use privsep::process::Program;
use privsep::user;

use super::doors::{DoorError, Doors};
use super::{Entry, EntryId, Parent};
use crate::conf::model::{Address, Listen, SandboxMode};
use crate::conf::{self, Config, Identity};
use crate::daemon::confine;
use crate::daemon::control::Control;
use crate::daemon::detach::{self, Detached};
use crate::daemon::hooks::Hooks;
use crate::daemon::log::{DAEMON, Log};
use crate::daemon::memory::Memory;
use crate::daemon::names::{Account, Names};
use crate::daemon::notify::Notify;
use crate::daemon::options::Options;
use crate::daemon::pidfile::{Pidfile, PidfileError};
use crate::daemon::signals::Signals;
use crate::events::Kind;
use crate::terms::system_reason;
use crate::wire::message::PROTOCOL_VERSION;

/// Why the control socket cannot be a TCP socket.
pub(super) const NO_TCP_CONTROL: &str = "it must be a Unix socket: over TCP, anybody who reaches \
                                         the port could control the daemon";

/// How long an address may be in use when the daemon starts: the listener of one that has died a
/// moment ago still has it.
const IN_USE_PATIENCE: Duration = Duration::from_secs(3);

const EX_NOUSER: u8 = 67;
const EX_OSERR: u8 = 71;
const EX_TEMPFAIL: u8 = 75;
const EX_CONFIG: u8 = 78;

/// Why the daemon does not start: what was logged, and the exit code.
struct Failure {
    texts: Vec<String>,
    code: u8,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure {
            texts: vec![text.into()],
            code,
        }
    }
}

/// The control address as the original shows it: a path without a prefix.
pub(super) fn control_name(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp { .. } => address.to_string(),
    }
}

/// What happens before the process detaches.
struct Prepared {
    options: Options,
    identity: Identity,
    config: Config,
    pidfile: Option<Pidfile>,
}

/// Starts the daemon and serves; returns the exit code.
pub fn start(options: Options) -> u8 {
    let mut log = Log::streams(options.debug);
    let failed = |log: &mut Log, failure: Failure| {
        for text in failure.texts {
            log.error(DAEMON, text);
        }
        failure.code
    };
    let foreground = options.foreground;
    let prepared = match prepare(options, &mut log) {
        Ok(prepared) => prepared,
        Err(failure) => return failed(&mut log, failure),
    };
    let detached = if foreground {
        None
    } else {
        match detach::detach() {
            Ok(Detached::Launcher(code)) => return code,
            Ok(Detached::Daemon(detached)) => Some(detached),
            Err(error) => {
                let text = format!("Unable to daemonize: {}.", system_reason(&error));
                return failed(&mut log, Failure::new(EX_OSERR, text));
            }
        }
    };
    let mut parent = match open(prepared, log) {
        Ok(parent) => parent,
        Err((mut log, failure)) => return failed(&mut log, failure),
    };
    // Whoever started the daemon finds its pid as soon as the launcher has ended.
    parent.store_pid();
    if let Some(detached) = detached {
        parent.log.switch_to_syslog();
        if let Err(error) = detached.succeed() {
            let text = format!("Unable to detach from the terminal: {error}.");
            parent.log.error(DAEMON, text);
            return EX_OSERR;
        }
    }
    parent.announce();
    parent.run()
}

fn prepare(mut options: Options, log: &mut Log) -> Result<Prepared, Failure> {
    if options.config.is_relative() {
        options.config = options.config.canonicalize().map_err(|error| {
            let path = options.config.display();
            let reason = system_reason(&error);
            Failure::new(
                EX_CONFIG,
                format!("Unable to obtain full path of {path}: {reason}."),
            )
        })?;
    }
    let of_conf = |error: &conf::Error| Failure {
        texts: error.reports(),
        code: error.exit_code(),
    };
    let identity = Identity::detect(options.node.as_deref())
        .map_err(|error| of_conf(&conf::Error::Identity(error)))?;
    let config = conf::load_as(&options.config, &identity).map_err(|error| of_conf(&error))?;
    check_user(&config)?;
    let path = options
        .pidfile
        .clone()
        .unwrap_or_else(|| config.pidfile.clone());
    let pidfile = match Pidfile::open(&path) {
        Ok(pidfile) => Some(pidfile),
        Err(PidfileError::Running(pid)) => {
            let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            return Err(Failure::new(
                EX_TEMPFAIL,
                format!(
                    "Another hastd is already running, pidfile: {}, pid: {pid}.",
                    path.display()
                ),
            ));
        }
        Err(PidfileError::Io(error)) => {
            log.warning(
                DAEMON,
                format_args!(
                    "Unable to open or create pidfile {}: {}.",
                    path.display(),
                    system_reason(&error)
                ),
            );
            None
        }
    };
    Ok(Prepared {
        options,
        identity,
        config,
        pidfile,
    })
}

/// Neither workers nor the listener could start later, whatever else the administrator accepts:
/// better said now.
fn check_user(config: &Config) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    match user::lookup(&config.user) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(
            EX_NOUSER,
            format!("Unable to run workers without privileges: {error}."),
        )),
    }
}

/// Opens everything that the daemon serves with.
fn open(prepared: Prepared, log: Log) -> Result<Parent, (Log, Failure)> {
    let Prepared {
        options,
        identity,
        config,
        mut pidfile,
    } = prepared;
    let mode = match config.sandbox {
        SandboxMode::Require => sandbox::Mode::Require,
        SandboxMode::BestEffort => sandbox::Mode::BestEffort,
    };
    let now = Instant::now();
    let mut doors = Doors::new(now);
    let mut names = Names::default();
    let opened = confine::parent(mode)
        .map_err(|error| {
            let text = format!("Unable to give up privileges: {error}.");
            Failure::new(EX_OSERR, text)
        })
        .and_then(|confinement| {
            let sockets = open_sockets(&config, &mut doors, &mut names)?;
            Ok((confinement, sockets))
        });
    let (confinement, (program, signals, control)) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            if let Some(pidfile) = pidfile.take() {
                // Its lock goes with this process in any case.
                let _ = pidfile.remove();
            }
            return Err((log, failure));
        }
    };
    let mut parent = Parent {
        options,
        identity,
        log,
        confinement,
        program,
        signals,
        pidfile,
        notify: Notify::of_this_process(now),
        control,
        waiting: std::collections::BTreeMap::new(),
        doors,
        entries: Vec::new(),
        workers: std::collections::BTreeMap::new(),
        ghosts: Vec::new(),
        connecting: std::collections::BTreeMap::new(),
        names,
        hooks: Hooks::default(),
        promotions: std::collections::BTreeMap::new(),
        block_devices: super::blockdev::BlockDevices::default(),
        events: crate::daemon::events::Events::default(),
        followers: std::collections::BTreeMap::new(),
        memory: Memory::new(&config.state),
        last_id: 0,
        ending: false,
        config,
    };
    for conf in parent.config.resources.clone() {
        let id = EntryId(parent.next_id());
        if let Some(remote) = &conf.remote {
            // So that its addresses are known when the peer connects.
            parent.names.refresh(remote, now);
        }
        parent.add_entry(Entry::new(id, conf));
    }
    parent.start_listener(now);
    Ok(parent)
}

fn open_sockets(
    config: &Config,
    doors: &mut Doors,
    names: &mut Names,
) -> Result<(Program, Signals, Control), Failure> {
    let os = |what: &str, error: &io::Error| {
        Failure::new(EX_OSERR, format!("{what}: {}.", system_reason(error)))
    };
    let program =
        Program::current().map_err(|error| os("Unable to open the program's own file", &error))?;
    let signals =
        Signals::install().map_err(|error| os("Unable to install signal handlers", &error))?;
    let account = Account {
        user: config.user.clone(),
        confine: config.sandbox == SandboxMode::Require,
    };
    for listen in &config.listen {
        bind(listen, doors, names, &program, &account)?;
    }
    let control = match &config.control {
        Address::Unix(path) => Control::listen(path).map_err(|error| system_reason(&error)),
        Address::Tcp { .. } => Err(NO_TCP_CONTROL.to_owned()),
    };
    let control = control.map_err(|reason| {
        let address = control_name(&config.control);
        Failure::new(
            EX_OSERR,
            format!("Unable to listen on control address {address}: {reason}."),
        )
    })?;
    Ok((program, signals, control))
}

/// Binds an address; waits for its name to be looked up, since nobody is served yet.
fn bind(
    listen: &Listen,
    doors: &mut Doors,
    names: &mut Names,
    program: &Program,
    account: &Account,
) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        match doors.bind(listen, names, since) {
            Ok(_) => return Ok(()),
            Err(DoorError::InUse(_)) if since.elapsed() < IN_USE_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(DoorError::InUse(reason) | DoorError::Failed(reason)) => {
                return Err(Failure::new(
                    EX_OSERR,
                    format!("Unable to listen on address {}: {reason}.", listen.address),
                ));
            }
            // A look-up has a deadline of its own.
            Err(DoorError::Pending) => {
                names.tick(program, account, Instant::now());
                let mut polled: Vec<PollFd<'_>> = names
                    .polled()
                    .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
                    .collect();
                let moment = Duration::from_millis(20);
                let timeout = PollTimeout::try_from(moment).unwrap_or(PollTimeout::ZERO);
                // An error is a signal: the next round looks again.
                let _ = poll(&mut polled, timeout);
            }
        }
    }
}

impl Parent {
    /// Writes the pidfile.
    fn store_pid(&mut self) {
        if let Some(pidfile) = &mut self.pidfile {
            let path = pidfile.path().display().to_string();
            match pidfile.write() {
                Ok(()) => self
                    .log
                    .debug(1, DAEMON, format_args!("PID stored in {path}.")),
                Err(error) => self.log.warning(
                    DAEMON,
                    format_args!(
                        "Unable to write PID to a file {path}: {}.",
                        system_reason(&error)
                    ),
                ),
            }
        }
    }

    /// Says that the daemon serves.
    fn announce(&mut self) {
        self.log.info(
            DAEMON,
            format_args!("Started successfully, running protocol version {PROTOCOL_VERSION}."),
        );
        let text = format!("hastd {} serves.", env!("CARGO_PKG_VERSION"));
        self.note(Kind::DaemonStart, text, Instant::now());
        let control = control_name(&self.config.control);
        self.log.debug(
            1,
            DAEMON,
            format_args!("Listening on control address {control}."),
        );
        for address in self.doors.addresses().collect::<Vec<_>>() {
            self.log
                .info(DAEMON, format_args!("Listening on address {address}."));
        }
        self.make_devices_directory();
        self.notify.ready();
    }

    pub(super) fn make_devices_directory(&mut self) {
        use std::os::unix::fs::DirBuilderExt;
        let path = &self.config.devices;
        if path.is_dir() {
            return;
        }
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path);
        if let Err(error) = made {
            // Only primaries need it, and say so.
            self.log.debug(
                1,
                DAEMON,
                format_args!(
                    "Unable to create directory {}: {}.",
                    path.display(),
                    system_reason(&error)
                ),
            );
        }
    }
}
