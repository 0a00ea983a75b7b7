//! The NBD server under real clients: a worker without an engine, whose requests go straight to a
//! file, serves qemu-img, qemu-io, libnbd's tools and fio. Tools that are not installed are
//! skipped, and named.

// Clippy sees the helpers of an integration test as code that is not a test.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::JoinHandle;

use hast::device::FrontEnd;
use hast::device::nbd::{Export, NbdServer, ServerLimits};
use hast::engine::event::{AppOp, AppRequest, BufId, ReqId};
use hast::io::pool::{Piece, Pool, PoolLimits};
use hast::io::proactor::{Completion, Disk, DiskIo, Done, Proactor, Slot, SocketIo};
use hast::io::threads::Threads;
use hast::terms::Errno;

/// A file as a disk.
struct FileDisk(File);

impl Disk for FileDisk {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let zeros = vec![0; 1 << 20];
        let mut at = offset;
        while at < offset + length {
            let step = (offset + length - at).min(1 << 20);
            let bytes = &zeros[..usize::try_from(step).unwrap()];
            self.0.write_all_at(bytes, at).map_err(|_| Errno::EIO)?;
            at += step;
        }
        Ok(())
    }

    fn delete(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.zero(offset, length)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.0.sync_data().map_err(|_| Errno::EIO)
    }
}

/// Whose operation a token names: its topmost byte.
const CONTROL: u64 = 0;
const FRONT_END: u8 = 1;
const DISK: u64 = 2;

/// A worker without replication, on a thread of its own.
struct Worker {
    path: PathBuf,
    control: UnixStream,
    thread: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Worker {
    /// Serves a new file of that many bytes.
    fn start(bytes: u64) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nbd");
        let data = folder.path().join("data");
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.open(data).unwrap();
        file.set_len(bytes).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let (control, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || serve(file, bytes, listener, theirs));
        Worker {
            path,
            control,
            thread: Some(thread),
            folder,
        }
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.path.display())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.control.write_all(b"stop").unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(
            std::thread::panicking() || ended.is_ok(),
            "the worker panicked"
        );
    }
}

/// The worker's thread.
fn serve(file: File, bytes: u64, listener: UnixListener, control: UnixStream) {
    let limits = PoolLimits::default();
    let pool = Pool::new(limits).unwrap();
    let mut io = Threads::new(&pool, 4).unwrap();
    let disk = io.attach_disk(Arc::new(FileDisk(file))).unwrap();
    let control = io.attach_socket(control.into()).unwrap();
    io.socket(control, CONTROL, SocketIo::Readable);
    let export = Export {
        name: "shared".into(),
        bytes,
    };
    let server = NbdServer::new(
        &mut io,
        &pool,
        OwnedFd::from(listener),
        export,
        ServerLimits::default(),
        FRONT_END,
    );
    let mut worker = Loop {
        pool: pool.clone(),
        io,
        disk,
        server: server.unwrap(),
        asked: (0..1024).map(|_| None).collect(),
    };
    worker.run();
    // What clients left behind in the disk threads comes back before anything is counted.
    drop(worker);
    let free = pool.available().map(|free| u32::try_from(free).unwrap());
    assert_eq!(free, limits.buffers, "no buffer is lost");
}

struct Loop {
    pool: Pool,
    io: Threads,
    disk: Slot,
    server: NbdServer,
    asked: Vec<Option<AppRequest>>,
}

impl Loop {
    fn run(&mut self) {
        let mut completions = Vec::new();
        loop {
            while let Some(request) = self.server.next_request() {
                self.ask(request);
            }
            self.server.flush(&mut self.io);
            if self.server.is_stopped() && self.asked.iter().all(Option::is_none) {
                return;
            }
            self.io.wait(None, &mut completions).unwrap();
            for completion in completions.drain(..) {
                self.done(completion);
            }
        }
    }

    fn ask(&mut self, request: AppRequest) {
        let AppRequest {
            id,
            op,
            offset,
            length,
            buf,
        } = request;
        let piece = |buf: Option<BufId>| Piece::first(buf.unwrap(), length);
        let bytes = u64::from(length);
        let op = match op {
            AppOp::Read => DiskIo::Read {
                offset,
                piece: piece(buf),
            },
            AppOp::Write { fua } => DiskIo::Write {
                offset,
                piece: piece(buf),
                fua,
            },
            AppOp::Delete => DiskIo::Delete {
                offset,
                length: bytes,
            },
            AppOp::WriteZeroes { fua } => DiskIo::Zero {
                offset,
                length: bytes,
                fua,
            },
            AppOp::Flush => DiskIo::Flush,
        };
        let slot = &mut self.asked[id.0 as usize];
        assert!(slot.is_none(), "{id:?} is asked twice");
        *slot = Some(request);
        self.io.disk(self.disk, DISK << 56 | u64::from(id.0), op);
    }

