//! Capabilities: none, for ever.

use caps::CapSet;

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
