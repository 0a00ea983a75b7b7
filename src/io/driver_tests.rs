//! What every driver has to do: included by each of them, which makes itself by
//! `driver_for_tests`; `None`: this system does not have it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::driver_for_tests as driver;
use crate::engine::event::BufId;
use crate::io::outgoing::Outgoing;
use crate::io::pool::{Piece, Pool};
use crate::io::proactor::{Completion, Disk, DiskIo, Done, Proactor, Slot, SocketIo};
use crate::terms::Errno;

/// An operation on a disk that is done at once.
fn nothing() -> DiskIo {
    DiskIo::WriteBytes {
        offset: 0,
        bytes: Vec::new(),
        durable: false,
    }
}

/// A file as a disk, with counters and faults.
struct FileDisk {
    file: File,
    flushes: AtomicU32,
    flushing: AtomicBool,
    flush_result: Mutex<Result<(), Errno>>,
    zeroed: Mutex<Vec<(u64, u64)>>,
}

impl FileDisk {
    fn new(bytes: u64) -> Arc<FileDisk> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        Arc::new(FileDisk {
            file,
            flushes: AtomicU32::new(0),
            flushing: AtomicBool::new(false),
            flush_result: Mutex::new(Ok(())),
            zeroed: Mutex::default(),
        })
    }
}

impl Disk for FileDisk {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.zeroed.lock().unwrap().push((offset, length));
        Ok(())
    }

    fn delete(&self, _offset: u64, _length: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn flush(&self) -> Result<(), Errno> {
        assert!(!self.flushing.swap(true, Ordering::SeqCst), "one at a time");
        std::thread::yield_now();
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flushing.store(false, Ordering::SeqCst);
        *self.flush_result.lock().unwrap()
    }
}

/// Waits until so many operations are done; returns them by token.
fn wait_for(io: &mut impl Proactor, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    while done.len() < count {
        io.wait(None, &mut done).unwrap();
    }
    assert_eq!(done.len(), count);
    done.sort_by_key(|completion| completion.token);
    done
}

fn disk_result(completion: &Completion) -> Result<(), Errno> {
    match completion.done {
        Done::Disk { result, .. } => result,
        ref other => panic!("a disk operation, not {other:?}"),
    }
}

fn filled(pool: &Pool, value: u8) -> BufId {
    let buf = pool.alloc(4096).unwrap();
    pool.write(Piece::first(buf, 4096)).fill(value);
    buf
}

#[test]
fn neighbouring_writes_land_where_they_belong_and_read_back() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(1 << 20);
    let slot = io.attach_disk(disk.clone()).unwrap();
    for round in 0..20u64 {
        for number in 0..40u8 {
            let buf = filled(&pool, number);
            let offset = u64::from(number) * 4096 + u64::from(number / 10) * 4096;
            let piece = Piece::first(buf, 4096);
            let fua = round == 0;
            io.disk(slot, offset, DiskIo::Write { offset, piece, fua });
            pool.release(buf);
        }
        let done = wait_for(&mut io, 40);
        assert!(done.iter().all(|done| disk_result(done).is_ok()));
    }
    let bufs: Vec<BufId> = (0..40).map(|_| filled(&pool, 99)).collect();
    for (number, &buf) in (0u64..).zip(&bufs) {
        let offset = number * 4096 + number / 10 * 4096;
        let piece = Piece::first(buf, 4096);
        io.disk(slot, number, DiskIo::Read { offset, piece });
    }
    assert!(wait_for(&mut io, 40).iter().all(|d| disk_result(d).is_ok()));
    for (number, &buf) in (0u8..).zip(&bufs) {
        assert!(
            pool.read(Piece::first(buf, 4096))
                .iter()
                .all(|&b| b == number)
        );
        pool.release(buf);
    }
    assert_eq!(pool.available()[0], 1024);
}

#[test]
fn one_bad_write_among_neighbours_fails_alone() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(8192).unwrap();
    let disk = Arc::new(FileDisk {
        file: File::open(path.path()).unwrap(),
        flushes: AtomicU32::new(0),
        flushing: AtomicBool::new(false),
        flush_result: Mutex::new(Ok(())),
        zeroed: Mutex::default(),
    });
    let slot = io.attach_disk(disk).unwrap();
    let buf = filled(&pool, 1);
    let other = pool.alloc(8192).unwrap();
    let third = filled(&pool, 2);
    let write = |offset, buf| DiskIo::Write {
        offset,
        piece: Piece::first(buf, 4096),
        fua: true,
    };
    io.disk(slot, 1, write(0, buf));
    io.disk(
        slot,
        2,
        DiskIo::Read {
            offset: 4096,
            piece: Piece::first(other, 4096),
        },
    );
    // The second half lies behind the end.
    io.disk(
        slot,
        3,
        DiskIo::Read {
            offset: 8192,
            piece: Piece::first(third, 4096),
        },
    );
    let results: Vec<_> = wait_for(&mut io, 3).iter().map(disk_result).collect();
    assert!(results[0].is_err(), "the file is open for reading only");
    assert_eq!(results[1], Ok(()));
    assert_eq!(results[2], Err(Errno::EIO));
}

