//! The portable driver: sockets by poll(2) on the caller's thread, disks by a pool of threads.
//!
//! A send is tried at once and polled for only if the socket is full; a receive is tried at once
//! as long as that is likely to find something: after one that filled all its room, and the more
//! seldom the more often it was in vain. One call of [`Proactor::wait`] thus costs one poll, and a
//! system call for each socket that is ready; the disk threads wake it once per batch, and only if
//! it sleeps.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, SockFlag, accept4, sendmsg};
use nix::sys::uio::readv;

use super::crew::{Crew, THREADS_MAX};
use super::disks::Disks;
use super::jobs::Waker;
use super::outgoing::Outgoing;
use super::pool::{Access, Lease, Pool};
use super::proactor::{Completion, Disk, DiskIo, Done, Proactor, Slot, SocketIo, Token};
use super::{set_nonblocking, sys};

/// Descriptors that a driver has at most.
const SLOTS_MAX: u16 = 1024;

/// After how many receives in vain, as a power of two, one is tried again.
const VAIN_MAX: u32 = 6;

/// The driver. It stays on the thread that made it.
pub struct Threads {
    pool: Pool,
    disks: Disks,
    crew: Crew,
    sockets: Vec<Option<Socket>>,
    waker: Arc<Waker>,
    /// The reading end of the waker's pipe.
    wakeups: OwnedFd,
    /// Completions that the next `wait` returns.
    done: VecDeque<Completion>,
    polled: Vec<libc::pollfd>,
    polled_slots: Vec<Slot>,
    /// The last `wait` had completions without looking at the sockets.
    sockets_passed_over: bool,
}

struct Socket {
    fd: OwnedFd,
    receive: Option<Receive>,
    send: Option<(Token, Outgoing)>,
    accept: Option<Token>,
    readable: Option<Token>,
    hang_up: Option<Token>,
    /// More may have arrived already than was received.
    more: bool,
    /// After so many receives the next is tried at once; so many tries in a row were in vain.
    try_after: u32,
    vain: u32,
}

struct Receive {
    token: Token,
    into: [Option<Lease>; 2],
}

impl Threads {
    /// A driver with so many disk threads, 1..=64, whose operations name buffers of
    /// that pool.
    ///
    /// # Errors
    /// The system refuses a pipe or a thread.
    pub fn new(pool: &Pool, threads: usize) -> std::io::Result<Threads> {
        let (waker, wakeups) = Waker::new()?;
        let waker = Arc::new(waker);
        Ok(Threads {
            pool: pool.clone(),
            disks: Disks::new(pool),
            crew: Crew::new(pool, threads.clamp(1, THREADS_MAX), &waker)?,
            sockets: Vec::new(),
            waker,
            wakeups,
            done: VecDeque::new(),
            polled: Vec::new(),
            polled_slots: Vec::new(),
            sockets_passed_over: false,
        })
    }

    fn free_slot(&mut self) -> std::io::Result<Slot> {
        for index in 0..SLOTS_MAX {
            let slot = Slot(index);
            let socket = self.sockets.get(usize::from(index));
            if !self.disks.has(slot) && socket.is_none_or(Option::is_none) {
                return Ok(slot);
            }
        }
        Err(std::io::Error::from_raw_os_error(libc::EMFILE))
    }

    fn socket_at(&mut self, slot: Slot) -> Option<&mut Socket> {
        self.sockets
            .get_mut(usize::from(slot.0))
            .and_then(Option::as_mut)
    }

    fn push(&mut self, token: Token, done: Done) {
        self.done.push_back(Completion { token, done });
    }

    /// Goes on with everything of a socket that `revents` makes possible.
    fn socket_ready(&mut self, slot: Slot, revents: libc::c_short) {
        // Errors and hang-ups are found out by trying.
        let broken = revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        if broken && let Some(token) = self.socket_at(slot).and_then(|s| s.hang_up.take()) {
            self.push(token, Done::HungUp(Ok(())));
        }
        if revents & libc::POLLOUT != 0 || broken {
            self.try_send(slot);
        }
        if revents & libc::POLLIN == 0 && !broken {
            return;
        }
        self.try_receive(slot);
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        if let Some(token) = socket.readable.take() {
            self.push(token, Done::Readable(Ok(())));
        }
        self.try_accept(slot);
    }

