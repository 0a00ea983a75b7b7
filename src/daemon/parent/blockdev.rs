//! Block devices of primaries: when the kernel is to have one, and the children that see to it.
//!
//! Wanted is what the last change of the resource asked for: a device from the moment at which a
//! primary's worker serves, none from the moment at which the role is another. One child per
//! resource at a time; when it has ended, what is wanted then is compared with what is there.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use privsep::process::Program;

use super::{EntryId, Parent};
use crate::daemon::blockdev;
use crate::daemon::child::{Mode, Process};
use crate::daemon::log::{About, DAEMON, Log};
use crate::ipc::{ATTACHER_PROTOCOL, FromAttacher, ToAttacher};
use crate::terms::Role;

/// How long a child may take: the handshakes with a worker, and the kernel, which waits for requests
/// in flight.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// The device of the worker that serves there.
    Device { socket: PathBuf, bytes: u64 },
    /// None.
    Nothing,
}

#[derive(Debug)]
struct Job {
    process: Process<ToAttacher, FromAttacher>,
    deadline: Instant,
    answer: Option<FromAttacher>,
}

#[derive(Debug)]
struct Device {
    /// Names of the resource and of its device.
    resource: String,
    name: String,
    wanted: Wanted,
    /// What is wanted has been ordered, or has failed.
    ordered: bool,
    job: Option<Job>,
    /// Of the kernel's device, if there is one.
    index: Option<u32>,
}

/// The devices of all resources.
#[derive(Debug, Default)]
pub(super) struct BlockDevices {
    devices: BTreeMap<EntryId, Device>,
    /// It was said that there are none here.
    said: bool,
}

impl BlockDevices {
    /// What to poll.
    pub(super) fn polled(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let jobs = self
            .devices
            .values()
            .filter_map(|device| device.job.as_ref());
        jobs.filter_map(|job| job.process.polled())
    }

    /// When [`Parent::tick_block_devices`] has something to do.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let jobs = self
            .devices
            .values()
            .filter_map(|device| device.job.as_ref());
        jobs.map(|job| job.process.next_deadline(now).unwrap_or(job.deadline))
            .min()
    }

    /// Whether no child runs and nothing is left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.devices
            .values()
            .all(|device| device.job.is_none() && device.ordered)
    }

    fn tick(&mut self, program: &Program, confine: bool, log: &mut Log, now: Instant) {
        for device in self.devices.values_mut() {
            device.hear(log, now);
            if device.job.is_none() && !device.ordered {
                device.start(program, confine, log, now);
            }
        }
        // What is gone is forgotten.
        self.devices.retain(|_, device| {
            device.job.is_some() || !device.ordered || device.wanted != Wanted::Nothing
        });
    }
}

impl Device {
    fn new(resource: &str, name: &str, wanted: Wanted) -> Device {
        Device {
            resource: resource.to_owned(),
            name: name.to_owned(),
            wanted,
            ordered: false,
            job: None,
            index: None,
        }
    }

