//! FreeBSD's hastd, where somebody has built it for this system.
//!
//! It is told nothing that it does not know: each node has a configuration of its own, in which
//! both node sections bear this host's name, since it knows no other way to tell nodes apart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hast_regress::interrupt;
use hast_regress::scenario::link::{PORT, loopback_addresses};
use tempfile::TempDir;

use super::{Serving, uri};
use crate::child::{Server, output};
use crate::ground::{Disks, Ground};

/// How long hastctl and the connection may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The resource.
const NAME: &str = "data";

/// Where the programs are, and what is particular to them.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    /// Directory of hastd and hastctl.
    pub(super) programs: PathBuf,
    /// Global statements, `{home}` to be replaced.
    pub(super) statements: String,
    /// The device's socket, `{home}` and `{name}` to be replaced.
    pub(super) device: String,
}

#[derive(Debug)]
struct Pair {
    servers: Vec<Server>,
    socket: PathBuf,
    _dir: TempDir,
}

impl Original {
    pub(super) fn serve(
        &self,
        ground: &Ground,
        disks: &[Disks],
    ) -> Result<Box<dyn Serving>, String> {
        let [disks] = disks else {
            return Err("the original is measured with one resource only".to_owned());
        };
        let dir = TempDir::with_prefix("hast-bench").map_err(|error| error.to_string())?;
        interrupt::remove(dir.path());
        let addresses = loopback_addresses().map(|[own, _]| own);
        let mut servers = Vec::new();
        let homes = ["primary", "secondary"].map(|node| dir.path().join(node));
        for (at, home) in homes.iter().enumerate() {
            std::fs::create_dir(home).map_err(|error| error.to_string())?;
            let text = format!(
                "{}\ncontrol {home}/ctl\npidfile {home}/pid\nlisten tcp4://{}:{PORT}\nreplication fullsync\n\
                 resource {NAME} {{\n\ton {host} {{\n\t\tlocal {}\n\t\tsource tcp4://{}\n\t\tremote tcp4://{}:{PORT}\n\t}}\n}}\n",
                self.statements
                    .replace("{home}", &home.display().to_string()),
                addresses[at],
                disks[at].display(),
                addresses[at],
                addresses[1 - at],
                home = home.display(),
                host = host_name()?,
            );
            std::fs::write(home.join("conf"), text).map_err(|error| error.to_string())?;
            self.hastctl(home, &["create"], &[NAME])?;
            let mut daemon = Command::new(self.programs.join("hastd"));
            daemon.arg("-F").arg("-c").arg(home.join("conf"));
            let mut server = Server::start(&mut daemon, &ground.log())?;
            server.wait_for_socket(&home.join("ctl"))?;
            servers.push(server);
        }
        let [primary, secondary] = &homes;
        self.hastctl(secondary, &["role"], &["secondary", NAME])?;
        self.hastctl(primary, &["role"], &["primary", NAME])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.hastctl(primary, &["list"], &[NAME])?;
            let clean = said.lines().any(|line| {
                line.split_once("dirty:")
                    .is_some_and(|(_, bytes)| bytes.trim_start().starts_with('0'))
            });
            if clean && said.contains("status: complete") {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("the original does not get connected: {said}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let socket = self
            .device
            .replace("{home}", &primary.display().to_string())
            .replace("{name}", NAME);
        Ok(Box::new(Pair {
            servers,
            socket: socket.into(),
            _dir: dir,
        }))
    }

    fn hastctl(&self, home: &Path, command: &[&str], words: &[&str]) -> Result<String, String> {
        let mut hastctl = Command::new(self.programs.join("hastctl"));
        hastctl
            .args(command)
            .arg("-c")
            .arg(home.join("conf"))
            .args(words);
        output(&mut hastctl, PATIENCE)
    }
}

fn host_name() -> Result<String, String> {
    let name = nix::sys::utsname::uname().map_err(|error| error.to_string())?;
    Ok(name.nodename().to_string_lossy().into_owned())
}

impl Serving for Pair {
    fn uris(&self) -> Vec<String> {
        vec![uri(&self.socket)]
    }

    fn pids(&self) -> Vec<i32> {
        self.servers.iter().map(Server::pid).collect()
    }
}
