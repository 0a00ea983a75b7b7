//! Behaviour of the whole: text in, configuration or errors out.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::Path;

use proptest::prelude::*;

use super::model::{Address, DEFAULT_FENCE_TIMEOUT_S, Family, Listen, Resource, SandboxMode};
use super::{Config, Error, Format, Identity, parse_str, print};
use crate::terms::{Checksum, Compression, DriverChoice, Replication, SyncRate};

fn node(name: &str) -> Identity {
    Identity::Explicit(name.to_owned())
}

fn conf(text: &str) -> Result<Config, Error> {
    parse_str(text, "x.conf", Format::Conf, &node("nodea"))
}

fn toml(text: &str) -> Result<Config, Error> {
    parse_str(text, "x.toml", Format::Toml, &node("nodea"))
}

/// The first line of each error.
fn messages(result: Result<Config, Error>) -> Vec<String> {
    match result {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error
            .reports()
            .iter()
            .map(|report| report.lines().next().unwrap_or("").to_owned())
            .collect(),
    }
}

/// A file that the original was run with.
fn golden(name: &str) -> Result<Config, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("regress/data/conf")
        .join(name);
    let identity = Identity::Host {
        hostname: "nodea.example.org".to_owned(),
        uuids: vec!["00000000-0000-0000-0000-000000000000".to_owned()],
        hostid: Some(0),
    };
    super::load_as(&path, &identity)
}

#[test]
fn what_the_original_refuses_is_refused_in_its_words() {
    for (file, message) in [
        ("c-dup.conf", "Resource test configured more than once."),
        (
            "c-noremote.conf",
            "Remote address not configured for resource test.",
        ),
        (
            "c-nolocal.conf",
            "Path local component not configured for resource test.",
        ),
        (
            "c-notme.conf",
            "No resource test configuration for this node (acceptable node names: nodea, \
             nodea.example.org, 00000000-0000-0000-0000-000000000000, hostid0).",
        ),
        ("c-timeout0.conf", "Negative or zero timeout."),
        ("c-timeoutneg.conf", "Negative or zero timeout."),
        ("c-longctl.conf", "control argument is too long."),
        ("c-longname.conf", "Resource name is too long."),
    ] {
        let error = golden(file).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{file}");
        assert_eq!(messages(Err(error)), [message], "{file}");
    }
}

#[test]
fn what_is_no_grammar_is_refused_with_its_line_counted_from_one() {
    for (file, at) in [
        ("c-unknownkw.conf", "line 2 near 'foo': unknown statement."),
        ("c-repl.conf", "line 1 near 'bogus': unknown word."),
        ("c-ck.conf", "line 1 near 'md5': unknown word."),
        ("c-comp.conf", "line 1 near 'gzip': unknown word."),
        ("c-metaflush.conf", "line 1 near 'yes': unknown word."),
        (
            "c-unterminated.conf",
            "line 1 near 'test': section is not closed.",
        ),
        ("c-extrabrace.conf", "line 15 near '}': unexpected }."),
        ("c-comma.conf", "line 4 near ';': unknown character."),
        (
            "c-metaflushtop.conf",
            "line 2 near 'control': not allowed here.",
        ),
        ("c-onlisten.conf", "line 2 near 'remote': not allowed here."),
    ] {
        let error = golden(file).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{file}");
        let expected = format!("Unable to parse configuration file at {at}");
        assert_eq!(messages(Err(error)), [expected], "{file}");
    }
}

#[test]
fn a_timeout_that_does_not_fit_is_refused() {
    assert_eq!(
        messages(golden("c-timeoutbig.conf")),
        ["Timeout is too large."]
    );
    assert_eq!(
        messages(conf("timeout 2147483648\n")),
        ["Timeout is too large."]
    );
    assert!(conf("timeout 2147483647\n").is_ok());
    assert_eq!(
        messages(conf("fencetimeout 301\n")),
        ["Timeout is too large."]
    );
    assert!(conf("fencetimeout 300\n").is_ok());
}

