//! A TCP proxy: a wire that can be held, broken and measured without any privileges.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::link::connect_from;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks under way at most where there is a delay: what a very fast link would hold. In chunks
/// that are full, a second's worth at 1 GiB/s.
const CHUNKS_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Shared {
    /// Each way.
    delay: Duration,
    held: Mutex<bool>,
    freed: Condvar,
    bytes: AtomicU64,
    ended: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// Forwards connections to one address.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    front: Ipv4Addr,
}

impl Proxy {
    /// Listens on `front`; what comes is forwarded to `target`, the same port, from `source`, and
    /// takes `delay` each way.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(
        front: Ipv4Addr,
        port: u16,
        source: Ipv4Addr,
        target: Ipv4Addr,
        delay: Duration,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::bind((front, port))?;
        let shared = Arc::new(Shared {
            delay,
            ..Shared::default()
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                of_thread.wait();
                if of_thread.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A node that does not listen is one that refuses: the client is closed.
                if let Ok(server) = connect_from(source, target) {
                    join(&of_thread, client, server);
                }
            }
        });
        Ok(Proxy { shared, front })
    }

    /// Holds everything that comes, new connections included, or lets it go on.
    pub fn hold(&self, held: bool) {
        *lock(&self.shared.held) = held;
        self.shared.freed.notify_all();
    }

    /// Breaks all connections.
    pub fn reset(&self) {
        for connection in lock(&self.shared.connections).drain(..) {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Bytes forwarded so far, in both directions.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.hold(false);
        self.reset();
        // Wakes the thread that accepts, which ends; if it cannot be reached it has ended.
        let _ = TcpStream::connect((self.front, super::link::PORT));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn wait(&self) {
        let mut held = lock(&self.held);
        while *held {
            held = self
                .freed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let pairs = [
        (client.try_clone(), server.try_clone()),
        (server.try_clone(), client.try_clone()),
    ];
    for stream in [&client, &server] {
        // Without it latency suffers, nothing else.
        let _ = stream.set_nodelay(true);
    }
    let mut connections = lock(&shared.connections);
    connections.push(client);
    connections.push(server);
    for pair in pairs {
        if let (Ok(from), Ok(to)) = pair {
            let shared = Arc::clone(shared);
            thread::spawn(move || match shared.delay {
                Duration::ZERO => forward(&shared, from, to),
                _ => forward_late(&shared, &from, to),
            });
        }
    }
}

fn forward(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count) = from.read(&mut buffer) {
        shared.wait();
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        if to.write_all(bytes).is_err() {
            break;
        }
        shared
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    close(&from, &to);
}

/// As [`forward`], later. One thread reads at once, so that what is under way does not slow the
/// sender down, and this one writes when it is time.
fn forward_late(shared: &Arc<Shared>, from: &TcpStream, mut to: TcpStream) {
    let (sender, chunks) = sync_channel(CHUNKS_MAX);
    let (reading, delay) = (Arc::clone(shared), shared.delay);
    let Ok(mut source) = from.try_clone() else {
        close(from, &to);
        return;
    };
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = source.read(&mut buffer) {
            reading.wait();
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if sender
                .send((Instant::now() + delay, bytes.to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    deliver(shared, &chunks, &mut to);
    close(from, &to);
}

fn deliver(shared: &Shared, chunks: &Receiver<(Instant, Vec<u8>)>, to: &mut TcpStream) {
    while let Ok((due, bytes)) = chunks.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            return;
        }
        shared
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

fn close(from: &TcpStream, to: &TcpStream) {
    // Either may be closed already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
