//! The Python environment of the peer: its pinned packages in a folder of the user's cache, or one that is named.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::{Workspace, cache_dir, free_bytes, human_bytes};

/// Folder in the cache; a change of the requirements makes it anew.
const FOLDER: &str = "benchmark-peer";
/// Holds the requirements that were installed; written last, so it says that the environment is whole.
const STAMP: &str = "installed.txt";
/// The torch wheel brings CUDA packages along, which are not used here.
const INSTALL_BYTES: u64 = 9_000_000_000;

/// Prints versions, one a line as in the requirements; fails by the name of a package that is missing.
const VERSIONS: &str = "import sys\nfrom importlib.metadata import version\n\
    for name in sys.argv[1:]: print(name + '==' + version(name).split('+')[0])";

/// The folder of the peer's scripts.
pub fn scripts(workspace: &Workspace) -> PathBuf {
    workspace.root.join("xtask/peers")
}

/// A Python that has the pinned packages: the named one, else the one in the cache, which is installed if need be.
pub fn python(workspace: &Workspace, named: Option<&Path>) -> Result<PathBuf> {
    let file = scripts(workspace).join("requirements.txt");
    let wanted = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(python) = named {
        check(python, &wanted)?;
        return Ok(python.to_path_buf());
    }
    let dir = cache_dir()?.join(FOLDER);
    let python = dir.join("bin/python");
    let stamp = dir.join(STAMP);
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if let Some(free) = free_bytes(&dir).filter(|&free| free < INSTALL_BYTES) {
        let (free, need, dir) = (human_bytes(free), human_bytes(INSTALL_BYTES), dir.display());
        bail!("{free} free for {dir}, the peer needs {need}; make room, set XDG_CACHE_HOME, or use --no-peer");
    }
    eprintln!("making the peer's Python environment in {} (about 3 GB to download, once)", dir.display());
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))
        .context("python3 cannot make an environment; `apt install python3 python3-venv`")?;
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--requirement"];
    process::run(Command::new(&python).args(pip).arg(&file))
        .context("the installation failed; run the same command again")?;
    check(&python, &wanted)?;
    std::fs::write(&stamp, &wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Fails unless `python` has exactly the packages of `wanted`.
fn check(python: &Path, wanted: &str) -> Result<()> {
    let names = wanted.lines().filter_map(|line| line.split("==").next());
    let output = Command::new(python).args(["-c", VERSIONS]).args(names).output();
    let output = output.with_context(|| format!("{} cannot be run", python.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{} lacks a package: {}", python.display(), text.trim().lines().last().unwrap_or_default());
    }
    match differences(wanted, &String::from_utf8_lossy(&output.stdout)).as_slice() {
        [] => Ok(()),
        found => bail!("{}: {}; install what xtask/peers/requirements.txt names", python.display(), found.join(", ")),
    }
}

/// Lines of `wanted` that `found` does not have, with what it has in their place.
fn differences(wanted: &str, found: &str) -> Vec<String> {
    let pairs = wanted.lines().zip(found.lines().chain(std::iter::repeat("nothing")));
    pairs.filter(|(wanted, found)| wanted != found).map(|(wanted, found)| format!("{found}, need {wanted}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_held_against_the_requirements() {
        let wanted = "torch==2.11.0\ntrl==1.16.0\n";
        assert!(differences(wanted, wanted).is_empty());
        assert_eq!(differences(wanted, "torch==2.11.0\ntrl==1.0.0\n"), ["trl==1.0.0, need trl==1.16.0"]);
        assert_eq!(differences(wanted, "torch==2.11.0\n"), ["nothing, need trl==1.16.0"]);
    }
}
