use super::situation::Situation;
use super::*;
use crate::events::Kind;
use crate::ipc::Cause;
use crate::report::{Configuration, Problem, Synchronisation, Worker};

fn resource(role: &str) -> Resource {
    Resource {
        name: "shared".to_owned(),
        role: Some(role.to_owned()),
        configuration: Some(Configuration {
            provname: "shared".to_owned(),
            local: "/dev/da0".to_owned(),
            remote: "tcp://10.0.0.2:8457".to_owned(),
            replication: "fullsync".to_owned(),
            ..Configuration::default()
        }),
        ..Resource::default()
    }
}

fn running(role: &str, status: &str, disk: &str) -> Resource {
    Resource {
        status: Some(status.to_owned()),
        disk: Some(disk.to_owned()),
        dirty_bytes: Some(6 << 20),
        worker: Some(Worker {
            pid: 4711,
            answers: true,
            ..Worker::default()
        }),
        ..resource(role)
    }
}

fn degraded(disk: &str, cause: Cause, reason: &str) -> Resource {
    Resource {
        cause: Some(cause.as_str().to_owned()),
        reason: Some(reason.to_owned()),
        ..running("primary", "degraded", disk)
    }
}

fn with_problem(mut resource: Resource, kind: Kind, details: &str) -> Resource {
    resource.problem = Some(Problem {
        kind: kind.as_str().to_owned(),
        details: details.to_owned(),
        seconds_ago: 60,
    });
    resource
}

fn copying(mut resource: Resource, direction: &str, paused: bool) -> Resource {
    resource.synchronisation = Some(Synchronisation {
        direction: direction.to_owned(),
        paused,
        total_bytes: 10 << 30,
        left_bytes: 4 << 30,
        bytes_per_second: 100 << 20,
        limit_bytes_per_second: None,
        eta_seconds: Some(41),
    });
    resource
}

const DISK: &str = "Local request failed (Input/output error): WRITE(512, 1024).";

/// Every situation that a resource can be in, with a name.
fn situations() -> Vec<(&'static str, Resource)> {
    let mut all = vec![
        (
            "unknown",
            Resource::failed(
                "shared",
                1,
                Some("No such resource is configured.".to_owned()),
            ),
        ),
        (
            "terse complete",
            Resource {
                disk: None,
                ..running("primary", "complete", "")
            },
        ),
        (
            "terse degraded",
            Resource {
                disk: None,
                ..running("secondary", "degraded", "")
            },
        ),
        ("off", resource("init")),
        (
            "starting",
            degraded("good", Cause::Starting, "Not connected yet."),
        ),
        (
            "alone",
            degraded("good", Cause::NoPeer, "There is no remote node."),
        ),
        (
            "alone with a failed disk",
            with_problem(
                degraded("failed", Cause::NoPeer, "There is no remote node."),
                Kind::DiskError,
                DISK,
            ),
        ),
        ("in sync", running("primary", "complete", "good")),
        ("waiting for a primary", resource("secondary")),
        (
            "secondary in sync",
            running("secondary", "complete", "good"),
        ),
        (
            "secondary being synchronised",
            running("secondary", "complete", "stale"),
        ),
        (
            "secondary shaking hands",
            running("secondary", "degraded", "good"),
        ),
        (
            "secondary with a failing disk",
            with_problem(
                running("secondary", "complete", "good"),
                Kind::DiskError,
                DISK,
            ),
        ),
        (
            "in sync with a failing disk",
            with_problem(
                running("primary", "complete", "good"),
                Kind::DiskError,
                DISK,
            ),
        ),
        ("stale", running("primary", "complete", "stale")),
        ("restarting", resource("primary")),
    ];
    for mode in ["memsync", "async"] {
        let mut resource = running("primary", "complete", "good");
        if let Some(configuration) = &mut resource.configuration {
            configuration.replication = mode.to_owned();
        }
        all.push((mode, resource));
    }
    let mut mute = running("primary", "complete", "good");
    if let Some(worker) = &mut mute.worker {
        worker.answers = false;
    }
    all.push(("mute", mute));
    let syncs = [
        ("copying to the peer", "to-peer", false, "good"),
        ("resting towards the peer", "to-peer", true, "good"),
        ("copying from the peer", "from-peer", false, "stale"),
        ("resting from the peer", "from-peer", true, "stale"),
    ];
    for (name, direction, paused, disk) in syncs {
        let resource = running("primary", "complete", disk);
        all.push((name, copying(resource, direction, paused)));
    }
    for (name, disk) in [
        ("connected, disk detached", "detached"),
        ("connected, disk failed", "failed"),
    ] {
        let resource = running("primary", "complete", disk);
        all.push((name, with_problem(resource, Kind::DiskDetached, DISK)));
    }
    for cause in Cause::ALL {
        if !matches!(cause, Cause::Starting | Cause::NoPeer) {
            all.push((cause.as_str(), degraded("good", cause, "The reason.")));
        }
    }
    all.push((
        "stale alone",
        degraded(
            "stale",
            Cause::Unreachable,
            "tcp://10.0.0.2:8457: Connection refused",
        ),
    ));
    all.push((
        "detached alone",
        with_problem(
            degraded(
                "detached",
                Cause::Silent,
                "The remote node did not answer in time.",
            ),
            Kind::DiskDetached,
            DISK,
        ),
    ));
    let troubles = [
        ("split-brain", Kind::SplitBrain, "Split-brain condition!"),
        (
            "mismatch",
            Kind::Mismatch,
            "Extent size differs between nodes (local=2097152, remote=1048576).",
        ),
        (
            "disk unusable",
            Kind::DiskUnusable,
            "Unable to open /dev/da0: No such file or directory.",
        ),
        ("disk error", Kind::DiskError, DISK),
        (
            "incomplete",
            Kind::CopyIncomplete,
            "The copy on /dev/da0 is incomplete.",
        ),
        (
            "worker failed",
            Kind::WorkerFailed,
            "Worker process killed (pid=7, signal=9).",
        ),
        (
            "connection",
            Kind::Disconnect,
            "Disconnected from tcp://10.0.0.2:8457.",
        ),
    ];
    for role in ["init", "primary", "secondary"] {
        for (name, kind, details) in troubles {
            let name = Box::leak(format!("{role} after {name}").into_boxed_str());
            all.push((name, with_problem(resource(role), kind, details)));
        }
    }
    all
}

