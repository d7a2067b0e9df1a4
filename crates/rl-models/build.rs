//! Gives the binaries and tests of this crate a run path to the libtorch they were linked against.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys tells its direct dependents where it found libtorch; the link is resolved so that a moved
    // project folder does not invalidate binaries that are already built.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let lib = std::fs::canonicalize(&lib).unwrap_or_else(|_| lib.into());
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
