//! The confined side.

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::{Arc, Barrier, Mutex, mpsc};

use nix::sys::signal::Signal;
use privsep::user;
use sandbox::policy::{Features, Kind, roles};
use sandbox::{Config, Held, Mode, Step};

use crate::attacks::ATTACKS;
use crate::exercises::EXERCISES;
use crate::{ring, sweep, sys};

/// What a process of each kind holds in these tests, by number.
pub(crate) struct Descriptors {
    /// A connected stream socket with data to read.
    pub(crate) stream: RawFd,
    /// A listening socket to which somebody connects; for kinds that accept.
    pub(crate) listener: RawFd,
    /// The local component; for workers.
    pub(crate) file: RawFd,
    /// The number of the parent, asked for before that is forbidden.
    pub(crate) parent: u64,
}

/// The descriptors of a kind, in the order in which the parent passes them from 3 on.
pub(crate) fn held(kind: Kind) -> Vec<Held> {
    let roles: &[&str] = match kind {
        Kind::Primary => &[
            roles::CHANNEL,
            roles::PEER,
            roles::LOCAL_COMPONENT,
            roles::DEVICE_LISTENER,
        ],
        Kind::Secondary => &[roles::CHANNEL, roles::PEER, roles::LOCAL_COMPONENT],
        Kind::Listener => &[roles::CHANNEL, roles::CANDIDATE, roles::PEER_LISTENER],
        _ => &[roles::CONTROL],
    };
    (3..)
        .zip(roles)
        .map(|(number, role)| Held { number, role })
        .collect()
}

impl Descriptors {
    fn of(kind: Kind) -> Self {
        let number = |wanted: &[&str]| {
            held(kind)
                .iter()
                .find(|held| wanted.contains(&held.role))
                .map_or(-1, |held| held.number)
        };
        Descriptors {
            stream: number(&[roles::PEER, roles::CANDIDATE, roles::CONTROL]),
            listener: number(&[roles::DEVICE_LISTENER, roles::PEER_LISTENER]),
            file: number(&[roles::LOCAL_COMPONENT]),
            parent: sys::int(nix::unistd::getppid().as_raw()),
        }
    }
}

