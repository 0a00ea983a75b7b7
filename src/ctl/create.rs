//! `hastctl create`: makes local components.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::args::CreateOptions;
use super::exit;
use super::output::Console;
use crate::conf::Config;
use crate::conf::model::Resource;
use crate::disk::create::create;
use crate::disk::layout::{self, Plan, SizeError};
use crate::disk::metadata;
use crate::disk::provider::{Access, Lock, OpenError, Provider};

/// Creates every resource that is named; one that fails does not keep the others from it.
pub(super) fn run(options: &CreateOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let mut code = exit::OK;
    for name in &options.names {
        let done = match config.resource(name) {
            Some(resource) => one(options, resource, console),
            None => {
                console.error(None, format_args!("Unknown resource {name}."));
                exit::DATAERR
            }
        };
        code = exit::first(code, done);
    }
    code
}

fn one(options: &CreateOptions, resource: &Resource, console: &mut Console<'_>) -> u8 {
    match try_one(options, resource, console) {
        Ok(()) => exit::OK,
        Err((code, text)) => {
            console.error(Some(&resource.name), text);
            code
        }
    }
}

/// An error is the exit code and what to say.
fn try_one(
    options: &CreateOptions,
    resource: &Resource,
    console: &mut Console<'_>,
) -> Result<(), (u8, String)> {
    let name = resource.name.as_str();
    let path = resource.local.display();
    let provider = open(options.force, resource)?;
    match provider.lock() {
        Lock::Taken => console.warning(
            Some(name),
            format_args!("{path} is in use by another process, but continuing (-f)."),
        ),
        Lock::Unsupported => console.warning(
            Some(name),
            format_args!("Unable to lock {path} (operation not supported), but continuing."),
        ),
        Lock::Held | Lock::None => {}
    }

    let defaults = layout::CreateOptions::default();
    let wanted = layout::CreateOptions {
        extentsize: options.extentsize.unwrap_or(defaults.extentsize),
        keepdirty: options.keepdirty.unwrap_or(defaults.keepdirty),
        mediasize: options.mediasize,
        alignment: options.alignment,
    };
    let plan = Plan::new(provider.info().geometry, &wanted).map_err(|error| {
        let text = match error {
            SizeError::LargerThanProvider => {
                format!("Provided mediasize is larger than provider {path} size.")
            }
            error => error.to_string(),
        };
        (exit::DATAERR, text)
    })?;

    if !options.force {
        let block = provider
            .read_block()
            .map_err(|error| (exit::IOERR, error.to_string()))?;
        if let Some(owner) = metadata::owner(&block).filter(|owner| owner != name) {
            return Err((
                exit::DATAERR,
                format!("Provider {path} belongs to resource {owner}: use -f to take it over."),
            ));
        }
    }
    create(&provider, &plan.metadata(name)).map_err(|error| (exit::IOERR, error.to_string()))
}

/// How long another process may hold the component: a worker whose role has just ended may be in
/// the middle of a flush, and the system keeps its lock until that is done.
const LOCK_PATIENCE: Duration = Duration::from_secs(6);

/// Pause before it is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Opens the component alone, or, with `force`, whoever else uses it.
fn open(force: bool, resource: &Resource) -> Result<Provider, (u8, String)> {
    let opened = if force {
        match Provider::open(&resource.local, Access::Exclusive) {
            Err(OpenError::InUse { .. }) => Provider::open(&resource.local, Access::Forced),
            opened => opened,
        }
    } else {
        open_alone(&resource.local)
    };
    opened.map_err(|error| match error {
        OpenError::InUse { .. } => (
            exit::TEMPFAIL,
            format!("{error} Set the role to init first, or use -f."),
        ),
        OpenError::NoLock { .. } => (exit::IOERR, error.to_string()),
        _ => (exit::NOINPUT, error.to_string()),
    })
}

/// Opens a component alone, when a worker that is ending has let go of it.
pub(super) fn open_alone(path: &Path) -> Result<Provider, OpenError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Provider::open(path, Access::Exclusive) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
}
