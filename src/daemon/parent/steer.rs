//! What an administrator orders of a resource beyond its role: pausing and pacing synchronisations,
//! staying apart from the peer.
//!
//! What concerns synchronisations holds until it is taken back or the role ends; a worker that is
//! restarted in between is told again, with its settings. A disconnection holds until it is taken
//! back, whatever happens: [`crate::daemon::memory`] keeps it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Entry, EntryId, Parent};
use crate::daemon::worker::WorkerId;
use crate::events::Kind;
use crate::report;
use crate::terms::{Role, SyncRate, system_reason};
use crate::wire::control::steer::{CONNECT, DISCONNECT, FORCE, PAUSE_SYNC, RESUME_SYNC, SYNC_RATE};
use crate::wire::control::{ControlError, ResourceState};

/// Why a resource without a session is degraded, if an administrator wants it so.
pub(super) const BY_ORDER: &str = "Disconnected by order of an administrator.";

/// What was ordered.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// It stays apart from its peer.
    pub(super) disconnected: bool,
    /// An incomplete copy is to be used by a primary.
    pub(super) forced: bool,
    /// Synchronisations rest.
    pub(super) sync_paused: bool,
    /// How fast they may go, whatever the configuration says.
    sync_rate: Option<SyncRate>,
}

impl Steering {
    /// The role is another: what was ordered for the former one is over.
    pub(super) fn end_of_role(&mut self) {
        self.sync_paused = false;
        self.sync_rate = None;
    }
}

impl Entry {
    /// How fast a synchronisation may go.
    pub(super) fn sync_rate(&self) -> SyncRate {
        self.steering.sync_rate.unwrap_or(self.conf.syncrate)
    }

    /// For `status --json`.
    pub(super) fn orders(&self) -> report::Orders {
        report::Orders {
            disconnected: self.steering.disconnected,
            sync_paused: self.steering.sync_paused,
            sync_rate: self.sync_rate().to_string(),
            sync_rate_ordered: self.steering.sync_rate.is_some(),
        }
    }
}

/// Why an order is not carried out.
type Refusal = (ControlError, String);

/// An order that makes sense in itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// Let synchronisations rest, or go on.
    Pause(bool),
    /// How fast they may go; `None`: as configured.
    Rate(Option<SyncRate>),
    /// Meet the peer again.
    Connect,
    /// Stay apart from it.
    Disconnect {
        /// Even if applications can do nothing then.
        force: bool,
    },
}

impl Wish {
    /// What a command of hastctl asks for.
    ///
    /// # Errors
    /// There is no such command, or its argument makes no sense.
    pub(super) fn of(code: u8, argument: Option<&str>) -> Result<Wish, Refusal> {
        match (code, argument) {
            (PAUSE_SYNC, None) => Ok(Wish::Pause(true)),
            (RESUME_SYNC, None) => Ok(Wish::Pause(false)),
            (SYNC_RATE, None) => Ok(Wish::Rate(None)),
            (SYNC_RATE, Some(text)) => match SyncRate::parse(text) {
                Some(rate) => Ok(Wish::Rate(Some(rate))),
                None => Err((ControlError::INVALID, format!("'{text}' is no rate."))),
            },
            (CONNECT, None) => Ok(Wish::Connect),
            (DISCONNECT, None) => Ok(Wish::Disconnect { force: false }),
            (DISCONNECT, Some(FORCE)) => Ok(Wish::Disconnect { force: true }),
            (PAUSE_SYNC | RESUME_SYNC | CONNECT | DISCONNECT, Some(text)) => {
                let text = format!("Command {code} has no argument '{text}'.");
                Err((ControlError::INVALID, text))
            }
            _ => {
                let text = format!("This daemon has no command {code}.");
                Err((ControlError::UNIMPLEMENTED, text))
            }
        }
    }
}

impl Parent {
    /// Begins to look after a resource; what was ordered of it before this daemon is known.
    pub(super) fn add_entry(&mut self, mut entry: Entry) {
        let name = &entry.conf.name;
        entry.steering.disconnected = match self.memory.is_disconnected(name) {
            Ok(disconnected) => disconnected,
            Err(error) => {
                // What an administrator wants apart is not to be overwritten for want of a file.
                self.log.error(
                    entry.about(),
                    format_args!(
                        "Unable to find out whether it was disconnected by order, so it stays \
                         disconnected until `hastctl connect`: {}.",
                        system_reason(&error)
                    ),
                );
                true
            }
        };
        self.entries.push(entry);
    }

