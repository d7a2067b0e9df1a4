//! Gives the binaries and tests of this crate run paths to the libtorch they were linked against.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys tells its direct dependents where it found libtorch. The path as given comes first, so that built binaries
    // follow the project's link to another libtorch; the resolved one still holds after the project folder moved.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        if let Ok(resolved) = std::fs::canonicalize(&lib) {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", resolved.display());
        }
    }
}
