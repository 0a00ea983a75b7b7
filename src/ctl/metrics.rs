//! `hastctl metrics`: what Prometheus is to know, for the textfile collector of node_exporter.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::args::MetricsOptions;
use super::client::Daemon;
use super::exit;
use super::output::Console;
use super::status::{document, fetch};
use crate::conf::Config;
use crate::metrics::{Dialect, render};
use crate::terms::system_reason;

/// A file that is written beside the one that it replaces.
///
/// It is opened before this process confines itself, and renamed by the process that started it
/// ([`run`]): readers see the old text or the new one, never a part.
struct Output {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Output {
    fn open(path: &Path) -> io::Result<Output> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)?;
        Ok(Output {
            file,
            temporary,
            path: path.to_owned(),
        })
    }

    /// Puts the text in place.
    fn replace(mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Gone if it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Prints the metrics of all resources, or writes them to a file.
pub(super) fn run(options: &MetricsOptions, config: &Config, console: &mut Console<'_>) -> u8 {
    let dialect = if options.openmetrics {
        Dialect::OpenMetrics
    } else {
        Dialect::Prometheus
    };
    let Some(path) = &options.output else {
        let reply = Daemon::once(config).and_then(|mut daemon| fetch(&mut daemon, &[], true));
        return match reply {
            Ok(reply) => {
                console.print(format_args!("{}", render(&document(&reply), dialect)));
                exit::OK
            }
            Err(failure) => {
                console.error(None, &failure);
                failure.code
            }
        };
    };
    // Another hastctl asks and is confined; this one never reads what comes from the daemon but to
    // copy it, and may still rename a file.
    let failed = |console: &mut Console<'_>, error: &io::Error| {
        let reason = system_reason(error);
        console.error(
            None,
            format_args!("Unable to write {}: {reason}.", path.display()),
        );
        exit::IOERR
    };
    let output = match Output::open(path) {
        Ok(output) => output,
        Err(error) => return failed(console, &error),
    };
    let text = match ask_in_a_process(options, dialect) {
        Ok(Ok(text)) => text,
        Ok(Err(code)) => return code,
        Err(error) => {
            let reason = system_reason(&error);
            console.error(None, format_args!("Unable to start hastctl: {reason}."));
            return exit::OSERR;
        }
    };
    match output.replace(&text) {
        Ok(()) => exit::OK,
        Err(error) => failed(console, &error),
    }
}

/// What a hastctl prints that was started without `--output`, or its exit code; its complaints go
/// where ours do.
fn ask_in_a_process(options: &MetricsOptions, dialect: Dialect) -> io::Result<Result<String, u8>> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("metrics").arg("-c").arg(&options.common.config);
    if let Some(node) = &options.common.node {
        command.arg("-N").arg(node);
    }
    if dialect == Dialect::OpenMetrics {
        command.arg("--openmetrics");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        let code = output
            .status
            .code()
            .and_then(|code| u8::try_from(code).ok());
        return Ok(Err(code.unwrap_or(exit::SOFTWARE)));
    }
    Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()))
}
