//! Whether a peer's first packet is admitted: the checks of spec/01, 3, in their order, and the
//! texts of their refusals, which peers and operators know.

use crate::ipc::Level;
use crate::terms::Role;
use crate::wire::hello::Answer;

/// What the parent knows when a peer's first packet has come.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The peer's address is that of some resource's remote.
    pub known: bool,
    /// The resource that it asks for, if it is configured.
    pub resource: Option<ResourceFacts>,
}

/// What the parent knows of the resource that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ResourceFacts {
    /// The peer's address is that of this resource's remote.
    pub admitted: bool,
    /// Our role.
    pub role: Role,
    /// An administrator has disconnected it here.
    pub disconnected: bool,
    /// For a second step: whether its token is that of a half-open session.
    pub token: Option<bool>,
}

/// Why a peer is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its address is that of no resource: no answer.
    UnknownClient,
    /// The resource is not configured.
    NotConfigured,
    /// The resource has another remote.
    NoAccess,
    /// We are not secondary.
    Role(Role),
    /// An administrator has disconnected it here.
    Disconnected,
    /// The token is that of no half-open session.
    Token,
}

/// The checks, in their order.
///
/// # Errors
/// The first that fails.
pub fn admit(facts: Facts) -> Result<(), Refusal> {
    if !facts.known {
        return Err(Refusal::UnknownClient);
    }
    let resource = facts.resource.ok_or(Refusal::NotConfigured)?;
    if !resource.admitted {
        return Err(Refusal::NoAccess);
    }
    if resource.role != Role::Secondary {
        return Err(Refusal::Role(resource.role));
    }
    if resource.disconnected {
        return Err(Refusal::Disconnected);
    }
    if resource.token == Some(false) {
        return Err(Refusal::Token);
    }
    Ok(())
}

impl Refusal {
    /// What the peer is told; nothing if the connection is just closed.
    pub fn answer(self) -> Option<Answer> {
        let message = match self {
            Refusal::UnknownClient => return None,
            Refusal::NotConfigured => "Resource not configured.".to_owned(),
            Refusal::NoAccess => "No access to the resource.".to_owned(),
            Refusal::Role(role) => format!(
                "Remote node acts as {} for the resource and not as secondary.",
                role.as_str()
            ),
            Refusal::Disconnected => {
                "The remote node is disconnected by order of an administrator.".to_owned()
            }
            Refusal::Token => "Token doesn't match.".to_owned(),
        };
        Some(Answer::Refused {
            message,
            // We may be in the middle of a change of roles.
            wait: self == Refusal::Role(Role::Primary),
        })
    }

    /// What the log says.
    pub fn log(self, resource: &str, client: &str) -> (Level, String) {
        match self {
            Refusal::UnknownClient => (Level::Error, format!("Client {client} isn't known.")),
            Refusal::NotConfigured => (
                Level::Error,
                format!("No resource '{resource}' as requested by {client}."),
            ),
            Refusal::NoAccess => (
                Level::Error,
                format!("Client {client} has no access to the resource."),
            ),
            Refusal::Role(role) => (
                Level::Warning,
                format!(
                    "We act as {} for the resource and not as secondary as requested by {client}.",
                    role.as_str()
                ),
            ),
            Refusal::Disconnected => (
                Level::Debug(1),
                format!("Disconnected by order: {client} is turned away."),
            ),
            Refusal::Token => (
                Level::Error,
                format!("Token received from {client} doesn't match."),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(admitted: bool, role: Role, token: Option<bool>) -> Facts {
        Facts {
            known: true,
            resource: Some(ResourceFacts {
                admitted,
                role,
                disconnected: false,
                token,
            }),
        }
    }

    #[test]
    fn checks_come_in_the_order_of_the_protocol() {
        let mut stranger = facts(false, Role::Init, Some(false));
        stranger.known = false;
        assert_eq!(admit(stranger), Err(Refusal::UnknownClient));
        let nothing = Facts {
            known: true,
            resource: None,
        };
        assert_eq!(admit(nothing), Err(Refusal::NotConfigured));
        for (facts, refusal) in [
            (facts(false, Role::Init, Some(false)), Refusal::NoAccess),
            (
                facts(true, Role::Init, Some(false)),
                Refusal::Role(Role::Init),
            ),
            (facts(true, Role::Secondary, Some(false)), Refusal::Token),
        ] {
            assert_eq!(admit(facts), Err(refusal));
        }
        let mut disconnected = facts(true, Role::Secondary, None);
        if let Some(resource) = &mut disconnected.resource {
            resource.disconnected = true;
        }
        assert_eq!(admit(disconnected), Err(Refusal::Disconnected));
        assert_eq!(admit(facts(true, Role::Secondary, None)), Ok(()));
        assert_eq!(admit(facts(true, Role::Secondary, Some(true))), Ok(()));
    }

    #[test]
    fn only_a_primary_asks_the_peer_to_wait_and_strangers_get_no_answer() {
        assert_eq!(Refusal::UnknownClient.answer(), None);
        assert_eq!(
            Refusal::Role(Role::Primary).answer(),
            Some(Answer::Refused {
                message: "Remote node acts as primary for the resource and not as secondary."
                    .to_owned(),
                wait: true,
            })
        );
        assert_eq!(
            Refusal::Role(Role::Init).answer(),
            Some(Answer::Refused {
                message: "Remote node acts as init for the resource and not as secondary."
                    .to_owned(),
                wait: false,
            })
        );
    }
}
