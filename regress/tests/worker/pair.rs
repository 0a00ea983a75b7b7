//! Two workers, one of each role.

use std::sync::atomic::{AtomicBool, Ordering};

use hast::ipc::{Event, FromWorker, Level, Status, ToWorker};
use hast::terms::{Checksum, Compression, DriverChoice, Replication, SyncRate};

use crate::nbd::Nbd;
use crate::peer::{OURS, connect, handshake};
use crate::rig::{EXTENT_BYTES, Node, Worker, drivers, mixed};

/// Writes of many kinds and lengths; the bytes of all are those of the seed.
fn write_much(client: &mut Nbd, seed: u64) {
    let mut waiting = Vec::new();
    for number in 0..48u64 {
        let length =
            [512, 4096, 8192, 65536, 262_144, 1 << 20][usize::try_from(number % 6).unwrap()];
        let offset = (number * 7 + seed) % 28 * (EXTENT_BYTES * 2) + number * 512;
        let offset = offset.min(client.bytes - length as u64) / 512 * 512;
        waiting.push(client.submit(offset, &mixed(seed + number, length)));
    }
    while !waiting.is_empty() {
        let (cookie, error) = client.reply();
        assert_eq!(error, 0);
        waiting.retain(|&wanted| wanted != cookie);
    }
}

#[test]
fn every_mode_checksum_and_compression_replicates() {
    let drivers = drivers();
    let mut number = 0;
    for replication in [
        Replication::Fullsync,
        Replication::Memsync,
        Replication::Async,
    ] {
        for checksum in [Checksum::None, Checksum::Crc32, Checksum::Sha256] {
            for compression in [Compression::None, Compression::Hole, Compression::Lzf] {
                let (mut a, mut b) = (Node::new(), Node::new());
                // All pairings of drivers have their turn.
                for (node, turn) in [(&mut a, number), (&mut b, number / 2)] {
                    node.driver = drivers[turn % drivers.len()];
                    node.settings.replication = replication;
                    node.settings.checksum = checksum;
                    node.settings.compression = compression;
                }
                let mut primary = a.primary(true);
                let (mut secondary, _cable) = connect(&mut primary, &b);
                let mut client = Nbd::connect(&a.devices());
                write_much(&mut client, 1);
                client.zero(8192, 65536);
                client.trim(1 << 20, 65536);
                client.flush();
                drop(client);
                assert_eq!(primary.stop(), 0);
                assert_eq!(secondary.exit_status(), 75);
                let equal = a.data() == b.data();
                assert!(equal, "{replication:?} {checksum:?} {compression:?}");
                assert!(a.data().iter().any(|&byte| byte != 0));
                number += 1;
            }
        }
    }
}

#[test]
fn what_was_written_alone_and_in_flight_is_synchronised() {
    for driver in drivers() {
        written_alone_is_synchronised(driver);
    }
}

