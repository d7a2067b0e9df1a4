//! `cargo xtask demo`: the main experiment, from nothing to a report.

use anyhow::Result;
use clap::Args;

use crate::pipeline::Pipeline;
use crate::workspace::Workspace;

/// Runs the main experiment at its smallest scale and says where the report is; interrupted or not, run it again freely.
#[derive(Args)]
pub struct Demo {
    /// List the stages and whether each would run, and stop.
    #[arg(long)]
    pub dry_run: bool,
}

impl Demo {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let pipeline = Pipeline {
            name: "rl-heals".to_string(),
            scale: Some("tiny".to_string()),
            dry_run: self.dry_run,
            ..Pipeline::default()
        };
        let folder = workspace.root.join(pipeline.run_folder(workspace)?);
        pipeline.run(workspace)?;
        if !self.dry_run {
            for (name, what) in [("report.html", "the report, for a browser"), ("summary.json", "the same numbers")] {
                if folder.join(name).is_file() {
                    println!("{}  {what}", folder.join(name).display());
                }
            }
        }
        Ok(())
    }
}
