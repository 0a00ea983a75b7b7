//! What happens, one record at a time: what `hastctl events` shows (hast-json(5)).
//!
//! The daemon fills [`Record`]s in and keeps the last of them; hastctl gets a [`Page`] of them at
//! a time. Members are only ever added within one [`VERSION`].

use serde::{Deserialize, Serialize};

/// Version of the schema of a record.
pub const VERSION: u32 = 1;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Something is wrong and work goes on.
    Warning,
    /// Something failed.
    Error,
}

impl Severity {
    /// The word of a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $word:literal $severity:ident,)*) => {
        /// Kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The word of a record.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => $word,)* }
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self { $(Kind::$kind => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    /// The daemon serves.
    DaemonStart "daemon-start" Info,
    /// The daemon ends.
    DaemonStop "daemon-stop" Info,
    /// The configuration was read again.
    Reload "reload" Info,
    /// It could not be used; the old one stays in force.
    ReloadFailed "reload-failed" Error,
    /// A resource was added to the configuration.
    ResourceAdded "resource-added" Info,
    /// A resource was removed from it.
    ResourceRemoved "resource-removed" Info,
    /// The role was changed by order.
    Role "role" Info,
    /// The fencing program is asked, or has agreed.
    Fence "fence" Info,
    /// It has not agreed: the node does not become primary.
    FenceRefused "fence-refused" Error,
    /// Something else was ordered by an administrator.
    Order "order" Info,
    /// The role could not be taken or kept: it is init now.
    RoleLost "role-lost" Error,
    /// A worker process was started.
    WorkerStart "worker-start" Info,
    /// A worker process ended as it should.
    WorkerExit "worker-exit" Info,
    /// A worker process failed, or was killed.
    WorkerFailed "worker-failed" Error,
    /// It is started again after a pause.
    WorkerRestart "worker-restart" Warning,
    /// The local component cannot be used: absent, in use, never created, of another resource.
    DiskUnusable "disk-unusable" Error,
    /// The local copy is incomplete and may not serve alone.
    CopyIncomplete "copy-incomplete" Error,
    /// The nodes are connected.
    Connect "connect" Info,
    /// They are not any more.
    Disconnect "disconnect" Warning,
    /// An attempt to connect has failed, for another reason than the one before.
    ConnectFailed "connect-failed" Warning,
    /// The nodes do not fit together: sizes, unique ids.
    Mismatch "mismatch" Error,
    /// Both copies were written apart from each other.
    SplitBrain "split-brain" Error,
    /// The counters fit no history: everything is synchronised.
    CountersReset "counters-reset" Warning,
    /// A synchronisation began.
    SyncStart "sync-start" Info,
    /// It goes on.
    SyncProgress "sync-progress" Info,
    /// It is complete.
    SyncDone "sync-done" Info,
    /// It was interrupted, and goes on when the nodes are connected again.
    SyncInterrupted "sync-interrupted" Warning,
    /// An operation on the local disk failed.
    DiskError "disk-error" Error,
    /// The local disk is no longer used.
    DiskDetached "disk-detached" Error,
    /// An operation on the disk of the remote node failed.
    PeerError "peer-error" Error,
    /// The remote node lacks something that this one relies on otherwise.
    PeerLimited "peer-limited" Warning,
    /// A hook was started.
    HookStart "hook-start" Info,
    /// It ended well.
    HookEnd "hook-end" Info,
    /// It failed, or could not be started.
    HookFailed "hook-failed" Error,
    /// It has been running for long.
    HookSlow "hook-slow" Warning,
    /// A connection of somebody was refused.
    Refused "refused" Warning,
    /// The process that accepts connections ended and is started again.
    ListenerFailed "listener-failed" Error,
}

impl Kind {
    /// What to do about it, if there is something; `resource` is the one that it happened to.
    pub fn advice(self, resource: Option<&str>) -> Option<String> {
        let name = resource.unwrap_or("all");
        let text = match self {
            Kind::ReloadFailed => {
                "Correct the file (hastctl config check shows every error) and reload again; the \
                 old configuration stays in force until then."
                    .to_owned()
            }
            Kind::RoleLost => format!(
                "Remove the cause named in the events before, then set the role again: hastctl \
                 role <role> {name}."
            ),
            Kind::FenceRefused => format!(
                "Make sure that the other node does not write any more, see why the program of \
                 fence did not agree, then ask again: hastctl role primary {name}."
            ),
            Kind::WorkerFailed => format!(
                "The daemon starts it again if that can help. If it happens again: hastctl \
                 explain {name}, and the system's log."
            ),
            Kind::DiskUnusable => format!(
                "Check the path of local in hast.conf, that the device is there, and that nobody \
                 else has it open (fuser). If it was never initialised: hastctl create {name}."
            ),
            Kind::CopyIncomplete => format!(
                "The good copy is on the other node: make that one primary and this one secondary \
                 (hastctl role secondary {name}), and let the synchronisation end."
            ),
            Kind::Disconnect | Kind::ConnectFailed => {
                "Check that hastd runs on the other node with role secondary, and the network \
                 between them. The connection is made again without help."
                    .to_owned()
            }
            Kind::Mismatch => format!(
                "Compare hastctl dump {name} on both nodes. Sizes must be equal (hastctl create \
                 -m); a copy of another resource must be created anew."
            ),
            Kind::SplitBrain => format!(
                "Decide which copy is to be kept; what was written on the other one alone is \
                 lost. hastctl explain {name} shows the commands."
            ),
            Kind::SyncInterrupted => {
                "It goes on where it stopped when the nodes are connected again.".to_owned()
            }
            Kind::DiskError | Kind::DiskDetached => format!(
                "Look at the disk (system's log, SMART data). To replace it: hastctl explain \
                 {name}."
            ),
            Kind::PeerError => format!(
                "Look at the disk of the other node, and run there: hastctl explain {name}."
            ),
            Kind::HookFailed => {
                "Run the program by hand with the arguments that are shown.".to_owned()
            }
            Kind::HookSlow => "See what the program waits for: nobody ends it.".to_owned(),
            Kind::Refused => {
                "If it is the other node: compare remote and the names of resources in both \
                 hast.conf. If it is not: keep strangers from the port."
                    .to_owned()
            }
            Kind::ListenerFailed => {
                "It is started again without help. If it happens again, somebody may be attacking \
                 it."
                .to_owned()
            }
            _ => return None,
        };
        Some(text)
    }
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Number of the event since the daemon started, from 1. A gap: events were lost.
    pub seq: u64,
    /// When: `2026-11-24T23:28:14.123Z`, always UTC.
    pub time: String,
    /// To which resource; absent: to the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The resource's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A word: [`Kind::as_str`]. Later versions of the program may add some.
    pub kind: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// In words.
    pub details: String,
    /// What to do about it, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Events of this kind and resource that were left out before this one, since they were many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<u64>,
}

/// Some events in a row, as the daemon hands them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In their order.
    pub events: Vec<Record>,
    /// To be asked for the next page: the number of the last event that was looked at.
    pub next: u64,
    /// Whether there are more already.
    pub more: bool,
    /// Events that the question was about and that are not kept any more.
    pub lost: u64,
}

/// What is asked for: the argument of the control command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Events after this number.
    pub after: u64,
    /// Events from this time on, in milliseconds since 1970.
    pub since_ms: u64,
    /// If there are none, wait for one, for so many seconds at most.
    pub wait_s: u32,
}