fn written_alone_is_synchronised(driver: DriverChoice) {
    let (mut a, mut b) = (Node::new(), Node::new());
    (a.driver, b.driver) = (driver, driver);
    let mut primary = a.primary(true);
    let (mut secondary, mut cable) = connect(&mut primary, &b);
    let mut client = Nbd::connect(&a.devices());
    for round in 0..5 {
        for at in 0..16 {
            client.submit(at * EXTENT_BYTES, &mixed(round * 100 + at, 65536));
        }
        cable.cut();
        for _ in 0..16 {
            assert_eq!(client.reply().1, 0);
        }
        assert_eq!(secondary.exit_status(), 75);
        primary.logs(Level::Warning, "Disconnected from tcp4://peer.");
        write_much(&mut client, round);
        (secondary, cable) = connect(&mut primary, &b);
        primary.event(Event::SyncStart);
        primary.event(Event::SyncDone);
        let status = primary.status();
        assert_eq!((status.connected, &*status.disk), (true, "good"));
        assert_eq!(status.reason, None);
        write_much(&mut client, round + 1000);
        assert!(a.data() == b.data(), "round {round}");
    }
    drop(client);
    assert_eq!(primary.stop(), 0);
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_the_primary_under_load() {
    let modes = [Replication::Fullsync, Replication::Memsync];
    for (replication, driver) in modes.into_iter().zip(drivers().into_iter().cycle()) {
        let (mut a, mut b) = (Node::new(), Node::new());
        (a.driver, b.driver) = (driver, driver);
        a.settings.replication = replication;
        b.settings.replication = replication;
        let mut primary = a.primary(true);
        let (mut secondary, _cable) = connect(&mut primary, &b);
        let mut client = Nbd::connect(&a.devices());
        let mut written: Vec<Option<u64>> = vec![None; 64];
        let killed = AtomicBool::new(false);
        // Block by block, until the primary is gone: a write is old, new, or in doubt.
        let in_doubt = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for seed in 2.. {
                    let at = usize::try_from(seed * 7 % 64).unwrap();
                    if !client.try_write(at as u64 * 65536, &mixed(seed, 8192)) {
                        assert!(
                            killed.load(Ordering::SeqCst),
                            "it serves until it is killed"
                        );
                        return (at, seed);
                    }
                    written[at] = Some(seed);
                    if seed == 200 {
                        killed.store(true, Ordering::SeqCst);
                    }
                }
                unreachable!("the primary is killed")
            });
            while !killed.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            primary.kill();
            writer.join().unwrap()
        });
        assert_eq!(secondary.exit_status(), 75);
        let promoted = b.primary(false);
        let mut client = Nbd::connect(&b.devices());
        for (at, seed) in written.iter().enumerate() {
            let found = client.read(at as u64 * 65536, 8192);
            let wanted = seed.map_or(vec![0; 8192], |seed| mixed(seed, 8192));
            let doubtful = at == in_doubt.0 && found == mixed(in_doubt.1, 8192);
            assert!(found == wanted || doubtful, "{replication:?}: block {at}");
        }
        drop(client);
        assert_eq!(promoted.stop(), 0);
    }
}

#[test]
fn a_failover_and_the_way_back_end_with_equal_copies() {
    let (a, b) = (Node::new(), Node::new());
    let mut primary = a.primary(true);
    let (mut secondary, _cable) = connect(&mut primary, &b);
    let mut client = Nbd::connect(&a.devices());
    write_much(&mut client, 1);
    primary.kill();
    assert_eq!(secondary.exit_status(), 75);

    let mut promoted = b.primary(true);
    promoted.wants_connection();
    let refused = ToWorker::ConnectFailed {
        reason: "Unable to connect to tcp4://peer: Connection refused.".to_owned(),
    };
    promoted.tell(&refused, Vec::new());
    let mut client = Nbd::connect(&b.devices());
    write_much(&mut client, 500);
    let (secondary, cable) = connect(&mut promoted, &a);
    promoted.event(Event::SyncDone);
    drop(client);
    assert_eq!(promoted.stop(), 0);
    drop((secondary, cable));
    assert!(a.data() == b.data());

    // And back: the copies are equal, nothing has to move.
    let mut primary = a.primary(true);
    let (_secondary, _cable) = connect(&mut primary, &b);
    let said = FromWorker::Log {
        level: Level::Info,
        text: "Nodes are in sync.".to_owned(),
    };
    assert!(primary.said.contains(&said));
}

