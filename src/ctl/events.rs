//! `hastctl events`: what has happened, and what happens.

use super::args::EventsOptions;
use super::client::{Daemon, Failure, names_or_all};
use super::exit;
use super::output::Console;
use crate::conf::Config;
use crate::events::{Page, Query, Record};
use crate::wire::control::{ControlRequest, EVENTS, Order};

/// How long a question waits for an event, in seconds.
const WAIT_S: u32 = 30;

/// Shows the events that the daemon remembers, then, if asked to, those that come, until the daemon
/// does not answer any more.
pub(super) fn run(options: &EventsOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let mut daemon = match Daemon::often(config) {
        Ok(daemon) => daemon,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    let mut query = Query {
        since_ms: options.since.unwrap_or(0),
        ..Query::default()
    };
    loop {
        let page = match ask(&mut daemon, &options.names, query) {
            Ok(page) => page,
            Err(failure) => {
                console.error(None, &failure);
                return failure.code;
            }
        };
        if page.lost > 0 {
            let text = format!(
                "{} events were lost: the daemon keeps the last ones only.",
                page.lost
            );
            console.warning(None, text);
        }
        for event in &page.events {
            if !show(event, options.json, console) {
                return exit::SOFTWARE;
            }
        }
        if !console.flush() || !(page.more || options.follow) {
            return exit::OK;
        }
        query.after = page.next;
        query.wait_s = if page.more { 0 } else { WAIT_S };
    }
}

fn ask(daemon: &mut Daemon, names: &[String], query: Query) -> Result<Page, Failure> {
    let request = ControlRequest {
        order: Order::Extension {
            code: EVENTS,
            argument: Some(query.encode()),
        },
        resources: names_or_all(names),
        json: true,
    };
    let reply = daemon.ask(&request)?;
    let json = reply.json.unwrap_or_default();
    serde_json::from_str(&json).map_err(|error| {
        Failure::new(
            exit::SOFTWARE,
            format!("hastd answered something else than events: {error}."),
        )
    })
}

/// Shows an event; false if that is impossible.
fn show(event: &Record, json: bool, console: &mut Console<'_>) -> bool {
    if json {
        return console.print_json(serde_json::to_string(event));
    }
    let whose = match (&event.resource, &event.role) {
        (Some(name), Some(role)) => format!("[{name}] ({role}) "),
        (Some(name), None) => format!("[{name}] "),
        (None, _) => String::new(),
    };
    console.print(format_args!(
        "{} {} {whose}{}: {}\n",
        event.time, event.severity, event.kind, event.details
    ));
    if let Some(count) = event.suppressed {
        console.print(format_args!("    {count} more like this were left out.\n"));
    }
    if let Some(advice) = &event.advice {
        console.print(format_args!("    {advice}\n"));
    }
    true
}