#[test]
fn a_socket_path_that_no_system_can_bind_is_refused() {
    assert_eq!(
        messages(golden("c-longuds.conf")),
        ["control argument is too long."]
    );
}

#[test]
fn files_that_the_original_takes_or_should_take_are_taken() {
    for file in [
        "good.conf",
        "c-quotes.conf",
        "c-comment.conf",
        "c-eofcomment.conf",
    ] {
        let config = golden(file).unwrap();
        assert_eq!(config.resources.len(), 1, "{file}");
        let resource = &config.resources[0];
        assert_eq!(resource.name, "test", "{file}");
        assert_eq!(resource.local, Path::new("/var/db/hastt/a.img"), "{file}");
        assert_eq!(resource.replication, Replication::Fullsync, "{file}");
        assert_eq!(resource.remote, "tcp4://127.0.0.2".parse().ok(), "{file}");
    }
    let two = golden("two.conf").unwrap();
    assert_eq!(two.resources[1].remote, None);
    assert!(!golden("c-resmeta.conf").unwrap().resources[0].metaflush);
    assert_eq!(golden("c-empty.conf"), Ok(Config::default()));
}

#[test]
fn keywords_and_numbers_are_names_where_a_name_is_expected() {
    assert_eq!(golden("c-numname.conf").unwrap().resources[0].name, "123");
    assert_eq!(golden("c-kwname.conf").unwrap().resources[0].name, "local");
    let text = "resource on { name resource local remote on nodea { remote source:1 } }";
    let config = conf(text).unwrap();
    assert_eq!(config.resources[0].name, "on");
    assert_eq!(config.resources[0].provname, "resource");
    assert_eq!(config.resources[0].local, Path::new("remote"));
    assert!(parse_str("on on-call { }", "x", Format::Conf, &node("on-call")).is_ok());
}

#[test]
fn a_missing_argument_does_not_swallow_the_next_line() {
    let text = "resource a {\n\tlocal\n\ton nodea {\n\t\tremote\n\t}\n}\ncontrol\npidfile /p\n";
    assert_eq!(
        messages(conf(text)),
        [
            "line 2 near 'local'",
            "line 4 near 'remote'",
            "line 7 near 'control'"
        ]
        .map(|at| format!("Unable to parse configuration file at {at}: argument is missing."))
    );
}

#[test]
fn one_run_shows_every_error_with_line_marker_and_what_was_expected() {
    let text = "timeout 0\nfoo bar\nreplication fullsync;\nresource a {\n\tremote x\n}\n\
                resource b {\n\ton nodea { local /b }\n}\n\
                resource b {\n\ton nodea { local /b remote none }\n}\n\
                pidfile \"/p\nlisten udp://x\n";
    let error = conf(text).unwrap_err();
    insta::assert_snapshot!(error.render());
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert!(conf("\u{feff}control /c\n").is_ok());
    assert!(toml("\u{feff}control = \"/c\"\n").is_ok());
    assert!(conf("control \u{feff}/c\n").is_err());
}

#[test]
fn a_missing_brace_is_one_error_if_the_rest_is_right() {
    for text in [
        "resource a\n\tlocal /l\n\ton nodea { remote none }\n}\n",
        "resource a b {\n\tlocal /l\n\ton nodea { remote none }\n}\n",
    ] {
        let messages = messages(conf(text));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].ends_with(": section has no {."), "{messages:?}");
    }
    let unclosed = "resource a {\n\tlocal /l\nresource b {\n\tlocal /l\n}\n";
    let messages = messages(conf(unclosed));
    assert!(messages[0].ends_with("line 1 near 'a': section is not closed."));
    assert!(messages[1].ends_with("line 3 near 'resource': not allowed here."));
}

