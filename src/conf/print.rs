//! The effective configuration as text.
//!
//! What [`conf()`] and [`toml()`] print parses, on the node whose name they were given, to the same
//! [`Config`]. Default listen addresses are left out there, since a configured address that the
//! kernel cannot serve is an error and a default one is not.

use std::fmt::Write as _;
use std::path::Path;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::document::Keyword;
use super::lexer::is_word_char;
use super::model::{Address, Config, Resource, SandboxMode};
use crate::terms::{Checksum, Compression, DriverChoice, Replication, SyncRate};

/// In the format of hast.conf(5), with the sections of this node named `node`.
pub fn conf(config: &Config, node: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_conf(&mut text, config, node);
    text
}

fn write_conf(text: &mut String, config: &Config, node: &str) -> std::fmt::Result {
    writeln!(text, "control {}", quoted(&config.control.to_string()))?;
    writeln!(text, "pidfile {}", quoted_path(&config.pidfile))?;
    for listen in &config.listen {
        if listen.default {
            writeln!(text, "# listen {} (by default)", listen.address)?;
        } else {
            writeln!(text, "listen {}", quoted(&listen.address.to_string()))?;
        }
    }
    writeln!(text, "devices {}", quoted_path(&config.devices))?;
    writeln!(text, "state {}", quoted_path(&config.state))?;
    writeln!(text, "user {}", quoted(&config.user))?;
    writeln!(text, "sandbox {}", config.sandbox.as_str())?;
    writeln!(text, "driver {}", config.driver.as_str())?;
    for resource in &config.resources {
        write_resource(text, resource, node)?;
    }
    Ok(())
}

fn write_resource(text: &mut String, resource: &Resource, node: &str) -> std::fmt::Result {
    writeln!(text, "\nresource {} {{", quoted(&resource.name))?;
    writeln!(text, "\tname {}", quoted(&resource.provname))?;
    writeln!(text, "\tlocal {}", quoted_path(&resource.local))?;
    writeln!(text, "\treplication {}", resource.replication.as_str())?;
    writeln!(text, "\tchecksum {}", resource.checksum.as_str())?;
    writeln!(text, "\tcompression {}", resource.compression.as_str())?;
    writeln!(text, "\ttimeout {}", resource.timeout_s)?;
    if let Some(exec) = &resource.exec {
        writeln!(text, "\texec {}", quoted_path(exec))?;
    }
    if let Some(fence) = &resource.fence {
        writeln!(text, "\tfence {}", quoted_path(fence))?;
        writeln!(text, "\tfencetimeout {}", resource.fence_timeout_s)?;
    }
    let metaflush = if resource.metaflush { "on" } else { "off" };
    writeln!(text, "\tmetaflush {metaflush}")?;
    writeln!(text, "\tsyncrate {}", resource.syncrate)?;
    writeln!(text, "\ton {} {{", quoted(node))?;
    writeln!(text, "\t\tremote {}", quoted(&remote(resource)))?;
    if let Some(source) = &resource.source {
        writeln!(text, "\t\tsource {}", quoted(&source.to_string()))?;
    }
    writeln!(text, "\t}}\n}}")
}

