//! The command line of hastctl.
//!
//! clap does the parsing; what it finds wrong is told in the words of the original, that is of
//! getopt(3), followed by the usage where the original prints it. A new command is a variant of
//! [`Command`] with its options, a line of [`USAGE`], and an arm in [`super::run`].

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::config::Format;
use super::size;
use super::steer::Rate;
use crate::terms::Role;

/// The original's lines, then ours.
pub const USAGE: &str = "\
usage: hastctl create [-d] [-c config] [-e extentsize] [-k keepdirty]
\t\t[-m mediasize] name ...
       hastctl role [-d] [-c config] <init | primary | secondary> all | name ...
       hastctl list [-d] [-c config] [all | name ...]
       hastctl status [-d] [-c config] [all | name ...]
       hastctl dump [-d] [-c config] [all | name ...]
       hastctl config check [-c config]
       hastctl config print [-c config] [--format conf | toml | json]
       hastctl wait [-d] [-c config] [--connected] [--synced] [--role role]
		[--timeout seconds] [all | name ...]
       hastctl pause-sync | resume-sync [-d] [-c config] all | name ...
       hastctl sync-rate [-d] [-c config] <bytes/s | unlimited | adaptive | default>
		all | name ...
       hastctl explain [-d] [-c config] [--json] [all | name ...]
       hastctl events [-d] [-c config] [--json] [--since time] [--follow]
		[all | name ...]
       hastctl connect [-d] [-c config] all | name ...
       hastctl disconnect [-d] [-c config] [--force] all | name ...
       hastctl invalidate [-d] [-c config] [--force] name ...
       hastctl metrics [-d] [-c config] [--openmetrics] [--output file]
       hastctl top [-d] [-c config] [all | name ...]
       hastctl stop [-d] [-c config]
also:  role [--force] [--wait [--timeout seconds]], create [-a alignment] [-f],
       dump, list and status [--json], status [--watch],
       and [-N node] for every command
";

#[derive(Parser)]
#[command(
    name = "hastctl",
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_override_self = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes local components.
    Create(CreateOptions),
    /// Shows the metadata of local components.
    Dump(DumpOptions),
    /// Changes roles.
    Role(RoleOptions),
    /// Shows everything about resources.
    List(StatusOptions),
    /// Shows a line about each resource.
    Status(StatusOptions),
    /// Waits until something is true of resources.
    Wait(WaitOptions),
    /// Lets synchronisations rest.
    PauseSync(NamesOptions),
    /// Lets them go on.
    ResumeSync(NamesOptions),
    /// Says how fast they may go.
    SyncRate(RateOptions),
    /// Says what state resources are in and what to do, in words.
    Explain(ExplainOptions),
    /// Shows what has happened.
    Events(EventsOptions),
    /// Lets nodes meet again.
    Connect(NamesOptions),
    /// Keeps nodes apart.
    Disconnect(ForceOptions),
    /// Shows what Prometheus is to know.
    Metrics(MetricsOptions),
    /// Shows all resources as they change, on the whole terminal.
    #[cfg(feature = "top")]
    Top(NamesOrAllOptions),
    /// Gives copies up.
    Invalidate(ForceOptions),
    /// Stops the daemon.
    Stop(Common),
    /// Works on the configuration alone.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints what a shell completes command lines with.
    #[command(hide = true)]
    Completions {
        /// For which one.
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Common {
    /// How often `-d` was given.
    #[arg(short = 'd', action = ArgAction::Count)]
    pub debug: u8,
    /// The configuration file.
    #[arg(
        short = 'c',
        default_value = "/etc/hast.conf",
        allow_hyphen_values = true
    )]
    pub config: PathBuf,
    /// The node to take for this one, instead of what this host is called.
    #[arg(short = 'N', allow_hyphen_values = true)]
    pub node: Option<String>,
}

/// Options of `create`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct CreateOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// Bytes of an extent.
    #[arg(short = 'e', value_name = "extentsize", value_parser = size::expand,
          allow_hyphen_values = true)]
    pub extentsize: Option<u64>,
    /// How many extents stay dirty.
    #[arg(short = 'k', value_name = "keepdirty", value_parser = size::expand,
          allow_hyphen_values = true)]
    pub keepdirty: Option<u64>,
    /// Bytes of the provider to use.
    #[arg(short = 'm', value_name = "mediasize", value_parser = size::expand,
          allow_hyphen_values = true)]
    pub mediasize: Option<u64>,
    /// What the data area's offset is to be a multiple of, in bytes.
    #[arg(short = 'a', value_name = "alignment", value_parser = size::expand,
          allow_hyphen_values = true)]
    pub alignment: Option<u64>,
    /// Whether to overwrite what is in use or belongs to another resource.
    #[arg(short = 'f')]
    pub force: bool,
    /// The resources.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Options of `dump`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct DumpOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// The resources; none, or `all` as the first, means all of the configuration.
    pub names: Vec<String>,
}