#[test]
fn an_unknown_block_is_one_error() {
    let text = "foo {\n\ta { b }\n\tc\n}\nbar\n{\n\tx\n}\ncontrol /c\n";
    assert_eq!(messages(conf(text)).len(), 2);
}

#[test]
fn text_that_is_not_utf8_is_taken_in_comments_only() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        super::load(&path, Some("nodea"))
    };
    assert!(write("a.conf", b"# \xe4\ncontrol /c\n").is_ok());
    assert!(write("b.conf", b"control /\xe4\n").is_err());
    assert!(write("c.conf", b"control \"/\xe4\"\n").is_err());
    assert!(write("d.toml", b"control = \"/\xe4\"\n").is_err());
}

#[test]
fn a_file_that_cannot_be_opened_or_read_says_why_and_ends_with_ex_osfile() {
    let error = super::load(Path::new("nosuch.conf"), Some("a")).unwrap_err();
    assert_eq!(error.exit_code(), 72);
    assert_eq!(
        error.render(),
        "[ERROR] Unable to open configuration file nosuch.conf: No such file or directory.\n"
    );
    let error = super::load(Path::new("/"), Some("a")).unwrap_err();
    assert_eq!(error.exit_code(), 72);
}

#[test]
fn a_file_of_unreasonable_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (name, format) in [("x.conf", Format::Conf), ("x.toml", Format::Toml)] {
        let path = directory.path().join(name);
        let size = format.max_bytes() + 1;
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(size.try_into().unwrap()).unwrap();
        let error = super::load(&path, Some("a")).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 78);
        assert!(parse_str(&" ".repeat(size), "x", format, &node("a")).is_err());
        assert!(parse_str(&" ".repeat(size - 1), "x", format, &node("a")).is_ok());
    }
}

#[test]
fn too_many_resources_are_refused_in_reasonable_time() {
    let mut text = String::new();
    for number in 0..=super::resolve::RESOURCES_MAX {
        let _ = writeln!(
            text,
            "resource r{number} {{ local /r on nodea {{ remote none }} }}"
        );
    }
    assert_eq!(messages(conf(&text)), ["Too many resources."]);
    let duplicates = "resource r {}\n".repeat(100_000);
    assert_eq!(messages(conf(&duplicates)).len(), 101);
}

#[test]
fn names_that_would_leave_dev_hast_are_refused() {
    for name in ["../x", "a/../b", "/a", "a/", "\"\"", ".", "\"a\\b\""] {
        assert!(conf(&format!("resource {name} {{ }}")).is_err(), "{name}");
    }
    let config = conf("resource a/b { local /x on nodea { remote none } }").unwrap();
    assert_eq!(config.resources[0].provname, "a/b");
}

#[test]
fn node_section_wins_over_resource_over_global_over_default() {
    let text = "
        replication async checksum crc32 compression lzf timeout 5 exec /g metaflush off
        syncrate 1k control /g fence /gf fencetimeout 9
        on nodea { control /n devices /n/d state /n/s listen nodea:1 }
        on nodeb { control /b pidfile /b listen nodeb:1 }
        listen g:1
        resource a {
            replication fullsync name p local /r metaflush on syncrate 3M
            fence none on nodea { remote x local /n name q metaflush off source s }
            on nodeb { remote y local /b }
        }
        resource b { timeout 6 exec /r fence /f checksum sha256 compression none local /r
            on nodea { remote none } }
        user daemon devices /d state /s sandbox best-effort driver threads
    ";
    let config = conf(text).unwrap();
    assert_eq!(config.control, Address::Unix("/n".into()));
    assert_eq!(config.pidfile, Path::new("/var/run/hastd.pid"));
    let listen = ["g:1", "nodea:1"].map(|text| Listen::configured(text.parse().unwrap()));
    assert_eq!(config.listen, listen);
    assert_eq!(
        (config.user.as_str(), config.sandbox, config.driver),
        ("daemon", SandboxMode::BestEffort, DriverChoice::Threads)
    );
    assert_eq!(config.devices, Path::new("/n/d"));
    assert_eq!(config.state, Path::new("/n/s"));
    let a = Resource {
        provname: "q".to_owned(),
        remote: "x".parse().ok(),
        source: "s".parse().ok(),
        replication: Replication::Fullsync,
        checksum: Checksum::Crc32,
        compression: Compression::Lzf,
        timeout_s: 5,
        exec: Some("/g".into()),
        fence_timeout_s: 9,
        metaflush: false,
        syncrate: limit(3 << 20),
        ..Resource::with_defaults("a", "/n")
    };
    let b = Resource {
        replication: Replication::Async,
        checksum: Checksum::Sha256,
        compression: Compression::None,
        timeout_s: 6,
        exec: Some("/r".into()),
        fence: Some("/f".into()),
        fence_timeout_s: 9,
        metaflush: false,
        syncrate: limit(1 << 10),
        ..Resource::with_defaults("b", "/r")
    };
    assert_eq!(config.resources, [a, b]);
}

