//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;
use clap::Args;

use crate::model::{Model, Name};
use crate::workspace::Workspace;
use crate::{process, setup};

/// Runs every test: `cargo test --workspace`, after making sure of libtorch.
#[derive(Args)]
pub struct Test {
    /// Tests in full: every trainer is killed 20 times, for example. Takes many minutes.
    #[arg(long)]
    pub slow: bool,
    /// Handed to `cargo test`, after `--`: a test's name, `-p CRATE`, or `--release`.
    #[arg(last = true)]
    pub args: Vec<String>,
}

impl Test {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        setup::ensure(workspace)?;
        let scope = if self.args.iter().any(|arg| arg == "-p") { &["test"][..] } else { &["test", "--workspace"] };
        let mut command = workspace.cargo(scope.iter().copied());
        if self.slow {
            Model { name: Name::Smollm2, force: false }.run(workspace)?; // some of them measure real weights
            command.env("REINS_SLOW", "1");
        }
        process::run(command.args(&self.args))
    }
}
