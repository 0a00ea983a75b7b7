//! `hastctl completions`: what bash, zsh, fish and others complete command lines with. Run when the
//! programs are installed; not for people, hence in no usage.

use std::io::Write;

use clap_complete::Shell;

use super::{args, exit};

/// Prints it.
pub(super) fn print(shell: Shell, out: &mut dyn Write) -> u8 {
    // Not straight to `out`: the generator panics if that fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::description(), "hastctl", &mut script);
    match out.write_all(&script).and_then(|()| out.flush()) {
        Ok(()) => exit::OK,
        Err(_) => exit::IOERR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut out = Vec::new();
            assert_eq!(print(shell, &mut out), exit::OK);
            let text = String::from_utf8(out).unwrap();
            for word in ["create", "status", "wait", "config"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn pipe_that_is_broken_is_no_panic() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(print(Shell::Bash, &mut writer), exit::IOERR);
    }
}
