//! The side that starts confined processes and sees what becomes of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::signal::Signal;
use privsep::channel;
use privsep::process::{Child, Program, Spawn};
use privsep::supervise::Ending;
use sandbox::policy::{Features, Kind, roles, rules};
use sandbox::{Report, Step};

use crate::attacks::{ATTACKS, Second};
use crate::child;
use crate::exercises::EXERCISES;

pub(crate) const TESTS: [(&str, fn()); 19] = [
    (
        "a_step_that_fails_is_an_error",
        a_step_that_fails_is_an_error,
    ),
    (
        "best_effort_reports_what_failed",
        best_effort_reports_what_failed,
    ),
    (
        "root_without_a_user_is_an_error",
        root_without_a_user_is_an_error,
    ),
    (
        "descriptors_that_differ_are_an_error",
        descriptors_that_differ_are_an_error,
    ),
    ("second_thread_is_an_error", second_thread_is_an_error),
    ("report_says_what_is_in_force", report_says_what_is_in_force),
    (
        "kernel_confirms_what_is_in_force",
        kernel_confirms_what_is_in_force,
    ),
    ("every_attack_kills", every_attack_kills),
    (
        "attacks_fail_without_the_filter_too",
        attacks_fail_without_the_filter_too,
    ),
    ("every_other_call_kills", every_other_call_kills),
    ("every_violated_check_kills", every_violated_check_kills),
    ("every_allowed_value_passes", every_allowed_value_passes),
    ("every_rule_is_exercised", every_rule_is_exercised),
    (
        "threads_made_between_the_halves_work",
        threads_made_between_the_halves_work,
    ),
    ("filter_binds_every_thread", filter_binds_every_thread),
    (
        "a_ring_takes_what_the_policy_names_and_no_more",
        a_ring_takes_what_the_policy_names_and_no_more,
    ),
    (
        "a_ring_takes_no_registration_but_of_files",
        a_ring_takes_no_registration_but_of_files,
    ),
    ("panic_is_reported", panic_is_reported),
    ("abort_is_an_abort", abort_is_an_abort),
];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A confined process, and the other ends of what it holds.
struct Confined {
    child: Child,
    output: File,
    errors: File,
    input: Option<OwnedFd>,
    _others: Vec<OwnedFd>,
    _folder: tempfile::TempDir,
}

fn start(part: &str, kind: Kind, variables: &[(&str, &str)]) -> Confined {
    let folder = tempfile::tempdir().unwrap();
    let mut ours: Vec<OwnedFd> = Vec::new();
    let mut theirs: Vec<OwnedFd> = Vec::new();
    for held in child::held(kind) {
        match held.role {
            roles::CHANNEL => {
                let (our, their) = channel::pair().unwrap();
                ours.push(our);
                theirs.push(their);
            }
            roles::LOCAL_COMPONENT => {
                let file = tempfile::tempfile().unwrap();
                file.set_len(1 << 20).unwrap();
                theirs.push(file.into());
            }
            roles::DEVICE_LISTENER | roles::PEER_LISTENER => {
                let path = folder.path().join("socket");
                theirs.push(UnixListener::bind(&path).unwrap().into());
                ours.push(UnixStream::connect(&path).unwrap().into());
            }
            _ => {
                let (mut our, their) = UnixStream::pair().unwrap();
                our.write_all(&[7; 64]).unwrap();
                ours.push(our.into());
                theirs.push(their.into());
            }
        }
    }
    let (output, their_output) = nix::unistd::pipe().unwrap();
    let (their_input, input) = nix::unistd::pipe().unwrap();
    let errors = tempfile::tempfile().unwrap();
    let program = Program::current().unwrap();
    let mut spawn = Spawn::new(&program, "breakout")
        .variable("CHILD", part)
        .variable("KIND", kind.as_str())
        .stdin(their_input.as_fd())
        .stdout(their_output.as_fd())
        .stderr(errors.as_fd());
    for (name, value) in variables {
        spawn = spawn.variable(name, value);
    }
    for descriptor in &theirs[1..] {
        spawn = spawn.pass(descriptor.as_fd());
    }
    let child = spawn.start(&theirs[0]).unwrap();
    Confined {
        child,
        output: output.into(),
        errors,
        input: Some(input),
        _others: ours,
        _folder: folder,
    }
}

