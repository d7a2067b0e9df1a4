//! Running other programs: printed first, in a form that a shell takes.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Prints `command`, runs it with our own input and output, and fails if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}

/// The command as one would type it in the folder it runs in.
pub fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(key, value)| Some(format!("{}={}", key.to_str()?, quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_survives_a_shell() {
        let mut command = Command::new("echo");
        command.env("A", "b c").args(["plain=1.5", "two words", "it's", ""]);
        assert_eq!(shown(&command), r"A='b c' echo plain=1.5 'two words' 'it'\''s' ''");
    }
}