    fn done(&mut self, completion: Completion) {
        match (completion.token >> 56, completion.done) {
            (CONTROL, _) => self.server.stop(&mut self.io),
            (DISK, Done::Disk { result, .. }) => {
                let id = ReqId(u32::try_from(completion.token & 0xffff_ffff).unwrap());
                let request = self.asked[id.0 as usize].take().unwrap();
                self.server.complete(id, result, request.buf);
                if let Some(buf) = request.buf {
                    self.pool.release(buf);
                }
            }
            (_, done) => {
                let token = completion.token;
                self.server.done(&mut self.io, Completion { token, done });
            }
        }
    }
}

/// Runs a tool; `None`, and a word about it, if it is not installed.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs a tool that must succeed; returns what it said.
fn succeed(program: &str, args: &[&str]) -> Option<String> {
    let output = run(program, args)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {said}{errors}"
    );
    Some(said)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()
    });
    words.flatten().take(length).collect()
}

#[test]
fn nbdinfo_sees_what_the_export_can_do() {
    let worker = Worker::start(64 << 20);
    let Some(said) = succeed("nbdinfo", &["--json", &worker.uri()]) else {
        return;
    };
    let info: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(info["protocol"], "newstyle-fixed");
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], 64 << 20);
    for can in [
        "can_multi_conn",
        "can_flush",
        "can_fua",
        "can_trim",
        "can_zero",
        "can_df",
    ] {
        assert_eq!(export[can], true, "{can}");
    }
    assert_eq!(export["can_fast_zero"], false);
    assert_eq!(export["block_size_minimum"], 512);
    assert_eq!(export["block_size_preferred"], 4096);
    assert_eq!(export["block_size_maximum"], 32 << 20);
    let list = succeed("nbdinfo", &["--list", &worker.uri()]).unwrap();
    assert!(list.contains("export=\"shared\""), "{list}");
}

#[test]
fn nbdcopy_moves_all_bytes_in_and_out_over_several_connections() {
    let worker = Worker::start(48 << 20);
    let image = worker.folder.path().join("image");
    let bytes = pattern(48 << 20);
    std::fs::write(&image, &bytes).unwrap();
    for size in ["262144", "33554432"] {
        let request = format!("--request-size={size}");
        let args = [&request, "--flush", text(&image), &worker.uri()];
        if succeed("nbdcopy", &args).is_none() {
            return;
        }
        assert!(std::fs::read(worker.data()).unwrap() == bytes);
        let back = worker.folder.path().join("back");
        succeed("nbdcopy", &[&request, &worker.uri(), text(&back)]).unwrap();
        assert!(std::fs::read(&back).unwrap() == bytes);
    }
}

#[test]
fn qemu_io_writes_trims_and_verifies() {
    let worker = Worker::start(64 << 20);
    let commands = [
        "write -P 17 0 3M",
        "write -f -P 18 3M 64k",
        "flush",
        "write -z 1M 512k",
        "discard 2M 512k",
        "read -P 17 0 1M",
        "read -P 0 1M 512k",
        "read -P 17 1536k 512k",
        "read -P 18 3M 64k",
        "writev -P 5 8M 64k 128k 512",
        "read -P 5 8M 197120",
        "write -P 9 30M 30M",
        "read -P 9 30M 30M",
    ];
    let mut args = vec!["-f", "raw"];
    for command in commands {
        args.extend(["-c", command]);
    }
    let uri = worker.uri();
    args.push(&uri);
    let Some(said) = succeed("qemu-io", &args) else {
        return;
    };
    assert!(!said.contains("failed"), "{said}");
    let data = std::fs::read(worker.data()).unwrap();
    let fua = &data[3 << 20..(3 << 20) + 65536];
    assert!(fua.iter().all(|&byte| byte == 18));
}

#[test]
fn qemu_img_converts_and_compares() {
    let worker = Worker::start(32 << 20);
    let image = worker.folder.path().join("image");
    let mut bytes = pattern(32 << 20);
    bytes[8 << 20..16 << 20].fill(0);
    std::fs::write(&image, &bytes).unwrap();
    let (image, uri) = (text(&image), worker.uri());
    let convert = ["convert", "-n", "-f", "raw", "-O", "raw", image, &uri];
    if succeed("qemu-img", &convert).is_none() {
        return;
    }
    let compare = ["compare", "-f", "raw", "-F", "raw", image, &uri];
    succeed("qemu-img", &compare).unwrap();
    assert!(std::fs::read(worker.data()).unwrap() == bytes);
}