impl Confined {
    /// What it wrote until it ended, and how it ended.
    fn finish(mut self) -> (String, Ending, String) {
        drop(self.input.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        let ending = loop {
            match self.child.try_wait().unwrap() {
                Some(ending) => break ending,
                // Its output has ended: so has it, or is about to.
                None => std::thread::yield_now(),
            }
        };
        let mut errors = String::new();
        self.errors.seek(SeekFrom::Start(0)).unwrap();
        self.errors.read_to_string(&mut errors).unwrap();
        (text, ending, errors)
    }
}

/// Runs a part to its end, which must be a good one; what it wrote.
fn run(part: &str, kind: Kind, variables: &[(&str, &str)]) -> String {
    let (text, ending, errors) = start(part, kind, variables).finish();
    assert_eq!(
        ending,
        Ending::Exited(0),
        "{part} as {}: {errors}",
        kind.as_str()
    );
    text
}

fn assert_killed((text, ending, errors): (String, Ending, String), what: &str) {
    assert_eq!(text, "confined ", "{what}: {errors}");
    assert!(
        matches!(
            ending,
            Ending::Killed {
                signal: Signal::SIGSYS,
                ..
            }
        ),
        "{what}: {ending}: {errors}"
    );
}

fn a_step_that_fails_is_an_error() {
    for step in Step::ALL {
        let step = step.to_string();
        let text = run("enter", Kind::Primary, &[("FAIL_AT", &step)]);
        assert_eq!(
            text,
            format!("unable to confine this process: {step}: injected failure")
        );
    }
}

fn best_effort_reports_what_failed() {
    for step in Step::ALL {
        let name = step.to_string();
        let text = run(
            "enter",
            Kind::Secondary,
            &[("FAIL_AT", &name), ("MODE", "best-effort")],
        );
        if step.is_mandatory() {
            assert_eq!(
                text,
                format!("unable to confine this process: {name}: injected failure")
            );
            continue;
        }
        let report: Report = serde_json::from_str(&text).unwrap();
        let missing: BTreeMap<String, &str> = report
            .missing()
            .map(|(step, reason)| (step.to_string(), reason))
            .collect();
        assert_eq!(missing.get(&name), Some(&"injected failure"), "{text}");
        assert!(!report.is_in_force(*step));
        assert_eq!(report.entries.len(), Step::ALL.len());
    }
}

fn root_without_a_user_is_an_error() {
    let text = run("enter", Kind::Primary, &[("USER", "none")]);
    assert_eq!(
        text.contains("no user to become is configured"),
        is_root(),
        "{text}"
    );
}

fn descriptors_that_differ_are_an_error() {
    let cases = [
        (
            "one less",
            "descriptor 6 (Unix stream socket) is open and should not be",
        ),
        (
            "foreign",
            "descriptor 3 should be the GEOM gate control and is a",
        ),
        (
            "exchanged",
            "descriptor 4 should be the local component and is a Unix stream socket",
        ),
    ];
    for (roles, expected) in cases {
        let text = run("enter", Kind::Primary, &[("ROLES", roles)]);
        assert!(
            text.starts_with("unable to confine this process: descriptor audit: "),
            "{text}"
        );
        assert!(text.contains(expected), "{text}");
    }
    let text = run("enter", Kind::Secondary, &[("ROLES", "foreign")]);
    assert!(
        text.contains("a secondary may hold no descriptor for the GEOM gate control"),
        "{text}"
    );
}

fn second_thread_is_an_error() {
    let text = run("second thread", Kind::Primary, &[]);
    assert_eq!(
        text,
        "unable to confine this process: single thread: the process has 2 threads"
    );
}

fn report_says_what_is_in_force() {
    for kind in Kind::ALL {
        let own = std::process::id().to_string();
        let text = run("enter", *kind, &[("PARENT", &own)]);
        let report: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(report.kind, *kind);
        assert_eq!(report.descriptors, 3 + child::held(*kind).len());
        let steps: Vec<Step> = report.entries.iter().map(|entry| entry.mechanism).collect();
        assert_eq!(steps, Step::ALL, "each step once, in order");
        let mut missing: Vec<Step> = report.missing().map(|(step, _)| step).collect();
        // What a kernel lacks is no failure.
        missing.retain(|step| *step != Step::Landlock);
        if is_root() {
            assert_eq!(missing, [Step::PidNamespace], "{report}");
            assert_eq!(report.user.as_deref(), Some("nobody"));
        } else {
            let privileged = [
                Step::NetworkNamespace,
                Step::MountNamespace,
                Step::IpcNamespace,
                Step::UtsNamespace,
                Step::PidNamespace,
                Step::Root,
                Step::BoundingSet,
                Step::User,
            ];
            assert_eq!(missing, privileged, "{report}");
        }
    }
}

/// What /proc says of a confined process.
fn kernel_confirms_what_is_in_force() {
    let mut confined = start("wait", Kind::Primary, &[]);
    let mut said = [0; 9];
    confined.output.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"confined\n");
    let pid = confined.child.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:\t")));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"));
    if is_root() {
        assert_eq!(field("CapBnd"), "0000000000000000");
        let nobody = privsep::user::lookup("nobody").unwrap();
        assert_eq!(field("Uid"), format!("{0}\t{0}\t{0}\t{0}", nobody.uid));
        assert_eq!(field("Gid"), format!("{0}\t{0}\t{0}\t{0}", nobody.gid));
        assert_eq!(field("Groups").trim(), "");
        for namespace in ["net", "mnt", "ipc", "uts"] {
            let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{namespace}")).unwrap();
            assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
        }
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        assert!(
            mounts.starts_with("confined / tmpfs ro,nosuid,nodev,noexec"),
            "{mounts}"
        );
        let limits = limits.unwrap();
        let files = sandbox::policy::descriptors_max(Kind::Primary).to_string();
        for (name, expected) in [
            ("Max open files", files.as_str()),
            ("Max processes", "0"),
            ("Max core file size", "0"),
        ] {
            let line = limits
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            let values: Vec<&str> = line.split_whitespace().take(2).collect();
            assert_eq!(values, [expected, expected], "{name}");
        }
    }
    let (_, ending, errors) = confined.finish();
    assert_eq!(ending, Ending::Exited(0), "{errors}");
}

