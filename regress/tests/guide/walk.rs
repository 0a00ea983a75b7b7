//! A walk through the guide's chapters: every command that is not a remedy, in the order of the
//! guide, on one pair that has nothing at the beginning.

use std::fs;
use std::path::Path;

use hast_regress::scenario::{Cluster, Setup, Side};

use super::disks::conf;
use super::shell::{Daemons, run_block, write_program};
use super::text;

#[test]
fn every_command_of_the_chapters_works_in_the_order_of_the_guide() {
    let mut cluster = Cluster::prepare(Setup::of(conf()));
    // What the guide lets hast.conf name.
    let yes = "#!/bin/sh\nexit 0\n";
    write_program(&cluster.dir().join("libexec/hast-fence"), yes);
    cluster.setup.statements.push_str("metaflush on\n");
    cluster.write_config();
    let _daemons = Daemons::of(&cluster);
    let blocks = text::blocks(&text::read());
    let mut elsewhere = Vec::new();
    let mut commands = 0;
    for block in blocks.iter().filter(|block| !block.is_remedy) {
        match &block.elsewhere {
            Some(why) => elsewhere.push((block.line, why)),
            None => {
                run_block(&cluster, block);
                commands += block.commands.lines().count();
            }
        }
    }
    println!("{commands} lines of commands; elsewhere: {elsewhere:?}");
    for side in Side::BOTH {
        assert!(
            !cluster.node(side).home().join("pid").exists(),
            "{side} still runs"
        );
    }
}

#[test]
fn blocks_that_run_elsewhere_are_few_and_say_why() {
    let blocks = text::blocks(&text::read());
    let elsewhere: Vec<&str> = blocks
        .iter()
        .filter_map(|block| block.elsewhere.as_deref())
        .collect();
    println!("{elsewhere:#?}");
    let reasons = [
        "systemd",
        "FreeBSD",
        "accounts",
        "firewall",
        "kernel-nbd",
        "terminal",
        "hardware",
    ];
    for why in &elsewhere {
        assert!(reasons.contains(why), "{why}");
    }
    assert!(
        elsewhere.len() * 4 < blocks.len(),
        "of {} blocks",
        blocks.len()
    );
}

#[test]
fn configurations_of_the_guide_are_right() {
    let dir = tempfile::TempDir::with_prefix("hastconf").unwrap();
    let guide = text::read();
    let shown = text::configurations(&guide);
    assert!(shown.len() >= 2);
    for text in shown {
        let path: &Path = &dir.path().join("hast.conf");
        fs::write(path, &text).unwrap();
        if let Err(error) = hast::conf::load(path, Some("alpha")) {
            panic!("{text}\n{}", error.render());
        }
    }
}
