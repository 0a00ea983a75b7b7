//! What a reload has to do (spec/03, Reload): the difference of two configurations.
//!
//! Nothing here acts: the daemon asks what changed, and for each resource what that means in its
//! present role.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::model::{Address, Config, Listen, Resource, SandboxMode};
use crate::terms::DriverChoice;
use crate::terms::Role;

/// The difference of two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Where to listen in addition. An address that is in both configurations is in neither list,
    /// even if it is a default in one of them.
    pub listen_added: Vec<Listen>,
    /// Where to listen no longer.
    pub listen_removed: Vec<Listen>,
    /// The new control address, if it moves.
    pub control: Option<Address>,
    /// The new pidfile, if it moves.
    pub pidfile: Option<PathBuf>,
    /// The new directory of device sockets, if it changes: takes effect for workers that start from
    /// now on.
    pub devices: Option<PathBuf>,
    /// The new directory of what outlives the daemon, if it changes.
    pub state: Option<PathBuf>,
    /// The new account, if it changes: takes effect for processes that start from now on, so
    /// fully only when the daemon is started again.
    pub user: Option<String>,
    /// The new demand on confinement, if it changes; as `user`.
    pub sandbox: Option<SandboxMode>,
    /// The new choice of the driver, if it changes: for workers that start from now on.
    pub driver: Option<DriverChoice>,
    /// Every resource of either configuration: those of the new one in its order, then those that
    /// are gone in the old one's order.
    pub resources: Vec<(String, ResourceChange)>,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.listen_added.is_empty()
            && self.listen_removed.is_empty()
            && self.control.is_none()
            && self.pidfile.is_none()
            && self.devices.is_none()
            && self.state.is_none()
            && self.user.is_none()
            && self.sandbox.is_none()
            && self.driver.is_none()
            && self
                .resources
                .iter()
                .all(|(_, change)| *change == ResourceChange::Unchanged)
    }
}

/// What became of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceChange {
    /// Only the new configuration has it.
    Added,
    /// Only the old configuration has it.
    Removed,
    /// The same in both.
    Unchanged,
    /// Different.
    Changed(Impact),
}

/// What a change of a resource costs its primary; each includes those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impact {
    /// Provider name or local path: another provider or another disk.
    Restart,
    /// Remote or source address: another connection.
    Reconnect,
    /// Anything else.
    Parameters,
}

/// What to do with a resource at a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add it in role init.
    Add,
    /// Take it to role init, then forget it.
    Remove,
    /// Nothing.
    Keep,
    /// Stop its worker and take the same role up again.
    Restart,
    /// Tell the running worker its new parameters; the provider stays.
    Update {
        /// The worker connects again, since the peer's or its own address is another.
        reconnect: bool,
    },
}

impl ResourceChange {
    /// What to do with a resource that is in `role` now.
    pub const fn action(self, role: Role) -> Action {
        match (self, role) {
            (ResourceChange::Added, _) => Action::Add,
            (ResourceChange::Removed, _) => Action::Remove,
            (ResourceChange::Unchanged, _) => Action::Keep,
            (ResourceChange::Changed(_), Role::Init | Role::Secondary)
            | (ResourceChange::Changed(Impact::Restart), Role::Primary) => Action::Restart,
            (ResourceChange::Changed(Impact::Reconnect), Role::Primary) => {
                Action::Update { reconnect: true }
            }
            (ResourceChange::Changed(Impact::Parameters), Role::Primary) => {
                Action::Update { reconnect: false }
            }
        }
    }
}

