//! What is said of each situation.

use super::situation::{Copying, Disk, Situation, Trouble};
use super::{Explanation, Node, Risk, Step};
use crate::ctl::size::humanize;
use crate::events::Kind;
use crate::ipc::Cause;
use crate::report::{Resource, Synchronisation};

/// An explanation that is being put together.
struct Draft<'a> {
    resource: &'a Resource,
    state: String,
    why: Option<String>,
    risk: (Risk, String),
    steps: Vec<Step>,
}

/// What is to be said.
pub(super) fn of(situation: Situation, resource: &Resource) -> Explanation {
    let mut draft = Draft {
        resource,
        state: String::new(),
        why: None,
        risk: (Risk::Unknown, String::new()),
        steps: Vec::new(),
    };
    match situation {
        Situation::Unknown => draft.unknown(),
        Situation::Terse { connected } => draft.terse(connected),
        Situation::Off(trouble) => draft.off(trouble),
        Situation::Mute => draft.mute(),
        Situation::Restarting(trouble) => draft.restarting(trouble),
        Situation::Starting => draft.starting(),
        Situation::Alone(disk) => draft.alone(disk),
        Situation::Connected(disk, copying) => draft.connected(disk, copying),
        Situation::Degraded(disk, cause) => draft.degraded(disk, cause),
        Situation::Waiting(trouble) => draft.waiting(trouble),
        Situation::Serving {
            stale,
            connected,
            disk_error,
        } => draft.serving(stale, connected, disk_error),
    }
    Explanation {
        resource: resource.name.clone(),
        state: draft.state,
        why: draft.why,
        risk: draft.risk.0,
        risk_details: draft.risk.1,
        steps: draft.steps,
    }
}

