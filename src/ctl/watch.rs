//! `hastctl status --watch` and `hastctl wait`: asking again until something has become true.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::args::{StatusOptions, WaitOptions};
use super::client::Daemon;
use super::exit;
use super::output::Console;
use super::size::humanize;
use super::status::{document, fetch};
use crate::conf::Config;
use crate::report::Resource;

/// How often the daemon is asked while a person watches.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How often the daemon is asked by `wait`.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

/// `status --watch`: bars on a terminal, otherwise a line for each change. Ends when the daemon
/// does not answer any more.
pub(super) fn watch(options: &StatusOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let terminal = std::io::stdout().is_terminal();
    let bars = MultiProgress::new();
    let mut shown: HashMap<String, Shown> = HashMap::new();
    let mut daemon = match Daemon::often(config) {
        Ok(daemon) => daemon,
        Err(failure) => {
            console.error(None, &failure);
            return failure.code;
        }
    };
    loop {
        let reply = match fetch(&mut daemon, &options.names, true) {
            Ok(reply) => reply,
            Err(failure) => {
                console.error(None, &failure);
                return failure.code;
            }
        };
        for resource in document(&reply).resources {
            let entry = shown
                .entry(resource.name.clone())
                .or_insert_with(|| Shown::new(&resource.name, terminal.then_some(&bars)));
            entry.show(&resource, console);
        }
        if !console.flush() {
            return exit::OK;
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// What was shown of a resource last.
struct Shown {
    bar: Option<ProgressBar>,
    line: String,
}

impl Shown {
    fn new(name: &str, bars: Option<&MultiProgress>) -> Shown {
        let bar = bars.map(|bars| {
            let bar = bars.add(ProgressBar::new(1));
            // The template is a constant: it is right or a test fails.
            if let Ok(style) = ProgressStyle::with_template("{prefix:16} [{bar:24}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        Shown {
            bar,
            line: String::new(),
        }
    }

    fn show(&mut self, resource: &Resource, console: &mut Console<'_>) {
        let line = describe(resource);
        match &self.bar {
            Some(bar) => {
                let (total, left) = resource
                    .synchronisation
                    .as_ref()
                    .map_or((1, u64::from(!is_synced(resource))), |sync| {
                        (sync.total_bytes, sync.left_bytes)
                    });
                bar.set_length(total.max(1));
                bar.set_position(total.saturating_sub(left));
                bar.set_message(line);
            }
            None if line != self.line => {
                console.print(format_args!("{}\t{line}\n", resource.name));
                self.line = line;
            }
            None => {}
        }
    }
}

/// A resource in one line.
fn describe(resource: &Resource) -> String {
    if let Some(error) = resource.error {
        return format!("ERR{error}");
    }
    let mut line = format!(
        "{} {}",
        resource.role.as_deref().unwrap_or("-"),
        resource.status.as_deref().unwrap_or("-")
    );
    if let Some(sync) = &resource.synchronisation {
        let verb = if sync.paused {
            "paused"
        } else {
            "synchronising"
        };
        line.push_str(&format!(
            ", {verb} {}, {}B of {}B left, {}B/s",
            sync.direction,
            humanize(sync.left_bytes),
            humanize(sync.total_bytes),
            humanize(sync.bytes_per_second)
        ));
        if let Some(seconds) = sync.eta_seconds {
            line.push_str(&format!(", {seconds} s to go"));
        }
    } else if let Some(dirty) = resource.dirty_bytes.filter(|&dirty| dirty > 0) {
        line.push_str(&format!(", {}B dirty", humanize(dirty)));
    }
    for reason in [&resource.reason, &resource.message].into_iter().flatten() {
        line.push_str(&format!(": {reason}"));
    }
    line
}

fn is_connected(resource: &Resource) -> bool {
    resource.status.as_deref() == Some("complete")
}

/// Connected, and nothing left to copy. Extents that are kept dirty do not count, whatever daemon
/// tells of them.
fn is_synced(resource: &Resource) -> bool {
    let kept = u64::from(resource.keepdirty.unwrap_or(0))
        .saturating_mul(resource.extent_bytes.unwrap_or(0).into());
    is_connected(resource)
        && resource.synchronisation.is_none()
        && resource.dirty_bytes.unwrap_or(0) <= kept
        && resource.disk.as_deref().is_none_or(|disk| disk == "good")
}

/// `wait`.
pub(super) fn wait(options: &WaitOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let is_met = |resource: &Resource| {
        let role = resource.role.as_deref();
        (!options.connected || is_connected(resource))
            && (!options.synced || is_synced(resource))
            && options
                .role
                .is_none_or(|wanted| role == Some(wanted.as_str()))
    };
    match Daemon::often(config) {
        Ok(mut daemon) => until(
            &mut daemon,
            &options.names,
            options.timeout,
            is_met,
            console,
        ),
        Err(failure) => {
            console.error(None, &failure);
            failure.code
        }
    }
}

/// Asks again and again: 0 when something is true of every resource, EX_TEMPFAIL (75) when the
/// time, in seconds, is over.
pub(super) fn until(
    daemon: &mut Daemon,
    names: &[String],
    timeout_s: Option<u64>,
    is_met: impl Fn(&Resource) -> bool,
    console: &mut Console<'_>,
) -> u8 {
    let deadline = timeout_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        let reply = match fetch(daemon, names, true) {
            Ok(reply) => reply,
            Err(failure) => {
                console.error(None, &failure);
                return failure.code;
            }
        };
        let resources = document(&reply).resources;
        if let Some(unknown) = resources.iter().find(|resource| resource.error.is_some()) {
            let number = unknown.error.unwrap_or_default();
            let text = format!("Received error {number} from hastd.");
            console.warning(Some(&unknown.name), text);
            return super::client::code_of(number);
        }
        let missing: Vec<&Resource> = resources
            .iter()
            .filter(|resource| !is_met(resource))
            .collect();
        if missing.is_empty() {
            return exit::OK;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            for resource in missing {
                let text = format!("Not yet: {}.", describe(resource).trim_end_matches('.'));
                console.error(Some(&resource.name), text);
            }
            return exit::TEMPFAIL;
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Synchronisation;

    fn complete() -> Resource {
        Resource {
            name: "test".to_owned(),
            role: Some("primary".to_owned()),
            status: Some("complete".to_owned()),
            dirty_bytes: Some(2 << 20),
            extent_bytes: Some(2 << 20),
            keepdirty: Some(64),
            ..Resource::default()
        }
    }

    #[test]
    fn a_resource_that_copies_or_has_no_good_disk_is_not_synced() {
        assert!(is_synced(&complete()));
        let mut copying = complete();
        copying.synchronisation = Some(Synchronisation::default());
        assert!(!is_synced(&copying));
        let mut stale = complete();
        stale.disk = Some("stale".to_owned());
        assert!(!is_synced(&stale));
        let mut degraded = complete();
        degraded.status = Some("degraded".to_owned());
        assert!(!is_synced(&degraded));
        let mut dirty = complete();
        dirty.dirty_bytes = Some(65 * (2 << 20));
        assert!(!is_synced(&dirty));
    }

    #[test]
    fn a_line_says_why_and_how_long() {
        let mut resource = complete();
        resource.status = Some("degraded".to_owned());
        resource.reason = Some("Connection refused".to_owned());
        assert_eq!(
            describe(&resource),
            "primary degraded, 2.0MB dirty: Connection refused"
        );
        resource.status = Some("complete".to_owned());
        resource.reason = None;
        resource.synchronisation = Some(Synchronisation {
            direction: "to-peer".to_owned(),
            paused: false,
            total_bytes: 10 << 20,
            left_bytes: 5 << 20,
            bytes_per_second: 1 << 20,
            limit_bytes_per_second: None,
            eta_seconds: Some(5),
        });
        assert_eq!(
            describe(&resource),
            "primary complete, synchronising to-peer, 5.0MB of 10MB left, 1.0MB/s, 5 s to go"
        );
    }

    #[test]
    fn the_template_of_the_bar_is_right() {
        ProgressStyle::with_template("{prefix:16} [{bar:24}] {msg}").unwrap();
    }
}
