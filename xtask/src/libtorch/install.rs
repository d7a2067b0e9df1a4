//! libtorch from the Python package index into the user's cache, where every clone finds it.
//!
//! The work happens in a `.partial` folder under a lock; the final name appears by one rename, last.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{CPU_FOLDER, CUDA_FOLDER, Libtorch, VERSION, cached};
use crate::process;
use crate::wheel::{self, Wheel};
use crate::workspace::{cache_dir, free_bytes, human_bytes};

/// The CPU part of the torch wheel: the headers and every library but those for CUDA and for Python. `libtorch.so` is
/// left out because there it asks for the CUDA part; a link to `libtorch_cpu.so` stands in for it.
const TORCH_MEMBERS: &[(&str, &str)] = &[
    (r"torch/(include/.*)", r"\1"),
    (r"torch/(lib/(?!libtorch\.so|.*(cuda|nvrtc|nvshmem|python|global_deps|libshm))lib.*\.so.*)", r"\1"),
    (r"torch-.*\.dist-info/licenses/(LICENSE|NOTICE)", r"\1"),
];
/// `libtorch_cpu.so` names these two even where no CUDA is used.
const CUDART_MEMBERS: &[(&str, &str)] = &[(r"nvidia/cu13/(lib/libcudart\.so\.13)", r"\1")];
const CUPTI_MEMBERS: &[(&str, &str)] = &[(r"nvidia/cu13/(lib/libcupti\.so\.13)", r"\1")];

/// Download plus unpacked folder, rounded up.
const CPU_BYTES: u64 = 1_400_000_000;
const CUDA_BYTES: u64 = 9_000_000_000;

/// The three wheels for this processor.
fn cpu_wheels() -> Result<[Wheel; 3]> {
    let [torch, cudart, cupti] = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => [
            "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
            "9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650",
        ],
        ("linux", "aarch64") => [
            "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6",
            "de2dc5a7367974228b0a69588a9acc9340d3768bef1bf38bf0801eb08497cd2d",
            "d7e4d908315461b6ecbdadfd3c403cc796ed218b293ad117568c947e811cff28",
        ],
        (os, arch) => bail!(
            "setup knows no libtorch for {os} on {arch}, only for linux on x86_64 and aarch64; \
             set LIBTORCH to the folder of libtorch {VERSION}"
        ),
    };
    Ok([
        Wheel { requirement: "torch==2.11.0", sha256: torch, members: TORCH_MEMBERS },
        Wheel { requirement: "nvidia-cuda-runtime==13.5.37", sha256: cudart, members: CUDART_MEMBERS },
        Wheel { requirement: "nvidia-cuda-cupti==13.5.25", sha256: cupti, members: CUPTI_MEMBERS },
    ])
}

/// Installs the CPU part; returns what is in the cache afterwards.
pub fn install_cpu() -> Result<Libtorch> {
    let wheels = cpu_wheels()?;
    let place = Place::lock(CPU_FOLDER)?;
    if let Some(done) = cached(false)? {
        // Another clone installed it while we waited for the lock.
        if done.load_check().is_ok() {
            return Ok(done);
        }
    }
    wheel::require_pip()?;
    place.require_space(CPU_BYTES)?;
    eprintln!("installing the CPU part of libtorch {VERSION} (about 550 MB to download) for all clones of this user");
    let tree = place.fresh_tree()?;
    for wheel in &wheels {
        let file = wheel::download(wheel, &place.partial)?;
        wheel::extract(wheel, &file, &tree)?;
    }
    std::os::unix::fs::symlink("libtorch_cpu.so", tree.join("lib/libtorch.so"))?;
    std::fs::write(tree.join("build-version"), format!("{VERSION}\n"))?;
    let installed = Libtorch::inspect(&tree).and_then(|found| found.load_check());
    installed.context("what was installed does not work; run `cargo xtask doctor` and report both")?;
    place.finish(&tree)?;
    Libtorch::inspect(&place.last)
}

/// Installs the whole wheel with the NVIDIA packages that it asks for.
pub fn install_cuda() -> Result<Libtorch> {
    let place = Place::lock(CUDA_FOLDER)?;
    if let Some(done) = cached(true)? {
        return Ok(done);
    }
    wheel::require_pip()?;
    place.require_space(CUDA_BYTES)?;
    eprintln!(
        "installing libtorch {VERSION} with its CUDA parts (about 2.5 GB to download, 4.5 GB unpacked) for all clones of this user"
    );
    let tree = place.fresh_tree()?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]);
    pip.args(wheel::platform_args((17..=28).rev()))
        .arg("--target")
        .arg(&tree)
        .arg(format!("torch=={VERSION}"))
        .stdin(Stdio::null());
    process::run(&mut pip).context("the installation failed; run the same command again")?;
    let installed = Libtorch::inspect(&tree.join("torch")).and_then(|found| found.load_check());
    installed.context("what was installed does not work; run `cargo xtask doctor` and report both")?;
    place.finish(&tree)?;
    Libtorch::inspect(&place.last.join("torch"))
}

/// A folder of the cache that is being made.
struct Place {
    last: PathBuf,
    partial: PathBuf,
    /// Held until we are done; the system releases it if we are killed.
    _lock: File,
}

impl Place {
    fn lock(name: &str) -> Result<Self> {
        let cache = cache_dir()?;
        std::fs::create_dir_all(&cache)
            .with_context(|| format!("cannot write {}; set XDG_CACHE_HOME to a folder that can be", cache.display()))?;
        let path = cache.join(format!("{name}.lock"));
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("another setup is at work on {}; waiting for it", cache.join(name).display());
                lock.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
        }
        Ok(Self { last: cache.join(name), partial: cache.join(format!("{name}.partial")), _lock: lock })
    }

    fn require_space(&self, bytes: u64) -> Result<()> {
        if let Some(free) = free_bytes(&self.partial).filter(|&free| free < bytes) {
            bail!(
                "{} has {} free, need {}; make room or set XDG_CACHE_HOME to a folder on another disk",
                self.partial.display(),
                human_bytes(free),
                human_bytes(bytes)
            );
        }
        Ok(())
    }

    /// An empty folder to fill; what an interrupted setup left unpacked is dropped, wheels that are whole are kept.
    fn fresh_tree(&self) -> Result<PathBuf> {
        // A name of our own: a helper of a setup that was killed may still write into the old one for a moment.
        let tree = self.partial.join(format!(".tree-{}", std::process::id()));
        for entry in std::fs::read_dir(&self.partial).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                std::fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}; remove it by hand", entry.path().display()))?;
            }
        }
        std::fs::create_dir_all(&tree).with_context(|| format!("cannot write {}", tree.display()))?;
        Ok(tree)
    }

    /// Gives the finished tree its name; a broken folder that had the name goes.
    fn finish(&self, tree: &Path) -> Result<()> {
        if self.last.exists() {
            std::fs::rename(&self.last, self.partial.join(".broken"))?;
        }
        std::fs::rename(tree, &self.last).with_context(|| format!("cannot write {}", self.last.display()))?;
        // Leftovers cost only space.
        let _ = std::fs::remove_dir_all(&self.partial);
        Ok(())
    }
}
