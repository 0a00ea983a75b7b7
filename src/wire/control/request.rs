//! What hastctl asks.

use std::collections::BTreeMap;
use std::fmt;

use super::{ControlError, RESOURCES_MAX, STOP, split_index};
use crate::terms::{RESOURCE_NAME_MAX_BYTES, Role};
use crate::wire::message::PROTOCOL_VERSION;
use crate::wire::nv::Entry;
use crate::wire::packet::{self, Packet};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// 1: change the role.
    SetRole(Role),
    /// 2: tell the state.
    Status,
    /// 64: stop.
    Stop,
    /// Another command of this program's own.
    Extension {
        /// Its number, from 65 on.
        code: u8,
        /// Its argument.
        argument: Option<String>,
    },
}

/// A request on the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRequest {
    /// What is to be done.
    pub order: Order,
    /// With which resources, 1..=65535 names; `all` as the first one means every resource.
    pub resources: Vec<String>,
    /// Whether to tell states as JSON, too.
    pub json: bool,
}

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadControlRequest {
    /// `cmd` is missing or 0.
    NoCommand,
    /// `resource0` is missing.
    NoResource,
    /// More resources than [`RESOURCES_MAX`].
    TooManyResources,
    /// A resource's name that is not a string of UTF-8, 1..=254 bytes long.
    BadName(usize),
    /// No such role.
    BadRole(u8),
    /// No such command.
    UnknownCommand(u8),
    /// A pair has the wrong type.
    Kind(&'static str),
    /// Data with a message that has none.
    UnexpectedData,
}

impl BadControlRequest {
    /// What to answer; `None`: nothing, as the original. The connection is closed in any case.
    pub fn answer(self) -> Option<ControlError> {
        match self {
            BadControlRequest::NoCommand => None,
            BadControlRequest::UnknownCommand(_) => Some(ControlError::UNIMPLEMENTED),
            BadControlRequest::NoResource
            | BadControlRequest::TooManyResources
            | BadControlRequest::BadName(_)
            | BadControlRequest::BadRole(_)
            | BadControlRequest::Kind(_)
            | BadControlRequest::UnexpectedData => Some(ControlError::INVALID),
        }
    }
}

impl fmt::Display for BadControlRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The original's texts, which are grepped for.
            BadControlRequest::NoCommand => f.write_str("Control header is missing 'cmd' field."),
            BadControlRequest::NoResource => {
                f.write_str("Control header is missing 'resource0' field.")
            }
            BadControlRequest::BadRole(role) => write!(f, "Invalid role received ({role})."),
            BadControlRequest::UnknownCommand(code) => {
                write!(f, "Invalid command received ({code}).")
            }
            BadControlRequest::TooManyResources => {
                write!(
                    f,
                    "Control header names more than {RESOURCES_MAX} resources."
                )
            }
            BadControlRequest::BadName(index) => {
                write!(
                    f,
                    "Control header has an invalid name in field 'resource{index}'."
                )
            }
            BadControlRequest::Kind(name) => {
                write!(f, "Control header has field '{name}' with a wrong type.")
            }
            BadControlRequest::UnexpectedData => {
                f.write_str("Control header announces data, which control messages do not have.")
            }
        }
    }
}

impl std::error::Error for BadControlRequest {}

impl ControlRequest {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| {
            match &self.order {
                Order::SetRole(role) => {
                    let role = match role {
                        Role::Init => 1,
                        Role::Primary => 2,
                        Role::Secondary => 3,
                    };
                    pairs.u8("cmd", 1).u8("role", role);
                }
                Order::Status => {
                    pairs.u8("cmd", 2);
                }
                Order::Stop => {
                    pairs.u8("cmd", STOP);
                }
                Order::Extension { code, argument } => {
                    pairs.u8("cmd", *code);
                    if let Some(argument) = argument {
                        pairs.string("x-arg", argument);
                    }
                }
            }
            for (index, name) in self.resources.iter().enumerate() {
                pairs.string(&format!("resource{index}"), name);
            }
            if self.json {
                pairs.u8("x-json", 1);
            }
        });
    }

    /// The request of a packet. Unknown pairs are ignored, and so are resources behind a gap in
    /// their numbers.
    ///
    /// # Errors
    /// What is wrong; [`BadControlRequest::answer`] says what to answer.
    pub fn decode(packet: &Packet<'_>) -> Result<ControlRequest, BadControlRequest> {
        let (mut cmd, mut role, mut json, mut argument) = (None, None, None, None);
        let mut names = BTreeMap::new();
        for entry in packet.block.entries() {
            let slot = match entry.name {
                b"cmd" => &mut cmd,
                b"role" => &mut role,
                b"x-json" => &mut json,
                b"x-arg" => &mut argument,
                name => {
                    if let Some((b"resource", index)) = split_index(name) {
                        names.entry(index).or_insert(entry);
                    }
                    continue;
                }
            };
            slot.get_or_insert(entry);
        }
        if packet.data_bytes != 0 {
            return Err(BadControlRequest::UnexpectedData);
        }
        let code = small("cmd", cmd)?.filter(|&code| code != 0);
        let code = code.ok_or(BadControlRequest::NoCommand)?;
        let resources = list(&names)?;
        let order = match code {
            1 => match small("role", role)?.unwrap_or(0) {
                1 => Order::SetRole(Role::Init),
                2 => Order::SetRole(Role::Primary),
                3 => Order::SetRole(Role::Secondary),
                other => return Err(BadControlRequest::BadRole(other)),
            },
            2 => Order::Status,
            0..STOP => return Err(BadControlRequest::UnknownCommand(code)),
            STOP => Order::Stop,
            _ => {
                let argument = argument
                    .map(|entry| entry.str().map(str::to_owned))
                    .transpose()
                    .map_err(|_| BadControlRequest::Kind("x-arg"))?;
                Order::Extension { code, argument }
            }
        };
        Ok(ControlRequest {
            order,
            resources,
            json: small("x-json", json)? == Some(1),
        })
    }
}

fn small(name: &'static str, entry: Option<Entry<'_>>) -> Result<Option<u8>, BadControlRequest> {
    entry
        .map(|entry| entry.u8())
        .transpose()
        .map_err(|_| BadControlRequest::Kind(name))
}

/// The names 0, 1, ... up to the first gap.
fn list(names: &BTreeMap<usize, Entry<'_>>) -> Result<Vec<String>, BadControlRequest> {
    let mut list = Vec::new();
    for (index, (&number, entry)) in names.iter().enumerate() {
        if index != number {
            break;
        }
        match entry.str() {
            Ok(name) if (1..=RESOURCE_NAME_MAX_BYTES).contains(&name.len()) => {
                list.push(name.to_owned());
            }
            _ => return Err(BadControlRequest::BadName(index)),
        }
    }
    if list.len() > RESOURCES_MAX {
        return Err(BadControlRequest::TooManyResources);
    }
    if list.is_empty() {
        return Err(BadControlRequest::NoResource);
    }
    Ok(list)
}
