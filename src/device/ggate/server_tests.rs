use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::model::{Kernel, Outcome};
use super::super::provider::{DirectReads, Origin, ProviderConfig};
use super::*;
use crate::engine::event::AppOp;
use crate::io::pool::PoolLimits;
use crate::io::threads::Threads;

const READ: u32 = 1;
const WRITE: u32 = 2;
const DELETE: u32 = 3;
const GETATTR: u32 = 4;
const FLUSH: u32 = 5;
const SPEEDUP: u32 = 10;

const BYTES: u64 = 8 << 30;

/// A server, its driver, and an engine whose disk is an array that answers at once.
struct Worker {
    io: Threads,
    pool: Pool,
    server: GateServer,
    disk: Vec<u8>,
    /// What the engine is asked for and has not answered.
    held: VecDeque<AppRequest>,
    hold: bool,
}

impl Worker {
    fn new(kernel: &Arc<Kernel>) -> Worker {
        Worker::with(kernel, Numbering::Sequence).0
    }

    fn with(kernel: &Arc<Kernel>, numbering: Numbering) -> (Worker, Origin) {
        let pool = Pool::new(PoolLimits {
            buffers: [16, 8, 8],
        })
        .unwrap();
        let mut io = Threads::new(&pool, 1).unwrap();
        let config = ProviderConfig {
            name: "hast/data".to_owned(),
            resource: "data".to_owned(),
            bytes: BYTES,
            sector_bytes: 512,
            direct: DirectReads::of_path("/dev/da0".as_ref(), 8192),
        };
        let (provider, origin) = Provider::open(Arc::clone(kernel) as _, config).unwrap();
        let limits = GateLimits::default();
        let server = GateServer::new(&mut io, &pool, provider, numbering, limits, 1).unwrap();
        let worker = Worker {
            io,
            pool,
            server,
            disk: vec![0; 4 << 20],
            held: VecDeque::new(),
            hold: false,
        };
        (worker, origin)
    }

    /// A round of a worker's loop.
    fn round(&mut self) {
        let mut completions = Vec::new();
        self.server.flush(&mut self.io);
        // Whatever happens ends the wait; the limit is for what happens elsewhere.
        let patience = Some(Duration::from_millis(20));
        self.io.wait(patience, &mut completions).unwrap();
        for completion in completions {
            assert_eq!(completion.token >> TOKEN_BITS, 1);
            self.server.done(&mut self.io, completion);
        }
        while let Some(request) = self.server.next_request() {
            self.held.push_back(request);
        }
        if !self.hold {
            self.serve();
        }
    }

    fn serve(&mut self) {
        while let Some(request) = self.held.pop_front() {
            self.finish(request, Ok(()));
        }
    }

    fn finish(&mut self, request: AppRequest, result: Result<(), Errno>) {
        let start = usize::try_from(request.offset).unwrap();
        let range = start..start + request.length as usize;
        if let (Some(buf), Ok(())) = (request.buf, result) {
            let piece = Piece::first(buf, request.length);
            match request.op {
                AppOp::Read => self.pool.write(piece).copy_from_slice(&self.disk[range]),
                _ => self.disk[range].copy_from_slice(&self.pool.read(piece)),
            }
        }
        self.server.complete(request.id, result, request.buf);
        if let Some(buf) = request.buf {
            self.pool.release(buf);
        }
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Worker) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(Instant::now() < limit, "it does not happen");
            self.round();
        }
    }

    fn outcome(&mut self, kernel: &Kernel, seq: usize) -> Outcome {
        self.until(|_| kernel.outcome(seq))
    }

    /// Until the engine holds so many requests.
    fn until_held(&mut self, count: usize) {
        self.hold = true;
        self.until(|worker| (worker.held.len() >= count).then_some(()));
    }

    fn stop(&mut self) {
        self.server.stop(&mut self.io);
        self.until(|worker| worker.server.is_stopped().then_some(()));
    }
}

