use super::*;
use crate::io::pool::PoolLimits;

const MIB: i64 = 1 << 20;

fn pool() -> Pool {
    Pool::new(PoolLimits {
        buffers: [8, 2, 40],
    })
    .unwrap()
}

fn requests() -> Requests {
    let geometry = Geometry {
        bytes: 4 << 30,
        sector_bytes: 4096,
    };
    Requests::new(geometry, 4, 64)
}

fn started(offset: i64, length: i64) -> Started {
    Started {
        seq: 7,
        cmd: 0,
        offset,
        length,
        data: None,
    }
}

fn at_once(command: Command, started: Started) -> i32 {
    let answer = requests().add(started, command).unwrap();
    assert_eq!(answer.seq, 7);
    assert!(matches!(answer.data, Data::None));
    answer.error
}

#[test]
fn hints_and_unknown_commands_are_answered_at_once() {
    assert_eq!(at_once(Command::Speedup, started(0, 0)), 0);
    assert_eq!(at_once(Command::Other, started(0, 4096)), 45);
}

#[test]
fn ranges_that_are_no_sectors_of_the_provider_are_refused() {
    let ranges = [
        (0, 0),
        (-4096, 4096),
        (0, -4096),
        (0, 512),
        (512, 4096),
        (i64::MAX - 4095, 4096),
        (4 << 30, 4096),
        ((4 << 30) - 4096, 8192),
    ];
    for (offset, length) in ranges {
        for command in [Command::Read, Command::Write, Command::Delete] {
            assert_eq!(at_once(command, started(offset, length)), 22);
        }
    }
}

#[test]
fn a_write_without_all_of_its_data_is_refused() {
    let mut short = started(0, 8192);
    short.data = Some(Buffer::new(4096).unwrap());
    assert_eq!(at_once(Command::Write, short), 22);
    assert_eq!(at_once(Command::Write, started(0, 4096)), 22);
}

#[test]
fn a_read_of_one_part_is_answered_from_its_buffer() {
    let (pool, mut requests) = (pool(), requests());
    assert!(requests.add(started(4096, 4096), Command::Read).is_none());
    let part = requests.next(&pool).unwrap();
    assert_eq!((part.offset, part.length), (4096, 4096));
    let answer = requests.complete(part.id, Ok(()), part.buf, &pool).unwrap();
    assert_eq!((answer.seq, answer.error), (7, 0));
    assert!(matches!(answer.data, Data::Pool(buf, 4096) if Some(buf) == part.buf));
    assert_eq!(requests.outstanding(), 0);
}

