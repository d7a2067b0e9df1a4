//! What a usable libtorch is: its files, its version, its ABI, and that it loads.

mod find;
mod install;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use find::{cached, from_environment, from_python, linked};
pub use install::{install_cpu, install_cuda};

/// The one version that the pinned binding accepts.
pub const VERSION: &str = "2.11.0";

/// The folders of a CPU and a CUDA libtorch in the user's cache.
pub const CPU_FOLDER: &str = "libtorch-2.11.0-cpu";
pub const CUDA_FOLDER: &str = "libtorch-2.11.0-cuda";

/// `c10::detail::torchCheckFail(.., std::string const&)`, whose mangled name tells which `std::string` it was built with.
const CXX11_SYMBOL: &[u8] = b"torchCheckFailEPKcS2_jRKNSt7__cxx11";

/// A libtorch that has what a build needs.
#[derive(Debug)]
pub struct Libtorch {
    /// Holds `include/` and `lib/`.
    pub dir: PathBuf,
    pub cuda: bool,
}

impl Libtorch {
    /// Checks files, version and ABI, without loading anything; a few milliseconds.
    pub fn inspect(dir: &Path) -> Result<Self> {
        for need in
            ["include/torch/csrc/api/include/torch/torch.h", "lib/libtorch_cpu.so", "lib/libc10.so", "lib/libtorch.so"]
        {
            if !dir.join(need).is_file() {
                bail!("{} has no {need}; need the folder of libtorch {VERSION} with include/ and lib/", dir.display());
            }
        }
        for (source, version) in versions(dir)? {
            if version != VERSION {
                bail!("{} holds libtorch {version} by its {source}; need {VERSION}", dir.display());
            }
        }
        let c10 = std::fs::read(dir.join("lib/libc10.so"))?;
        if !c10.windows(CXX11_SYMBOL.len()).any(|window| window == CXX11_SYMBOL) {
            bail!("{} was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0); need the new one", dir.display());
        }
        Ok(Self { dir: dir.to_path_buf(), cuda: dir.join("lib/libtorch_cuda.so").is_file() })
    }

    /// Opens the shared libraries that programs are linked to, in a process of its own: finds missing dependencies.
    pub fn load_check(&self) -> Result<()> {
        let libraries = ["libtorch_cpu.so", "libtorch_cuda.so"].map(|name| self.dir.join("lib").join(name));
        let libraries = &libraries[..if self.cuda { 2 } else { 1 }];
        let script = "import ctypes, sys; [ctypes.CDLL(path) for path in sys.argv[1:]]";
        match Command::new("python3").args(["-I", "-c", script]).args(libraries).output() {
            Err(_) => {
                eprintln!("note: no python3, so whether {} loads was not tried", self.dir.display());
                Ok(())
            }
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let ended = format!("python3 ended with {}", output.status);
                let why = text.trim().lines().last().map_or(ended, String::from);
                bail!("the libtorch in {} does not load: {why}", self.dir.display())
            }
        }
    }

    /// "CPU" or "CPU and CUDA".
    pub fn parts(&self) -> &'static str {
        if self.cuda { "CPU and CUDA" } else { "CPU" }
    }
}

/// An NVIDIA driver is running on this machine.
pub fn nvidia_driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
        || Command::new("nvidia-smi").arg("-L").output().is_ok_and(|output| output.status.success())
}

/// Every version the folder states, each with the file that states it.
fn versions(dir: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    if let Ok(text) = std::fs::read_to_string(dir.join("build-version")) {
        found.push(("build-version", text.trim().split('+').next().unwrap_or_default().to_string()));
    }
    let headers = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    for header in headers {
        let Ok(text) = std::fs::read_to_string(dir.join(header)) else { continue };
        let part = |name: &str| {
            let prefix = format!("#define TORCH_VERSION_{name} ");
            text.lines().find_map(|line| line.strip_prefix(&prefix)).map(|value| value.trim().to_string())
        };
        if let (Some(major), Some(minor), Some(patch)) = (part("MAJOR"), part("MINOR"), part("PATCH")) {
            found.push((header, format!("{major}.{minor}.{patch}")));
        }
    }
    if found.is_empty() {
        bail!("{} does not state its version (build-version or {}); need {VERSION}", dir.display(), headers[0]);
    }
    Ok(found)
}

/// Makes `link` point at `dir`, in one step: another process sees the old link or the new one.
pub fn point_link(link: &Path, dir: &Path) -> Result<()> {
    if link.is_dir() && !link.is_symlink() {
        bail!("{} is a folder, not a link, and not a usable libtorch; move it away and run this again", link.display());
    }
    let target = dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
    let fresh = link.with_file_name(format!(".libtorch-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(&target, &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, link).with_context(|| format!("cannot write {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(version: &str, symbol: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let api = dir.path().join("include/torch/csrc/api/include/torch");
        std::fs::create_dir_all(&api).unwrap();
        std::fs::create_dir_all(dir.path().join("lib")).unwrap();
        std::fs::create_dir_all(dir.path().join("include/torch/headeronly")).unwrap();
        std::fs::write(api.join("torch.h"), "").unwrap();
        let header: String = version
            .split('.')
            .zip(["MAJOR", "MINOR", "PATCH"])
            .map(|(number, name)| format!("#define TORCH_VERSION_{name} {number}\n"))
            .collect();
        std::fs::write(dir.path().join("include/torch/headeronly/version.h"), header).unwrap();
        for (name, content) in [("libtorch_cpu.so", &b""[..]), ("libtorch.so", b""), ("libc10.so", symbol)] {
            std::fs::write(dir.path().join("lib").join(name), content).unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_is_judged_by_files_version_and_abi() {
        let good = fake("2.11.0", CXX11_SYMBOL);
        let found = Libtorch::inspect(good.path()).unwrap();
        assert!(!found.cuda);
        std::fs::write(good.path().join("build-version"), "2.11.0+cu130\n").unwrap();
        std::fs::write(good.path().join("lib/libtorch_cuda.so"), "").unwrap();
        assert!(Libtorch::inspect(good.path()).unwrap().cuda);

        let message = |dir: &Path| Libtorch::inspect(dir).unwrap_err().to_string();
        assert!(message(fake("2.10.1", CXX11_SYMBOL).path()).contains("holds libtorch 2.10.1"));
        assert!(message(fake("2.11.0", b"torchCheckFailEPKcS2_jRKSs").path()).contains("old C++ ABI"));
        assert!(message(fake("", CXX11_SYMBOL).path()).contains("does not state its version"));
        std::fs::write(good.path().join("build-version"), "2.9.0").unwrap();
        assert!(message(good.path()).contains("2.9.0 by its build-version"));
        std::fs::remove_file(good.path().join("lib/libc10.so")).unwrap();
        assert!(message(good.path()).contains("has no lib/libc10.so"));
    }

    #[test]
    fn a_link_is_replaced_and_a_folder_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (dir.path().join("one"), dir.path().join("two"), dir.path().join(".libtorch"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        point_link(&link, &one).unwrap();
        point_link(&link, &two).unwrap();
        assert_eq!(link.canonicalize().unwrap(), two.canonicalize().unwrap());
        std::fs::remove_file(&link).unwrap();
        std::fs::create_dir(&link).unwrap();
        assert!(point_link(&link, &one).unwrap_err().to_string().contains("is a folder"));
    }
}
