//! A load that knows what it wrote: threads that write to the device as fast as it lets them, over
//! connections that they make again when they break.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::copies::Copy;
use super::history::{BLOCK_BYTES, History, WriteId, fill};
use super::nbd::{Client, Command};
use super::rng::Rng;
use super::wait;

/// Longest write, in blocks.
const WRITE_BLOCKS_MAX: u64 = 16;

/// Pause before a connection is tried again, or a paused thread looks again.
const PAUSE: Duration = Duration::from_millis(5);

/// What is written.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many blocks it covers.
    pub blocks: usize,
    /// Connections.
    pub threads: usize,
    /// Requests in flight of each at most.
    pub depth: u64,
    /// Whether writes to the same block may be under way at the same time.
    pub overlapping: bool,
    /// Pause of each thread between batches.
    pub pause: Duration,
    /// Decides the order.
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            offset: 0,
            blocks: 2048,
            threads: 2,
            depth: 8,
            overlapping: false,
            pause: Duration::ZERO,
            seed: 1,
        }
    }
}

#[derive(Debug)]
struct Shared {
    load: Load,
    target: Mutex<PathBuf>,
    history: Mutex<History>,
    ended: AtomicBool,
    paused: AtomicBool,
    /// Threads with requests in flight.
    busy: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
    /// Bytes acknowledged.
    bytes: AtomicU64,
}

/// The load while it runs, and what it knows afterwards.
#[derive(Debug)]
pub struct Writelog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writelog {
    /// Begins to write to that device, whose blocks are zeros.
    pub fn start(load: Load, device: &Path) -> Writelog {
        let shared = Arc::new(Shared {
            history: Mutex::new(History::new(load.blocks)),
            target: Mutex::new(device.to_owned()),
            ended: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            busy: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            load,
        });
        let threads = (0..shared.load.threads)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || Writer::new(&shared, number).run())
            })
            .collect();
        Writelog { shared, threads }
    }

    /// New connections go to another device.
    pub fn go_to(&self, device: &Path) {
        device.clone_into(&mut lock(&self.shared.target));
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Bytes acknowledged so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Writes that the device said have failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn wait_for(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        wait::until("writes to be acknowledged", wait::PATIENCE, || {
            (self.acknowledged() >= wanted).then_some(())
        });
    }

    /// Lets it rest: when this returns nothing is in flight on a connection that stands.
    ///
    /// # Panics
    /// If what is in flight is not answered in time.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        wait::until("answers to writes in flight", wait::PATIENCE, || {
            (self.shared.busy.load(Ordering::SeqCst) == 0).then_some(())
        });
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Ends it; what it knows stays.
    ///
    /// # Panics
    /// If a thread did.
    pub fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Checks every block of a copy that nobody writes to; from now on it has to stay as it is.
    ///
    /// # Panics
    /// If an acknowledged write is not there.
    pub fn verify(&self, what: &str, mut read: impl FnMut(u64, &mut [u8])) {
        let mut history = lock(&self.shared.history);
        let mut wrong = Vec::new();
        let mut chunk = vec![0; 64 * BLOCK_BYTES];
        for first in (0..history.blocks()).step_by(64) {
            let count = (history.blocks() - first).min(64);
            let bytes = &mut chunk[..count * BLOCK_BYTES];
            read(
                self.shared.load.offset + (first * BLOCK_BYTES) as u64,
                bytes,
            );
            for (at, bytes) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
                wrong.extend(history.settle(first + at, bytes).err());
            }
        }
        let shown: Vec<String> = wrong.iter().take(8).map(ToString::to_string).collect();
        assert!(
            wrong.is_empty(),
            "{what}: {} of {} blocks are wrong after {} acknowledged writes: {shown:#?}",
            wrong.len(),
            history.blocks(),
            self.acknowledged()
        );
    }

    /// [`Writelog::verify`] through a device.
    ///
    /// # Panics
    /// If an acknowledged write is not there, or the device cannot be read.
    pub fn verify_device(&self, device: &Path) {
        let what = device.display().to_string();
        let mut client = Client::connect(device).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.verify(&what, |offset, bytes| {
            client
                .read(offset, bytes)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        });
    }

    /// [`Writelog::verify`] on a local component.
    ///
    /// # Panics
    /// If an acknowledged write is not there, or it cannot be read.
    pub fn verify_copy(&self, copy: &Copy) {
        self.verify(&copy.path.display().to_string(), |offset, bytes| {
            copy.read(offset, bytes);
        });
    }
}

impl Drop for Writelog {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

/// A write that is under way.
#[derive(Clone, Debug)]
struct Flight {
    cookie: u64,
    id: WriteId,
    blocks: Range<usize>,
}

struct Writer<'s> {
    shared: &'s Shared,
    rng: Rng,
    /// The blocks that it writes to.
    range: Range<u64>,
    flights: Vec<Flight>,
}