#[test]
fn what_is_written_is_read_back_whatever_its_length() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    for length in [
        512,
        128 << 10,
        (128 << 10) + 512,
        1 << 20,
        (1 << 20) + 512usize,
    ] {
        let data: Vec<u8> = (0..251).cycle().take(length).collect();
        let bytes = i64::try_from(length).unwrap();
        let written = kernel.submit(WRITE, 1024, bytes, &data);
        assert_eq!(worker.outcome(&kernel, written).0, 0);
        let read = kernel.submit(READ, 1024, bytes, &[]);
        assert_eq!(worker.outcome(&kernel, read), (0, data));
    }
    worker.stop();
}

#[test]
fn every_other_command_has_its_answer() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    for (cmd, error) in [(FLUSH, 0), (SPEEDUP, 0), (GETATTR, 45), (9, 45), (77, 45)] {
        let seq = kernel.submit(cmd, 0, 0, &[]);
        assert_eq!(worker.outcome(&kernel, seq), (error, Vec::new()), "{cmd}");
    }
    let seq = kernel.submit(READ, i64::try_from(BYTES).unwrap(), 512, &[]);
    assert_eq!(worker.outcome(&kernel, seq).0, 22);
    assert_eq!(worker.server.failure(), None);
    worker.stop();
}

#[test]
fn the_numbering_of_old_kernels_is_understood() {
    let kernel = Kernel::new();
    let (mut worker, _) = Worker::with(&kernel, Numbering::Bits);
    worker.hold = true;
    for cmd in [4, 16] {
        kernel.submit(cmd, 0, if cmd == 4 { 512 } else { 0 }, &[]);
    }
    worker.until_held(2);
    let mut ops: Vec<AppOp> = worker.held.iter().map(|request| request.op).collect();
    ops.sort_by_key(|op| *op != AppOp::Delete);
    assert_eq!(ops, [AppOp::Delete, AppOp::Flush]);
    worker.serve();
    worker.stop();
}

#[test]
fn a_delete_that_wants_a_buffer_as_long_as_itself_gets_one() {
    let kernel = Kernel::old();
    let mut worker = Worker::new(&kernel);
    worker.disk = Vec::new();
    worker.hold = true;
    let seq = kernel.submit(DELETE, 0, 4 << 30, &[]);
    let outcome = worker.until(|worker| {
        while let Some(request) = worker.held.pop_front() {
            worker.server.complete(request.id, Ok(()), None);
        }
        kernel.outcome(seq)
    });
    assert_eq!(outcome.0, 0);
    worker.stop();
}

#[test]
fn a_request_that_is_longer_than_any_is_a_failure_not_a_loop() {
    let kernel = Kernel::old();
    let mut worker = Worker::new(&kernel);
    kernel.submit(DELETE, 0, i64::MAX, &[]);
    let failure = worker.until(|worker| worker.server.failure().map(str::to_owned));
    assert!(
        failure.starts_with("The kernel asks for 9223372036854775807 bytes"),
        "{failure}"
    );
    worker.stop();
}

#[test]
fn a_failed_request_tells_the_applications_why() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    let seq = kernel.submit(READ, 0, 512, &[]);
    worker.until_held(1);
    let request = worker.held.pop_front().unwrap();
    worker.finish(request, Err(Errno::ENXIO));
    assert_eq!(kernel.outcome(seq), Some((6, Vec::new())));
    worker.stop();
}

#[test]
fn more_requests_than_there_is_room_for_wait_in_the_kernel() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    let all: Vec<usize> = (0..2000)
        .map(|_| kernel.submit(WRITE, 0, 512, &[7; 512]))
        .collect();
    // Only as many as the pool has buffers for, one of which is the server's.
    worker.until_held(31);
    worker.round();
    assert_eq!(worker.held.len(), 31);
    worker.hold = false;
    worker.serve();
    for seq in all {
        assert_eq!(worker.outcome(&kernel, seq).0, 0);
    }
    worker.stop();
}