/// Options of `role`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct RoleOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// Whether to become primary on a copy that is known to be incomplete.
    #[arg(long)]
    pub force: bool,
    /// Whether to wait until the role is of use.
    #[arg(long)]
    pub wait: bool,
    /// For so many seconds at most.
    #[arg(long, value_name = "timeout", requires = "wait")]
    pub timeout: Option<u64>,
    /// The role to take.
    #[arg(value_parser = role)]
    pub role: Role,
    /// The resources; `all` as the first means all of the daemon's.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Options of commands that need nothing but resources.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct NamesOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// The resources; `all` as the first means all of the daemon's.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Options of commands that can be forced.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct ForceOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// Whatever it costs.
    #[arg(long)]
    pub force: bool,
    /// The resources; `all` as the first means all of the daemon's.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Options of `sync-rate`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct RateOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// How fast.
    #[arg(value_parser = Rate::parse)]
    pub rate: Rate,
    /// The resources; `all` as the first means all of the daemon's.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Options of `status` and `list`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct StatusOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// Again and again.
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// The resources; none, or `all` as the first, means all of the daemon's.
    pub names: Vec<String>,
}

/// Options of `explain`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct ExplainOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// The resources; none, or `all` as the first, means all of the daemon's.
    pub names: Vec<String>,
}

/// Options of `metrics`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct MetricsOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// In OpenMetrics, not in Prometheus' older text format.
    #[arg(long)]
    pub openmetrics: bool,
    /// Replace this file, instead of printing.
    #[arg(long, value_name = "file")]
    pub output: Option<PathBuf>,
}

/// Options of a command that takes resources, or all of them.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct NamesOrAllOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// The resources; none, or `all` as the first, means all of the daemon's.
    pub names: Vec<String>,
}

/// Options of `events`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct EventsOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// For programs: an object in each line.
    #[arg(long)]
    pub json: bool,
    /// From then on.
    #[arg(long, value_name = "time", value_parser = since)]
    pub since: Option<u64>,
    /// And what happens from now on.
    #[arg(long)]
    pub follow: bool,
    /// The resources; none, or `all` as the first, means all, and the daemon.
    pub names: Vec<String>,
}

fn since(text: &str) -> Result<u64, &'static str> {
    crate::moment::parse(text, crate::moment::now_ms())
}

/// Options of `wait`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct WaitOptions {
    #[command(flatten)]
    #[expect(missing_docs, reason = "see Common")]
    pub common: Common,
    /// Until the nodes are connected.
    #[arg(long)]
    pub connected: bool,
    /// Until the nodes are connected and nothing is left to be synchronised.
    #[arg(long)]
    pub synced: bool,
    /// Until the resource has that role.
    #[arg(long, value_name = "role", value_parser = role)]
    pub role: Option<Role>,
    /// For so many seconds at most.
    #[arg(long, value_name = "timeout")]
    pub timeout: Option<u64>,
    /// The resources; none, or `all` as the first, means all of the daemon's.
    pub names: Vec<String>,
}

fn role(text: &str) -> Result<Role, &'static str> {
    Role::from_name(text).ok_or("not a role")
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says what is wrong with it.
    Check(Common),
    /// Shows what it amounts to.
    Print {
        #[command(flatten)]
        #[expect(missing_docs, reason = "see Common")]
        common: Common,
        /// In which form.
        #[arg(long, value_name = "format", value_enum, default_value_t = Format::Conf)]
        format: Format,
    },
}

/// What is wrong with a command line: the text for stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse {
    complaint: Option<String>,
    usage: bool,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(complaint) = &self.complaint {
            writeln!(f, "hastctl: {complaint}")?;
        }
        f.write_str(if self.usage { USAGE } else { "" })
    }
}

/// The command that the arguments, the program's name first, ask for.
///
/// # Errors
/// [`Misuse`] has the text to print.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Misuse> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // The original looks at options behind the command only.
    let command_first = arguments
        .get(1)
        .is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    CommandLine::try_parse_from(&arguments)
        .map(|line| line.command)
        .map_err(|error| misuse(&error, command_first))
}