/// What turns `old` into `new`.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let old_of: HashMap<&str, &Resource> = by_name(old);
    let new_of: HashMap<&str, &Resource> = by_name(new);
    let kept = new.resources.iter().map(|resource| {
        let change = old_of
            .get(resource.name.as_str())
            .map_or(ResourceChange::Added, |old| compare(old, resource));
        (resource.name.clone(), change)
    });
    let gone = old
        .resources
        .iter()
        .filter(|resource| !new_of.contains_key(resource.name.as_str()))
        .map(|resource| (resource.name.clone(), ResourceChange::Removed));
    Changes {
        listen_added: only_in_first(&new.listen, &old.listen),
        listen_removed: only_in_first(&old.listen, &new.listen),
        control: changed(&old.control, &new.control),
        pidfile: changed(&old.pidfile, &new.pidfile),
        devices: changed(&old.devices, &new.devices),
        state: changed(&old.state, &new.state),
        user: changed(&old.user, &new.user),
        sandbox: changed(&old.sandbox, &new.sandbox),
        driver: changed(&old.driver, &new.driver),
        resources: kept.chain(gone).collect(),
    }
}

fn by_name(config: &Config) -> HashMap<&str, &Resource> {
    config
        .resources
        .iter()
        .map(|resource| (resource.name.as_str(), resource))
        .collect()
}

fn changed<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}

/// The addresses of `first` that `second` lacks, each once.
fn only_in_first(first: &[Listen], second: &[Listen]) -> Vec<Listen> {
    let mut known: HashSet<&Address> = second.iter().map(|listen| &listen.address).collect();
    first
        .iter()
        .filter(|listen| known.insert(&listen.address))
        .cloned()
        .collect()
}

