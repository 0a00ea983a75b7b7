//! Real children: this binary starts itself, and the variable `CHILD` says which part to play.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use privsep::audit::{self, Expected, Kind};
use privsep::channel::{self, Channel, ChannelError, Message, Protocol};
use privsep::process::{self, Child, FIRST_PASSED_DESCRIPTOR, Program, Spawn};
use privsep::supervise::{Ending, Termination, TerminationAction};
use privsep::user;
use serde::{Deserialize, Serialize};

const PROTOCOL: Protocol = Protocol { id: 1, version: 1 };
const TITLE: &str = "hastd: test (primary)";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Text(String),
    Report {
        held: Vec<(i32, String)>,
        environment: Vec<String>,
        arguments: Vec<String>,
    },
    Pipe,
}

impl Message for Answer {
    fn descriptors(&self) -> usize {
        usize::from(*self == Answer::Pipe)
    }
}

type Peer = Channel<Answer, Answer>;

fn main() {
    if let Ok(part) = std::env::var("CHILD") {
        return play(&part);
    }
    let tests: [(&str, fn()); 14] = [
        ("exec_failure_is_reported", exec_failure_is_reported),
        (
            "nul_in_an_argument_is_an_error",
            nul_in_an_argument_is_an_error,
        ),
        (
            "audit_names_a_leaked_descriptor",
            audit_names_a_leaked_descriptor,
        ),
        (
            "audit_names_a_missing_descriptor",
            audit_names_a_missing_descriptor,
        ),
        (
            "child_holds_what_was_given_and_nothing_else",
            child_holds_what_was_given,
        ),
        ("descriptors_are_not_mixed_up", descriptors_are_not_mixed_up),
        ("title_is_the_command_line", title_is_the_command_line),
        ("signals_are_reset", signals_are_reset),
        ("descriptors_travel_both_ways", descriptors_travel_both_ways),
        ("endings_are_decoded", endings_are_decoded),
        (
            "stubborn_child_is_killed_at_the_deadline",
            stubborn_child_is_killed,
        ),
        (
            "children_notice_the_death_of_the_parent",
            children_notice_the_death_of_the_parent,
        ),
        (
            "process_without_parent_has_no_channel",
            process_without_parent_has_no_channel,
        ),
        (
            "dropped_privileges_cannot_be_regained",
            dropped_privileges_cannot_be_regained,
        ),
    ];
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let list = std::env::args().any(|arg| arg == "--list");
    let ignored = std::env::args().any(|arg| arg == "--ignored");
    for (name, test) in tests {
        if ignored || !(filters.is_empty() || filters.iter().any(|filter| name.contains(filter))) {
            continue;
        }
        if list {
            println!("{name}: test");
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
}

// The child's side.

fn play(part: &str) {
    match part {
        "exit" => std::process::exit(75),
        "abort" => std::process::abort(),
        "loop" => loop {
            std::thread::park();
        },
        _ => {}
    }
    // What is open before anything else is opened.
    let held = audit::held().expect("own descriptors can be listed");
    let ipc = match process::take_ipc() {
        Ok(ipc) => ipc,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(64);
        }
    };
    assert!(process::take_ipc().is_err(), "a descriptor has one owner");
    let mut parent: Peer = Channel::new(ipc, PROTOCOL).expect("the parent made the socket");
    match part {
        "report" => {
            let held = held
                .into_iter()
                .map(|(number, kind)| (number, kind.to_string()))
                .collect();
            let environment = std::env::vars().map(|(name, value)| format!("{name}={value}"));
            let arguments = std::env::args();
            let report = Answer::Report {
                held,
                environment: environment.collect(),
                arguments: arguments.collect(),
            };
            parent.send(&report, vec![]).expect("the parent listens");
            return wait_for_end(&mut parent);
        }
        "audit" => {
            let mut expected = Expected::stdio().to_vec();
            expected.push(Expected::ipc());
            expected.push(Expected::new(4, "local component", Kind::File));
            let verdict = match audit::audit(&expected) {
                Ok(()) => "as expected".to_owned(),
                Err(error) => error.to_string(),
            };
            parent
                .send(&Answer::Text(verdict), vec![])
                .expect("the parent listens");
        }
        "signals" => {
            let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
            let masks: Vec<&str> = status
                .lines()
                .filter(|line| line.starts_with("Sig"))
                .collect();
            parent
                .send(&Answer::Text(masks.join("\n")), vec![])
                .expect("the parent listens");
        }
        "pipe" => {
            let (_, mut descriptors) = parent.receive(deadline()).expect("a pipe comes");
            let mut given = File::from(descriptors.pop().expect("one descriptor, as checked"));
            given
                .write_all(b"from the child")
                .expect("the parent reads");
            let (read, write) = nix::unistd::pipe().expect("a pipe can be made");
            parent
                .send(&Answer::Pipe, vec![write])
                .expect("the parent listens");
            let mut text = String::new();
            File::from(read)
                .read_to_string(&mut text)
                .expect("the parent writes and closes");
            parent
                .send(&Answer::Text(text), vec![])
                .expect("the parent listens");
        }
        "stubborn" => {
            ignore_sigterm();
            parent
                .send(&Answer::Text("ready".into()), vec![])
                .expect("the parent listens");
            loop {
                std::thread::park();
            }
        }
        "family" => {
            // A parent of its own: starts a child, tells its number, and is killed.
            let program = Program::current().expect("own binary");
            let (ours, theirs) = channel::pair().expect("a socket pair");
            let child = Spawn::new(&program, "grandchild")
                .variable("CHILD", "loop")
                .at_parent_death(Signal::SIGKILL)
                .start(&theirs)
                .expect("the binary runs");
            drop(theirs);
            parent
                .send(&Answer::Text(child.pid().to_string()), vec![])
                .expect("the parent listens");
            wait_for_end(&mut parent);
            drop(ours);
        }
        "drop" => {
            let user = user::lookup("nobody").expect("every system has it");
            let outcome = user::become_user(&user);
            let regained = nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_ok();
            let text = format!(
                "{outcome:?} {} {regained}",
                nix::unistd::getuid() == user.uid
            );
            parent
                .send(&Answer::Text(text), vec![])
                .expect("the parent listens");
        }
        other => panic!("no part \"{other}\""),
    }
    parent.drain(deadline()).expect("the parent listens");
}

#[allow(unsafe_code)]
fn ignore_sigterm() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGTERM, nix::sys::signal::SigHandler::SigIgn) }
        .expect("SIGTERM may be ignored");
}

