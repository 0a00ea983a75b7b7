//! `hast-bench`: measures hast and, in the same run, over the same files and with the same client,
//! whatever it can be compared with on this machine. `make bench` builds and runs it.
//!
//! * `options`: the command line; `profile`: what is measured, in tasks;
//! * `contestant`: who is measured, and how each is started;
//! * `work`: what is done to a contestant, and the samples that come of it;
//! * `runner`: every task with every contestant, in interleaved rounds;
//! * `statistics`, `report`: medians and ratios, as a table, CSV, SVG and Markdown;
//! * `ground`, `child`, `usage`: files, processes, and what they use.
//!
//! A contestant that fails is told and left out; the run goes on. Nothing needs root.

mod child;
mod contestant;
mod fio;
mod ground;
mod load;
mod options;
mod profile;
mod report;
mod runner;
mod statistics;
mod sync;
mod usage;
mod work;

use std::process::ExitCode;

use clap::Parser;
use hast_regress::interrupt;

use self::ground::Ground;
use self::options::Options;
use self::profile::Profile;
use self::report::conditions::Conditions;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("hast-bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything of ours that was to be measured was.
fn run(options: &Options) -> Result<bool, String> {
    let ground = Ground::new(&options.dir, options.keep)?;
    interrupt::clean_up();
    let profile = Profile::new(options, &ground);
    if options.list {
        profile.list();
        return Ok(true);
    }
    if profile.tasks.is_empty() {
        return Err("nothing is left to be measured: see --list".to_owned());
    }
    let conditions = Conditions::now(&ground, &profile);
    println!("{conditions}");
    println!(
        "{} tasks, {} rounds, about {} minutes; results go to {}\n",
        profile.tasks.len(),
        profile.rounds,
        profile.estimate().as_secs().div_ceil(60),
        options.output.display()
    );
    let outcome = runner::run(&profile, &ground);
    report::write(&profile, &outcome, &conditions, options)?;
    Ok(outcome.ours_is_complete())
}