fn compare(old: &Resource, new: &Resource) -> ResourceChange {
    // Named one by one, so that a new field cannot be forgotten here.
    let Resource {
        name: _,
        provname,
        local,
        remote,
        source,
        replication,
        checksum,
        compression,
        timeout_s,
        exec,
        fence,
        fence_timeout_s,
        metaflush,
        syncrate,
    } = new;
    if *provname != old.provname || *local != old.local {
        return ResourceChange::Changed(Impact::Restart);
    }
    if *remote != old.remote || *source != old.source {
        return ResourceChange::Changed(Impact::Reconnect);
    }
    let same = *replication == old.replication
        && *checksum == old.checksum
        && *compression == old.compression
        && *timeout_s == old.timeout_s
        && *exec == old.exec
        && *fence == old.fence
        && *fence_timeout_s == old.fence_timeout_s
        && *metaflush == old.metaflush
        && *syncrate == old.syncrate;
    if same {
        ResourceChange::Unchanged
    } else {
        ResourceChange::Changed(Impact::Parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::{Checksum, Compression, Replication};

    fn config(resources: Vec<Resource>) -> Config {
        Config {
            resources,
            ..Config::default()
        }
    }

    fn resource(name: &str) -> Resource {
        Resource::with_defaults(name, format!("/dev/{name}"))
    }

    fn change_of(edit: impl FnOnce(&mut Resource)) -> ResourceChange {
        let mut edited = resource("a");
        edit(&mut edited);
        let changes = diff(&config(vec![resource("a")]), &config(vec![edited]));
        assert_eq!(changes.resources.len(), 1);
        changes.resources[0].1
    }

    #[test]
    fn a_disappeared_resource_is_removed_and_a_new_one_added_in_role_init() {
        let old = config(vec![resource("a"), resource("b")]);
        let new = config(vec![resource("c"), resource("b")]);
        let changes = diff(&old, &new);
        assert_eq!(
            changes.resources,
            [
                ("c".to_owned(), ResourceChange::Added),
                ("b".to_owned(), ResourceChange::Unchanged),
                ("a".to_owned(), ResourceChange::Removed),
            ]
        );
        for role in [Role::Init, Role::Primary, Role::Secondary] {
            assert_eq!(ResourceChange::Added.action(role), Action::Add);
            assert_eq!(ResourceChange::Removed.action(role), Action::Remove);
            assert_eq!(ResourceChange::Unchanged.action(role), Action::Keep);
        }
    }

    #[test]
    fn provider_name_or_local_path_restarts_a_primary() {
        for change in [
            change_of(|resource| resource.provname = "x".to_owned()),
            change_of(|resource| resource.local = "/x".into()),
            change_of(|resource| {
                resource.local = "/x".into();
                resource.remote = "x".parse().ok();
            }),
        ] {
            assert_eq!(change, ResourceChange::Changed(Impact::Restart));
            assert_eq!(change.action(Role::Primary), Action::Restart);
        }
    }

    #[test]
    fn remote_or_source_reconnects_a_primary_whose_provider_stays() {
        for change in [
            change_of(|resource| resource.remote = "x".parse().ok()),
            change_of(|resource| resource.source = "x".parse().ok()),
        ] {
            assert_eq!(change, ResourceChange::Changed(Impact::Reconnect));
            assert_eq!(
                change.action(Role::Primary),
                Action::Update { reconnect: true }
            );
        }
    }

    #[test]
    fn any_other_change_updates_a_primary_without_reconnecting() {
        for change in [
            change_of(|resource| resource.replication = Replication::Async),
            change_of(|resource| resource.checksum = Checksum::Sha256),
            change_of(|resource| resource.compression = Compression::Lzf),
            change_of(|resource| resource.timeout_s = 7),
            change_of(|resource| resource.exec = Some("/x".into())),
            change_of(|resource| resource.fence = Some("/x".into())),
            change_of(|resource| resource.fence_timeout_s = 7),
            change_of(|resource| resource.metaflush = false),
            change_of(|resource| resource.syncrate = crate::terms::SyncRate::Adaptive),
        ] {
            assert_eq!(change, ResourceChange::Changed(Impact::Parameters));
            assert_eq!(
                change.action(Role::Primary),
                Action::Update { reconnect: false }
            );
        }
    }

    #[test]
    fn every_change_restarts_init_and_secondary_in_their_role() {
        for impact in [Impact::Restart, Impact::Reconnect, Impact::Parameters] {
            for role in [Role::Init, Role::Secondary] {
                assert_eq!(
                    ResourceChange::Changed(impact).action(role),
                    Action::Restart
                );
            }
        }
    }

    #[test]
    fn listen_addresses_come_and_go_without_touching_the_rest() {
        let listen = |text: &str| Listen::configured(text.parse().unwrap());
        let mut old = config(Vec::new());
        old.listen = vec![listen("a:1"), listen("b:1")];
        let mut new = old.clone();
        new.listen = vec![listen("c:1"), listen("b:1"), listen("c:1")];
        let changes = diff(&old, &new);
        assert_eq!(changes.listen_added, [listen("c:1")]);
        assert_eq!(changes.listen_removed, [listen("a:1")]);
        new.listen = old.listen.iter().rev().cloned().collect();
        assert!(diff(&old, &new).is_empty());
    }

    #[test]
    fn a_default_address_that_is_now_configured_stays_open() {
        let old = config(Vec::new());
        let mut new = old.clone();
        new.listen = vec![Listen::configured(old.listen[0].address.clone())];
        let changes = diff(&old, &new);
        assert_eq!(changes.listen_added, []);
        assert_eq!(changes.listen_removed, old.listen[1..]);
    }

    #[test]
    fn control_pidfile_user_sandbox_and_driver_are_told_when_they_change() {
        let old = config(vec![resource("a")]);
        assert!(diff(&old, &old).is_empty());
        let mut new = old.clone();
        new.control = Address::Unix("/c".into());
        new.pidfile = "/p".into();
        new.devices = "/d".into();
        new.state = "/s".into();
        new.user = "u".to_owned();
        new.sandbox = SandboxMode::BestEffort;
        new.driver = DriverChoice::Threads;
        let changes = diff(&old, &new);
        assert!(!changes.is_empty());
        assert_eq!(changes.control, Some(new.control));
        assert_eq!(changes.pidfile, Some(new.pidfile));
        assert_eq!(changes.devices, Some(new.devices));
        assert_eq!(changes.state, Some(new.state));
        assert_eq!(changes.user, Some(new.user));
        assert_eq!(changes.sandbox, Some(new.sandbox));
        assert_eq!(changes.driver, Some(new.driver));
    }
}
