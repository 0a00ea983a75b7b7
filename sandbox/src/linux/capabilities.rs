//! Capabilities: none, for ever; the parent keeps a few.

use caps::{CapSet, Capability, CapsHashSet};

use super::sys;
use crate::step::{Outcome, Result};

/// No capability can be gained by executing anything. Needs CAP_SETPCAP, hence root.
pub(super) fn empty_bounding_set() -> Result {
    let capabilities = || (0..).take_while(|number| sys::is_in_bounding_set(*number).is_ok());
    for number in capabilities() {
        sys::drop_from_bounding_set(number)
            .map_err(|error| format!("capability {number} cannot be dropped: {error}"))?;
    }
    match capabilities().find(|number| !matches!(sys::is_in_bounding_set(*number), Ok(false))) {
        None => Ok(Outcome::InForce(None)),
        Some(number) => Err(format!("capability {number} is still in the set")),
    }
}

/// Every set of this process is empty.
pub(super) fn drop_all() -> Result {
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(|error| format!("{set:?} set: {error}"))?;
        let left = caps::read(None, set).map_err(|error| format!("{set:?} set: {error}"))?;
        if !left.is_empty() {
            return Err(format!("the {set:?} set still holds {left:?}"));
        }
    }
    Ok(Outcome::InForce(None))
}

/// This process keeps those of its capabilities that are named, and no others. The bounding set
/// stays: what it executes as root has all of that again.
pub(super) fn keep(names: impl Iterator<Item = &'static str>) -> Result {
    let read = |set| caps::read(None, set).map_err(|error| format!("{set:?} set: {error}"));
    let mut wanted = CapsHashSet::new();
    for name in names {
        let capability: Capability = name
            .parse()
            .map_err(|_| format!("{name} is no capability of this system"))?;
        wanted.insert(capability);
    }
    let kept: CapsHashSet = read(CapSet::Permitted)?
        .intersection(&wanted)
        .copied()
        .collect();
    let none = CapsHashSet::new();
    // The effective ones are always among the permitted ones, the ambient ones among both.
    for (set, value) in [
        (CapSet::Ambient, &none),
        (CapSet::Inheritable, &none),
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
    ] {
        let changed = match set {
            CapSet::Ambient => caps::clear(None, set),
            _ => caps::set(None, set, value),
        };
        changed.map_err(|error| format!("{set:?} set: {error}"))?;
        if read(set)? != *value {
            return Err(format!(
                "the {set:?} set is another than the one that was set"
            ));
        }
    }
    let mut names: Vec<String> = kept.iter().map(Capability::to_string).collect();
    names.sort();
    Ok(Outcome::InForce(Some(format!("only {}", names.join(", ")))))
}