fn wait_for_end(parent: &mut Peer) {
    assert!(matches!(
        parent.receive(deadline()),
        Err(ChannelError::Closed)
    ));
}

// The parent's side.

fn deadline() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

/// Starts a child with that part.
fn start(part: &str, with: impl FnOnce(Spawn<'_>) -> Spawn<'_>) -> (Child, Peer) {
    let program = Program::current().unwrap();
    let (ours, theirs) = channel::pair().unwrap();
    let stderr = std::io::stderr();
    let spawn = Spawn::new(&program, TITLE)
        .variable("CHILD", part)
        .stderr(stderr.as_fd());
    let child = with(spawn).start(&theirs).unwrap();
    (child, Channel::new(ours, PROTOCOL).unwrap())
}

/// A descriptor for the rest of the test.
fn leak(descriptor: OwnedFd) -> std::os::fd::BorrowedFd<'static> {
    let leaked: &OwnedFd = Box::leak(Box::new(descriptor));
    leaked.as_fd()
}

fn text(peer: &mut Peer) -> String {
    match peer.receive(deadline()).unwrap().0 {
        Answer::Text(text) => text,
        other => panic!("unexpected {other:?}"),
    }
}

fn wait(child: &mut Child) -> Ending {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(ending) = child.try_wait().unwrap() {
            return ending;
        }
        assert!(Instant::now() < deadline, "the child does not end");
        std::thread::yield_now();
    }
}

fn report(peer: &mut Peer) -> (BTreeMap<i32, String>, Vec<String>, Vec<String>) {
    match peer.receive(deadline()).unwrap().0 {
        Answer::Report {
            held,
            environment,
            arguments,
        } => (held.into_iter().collect(), environment, arguments),
        other => panic!("unexpected {other:?}"),
    }
}

fn exec_failure_is_reported() {
    let mut junk = tempfile::NamedTempFile::new().unwrap();
    junk.write_all(b"not a program").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    junk.as_file().set_permissions(executable).unwrap();
    let program = Program::open(junk.path()).unwrap();
    let (_ours, theirs) = channel::pair().unwrap();
    let error = Spawn::new(&program, TITLE).start(&theirs).unwrap_err();
    assert_eq!(error.step, process::SpawnStep::Exec);
    let text = error.to_string();
    assert!(
        text.starts_with("unable to start \"hastd: test (primary)\": exec: "),
        "{text}"
    );
}

