//! Strangers, and peers that mean no good.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hast::wire::packet;
use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::{
    Cluster, Load, ResourceConf, Setup, Side, Writelog, long, process, rounds,
};

/// Within which `hastctl status` answers, whatever a peer does.
const STATUS: Duration = Duration::from_millis(100);

/// A primary's first packet.
fn hello(resource: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet::write(&mut bytes, 1, |pairs| {
        pairs.string("resource", resource);
        pairs.u8("version", 2);
    });
    bytes
}

/// Asks for the status again and again and returns how long each answer took, sorted.
fn answer_times(cluster: &Cluster, side: Side, times: u32) -> Vec<Duration> {
    let mut found: Vec<Duration> = (0..times)
        .map(|_| {
            let since = Instant::now();
            cluster.status(side);
            since.elapsed()
        })
        .collect();
    found.sort();
    found
}

/// The usual answer is quick. A machine that is busy with other things may delay one or another.
fn must_be_quick(times: &[Duration], during: &str) {
    let at = times.len() * 9 / 10;
    println!(
        "{during}: status answered in {:?} (median), {:?} (9 of 10), {:?} (all)",
        times[times.len() / 2],
        times[at],
        times[times.len() - 1]
    );
    assert!(times[at] < STATUS, "{during}: {times:?}");
}

/// Whether the other end ends the connection, in whichever way.
fn closes(mut stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        // With what was sent unread.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn stranger_is_turned_away_without_a_word() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let mut log = Writelog::start(Load::default(), &device);
    for side in Side::BOTH {
        let Ok(mut stream) = cluster.link.connect_as_stranger(side) else {
            panic!("{side} cannot be reached");
        };
        // It may be closed before this is sent.
        let _ = stream.write_all(&hello("data"));
        let mut answer = [0; 1];
        let count = stream.read(&mut answer).unwrap_or(0);
        assert_eq!(count, 0, "{side} answered a stranger");
    }
    log.wait_for(50);
    log.stop();
    assert!(cluster.status(Side::Alpha).is_complete());
    assert_eq!(log.connections(), 2);
}

#[test]
fn admitted_peer_that_misbehaves_costs_a_line_in_the_log() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let load = Load {
        pause: Duration::from_millis(20),
        ..Load::default()
    };
    let mut log = Writelog::start(load, &device);
    log.wait_for(10);
    let mut garbage = vec![0; 4096];
    let mut rng = Rng::new(1);
    garbage.fill_with(|| rng.next().to_le_bytes()[0]);
    let behaviours: [(&str, &[u8]); 5] = [
        ("says nothing", &[]),
        ("sends garbage", &garbage),
        ("announces 4 GiB", &[2, 0xff, 0xff, 0xff, 0xff]),
        ("sends an empty packet", &[2, 0, 0, 0, 0]),
        ("sends half a packet", &hello("data")[..9]),
    ];
    let silent: Vec<TcpStream> = behaviours
        .iter()
        .map(|(what, bytes)| {
            let mut stream = cluster
                .link
                .connect_as_peer(Side::Beta)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            // It may be closed before everything is sent.
            let _ = stream.write_all(bytes);
            let times = answer_times(&cluster, Side::Beta, 20);
            must_be_quick(&times, what);
            stream
        })
        .collect();
    for (stream, (what, _)) in silent.iter().zip(behaviours) {
        assert!(closes(stream), "a peer that {what} is never sent away");
    }
    for pid in process::children(cluster.node(Side::Beta).pid()) {
        let kilobytes = resident_kilobytes(pid);
        assert!(
            kilobytes < 128 * 1024,
            "{} has {kilobytes} kB",
            process::title(pid)
        );
    }
    log.wait_for(10);
    assert!(cluster.status(Side::Alpha).is_complete());
    assert_eq!(log.failed(), 0);
    log.stop();
    cluster.must_be_equal();
}

fn resident_kilobytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn flood_of_junk_does_not_disturb_replication() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let device = cluster.device(Side::Alpha);
    let load = Load {
        pause: Duration::from_millis(5),
        ..Load::default()
    };
    let mut log = Writelog::start(load, &device);
    let ended = AtomicBool::new(false);
    let connections = AtomicU64::new(0);
    thread::scope(|scope| {
        for (number, stranger) in [(0u64, false), (1, true)] {
            let (cluster, ended, connections) = (&cluster, &ended, &connections);
            scope.spawn(move || {
                let mut rng = Rng::new(number);
                let mut open = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let stream = if stranger {
                        cluster.link.connect_as_stranger(Side::Beta)
                    } else {
                        cluster.link.connect_as_peer(Side::Beta)
                    };
                    let Ok(mut stream) = stream else { continue };
                    connections.fetch_add(1, Ordering::Relaxed);
                    let mut junk = vec![0; usize::try_from(rng.below(2000)).unwrap_or(0)];
                    junk.fill_with(|| rng.next().to_le_bytes()[0]);
                    // It may be closed before everything is sent.
                    let _ = stream.write_all(&junk);
                    if rng.one_in(2) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                    open.push(stream);
                    if open.len() > 200 {
                        open.drain(..100);
                    }
                }
            });
        }
        let times = answer_times(&cluster, Side::Beta, rounds(300, 3000));
        ended.store(true, Ordering::Relaxed);
        println!("{} connections", connections.load(Ordering::Relaxed));
        must_be_quick(&times, "a flood");
    });
    log.wait_for(50);
    let status = cluster.status(Side::Alpha);
    assert!(status.is_complete(), "{status:#?}");
    assert_eq!(
        cluster
            .node(Side::Alpha)
            .log()
            .matches("Disconnected")
            .count(),
        0
    );
    log.stop();
    log.verify_device(&device);
    cluster.must_be_equal();
}

#[test]
fn hundreds_of_resources_answer_in_a_second() {
    let resources = (0..500).map(|number| {
        let mut conf = ResourceConf::new(&format!("r{number}")).sized(4 << 20);
        conf.has_peer = false;
        conf
    });
    let mut cluster = Cluster::prepare(Setup {
        resources: resources.collect(),
        statements: String::new(),
    });
    let primaries = if long() { 500 } else { 20 };
    let names: Vec<String> = cluster.setup.resources[..primaries]
        .iter()
        .map(|conf| conf.name.clone())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.must(
        Side::Alpha,
        &[&["create", "-e", "256k"], &names[..]].concat(),
    );
    cluster.start_node(Side::Alpha);
    cluster.must(Side::Alpha, &[&["role", "primary"], &names[..]].concat());
    let since = Instant::now();
    let said = cluster.must(Side::Alpha, &["status"]);
    let elapsed = since.elapsed();
    println!("500 resources, {primaries} of them primary: {elapsed:?}");
    assert_eq!(said.matches("primary").count(), primaries);
    assert!(said.lines().count() >= 500);
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}