#[test]
fn a_failed_flush_fails_every_later_one_and_every_fua() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk.clone()).unwrap();
    io.disk(slot, 1, DiskIo::Flush);
    assert_eq!(disk_result(&wait_for(&mut io, 1)[0]), Ok(()));
    *disk.flush_result.lock().unwrap() = Err(Errno::ENOSPC);
    io.disk(slot, 1, DiskIo::Flush);
    assert_eq!(disk_result(&wait_for(&mut io, 1)[0]), Err(Errno::ENOSPC));
    *disk.flush_result.lock().unwrap() = Ok(());
    let piece = Piece::first(filled(&pool, 1), 4096);
    io.disk(slot, 1, DiskIo::Flush);
    io.disk(
        slot,
        2,
        DiskIo::Write {
            offset: 0,
            piece,
            fua: true,
        },
    );
    io.disk(
        slot,
        3,
        DiskIo::Zero {
            offset: 0,
            length: 512,
            fua: true,
        },
    );
    io.disk(
        slot,
        4,
        DiskIo::Write {
            offset: 0,
            piece,
            fua: false,
        },
    );
    let results: Vec<_> = wait_for(&mut io, 4).iter().map(disk_result).collect();
    let lost = Err(Errno::ENOSPC);
    assert_eq!(results, [lost, lost, lost, Ok(())]);
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 2);
}

#[test]
fn flushes_are_grouped_and_never_run_side_by_side() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk.clone()).unwrap();
    for token in 0..100 {
        io.disk(slot, token, DiskIo::Flush);
    }
    assert!(
        wait_for(&mut io, 100)
            .iter()
            .all(|d| disk_result(d).is_ok())
    );
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 2);
}

#[test]
fn other_operations_reach_the_disk_and_vectors_come_back() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk.clone()).unwrap();
    io.disk(
        slot,
        1,
        DiskIo::Zero {
            offset: 512,
            length: 1024,
            fua: false,
        },
    );
    io.disk(
        slot,
        2,
        DiskIo::Delete {
            offset: 0,
            length: 512,
        },
    );
    io.disk(
        slot,
        3,
        DiskIo::WriteBytes {
            offset: 4096,
            bytes: b"bitmap".to_vec(),
            durable: false,
        },
    );
    let done = wait_for(&mut io, 3);
    assert_eq!(disk_result(&done[0]), Ok(()));
    assert_eq!(disk_result(&done[1]), Err(Errno::EOPNOTSUPP));
    assert!(matches!(&done[2].done, Done::Disk { result: Ok(()), bytes } if bytes == b"bitmap"));
    assert_eq!(*disk.zeroed.lock().unwrap(), [(512, 1024)]);
    let mut stored = [0; 6];
    disk.file.read_exact_at(&mut stored, 4096).unwrap();
    assert_eq!(&stored, b"bitmap");
}

#[test]
fn a_detached_disk_finishes_what_it_was_given_and_takes_no_more() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk.clone()).unwrap();
    io.disk(
        slot,
        1,
        DiskIo::WriteBytes {
            offset: 0,
            bytes: vec![7; 512],
            durable: false,
        },
    );
    io.disk(slot, 2, DiskIo::Flush);
    io.detach(slot);
    io.disk(slot, 3, DiskIo::Flush);
    let results: Vec<_> = wait_for(&mut io, 3).iter().map(disk_result).collect();
    assert_eq!(results, [Ok(()), Ok(()), Err(Errno::ENXIO)]);
    assert_eq!(
        io.attach_disk(disk.clone()).unwrap(),
        slot,
        "the slot is free again"
    );
    io.detach(slot);
    assert_eq!(Arc::strong_count(&disk), 1);
}

#[test]
fn more_operations_than_batches_all_complete() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk).unwrap();
    for token in 0..20_000 {
        io.disk(slot, token, nothing());
    }
    let done = wait_for(&mut io, 20_000);
    assert!((0..).zip(&done).all(|(token, done)| done.token == token));
}

#[test]
fn no_wake_up_is_lost_at_depth_one() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let disk = FileDisk::new(8192);
    let slot = io.attach_disk(disk).unwrap();
    for token in 0..20_000 {
        io.disk(slot, token, nothing());
        wait_for(&mut io, 1);
    }
}

fn connected(io: &mut impl Proactor) -> (Slot, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (io.attach_socket(ours.into()).unwrap(), theirs)
}

