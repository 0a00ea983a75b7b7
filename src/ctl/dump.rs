//! `hastctl dump`: shows the metadata of local components, whether or not they are in use.

use serde::Serialize;

use super::args::DumpOptions;
use super::exit;
use super::output::Console;
use super::size::humanize;
use crate::conf::Config;
use crate::conf::model::Resource;
use crate::disk::layout::Metadata;
use crate::disk::metadata::{self, MetadataError, ReadError};
use crate::disk::provider::{Access, Provider};

/// The fields of a resource's metadata for programs.
#[derive(Serialize)]
struct Fields<'a> {
    resource: &'a str,
    local: String,
    datasize: u64,
    extentsize: u32,
    keepdirty: u32,
    localoff: u64,
    /// A string: many programs that read JSON have no integers of 64 bits.
    resuid: String,
    localcnt: u64,
    remotecnt: u64,
    prevrole: &'static str,
    inconsistent: bool,
}

/// Shows the resources that are named, or all; one that fails does not hide the others.
pub(super) fn run(options: &DumpOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let all = options.names.first().is_none_or(|first| first == "all");
    let names: Vec<&str> = if all {
        config
            .resources
            .iter()
            .map(|resource| resource.name.as_str())
            .collect()
    } else {
        options.names.iter().map(String::as_str).collect()
    };
    let mut code = exit::OK;
    let mut found = Vec::new();
    for name in names {
        let Some(resource) = config.resource(name) else {
            console.error(None, format_args!("Unknown resource {name}."));
            code = exit::first(code, exit::DATAERR);
            continue;
        };
        match read(resource, options.json, console) {
            Ok(metadata) if options.json => found.push((resource, metadata)),
            Ok(metadata) => print(&metadata, console),
            Err((failure, text)) => {
                console.error(None, text);
                code = exit::first(code, failure);
            }
        }
    }
    if options.json {
        code = exit::first(code, print_json(&found, console));
    }
    code
}

/// An error is the exit code and what to say.
fn read(
    resource: &Resource,
    json: bool,
    console: &mut Console<'_>,
) -> Result<Metadata, (u8, String)> {
    let provider = Provider::open(&resource.local, Access::ReadOnly)
        .map_err(|error| (exit::NOINPUT, error.to_string()))?;
    // Nothing but JSON may go to stdout then.
    if !json {
        let path = resource.local.display();
        console.debug(1, None, format_args!("Obtained info about {path}."));
    }
    metadata::read(&provider, &resource.name).map_err(|error| {
        let code = match &error {
            ReadError::Io(error) if error.is_short() => exit::DATAERR,
            ReadError::Io(_) => exit::IOERR,
            ReadError::Invalid {
                reason: MetadataError::Blank,
                ..
            } => exit::NOINPUT,
            ReadError::Invalid { .. } | ReadError::Foreign { .. } => exit::DATAERR,
        };
        (code, error.to_string())
    })
}

/// As the original does.
fn print(metadata: &Metadata, console: &mut Console<'_>) {
    console.print(format_args!(
        "resource: {}\n    \
         datasize: {} ({}B)\n    \
         extentsize: {} ({}B)\n    \
         keepdirty: {}\n    \
         localoff: {}\n    \
         resuid: {}\n    \
         localcnt: {}\n    \
         remotecnt: {}\n    \
         prevrole: {}\n",
        metadata.resource,
        metadata.datasize,
        humanize(metadata.datasize),
        metadata.extentsize,
        humanize(u64::from(metadata.extentsize)),
        metadata.keepdirty,
        metadata.offset,
        metadata.resuid,
        metadata.localcnt,
        metadata.remotecnt,
        metadata.prevrole.as_str(),
    ));
    if metadata.inconsistent {
        console.print(format_args!("    inconsistent: yes\n"));
    }
}

fn print_json(found: &[(&Resource, Metadata)], console: &mut Console<'_>) -> u8 {
    let fields: Vec<Fields<'_>> = found
        .iter()
        .map(|(resource, metadata)| Fields {
            resource: &metadata.resource,
            local: resource.local.display().to_string(),
            datasize: metadata.datasize,
            extentsize: metadata.extentsize,
            keepdirty: metadata.keepdirty,
            localoff: metadata.offset,
            resuid: metadata.resuid.to_string(),
            localcnt: metadata.localcnt,
            remotecnt: metadata.remotecnt,
            prevrole: metadata.prevrole.as_str(),
            inconsistent: metadata.inconsistent,
        })
        .collect();
    match serde_json::to_string_pretty(&fields) {
        Ok(text) => {
            console.print(format_args!("{text}\n"));
            exit::OK
        }
        Err(error) => {
            console.error(None, format_args!("Unable to print as JSON: {error}."));
            exit::IOERR
        }
    }
}
