//! Threads that wait in START and hand what they get to the worker.
//!
//! A request's data travel in the thread's buffer, for which the worker gives back another one:
//! when it has none to give, or does not take what there is, the threads wait, and requests wait
//! in the kernel. The worker sleeps in its driver meanwhile: a byte in a pipe wakes it, one for all
//! that has gathered.
//!
//! The threads exist before the process is confined, and begin with the first buffer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::buffer::Buffer;
use super::gate::Gate;
use super::layout::Io;

/// Threads that wait in START. One copies data out of the kernel while another waits.
pub(super) const THREADS: usize = 2;

/// Length of a buffer at first, in bytes: the longest request of most file systems.
pub(super) const BUFFER_BYTES: usize = 128 * 1024;

/// Longest request that is taken from the kernel, in bytes. Data are never longer than the
/// kernel's `maxphys`, some MiB; a delete is as long as `kern.geom.dev.delete_max_sectors`, 1 GiB
/// with sectors of 4 KiB, and the kernel may want a buffer for it, which it does not touch.
pub(super) const LENGTH_MAX: u64 = 64 << 30;

/// Buffers longer than this are not kept, in bytes.
const KEPT_BYTES: usize = 1024 * 1024;

/// Writes whose data wait for the worker, at most.
const BUFFERS: usize = 32;

/// Requests that wait for the worker, at most.
const WAITING: usize = 64;

/// FreeBSD's numbers, which are also what `gctl_error` holds.
const ENOMEM: i32 = 12;
const ECANCELED: i32 = 85;

/// A request of the kernel.
pub(super) struct Started {
    /// Its number.
    pub(super) seq: usize,
    /// A command of bio(9), as the kernel numbers it.
    pub(super) cmd: u32,
    /// Where, in bytes.
    pub(super) offset: i64,
    /// How many bytes.
    pub(super) length: i64,
    /// The buffer that START was given: a write's data. It is to be given back.
    pub(super) data: Option<Buffer>,
}

/// What a thread tells.
pub(super) enum News {
    /// A request.
    Started(Started),
    /// The provider is gone. The thread has ended.
    Gone,
    /// It cannot go on, and has ended: why, in words.
    Failed(String),
}

/// The worker's end of the threads.
pub(super) struct Intake {
    news: Receiver<News>,
    buffers: Sender<Buffer>,
    signalled: Arc<AtomicBool>,
    started: bool,
}

/// The threads' end.
struct Thread {
    gate: Arc<dyn Gate>,
    unit: i32,
    news: Sender<News>,
    buffers: Receiver<Buffer>,
    signalled: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Intake {
    /// Makes the threads, which wait for [`Intake::start`]. Returns the pipe that becomes readable
    /// when there is news.
    ///
    /// `carries_data` tells from a command's number whether it is a write.
    ///
    /// # Errors
    /// The system refuses a pipe or a thread.
    pub(super) fn new(
        gate: &Arc<dyn Gate>,
        unit: i32,
        carries_data: impl Fn(u32) -> bool + Send + Clone + 'static,
    ) -> io::Result<(Intake, OwnedFd)> {
        let (readable, wake) = nix::unistd::pipe()?;
        set_up(&readable)?;
        set_up(&wake)?;
        let wake = Arc::new(wake);
        let signalled = Arc::new(AtomicBool::new(false));
        let (news_in, news) = bounded(WAITING);
        let (buffers, buffers_out) = bounded(BUFFERS);
        for number in 0..THREADS {
            let thread = Thread {
                gate: Arc::clone(gate),
                unit,
                news: news_in.clone(),
                buffers: buffers_out.clone(),
                signalled: Arc::clone(&signalled),
                wake: Arc::clone(&wake),
            };
            let carries_data = carries_data.clone();
            std::thread::Builder::new()
                .name(format!("ggate {number}"))
                .spawn(move || thread.run(carries_data))?;
        }
        let intake = Intake {
            news,
            buffers,
            signalled,
            started: false,
        };
        Ok((intake, readable))
    }

    /// Lets the threads begin; does nothing the second time.
    ///
    /// # Errors
    /// The system refuses memory.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        for _ in 0..BUFFERS {
            let buffer = Buffer::new(BUFFER_BYTES)?;
            // It fits, and if the threads have ended nobody needs it.
            let _ = self.buffers.try_send(buffer);
        }
        Ok(())
    }

    /// To be called after the pipe was read, before [`Intake::next`].
    pub(super) fn woken(&self) {
        self.signalled.store(false, Ordering::SeqCst);
    }

    /// The next news, if there are any. Once this has returned `None` the pipe tells of more.
    pub(super) fn next(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&self, buffer: Buffer) {
        let buffer = if buffer.len() > KEPT_BYTES {
            drop(buffer);
            match Buffer::new(BUFFER_BYTES) {
                Ok(buffer) => buffer,
                // One less; memory is short.
                Err(_) => return,
            }
        } else {
            buffer
        };
        // As many as were given out fit.
        let _ = self.buffers.try_send(buffer);
    }
}