/// The word as it is if the original would take it for one, else in quotes.
fn quoted(word: &str) -> String {
    let number = word.bytes().all(|byte| byte.is_ascii_digit());
    if !number && word.chars().all(is_word_char) && Keyword::from_name(word).is_none() {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn quoted_path(path: &Path) -> String {
    // The parser takes UTF-8 only, so nothing is lost here.
    quoted(&path.to_string_lossy())
}

fn remote(resource: &Resource) -> String {
    resource
        .remote
        .as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// Of no interest where nobody is asked.
fn fence_timeout(resource: &Resource) -> Option<u32> {
    resource.fence.is_some().then_some(resource.fence_timeout_s)
}

/// For programs: a number, `null` without a limit, or a word.
fn json_rate(rate: SyncRate) -> serde_json::Value {
    match rate {
        SyncRate::Unlimited => serde_json::Value::Null,
        SyncRate::Limit(bytes) => bytes.get().into(),
        SyncRate::Adaptive => "adaptive".into(),
    }
}

/// In TOML, with the tables of this node named `node`.
///
/// # Errors
/// The serialiser's, which no configuration is known to cause.
pub fn toml(config: &Config, node: &str) -> Result<String, String> {
    let listen: Vec<_> = config
        .listen
        .iter()
        .filter(|listen| !listen.default)
        .map(|listen| listen.address.to_string())
        .collect();
    let file = FileOut {
        control: config.control.to_string(),
        pidfile: &config.pidfile,
        listen,
        devices: &config.devices,
        state: &config.state,
        user: &config.user,
        sandbox: config.sandbox,
        driver: config.driver,
        resource: Map(config
            .resources
            .iter()
            .map(|resource| {
                let peer = NodeOut {
                    remote: remote(resource),
                    source: resource.source.as_ref().map(ToString::to_string),
                };
                (
                    resource.name.as_str(),
                    section(resource, Map(vec![(node, peer)])),
                )
            })
            .collect()),
    };
    toml::to_string(&file).map_err(|error| error.to_string())
}

/// In JSON, for programs; default listen addresses and the node's name included.
///
/// # Errors
/// The serialiser's, which no configuration is known to cause.
pub fn json(config: &Config, node: &str) -> Result<String, String> {
    #[derive(serde::Serialize)]
    struct JsonOut<'a> {
        node: &'a str,
        control: String,
        pidfile: &'a Path,
        listen: Vec<String>,
        devices: &'a Path,
        state: &'a Path,
        user: &'a str,
        sandbox: SandboxMode,
        driver: DriverChoice,
        resources: Vec<JsonResource<'a>>,
    }
    let out = JsonOut {
        node,
        control: config.control.to_string(),
        pidfile: &config.pidfile,
        listen: config
            .listen
            .iter()
            .map(|listen| listen.address.to_string())
            .collect(),
        devices: &config.devices,
        state: &config.state,
        user: &config.user,
        sandbox: config.sandbox,
        driver: config.driver,
        resources: config.resources.iter().map(json_resource).collect(),
    };
    let mut text = serde_json::to_string_pretty(&out).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(text)
}

#[derive(serde::Serialize)]
struct JsonResource<'a> {
    resource: &'a str,
    name: &'a str,
    local: &'a Path,
    /// Null where the configuration says `none`.
    remote: Option<&'a Address>,
    source: Option<&'a Address>,
    replication: Replication,
    checksum: Checksum,
    compression: Compression,
    /// Seconds.
    timeout: u32,
    exec: Option<&'a Path>,
    fence: Option<&'a Path>,
    /// Seconds; null where there is no such program.
    fencetimeout: Option<u32>,
    metaflush: bool,
    /// Bytes per second, null where there is no limit, or `adaptive`.
    syncrate: serde_json::Value,
}

fn json_resource(resource: &Resource) -> JsonResource<'_> {
    JsonResource {
        resource: &resource.name,
        name: &resource.provname,
        local: &resource.local,
        remote: resource.remote.as_ref(),
        source: resource.source.as_ref(),
        replication: resource.replication,
        checksum: resource.checksum,
        compression: resource.compression,
        timeout: resource.timeout_s,
        exec: resource.exec.as_deref(),
        fence: resource.fence.as_deref(),
        fencetimeout: fence_timeout(resource),
        metaflush: resource.metaflush,
        syncrate: json_rate(resource.syncrate),
    }
}

#[derive(serde::Serialize)]
struct FileOut<'a> {
    control: String,
    pidfile: &'a Path,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<String>,
    devices: &'a Path,
    state: &'a Path,
    user: &'a str,
    sandbox: SandboxMode,
    driver: DriverChoice,
    resource: Map<'a, ResourceOut<'a>>,
}

#[derive(serde::Serialize)]
struct ResourceOut<'a> {
    name: &'a str,
    local: &'a Path,
    replication: Replication,
    checksum: Checksum,
    compression: Compression,
    timeout: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencetimeout: Option<u32>,
    metaflush: bool,
    syncrate: String,
    on: Map<'a, NodeOut>,
}

#[derive(serde::Serialize)]
struct NodeOut {
    remote: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

fn section<'a>(resource: &'a Resource, on: Map<'a, NodeOut>) -> ResourceOut<'a> {
    ResourceOut {
        name: &resource.provname,
        local: &resource.local,
        replication: resource.replication,
        checksum: resource.checksum,
        compression: resource.compression,
        timeout: resource.timeout_s,
        exec: resource.exec.as_deref(),
        fence: resource.fence.as_deref(),
        fencetimeout: fence_timeout(resource),
        metaflush: resource.metaflush,
        syncrate: resource.syncrate.to_string(),
        on,
    }
}

/// A map that keeps its order when it is printed: that of the file.
struct Map<'a, T>(Vec<(&'a str, T)>);

impl<T: Serialize> Serialize for Map<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
