//! The commands that steer a resource beyond its role: `pause-sync`, `resume-sync`, `sync-rate`,
//! `connect`, `disconnect`.

use super::args::{ForceOptions, NamesOptions, RateOptions};
use super::client::{Daemon, code_of};
use super::exit;
use super::output::Console;
use crate::conf::Config;
use crate::terms::SyncRate;
use crate::wire::control::{ControlRequest, Order, ResourceState, steer};

/// `pause-sync` and `resume-sync`.
pub(super) fn pause(
    options: &NamesOptions,
    paused: bool,
    config: &Config,
    console: &mut Console<'_>,
) -> u8 {
    let code = if paused {
        steer::PAUSE_SYNC
    } else {
        steer::RESUME_SYNC
    };
    order(code, None, &options.names, config, console)
}

/// `sync-rate`.
pub(super) fn rate(options: &RateOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let argument = options.rate.0.map(|rate| rate.to_string());
    order(steer::SYNC_RATE, argument, &options.names, config, console)
}

/// `connect`.
pub(super) fn connect(options: &NamesOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    order(steer::CONNECT, None, &options.names, config, console)
}

/// `disconnect`.
pub(super) fn disconnect(options: &ForceOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let argument = options.force.then(|| steer::FORCE.to_owned());
    order(steer::DISCONNECT, argument, &options.names, config, console)
}

/// A rate of the command line; `default` is what hast.conf says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<SyncRate>);

impl Rate {
    /// As [`SyncRate::parse`], or `default`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Rate, &'static str> {
        if text == "default" {
            return Ok(Rate(None));
        }
        SyncRate::parse(text)
            .map(|rate| Rate(Some(rate)))
            .ok_or("not a rate")
    }
}

/// Sends an order, and tells what came of it for each resource.
fn order(
    code: u8,
    argument: Option<String>,
    names: &[String],
    config: &Config,
    console: &mut Console<'_>,
) -> u8 {
    let request = ControlRequest {
        order: Order::Extension { code, argument },
        resources: names.to_vec(),
        json: false,
    };
    let reply = match Daemon::once(config).and_then(|mut daemon| daemon.ask(&request)) {
        Ok(reply) => reply,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    let mut code = exit::OK;
    for resource in &reply.resources {
        match &resource.state {
            ResourceState::Failed { error, text } => {
                code = exit::first(code, code_of(error.number()));
                let text = text
                    .clone()
                    .unwrap_or_else(|| format!("Received error {} from hastd.", error.number()));
                console.error(Some(&resource.name), text);
            }
            ResourceState::Done { text, .. } => {
                if let Some(text) = text {
                    console.print(format_args!("{}: {text}\n", resource.name));
                }
            }
            ResourceState::Status(_) => {
                console.error(
                    Some(&resource.name),
                    "The daemon answered another question.",
                );
                code = exit::first(code, exit::SOFTWARE);
            }
        }
    }
    code
}
