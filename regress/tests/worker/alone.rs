//! A primary without a peer, and what keeps a worker from starting.

use hast::ipc::{Incomplete, Level, Task, ToWorker};
use hast::terms::{DriverChoice, Role};

use crate::nbd::Nbd;
use crate::rig::{Node, Worker, mixed};

#[test]
fn a_primary_alone_serves_its_disk() {
    let node = Node::new();
    let primary = node.primary(false);
    let mut client = Nbd::connect(&node.devices());
    assert_eq!(client.bytes, node.metadata().datasize);
    let noise = mixed(2, 100 * 512);
    client.write(512, &noise);
    client.flush();
    assert_eq!(client.read(512, 100 * 512), noise);
    client.zero(1024, 512);
    client.trim(2048, 1024);
    assert_eq!(client.read(1024, 512), [0; 512]);
    drop(client);
    assert_eq!(primary.stop(), 0);
    assert_eq!(node.data()[512..1024], noise[..512]);
    assert_eq!(node.metadata().localcnt, 1);
    assert_eq!(node.metadata().prevrole, Role::Primary);
}

#[test]
fn after_a_kill_the_next_worker_takes_the_device_over_with_everything_on_it() {
    let node = Node::new();
    let primary = node.primary(false);
    let mut client = Nbd::connect(&node.devices());
    let blocks: Vec<Vec<u8>> = (0..64).map(|seed| mixed(seed, 8192)).collect();
    for (at, block) in blocks.iter().enumerate() {
        client.write(at as u64 * 8192, block);
    }
    primary.kill();
    drop(client);
    let primary = node.primary(false);
    let mut client = Nbd::connect(&node.devices());
    for (at, block) in blocks.iter().enumerate() {
        assert_eq!(&client.read(at as u64 * 8192, 8192), block, "block {at}");
    }
    drop(client);
    assert_eq!(primary.stop(), 0);
}

#[test]
fn nothing_is_served_before_the_peer_was_asked_for() {
    let node = Node::new();
    let mut primary = node.primary(true);
    primary.wants_connection();
    let reason = "Unable to connect to tcp4://peer: Connection refused.".to_owned();
    let told = ToWorker::ConnectFailed {
        reason: reason.clone(),
    };
    primary.tell(&told, Vec::new());
    primary.logs(Level::Warning, &reason);
    let mut client = Nbd::connect(&node.devices());
    client.write(0, &mixed(1, 4096));
    let status = primary.status();
    assert!(!status.connected);
    assert_eq!(status.reason.as_deref(), Some(&*reason));
    assert_eq!((status.writes, status.reads), (1, 0));
}

#[test]
fn a_worker_ends_with_its_parent() {
    let node = Node::new();
    let mut primary = node.primary(false);
    let mut client = Nbd::connect(&node.devices());
    client.write(0, &mixed(1, 4096));
    primary.orphan();
    assert_eq!(primary.exit_status(), 75);
}

#[test]
fn what_is_wrong_with_the_disk_is_said_before_the_end() {
    let node = Node::new();
    let mut start = node.start(
        Task::Primary {
            incomplete: Incomplete::Refuse,
        },
        false,
    );
    start.local = node.dir.path().join("missing");
    let mut worker = Worker::spawn(start, Vec::new());
    let (reason, status) = worker.failed();
    assert!(
        reason.ends_with("missing: No such file or directory."),
        "{reason}"
    );
    assert_eq!((status, worker.exit_status()), (66, 66));

    let mut start = node.start(Task::Check(Role::Secondary), true);
    start.resource = "other".to_owned();
    let mut worker = Worker::spawn(start, Vec::new());
    let (reason, status) = worker.failed();
    assert!(reason.contains("belongs to resource test"), "{reason}");
    assert_eq!((status, worker.exit_status()), (66, 66));
}

#[test]
fn a_disk_in_use_is_refused_and_a_free_one_is_ready() {
    let node = Node::new();
    let primary = node.primary(false);
    let start = node.start(Task::Check(Role::Secondary), true);
    let mut check = Worker::spawn(start.clone(), Vec::new());
    let (reason, status) = check.failed();
    assert!(
        reason.ends_with("it is in use by another process."),
        "{reason}"
    );
    assert_eq!(status, 66);
    assert_eq!(primary.stop(), 0);
    let mut check = Worker::spawn(start, Vec::new());
    assert_eq!(check.ready().datasize, node.metadata().datasize);
    assert_eq!(check.exit_status(), 0);
}

#[test]
fn a_disk_whose_former_user_is_about_to_end_is_waited_for() {
    let node = Node::new();
    let primary = node.primary(false);
    let start = node.start(Task::Check(Role::Secondary), true);
    let mut check = Worker::spawn(start, Vec::new());
    // It tries to have the disk by now, or will soon.
    assert!(check.listen());
    assert_eq!(primary.stop(), 0);
    check.ready();
    assert_eq!(check.exit_status(), 0);
}

#[test]
fn an_incomplete_copy_is_used_only_by_force() {
    let node = Node::new();
    let mut metadata = node.metadata();
    metadata.inconsistent = true;
    node.set_metadata(&metadata);
    let start = node.start(
        Task::Primary {
            incomplete: Incomplete::Refuse,
        },
        false,
    );
    let mut refused = Worker::spawn(start, Vec::new());
    assert_eq!(refused.failed().1, 77);
    let start = node.start(
        Task::Primary {
            incomplete: Incomplete::Use,
        },
        false,
    );
    let mut forced = Worker::spawn(start, Vec::new());
    forced.ready();
    assert_eq!(forced.stop(), 0);
}

#[test]
fn the_driver_that_is_configured_is_used_and_said() {
    let mut node = Node::new();
    for driver in [DriverChoice::Threads, DriverChoice::Auto] {
        node.driver = driver;
        let mut worker = Worker::spawn(
            node.start(
                Task::Primary {
                    incomplete: Incomplete::Refuse,
                },
                false,
            ),
            Vec::new(),
        );
        let said = worker.ready().driver;
        match driver {
            DriverChoice::Threads => assert_eq!(said, DriverChoice::Threads),
            _ => assert_ne!(said, DriverChoice::Auto),
        }
        assert_eq!(worker.stop(), 0);
    }
}
