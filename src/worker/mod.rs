//! A worker: the process that serves one resource in one role.
//!
//! Its life: it checks that it holds the descriptors that it was given and no others, hears from
//! its parent what it is for, opens the local component and the device, makes the threads of its
//! driver, gives up every privilege, says that it is ready, and serves until the parent or the
//! peer ends it. Whatever it needs from outside after that - a connection to the peer, a line in
//! the log - it asks of the parent, by messages that [`crate::ipc`] defines.
//!
//! * `primary`, `secondary`: the roles, around their engines;
//! * `stream`, `blocks`: a connection to the peer, and data on their way;
//! * `component`, `device`, `driver`, `confine`: what is opened and given up;
//! * `parent`: the channel; `exit`: how it ends.

mod blocks;
mod clock;
mod component;
mod confine;
mod device;
mod driver;
mod exit;
mod parent;
mod primary;
mod reasons;
mod secondary;
mod stream;
mod tokens;

use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use privsep::audit::{Expected, audit};

use self::component::Component;
use self::exit::Failure;
use self::parent::Parent;
use crate::ipc::{FromWorker, Incomplete, Level, Ready, Settings, Start, Task, ToWorker};
use crate::terms::{REQUEST_BYTES_MAX, Role};
use crate::wire::hello::Offer;
use crate::wire::message::Stages;

/// How long the parent may take to say what a worker is for.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long the last words to the parent may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The extensions that we offer to a peer.
pub(crate) const OFFER: Offer = Offer {
    request_bytes: Some(REQUEST_BYTES_MAX),
    heartbeat: true,
    copy_states: true,
    steering: true,
};

/// The whole life of a worker process; returns its exit status.
pub fn main() -> u8 {
    let mut expected = Expected::stdio().to_vec();
    expected.push(Expected::ipc());
    let parent = audit(&expected)
        .map_err(|error| error.to_string())
        .and_then(|()| privsep::process::take_ipc().map_err(|error| error.to_string()))
        .and_then(|socket| Parent::new(socket).map_err(|error| error.to_string()));
    let mut parent = match parent {
        Ok(parent) => parent,
        Err(reason) => {
            eprintln!("hastd: worker: {reason}");
            return exit::OSERR;
        }
    };
    // A panic is told to the parent, which is all that is left to do.
    std::panic::set_hook(Box::new(|info| log::error!("Fault of the program: {info}")));
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| live(&mut parent)));
    let status = lived.unwrap_or(exit::PANIC);
    parent.drain(Instant::now() + FAREWELL);
    status
}

fn live(parent: &mut Parent) -> u8 {
    let Ok((message, descriptors)) = parent.receive(Some(Instant::now() + START_PATIENCE)) else {
        // Without a parent there is nobody to tell.
        return exit::TEMPFAIL;
    };
    let ToWorker::Start(start) = message else {
        parent.log(Level::Error, "The daemon did not begin with a task.");
        return exit::SOFTWARE;
    };
    parent.set_debug(start.debug);
    let lived = match start.task {
        Task::Primary { incomplete } => primary::run(parent, &start, incomplete),
        Task::Secondary => secondary::run(parent, &start, descriptors),
        Task::Check(role) => check(parent, &start, role),
    };
    match lived {
        Ok(status) => status,
        Err(Failure { reason, status }) => {
            parent.send(FromWorker::Failed { reason, status });
            status
        }
    }
}

/// Looks whether the role could be taken: the local component is what it should be, and a worker
/// can be confined.
fn check(parent: &mut Parent, start: &Start, role: Role) -> Result<u8, Failure> {
    let component = open_component(parent, start, role, Incomplete::Refuse)?;
    let held = [
        (component.provider.as_fd(), confine::LOCAL_COMPONENT),
        (parent.as_fd(), confine::CHANNEL),
    ];
    let confinement = confine::prepare(start, role, &held)?.seal()?;
    parent.send(FromWorker::Ready(Box::new(Ready {
        confinement,
        datasize: component.metadata.datasize,
        extentsize: component.metadata.extentsize,
        keepdirty: component.metadata.keepdirty,
        ..Ready::default()
    })));
    Ok(exit::OK)
}

/// Opens the local component, and says so.
fn open_component(
    parent: &mut Parent,
    start: &Start,
    role: Role,
    incomplete: Incomplete,
) -> Result<Component, Failure> {
    let path = start.local.display();
    let component = component::open(&start.local, &start.resource, role, incomplete)?;
    parent.log(Level::Debug(1), format!("Obtained info about {path}."));
    if component.forced {
        let text = format!(
            "The copy on {path} is incomplete and used all the same, by order of an \
             administrator: what is missing on it is given up."
        );
        parent.log(Level::Warning, text);
    }
    if component.is_unlocked() {
        let text = format!("Unable to lock {path}: its file system has no locks.");
        parent.log(Level::Warning, text);
    } else {
        parent.log(Level::Debug(1), format!("Locked {path}."));
    }
    Ok(component)
}

/// What is done to blocks that this node sends.
fn stages(settings: &Settings) -> Stages {
    Stages {
        compression: settings.compression,
        checksum: settings.checksum,
    }
}
