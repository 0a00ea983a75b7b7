//! Threads for what would make the main thread wait: the jobs that [`Disks`] has staged.
//!
//! How many jobs a thread is given at once follows from how long they took lately: with a cached
//! file, waking a thread costs more than the work, so one gets many; with a real disk each gets
//! one, so that they wait in parallel. Writes through Linux's page cache go one batch at a time:
//! a file's lock admits one anyway, and those that come meanwhile make the next batch. Only if a
//! batch takes long, because it waits for the disk after all, do others start beside it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::disks::Disks;
use super::jobs::{BATCH_JOBS_MAX, Batch, Waker, Work, serve};
use super::pool::Pool;
use super::proactor::Completion;

/// Batches that exist: those beyond wait on the main thread.
const BATCHES: usize = 256;

/// Threads that a driver may have.
pub(super) const THREADS_MAX: usize = 64;

/// How long a thread should have work for when it is woken, in nanoseconds: some ten times what
/// waking it costs.
const BATCH_TARGET_NS: u64 = 60_000;

/// How long a batch of cached writes may take until others start beside it.
const LANE_PATIENCE: Duration = Duration::from_millis(1);

/// Writes through the page cache.
#[derive(Default)]
struct Lane {
    /// Batches that the threads have.
    batches: usize,
    /// When the last one of them was handed over.
    since: Option<Instant>,
}

/// The threads.
pub(super) struct Crew {
    pool: Pool,
    lane: Lane,
    spare: Vec<Batch>,
    jobs: Option<Sender<Batch>>,
    done: Receiver<Batch>,
    threads: Vec<JoinHandle<()>>,
    /// Of a job, lately, in nanoseconds.
    cost_ns: u64,
}

impl Crew {
    /// Starts the threads; all of them have begun when it returns.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn new(pool: &Pool, threads: usize, waker: &Arc<Waker>) -> std::io::Result<Crew> {
        let (jobs, jobs_in) = bounded::<Batch>(BATCHES);
        let (done_out, done) = bounded(BATCHES);
        let mut crew = Crew {
            pool: pool.clone(),
            lane: Lane::default(),
            spare: Vec::with_capacity(BATCHES),
            jobs: Some(jobs),
            done,
            threads: Vec::with_capacity(threads),
            cost_ns: BATCH_TARGET_NS,
        };
        crew.spare.resize_with(BATCHES, Batch::default);
        let (begins, begun) = bounded(threads);
        for number in 0..threads {
            let (jobs, done, waker) = (jobs_in.clone(), done_out.clone(), Arc::clone(waker));
            let begins = begins.clone();
            let thread = std::thread::Builder::new()
                .name(format!("disk{number}"))
                .stack_size(256 * 1024)
                .spawn(move || {
                    // The receiver waits for all threads, or has given up.
                    let _ = begins.send(());
                    serve(&jobs, &done, &waker);
                })?;
            crew.threads.push(thread);
        }
        drop(begins);
        // What a thread does when it begins (an arena of the allocator, a signal stack) may be
        // forbidden once the process is confined: it is done now.
        for () in begun.iter().take(threads) {}
        Ok(crew)
    }

    /// Hands what is staged to the threads.
    pub(super) fn dispatch(&mut self, disks: &mut Disks) {
        let share = BATCH_TARGET_NS / self.cost_ns.max(1);
        let share = usize::try_from(share).unwrap_or(BATCH_JOBS_MAX);
        let share = share.clamp(1, BATCH_JOBS_MAX);
        while !disks.staged.is_empty() {
            let Some(mut batch) = self.spare.pop() else {
                return;
            };
            // A flush takes its time: nothing waits behind it.
            while let Some(job) = disks.staged.front()
                && batch.jobs.len() < share
                && (batch.jobs.is_empty() || !matches!(job.work, Work::Flush))
            {
                let flush = matches!(job.work, Work::Flush);
                batch.jobs.extend(disks.staged.pop_front());
                if flush {
                    break;
                }
            }
            self.hand_over(batch);
        }
        while !disks.cached.is_empty() && self.lane_is_free() {
            let Some(mut batch) = self.spare.pop() else {
                return;
            };
            let count = disks.cached.len().min(BATCH_JOBS_MAX);
            batch.jobs.extend(disks.cached.drain(..count));
            batch.lane = true;
            self.lane.batches += 1;
            self.lane.since = Some(Instant::now());
            self.hand_over(batch);
        }
    }

    fn lane_is_free(&self) -> bool {
        let slow = |since: Instant| since.elapsed() > LANE_PATIENCE;
        self.lane.batches == 0
            || (self.lane.batches < self.threads.len() && self.lane.since.is_some_and(slow))
    }

    fn hand_over(&self, batch: Batch) {
        let Some(jobs) = &self.jobs else {
            unreachable!("the channel is closed only when the crew is dropped");
        };
        if let Err(refused) = jobs.try_send(batch) {
            unreachable!("the channel holds all batches and the threads live: {refused}");
        }
    }

    /// Whether there is something to collect.
    pub(super) fn has_finished(&self) -> bool {
        !self.done.is_empty()
    }

    /// Collects what the threads have finished.
    pub(super) fn collect(&mut self, disks: &mut Disks, out: &mut impl Extend<Completion>) {
        while let Ok(mut batch) = self.done.try_recv() {
            let count = batch.jobs.len() as u64;
            let flush = matches!(batch.jobs.first(), Some(job) if matches!(job.work, Work::Flush));
            if std::mem::take(&mut batch.lane) {
                self.lane.batches -= 1;
            } else if !flush && count > 0 {
                let cost_ns = u64::try_from(batch.elapsed.as_nanos()).unwrap_or(u64::MAX) / count;
                // One slow job among many must not hide the others' speed for long.
                self.cost_ns = (self.cost_ns / 8).saturating_mul(7) + cost_ns.min(1 << 30) / 8;
            }
            for job in batch.jobs.drain(..) {
                disks.finish(job, out);
            }
            self.spare.push(batch);
        }
    }
}

impl Drop for Crew {
    /// Lets the threads finish what they were given.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process.
            let _ = thread.join();
        }
        while let Ok(batch) = self.done.try_recv() {
            for job in batch.jobs {
                if let Work::Read(lease) | Work::Write(lease) = job.work {
                    self.pool.end(lease);
                }
            }
        }
    }
}
