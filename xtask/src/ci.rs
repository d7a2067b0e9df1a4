//! `cargo xtask ci`: what a change must pass.

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;
use crate::{process, setup, test};

/// Format, lints, documentation, tests; stops at the first that fails.
#[derive(Args)]
pub struct Ci {}

impl Ci {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        process::run(&mut workspace.cargo(["fmt", "--all", "--check"]))?;
        setup::ensure(workspace)?;
        process::run(&mut workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
        let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps"]);
        process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        test::Test { slow: false, args: Vec::new() }.run(workspace)
    }
}
