//! `hastctl status` and `hastctl list`: one question, several forms of the answer.

use super::args::StatusOptions;
use super::client::{Daemon, Failure, code_of, names_or_all};
use super::exit;
use super::output::Console;
use super::size::humanize;
use crate::conf::Config;
use crate::report::{self, Document};
use crate::wire::control::{
    ControlReply, ControlRequest, Order, ResourceReply, ResourceState, ResourceStatus, WorkerState,
};

/// Asks for the state of these resources.
///
/// # Errors
/// As [`Daemon::ask`].
pub(super) fn fetch(
    daemon: &mut Daemon,
    names: &[String],
    json: bool,
) -> Result<ControlReply, Failure> {
    let request = ControlRequest {
        order: Order::Status,
        resources: names_or_all(names),
        json,
    };
    daemon.ask(&request)
}

/// How the answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `status`: a line for each resource.
    Table,
    /// `list`: everything.
    List,
}

/// `status` and `list`, once.
pub(super) fn run(
    options: &StatusOptions,
    form: Form,
    config: &Config,
    console: &mut Console<'_>,
) -> u8 {
    // What confines a process is told as JSON only.
    let detailed = form == Form::List && console.is_debug();
    let reply = Daemon::once(config)
        .and_then(|mut daemon| fetch(&mut daemon, &options.names, options.json || detailed));
    let reply = match reply {
        Ok(reply) => reply,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    if options.json {
        if !console.print_json(serde_json::to_string_pretty(&document(&reply))) {
            return exit::SOFTWARE;
        }
    } else {
        match form {
            Form::Table => table(&reply, console),
            Form::List => reply
                .resources
                .iter()
                .for_each(|resource| list(resource, detailed, console)),
        }
    }
    code(&reply)
}

/// The first error of the reply.
pub(super) fn code(reply: &ControlReply) -> u8 {
    reply
        .resources
        .iter()
        .fold(exit::OK, |code, resource| match &resource.state {
            ResourceState::Failed { error, .. } => exit::first(code, code_of(error.number())),
            ResourceState::Done { .. } | ResourceState::Status(_) => code,
        })
}

/// The reply as the document of `--json`: what the daemon says in that form, or else what can be
/// said from the pairs that FreeBSD's daemon sends.
pub(super) fn document(reply: &ControlReply) -> Document {
    let resources = reply.resources.iter().map(resource).collect();
    Document {
        version: report::VERSION,
        daemon: reply
            .json
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok()),
        resources,
    }
}

fn resource(reply: &ResourceReply) -> report::Resource {
    match &reply.state {
        ResourceState::Failed { error, text } => {
            report::Resource::failed(&reply.name, error.number(), text.clone())
        }
        ResourceState::Done { .. } => report::Resource::failed(&reply.name, 0, None),
        ResourceState::Status(status) => status
            .json
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_else(|| report::Resource::of_status(&reply.name, status)),
    }
}

fn word(worker: Option<&WorkerState>) -> &'static str {
    match worker {
        None => "-",
        Some(worker) if worker.complete => "complete",
        Some(_) => "degraded",
    }
}

fn table(reply: &ControlReply, console: &mut Console<'_>) {
    console.print(format_args!("Name\tStatus\t Role\t\tComponents\n"));
    for resource in &reply.resources {
        row(resource, console);
    }
}

/// A line of the table.
pub(super) fn row(resource: &ResourceReply, console: &mut Console<'_>) {
    let name = &resource.name;
    match &resource.state {
        ResourceState::Failed { error, .. } => {
            console.print(format_args!("{name}\tERR{}\n", error.number()));
        }
        ResourceState::Done { .. } => console.print(format_args!("{name}\t-\n")),
        ResourceState::Status(status) => console.print(format_args!(
            "{name}\t{:<8} {:<14} {}\t{}\n",
            word(status.worker.as_ref()),
            status.role.as_str(),
            status.localpath,
            status.remoteaddr
        )),
    }
}

fn list(resource: &ResourceReply, detailed: bool, console: &mut Console<'_>) {
    console.print(format_args!("{}:\n", resource.name));
    match &resource.state {
        ResourceState::Failed { error, .. } => {
            console.print(format_args!("  error: {}\n", error.number()));
        }
        ResourceState::Done { .. } => {}
        ResourceState::Status(status) => {
            list_status(status, console);
            if detailed {
                list_confinement(status, console);
            }
        }
    }
}

/// What drives and what confines the worker, which the original has no lines for.
fn list_confinement(status: &ResourceStatus, console: &mut Console<'_>) {
    let resource: Option<report::Resource> = status
        .json
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let Some(worker) = resource.and_then(|resource| resource.worker) else {
        return;
    };
    if let Some(driver) = &worker.driver {
        console.print(format_args!("  driver: {driver}\n"));
    }
    console.print(format_args!("  confinement:\n"));
    if let Some(user) = &worker.user {
        console.print(format_args!("    user: {user}\n"));
    }
    if let Some(descriptors) = worker.descriptors {
        console.print(format_args!("    descriptors: {descriptors}\n"));
    }
    for (name, lines) in [
        ("in force", &worker.confinement),
        ("not in force", &worker.confinement_missing),
    ] {
        for line in lines {
            console.print(format_args!("    {name}: {line}\n"));
        }
    }
}

fn list_status(status: &ResourceStatus, console: &mut Console<'_>) {
    let worker = status.worker.unwrap_or_default();
    let sized = |bytes: u64| format!("{bytes} ({}B)", humanize(bytes));
    let mut line = |name: &str, value: &str| console.print(format_args!("  {name}: {value}\n"));
    line("role", status.role.as_str());
    line("provname", &status.provname);
    line("localpath", &status.localpath);
    line("extentsize", &sized(worker.extentsize.into()));
    line("keepdirty", &worker.keepdirty.to_string());
    line("remoteaddr", &status.remoteaddr);
    if let Some(source) = &status.sourceaddr {
        line("sourceaddr", source);
    }
    line("replication", status.replication.as_str());
    if status.worker.is_some() {
        line("status", word(status.worker.as_ref()));
    }
    if let Some(pid) = status.workerpid.filter(|&pid| pid != 0) {
        line("workerpid", &pid.to_string());
    }
    line("dirty", &sized(worker.dirty));
    let s = worker.statistics;
    console.print(format_args!(
        "  statistics:\n    \
         reads: {}\n    \
         writes: {}\n    \
         deletes: {}\n    \
         flushes: {}\n    \
         activemap updates: {}\n    \
         local errors: read: {}, write: {}, delete: {}, flush: {}\n    \
         queues: local: {}, send: {}, recv: {}, done: {}, idle: {}\n",
        s.read,
        s.write,
        s.delete,
        s.flush,
        s.activemap_update,
        s.read_error,
        s.write_error,
        s.delete_error,
        s.flush_error,
        s.local_queue,
        s.send_queue,
        s.recv_queue,
        s.done_queue,
        s.idle_queue
    ));
}
