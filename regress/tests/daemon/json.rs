//! What hastctl prints for programs: against the schemas of etc/schema, and as metrics.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::node::{Node, until};

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../etc/schema")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks a value by the words of JSON Schema that our schemas use, and more strictly: a member
/// that the schema does not name is an error, since it should name all that this version prints.
fn check(value: &Value, schema: &Value, place: &str) {
    let words = schema.as_object().unwrap();
    for word in words.keys() {
        let known = [
            "$schema",
            "title",
            "description",
            "format",
            "type",
            "required",
            "properties",
            "items",
            "enum",
            "minimum",
            "minItems",
            "maxItems",
        ];
        assert!(
            known.contains(&word.as_str()),
            "{word} of the schema is not checked"
        );
    }
    match schema["type"].as_str().unwrap() {
        "object" => {
            let object = value
                .as_object()
                .unwrap_or_else(|| panic!("{place}: {value}"));
            for name in schema["required"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                assert!(object.contains_key(name), "{place} lacks {name}");
            }
            for (name, member) in object {
                let of_member = &schema["properties"][name];
                assert!(!of_member.is_null(), "{place}.{name} is not in the schema");
                check(member, of_member, &format!("{place}.{name}"));
            }
        }
        "array" => {
            let array = value
                .as_array()
                .unwrap_or_else(|| panic!("{place}: {value}"));
            let length = array.len() as u64;
            assert!(
                schema["minItems"]
                    .as_u64()
                    .is_none_or(|least| least <= length)
            );
            assert!(
                schema["maxItems"]
                    .as_u64()
                    .is_none_or(|most| length <= most)
            );
            for item in array {
                check(item, &schema["items"], &format!("{place}[]"));
            }
        }
        "string" => assert!(value.is_string(), "{place}: {value}"),
        "boolean" => assert!(value.is_boolean(), "{place}: {value}"),
        "integer" => {
            assert!(value.is_i64() || value.is_u64(), "{place}: {value}");
            let least = schema["minimum"].as_i64();
            let fits = |least: i64| value.as_u64().is_some() || value.as_i64().unwrap() >= least;
            assert!(least.is_none_or(fits), "{place}: {value}");
        }
        other => panic!("{other} of the schema is not checked"),
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    }
}

fn json(node: &Node, words: &[&str]) -> Value {
    serde_json::from_str(&node.ctl_ok(words)).unwrap()
}

fn check_all(node: &Node) {
    let status = schema("status.schema.json");
    check(&json(node, &["status", "--json"]), &status, "status");
    check(&json(node, &["list", "--json"]), &status, "list");
    let explain = schema("explain.schema.json");
    check(&json(node, &["explain", "--json"]), &explain, "explain");
    let event = schema("event.schema.json");
    for line in node.ctl_ok(&["events", "--json"]).lines() {
        check(&serde_json::from_str(line).unwrap(), &event, "event");
    }
}

#[test]
fn what_is_printed_for_programs_is_what_the_schemas_say() {
    let (mut a, mut b) = Node::pair();
    for node in [&mut a, &mut b] {
        node.create("test");
        node.start();
    }
    check_all(&a);
    let output = a.ctl(&["status", "--json", "unknown"]);
    let document = serde_json::from_slice(&output.stdout).unwrap();
    check(&document, &schema("status.schema.json"), "status");
    a.ctl_ok(&["role", "primary", "test"]);
    check_all(&a);
    assert_eq!(a.state("test")["cause"], "refused");
    b.ctl_ok(&["role", "secondary", "test"]);
    a.ctl_ok(&["wait", "--synced", "--timeout", "30", "test"]);
    // A device of 16 MiB that was never written: reading its label takes some operations.
    let _ = Command::new("qemu-img")
        .arg("info")
        .arg(format!(
            "nbd+unix:///?socket={}",
            a.state("test")["worker"]["device"].as_str().unwrap()
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    for node in [&a, &b] {
        check_all(node);
    }
}

#[test]
fn metrics_are_accepted_by_prometheus_and_replace_a_file_as_a_whole() {
    let mut node = Node::new();
    node.create("test");
    node.start();
    node.ctl_ok(&["role", "primary", "test"]);
    until("the worker tells", || {
        node.ctl_ok(&["metrics"]).contains("hast_disk_state{")
    });
    let text = node.ctl_ok(&["metrics"]);
    assert!(
        text.contains("hast_role{resource=\"test\",role=\"primary\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("hast_risk{resource=\"test\",risk=\"reduced\"} 1\n"),
        "{text}"
    );
    let open = node.ctl_ok(&["metrics", "--openmetrics"]);
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE hast_requests counter\n"));

    let file = node.path("hast.prom");
    fs::write(&file, "old").unwrap();
    let path = file.display().to_string();
    node.ctl_ok(&["metrics", "--output", &path]);
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("# TYPE hast_build_info gauge\n"));
    let left = fs::read_dir(node.dir.path()).unwrap();
    let temporary = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".hast.prom");
    assert!(
        !left
            .map(|entry| entry.unwrap().file_name())
            .any(|name| temporary(&name))
    );
    let nowhere = node.ctl(&["metrics", "--output", "/nonexistent/hast.prom"]);
    assert_eq!(nowhere.status.code(), Some(74));

    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/prometheus");
    let promtool = |words: &[&str], input: Stdio| {
        Command::new("promtool")
            .args(words)
            .current_dir(&etc)
            .stdin(input)
            .output()
    };
    let Ok(output) = promtool(&["check", "metrics"], fs::File::open(&file).unwrap().into()) else {
        println!("skipped: promtool is not installed");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = promtool(&["test", "rules", "hast.rules.test.yml"], Stdio::null()).unwrap();
    assert!(output.status.success(), "{output:?}");
    // What the rules and the dashboard ask for exists.
    let rules = fs::read_to_string(etc.join("hast.rules.yml")).unwrap();
    let dashboard = fs::read_to_string(etc.join("../grafana/hast.json")).unwrap();
    for word in [rules, dashboard]
        .join(" ")
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
    {
        let name = word.trim_end_matches("_bucket").trim_end_matches("_count");
        if name.starts_with("hast_") {
            assert!(
                text.contains(&format!("# TYPE {name} ")),
                "{name} is no metric"
            );
        }
    }
}
