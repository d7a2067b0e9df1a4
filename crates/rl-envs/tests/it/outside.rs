//! A project outside the workspace that takes this crate alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::slow;

const README: &str = include_str!("../../README.md");

/// The programs of the README: its Rust blocks.
fn programs() -> Vec<String> {
    let blocks = README.split("```rust\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or(block).to_string()).collect()
}

#[test]
fn every_environment_is_stepped_in_under_twenty_lines() {
    let programs = programs();
    for name in ["GeneralPoints::new", "MatrixTasks::new", "Instructions::new", "Virl::new", "Igsm::new"] {
        let uses = programs.iter().filter(|program| program.contains(name) && program.contains(".step("));
        let shortest = uses.map(|program| program.lines().count()).min();
        assert!(shortest.is_some_and(|lines| lines < 20), "{name} is stepped in {shortest:?} lines");
    }
}

/// Removes its folder when it goes.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed from the temporary folder is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Builds and runs the programs of the README in a new project, offline and without libtorch. Waits for `REINS_SLOW=1`.
#[test]
fn a_project_outside_depends_on_this_crate_alone() {
    if !slow() {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder(std::env::temp_dir().join(format!("rl-envs-outside-{}", std::process::id())));
    let project = &folder.0;
    std::fs::create_dir_all(project.join("src/bin")).unwrap();
    let manifest = format!(
        "[package]\nname = \"outside\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\nrl-envs = {{ path = {here:?} }}\n"
    );
    std::fs::write(project.join("Cargo.toml"), manifest).unwrap();
    // The versions that are on this machine.
    std::fs::copy(here.join("../../Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let programs = programs();
    assert!(5 <= programs.len());
    for (number, program) in programs.iter().enumerate() {
        std::fs::write(project.join(format!("src/bin/program_{number}.rs")), program).unwrap();
    }
    let cargo = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(words).arg("--offline").current_dir(project).env("CARGO_TARGET_DIR", project.join("target"));
        for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "cargo {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    cargo(&["build"]);
    for number in 0..programs.len() {
        assert!(!cargo(&["run", "--quiet", "--bin", &format!("program_{number}")]).is_empty());
    }
    let tree = cargo(&["tree", "--edges", "normal", "--prefix", "none"]);
    assert!(
        tree.contains("rl-core") && !["torch", "polars", "tokenizers"].iter().any(|name| tree.contains(name)),
        "{tree}"
    );
}
