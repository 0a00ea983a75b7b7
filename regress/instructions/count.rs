//! Counting instructions, by valgrind.

use std::process::Command;

use crate::cases::Case;

/// Instructions of one call of a case.
///
/// # Errors
/// valgrind is not there, or says something else.
#[allow(clippy::cast_precision_loss, reason = "a mean, for people")]
pub(crate) fn per_call(case: &Case) -> Result<f64, String> {
    let few = case.calls / 10;
    let difference = count(case, case.calls)?.checked_sub(count(case, few)?);
    let difference = difference.ok_or_else(|| format!("{}: more calls cost less", case.name))?;
    Ok(difference as f64 / (case.calls - few) as f64)
}

fn count(case: &Case, calls: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["run", &case.name, &calls.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {}: {said}", case.name, output.status));
    }
    collected(&said).ok_or_else(|| format!("valgrind counts nothing: {said}"))
}

/// The number that callgrind prints at its end.
fn collected(said: &str) -> Option<u64> {
    let (_, rest) = said.rsplit_once("Collected :")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The compiler that the counts depend on.
pub(crate) fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.unwrap_or_else(|_| "an unknown compiler".to_owned());
    format!("{version}, {}", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let said = "==1== Events    : Ir\n==1== Collected : 12345\n==1==\n";
        assert_eq!(collected(said), Some(12_345));
        assert_eq!(collected("==1== nothing"), None);
    }
}
