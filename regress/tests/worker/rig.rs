//! The other side of a worker: the test plays its parent, its disk is a file.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hast::disk::layout::{CreateOptions, Geometry, Metadata, Plan};
use hast::disk::metadata;
use hast::ipc::{
    Event, FromWorker, Incomplete, Level, PeerHello, Ready, Settings, Start, Status, Task,
    ToWorker, WORKER_PROTOCOL,
};
use hast::terms::{Checksum, Compression, DriverChoice, Replication, SyncRate};
use hast_regress::programs::program;
use nix::sys::signal::Signal;
use privsep::channel::{Channel, ChannelError, pair};
use privsep::process::{Child, Program, Spawn};
use privsep::supervise::Ending;
use tempfile::TempDir;

/// Nothing that a test waits for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a test's component, and of an extent.
pub(crate) const MEDIA_BYTES: u64 = 16 * 1024 * 1024;
pub(crate) const EXTENT_BYTES: u64 = 256 * 1024;

/// The name of the resource in the captured sessions, too.
pub(crate) const RESOURCE: &str = "test";

/// The drivers that tests are run with: `HAST_DRIVER`, or all that this system has.
pub(crate) fn drivers() -> Vec<DriverChoice> {
    match std::env::var("HAST_DRIVER").as_deref() {
        Ok("threads") => vec![DriverChoice::Threads],
        Ok("uring") => vec![DriverChoice::Uring],
        Ok(other) => panic!("HAST_DRIVER is {other}, not threads or uring"),
        Err(_) => vec![DriverChoice::Auto, DriverChoice::Threads],
    }
}

/// What a node has on its disk.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
    pub(crate) driver: DriverChoice,
}

impl Node {
    /// A node with a fresh component.
    pub(crate) fn new() -> Node {
        Node::with_extents(EXTENT_BYTES)
    }

    pub(crate) fn with_extents(extentsize: u64) -> Node {
        let node = Node {
            dir: tempfile::tempdir().unwrap(),
            driver: drivers()[0],
            settings: Settings {
                replication: Replication::Fullsync,
                checksum: Checksum::None,
                compression: Compression::None,
                timeout_s: 10,
                metaflush: false,
                sync_rate: SyncRate::Unlimited,
                sync_paused: false,
                connect: true,
            },
        };
        let geometry = Geometry {
            mediasize: MEDIA_BYTES,
            sectorsize: 512,
        };
        let options = CreateOptions {
            extentsize,
            ..CreateOptions::default()
        };
        let plan = Plan::new(geometry, &options).unwrap();
        let file = std::fs::File::create(node.image()).unwrap();
        file.set_len(MEDIA_BYTES).unwrap();
        node.set_metadata(&plan.metadata(RESOURCE));
        node
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub(crate) fn devices(&self) -> PathBuf {
        self.dir.path().join("devices")
    }

    pub(crate) fn metadata(&self) -> Metadata {
        let block = std::fs::read(self.image()).unwrap()[..4096]
            .try_into()
            .unwrap();
        let geometry = Geometry {
            mediasize: MEDIA_BYTES,
            sectorsize: 512,
        };
        metadata::decode(&block, geometry).unwrap()
    }

    pub(crate) fn set_metadata(&self, metadata: &Metadata) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.image())
            .unwrap();
        file.write_all_at(metadata::encode(metadata).as_slice(), 0)
            .unwrap();
    }

    /// The data area.
    pub(crate) fn data(&self) -> Vec<u8> {
        let metadata = self.metadata();
        let mut data = std::fs::read(self.image()).unwrap();
        data.drain(..usize::try_from(metadata.offset).unwrap());
        data.truncate(usize::try_from(metadata.datasize).unwrap());
        data
    }

    pub(crate) fn start(&self, task: Task, has_peer: bool) -> Start {
        Start {
            task,
            resource: RESOURCE.to_owned(),
            provname: "disk".to_owned(),
            local: self.image(),
            devices: self.devices(),
            settings: self.settings,
            has_peer,
            peer_address: "tcp4://peer".to_owned(),
            debug: 1,
            user: "nobody".to_owned(),
            confine: false,
            driver: self.driver,
            hello: None,
        }
    }

    pub(crate) fn primary(&self, has_peer: bool) -> Worker {
        let start = self.start(
            Task::Primary {
                incomplete: Incomplete::Refuse,
            },
            has_peer,
        );
        let mut worker = Worker::spawn(start, Vec::new());
        worker.ready();
        worker
    }

    pub(crate) fn secondary(&self, connections: [OwnedFd; 2], hello: PeerHello) -> Worker {
        let mut start = self.start(Task::Secondary, true);
        start.hello = Some(hello);
        let mut worker = Worker::spawn(start, connections.into());
        worker.ready();
        worker
    }
}