#[test]
fn a_later_statement_replaces_an_earlier_one() {
    let text = "control /a control /b
        resource r { local /l
            on nodea { remote x source s }
            on nodea { remote y } }";
    let config = conf(text).unwrap();
    assert_eq!(config.control, Address::Unix("/b".into()));
    assert_eq!(config.resources[0].remote, "y".parse().ok());
    assert_eq!(config.resources[0].source, "s".parse().ok());
}

#[test]
fn rates_are_bytes_with_a_suffix() {
    for wrong in [
        "0",
        "0k",
        "k",
        "1T",
        "-1",
        "99999999999999999999",
        "17179869184G",
        "1.5M",
    ] {
        assert!(conf(&format!("syncrate {wrong}\n")).is_err(), "{wrong}");
    }
    let rate = |text: &str| {
        let text = format!("syncrate {text} resource a {{ local /l on nodea {{ remote none }} }}");
        conf(&text).unwrap().resources[0].syncrate
    };
    assert_eq!(rate("adaptive"), SyncRate::Adaptive);
    assert_eq!(rate("unlimited"), SyncRate::Unlimited);
    assert_eq!(rate("512"), limit(512));
    assert_eq!(rate("2G"), limit(2 << 30));
}

#[test]
fn toml_errors_have_their_place_and_come_all_at_once() {
    let text = "timeout = 0\nfoo = 1\nmetaflush = \"on\"\nlisten = [\"udp://x\", 3]\n\
                [resource.a]\nremote = \"x\"\n[resource.b.on.nodea]\nlocal = \"/b\"\n\
                [resource.\"../c\"]\n[on]\nnodea = 3\n";
    insta::assert_snapshot!(toml(text).unwrap_err().render());
}

#[test]
fn toml_that_is_none_is_refused_with_every_error() {
    let error = toml("a = \n[x\nb = 1 2\n").unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(messages(Err(error)).len() > 1);
    let deep = "a.".repeat(1_000_000);
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("{deep}a = 1"),
        format!("[{deep}a]"),
        format!("[[{deep}a]]"),
    ] {
        assert!(toml(&text).is_err());
    }
}

#[test]
fn toml_keeps_the_order_of_the_file() {
    let text = "[resource.b]\nlocal=\"/b\"\non.nodea.remote=\"none\"\n\
                [resource.a]\nlocal=\"/a\"\non.nodea.remote=\"x:1\"\n";
    let config = toml(text).unwrap();
    let names: Vec<_> = config
        .resources
        .iter()
        .map(|resource| &resource.name)
        .collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(config.resources[1].remote, "x:1".parse().ok());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._:-]{1,12}",
        "[a-z\"\\\\ {}#;=äß'%]{1,12}",
        "(on|resource|none|local|123|control)"
    ]
    .prop_filter("no part of a path", |name| name != "." && name != "..")
}