fn nul_in_an_argument_is_an_error() {
    let program = Program::current().unwrap();
    let (_ours, theirs) = channel::pair().unwrap();
    let error = Spawn::new(&program, TITLE)
        .argument("a\0b")
        .start(&theirs)
        .unwrap_err();
    assert_eq!(error.step, process::SpawnStep::Prepare);
    let error = Spawn::new(&program, "a\0b").start(&theirs).unwrap_err();
    assert_eq!(error.step, process::SpawnStep::Prepare);
}

fn audit_names_a_leaked_descriptor() {
    let file = tempfile::tempfile().unwrap();
    let (mut child, mut peer) = start("audit", |spawn| {
        spawn.pass(leak(file.into())).pass(leak(null()))
    });
    assert_eq!(
        text(&mut peer),
        "descriptor 5 (character device) is open and should not be"
    );
    assert_eq!(wait(&mut child), Ending::Exited(0));
}

fn audit_names_a_missing_descriptor() {
    let (mut child, mut peer) = start("audit", |spawn| spawn);
    assert_eq!(
        text(&mut peer),
        "descriptor 4 (local component) is not open"
    );
    assert_eq!(wait(&mut child), Ending::Exited(0));
}

fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

fn child_holds_what_was_given() {
    // One that is inherited by anybody who forgets to close it.
    let leaky = null();
    nix::fcntl::fcntl(
        &leaky,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let file = tempfile::tempfile().unwrap();
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    let (mut child, mut peer) = start("report", |spawn| {
        spawn
            .stderr(leak(null()))
            .pass(leak(file.into()))
            .pass(leak(pipe))
    });
    let (held, environment, arguments) = report(&mut peer);
    let expected = [
        (0, "character device"),
        (1, "character device"),
        (2, "character device"),
        (3, "Unix sequenced-packet socket"),
        (FIRST_PASSED_DESCRIPTOR, "file"),
        (5, "pipe"),
    ];
    assert_eq!(
        held,
        expected
            .map(|(number, kind)| (number, kind.to_owned()))
            .into()
    );
    assert_eq!(environment, ["CHILD=report"]);
    assert_eq!(arguments, [TITLE]);
    assert_eq!(nix::unistd::getpgid(Some(child.pid())), Ok(child.pid()));
    drop(peer);
    assert_eq!(wait(&mut child), Ending::Exited(0));
}

fn descriptors_are_not_mixed_up() {
    // Sources whose numbers are each other's targets.
    let (mut child, mut peer) = start("report", |spawn| {
        let file = leak(tempfile::tempfile().unwrap().into());
        let pipe = leak(nix::unistd::pipe().unwrap().0);
        spawn
            .stdin(pipe)
            .stdout(file)
            .pass(leak(null()))
            .pass(file)
            .pass(pipe)
    });
    let (held, _, _) = report(&mut peer);
    let kinds: Vec<&str> = [0, 1, 4, 5, 6]
        .iter()
        .map(|number| held[number].as_str())
        .collect();
    assert_eq!(kinds, ["pipe", "file", "character device", "file", "pipe"]);
    drop(peer);
    assert_eq!(wait(&mut child), Ending::Exited(0));
}

fn title_is_the_command_line() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (mut child, mut peer) = start("report", |spawn| spawn.argument("mode"));
    report(&mut peer);
    let line = std::fs::read(format!("/proc/{}/cmdline", child.pid())).unwrap();
    assert_eq!(line, b"hastd: test (primary)\0mode\0");
    drop(peer);
    assert_eq!(wait(&mut child), Ending::Exited(0));
}

fn signals_are_reset() {
    if !cfg!(target_os = "linux") {
        return;
    }
    use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).unwrap();
    let (mut child, mut peer) = start("signals", |spawn| spawn);
    let masks = text(&mut peer);
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&blocked), None).unwrap();
    assert!(masks.contains("SigBlk:\t0000000000000000"), "{masks}");
    let ignored = masks
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"))
        .unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    // The standard library ignores SIGPIPE (bit 12) by itself; signals 32 and 33 belong to the C
    // library, which lets nobody change them and sets them as it needs them.
    assert_eq!(ignored & !(3 << 31), 1 << 12, "{masks}");
    assert_eq!(wait(&mut child), Ending::Exited(0));
    // The mask of this process is what it was.
    assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
}

