//! Two workers, one of each role.

use hast::ipc::{Event, Level};
use hast::terms::{Checksum, Compression, Replication};

use crate::nbd::Nbd;
use crate::peer::connect;
use crate::rig::{EXTENT_BYTES, Node, mixed};

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
    for replication in [
        Replication::Fullsync,
        Replication::Memsync,
        Replication::Async,
    ] {
        for checksum in [Checksum::None, Checksum::Crc32, Checksum::Sha256] {
            for compression in [Compression::None, Compression::Hole, Compression::Lzf] {
                let (mut a, mut b) = (Node::new(), Node::new());
                for node in [&mut a, &mut b] {
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
            }
        }
    }
}

#[test]
fn what_was_written_alone_and_in_flight_is_synchronised() {
    let (a, b) = (Node::new(), Node::new());
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