fn kind() -> Kind {
    let name = std::env::var("KIND").unwrap();
    *Kind::ALL.iter().find(|kind| kind.as_str() == name).unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn config() -> Config {
    let user = nix::unistd::geteuid()
        .is_root()
        .then(|| user::lookup("nobody").expect("it exists"));
    let mut config = Config::new(kind(), user);
    config.descriptors = held(kind());
    config
}

/// Writes to standard output, which is a pipe to the parent. Not by `println!`, whose lock and
/// buffer would hide which call is made.
fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

pub(crate) fn play(part: &str) {
    let descriptors = Descriptors::of(kind());
    let name = variable("NAME");
    match part {
        "enter" => enter(),
        "attack" => {
            let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
            sandbox::enter(config()).unwrap();
            say("confined ");
            say(&format!("{:?}", (attack.run)(&descriptors)));
        }
        "attack without filter" => {
            let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
            let _prepared = sandbox::prepare(config()).unwrap();
            match (attack.run)(&descriptors) {
                Ok(_) => say("0"),
                Err(error) => say(&error.to_string()),
            }
        }
        "exercise" => {
            let (_, exercise) = EXERCISES.iter().find(|(call, _)| *call == name).unwrap();
            sys::catch_abort();
            let mut config = config();
            config.features = Features {
                io_uring: name.starts_with("io_uring_"),
            };
            sandbox::enter(config).unwrap();
            say("confined ");
            exercise(&descriptors);
            say("ok");
        }
        "other calls" => sweep::other_calls(kind()),
        "violations" => sweep::violations(kind()),
        "allowed values" => sweep::allowed_values(kind()),
        "threads" => threads(),
        "attack from a thread" => attack_from_a_thread(),
        "ring" => with_ring(&name, &descriptors),
        "second thread" => {
            let barrier = Arc::new(Barrier::new(2));
            let (for_thread, config) = (Arc::clone(&barrier), config());
            let thread = std::thread::spawn(move || for_thread.wait());
            say(&sandbox::enter(config).unwrap_err().to_string());
            barrier.wait();
            thread.join().unwrap();
        }
        "wait" => {
            sandbox::enter(config()).unwrap();
            say("confined\n");
            // Until the parent closes its end.
            let mut byte = [0];
            let _ = nix::unistd::read(std::io::stdin(), &mut byte);
        }
        "panic" => {
            sandbox::enter(config()).unwrap();
            panic!("the reason of it");
        }
        "abort" => {
            sandbox::enter(config()).unwrap();
            std::process::abort();
        }
        other => panic!("no part \"{other}\""),
    }
}

/// Makes a ring between the halves, as a worker does, and tries what it takes.
fn with_ring(name: &str, descriptors: &Descriptors) {
    let mut config = config();
    config.features = Features { io_uring: true };
    let prepared = sandbox::prepare(config).unwrap();
    let Some(mut ring) = ring::make(descriptors) else {
        return say("absent");
    };
    if name == "register without filter" {
        ring::register_unfiltered(&ring);
        return say("ok");
    }
    let report = prepared.seal().unwrap();
    assert!(report.is_in_force(Step::SystemCalls) && report.is_in_force(Step::ProcessLimit));
    match name {
        "operations" => ring::operations(&mut ring, descriptors),
        "service" => ring::service(&mut ring, descriptors),
        _ => {
            say("confined ");
            ring::register_buffers(&ring);
        }
    }
    say("ok");
}

/// Enters as the variables say, and tells the report or the error.
fn enter() {
    let mut config = config();
    if variable("MODE") == "best-effort" {
        config.mode = Mode::BestEffort;
    }
    if variable("USER") == "none" {
        config.user = None;
    }
    match variable("ROLES").as_str() {
        "" => {}
        "one less" => drop(config.descriptors.pop()),
        "foreign" => config.descriptors[0].role = roles::GATE_CONTROL,
        "exchanged" => {
            let role = config.descriptors[1].role;
            config.descriptors[1].role = config.descriptors[2].role;
            config.descriptors[2].role = role;
        }
        other => panic!("no roles \"{other}\""),
    }
    if let Ok(pid) = variable("PARENT").parse() {
        config.parent_death = Some((Signal::SIGKILL, nix::unistd::Pid::from_raw(pid)));
    }
    let step = variable("FAIL_AT");
    config.fail_at = Step::ALL
        .iter()
        .copied()
        .find(|known| known.to_string() == step);
    assert_eq!(config.fail_at.is_none(), step.is_empty());
    match sandbox::enter(config) {
        Ok(report) => say(&serde_json::to_string(&report).unwrap()),
        Err(error) => say(&error.to_string()),
    }
}

/// Threads that were created between the halves go on as they should, and end.
fn threads() {
    let prepared = sandbox::prepare(config()).unwrap();
    let begun = Arc::new(Barrier::new(5));
    let total = Arc::new(Mutex::new(0));
    let mut senders = Vec::new();
    let mut handles = Vec::new();
    for index in 0..4 {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let (begun, total) = (Arc::clone(&begun), Arc::clone(&total));
        let builder = std::thread::Builder::new().name(format!("disk {index}"));
        let handle = builder.spawn(move || {
            begun.wait();
            for buffer in receiver {
                // Large ones are mapped and unmapped by the allocator.
                let copy = [buffer.as_slice(), buffer.as_slice()].concat();
                *total.lock().unwrap() += copy.len();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let caught = std::panic::catch_unwind(|| panic!("caught within the sandbox"));
            assert!(caught.is_err());
        });
        handles.push(handle.unwrap());
        senders.push(sender);
    }
    begun.wait();
    let report = prepared.seal().unwrap();
    assert!(report.is_in_force(Step::SystemCalls));
    for size in [10, 100_000, 10_000_000] {
        for sender in &senders {
            sender.send(vec![1; size]).unwrap();
        }
    }
    drop(senders);
    for handle in handles {
        handle.join().unwrap();
    }
    say(&total.lock().unwrap().to_string());
}

/// The filter binds the threads that were there before it.
fn attack_from_a_thread() {
    let prepared = sandbox::prepare(config()).unwrap();
    let begun = Arc::new(Barrier::new(2));
    let sealed = Arc::new(Barrier::new(2));
    let (for_thread, go) = (Arc::clone(&begun), Arc::clone(&sealed));
    let thread = std::thread::spawn(move || {
        for_thread.wait();
        go.wait();
        sys::call(libc::SYS_getppid, &[])
    });
    begun.wait();
    prepared.seal().unwrap();
    say("confined ");
    sealed.wait();
    say(&format!("{:?}", thread.join()));
}