impl Draft<'_> {
    fn name(&self) -> &str {
        &self.resource.name
    }

    fn state(&mut self, text: impl Into<String>) {
        self.state = text.into();
    }

    fn risk(&mut self, risk: Risk, text: impl Into<String>) {
        self.risk = (risk, text.into());
    }

    /// A command of hastctl; its last argument is the resource.
    fn hastctl(&mut self, node: Node, purpose: &str, command: &str) {
        let command = format!("hastctl {command} {}", self.name());
        self.run(node, purpose, command);
    }

    fn run(&mut self, node: Node, purpose: &str, command: String) {
        self.steps.push(Step {
            node,
            purpose: purpose.to_owned(),
            command: Some(command),
        });
    }

    fn advise(&mut self, node: Node, purpose: impl Into<String>) {
        self.steps.push(Step {
            node,
            purpose: purpose.into(),
            command: None,
        });
    }

    fn provider(&self) -> String {
        let configuration = self.resource.configuration.as_ref();
        configuration.map_or_else(
            || format!("/dev/hast/{}", self.name()),
            |configuration| format!("/dev/hast/{}", configuration.provname),
        )
    }

    fn local(&self) -> String {
        let configuration = self.resource.configuration.as_ref();
        configuration.map_or_else(
            || "the local component".to_owned(),
            |configuration| configuration.local.clone(),
        )
    }

    fn remote(&self) -> String {
        let configuration = self.resource.configuration.as_ref();
        configuration.map_or_else(
            || "the other node".to_owned(),
            |configuration| configuration.remote.clone(),
        )
    }

    /// Why, in the daemon's words: the reason of the worker, what was wrong last, or what kept the
    /// worker from running.
    fn why_told(&mut self) {
        let problem = self.resource.problem.as_ref();
        let told = [
            self.resource.reason.as_ref(),
            problem.map(|problem| &problem.details),
            self.resource.message.as_ref(),
        ];
        self.why = told.into_iter().flatten().next().cloned();
    }

    fn dirty(&self) -> String {
        humanize(self.resource.dirty_bytes.unwrap_or(0)) + "B"
    }

    // ---- any role

    fn unknown(&mut self) {
        self.state("The daemon has no resource of this name.");
        self.why = self.resource.message.clone();
        self.risk(Risk::Unknown, "Nothing is known of its data.");
        let purpose = "See which resources there are, for this node.";
        self.run(Node::This, purpose, "hastctl status".to_owned());
        let purpose = "If it was added to hast.conf lately, check the file, then reload.";
        self.run(
            Node::This,
            purpose,
            "hastctl config check && kill -HUP $(cat /var/run/hastd.pid)".to_owned(),
        );
    }

    fn terse(&mut self, connected: bool) {
        let role = self.resource.role.clone().unwrap_or_default();
        let word = if connected { "complete" } else { "degraded" };
        self.state(format!(
            "This node is {role}, and {word}. Its daemon tells no more than that: it has not \
             answered yet, or is FreeBSD's."
        ));
        let details = "See the daemon's log on both nodes.";
        if connected {
            self.risk(Risk::Unknown, details);
        } else {
            self.risk(
                Risk::Reduced,
                format!("The nodes are not connected. {details}"),
            );
        }
        self.hastctl(Node::This, "Ask again.", "explain");
    }

    fn mute(&mut self) {
        let role = self.resource.role.clone().unwrap_or_default();
        self.state(format!(
            "This node is {role}; its worker process runs and does not answer."
        ));
        self.why = Some(
            "It was stopped, or the system holds it in an operation on its disk. What status says \
             is what it said before."
                .to_owned(),
        );
        let text = "Applications wait for as long as it does not go on. Nothing acknowledged is \
                    lost by that.";
        self.risk(Risk::Unknown, text);
        let pid = self.resource.worker.as_ref().map_or(0, |worker| worker.pid);
        let purpose = "See what it waits for (state D: the disk).";
        self.run(
            Node::This,
            purpose,
            format!("ps -o pid,state,wchan,command -p {pid}"),
        );
        let purpose = "If the disk is at fault, let the other node take over.";
        self.hastctl(Node::Other, purpose, "role primary");
    }

    // ---- init

    fn off(&mut self, trouble: Trouble) {
        if trouble == Trouble::Nothing {
            self.state("Off on this node: its role is init, its local component is not in use.");
            self.risk(
                Risk::Unknown,
                "The copy here is as old as the last time that it was in use.",
            );
            let purpose = "Let it keep a copy, if the other node is primary.";
            self.hastctl(Node::This, purpose, "role secondary");
            self.hastctl(Node::This, "Or let it serve.", "role primary");
            return;
        }
        self.state("Off on this node: the role that was asked for could not be taken or kept.");
        self.why_told();
        self.risk(
            Risk::Reduced,
            "This node serves nothing and keeps no copy; the other one's is the only one in use.",
        );
        self.resolve(trouble);
    }

    /// What ends the trouble of a node that does not serve.
    fn resolve(&mut self, trouble: Trouble) {
        let local = self.local();
        let role = match self.resource.role.as_deref() {
            Some("primary") => "primary",
            _ => "secondary",
        };
        let again = format!("role {role}");
        match trouble {
            Trouble::Nothing | Trouble::Connection => self.reach(),
            Trouble::SplitBrain => self.split_brain(),
            Trouble::Mismatch => self.mismatch(),
            Trouble::DiskUnusable => {
                let purpose = "See that the component is there, and who has it open.";
                self.run(
                    Node::This,
                    purpose,
                    format!("ls -lL {local}; fuser -v {local}"),
                );
                let purpose = "If it is new or was replaced, initialise it (with the sizes of the \
                               other node's: hastctl dump there); it is copied in full then.";
                self.hastctl(Node::This, purpose, "create");
                self.hastctl(Node::This, "Then set the role again.", &again);
            }
            Trouble::DiskError => self.replace_disk(),
            Trouble::Incomplete => {
                let purpose = "The good copy is there: let that node serve.";
                self.hastctl(Node::Other, purpose, "role primary");
                let purpose = "Let this one be synchronised, and wait for it.";
                self.hastctl(Node::This, purpose, "role secondary");
                self.hastctl(Node::This, "Until that is done:", "wait --synced");
            }
            Trouble::Other => {
                let purpose = "Read what happened before.";
                self.hastctl(Node::This, purpose, "events");
                let purpose = "Correct what is named there, then set the role again.";
                self.hastctl(Node::This, purpose, &again);
            }
        }
    }

    fn inspect_disk(&mut self) {
        let command = format!("dmesg | tail -n 50; smartctl -a {}", self.local());
        self.run(Node::This, "See what the system says of the disk.", command);
    }

    fn replace_disk(&mut self) {
        self.inspect_disk();
        if self.resource.role.as_deref() == Some("primary") {
            let purpose = "Before the disk is replaced, let the other node serve: stop the \
                           application here, then:";
            self.hastctl(Node::This, purpose, "role init");
            let purpose = "It has the good copy.";
            self.hastctl(Node::Other, purpose, "role primary");
        } else {
            let purpose = "Take the disk out of use.";
            self.hastctl(Node::This, purpose, "role init");
        }
        let purpose = "Replace the disk and initialise it with the sizes of the other node's \
                       (hastctl dump there).";
        self.hastctl(Node::This, purpose, "create");
        let purpose = "It is copied in full.";
        self.hastctl(Node::This, purpose, "role secondary");
    }

    fn split_brain(&mut self) {
        let purpose = "Find out which copy is to be kept: look at both, one after the other, or at \
                       when each was written last. Keep a backup of the other one if in doubt.";
        self.hastctl(Node::Chosen, purpose, "dump");
        let purpose = "On the node whose copy is given up, with the options of create that it was \
                       made with:";
        let name = self.name();
        let commands = format!(
            "hastctl role init {name} && hastctl create {name} && hastctl role secondary {name}"
        );
        self.run(Node::Chosen, purpose, commands);
        let purpose = "On the node whose copy is kept, if it does not serve already:";
        self.hastctl(Node::Chosen, purpose, "role primary");
    }

    fn mismatch(&mut self) {
        let purpose = "Compare sizes and unique id, on both nodes.";
        self.hastctl(Node::Chosen, purpose, "dump");
        let purpose = "On the node that has the wrong copy or size, initialise it anew with the \
                       sizes of the other one (-e, -m, -a): what is on it is lost.";
        let name = self.name();
        let commands = format!(
            "hastctl role init {name} && hastctl create -m <size> {name} && hastctl role secondary \
             {name}"
        );
        self.run(Node::Chosen, purpose, commands);
    }

    /// What makes the nodes reach each other.
    fn reach(&mut self) {
        let purpose = "See that the daemon runs, and what its role is.";
        self.hastctl(Node::Other, purpose, "status");
        if self.resource.role.as_deref() == Some("primary") {
            let purpose = "If its role is init (and never if it may have served meanwhile):";
            self.hastctl(Node::Other, purpose, "role secondary");
        } else {
            let purpose = "If no node is primary, let one serve.";
            self.hastctl(Node::Other, purpose, "role primary");
        }
        let remote = self.remote();
        self.advise(
            Node::This,
            format!(
                "See that {remote} can be reached: route, firewall, and remote and listen in \
                 hast.conf of both nodes."
            ),
        );
    }

    // ---- primary

    fn restarting(&mut self, trouble: Trouble) {
        self.state(format!(
            "This node is primary and has no worker process: {} does not answer.",
            self.provider()
        ));
        self.why_told();
        if self.why.is_none() {
            self.why = Some("It is being started, or waits to be started again.".to_owned());
        }
        self.risk(
            Risk::High,
            "Applications are not served. The copies are as they were; nothing acknowledged is \
             lost by that.",
        );
        let purpose = "The daemon starts it again by itself, after pauses that grow to a minute; \
                       to try at once:";
        self.hastctl(Node::This, purpose, "role primary");
        match trouble {
            Trouble::Nothing | Trouble::Connection => {}
            Trouble::Other => {
                self.hastctl(Node::This, "Read what happened before.", "events");
            }
            trouble => self.resolve(trouble),
        }
        let purpose = "If it does not come up, let the other node take over.";
        self.hastctl(Node::Other, purpose, "role primary");
    }

    fn starting(&mut self) {
        self.state(
            "This node is primary and has just started. It serves as soon as its first attempt to \
             reach the other node has ended.",
        );
        self.why = Some(
            "Until then it cannot know whether the other copy is newer than its own.".to_owned(),
        );
        self.risk(Risk::Unknown, "It is known in a moment.");
        self.hastctl(Node::This, "Wait for it.", "wait --connected --timeout 30");
    }

    fn alone(&mut self, disk: Disk) {
        self.state("This node is primary and serves alone: remote none is configured.");
        match disk {
            Disk::Good => self.risk(
                Risk::Reduced,
                "There is one copy by configuration: if this disk or node is lost, so are the data.",
            ),
            Disk::Stale | Disk::Detached | Disk::Failed => {
                self.why_of_disk();
                self.risk(
                    Risk::High,
                    "The local disk has failed, and there is no other copy.",
                );
                self.inspect_disk();
                self.hastctl(Node::This, "Take the disk out of use.", "role init");
                let purpose = "Replace it, and initialise it.";
                self.hastctl(Node::This, purpose, "create");
                self.hastctl(Node::This, "Let it serve again.", "role primary");
                self.advise(Node::This, "Restore the data from a backup.");
            }
        }
    }

    fn connected(&mut self, disk: Disk, copying: Option<Copying>) {
        match (disk, copying) {
            (Disk::Good, None) if has_disk_errors(self.resource) => {
                self.state(
                    "This node is primary and connected. Its own disk has failed operations and is \
                     still in use; what it could not read was read from the other node.",
                );
                self.why_of_disk();
                self.risk(
                    Risk::Reduced,
                    "Both copies are complete, but this disk may fail altogether.",
                );
                self.replace_disk();
            }
            (Disk::Good, None) => {
                self.state("This node is primary and connected; both copies are good.");
                self.risk_of_mode();
            }
            (Disk::Good | Disk::Stale, Some(copying)) => self.copying(disk, copying),
            (Disk::Stale, None) => {
                self.state(
                    "This node is primary and connected. The other copy is newer than this one in \
                     places; they are read from there.",
                );
                self.why_told();
                self.risk(
                    Risk::Reduced,
                    "There is one good copy: the other node's. Do not stop that node.",
                );
                let purpose = "It is synchronised without help.";
                self.hastctl(Node::This, purpose, "wait --synced");
            }
            (Disk::Detached, _) => {
                self.state(
                    "This node is primary and connected. Its own disk has failed and is no longer \
                     used: everything is read from and written to the other node.",
                );
                self.why_of_disk();
                self.risk(
                    Risk::High,
                    "There is one good copy: the other node's. If that node or the network fails, \
                     applications are not served.",
                );
                self.replace_disk();
            }
            (Disk::Failed, _) => self.dead(),
        }
    }

    /// The risk of the mode of replication, with two good copies.
    fn risk_of_mode(&mut self) {
        let configuration = self.resource.configuration.as_ref();
        let mode = configuration.map_or("", |configuration| &configuration.replication);
        let text = match mode {
            "async" => {
                "Replication is async: writes are acknowledged before the other node has them. If \
                 this node is lost now, so are the last ones."
            }
            "memsync" => {
                "Replication is memsync: the last writes may be in the other node's memory only. \
                 They are lost if both nodes fail at once and this disk does not come back."
            }
            _ => "Every write that is acknowledged is on both disks.",
        };
        self.risk(Risk::None, text);
    }

    fn copying(&mut self, disk: Disk, copying: Copying) {
        let direction = if copying.from_peer {
            "from the other node to this one"
        } else {
            "from this node to the other one"
        };
        let sync = self.resource.synchronisation.clone().unwrap_or_default();
        let what = if copying.paused {
            "rests"
        } else {
            "is under way"
        };
        self.state(format!(
            "This node is primary and connected. A synchronisation {direction} {what}: {}",
            progress(&sync)
        ));
        self.why = Some(
            "The copies differ in places, since one node was written without the other, or was \
             interrupted while it wrote."
                .to_owned(),
        );
        let good = if copying.from_peer || disk == Disk::Stale {
            "There is one complete copy until then: the other node's. Do not stop that node, and \
             do not make it secondary to another."
        } else {
            "There is one complete copy until then: this node's. Do not let the other node take \
             over before it is done, unless this one is lost."
        };
        self.risk(Risk::Reduced, good);
        if copying.paused {
            self.hastctl(Node::This, "Let it go on.", "resume-sync");
        }
        self.hastctl(Node::This, "Wait for it.", "wait --synced");
    }

    fn degraded(&mut self, disk: Disk, cause: Cause) {
        match disk {
            Disk::Good => {
                self.state(format!(
                    "This node is primary and not connected: it serves alone from its own copy. {} \
                     would have to be copied to the other node by now.",
                    self.dirty()
                ));
                self.risk(
                    Risk::Reduced,
                    "There is one good copy: this node's. Do not let the other node take over: \
                     what was written here meanwhile is not there.",
                );
            }
            Disk::Stale => {
                self.state(
                    "This node is primary and not connected, and its copy is incomplete: the other \
                     one is newer in places. Requests for these are not served.",
                );
                self.risk(
                    Risk::High,
                    "The good copy is the other node's. Do not initialise that one.",
                );
            }
            Disk::Detached => {
                self.state(
                    "This node is primary and not connected, and its own disk has failed: nothing \
                     is served.",
                );
                self.risk(Risk::High, "The good copy is the other node's.");
            }
            Disk::Failed => return self.dead(),
        }
        self.why_cause(cause);
        if disk == Disk::Detached {
            let purpose = "Let it serve; it has the good copy.";
            self.hastctl(Node::Other, purpose, "role primary");
            return self.replace_disk();
        }
        match cause {
            Cause::SplitBrain => {
                self.risk(
                    Risk::High,
                    "Both copies hold writes that the other one lacks. One of the two is given up \
                     in the end.",
                );
                self.split_brain();
            }
            Cause::SizeMismatch | Cause::IdMismatch => self.mismatch(),
            Cause::NoGoodCopy => {
                self.risk(
                    Risk::High,
                    "Neither copy is complete: this one was being synchronised, and the one that \
                     it was copied from is gone.",
                );
                let purpose = "Look for the other node's old disk, or for a backup. If neither is \
                               to be had, initialise the other node, use this copy as it is, and \
                               check the file system on it.";
                self.hastctl(Node::Other, purpose, "create");
            }
            Cause::LocalFailed => self.replace_disk(),
            Cause::PeerFailed => {
                let purpose = "See what is wrong with the disk there.";
                self.hastctl(Node::Other, purpose, "explain");
            }
            Cause::Asked => {
                let purpose = "If it was not disconnected on purpose, or is to be connected again:";
                self.hastctl(Node::This, purpose, "connect");
            }
            Cause::Protocol => {
                let purpose = "See which programs run on both nodes, and that nothing between them \
                               changes what they send.";
                self.run(Node::Chosen, purpose, "hastd -h; hastctl -h".to_owned());
            }
            Cause::Starting
            | Cause::NoPeer
            | Cause::Unreachable
            | Cause::Silent
            | Cause::Refused
            | Cause::Broken => self.reach(),
        }
    }

    /// The class of the cause, then the reason in the worker's words.
    fn why_cause(&mut self, cause: Cause) {
        let class = match cause {
            Cause::Starting => "The first attempt to connect has not ended.",
            Cause::NoPeer => "There is no other node.",
            Cause::Unreachable => "No connection to the other node can be made.",
            Cause::Silent => "The other node does not answer.",
            Cause::Refused => "The other node does not accept the connection.",
            Cause::Broken => "The connection broke.",
            Cause::Protocol => "The other node sent what cannot be right.",
            Cause::SizeMismatch => "The copies have different sizes.",
            Cause::IdMismatch => "The copies belong to different resources.",
            Cause::SplitBrain => "Split-brain: both nodes were written apart from each other.",
            Cause::NoGoodCopy => "The complete copy has been lost.",
            Cause::PeerFailed => "The disk of the other node fails.",
            Cause::LocalFailed => "The local disk fails.",
            Cause::Asked => "The connection was closed on request.",
        };
        let reason = self.resource.reason.as_deref().unwrap_or_default();
        self.why = Some(if class == reason || reason.is_empty() {
            class.to_owned()
        } else {
            format!("{class} In the worker's words: {reason}")
        });
    }

    fn why_of_disk(&mut self) {
        let problem = self.resource.problem.as_ref();
        self.why = Some(problem.map_or_else(
            || "An operation on the local disk failed.".to_owned(),
            |problem| problem.details.clone(),
        ));
    }

    fn dead(&mut self) {
        self.state(
            "This node is primary, and its own disk has failed. That could not be recorded \
             anywhere, so nothing is acknowledged any more.",
        );
        self.why_of_disk();
        self.risk(
            Risk::High,
            "Applications are not served. What was acknowledged is on the other node, if it was \
             connected then.",
        );
        self.replace_disk();
    }

    // ---- secondary

    fn waiting(&mut self, trouble: Trouble) {
        self.state("This node is secondary, and no primary is connected to it: its copy ages.");
        if trouble == Trouble::Nothing {
            self.why = Some("No primary has connected since it took the role.".to_owned());
        } else {
            self.why_told();
        }
        match trouble {
            Trouble::SplitBrain => {
                self.why =
                    Some("Split-brain: both nodes were written apart from each other.".to_owned());
                self.risk(
                    Risk::High,
                    "Both copies hold writes that the other one lacks. One of the two is given up \
                     in the end.",
                );
            }
            _ => self.risk(
                Risk::Reduced,
                "What is written on the other node meanwhile is not here. If that node is lost \
                 and this one takes over, these writes are lost.",
            ),
        }
        self.resolve(trouble);
    }

    fn serving(&mut self, stale: bool, connected: bool, disk_error: bool) {
        if !connected {
            self.state("This node is secondary; a primary has connected and shakes hands.");
            self.risk(Risk::Unknown, "It is known in a moment.");
            return self.hastctl(Node::This, "Ask again.", "explain");
        }
        if stale {
            self.state(
                "This node is secondary and connected, and its copy is incomplete: it is being \
                 synchronised.",
            );
            self.risk(
                Risk::Reduced,
                "The complete copy is the primary's. Do not let this node take over before it is \
                 done.",
            );
            return self.hastctl(Node::Other, "See how far it is.", "status --watch");
        }
        self.state("This node is secondary and connected; it gets what the primary writes.");
        if disk_error {
            self.why_of_disk();
            self.risk(
                Risk::Reduced,
                "Its disk has failed operations. What could not be written here is marked at the \
                 primary and copied again later.",
            );
            return self.replace_disk();
        }
        self.risk(
            Risk::None,
            "This copy follows the primary's. Whether anything is left to be copied, the primary \
             knows.",
        );
        self.hastctl(
            Node::Other,
            "The primary knows whether everything has been copied.",
            "explain",
        );
    }
}

/// Whether operations on the local disk have failed.
pub(super) fn has_disk_errors(resource: &Resource) -> bool {
    let problem = resource.problem.as_ref();
    problem.is_some_and(|problem| problem.kind == Kind::DiskError.as_str())
}

/// How far a synchronisation is.
fn progress(sync: &Synchronisation) -> String {
    let done = sync.total_bytes.saturating_sub(sync.left_bytes);
    let percent = done.saturating_mul(100) / sync.total_bytes.max(1);
    let mut text = format!(
        "{percent} % done, {}B of {}B left",
        humanize(sync.left_bytes),
        humanize(sync.total_bytes)
    );
    if let Some(seconds) = sync.eta_seconds.filter(|_| !sync.paused) {
        text.push_str(&format!(
            ", {seconds} s to go at {}B/s",
            humanize(sync.bytes_per_second)
        ));
    }
    text.push('.');
    text
}
