//! A TCP proxy: a wire that can be held, broken and measured without any privileges.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::link::connect_from;

#[derive(Debug, Default)]
struct Shared {
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
    /// Listens on `front`; what comes is forwarded to `target`, the same port, from `source`.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(
        front: Ipv4Addr,
        port: u16,
        source: Ipv4Addr,
        target: Ipv4Addr,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::bind((front, port))?;
        let shared = Arc::new(Shared::default());
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
            thread::spawn(move || forward(&shared, from, to));
        }
    }
}

fn forward(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
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
    // Either may be closed already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
