//! hastd whose workers misbehave, each as its resource is named: what a worker would do that somebody
//! has taken over, and what faults of the program do. Everything else of it is hastd.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use hast::ipc::{FromWorker, Level, Ready, Status, ToWorker, WORKER_PROTOCOL};
use nix::sys::socket::{MsgFlags, send};
use privsep::channel::{Channel, Message};
use privsep::process::take_ipc;
use serde::{Deserialize, Serialize};

/// A message with a descriptor that nobody expects.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Smuggled(FromWorker);

impl Message for Smuggled {
    fn descriptors(&self) -> usize {
        1
    }
}

fn main() -> ExitCode {
    let title = std::env::args().next().unwrap_or_default();
    let resource = title
        .strip_prefix("hastd: ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|resource| resource.strip_prefix("rogue-"));
    if let Some(part) = resource {
        play(part);
    }
    ExitCode::from(hast::daemon::main(std::env::args_os().skip(1)))
}

fn ready() -> FromWorker {
    FromWorker::Ready(Box::default())
}

fn play(part: &str) -> ! {
    let ipc = take_ipc().expect("the daemon gives every worker a channel");
    if part == "garbage" {
        use std::os::fd::AsRawFd;
        send(ipc.as_raw_fd(), &[0xff; 500], MsgFlags::empty()).expect("the daemon is there");
        stay();
    }
    if part == "smuggler" {
        let copy = ipc.as_fd().try_clone_to_owned().expect("a copy can be had");
        let mut channel: Channel<Smuggled, ToWorker> =
            Channel::new(ipc, WORKER_PROTOCOL).expect("a new channel");
        channel.receive(None).expect("the start");
        channel
            .send(&Smuggled(ready()), vec![copy])
            .and_then(|()| channel.drain(None))
            .expect("the daemon is there");
        stay();
    }
    let mut channel: Channel<FromWorker, ToWorker> =
        Channel::new(ipc, WORKER_PROTOCOL).expect("a new channel");
    channel.receive(None).expect("the start");
    let mut say = |message: FromWorker| {
        channel
            .send(&message, Vec::new())
            .and_then(|()| channel.drain(None))
    };
    // What cannot be said is said to nobody: the daemon has killed this process, or will.
    match part {
        "twice" => {
            let _ = say(ready()).and_then(|()| say(ready()));
        }
        "status" => {
            let _ = say(FromWorker::Status(Box::<Status>::default()));
        }
        "connect" => {
            let _ = say(FromWorker::Connect);
        }
        "flood" => {
            let _ = say(ready());
            let line = || FromWorker::Log {
                level: Level::Error,
                text: "flood".to_owned(),
            };
            while say(line()).is_ok() {}
        }
        "liar" => {
            let mut lies = Ready::default();
            lies.confinement.in_force = vec!["\x1b[2Jeverything\nand more".to_owned(); 500];
            let _ = say(FromWorker::Ready(Box::new(lies)));
        }
        "abort" => {
            let _ = say(ready());
            std::process::abort();
        }
        "panic" => {
            let _ = say(ready());
            panic!("as ordered");
        }
        _ => {}
    }
    stay()
}

/// Keeps the channel open, whose end would be something else, until the daemon ends this process.
fn stay() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