fn every_attack_kills() {
    for kind in Kind::ALL {
        for attack in ATTACKS {
            let confined = start("attack", *kind, &[("NAME", attack.name)]);
            assert_killed(
                confined.finish(),
                &format!("{} as {}", attack.name, kind.as_str()),
            );
        }
    }
}

/// The filter is one lock of several.
fn attacks_fail_without_the_filter_too() {
    let own = std::process::id().to_string();
    let text = run("enter", Kind::Primary, &[("PARENT", &own)]);
    let report: Report = serde_json::from_str(&text).unwrap();
    for attack in ATTACKS {
        let errors = match attack.second {
            Second::Always(errors) => errors,
            Second::IfRoot(errors) if is_root() => errors,
            Second::IfRoot(_) | Second::FilterOnly => continue,
        };
        if errors.contains(&libc::EACCES) && !report.is_in_force(Step::Landlock) {
            println!("no Landlock here: \"{}\" has the filter only", attack.name);
            continue;
        }
        let text = run(
            "attack without filter",
            Kind::Primary,
            &[("NAME", attack.name)],
        );
        let error: i32 = text.parse().unwrap();
        assert!(
            errors.contains(&error),
            "{}: error {error} is not in {errors:?}",
            attack.name
        );
    }
}

fn every_other_call_kills() {
    for kind in Kind::ALL {
        assert_eq!(run("other calls", *kind, &[]), "ok\n");
    }
}

fn every_violated_check_kills() {
    for kind in Kind::ALL {
        assert_eq!(run("violations", *kind, &[]), "ok\n");
    }
}

fn every_allowed_value_passes() {
    for kind in Kind::ALL {
        assert_eq!(run("allowed values", *kind, &[]), "ok\n");
    }
}

fn every_rule_is_exercised() {
    for kind in Kind::ALL {
        for rule in rules(*kind, Features { io_uring: true }) {
            let call = rule.call;
            assert!(
                EXERCISES.iter().any(|(name, _)| *name == call),
                "nothing exercises {call}: it is allowed in vain"
            );
            let (text, ending, errors) = start("exercise", *kind, &[("NAME", call)]).finish();
            let (expected, code) = match call {
                "exit" | "exit_group" => ("confined ", 42),
                _ => ("confined ok", 0),
            };
            let what = format!("{call} as {}: {errors}", kind.as_str());
            assert_eq!(
                (text.as_str(), ending),
                (expected, Ending::Exited(code)),
                "{what}"
            );
        }
    }
    for (call, _) in EXERCISES {
        let rules = |kind: &Kind| rules(*kind, Features { io_uring: true });
        assert!(
            Kind::ALL
                .iter()
                .any(|kind| rules(kind).any(|rule| rule.call == *call)),
            "{call} is exercised and no rule allows it"
        );
    }
}

fn threads_made_between_the_halves_work() {
    let text = run("threads", Kind::Primary, &[]);
    assert_eq!(text, (4 * 2 * (10 + 100_000 + 10_000_000)).to_string());
}

fn filter_binds_every_thread() {
    let confined = start("attack from a thread", Kind::Secondary, &[]);
    assert_killed(confined.finish(), "getppid from a thread");
}

fn a_ring_takes_what_the_policy_names_and_no_more() {
    for kind in [Kind::Primary, Kind::Secondary] {
        for name in ["operations", "service"] {
            let text = run("ring", kind, &[("NAME", name)]);
            match text.as_str() {
                "absent" => println!("no io_uring here: not tried"),
                text => assert_eq!(text, "ok", "{name} as {}", kind.as_str()),
            }
        }
    }
}

fn a_ring_takes_no_registration_but_of_files() {
    let without = run(
        "ring",
        Kind::Primary,
        &[("NAME", "register without filter")],
    );
    if without == "absent" {
        return println!("no io_uring here: not tried");
    }
    assert_eq!(without, "ok");
    let confined = start("ring", Kind::Primary, &[("NAME", "register")]);
    assert_killed(confined.finish(), "a registration of buffers");
}

fn panic_is_reported() {
    let (_, ending, errors) = start("panic", Kind::Primary, &[]).finish();
    assert_eq!(ending, Ending::Exited(101));
    assert!(errors.contains("the reason of it"), "{errors}");
}

fn abort_is_an_abort() {
    let (_, ending, errors) = start("abort", Kind::Listener, &[]).finish();
    assert!(
        matches!(
            ending,
            Ending::Killed {
                signal: Signal::SIGABRT,
                ..
            }
        ),
        "{ending}: {errors}"
    );
}
