//! Inheritance: from what the file says to what applies to this node (spec/03).
//!
//! Node section over resource section over global section over default. Of several sections that
//! match, the last that says something counts, as in the original.

use std::collections::HashMap;

use super::diagnostic::{Sink, printable};
use super::document::{Document, NodeSection, ResourceSection, Settings};
use super::identity::Identity;
use super::model::{Config, Listen, Resource};

/// Resources in one file at most.
pub(super) const RESOURCES_MAX: usize = 65_535;

/// What applies to this node; errors go to the sink, and the result is of no use then.
pub(super) fn resolve(document: Document, identity: &Identity, sink: &mut Sink<'_>) -> Config {
    check_resources(&document.resources, sink);
    let Document {
        settings: mut global,
        nodes,
        resources,
    } = document;
    for node in nodes
        .into_iter()
        .filter(|node| identity.matches(&node.name))
    {
        global.control = node.settings.control.or(global.control);
        global.pidfile = node.settings.pidfile.or(global.pidfile);
        global.devices = node.settings.devices.or(global.devices);
        global.state = node.settings.state.or(global.state);
        global.listen.extend(node.settings.listen);
    }
    let mut config = Config::default();
    config.resources = resources
        .into_iter()
        .filter_map(|resource| resolve_resource(resource, &global, identity, sink))
        .collect();
    config.control = global.control.unwrap_or(config.control);
    config.pidfile = global.pidfile.unwrap_or(config.pidfile);
    config.devices = global.devices.unwrap_or(config.devices);
    config.state = global.state.unwrap_or(config.state);
    config.user = global.user.unwrap_or(config.user);
    config.sandbox = global.sandbox.unwrap_or(config.sandbox);
    config.driver = global.driver.unwrap_or(config.driver);
    if !global.listen.is_empty() {
        config.listen = global.listen.into_iter().map(Listen::configured).collect();
    }
    config
}

/// Reports names that are used twice, and more resources than there may be.
fn check_resources(resources: &[ResourceSection], sink: &mut Sink<'_>) {
    let mut first_of = HashMap::new();
    for resource in resources
        .iter()
        .filter(|resource| !resource.name.is_empty())
    {
        let first = *first_of
            .entry(resource.name.as_str())
            .or_insert(resource.span.start);
        if first != resource.span.start {
            // Counting lines takes time, which a file with many errors must not multiply.
            let line = if sink.full() { 0 } else { sink.line_of(first) };
            sink.report(
                &resource.span,
                format!(
                    "Resource {} configured more than once.",
                    printable(&resource.name)
                ),
                format!("another name: the resource on line {line} has this one"),
            );
        }
    }
    if let Some(resource) = resources.get(RESOURCES_MAX) {
        let expected = format!("at most {RESOURCES_MAX}");
        sink.report(&resource.span, "Too many resources.", expected);
    }
}

fn resolve_resource(
    resource: ResourceSection,
    global: &Settings,
    identity: &Identity,
    sink: &mut Sink<'_>,
) -> Option<Resource> {
    let ResourceSection {
        name,
        span,
        settings,
        nodes,
        damaged,
    } = resource;
    let matching = nodes
        .into_iter()
        .filter(|node| identity.matches(&node.name));
    let Some(NodeSection {
        span: node_span,
        settings: node,
        ..
    }) = matching.reduce(merge)
    else {
        if !damaged {
            report_no_section(&name, &span, identity, sink);
        }
        return None;
    };
    if !damaged && node.remote.is_none() {
        sink.report(
            &node_span,
            format!(
                "Remote address not configured for resource {}.",
                printable(&name)
            ),
            "remote with an address or none in this section",
        );
    }
    let local = node.local.or(settings.local);
    if !damaged && local.is_none() {
        sink.report(
            &node_span,
            format!(
                "Path local component not configured for resource {}.",
                printable(&name)
            ),
            "local with a path in this section or the resource",
        );
    }
    let mut resolved = Resource::with_defaults(&name, local?);
    resolved.remote = node.remote?;
    resolved.source = node.source;
    resolved.exec = settings.exec.or_else(|| global.exec.clone());
    resolved.fence = settings
        .fence
        .or_else(|| global.fence.clone())
        .unwrap_or_default();
    if let Some(timeout_s) = settings.fence_timeout_s.or(global.fence_timeout_s) {
        resolved.fence_timeout_s = timeout_s;
    }
    if let Some(provname) = node.provname.or(settings.provname) {
        resolved.provname = provname;
    }
    if let Some(replication) = settings.replication.or(global.replication) {
        resolved.replication = replication;
    }
    if let Some(checksum) = settings.checksum.or(global.checksum) {
        resolved.checksum = checksum;
    }
    if let Some(compression) = settings.compression.or(global.compression) {
        resolved.compression = compression;
    }
    if let Some(timeout_s) = settings.timeout_s.or(global.timeout_s) {
        resolved.timeout_s = timeout_s;
    }
    if let Some(metaflush) = node.metaflush.or(settings.metaflush).or(global.metaflush) {
        resolved.metaflush = metaflush;
    }
    if let Some(syncrate) = settings.syncrate.or(global.syncrate) {
        resolved.syncrate = syncrate;
    }
    Some(resolved)
}

/// Two sections of a resource that match this node: the later one wins, statement by statement.
fn merge(earlier: NodeSection, later: NodeSection) -> NodeSection {
    NodeSection {
        name: later.name,
        span: later.span,
        settings: Settings {
            provname: later.settings.provname.or(earlier.settings.provname),
            local: later.settings.local.or(earlier.settings.local),
            metaflush: later.settings.metaflush.or(earlier.settings.metaflush),
            remote: later.settings.remote.or(earlier.settings.remote),
            source: later.settings.source.or(earlier.settings.source),
            ..Settings::default()
        },
    }
}

fn report_no_section(
    name: &str,
    span: &std::ops::Range<usize>,
    identity: &Identity,
    sink: &mut Sink<'_>,
) {
    let names = identity.acceptable_names().join(", ");
    sink.report(
        span,
        format!(
            "No resource {} configuration for this node (acceptable node names: {}).",
            printable(name),
            printable(&names)
        ),
        "an on section for this node",
    );
}