/// The command line as clap describes it.
pub(super) fn description() -> clap::Command {
    CommandLine::command()
}

/// What clap found wrong, in the original's words.
fn misuse(error: &clap::Error, command_first: bool) -> Misuse {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if command_first => argument.as_str(),
        _ => "",
    };
    let no_value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.is_empty(),
        _ => true,
    };
    let complaint = match error.kind() {
        ErrorKind::UnknownArgument => {
            option_of(argument).map(|option| format!("illegal option -- {option}"))
        }
        ErrorKind::InvalidValue if no_value => {
            option_of(argument).map(|option| format!("option requires an argument -- {option}"))
        }
        // The original prints its usage if the role is none, which is no option's value.
        ErrorKind::ValueValidation if argument.starts_with('<') => None,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            return Misuse {
                complaint: value_name_of(argument).map(|name| format!("Invalid {name}")),
                usage: false,
            };
        }
        _ => None,
    };
    Misuse {
        complaint,
        usage: true,
    }
}

/// `x` of `-x <value>`, `name` of `--name <value>`; `None` if it is no option.
fn option_of(argument: &str) -> Option<&str> {
    let option = argument.split(' ').next()?;
    option
        .strip_prefix("--")
        .or_else(|| option.strip_prefix('-'))
        .filter(|option| !option.is_empty())
}

/// `value` of `-x <value>`.
fn value_name_of(argument: &str) -> Option<&str> {
    Some(argument.split_once('<')?.1.trim_end_matches('>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split(' ').map(OsString::from)).map_err(|misuse| misuse.to_string())
    }

    fn complaint(line: &str) -> String {
        let text = parsed(line).expect_err("misuse");
        text.strip_suffix(USAGE).expect("usage").to_owned()
    }

    #[test]
    fn misuse_without_a_culprit_prints_the_usage_alone() {
        for line in [
            "hastctl",
            "hastctl bogus",
            "hastctl -c x dump",
            "hastctl -x",
            "hastctl --help",
            "hastctl create",
            "hastctl create -c x",
            "hastctl config",
            "hastctl config bogus",
            "hastctl config check name",
        ] {
            assert_eq!(complaint(line), "", "{line}");
        }
    }

    #[test]
    fn unknown_options_are_named_as_getopt_does() {
        assert_eq!(
            complaint("hastctl create -x test"),
            "hastctl: illegal option -- x\n"
        );
        assert_eq!(
            complaint("hastctl dump -h"),
            "hastctl: illegal option -- h\n"
        );
        assert_eq!(
            complaint("hastctl dump -dx"),
            "hastctl: illegal option -- x\n"
        );
        assert_eq!(
            complaint("hastctl dump --bogus=3"),
            "hastctl: illegal option -- bogus\n"
        );
    }

    #[test]
    fn options_without_their_argument_are_named_as_getopt_does() {
        assert_eq!(
            complaint("hastctl dump -c"),
            "hastctl: option requires an argument -- c\n"
        );
        assert_eq!(
            complaint("hastctl config print --format"),
            "hastctl: option requires an argument -- format\n"
        );
    }

    #[test]
    fn bad_values_are_named_without_the_usage() {
        let cases = [
            ("create -e foo test", "Invalid extentsize"),
            ("create -k -1 test", "Invalid keepdirty"),
            ("create -m 1x test", "Invalid mediasize"),
            ("create -a 16E test", "Invalid alignment"),
            ("config print --format xml", "Invalid format"),
            ("events --since yesterday", "Invalid time"),
        ];
        for (line, text) in cases {
            assert_eq!(
                parsed(&format!("hastctl {line}")).unwrap_err(),
                format!("hastctl: {text}\n")
            );
        }
    }

    #[test]
    fn the_last_of_repeated_options_counts_and_debug_adds_up() {
        let Ok(Command::Create(options)) =
            parsed("hastctl create -d -e 1k -dd -c a -c b -e 1M -m 32m -a 4k -f one two")
        else {
            panic!("create");
        };
        assert_eq!(options.common.debug, 3);
        assert_eq!(options.common.config, PathBuf::from("b"));
        assert_eq!(options.extentsize, Some(1 << 20));
        assert_eq!(options.mediasize, Some(32 << 20));
        assert_eq!(options.alignment, Some(4096));
        assert!(options.force);
        assert_eq!(options.names, ["one", "two"]);
    }
}
