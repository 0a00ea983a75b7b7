//! The policy as tables for people.

use std::fmt::Write;

use super::{CALLS, Check, Condition, DESCRIPTORS, Kind, Object, Test, descriptors_max, ring};

/// Tables of descriptors and system calls, as markdown.
pub fn markdown() -> String {
    let mut text = String::new();
    text.push_str("### Descriptors\n\n");
    text.push_str(
        "| descriptor | held by | at most | may be | rights (FreeBSD) | ioctls (FreeBSD) | for |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for entry in DESCRIPTORS {
        let rights = join(
            entry
                .rights
                .iter()
                .map(|right| format!("`{}`", right.as_str())),
        );
        let ioctls = join(
            entry
                .ioctls
                .iter()
                .map(|ioctl| format!("`{}`", ioctl.as_str())),
        );
        let objects = join(
            entry
                .objects
                .iter()
                .map(|object| object_name(*object).to_owned()),
        );
        row(
            &mut text,
            &[
                entry.role,
                &kinds(entry.kinds),
                &entry.count_max.to_string(),
                &objects,
                &rights,
                &ioctls,
                entry.reason,
            ],
        );
    }
    text.push_str("\nOpen files at most: ");
    text.push_str(&join(
        Kind::ALL
            .iter()
            .map(|kind| format!("{} {}", kind.as_str(), descriptors_max(*kind))),
    ));
    text.push_str(".\n\n### System calls (Linux)\n\n");
    text.push_str("Any other call, and any of these with other arguments, kills the process.\n\n");
    text.push_str("| call | made by | only if | for |\n|---|---|---|---|\n");
    for rule in CALLS {
        let mut conditions: Vec<String> = rule.checks.iter().map(check).collect();
        if rule.condition == Condition::IoUring {
            conditions.push("the io_uring driver is used".into());
        }
        let call = format!("`{}`", rule.call);
        row(
            &mut text,
            &[
                &call,
                &kinds(rule.kinds),
                &conditions.join("; "),
                rule.reason,
            ],
        );
    }
    text.push_str("\n### The ring of the io_uring driver (Linux)\n\n");
    text.push_str(
        "Anything else, and any of these on a file that is not registered with the ring, is refused \
         by it.\n\n",
    );
    text.push_str("| operation or registration | for |\n|---|---|\n");
    for entry in ring::OPERATIONS.iter().chain(ring::REGISTRATIONS) {
        row(&mut text, &[&format!("`{}`", entry.name), entry.reason]);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    for cell in cells {
        // A bar would end the cell.
        let cell = cell.replace('|', "\\|");
        // Writing to a string cannot fail.
        let _ = write!(text, "| {cell} ");
    }
    text.push_str("|\n");
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn kinds(kinds: &[Kind]) -> String {
    if Kind::ALL.iter().all(|kind| kinds.contains(kind)) {
        return "all".into();
    }
    join(kinds.iter().map(|kind| kind.as_str().to_owned()))
}

fn check(check: &Check) -> String {
    let name = check.name;
    match check.test {
        Test::OneOf([value]) => format!("`{name}` is `{}`", value.name),
        Test::OneOf(values) => {
            let values = join(values.iter().map(|value| format!("`{}`", value.name)));
            format!("`{name}` is one of {values}")
        }
        Test::Without(value) => format!("`{name}` without `{}`", value.name),
        Test::With(value) => format!("`{name}` with `{}`", value.name),
        Test::OwnProcess => format!("`{name}` is the process itself"),
    }
}

fn object_name(object: Object) -> &'static str {
    match object {
        Object::Stream => "stream socket",
        Object::SeqPacket => "sequenced-packet socket",
        Object::File => "file",
        Object::BlockDevice => "block device",
        Object::CharDevice => "character device",
        Object::Pipe => "pipe",
        Object::EventFd => "eventfd",
        Object::IoUring => "io_uring",
    }
}