fn tcp() -> impl Strategy<Value = Address> {
    let family = prop_oneof![Just(Family::Any), Just(Family::V4), Just(Family::V6)];
    let port = proptest::option::of(1..=u16::MAX);
    prop_oneof![
        (family, "[a-z][a-z0-9.-]{0,9}|none", port.clone())
            .prop_map(|(family, host, port)| Address::Tcp { family, host, port }),
        (any::<std::net::Ipv6Addr>(), port).prop_map(|(ip, port)| Address::Tcp {
            family: Family::V6,
            host: ip.to_string(),
            port,
        }),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        tcp(),
        text().prop_map(|text| Address::Unix(format!("/{text}").into())),
        text().prop_map(|text| Address::Unix(text.into())),
    ]
}

fn limit(bytes: u64) -> SyncRate {
    NonZeroU64::new(bytes).map_or(SyncRate::Unlimited, SyncRate::Limit)
}

fn resource() -> impl Strategy<Value = Resource> {
    let replication = prop_oneof![
        Just(Replication::Fullsync),
        Just(Replication::Memsync),
        Just(Replication::Async)
    ];
    let checksum = prop_oneof![
        Just(Checksum::None),
        Just(Checksum::Crc32),
        Just(Checksum::Sha256)
    ];
    let compression = prop_oneof![
        Just(Compression::None),
        Just(Compression::Hole),
        Just(Compression::Lzf)
    ];
    let rate = prop_oneof![
        Just(SyncRate::Unlimited),
        Just(SyncRate::Adaptive),
        (1..1000_u64, 0..40_u32).prop_map(|(number, shift)| limit(number << shift)),
    ];
    (
        (text(), text(), text()),
        (
            proptest::option::of(address()),
            proptest::option::of(address()),
        ),
        (replication, checksum, compression),
        (
            1..=2_147_483_647_u32,
            proptest::option::of(text()),
            any::<bool>(),
            rate,
            proptest::option::of((
                text().prop_filter("a word", |text| text != "none"),
                1..=300_u32,
            )),
        ),
    )
        .prop_map(|(names, peers, modes, others)| Resource {
            fence: others.4.clone().map(|(path, _)| path.into()),
            // Printed only where somebody is asked.
            fence_timeout_s: others
                .4
                .map_or(DEFAULT_FENCE_TIMEOUT_S, |(_, seconds)| seconds),
            name: names.0,
            provname: names.1,
            local: names.2.into(),
            remote: peers.0,
            source: peers.1,
            replication: modes.0,
            checksum: modes.1,
            compression: modes.2,
            timeout_s: others.0,
            exec: others.1.map(Into::into),
            metaflush: others.2,
            syncrate: others.3,
        })
}