    /// Carries an order out; workers in `silent` have not told their state in time.
    pub(super) fn steer(
        &mut self,
        id: EntryId,
        wish: Wish,
        silent: &BTreeSet<WorkerId>,
        now: Instant,
    ) -> ResourceState {
        let done = match wish {
            Wish::Pause(paused) => self.pause_sync(id, paused, now),
            Wish::Rate(rate) => self.pace_sync(id, rate, now),
            Wish::Connect => self.keep_apart(id, false, now),
            Wish::Disconnect { force } => {
                let asked = if force {
                    Ok(())
                } else {
                    self.can_be_alone(id, silent)
                };
                asked.and_then(|()| self.keep_apart(id, true, now))
            }
        };
        match done {
            Ok(()) => ResourceState::Done {
                previous: None,
                text: None,
            },
            Err((error, text)) => ResourceState::Failed {
                error,
                text: Some(text),
            },
        }
    }

    fn pause_sync(&mut self, id: EntryId, paused: bool, now: Instant) -> Result<(), Refusal> {
        let Some(entry) = self.entry(id) else {
            return Ok(());
        };
        only_primary(entry.role())?;
        if std::mem::replace(&mut entry.steering.sync_paused, paused) != paused {
            let text = if paused {
                "Synchronization is paused by order."
            } else {
                "Synchronization may go on."
            };
            self.say(id, Kind::Order, text, now);
            self.update_worker(id, false, now);
        }
        Ok(())
    }

    fn pace_sync(
        &mut self,
        id: EntryId,
        rate: Option<SyncRate>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.entry(id) else {
            return Ok(());
        };
        only_primary(entry.role())?;
        entry.steering.sync_rate = rate;
        let text = format!("Rate of synchronization set to {}.", entry.sync_rate());
        self.say(id, Kind::Order, &text, now);
        self.update_worker(id, false, now);
        Ok(())
    }

    /// Whether a primary can serve without its peer.
    fn can_be_alone(&self, id: EntryId, silent: &BTreeSet<WorkerId>) -> Result<(), Refusal> {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return Ok(());
        };
        let Some(number) = entry.worker.filter(|_| entry.role() == Role::Primary) else {
            return Ok(());
        };
        let status = self.workers.get(&number).and_then(|(_, w)| w.status());
        let disk = status.map(|(_, status)| status.disk.as_str());
        let why = match disk {
            _ if silent.contains(&number) => "Its worker does not answer".to_owned(),
            Some("good") | None => return Ok(()),
            Some(disk) => format!("The local copy is {disk}: the remote node has the good one"),
        };
        let text = format!(
            "{why}, so without it applications may get errors. Use --force to disconnect all the \
             same."
        );
        Err((ControlError::NEEDS_FORCE, text))
    }

    /// Stays apart from the peer, or does not any more; durably, before anything is done.
    fn keep_apart(&mut self, id: EntryId, apart: bool, now: Instant) -> Result<(), Refusal> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return Ok(());
        };
        if let Err(error) = self.memory.set_disconnected(&entry.conf.name, apart) {
            let text = format!(
                "Unable to remember that in {}: {}.",
                self.config.state.display(),
                system_reason(&error)
            );
            return Err((ControlError::NOT_KEPT, text));
        }
        if std::mem::replace(&mut entry.steering.disconnected, apart) == apart {
            return Ok(());
        }
        let text = if apart {
            BY_ORDER
        } else {
            "To be connected again, by order of an administrator."
        };
        self.say(id, Kind::Order, text, now);
        self.update_worker(id, false, now);
        if apart {
            self.with_supervisor(id, now, |supervisor| supervisor.hang_up(now));
        }
        Ok(())
    }
}

/// Synchronisations are the primary's.
fn only_primary(role: Role) -> Result<(), Refusal> {
    if role == Role::Primary {
        return Ok(());
    }
    let text = format!(
        "The role here is {}: it is the primary that synchronizes, so ask on that node.",
        role.as_str()
    );
    Err((ControlError::WRONG_ROLE, text))
}