#[test]
fn parts_of_a_long_read_are_gathered_in_whatever_order_they_come() {
    let (pool, mut requests) = (pool(), requests());
    let length = 2 * MIB + 4096;
    assert!(requests.add(started(0, length), Command::Read).is_none());
    let parts: Vec<AppRequest> = std::iter::from_fn(|| requests.next(&pool)).collect();
    assert_eq!(parts.len(), 3);
    for (value, part) in (1u8..).zip(&parts) {
        let piece = Piece::first(part.buf.unwrap(), part.length);
        pool.write(piece).fill(value);
    }
    for at in [2, 0] {
        let part = &parts[at];
        assert!(
            requests
                .complete(part.id, Ok(()), part.buf, &pool)
                .is_none()
        );
    }
    let part = &parts[1];
    let answer = requests.complete(part.id, Ok(()), part.buf, &pool).unwrap();
    let Data::Gathered(bytes) = answer.data else {
        panic!("gathered");
    };
    let edges = [0, 1 << 20, 2 << 20].map(|at: usize| (bytes[at], bytes[at + 4095]));
    assert_eq!(edges, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(bytes.len(), 2 * (1 << 20) + 4096);
}

#[test]
fn a_write_gives_its_buffer_back_as_soon_as_the_engine_has_it() {
    let (pool, mut requests) = (pool(), requests());
    let mut write = started(0, MIB + 4096);
    let mut data = Buffer::new(3 << 20).unwrap();
    data[0] = 1;
    data[1 << 20] = 2;
    write.data = Some(data);
    assert!(requests.add(write, Command::Write).is_none());
    let first = requests.next(&pool).unwrap();
    assert!(requests.freed().is_none());
    let second = requests.next(&pool).unwrap();
    assert!(requests.freed().is_some());
    assert_eq!(pool.read(Piece::first(first.buf.unwrap(), 1))[0], 1);
    assert_eq!(pool.read(Piece::first(second.buf.unwrap(), 1))[0], 2);
    assert_eq!((second.offset, second.length), (1 << 20, 4096));
    assert!(requests.complete(second.id, Ok(()), None, &pool).is_none());
    assert_eq!(
        requests
            .complete(first.id, Ok(()), None, &pool)
            .unwrap()
            .error,
        0
    );
}

#[test]
fn a_failed_part_fails_the_request_once_the_others_are_done() {
    let (pool, mut requests) = (pool(), requests());
    assert!(
        requests
            .add(started(0, 256 * MIB), Command::Delete)
            .is_none()
    );
    let first = requests.next(&pool).unwrap();
    let second = requests.next(&pool).unwrap();
    let failed = requests.complete(first.id, Err(Errno::ENOSPC), None, &pool);
    assert!(failed.is_none());
    assert!(requests.next(&pool).is_none(), "the rest would be in vain");
    let answer = requests.complete(second.id, Ok(()), None, &pool).unwrap();
    assert_eq!(answer.error, 28);
}

#[test]
fn a_long_delete_leaves_room_for_others() {
    let (pool, mut requests) = (pool(), requests());
    assert!(requests.add(started(0, 4 << 30), Command::Delete).is_none());
    let share: Vec<AppRequest> = std::iter::from_fn(|| requests.next(&pool)).collect();
    assert_eq!(share.len(), 32);
    assert!(requests.add(started(0, 0), Command::Flush).is_none());
    let flush = requests.next(&pool).unwrap();
    assert_eq!((flush.op, flush.length), (AppOp::Flush, 0));
    assert_eq!(
        requests
            .complete(flush.id, Ok(()), None, &pool)
            .unwrap()
            .error,
        0
    );
    // The rest of the delete follows as its parts are done.
    let mut parts = share;
    let mut covered = 0;
    let answer = loop {
        let part = parts.pop().unwrap();
        covered += u64::from(part.length);
        if let Some(answer) = requests.complete(part.id, Ok(()), None, &pool) {
            break answer;
        }
        parts.extend(requests.next(&pool));
    };
    assert_eq!((answer.error, covered, parts.len()), (0, 4 << 30, 0));
}

#[test]
fn without_a_buffer_nothing_is_begun_and_nothing_lost() {
    let pool = Pool::new(PoolLimits { buffers: [1, 0, 0] }).unwrap();
    let mut requests = requests();
    for offset in [0, 4096] {
        assert!(requests.add(started(offset, 4096), Command::Read).is_none());
    }
    let first = requests.next(&pool).unwrap();
    assert!(requests.next(&pool).is_none());
    pool.release(first.buf.unwrap());
    assert_eq!(requests.next(&pool).unwrap().offset, 4096);
}

#[test]
fn the_table_of_requests_is_bounded() {
    let (pool, mut requests) = (pool(), requests());
    for _ in 0..4 {
        assert!(requests.has_room());
        assert!(requests.add(started(0, 0), Command::Flush).is_none());
    }
    assert!(!requests.has_room());
    let part = requests.next(&pool).unwrap();
    requests.complete(part.id, Ok(()), None, &pool).unwrap();
    assert!(requests.has_room());
}

#[test]
fn closing_leaves_only_what_the_engine_has() {
    let (pool, mut requests) = (pool(), requests());
    assert!(
        requests
            .add(started(0, 64 * MIB), Command::Delete)
            .is_none()
    );
    assert!(requests.add(started(0, 0), Command::Flush).is_none());
    let part = requests.next(&pool).unwrap();
    requests.close();
    assert!(requests.next(&pool).is_none());
    let answer = requests.complete(part.id, Ok(()), None, &pool).unwrap();
    assert_eq!(answer.error, 6);
    assert_eq!(requests.outstanding(), 0);
}

#[test]
fn errors_that_would_make_the_kernel_ask_again_are_not_told() {
    for wire in [12, 35] {
        assert_eq!(number(Errno::from_wire(wire).unwrap()), 5);
    }
    assert_eq!(number(Errno::EOPNOTSUPP), 45);
}