impl<'s> Writer<'s> {
    fn new(shared: &'s Shared, number: usize) -> Writer<'s> {
        let load = &shared.load;
        let all = load.blocks as u64;
        let range = if load.overlapping {
            0..all
        } else {
            let share = all / load.threads as u64;
            let first = share * number as u64;
            first..first + share
        };
        Writer {
            shared,
            rng: Rng::new(load.seed.wrapping_mul(1000).wrapping_add(number as u64)),
            range,
            flights: Vec::new(),
        }
    }

    fn ended(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }

    fn run(&mut self) {
        while !self.ended() {
            let target = lock(&self.shared.target).clone();
            match Client::connect(&target) {
                Ok(client) => {
                    self.shared.connections.fetch_add(1, Ordering::Relaxed);
                    // The worker that had them is gone.
                    self.abandon();
                    self.serve(client);
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn abandon(&mut self) {
        let mut history = lock(&self.shared.history);
        for flight in self.flights.drain(..) {
            history.abandoned(flight.id, flight.blocks);
        }
    }

    /// Writes until the connection breaks or the load ends.
    fn serve(&mut self, mut client: Client) {
        while !self.ended() {
            // Counted before the look, so that whoever pauses sees one or the other.
            self.shared.busy.fetch_add(1, Ordering::SeqCst);
            if self.shared.paused.load(Ordering::SeqCst) {
                self.shared.busy.fetch_sub(1, Ordering::SeqCst);
                thread::sleep(PAUSE);
                continue;
            }
            let done = self.batch(&mut client);
            self.shared.busy.fetch_sub(1, Ordering::SeqCst);
            if done.is_err() {
                return;
            }
            if !self.shared.load.pause.is_zero() {
                thread::sleep(self.shared.load.pause);
            }
        }
    }

    /// Sends some writes at once and waits for all of them.
    fn batch(&mut self, client: &mut Client) -> io::Result<()> {
        let count = self.rng.between(1, self.shared.load.depth);
        for _ in 0..count {
            let blocks = self.place();
            let clashes = self
                .flights
                .iter()
                .any(|other| other.blocks.start < blocks.end && blocks.start < other.blocks.end);
            if clashes && !self.shared.load.overlapping {
                continue;
            }
            self.write(client, blocks)?;
        }
        let flush = self.rng.one_in(16);
        let flush = flush
            .then(|| client.send(Command::Flush, false, 0, 0, &[]))
            .transpose()?;
        let mut flush_left = flush;
        while !self.flights.is_empty() || flush_left.is_some() {
            let (cookie, result) = client.reply()?;
            if flush_left == Some(cookie) {
                flush_left = None;
                continue;
            }
            let at = self.flights.iter().position(|other| other.cookie == cookie);
            let flight = self
                .flights
                .swap_remove(at.unwrap_or_else(|| panic!("a reply to no request: {cookie}")));
            let mut history = lock(&self.shared.history);
            match result {
                Ok(()) => {
                    let bytes = (flight.blocks.len() * BLOCK_BYTES) as u64;
                    history.acknowledged(flight.id, flight.blocks);
                    self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(_) => {
                    history.abandoned(flight.id, flight.blocks);
                    self.shared.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Blocks to write: few most of the time.
    fn place(&mut self) -> Range<usize> {
        let longest = if self.rng.one_in(4) {
            WRITE_BLOCKS_MAX
        } else {
            2
        };
        let available = self.range.end - self.range.start;
        let count = self.rng.between(1, longest.min(available));
        let first = self.range.start + self.rng.below(available - count + 1);
        let index = |block| usize::try_from(block).unwrap_or(usize::MAX);
        index(first)..index(first + count)
    }

    fn write(&mut self, client: &mut Client, blocks: Range<usize>) -> io::Result<()> {
        let id = lock(&self.shared.history).begin(blocks.clone());
        let mut data = Vec::with_capacity(blocks.len() * BLOCK_BYTES);
        let mut block = [0; BLOCK_BYTES];
        for number in blocks.clone() {
            fill(number as u64, id, &mut block);
            data.extend_from_slice(&block);
        }
        // Noted before it is sent: it may take effect even if sending fails.
        self.flights.push(Flight {
            cookie: 0,
            id,
            blocks: blocks.clone(),
        });
        let offset = self.shared.load.offset + (blocks.start * BLOCK_BYTES) as u64;
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let fua = self.rng.one_in(16);
        let cookie = if id % 5 == 0 && self.rng.one_in(2) {
            client.send(Command::WriteZeroes, fua, offset, length, &[])?
        } else {
            client.send(Command::Write, fua, offset, length, &data)?
        };
        if let Some(flight) = self.flights.last_mut() {
            flight.cookie = cookie;
        }
        Ok(())
    }
}

/// Writes that are acknowledged per second, over some time.
pub fn rate(log: &Writelog, over: Duration) -> u64 {
    let (since, before) = (Instant::now(), log.acknowledged());
    thread::sleep(over);
    let elapsed = since.elapsed().as_millis().max(1);
    let done = u128::from(log.acknowledged() - before);
    u64::try_from(done * 1000 / elapsed).unwrap_or(u64::MAX)
}
