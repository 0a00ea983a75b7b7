//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hast_regress::programs::workspace;

/// Measures hast beside a plain NBD server, a synchronous mirror and others that are installed.
#[derive(Clone, Debug, Parser)]
#[command(name = "hast-bench")]
pub(crate) struct Options {
    /// What matters most, in 10 to 12 minutes on two quiet processors.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Everything once, tiny, in less than half a minute: whether it works. The figures mean nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// How often each contestant is measured.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// How long each workload runs, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Only tasks whose name contains one of these.
    #[arg(long, value_name = "PART", num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// Only contestants whose name contains one of these; what they are compared with stays.
    #[arg(long, value_name = "PART", num_args = 1..)]
    pub(crate) contestants: Vec<String>,
    /// Shows tasks and contestants, and measures nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// In which directory disks are made, up to 5 GB: the file system that is measured.
    #[arg(long, default_value_os_t = default_dir())]
    pub(crate) dir: PathBuf,
    /// Where results go.
    #[arg(long, default_value_os_t = default_dir().join("report"))]
    pub(crate) output: PathBuf,
    /// Also puts the results into README.md and docs/performance.
    #[arg(long)]
    pub(crate) publish: bool,
    /// Leaves the disks for the next run.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Directory of the original's hastd and hastctl, built for this system: measured as well.
    #[arg(long, value_name = "DIR")]
    pub(crate) original: Option<PathBuf>,
    /// Global statements for the original's configuration, should that build need any. {home} is
    /// the directory of the node.
    #[arg(long, value_name = "TEXT", requires = "original", default_value = "")]
    pub(crate) original_statements: String,
    /// The NBD socket at which that build serves a primary. {home} and {name} are replaced.
    #[arg(
        long,
        value_name = "PATH",
        requires = "original",
        default_value = "{home}/hast/{name}.nbd"
    )]
    pub(crate) original_device: String,
}

fn default_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("bench")
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "from 0.1 to 3600".to_owned())
}