#[test]
fn fio_verifies_random_writes() {
    let worker = Worker::start(64 << 20);
    let uri = format!("--uri={}", worker.uri());
    // fio leaves its verify state where it is told to.
    let aux = format!("--aux-path={}", worker.folder.path().display());
    let args = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        &aux,
        "--rw=randwrite",
        "--bsrange=512-256k",
        "--size=64m",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_state_save=0",
    ];
    succeed("fio", &args);
}

#[test]
fn a_client_that_vanishes_with_requests_in_flight_disturbs_nobody() {
    let worker = Worker::start(8 << 20);
    for round in 0..50u64 {
        let mut client = hello(&worker.path);
        for cookie in 0..round {
            let read = request(0, 0, cookie, 0, 1 << 20);
            client.write_all(&read).unwrap();
        }
        client.write_all(&request(0, 1, 99, 0, 65536)).unwrap();
        client.write_all(&[3; 1000]).unwrap();
    }
    let mut client = hello(&worker.path);
    client.write_all(&request(0, 3, 7, 0, 0)).unwrap();
    assert_eq!(simple_reply(&mut client), (0, 7));
}

#[test]
fn long_simple_reads_come_in_one_piece_and_in_order() {
    let worker = Worker::start(40 << 20);
    let bytes = pattern(40 << 20);
    std::fs::write(worker.data(), &bytes).unwrap();
    let mut client = hello(&worker.path);
    let length = 32 << 20;
    let mut asked = Vec::new();
    for cookie in 0..3u32 {
        let offset = u64::from(cookie) << 20;
        asked.extend(request(0, 0, cookie.into(), offset, length));
        asked.extend(request(0, 3, 100 + u64::from(cookie), 0, 0));
    }
    client.write_all(&asked).unwrap();
    let mut reads = 0;
    for _ in 0..6 {
        let (error, cookie) = simple_reply(&mut client);
        assert_eq!(error, 0);
        if cookie < 100 {
            let mut data = vec![0; length as usize];
            client.read_exact(&mut data).unwrap();
            let at = usize::try_from(cookie << 20).unwrap();
            assert!(data == bytes[at..at + data.len()]);
            reads += 1;
        }
    }
    assert_eq!(reads, 3);
}

#[test]
fn invalid_requests_get_their_error_and_the_connection_goes_on() {
    let worker = Worker::start(1 << 20);
    let mut client = hello(&worker.path);
    let mut check = |asked: Vec<u8>, error: u32| {
        client.write_all(&asked).unwrap();
        let head = &asked[..28];
        assert_eq!(simple_reply(&mut client), (error, 5), "{head:?}");
    };
    check(request(0, 0, 5, 1, 512), 22);
    check(request(0, 0, 5, 0, 100), 22);
    check(request(0, 0, 5, 1 << 20, 512), 22);
    check(request(4, 0, 5, 0, 512), 22);
    check(request(0, 4, 5, u64::MAX - 511, 512), 22);
    check(request(0, 6, 5, 512, 1 << 20), 28);
    check(request(16, 6, 5, 0, 512), 22);
    check(request(0, 5, 5, 0, 512), 22);
    check(request(0, 7, 5, 0, 512), 22);
    check(request(0, 3, 5, 0, 512), 22);
    let write = |flags, offset, length: u32| {
        let mut asked = request(flags, 1, 5, offset, length);
        asked.resize(28 + length as usize, 1);
        asked
    };
    check(write(0, 1 << 20, 70_000), 22);
    check(write(0, 1 << 20, 65536), 28);
    check(write(1, 0, 65536), 0);
    check(request(3, 6, 5, 0, 512), 0);
    check(request(1, 4, 5, 512, 512), 0);
    let data = std::fs::read(worker.data()).unwrap();
    assert!(data[..1024].iter().all(|&byte| byte == 0));
    assert!(data[1024..65536].iter().all(|&byte| byte == 1));
    client.write_all(&[0; 28]).unwrap();
    let rest = client.read(&mut [0]).unwrap_or(0);
    assert_eq!(rest, 0, "nonsense ends the connection");
}

