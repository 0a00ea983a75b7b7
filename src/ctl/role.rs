//! `hastctl role` and `hastctl stop`.

use super::args::{Common, RoleOptions};
use super::client::{Daemon, code_of};
use super::exit;
use super::output::Console;
use super::watch::until;
use crate::conf::Config;
use crate::report::Resource;
use crate::terms::Role;
use crate::wire::control::steer::FORCE_PRIMARY;
use crate::wire::control::{ControlError, ControlRequest, Order, ResourceState};

/// `role`: the exit code says whether every role was taken.
pub(super) fn run(options: &RoleOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let order = match (options.role, options.force) {
        (Role::Primary, true) => Order::Extension {
            code: FORCE_PRIMARY,
            argument: None,
        },
        (role, false) => Order::SetRole(role),
        (Role::Init | Role::Secondary, true) => {
            console.error(None, "Only the role primary can be forced.");
            return exit::USAGE;
        }
    };
    let request = ControlRequest {
        order,
        resources: options.names.clone(),
        json: false,
    };
    let daemon = if options.wait {
        Daemon::often(config)
    } else {
        Daemon::once(config)
    };
    let asked = daemon.and_then(|mut daemon| Ok((daemon.ask(&request)?, daemon)));
    let (reply, mut daemon) = match asked {
        Ok(asked) => asked,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    let mut code = exit::OK;
    for resource in &reply.resources {
        let name = Some(resource.name.as_str());
        match &resource.state {
            ResourceState::Failed { error, text } => {
                code = exit::first(code, code_of(error.number()));
                let number = error.number();
                match text {
                    // The original's line, without a word more.
                    Some(text) if *error != ControlError::NO_ENTRY => console.warning(
                        name,
                        format_args!("Received error {number} from hastd: {text}"),
                    ),
                    _ => console.warning(name, format_args!("Received error {number} from hastd.")),
                }
            }
            ResourceState::Done { previous, .. } => {
                let (before, now) = (previous.unwrap_or(options.role), options.role);
                if before == now {
                    console.debug(
                        2,
                        name,
                        format_args!("Role unchanged ({}).", before.as_str()),
                    );
                } else {
                    console.debug(
                        1,
                        name,
                        format_args!("Role changed from {} to {}.", before.as_str(), now.as_str()),
                    );
                }
            }
            ResourceState::Status(_) => {
                console.error(name, "The daemon answered another question.");
                code = exit::first(code, exit::SOFTWARE);
            }
        }
    }
    if code != exit::OK || !options.wait {
        return code;
    }
    let role = options.role;
    let is_met = |resource: &Resource| is_of_use(role, resource);
    until(
        &mut daemon,
        &options.names,
        options.timeout,
        is_met,
        console,
    )
}

/// Whether a resource does what its role is for: a primary's device answers, a secondary's copy is
/// complete and follows its primary.
fn is_of_use(role: Role, resource: &Resource) -> bool {
    resource.role.as_deref() == Some(role.as_str())
        && match role {
            Role::Init => resource.worker.is_none(),
            Role::Primary => resource.serving == Some(true),
            Role::Secondary => {
                resource.status.as_deref() == Some("complete")
                    && resource.disk.as_deref() == Some("good")
            }
        }
}

/// `stop`: returns when the daemon's workers have ended.
pub(super) fn stop(_options: &Common, config: &Config, console: &mut Console<'_>) -> u8 {
    let request = ControlRequest {
        order: Order::Stop,
        resources: vec!["all".to_owned()],
        json: false,
    };
    match Daemon::once(config).and_then(|mut daemon| daemon.ask(&request)) {
        Ok(_) => exit::OK,
        Err(failure) => {
            console.error(None, &failure);
            failure.code
        }
    }
}
