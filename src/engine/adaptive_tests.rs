//! The controller in a closed loop with a disk that serves one request after the other.

use super::*;

/// Milliseconds of a second.
const SECOND: u64 = 1000;

/// Bytes of a synchronisation's block.
const BLOCK: u64 = 1 << 20;

/// Blocks that wait at most, as the engine lets them beside an application.
const BLOCKS_MAX: u64 = 2;

/// A disk that moves so many bytes per millisecond, one request after the other.
struct Disk {
    bytes_per_ms: u64,
    /// When it is done with everything, in microseconds.
    free_us: u64,
    /// When each block that waits is done.
    blocks: Vec<u64>,
}

/// A load on it.
struct Bench {
    controller: Adaptive,
    disk: Disk,
    now_ms: u64,
    tokens: u64,
    /// Application requests and their latencies, in microseconds, of the last stretch.
    count: u64,
    sum_us: u64,
    copied: u64,
    /// Answers on their way: when, and after how many milliseconds.
    answers: Vec<(u64, u64)>,
    step: u64,
}

impl Bench {
    fn new(bytes_per_ms: u64) -> Bench {
        Bench {
            controller: Adaptive::new(Time(0)),
            disk: Disk {
                bytes_per_ms,
                free_us: 0,
                blocks: Vec::new(),
            },
            now_ms: 0,
            tokens: 0,
            count: 0,
            sum_us: 0,
            copied: 0,
            answers: Vec::new(),
            step: 0,
        }
    }

    fn serve(&mut self, now_us: u64, bytes: u64) -> u64 {
        let begins = self.disk.free_us.max(now_us);
        self.disk.free_us = begins + 50 + bytes * 1000 / self.disk.bytes_per_ms;
        self.disk.free_us
    }

    /// Lets seconds pass with an application that asks for `bytes` every `every_ms` (0: never) and
    /// perhaps a synchronisation; mean latency in microseconds, and bytes copied per second.
    fn pass(&mut self, seconds: u64, every_ms: u64, bytes: u64, copies: bool) -> (u64, u64) {
        (self.count, self.sum_us, self.copied) = (0, 0, 0);
        for _ in 0..seconds * SECOND {
            self.now_ms += 1;
            let now_us = self.now_ms * 1000;
            self.disk.blocks.retain(|&done| done > now_us);
            if every_ms > 0 && self.now_ms.is_multiple_of(every_ms) {
                // At some moment within the millisecond.
                self.step = (self.step + 377) % 1000;
                let came = now_us + self.step;
                let done = self.serve(came, bytes);
                self.count += 1;
                self.sum_us += done - came;
                self.answers.push((done, done / 1000 - came / 1000));
            }
            let controller = &mut self.controller;
            self.answers.retain(|&(done, latency_ms)| {
                if done <= now_us {
                    controller.answered(latency_ms);
                }
                done > now_us
            });
            self.controller.pass(Time(self.now_ms), copies);
            let rate = self.controller.rate();
            self.tokens = (self.tokens + rate / 1000).min((rate / 10).max(BLOCK));
            while copies && self.tokens >= BLOCK && (self.disk.blocks.len() as u64) < BLOCKS_MAX {
                self.tokens -= BLOCK;
                let done = self.serve(now_us, BLOCK);
                self.disk.blocks.push(done);
                self.copied += BLOCK;
            }
        }
        (self.sum_us / self.count.max(1), self.copied / seconds)
    }
}

#[test]
fn applications_hardly_notice_the_synchronisation() {
    let mut bench = Bench::new(200_000);
    let (alone, _) = bench.pass(5, 2, 16_384, false);
    bench.pass(20, 2, 16_384, true);
    let (beside, copied) = bench.pass(60, 2, 16_384, true);
    // As fast as it can, requests would wait behind two blocks of 5 ms each.
    assert!(
        beside <= 2 * alone + 2 * TOLERANCE_US,
        "{beside} us, alone {alone} us"
    );
    assert!(copied >= 4 << 20, "{copied} bytes per second");
}

#[test]
fn idle_applications_leave_everything_to_the_synchronisation() {
    let mut bench = Bench::new(200_000);
    bench.pass(5, 2, 16_384, true);
    bench.pass(3, 0, 0, true);
    let (_, copied) = bench.pass(5, 0, 0, true);
    assert!(copied > 180_000_000, "{copied} bytes per second");
}

#[test]
fn application_that_comes_back_has_the_disk_within_seconds() {
    let mut bench = Bench::new(200_000);
    let (alone, _) = bench.pass(5, 2, 16_384, false);
    bench.pass(10, 0, 0, true);
    bench.pass(6, 2, 16_384, true);
    let (beside, _) = bench.pass(5, 2, 16_384, true);
    assert!(
        beside <= 3 * alone + 2 * TOLERANCE_US,
        "{beside} us, alone {alone} us"
    );
}

#[test]
fn busy_application_does_not_stop_the_synchronisation() {
    // It takes all that the disk has.
    let mut bench = Bench::new(20_000);
    let (_, copied) = bench.pass(30, 1, 19_000, true);
    assert!(copied >= FLOOR / 2, "{copied} bytes per second");
}

#[test]
fn what_requests_usually_take_does_not_creep_up() {
    let mut bench = Bench::new(200_000);
    // It never saw the application without the synchronisation.
    bench.pass(600, 2, 16_384, true);
    let (beside, _) = bench.pass(60, 2, 16_384, true);
    let mut reference = Bench::new(200_000);
    let (alone, _) = reference.pass(5, 2, 16_384, false);
    assert!(
        beside <= 2 * alone + 2 * TOLERANCE_US,
        "{beside} us, alone {alone} us"
    );
}

#[test]
fn rate_stays_within_its_bounds_whatever_comes() {
    let mut controller = Adaptive::new(Time(0));
    for step in 0..10_000u64 {
        let latency = if step % 3 == 0 { u64::MAX } else { 0 };
        for _ in 0..step % 40 {
            controller.answered(latency);
        }
        controller.pass(Time(step * 150), step % 7 != 0);
        assert!((FLOOR..=CEILING).contains(&controller.rate()));
    }
}
