//! The table of failures: what each of the tools says of one, as a scenario sees it.
//!
//! `HAST_WRITE=1` puts what was seen into the guide; otherwise it has to be there. What it says of
//! causes depends on the network, so both are done only where the nodes have networks of their own.

use std::fs::{self, File};

use hast::events::{Kind, Page, Record};
use hast::wire::control::{ControlRequest, EVENTS, Order};
use hast_regress::scenario::status::Status;
use hast_regress::scenario::{Cluster, Side, wait};
use nix::fcntl::{Flock, FlockArg};

use super::shell;
use super::text;

/// What the table begins with and ends before.
const HEAD: &str = "| failure | `status` | `explain` | `events` | `metrics` | exit codes |\n|---|---|---|---|---|---|\n";
const END: &str = "<!-- failures: end -->";

/// The failures, in the order of the guide.
pub(crate) const FAILURES: [&str; 19] = [
    "Disk read error",
    "Disk write error",
    "Disk full",
    "Peer gone",
    "Peer slow",
    "Link flapping",
    "Wrong size",
    "Wrong id",
    "Split-brain",
    "Both primary",
    "Junk connections",
    "Worker crash",
    "Parent crash",
    "Config error",
    "Missing user",
    "Port taken",
    "Hook failing",
    "Interrupted synchronisation",
    "Stale lock",
];

/// What is seen of a failure.
#[derive(Debug)]
pub(crate) struct Row {
    title: &'static str,
    status: Vec<String>,
    explain: Vec<String>,
    events: Vec<String>,
    metrics: Vec<String>,
    exit: Vec<String>,
}

impl Row {
    pub(crate) fn new(title: &'static str) -> Row {
        assert!(FAILURES.contains(&title), "{title}");
        Row {
            title,
            status: Vec::new(),
            explain: Vec::new(),
            events: Vec::new(),
            metrics: Vec::new(),
            exit: Vec::new(),
        }
    }

    /// What `status` says on a node, once it is as wanted; then what `explain` says: the risk, and
    /// this text.
    pub(crate) fn sees(
        &mut self,
        cluster: &Cluster,
        side: Side,
        said: &str,
        wanted: impl FnMut(&Status) -> bool,
    ) {
        let status = cluster.wait_status(side, self.title, wanted);
        let mut words = vec![status.role.clone()];
        words.extend(status.status.clone());
        words.extend(status.cause.as_ref().map(|cause| format!("cause {cause}")));
        words.extend(status.disk.as_ref().map(|disk| format!("disk {disk}")));
        self.status.push(format!("{side}: {}", words.join(", ")));
        self.explains(cluster, side, said);
    }

    fn explains(&mut self, cluster: &Cluster, side: Side, said: &str) {
        let resource = cluster.resource();
        let text = wait::until_seen(
            &format!("{side}: hastctl explain says: {said}"),
            wait::PATIENCE,
            || {
                let output = cluster.node(side).hastctl(&["explain", "--json", resource]);
                String::from_utf8_lossy(&output.stdout).into_owned()
            },
            |text| text.contains(said),
        );
        let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
        let risk = explained[0]["risk"].as_str().unwrap();
        self.explain
            .push(format!("{side}: risk {risk}: \"{said}\""));
    }

    /// Waits until events of these kinds were noted on a node.
    pub(crate) fn hears(&mut self, cluster: &Cluster, side: Side, kinds: &[Kind]) {
        for kind in kinds {
            wait::until_seen(
                &format!("{side}: event {}", kind.as_str()),
                wait::PATIENCE,
                || events(cluster, side),
                |seen| seen.iter().any(|event| event.kind == kind.as_str()),
            );
        }
        let words: Vec<String> = kinds
            .iter()
            .map(|kind| format!("`{}`", kind.as_str()))
            .collect();
        let place = self
            .events
            .iter_mut()
            .find(|cell| cell.starts_with(side.name()));
        match place {
            Some(cell) => cell.push_str(&format!(", {}", words.join(", "))),
            None => self.events.push(format!("{side}: {}", words.join(", "))),
        }
    }

    /// Waits until the metrics of a node have a line that begins like this: its name, some of its
    /// labels and its value.
    pub(crate) fn counts(
        &mut self,
        cluster: &Cluster,
        side: Side,
        name: &str,
        label: &str,
        value: &str,
    ) {
        let shown = format!("{name}{{{label}}} {value}");
        wait::until_seen(
            &format!("{side}: metrics say {shown}"),
            wait::PATIENCE,
            || cluster.must(side, &["metrics"]),
            |text| {
                text.lines().any(|line| {
                    line.starts_with(name)
                        && line.contains(label)
                        && line.ends_with(&format!(" {value}"))
                })
            },
        );
        self.metrics.push(format!("{side}: `{shown}`"));
    }