    fn try_send(&mut self, slot: Slot) {
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        let Some((token, mut out)) = socket.send.take() else {
            return;
        };
        let result = loop {
            if out.is_empty() {
                break Ok(());
            }
            let fd = socket.fd.as_raw_fd();
            let sent =
                out.next(|slices| sendmsg::<()>(fd, slices, &[], MsgFlags::MSG_NOSIGNAL, None));
            match sent {
                Ok(sent) => out.advance(sent),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    socket.send = Some((token, out));
                    return;
                }
                Err(error) => {
                    out.clear();
                    break Err(error.into());
                }
            }
        };
        self.push(token, Done::Sent(result, out));
    }

    fn try_receive(&mut self, slot: Slot) {
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        let Some(mut receive) = socket.receive.take() else {
            return;
        };
        let (room, received) = loop {
            let [first, second] = receive.into.each_mut().map(|lease| {
                let bytes = lease.as_mut().map(Lease::bytes_mut).unwrap_or_default();
                IoSliceMut::new(bytes)
            });
            let room = first.len() + second.len();
            let slices = &mut [first, second];
            let slices = if slices[0].is_empty() {
                &mut slices[1..]
            } else {
                &mut slices[..]
            };
            match readv(&socket.fd, slices) {
                Err(nix::errno::Errno::EINTR) => {}
                received => break (room, received),
            }
        };
        if received == Err(nix::errno::Errno::EAGAIN) {
            socket.more = false;
            socket.receive = Some(receive);
            return;
        }
        socket.more = received == Ok(room);
        for lease in receive.into.into_iter().flatten() {
            self.pool.end(lease);
        }
        self.push(
            receive.token,
            Done::Received(received.map_err(std::io::Error::from)),
        );
    }

    fn receive_at_once(&mut self, slot: Slot) {
        self.try_receive(slot);
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        if socket.receive.is_none() {
            (socket.try_after, socket.vain) = (0, 0);
        } else {
            socket.try_after = (1 << socket.vain) - 1;
            socket.vain = (socket.vain + 1).min(VAIN_MAX);
        }
    }

    fn try_accept(&mut self, slot: Slot) {
        let Some(socket) = self.socket_at(slot) else {
            return;
        };
        let Some(token) = socket.accept.take() else {
            return;
        };
        let accepted = loop {
            match accept4(&socket.fd, SockFlag::SOCK_CLOEXEC) {
                Err(nix::errno::Errno::EAGAIN) => {
                    socket.accept = Some(token);
                    return;
                }
                // Gone before it was accepted: the next one, perhaps.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
                Err(error) => break Err(error.into()),
                Ok(fd) => break Ok(fd),
            }
        };
        self.push(token, Done::Accepted(accepted));
    }

    /// Polls the sockets that wait for something, and the disks' wake-ups if it may sleep.
    fn poll(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        self.polled.clear();
        self.polled_slots.clear();
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps {
            let wakeups = sys::pollfd(self.wakeups.as_raw_fd(), libc::POLLIN);
            self.polled.push(wakeups);
        }
        for (index, socket) in (0u16..).zip(&self.sockets) {
            let Some(socket) = socket else { continue };
            let mut events = 0;
            if socket.receive.is_some() || socket.accept.is_some() || socket.readable.is_some() {
                events |= libc::POLLIN;
            }
            if socket.send.is_some() {
                events |= libc::POLLOUT;
            }
            if events != 0 || socket.hang_up.is_some() {
                self.polled.push(sys::pollfd(socket.fd.as_raw_fd(), events));
                self.polled_slots.push(Slot(index));
            }
        }
        if self.polled.is_empty() {
            return Ok(());
        }
        let polled = sys::poll(&mut self.polled, timeout);
        if sleeps && self.polled[0].revents != 0 {
            let mut bytes = [0; 16];
            let _ = nix::unistd::read(&self.wakeups, &mut bytes);
        }
        polled?;
        let sockets_at = usize::from(sleeps);
        for index in 0..self.polled_slots.len() {
            let revents = self.polled[sockets_at + index].revents;
            if revents != 0 {
                self.socket_ready(self.polled_slots[index], revents);
            }
        }
        Ok(())
    }

    /// Takes over what the disk threads have finished, does what can be done at once, and gives
    /// the threads the rest: what was submitted, and flushes that follow from what was finished.
    fn serve_disks(&mut self) {
        self.crew.collect(&mut self.disks, &mut self.done);
        self.disks.write_cached(&mut self.done);
        self.crew.dispatch(&mut self.disks);
    }
}

