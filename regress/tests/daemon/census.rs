//! What every process of a running pair holds and may do, read from outside and compared with the
//! policy (`sandbox::policy`) and with what the process says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use sandbox::Step;
use sandbox::policy::{self, Kind, Object};

use crate::node::{Node, until};

/// The account that the processes run as.
const NOBODY: u32 = 65534;

/// A process, by its directory in /proc.
struct Process(PathBuf);

impl Process {
    fn new(pid: i32) -> Process {
        Process(Path::new("/proc").join(pid.to_string()))
    }

    fn read(&self, name: &str) -> String {
        let path = self.0.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The fields of its status, or of one of its threads.
    fn status(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let fields = self.read(name);
        let fields = fields.lines().filter_map(|line| line.split_once(':'));
        let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
        fields
            .map(|(name, value)| (name.to_owned(), words(value)))
            .collect()
    }

    fn threads(&self) -> Vec<BTreeMap<String, Vec<String>>> {
        let tasks = fs::read_dir(self.0.join("task")).unwrap();
        tasks
            .map(|task| {
                let name = task.unwrap().file_name();
                self.status(&format!("task/{}/status", name.display()))
            })
            .collect()
    }

    fn namespace(&self, name: &str) -> PathBuf {
        fs::read_link(self.0.join("ns").join(name)).unwrap()
    }

    /// A soft and a hard limit.
    fn limit(&self, name: &str) -> (String, String) {
        let limits = self.read("limits");
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let mut words = line[name.len()..].split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    /// What each descriptor is; those that are closed meanwhile are none.
    fn descriptors(&self) -> BTreeMap<u32, Object> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.0.join("fd")).unwrap() {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let Ok(link) = fs::read_link(entry.path()) else {
                continue;
            };
            let link = link.display().to_string();
            let Ok(status) = fs::metadata(entry.path()) else {
                continue;
            };
            let kind = status.file_type();
            let object = if kind.is_socket() {
                socket_kind(status.ino())
            } else if link == "anon_inode:[eventfd]" {
                Object::EventFd
            } else if link == "anon_inode:[io_uring]" {
                Object::IoUring
            } else if kind.is_char_device() {
                Object::CharDevice
            } else if kind.is_block_device() {
                Object::BlockDevice
            } else if kind.is_fifo() {
                Object::Pipe
            } else if kind.is_file() {
                Object::File
            } else {
                panic!("descriptor {number} of {}: {link}", self.0.display());
            };
            found.insert(number, object);
        }
        found
    }
}

/// The type of a socket: all of them were made in the network namespace of this test.
fn socket_kind(inode: u64) -> Object {
    let unix = fs::read_to_string("/proc/net/unix").unwrap();
    let inode = inode.to_string();
    let line = unix
        .lines()
        .find(|line| line.split_whitespace().nth(6) == Some(&inode));
    match line.and_then(|line| line.split_whitespace().nth(4)) {
        Some("0001") => Object::Stream,
        Some("0005") => Object::SeqPacket,
        Some(other) => panic!("a Unix socket of type {other}"),
        // Not in that table: an Internet socket, of which only streams are ever made.
        None => Object::Stream,
    }
}

