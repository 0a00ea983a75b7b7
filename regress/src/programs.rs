//! The programs under test, built as the tests themselves are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of `hastd` or `hastctl`.
///
/// Cargo builds no binaries of other packages for a test, so the first call does; it takes a
/// moment when they are up to date. Where there is no cargo, `HAST_PROGRAMS` names the directory
/// that holds them.
///
/// # Panics
/// If they do not build.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY
        .get_or_init(|| std::env::var_os("HAST_PROGRAMS").map_or_else(build, PathBuf::from));
    directory.join(name)
}

/// Builds the binaries and returns the directory that holds them.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>, or target/<profile>/<program> for programs of our own.
    let within = test.parent().expect("a program lies in a directory");
    let directory = if within.ends_with("deps") {
        within.parent().unwrap_or(within).to_owned()
    } else {
        within.to_owned()
    };
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = directory.parent().unwrap_or(&directory);
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "hast",
            "--bins",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the programs do not build: {status}");
    directory
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}