#[test]
fn a_client_that_reads_no_replies_occupies_its_share_and_no_more() {
    let worker = Worker::start(8 << 20);
    let mut greedy = hello(&worker.path);
    for cookie in 0..200 {
        let read = request(0, 0, cookie, 0, 1 << 20);
        greedy.write_all(&read).unwrap();
    }
    let mut other = hello(&worker.path);
    for cookie in 0..20 {
        let read = request(0, 0, cookie, 0, 1 << 20);
        other.write_all(&read).unwrap();
        assert_eq!(simple_reply(&mut other), (0, cookie));
        other.read_exact(&mut vec![0; 1 << 20]).unwrap();
    }
}

#[test]
fn silent_clients_make_room_for_others() {
    let worker = Worker::start(1 << 20);
    let silent: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(&worker.path).unwrap())
        .collect();
    let mut client = hello(&worker.path);
    client.write_all(&request(0, 3, 7, 0, 0)).unwrap();
    assert_eq!(simple_reply(&mut client), (0, 7));
    drop(silent);
}

/// Bandwidth of one fio job over NBD, in KiB/s.
fn fio_kib_s(uri: &str, job: &[&str]) -> u64 {
    let uri = format!("--uri={uri}");
    let mut args = vec![
        "--name=speed",
        "--ioengine=nbd",
        &uri,
        "--size=256m",
        "--time_based",
        "--runtime=1",
        "--output-format=json",
    ];
    args.extend(job);
    let said = succeed("fio", &args).unwrap();
    // A hint may come before the result.
    let json = &said[said.find('{').unwrap()..];
    let result: serde_json::Value = serde_json::from_str(json).unwrap();
    let job = &result["jobs"][0];
    let bandwidth = |direction: &str| job[direction]["bw"].as_u64().unwrap();
    bandwidth("read") + bandwidth("write")
}

#[test]
#[ignore = "a measurement: run it alone, with --release and --nocapture"]
fn speed_against_qemu_nbd() {
    let jobs: [(&str, &[&str]); 6] = [
        (
            "randwrite 4k depth 32",
            &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
        ),
        (
            "randread 4k depth 32",
            &["--rw=randread", "--bs=4k", "--iodepth=32"],
        ),
        (
            "write 128k depth 16",
            &["--rw=write", "--bs=128k", "--iodepth=16"],
        ),
        (
            "read 128k depth 16",
            &["--rw=read", "--bs=128k", "--iodepth=16"],
        ),
        (
            "randwrite 4k depth 1",
            &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
        ),
        (
            "randread 4k depth 1",
            &["--rw=randread", "--bs=4k", "--iodepth=1"],
        ),
    ];
    let worker = Worker::start(256 << 20);
    std::fs::write(worker.data(), pattern(256 << 20)).unwrap();
    let path = worker.folder.path().join("qemu");
    let mut qemu = Command::new("qemu-nbd")
        .args(["-f", "raw", "-t", "--cache=writeback", "-k"])
        .args([&path, &worker.data()])
        .spawn()
        .unwrap();
    let bare = format!("nbd+unix:///?socket={}", path.display());
    while UnixStream::connect(&path).is_err() {
        std::thread::yield_now();
    }
    for (name, job) in jobs {
        // Interleaved, so that whatever else the machine does meets both.
        let mut rounds: Vec<(u64, u64)> = (0..5)
            .map(|_| (fio_kib_s(&worker.uri(), job), fio_kib_s(&bare, job)))
            .collect();
        rounds.sort_unstable();
        let ours = rounds[2].0;
        rounds.sort_unstable_by_key(|round| round.1);
        let theirs = rounds[2].1;
        let percent = ours * 100 / theirs;
        eprintln!("{name}: {ours} KiB/s, qemu-nbd {theirs} KiB/s: {percent} %");
    }
    qemu.kill().unwrap();
    qemu.wait().unwrap();
}

/// Connects as the plainest of clients: EXPORT_NAME, simple replies.
fn hello(path: &Path) -> UnixStream {
    let mut client = UnixStream::connect(path).unwrap();
    let mut greeting = [0; 18];
    client.read_exact(&mut greeting).unwrap();
    client.write_all(&3u32.to_be_bytes()).unwrap();
    let option = b"IHAVEOPT\0\0\0\x01\0\0\0\x06shared";
    client.write_all(option).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    client
}

fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// The error and the cookie of a simple reply.
fn simple_reply(client: &mut UnixStream) -> (u32, u64) {
    let mut reply = [0; 16];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], 0x6744_6698u32.to_be_bytes());
    let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
    (error, u64::from_be_bytes(reply[8..].try_into().unwrap()))
}
