//! `cargo xtask setup`: makes `.libtorch` a link to a usable libtorch, so that plain cargo commands work.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::libtorch::{self, Libtorch, VERSION};
use crate::workspace::Workspace;

/// Makes `.libtorch` in the project a link to a usable libtorch 2.11.0. Every other command does this by itself.
#[derive(Args)]
#[command(after_help = "Looked for in this order, the first usable one wins:
  1. LIBTORCH in the environment (a wrong one is an error)
  2. what .libtorch already points at
  3. the torch package of the python3 on PATH, if it is torch 2.11.0
  4. ~/.cache/reins (or $XDG_CACHE_HOME/reins), where an earlier setup of any clone put it
  5. the package index: the CPU part of the torch wheel is installed there (about 550 MB to download)

Afterwards plain `cargo build`, `cargo test` and `cargo run --example` work in this folder and below it, also after the
folder moved: .cargo/config.toml tells cargo about the link. Cargo reads that file by the folder it is started in, so
from elsewhere name it:
  cargo --config PROJECT/.cargo/config.toml run --manifest-path PROJECT/Cargo.toml ...
or tell cargo once for this user with `cargo xtask setup --global`. Programs that are built run from anywhere.")]
pub struct Setup {
    /// Use a libtorch with CUDA; installs the whole wheel and its NVIDIA packages (several GB) if there is none.
    #[arg(long)]
    pub cuda: bool,
    /// Look again from the start, try whether the library loads, and reinstall the cached one if it does not.
    #[arg(long)]
    pub force: bool,
    /// Also name libtorch in cargo's configuration of this user, for `--manifest-path` from other folders.
    #[arg(long)]
    pub global: bool,
}

impl Setup {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let start = Instant::now();
        let link = workspace.libtorch_link();
        let (found, what) = self.obtain(workspace)?;
        if link.canonicalize().ok() != found.dir.canonicalize().ok() {
            libtorch::point_link(&link, &found.dir)?;
        }
        let (parts, dir, seconds) = (found.parts(), found.dir.display(), start.elapsed().as_secs_f64());
        println!("libtorch {VERSION} ({parts}): .libtorch -> {dir}, {what} ({seconds:.1} s)");
        if !found.cuda && libtorch::nvidia_driver() {
            println!("this machine has an NVIDIA driver: `cargo xtask setup --cuda` installs the CUDA parts");
        }
        if self.global {
            name_in_cargo_home(&found.dir)?;
        }
        Ok(())
    }

    /// A usable libtorch and how it was come by.
    fn obtain(&self, workspace: &Workspace) -> Result<(Libtorch, &'static str)> {
        let suits = |found: &Libtorch| found.cuda || !self.cuda;
        if let Some(found) = libtorch::from_environment(workspace)? {
            if !suits(&found) {
                bail!(
                    "LIBTORCH={} has no CUDA parts; unset it and run `cargo xtask setup --cuda`",
                    found.dir.display()
                );
            }
            if self.force || workspace.libtorch_link().canonicalize().ok() != found.dir.canonicalize().ok() {
                found.load_check()?;
            }
            return Ok((found, "named by LIBTORCH"));
        }
        if !self.force {
            match libtorch::linked(workspace) {
                Some(Ok(found)) if suits(&found) => return Ok((found, "already in place")),
                Some(Err(error)) => eprintln!("note: {error:#}; looking for another"),
                _ => {}
            }
        }
        match libtorch::from_python() {
            Ok(found) if suits(&found) => match found.load_check() {
                Ok(()) => return Ok((found, "of the Python on PATH")),
                Err(error) => eprintln!("note: python3's torch is left alone: {error:#}"),
            },
            Err(Some(note)) => eprintln!("note: {note}"),
            _ => {}
        }
        if let Some(found) = libtorch::cached(self.cuda)? {
            // It was loaded once before it got its name; to load it again would take most of a second.
            let works = if self.force { found.load_check() } else { Ok(()) };
            match works {
                Ok(()) => return Ok((found, "from the user's cache")),
                Err(error) => eprintln!("note: {error:#}; installing it again"),
            }
        }
        let found = if self.cuda { libtorch::install_cuda()? } else { libtorch::install_cpu()? };
        Ok((found, "installed from the package index"))
    }
}

/// Makes sure of libtorch on behalf of another command.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    Setup { cuda: false, force: false, global: false }.run(workspace)
}

/// Adds `LIBTORCH` to `[env]` of cargo's own configuration, unless something is set there.
fn name_in_cargo_home(dir: &Path) -> Result<()> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    let file = home.join("config.toml");
    let old = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let dir = dir.canonicalize()?;
    match with_libtorch(&old, &dir.to_string_lossy()).with_context(|| format!("{}", file.display()))? {
        None => println!("{} names this libtorch already", file.display()),
        Some(new) => {
            std::fs::create_dir_all(&home)?;
            let fresh = home.join(format!("config.toml.{}", std::process::id()));
            std::fs::write(&fresh, new).with_context(|| format!("cannot write {}", fresh.display()))?;
            std::fs::rename(&fresh, &file)?;
            println!("added LIBTORCH to [env] of {}; it holds for every cargo project of this user", file.display());
        }
    }
    Ok(())
}

/// The configuration with libtorch named, `None` if it is already; what else stands there keeps its place.
fn with_libtorch(old: &str, dir: &str) -> Result<Option<String>> {
    let table: toml::Table = old.parse().context("is not valid TOML")?;
    let env = table.get("env").and_then(toml::Value::as_table);
    if let Some(value) = env.and_then(|env| env.get("LIBTORCH")) {
        if value.as_str() == Some(dir) {
            return Ok(None);
        }
        bail!("already sets LIBTORCH = {value}, need {dir:?}; change or remove that line");
    }
    let line = format!("LIBTORCH = {}\n", toml::Value::String(dir.to_string()));
    if env.is_none() {
        let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
        return Ok(Some(format!("{old}{gap}\n[env]\n{line}")));
    }
    let Some(header) = old.lines().find(|text| text.trim() == "[env]") else {
        bail!("has `env` in a form that is not edited here; add by hand: {line}");
    };
    Ok(Some(old.replacen(&format!("{header}\n"), &format!("{header}\n{line}"), 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cargo_configuration_keeps_what_it_had() {
        let dir = "/c/libtorch";
        assert_eq!(with_libtorch("", dir).unwrap().unwrap(), "\n[env]\nLIBTORCH = \"/c/libtorch\"\n");
        let kept = with_libtorch("# mine\n[env]\nA = \"1\"\n", dir).unwrap().unwrap();
        assert_eq!(kept, "# mine\n[env]\nLIBTORCH = \"/c/libtorch\"\nA = \"1\"\n");
        assert_eq!(with_libtorch(&kept, dir).unwrap(), None);
        assert!(with_libtorch(&kept, "/other").unwrap_err().to_string().contains("already sets LIBTORCH"));
        assert!(with_libtorch("env.A = \"1\"\n", dir).unwrap_err().to_string().contains("by hand"));
        assert!(with_libtorch("[env", dir).is_err());
    }
}
