//! Gives binaries and tests run paths to the libtorch they were linked against.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys tells its direct dependents where it found libtorch. The path as given comes first, so that built binaries
    // follow the project's link to another libtorch; the resolved one still holds after the project folder moved.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let Ok(resolved) = std::fs::canonicalize(&lib) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", resolved.display());
    // Documentation tests get no link arguments, but cargo puts search paths inside the target folder on the library
    // path of whatever it runs.
    if let Ok(out) = std::env::var("OUT_DIR") {
        let link = PathBuf::from(out).join("libtorch");
        if relink(&resolved, &link).is_ok() {
            println!("cargo:rustc-link-search=native={}", link.display());
        }
    }
}

#[cfg(unix)]
fn relink(target: &Path, link: &Path) -> std::io::Result<()> {
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(link)?;
    }
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn relink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