/// A worker process, and what it has said.
pub(crate) struct Worker {
    child: Child,
    channel: Option<Channel<ToWorker, FromWorker>>,
    pub(crate) said: Vec<FromWorker>,
    /// How much of it was waited for.
    seen: usize,
}

impl Worker {
    pub(crate) fn spawn(start: Start, descriptors: Vec<OwnedFd>) -> Worker {
        let (ours, theirs) = pair().unwrap();
        let binary = Program::open(&program("hastd")).unwrap();
        let title = format!("hastd: {} (test)", start.resource);
        let child = Spawn::new(&binary, &title)
            .variable("HASTD_CHILD", "worker")
            .stderr(std::os::fd::AsFd::as_fd(&std::io::stderr()))
            .start(&theirs)
            .unwrap();
        let mut channel = Channel::new(ours, WORKER_PROTOCOL).unwrap();
        channel
            .send(&ToWorker::Start(Box::new(start)), descriptors)
            .unwrap();
        Worker {
            child,
            channel: Some(channel),
            said: Vec::new(),
            seen: 0,
        }
    }

    pub(crate) fn tell(&mut self, message: &ToWorker, descriptors: Vec<OwnedFd>) {
        self.channel
            .as_mut()
            .unwrap()
            .send(message, descriptors)
            .unwrap();
    }

    /// Waits for a message that was not waited for before.
    pub(crate) fn hear<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&FromWorker) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(message) = self.said.get(self.seen) {
                self.seen += 1;
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
            let channel = self.channel.as_mut().unwrap();
            match channel.receive(Some(deadline)) {
                Ok((message, _)) => self.said.push(message),
                Err(error) => panic!("waiting for {what}: {error}; it said {:#?}", self.said),
            }
        }
    }

    /// Takes what has been said, without waiting; whether it is still there.
    pub(crate) fn listen(&mut self) -> bool {
        let Some(channel) = self.channel.as_mut() else {
            return false;
        };
        loop {
            match channel.try_receive() {
                Ok(Some((message, _))) => self.said.push(message),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    pub(crate) fn ready(&mut self) -> Ready {
        self.hear("Ready", |message| match message {
            FromWorker::Ready(ready) => Some((**ready).clone()),
            FromWorker::Failed { reason, .. } => panic!("failed: {reason}"),
            _ => None,
        })
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.hear(&format!("{event:?}"), |message| {
            matches!(message, FromWorker::Event { event: said, .. } if *said == event).then_some(())
        });
    }

    pub(crate) fn logs(&mut self, level: Level, text: &str) {
        self.hear(text, |message| {
            let wanted = matches!(message, FromWorker::Log { level: l, text: t }
                if *l == level && t == text);
            wanted.then_some(())
        });
    }

    pub(crate) fn wants_connection(&mut self) {
        self.hear("Connect", |message| {
            (*message == FromWorker::Connect).then_some(())
        });
    }

    pub(crate) fn status(&mut self) -> Status {
        self.tell(&ToWorker::Status, Vec::new());
        self.hear("Status", |message| match message {
            FromWorker::Status(status) => Some((**status).clone()),
            _ => None,
        })
    }

    pub(crate) fn failed(&mut self) -> (String, u8) {
        self.hear("Failed", |message| match message {
            FromWorker::Failed { reason, status } => Some((reason.clone(), *status)),
            FromWorker::Ready(_) => panic!("it is ready"),
            _ => None,
        })
    }

    pub(crate) fn kill(mut self) {
        self.child.signal(Signal::SIGKILL).unwrap();
        self.ended();
    }

    /// Goes away as a parent that dies does.
    pub(crate) fn orphan(&mut self) {
        self.channel = None;
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> Ending {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(ending) = self.child.try_wait().unwrap() {
                self.listen();
                return ending;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}",
                self.said
            );
            if let Some(channel) = self.channel.as_mut() {
                // Its end closes the channel.
                match channel.receive(Some(deadline)) {
                    Ok((message, _)) => self.said.push(message),
                    Err(ChannelError::TimedOut) => {}
                    Err(_) => self.channel = None,
                }
            } else {
                std::thread::yield_now();
            }
        }
    }

    pub(crate) fn stop(mut self) -> u8 {
        self.tell(&ToWorker::Stop, Vec::new());
        self.exit_status()
    }

    pub(crate) fn exit_status(&mut self) -> u8 {
        match self.ended() {
            Ending::Exited(status) => u8::try_from(status).unwrap(),
            ending => panic!("{ending:?}: {:#?}", self.said),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.signal(Signal::SIGKILL).is_ok() {
            while matches!(self.child.try_wait(), Ok(None)) {
                std::thread::yield_now();
            }
        }
    }
}

/// Bytes of all kinds: text, zeros, noise; other ones for each seed.
pub(crate) fn mixed(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let kind = next() % 3;
    (0..length)
        .map(|at| match kind {
            0 => b"every write reaches both disks. "[at % 32],
            1 => 0,
            _ => next().to_le_bytes()[3],
        })
        .collect()
}