prop_compose! {
    fn config()(
        control in address(),
        pidfile in text(),
        listen in proptest::collection::vec(address(), 0..4),
        devices in text(),
        state in text(),
        user in "[a-z][a-z0-9_-]{0,8}|on|123",
        best_effort in any::<bool>(),
        driver in prop_oneof![
            Just(DriverChoice::Auto), Just(DriverChoice::Threads), Just(DriverChoice::Uring)
        ],
        resources in proptest::collection::vec(resource(), 0..5),
    ) -> Config {
        let mut names = std::collections::HashSet::new();
        Config {
            control,
            pidfile: pidfile.into(),
            listen: if listen.is_empty() {
                Listen::defaults()
            } else {
                listen.into_iter().map(Listen::configured).collect()
            },
            devices: devices.into(),
            state: state.into(),
            user,
            sandbox: if best_effort { SandboxMode::BestEffort } else { SandboxMode::Require },
            driver,
            resources: resources
                .into_iter()
                .filter(|resource| names.insert(resource.name.clone()))
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_as_hast_conf_parses_to_the_same(config in config(), name in text()) {
        let printed = print::conf(&config, &name);
        let parsed = parse_str(&printed, "x", Format::Conf, &node(&name));
        prop_assert_eq!(parsed, Ok(config), "{}", printed);
    }

    #[test]
    fn what_is_printed_as_toml_parses_to_the_same(config in config(), name in text()) {
        let printed = print::toml(&config, &name).unwrap();
        let parsed = parse_str(&printed, "x", Format::Toml, &node(&name));
        prop_assert_eq!(parsed, Ok(config), "{}", printed);
    }

    #[test]
    fn json_has_every_resource(config in config(), name in text()) {
        let printed = print::json(&config, &name).unwrap();
        let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
        prop_assert_eq!(value["resources"].as_array().unwrap().len(), config.resources.len());
        prop_assert_eq!(value["node"].as_str(), Some(name.as_str()));
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        for result in [conf(&text), toml(&text)] {
            if let Err(error) = result {
                prop_assert!(!error.render().is_empty());
            }
        }
    }

    #[test]
    fn tokens_in_any_order_are_answered(
        words in proptest::collection::vec(
            prop_oneof![
                Just("\n"), Just("{"), Just("}"), Just("\""), Just("#"), Just("resource"),
                Just("on"), Just("nodea"), Just("remote"), Just("none"), Just("local"), Just("/x"),
                Just("timeout"), Just("5"), Just(";"), Just("ä"), Just("\t"), Just("listen"),
            ],
            0..60,
        )
    ) {
        let text = words.join(" ");
        if let Err(error) = conf(&text) {
            prop_assert_eq!(error.exit_code(), 78);
            prop_assert!(!error.reports().is_empty());
        }
    }
}

/// The text of a file of this project.
fn project_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What both formats say on both nodes, which is the same.
fn same_in_both(conf_text: &str, toml_text: &str) -> Config {
    let [a, b] = ["hasta", "hastb"].map(|name| {
        let conf = parse_str(conf_text, "x.conf", Format::Conf, &node(name));
        let toml = parse_str(toml_text, "x.toml", Format::Toml, &node(name));
        assert_eq!(conf, toml);
        conf.unwrap()
    });
    assert_eq!(a.resources.len(), b.resources.len());
    a
}

#[test]
fn the_samples_are_right_and_say_the_same() {
    let conf_text = project_file("etc/hast.conf.sample");
    let toml_text = project_file("etc/hast.toml.sample");
    let config = same_in_both(&conf_text, &toml_text);
    assert_eq!(config.resources.len(), 1);
    // The statements that are commented out state the defaults.
    let uncomment = |text: &str| {
        let statement = |line: &str| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()))
                .unwrap_or(line)
                .to_owned()
        };
        text.lines().map(statement).collect::<Vec<_>>().join("\n")
    };
    let all = same_in_both(&uncomment(&conf_text), &uncomment(&toml_text));
    assert_ne!(all, config, "nothing was commented out");
    let mut expected = config;
    expected.resources[0].exec = Some("/usr/local/libexec/hast-event".into());
    expected.resources[0].fence = Some("/usr/local/libexec/hast-fence".into());
    assert_eq!(all, expected);
}

#[test]
fn the_examples_of_the_manual_are_right_and_say_the_same() {
    let manual = project_file("man/hast.conf.5");
    let (_, examples) = manual.split_once(".Sh EXAMPLES").unwrap();
    let blocks: Vec<_> = examples
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|rest| rest.split(".Ed\n").next().unwrap())
        .collect();
    let [conf_text, toml_text] = blocks[..] else {
        panic!("{} examples", blocks.len());
    };
    let config = same_in_both(conf_text, toml_text);
    assert_eq!(config.resources.len(), 2);
    assert_eq!(config.listen.len(), 2);
}

#[test]
fn the_manual_describes_every_statement() {
    let manual = project_file("man/hast.conf.5");
    for keyword in super::document::Keyword::ALL {
        let word = keyword.as_str();
        let described = [format!(".It Ic {word} "), format!(".Ic {word} Ar node")];
        assert!(described.iter().any(|text| manual.contains(text)), "{word}");
    }
}
