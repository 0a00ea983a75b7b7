//! What the system call filter costs a worker: the calls of a small write and its reply, timed before
//! and after the filter of a primary is installed. Prints both in nanoseconds, the best of some
//! rounds, and their ratio.

#[cfg(target_os = "linux")]
fn main() {
    use sandbox::policy::{Features, Kind};
    use std::io::{Read, Write};
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const ROUNDS: usize = 50;
    const CALLS: u32 = 2000;

    let file = tempfile::tempfile().expect("a temporary file can be made");
    let (mut ours, mut theirs) = UnixStream::pair().expect("sockets can be made");
    let mut block = vec![7; 4096];
    let mut fastest = || {
        let mut round = || {
            let start = Instant::now();
            for _ in 0..CALLS {
                ours.write_all(&block).expect("the other end is open");
                theirs.read_exact(&mut block).expect("so is this one");
                file.write_all_at(&block, 0).expect("the file is writable");
            }
            start.elapsed() / CALLS
        };
        (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::MAX)
    };
    let without = fastest();
    sandbox::install_filter(Kind::Primary, Features::default()).expect("the filter is accepted");
    let with = fastest();
    println!(
        "a write of 4 KiB (three calls): {} ns without the filter, {} ns with it, ratio {:.3}",
        without.as_nanos(),
        with.as_nanos(),
        with.as_secs_f64() / without.as_secs_f64()
    );
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("there is no filter of system calls on this system");
}
