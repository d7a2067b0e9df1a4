//! Compiles the C++ shim against the libtorch that tch links, and gives tests run paths to it.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys tells its direct dependents where it found libtorch. The path as given comes first, so that built binaries
    // follow the project's link to another libtorch; the resolved one still holds after the project folder moved.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    compile_shim(Path::new(&lib));
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

/// `csrc/*.cpp` into one static library, at full optimisation in every profile: its kernels are what is fast.
/// `REINS_SANITIZE=address` (or `undefined`) compiles it under that sanitizer; the crate's README says how to run it.
fn compile_shim(lib: &Path) {
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let include = lib.with_file_name("include");
    let mut sources: Vec<PathBuf> = std::fs::read_dir("csrc")
        .expect("csrc/ stands beside this build script")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
    println!("cargo:rerun-if-env-changed=REINS_SANITIZE");
    let sanitizer = std::env::var("REINS_SANITIZE").ok();
    let mut build = cc::Build::new();
    if let Some(name) = &sanitizer {
        build.flag(format!("-fsanitize={name}")).flag("-fno-omit-frame-pointer").flag("-g");
    }
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .opt_level(3)
        .debug(false)
        .warnings(false) // libtorch's headers are not ours to mend
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .flag_if_supported("-fopenmp")
        .flag_if_supported("-ffp-contract=fast") // the kernels count on fused multiply-adds
        .flag_if_supported("-Wno-psabi")
        .files(sources)
        .compile("reins_shim");
    // The sanitizer's library comes after the shim that calls it.
    match sanitizer.as_deref() {
        Some("address") => println!("cargo:rustc-link-lib=asan"),
        Some("undefined") => println!("cargo:rustc-link-lib=ubsan"),
        _ => {}
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