impl Proactor for Threads {
    fn attach_disk(&mut self, disk: Arc<dyn Disk>) -> std::io::Result<Slot> {
        let slot = self.free_slot()?;
        self.disks.attach(slot, disk)?;
        Ok(slot)
    }

    fn attach_socket(&mut self, fd: OwnedFd) -> std::io::Result<Slot> {
        let slot = self.free_slot()?;
        set_nonblocking(&fd)?;
        let index = usize::from(slot.0);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket {
            fd,
            receive: None,
            send: None,
            accept: None,
            readable: None,
            hang_up: None,
            more: false,
            try_after: 0,
            vain: 0,
        });
        Ok(slot)
    }

    fn detach(&mut self, slot: Slot) {
        self.disks.detach(slot);
        let socket = self.sockets.get_mut(usize::from(slot.0));
        let Some(socket) = socket.and_then(Option::take) else {
            return;
        };
        let cancelled = || std::io::Error::from_raw_os_error(libc::ECANCELED);
        if let Some(receive) = socket.receive {
            for lease in receive.into.into_iter().flatten() {
                self.pool.end(lease);
            }
            self.push(receive.token, Done::Received(Err(cancelled())));
        }
        if let Some((token, mut out)) = socket.send {
            out.clear();
            self.push(token, Done::Sent(Err(cancelled()), out));
        }
        if let Some(token) = socket.accept {
            self.push(token, Done::Accepted(Err(cancelled())));
        }
        if let Some(token) = socket.readable {
            self.push(token, Done::Readable(Err(cancelled())));
        }
        if let Some(token) = socket.hang_up {
            self.push(token, Done::HungUp(Err(cancelled())));
        }
    }

    fn disk(&mut self, slot: Slot, token: Token, op: DiskIo) {
        self.disks.submit(slot, token, op, &mut self.done);
    }

    fn socket(&mut self, slot: Slot, token: Token, op: SocketIo) {
        let pool = self.pool.clone();
        let Some(socket) = self.socket_at(slot) else {
            let gone = std::io::Error::from_raw_os_error(libc::EBADF);
            return self.push(token, op.refused(gone));
        };
        match op {
            SocketIo::Receive { into } => {
                assert!(socket.receive.is_none(), "one receive at a time");
                let into = into.map(|piece| piece.map(|p| pool.lease(p, Access::Exclusive)));
                socket.receive = Some(Receive { token, into });
                if socket.more || socket.try_after == 0 {
                    self.receive_at_once(slot);
                } else {
                    socket.try_after -= 1;
                }
            }
            SocketIo::Send(out) => {
                assert!(socket.send.is_none(), "one send at a time");
                socket.send = Some((token, out));
                self.try_send(slot);
            }
            SocketIo::Accept => socket.accept = Some(token),
            SocketIo::Readable => socket.readable = Some(token),
            SocketIo::HangUp => socket.hang_up = Some(token),
        }
    }

    fn is_ready(&self) -> bool {
        !self.done.is_empty() || self.crew.has_finished()
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        self.serve_disks();
        if self.done.is_empty() {
            self.waker.sleeps();
            // What was finished before that store woke nobody.
            self.serve_disks();
        }
        // Sockets are looked at every other time at least, however busy the disks are.
        let busy = !self.done.is_empty();
        let pass_over = busy && !self.sockets_passed_over;
        self.sockets_passed_over = pass_over;
        let polled = if pass_over {
            Ok(())
        } else {
            self.poll(if busy { Some(Duration::ZERO) } else { timeout })
        };
        self.waker.awake();
        polled?;
        self.serve_disks();
        completions.extend(self.done.drain(..));
        Ok(())
    }
}

#[cfg(test)]
fn driver_for_tests() -> Option<(Pool, Threads)> {
    let pool = Pool::new(super::pool::PoolLimits::default()).unwrap();
    let io = Threads::new(&pool, 4).unwrap();
    Some((pool, io))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
#[allow(clippy::duplicate_mod, reason = "each driver runs the same tests")]
mod tests;