#[test]
fn every_situation_reads_as_it_should() {
    let mut text = String::new();
    for (name, resource) in situations() {
        text.push_str(&format!("=== {name}\n{}\n", explain(&resource)));
    }
    insta::assert_snapshot!(text);
}

/// Whatever a daemon says, something sensible is said of it: all combinations of what is told.
#[test]
fn no_combination_is_left_without_words() {
    let words = |list: &[&'static str]| -> Vec<Option<&'static str>> {
        let some = list.iter().copied().map(Some);
        std::iter::once(None).chain(some).collect()
    };
    let causes: Vec<&'static str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    let kinds: Vec<&'static str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let mut count = 0;
    for role in words(&["init", "primary", "secondary", "tertiary"]) {
        for status in words(&["complete", "degraded"]) {
            for disk in words(&["good", "stale", "detached", "failed", "new"]) {
                for cause in words(&causes) {
                    for problem in words(&kinds) {
                        for (worker, sync) in [(false, false), (true, false), (true, true)] {
                            let mut resource = Resource {
                                role: role.map(str::to_owned),
                                status: status.map(str::to_owned),
                                disk: disk.map(str::to_owned),
                                cause: cause.map(str::to_owned),
                                worker: worker.then(|| Worker {
                                    answers: true,
                                    ..Worker::default()
                                }),
                                ..resource("init")
                            };
                            resource.role = role.map(str::to_owned);
                            resource.problem = problem.map(|kind| Problem {
                                kind: kind.to_owned(),
                                details: "What happened.".to_owned(),
                                seconds_ago: 1,
                            });
                            if sync {
                                resource = copying(resource, "to-peer", false);
                            }
                            check(&resource);
                            count += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(count > 10_000);
}

fn check(resource: &Resource) {
    let explanation = explain(resource);
    assert!(!explanation.state.is_empty() && !explanation.risk_details.is_empty());
    let is_fine = matches!(
        Situation::of(resource),
        Situation::Connected(situation::Disk::Good, None) | Situation::Alone(situation::Disk::Good)
    );
    let is_fine = is_fine && !(explanation.why.is_some() && texts::has_disk_errors(resource));
    assert_eq!(explanation.steps.is_empty(), is_fine, "{resource:?}");
    if explanation.risk == Risk::High {
        assert!(explanation.why.is_some(), "{resource:?}");
    }
    for step in &explanation.steps {
        assert!(step.purpose.ends_with(['.', ':']), "{step:?}");
    }
    for line in explanation.to_string().lines() {
        let is_command = line.starts_with(&" ".repeat(INDENT + 4));
        assert!(is_command || line.chars().count() <= WIDTH, "{line}");
    }
}
