//! SIGHUP: the configuration is read again, and what changed is carried out (spec/03, Reload).
//!
//! Nothing is changed if anything is wrong with the file, or if a new address cannot be had.

use std::time::Instant;

use super::start::control_name;
use super::workers::{peer_address, settings};
use super::{Entry, EntryId, Parent};
use crate::conf::diff::Action;
use crate::conf::model::Address;
use crate::conf::{self, Changes};
use crate::daemon::log::DAEMON;
use crate::daemon::pidfile::{Pidfile, PidfileError};
use crate::events::Kind;
use crate::ipc::ToWorker;
use crate::terms::{Role, system_reason};

impl Parent {
    /// Reads the configuration again, and tells the service manager that this has been done.
    pub(super) fn reload(&mut self, now: Instant) {
        self.notify.reloading();
        self.reload_configuration(now);
        self.notify.ready();
    }

    fn reload_configuration(&mut self, now: Instant) {
        self.log.info(DAEMON, "Reloading configuration...");
        let config = match conf::load_as(&self.options.config, &self.identity) {
            Ok(config) => config,
            Err(error) => {
                let reports = error.reports();
                for report in &reports {
                    self.log.error(DAEMON, report);
                }
                // Without the excerpts of the file.
                let lines: Vec<&str> = reports
                    .iter()
                    .filter_map(|report| report.lines().next())
                    .collect();
                self.not_reloaded(&lines.join(" "), now);
                return;
            }
        };
        let changes = conf::diff(&self.config, &config);
        if let Err(reason) = self.move_files(&changes) {
            self.log.error(DAEMON, &reason);
            self.not_reloaded(&reason, now);
            return;
        }
        self.move_doors(&changes, now);
        for (name, change) in &changes.resources {
            let conf = config.resource(name);
            let id = self.find(name);
            let role = id
                .and_then(|id| self.entry(id))
                .map_or(Role::Init, |entry| entry.role());
            match (change.action(role), id, conf) {
                (Action::Add, _, Some(conf)) => {
                    let id = EntryId(self.next_id());
                    self.add_entry(Entry::new(id, conf.clone()));
                    let text = format!("Resource {name} added.");
                    self.log.info(DAEMON, &text);
                    self.note_of(id, Kind::ResourceAdded, &text, now);
                }
                (Action::Remove, Some(id), _) => self.remove_resource(id, now),
                (Action::Restart, Some(id), Some(conf)) => {
                    self.log.info(
                        DAEMON,
                        format_args!("Resource {name} configuration was modified, restarting it."),
                    );
                    self.replace_conf(id, conf);
                    self.with_supervisor(id, now, |supervisor| supervisor.reconfigured(now));
                }
                (Action::Update { reconnect }, Some(id), Some(conf)) => {
                    self.log.info(
                        DAEMON,
                        format_args!("Resource {name} configuration was modified, reloading it."),
                    );
                    self.replace_conf(id, conf);
                    self.update_worker(id, reconnect, now);
                }
                // Nothing to do, or nothing to do it with.
                (
                    Action::Keep
                    | Action::Add
                    | Action::Remove
                    | Action::Restart
                    | Action::Update { .. },
                    ..,
                ) => {}
            }
        }
        self.config = config;
        self.make_devices_directory();
        self.sort_entries();
        self.forget_names();
        self.log
            .info(DAEMON, "Configuration reloaded successfully.");
        self.note(Kind::Reload, "Configuration reloaded successfully.", now);
    }

    fn not_reloaded(&mut self, reason: &str, now: Instant) {
        self.log.warning(DAEMON, "Configuration not reloaded.");
        self.note(Kind::ReloadFailed, reason, now);
    }