#[test]
fn a_send_longer_than_the_socket_takes_is_continued() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let (slot, mut theirs) = connected(&mut io);
    let mut out = Outgoing::new(&pool);
    for number in 0..200u8 {
        let buf = pool.alloc(100_000).unwrap();
        pool.write(Piece::first(buf, 100_000)).fill(number);
        out.push(&[number; 10]);
        out.push_buf(Piece::first(buf, 100_000));
        pool.release(buf);
    }
    io.socket(slot, 5, SocketIo::Send(out));
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 200 * 100_010];
        theirs.read_exact(&mut all).unwrap();
        (theirs, all)
    });
    let done = wait_for(&mut io, 1);
    assert!(
        matches!(&done[0], Completion { token: 5, done: Done::Sent(Ok(()), out) } if out.is_empty())
    );
    let (_theirs, all) = reader.join().unwrap();
    for (number, packet) in (0u8..).zip(all.chunks(100_010)) {
        assert!(packet.iter().all(|&byte| byte == number));
    }
    assert_eq!(pool.available(), [1024, 256, 32]);
}

#[test]
fn a_receive_fills_both_pieces_in_order_and_reports_the_end() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let (slot, mut theirs) = connected(&mut io);
    let (first, second) = (filled(&pool, 0), filled(&pool, 0));
    let into = [
        Some(Piece {
            buf: first,
            at: 10,
            length: 3,
        }),
        Some(Piece {
            buf: second,
            at: 0,
            length: 5,
        }),
    ];
    let mut done = Vec::new();
    io.socket(slot, 1, SocketIo::Receive { into });
    io.wait(Some(Duration::ZERO), &mut done).unwrap();
    assert!(done.is_empty(), "nothing was sent yet");
    theirs.write_all(b"abcdefghij").unwrap();
    let done = wait_for(&mut io, 1);
    assert!(matches!(done[0].done, Done::Received(Ok(8))));
    assert_eq!(
        &*pool.read(Piece {
            buf: first,
            at: 9,
            length: 5
        }),
        b"\0abc\0"
    );
    assert_eq!(&*pool.read(Piece::first(second, 6)), b"defgh\0");
    let into = [None, Some(Piece::first(second, 4096))];
    io.socket(slot, 2, SocketIo::Receive { into });
    assert!(matches!(
        wait_for(&mut io, 1)[0].done,
        Done::Received(Ok(2))
    ));
    drop(theirs);
    io.socket(slot, 3, SocketIo::Receive { into });
    assert!(matches!(
        wait_for(&mut io, 1)[0].done,
        Done::Received(Ok(0))
    ));
}

#[test]
fn sending_to_a_closed_socket_is_an_error_and_no_signal() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let (slot, theirs) = connected(&mut io);
    drop(theirs);
    let mut out = Outgoing::new(&pool);
    out.push(b"anybody?");
    io.socket(slot, 1, SocketIo::Send(out));
    assert!(matches!(
        wait_for(&mut io, 1)[0].done,
        Done::Sent(Err(_), _)
    ));
}

#[test]
fn detaching_a_socket_cancels_its_operations_and_closes_it() {
    let Some((pool, mut io)) = driver() else {
        return;
    };
    let (slot, mut theirs) = connected(&mut io);
    let buf = filled(&pool, 0);
    io.socket(
        slot,
        1,
        SocketIo::Receive {
            into: [Some(Piece::first(buf, 10)), None],
        },
    );
    io.socket(slot, 2, SocketIo::Readable);
    io.detach(slot);
    pool.release(buf);
    for done in wait_for(&mut io, 2) {
        let (Done::Received(Err(error)) | Done::Readable(Err(error))) = done.done else {
            panic!("it was cancelled, not {done:?}")
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    }
    assert_eq!(pool.available()[0], 1024);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    io.socket(slot, 3, SocketIo::Accept);
    assert!(matches!(
        wait_for(&mut io, 1)[0].done,
        Done::Accepted(Err(_))
    ));
}

#[test]
fn connections_are_accepted_and_readiness_is_told() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let slot = io.attach_socket(listener.into()).unwrap();
    io.socket(slot, 1, SocketIo::Accept);
    let mut client = UnixStream::connect(&path).unwrap();
    let Done::Accepted(Ok(fd)) = wait_for(&mut io, 1).remove(0).done else {
        panic!("a connection")
    };
    let served = io.attach_socket(fd).unwrap();
    io.socket(served, 2, SocketIo::Readable);
    let mut done = Vec::new();
    io.wait(Some(Duration::ZERO), &mut done).unwrap();
    assert!(done.is_empty());
    client.write_all(b"x").unwrap();
    assert!(matches!(
        wait_for(&mut io, 1)[0].done,
        Done::Readable(Ok(()))
    ));
}

#[test]
fn a_hang_up_is_told_though_nothing_is_received() {
    let Some((_pool, mut io)) = driver() else {
        return;
    };
    let (slot, mut theirs) = connected(&mut io);
    io.socket(slot, 1, SocketIo::HangUp);
    theirs.write_all(b"unread").unwrap();
    let mut done = Vec::new();
    io.wait(Some(Duration::ZERO), &mut done).unwrap();
    assert!(done.is_empty());
    drop(theirs);
    assert!(matches!(wait_for(&mut io, 1)[0].done, Done::HungUp(Ok(()))));
}