/// Compares a process with the policy of its kind.
fn check(pid: i32, kind: Kind, own_namespaces: bool) {
    let process = Process::new(pid);
    let what = format!("{} (pid {pid})", kind.as_str());
    let one = |value: &str| vec![value.to_owned()];
    for status in process.threads() {
        let field = |name: &str| status.get(name).cloned().unwrap_or_default();
        let nobody = vec![NOBODY.to_string(); 4];
        assert_eq!(field("Uid"), nobody, "{what}");
        assert_eq!(field("Gid"), nobody, "{what}");
        assert_eq!(field("Groups"), Vec::<String>::new(), "{what}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(set), one("0000000000000000"), "{set} of {what}");
        }
        if own_namespaces {
            assert_eq!(field("CapBnd"), one("0000000000000000"), "{what}");
        }
        assert_eq!(field("NoNewPrivs"), one("1"), "{what}");
        assert_eq!(field("Seccomp"), one("2"), "{what}");
    }
    // The files of a process that is not dumpable belong to root.
    assert_eq!(fs::metadata(process.0.join("environ")).unwrap().uid(), 0);

    for name in ["net", "mnt", "ipc", "uts"] {
        let is_own = process.namespace(name) != Process::new(own_pid()).namespace(name);
        assert_eq!(is_own, own_namespaces, "{name} namespace of {what}");
    }
    if own_namespaces {
        let root = fs::read_dir(process.0.join("root")).unwrap();
        assert_eq!(root.count(), 0, "root directory of {what}");
    }
    let max = policy::descriptors_max(kind).to_string();
    assert_eq!(
        process.limit("Max open files"),
        (max.clone(), max),
        "{what}"
    );
    let none = ("0".to_owned(), "0".to_owned());
    assert_eq!(process.limit("Max core file size"), none, "{what}");
    assert_eq!(process.limit("Max processes"), none, "{what}");
    check_descriptors(&process, kind, &what);
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// Every descriptor is of a kind that some entry of the table admits, and there are not more of a
/// kind than its entries admit together.
fn check_descriptors(process: &Process, kind: Kind, what: &str) {
    let found = process.descriptors();
    let entries = || policy::descriptors(kind);
    let objects: BTreeSet<String> = found.values().map(|object| format!("{object:?}")).collect();
    for name in objects {
        let of_kind = found
            .values()
            .filter(|object| format!("{object:?}") == name);
        let admitted: u32 = entries()
            .filter(|entry| {
                entry
                    .objects
                    .iter()
                    .any(|object| format!("{object:?}") == name)
            })
            .map(|entry| entry.count_max)
            .sum();
        let count = u32::try_from(of_kind.count()).unwrap();
        assert!(count <= admitted, "{count} of {name} in {what}: {found:?}");
    }
    // The standard ones of a child are /dev/null.
    if kind != Kind::Control {
        for number in 0..3 {
            assert_eq!(found.get(&number), Some(&Object::CharDevice), "{what}");
        }
    }
    let of = |wanted: Object| found.values().filter(|&&object| object == wanted).count();
    let locals = match kind {
        Kind::Primary | Kind::Secondary => 1,
        _ => 0,
    };
    assert_eq!(of(Object::File), locals, "{what}: {found:?}");
    assert_eq!(of(Object::BlockDevice), 0, "{what}: {found:?}");
}

/// What a process says of itself is what was found.
fn check_words(said: &serde_json::Value, own_namespaces: bool) {
    let lines = |name: &str| {
        let lines = said[name].as_array().unwrap().iter();
        let lines = lines.map(|line| line.as_str().unwrap().to_owned());
        lines.collect::<Vec<String>>()
    };
    let (in_force, missing) = (lines("confinement"), lines("confinement_missing"));
    let user = if own_namespaces { "nobody" } else { "65534" };
    assert_eq!(said["user"], user);
    let descriptors = said["descriptors"].as_u64().unwrap();
    assert!((4..10).contains(&descriptors), "{descriptors}");
    let privileged = [
        Step::NetworkNamespace,
        Step::MountNamespace,
        Step::IpcNamespace,
        Step::UtsNamespace,
        Step::Root,
        Step::BoundingSet,
        Step::User,
    ];
    for step in Step::ALL {
        // Their absence is documented, or up to the kernel.
        if matches!(
            step,
            Step::PidNamespace | Step::ParentDeath | Step::Landlock
        ) {
            continue;
        }
        let expected = own_namespaces || !privileged.contains(step);
        let name = step.to_string();
        let is_in_force = in_force.iter().any(|line| line.starts_with(&name));
        assert_eq!(is_in_force, expected, "{name}: {in_force:?}");
        let reason = format!("{name}: not started by root");
        assert_eq!(missing.contains(&reason), !expected, "{name}: {missing:?}");
    }
}

/// The parent: root with the capabilities that are documented, or an ordinary user with none.
fn check_parent(pid: i32, as_root: bool) {
    let process = Process::new(pid);
    let status = process.status("status");
    let field = |name: &str| u64::from_str_radix(&status[name][0], 16).unwrap();
    // linux/capability.h
    let bit = |name: &str| match name {
        "CAP_DAC_OVERRIDE" => 1u64 << 1,
        "CAP_KILL" => 1 << 5,
        "CAP_NET_BIND_SERVICE" => 1 << 10,
        other => panic!("{other} is not expected"),
    };
    let kept = sandbox::PARENT_CAPABILITIES.iter();
    let kept = kept.fold(0, |kept, (name, _)| kept | bit(name));
    let kept = if as_root { kept } else { 0 };
    assert_eq!((field("CapPrm"), field("CapEff")), (kept, kept));
    assert_eq!((field("CapInh"), field("CapAmb")), (0, 0));
    assert_eq!(status["Uid"][0], if as_root { "0" } else { "65534" });
    // As above; that of root is root's in any case.
    assert_eq!(fs::metadata(process.0.join("environ")).unwrap().uid(), 0);
    // What it executes has to be able to do more: hooks, and workers before they are confined.
    let own = Process::new(own_pid()).status("status");
    assert_eq!(status["CapBnd"], own["CapBnd"]);
}

/// An NBD client, so that there is a connection of an application, too.
fn application(node: &Node) -> UnixStream {
    let mut client = UnixStream::connect(node.path("devices/test.nbd")).unwrap();
    client.read_exact(&mut [0; 18]).unwrap();
    client
}

fn census(as_root: bool) {
    let (mut a, mut b) = Node::pair();
    for node in [&mut a, &mut b] {
        node.create("test");
        if !as_root {
            node.launcher = [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--",
            ]
            .map(str::to_owned)
            .to_vec();
            for path in [node.dir.path().to_owned(), node.path("test.img")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        node.start();
    }
    b.ctl_ok(&["role", "secondary", "test"]);
    a.ctl_ok(&["role", "primary", "test"]);
    a.ctl_ok(&["wait", "--connected", "--synced", "--timeout", "20", "test"]);
    until("the secondary's worker", || b.worker("test").is_some());
    let _application = application(&a);
    for (node, kind) in [(&a, Kind::Primary), (&b, Kind::Secondary)] {
        check_parent(node.pid(), as_root);
        let document = node.document("test");
        let processes = document["daemon"]["processes"].as_array().unwrap().clone();
        assert_eq!(processes[0]["kind"], "parent");
        assert_eq!(processes[0]["pid"], node.pid());
        assert_eq!(processes[1]["kind"], "listener");
        check_words(&processes[1], as_root);
        let listener = i32::try_from(processes[1]["pid"].as_i64().unwrap()).unwrap();
        check(listener, Kind::Listener, as_root);
        check_words(&document["resources"][0]["worker"], as_root);
        check(node.worker("test").unwrap(), kind, as_root);
        // There is no other child.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", node.pid()));
        assert_eq!(children.unwrap().split_whitespace().count(), 2);
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn every_process_of_a_pair_is_what_the_policy_says() {
    if is_root() {
        census(true);
    } else {
        println!("not root: namespaces and accounts cannot be looked at");
    }
}

#[test]
fn every_process_of_an_ordinary_users_pair_is_what_the_policy_says() {
    if is_root() {
        census(false);
    } else {
        println!("not root: the processes of others cannot be looked at");
    }
}

/// Ends with the test.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hastctl_is_confined_before_it_hears_the_daemon() {
    if !is_root() {
        println!("not root: namespaces and accounts cannot be looked at");
        return;
    }
    let node = Node::new();
    // A daemon that says nothing.
    let silent = UnixListener::bind(node.path("ctl")).unwrap();
    for words in [
        &["status", "test"][..],
        &["list", "--json", "test"],
        &["role", "primary", "test"],
        &["stop"],
    ] {
        let mut command = node.ctl_command(words);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let tool = Tool(command.stdout(Stdio::piped()).spawn().unwrap());
        let (mut connection, _) = silent.accept().unwrap();
        // The first byte comes when it is confined.
        connection.read_exact(&mut [0]).unwrap();
        check(i32::try_from(tool.0.id()).unwrap(), Kind::Control, true);
    }
}

#[test]
fn hastctl_that_asks_again_and_again_is_confined_and_goes_on_asking() {
    if !is_root() {
        println!("not root: namespaces and accounts cannot be looked at");
        return;
    }
    let mut node = Node::new();
    node.create("test");
    node.start();
    let mut command = node.ctl_command(&["status", "--watch", "test"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut tool = Tool(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(tool.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "test\tinit -");
    let pid = i32::try_from(tool.0.id()).unwrap();
    check(pid, Kind::Control, true);
    node.ctl_ok(&["role", "primary", "test"]);
    let next = lines.next().unwrap().unwrap();
    assert!(next.starts_with("test\tprimary degraded"), "{next}");
    // The process that connects ends with it.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let connector: i32 = children.trim().parse().unwrap();
    drop(tool);
    until("the connector ends", || !super::is_alive(connector));
    let output = node.ctl(&["wait", "--role", "secondary", "--timeout", "1", "test"]);
    assert_eq!(output.status.code(), Some(75));
}
