//! Where things are: the project root, the target folder, the user's cache, free disk space.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The project this command was started for.
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
}

impl Workspace {
    /// Finds the root from what `cargo run` says, else from the working folder upwards; never from a path that was
    /// fixed when this program was built, because the project may have moved since.
    pub fn find() -> Result<Self> {
        let is_root = |dir: &Path| dir.join("xtask/Cargo.toml").is_file() && dir.join("crates").is_dir();
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        if let Some(root) = manifest_dir.as_deref().and_then(Path::parent).filter(|dir| is_root(dir)) {
            return Ok(Self { root: root.to_path_buf() });
        }
        let here = std::env::current_dir().context("the working folder cannot be read")?;
        match here.ancestors().find(|dir| is_root(dir)) {
            Some(root) => Ok(Self { root: root.to_path_buf() }),
            None => bail!("{} is not inside the project; run this as `cargo xtask` there", here.display()),
        }
    }

    /// The link to libtorch that `.cargo/config.toml` names.
    pub fn libtorch_link(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// `LIBTORCH` as the user set it: cargo sets the variable too, from our own configuration, and that is not a wish.
    pub fn explicit_libtorch(&self) -> Option<OsString> {
        let value = std::env::var_os("LIBTORCH")?;
        let path = Path::new(&value);
        let ours = path.file_name() == self.libtorch_link().file_name()
            && path.parent().and_then(|dir| dir.canonicalize().ok()) == self.root.canonicalize().ok();
        (!ours).then_some(value)
    }

    /// A cargo command in the project root, without the `LIBTORCH` that cargo itself handed to us.
    pub fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.root).args(args);
        if self.explicit_libtorch().is_none() {
            cargo.env_remove("LIBTORCH");
        }
        cargo
    }

    /// The folder cargo builds into, by cargo's own account.
    pub fn target_dir(&self) -> Result<PathBuf> {
        let output = self
            .cargo(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .context("cargo cannot be run; install it with rustup")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` output")?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
        Ok(PathBuf::from(target))
    }
}

/// What clones share: `$XDG_CACHE_HOME/reins`, else `~/.cache/reins`.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(base) = set("XDG_CACHE_HOME") {
        return Ok(base.join("reins"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(".cache/reins")),
        None => bail!("neither XDG_CACHE_HOME nor HOME is set to an absolute path; set one, libtorch is kept there"),
    }
}

/// Free bytes on the disk of `path` or of its nearest parent that exists; `None` where `df` does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let output = Command::new("df").arg("-Pk").arg(existing).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// Bytes for people, in powers of ten.
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