    fn about(&self) -> About<'_> {
        About::resource(&self.resource, Role::Primary)
    }

    fn start(&mut self, program: &Program, confine: bool, log: &mut Log, now: Instant) {
        self.ordered = true;
        if self.wanted == Wanted::Nothing && self.index.is_none() && !blockdev::is_left(&self.name)
        {
            // It never came to be.
            return;
        }
        let (name, index) = (self.name.clone(), self.index);
        let order = match &self.wanted {
            Wanted::Device { socket, bytes } => ToAttacher::Attach {
                name,
                socket: socket.clone(),
                bytes: *bytes,
                index,
                confine,
            },
            Wanted::Nothing => ToAttacher::Detach {
                name,
                index,
                confine,
            },
        };
        let title = format!("hastd: {} (device)", self.resource);
        let started = Process::start(program, &title, Mode::Attacher, ATTACHER_PROTOCOL);
        match started {
            Ok(mut process) => {
                // One that cannot be told has ended already, which shows when it is reaped.
                let _ = process.send(&order, Vec::new());
                self.job = Some(Job {
                    process,
                    deadline: now + PATIENCE,
                    answer: None,
                });
            }
            Err(reason) => self.failed(&reason, log),
        }
    }

    /// Hears the child, and looks whether it has ended.
    fn hear(&mut self, log: &mut Log, now: Instant) {
        let Some(job) = &mut self.job else {
            return;
        };
        match job.process.receive(now) {
            Ok(Some((answer, _))) if job.answer.is_none() => job.answer = Some(answer),
            Ok(Some(_)) => job.process.kill(now),
            // What it sent instead of an answer ended it.
            Ok(None) | Err(_) => {}
        }
        if job.deadline <= now && !job.process.is_ending() {
            job.process.terminate(now);
        }
        // Insisting has nothing to say that the missing answer does not.
        let _ = job.process.tick(now);
        let Some(ending) = job.process.ending() else {
            return;
        };
        let answer = job.answer.take();
        self.job = None;
        match (answer, &self.wanted) {
            (Some(FromAttacher::Attached(index)), _) => {
                self.index = Some(index);
                let text = format!("Device /dev/hast/{} is /dev/nbd{index}.", self.name);
                log.info(self.about(), text);
            }
            (Some(FromAttacher::Detached), _) => {
                self.index = None;
                let text = format!("Device /dev/hast/{} removed.", self.name);
                log.debug(1, self.about(), text);
            }
            (Some(FromAttacher::Failed(reason)), _) => self.failed(&reason, log),
            (None, _) => self.failed(&format!("the child {ending}"), log),
        }
    }

    fn failed(&self, reason: &str, log: &mut Log) {
        let what = match self.wanted {
            Wanted::Device { .. } => "attach",
            Wanted::Nothing => "remove",
        };
        let text = format!("Unable to {what} device /dev/hast/{}: {reason}.", self.name);
        log.error(self.about(), text);
    }
}

impl Parent {
    /// A primary's worker serves: the kernel is to have its device.
    pub(super) fn attach_device(&mut self, id: EntryId) {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        if !blockdev::is_available() {
            if !std::mem::replace(&mut self.block_devices.said, true) {
                let text = "This kernel has no nbd (modprobe nbd): there is no /dev/hast, and devices are \
                            reached by the sockets of their NBD servers.";
                self.log.info(DAEMON, text);
            }
            return;
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        let worker = entry.worker.and_then(|number| self.workers.get(&number));
        let Some(ready) = worker.and_then(|(_, worker)| worker.ready.as_ref()) else {
            return;
        };
        // Not the path that the worker says: what we connect to is what the configuration says.
        let socket = self
            .config
            .devices
            .join(format!("{}.nbd", entry.conf.provname));
        let wanted = Wanted::Device {
            socket,
            bytes: ready.datasize,
        };
        match self.block_devices.devices.get_mut(&id) {
            Some(device) => {
                device.wanted = wanted;
                device.ordered = false;
            }
            None => {
                let device = Device::new(&entry.conf.name, &entry.conf.provname, wanted);
                self.block_devices.devices.insert(id, device);
            }
        }
    }

    /// The resource is primary no longer.
    pub(super) fn detach_device(&mut self, id: EntryId) {
        if let Some(device) = self.block_devices.devices.get_mut(&id) {
            device.wanted = Wanted::Nothing;
            device.ordered = false;
            return;
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        // What a daemon has left behind that died as primary.
        let name = &entry.conf.provname;
        if nix::unistd::geteuid().is_root() && blockdev::is_left(name) {
            let device = Device::new(&entry.conf.name, name, Wanted::Nothing);
            self.block_devices.devices.insert(id, device);
        }
    }

    /// Goes on with all of them.
    pub(super) fn tick_block_devices(&mut self, now: Instant) {
        let confine = self.account().confine;
        self.block_devices
            .tick(&self.program, confine, &mut self.log, now);
    }
}
