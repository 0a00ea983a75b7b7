//! Landlock: a second lock on what the filter and the empty root directory forbid already.

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::step::{Outcome, Result};

/// Newest version of the interface that this asks for; an older kernel gives what it has.
const NEWEST: ABI = ABI::V7;

/// Denies all access to files, all binding and connecting, abstract Unix sockets of others, and
/// signals to them: no rule allows anything.
pub(super) fn restrict() -> Result {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    let detail = match status.ruleset {
        RulesetStatus::FullyEnforced => "files, network, signals",
        RulesetStatus::PartiallyEnforced => "in part: the kernel knows an older version",
        RulesetStatus::NotEnforced => {
            return Ok(Outcome::NotInForce("the kernel has no Landlock".into()));
        }
    };
    match std::fs::read_dir("/") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(Outcome::InForce(Some(detail.into())))
        }
        Ok(_) => Err("Landlock is in force, and a directory can be opened".into()),
        Err(error) => Err(format!("opening a directory fails in another way: {error}")),
    }
}

/// Files can be read and executed, none be written, made or removed; no TCP socket be bound, no
/// process outside be signalled.
pub(super) fn restrict_to_reading() -> Result {
    let root = PathFd::new("/").map_err(|error| error.to_string())?;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rule(PathBeneath::new(root, AccessFs::from_read(NEWEST))))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(Outcome::InForce(Some("reading only".into()))),
        RulesetStatus::PartiallyEnforced => Ok(Outcome::InForce(Some(
            "reading only; in part: the kernel knows an older version".into(),
        ))),
        RulesetStatus::NotEnforced => Ok(Outcome::NotInForce("the kernel has no Landlock".into())),
    }
}
