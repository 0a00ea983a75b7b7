//! keepalived moves an address, and with it a resource and its file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use hast_regress::programs::{program, workspace};
use hast_regress::scenario::blockdev::has;
use hast_regress::scenario::{Cluster, ResourceConf, Setup, Side, process};
use nix::sys::signal::Signal;

use crate::filesystem::{self, FileSystem, mounted};
use crate::records::Records;

/// What both nodes share.
const ADDRESS: &str = "10.77.0.10";

/// No other test has one of this name: nodes share the table of processes.
const RESOURCE: &str = "vrrp";

struct Kit {
    // Before the cluster: its devices go first.
    file_systems: [FileSystem; 2],
    keepalived: [Option<Child>; 2],
    cluster: Cluster,
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Kit {
    fn new() -> Kit {
        let mut conf = ResourceConf::new(RESOURCE).sized(64 << 20);
        // Also how long a secondary goes on believing in a primary that has died in silence.
        conf.timeout_s = 3;
        let mut cluster = Cluster::prepare(Setup::of(conf));
        for side in Side::BOTH {
            cluster.create(side);
            cluster.start_node(side);
        }
        let kit = Kit {
            file_systems: Side::BOTH.map(|side| FileSystem::of(cluster.node(side).home())),
            keepalived: [None, None],
            cluster,
        };
        for side in Side::BOTH {
            kit.install(side);
        }
        kit
    }

    /// Puts the kit's files into a node's directory.
    fn install(&self, side: Side) {
        let home = self.cluster.node(side).home();
        let shown = home.display();
        let bin = home.join("bin");
        fs::create_dir(&bin).unwrap();
        // A node's hastctl finds its own daemon.
        executable(
            &bin.join("hastctl"),
            &format!(
                "#!/bin/sh\ncommand=$1\nshift\nexec {} \"$command\" -N {side} -c {} \"$@\"\n",
                program("hastctl").display(),
                self.cluster.dir().join("hast.conf").display()
            ),
        );
        executable(
            &bin.join("logger"),
            &format!("#!/bin/sh\nshift 4\necho \"$(date +%T.%N) $*\" >>{shown}/switch.log\n"),
        );
        fs::write(
            home.join("switch.conf"),
            format!(
                "address {ADDRESS}@veth\ntimeout 30\nraw {RESOURCE}\n\
                 script {} {shown} {shown}/hast/{RESOURCE}.nbd\n",
                filesystem::script().display()
            ),
        )
        .unwrap();
        let etc = workspace().join("etc");
        executable(
            &home.join("switch"),
            &format!(
                "#!/bin/sh\nexport VRRP_HAST_SWITCH_PATH={}:/sbin:/bin:/usr/sbin:/usr/bin\n\
                 export VRRP_HAST_SWITCH_CONFIG={shown}/switch.conf\n\
                 export VRRP_HAST_SWITCH_LOCK={shown}/switch.lock\n\
                 export VRRP_HAST_SWITCH_LIBRARY={}\n\
                 exec {} \"$@\"\n",
                bin.display(),
                etc.join("failover/switch.sh").display(),
                etc.join("keepalived/vrrp-hast-switch").display()
            ),
        );
        fs::write(home.join("keepalived.conf"), self.keepalived_conf(side)).unwrap();
    }

    /// The sample, with the node's own names.
    fn keepalived_conf(&self, side: Side) -> String {
        let sample = workspace().join("etc/keepalived/keepalived.conf.sample");
        let switch = self.cluster.node(side).home().join("switch");
        let mut text = fs::read_to_string(sample).unwrap();
        for (from, to) in [
            // Temporary directories are everybody's.
            ("enable_script_security", ""),
            (
                "%%PREFIX%%/sbin/vrrp-hast-switch",
                &switch.display().to_string(),
            ),
            ("192.0.2.10", ADDRESS),
            ("eth0", "veth"),
        ] {
            assert!(text.contains(from), "the sample lacks {from}");
            text = text.replace(from, to);
        }
        text
    }

    fn start_keepalived(&mut self, side: Side) {
        let home = self.cluster.node(side).home().to_owned();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(home.join("keepalived.log"))
            .unwrap();
        let at = |name: &str| home.join(name).display().to_string();
        let mut command = Command::new("keepalived");
        command
            .args(["-n", "-l", "-P", "-f", &at("keepalived.conf")])
            .args(["-p", &at("keepalived.pid"), "-r", &at("vrrp.pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = self.cluster.link.at(side, || command.spawn());
        self.keepalived[side.index()] = Some(child.unwrap());
    }

    /// Ends it in an orderly way: the address moves.
    fn stop_keepalived(&mut self, side: Side) {
        let mut child = self.keepalived[side.index()].take().unwrap();
        process::signal(i32::try_from(child.id()).unwrap(), Signal::SIGTERM);
        child.wait().unwrap();
    }

    /// A node loses its power.
    fn power_off(&mut self, side: Side) {
        if let Some(mut child) = self.keepalived[side.index()].take() {
            process::kill_all(i32::try_from(child.id()).unwrap());
            child.wait().unwrap();
        }
        // Nothing of it answers any more, not even by resetting connections.
        self.run_ip(side, "addr flush dev veth");
        self.cluster.kill_node(side);
        self.file_systems[side.index()].die();
    }

    /// It comes back.
    fn power_on(&mut self, side: Side) {
        let address = self.cluster.link.address(side);
        self.run_ip(side, &format!("addr add {address}/24 dev veth"));
        self.cluster.start_node(side);
        self.start_keepalived(side);
    }

    fn run_ip(&self, side: Side, words: &str) {
        let status = self
            .cluster
            .link
            .at(side, || Command::new("ip").args(words.split(' ')).status());
        assert!(status.unwrap().success(), "ip {words}");
    }

    fn wait_role(&self, side: Side, role: &str) {
        self.cluster
            .wait_status(side, role, |status| status.role == role);
    }

    fn mounted(&self) -> Option<PathBuf> {
        let mut homes = Side::BOTH
            .map(|side| self.cluster.node(side).home())
            .into_iter();
        homes.find_map(mounted)
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        for side in Side::BOTH {
            if let Some(mut child) = self.keepalived[side.index()].take() {
                process::kill_all(i32::try_from(child.id()).unwrap_or(0));
                let _ = child.wait();
            }
            if thread::panicking() || std::env::var_os("HAST_KEEP").is_some() {
                for name in ["switch.log", "keepalived.log"] {
                    let path = self.cluster.node(side).home().join(name);
                    let text = fs::read_to_string(path).unwrap_or_default();
                    eprintln!("---- {name} of {side}\n{text}");
                }
            }
        }
    }
}

fn missing() -> Option<&'static str> {
    filesystem::missing().or((!has("keepalived")).then_some("keepalived"))
}

#[test]
fn file_system_under_load_follows_the_address_and_loses_nothing() {
    if let Some(tool) = missing() {
        println!("skipped: there is no {tool}");
        return;
    }
    let mut kit = Kit::new();
    if !kit.cluster.link.is_real() {
        println!("skipped: there are no network namespaces");
        return;
    }
    // The first one takes the address, hence the role; the second one keeps the other copy.
    kit.start_keepalived(Side::Alpha);
    kit.wait_role(Side::Alpha, "primary");
    kit.start_keepalived(Side::Beta);
    kit.wait_role(Side::Beta, "secondary");
    kit.cluster.wait_synced(Side::Alpha);

    let records = Records::default();
    let homes = Side::BOTH.map(|side| kit.cluster.node(side).home().to_owned());
    thread::scope(|scope| {
        scope.spawn(|| records.write(|| homes.iter().find_map(|home| mounted(home))));
        // The load ends whatever happens, or nobody would hear of it.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            records.wait_for_more();
            let before = records.count();
            let since = Instant::now();
            kit.power_off(Side::Alpha);
            records.wait_for_more();
            println!(
                "power lost after {before} records: the next one {} ms later",
                since.elapsed().as_millis()
            );
            kit.wait_role(Side::Beta, "primary");

            kit.power_on(Side::Alpha);
            kit.wait_role(Side::Alpha, "secondary");
            kit.cluster.wait_synced(Side::Beta);
            records.wait_for_more();
            kit.stop_keepalived(Side::Beta);
            kit.wait_role(Side::Alpha, "primary");
            let gap = records.wait_for_more();
            println!(
                "moved in an orderly way: a record {} ms later",
                gap.as_millis()
            );
            kit.wait_role(Side::Beta, "secondary");
        }));
        records.stop();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    records.verify(&kit.mounted().expect("a node has the file system"));
    println!("{} records, none lost", records.count());
    kit.stop_keepalived(Side::Alpha);
    kit.wait_role(Side::Alpha, "secondary");
    assert_eq!(kit.mounted(), None);
    kit.cluster.must_be_equal();
}
