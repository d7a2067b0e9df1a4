//! Where a libtorch may already be: the link, the environment, a Python, the user's cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{CPU_FOLDER, CUDA_FOLDER, Libtorch, VERSION};
use crate::workspace::{Workspace, cache_dir};

/// Prints the folder of the torch package and its version, without importing it, which would take seconds.
const FIND_TORCH: &str = r#"
import importlib.util, os, re
spec = importlib.util.find_spec("torch")
if spec and spec.submodule_search_locations:
    folder = list(spec.submodule_search_locations)[0]
    text = open(os.path.join(folder, "version.py")).read()
    print(re.search(r"__version__ = '([^']*)'", text).group(1))
    print(folder)
"#;

/// What `.libtorch` points at, if that is still usable.
pub fn linked(workspace: &Workspace) -> Option<Result<Libtorch>> {
    let link = workspace.libtorch_link();
    if !link.is_symlink() && !link.exists() {
        return None;
    }
    let inspect = || {
        let dir = link.canonicalize().with_context(|| format!("{} leads nowhere", link.display()))?;
        Libtorch::inspect(&dir)
    };
    Some(inspect())
}

/// The libtorch that `LIBTORCH` names. A value that is set and wrong is an error: the user meant it.
pub fn from_environment(workspace: &Workspace) -> Result<Option<Libtorch>> {
    let Some(value) = workspace.explicit_libtorch() else { return Ok(None) };
    if !Path::new(&value).is_absolute() {
        bail!(
            "LIBTORCH={value:?} is not an absolute path; need the folder of libtorch {VERSION}, or unset the variable"
        );
    }
    let found = Libtorch::inspect(Path::new(&value)).with_context(|| {
        format!("LIBTORCH={value:?} is not usable (unset the variable, and one is found or installed for you)")
    })?;
    Ok(Some(found))
}

/// The libtorch inside the torch package of `python3`, if that has the right version; the note says why not.
pub fn from_python() -> std::result::Result<Libtorch, Option<String>> {
    let output = Command::new("python3").args(["-c", FIND_TORCH]).output().map_err(|_| None)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let (Some(version), Some(dir)) = (lines.next(), lines.next()) else { return Err(None) };
    if version.split('+').next() != Some(VERSION) {
        return Err(Some(format!("python3 has torch {version}, which is not {VERSION}: left alone")));
    }
    Libtorch::inspect(&PathBuf::from(dir)).map_err(|error| Some(format!("python3's torch is left alone: {error:#}")))
}

/// The libtorch that an earlier setup put into the user's cache. A folder has its name only once it is whole.
pub fn cached(cuda: bool) -> Result<Option<Libtorch>> {
    let cache = cache_dir()?;
    let dir = if cuda { cache.join(CUDA_FOLDER).join("torch") } else { cache.join(CPU_FOLDER) };
    Ok(Libtorch::inspect(&dir).ok())
}