/// What START brought.
enum Round {
    Request(Started),
    /// A longer buffer is needed, of so many bytes.
    Longer(i64),
    Gone,
    Again,
    Failed(io::Error),
}

impl Thread {
    fn run(&self, carries_data: impl Fn(u32) -> bool) {
        // To a thread that waits in START a signal looks like the end of the provider.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        while let Ok(mut buffer) = self.buffers.recv() {
            loop {
                let news = match self.wait(&mut buffer) {
                    Round::Again => continue,
                    Round::Longer(length) => match longer(length) {
                        Ok(longer) => {
                            buffer = longer;
                            continue;
                        }
                        Err(reason) => News::Failed(reason),
                    },
                    Round::Gone => News::Gone,
                    Round::Failed(error) => {
                        let reason = crate::terms::system_reason(&error);
                        News::Failed(format!("Unable to wait for requests: {reason}."))
                    }
                    Round::Request(mut started) => {
                        if carries_data(started.cmd) {
                            started.data = Some(buffer);
                            if !self.tell(News::Started(started)) {
                                return;
                            }
                            break;
                        }
                        if !self.tell(News::Started(started)) {
                            return;
                        }
                        continue;
                    }
                };
                self.tell(news);
                return;
            }
        }
    }

    fn wait(&self, buffer: &mut Buffer) -> Round {
        let mut request = Io::new(self.unit);
        request.length = i64::try_from(buffer.len()).unwrap_or(i64::MAX);
        match self.gate.start(&mut request, buffer) {
            Ok(()) => match request.error {
                0 => Round::Request(Started {
                    seq: request.seq,
                    cmd: request.cmd,
                    offset: request.offset,
                    length: request.length,
                    data: None,
                }),
                ENOMEM => Round::Longer(request.length),
                ECANCELED => Round::Gone,
                other => Round::Failed(io::Error::from_raw_os_error(other)),
            },
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Round::Gone,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Round::Again,
            Err(error) => Round::Failed(error),
        }
    }

    /// Whether there is still anybody who listens.
    fn tell(&self, news: News) -> bool {
        if self.news.send(news).is_err() {
            return false;
        }
        if !self.signalled.swap(true, Ordering::SeqCst) {
            // A pipe that is full wakes the worker as well.
            let _ = nix::unistd::write(&*self.wake, &[0]);
        }
        true
    }
}

/// A buffer for a request that the last one was too short for.
fn longer(length: i64) -> Result<Buffer, String> {
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    if wanted > LENGTH_MAX {
        return Err(format!(
            "The kernel asks for {length} bytes at once; at most {LENGTH_MAX} are supported."
        ));
    }
    usize::try_from(wanted)
        .map_err(io::Error::other)
        .and_then(Buffer::new)
        .map_err(|error| {
            let reason = crate::terms::system_reason(&error);
            format!("Unable to get memory for a request of {length} bytes: {reason}.")
        })
}

fn set_up(end: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