/// Seconds that a question may wait at most.
pub const WAIT_MAX_S: u32 = 60;

impl Query {
    /// As the argument: words `name=number`.
    pub fn encode(self) -> String {
        format!(
            "after={} since={} wait={}",
            self.after, self.since_ms, self.wait_s
        )
    }

    /// The question of an argument. Words that are unknown are ignored.
    ///
    /// # Errors
    /// A word without a number, or with one that is too large.
    pub fn decode(argument: &str) -> Result<Query, String> {
        let mut query = Query::default();
        for word in argument.split_ascii_whitespace() {
            let bad = || format!("'{word}' is no word of a question about events");
            let (name, number) = word.split_once('=').ok_or_else(bad)?;
            let number: u64 = number.parse().map_err(|_| bad())?;
            match name {
                "after" => query.after = number,
                "since" => query.since_ms = number,
                "wait" => {
                    let wait = u32::try_from(number).unwrap_or(WAIT_MAX_S);
                    query.wait_s = wait.min(WAIT_MAX_S);
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_kinds_are_unique_and_every_bad_event_comes_with_advice() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let same = |other: &&Kind| other.as_str() == kind.as_str();
            assert_eq!(Kind::ALL.iter().position(|other| same(&other)), Some(index));
            if kind.severity() == Severity::Error {
                assert!(kind.advice(Some("test")).is_some(), "{kind:?}");
            }
        }
    }

    #[test]
    fn questions_survive_the_way_and_nonsense_is_refused() {
        let query = Query {
            after: u64::MAX,
            since_ms: 7,
            wait_s: 20,
        };
        assert_eq!(Query::decode(&query.encode()), Ok(query));
        assert_eq!(Query::decode("later=7"), Ok(Query::default()));
        let long = Query::decode("wait=18446744073709551615").map(|query| query.wait_s);
        assert_eq!(long, Ok(WAIT_MAX_S));
        for text in ["after", "after=", "after=-1", "since=18446744073709551616"] {
            assert!(Query::decode(text).is_err(), "{text}");
        }
    }
}