    /// Moves the control socket and the pidfile, both or none.
    fn move_files(&mut self, changes: &Changes) -> Result<(), String> {
        let pidfile = match &changes.pidfile {
            Some(path) if self.options.pidfile.is_none() => {
                let failed = |reason: String| {
                    format!(
                        "Unable to open or create pidfile {}: {reason}.",
                        path.display()
                    )
                };
                let mut pidfile = Pidfile::open(path).map_err(|error| match error {
                    PidfileError::Running(_) => failed("another hastd holds it".to_owned()),
                    PidfileError::Io(error) => failed(system_reason(&error)),
                })?;
                pidfile
                    .write()
                    .map_err(|error| failed(system_reason(&error)))?;
                Some(pidfile)
            }
            _ => None,
        };
        if let Some(address) = &changes.control {
            if let Err(reason) = self.move_control(address) {
                if let Some(pidfile) = pidfile {
                    // It was made a moment ago, for nothing.
                    let _ = pidfile.remove();
                }
                return Err(format!(
                    "Unable to listen on control address {}: {reason}.",
                    control_name(address)
                ));
            }
            self.log.info(
                DAEMON,
                format_args!(
                    "Control socket changed from {} to {}.",
                    control_name(&self.config.control),
                    control_name(address)
                ),
            );
        }
        if let Some(pidfile) = pidfile {
            self.log.info(
                DAEMON,
                format_args!("Pidfile changed to {}.", pidfile.path().display()),
            );
            if let Some(old) = self.pidfile.replace(pidfile) {
                // What is left of it holds no lock.
                let _ = old.remove();
            }
        }
        Ok(())
    }

    fn move_control(&mut self, address: &Address) -> Result<(), String> {
        match address {
            Address::Unix(path) => self
                .control
                .move_to(path)
                .map_err(|error| system_reason(&error)),
            Address::Tcp { .. } => Err(super::start::NO_TCP_CONTROL.to_owned()),
        }
    }

    fn move_doors(&mut self, changes: &Changes, now: Instant) {
        for listen in &changes.listen_removed {
            if self.doors.unbind(listen) {
                self.log.info(
                    DAEMON,
                    format_args!("No longer listening on address {}.", listen.address),
                );
            }
        }
        for listen in &changes.listen_added {
            self.listen_on(listen.clone(), now);
        }
    }

    fn remove_resource(&mut self, id: EntryId, now: Instant) {
        self.take_back_promotion(id, "The resource is not configured any more.", now);
        self.with_supervisor(id, now, |supervisor| supervisor.leave(now));
        if let Some(entry) = self.entry(id) {
            entry.removed = true;
        }
    }

    fn replace_conf(&mut self, id: EntryId, conf: &conf::model::Resource) {
        if let Some(entry) = self.entry(id) {
            entry.conf = conf.clone();
        }
    }

    pub(super) fn update_worker(&mut self, id: EntryId, reconnect: bool, now: Instant) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return;
        };
        let message = ToWorker::Settings {
            settings: settings(entry),
            reconnect,
            peer_address: peer_address(&entry.conf),
        };
        let Some(number) = entry.worker else {
            return;
        };
        if reconnect && self.connecting.contains_key(&number) {
            // It would lead to the old peer. The worker asks again.
            self.connecting.remove(&number);
            let reason = "The peer's address was changed.".to_owned();
            if let Some((_, worker)) = self.workers.get_mut(&number) {
                // A worker that cannot be told is ending.
                let _ = worker.answer_connect(Err(reason));
            }
        }
        if let Some((_, worker)) = self.workers.get_mut(&number)
            && worker.process.send(&message, Vec::new()).is_err()
        {
            worker.process.terminate(now);
        }
    }

    /// Forgets resources that are not configured any more, once their workers have gone.
    pub(super) fn forget_removed(&mut self, now: Instant) {
        let gone: Vec<String> = self
            .entries
            .extract_if(.., |entry| entry.removed && entry.supervisor.is_idle())
            .map(|entry| entry.conf.name)
            .collect();
        for name in gone {
            let text = format!("Resource {name} removed.");
            self.log.info(DAEMON, &text);
            self.events.forget(&name);
            self.note(Kind::ResourceRemoved, text, now);
        }
    }

    /// Resources are listed in the order of the file; those on their way out come last.
    fn sort_entries(&mut self) {
        let config = &self.config;
        let place = |entry: &Entry| {
            let mut names = config.resources.iter().map(|resource| &resource.name);
            names
                .position(|name| !entry.removed && *name == entry.conf.name)
                .unwrap_or(usize::MAX)
        };
        self.entries.sort_by_cached_key(place);
    }

    fn forget_names(&mut self) {
        let config = &self.config;
        let is_used = |wanted: &str| {
            let resources = config.resources.iter();
            let addresses = resources
                .flat_map(|resource| [resource.remote.as_ref(), resource.source.as_ref()])
                .flatten();
            let listened = config.listen.iter().map(|listen| &listen.address);
            addresses
                .chain(listened)
                .any(|address| matches!(address, Address::Tcp { host, .. } if host == wanted))
        };
        self.names.retain(is_used);
    }
}
