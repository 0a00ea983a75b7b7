//! The descriptors that the process holds, checked against the policy.

use std::os::fd::RawFd;

use privsep::audit::{self, Expected, Family, Kind as Found, Type};

use crate::policy::{self, Kind, Object, roles};
use crate::{Config, Held};

/// Numbers of the standard descriptors.
pub(crate) const STANDARD: [RawFd; 3] = [0, 1, 2];

/// Checks that exactly the configured descriptors are open, that their kind of process may hold
/// them, and that they are what their roles say; gives their number.
pub(crate) fn check(config: &Config) -> Result<usize, String> {
    let mut expected = Vec::new();
    let standard = STANDARD.map(|number| Held {
        number,
        role: roles::STANDARD,
    });
    for held in standard.iter().chain(&config.descriptors) {
        expected.push(expect(config.kind, *held)?);
    }
    for entry in policy::descriptors(config.kind) {
        let count = expected
            .iter()
            .filter(|expected| expected.role == entry.role)
            .count();
        if u32::try_from(count).map_or(true, |count| count > entry.count_max) {
            return Err(format!(
                "{count} descriptors for the {}, {} are the most",
                entry.role, entry.count_max
            ));
        }
    }
    audit::audit(&expected).map_err(|error| error.to_string())?;
    Ok(expected.len())
}

fn expect(kind: Kind, held: Held) -> Result<Expected, String> {
    let entry = policy::descriptor(kind, held.role).ok_or_else(|| {
        format!(
            "a {} may hold no descriptor for the {}",
            kind.as_str(),
            held.role
        )
    })?;
    let kinds = entry
        .objects
        .iter()
        .flat_map(|object| found(*object))
        .collect();
    Ok(Expected {
        number: held.number,
        role: held.role,
        kinds,
    })
}

fn found(object: Object) -> Vec<Found> {
    match object {
        Object::Stream => vec![
            Found::Socket(Family::Unix, Type::Stream),
            Found::Socket(Family::Internet, Type::Stream),
        ],
        Object::SeqPacket => vec![Found::Socket(Family::Unix, Type::SeqPacket)],
        Object::File => vec![Found::File],
        Object::BlockDevice => vec![Found::BlockDevice],
        Object::CharDevice => vec![Found::CharDevice],
        Object::Pipe => vec![Found::Pipe],
        Object::EventFd => vec![Found::Anonymous("eventfd".into())],
        Object::IoUring => vec![Found::Anonymous("io_uring".into())],
    }
}