#[test]
fn a_node_that_comes_back_reads_what_the_other_wrote_alone() {
    let (a, b) = (Node::new(), Node::new());
    let mut primary = a.primary(true);
    let (secondary, _cable) = connect(&mut primary, &b);
    assert_eq!(primary.stop(), 0);
    drop(secondary);
    // Now b alone.
    let alone = b.primary(false);
    let mut client = Nbd::connect(&b.devices());
    write_much(&mut client, 77);
    drop(client);
    assert_eq!(alone.stop(), 0);
    let expected = b.data();
    // a is primary again, its copy is old: the rest comes from b while it is being read.
    let mut primary = a.primary(true);
    let (_secondary, _cable) = connect(&mut primary, &b);
    let mut client = Nbd::connect(&a.devices());
    for at in (0..expected.len() - 65536).step_by(1 << 20) {
        assert!(
            client.read(at as u64, 65536) == expected[at..at + 65536],
            "at {at}"
        );
    }
    primary.event(Event::SyncDone);
    // The peers' agreement that ends it follows the last block.
    let status = until(&mut primary, |status| status.sync.is_none());
    assert_eq!(&*status.disk, "good");
    assert!(a.data() == expected);
}

/// Asks until the status is as wanted.
fn until(worker: &mut Worker, wanted: impl Fn(&Status) -> bool) -> Status {
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        let status = worker.status();
        if wanted(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "still {status:?}");
    }
}

#[test]
fn a_synchronisation_rests_goes_on_and_shows_its_progress() {
    let (mut a, b) = (Node::new(), Node::new());
    a.settings.sync_rate = SyncRate::parse("4M").unwrap();
    let mut primary = a.primary(true);
    let (secondary, cable) = connect(&mut primary, &b);
    cable.cut();
    primary.event(Event::Disconnect);
    drop(secondary);
    let mut client = Nbd::connect(&a.devices());
    for at in 0..12 {
        client.write(at << 20, &mixed(at, 1 << 20));
    }
    let (_secondary, _cable) = connect(&mut primary, &b);
    primary.logs(Level::Info, "Synchronization started. 12MB to go.");
    let status = until(&mut primary, |status| {
        status.sync.is_some_and(|sync| sync.eta_s.is_some())
    });
    let sync = status.sync.unwrap();
    assert_eq!(sync.total_bytes, 12 << 20);
    assert!(!sync.from_peer && sync.left_bytes < sync.total_bytes);
    let set = |settings| ToWorker::Settings {
        settings,
        reconnect: false,
        peer_address: "tcp4://peer".to_owned(),
    };
    let mut settings = a.settings;
    settings.sync_paused = true;
    primary.tell(&set(settings), Vec::new());
    let status = until(&mut primary, |status| {
        status.sync.is_some_and(|sync| sync.paused)
    });
    assert!(status.connected);
    settings.sync_paused = false;
    settings.sync_rate = SyncRate::Unlimited;
    primary.tell(&set(settings), Vec::new());
    primary.event(Event::SyncDone);
    assert!(a.data() == b.data());
}

#[test]
fn a_new_address_makes_a_primary_connect_anew_at_once() {
    let (a, b) = (Node::new(), Node::new());
    let mut primary = a.primary(true);
    let (mut secondary, _cable) = connect(&mut primary, &b);
    let moved = ToWorker::Settings {
        settings: a.settings,
        reconnect: true,
        peer_address: "tcp4://elsewhere".to_owned(),
    };
    primary.tell(&moved, Vec::new());
    primary.event(Event::Disconnect);
    assert_eq!(secondary.exit_status(), 75);
    let far = handshake(&mut primary, OURS);
    let secondary = b.secondary([far.a.into(), far.b.into()], far.hello);
    primary.logs(Level::Info, "Connected to tcp4://elsewhere.");
    drop(secondary);
}

#[test]
fn a_secondary_that_is_told_to_stop_ends_well() {
    let (a, b) = (Node::new(), Node::new());
    let mut primary = a.primary(true);
    let (mut secondary, _cable) = connect(&mut primary, &b);
    let status = secondary.status();
    assert_eq!((status.connected, &*status.disk), (true, "good"));
    let heard = secondary.said.iter();
    assert_eq!(
        heard
            .filter(|said| matches!(said, FromWorker::Event { .. }))
            .count(),
        1
    );
    assert_eq!(secondary.stop(), 0);
    primary.event(Event::Disconnect);
}
