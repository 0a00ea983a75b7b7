//! QEMU's synchronous mirror: `quorum` over a local file and an NBD server reached by TCP.
//!
//! Both children must have a write before it is done, as with fullsync; reads come from the first.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hast_regress::interrupt;
use hast_regress::scenario::link::{PORT, loopback_addresses};
use hast_regress::scenario::proxy::Proxy;
use tempfile::TempDir;

use super::{Serving, uri};
use crate::child::Server;
use crate::ground::{Disks, Ground};

/// The mirror of one resource.
#[derive(Debug)]
struct Quorum {
    servers: [Server; 2],
    socket: PathBuf,
    _proxy: Option<Proxy>,
    _dir: TempDir,
}

pub(super) fn serve(
    ground: &Ground,
    disks: &[Disks],
    rtt: Option<Duration>,
) -> Result<Box<dyn Serving>, String> {
    let [[local, remote]] = disks else {
        return Err("the mirror is measured with one resource only".to_owned());
    };
    let dir = TempDir::with_prefix("hast-bench").map_err(|error| error.to_string())?;
    interrupt::remove(dir.path());
    let [[source, _], [address, front]] = loopback_addresses();
    let mut second = Server::start(
        Command::new("qemu-nbd")
            .args(["--persistent", "--format=raw", "--shared=0", "--bind"])
            .arg(address.to_string())
            .arg(format!("--port={PORT}"))
            .arg(remote),
        &ground.log(),
    )?;
    second.wait(|| TcpStream::connect((address, PORT)).is_ok())?;
    let proxy = rtt
        .map(|rtt| Proxy::start(front, PORT, source, address, rtt / 2))
        .transpose()
        .map_err(|error| format!("proxy: {error}"))?;
    let reached = if proxy.is_some() { front } else { address };
    let socket = dir.path().join("mirror");
    let mut first = Server::start(
        Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!(
                "driver=file,node-name=local,filename={}",
                local.display()
            ))
            .arg("--blockdev")
            .arg(format!(
                "driver=nbd,node-name=remote,server.type=inet,server.host={reached},server.port={PORT}"
            ))
            .args([
                "--blockdev",
                "driver=quorum,node-name=mirror,children.0=local,children.1=remote,vote-threshold=1,read-pattern=fifo",
                "--nbd-server",
            ])
            .arg(format!("addr.type=unix,addr.path={}", socket.display()))
            .args(["--export", "type=nbd,id=device,node-name=mirror,name=,writable=on"]),
        &ground.log(),
    )?;
    first.wait_for_socket(&socket)?;
    Ok(Box::new(Quorum {
        servers: [first, second],
        socket,
        _proxy: proxy,
        _dir: dir,
    }))
}

impl Serving for Quorum {
    fn uris(&self) -> Vec<String> {
        vec![uri(&self.socket)]
    }

    fn pids(&self) -> Vec<i32> {
        self.servers.iter().map(Server::pid).collect()
    }
}