#[test]
fn nothing_is_lost_when_a_worker_dies_and_another_takes_over() {
    let kernel = Kernel::new();
    let mut dead = Worker::new(&kernel);
    dead.hold = true;
    let seqs: Vec<usize> = (1..=3u8)
        .map(|value| kernel.submit(WRITE, i64::from(value) * 512, 512, &[value; 512]))
        .collect();
    dead.until_held(3);
    // What it holds it never answers. Its threads must not take what the next one is for.
    dead.server.hand_over();
    dead.server.stop(&mut dead.io);
    assert!(kernel.outcome(seqs[0]).is_none());
    assert_eq!(kernel.queues(), (0, 3));

    let (mut worker, origin) = Worker::with(&kernel, Numbering::Sequence);
    assert_eq!(origin, Origin::TakenOver);
    for &seq in &seqs {
        // One of the dead worker's threads, which the model cannot kill, may have taken it.
        let outcome = worker.until(|_| {
            let news = dead.server.intake.next();
            if let Some(News::Started(started)) = news {
                let mut request = Io::new(0);
                request.seq = started.seq;
                request.error = 0;
                dead.server.provider.gate.done(&mut request, &[]).unwrap();
            }
            kernel.outcome(seq)
        });
        assert_eq!(outcome.0, 0);
    }
    worker.stop();
}

#[test]
fn the_end_answers_what_the_engine_has_and_destroys_the_provider() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    let write = kernel.submit(WRITE, 0, 512, &[1; 512]);
    worker.until_held(1);
    worker.server.stop(&mut worker.io);
    assert!(!worker.server.is_stopped());
    assert!(worker.server.next_request().is_none());
    let late = kernel.submit(READ, 0, 512, &[]);
    worker.serve();
    worker.until(|worker| worker.server.is_stopped().then_some(()));
    assert!(kernel.is_destroyed());
    assert_eq!(kernel.outcome(write), Some((0, Vec::new())));
    assert_eq!(kernel.outcome(late), Some((6, Vec::new())));
    assert_eq!(worker.server.failure(), None);
}

#[test]
fn a_provider_that_somebody_else_destroys_ends_the_service() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    worker.round();
    worker.server.provider.destroy().unwrap();
    let failure = worker.until(|worker| worker.server.failure().map(str::to_owned));
    assert_eq!(
        failure,
        "Device hast/data was destroyed by another program."
    );
    worker.stop();
}

#[test]
fn direct_reads_follow_the_state_of_the_copy() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    assert!(worker.server.serve_direct_reads(true).unwrap());
    assert_eq!(kernel.readprov(), Some(("da0".to_owned(), 8192)));
    assert!(!worker.server.serve_direct_reads(true).unwrap());
    assert!(worker.server.serve_direct_reads(false).unwrap());
    assert_eq!(kernel.readprov(), None);
    worker.stop();
}

#[test]
fn direct_reads_that_are_refused_once_are_not_asked_for_again() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    kernel.refuse_modify(libc::EINVAL);
    assert!(worker.server.serve_direct_reads(true).is_err());
    assert_eq!(worker.server.failure(), None);
    kernel.calls();
    assert!(!worker.server.serve_direct_reads(true).unwrap());
    assert!(kernel.calls().is_empty());
    worker.stop();
}

#[test]
fn nothing_is_acknowledged_while_the_kernel_may_read_a_bad_copy() {
    let kernel = Kernel::new();
    let mut worker = Worker::new(&kernel);
    worker.server.serve_direct_reads(true).unwrap();
    let seq = kernel.submit(WRITE, 0, 512, &[1; 512]);
    worker.until_held(1);
    kernel.refuse_modify(libc::EIO);
    assert!(worker.server.serve_direct_reads(false).is_err());
    worker.serve();
    assert_eq!(kernel.outcome(seq), None);
    assert!(
        worker
            .server
            .failure()
            .unwrap()
            .starts_with("Unable to disable direct reads")
    );
    worker.server.hand_over();
    worker.stop();
    assert_eq!(kernel.queues(), (0, 1), "the next worker is asked again");
}