    /// Waits until the metrics of a node say whether it is connected.
    pub(crate) fn is_connected(&mut self, cluster: &Cluster, side: Side, connected: bool) {
        let value = if connected { "1" } else { "0" };
        self.counts(cluster, side, "hast_connected", "resource=\"data\"", value);
    }

    /// Whatever happened, both copies are good and the nodes are connected.
    pub(crate) fn stays_good(&mut self, cluster: &Cluster, side: Side) {
        self.sees(cluster, side, "both copies are good", Status::is_synced);
        self.is_connected(cluster, side, true);
    }

    /// How a command of the administrator ends; its standard error.
    pub(crate) fn ends(&mut self, cluster: &Cluster, side: Side, command: &str) -> String {
        let output = shell::run(cluster, side, command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        let code = code.unwrap_or_else(|| panic!("{command}: {}: {said}", output.status));
        self.exit.push(format!("{side}: `{command}` {code}"));
        said
    }

    /// Notes something about one of the columns that the tools cannot say.
    pub(crate) fn is_silent(&mut self, status: &str, explain: &str, events: &str) {
        for (cell, text) in [
            (&mut self.status, status),
            (&mut self.explain, explain),
            (&mut self.events, events),
        ] {
            if !text.is_empty() {
                cell.push(text.to_owned());
            }
        }
    }

    fn text(&self) -> String {
        let cells = [
            &self.status,
            &self.explain,
            &self.events,
            &self.metrics,
            &self.exit,
        ];
        let cells = cells.map(|cell| match cell.is_empty() {
            true => "-".to_owned(),
            false => cell.join("<br>"),
        });
        let anchor = self.title.to_lowercase().replace(' ', "-");
        format!("| [{}](#{anchor}) | {} |", self.title, cells.join(" | "))
    }

    /// The guide has to say the same.
    pub(crate) fn settle(self, cluster: &Cluster) {
        let text = self.text();
        println!("{text}");
        if !cluster.link.is_real() {
            return;
        }
        if std::env::var_os("HAST_WRITE").is_some() {
            return self.write(&text);
        }
        assert!(
            text::read().lines().any(|line| line == text),
            "docs/guide.md does not say what was seen (HAST_WRITE=1 writes it):\n{text}"
        );
    }

    fn write(&self, text: &str) {
        let path = text::path();
        // Rows are written by tests that run at the same time.
        let lock = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusive);
        let guide = text::read();
        let (before, rest) = guide.split_once(HEAD).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        let begin = |title: &str| format!("| [{title}](");
        let mut rows: Vec<&str> = table
            .lines()
            .filter(|line| !line.starts_with(&begin(self.title)))
            .collect();
        rows.push(text);
        rows.sort_by_key(|row| {
            let mut titles = FAILURES.iter();
            titles.position(|title| row.starts_with(&begin(title)))
        });
        let table = rows.join("\n");
        fs::write(&path, format!("{before}{HEAD}{table}\n{END}{after}")).unwrap();
        drop(lock);
    }
}

/// The events that a node remembers, the last ones at least.
pub(crate) fn events(cluster: &Cluster, side: Side) -> Vec<Record> {
    let request = ControlRequest {
        order: Order::Extension {
            code: EVENTS,
            argument: Some("after=0".to_owned()),
        },
        resources: vec!["all".to_owned()],
        json: true,
    };
    let reply = cluster.node(side).control(&request);
    let page: Option<Page> = reply
        .ok()
        .and_then(|reply| serde_json::from_str(&reply.json?).ok());
    page.unwrap_or_default().events
}

#[test]
fn table_has_a_row_and_a_section_for_each_failure() {
    let guide = text::read();
    let (_, rest) = guide.split_once(HEAD).unwrap();
    let (table, _) = rest.split_once(END).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), FAILURES.len(), "{rows:#?}");
    for (row, title) in rows.iter().zip(FAILURES) {
        assert!(row.starts_with(&format!("| [{title}](")), "{row}");
        let heading = format!("\n### {title}\n");
        assert_eq!(guide.matches(&heading).count(), 1, "{title}");
    }
}
