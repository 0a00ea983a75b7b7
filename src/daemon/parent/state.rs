//! The state of a resource as hastctl is told it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{EntryId, Parent};
use crate::conf::model::{Address, SandboxMode};
use crate::confinement::Confinement;
use crate::daemon::supervisor::Kind;
use crate::daemon::worker::{Worker, WorkerId};
use crate::ipc;
use crate::report;
use crate::wire::control::{ResourceStatus, Statistics, WorkerState};

impl Parent {
    /// The daemon's own processes, as JSON.
    pub(super) fn own_state(&self) -> Option<String> {
        let descriptors = privsep::audit::held().map_or(0, |held| held.len());
        let own = Confinement {
            descriptors: u32::try_from(descriptors).unwrap_or(u32::MAX),
            ..self.confinement.clone()
        };
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let mut processes = vec![report::Process::new("parent", pid, &own)];
        let listener = self.doors.listener();
        processes.extend(
            listener.map(|(pid, confinement)| report::Process::new("listener", pid, confinement)),
        );
        let sandbox = match self.config.sandbox {
            SandboxMode::Require => "require",
            SandboxMode::BestEffort => "best-effort",
        };
        let daemon = report::Daemon {
            sandbox: sandbox.to_owned(),
            processes,
        };
        serde_json::to_string(&daemon).ok()
    }

    /// The state of a resource; workers in `silent` have not answered in time.
    pub(super) fn state_of(
        &self,
        id: EntryId,
        silent: &BTreeSet<WorkerId>,
        json: bool,
        now: Instant,
    ) -> Option<ResourceStatus> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        // A check is no worker in the eyes of the original's tools.
        let worker = entry
            .worker
            .and_then(|number| self.workers.get(&number))
            .map(|(_, worker)| worker)
            .filter(|worker| worker.kind != Kind::Check);
        let conf = &entry.conf;
        let mut status = ResourceStatus {
            provname: conf.provname.clone(),
            localpath: conf.local.display().to_string(),
            remoteaddr: super::workers::peer_address(conf),
            sourceaddr: conf.source.as_ref().map(Address::to_string),
            replication: conf.replication,
            checksum: Some(conf.checksum),
            compression: Some(conf.compression),
            role: entry.role(),
            workerpid: Some(worker.map_or(0, |worker| worker.process.pid())),
            worker: worker.map(worker_state),
            json: None,
        };
        if json {
            let answers = worker.is_none_or(|worker| !silent.contains(&worker.id));
            let mut resource = report::Resource::of_status(&conf.name, &status);
            resource.message = entry.supervisor.failure().map(str::to_owned);
            resource.orders = Some(entry.orders());
            resource.problem = entry.problem.as_ref().map(|problem| report::Problem {
                kind: problem.kind.as_str().to_owned(),
                details: problem.details.clone(),
                seconds_ago: now.saturating_duration_since(problem.at).as_secs(),
            });
            if let Some(worker) = worker {
                extend(&mut resource, worker, answers, now);
            }
            if entry.steering.disconnected && resource.reason.is_none() {
                resource.reason = Some(super::steer::BY_ORDER.to_owned());
            }
            // Without it the client falls back on the pairs.
            status.json = serde_json::to_string(&resource).ok();
        }
        Some(status)
    }
}

/// What a worker said last; before it has said anything, what it found when it started.
fn worker_state(worker: &Worker) -> WorkerState {
    let Some((_, status)) = worker.status() else {
        let ready = worker.ready.as_ref();
        return WorkerState {
            extentsize: ready.map_or(0, |ready| ready.extentsize),
            keepdirty: ready.map_or(0, |ready| ready.keepdirty),
            ..WorkerState::default()
        };
    };
    WorkerState {
        complete: status.connected,
        dirty: status.dirty_bytes,
        extentsize: status.extentsize,
        keepdirty: status.keepdirty,
        statistics: statistics(status),
    }
}

fn statistics(status: &ipc::Status) -> Statistics {
    let [read_error, write_error, delete_error, flush_error] = status.errors;
    let [idle_queue, local_queue, send_queue, recv_queue, done_queue] = status.queues;
    Statistics {
        read: status.reads,
        write: status.writes,
        delete: status.deletes,
        flush: status.flushes,
        activemap_update: status.map_updates,
        read_error,
        write_error,
        delete_error,
        flush_error,
        idle_queue,
        local_queue,
        send_queue,
        recv_queue,
        done_queue,
    }
}

fn extend(resource: &mut report::Resource, worker: &Worker, answers: bool, now: Instant) {
    if let Some((_, status)) = worker.status() {
        resource.extend(status);
    }
    if !answers {
        let since = worker
            .status()
            .map(|(at, _)| now.saturating_duration_since(*at).as_secs());
        resource.message = Some(match since {
            Some(seconds) => {
                format!("The worker does not answer; this is its state of {seconds} s ago.")
            }
            None => "The worker does not answer.".to_owned(),
        });
    }
    if let Some(shown) = &mut resource.worker {
        shown.answers = answers;
        if let Some(ready) = &worker.ready {
            let confinement = &ready.confinement;
            shown.user = Some(confinement.user.clone());
            shown.descriptors = Some(confinement.descriptors);
            shown.confinement.clone_from(&confinement.in_force);
            shown.confinement_missing.clone_from(&confinement.missing);
            shown.device.clone_from(&ready.device);
            shown.driver = Some(ready.driver.as_str().to_owned());
        }
    }
}
