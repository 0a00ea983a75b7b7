//! Runs commands of the guide on a node of a cluster, as its administrator would.
//!
//! The guide speaks of two machines with one resource `data`; the nodes of a cluster share one
//! machine. So a node has its network, a directory on its PATH with programs that stand for `hastd`
//! and `hastctl` and add the configuration and the node's name, and paths are replaced:
//!
//! | guide | here |
//! |---|---|
//! | `/etc/hast.conf` | the cluster's configuration |
//! | `/dev/sdb` | the node's local component |
//! | `/var/run/hastd.pid` | the node's pidfile |
//! | `/var/run/hast/` | the directory of its devices |
//! | `/usr/local/libexec/` | `libexec/` in the cluster's directory |
//! | `/var/tmp/` | the node's directory |

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hast_regress::programs::program;
use hast_regress::scenario::{Cluster, Side, process};

use super::text::{self, Block};

/// What stands for one of our programs on a node.
fn stand_in(directory: &Path, name: &str, cluster: &Cluster, side: Side) {
    let config = cluster.dir().join("hast.conf");
    let script = format!(
        "#!/bin/sh\nexec '{}' \"$@\" -c '{}' -N {side}\n",
        program(name).display(),
        config.display(),
    );
    write_program(&directory.join(name), &script);
}

/// Writes a script that can be run.
pub(crate) fn write_program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn translate(cluster: &Cluster, side: Side, commands: &str) -> String {
    let node = cluster.node(side);
    let pairs: [(&str, PathBuf); 6] = [
        ("/etc/hast.conf", cluster.dir().join("hast.conf")),
        ("/dev/sdb", cluster.disk(side)),
        ("/var/run/hastd.pid", node.home().join("pid")),
        ("/var/run/hast/", node.home().join("hast/")),
        ("/usr/local/libexec/", cluster.dir().join("libexec/")),
        ("/var/tmp/", node.home().join("")),
    ];
    let text = commands.to_owned();
    pairs.iter().fold(text, |text, (guide, here)| {
        text.replace(guide, &here.display().to_string())
    })
}

/// Runs commands on a node.
pub(crate) fn run(cluster: &Cluster, side: Side, commands: &str) -> Output {
    let home = cluster.node(side).home();
    let bin = home.join("bin");
    if !bin.exists() {
        stand_in(&bin, "hastd", cluster, side);
        stand_in(&bin, "hastctl", cluster, side);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-eu", "-c", &translate(cluster, side, commands)])
        .env("PATH", format!("{}:{path}", bin.display()))
        .current_dir(home)
        .stdin(Stdio::null());
    let output = cluster.link.at(side, || command.output());
    output.unwrap_or_else(|error| panic!("/bin/sh: {error}"))
}

/// Runs a block of the guide: every command has to succeed, and to print what is shown.
pub(crate) fn run_block(cluster: &Cluster, block: &Block) {
    let mut printed = String::new();
    for (side, commands) in block.parts() {
        let output = run(cluster, side, &commands);
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "guide, line {}, on {side}: {}\n{commands}\n{out}{err}",
            block.line,
            output.status,
        );
        printed.push_str(&out);
        printed.push_str(&err);
    }
    if let Some(shown) = &block.output {
        let missing = text::mismatch(shown, &printed);
        assert!(
            missing.is_none(),
            "guide, line {}: not as shown: {}\n{printed}",
            block.line,
            missing.unwrap_or_default()
        );
    }
}

/// The blocks of a failure's section, those that can run here: so many.
pub(crate) fn remedies<const COUNT: usize>(title: &str) -> [Block; COUNT] {
    let heading = format!("### {title}");
    let mut blocks = text::blocks(&text::read());
    blocks.retain(|block| block.heading == heading && block.elsewhere.is_none());
    let found = blocks.len();
    blocks
        .try_into()
        .unwrap_or_else(|_| panic!("'{title}' has {found} blocks and not {COUNT}"))
}

/// Runs the only block of a failure's section.
pub(crate) fn remedy(cluster: &Cluster, title: &str) {
    let [block] = remedies(title);
    run_block(cluster, &block);
}

/// Ends, when dropped, the daemons that commands have started.
pub(crate) struct Daemons {
    pidfiles: [PathBuf; 2],
    config: String,
}

impl Daemons {
    pub(crate) fn of(cluster: &Cluster) -> Daemons {
        Daemons {
            pidfiles: Side::BOTH.map(|side| cluster.node(side).home().join("pid")),
            config: cluster.dir().join("hast.conf").display().to_string(),
        }
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for pidfile in &self.pidfiles {
            let pid = fs::read_to_string(pidfile).unwrap_or_default();
            let Ok(pid) = pid.trim().parse() else {
                continue;
            };
            // It may have ended, and the number be somebody else's by now.
            if process::title(pid).contains(&self.config) {
                process::kill_all(pid);
            }
        }
    }
}