fn descriptors_travel_both_ways() {
    let (mut child, mut peer) = start("pipe", |spawn| spawn);
    let (read, write) = nix::unistd::pipe().unwrap();
    peer.send(&Answer::Pipe, vec![write]).unwrap();
    let (message, mut descriptors) = peer.receive(deadline()).unwrap();
    assert_eq!(message, Answer::Pipe);
    let mut theirs = File::from(descriptors.pop().unwrap());
    theirs.write_all(b"from the parent").unwrap();
    drop(theirs);
    assert_eq!(text(&mut peer), "from the parent");
    let mut got = String::new();
    File::from(read).read_to_string(&mut got).unwrap();
    assert_eq!(got, "from the child");
    assert_eq!(wait(&mut child), Ending::Exited(0));
    assert!(matches!(
        peer.receive(deadline()),
        Err(ChannelError::Closed)
    ));
}

fn endings_are_decoded() {
    let (mut child, _peer) = start("exit", |spawn| spawn);
    assert_eq!(wait(&mut child), Ending::Exited(75));
    assert_eq!(child.try_wait().unwrap(), Some(Ending::Exited(75)));
    let (mut child, _peer) = start("abort", |spawn| spawn);
    assert!(matches!(
        wait(&mut child),
        Ending::Killed {
            signal: Signal::SIGABRT,
            ..
        }
    ));
    let (mut child, _peer) = start("loop", |spawn| spawn);
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(Signal::SIGKILL).unwrap();
    assert_eq!(
        wait(&mut child),
        Ending::Killed {
            signal: Signal::SIGKILL,
            core: false
        }
    );
    // Its number may be somebody else's now.
    child.signal(Signal::SIGKILL).unwrap();
}

fn stubborn_child_is_killed() {
    let (mut child, mut peer) = start("stubborn", |spawn| spawn);
    assert_eq!(text(&mut peer), "ready");
    let start = Instant::now();
    let mut termination = Termination::at_once(start, Duration::from_secs(5));
    assert_eq!(termination.advance(start), TerminationAction::Terminate);
    child.signal(Signal::SIGTERM).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(
        termination.advance(start + Duration::from_secs(5)),
        TerminationAction::Kill
    );
    child.signal(Signal::SIGKILL).unwrap();
    assert_eq!(
        wait(&mut child),
        Ending::Killed {
            signal: Signal::SIGKILL,
            core: false
        }
    );
}

fn children_notice_the_death_of_the_parent() {
    let (mut child, mut peer) = start("family", |spawn| spawn);
    let grandchild: i32 = text(&mut peer).parse().unwrap();
    // Its parent and its state: nothing once it has ended and was reaped.
    let look = || {
        let output = std::process::Command::new("ps")
            .args(["-o", "ppid=", "-o", "stat=", "-p", &grandchild.to_string()])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let parent = child.pid().to_string();
    assert_eq!(look().split_whitespace().next(), Some(parent.as_str()));
    child.signal(Signal::SIGKILL).unwrap();
    assert_eq!(
        wait(&mut child),
        Ending::Killed {
            signal: Signal::SIGKILL,
            core: false
        }
    );
    // It holds a copy of nothing that would tell it; the kernel does. Gone, or a zombie that
    // whoever adopts orphans here has not reaped.
    let deadline = Instant::now() + Duration::from_secs(60);
    while look()
        .split_whitespace()
        .nth(1)
        .is_some_and(|state| !state.starts_with('Z'))
    {
        assert!(Instant::now() < deadline, "the grandchild lives on");
        std::thread::yield_now();
    }
}

fn process_without_parent_has_no_channel() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .env("CHILD", "report")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("descriptor 3 is not open"), "{text}");
}

fn dropped_privileges_cannot_be_regained() {
    let (mut child, mut peer) = start("drop", |spawn| spawn);
    let said = text(&mut peer);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(said, "Ok(Dropped) true false");
    } else {
        println!("not root: shows only that nothing is tried");
        assert!(
            said.starts_with("Ok(NotRoot) ") && said.ends_with(" false"),
            "{said}"
        );
    }
    assert_eq!(wait(&mut child), Ending::Exited(0));
}
